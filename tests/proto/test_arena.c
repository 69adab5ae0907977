/*
 * test_arena.c - memory for one request.
 */
#include <check.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "etcd/rpc.pb-c.h"
#include "proto/arena.h"
#include "proto/base.h"
#include "tests/suite.h"

static struct arena a;

static void setup(void)
{
    arena_init(&a);
}

static void teardown(void)
{
    arena_release(&a);
}

START_TEST(memory_is_zeroed_aligned_and_apart)
{
    unsigned char *last = NULL;

    for (size_t size = 0; size < 300; size++) {
        unsigned char *p = arena_alloc(&a, size);

        ck_assert_uint_eq((uintptr_t)p % alignof(max_align_t), 0);
        for (size_t i = 0; i < size; i++) {
            ck_assert_uint_eq(p[i], 0);
        }
        memset(p, 0xee, size);
        if (last != NULL && size > 1) {
            ck_assert_uint_eq(last[size - 2], 0xee);
        }
        last = p;
    }
}
END_TEST

START_TEST(memory_after_reset_is_zeroed_again)
{
    for (int i = 0; i < 3; i++) {
        unsigned char *p = arena_alloc(&a, 1000);

        for (size_t j = 0; j < 1000; j++) {
            ck_assert_uint_eq(p[j], 0);
        }
        memset(p, 0xee, 1000);
        arena_reset(&a);
    }
}
END_TEST

START_TEST(large_blocks_are_given_and_not_kept)
{
    unsigned char *p = arena_alloc(&a, 10 << 20);

    memset(p, 1, 10 << 20);
    arena_reset(&a);
    ck_assert_uint_lt((size_t)(a.end - a.next), 1 << 20);
    p = arena_alloc(&a, 100);
    memset(p, 1, 100);
}
END_TEST

START_TEST(small_blocks_go_on_after_a_large_one)
{
    unsigned char *first = arena_alloc(&a, 16), *large, *next;

    large = arena_alloc(&a, 1 << 20);
    memset(large, 1, 1 << 20);
    next = arena_alloc(&a, 16);
    ck_assert_ptr_ne(first, next);
    ck_assert_uint_eq(next[0], 0);
}
END_TEST

START_TEST(copy_and_printf)
{
    char *s;

    ck_assert(memcmp(arena_copy(&a, "abc", 4), "abc", 4) == 0);
    ck_assert_ptr_nonnull(arena_copy(&a, NULL, 0));
    s = arena_printf(&a, "%s-%d", "x", 42);
    ck_assert_str_eq(s, "x-42");
    s = arena_printf(&a, "%05000d", 7);
    ck_assert_uint_eq(strlen(s), 5000);
}
END_TEST

START_TEST(messages_unpack_into_it)
{
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT, *got;
    uint8_t packed[64];
    size_t size;

    put.key.data = (uint8_t *)(uintptr_t) "key";
    put.key.len = 3;
    put.lease = -1;
    size = protobuf_c_message_pack(&put.base, packed);
    for (int i = 0; i < 1000; i++) {
        got = (void *)protobuf_c_message_unpack(
            &etcdserverpb__put_request__descriptor, &a.allocator, size, packed);
        ck_assert_ptr_nonnull(got);
        ck_assert_uint_eq(got->key.len, 3);
        ck_assert_int_eq(got->lease, -1);
        if (i % 7 == 0) {
            arena_reset(&a);
        }
    }
}
END_TEST

START_TEST(allocator_stops_at_its_limit)
{
    Etcdserverpb__TxnRequest *txn;
    uint8_t *packed = malloc(200000);

    for (size_t i = 0; i < 200000; i += 2) {
        packed[i] = 0x12;  /* success: a RequestOp */
        packed[i + 1] = 0; /* of no bytes */
    }
    txn = (void *)protobuf_c_message_unpack(
        &etcdserverpb__txn_request__descriptor, &a.allocator, 200000, packed);
    ck_assert_ptr_nonnull(txn);
    ck_assert_uint_eq(txn->n_success, 100000);
    arena_reset(&a);
    arena_limit_allocator(&a, 1 << 20);
    ck_assert_ptr_null(protobuf_c_message_unpack(
        &etcdserverpb__txn_request__descriptor, &a.allocator, 200000, packed));
    ck_assert_ptr_nonnull(arena_alloc(&a, 2 << 20));
    arena_reset(&a);
    ck_assert_ptr_nonnull(protobuf_c_message_unpack(
        &etcdserverpb__txn_request__descriptor, &a.allocator, 200000, packed));
    free(packed);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("arena");
    TCase *tc = tcase_create("arena");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, memory_is_zeroed_aligned_and_apart);
    tcase_add_test(tc, memory_after_reset_is_zeroed_again);
    tcase_add_test(tc, large_blocks_are_given_and_not_kept);
    tcase_add_test(tc, small_blocks_go_on_after_a_large_one);
    tcase_add_test(tc, copy_and_printf);
    tcase_add_test(tc, messages_unpack_into_it);
    tcase_add_test(tc, allocator_stops_at_its_limit);
    suite_add_tcase(s, tc);
    return suite_main(s);
}
