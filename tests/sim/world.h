/*
 * world.h - a whole cluster with its clients, network, disks and troubles, in
 * one thread and in simulated time. The same options give the same run.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include "tests/sim/events.h"
#include "tests/sim/net.h"
#include "tests/sim/options.h"
#include "tests/sim/oracle.h"
#include "tests/sim/replica.h"
#include "tests/sim/trace.h"

#define CLIENTS_MAX 16

struct client {
    uint64_t operation; /* open; 0: none */
    unsigned hint;      /* place of the node that led when last heard of */
};

struct world_figures {
    uint64_t kills, power_cuts, pauses, partitions, bad_disks, transfers;
    uint64_t elections, hunts;
    uint64_t failed_starts, disk_deaths;
    uint64_t writes, reads, refused, given_up, applied, compactions;
    uint64_t messages, disk_errors;
};

struct world {
    struct options options;
    struct rng rng;
    struct events events;
    struct net net;
    struct trace trace;
    struct oracle oracle;
    struct raft_configuration founders;
    struct raft_server servers[NODES_MAX];
    struct replica nodes[NODES_MAX];
    struct client clients[CLIENTS_MAX];
    uint64_t next_context; /* of reads */
    bool is_calm;          /* faults are over */
    bool is_quiet;         /* clients begin nothing new */
    uint64_t calm_write;   /* its commit proves that the cluster lives */
    struct world_figures figures;
};

struct world *world_new(const struct options *o);
void world_free(struct world *w);

/* Run to the end. False: an oracle failed, w->oracle.failure says how. */
bool world_run(struct world *w);

/* For nodes. */
uint64_t world_now(const struct world *w);
bool world_chance(struct world *w, uint32_t in_a_million);
uint64_t world_between(struct world *w, uint64_t low, uint64_t high);
/* That node leads a new term. */
void world_elected(struct world *w, const struct replica *n);
enum answer { ANSWER_OK, ANSWER_NOT_APPLIED, ANSWER_UNKNOWN };
/* What a node tells the client of that operation. */
void world_answer(struct world *w, uint64_t operation, enum answer answer,
                  uint64_t revision, raft_id leader);

#endif
