/*
 * kv.h - the revisioned key-value store: etcd's data model.
 *
 * The present lives in memory: an index from key to its live revisions
 * (index.h) with the newest value cached. The past lives in state.db and is
 * fetched by revision. Deterministic: no clock, no randomness, no question of
 * who leads; every member that applies the same commands has the same store.
 *
 * Writing happens inside one kv_begin() ... kv_end(), which is one revision if
 * anything changed and none if not (REV2, REV4). Belongs to the main thread.
 */
#ifndef PAWL_KV_H
#define PAWL_KV_H

#include "etcd/kv.pb-c.h"
#include "etcd/rpc.pb-c.h"
#include "proto/arena.h"
#include "proto/base.h"
#include "proto/status.h"

struct kv;

/* One change, as statedb stores it, watchers see it and locks follow it. */
struct kv_change {
    int64_t mod_revision;
    int64_t sub; /* place within the revision, from 0 */
    bool deleted;
    struct slice key, value;
    int64_t create_revision, version, lease; /* 0 if deleted */
    int64_t previous_lease; /* of the pair that this change replaced */
};

/*
 * Where old values come from: fill kv (memory from the arena) with the pair
 * stored at that place. False if it is not there.
 */
typedef bool kv_fetch(void *context, int64_t mod_revision, int64_t sub,
                      struct arena *arena, Mvccpb__KeyValue *kv);

struct kv *kv_new(kv_fetch *fetch, void *context);
void kv_free(struct kv *kv);

/* Revision of the newest change; 1 in a fresh store (REV1). */
int64_t kv_revision(const struct kv *kv);
size_t kv_count(const struct kv *kv); /* live keys */

/*
 * Loading at start: changes in order of (mod_revision, sub). False if this
 * one cannot be: out of order, or a delete of what never was.
 */
bool kv_load(struct kv *kv, const struct kv_change *change);
/* After the last kv_load(): the store's revision as state.db recorded it. */
void kv_loaded(struct kv *kv, int64_t revision);

/*
 * state.db holds all changes up to revision: values replaced before are no
 * longer kept in memory, but fetched. Not between kv_begin() and kv_end().
 */
void kv_persisted(struct kv *kv, int64_t revision);

/*
 * Checks that need no state: what a service refuses before proposing, and
 * what apply refuses again. ST_OK or the error, in etcd's order (PUT1, RNG5).
 */
enum status kv_check_range(const Etcdserverpb__RangeRequest *rq);
enum status kv_check_put(const Etcdserverpb__PutRequest *rq);
enum status kv_check_delete_range(const Etcdserverpb__DeleteRangeRequest *rq);

/*
 * Read. *rs must be initialised (…__init) by the caller; what it points to
 * lives in the arena or, until the next write, in the store. header is left
 * to the caller.
 *
 * ST_FUTURE_REVISION  rq->revision is above kv_revision()
 * ST_COMPACTED        an old value is not to be had: there is no fetch, or it
 *                     said no. With statedb_fetch() that means a state.db that
 *                     lost a row or cannot be read: see statedb_fetch_error().
 */
enum status kv_range(struct kv *kv, const Etcdserverpb__RangeRequest *rq,
                     struct arena *arena, Etcdserverpb__RangeResponse *rs);

/*
 * Write. A status other than ST_OK changed nothing. rs as for kv_range();
 * prev_kv pairs are copied into the arena. Whether rq->lease exists is not
 * known here: the applier looks between kv_check_put() and kv_put(), which is
 * where PUT1 and PUT2 place it.
 */
void kv_begin(struct kv *kv);
enum status kv_put(struct kv *kv, const Etcdserverpb__PutRequest *rq,
                   struct arena *arena, Etcdserverpb__PutResponse *rs);
enum status kv_delete_range(struct kv *kv,
                            const Etcdserverpb__DeleteRangeRequest *rq,
                            struct arena *arena,
                            Etcdserverpb__DeleteRangeResponse *rs);
/* Returns the store's revision: a new one if anything changed. */
int64_t kv_end(struct kv *kv);

/* The changes of the last kv_begin() ... kv_end(). Good until the next one. */
const struct kv_change *kv_changes(const struct kv *kv, size_t *n);

/* The live pair of a key; false if there is none. Slices as in kv_change. Like
 * the next two, works inside kv_begin() ... kv_end() and sees what it wrote. */
bool kv_get(const struct kv *kv, struct slice key, struct kv_change *out);
/*
 * The live key with the lowest create_revision that starts with prefix: the
 * holder of a lock. *n gets how many keys there are. False if none.
 */
bool kv_oldest(const struct kv *kv, struct slice prefix, struct kv_change *out,
               size_t *n);
/* Every live pair in key order, until visit says false: then returns false. */
bool kv_each(const struct kv *kv,
             bool (*visit)(void *context, const struct kv_change *pair),
             void *context);

#endif
