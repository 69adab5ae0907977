/*
 * single.h - one server, and the test plays all the others: messages are made
 * by hand, what it sends is looked at. Its disk, and the checks of what it
 * sends, are cluster.h's.
 */
#ifndef TESTS_RAFT_SINGLE_H
#define TESTS_RAFT_SINGLE_H

#include "tests/raft/cluster.h"

struct single {
    struct cluster *cluster;
    struct server *server; /* id 1 */
    struct raft *raft;
};

/* Server 1 of n voters, and more as options say. Its disk is synced by
 * single_sync() only. */
void single_begin(struct single *s, const struct cluster_options *o);
void single_end(struct single *s);

/* Let it work; what it sent before is forgotten. */
void single_work(struct single *s);
/* All it wrote is synced; then as above. */
void single_sync(struct single *s);
void single_tick(struct single *s, unsigned n);
/* Power off and on; unsynced writes are lost. */
void single_restart(struct single *s);

/* A message arrives, from `from`, in that term, and is worked on. */
enum raft_status single_step(struct single *s, struct raft_message m);

/* The first message of that type that it sent to `to` (0: any), or NULL. */
const struct raft_message *single_sent(const struct single *s,
                                       enum raft_message_type type, raft_id to);
size_t single_count(const struct single *s, enum raft_message_type type);

/*
 * An APPEND_ENTRIES from `from` with entries of the terms that the digits
 * say: single_append(s, 2, 3, 4, 1, "33", 4) brings entries 5 and 6.
 */
enum raft_status single_append(struct single *s, raft_id from, raft_term term,
                               raft_index prev_index, raft_term prev_term,
                               const char *terms, raft_index commit);

/* Through timer and votes of all others to a synced, settled leader. */
void single_lead(struct single *s);
/* `from` holds all of our log up to match, and says so. */
void single_acknowledge(struct single *s, raft_id from, raft_index match);
/* The terms of its log, as digits from index 1 on. */
const char *single_terms(const struct single *s);

#endif
