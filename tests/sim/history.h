/*
 * history.h - what a log holds, as the oracles remember it: for each index the
 * term, and a hash of the whole log up to there. Two logs with the same hash
 * at an index are equal up to that index. Compaction does not shorten it.
 */
#ifndef TESTS_SIM_HISTORY_H
#define TESTS_SIM_HISTORY_H

#include "raft/store.h"

struct place {
    raft_term term;
    uint64_t prefix; /* hash of all entries up to this one */
};

struct history {
    struct place *places; /* [0, last]; [0] is before the log */
    size_t room;
    raft_index last;
    struct raft_hard_state hard_state;
};

void history_init(struct history *h);
void history_release(struct history *h);
void history_copy(struct history *to, const struct history *from);
bool history_equal(const struct history *a, const struct history *b);
struct place place_of(const struct place *before, const struct raft_entry *e);
void history_append(struct history *h, const struct raft_entry *e);
void history_write(struct history *h, const struct store_batch *b);
/* Does it hold that, at that index? */
bool history_holds(const struct history *h, raft_index index,
                   const struct place *p);

#endif
