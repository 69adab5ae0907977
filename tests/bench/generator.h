/*
 * generator.h - keeps requests in flight on many connections and measures.
 *
 * Closed loop (the default): each place sends its next request as soon as the
 * answer to the last is there. Open loop (rate_per_s): requests are due at
 * fixed times, whether or not answers come, and latency counts from when a
 * request was due: a stall of the server is seen by all that fell into it.
 * One thread.
 */
#ifndef BENCH_GENERATOR_H
#define BENCH_GENERATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/bench/connection.h"
#include "tests/bench/histogram.h"
#include "tests/bench/workload.h"

enum { GRPC_CODES = 17 };

struct generator_config {
    const char *const *addresses; /* connections take turns over them */
    size_t n_addresses;
    size_t connections;
    size_t streams; /* requests in flight on each connection, at most */
    uint64_t timeout_ms;
    struct workload *workload;
    uint64_t keys;
    const pid_t *pids; /* servers whose processor time counts */
    size_t n_pids;
};

/* One run. It ends with the first of the two bounds that is reached. */
struct generator_run {
    uint64_t warmup_ms;   /* runs but does not count */
    uint64_t duration_ms; /* what is measured */
    uint64_t requests;    /* counted answers of any outcome; 0: no bound */
    uint64_t rate_per_s;  /* 0: closed loop */
};

struct figures {
    uint64_t elapsed_ns;
    uint64_t outcomes[OUTCOME_COUNT];
    uint64_t codes[GRPC_CODES]; /* of OUTCOME_STATUS, by gRPC status */
    uint64_t unsent; /* open loop: due, but every place was in flight */
    uint64_t server_cpu_us, own_cpu_us;
    struct histogram latency_ns; /* of OUTCOME_OK */
};

struct generator;

/* Opens all connections. NULL if one cannot be; error, of error_size bytes,
   then says why. */
struct generator *generator_new(const struct generator_config *config,
                                char *error, size_t error_size);
void generator_free(struct generator *g);

/*
 * Put every key once, so that gets find something. False, with error set, if
 * it does not work within timeout_ms.
 */
bool generator_load(struct generator *g, uint64_t timeout_ms, char *error,
                    size_t error_size);
void generator_measure(struct generator *g, const struct generator_run *run,
                       struct figures *figures);

#endif
