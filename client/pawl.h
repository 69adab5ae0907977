/*
 * pawl.h - the C client of pawl, and of any server of the etcd v3 API.
 *
 *     char error[PAWL_ERROR_BYTES];
 *     struct pawl_options options = {.size = sizeof(options),
 *                                    .endpoints = "10.0.0.1:2379,10.0.0.2"};
 *     struct pawl *p = pawl_open(&options, error);
 *     struct pawl_get_result *got;
 *
 *     if (pawl_get(p, pawl_text("colour"), NULL, &got) != PAWL_OK) {
 *         fprintf(stderr, "%s\n", pawl_error(p));
 *     }
 *     ...
 *     pawl_free(got);
 *     pawl_close(p);
 *
 * Threads: a struct pawl belongs to one thread at a time and has connections
 * and an event loop of its own; different handles share nothing. A keeper
 * (pawl_keeper_start) runs a thread of its own and may be asked from any.
 *
 * Calls block until they are answered or their time is up, at most
 * call_timeout_ms unless they say otherwise. Signals do not end them.
 *
 * Retries: a call whose repetition changes nothing (reads, renewals, locks) is
 * repeated at other endpoints until its time is up. A write is repeated only
 * if it certainly was not applied; otherwise it ends with PAWL_MAYBE_APPLIED,
 * and only the caller can know whether to repeat it.
 *
 * Option structs: NULL means all defaults. The first field, size, is
 * sizeof(the struct); all the rest zero is the default. So a program goes on
 * working with a later library, whose structs are longer.
 *
 * Results: each call has one result struct, in memory of its own, which
 * pawl_free() frees whole. Pointers in it live as long as it does. The address
 * for it may be NULL if the result is of no interest; it gets NULL on failure.
 *
 * Bytes of results are followed by a zero that size does not count, so that
 * text can be used as a string.
 *
 * Running out of memory aborts the program.
 */
#ifndef PAWL_H
#define PAWL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PAWL_API __attribute__((visibility("default")))
#else
#define PAWL_API
#endif

/* ---- outcomes ------------------------------------------------------------ */

enum pawl_status {
    PAWL_OK = 0,
    PAWL_INVALID = 1,        /* the request or an option is wrong */
    PAWL_NOT_FOUND = 2,      /* no such lease, member, or key to keep */
    PAWL_EXISTS = 3,         /* a lease of that id is there already */
    PAWL_NOT_ACQUIRED = 4,   /* the lock is another's, and the wait is over */
    PAWL_LOST = 5,           /* the lease ended, and what lived with it */
    PAWL_FENCED = 6,         /* guarded write refused: the lock is not held */
    PAWL_REFUSED = 7,        /* the server's state does not allow it */
    PAWL_OUT_OF_RANGE = 8,   /* revision compacted or not there yet, TTL */
    PAWL_LIMIT = 9,          /* too large, too many, no space */
    PAWL_DENIED = 10,        /* authentication or permission */
    PAWL_UNSUPPORTED = 11,   /* the server, or this library, does not know it */
    PAWL_UNAVAILABLE = 12,   /* nobody could serve it; nothing was changed */
    PAWL_TIMEOUT = 13,       /* no answer in time; nothing was changed */
    PAWL_MAYBE_APPLIED = 14, /* a write without an answer: it may have happened,
                                or may happen yet */
    PAWL_INTERNAL = 15,      /* the server or the connection broke its rules */
};

/* "not found" and so on, for every number. */
PAWL_API const char *pawl_status_text(enum pawl_status status);

/* The library's own version, "0.1.0". */
PAWL_API const char *pawl_version(void);

/* ---- bytes --------------------------------------------------------------- */

/* Borrowed for the call where it is an argument. data may be NULL if empty. */
struct pawl_bytes {
    const void *data;
    size_t size;
};

static inline struct pawl_bytes pawl_bytes_of(const void *data, size_t size)
{
    struct pawl_bytes b;

    b.data = data;
    b.size = size;
    return b;
}

static inline struct pawl_bytes pawl_text(const char *s)
{
    return pawl_bytes_of(s, strlen(s));
}

/* Free a result of any call. NULL is fine. */
PAWL_API void pawl_free(void *result);

/* ---- the handle ---------------------------------------------------------- */

struct pawl;

#define PAWL_ERROR_BYTES 256

struct pawl_options {
    size_t size;
    /*
     * "host:port,host:port"; each may begin with http://, a missing port is
     * 2379. NULL: 127.0.0.1:2379. Copied.
     */
    const char *endpoints;
    uint32_t connect_timeout_ms; /* of one connection; 0: 2,000 */
    uint32_t call_timeout_ms;    /* of a call with all its retries; 0: 5,000 */
    /*
     * Begin with the first endpoint. Otherwise with one drawn at random, so
     * that many clients spread over the servers.
     */
    bool in_order;
};

/*
 * A handle; no connection is made before the first call. NULL if the options
 * are wrong: error, PAWL_ERROR_BYTES or NULL, then says what.
 */
PAWL_API struct pawl *pawl_open(const struct pawl_options *options,
                                char *error);
PAWL_API void pawl_close(struct pawl *p); /* NULL is fine */

/* Why the last call failed, one line; "" if it did not. Until the next call. */
PAWL_API const char *pawl_error(const struct pawl *p);

/* For the calls to come. 0: the default of 5,000. */
PAWL_API void pawl_set_call_timeout(struct pawl *p, uint32_t ms);

/* The endpoints as they were understood: "host:port". NULL beyond the last. */
PAWL_API size_t pawl_endpoint_count(const struct pawl *p);
PAWL_API const char *pawl_endpoint(const struct pawl *p, size_t index);

/* ---- what answers carry -------------------------------------------------- */

struct pawl_header {
    uint64_t cluster_id;
    uint64_t member_id; /* of the server that answered */
    int64_t revision;   /* of the store */
    uint64_t raft_term;
};

struct pawl_kv {
    struct pawl_bytes key;
    struct pawl_bytes value;
    int64_t create_revision;
    int64_t mod_revision;
    int64_t version;
    int64_t lease; /* 0: none */
};

/* ---- keys ---------------------------------------------------------------- */

enum pawl_sort_by {
    PAWL_SORT_BY_KEY = 0,
    PAWL_SORT_BY_VERSION = 1,
    PAWL_SORT_BY_CREATE = 2,
    PAWL_SORT_BY_MOD = 3,
    PAWL_SORT_BY_VALUE = 4,
};

enum pawl_order {
    PAWL_ORDER_DEFAULT = 0, /* ascending */
    PAWL_ORDER_ASCEND = 1,
    PAWL_ORDER_DESCEND = 2,
};

/*
 * Which keys. Of end, prefix and from_key at most one; with none of them just
 * the key. An empty key with prefix or from_key means all keys.
 */
struct pawl_get_options {
    size_t size;
    struct pawl_bytes end; /* keys from key up to, without, end */
    bool prefix;           /* keys that begin with key */
    bool from_key;         /* key and all behind it */
    bool serializable;     /* answer from any server's own state: cheaper, works
                              without a quorum, may be stale */
    bool keys_only;
    bool count_only;
    int64_t limit;    /* keys at most; 0: all */
    int64_t revision; /* the store as it was then; 0: now */
    enum pawl_order order;
    enum pawl_sort_by sort_by;
};

struct pawl_get_result {
    struct pawl_header header;
    const struct pawl_kv *kvs; /* n_kvs of them */
    size_t n_kvs;
    int64_t count; /* keys there are, whatever the limit */
    bool more;     /* the limit left some out */
};

/* Absent keys are no error: n_kvs is 0. */
PAWL_API enum pawl_status pawl_get(struct pawl *p, struct pawl_bytes key,
                                   const struct pawl_get_options *options,
                                   struct pawl_get_result **result);

/*
 * Guards a write with a lock: the store refuses it with PAWL_FENCED unless
 * (key, token), as pawl_lock_acquire() gave them, hold the lock when the write
 * is applied.
 */
struct pawl_fence {
    struct pawl_bytes key;
    int64_t token;
};

struct pawl_put_options {
    size_t size;
    int64_t lease;     /* the key ends with it; 0: none */
    bool prev_kv;      /* ask for the pair before */
    bool ignore_value; /* keep the value (which must be empty here) */
    bool ignore_lease; /* keep the lease */
    const struct pawl_fence *fence; /* NULL: not guarded */
};

struct pawl_put_result {
    struct pawl_header header;
    const struct pawl_kv *prev_kv; /* NULL: not asked for, or no such key */
};

PAWL_API enum pawl_status pawl_put(struct pawl *p, struct pawl_bytes key,
                                   struct pawl_bytes value,
                                   const struct pawl_put_options *options,
                                   struct pawl_put_result **result);

struct pawl_delete_options {
    size_t size;
    struct pawl_bytes end; /* as in pawl_get_options */
    bool prefix;
    bool from_key;
    bool prev_kv; /* ask for the pairs deleted */
    const struct pawl_fence *fence;
};

struct pawl_delete_result {
    struct pawl_header header;
    int64_t deleted;
    const struct pawl_kv *prev_kvs; /* n_prev_kvs of them */
    size_t n_prev_kvs;
};

PAWL_API enum pawl_status pawl_delete(struct pawl *p, struct pawl_bytes key,
                                      const struct pawl_delete_options *options,
                                      struct pawl_delete_result **result);

/* ---- leases -------------------------------------------------------------- */

struct pawl_lease_result {
    struct pawl_header header;
    int64_t lease;
    int64_t ttl_s; /* as granted */
};

/*
 * lease 0: the server chooses the id. The server may grant more than ttl_s.
 * A grant of a chosen id is repeated only like a write.
 */
PAWL_API enum pawl_status pawl_lease_grant(struct pawl *p, int64_t ttl_s,
                                           int64_t lease,
                                           struct pawl_lease_result **result);
/* Once. PAWL_NOT_FOUND if the lease has ended. */
PAWL_API enum pawl_status pawl_lease_renew(struct pawl *p, int64_t lease,
                                           struct pawl_lease_result **result);
/* Ends the lease and deletes its keys. PAWL_NOT_FOUND if it has ended. */
PAWL_API enum pawl_status pawl_lease_revoke(struct pawl *p, int64_t lease,
                                            struct pawl_header **result);

struct pawl_lease_info {
    struct pawl_header header;
    int64_t lease;
    int64_t ttl_s;                 /* left; -1: there is no such lease */
    int64_t granted_ttl_s;         /* 0 without a lease */
    const struct pawl_bytes *keys; /* n_keys of them, if asked for */
    size_t n_keys;
};

PAWL_API enum pawl_status pawl_lease_inspect(struct pawl *p, int64_t lease,
                                             bool keys,
                                             struct pawl_lease_info **result);

struct pawl_lease_list_result {
    struct pawl_header header;
    const int64_t *leases; /* n_leases of them */
    size_t n_leases;
};

PAWL_API enum pawl_status
pawl_lease_list(struct pawl *p, struct pawl_lease_list_result **result);

/* ---- keeping a lease alive ----------------------------------------------- */

/*
 * A keeper renews a lease from a thread and handle of its own, every third of
 * its TTL, until it is stopped or the lease is lost.
 *
 * Lost is: the server says that the lease is gone, or its TTL has passed since
 * the last answered renewal was sent. The second is by this machine's clock
 * (which counts sleep too), so a keeper knows of the loss no later than
 * anybody else may hold what the lease protected. That bounds what the program
 * does, not what is on its way: fence the writes that matter.
 */
struct pawl_keeper;

/*
 * Start it right after the grant: until its first renewal it trusts only half
 * of ttl_s. Uses p's endpoints and timeouts; p is borrowed for the call.
 */
PAWL_API struct pawl_keeper *pawl_keeper_start(const struct pawl *p,
                                               int64_t lease, int64_t ttl_s);
/* Readable, for poll() and the like, from when the lease is lost. */
PAWL_API int pawl_keeper_fd(const struct pawl_keeper *k);
/* PAWL_OK while the lease lives, PAWL_LOST from then on. Any thread. */
PAWL_API enum pawl_status pawl_keeper_status(struct pawl_keeper *k);
/* How long it lives without another renewal; 0 once it is lost. Any thread. */
PAWL_API uint64_t pawl_keeper_left_ms(struct pawl_keeper *k);
/* Why it was lost, or why the last renewal failed; "". Copied to text. */
PAWL_API void pawl_keeper_error(struct pawl_keeper *k, char *text,
                                size_t text_bytes);
/* Ends the thread, not the lease. NULL is fine. */
PAWL_API void pawl_keeper_stop(struct pawl_keeper *k);

/* ---- locks --------------------------------------------------------------- */

/*
 * A lock is a queue of keys NAME/<lease in hex>; the oldest holds it, and its
 * create_revision is the fencing token, which rises with every grant of NAME.
 * Mutexes that other etcd clients take under the same name exclude ours.
 */
struct pawl_lock_options {
    size_t size;
    /*
     * The lease that the lock lives with. 0: one of ttl_s seconds is made.
     * While the call waits the server keeps that one alive; afterwards it is
     * the caller's: pawl_keeper_start() renews it, pawl_lease_revoke() ends it
     * and the lock with it.
     */
    int64_t lease;
    int64_t ttl_s;   /* 0: 60 */
    int64_t wait_ms; /* 0: call_timeout_ms; -1: as long as it takes */
    bool try_only;   /* do not wait at all */
};

struct pawl_lock_result {
    struct pawl_header header;
    struct pawl_bytes key; /* NAME/<lease in hex> */
    int64_t token;         /* the fencing token */
    int64_t lease;
    int64_t ttl_s; /* of the lease, as granted; 0: not told */
};

/*
 * Repeated at other endpoints as long as its time lasts, with the same lease:
 * so it never queues twice. PAWL_NOT_ACQUIRED when the wait is over; nothing is
 * left behind then.
 */
PAWL_API enum pawl_status
pawl_lock_acquire(struct pawl *p, struct pawl_bytes name,
                  const struct pawl_lock_options *options,
                  struct pawl_lock_result **result);

struct pawl_release_result {
    struct pawl_header header;
    bool released; /* false: (key, token) held nothing any more; or an earlier
                      try of this call released it and its answer was lost */
};

PAWL_API enum pawl_status
pawl_lock_release(struct pawl *p, struct pawl_bytes key, int64_t token,
                  struct pawl_release_result **result);

struct pawl_check_result {
    struct pawl_header header;
    bool held;                /* by the token that was asked about */
    struct pawl_bytes holder; /* key of the present holder; empty: none */
    int64_t holder_token;     /* 0: none */
    int64_t waiters;          /* behind the holder */
};

/* Linearizable. token 0 asks just who holds it. */
PAWL_API enum pawl_status pawl_lock_check(struct pawl *p,
                                          struct pawl_bytes name, int64_t token,
                                          struct pawl_check_result **result);

/* ---- the cluster --------------------------------------------------------- */

struct pawl_member {
    uint64_t id;
    const char *name; /* "": has not started yet */
    const char *const *peer_urls;
    size_t n_peer_urls;
    const char *const *client_urls;
    size_t n_client_urls;
    bool is_learner;
};

struct pawl_member_list_result {
    struct pawl_header header; /* revision is 0 */
    const struct pawl_member *members;
    size_t n_members;
};

PAWL_API enum pawl_status
pawl_member_list(struct pawl *p, struct pawl_member_list_result **result);

/* What a change of the members left. */
struct pawl_member_change_result {
    struct pawl_header header; /* revision is 0 */
    struct pawl_member member; /* add, replace: the new one */
    const struct pawl_member *members;
    size_t n_members;
};

struct pawl_member_add_options {
    size_t size;
    bool learner;      /* does not vote until it is promoted */
    bool auto_promote; /* with learner: promoted by itself once it has caught
                          up, as one that is added to vote always is */
};

/*
 * Members join, leave and move at run time, one change at a time; each call
 * returns when the change is in force. A new member is started with an empty
 * data directory. PAWL_REFUSED, PAWL_UNAVAILABLE: a quorum would be at risk,
 * or another change is under way; pawl_error() tells.
 */
PAWL_API enum pawl_status
pawl_member_add(struct pawl *p, const char *const *peer_urls,
                size_t n_peer_urls,
                const struct pawl_member_add_options *options,
                struct pawl_member_change_result **result);
PAWL_API enum pawl_status
pawl_member_remove(struct pawl *p, uint64_t id,
                   struct pawl_member_change_result **result);
PAWL_API enum pawl_status
pawl_member_update(struct pawl *p, uint64_t id, const char *const *peer_urls,
                   size_t n_peer_urls,
                   struct pawl_member_change_result **result);
PAWL_API enum pawl_status
pawl_member_promote(struct pawl *p, uint64_t id,
                    struct pawl_member_change_result **result);
/*
 * A new member at peer_urls takes the place of id: it comes as a learner, and
 * once it has caught up it becomes a voter in the same step in which id goes.
 * pawl only; PAWL_UNSUPPORTED at other servers.
 */
PAWL_API enum pawl_status
pawl_member_replace(struct pawl *p, uint64_t id, const char *const *peer_urls,
                    size_t n_peer_urls,
                    struct pawl_member_change_result **result);

struct pawl_endpoint_status_result {
    struct pawl_header header;
    const char *version;
    const char *storage_version;
    int64_t db_bytes;
    int64_t db_bytes_in_use;
    int64_t db_bytes_quota;
    uint64_t leader; /* member id; 0: none */
    uint64_t raft_index;
    uint64_t raft_term;
    uint64_t raft_applied_index;
    const char *const *errors;
    size_t n_errors;
    bool is_learner;
};

/* Asks that endpoint (0 .. pawl_endpoint_count() - 1) and no other. */
PAWL_API enum pawl_status
pawl_endpoint_status(struct pawl *p, size_t endpoint,
                     struct pawl_endpoint_status_result **result);

/*
 * PAWL_OK if that endpoint serves a linearizable read, so has a leader and a
 * quorum. *took_us, if not NULL, gets how long it took in any case.
 */
PAWL_API enum pawl_status pawl_endpoint_health(struct pawl *p, size_t endpoint,
                                               uint64_t *took_us);

#ifdef __cplusplus
}
#endif

#endif
