/*
 * test_rpc_channel.c - a channel and a server that misbehaves, or goes away:
 * what the caller is told, above all whether a retry is safe.
 */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc_world.h"
#include "tests/suite.h"

#define SETTINGS "\0\0\0\4\0\0\0\0\0"
#define CALLS 5

/* A server of bytes: what it says is the test's. */
static struct world w;
static int listener, peer;
static struct buffer input;
static struct result results[CALLS];

static void setup(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);

    world_init(&w);
    world_start(&w);
    rpc_channel_free(w.channel);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(listen(listener, 10), 0);
    getsockname(listener, (struct sockaddr *)&address, &size);
    fcntl(listener, F_SETFL, O_NONBLOCK);
    snprintf(w.address, sizeof(w.address), "127.0.0.1:%d",
             ntohs(address.sin_port));
    w.channel = world_channel(&w, w.address);
    peer = -1;
    input = (struct buffer){0};
    memset(results, 0, sizeof(results));
}

static void teardown(void)
{
    world_release(&w);
    close(listener);
    if (peer >= 0) {
        close(peer);
    }
    buffer_release(&input);
    for (int i = 0; i < CALLS; i++) {
        result_release(&results[i]);
    }
}

static void start(int i, uint64_t timeout_ms)
{
    struct rpc_call *c =
        world_call(&w, &results[i], "/test.T/Echo", timeout_ms);

    world_send(c, "x", 1, i);
    rpc_call_half_close(c);
}

static bool try_accept(void)
{
    peer = accept(listener, NULL, NULL);
    if (peer >= 0) {
        fcntl(peer, F_SETFL, O_NONBLOCK);
    }
    return peer >= 0;
}

static void say(const void *data, size_t size)
{
    ck_assert_int_eq(send(peer, data, size, MSG_NOSIGNAL), (ssize_t)size);
}

static bool listen_to_peer(void)
{
    uint8_t data[65536];
    ssize_t n = recv(peer, data, sizeof(data), 0);

    if (n > 0) {
        buffer_append(&input, data, (size_t)n);
    }
    return n == 0;
}

/* True if a whole frame of that type has come in for the stream. */
static bool heard(uint8_t type, uint8_t stream)
{
    size_t at = 24; /* after the preface */

    listen_to_peer();
    while (at + 9 <= input.size) {
        const uint8_t *f = input.data + at;
        size_t size = (size_t)f[0] << 16 | (size_t)f[1] << 8 | f[2];

        if (f[3] == type && f[8] == stream && at + 9 + size <= input.size) {
            return true;
        }
        at += 9 + size;
    }
    return false;
}

/* The channel connects, says its requests up to that stream, and waits. */
static void meet(uint8_t last_stream)
{
    world_until(&w, try_accept());
    say(SETTINGS, 9);
    world_until(&w, heard(0, last_stream)); /* DATA */
}

static void wait_all(int n)
{
    for (int i = 0; i < n; i++) {
        world_wait(&w, &results[i].closed);
    }
}

/* ---- whether a retry is safe ----------------------------------------- */

START_TEST(goaway_tells_which_calls_were_not_seen)
{
    for (int i = 0; i < 3; i++) {
        start(i, 0);
    }
    meet(5);
    /* GOAWAY: stream 1 was the last that was looked at */
    say("\0\0\x8\7\0\0\0\0\0\0\0\0\1\0\0\0\0", 17);
    world_wait(&w, &results[1].closed);
    world_wait(&w, &results[2].closed);
    ck_assert(!results[0].closed);
    ck_assert(!rpc_channel_is_up(w.channel));
    close(peer);
    peer = -1;
    world_wait(&w, &results[0].closed);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(results[i].code, GRPC_UNAVAILABLE);
        ck_assert_int_eq(results[i].maybe_processed, i == 0);
    }
    ck_assert_int_eq(w.n_down, 1); /* once: at the GOAWAY */
}
END_TEST

START_TEST(after_goaway_calls_take_a_new_connection)
{
    int old;

    start(0, 0);
    meet(1);
    say("\0\0\x8\7\0\0\0\0\0\0\0\0\1\0\0\0\0", 17);
    world_until(&w, !rpc_channel_is_up(w.channel));
    old = peer;
    input.size = 0;
    start(1, 0);
    meet(1);
    ck_assert_int_ne(old, peer);
    ck_assert(!results[0].closed);
    ck_assert_int_eq(w.n_up, 2);
    close(old);
    wait_all(1);
    ck_assert(results[0].maybe_processed);
    ck_assert(!results[1].closed);
    ck_assert(rpc_channel_is_up(w.channel)); /* the new one is not touched */
}
END_TEST

START_TEST(calls_that_wait_move_on_at_goaway)
{
    /* One stream at a time: the second call waits in the channel. */
    start(0, 0);
    start(1, 0);
    world_until(&w, try_accept());
    say("\0\0\6\4\0\0\0\0\0\0\3\0\0\0\1", 15);
    world_until(&w, heard(0, 1));
    say("\0\0\x8\7\0\0\0\0\0\0\0\0\1\0\0\0\0", 17);
    world_until(&w, !rpc_channel_is_up(w.channel));
    close(peer);
    input.size = 0;
    meet(1);
    ck_assert(results[0].closed);
    ck_assert(!results[1].closed);
}
END_TEST

static const struct {
    uint8_t error;
    enum grpc_code code;
    bool maybe_processed;
} resets[] = {
    {0x0, GRPC_INTERNAL, true},
    {0x1, GRPC_INTERNAL, true},
    {0x2, GRPC_INTERNAL, true},
    {0x7, GRPC_UNAVAILABLE, false}, /* REFUSED_STREAM */
    {0x8, GRPC_CANCELLED, true},
    {0xb, GRPC_RESOURCE_EXHAUSTED, true},
    {0xc, GRPC_PERMISSION_DENIED, true},
};

START_TEST(reset_has_its_code)
{
    uint8_t frame[] = {0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, resets[_i].error};

    start(0, 0);
    meet(1);
    say(frame, sizeof(frame));
    wait_all(1);
    ck_assert_int_eq(results[0].code, resets[_i].code);
    ck_assert_int_eq(results[0].maybe_processed, resets[_i].maybe_processed);
    ck_assert(rpc_channel_is_up(w.channel));
}
END_TEST

START_TEST(connection_lost_after_the_request_is_maybe_processed)
{
    start(0, 0);
    meet(1);
    close(peer);
    peer = -1;
    wait_all(1);
    ck_assert_int_eq(results[0].code, GRPC_UNAVAILABLE);
    ck_assert(results[0].maybe_processed);
}
END_TEST

START_TEST(connection_lost_before_the_request_was_not_processed)
{
    start(0, 0);
    world_until(&w, try_accept());
    close(peer);
    peer = -1;
    wait_all(1);
    ck_assert_int_eq(results[0].code, GRPC_UNAVAILABLE);
    ck_assert(!results[0].maybe_processed);
}
END_TEST

START_TEST(deadline_before_the_request_was_sent_is_not_processed)
{
    start(0, 30);
    wait_all(1); /* nobody says SETTINGS */
    ck_assert_int_eq(results[0].code, GRPC_DEADLINE_EXCEEDED);
    ck_assert(!results[0].maybe_processed);
}
END_TEST

START_TEST(lost_connection_is_not_opened_again_by_itself)
{
    start(0, 0);
    meet(1);
    close(peer);
    wait_all(1);
    for (int i = 0; i < 10; i++) {
        world_round(&w);
    }
    ck_assert(!try_accept());
    ck_assert_int_eq(w.n_down, 1);
}
END_TEST

/* ---- servers that are none
 * --------------------------------------------------- */

static const struct {
    const char *text;
    size_t size;
} strangers[] = {
#define ROW(s)                                                                 \
    {                                                                          \
        s, sizeof(s) - 1                                                       \
    }
    ROW("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    ROW("SSH-2.0-OpenSSH_9.2\r\n"),
    ROW("\x15\x03\x01\x00\x02\x02\x16\0\0\0"), /* a TLS alert */
    ROW("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
    ROW("\0\0\x8\7\0\0\0\0\0\0\0\0\1\0\0\0\0"), /* GOAWAY before SETTINGS */
};

START_TEST(stranger_makes_calls_fail_unprocessed)
{
    start(0, 0);
    world_until(&w, try_accept());
    say(strangers[_i].text, strangers[_i].size);
    wait_all(1);
    ck_assert_int_eq(results[0].code, GRPC_UNAVAILABLE);
    ck_assert(!results[0].maybe_processed);
    ck_assert_int_eq(w.n_up, 0);
}
END_TEST

START_TEST(silent_server_meets_the_connect_timeout)
{
    struct rpc_channel_config config = {.address = w.address,
                                        .connect_timeout_ms = 50};
    struct rpc_channel *other = w.channel;

    rpc_limits_defaults(&config.limits);
    w.channel = rpc_channel_new(w.loop, &config);
    start(0, 0);
    world_until(&w, try_accept());
    wait_all(1);
    ck_assert_int_eq(results[0].code, GRPC_UNAVAILABLE);
    ck_assert_str_eq(results[0].text, "the handshake timed out");
    ck_assert(!results[0].maybe_processed);
    rpc_channel_free(w.channel);
    w.channel = other;
}
END_TEST

/* Fields of a header block, as literals. */
static void put_field(struct buffer *b, const char *name, const char *value)
{
    uint8_t sizes[] = {(uint8_t)strlen(name), (uint8_t)strlen(value)};

    buffer_append(b, "", 1);
    buffer_append(b, &sizes[0], 1);
    buffer_append(b, name, sizes[0]);
    buffer_append(b, &sizes[1], 1);
    buffer_append(b, value, sizes[1]);
}

static const struct {
    const char *fields[8];
    enum grpc_code code;
    const char *text;
} answers[] = {
    {{":status", "200", "content-type", "application/grpc", "grpc-status", "9"},
     GRPC_FAILED_PRECONDITION,
     ""},
    {{":status", "200", "content-type", "application/grpc"},
     GRPC_INTERNAL,
     "the stream ended without a status"},
    {{":status", "503", "content-type", "text/html"},
     GRPC_UNKNOWN,
     "not a gRPC answer: HTTP status 503"},
    {{":status", "200", "content-type", "text/html"},
     GRPC_UNKNOWN,
     "not a gRPC answer: HTTP status 200"},
    {{":status", "200", "content-type", "application/grpc", "grpc-status",
      "17"},
     GRPC_UNKNOWN,
     ""},
    {{":status", "200", "content-type", "application/grpc", "grpc-status", "x"},
     GRPC_UNKNOWN,
     ""},
    {{":status", "415", "content-type", "application/grpc", "grpc-status", "3"},
     GRPC_INVALID_ARGUMENT,
     ""},
};

START_TEST(answer_without_a_message_has_its_status)
{
    struct buffer block = {0};
    uint8_t head[] = {0, 0, 0, 1, 5, 0, 0, 0, 1}; /* END_HEADERS, END_STREAM */

    start(0, 0);
    meet(1);
    for (int i = 0; answers[_i].fields[i] != NULL; i += 2) {
        put_field(&block, answers[_i].fields[i], answers[_i].fields[i + 1]);
    }
    head[2] = (uint8_t)block.size;
    say(head, sizeof(head));
    say(block.data, block.size);
    wait_all(1);
    ck_assert_int_eq((int)results[0].code, (int)answers[_i].code);
    ck_assert_str_eq(results[0].text, answers[_i].text);
    ck_assert(results[0].maybe_processed);
    buffer_release(&block);
}
END_TEST

START_TEST(answer_cut_inside_a_message_is_no_answer)
{
    struct buffer block = {0};
    uint8_t head[] = {0, 0, 0, 1, 4, 0, 0, 0, 1};

    start(0, 0);
    meet(1);
    put_field(&block, ":status", "200");
    put_field(&block, "content-type", "application/grpc");
    head[2] = (uint8_t)block.size;
    say(head, sizeof(head));
    say(block.data, block.size);
    say("\0\0\7\0\0\0\0\0\1\0\0\0\0\x9"
        "ab",
        16);
    block.size = 0;
    put_field(&block, "grpc-status", "0");
    head[2] = (uint8_t)block.size;
    head[4] = 5;
    say(head, sizeof(head));
    say(block.data, block.size);
    wait_all(1);
    ck_assert_int_eq(results[0].code, GRPC_INTERNAL);
    ck_assert_int_eq(results[0].n_messages, 0);
    buffer_release(&block);
}
END_TEST

START_TEST(client_says_goodbye_to_a_server_that_breaks_the_rules)
{
    start(0, 0);
    meet(1);
    say("\0\0\1\0\0\0\0\0\7x", 10); /* DATA on a stream that is not open */
    wait_all(1);
    ck_assert_int_eq(results[0].code, GRPC_UNAVAILABLE);
    ck_assert(results[0].maybe_processed);
    world_until(&w, heard(7, 0)); /* GOAWAY */
}
END_TEST

START_TEST(dead_server_is_noticed_by_pings)
{
    struct rpc_channel_config config = {.address = w.address,
                                        .connect_timeout_ms = 5000};
    struct rpc_channel *other = w.channel;

    rpc_limits_defaults(&config.limits);
    config.limits.ping_interval_ms = 20;
    config.limits.ping_timeout_ms = 20;
    w.channel = rpc_channel_new(w.loop, &config);
    start(0, 0);
    meet(1);
    wait_all(1); /* the server says nothing more */
    ck_assert_int_eq(results[0].code, GRPC_UNAVAILABLE);
    ck_assert(heard(6, 0)); /* PING */
    rpc_channel_free(w.channel);
    w.channel = other;
}
END_TEST

START_TEST(request_says_what_grpc_wants)
{
    /* Indexed and literal fields as nghttp2 writes them hold these words. */
    start(0, 60000);
    meet(1);
    ck_assert_ptr_nonnull(memmem(input.data, input.size, "PRI * HTTP/2.0", 14));
    ck_assert(heard(4, 0)); /* SETTINGS */
    ck_assert(heard(1, 1)); /* HEADERS */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rpc_channel");
    TCase *tc = tcase_create("rpc_channel");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, goaway_tells_which_calls_were_not_seen);
    tcase_add_test(tc, after_goaway_calls_take_a_new_connection);
    tcase_add_test(tc, calls_that_wait_move_on_at_goaway);
    tcase_add_loop_test(tc, reset_has_its_code, 0, (int)ARRAY_LENGTH(resets));
    tcase_add_test(tc, connection_lost_after_the_request_is_maybe_processed);
    tcase_add_test(tc, connection_lost_before_the_request_was_not_processed);
    tcase_add_test(tc, deadline_before_the_request_was_sent_is_not_processed);
    tcase_add_test(tc, lost_connection_is_not_opened_again_by_itself);
    tcase_add_loop_test(tc, stranger_makes_calls_fail_unprocessed, 0,
                        (int)ARRAY_LENGTH(strangers));
    tcase_add_test(tc, silent_server_meets_the_connect_timeout);
    tcase_add_loop_test(tc, answer_without_a_message_has_its_status, 0,
                        (int)ARRAY_LENGTH(answers));
    tcase_add_test(tc, answer_cut_inside_a_message_is_no_answer);
    tcase_add_test(tc, client_says_goodbye_to_a_server_that_breaks_the_rules);
    tcase_add_test(tc, dead_server_is_noticed_by_pings);
    tcase_add_test(tc, request_says_what_grpc_wants);
    suite_add_tcase(s, tc);
    return suite_main(s);
}
