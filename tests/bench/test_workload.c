/*
 * test_workload.c - the bodies are what a server will decode.
 */
#include "tests/bench/workload.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "etcd/rpc.pb-c.h"
#include "tests/suite.h"

static struct workload_config config;
static struct workload *w;
static uint8_t *body;

static void open_workload(void)
{
    config = (struct workload_config){.put_percent = 20,
                                      .get_percent = 80,
                                      .keys = 50,
                                      .key_size = 12,
                                      .value_size = 300,
                                      .seed = 7};
    w = workload_new(&config);
    body = malloc(workload_body_size_max(w));
}

static void close_workload(void)
{
    free(body);
    workload_free(w);
}

/* The message behind the gRPC prefix, which must tell its size. */
static const uint8_t *message_of(size_t size, size_t *message_size)
{
    *message_size = size - 5;
    ck_assert_uint_eq(body[0], 0);
    ck_assert_uint_eq((size_t)body[1] << 24 | (size_t)body[2] << 16 |
                          (size_t)body[3] << 8 | body[4],
                      *message_size);
    return body + 5;
}

static void key_is(ProtobufCBinaryData key, const char *expected)
{
    ck_assert_uint_eq(key.len, strlen(expected));
    ck_assert_mem_eq(key.data, expected, key.len);
}

START_TEST(put_carries_key_and_value)
{
    size_t size;
    const uint8_t *data = message_of(workload_fill(w, OP_PUT, 42, body), &size);
    Etcdserverpb__PutRequest *m =
        etcdserverpb__put_request__unpack(NULL, size, data);

    ck_assert_ptr_nonnull(m);
    key_is(m->key, "k00000000042");
    ck_assert_uint_eq(m->value.len, 300);
    etcdserverpb__put_request__free_unpacked(m, NULL);
}
END_TEST

START_TEST(get_asks_for_one_key)
{
    size_t size;
    const uint8_t *data = message_of(workload_fill(w, OP_GET, 7, body), &size);
    Etcdserverpb__RangeRequest *m =
        etcdserverpb__range_request__unpack(NULL, size, data);

    ck_assert_ptr_nonnull(m);
    key_is(m->key, "k00000000007");
    ck_assert_uint_eq(m->range_end.len, 0);
    ck_assert(!m->serializable);
    etcdserverpb__range_request__free_unpacked(m, NULL);
}
END_TEST

START_TEST(txn_has_the_key_in_all_three_places)
{
    size_t size;
    const uint8_t *data = message_of(workload_fill(w, OP_TXN, 49, body), &size);
    Etcdserverpb__TxnRequest *m =
        etcdserverpb__txn_request__unpack(NULL, size, data);

    ck_assert_ptr_nonnull(m);
    ck_assert_uint_eq(m->n_compare, 1);
    ck_assert_uint_eq(m->n_success, 2);
    key_is(m->compare[0]->key, "k00000000049");
    key_is(m->success[0]->request_put->key, "k00000000049");
    key_is(m->success[1]->request_range->key, "k00000000049");
    etcdserverpb__txn_request__free_unpacked(m, NULL);
}
END_TEST

START_TEST(percentages_are_kept)
{
    int count[OP_COUNT] = {0};

    for (int i = 0; i < 10000; i++) {
        count[workload_next_op(w)]++;
    }
    ck_assert_int_gt(count[OP_PUT], 1800);
    ck_assert_int_lt(count[OP_PUT], 2200);
    ck_assert_int_eq(count[OP_TXN], 0);
}
END_TEST

START_TEST(every_key_comes_up_and_no_other)
{
    bool seen[50] = {false};

    for (int i = 0; i < 5000; i++) {
        uint64_t key = workload_next_key(w);

        ck_assert_uint_lt(key, 50);
        seen[key] = true;
    }
    for (int i = 0; i < 50; i++) {
        ck_assert(seen[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("workload");
    TCase *tc = tcase_create("bodies");

    tcase_add_checked_fixture(tc, open_workload, close_workload);
    tcase_add_test(tc, put_carries_key_and_value);
    tcase_add_test(tc, get_asks_for_one_key);
    tcase_add_test(tc, txn_has_the_key_in_all_three_places);
    tcase_add_test(tc, percentages_are_kept);
    tcase_add_test(tc, every_key_comes_up_and_no_other);
    suite_add_tcase(suite, tc);
    return suite_main(suite);
}
