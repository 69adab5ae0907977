/*
 * store.h - the Raft log, term and vote on disk: raft.db, an SQLite file.
 *
 * Beside the core and never included by it. One connection does everything
 * (SQLite before 3.51.3 can corrupt a WAL that two connections checkpoint):
 * WAL mode, synchronous=FULL and locking_mode=EXCLUSIVE, all read back after
 * open. Every entry carries a checksum chained to the entry before it, so a
 * flipped bit, a swapped or a missing row is seen at load.
 *
 * A struct store belongs to one thread at a time: opened and loaded by the
 * main thread before the log thread starts, then the log thread's alone.
 *
 * Errors: any status but STORE_OK from store_write() or later means that what
 * is on disk is unknown. It is never retried: the process says why
 * (store_error()) and ends; the next start recovers.
 */
#ifndef RAFT_STORE_H
#define RAFT_STORE_H

#include "raft.h"

struct store;

enum store_status {
    STORE_OK = 0,
    STORE_IO,       /* the disk refused a read, a write or a sync */
    STORE_FULL,     /* no space left */
    STORE_CORRUPT,  /* SQLite or the checksum chain says so */
    STORE_LOCKED,   /* another process has it open */
    STORE_MISMATCH, /* belongs to another member or cluster */
    STORE_VERSION,  /* written by a newer pawl, or is not ours at all */
    STORE_MISSING,  /* no such file, and create was not asked for */
};

const char *store_status_text(enum store_status st);

struct store_options {
    const char *path;
    const char *vfs;     /* SQLite VFS name; NULL: the default */
    uint64_t cluster_id; /* checked when the file exists, written when new */
    uint64_t member_id;
    bool adopt;         /* an existing file says who we are instead; see
                           store_member_id() */
    bool create;        /* make it if missing */
    uint64_t store_id;  /* random: what tells a new file from all others; see
                           store_id(). 0: 1 */
    bool joined;        /* of a new file; see store_joined() */
    unsigned wal_pages; /* pre-grown WAL size and checkpoint threshold, in
                           4 KiB pages; 0: the default */
};

/*
 * Open, create or recover. On failure *out is NULL and error, of error_size
 * bytes, gets one line for the operator: what, which file, what to do.
 */
enum store_status store_open(const struct store_options *options,
                             struct store **out, char *error,
                             size_t error_size);

/* Close without a sync beyond what SQLite does. NULL is fine. */
void store_close(struct store *s);

uint64_t store_cluster_id(const struct store *s);
uint64_t store_member_id(const struct store *s);

/*
 * Given to the file when it was made. A member whose data is lost comes back
 * with another one, and what it promised before is not known to it any more.
 */
uint64_t store_id(const struct store *s);
/* The member's id was given by a running cluster, not computed from flags. */
bool store_joined(const struct store *s);
/* The cluster has removed this member: it stays down for ever. */
bool store_is_removed(const struct store *s);
enum store_status store_set_removed(struct store *s); /* synced */

/* True if the store holds no entry and no hard state: a first start. */
bool store_is_new(const struct store *s);

/* What store_load() read. */
struct store_content {
    struct raft_hard_state hard_state;
    raft_index first_prev_index; /* last entry cut away; 0: none */
    raft_term first_prev_term;
    struct raft_configuration configuration; /* as of first_prev_index */
    struct raft_entry *entries; /* contiguous from first_prev_index + 1 */
    size_t n_entries;
};

/*
 * Read everything, checking the chain. STORE_CORRUPT names the index in
 * store_error(). The content is the caller's: store_content_release().
 */
enum store_status store_load(struct store *s, struct store_content *out);
void store_content_release(struct store_content *c);

/*
 * Fill a new store with a whole log, in one transaction, and sync: to write a
 * repaired log down. prev_checksum is that of the entry at first_prev_index,
 * if that is not 0. With *last_checksum the caller sees whether it has become
 * the log that it should be.
 */
enum store_status store_fill(struct store *s, const struct store_content *c,
                             uint64_t prev_checksum, uint64_t *last_checksum);

/* One batch of the core's disk work; see struct raft_ready. Borrowed. */
struct store_batch {
    raft_index truncate_from; /* 0: nothing to cut */
    const struct raft_entry *entries;
    size_t n_entries;
    const struct raft_hard_state *hard_state; /* NULL: unchanged */
    /* Not NULL, and first of all: forget the whole log. It begins anew behind
     * restore->index, of that term, with that configuration. */
    const struct raft_snapshot *restore;
};

/*
 * Write n batches, in order, in one transaction, and sync. On STORE_OK all of
 * it survives a power cut. Entries must continue the log without a hole.
 */
enum store_status store_write(struct store *s,
                              const struct store_batch *batches, size_t n);

/*
 * Delete entries up to and including index, keeping what is needed to check
 * the chain behind them; configuration is the one as of index. Bounded work a
 * call: deletes at most n_max entries (the oldest first) and returns how many
 * are left to delete in *left.
 */
enum store_status store_compact(struct store *s, raft_index index,
                                const struct raft_configuration *configuration,
                                size_t n_max, size_t *left);

/*
 * Move WAL pages into the database file if there are enough of them (force:
 * any). Call when idle, on the writing thread.
 */
enum store_status store_checkpoint(struct store *s, bool force);

/*
 * Read the next n_max entries again and check them, in a round that never ends:
 * bounded work a call. STORE_CORRUPT: one is not any more what was written.
 */
enum store_status store_scrub(struct store *s, size_t n_max);

/* One line about the last failure. Good until the next call. */
const char *store_error(const struct store *s);

/* Figures for status and metrics. */
struct store_figures {
    uint64_t database_bytes, wal_bytes;
    uint64_t transactions, entries_written, checkpoints;
};
void store_get_figures(const struct store *s, struct store_figures *f);

#endif
