/*
 * retry.c - what the end of an attempt means, whether to try again, and when.
 *
 * Pure. The rule: a write is repeated only if it certainly was not applied,
 * which is known when the server never had it, when the server refused it, or
 * when the server says so in one of the texts below. Everything else that is
 * no answer leaves a write "maybe applied".
 */
#include "client/internal.h"

#include <string.h>

#define DELAY_FIRST_MS 50
#define DELAY_MAX_MS 2000
#define ATTEMPT_MIN_MS 250

/* Texts that say more than their code. */
static const struct remark {
    const char *text; /* the message begins with it */
    bool certain;     /* nothing was applied */
    bool retry;       /* another server, or this one later, may do better */
} remarks[] = {
    /* pawl's own promise */
    {"pawl: not applied", true, true},
    /* found before anything is proposed, at servers of either kind */
    {"etcdserver: no leader", true, true},
    {"etcdserver: too many requests", true, true},
    {"raft proposal dropped", true, true},
    /* the member, not the cluster, cannot */
    {"etcdserver: rpc not supported for learner", true, true},
    {"not a primary lessor", true, true},
    {"etcdserver: unhealthy cluster", true, false},
    {"etcdserver: re-configuration failed due to not enough started members",
     true, false},
    /* etcd may find out while it applies, and then writes all the same */
    {"etcdserver: mvcc: database space exceeded", false, false},
};

static const struct remark *remark_of(const char *text)
{
    for (size_t i = 0; text != NULL && i < ARRAY_LENGTH(remarks); i++) {
        if (strncmp(text, remarks[i].text, strlen(remarks[i].text)) == 0) {
            return &remarks[i];
        }
    }
    return NULL;
}

/* Texts that name the outcome better than the code does. */
static const struct {
    const char *text;
    enum pawl_status status;
} names[] = {
    {"pawl: fencing token is not the holder's", PAWL_FENCED},
    {"pawl: the lease ended while waiting", PAWL_LOST},
    {"pawl: the lock was not free within", PAWL_NOT_ACQUIRED},
    {"etcdserver: key not found", PAWL_NOT_FOUND},
    {"etcdserver: requested lease not found", PAWL_NOT_FOUND},
    {"etcdserver: lease already exists", PAWL_EXISTS},
    {"etcdserver: too many requests", PAWL_UNAVAILABLE},
    {"etcdserver: re-configuration failed", PAWL_REFUSED},
    {"etcdserver: request is too large", PAWL_LIMIT},
    {"etcdserver: user name is empty", PAWL_DENIED},
    {"etcdserver: authentication failed", PAWL_DENIED},
};

static enum pawl_status status_of_code(enum grpc_code code)
{
    switch (code) {
    case GRPC_OK:
        return PAWL_OK;
    case GRPC_INVALID_ARGUMENT:
        return PAWL_INVALID;
    case GRPC_NOT_FOUND:
        return PAWL_NOT_FOUND;
    case GRPC_ALREADY_EXISTS:
        return PAWL_EXISTS;
    case GRPC_PERMISSION_DENIED:
    case GRPC_UNAUTHENTICATED:
        return PAWL_DENIED;
    case GRPC_RESOURCE_EXHAUSTED:
        return PAWL_LIMIT;
    case GRPC_FAILED_PRECONDITION:
        return PAWL_REFUSED;
    case GRPC_OUT_OF_RANGE:
        return PAWL_OUT_OF_RANGE;
    case GRPC_UNIMPLEMENTED:
        return PAWL_UNSUPPORTED;
    case GRPC_UNAVAILABLE:
        return PAWL_UNAVAILABLE;
    case GRPC_DEADLINE_EXCEEDED:
    case GRPC_CANCELLED:
        return PAWL_TIMEOUT;
    case GRPC_UNKNOWN:
    case GRPC_ABORTED:
    case GRPC_INTERNAL:
    case GRPC_DATA_LOSS:
        return PAWL_INTERNAL;
    }
    return PAWL_INTERNAL; /* a number that gRPC has not given out */
}

static enum pawl_status status_of(const struct outcome *o)
{
    for (size_t i = 0; o->text != NULL && i < ARRAY_LENGTH(names); i++) {
        if (strncmp(o->text, names[i].text, strlen(names[i].text)) == 0) {
            return names[i].status;
        }
    }
    return status_of_code(o->code);
}

/* Whether the code is no decision of the server's about the request. */
static bool is_no_answer(enum pawl_status status)
{
    return status == PAWL_UNAVAILABLE || status == PAWL_TIMEOUT ||
           status == PAWL_INTERNAL;
}

struct verdict retry_judge(enum retry_class class, const struct outcome *o)
{
    const struct remark *remark = remark_of(o->text);
    struct verdict v = {.status = status_of(o)};
    bool certain = !o->maybe_processed || (remark != NULL && remark->certain);

    if (o->code == GRPC_OK) {
        return v;
    }
    if (remark != NULL && remark->retry && is_no_answer(v.status)) {
        v.status = PAWL_UNAVAILABLE; /* whatever code it came with */
    }
    v.applied_unknown = !certain && (is_no_answer(v.status) || remark != NULL);
    v.wait = remark != NULL;
    if (remark != NULL) {
        v.retry = remark->retry;
    } else {
        v.retry = v.status == PAWL_UNAVAILABLE || v.status == PAWL_TIMEOUT;
    }
    if (class == RETRY_IF_NOT_APPLIED && v.applied_unknown) {
        v.status = PAWL_MAYBE_APPLIED;
        v.retry = false;
    }
    return v;
}

uint64_t retry_delay_ms(unsigned attempt, size_t n_endpoints, bool wait,
                        uint64_t random)
{
    uint64_t bound = DELAY_FIRST_MS;

    ASSERT(attempt > 0 && n_endpoints > 0);
    if (attempt < n_endpoints && !wait) {
        return 0;
    }
    for (size_t round = attempt / n_endpoints;
         round > 1 && bound < DELAY_MAX_MS; round--) {
        bound *= 2;
    }
    return random % ((bound < DELAY_MAX_MS ? bound : DELAY_MAX_MS) + 1);
}

uint64_t retry_attempt_ms(enum retry_class class, uint64_t remaining_ms,
                          size_t n_endpoints)
{
    if (remaining_ms == NO_DEADLINE) {
        return 0;
    }
    if (class == RETRY_IF_NOT_APPLIED || n_endpoints == 1 ||
        remaining_ms <= ATTEMPT_MIN_MS) {
        return remaining_ms;
    }
    return remaining_ms / 2 > ATTEMPT_MIN_MS ? remaining_ms / 2
                                             : ATTEMPT_MIN_MS;
}
