/*
 * join.h - who is a server that starts without data? Decided before any file
 * is made.
 *
 *     --initial-cluster-state
 *     new        a founder, with the id that the flags give it; unless a member
 *                that runs already knows that this one has had data before: it
 *                was wiped, and joins again under a new id, as a learner (F6)
 *     existing   the member that was added under our peer URLs
 */
#ifndef PAWL_JOIN_H
#define PAWL_JOIN_H

#include "proto/rpc.h"
#include "server/members.h"
#include "server/options.h"

enum join_outcome {
    JOIN_FOUND,   /* the flags are right: found the cluster */
    JOIN_JOINED,  /* by a running cluster */
    JOIN_REMOVED, /* it says that this founder was removed */
    JOIN_FAILED,  /* error says why */
};

struct join_result {
    uint64_t cluster_id, member_id;
    struct members members; /* JOINED: as they were told; release */
    char error[512];
};

/* Runs the loop; may take as long as nobody of the cluster answers. */
enum join_outcome join_find_out(struct rpc_loop *loop, const struct options *o,
                                struct join_result *out);

#endif
