/*
 * status.h - every outcome that pawl reports, in one table: our name, the gRPC
 * code, the text. Texts that begin with "etcdserver:" are etcd's, byte for
 * byte: its clients compare them.
 */
#ifndef PAWL_STATUS_H
#define PAWL_STATUS_H

/* gRPC's codes, from its protocol description. */
enum grpc_code {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
};

/* "DEADLINE_EXCEEDED" and so on; "CODE_17" has no name and gets "UNKNOWN". */
const char *grpc_code_name(int code);

/* X(name, code, text) */
#define STATUS_TABLE(X)                                                        \
    X(OK, GRPC_OK, "")                                                         \
    X(EMPTY_KEY, GRPC_INVALID_ARGUMENT, "etcdserver: key is not provided")     \
    X(KEY_NOT_FOUND, GRPC_INVALID_ARGUMENT, "etcdserver: key not found")       \
    X(VALUE_PROVIDED, GRPC_INVALID_ARGUMENT, "etcdserver: value is provided")  \
    X(LEASE_PROVIDED, GRPC_INVALID_ARGUMENT, "etcdserver: lease is provided")  \
    X(INVALID_SORT, GRPC_INVALID_ARGUMENT, "etcdserver: invalid sort option")  \
    X(COMPACTED, GRPC_OUT_OF_RANGE,                                            \
      "etcdserver: mvcc: required revision has been compacted")                \
    X(FUTURE_REVISION, GRPC_OUT_OF_RANGE,                                      \
      "etcdserver: mvcc: required revision is a future revision")              \
    X(LEASE_NOT_FOUND, GRPC_NOT_FOUND,                                         \
      "etcdserver: requested lease not found")                                 \
    X(LEASE_EXIST, GRPC_FAILED_PRECONDITION,                                   \
      "etcdserver: lease already exists")                                      \
    X(LEASE_TTL_TOO_LARGE, GRPC_OUT_OF_RANGE,                                  \
      "etcdserver: too large lease TTL")                                       \
    X(REQUEST_TOO_LARGE, GRPC_INVALID_ARGUMENT,                                \
      "etcdserver: request is too large")                                      \
    X(TOO_MANY_REQUESTS, GRPC_UNKNOWN, "etcdserver: too many requests")        \
    X(NO_LEADER, GRPC_UNAVAILABLE, "etcdserver: no leader")                    \
    X(NOT_LEADER, GRPC_FAILED_PRECONDITION, "etcdserver: not leader")          \
    X(LEADER_CHANGED, GRPC_UNAVAILABLE, "etcdserver: leader changed")          \
    X(STOPPED, GRPC_UNAVAILABLE, "etcdserver: server stopped")                 \
    X(TIMEOUT, GRPC_UNAVAILABLE, "etcdserver: request timed out")              \
    X(TIMEOUT_LEADER_FAILED, GRPC_UNAVAILABLE,                                 \
      "etcdserver: request timed out, possibly due to previous leader "        \
      "failure")                                                               \
    X(TRANSFER_TIMEOUT, GRPC_UNKNOWN,                                          \
      "etcdserver: request timed out, leader transfer took too long")          \
    X(PROPOSAL_DROPPED, GRPC_UNKNOWN, "raft proposal dropped")                 \
    X(BAD_LEADER_TRANSFEREE, GRPC_FAILED_PRECONDITION,                         \
      "etcdserver: bad leader transferee")                                     \
    X(FENCED, GRPC_FAILED_PRECONDITION,                                        \
      "pawl: fencing token is not the holder's: write refused")                \
    X(BAD_FENCE, GRPC_INVALID_ARGUMENT,                                        \
      "pawl: pawl-fence-key-bin and pawl-fence-token must come together, the " \
      "token as a decimal number")                                             \
    X(LOCK_LOST, GRPC_FAILED_PRECONDITION,                                     \
      "pawl: the lease ended while waiting for the lock")                      \
    X(LOCK_WAIT_TIMEOUT, GRPC_DEADLINE_EXCEEDED,                               \
      "pawl: the lock was not free within the wait time")                      \
    X(BAD_LOCK_NAME, GRPC_INVALID_ARGUMENT,                                    \
      "pawl: a lock needs a name, and a lease or a ttl")                       \
    X(NOT_APPLIED, GRPC_FAILED_PRECONDITION,                                   \
      "pawl: not applied: the command is not valid here")

#define STATUS_ENUM(name, code, text) ST_##name,
enum status { STATUS_TABLE(STATUS_ENUM) STATUS_COUNT };
#undef STATUS_ENUM

enum grpc_code status_code(enum status st);
const char *status_text(enum status st);

#endif
