/*
 * applier.h - turns committed entries into state: kv, leases, locks, members.
 *
 * Deterministic: the result depends on the entries alone. Runs on the main
 * thread, in log order, each index exactly once. What changed is gathered in a
 * changeset that the state thread writes to state.db (statedb.h), together
 * with the applied index that it stands for.
 */
#ifndef PAWL_APPLIER_H
#define PAWL_APPLIER_H

#include "command.pb-c.h"
#include "raft/raft.h"
#include "server/kv.h"
#include "server/lease.h"
#include "server/statedb.h"

struct applier;

/* The outcome of a command, for whoever waits for it. */
struct applied {
    uint64_t member, incarnation, request; /* as in the command; 0: nobody */
    enum status status;
    const char *text; /* more than status_text(), from the arena; or NULL */
    int64_t revision; /* the store's after this entry: for the header */
    /* By the command's kind; from the arena; headers are left to the caller. */
    union {
        Etcdserverpb__PutResponse put;
        Etcdserverpb__DeleteRangeResponse delete_range;
        struct {
            int64_t id, ttl;
        } lease_grant;
        struct {
            bool acquired; /* holds it now */
            bool queued;   /* waits: has a key, is not the holder */
            struct slice key;
            int64_t token, lease, ttl;
            struct slice holder;
            int64_t holder_token;
        } lock_acquire;
        struct {
            bool released;
            bool holds; /* only_if_waiting, but it holds the lock by now */
        } lock_release;
    };
};

/* A member as the cluster knows it. Strings belong to the applier. */
struct member {
    uint64_t id;
    char *name; /* "" until published */
    char **peer_urls;
    size_t n_peer_urls;
    char **client_urls; /* none until published */
    size_t n_client_urls;
    bool is_learner;
};

/* fetch: where old values come from (kv.h); NULL: there are none. */
struct applier *applier_new(kv_fetch *fetch, void *context);
void applier_free(struct applier *a);

struct kv *applier_kv(struct applier *a);
struct leases *applier_leases(struct applier *a);
raft_index applier_index(const struct applier *a); /* last applied */
raft_term applier_term(const struct applier *a);   /* of that entry */
/* Ascending by id. */
const struct member *applier_members(const struct applier *a, size_t *n);

/*
 * A digest of all changes so far: at the same applied index, members that do
 * not agree have diverged. Survives a restart (state.db keeps it).
 */
uint64_t applier_digest(const struct applier *a);

/*
 * Apply one entry of any type. out is filled for commands (else zeroed, with
 * revision); memory from the arena, which is the caller's. e->index must be
 * applier_index() + 1. What it changed in the store is in kv_changes() until
 * the next one; nothing there if it changed nothing.
 *
 * A status other than ST_OK means that nothing changed. Beside those of etcd:
 * ST_FENCED           the command's fence is not the holder's; text tells who
 * ST_BAD_LOCK_NAME    LockAcquire without a name or a lease id
 * ST_NOT_APPLIED      text tells which: the command does not parse, is of a
 *                     kind that this version does not know, publishes for a
 *                     member that is not one, or is an expiry that the leader
 *                     of another term had seen (I1)
 */
void applier_apply(struct applier *a, const struct raft_entry *e,
                   struct arena *arena, struct applied *out);

/*
 * What has changed since the last call, or NULL if nothing has. An entry that
 * changed nothing but the applied index counts: state.db has to know it before
 * the log may be cut there. The caller owns it: give it to the state thread,
 * then changeset_free() (statedb.h).
 */
struct changeset *applier_take_changes(struct applier *a);
size_t applier_changes_bytes(const struct applier *a); /* waiting to be taken */
/*
 * state.db holds everything up to index. Until then old values that a read
 * may ask for are kept in memory.
 */
void applier_persisted(struct applier *a, raft_index index);

/* ---- loading at start: statedb_load() ------------------------------------ */

/* In any order; then kv_load() into applier_kv(), then applier_loaded(). */
/* False if that cannot be: id 0, twice the same, a TTL out of range. */
bool applier_load_lease(struct applier *a, int64_t id, int64_t ttl_s);
void applier_load_member(struct applier *a, const struct member *m);
/*
 * All is loaded, up to index. False if what was loaded cannot be: a key on a
 * lease that does not exist.
 */
bool applier_loaded(struct applier *a, raft_index index, raft_term term,
                    int64_t revision, uint64_t digest);

/*
 * a becomes what other is and the other way round: how a snapshot's state takes
 * the place of the present one under all who hold a. What applier_kv() and its
 * like gave belongs to other from then on.
 */
void applier_exchange(struct applier *a, struct applier *other);

/*
 * The member list that a RAFT_ENTRY_CONFIG carries in raft_configuration's
 * extra: encode (memory from malloc) and, inside apply, decode.
 */
uint8_t *members_encode(const struct member *members, size_t n, size_t *size);

#endif
