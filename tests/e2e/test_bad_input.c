/*
 * test_bad_input.c - what a server must bear on its client port and its peer
 * port, and go on serving.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster.h"
#include "peer.pb-c.h"
#include "program.h"
#include "raw.h"

static struct cluster *cluster;
static struct client *client; /* connected before the bad input comes */

static void set_up(size_t members)
{
    struct answer a;

    cluster = cluster_up(&(struct cluster_config){
        .n = members, .heartbeat_ms = "40", .election_ms = "400"});
    cluster_settle(cluster);
    client = client_new(cluster_address(cluster, 0));
    a = client_put(client, "before", "kept", 0, NULL);
    ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
    answer_release(&a);
}

static void set_up_one(void)
{
    set_up(1);
}

static void set_up_three(void)
{
    set_up(3);
}

static void assert_serves(struct client *c)
{
    struct answer a = client_put(c, "after", "served", 0, NULL);

    ck_assert_msg(a.code == GRPC_OK, "another client: %s", a.text);
    answer_release(&a);
    a = client_get(c, "before", 0, false);
    ck_assert_msg(a.code == GRPC_OK, "another client: %s", a.text);
    ck_assert_uint_eq(a.range->n_kvs, 1);
    answer_release(&a);
}

/* Whatever happened, an old and a new connection are served. */
static void tear_down(void)
{
    struct client *fresh = client_new(cluster_address(cluster, 0));

    assert_serves(client);
    assert_serves(fresh);
    ck_assert_uint_eq(cluster_starts(cluster, 0), 1);
    client_free(fresh);
    client_free(client);
    for (size_t i = 0; i < cluster_size(cluster); i++) {
        ck_assert_int_eq(cluster_stop(cluster, i), 0);
    }
    cluster_free(cluster);
}

/* ---- not HTTP/2 at all -----------------------------------------------------
 */

static const struct garbage {
    const char *what, *bytes;
    size_t size;
    bool may_go_on; /* to become something: the server waits for the rest */
} garbage[] = {
    {"text", "hello, is this the lock service?\r\n\r\n", 36, false},
    {"zeros", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 29,
     false},
    {"a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x11\x22", 13,
     false},
    {"nearly the preface", "PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n", 24, false},
    {"a frame of 16 MiB", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x04",
     28, true},
    {"SETTINGS of 5 bytes",
     "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\5\4\0\0\0\0\0abcde", 38, false},
};

START_TEST(garbage_instead_of_a_preface_is_closed)
{
    struct raw *r = raw_connect(cluster_address(cluster, 0));

    raw_write(r, garbage[_i].bytes, garbage[_i].size);
    if (!garbage[_i].may_go_on) {
        ck_assert_msg(raw_wait_closed(r), "%s: the server listens on",
                      garbage[_i].what);
    }
    raw_free(r);
}
END_TEST

START_TEST(connection_that_ends_in_the_middle_of_a_frame_is_forgotten)
{
    static const size_t cuts[] = {1, 10, 23, 24, 30, 33, 40};

    for (size_t i = 0; i < ARRAY_LENGTH(cuts); i++) {
        struct raw *r = raw_connect(cluster_address(cluster, 0));

        raw_write(r,
                  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0\0\0\x64",
                  cuts[i] < 36 ? cuts[i] : 36);
        raw_free(r);
    }
    for (size_t size = 0; size < 30; size += 7) {
        struct raw *r = raw_connect(cluster_address(cluster, 0));

        raw_preface(r);
        raw_headers(r, "/etcdserverpb.KV/Put", false);
        raw_frame(r, 0, 1, 1, 30,
                  "\0\0\0\0\x19\n\1k\x12\x14vvvvvvvvvvvvvvvvvvv", size);
        raw_free(r);
    }
    {
        struct answer a = client_get(client, "k", 0, false);

        ck_assert_int_eq(a.code, GRPC_OK);
        ck_assert_uint_eq(a.range->n_kvs, 0);
        answer_release(&a);
    }
}
END_TEST

/* ---- HTTP/2, but not the gRPC that is served -------------------------------
 */

static const struct bad_call {
    const char *path;
    const char *body;
    size_t size;
    bool no_body;
    int code;
    const char *text; /* how it begins */
} bad_calls[] = {
    {"/etcdserverpb.Nothing/Put", "\0\0\0\0\0", 5, false, GRPC_UNIMPLEMENTED,
     "unknown service etcdserverpb.Nothing"},
    {"/etcdserverpb.KV/Nothing", "\0\0\0\0\0", 5, false, GRPC_UNIMPLEMENTED,
     "unknown method Nothing for service etcdserverpb.KV"},
    {"/nothing", "\0\0\0\0\0", 5, false, GRPC_UNIMPLEMENTED,
     "malformed method name: \"/nothing\""},
    {"/pawl.peer.v1.Peer/Raft", "\0\0\0\0\0", 5, false, GRPC_UNIMPLEMENTED,
     "unknown service pawl.peer.v1.Peer"},
    /* Field 1, the key, as a number; a length beyond the end; a cut tag. */
    {"/etcdserverpb.KV/Put", "\0\0\0\0\2\x08\1", 7, false, GRPC_INTERNAL,
     "grpc: failed to unmarshal the received message"},
    {"/etcdserverpb.KV/Range",
     "\0\0\0\0\3\n\x7f"
     "a",
     8, false, GRPC_INTERNAL, "grpc: failed to unmarshal the received message"},
    {"/pawl.v1.Lock/Acquire", "\0\0\0\0\1\xff", 6, false, GRPC_INTERNAL,
     "grpc: failed to unmarshal the received message"},
    {"/etcdserverpb.KV/Put", "\1\0\0\0\3\n\1k", 8, false, GRPC_INTERNAL,
     "grpc: compressed flag set with identity or empty encoding"},
    {"/etcdserverpb.KV/Put", "\0\0\x20\x00\x01", 5, false,
     GRPC_RESOURCE_EXHAUSTED,
     "grpc: received message larger than max (2097153 vs. 2097152)"},
    {"/etcdserverpb.KV/Put", "\0\xff\xff\xff\xff", 5, false,
     GRPC_RESOURCE_EXHAUSTED,
     "grpc: received message larger than max (4294967295 vs. 2097152)"},
    /* The frame says 25 bytes, the stream ends after 3. */
    {"/etcdserverpb.KV/Put", "\0\0\0\0\x19\n\1k", 8, false, GRPC_INTERNAL, ""},
    {"/etcdserverpb.KV/Put", "\0\0", 2, false, GRPC_INTERNAL, ""},
    {"/etcdserverpb.KV/Put", "", 0, true, GRPC_INTERNAL, ""},
    /* Two messages where one is meant. */
    {"/etcdserverpb.KV/Range", "\0\0\0\0\3\n\1k\0\0\0\0\3\n\1k", 16, false,
     GRPC_INTERNAL, ""},
    {"/etcdserverpb.KV/Put", "\0\0\0\0\0", 5, false, GRPC_INVALID_ARGUMENT,
     "etcdserver: key is not provided"},
};

START_TEST(bad_call_gets_its_code_and_text)
{
    const struct bad_call *b = &bad_calls[_i];
    struct raw *r = raw_connect(cluster_address(cluster, 0));
    char message[512];
    int code;

    raw_preface(r);
    raw_headers(r, b->path, b->no_body);
    if (!b->no_body) {
        raw_data(r, b->body, b->size, true);
    }
    code = raw_status(r, message, sizeof(message));
    ck_assert_msg(code == b->code &&
                      strncmp(message, b->text, strlen(b->text)) == 0,
                  "%s: code %d \"%s\" and not %d \"%s\"", b->path, code,
                  message, b->code, b->text);
    raw_free(r);
}
END_TEST

/* ---- requests that cannot be served ----------------------------------------
 */

static void assert_fails(struct answer *a, enum status st)
{
    ck_assert_msg(a->code == status_code(st) &&
                      strcmp(a->text, status_text(st)) == 0,
                  "code %d \"%s\" and not \"%s\"", (int)a->code, a->text,
                  status_text(st));
    answer_release(a);
}

START_TEST(requests_that_cannot_be_served_are_told_why)
{
    struct answer a = client_put(client, "", "value", 0, NULL);
    char *large = mem_alloc(1572864 + 2, 1);

    assert_fails(&a, ST_EMPTY_KEY);
    a = client_get(client, "", 0, false);
    assert_fails(&a, ST_EMPTY_KEY);
    a = client_delete(client, "", NULL);
    assert_fails(&a, ST_EMPTY_KEY);
    a = client_put(client, "k", "value", 4711, NULL);
    assert_fails(&a, ST_LEASE_NOT_FOUND);
    a = client_lease_revoke(client, 4711);
    assert_fails(&a, ST_LEASE_NOT_FOUND);
    a = client_lease_grant(client, 1, INT64_C(9000000001));
    assert_fails(&a, ST_LEASE_TTL_TOO_LARGE);
    a = client_lease_keep_alive(client, 4711);
    ck_assert_int_eq(a.code, GRPC_OK);
    ck_assert_int_eq(a.keep_alive->ttl, 0);
    answer_release(&a);
    a = client_lease_time_to_live(client, 4711);
    ck_assert_int_eq(a.code, GRPC_OK);
    ck_assert_int_eq(a.time_to_live->ttl, -1);
    answer_release(&a);
    a = client_get(client, "k", 1000000, false);
    assert_fails(&a, ST_FUTURE_REVISION);
    memset(large, 'v', 1572864 + 1);
    a = client_put(client, "k", large, 0, NULL);
    assert_fails(&a, ST_REQUEST_TOO_LARGE);
    a = client_acquire(client, &(struct lock_request){.name = "", .ttl_s = 5});
    assert_fails(&a, ST_BAD_LOCK_NAME);
    a = client_acquire(client, &(struct lock_request){.name = "l"});
    assert_fails(&a, ST_BAD_LOCK_NAME);
    a = client_get(client, "k", 0, false);
    ck_assert_uint_eq(a.range->n_kvs, 0);
    answer_release(&a);
    free(large);
}
END_TEST

/* ---- the peer port ---------------------------------------------------------
 */

enum lie { WRONG_CLUSTER, WRONG_TO, WRONG_FROM, WRONG_VERSION, NO_HELLO };

static const struct stranger {
    enum lie lie;
    bool forward;
    const char *text;
} strangers[] = {
    {WRONG_CLUSTER, false, "pawl: cluster ID mismatch"},
    {WRONG_CLUSTER, true, "pawl: cluster ID mismatch"},
    {WRONG_TO, false, "pawl: this is another member than the one called"},
    {WRONG_FROM, false, "pawl: the caller is not a member of this cluster"},
    {WRONG_VERSION, true, "pawl: unknown version of the peer protocol"},
    {NO_HELLO, false, "pawl: a peer stream must begin with a Hello"},
    {NO_HELLO, true, "pawl: a peer stream must begin with a Hello"},
};

/* A stranger that claims to lead in a far term must not be heard. */
static void speak(const struct stranger *s, Pawl__Peer__V1__Hello *h,
                  struct call *call, struct client *c)
{
    Pawl__Peer__V1__RaftBatch batch = PAWL__PEER__V1__RAFT_BATCH__INIT;
    Pawl__Peer__V1__ForwardRequest forward =
        PAWL__PEER__V1__FORWARD_REQUEST__INIT;
    Pawl__Peer__V1__Message m = PAWL__PEER__V1__MESSAGE__INIT;
    Pawl__Peer__V1__Message *messages[] = {&m};

    m.type = PAWL__PEER__V1__MESSAGE_TYPE__HEARTBEAT;
    m.from = h->from;
    m.to = h->to;
    m.term = 1000000;
    batch.messages = messages;
    batch.n_messages = 1;
    if (s->lie != NO_HELLO) {
        batch.hello = h;
        forward.hello = h;
    }
    if (s->forward) {
        call_start(call, c, "/pawl.peer.v1.Peer/Forward", &forward.base,
                   &pawl__peer__v1__forward_reply__descriptor, NULL, 0);
    } else {
        call_start(call, c, "/pawl.peer.v1.Peer/Raft", &batch.base,
                   &pawl__peer__v1__hello__descriptor, NULL, 0);
    }
}

START_TEST(stranger_on_the_peer_port_is_refused_and_not_heard)
{
    const struct stranger *s = &strangers[_i];
    struct member_status here, there, later;
    Pawl__Peer__V1__Hello h = PAWL__PEER__V1__HELLO__INIT;
    struct client *c = client_new(cluster_peer_address(cluster, 0));
    struct call call;

    ck_assert(cluster_status(cluster, 0, &here));
    ck_assert(cluster_status(cluster, 1, &there));
    h.cluster = here.cluster + (s->lie == WRONG_CLUSTER);
    h.to = here.member + (s->lie == WRONG_TO);
    h.from = there.member + (s->lie == WRONG_FROM);
    h.version = 1 + (s->lie == WRONG_VERSION);
    h.incarnation = 1;
    speak(s, &h, &call, c);
    ck_assert(call_wait(&call, PATIENCE_MS));
    ck_assert_msg(call.answer.code == GRPC_FAILED_PRECONDITION &&
                      strcmp(call.answer.text, s->text) == 0,
                  "code %d \"%s\" and not \"%s\"", (int)call.answer.code,
                  call.answer.text, s->text);
    client_free(c);
    cluster_settle(cluster);
    ck_assert(cluster_status(cluster, 0, &later));
    ck_assert_uint_lt(later.term, 1000);
}
END_TEST

START_TEST(garbage_on_the_peer_port_disturbs_nobody)
{
    struct member_status before, after;
    char message[256];

    ck_assert(cluster_status(cluster, 0, &before));
    for (size_t i = 0; i < ARRAY_LENGTH(garbage); i++) {
        struct raw *r = raw_connect(cluster_peer_address(cluster, i % 3));

        raw_write(r, garbage[i].bytes, garbage[i].size);
        if (!garbage[i].may_go_on) {
            ck_assert(raw_wait_closed(r));
        }
        raw_free(r);
    }
    {
        struct raw *r = raw_connect(cluster_peer_address(cluster, 0));

        raw_preface(r);
        raw_headers(r, "/etcdserverpb.KV/Put", false);
        raw_data(r, "\0\0\0\0\3\n\1k", 8, true);
        ck_assert_int_eq(raw_status(r, message, sizeof(message)),
                         GRPC_UNIMPLEMENTED);
        raw_free(r);
    }
    cluster_settle(cluster);
    ck_assert(cluster_status(cluster, 0, &after));
    ck_assert_uint_eq(after.cluster, before.cluster);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("bad input");
    TCase *one = tcase_create("client port");
    TCase *three = tcase_create("peer port");

    tcase_set_timeout(one, 60);
    tcase_add_checked_fixture(one, set_up_one, tear_down);
    tcase_add_loop_test(one, garbage_instead_of_a_preface_is_closed, 0,
                        ARRAY_LENGTH(garbage));
    tcase_add_test(one,
                   connection_that_ends_in_the_middle_of_a_frame_is_forgotten);
    tcase_add_loop_test(one, bad_call_gets_its_code_and_text, 0,
                        ARRAY_LENGTH(bad_calls));
    tcase_add_test(one, requests_that_cannot_be_served_are_told_why);
    suite_add_tcase(s, one);
    tcase_set_timeout(three, 60);
    tcase_add_checked_fixture(three, set_up_three, tear_down);
    tcase_add_loop_test(three,
                        stranger_on_the_peer_port_is_refused_and_not_heard, 0,
                        ARRAY_LENGTH(strangers));
    tcase_add_test(three, garbage_on_the_peer_port_disturbs_nobody);
    suite_add_tcase(s, three);
    return program_run(s);
}
