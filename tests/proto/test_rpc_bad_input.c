/*
 * test_rpc_bad_input.c - whatever comes in, the server stays up, and serves
 * the next client.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "raw_client.h"
#include "tests/suite.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SETTINGS "\0\0\0\4\0\0\0\0\0"

static struct world w;
static struct raw raw;

static void setup(void)
{
    world_init(&w);
    w.limits.handshake_ms = 200;
    w.limits.header_bytes_max = 16384;
    world_start(&w);
    raw_connect(&raw, &w);
}

static void still_serves(void)
{
    struct result r = {0};

    world_unary(&w, &r, "/test.T/Echo", "alive", 0);
    ck_assert_int_eq(r.code, GRPC_OK);
    result_release(&r);
}

static void teardown(void)
{
    still_serves();
    raw_close(&raw);
    world_release(&w);
}

static bool input_has(const char *text)
{
    return raw.input.size > 0 &&
           memmem(raw.input.data, raw.input.size, text, strlen(text)) != NULL;
}

static size_t connections_now(void)
{
    struct rpc_figures f;

    rpc_server_get_figures(w.server, &f);
    return f.connections_now;
}

/* ---- before the preface ---------------------------------------------- */

static const struct {
    const char *data;
    size_t size;
} garbage[] = {
#define ROW(s)                                                                 \
    {                                                                          \
        s, sizeof(s) - 1                                                       \
    }
    ROW("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), /* TLS */
    ROW("\0\0\0\0\0\0\0\0"),
    ROW("hello world\r\n"),
    ROW("\xff"),
    ROW("\r\n\r\n"),
    ROW("pri * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
};

START_TEST(garbage_is_closed_without_a_word)
{
    raw_write(&raw, garbage[_i].data, garbage[_i].size);
    raw_until(&raw, raw.eof);
    ck_assert_uint_eq(raw.input.size, 0);
    world_until(&w, connections_now() == 0);
}
END_TEST

static const struct {
    const char *data;
    size_t size;
} http1[] = {
    ROW("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ROW("POST /v3/kv/range HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"),
    ROW("OPTIONS * HTTP/1.1\r\n\r\n"),
    ROW("PRI * HTTP/1.1\r\n\r\n"),
    ROW("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r"),
};

START_TEST(http1_is_told_what_this_port_speaks)
{
    raw_write(&raw, http1[_i].data, http1[_i].size);
    raw_until(&raw, raw.eof);
    ck_assert(input_has("HTTP/1.1 400 Bad Request\r\n"));
    ck_assert(input_has("\r\n\r\nThis port speaks gRPC"));
    /* We have not closed yet: the deadline does it for us. */
    world_until(&w, connections_now() == 0);
}
END_TEST

START_TEST(http1_in_pieces_is_told_as_well)
{
    const char *text = http1[_i].data;

    for (size_t i = 0; i < http1[_i].size; i++) {
        raw_write(&raw, text + i, 1);
        raw_round(&raw);
    }
    raw_until(&raw, raw.eof);
    ck_assert(input_has("HTTP/1.1 400 Bad Request\r\n"));
}
END_TEST

static int handed;

static void take_http1(void *context, evutil_socket_t fd)
{
    char text[64] = "";

    ck_assert_ptr_eq(context, &w);
    ck_assert_int_gt(recv(fd, text, sizeof(text) - 1, 0), 0);
    ck_assert_int_eq(strncmp(text, "GET /health", 11), 0);
    ck_assert_int_eq(send(fd, "taken", 5, 0), 5);
    evutil_closesocket(fd);
    handed++;
}

START_TEST(http1_is_handed_to_who_takes_it)
{
    handed = 0;
    rpc_server_set_http1(w.server, take_http1, &w);
    raw_close(&raw);
    raw_connect(&raw, &w);
    raw_write(&raw, "GET /health HTTP/1.1\r\n\r\n", 24);
    raw_until(&raw, raw.eof);
    ck_assert_int_eq(handed, 1);
    ck_assert(input_has("taken"));
    ck_assert_uint_eq(connections_now(), 0);
}
END_TEST

START_TEST(who_takes_http1_gets_nothing_else)
{
    handed = 0;
    rpc_server_set_http1(w.server, take_http1, &w);
    raw_close(&raw);
    raw_connect(&raw, &w);
    raw_write(&raw, garbage[_i].data, garbage[_i].size);
    raw_until(&raw, raw.eof);
    ck_assert_int_eq(handed, 0);
}
END_TEST

START_TEST(half_a_preface_meets_its_deadline)
{
    uint64_t start = clock_ms();

    raw_write(&raw, PREFACE, (size_t)_i * 8);
    raw_until(&raw, raw.eof);
    ck_assert_uint_ge(clock_ms() - start, 150);
    ck_assert_uint_eq(raw.input.size, 0);
}
END_TEST

START_TEST(preface_in_pieces_is_accepted)
{
    for (size_t i = 0; i < sizeof(PREFACE) - 1; i++) {
        raw_write(&raw, &PREFACE[i], 1);
        raw_round(&raw);
    }
    raw_write(&raw, SETTINGS, 9);
    raw_until(&raw, raw.input.size >= 9);
    ck_assert_int_eq(raw.input.data[3], 4); /* SETTINGS */
    ck_assert(!raw.eof);
}
END_TEST

/* ---- after it -------------------------------------------------------- */

/* Frames that HTTP/2 forbids: the answer is GOAWAY (type 7) and an end. */
static const struct {
    const char *data;
    size_t size;
} frames[] = {
    ROW("\0\0\0\0\0\0\0\0\0"),                     /* DATA on stream 0 */
    ROW("\0\0\1\0\0\0\0\0\1x"),                    /* DATA on an idle stream */
    ROW("\0\0\1\1\4\0\0\0\0\x82"),                 /* HEADERS on stream 0 */
    ROW("\0\0\1\1\4\0\0\0\2\x82"),                 /* an even stream */
    ROW("\0\0\1\1\4\0\0\0\1\xff"),                 /* HPACK that breaks off */
    ROW("\0\0\2\1\4\0\0\0\1\xfe\xff"),             /* an index out of range */
    ROW("\0\0\3\6\0\0\0\0\0abc"),                  /* PING of the wrong size */
    ROW("\0\0\5\4\0\0\0\0\0abcde"),                /* SETTINGS, likewise */
    ROW("\0\0\6\4\0\0\0\0\0\0\4\xff\xff\xff\xff"), /* a window too large */
    ROW("\0\0\6\4\0\0\0\0\0\0\5\0\0\0\1"),         /* a frame size too small */
    ROW("\0\0\4\x8\0\0\0\0\0\0\0\0\0"),            /* WINDOW_UPDATE of 0 */
    ROW("\0\0\4\3\0\0\0\0\1\0\0\0\0"),             /* RST_STREAM, idle stream */
    ROW("\0\0\0\x9\4\0\0\0\1"),                    /* CONTINUATION of nothing */
    ROW("\0\0\4\5\4\0\0\0\1\0\0\0\2"),             /* PUSH_PROMISE */
    ROW("\xff\xff\xff\0\0\0\0\0\1"),               /* a frame of 16 MB */
    ROW("\0\0\1\1\0\0\0\0\1\x82\0\0\0\6\0\0\0\0\0"), /* HEADERS cut short */
};

START_TEST(forbidden_frames_end_the_connection)
{
    raw_write(&raw, PREFACE SETTINGS, sizeof(PREFACE) - 1 + 9);
    raw_write(&raw, frames[_i].data, frames[_i].size);
    raw_until(&raw, raw.eof);
    world_until(&w, connections_now() == 0);
}
END_TEST

START_TEST(first_frame_must_be_settings)
{
    raw_write(&raw, PREFACE "\0\0\x8\6\0\0\0\0\0abcdefgh",
              sizeof(PREFACE) - 1 + 17);
    raw_until(&raw, raw.eof);
}
END_TEST

START_TEST(unknown_frames_are_skipped)
{
    raw_write(&raw, PREFACE SETTINGS, sizeof(PREFACE) - 1 + 9);
    raw_write(&raw, "\0\0\3\xee\xff\0\0\0\1abc", 12);
    raw_write(&raw, "\0\0\x8\6\0\0\0\0\0pingping", 17);
    raw_until(&raw, input_has("pingping"));
    ck_assert(!raw.eof);
}
END_TEST

START_TEST(truncated_frame_then_close_is_forgotten)
{
    raw_write(&raw, PREFACE SETTINGS, sizeof(PREFACE) - 1 + 9);
    raw_write(&raw, "\0\1\0\1\4\0\0\0\1\x82", 10);
    raw_until(&raw, raw.input.size > 0);
    shutdown(raw.fd, SHUT_WR);
    world_until(&w, connections_now() == 0);
}
END_TEST

/* Small header frames for ever: the block must not grow without end. */
START_TEST(endless_continuation_is_cut)
{
    char frame[9 + 16000];

    raw_write(&raw, PREFACE SETTINGS, sizeof(PREFACE) - 1 + 9);
    memset(frame, 0, sizeof(frame));
    memcpy(frame, "\0\x3e\x80\1\0\0\0\0\1", 9);
    /* a literal header field without indexing: name "a", a long value */
    memcpy(frame + 9, "\0\1a\x7f\xf6\x7b", 6);
    memset(frame + 15, 'v', sizeof(frame) - 15);
    raw_write(&raw, frame, sizeof(frame));
    frame[3] = 9;
    for (int i = 0; i < 2000 && !raw.eof; i++) {
        raw_write(&raw, frame, sizeof(frame));
        raw_round(&raw);
    }
    ck_assert(raw.eof);
}
END_TEST

START_TEST(flood_of_settings_is_cut)
{
    raw_write(&raw, PREFACE, sizeof(PREFACE) - 1);
    /* The answers are not read, so they pile up. */
    for (int i = 0; i < 400000 && !raw.eof; i++) {
        raw_write(&raw, SETTINGS, 9);
        if (i % 1000 == 0) {
            world_round(&w);
        }
    }
    ck_assert(raw.eof);
}
END_TEST

/* A fixed sequence of numbers, so that a failure comes again. */
static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

START_TEST(random_frames_do_no_harm)
{
    uint32_t state = 0x9e3779b9u * (uint32_t)(_i + 1);
    uint8_t frame[9 + 64];

    raw_write(&raw, PREFACE SETTINGS, sizeof(PREFACE) - 1 + 9);
    for (int i = 0; i < 3000 && !raw.eof; i++) {
        size_t size = next_random(&state) % 64;

        for (size_t j = 0; j < sizeof(frame); j++) {
            frame[j] = (uint8_t)next_random(&state);
        }
        frame[0] = frame[1] = 0;
        frame[2] = (uint8_t)size;
        frame[3] %= 11;
        frame[5] = frame[6] = frame[7] = 0;
        frame[8] %= 8;
        raw_write(&raw, frame, 9 + size);
        raw_round(&raw);
    }
    ck_assert(raw.eof); /* none of these is a conversation */
}
END_TEST

START_TEST(random_bytes_do_no_harm)
{
    uint32_t state = 0x85ebca6bu * (uint32_t)(_i + 1);
    uint8_t bytes[4096];

    if (_i % 2 == 0) {
        raw_write(&raw, PREFACE SETTINGS, sizeof(PREFACE) - 1 + 9);
    }
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)next_random(&state);
    }
    raw_write(&raw, bytes, sizeof(bytes));
    raw_until(&raw, raw.eof);
}
END_TEST

START_TEST(deep_messages_are_refused_not_followed)
{
    enum { DEPTH = 100000 };
    struct buffer b = {0};
    struct rpc_method deep = {
        .path = "/test.Deep/Txn",
        .request = &etcdserverpb__txn_request__descriptor,
    };
    uint8_t *message = mem_alloc(DEPTH, 12), *at = message + DEPTH * 12;
    size_t size = 0;
    struct raw_stream *s;

    /* Written backwards: RequestOp in TxnRequest in RequestOp ... */
    for (int i = 0; i < DEPTH; i++) {
        uint8_t tag = i % 2 == 0 ? 0x22 : 0x12; /* request_txn, success */
        uint8_t length[10];
        size_t n = 0, rest = size;

        do {
            length[n++] = (uint8_t)(rest & 0x7f) | (rest > 0x7f ? 0x80 : 0);
            rest >>= 7;
        } while (rest > 0);
        at -= n;
        memcpy(at, length, n);
        *--at = tag;
        size += n + 1;
    }
    rpc_server_add(w.server, &deep, 1, &w);
    raw_close(&raw);
    raw_open(&raw, &w);
    buffer_append(&b, "\0\0", 2);
    buffer_append(
        &b,
        (uint8_t[]){(uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size},
        3);
    buffer_append(&b, at, size);
    s = raw_stream(&raw, raw_post(&raw, deep.path, b.data, b.size, true));
    raw_until(&raw, s->closed);
    ck_assert_int_eq(s->grpc_status, GRPC_INTERNAL);
    buffer_release(&b);
    free(message);
}
END_TEST

START_TEST(peer_that_vanishes_leaves_nothing)
{
    struct buffer b = {0};

    raw_close(&raw);
    raw_open(&raw, &w);
    raw_message(&b, "x", 1, 0);
    for (int i = 0; i < 20; i++) {
        (void)raw_post(&raw, "/test.T/Hold", b.data, b.size, true);
    }
    raw_until(&raw, w.n_held == 20);
    shutdown(raw.fd, SHUT_RDWR);
    world_until(&w, w.n_closed == 20);
    world_until(&w, connections_now() == 0);
    buffer_release(&b);
}
END_TEST

START_TEST(many_half_open_connections_do_not_hinder)
{
    enum { N = 100 };
    struct raw *many = mem_alloc(N, sizeof(*many));

    for (int i = 0; i < N; i++) {
        raw_connect(&many[i], &w);
        raw_write(&many[i], PREFACE, (size_t)i % 20);
    }
    still_serves();
    for (int i = 0; i < N; i++) {
        raw_until(&many[i], many[i].eof);
        raw_close(&many[i]);
    }
    free(many);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rpc_bad_input");
    TCase *tc = tcase_create("rpc_bad_input");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc, garbage_is_closed_without_a_word, 0,
                        (int)ARRAY_LENGTH(garbage));
    tcase_add_loop_test(tc, http1_is_told_what_this_port_speaks, 0,
                        (int)ARRAY_LENGTH(http1));
    tcase_add_loop_test(tc, http1_in_pieces_is_told_as_well, 0,
                        (int)ARRAY_LENGTH(http1));
    tcase_add_test(tc, http1_is_handed_to_who_takes_it);
    tcase_add_loop_test(tc, who_takes_http1_gets_nothing_else, 0,
                        (int)ARRAY_LENGTH(garbage));
    tcase_add_loop_test(tc, half_a_preface_meets_its_deadline, 0, 3);
    tcase_add_test(tc, preface_in_pieces_is_accepted);
    tcase_add_loop_test(tc, forbidden_frames_end_the_connection, 0,
                        (int)ARRAY_LENGTH(frames));
    tcase_add_test(tc, first_frame_must_be_settings);
    tcase_add_test(tc, unknown_frames_are_skipped);
    tcase_add_test(tc, truncated_frame_then_close_is_forgotten);
    tcase_add_test(tc, endless_continuation_is_cut);
    tcase_add_test(tc, flood_of_settings_is_cut);
    tcase_add_loop_test(tc, random_frames_do_no_harm, 0, 8);
    tcase_add_loop_test(tc, random_bytes_do_no_harm, 0, 16);
    tcase_add_test(tc, deep_messages_are_refused_not_followed);
    tcase_add_test(tc, peer_that_vanishes_leaves_nothing);
    tcase_add_test(tc, many_half_open_connections_do_not_hinder);
    suite_add_tcase(s, tc);
    return suite_main(s);
}
