/*
 * statethread.h - the state thread: writes applied changes to state.db in
 * large batches, well behind the answers. It never holds up a reply.
 */
#ifndef PAWL_STATETHREAD_H
#define PAWL_STATETHREAD_H

#include <event2/event.h>

#include "server/statedb.h"

struct statethread;

/* on_persisted: main thread; state.db holds everything up to index, synced. */
struct statethread *statethread_new(struct event_base *base, struct statedb *db,
                                    void (*on_persisted)(void *context,
                                                         raft_index index),
                                    void *context);
/* c is given: freed after it is written. */
void statethread_write(struct statethread *t, struct changeset *c);
/*
 * Run call() on the state thread, behind what was given before it, then done()
 * on the main thread. What it does should be short: writes wait for it.
 */
void statethread_call(struct statethread *t,
                      void (*call)(void *context, struct statedb *db),
                      void (*done)(void *context), void *context);
/* Finishes what is queued. The database stays open. */
void statethread_free(struct statethread *t);

#endif
