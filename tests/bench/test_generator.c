/*
 * test_generator.c - what the generator reports about a server whose answers
 * are known: a thread that answers puts and gets of its own making.
 */
#include "tests/bench/generator.h"

#include <check.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "etcd/rpc.pb-c.h"
#include "proto/rpc.h"
#include "tests/suite.h"

enum { VALUE_SIZE = 64 };

/* ---- the server --------------------------------------------------------- */

/* What it does to gets; puts are always answered. */
enum behaviour { ANSWER, ANSWER_WITHOUT_VALUE, REFUSE, KEEP_SILENT };

static enum behaviour behaviour;
static atomic_uint puts_seen;
static int stop_pipe[2];
static pthread_barrier_t listening;
static pthread_t thread;
static char address[32]; /* the last server's */

static void on_put(struct rpc_call *c, const ProtobufCMessage *m)
{
    Etcdserverpb__PutResponse rs = ETCDSERVERPB__PUT_RESPONSE__INIT;

    (void)m;
    puts_seen++;
    rpc_call_reply(c, &rs.base);
}

static void on_get(struct rpc_call *c, const ProtobufCMessage *m)
{
    Etcdserverpb__RangeResponse rs = ETCDSERVERPB__RANGE_RESPONSE__INIT;
    Mvccpb__KeyValue kv = MVCCPB__KEY_VALUE__INIT, *kvs[] = {&kv};
    static uint8_t value[VALUE_SIZE];

    kv.key = ((const Etcdserverpb__RangeRequest *)m)->key;
    kv.value.data = value;
    kv.value.len = behaviour == ANSWER ? VALUE_SIZE : 0;
    rs.n_kvs = 1;
    rs.kvs = kvs;
    if (behaviour == REFUSE) {
        rpc_call_finish(c, GRPC_UNAVAILABLE, "etcdserver: no leader");
    } else if (behaviour != KEEP_SILENT) {
        rpc_call_reply(c, &rs.base);
    }
}

static const struct rpc_method methods[] = {
    {.path = "/etcdserverpb.KV/Put",
     .request = &etcdserverpb__put_request__descriptor,
     .on_message = on_put},
    {.path = "/etcdserverpb.KV/Range",
     .request = &etcdserverpb__range_request__descriptor,
     .on_message = on_get},
};

static void on_stop(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    *(bool *)context = true;
}

static void *serve(void *unused)
{
    struct event_base *base = event_base_new();
    struct rpc_loop *loop = rpc_loop_new(base);
    struct rpc_limits limits;
    struct rpc_server *server;
    bool stop = false;
    struct event *stopper =
        event_new(base, stop_pipe[0], EV_READ, on_stop, &stop);
    int port = 0;

    (void)unused;
    rpc_limits_defaults(&limits);
    server = rpc_server_new(loop, &limits);
    rpc_server_add(server, methods, ARRAY_LENGTH(methods), NULL);
    ck_assert_int_eq(rpc_server_listen(server, address, &port), 0);
    snprintf(address, sizeof(address), "127.0.0.1:%d", port);
    event_add(stopper, NULL);
    pthread_barrier_wait(&listening);
    while (!stop) {
        event_base_loop(base, EVLOOP_ONCE);
        rpc_loop_flush(loop);
    }
    event_free(stopper);
    rpc_server_free(server);
    rpc_loop_free(loop);
    event_base_free(base);
    return NULL;
}

static void start_server_again(enum behaviour b)
{
    behaviour = b;
    puts_seen = 0;
    ck_assert_int_eq(pipe(stop_pipe), 0);
    pthread_barrier_init(&listening, NULL, 2);
    ck_assert_int_eq(pthread_create(&thread, NULL, serve, NULL), 0);
    pthread_barrier_wait(&listening);
}

static void start_server(enum behaviour b)
{
    snprintf(address, sizeof(address), "127.0.0.1:0");
    start_server_again(b);
}

static void stop_server(void)
{
    ck_assert_int_eq(write(stop_pipe[1], "", 1), 1);
    pthread_join(thread, NULL);
    close(stop_pipe[0]);
    close(stop_pipe[1]);
    pthread_barrier_destroy(&listening);
}

/* ---- the generator ------------------------------------------------------ */

static struct workload *workload;
static struct generator *generator;
static struct figures figures;
static char error[256];

static void open_generator(int put_percent, uint64_t timeout_ms)
{
    struct workload_config w = {.put_percent = put_percent,
                                .get_percent = 100 - put_percent,
                                .keys = 100,
                                .key_size = 16,
                                .value_size = VALUE_SIZE,
                                .seed = 1};
    static const char *addresses[] = {address};
    struct generator_config g = {.addresses = addresses,
                                 .n_addresses = 1,
                                 .connections = 3,
                                 .streams = 4,
                                 .timeout_ms = timeout_ms,
                                 .keys = w.keys};

    g.workload = workload = workload_new(&w);
    generator = generator_new(&g, error, sizeof(error));
}

static void close_generator(void)
{
    generator_free(generator);
    workload_free(workload);
}

static void measure(uint64_t requests, uint64_t rate_per_s)
{
    struct generator_run run = {
        .duration_ms = 20000, .requests = requests, .rate_per_s = rate_per_s};

    generator_measure(generator, &run, &figures);
}

START_TEST(answers_are_counted)
{
    start_server(ANSWER);
    open_generator(50, 10000);
    measure(5000, 0);
    ck_assert_uint_ge(figures.outcomes[OUTCOME_OK], 5000);
    ck_assert_uint_lt(figures.outcomes[OUTCOME_OK], 5000 + 3 * 4);
    ck_assert_uint_eq(figures.latency_ns.total, figures.outcomes[OUTCOME_OK]);
    ck_assert_uint_gt(figures.elapsed_ns, 0);
    ck_assert_uint_gt(figures.own_cpu_us, 0);
    close_generator();
    stop_server();
}
END_TEST

START_TEST(loading_puts_every_key_once)
{
    start_server(ANSWER);
    open_generator(0, 10000);
    ck_assert(generator_load(generator, 10000, error, sizeof(error)));
    ck_assert_uint_eq(puts_seen, 100);
    close_generator();
    stop_server();
}
END_TEST

START_TEST(a_status_is_an_error_of_its_kind)
{
    start_server(REFUSE);
    open_generator(0, 10000);
    measure(100, 0);
    ck_assert_uint_eq(figures.outcomes[OUTCOME_OK], 0);
    ck_assert_uint_ge(figures.outcomes[OUTCOME_STATUS], 100);
    ck_assert_uint_eq(figures.codes[GRPC_UNAVAILABLE],
                      figures.outcomes[OUTCOME_STATUS]);
    close_generator();
    stop_server();
}
END_TEST

START_TEST(an_answer_without_the_value_is_an_error)
{
    start_server(ANSWER_WITHOUT_VALUE);
    open_generator(0, 10000);
    measure(100, 0);
    ck_assert_uint_eq(figures.outcomes[OUTCOME_OK], 0);
    ck_assert_uint_ge(figures.outcomes[OUTCOME_SHORT], 100);
    close_generator();
    stop_server();
}
END_TEST

START_TEST(silence_is_a_timeout)
{
    start_server(KEEP_SILENT);
    open_generator(0, 50);
    measure(12, 0);
    ck_assert_uint_ge(figures.outcomes[OUTCOME_TIMEOUT], 12);
    close_generator();
    stop_server();
}
END_TEST

START_TEST(open_loop_is_not_ahead_of_its_rate)
{
    start_server(ANSWER);
    open_generator(100, 10000);
    measure(500, 1000); /* half a second, however fast the answers come */
    ck_assert_uint_ge(figures.elapsed_ns, UINT64_C(450) * 1000000);
    ck_assert_uint_ge(figures.outcomes[OUTCOME_OK], 500);
    close_generator();
    stop_server();
}
END_TEST

START_TEST(lost_connections_are_counted_and_opened_again)
{
    struct generator_run run = {.duration_ms = 100};

    start_server(ANSWER);
    open_generator(100, 10000);
    measure(100, 0);
    ck_assert_uint_ge(figures.outcomes[OUTCOME_OK], 100);
    stop_server();
    generator_measure(generator, &run, &figures);
    ck_assert_uint_eq(figures.outcomes[OUTCOME_OK], 0);
    /* Each place sends once, and not again before there is an answerer. */
    ck_assert_uint_eq(figures.outcomes[OUTCOME_LOST], 3 * 4);
    start_server_again(ANSWER);
    measure(100, 0);
    ck_assert_uint_ge(figures.outcomes[OUTCOME_OK], 100);
    close_generator();
    stop_server();
}
END_TEST

START_TEST(nobody_listening_is_told)
{
    start_server(ANSWER);
    stop_server(); /* its port is free now */
    open_generator(100, 10000);
    ck_assert_ptr_null(generator);
    ck_assert_ptr_nonnull(strstr(error, "127.0.0.1"));
    workload_free(workload);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("generator");
    TCase *tc = tcase_create("figures");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, answers_are_counted);
    tcase_add_test(tc, loading_puts_every_key_once);
    tcase_add_test(tc, a_status_is_an_error_of_its_kind);
    tcase_add_test(tc, an_answer_without_the_value_is_an_error);
    tcase_add_test(tc, silence_is_a_timeout);
    tcase_add_test(tc, open_loop_is_not_ahead_of_its_rate);
    tcase_add_test(tc, lost_connections_are_counted_and_opened_again);
    tcase_add_test(tc, nobody_listening_is_told);
    suite_add_tcase(suite, tc);
    return suite_main(suite);
}
