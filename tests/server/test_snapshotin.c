/*
 * test_snapshotin.c - a member that is sent chunks: good ones, bad ones, and a
 * stream that breaks.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raft/base.h"
#include "server/snapshot.h"
#include "server/snapshotfile.h"
#include "tests/server/machine.h"
#include "tests/server/suite.h"

#define CLUSTER 77
#define SENDER 1
#define RECEIVER 2
#define CHUNK ((size_t)64 << 10)

static struct event_base *base;
static struct event *tick;
static struct rpc_loop *loop;
static struct peers *peers;
static struct node *node;
static struct applier *applier;
static struct statedb *statedb;
static struct statethread *statethread;
static struct snapshots *snapshots;
static struct rpc_server *server;
static struct rpc_channel *channel;
static struct machine m; /* the sender's */
static char data_dir[300], copy_path[340], error[512];
static struct snapshot_header header;
static uint8_t *bytes; /* of the copy */

/* What the receiver said. */
static struct rpc_call *call;
static bool answered, installed, closed;
static uint64_t offset;
static enum grpc_code code;

/* ---- the receiver's world ---------------------------------------------------
 */

static uint64_t now_ms(void *context)
{
    (void)context;
    return clock_ms();
}

/* A disk that has all at once; the next turn tells. */
static uint64_t batch;

static void log_append(void *context, const struct raft_ready *rd)
{
    (void)context;
    batch = rd->batch;
}

static void log_compact(void *context, raft_index index,
                        const struct raft_configuration *configuration)
{
    (void)context;
    (void)index;
    (void)configuration;
}

static void send_nothing(void *context, const struct raft_message *messages,
                         size_t n)
{
    (void)context;
    (void)messages;
    (void)n;
}

static void state_write(void *context, struct changeset *c)
{
    (void)context;
    statethread_write(statethread, c);
}

static void members(void *context, const struct member *list, size_t n)
{
    (void)context;
    peers_set_members(peers, list, n);
}

static void persisted(void *context, raft_index index)
{
    (void)context;
    node_persisted(node, index);
}

/* Only so that a turn ends; the node's time stands still: no elections. */
static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
}

static void turn(void)
{
    if (batch != 0) {
        node_stable(node, batch);
        batch = 0;
    }
    node_round(node);
    rpc_loop_flush(loop);
    event_base_loop(base, EVLOOP_ONCE);
}

static void start_ticking(void)
{
    struct timeval tv = {.tv_usec = 5000};

    tick = event_new(base, -1, EV_PERSIST, on_tick, NULL);
    event_add(tick, &tv);
}

static uint8_t *founding_entry(struct raft_entry *e)
{
    struct raft_server servers[] = {{1, RAFT_VOTER}, {2, RAFT_VOTER}};
    char url[] = "http://127.0.0.1:1", *urls = url, name[] = "";
    struct member list[] = {
        {.id = 1, .name = name, .peer_urls = &urls, .n_peer_urls = 1},
        {.id = 2, .name = name, .peer_urls = &urls, .n_peer_urls = 1},
    };
    struct raft_configuration c = {.servers = servers, .n_servers = 2};
    uint8_t *data;

    *e = (struct raft_entry){.index = 1, .term = 1, .type = RAFT_ENTRY_CONFIG};
    c.extra = members_encode(list, 2, NULL, &c.extra_size);
    data = raft_configuration_encode(&c, &e->size);
    e->data = data;
    free(c.extra);
    return data;
}

static void drop_forward(void *context, raft_id to,
                         const Pawl__Peer__V1__Forward *item)
{
    (void)context;
    (void)to;
    (void)item;
}

static void build_node(const struct raft_entry *founding)
{
    struct node_config config;
    struct node_env env = {
        .now_ms = now_ms,
        .log_append = log_append,
        .log_compact = log_compact,
        .send = send_nothing,
        .forward = drop_forward,
        .state_write = state_write,
        .members = members,
    };
    struct raft_start start = {.hard_state = {.term = 1, .commit = 1},
                               .entries = founding,
                               .n_entries = 1};

    node_config_defaults(&config);
    config.id = RECEIVER;
    config.incarnation = 9;
    node = node_new(&config, &env, &start, applier);
    peers_set_node(peers, node);
    while (applier_index(applier) < 1) {
        turn();
    }
}

/* The sender's state: the founding entry, and some keys. */
static void make_copy(const struct raft_entry *founding)
{
    char source[340], value[2000];
    struct statedb *db;
    struct statedb_copy *c;
    struct changeset *changes;
    bool done = false;
    FILE *f;

    snprintf(source, sizeof(source), "%s/source.db", data_dir);
    snprintf(copy_path, sizeof(copy_path), "%s/copy.db", data_dir);
    machine_entry(&m, RAFT_ENTRY_CONFIG, founding->data, founding->size);
    memset(value, 'x', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    for (int i = 0; i < 200; i++) {
        char key[16];

        snprintf(key, sizeof(key), "k%d", i);
        machine_put(&m, key, value, 0);
    }
    ck_assert_int_eq(
        statedb_open(source, NULL, CLUSTER, SENDER, &db, error, sizeof(error)),
        STATEDB_OK);
    changes = applier_take_changes(m.applier);
    ck_assert_int_eq(statedb_write(db, &changes, 1), STATEDB_OK);
    changeset_free(changes);
    c = statedb_copy_begin(db, copy_path, error, sizeof(error));
    while (!done) {
        ck_assert(statedb_copy_step(c, 100, &done, error, sizeof(error)));
    }
    statedb_copy_end(c);
    statedb_close(db);
    ck_assert(snapshot_describe(copy_path, &header, error, sizeof(error)));
    bytes = mem_alloc(header.size, 1);
    f = fopen(copy_path, "re");
    ck_assert_uint_eq(fread(bytes, 1, header.size, f), header.size);
    ck_assert_int_eq(fclose(f), 0);
}

static void serve(void)
{
    struct snapshots_config config = {.data_dir = data_dir,
                                      .cluster_id = CLUSTER,
                                      .self = RECEIVER,
                                      .bytes_per_second = 1 << 20,
                                      .log_keep_entries = 100};
    struct snapshots_parts parts = {loop, peers, node, statedb, statethread};
    struct rpc_limits limits;
    struct rpc_channel_config cc = {.connect_timeout_ms = 2000};
    char address[32];
    int port;

    rpc_limits_defaults(&limits);
    server = rpc_server_new(loop, &limits);
    snapshots = snapshots_new(&config, &parts);
    snapshots_serve(snapshots, server);
    ck_assert_int_eq(rpc_server_listen(server, "127.0.0.1:0", &port), 0);
    snprintf(address, sizeof(address), "127.0.0.1:%d", port);
    cc.address = address;
    rpc_limits_defaults(&cc.limits);
    channel = rpc_channel_new(loop, &cc);
}

static void setup(void)
{
    struct peers_config pc = {
        .cluster_id = CLUSTER, .self = RECEIVER, .incarnation = 9};
    struct raft_entry founding;
    uint8_t *data = founding_entry(&founding);
    char state[340];

    snprintf(data_dir, sizeof(data_dir), "%s", suite_directory());
    snprintf(state, sizeof(state), "%s/state.db", data_dir);
    machine_init(&m, NULL, NULL);
    m.term = 1;
    base = event_base_new();
    start_ticking();
    loop = rpc_loop_new(base);
    peers = peers_new(loop, &pc);
    ck_assert_int_eq(statedb_open(state, NULL, CLUSTER, RECEIVER, &statedb,
                                  error, sizeof(error)),
                     STATEDB_OK);
    applier = applier_new(statedb_fetch, statedb);
    statethread = statethread_new(base, statedb, persisted, NULL);
    build_node(&founding);
    make_copy(&founding);
    raft_free(data);
    serve();
}

static void teardown(void)
{
    char command[400];

    rpc_channel_free(channel);
    rpc_server_free(server);
    snapshots_stop(snapshots);
    statethread_free(statethread);
    snapshots_free(snapshots);
    node_free(node);
    peers_free(peers);
    rpc_loop_free(loop);
    applier_free(applier);
    statedb_close(statedb);
    event_free(tick);
    event_base_free(base);
    machine_release(&m);
    snapshot_header_release(&header);
    free(bytes);
    snprintf(command, sizeof(command), "rm -r '%s/snapshot'", data_dir);
    ck_assert_int_eq(system(command), 0);
}

/* ---- the sender -------------------------------------------------------------
 */

static void on_ack(struct rpc_call *c, const ProtobufCMessage *message)
{
    const Pawl__Peer__V1__SnapshotAck *ack =
        (const Pawl__Peer__V1__SnapshotAck *)message;

    (void)c;
    answered = true;
    installed = installed || ack->installed;
    offset = ack->offset;
}

static void on_close(struct rpc_call *c, enum grpc_code how, const char *text,
                     bool maybe_processed)
{
    (void)c;
    (void)text;
    (void)maybe_processed;
    closed = true;
    code = how;
    call = NULL;
}

static const struct rpc_call_events events = {on_ack, on_close};

static void greet(void)
{
    Pawl__Peer__V1__SnapshotChunk first = PAWL__PEER__V1__SNAPSHOT_CHUNK__INIT;
    Pawl__Peer__V1__Hello hello = PAWL__PEER__V1__HELLO__INIT;
    Pawl__Peer__V1__SnapshotHeader h;

    answered = installed = closed = false;
    hello.cluster = CLUSTER;
    hello.from = SENDER;
    hello.to = RECEIVER;
    hello.incarnation = 4;
    hello.version = 1;
    snapshot_header_encode(&header, &h);
    first.hello = &hello;
    first.header = &h;
    call = rpc_call_start(channel, "/pawl.peer.v1.Peer/Snapshot",
                          &pawl__peer__v1__snapshot_ack__descriptor, NULL, 0,
                          10000, &events, NULL);
    rpc_call_send(call, &first.base);
    while (!answered && !closed) {
        turn();
    }
}

static void send_chunk(uint64_t at, size_t size, uint64_t checksum)
{
    Pawl__Peer__V1__SnapshotChunk c = PAWL__PEER__V1__SNAPSHOT_CHUNK__INIT;

    c.offset = at;
    c.data.data = bytes + at;
    c.data.len = size;
    c.checksum = checksum;
    rpc_call_send(call, &c.base);
}

static void send_good(uint64_t at)
{
    size_t size = header.size - at < CHUNK ? header.size - at : CHUNK;

    send_chunk(at, size, snapshot_checksum(at, bytes + at, size));
}

static void send_rest(void)
{
    for (uint64_t at = offset; at < header.size && call != NULL; at += CHUNK) {
        send_good(at);
    }
    while (!closed) {
        turn();
    }
}

static void expect_old_state(void)
{
    struct kv_change pair;

    ck_assert(!installed);
    ck_assert_uint_eq(applier_index(applier), 1);
    ck_assert(!kv_get(applier_kv(applier), text_slice("k0"), &pair));
}

/* ---- tests ------------------------------------------------------------------
 */

START_TEST(D5_a_whole_snapshot_is_installed_and_a_second_one_is_stale)
{
    struct raft *r = node_raft(node);
    struct kv_change pair;

    greet();
    ck_assert_uint_eq(offset, 0);
    send_rest();
    ck_assert_int_eq(code, GRPC_OK);
    ck_assert(installed);
    ck_assert_uint_eq(applier_digest(applier), applier_digest(m.applier));
    ck_assert_uint_eq(raft_last_applied(r), header.index);
    ck_assert_uint_eq(raft_first_index(r), header.index + 1);
    ck_assert(kv_get(applier_kv(applier), text_slice("k0"), &pair));
    greet(); /* a duplicate: told at once, and nothing is touched */
    ck_assert(installed);
    while (!closed) {
        turn();
    }
    ck_assert_int_eq(code, GRPC_OK);
}
END_TEST

static void send_bad(int kind)
{
    uint64_t good = snapshot_checksum(0, bytes, CHUNK);

    switch (kind) {
    case 0: /* damaged on the way */
        send_chunk(0, CHUNK, good ^ 1);
        break;
    case 1: /* a hole */
        send_good(CHUNK);
        break;
    case 2: /* twice the same */
        send_good(0);
        send_good(0);
        break;
    case 3: /* nothing */
        send_chunk(0, 0, snapshot_checksum(0, bytes, 0));
        break;
    default: /* another chunk's bytes under this offset */
        send_chunk(0, CHUNK, snapshot_checksum(CHUNK, bytes, CHUNK));
        break;
    }
}

START_TEST(D5_a_bad_chunk_ends_the_stream_and_leaves_the_state)
{
    greet();
    send_bad(_i);
    while (!closed) {
        turn();
    }
    ck_assert_int_eq(code, GRPC_DATA_LOSS);
    expect_old_state();
    do { /* the next stream comes through once the last one is put away */
        greet();
    } while (closed);
    send_rest();
    ck_assert(installed);
    ck_assert_uint_eq(applier_digest(applier), applier_digest(m.applier));
}
END_TEST

/* Every chunk's checksum is right, but the whole is not what was announced. */
START_TEST(D5_a_copy_that_is_not_its_header_s_is_dropped)
{
    bytes[header.size / 2] ^= 1;
    greet();
    send_rest();
    ck_assert_int_eq(code, GRPC_DATA_LOSS);
    expect_old_state();
    bytes[header.size / 2] ^= 1;
    do {
        greet();
    } while (closed);
    ck_assert_uint_eq(offset, 0); /* begun anew */
    send_rest();
    ck_assert(installed);
}
END_TEST

START_TEST(D8_a_broken_stream_makes_way_for_the_next)
{
    greet();
    send_good(0);
    rpc_loop_flush(loop);
    rpc_call_cancel(call);
    do {
        greet();
    } while (closed);
    send_rest();
    ck_assert(installed);
    ck_assert_uint_eq(applier_digest(applier), applier_digest(m.applier));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("snapshotin");
    TCase *tc = tcase_create("snapshotin");
    SRunner *runner = srunner_create(s);
    int failed;

    tcase_add_checked_fixture(tc, NULL, suite_cleanup);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 20);
    tcase_add_test(tc,
                   D5_a_whole_snapshot_is_installed_and_a_second_one_is_stale);
    tcase_add_loop_test(tc, D5_a_bad_chunk_ends_the_stream_and_leaves_the_state,
                        0, 5);
    tcase_add_test(tc, D5_a_copy_that_is_not_its_header_s_is_dropped);
    tcase_add_test(tc, D8_a_broken_stream_makes_way_for_the_next);
    suite_add_tcase(s, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
