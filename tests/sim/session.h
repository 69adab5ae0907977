/*
 * session.h - the clients of a cluster of whole nodes, what they do, and what
 * they were told: each does one thing at a time, and beside it keeps its lease
 * alive. They retry as libpawl does: what certainly did not happen, what only
 * asks, and what may be repeated; never a write whose outcome is unknown.
 */
#ifndef TESTS_SIM_SESSION_H
#define TESTS_SIM_SESSION_H

#include "proto/base.h"
#include "proto/status.h"
#include "raft/raft.h"
#include "tests/sim/model.h"

struct cluster;

enum op_kind {
    OP_PUT,
    OP_DELETE,
    OP_GET,         /* linearizable, one key */
    OP_RANGE,       /* linearizable, all keys with a prefix */
    OP_LOCAL_RANGE, /* serializable */
    OP_OLD_RANGE,   /* at a revision */
    OP_GRANT,
    OP_REVOKE,
    OP_KEEP_ALIVE,
    OP_TIME_TO_LIVE,
    OP_ACQUIRE,
    OP_RELEASE,
};

const char *op_name(enum op_kind kind);
bool op_is_write(enum op_kind kind);

enum op_end {
    OP_OPEN,
    OP_DONE,    /* answered; status tells */
    OP_UNKNOWN, /* the client gave up */
    OP_REFUSED, /* certainly not applied, and the client gave up */
};

/* What a member says. */
struct op_answer {
    bool not_applied; /* certainly; else status is the outcome */
    bool unknown;     /* perhaps, perhaps not */
    enum status status;
    int64_t revision;
    uint64_t value; /* seen or replaced; of a range, the hash of all; 0: none */
    int64_t mod_revision, create_revision;
    int64_t count; /* deleted, or in the range */
    int64_t ttl_s;
    bool acquired, holds;
    int64_t token;
};

struct op {
    enum op_kind kind;
    enum op_end end;
    unsigned client;
    bool is_keepalive; /* beside the client's main operation */
    uint64_t begin_us, end_us;
    int64_t floor; /* a revision that somebody had seen when it began */
    char key[MODEL_KEY_SIZE];
    char value[64];
    size_t value_padding; /* bytes more, for large values */
    int64_t lease, ttl_s, token;
    bool previous; /* asks for the value replaced */
    bool fenced;   /* by fence_key and token */
    char fence_key[MODEL_KEY_SIZE];
    bool try, revoke_lease;
    uint64_t wait_ms;
    int64_t revision; /* asked for */
    uint64_t attempt; /* the newest; see struct attempt */
    unsigned tries;
    struct op_answer answer;
};

/* One try of an operation at one member. */
struct attempt {
    uint64_t op;
    raft_index committed; /* 0: not (yet) */
    bool refused;         /* the member said that it never will be */
    struct op_answer answer;
};

struct session {
    uint64_t op, keepalive; /* under way; 0: none */
    unsigned hint;
    unsigned role;          /* 0 keys, 1 leases, 2 locks */
    int64_t lease, ttl_s;   /* 0: has none */
    uint64_t safe_until_us; /* it may count on its lease until then */
    bool keepalive_due;     /* an event for the next one exists */
    unsigned lock;
    char lock_key[MODEL_KEY_SIZE];
    int64_t token; /* 0: has no lock, nor had */
    bool holds;    /* and did not let go */
};

/* What is known of a lease from outside. */
struct lease_record {
    int64_t id, ttl_s;
    uint64_t renewed_us; /* the latest begin of a grant or renewal with an OK */
    uint64_t ended_us;   /* an expiry of it was committed; 0: none */
};

void session_begin(struct cluster *c, unsigned client);
void session_keepalive(struct cluster *c, unsigned client);
/* The answer to an attempt arrives. */
void session_answer(struct cluster *c, uint64_t attempt);
/* Its patience is over. */
void session_timeout(struct cluster *c, uint64_t op, uint64_t attempt);
/* A lease's expiry was committed. */
void session_expired(struct cluster *c, int64_t lease);

#endif
