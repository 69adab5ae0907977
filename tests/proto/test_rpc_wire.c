/*
 * test_rpc_wire.c - what a server says to requests on the wire: each mistake
 * has its answer, and flow control holds.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/grpc.h"
#include "raw_client.h"
#include "tests/suite.h"

static struct world w;
static struct raw raw;
static struct buffer body;

static void setup(void)
{
    world_init(&w);
    w.limits.message_bytes_max = 100000;
    world_start(&w);
    raw_open(&raw, &w);
    raw_message(&body, "key", 3, 7);
}

static void teardown(void)
{
    raw_close(&raw);
    world_release(&w);
    buffer_release(&body);
}

/* The same again with other limits. */
static void restart(struct rpc_limits limits)
{
    teardown();
    body = (struct buffer){0};
    world_init(&w);
    w.limits = limits;
    world_start(&w);
    raw_open(&raw, &w);
    raw_message(&body, "key", 3, 7);
}

/* ---- headers --------------------------------------------------------- */

#define COMMON ":scheme", "http", ":authority", "localhost"

static const struct {
    const char *headers[20];
    int http_status, grpc_status;
    const char *message;
} header_rows[] = {
    {{":method", "GET", COMMON, ":path", "/test.T/Echo", "content-type",
      "application/grpc"},
     405,
     13,
     "Received a HEADERS frame with :method \"GET\" which should be POST"},
    {{":method", "POST", COMMON, ":path", "/test.T/Echo", "content-type",
      "application/json"},
     415,
     3,
     "invalid gRPC request content-type \"application/json\""},
    {{":method", "POST", COMMON, ":path", "/test.T/Echo", "content-type",
      "application/grpcx"},
     415,
     3,
     "invalid gRPC request content-type \"application/grpcx\""},
    {{":method", "POST", COMMON, ":path", "/test.T/Echo"},
     415,
     3,
     "invalid gRPC request content-type \"\""},
    {{":method", "POST", COMMON, ":path", "/test.T/Echo", "content-type",
      "application/grpc", "grpc-timeout", "5"},
     400,
     13,
     "malformed grpc-timeout: \"5\""},
    {{":method", "POST", COMMON, ":path", "/test.T/Echo", "content-type",
      "application/grpc", "grpc-timeout", "0n"},
     200,
     4,
     "context deadline exceeded"},
    {{":method", "POST", COMMON, ":path", "/test.T/Echo", "content-type",
      "application/grpc", "grpc-encoding", "gzip"},
     200,
     12,
     "grpc: Decompressor is not installed for grpc-encoding \"gzip\""},
    {{":method", "POST", COMMON, ":path", "/test.T/Echo", "content-type",
      "application/grpc", "x-bin", "!"},
     400,
     13,
     "malformed binary metadata in header \"x-bin\""},
    {{":method", "POST", COMMON, ":path", "/no.Such/Echo", "content-type",
      "application/grpc"},
     200,
     12,
     "unknown service no.Such"},
    {{":method", "POST", COMMON, ":path", "/test.T/No", "content-type",
      "application/grpc"},
     200,
     12,
     "unknown method No for service test.T"},
    {{":method", "POST", COMMON, ":path", "/a\"b\\c", "content-type",
      "application/grpc"},
     200,
     12,
     "malformed method name: \"/a\\\"b\\\\c\""},
    /* HTTP/2's own rules for fields are not looked at (h2.c): gRPC's are. */
    {{":method", "POST", COMMON, ":path", "/a\x01", "content-type",
      "application/grpc"},
     200,
     12,
     "malformed method name: \"/a\\x01\""},
    {{":method", "POST", COMMON, "te", "trailers", ":path", "/test.T/Echo"},
     415,
     3,
     "invalid gRPC request content-type \"\""},
};

START_TEST(wrong_headers_get_one_block_with_the_status)
{
    int32_t id =
        raw_request(&raw, header_rows[_i].headers, body.data, body.size, true);
    struct raw_stream *s = raw_stream(&raw, id);

    raw_until(&raw, s->closed);
    ck_assert_int_eq(s->http_status, header_rows[_i].http_status);
    ck_assert_int_eq(s->grpc_status, header_rows[_i].grpc_status);
    ck_assert_str_eq(s->message, header_rows[_i].message);
    ck_assert_str_eq(s->content_type, "application/grpc");
    ck_assert_int_eq(s->n_blocks, 1);
    ck_assert_uint_eq(s->data.size, 0);
}
END_TEST

static const struct {
    const char *name, *value, *content_type;
} good_rows[] = {
    {"content-type", "application/grpc", "application/grpc"},
    {"content-type", "application/grpc+proto", "application/grpc+proto"},
    {"content-type", "application/grpc;charset=utf-8", "application/grpc"},
    {"content-type", "application/grpc+x;y", "application/grpc+x"},
    {"grpc-timeout", "99999999H", "application/grpc"},
    {"grpc-encoding", "identity", "application/grpc"},
    {"user-agent", "grpc-go/1.26.0", "application/grpc"},
    {"grpc-future", "yes", "application/grpc"},
    {"x-bin", "AAEC,AwQF", "application/grpc"},
};

START_TEST(good_headers_get_headers_data_trailers)
{
    const char *headers[] = {":method",
                             "POST",
                             ":path",
                             "/test.T/Echo",
                             COMMON,
                             good_rows[_i].name,
                             good_rows[_i].value,
                             "content-type",
                             "application/grpc",
                             NULL};
    struct raw_stream *s;

    if (strcmp(good_rows[_i].name, "content-type") == 0) {
        headers[10] = NULL;
    }
    s = raw_stream(&raw,
                   raw_request(&raw, headers, body.data, body.size, true));
    raw_until(&raw, s->closed);
    ck_assert_int_eq(s->http_status, 200);
    ck_assert_int_eq(s->grpc_status, 0);
    ck_assert_str_eq(s->content_type, good_rows[_i].content_type);
    ck_assert_int_eq(s->n_blocks, 2);
    ck_assert_uint_gt(s->data.size, GRPC_PREFIX_BYTES);
    ck_assert(!s->reset);
}
END_TEST

START_TEST(headers_beyond_the_limit_are_refused)
{
    static char big[5000];
    struct rpc_limits limits = w.limits;
    const char *headers[] = {":method",
                             "POST",
                             ":path",
                             "/test.T/Echo",
                             COMMON,
                             "content-type",
                             "application/grpc",
                             "a",
                             big,
                             "b",
                             big,
                             "c",
                             big,
                             "d",
                             big,
                             "e",
                             big,
                             NULL};
    struct raw_stream *s;

    limits.header_bytes_max = 20000;
    restart(limits);
    memset(big, 'v', sizeof(big) - 1);
    s = raw_stream(&raw,
                   raw_request(&raw, headers, body.data, body.size, true));
    raw_until(&raw, s->closed);
    ck_assert_int_eq(s->grpc_status, GRPC_RESOURCE_EXHAUSTED);
    /* and the connection goes on */
    s = raw_stream(&raw,
                   raw_post(&raw, "/test.T/Echo", body.data, body.size, true));
    raw_until(&raw, s->closed);
    ck_assert_int_eq(s->grpc_status, 0);
}
END_TEST

/* ---- bodies ---------------------------------------------------------- */

static const struct {
    const char *path;
    const char *body;
    size_t size;
    int grpc_status;
    const char *message;
} body_rows[] = {
    {"/test.T/Echo", "", 0, 13,
     "cardinality violation: received no request message from "
     "non-client-streaming RPC"},
    {"/test.T/Echo", "\0\0\0\0\0\0\0\0\0\0", 10, 13,
     "cardinality violation: received multiple request messages for "
     "non-client-streaming RPC"},
    {"/test.T/Echo", "\1\0\0\0\0", 5, 13,
     "grpc: compressed flag set with identity or empty encoding"},
    {"/test.T/Echo", "\2\0\0\0\0", 5, 13,
     "grpc: received unexpected payload format 2"},
    {"/test.T/Echo", "\0\0\1\x86\xa1", 5, 8,
     "grpc: received message larger than max (100001 vs. 100000)"},
    {"/test.T/Echo", "\0\xff\xff\xff\xff", 5, 8,
     "grpc: received message larger than max (4294967295 vs. 100000)"},
    {"/test.T/Echo", "\0\0\0\0\2\x0a\x05", 7, 13,
     "grpc: failed to unmarshal the received message: proto: cannot parse "
     "invalid wire-format data"},
    {"/test.T/Echo", "\0\0\0\0\5ab", 7, 13, "unexpected EOF"},
    {"/test.T/Echo", "\0\0", 2, 13, "unexpected EOF"},
    {"/test.T/Chat", "\0\0\0\0\5ab", 7, 13, "unexpected EOF"},
    {"/test.T/Chat", "\0\0\0\0\2\x0a\x05", 7, 13,
     "grpc: failed to unmarshal the received message: proto: cannot parse "
     "invalid wire-format data"},
    {"/test.T/Chat", "\0\0\0\0\0\1\0\0\0\0", 10, 13,
     "grpc: compressed flag set with identity or empty encoding"},
};

START_TEST(wrong_body_has_its_status)
{
    struct raw_stream *s =
        raw_stream(&raw, raw_post(&raw, body_rows[_i].path, body_rows[_i].body,
                                  body_rows[_i].size, true));

    raw_until(&raw, s->closed);
    ck_assert_int_eq(s->http_status, 200);
    ck_assert_int_eq(s->grpc_status, body_rows[_i].grpc_status);
    ck_assert_str_eq(s->message, body_rows[_i].message);
    /* Only a handler that had heard of the call hears of its end. */
    ck_assert_int_eq(w.n_closed, w.n_opened);
}
END_TEST

START_TEST(body_may_come_in_pieces)
{
    int32_t id = raw_post(&raw, "/test.T/Chat", NULL, 0, false);
    struct raw_stream *s = raw_stream(&raw, id);

    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < body.size; i++) {
            raw_more(&raw, id, body.data + i, 1, false);
            raw_round(&raw);
        }
    }
    raw_more(&raw, id, NULL, 0, true);
    raw_until(&raw, s->closed);
    ck_assert_int_eq(s->grpc_status, 0);
    /* key in a KeyValue in the list, and the count */
    ck_assert_uint_eq(s->data.size, 3 * (5 + 9));
}
END_TEST

START_TEST(early_answer_is_followed_by_a_reset_without_error)
{
    struct raw_stream *s = raw_stream(
        &raw, raw_post(&raw, "/no.Such/M", body.data, body.size, false));

    raw_until(&raw, s->closed);
    ck_assert_int_eq(s->grpc_status, 12);
    ck_assert(s->ended);
    ck_assert(s->reset);
    ck_assert_uint_eq(s->reset_code, NGHTTP2_NO_ERROR);
}
END_TEST

START_TEST(deadline_that_passes_gets_its_status_and_reset)
{
    const char *headers[] = {":method",
                             "POST",
                             ":path",
                             "/test.T/Chat",
                             COMMON,
                             "content-type",
                             "application/grpc",
                             "grpc-timeout",
                             "30m",
                             NULL};
    struct raw_stream *s = raw_stream(
        &raw, raw_request(&raw, headers, body.data, body.size, false));

    raw_until(&raw, s->closed);
    ck_assert_int_eq(s->grpc_status, 4);
    ck_assert_str_eq(s->message, "context deadline exceeded");
    ck_assert_int_eq(w.n_closed, 1);
}
END_TEST

START_TEST(deadline_of_a_stuck_answer_resets_the_stream)
{
    const char *headers[] = {":method",
                             "POST",
                             ":path",
                             "/test.T/List",
                             COMMON,
                             "content-type",
                             "application/grpc",
                             "grpc-timeout",
                             "100m",
                             NULL};
    char key[1000];
    struct raw_stream *s;
    struct rpc_figures f;

    memset(key, 'k', sizeof(key));
    body.size = 0;
    raw_message(&body, key, sizeof(key), 100); /* more than the window */
    s = raw_stream(&raw,
                   raw_request(&raw, headers, body.data, body.size, true));
    raw_until(&raw, s->closed);
    ck_assert(s->reset);
    ck_assert_uint_eq(s->reset_code, NGHTTP2_CANCEL);
    world_until(&w, (rpc_server_get_figures(w.server, &f), f.calls_now == 0));
}
END_TEST

START_TEST(client_reset_closes_the_handler)
{
    int32_t id = raw_post(&raw, "/test.T/Hold", body.data, body.size, true);

    raw_until(&raw, w.held != NULL);
    nghttp2_submit_rst_stream(raw.session, 0, id, NGHTTP2_CANCEL);
    raw_until(&raw, w.n_closed == 1);
    ck_assert_ptr_null(w.held);
}
END_TEST

START_TEST(streams_opened_before_the_limit_is_known_are_refused)
{
    struct raw_stream *s[5];
    struct rpc_limits limits = w.limits;
    int refused = 0;

    limits.streams_max = 2;
    restart(limits);
    for (int i = 0; i < 5; i++) {
        s[i] = raw_stream(
            &raw, raw_post(&raw, "/test.T/Hold", body.data, body.size, true));
    }
    raw_until(&raw, w.n_held == 2 && s[4]->closed);
    for (int i = 0; i < 5; i++) {
        refused += s[i]->reset && s[i]->reset_code == NGHTTP2_REFUSED_STREAM;
    }
    ck_assert_int_eq(refused, 3);
    ck_assert_int_eq(w.n_held, 2);
    ck_assert(!raw.eof);
}
END_TEST

/* ---- flow control
 * --------------------------------------------------------------- */

START_TEST(stalled_stream_does_not_block_another)
{
    char key[1000];
    struct raw_stream *stuck, *s;

    memset(key, 'k', sizeof(key));
    body.size = 0;
    raw_message(&body, key, sizeof(key), 1000); /* 1 MB into 64 KiB */
    stuck = raw_stream(
        &raw, raw_post(&raw, "/test.T/List", body.data, body.size, true));
    /* The connection's window is large, only the stream's is not opened. */
    nghttp2_session_set_local_window_size(raw.session, 0, 0, 1 << 24);
    raw_until(&raw, stuck->data.size == 65535);
    for (int i = 0; i < 20; i++) {
        s = raw_stream(
            &raw, raw_post(&raw, "/test.T/Echo", body.data, body.size, true));
        raw_until(&raw, s->closed);
        ck_assert_int_eq(s->grpc_status, 0);
    }
    ck_assert_uint_eq(stuck->data.size, 65535); /* not a byte too many */
    ck_assert(!stuck->closed);
    nghttp2_session_set_local_window_size(raw.session, 0, 1, 1 << 24);
    raw_until(&raw, stuck->closed);
    ck_assert_int_eq(stuck->grpc_status, 0);
    ck_assert_uint_gt(stuck->data.size, 1000000);
}
END_TEST

START_TEST(stalled_connection_does_not_block_another)
{
    char key[1000];
    struct raw_stream *stuck;

    memset(key, 'k', sizeof(key));
    body.size = 0;
    raw_message(&body, key, sizeof(key), 1000);
    stuck = raw_stream(
        &raw, raw_post(&raw, "/test.T/List", body.data, body.size, true));
    raw_until(&raw, stuck->data.size == 65535);
    for (int i = 0; i < 20; i++) {
        struct result r = {0};

        world_unary(&w, &r, "/test.T/Echo", "x", 0);
        ck_assert_int_eq(r.code, GRPC_OK);
        result_release(&r);
    }
    ck_assert(!stuck->closed);
}
END_TEST

static void restart_with_send_limit(size_t bytes)
{
    struct rpc_limits limits = w.limits;

    limits.send_bytes_max = bytes;
    restart(limits);
    body.size = 0;
}

START_TEST(requests_on_a_congested_connection_are_refused)
{
    char key[1000];
    struct raw_stream *stuck, *s;

    restart_with_send_limit(300000);
    memset(key, 'k', sizeof(key));
    raw_message(&body, key, sizeof(key), 400);
    stuck = raw_stream(
        &raw, raw_post(&raw, "/test.T/List", body.data, body.size, true));
    raw_until(&raw, stuck->data.size == 65535);
    s = raw_stream(&raw,
                   raw_post(&raw, "/test.T/Echo", body.data, body.size, true));
    raw_until(&raw, s->closed);
    ck_assert(s->reset);
    ck_assert_uint_eq(s->reset_code, NGHTTP2_REFUSED_STREAM);
    nghttp2_session_set_local_window_size(raw.session, 0, 0, 1 << 24);
    nghttp2_session_set_local_window_size(raw.session, 0, 1, 1 << 24);
    raw_until(&raw, stuck->closed);
    s = raw_stream(&raw,
                   raw_post(&raw, "/test.T/Echo", body.data, body.size, true));
    raw_until(&raw, s->closed);
    ck_assert_int_eq(s->grpc_status, 0);
}
END_TEST

START_TEST(reset_of_the_stuck_stream_ends_the_congestion)
{
    char key[1000];
    int32_t id;
    struct raw_stream *s;

    restart_with_send_limit(300000);
    memset(key, 'k', sizeof(key));
    raw_message(&body, key, sizeof(key), 400);
    id = raw_post(&raw, "/test.T/List", body.data, body.size, true);
    raw_until(&raw, raw_stream(&raw, id)->data.size == 65535);
    nghttp2_submit_rst_stream(raw.session, 0, id, NGHTTP2_CANCEL);
    nghttp2_session_set_local_window_size(raw.session, 0, 0, 1 << 24);
    raw_until(&raw, raw_stream(&raw, id)->closed);
    for (int i = 0; i < 3; i++) {
        raw_round(&raw);
    }
    s = raw_stream(&raw,
                   raw_post(&raw, "/test.T/Echo", body.data, body.size, true));
    raw_until(&raw, s->closed);
    ck_assert_int_eq(s->grpc_status, 0);
}
END_TEST

START_TEST(hopelessly_congested_connection_is_closed)
{
    char key[1000];
    struct raw_stream *s;

    restart_with_send_limit(10000);
    memset(key, 'k', sizeof(key));
    raw_message(&body, key, sizeof(key), 1000);
    s = raw_stream(&raw,
                   raw_post(&raw, "/test.T/Chat", body.data, body.size, false));
    raw_until(&raw, s->data.size > 0 || raw.eof);
    (void)raw_post(&raw, "/test.T/List", body.data, body.size, true);
    raw_until(&raw, raw.eof);
    ck_assert_int_eq(w.n_closed, 1); /* the other stream's handler */
}
END_TEST

/*
 * A client that never reads its socket: the server must stop reading its
 * requests, and go on as soon as the client does.
 */
START_TEST(reading_pauses_while_the_peer_does_not_read)
{
    enum { N = 100 };
    char key[2000];
    struct raw_stream *s[N];
    struct rpc_figures f;
    size_t n_done = 0;

    restart_with_send_limit(3000000);
    nghttp2_session_set_local_window_size(raw.session, 0, 0, 1 << 30);
    {
        nghttp2_settings_entry large = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
                                        1 << 30};

        nghttp2_submit_settings(raw.session, 0, &large, 1);
    }
    raw_until(&raw, raw.settings);
    memset(key, 'k', sizeof(key));
    raw_message(&body, key, sizeof(key), 150); /* 300 kB each */
    for (int i = 0; i < N; i++) {
        const uint8_t *data;
        ssize_t n;

        s[i] = raw_stream(
            &raw, raw_post(&raw, "/test.T/List", body.data, body.size, true));
        while ((n = nghttp2_session_mem_send(raw.session, &data)) > 0) {
            raw_write(&raw, data, (size_t)n);
        }
        world_round(&w); /* nothing is received here */
    }
    rpc_server_get_figures(w.server, &f);
    ck_assert_uint_lt(f.calls, N);
    raw_until(&raw, ({
        n_done = 0;
        for (int i = 0; i < N; i++) {
            n_done += s[i]->closed;
        }
        n_done == N;
    }));
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(s[i]->grpc_status, 0);
        ck_assert_uint_gt(s[i]->data.size, 300000);
    }
}
END_TEST

START_TEST(incomplete_requests_are_bounded_on_a_connection)
{
    enum { N = 100 };
    struct raw_stream *s[N];
    struct rpc_limits limits = w.limits;
    int refused = 0;

    limits.message_bytes_max = 1000;
    restart(limits);
    body.size = 0;
    buffer_append(&body, "\0\0\0\3\xe8", 5); /* 1000 bytes, 995 come */
    buffer_reserve(&body, 995);
    memset(body.data + 5, 0, 995);
    body.size += 995;
    for (int i = 0; i < N; i++) {
        s[i] = raw_stream(
            &raw, raw_post(&raw, "/test.T/Echo", body.data, body.size, false));
    }
    raw_until(&raw, s[N - 1]->closed);
    for (int i = 0; i < N; i++) {
        refused += s[i]->closed;
        ck_assert(!s[i]->closed ||
                  s[i]->grpc_status == GRPC_RESOURCE_EXHAUSTED);
    }
    ck_assert_int_ge(refused, 60);
    ck_assert_int_le(refused, 70);
}
END_TEST

START_TEST(complete_requests_do_not_count_as_incomplete)
{
    enum { N = 100 };
    int32_t chat;
    struct raw_stream *s = NULL;
    struct rpc_limits limits = w.limits;
    char key[990];

    memset(key, 'k', sizeof(key));
    limits.message_bytes_max = 1000;
    restart(limits);
    body.size = 0;
    raw_message(&body, key, sizeof(key), 0);
    chat = raw_post(&raw, "/test.T/Sum", NULL, 0, false);
    for (int i = 0; i < N; i++) {
        raw_more(&raw, chat, body.data, 500, false);
        raw_round(&raw);
        raw_more(&raw, chat, body.data + 500, body.size - 500, false);
        s = raw_stream(
            &raw, raw_post(&raw, "/test.T/Echo", body.data, body.size, true));
        raw_until(&raw, s->closed);
        ck_assert_int_eq(s->grpc_status, 0);
        nghttp2_session_consume_connection(raw.session, s->data.size);
    }
    raw_more(&raw, chat, NULL, 0, true);
    s = raw_stream(&raw, chat);
    raw_until(&raw, s->closed);
    ck_assert_int_eq(s->grpc_status, 0);
}
END_TEST

/* ---- connection ------------------------------------------------------ */

START_TEST(pings_are_answered_at_once)
{
    struct rpc_figures before, after;

    raw_until(&raw, raw.settings);
    for (int i = 0; i < 5; i++) {
        raw_round(&raw);
    }
    rpc_server_get_figures(w.server, &before);
    nghttp2_submit_ping(raw.session, 0, NULL);
    raw_until(&raw, (rpc_server_get_figures(w.server, &after),
                     after.bytes_out >= before.bytes_out + 17));
}
END_TEST

START_TEST(silent_peer_is_dropped)
{
    struct rpc_limits limits = w.limits;

    limits.ping_interval_ms = 20;
    limits.ping_timeout_ms = 20;
    restart(limits);
    (void)raw_post(&raw, "/test.T/Hold", body.data, body.size, true);
    raw_until(&raw, w.held != NULL);
    /* From here on the client neither reads nor answers. */
    world_until(&w, w.n_closed == 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rpc_wire");
    TCase *tc = tcase_create("rpc_wire");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc, wrong_headers_get_one_block_with_the_status, 0,
                        (int)ARRAY_LENGTH(header_rows));
    tcase_add_loop_test(tc, good_headers_get_headers_data_trailers, 0,
                        (int)ARRAY_LENGTH(good_rows));
    tcase_add_test(tc, headers_beyond_the_limit_are_refused);
    tcase_add_loop_test(tc, wrong_body_has_its_status, 0,
                        (int)ARRAY_LENGTH(body_rows));
    tcase_add_test(tc, body_may_come_in_pieces);
    tcase_add_test(tc, early_answer_is_followed_by_a_reset_without_error);
    tcase_add_test(tc, deadline_that_passes_gets_its_status_and_reset);
    tcase_add_test(tc, deadline_of_a_stuck_answer_resets_the_stream);
    tcase_add_test(tc, client_reset_closes_the_handler);
    tcase_add_test(tc, streams_opened_before_the_limit_is_known_are_refused);
    tcase_add_test(tc, stalled_stream_does_not_block_another);
    tcase_add_test(tc, stalled_connection_does_not_block_another);
    tcase_add_test(tc, requests_on_a_congested_connection_are_refused);
    tcase_add_test(tc, reset_of_the_stuck_stream_ends_the_congestion);
    tcase_add_test(tc, hopelessly_congested_connection_is_closed);
    tcase_add_test(tc, reading_pauses_while_the_peer_does_not_read);
    tcase_add_test(tc, incomplete_requests_are_bounded_on_a_connection);
    tcase_add_test(tc, complete_requests_do_not_count_as_incomplete);
    tcase_add_test(tc, pings_are_answered_at_once);
    tcase_add_test(tc, silent_peer_is_dropped);
    suite_add_tcase(s, tc);
    return suite_main(s);
}
