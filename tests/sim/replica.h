/*
 * replica.h - one member as the simulator runs it: the shipping core and log
 * store, a log thread that takes simulated time, a state machine of one
 * number. A node is a process that can die and start again on its disk.
 */
#ifndef TESTS_SIM_REPLICA_H
#define TESTS_SIM_REPLICA_H

#include "raft/raft.h"
#include "raft/store.h"
#include "tests/sim/disk.h"
#include "tests/sim/history.h"
#include "tests/sim/oracle.h"

struct world;

/* Work for the log thread: a batch of the core, or a compaction. */
struct job {
    struct store_batch write;
    struct raft_hard_state hard_state;
    uint64_t batch;        /* 0: a compaction */
    raft_index compact_to; /* of a compaction */
};

/* A client waits for this. */
struct proposal {
    raft_index index;
    raft_term term;
    uint64_t operation;
};

struct read {
    uint64_t context;
    uint64_t operation;
    raft_index index; /* once confirmed; 0: not yet */
};

struct replica {
    raft_id id;
    struct disk *disk;
    struct store *store; /* NULL: the process is down */
    struct raft *raft;
    uint64_t life; /* which process it is, from 1: 0 in an event is any */
    uint64_t paused_until_us;
    uint64_t bad_disk_until_us;

    struct job *jobs; /* the first n_running are with the disk */
    size_t n_jobs, room_jobs, n_running;

    struct history submitted; /* what the core handed out */
    struct history durable;   /* what is surely on the disk */
    struct history maybe;     /* what may be there instead, after a crash */
    bool has_maybe;

    struct state state; /* in memory */
    struct state saved; /* what the state machine would find at a start */
    raft_index cut;     /* the log begins behind */

    struct proposal *proposals;
    size_t n_proposals, room_proposals;
    struct read *reads;
    size_t n_reads, room_reads;

    raft_term led_term;      /* the last one that it was seen to lead */
    raft_index commit_index; /* as seen last, in this life */
};

void replica_init(struct replica *n, raft_id id, struct world *w);
void replica_release(struct replica *n);

bool replica_is_up(const struct replica *n);
/* The process starts. If the disk refuses it tries again later. */
void replica_start(struct world *w, struct replica *n);
/* It dies, with its work half done; with power_cut so does its page cache. */
void replica_stop(struct world *w, struct replica *n, bool power_cut);

void replica_tick(struct world *w, struct replica *n);
void replica_receive(struct world *w, struct replica *n,
                     const struct raft_message *m);
/* The disk is through with what it was given. */
void replica_disk_done(struct world *w, struct replica *n);
void replica_transfer(struct world *w, struct replica *n, raft_id to);
/* A client's operation; the answer goes to world_answer(). */
void replica_request(struct world *w, struct replica *n, uint64_t operation);

#endif
