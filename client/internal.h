/*
 * internal.h - what the library keeps to itself.
 *
 *     pawl.c       the handle: options, endpoints, channels, error text
 *     endpoints.c  the list of addresses, from text
 *     retry.c      what an outcome means, whether to try again, and when (pure)
 *     call.c       one call: attempts, failover, deadline
 *     result.c     the memory of results
 *     kv.c lease.c lock.c cluster.c member.c   a request and its answer each
 *     keeper.c     renewing a lease from a thread
 *
 * call.c works by callbacks on the handle's event loop and blocks only in
 * call_run(); calls that do not block can be built on the same parts.
 */
#ifndef PAWL_CLIENT_INTERNAL_H
#define PAWL_CLIENT_INTERNAL_H

#include "client/pawl.h"
#include "etcd/rpc.pb-c.h"
#include "proto/rpc.h"

/* ---- endpoints.c --------------------------------------------------------- */

struct endpoints {
    char **addresses; /* "host:port" */
    size_t n;
};

/* False: error (of PAWL_ERROR_BYTES) says why, and out is empty. */
bool endpoints_parse(const char *list, struct endpoints *out, char *error);
void endpoints_release(struct endpoints *e);

/* ---- retry.c ------------------------------------------------------------- */

enum retry_class {
    RETRY_ALWAYS,         /* a repetition changes nothing */
    RETRY_IF_NOT_APPLIED, /* a repetition could apply it twice */
};

/* How one attempt ended. */
struct outcome {
    enum grpc_code code;
    const char *text;
    bool maybe_processed;
};

struct verdict {
    enum pawl_status status; /* what to report if it ends here */
    bool applied_unknown;    /* it may have happened, whatever comes later */
    bool retry;
    bool wait; /* before the retry, even at a fresh endpoint */
};

struct verdict retry_judge(enum retry_class class, const struct outcome *o);
/*
 * How long to wait before attempt number attempt (1 is the first retry) of a
 * call with n endpoints: nothing for the first round over the others, then a
 * random time below a bound that doubles with each round.
 */
uint64_t retry_delay_ms(unsigned attempt, size_t n_endpoints, bool wait,
                        uint64_t random);
/* How much of the remaining time one attempt may take. 0 is for ever. */
uint64_t retry_attempt_ms(enum retry_class class, uint64_t remaining_ms,
                          size_t n_endpoints);

/* ---- pawl.c -------------------------------------------------------------- */

struct pawl {
    struct event_base *base;
    struct rpc_loop *loop;
    struct endpoints endpoints;
    struct rpc_channel **channels; /* one an endpoint; NULL until needed */
    size_t current;                /* the endpoint that served last */
    uint32_t connect_timeout_ms;
    uint32_t call_timeout_ms;
    bool interrupted; /* calls end at once: the keeper's stop */
    char *error;
};

/* Keeps the text for pawl_error() and returns status. */
enum pawl_status pawl_fail(struct pawl *p, enum pawl_status status,
                           const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* For options_copy() that was false. */
enum pawl_status pawl_fail_options(struct pawl *p);
/* The channel to an endpoint. */
struct rpc_channel *pawl_channel(struct pawl *p, size_t endpoint);
/* The same endpoints and timeouts in a handle of its own. */
struct pawl *pawl_clone(const struct pawl *p);

/*
 * Copies a caller's options of *size_field bytes over zeroes. False if they are
 * from a future that this library does not know.
 */
bool options_copy(void *to, size_t to_size, const void *from);

/* ---- call.c -------------------------------------------------------------- */

#define ANY_ENDPOINT SIZE_MAX
#define NO_DEADLINE UINT64_MAX

struct request {
    const char *path;
    const ProtobufCMessage *message;
    const ProtobufCMessageDescriptor *response;
    enum retry_class retry;
    bool waits;          /* the server may hold the answer back as long as the
                            deadline lets it: no share of the time for each try */
    size_t endpoint;     /* or ANY_ENDPOINT */
    uint64_t timeout_ms; /* 0: the handle's; or NO_DEADLINE */
    const struct rpc_metadata *metadata;
    size_t n_metadata;
    /* Adapts the message to the time that is left; may be NULL. */
    void (*prepare)(void *context, uint64_t remaining_ms);
    /* Turns the answer into a result, see result.c. NULL: no interest. */
    void *(*convert)(const ProtobufCMessage *m);
    void *context;
};

struct reply {
    enum pawl_status status;
    enum grpc_code code; /* of the last attempt */
    void *result;        /* convert()'s, if status is PAWL_OK */
    bool uncertain;      /* an earlier attempt may have been processed */
};

/* Start it, run the loop until it is done, keep the error text. */
struct reply call_run(struct pawl *p, const struct request *r);
/* The usual end: hands the result over, or frees it if nobody wants it. */
enum pawl_status call_run_into(struct pawl *p, const struct request *r,
                               void *result);

/* ---- result.c ------------------------------------------------------------ */

/* A zeroed result struct at the head of its own memory; pawl_free() frees. */
void *result_new(size_t size);
/* Zeroed memory that lives as long as the result. */
void *result_alloc(void *result, size_t n, size_t size);
struct pawl_bytes result_bytes(void *result, ProtobufCBinaryData from);
const char *result_text(void *result, const char *s); /* NULL becomes "" */
const char *const *result_texts(void *result, char *const *from, size_t n);
/* Hands result to *(void **)to, or frees it if to is NULL. */
void result_give(void *result, void *to);

struct pawl_header header_from(const Etcdserverpb__ResponseHeader *h);
struct pawl_kv kv_from(void *result, const Mvccpb__KeyValue *from);
const struct pawl_kv *kvs_from(void *result, Mvccpb__KeyValue *const *from,
                               size_t n);

/* What a message borrows from an argument. */
ProtobufCBinaryData bytes_to(struct pawl_bytes b);
struct slice slice_from(struct pawl_bytes b);

#endif
