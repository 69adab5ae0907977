/*
 * snapshot.h - snapshots between members: a copy of state.db is taken, streamed
 * over a connection of its own, verified and put in place of the receiver's.
 *
 * Main thread. What blocks is done by the state thread (a copy's steps, the
 * rename) and by a thread of its own (reading, writing, verifying, loading), so
 * ticks, heartbeats and other followers go on. See README.md for the way of one
 * snapshot and what a crash leaves.
 */
#ifndef PAWL_SNAPSHOT_H
#define PAWL_SNAPSHOT_H

#include "server/node.h"
#include "server/peers.h"
#include "server/statethread.h"

struct snapshots;

struct snapshots_config {
    const char *data_dir; /* snapshot/ is made in it */
    uint64_t cluster_id;
    raft_id self;
    uint64_t bytes_per_second; /* that we send, to all together */
    size_t log_keep_entries;   /* as the node's */
};

/* All else is borrowed. */
struct snapshots_parts {
    struct rpc_loop *loop;
    struct peers *peers;
    struct node *node;
    struct statedb *statedb;
    struct statethread *statethread;
};

struct snapshots *snapshots_new(const struct snapshots_config *config,
                                const struct snapshots_parts *parts);
/* Adds the Snapshot method to the server of the peer port. */
void snapshots_serve(struct snapshots *s, struct rpc_server *server);
/* For struct node_env: these members need one. context: struct snapshots. */
void snapshots_send(void *context, const raft_id *members, size_t n);

/*
 * The end in two steps, as the state thread may be at work for us: nothing new
 * is begun after stop; free comes when the state thread is gone, and before the
 * node and the loop are.
 */
void snapshots_stop(struct snapshots *s);
void snapshots_free(struct snapshots *s); /* NULL is fine */

/* Figures for status and tests. */
struct snapshots_figures {
    uint64_t copies, sent, installed, refused;
    uint64_t bytes_sent, bytes_received;
    uint64_t install_us_max; /* that the main thread was held by one */
};
void snapshots_get_figures(const struct snapshots *s,
                           struct snapshots_figures *f);

#endif
