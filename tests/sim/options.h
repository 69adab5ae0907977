/*
 * options.h - what a run is like. All of it is drawn from the seed: each run
 * leaves out most kinds of trouble and has plenty of the others, which finds
 * more than a little of everything ("swarm testing").
 */
#ifndef TESTS_SIM_OPTIONS_H
#define TESTS_SIM_OPTIONS_H

#include "raft/raft.h"
#include "tests/sim/disk.h"
#include "tests/sim/net.h"

struct options {
    uint64_t seed;
    unsigned n_nodes, n_clients;
    uint64_t length_us; /* with faults; then they stop and it must recover */
    uint64_t tick_us;
    unsigned drift_percent; /* how far members' clocks are apart */
    struct raft_config raft;
    struct net_quality net;
    struct disk_faults disk; /* while a disk is bad */
    size_t sector_size;
    unsigned wal_pages;
    uint64_t disk_min_us, disk_max_us, disk_stall_max_us;
    uint32_t disk_stall; /* chance in a million writes */
    uint64_t think_us;   /* of a client between operations, at most */
    uint64_t patience_us;
    unsigned write_percent;
    size_t data_size_max;
    raft_index compact_every; /* entries; 0: never */
    uint64_t fault_every_us;  /* 0: none */
    /* weights; 0: this kind does not happen in this run */
    unsigned kills, power_cuts, pauses, partitions, one_way, bad_disks,
        transfers;
    unsigned hunt_percent; /* of new leaders: struck soon after they won, which
                              is when logs differ most */
    /* Of whole nodes only: */
    unsigned stops, suspends, clocks, breaks;
    uint32_t start_crash;  /* chance in a million starts that it dies in them */
    uint32_t hunt_answers; /* chance in a million answers that the member that
                              gave it is struck soon after */
    uint32_t stream_break; /* chance in a million forwarded items */
    unsigned request_timeout_ms;
    size_t log_keep_entries;
    int64_t ttl_max_s;
    unsigned n_keys, n_locks; /* few collide often */
};

void options_draw(struct options *o, uint64_t seed);
/* Of a run of whole nodes. */
void options_draw_cluster(struct options *o, uint64_t seed);
/* One line for a person. */
void options_show(const struct options *o, char *text, size_t size);

#endif
