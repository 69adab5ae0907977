/*
 * oracle.h - what must hold in every run, whatever happens: it is told what
 * the members do and says when that breaks a promise.
 *
 *     O1 one leader a term            O2 one vote a term and member
 *     O3 equal (index, term): equal logs up to there
 *     O4 what is committed is in the log of every later leader
 *     O5 equal applied index: equal state
 *     O6 nothing is said or counted that a power cut could take back
 *     O7 commit and applied index never go down
 *     O8 clients see one order that agrees with real time
 *     O11 a write takes effect at most once
 *     O12 once faults stop, a write commits (world.c)
 *
 * The first failure stays; the run ends at it.
 */
#ifndef TESTS_SIM_ORACLE_H
#define TESTS_SIM_ORACLE_H

#include "raft/raft.h"
#include "tests/sim/history.h"
#include "tests/sim/net.h"

/* The state machine's whole state: how many commands, and which. */
struct state {
    raft_index applied;
    uint64_t revision;
    uint64_t digest;
};

enum operation_end { OPERATION_OPEN, OPERATION_DONE, OPERATION_NOT_APPLIED };

/* One of a client's operations; its number is its place. */
struct operation {
    bool is_write;
    enum operation_end end;
    uint64_t floor;       /* revision that it must not stay behind */
    raft_index committed; /* where the write stands in the log; 0: not (yet) */
};

struct oracle {
    bool failed;
    char failure[300];
    unsigned n_nodes;

    raft_id *leaders; /* by term */
    size_t n_leaders;
    raft_id *votes[NODES_MAX]; /* by term */
    size_t n_votes[NODES_MAX];

    struct known *known; /* (index, term) -> log up to there; a hash table */
    size_t n_known, room_known;

    struct history committed; /* what a quorum once held synced */
    raft_term *commit_terms;  /* by index: the term in which that was seen */
    size_t n_commit_terms;
    struct state *states; /* by applied index */
    size_t n_states;

    struct operation *operations;
    size_t n_operations, room_operations;
    uint64_t revision_seen; /* highest one that a client got an answer with */
};

void oracle_init(struct oracle *o, unsigned n_nodes);
void oracle_release(struct oracle *o);

__attribute__((format(printf, 2, 3))) void oracle_fail(struct oracle *o,
                                                       const char *format, ...);

/* The entry that all logs begin with is committed by agreement. */
void oracle_founds(struct oracle *o, const struct raft_entry *e);
/* O1. */
void oracle_leads(struct oracle *o, raft_id id, raft_term term);
/* O2: that member's vote in that term, on disk or on the wire. */
void oracle_votes(struct oracle *o, raft_id id, raft_term term,
                  raft_id voted_for);
/* O3. */
void oracle_holds(struct oracle *o, raft_index index, const struct place *p);
/* O4: a new leader's log. */
void oracle_leader_log(struct oracle *o, raft_id id, raft_term term,
                       const struct history *log);
/*
 * A member's commit index rose, in that term: log is what it believes in,
 * durable what each member has synced. O6: a quorum has it.
 */
void oracle_commits(struct oracle *o, raft_id id, raft_term term,
                    raft_index commit, const struct history *log,
                    const struct history *const *durable);
/* O6: id sends m while its disk holds durable. */
void oracle_sends(struct oracle *o, const struct raft_message *m,
                  const struct history *durable);
/* O5, O11: state is what applying e gave. operation 0: none. */
void oracle_applies(struct oracle *o, raft_id id, const struct state *state,
                    uint64_t operation);

/* O8. A client begins; returns the operation's number, from 1. */
uint64_t oracle_begin(struct oracle *o, bool is_write);
/* It got an answer, with the revision that the answer stands for. */
void oracle_answer(struct oracle *o, uint64_t operation, uint64_t revision);
/* It was told that the write did not and will not take effect. */
void oracle_refuse(struct oracle *o, uint64_t operation);

#endif
