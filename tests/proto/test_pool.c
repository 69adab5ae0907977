/*
 * test_pool.c - blocks come back whole, and their contents stay apart.
 */
#include <check.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "proto/pool.h"
#include "tests/suite.h"

static struct pool pool;

static void setup(void)
{
    pool_init(&pool);
}

static void teardown(void)
{
    pool_release(&pool);
}

START_TEST(blocks_of_every_size_stay_apart)
{
    enum { N = 1500 };
    static unsigned char *blocks[N];

    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < N; i++) {
            blocks[i] = pool_alloc(&pool, i);
            if ((uintptr_t)blocks[i] % alignof(max_align_t) != 0) {
                ck_abort_msg("size %zu is not aligned", i);
            }
            memset(blocks[i], (int)i, i);
        }
        for (size_t i = 0; i < N; i++) {
            for (size_t j = 0; j < i; j++) {
                if (blocks[i][j] != (unsigned char)i) {
                    ck_abort_msg("block %zu was overwritten", i);
                }
            }
            pool_free(&pool, blocks[i]);
        }
    }
}
END_TEST

START_TEST(growing_keeps_the_contents)
{
    unsigned char *p = pool_realloc(&pool, NULL, 1);

    p[0] = 0;
    for (size_t size = 2; size < 5000; size++) {
        p = pool_realloc(&pool, p, size);
        p[size - 1] = (unsigned char)(size - 1);
        if (p[size / 2] != (unsigned char)(size / 2)) {
            ck_abort_msg("lost at %zu", size);
        }
    }
    p = pool_realloc(&pool, p, 10);
    ck_assert_uint_eq(p[9], 9);
    pool_free(&pool, p);
    pool_free(&pool, NULL);
}
END_TEST

START_TEST(freed_block_is_used_again)
{
    void *first = pool_alloc(&pool, 100);

    pool_free(&pool, first);
    if (POOL_KEEPS) {
        ck_assert_ptr_eq(pool_alloc(&pool, 97), first);
        pool_free(&pool, first);
    }
}
END_TEST

START_TEST(kept_blocks_are_bounded)
{
    enum { N = 6000 };
    static void *blocks[N];

    for (size_t i = 0; i < N; i++) {
        blocks[i] = pool_alloc(&pool, 64);
    }
    for (size_t i = 0; i < N; i++) {
        pool_free(&pool, blocks[i]);
    }
    ck_assert_uint_le(pool.n_free[2], 4096);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pool");
    TCase *tc = tcase_create("pool");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, blocks_of_every_size_stay_apart);
    tcase_add_test(tc, growing_keeps_the_contents);
    tcase_add_test(tc, freed_block_is_used_again);
    tcase_add_test(tc, kept_blocks_are_bounded);
    suite_add_tcase(s, tc);
    return suite_main(s);
}
