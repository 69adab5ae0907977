/*
 * net.h - the simulated network: messages get lost, doubled, delayed and so
 * overtake each other; links are cut in one direction or both.
 */
#ifndef TESTS_SIM_NET_H
#define TESTS_SIM_NET_H

#include "raft/base.h"
#include "raft/raft.h"
#include "tests/sim/events.h"

#define NODES_MAX 7

/* Chances in a million messages; times in microseconds. */
struct net_quality {
    uint32_t loss, duplication, detour; /* a detour: delayed much longer */
    uint64_t delay_min_us, delay_max_us, detour_max_us;
};

struct net {
    struct rng rng;
    unsigned n_nodes;
    struct net_quality quality;
    bool cut[NODES_MAX][NODES_MAX]; /* [from][to], places */
    uint64_t n_sent, n_lost, n_doubled;
};

/* A copy in one piece of memory, entries and data as well. */
struct raft_message *message_copy(const struct raft_message *m);
void message_free(struct raft_message *m); /* NULL is fine */
const char *message_name(enum raft_message_type type);

void net_init(struct net *net, uint64_t seed, unsigned n_nodes,
              const struct net_quality *quality);
/* Member ids are places + 1. */
void net_send(struct net *net, struct events *events,
              const struct raft_message *m);
/* Would a message arriving now get through? */
bool net_delivers(const struct net *net, const struct raft_message *m);
void net_heal(struct net *net);
/* That member alone, in both directions, by its place. */
void net_isolate(struct net *net, unsigned who);
/* Cut some links, in a way drawn by chance; says which in text. */
void net_break(struct net *net, bool one_way, char *text, size_t size);

#endif
