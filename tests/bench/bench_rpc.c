/*
 * bench_rpc.c - what the RPC layer costs a server for each request.
 *
 *     bench_rpc [connections] [streams] [seconds]
 *
 * A server with a trivial Range handler in one thread, a client that keeps
 * connections x streams requests in flight in another. Prints requests a
 * second and the CPU time of each thread for one request.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "etcd/rpc.pb-c.h"
#include "proto/rpc.h"

static int server_port;
static _Atomic bool stop;
static uint64_t server_cpu_ns;
static pthread_barrier_t ready;

static uint64_t cpu_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void handle_range(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__RangeRequest *request = (const void *)m;
    Etcdserverpb__RangeResponse response = ETCDSERVERPB__RANGE_RESPONSE__INIT;
    Etcdserverpb__ResponseHeader header = ETCDSERVERPB__RESPONSE_HEADER__INIT;
    Mvccpb__KeyValue kv = MVCCPB__KEY_VALUE__INIT, *kvs[] = {&kv};
    static uint8_t value[256];

    header.cluster_id = 1234567890123456789u;
    header.member_id = 1234567890123456789u;
    header.revision = 100000;
    header.raft_term = 2;
    kv.key = request->key;
    kv.create_revision = kv.mod_revision = 4711;
    kv.version = 1;
    kv.value.data = value;
    kv.value.len = sizeof(value);
    response.header = &header;
    response.n_kvs = 1;
    response.kvs = kvs;
    response.count = 1;
    rpc_call_reply(c, &response.base);
}

static const struct rpc_method methods[] = {{
    .path = "/etcdserverpb.KV/Range",
    .request = &etcdserverpb__range_request__descriptor,
    .on_message = handle_range,
}};

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    (void)context;
}

static void *run_server(void *unused)
{
    struct event_base *base = event_base_new();
    struct rpc_loop *loop = rpc_loop_new(base);
    struct rpc_limits limits;
    struct rpc_server *s;
    struct timeval often = {0, 50000};
    struct event *tick = event_new(base, -1, EV_PERSIST, on_tick, NULL);
    uint64_t start;

    (void)unused;
    rpc_limits_defaults(&limits);
    s = rpc_server_new(loop, &limits);
    rpc_server_add(s, methods, ARRAY_LENGTH(methods), NULL);
    if (rpc_server_listen(s, "127.0.0.1:0", &server_port) != 0) {
        abort();
    }
    event_add(tick, &often); /* to look at stop now and then */
    pthread_barrier_wait(&ready);
    start = cpu_ns();
    while (!stop) {
        event_base_loop(base, EVLOOP_ONCE);
        rpc_loop_flush(loop);
    }
    server_cpu_ns = cpu_ns() - start;
    event_free(tick);
    rpc_server_free(s);
    rpc_loop_free(loop);
    event_base_free(base);
    return NULL;
}

static uint64_t n_done;
static bool client_stop;
static Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;

static void start_one(struct rpc_channel *ch);

static void on_close(struct rpc_call *c, enum grpc_code code, const char *text,
                     bool maybe)
{
    (void)maybe;
    if (client_stop) {
        return;
    }
    if (code != GRPC_OK) {
        fprintf(stderr, "%s: %s\n", grpc_code_name((int)code), text);
        exit(1);
    }
    n_done++;
    start_one(rpc_call_context(c));
}

static const struct rpc_call_events call_events = {.on_close = on_close};

static void start_one(struct rpc_channel *ch)
{
    struct rpc_call *c = rpc_call_start(
        ch, "/etcdserverpb.KV/Range", &etcdserverpb__range_response__descriptor,
        NULL, 0, getenv("TIMEOUT") != NULL ? 5000 : 0, &call_events, ch);

    rpc_call_send(c, &request.base);
    rpc_call_half_close(c);
}

static size_t argument(int argc, char **argv, int i, size_t otherwise)
{
    return argc > i ? (size_t)strtoul(argv[i], NULL, 10) : otherwise;
}

static void run_client(size_t n_connections, size_t n_streams, size_t seconds)
{
    struct event_base *base = event_base_new();
    struct rpc_loop *loop = rpc_loop_new(base);
    struct rpc_channel **channels = mem_alloc(n_connections, sizeof(*channels));
    struct rpc_channel_config config = {.connect_timeout_ms = 5000};
    char address[32];
    uint64_t start, end, cpu;

    snprintf(address, sizeof(address), "127.0.0.1:%d", server_port);
    config.address = address;
    rpc_limits_defaults(&config.limits);
    request.key.data = (uint8_t *)(uintptr_t) "0123456789abcdef";
    request.key.len = 16;
    for (size_t i = 0; i < n_connections; i++) {
        channels[i] = rpc_channel_new(loop, &config);
        for (size_t j = 0; j < n_streams; j++) {
            start_one(channels[i]);
        }
    }
    start = clock_us();
    cpu = cpu_ns();
    end = start + seconds * 1000000;
    while (clock_us() < end) {
        event_base_loop(base, EVLOOP_ONCE);
        rpc_loop_flush(loop);
    }
    end = clock_us();
    cpu = cpu_ns() - cpu;
    stop = true;
    client_stop = true;
    printf("%zu x %zu: %.1f k/s, client %.2f us CPU each, ", n_connections,
           n_streams, (double)n_done * 1e3 / (double)(end - start),
           (double)cpu / 1e3 / (double)n_done);
    for (size_t i = 0; i < n_connections; i++) {
        rpc_channel_free(channels[i]);
    }
    rpc_loop_free(loop);
    event_base_free(base);
    free(channels);
}

int main(int argc, char **argv)
{
    size_t n_connections = argument(argc, argv, 1, 100);
    size_t n_streams = argument(argc, argv, 2, 10);
    size_t seconds = argument(argc, argv, 3, 3);
    pthread_t server;

    pthread_barrier_init(&ready, NULL, 2);
    pthread_create(&server, NULL, run_server, NULL);
    pthread_barrier_wait(&ready);
    run_client(n_connections, n_streams, seconds);
    pthread_join(server, NULL);
    printf("server %.2f us CPU each\n",
           (double)server_cpu_ns / 1e3 / (double)n_done);
    return 0;
}
