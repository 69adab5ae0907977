/*
 * logthread.h - the log thread: owns raft.db once the server runs.
 *
 * All batches that queued up while the last sync ran are written in one
 * transaction (group commit). A failed write or sync ends the process: what
 * is on disk is unknown then, and a retry could turn a lost write into an
 * acknowledged one.
 */
#ifndef PAWL_LOGTHREAD_H
#define PAWL_LOGTHREAD_H

#include <event2/event.h>

#include "raft/raft.h"
#include "raft/store.h"
#include "server/ballot.h"

struct logthread;

/* on_stable: main thread, with the number of the newest synced batch. */
struct logthread *
logthread_new(struct event_base *base, struct store *store,
              void (*on_stable)(void *context, uint64_t batch), void *context);
/* From now on term and vote go into that file too; borrowed. Before the first
 * append. */
void logthread_set_ballot(struct logthread *t, struct ballot *b);
/* rd.batch != 0. What rd.entries points to stays good until on_stable. */
void logthread_append(struct logthread *t, const struct raft_ready *rd);
/* Delete entries up to index; configuration, as of index, is copied. */
void logthread_compact(struct logthread *t, raft_index index,
                       const struct raft_configuration *configuration);
/* Check a few entries on disk again, when idle; damage ends the process. */
void logthread_scrub(struct logthread *t);
/* Finishes what is queued. The store stays open and is the caller's again. */
void logthread_free(struct logthread *t);

#endif
