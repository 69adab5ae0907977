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
