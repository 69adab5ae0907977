/*
 * test_rpc.c - calls and streams, both sides in one process.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc_world.h"
#include "tests/suite.h"

static struct world w;
static struct result r;

static void setup(void)
{
    world_init(&w);
    world_start(&w);
    r = (struct result){0};
}

static void teardown(void)
{
    world_release(&w);
    result_release(&r);
}

/* ---- the four kinds -------------------------------------------------- */

START_TEST(unary_call_gets_its_answer)
{
    world_unary(&w, &r, "/test.T/Echo", "hello", 42);
    ck_assert_int_eq(r.code, GRPC_OK);
    ck_assert_int_eq(r.n_messages, 1);
    ck_assert_int_eq(r.count, 42);
    ck_assert(result_key_is(&r, "hello"));
    ck_assert_str_eq(r.text, "");
    ck_assert(r.maybe_processed);
    ck_assert_int_eq(w.n_up, 1);
    ck_assert_int_eq(w.n_closed, 0); /* finish() is the last word */
}
END_TEST

START_TEST(empty_message_is_a_message)
{
    world_unary(&w, &r, "/test.T/Echo", "", 0);
    ck_assert_int_eq(r.code, GRPC_OK);
    ck_assert_int_eq(r.n_messages, 1);
}
END_TEST

START_TEST(server_stream_sends_all_in_order)
{
    world_unary(&w, &r, "/test.T/List", "x", 1000);
    ck_assert_int_eq(r.code, GRPC_OK);
    ck_assert_int_eq(r.n_messages, 1000);
    ck_assert_int_eq(r.count, 999);
}
END_TEST

START_TEST(server_stream_may_be_empty)
{
    world_unary(&w, &r, "/test.T/List", "x", 0);
    ck_assert_int_eq(r.code, GRPC_OK);
    ck_assert_int_eq(r.n_messages, 0);
}
END_TEST

START_TEST(client_stream_is_answered_once_at_its_end)
{
    struct rpc_call *c = world_call(&w, &r, "/test.T/Sum", 0);

    for (int i = 0; i < 100; i++) {
        world_send(c, "abc", 3, 0);
        if (i % 10 == 0) {
            world_round(&w);
        }
    }
    ck_assert_int_eq(r.n_messages, 0);
    rpc_call_half_close(c);
    world_wait(&w, &r.closed);
    ck_assert_int_eq(r.code, GRPC_OK);
    ck_assert_int_eq(r.count, 100);
    ck_assert(result_key_is(&r, "300"));
}
END_TEST

START_TEST(bidi_stream_answers_each_message_while_open)
{
    struct rpc_call *c = world_call(&w, &r, "/test.T/Chat", 0);

    for (int i = 1; i <= 50; i++) {
        world_send(c, "ping", 4, i);
        world_until(&w, r.n_messages == i);
        ck_assert_int_eq(r.count, i);
    }
    ck_assert_int_eq(w.n_opened, 1);
    ck_assert_int_eq(w.n_half_closed, 0);
    rpc_call_half_close(c);
    world_wait(&w, &r.closed);
    ck_assert_int_eq(r.code, GRPC_OK);
    ck_assert_int_eq(w.n_half_closed, 1);
}
END_TEST

START_TEST(stream_is_opened_by_its_headers_alone)
{
    world_call(&w, &r, "/test.T/Chat", 0);
    world_until(&w, w.n_opened == 1);
    ck_assert_int_eq(r.n_messages, 0);
}
END_TEST

/* ---- status ---------------------------------------------------------- */

START_TEST(status_and_text_arrive_as_they_were_given)
{
    static const struct {
        int code;
        const char *text;
    } rows[] = {
        {1, "context canceled"},
        {3, "etcdserver: key is not provided"},
        {9, "100% sure\n\ttab"},
        {14, "gr\xc3\xbc\xc3\x9f"},
        {16, ""},
    };

    world_unary(&w, &r, "/test.T/Fail", rows[_i].text, rows[_i].code);
    ck_assert_int_eq((int)r.code, rows[_i].code);
    ck_assert_str_eq(r.text, rows[_i].text);
    ck_assert_int_eq(r.n_messages, 0);
}
END_TEST

START_TEST(unknown_names_are_unimplemented)
{
    static const char *const rows[][2] = {
        {"/test.T/Nothing", "unknown method Nothing for service test.T"},
        {"/test.Other/Echo", "unknown service test.Other"},
        {"/test.T", "malformed method name: \"/test.T\""},
        {"/", "malformed method name: \"/\""},
        {"/a/b/c", "unknown service a/b"},
        {"/test.T/", "unknown method  for service test.T"},
    };

    world_unary(&w, &r, rows[_i][0], "x", 0);
    ck_assert_int_eq(r.code, GRPC_UNIMPLEMENTED);
    ck_assert_str_eq(r.text, rows[_i][1]);
}
END_TEST

/* ---- metadata -------------------------------------------------------- */

START_TEST(metadata_arrives)
{
    static const uint8_t raw[] = {0, 1, 2, 0xff, 0xfe, ',', 0};
    const struct rpc_metadata metadata[] = {
        {"token", {(const uint8_t *)"abc.9", 5}},
        {"pawl-fence-key-bin", {raw, sizeof(raw)}},
        {"empty", {(const uint8_t *)"", 0}},
    };
    static const struct {
        const char *name;
        bool found;
        size_t size;
        const void *data;
    } rows[] = {
        {"token", true, 5, "abc.9"},
        {"pawl-fence-key-bin", true, sizeof(raw), raw},
        {"empty", true, 0, ""},
        {"absent", false, 0, ""},
        {"te", false, 0, ""},
    };

    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        struct result got = {0};
        struct rpc_call *c =
            rpc_call_start(w.channel, "/test.T/Metadata",
                           &etcdserverpb__range_response__descriptor, metadata,
                           ARRAY_LENGTH(metadata), 0, &world_events, &got);

        world_send(c, rows[i].name, strlen(rows[i].name), 0);
        rpc_call_half_close(c);
        world_wait(&w, &got.closed);
        ck_assert_int_eq(got.count, rows[i].found);
        ck_assert_uint_eq(got.key.size, rows[i].size);
        ck_assert(rows[i].size == 0 ||
                  memcmp(got.key.data, rows[i].data, rows[i].size) == 0);
        result_release(&got);
    }
}
END_TEST

static char seen_peer[64];

static void note_peer(struct world *world, struct rpc_call *c)
{
    (void)world;
    snprintf(seen_peer, sizeof(seen_peer), "%s", rpc_call_peer(c));
}

START_TEST(peer_is_known)
{
    w.in_message = note_peer;
    world_unary(&w, &r, "/test.T/Echo", "x", 0);
    ck_assert(strncmp(seen_peer, "127.0.0.1:", 10) == 0);
    ck_assert_int_ne(strtol(seen_peer + 10, NULL, 10), w.port);
}
END_TEST

/* ---- sizes ----------------------------------------------------------- */

/* Sizes around what frames, windows and buffers are cut at. */
START_TEST(large_messages_go_both_ways)
{
    static const size_t rows[] = {16379,   16384,    65535,    65536,
                                  1 << 20, 2097100u, 1040000u, 131072};
    size_t size = rows[_i];
    char *key = mem_alloc(size + 1, 1);

    memset(key, 'k', size);
    for (int i = 0; i < 3; i++) {
        struct result got = {0};

        key[size / 2] = (char)('0' + i);
        world_unary(&w, &got, "/test.T/Echo", key, 0);
        ck_assert_int_eq(got.code, GRPC_OK);
        ck_assert(result_key_is(&got, key));
        result_release(&got);
    }
    free(key);
}
END_TEST

START_TEST(message_at_the_limit_passes_and_one_byte_more_does_not)
{
    size_t limit = w.limits.message_bytes_max;
    size_t size = limit - 4; /* a tag, and a length in 3 bytes */
    char *key = mem_alloc(size + 2, 1), want[128];
    struct result got = {0};

    memset(key, 'k', size);
    world_unary(&w, &r, "/test.T/Sum", key, 0);
    ck_assert_int_eq(r.code, GRPC_OK);
    key[size] = 'k';
    world_unary(&w, &got, "/test.T/Sum", key, 0);
    ck_assert_int_eq(got.code, GRPC_RESOURCE_EXHAUSTED);
    snprintf(want, sizeof(want),
             "grpc: received message larger than max (%zu vs. %zu)", limit + 1,
             limit);
    ck_assert_str_eq(got.text, want);
    ck_assert_int_eq(w.n_closed, 1); /* its handler had been opened */
    result_release(&got);
    free(key);
}
END_TEST

START_TEST(answer_above_the_channels_limit_is_refused)
{
    struct rpc_limits small = w.limits;
    struct rpc_channel *all = w.channel;

    w.limits.message_bytes_max = 1000;
    w.channel = world_channel(&w, w.address);
    world_unary(&w, &r, "/test.T/List",
                "0123456789012345678901234567890123456789", 1);
    ck_assert_int_eq(r.code, GRPC_OK);
    r = (struct result){.key = r.key};
    {
        char key[2000];

        memset(key, 'k', sizeof(key));
        key[1999] = '\0';
        world_unary(&w, &r, "/test.T/Echo", key, 0);
    }
    ck_assert_int_eq(r.code, GRPC_RESOURCE_EXHAUSTED);
    rpc_channel_free(w.channel);
    w.channel = all;
    w.limits = small;
}
END_TEST

START_TEST(many_streams_at_once)
{
    enum { N = 2000 };
    struct result *results = mem_alloc(N, sizeof(*results));

    for (int i = 0; i < N; i++) {
        struct rpc_call *c = world_call(&w, &results[i], "/test.T/Echo", 0);
        char key[16];

        snprintf(key, sizeof(key), "%d", i);
        world_send(c, key, strlen(key), i);
        rpc_call_half_close(c);
    }
    for (int i = 0; i < N; i++) {
        char key[16];

        world_wait(&w, &results[i].closed);
        snprintf(key, sizeof(key), "%d", i);
        ck_assert_int_eq(results[i].code, GRPC_OK);
        ck_assert(result_key_is(&results[i], key));
        result_release(&results[i]);
    }
    ck_assert_int_eq(w.n_up, 1); /* all on one connection */
    free(results);
}
END_TEST

START_TEST(channel_keeps_to_the_servers_stream_limit)
{
    enum { N = 50 };
    struct result results[N] = {0};
    struct rpc_figures figures;

    teardown();
    world_init(&w);
    w.limits.streams_max = 3;
    world_start(&w);
    for (int i = 0; i < N; i++) {
        world_send(world_call(&w, &results[i], "/test.T/Chat", 0), "x", 1, i);
    }
    world_until(&w, w.n_opened == 3);
    for (int i = 0; i < 5; i++) {
        world_round(&w);
    }
    rpc_server_get_figures(w.server, &figures);
    ck_assert_uint_eq(figures.calls_now, 3);
    for (int i = 0; i < N; i++) {
        world_until(&w, results[i].n_messages == 1);
        rpc_call_half_close(results[i].call);
        world_wait(&w, &results[i].closed);
        ck_assert_int_eq(results[i].code, GRPC_OK);
        result_release(&results[i]);
    }
}
END_TEST

/* ---- deadlines
 * ---------------------------------------------------------------- */

START_TEST(deadline_ends_a_call_on_both_sides)
{
    struct rpc_call *c = world_call(&w, &r, "/test.T/Hold", 50);
    uint64_t start = clock_ms();

    world_send(c, "x", 1, 0);
    rpc_call_half_close(c);
    world_wait(&w, &r.closed);
    ck_assert_int_eq(r.code, GRPC_DEADLINE_EXCEEDED);
    ck_assert_str_eq(r.text, "context deadline exceeded");
    ck_assert(r.maybe_processed);
    ck_assert_uint_ge(clock_ms() - start, 49);
    world_until(&w, w.n_closed == 1);
    ck_assert_ptr_null(w.held);
}
END_TEST

static uint64_t seen_deadline;

static void note_deadline(struct world *world, struct rpc_call *c)
{
    (void)world;
    seen_deadline = rpc_call_deadline(c);
}

START_TEST(handler_sees_the_deadline)
{
    struct rpc_call *c = world_call(&w, &r, "/test.T/Echo", 60000);
    uint64_t now = clock_ms();

    w.in_message = note_deadline;
    world_send(c, "x", 1, 0);
    rpc_call_half_close(c);
    world_wait(&w, &r.closed);
    ck_assert_int_eq(r.code, GRPC_OK);
    ck_assert_uint_ge(seen_deadline, now + 59000);
    ck_assert_uint_le(seen_deadline, clock_ms() + 60000);
}
END_TEST

START_TEST(call_without_deadline_has_none)
{
    seen_deadline = 1;
    w.in_message = note_deadline;
    world_unary(&w, &r, "/test.T/Echo", "x", 0);
    ck_assert_uint_eq(seen_deadline, 0);
}
END_TEST

/* ---- cancelling
 * ----------------------------------------------------------------- */

START_TEST(client_cancel_closes_the_handler)
{
    struct rpc_call *c = world_call(&w, &r, "/test.T/Chat", 0);

    world_send(c, "x", 1, 0);
    world_until(&w, r.n_messages == 1);
    rpc_call_cancel(c);
    ck_assert(r.closed); /* before cancel returns */
    ck_assert_int_eq(r.code, GRPC_CANCELLED);
    world_until(&w, w.n_closed == 1);
}
END_TEST

START_TEST(cancel_before_connecting_was_never_processed)
{
    struct rpc_call *c = world_call(&w, &r, "/test.T/Echo", 0);

    rpc_call_cancel(c);
    ck_assert(r.closed);
    ck_assert(!r.maybe_processed);
}
END_TEST

START_TEST(cancel_of_a_request_still_in_the_queue_was_never_processed)
{
    struct rpc_call *c;
    struct result got = {0};

    world_unary(&w, &got, "/test.T/Echo", "x", 0); /* the channel is up */
    c = world_call(&w, &r, "/test.T/Echo", 0);
    world_send(c, "x", 1, 0);
    rpc_call_cancel(c);
    ck_assert(!r.maybe_processed);
    result_release(&got);
    got = (struct result){0};
    world_unary(&w, &got, "/test.T/Echo", "y", 0);
    ck_assert_int_eq(got.code, GRPC_OK);
    result_release(&got);
}
END_TEST

static void cancel_self(struct result *result)
{
    rpc_call_cancel(result->call);
}

START_TEST(call_may_cancel_itself_inside_on_message)
{
    struct rpc_call *c = world_call(&w, &r, "/test.T/List", 0);

    r.in_message = cancel_self;
    world_send(c, "x", 1, 10);
    rpc_call_half_close(c);
    world_wait(&w, &r.closed);
    ck_assert_int_eq(r.code, GRPC_CANCELLED);
    ck_assert_int_eq(r.n_messages, 1); /* nothing after the last word */
}
END_TEST

static void cancel_other(struct result *result)
{
    struct result *other = result->context;

    if (!other->closed) {
        rpc_call_cancel(other->call);
    }
}

START_TEST(call_may_cancel_another_inside_on_message)
{
    struct result other = {0};
    struct rpc_call *c = world_call(&w, &r, "/test.T/List", 0), *d;

    d = world_call(&w, &other, "/test.T/List", 0);
    r.in_message = cancel_other;
    r.context = &other;
    world_send(c, "x", 1, 100);
    world_send(d, "x", 1, 100);
    rpc_call_half_close(c);
    rpc_call_half_close(d);
    world_wait(&w, &r.closed);
    ck_assert_int_eq(r.code, GRPC_OK);
    ck_assert_int_eq(r.n_messages, 100);
    ck_assert_int_eq(other.code, GRPC_CANCELLED);
    result_release(&other);
}
END_TEST

static void finish_held(struct world *world, struct rpc_call *c)
{
    (void)world;
    rpc_call_finish(c, GRPC_ABORTED, "enough");
}

START_TEST(handler_may_finish_inside_on_message)
{
    struct rpc_call *c = world_call(&w, &r, "/test.T/Chat", 0);

    w.in_message = finish_held;
    for (int i = 0; i < 5; i++) {
        world_send(c, "x", 1, i);
    }
    world_wait(&w, &r.closed);
    ck_assert_int_eq(r.code, GRPC_ABORTED);
    ck_assert_str_eq(r.text, "enough");
    ck_assert_int_eq(r.n_messages, 1);
    ck_assert_int_eq(w.n_closed, 0);
}
END_TEST

static void flush_inside(struct world *world, struct rpc_call *c)
{
    (void)c;
    rpc_loop_flush(world->loop);
}

START_TEST(flush_inside_a_handler_waits)
{
    w.in_message = flush_inside;
    world_unary(&w, &r, "/test.T/Echo", "x", 0);
    ck_assert_int_eq(r.code, GRPC_OK);
}
END_TEST

START_TEST(server_may_finish_a_held_call_later)
{
    struct rpc_call *c = world_call(&w, &r, "/test.T/Hold", 0);

    world_send(c, "x", 1, 0);
    rpc_call_half_close(c);
    world_until(&w, w.held != NULL);
    rpc_call_fail(w.held, ST_NO_LEADER);
    world_wait(&w, &r.closed);
    ck_assert_int_eq(r.code, GRPC_UNAVAILABLE);
    ck_assert_str_eq(r.text, "etcdserver: no leader");
}
END_TEST

/* ---- losing the connection
 * --------------------------------------------------------- */

START_TEST(call_in_flight_is_unavailable_and_maybe_processed)
{
    struct rpc_call *c = world_call(&w, &r, "/test.T/Hold", 0);

    world_send(c, "x", 1, 0);
    rpc_call_half_close(c);
    world_until(&w, w.held != NULL);
    rpc_server_free(w.server);
    w.server = NULL;
    ck_assert_int_eq(w.n_closed, 1); /* the handler is told by free */
    world_wait(&w, &r.closed);
    ck_assert_int_eq(r.code, GRPC_UNAVAILABLE);
    ck_assert(r.maybe_processed);
    ck_assert_int_eq(w.n_down, 1);
    ck_assert(!rpc_channel_is_up(w.channel));
}
END_TEST

START_TEST(refused_connection_fails_calls_as_never_processed)
{
    rpc_server_free(w.server);
    w.server = NULL;
    world_unary(&w, &r, "/test.T/Echo", "x", 0);
    ck_assert_int_eq(r.code, GRPC_UNAVAILABLE);
    ck_assert(!r.maybe_processed);
    ck_assert_int_eq(w.n_down, 1);
    ck_assert_str_eq(r.text, "Connection refused");
}
END_TEST

START_TEST(bad_address_fails_calls_later)
{
    static const char *const rows[] = {
        "nonsense", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536",
        "no host has a space:1"};
    struct rpc_channel *good = w.channel;
    struct rpc_call *c;

    w.channel = world_channel(&w, rows[_i]);
    c = world_call(&w, &r, "/test.T/Echo", 0);
    ck_assert(!r.closed);
    world_send(c, "x", 1, 0);
    world_wait(&w, &r.closed);
    ck_assert_int_eq(r.code, GRPC_UNAVAILABLE);
    ck_assert(!r.maybe_processed);
    rpc_channel_free(w.channel);
    w.channel = good;
}
END_TEST

/* It may be ::1 first, where nobody listens: then the next one is tried. */
START_TEST(name_is_looked_up_and_its_addresses_tried)
{
    struct rpc_channel *by_number = w.channel;
    char address[32];

    snprintf(address, sizeof(address), "localhost:%d", w.port);
    w.channel = world_channel(&w, address);
    world_unary(&w, &r, "/test.T/Echo", "x", 0);
    ck_assert_int_eq(r.code, GRPC_OK);
    ck_assert_int_eq(w.n_up, 1);
    ck_assert_int_eq(w.n_down, 0);
    rpc_channel_free(w.channel);
    w.channel = by_number;
}
END_TEST

START_TEST(lookup_under_way_does_not_outlive_its_channel)
{
    struct rpc_channel *by_number = w.channel;

    w.channel = world_channel(&w, "localhost:1");
    world_call(&w, &r, "/test.T/Echo", 0);
    rpc_channel_free(w.channel);
    ck_assert_int_eq(r.code, GRPC_CANCELLED);
    w.channel = by_number;
    for (int i = 0; i < 10; i++) {
        world_round(&w);
    }
}
END_TEST

static void call_again(struct result *result)
{
    struct result *next = result->context;
    struct rpc_call *c = world_call(&w, next, "/test.T/Echo", 0);

    world_send(c, "again", 5, 0);
    rpc_call_half_close(c);
}

START_TEST(next_call_connects_again_even_from_on_close)
{
    struct result next = {0};
    struct rpc_call *c = world_call(&w, &r, "/test.T/Hold", 0);
    char address[32];
    int port;

    r.in_close = call_again;
    r.context = &next;
    world_send(c, "x", 1, 0);
    rpc_call_half_close(c);
    world_until(&w, w.held != NULL);
    rpc_server_free(w.server);
    /* The same port again: the old socket is in TIME_WAIT at most. */
    snprintf(address, sizeof(address), "%s", w.address);
    rpc_channel_is_up(w.channel);
    {
        struct rpc_channel *old = w.channel;

        world_start(&w);
        rpc_channel_free(w.channel);
        w.channel = old;
    }
    ck_assert_int_eq(rpc_server_listen(w.server, address, &port), 0);
    world_wait(&w, &r.closed);
    ck_assert_int_eq(r.code, GRPC_UNAVAILABLE);
    world_wait(&w, &next.closed);
    ck_assert_int_eq(next.code, GRPC_OK);
    ck_assert(result_key_is(&next, "again"));
    ck_assert_int_eq(w.n_up, 2);
    result_release(&next);
}
END_TEST

START_TEST(call_started_as_another_fails_makes_an_attempt_of_its_own)
{
    struct result next = {0};

    rpc_server_free(w.server);
    w.server = NULL;
    r.in_close = call_again;
    r.context = &next;
    world_unary(&w, &r, "/test.T/Echo", "x", 0);
    ck_assert(!next.closed);
    ck_assert_int_eq(w.n_down, 1);
    world_wait(&w, &next.closed);
    ck_assert_int_eq(next.code, GRPC_UNAVAILABLE);
    ck_assert_int_eq(w.n_down, 2);
    result_release(&next);
}
END_TEST

START_TEST(freeing_the_channel_cancels_calls)
{
    struct result waiting = {0};
    struct rpc_call *c = world_call(&w, &r, "/test.T/Hold", 0);

    world_send(c, "x", 1, 0);
    rpc_call_half_close(c);
    world_until(&w, w.held != NULL);
    world_call(&w, &waiting, "/test.T/Echo", 0);
    rpc_channel_free(w.channel);
    w.channel = NULL;
    ck_assert_int_eq(r.code, GRPC_CANCELLED);
    ck_assert_int_eq(waiting.code, GRPC_CANCELLED);
    world_until(&w, w.n_closed == 1);
    result_release(&waiting);
}
END_TEST

/* ---- draining
 * ------------------------------------------------------------------------ */

static void set_true(void *context)
{
    *(bool *)context = true;
}

START_TEST(drain_lets_open_calls_finish_and_turns_new_ones_away)
{
    bool drained = false;
    struct result late = {0};
    struct rpc_call *c = world_call(&w, &r, "/test.T/Hold", 0);

    world_send(c, "x", 1, 0);
    rpc_call_half_close(c);
    world_until(&w, w.held != NULL);
    rpc_server_drain(w.server, set_true, &drained);
    world_until(&w, w.n_down == 1); /* the channel was told GOAWAY */
    ck_assert(!r.closed);
    world_unary(&w, &late, "/test.T/Echo", "x", 0);
    ck_assert_int_eq(late.code, GRPC_UNAVAILABLE);
    ck_assert(!late.maybe_processed);
    ck_assert(!drained);
    rpc_call_finish(w.held, GRPC_OK, NULL);
    world_wait(&w, &r.closed);
    ck_assert_int_eq(r.code, GRPC_OK);
    world_wait(&w, &drained);
    result_release(&late);
}
END_TEST

START_TEST(drain_without_connections_is_done_at_once)
{
    bool drained = false;

    rpc_server_drain(w.server, set_true, &drained);
    ck_assert(drained);
}
END_TEST

START_TEST(call_under_way_while_draining_is_served)
{
    bool drained = false;
    struct result first = {0};
    struct rpc_call *c;

    world_unary(&w, &first, "/test.T/Echo", "x", 0);
    /* Sent before the channel can have heard of the drain. */
    c = world_call(&w, &r, "/test.T/Echo", 0);
    world_send(c, "race", 4, 0);
    rpc_call_half_close(c);
    rpc_server_drain(w.server, set_true, &drained);
    world_wait(&w, &r.closed);
    ck_assert_int_eq(r.code, GRPC_OK);
    world_wait(&w, &drained);
    result_release(&first);
}
END_TEST

/* ---- pressure
 * -------------------------------------------------------------------------- */

START_TEST(queued_bytes_are_seen_and_go_down)
{
    char *big = mem_alloc(1, 1 << 20);
    struct rpc_call *c = world_call(&w, &r, "/test.T/Sum", 0);

    for (int i = 0; i < 8; i++) {
        world_send(c, big, 1 << 20, 0);
    }
    ck_assert_uint_gt(rpc_call_queued(c), 8u << 20);
    world_until(&w, rpc_call_queued(c) == 0);
    rpc_call_half_close(c);
    world_wait(&w, &r.closed);
    ck_assert_int_eq(r.count, 8);
    free(big);
}
END_TEST

START_TEST(connections_beyond_the_limit_are_closed)
{
    struct rpc_channel *first;
    struct result got = {0};

    teardown();
    world_init(&w);
    w.limits.connections_max = 1;
    world_start(&w);
    world_unary(&w, &r, "/test.T/Echo", "x", 0);
    ck_assert_int_eq(r.code, GRPC_OK);
    first = w.channel;
    w.channel = world_channel(&w, w.address);
    world_unary(&w, &got, "/test.T/Echo", "x", 0);
    ck_assert_int_eq(got.code, GRPC_UNAVAILABLE);
    ck_assert(!got.maybe_processed);
    rpc_channel_free(first);
    world_until(&w, ({
        struct rpc_figures f;
        rpc_server_get_figures(w.server, &f);
        f.connections_now == 0;
    }));
    got = (struct result){.key = got.key};
    world_unary(&w, &got, "/test.T/Echo", "x", 0);
    ck_assert_int_eq(got.code, GRPC_OK);
    result_release(&got);
}
END_TEST

START_TEST(figures_add_up)
{
    struct rpc_figures f;

    world_unary(&w, &r, "/test.T/List", "0123456789", 100);
    rpc_server_get_figures(w.server, &f);
    ck_assert_uint_eq(f.connections, 1);
    ck_assert_uint_eq(f.connections_now, 1);
    ck_assert_uint_eq(f.calls, 1);
    ck_assert_uint_eq(f.calls_now, 0);
    ck_assert_uint_gt(f.bytes_out, 1500);
    ck_assert_uint_gt(f.bytes_in, 100);
    rpc_channel_free(w.channel);
    w.channel = NULL;
    world_until(&w,
                (rpc_server_get_figures(w.server, &f), f.connections_now == 0));
    ck_assert_uint_gt(f.bytes_out, 1500); /* kept after the connection */
}
END_TEST

START_TEST(idle_connection_is_kept_alive_by_pings)
{
    struct rpc_figures f;

    teardown();
    world_init(&w);
    w.limits.ping_interval_ms = 10;
    w.limits.ping_timeout_ms = 2000;
    world_start(&w);
    world_unary(&w, &r, "/test.T/Echo", "x", 0);
    rpc_server_get_figures(w.server, &f);
    /* 17 bytes a ping and 17 its answer, from both sides */
    {
        uint64_t before = f.bytes_in;

        world_until(&w, (rpc_server_get_figures(w.server, &f),
                         f.bytes_in >= before + 5 * 17));
    }
    ck_assert(rpc_channel_is_up(w.channel));
    ck_assert_int_eq(w.n_down, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rpc");
    TCase *tc = tcase_create("rpc");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, unary_call_gets_its_answer);
    tcase_add_test(tc, empty_message_is_a_message);
    tcase_add_test(tc, server_stream_sends_all_in_order);
    tcase_add_test(tc, server_stream_may_be_empty);
    tcase_add_test(tc, client_stream_is_answered_once_at_its_end);
    tcase_add_test(tc, bidi_stream_answers_each_message_while_open);
    tcase_add_test(tc, stream_is_opened_by_its_headers_alone);
    tcase_add_loop_test(tc, status_and_text_arrive_as_they_were_given, 0, 5);
    tcase_add_loop_test(tc, unknown_names_are_unimplemented, 0, 6);
    tcase_add_test(tc, metadata_arrives);
    tcase_add_test(tc, peer_is_known);
    tcase_add_loop_test(tc, large_messages_go_both_ways, 0, 8);
    tcase_add_test(tc, message_at_the_limit_passes_and_one_byte_more_does_not);
    tcase_add_test(tc, answer_above_the_channels_limit_is_refused);
    tcase_add_test(tc, many_streams_at_once);
    tcase_add_test(tc, channel_keeps_to_the_servers_stream_limit);
    tcase_add_test(tc, deadline_ends_a_call_on_both_sides);
    tcase_add_test(tc, handler_sees_the_deadline);
    tcase_add_test(tc, call_without_deadline_has_none);
    tcase_add_test(tc, client_cancel_closes_the_handler);
    tcase_add_test(tc, cancel_before_connecting_was_never_processed);
    tcase_add_test(tc,
                   cancel_of_a_request_still_in_the_queue_was_never_processed);
    tcase_add_test(tc, call_may_cancel_itself_inside_on_message);
    tcase_add_test(tc, call_may_cancel_another_inside_on_message);
    tcase_add_test(tc, handler_may_finish_inside_on_message);
    tcase_add_test(tc, flush_inside_a_handler_waits);
    tcase_add_test(tc, server_may_finish_a_held_call_later);
    tcase_add_test(tc, call_in_flight_is_unavailable_and_maybe_processed);
    tcase_add_test(tc, refused_connection_fails_calls_as_never_processed);
    tcase_add_loop_test(tc, bad_address_fails_calls_later, 0, 5);
    tcase_add_test(tc, name_is_looked_up_and_its_addresses_tried);
    tcase_add_test(tc, lookup_under_way_does_not_outlive_its_channel);
    tcase_add_test(tc, next_call_connects_again_even_from_on_close);
    tcase_add_test(tc,
                   call_started_as_another_fails_makes_an_attempt_of_its_own);
    tcase_add_test(tc, freeing_the_channel_cancels_calls);
    tcase_add_test(tc, drain_lets_open_calls_finish_and_turns_new_ones_away);
    tcase_add_test(tc, drain_without_connections_is_done_at_once);
    tcase_add_test(tc, call_under_way_while_draining_is_served);
    tcase_add_test(tc, queued_bytes_are_seen_and_go_down);
    tcase_add_test(tc, connections_beyond_the_limit_are_closed);
    tcase_add_test(tc, figures_add_up);
    tcase_add_test(tc, idle_connection_is_kept_alive_by_pings);
    suite_add_tcase(s, tc);
    return suite_main(s);
}
