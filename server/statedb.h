/*
 * statedb.h - state.db: the state machine on disk, an SQLite file that anyone
 * may open and read. Revisions in append order; leases; members; and the
 * applied index, always in the same transaction as the data it stands for.
 *
 * Written by the state thread in large transactions; it trails the applied
 * index by at most a second or a few MB, and the Raft log refills it after a
 * crash. The main thread reads old revisions over a read-only connection of
 * its own that never checkpoints.
 */
#ifndef PAWL_STATEDB_H
#define PAWL_STATEDB_H

#include "proto/arena.h"
#include "raft/raft.h"
#include "server/kv.h"

struct statedb;
struct applier;

/* Changes gathered by the applier; opaque rows in order. */
struct changeset;
raft_index
changeset_index(const struct changeset *c); /* applied index after it */
void changeset_free(struct changeset *c);   /* NULL is fine */

enum statedb_status {
    STATEDB_OK = 0,
    STATEDB_IO,
    STATEDB_FULL,
    STATEDB_CORRUPT,
    STATEDB_LOCKED,
    STATEDB_MISMATCH,
    STATEDB_VERSION,
};

/*
 * Open or create. On failure *out is NULL and error gets one line for the
 * operator. cluster_id and member_id are checked if the file exists.
 */
enum statedb_status statedb_open(const char *path, const char *vfs,
                                 uint64_t cluster_id, uint64_t member_id,
                                 struct statedb **out, char *error,
                                 size_t error_size);
void statedb_close(struct statedb *db);

/* Fill a fresh applier with all that is stored. Main thread, before the state
 * thread starts. */
enum statedb_status statedb_load(struct statedb *db, struct applier *a);

/* Write changesets, in order, in one transaction, and sync. State thread. */
enum statedb_status statedb_write(struct statedb *db,
                                  struct changeset *const *changes, size_t n);

/*
 * Read the next n_max revisions again and check them, in a round that never
 * ends. State thread, bounded work a call.
 */
enum statedb_status statedb_scrub(struct statedb *db, size_t n_max);

/*
 * Somebody changed a file that is not open, by SQL: rows of revisions that he
 * added with checksum 0 get theirs, and the sums are made anew. Rows that do
 * not fit the checksum that they have stay as they are, and are found.
 */
enum statedb_status statedb_seal(const char *path, char *error,
                                 size_t error_size);

/* ---- copies and snapshots -------------------------------------------------
 */

/* What a log that begins behind the applied index needs. */
struct statedb_log_start {
    struct buffer configuration; /* Raft's, encoded; release it. Empty: not
                                    known */
    raft_index installed_index;  /* of the snapshot that the file began as */
};
/* As statedb_load(). */
enum statedb_status statedb_get_log_start(struct statedb *db,
                                          struct statedb_log_start *out);

/*
 * A copy of the file, taken in steps on the state thread, over the writing
 * connection: what is written between two steps goes into the copy too, so it
 * never has to begin again, and no read transaction is open between steps that
 * would keep the WAL from starting over (G3). When the last step is done the
 * copy is the state as it is then. It is not synced, and the database must stay
 * open meanwhile. NULL or false: it failed, error tells; end it all the same.
 */
struct statedb_copy;
struct statedb_copy *statedb_copy_begin(struct statedb *db, const char *path,
                                        char *error, size_t error_size);
bool statedb_copy_step(struct statedb_copy *c, int pages, bool *done,
                       char *error, size_t error_size);
void statedb_copy_end(struct statedb_copy *c); /* NULL is fine */

/*
 * State thread: the file at path, which is whole, synced and has no WAL, takes
 * the place of this one by rename. Until that, the old one is whole and needs
 * no other file; so a crash leaves the one or the other (D4). If it fails,
 * statedb_is_gone() tells whether the old one is still open and usable.
 * Main thread, after that and before anything of the new state is fetched:
 * statedb_installed().
 */
enum statedb_status statedb_install(struct statedb *db, const char *path);
bool statedb_is_gone(const struct statedb *db);
void statedb_installed(struct statedb *db);

/* Sync the directory that holds path. */
bool sync_directory_of(const char *path);

/*
 * kv_fetch: main thread. The store asks for rows that must be there, so false
 * means a broken file or disk: statedb_fetch_error() tells, and the process
 * should end.
 */
bool statedb_fetch(void *statedb, int64_t mod_revision, int64_t sub,
                   struct arena *arena, Mvccpb__KeyValue *kv);

/* One line about the last failure of load or write: the thread's that called.
 */
const char *statedb_error(const struct statedb *db);
/* The same for statedb_fetch(); NULL if it never failed. Main thread. */
const char *statedb_fetch_error(const struct statedb *db);
uint64_t statedb_bytes(const struct statedb *db); /* file size; any thread */

#endif
