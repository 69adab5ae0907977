/*
 * repair.h - what a member does about a damaged raft.db before it takes part.
 *
 * It starts no Raft: so it neither votes nor acknowledges nor serves. It asks
 * the other members for what it lacks, answers what they ask (fetch.h), and
 * writes a new raft.db beside the old one, in one of two ways:
 *
 * exactly   the chain of checksums shows that the log is what it was; then
 *           nothing was lost, and this member goes on as if nothing had been
 * by a vow  the lost entries are nowhere to be had, or it is not known where
 *           the log ended, or what was voted: the log keeps what is sound, the
 *           term is raised above any in which a vote can have been given, and
 *           a vow (vow.h) stands for the rest. This takes an answer from every
 *           other voter.
 *
 * The damaged file is kept, as raft.db.damaged-N. See README.md.
 */
#ifndef PAWL_REPAIR_H
#define PAWL_REPAIR_H

#include "proto/rpc.h"
#include "raft/raft.h"
#include "server/applier.h"
#include "server/fetch.h"
#include "server/vow.h"

struct repair_config {
    struct event_base *base;
    struct rpc_loop *loop;
    struct fetch *fetch; /* of the peer port, which listens */
    const char *path;    /* of raft.db, which is closed */
    const char *why;     /* what is wrong, for the log */
    uint64_t cluster_id;
    raft_id self;
    /* Nothing but entries is damaged: store_open() was content. */
    bool is_settled;
    /* Members as far as known without the log; more are found in it. */
    const struct member *members;
    size_t n_members;
    /* What state.db stands at; 0: at nothing. */
    raft_index applied;
    raft_term applied_term;
    struct slice configuration; /* as of applied, encoded */
    /* What the others know this member's raft.db by; 0: not known. */
    uint64_t store_id;
    raft_term term; /* the highest known from elsewhere than raft.db */
    struct vow *vow;
    const bool *stop; /* a signal came: give up */
};

enum repair_result {
    REPAIR_DONE,       /* raft.db is whole, and holds what was applied */
    REPAIR_STATE_GONE, /* raft.db is empty: state.db is of no use any more */
    REPAIR_STOPPED,
};

/* Ends the process if it cannot be: no other member, no disk. */
enum repair_result repair_log(const struct repair_config *config);

/* Rename an SQLite file and its WAL to PATH.damaged-N, durably. */
void repair_set_aside(const char *path);

/*
 * Before raft.db is opened: if the last repair was cut off while the new file
 * took the place of the old one, see to the end of it.
 */
void repair_finish(const char *path);

#endif
