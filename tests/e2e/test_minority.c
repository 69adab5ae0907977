/*
 * test_minority.c - one of three refuses writes and linearizable reads, says
 * so, and serves again once the others are back.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cluster.h"
#include "program.h"

static struct cluster *cluster;
static struct client *client; /* of the one that is left */
static size_t left;

/* The one that is left was the leader, or a follower. */
static void leave_one(bool leader, bool kill)
{
    size_t i;

    cluster = cluster_up(&(struct cluster_config){
        .n = 3, .heartbeat_ms = "40", .election_ms = "400"});
    i = cluster_leader(cluster);
    left = leader ? i : (i + 1) % 3;
    client = client_new(cluster_address(cluster, left));
    client_set_timeout(client, PATIENCE_MS);
    {
        struct answer a = client_put(client, "k", "old", 0, NULL);

        ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
        answer_release(&a);
    }
    cluster_settle(cluster);
    for (i = 1; i < 3; i++) {
        if (kill) {
            cluster_kill(cluster, (left + i) % 3);
        } else {
            cluster_pause(cluster, (left + i) % 3);
        }
    }
}

static void bring_back(bool kill)
{
    for (size_t i = 1; i < 3; i++) {
        if (kill) {
            cluster_start(cluster, (left + i) % 3);
        } else {
            cluster_resume(cluster, (left + i) % 3);
        }
    }
    cluster_settle(cluster);
}

static void assert_unavailable(struct call *call, const char *what)
{
    struct answer *a = &call->answer;

    ck_assert(call_wait(call, PATIENCE_MS));
    printf("%s of a minority: %s \"%s\"\n", what, grpc_code_name((int)a->code),
           a->text);
    ck_assert_int_eq(a->code, GRPC_UNAVAILABLE);
    ck_assert(strncmp(a->text, "etcdserver: ", 12) == 0);
}

/* All at once: each is given up only after the server's patience. */
static void assert_all_unavailable(void)
{
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    Etcdserverpb__RangeRequest get = ETCDSERVERPB__RANGE_REQUEST__INIT;
    Pawl__V1__CheckRequest check = PAWL__V1__CHECK_REQUEST__INIT;
    struct call calls[3];

    put.key = get.key = check.name =
        (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "k"};
    call_start(&calls[0], client, "/etcdserverpb.KV/Put", &put.base,
               &etcdserverpb__put_response__descriptor, NULL, 0);
    call_start(&calls[1], client, "/etcdserverpb.KV/Range", &get.base,
               &etcdserverpb__range_response__descriptor, NULL, 0);
    call_start(&calls[2], client, "/pawl.v1.Lock/Check", &check.base,
               &pawl__v1__check_response__descriptor, NULL, 0);
    assert_unavailable(&calls[0], "a write");
    assert_unavailable(&calls[1], "a linearizable read");
    assert_unavailable(&calls[2], "a check of a lock");
}

static void assert_value(const char *value, bool serializable)
{
    struct answer a = client_get(client, "k", 0, serializable);

    ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
    ck_assert_uint_eq(a.range->n_kvs, 1);
    ck_assert_uint_eq(a.range->kvs[0]->value.len, strlen(value));
    ck_assert_mem_eq(a.range->kvs[0]->value.data, value, strlen(value));
    answer_release(&a);
}

/* Bit 0: the leader is left, or a follower. Bit 1: the others are killed, or
 * stopped. */
START_TEST(one_of_three_refuses_what_it_cannot_promise)
{
    bool leader = (_i & 1) != 0, kill = (_i & 2) != 0;
    struct answer a;

    leave_one(leader, kill);
    assert_all_unavailable();
    assert_value("old", true); /* that one may be old */
    a = client_status(client);
    ck_assert_int_eq(a.code, GRPC_OK);
    ck_assert_uint_eq(a.status->leader, 0);
    ck_assert_uint_eq(a.status->n_errors, 1);
    answer_release(&a);
    bring_back(kill);
    a = client_put(client, "k", "new", 0, NULL);
    ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
    answer_release(&a);
    assert_value("new", false);
    client_free(client);
    cluster_free(cluster);
}
END_TEST

/* Before it notices, too: nothing is answered on the strength of the past. */
START_TEST(leader_that_was_left_alone_a_moment_ago_acknowledges_nothing)
{
    struct call put, get;
    Etcdserverpb__PutRequest prq = ETCDSERVERPB__PUT_REQUEST__INIT;
    Etcdserverpb__RangeRequest rrq = ETCDSERVERPB__RANGE_REQUEST__INIT;

    prq.key = rrq.key = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "k"};
    leave_one(true, true);
    client_set_timeout(client, 200); /* half an election timeout */
    call_start(&put, client, "/etcdserverpb.KV/Put", &prq.base,
               &etcdserverpb__put_response__descriptor, NULL, 0);
    call_start(&get, client, "/etcdserverpb.KV/Range", &rrq.base,
               &etcdserverpb__range_response__descriptor, NULL, 0);
    ck_assert(call_wait(&put, PATIENCE_MS));
    ck_assert(call_wait(&get, PATIENCE_MS));
    ck_assert_int_ne(put.answer.code, GRPC_OK);
    ck_assert_int_ne(get.answer.code, GRPC_OK);
    client_free(client);
    cluster_free(cluster);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("minority");
    TCase *tc = tcase_create("minority");

    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, one_of_three_refuses_what_it_cannot_promise, 0, 4);
    tcase_add_test(
        tc, leader_that_was_left_alone_a_moment_ago_acknowledges_nothing);
    suite_add_tcase(s, tc);
    return program_run(s);
}
