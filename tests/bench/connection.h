/*
 * connection.h - one HTTP/2 connection that carries unary gRPC calls.
 *
 * Written on nghttp2 alone, and not on pawl's rpc layer, for two reasons: it
 * measures that layer, and it must cost little, since it shares the machine
 * with the servers. Sockets do not block; one epoll (edge-triggered) watches
 * all of them. Output gathers in memory until connection_flush().
 */
#ifndef BENCH_CONNECTION_H
#define BENCH_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/bench/workload.h"

struct connection;

/* How a request ended. */
enum outcome {
    OUTCOME_OK,
    OUTCOME_STATUS,  /* a gRPC status other than OK */
    OUTCOME_SHORT,   /* OK, but without what was asked for */
    OUTCOME_RESET,   /* the stream ended without a status */
    OUTCOME_LOST,    /* the connection ended */
    OUTCOME_TIMEOUT, /* given up by connection_expire() */
    OUTCOME_COUNT,
};

/* A place for one request in flight. Its owner fills in the first part. */
struct request {
    enum op op;
    uint8_t *body; /* with room for any body of the workload */
    size_t body_size;
    size_t answer_size_min;
    uint64_t since_ns; /* when it was due: latency counts from here */

    struct connection *connection;
    struct request *next_idle;
    size_t body_sent;
    size_t answer_size;
    int32_t stream_id; /* 0: idle */
    int grpc_status;   /* -1: none so far */
};

/* Tells that r has ended, and that it may be sent again, at once if wanted. */
typedef void request_done(void *context, struct request *r, enum outcome how);

struct connection_config {
    const char *address; /* "127.0.0.1:2379", for :authority too; borrowed */
    int epoll;           /* where the socket is watched; data.ptr is the
                            connection */
    size_t n_requests;   /* places, all idle at first */
    size_t body_size_max;
    request_done *on_done;
    void *context;
};

struct connection *connection_new(const struct connection_config *config);
void connection_free(struct connection *c);

/*
 * Start to connect, and forget what was. False if the address cannot be used;
 * *reason then says why.
 */
bool connection_open(struct connection *c, const char **reason);
bool connection_is_open(const struct connection *c); /* or being opened */
bool connection_is_up(const struct connection *c);   /* the server answers */
const char *connection_error(const struct connection *c); /* of the last loss */

/* An idle place, or NULL if all are in flight. */
struct request *connection_take(struct connection *c);
void connection_give_back(struct connection *c, struct request *r);
size_t connection_in_flight(const struct connection *c);

/* Queue r's body as a call. The connection must be up. */
void connection_submit(struct connection *c, struct request *r);
/* Read and handle what has come; write what is queued. What is in flight when
   the connection breaks ends as OUTCOME_LOST. */
void connection_read(struct connection *c);
void connection_flush(struct connection *c);
/* End what has been in flight since before that time. */
void connection_expire(struct connection *c, uint64_t before_ns);

#endif
