/*
 * cluster.h - servers in memory on one thread, for tests: a network that does
 * what the test says, disks that lose what is not synced.
 *
 * Whatever a test does, these are checked all along (a breach aborts with one
 * line that names it):
 *   O1  one leader per term
 *   O2  one vote per server and term, restarts included
 *   O3  equal (index, term): equal entry and equal entry before it
 *   O4  a new leader holds all that was ever committed
 *   O5  the same index is applied with the same entry everywhere
 *   O6  a message depends on synced bytes only; what is applied is synced by
 *       a quorum, the applying server included
 *   O7  commit and applied indexes never fall
 *   reads: a confirmed index covers all that was applied when it was asked
 */
#ifndef TESTS_RAFT_CLUSTER_H
#define TESTS_RAFT_CLUSTER_H

#include "raft/base.h"
#include "raft/raft.h"

enum { SERVERS_MAX = 9, TYPES_MAX = RAFT_READ_INDEX_RESPONSE + 1 };

struct cluster_options {
    size_t n_voters;
    size_t n_learners; /* get the next ids */
    size_t n_spares;   /* run, but are no members yet; get the highest */
    bool no_pre_vote;
    bool no_check_quorum;
    uint64_t seed;
    const struct raft_config *config; /* NULL: defaults; id, seed are set */
};

/* One batch of disk work that is under way. */
struct disk_write {
    uint64_t batch;
    const struct raft_snapshot *restore;
    raft_index truncate_from;
    struct raft_entry
        *entries; /* borrowed from the core, as a real disk does */
    size_t n_entries;
    bool has_hard_state;
    struct raft_hard_state hard_state;
};

struct disk {
    struct raft_hard_state hard_state; /* synced */
    raft_index prev_index;
    raft_term prev_term;
    struct raft_configuration configuration; /* as of prev_index */
    struct raft_entry *entries; /* synced, from prev_index + 1 on */
    size_t n_entries, capacity;
    struct disk_write *writes; /* not synced */
    size_t n_writes, writes_capacity;
    bool held; /* cluster_settle() leaves its writes alone */
};

struct asked_read {
    uint64_t context;
    raft_index floor; /* applied somewhere when it was asked */
};

struct server {
    raft_id id;
    struct raft *raft; /* NULL: down */
    struct raft_config config;
    struct disk disk;
    raft_index applied; /* by the state machine */
    /* Of its storage: durable, so that applied never falls below it again. */
    struct raft_snapshot installed; /* index 0: none */
    bool is_installing;             /* between begin and end of a restore */
    struct raft_snapshot incoming;  /* that one */
    raft_id incoming_from;
    raft_index commit_seen; /* highest commit_index ever */
    enum raft_role role_seen;
    raft_term term_seen;
    struct asked_read *asked;
    size_t n_asked, asked_capacity;
    struct raft_read_result last_read;
    size_t reads_ok, reads_failed;
    size_t starts;
};

struct packet {
    struct raft_message message; /* its own copy */
};

/* A snapshot under way: a copy of the state that the sender had. */
struct transfer {
    raft_id from, to;
    struct raft_snapshot snapshot;
};

/* A configuration that was in somebody's log. */
struct known_configuration {
    raft_index index;
    raft_term term;
    struct raft_configuration configuration;
};

/* What is known of an index. */
struct known_entry {
    raft_term term, prev_term;
    uint64_t digest;
};
struct known_index {
    struct known_entry *entries;
    size_t n;
    bool is_committed;
    struct known_entry committed;
};

struct cluster {
    struct cluster_options options;
    struct raft_configuration configuration;
    struct server *servers; /* ids are 1 .. n */
    size_t n;
    struct packet *packets;
    size_t n_packets, packets_capacity;
    struct transfer *transfers;
    size_t n_transfers, transfers_capacity;
    bool transfers_held; /* cluster_settle() leaves them alone */
    size_t n_told;       /* how often a leader asked for a snapshot */
    size_t n_restores;   /* how many were installed */
    bool cut[SERVERS_MAX + 1][SERVERS_MAX + 1]; /* [from][to] */
    bool dropped[TYPES_MAX];      /* types that the network loses */
    bool held[TYPES_MAX];         /* types that cluster_settle() leaves alone */
    raft_id held_from[TYPES_MAX]; /* 0: from anybody */
    size_t sent[TYPES_MAX];       /* how many ever */
    uint64_t next_context;
    raft_id only;    /* the others are played by the test: single.h */
    raft_id elected; /* cluster_elect() is at work: rivals are not heard */

    struct known_index *known;
    size_t n_known;
    struct known_configuration *configurations;
    size_t n_configurations, configurations_capacity;
    raft_index applied_max; /* by anybody */
    raft_id *leaders;       /* by term */
    size_t n_leaders;
    raft_id *votes[SERVERS_MAX + 1]; /* by server and term */
    size_t n_votes[SERVERS_MAX + 1];
};

struct cluster *cluster_new(const struct cluster_options *o);
void cluster_free(struct cluster *c);
struct server *cluster_at(struct cluster *c, raft_id id);

/* One server: hand its ready work to disk, network and state machine. */
void cluster_work(struct cluster *c, struct server *s);
/* Complete its n oldest writes. */
void cluster_sync(struct cluster *c, struct server *s, size_t n);
/* Packet i arrives (or is lost, if its link is cut) and is gone. */
enum raft_status cluster_deliver(struct cluster *c, size_t i);
/* The same packet arrives and stays, to arrive again. */
enum raft_status cluster_deliver_copy(struct cluster *c, size_t i);
void cluster_lose(struct cluster *c, size_t i);
/* Until nothing moves any more. */
void cluster_settle(struct cluster *c);
/* Tick all that are up, settling in between. */
void cluster_tick(struct cluster *c, unsigned n);
void cluster_tick_one(struct cluster *c, raft_id id, unsigned n);

/* Power off: what is not synced is lost, but for the n oldest writes. */
void cluster_crash(struct cluster *c, raft_id id, size_t n_survive);
/* The state machine starts from applied (<= what it had). */
void cluster_restart(struct cluster *c, raft_id id, raft_index applied);
void cluster_compact(struct cluster *c, raft_id id, raft_index index);

/* Transfer i arrives whole, or is lost; its sender is told. Arrived, it is
 * installed at once, or left to be finished (or not) by the other call. */
void cluster_transfer_arrives(struct cluster *c, size_t i, bool at_once);
void cluster_transfer_fails(struct cluster *c, size_t i);
void cluster_install(struct cluster *c, struct server *s, bool ok);
/* A snapshot of the state that `from` has now. Release its configuration. */
struct raft_snapshot cluster_snapshot(struct cluster *c, raft_id from);

/* Propose members like "1 2 3l": a learner has an l. */
enum raft_status cluster_members(struct cluster *c, raft_id id,
                                 const char *members, raft_index *index);
/* As text, into a static buffer: v voter, l learner, and in joint ones + (will
 * vote), - (leaves), d (is demoted): "1 2 3-". */
const char *cluster_members_text(const struct raft_configuration *k);
void cluster_parse_members(struct raft_configuration *k, const char *members);

void cluster_cut(struct cluster *c, raft_id from, raft_id to, bool cut);
void cluster_isolate(struct cluster *c, raft_id id, bool cut);
void cluster_heal(struct cluster *c);
void cluster_hold_disk(struct cluster *c, raft_id id, bool held);

/* Tick id until it leads; others' timers stand still. */
void cluster_elect(struct cluster *c, raft_id id);
/* 0 if nobody leads in the newest term. */
raft_id cluster_leader(struct cluster *c);
enum raft_status cluster_propose(struct cluster *c, raft_id id,
                                 const char *text, raft_index *index);
enum raft_status cluster_read(struct cluster *c, raft_id id);
/* Place of the first packet like that, or SIZE_MAX; 0 is any. */
size_t cluster_find(const struct cluster *c, enum raft_message_type type,
                    raft_id from, raft_id to);

const char *message_type_name(enum raft_message_type type);
const char *role_name(enum raft_role role);

#endif
