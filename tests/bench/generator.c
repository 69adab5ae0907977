/*
 * generator.c - keeps requests in flight on many connections and measures.
 */
#include "tests/bench/generator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "proto/base.h"
#include "tests/bench/cpu.h"

enum {
    EVENTS_MAX = 128,
    TICK_MS = 20, /* how often timeouts, lost connections and ends are seen */
};

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

/*
 *    IDLE ──load──► LOADING ──every key is put──► IDLE
 *      │                                           ▲
 *      └──measure──► WARMING ──► MEASURING ────────┘
 */
enum phase {
    PHASE_IDLE,    /* answers are not followed by requests */
    PHASE_LOADING, /* puts, one a key */
    PHASE_WARMING, /* the workload, not counted */
    PHASE_MEASURING,
};

struct generator {
    struct generator_config config;
    struct connection **connections;
    size_t next_connection; /* open loop: whose turn it is */
    int epoll;
    int timer; /* open loop: rings when a request is due */
    enum phase phase;
    uint64_t now_ns; /* CLOCK_MONOTONIC, as of the last read */

    uint64_t next_key; /* loading */
    uint64_t n_load_failed;
    uint64_t interval_ns; /* open loop: between requests; 0: closed loop */
    uint64_t next_due_ns;
    uint64_t counted;        /* answers */
    struct figures *figures; /* measuring */
};

static uint64_t clock_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* ---- sending ------------------------------------------------------------ */

static void send_request(struct generator *g, struct request *r, enum op op,
                         uint64_t key, uint64_t since_ns)
{
    struct workload *w = g->config.workload;

    r->op = op;
    r->since_ns = since_ns;
    r->body_size = workload_fill(w, op, key, r->body);
    r->answer_size_min = workload_answer_size_min(w, op);
    connection_submit(r->connection, r);
}

/* What a free place does in the closed loop; false: it stays idle. */
static bool send_next(struct generator *g, struct request *r)
{
    struct workload *w = g->config.workload;

    if (!connection_is_up(r->connection)) {
        return false;
    }
    switch (g->phase) {
    case PHASE_LOADING:
        if (g->next_key == g->config.keys) {
            return false;
        }
        send_request(g, r, OP_PUT, g->next_key++, g->now_ns);
        return true;
    case PHASE_WARMING:
    case PHASE_MEASURING:
        if (g->interval_ns > 0) {
            return false; /* the timer sends */
        }
        send_request(g, r, workload_next_op(w), workload_next_key(w),
                     g->now_ns);
        return true;
    case PHASE_IDLE:
        break;
    }
    return false;
}

static void fill_connection(struct generator *g, struct connection *c)
{
    struct request *r;

    while ((r = connection_take(c))) {
        if (!send_next(g, r)) {
            connection_give_back(c, r);
            return;
        }
    }
}

static void fill_all(struct generator *g)
{
    for (size_t i = 0; i < g->config.connections; i++) {
        fill_connection(g, g->connections[i]);
        connection_flush(g->connections[i]);
    }
}

/* A place on the next connection that is up and has one, or NULL. */
static struct request *take_in_turn(struct generator *g)
{
    for (size_t i = 0; i < g->config.connections; i++) {
        size_t turn = g->next_connection++ % g->config.connections;
        struct connection *c = g->connections[turn];
        struct request *r = connection_is_open(c) ? connection_take(c) : NULL;

        if (r) {
            return r;
        }
    }
    return NULL;
}

/* Open loop: send all that is due by now. */
static void send_due(struct generator *g)
{
    struct workload *w = g->config.workload;

    while (g->phase != PHASE_IDLE && g->next_due_ns <= g->now_ns) {
        struct request *r = take_in_turn(g);

        if (!r) {
            return; /* still due when a place is free */
        }
        send_request(g, r, workload_next_op(w), workload_next_key(w),
                     g->next_due_ns);
        connection_flush(r->connection);
        g->next_due_ns += g->interval_ns;
    }
}

static void set_timer(struct generator *g)
{
    struct itimerspec at = {
        .it_value.tv_sec = (time_t)(g->next_due_ns / NS_PER_S),
        .it_value.tv_nsec = (long)(g->next_due_ns % NS_PER_S),
    };

    timerfd_settime(g->timer, TFD_TIMER_ABSTIME, &at, NULL);
}

/* ---- answers ------------------------------------------------------------ */

static void count(struct generator *g, const struct request *r,
                  enum outcome how)
{
    struct figures *f = g->figures;

    g->counted++;
    f->outcomes[how]++;
    if (how == OUTCOME_OK) {
        histogram_add(&f->latency_ns, g->now_ns - r->since_ns);
    } else if (how == OUTCOME_STATUS && r->grpc_status < GRPC_CODES) {
        f->codes[r->grpc_status]++;
    }
}

static void on_done(void *context, struct request *r, enum outcome how)
{
    struct generator *g = context;

    if (g->phase == PHASE_MEASURING) {
        count(g, r, how);
    } else if (g->phase == PHASE_LOADING && how != OUTCOME_OK) {
        g->n_load_failed++;
    }
    if (!send_next(g, r)) {
        connection_give_back(r->connection, r);
    }
}

/* ---- the loop ----------------------------------------------------------- */

/* Give up what has waited too long; open again what was lost. */
static void tend_connections(struct generator *g)
{
    uint64_t timeout_ns = g->config.timeout_ms * NS_PER_MS;
    const char *reason;

    for (size_t i = 0; i < g->config.connections; i++) {
        struct connection *c = g->connections[i];

        if (connection_is_open(c)) {
            connection_expire(c, g->now_ns - timeout_ns);
        } else {
            (void)connection_open(c, &reason); /* else at the next tick */
        }
        connection_flush(c);
    }
}

/* Wait for something, at most until then, and handle it. */
static void run_round(struct generator *g, uint64_t until_ns)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t wait_ns = until_ns > g->now_ns ? until_ns - g->now_ns : 0;
    int wait_ms = (int)((wait_ns + NS_PER_MS - 1) / NS_PER_MS);
    int n = epoll_wait(g->epoll, events, EVENTS_MAX, wait_ms);

    g->now_ns = clock_now_ns();
    for (int i = 0; i < n; i++) {
        struct connection *c = events[i].data.ptr;

        if (c) {
            connection_read(c);
            fill_connection(g, c); /* a connection that just came up */
            connection_flush(c);
            g->now_ns = clock_now_ns();
        }
    }
    if (g->interval_ns > 0) {
        send_due(g);
        set_timer(g);
    }
}

/* Run rounds until then, or until so many answers are counted (0: any). */
static void run_until(struct generator *g, uint64_t end_ns, uint64_t requests)
{
    uint64_t tick_ns = g->now_ns + TICK_MS * NS_PER_MS;

    while (g->now_ns < end_ns && (requests == 0 || g->counted < requests)) {
        run_round(g, tick_ns < end_ns ? tick_ns : end_ns);
        if (g->now_ns >= tick_ns) {
            tend_connections(g);
            tick_ns = g->now_ns + TICK_MS * NS_PER_MS;
        }
    }
}

/* True once nothing is in flight. */
static bool drain(struct generator *g, uint64_t end_ns)
{
    for (;;) {
        size_t in_flight = 0;

        for (size_t i = 0; i < g->config.connections; i++) {
            in_flight += connection_in_flight(g->connections[i]);
        }
        if (in_flight == 0 || g->now_ns >= end_ns) {
            return in_flight == 0;
        }
        run_round(g, end_ns);
    }
}

/* ---- life cycle --------------------------------------------------------- */

/* Wait until every server has answered with its settings. */
static bool wait_until_up(struct generator *g, char *error, size_t error_size)
{
    uint64_t end_ns = g->now_ns + g->config.timeout_ms * NS_PER_MS;

    for (size_t i = 0; i < g->config.connections; i++) {
        struct connection *c = g->connections[i];

        while (!connection_is_up(c)) {
            if (connection_is_open(c) && g->now_ns < end_ns) {
                run_round(g, end_ns);
                continue;
            }
            snprintf(error, error_size, "%s: %s",
                     g->config.addresses[i % g->config.n_addresses],
                     connection_is_open(c) ? "no answer" : connection_error(c));
            return false;
        }
    }
    return true;
}

static bool open_connections(struct generator *g, char *error,
                             size_t error_size)
{
    for (size_t i = 0; i < g->config.connections; i++) {
        struct connection_config config = {
            .address = g->config.addresses[i % g->config.n_addresses],
            .epoll = g->epoll,
            .n_requests = g->config.streams,
            .body_size_max = workload_body_size_max(g->config.workload),
            .on_done = on_done,
            .context = g,
        };
        const char *reason;

        g->connections[i] = connection_new(&config);
        if (!connection_open(g->connections[i], &reason)) {
            snprintf(error, error_size, "%s: %s", config.address, reason);
            return false;
        }
        connection_flush(g->connections[i]);
    }
    return wait_until_up(g, error, error_size);
}

struct generator *generator_new(const struct generator_config *config,
                                char *error, size_t error_size)
{
    struct generator *g = mem_alloc(1, sizeof(*g));
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};

    g->config = *config;
    g->now_ns = clock_now_ns();
    g->connections = mem_alloc(config->connections, sizeof(*g->connections));
    g->epoll = epoll_create1(EPOLL_CLOEXEC);
    g->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (g->epoll < 0 || g->timer < 0 ||
        epoll_ctl(g->epoll, EPOLL_CTL_ADD, g->timer, &event)) {
        abort();
    }
    if (!open_connections(g, error, error_size)) {
        generator_free(g);
        return NULL;
    }
    return g;
}

void generator_free(struct generator *g)
{
    for (size_t i = 0; i < g->config.connections; i++) {
        if (g->connections[i]) {
            connection_free(g->connections[i]);
        }
    }
    free(g->connections);
    close(g->epoll);
    close(g->timer);
    free(g);
}

/* ---- what it is asked to do --------------------------------------------- */

bool generator_load(struct generator *g, uint64_t timeout_ms, char *error,
                    size_t error_size)
{
    uint64_t end_ns = clock_now_ns() + timeout_ms * NS_PER_MS;
    bool done;

    g->now_ns = clock_now_ns();
    g->next_key = 0;
    g->n_load_failed = 0;
    g->phase = PHASE_LOADING;
    fill_all(g);
    done = drain(g, end_ns);
    g->phase = PHASE_IDLE;
    if (!done || g->n_load_failed > 0) {
        snprintf(
            error, error_size, "loading %llu keys: %llu sent, %llu failed%s",
            (unsigned long long)g->config.keys, (unsigned long long)g->next_key,
            (unsigned long long)g->n_load_failed, done ? "" : ", no time left");
        return false;
    }
    return true;
}

static void start(struct generator *g, const struct generator_run *run)
{
    g->now_ns = clock_now_ns();
    g->phase = PHASE_WARMING;
    g->interval_ns = run->rate_per_s > 0 ? NS_PER_S / run->rate_per_s : 0;
    g->next_due_ns = g->now_ns;
    if (g->interval_ns > 0) {
        send_due(g);
        set_timer(g);
    } else {
        fill_all(g);
    }
}

void generator_measure(struct generator *g, const struct generator_run *run,
                       struct figures *figures)
{
    uint64_t begin_ns, server_us, own_us;

    memset(figures, 0, sizeof(*figures));
    g->figures = figures;
    g->counted = 0;
    start(g, run);
    run_until(g, g->now_ns + run->warmup_ms * NS_PER_MS, 0);

    server_us = cpu_of_processes_us(g->config.pids, g->config.n_pids);
    own_us = cpu_of_self_us();
    begin_ns = g->now_ns = clock_now_ns();
    g->phase = PHASE_MEASURING;
    run_until(g, begin_ns + run->duration_ms * NS_PER_MS, run->requests);

    g->phase = PHASE_IDLE;
    figures->elapsed_ns = g->now_ns - begin_ns;
    figures->own_cpu_us = cpu_of_self_us() - own_us;
    figures->server_cpu_us =
        cpu_of_processes_us(g->config.pids, g->config.n_pids) - server_us;
    if (g->interval_ns > 0 && g->next_due_ns < g->now_ns) {
        figures->unsent = (g->now_ns - g->next_due_ns) / g->interval_ns;
    }
    g->interval_ns = 0;
    drain(g, g->now_ns + g->config.timeout_ms * NS_PER_MS);
}
