/*
 * fake.h - a server in a thread, on a free port of loopback, that does what a
 * test tells it: answer, refuse, stay silent, or lose its connections after it
 * has read a request. It counts what it was asked.
 */
#ifndef PAWL_TESTS_FAKE_H
#define PAWL_TESTS_FAKE_H

#include <pthread.h>

#include "proto/rpc.h"

enum fake_method {
    FAKE_RANGE,
    FAKE_PUT,
    FAKE_DELETE,
    FAKE_GRANT,
    FAKE_RENEW,
    FAKE_REVOKE,
    FAKE_INSPECT,
    FAKE_LEASES,
    FAKE_MEMBERS,
    FAKE_STATUS,
    FAKE_ACQUIRE,
    FAKE_RELEASE,
    FAKE_CHECK,
    FAKE_METHODS
};

enum fake_how {
    FAKE_ANSWER,
    FAKE_FAIL,   /* with code and text */
    FAKE_DROP,   /* lose all connections, listen again on the same port */
    FAKE_SILENT, /* never answer */
};

struct fake_step {
    enum fake_how how;
    enum grpc_code code;
    const char *text;
};

#define FAKE_STEPS 8
#define FAKE_BYTES 128

struct fake {
    pthread_t thread;
    struct event_base *base;
    struct rpc_loop *loop;
    struct rpc_server *server;
    int port;
    char address[32]; /* "127.0.0.1:port" */
    int stop_fd;
    struct event *stop_event;
    bool drop, stopped; /* the thread's */

    pthread_cond_t called;
    pthread_mutex_t mutex;                            /* over all below */
    struct fake_step steps[FAKE_METHODS][FAKE_STEPS]; /* then FAKE_ANSWER */
    size_t n_steps[FAKE_METHODS], next_step[FAKE_METHODS];
    unsigned calls[FAKE_METHODS];

    /* the one pair that it stores */
    uint8_t key[FAKE_BYTES], value[FAKE_BYTES];
    size_t key_size, value_size;
    bool has_pair;

    /* of the last request that had them */
    uint8_t range_end[FAKE_BYTES];
    size_t range_end_size;
    char fence_key[FAKE_BYTES], fence_token[FAKE_BYTES];
    bool serializable;

    int64_t ttl_s;              /* that renewals answer; 0: the lease is gone */
    int64_t leases[FAKE_STEPS]; /* of each Acquire */
    int64_t waits[FAKE_STEPS];  /* wait_ms of each */
    int64_t revoked;            /* the last lease that was */
    bool held_by_other;         /* a try does not get the lock */
};

void fake_start(struct fake *f);
void fake_stop(struct fake *f);
/* What it does with the next call of the method, after those told before. */
void fake_plan(struct fake *f, enum fake_method m, enum fake_how how,
               enum grpc_code code, const char *text);
unsigned fake_calls(struct fake *f, enum fake_method m);
void fake_await_call(struct fake *f, enum fake_method m); /* until one came */
void fake_set_ttl(struct fake *f, int64_t ttl_s);

/* A port that refuses connections as long as *fd is open. */
void dead_address(char address[32], int *fd);
/* A port that takes connections and says nothing, as long as *fd is open. */
void silent_address(char address[32], int *fd);

#endif
