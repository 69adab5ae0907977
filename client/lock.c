/*
 * lock.c - locks with fencing tokens.
 *
 * The lease of a lock is named here, before the first attempt. So an attempt
 * that is repeated finds the grant, or the place in the queue, of the attempt
 * before, and whatever became of it can be ended by its lease.
 */
#include "client/internal.h"

#include <inttypes.h>
#include <stdlib.h>

#include "pawl.pb-c.h"

#define TTL_S 60
/* For the answer to come back when the server's wait is over. */
#define GRACE_MS 1000
#define CLEANUP_MS 1000

struct acquire {
    Pawl__V1__AcquireRequest message;
    uint64_t wait_until_ms; /* of clock_ms(), or NO_DEADLINE */
};

/* What the caller gets, and behind it what only this file looks at. */
struct acquire_result {
    struct pawl_lock_result given;
    bool acquired;
    struct pawl_bytes holder;
    int64_t holder_token;
};

static void *acquire_convert(const ProtobufCMessage *m)
{
    const Pawl__V1__AcquireResponse *from =
        (const Pawl__V1__AcquireResponse *)m;
    struct acquire_result *to = result_new(sizeof(*to));

    to->given.header = header_from(from->header);
    to->given.key = result_bytes(to, from->key);
    to->given.token = from->token;
    to->given.lease = from->lease;
    to->given.ttl_s = from->ttl;
    to->acquired = from->acquired;
    to->holder = result_bytes(to, from->holder);
    to->holder_token = from->holder_token;
    return to;
}

/* A repeated attempt waits only for what is left of the wait. */
static void acquire_prepare(void *context, uint64_t remaining_ms)
{
    struct acquire *a = context;
    uint64_t now = clock_ms();

    (void)remaining_ms; /* has the grace in it */
    if (a->message.try_ || a->wait_until_ms == NO_DEADLINE) {
        a->message.wait_ms = 0;
        return;
    }
    a->message.wait_ms =
        a->wait_until_ms > now ? (int64_t)(a->wait_until_ms - now) : 1;
}

/* A lease of our own has its id from here: see above. */
static void acquire_name_lease(struct acquire *a)
{
    a->message.lease = (int64_t)(random_u64() >> 1) | 1;
}

static void acquire_init(const struct pawl *p, struct acquire *a,
                         struct pawl_bytes name,
                         const struct pawl_lock_options *o)
{
    uint64_t wait =
        o->wait_ms > 0 ? (uint64_t)o->wait_ms : (uint64_t)p->call_timeout_ms;

    *a = (struct acquire){.message = PAWL__V1__ACQUIRE_REQUEST__INIT};
    a->message.name = bytes_to(name);
    a->message.lease = o->lease;
    a->message.try_ = o->try_only;
    if (o->lease == 0) {
        a->message.ttl = o->ttl_s > 0 ? o->ttl_s : TTL_S;
        acquire_name_lease(a);
    }
    a->wait_until_ms = o->wait_ms < 0 || wait > NO_DEADLINE / 2
                           ? NO_DEADLINE
                           : clock_ms() + wait;
}

static bool wait_is_over(const struct acquire *a)
{
    return a->wait_until_ms != NO_DEADLINE && clock_ms() >= a->wait_until_ms;
}

/* For the call with all its attempts. */
static uint64_t acquire_timeout_ms(const struct pawl *p,
                                   const struct acquire *a)
{
    uint64_t now = clock_ms();

    if (a->message.try_) {
        return p->call_timeout_ms;
    }
    if (a->wait_until_ms == NO_DEADLINE) {
        return NO_DEADLINE;
    }
    return (a->wait_until_ms > now ? a->wait_until_ms - now : 0) + GRACE_MS;
}

/*
 * End a lease that was made for a lock that we do not hold. Best effort: its
 * TTL does the same, later. The error text stays that of the failure before.
 */
static void end_lease(struct pawl *p, int64_t lease)
{
    uint32_t timeout = p->call_timeout_ms;
    char *error = mem_strdup(p->error);

    pawl_set_call_timeout(p, timeout < CLEANUP_MS ? timeout : CLEANUP_MS);
    (void)pawl_lease_revoke(p, lease, NULL);
    pawl_set_call_timeout(p, timeout);
    pawl_fail(p, PAWL_OK, "%s", error);
    free(error);
}

static enum pawl_status not_acquired(struct pawl *p,
                                     const struct acquire_result *r)
{
    return pawl_fail(
        p, PAWL_NOT_ACQUIRED, "the lock is held by %.*s (token %" PRId64 ")",
        (int)r->holder.size, (const char *)r->holder.data, r->holder_token);
}

static enum pawl_status acquire(struct pawl *p, struct acquire *a,
                                struct acquire_result **result)
{
    enum pawl_status st =
        call_run_into(p,
                      &(struct request){
                          .path = "/pawl.v1.Lock/Acquire",
                          .message = &a->message.base,
                          .response = &pawl__v1__acquire_response__descriptor,
                          .retry = RETRY_ALWAYS,
                          .waits = !a->message.try_,
                          .endpoint = ANY_ENDPOINT,
                          .timeout_ms = acquire_timeout_ms(p, a),
                          .prepare = acquire_prepare,
                          .convert = acquire_convert,
                          .context = a,
                      },
                      result);

    if (st == PAWL_OK && !(*result)->acquired) {
        st = not_acquired(p, *result);
        pawl_free(*result);
        *result = NULL;
    }
    return st;
}

enum pawl_status pawl_lock_acquire(struct pawl *p, struct pawl_bytes name,
                                   const struct pawl_lock_options *options,
                                   struct pawl_lock_result **result)
{
    struct pawl_lock_options o;
    struct acquire a;
    struct acquire_result *r;
    enum pawl_status st;

    result_give(NULL, result);
    if (!options_copy(&o, sizeof(o), options)) {
        return pawl_fail_options(p);
    }
    acquire_init(p, &a, name, &o);
    st = acquire(p, &a, &r);
    while (st == PAWL_LOST && o.lease == 0 && !wait_is_over(&a)) {
        /*
         * A server that an attempt before lost the connection to took its
         * waiter for gone, and with it the lease: queue again with another.
         */
        acquire_name_lease(&a);
        st = acquire(p, &a, &r);
    }
    if (st == PAWL_OK) {
        result_give(r, result);
    } else if (o.lease == 0) {
        end_lease(p, a.message.lease);
    }
    return st;
}

static void *release_convert(const ProtobufCMessage *m)
{
    const Pawl__V1__ReleaseResponse *from =
        (const Pawl__V1__ReleaseResponse *)m;
    struct pawl_release_result *to = result_new(sizeof(*to));

    to->header = header_from(from->header);
    to->released = from->released;
    return to;
}

enum pawl_status pawl_lock_release(struct pawl *p, struct pawl_bytes key,
                                   int64_t token,
                                   struct pawl_release_result **result)
{
    Pawl__V1__ReleaseRequest m = PAWL__V1__RELEASE_REQUEST__INIT;

    m.key = bytes_to(key);
    m.token = token;
    return call_run_into(
        p,
        &(struct request){
            .path = "/pawl.v1.Lock/Release",
            .message = &m.base,
            .response = &pawl__v1__release_response__descriptor,
            .retry = RETRY_ALWAYS,
            .endpoint = ANY_ENDPOINT,
            .convert = release_convert,
        },
        result);
}

static void *check_convert(const ProtobufCMessage *m)
{
    const Pawl__V1__CheckResponse *from = (const Pawl__V1__CheckResponse *)m;
    struct pawl_check_result *to = result_new(sizeof(*to));

    to->header = header_from(from->header);
    to->held = from->held;
    to->holder = result_bytes(to, from->holder);
    to->holder_token = from->holder_token;
    to->waiters = from->waiters;
    return to;
}

enum pawl_status pawl_lock_check(struct pawl *p, struct pawl_bytes name,
                                 int64_t token,
                                 struct pawl_check_result **result)
{
    Pawl__V1__CheckRequest m = PAWL__V1__CHECK_REQUEST__INIT;

    m.name = bytes_to(name);
    m.token = token;
    return call_run_into(p,
                         &(struct request){
                             .path = "/pawl.v1.Lock/Check",
                             .message = &m.base,
                             .response = &pawl__v1__check_response__descriptor,
                             .retry = RETRY_ALWAYS,
                             .endpoint = ANY_ENDPOINT,
                             .convert = check_convert,
                         },
                         result);
}
