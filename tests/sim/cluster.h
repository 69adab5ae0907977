/*
 * cluster.h - a cluster of whole nodes with its clients, network, disks,
 * clocks and troubles, in one thread and in simulated time. The same options
 * give the same run.
 *
 * Beside the members runs a state machine of the shipping code that applies
 * every committed entry once (reference, digests), and a model of what it
 * should do (model.h). A client's answer is compared with the model, and at
 * the end the history of each key is put to the checker (checker.h).
 */
#ifndef TESTS_SIM_CLUSTER_H
#define TESTS_SIM_CLUSTER_H

#include "tests/sim/events.h"
#include "tests/sim/model.h"
#include "tests/sim/net.h"
#include "tests/sim/options.h"
#include "tests/sim/oracle.h"
#include "tests/sim/process.h"
#include "tests/sim/request.h"
#include "tests/sim/session.h"
#include "tests/sim/streams.h"
#include "tests/sim/trace.h"

#define SESSIONS_MAX 16

struct cluster_figures { /* uint64_t only: they are added up as an array */
    uint64_t kills, power_cuts, stops, pauses, suspends, clocks, partitions,
        breaks, bad_disks, transfers, hunts;
    uint64_t elections, failed_starts, disk_deaths, disk_errors;
    uint64_t writes, reads, lease_ops, lock_ops, fenced, refused, unknown,
        expiries, grants_of_locks;
    uint64_t applied, saves, compactions, messages, forwards;
    uint64_t checked_keys, checked_ops, undecided;
};

struct cluster {
    struct options options;
    struct rng rng;
    struct events events;
    struct net net;
    struct streams streams;
    struct trace trace;
    struct oracle oracle;
    struct raft_entry founding;
    struct process processes[NODES_MAX];

    struct model model;
    struct applier *reference;
    struct arena arena;
    uint64_t *digests; /* the reference's, by index */
    size_t room_digests;

    struct session sessions[SESSIONS_MAX];
    struct op *ops; /* number 0 is none */
    size_t n_ops, room_ops;
    struct attempt *attempts; /* number 0 is none */
    size_t n_attempts, room_attempts;
    struct request_key *request_keys; /* who waits -> attempt; a hash table */
    size_t n_request_keys, room_request_keys;
    struct lease_record *leases;
    size_t n_leases, room_leases;
    int64_t revision_seen; /* highest one that a client got an answer with */

    bool is_calm;  /* faults are over */
    bool is_quiet; /* clients begin nothing new */
    raft_index calm_index;
    struct cluster_figures figures;
};

struct request_key {
    uint64_t incarnation, request; /* request 0: free */
    uint64_t attempt;
};

struct cluster *cluster_new(const struct options *o);
void cluster_free(struct cluster *c);

/* Run to the end. False: an oracle failed, c->oracle.failure says how. */
bool cluster_run(struct cluster *c);

uint64_t cluster_now(const struct cluster *c);
bool cluster_chance(struct cluster *c, uint32_t in_a_million);
uint64_t cluster_between(struct cluster *c, uint64_t low, uint64_t high);
void cluster_put(struct cluster *c, enum event_kind kind, unsigned target,
                 uint64_t after_us, uint64_t value, uint64_t attempt);

/* A new try of an operation. */
uint64_t cluster_attempt(struct cluster *c, uint64_t op);

/* For members. */
void cluster_elected(struct cluster *c, const struct process *p);
/* A member's connection to another broke, and it may notice. Places. */
void cluster_link_lost(struct cluster *c, unsigned at, unsigned to);
/* The next entry is committed. */
void cluster_commit(struct cluster *c, const struct raft_entry *e);
void cluster_name_request(struct cluster *c, uint64_t incarnation,
                          uint64_t request, uint64_t attempt);
/* A member answers an attempt. */
void cluster_answer(struct cluster *c, struct process *p, uint64_t attempt,
                    const struct op_answer *answer);

#endif
