/*
 * process.h - one member as it ships: node, applier, raft.db and state.db on
 * the simulated disk; a log thread and a state thread that take simulated
 * time; a clock of its own. It can die and start again on its disk.
 */
#ifndef TESTS_SIM_PROCESS_H
#define TESTS_SIM_PROCESS_H

#include "raft/store.h"
#include "server/node.h"
#include "server/statedb.h"
#include "tests/sim/disk.h"
#include "tests/sim/history.h"

struct cluster;
struct request;

/* Work for the log thread. */
struct log_work {
    struct store_batch write;
    struct raft_hard_state hard_state;
    uint64_t batch;
};

struct process {
    struct cluster *cluster;
    raft_id id;
    struct disk *disk;
    struct store *store;
    struct statedb *statedb;
    struct applier *applier;
    struct node *node; /* NULL: the process is down */
    uint64_t life;     /* which process it is, from 1: 0 in an event is any */
    uint64_t incarnation;
    bool dying; /* nobody hears what it says now */
    bool round_due;

    uint64_t paused_until_us;
    uint64_t bad_disk_until_us;
    /* Its clock shows clock_us at since_us, and stands still until then. */
    uint64_t clock_us, since_us;
    uint64_t rate_ppm;

    struct log_work *work; /* the first n_writing are with the disk */
    size_t n_work, room_work, n_writing;
    raft_index compact_to; /* 0: nothing to compact */
    struct raft_configuration compact_configuration;
    bool log_busy; /* writing or compacting */

    struct changeset **changes; /* the first n_saving are with the disk */
    size_t n_changes, room_changes, n_saving;
    raft_index saved;       /* what state.db surely holds */
    raft_index maybe_saved; /* what it may hold instead, after a crash; or 0 */

    struct history submitted; /* what the core handed out */
    struct history durable;   /* what is surely on the disk */
    struct history maybe;     /* what may be there instead, after a crash */
    bool has_maybe;

    struct request *requests; /* all that it works on */
    raft_term led_term;       /* the last one that it was seen to lead */
    raft_index commit_index;  /* as seen last, in this life; so are these */
    raft_index applied;
    int64_t revision;
};

void process_init(struct process *p, raft_id id, struct cluster *c);
void process_release(struct process *p);

bool process_is_up(const struct process *p);
/* If the disk refuses it tries again later. */
void process_start(struct process *p);
/* It dies, with its work half done; with power_cut so does its page cache. */
void process_kill(struct process *p, bool power_cut);
/* As after SIGTERM: all is written, those who wait are told. */
void process_stop(struct process *p);

/* It ends itself, as its disk refused something; before that the disk had
 * refused n_errors times. */
void process_die(struct process *p, const char *error, uint64_t n_errors);

uint64_t process_clock_us(const struct process *p);
void process_set_clock(struct process *p, uint64_t rate_ppm);
/* Nothing runs until then; with its clock standing still, or not. */
void process_pause(struct process *p, uint64_t until_us, bool clock_stops);

void process_tick(struct process *p);
void process_receive(struct process *p, const struct raft_message *m);
void process_log_done(struct process *p);
void process_state_done(struct process *p);
void process_round(struct process *p);
/* Something came in: its loop will turn. */
void process_wake(struct process *p);
/* Compare with what all others did: oracles. */
void process_look(struct process *p);
/* All keys and leases, as model.h hashes them. */
uint64_t process_content(const struct process *p);

#endif
