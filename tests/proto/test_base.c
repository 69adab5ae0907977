/*
 * test_base.c - memory, slices, buffers, clocks.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "tests/suite.h"

static struct slice text_of(const char *s)
{
    return (struct slice){(const uint8_t *)s, strlen(s)};
}

START_TEST(slices_are_ordered_as_keys_are)
{
    static const char *const rows[] = {"",   "a",    "aa",   "ab",  "b",
                                       "ba", "\x7f", "\x80", "\xff"};

    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        for (size_t j = 0; j < ARRAY_LENGTH(rows); j++) {
            int order = slice_compare(text_of(rows[i]), text_of(rows[j]));

            ck_assert_int_eq(order < 0, i < j);
            ck_assert_int_eq(order > 0, i > j);
            ck_assert_int_eq(slice_equal(text_of(rows[i]), text_of(rows[j])),
                             i == j);
        }
    }
}
END_TEST

START_TEST(zero_bytes_count)
{
    struct slice a = {(const uint8_t *)"a\0b", 3};
    struct slice b = {(const uint8_t *)"a\0c", 3};

    ck_assert_int_lt(slice_compare(a, b), 0);
    ck_assert(!slice_equal(a, b));
    ck_assert(slice_equal((struct slice){NULL, 0}, text_of("")));
}
END_TEST

START_TEST(buffer_is_a_queue_of_bytes)
{
    struct buffer b = {0};
    uint8_t next_in = 0, next_out = 0;
    size_t in = 0, out = 0;

    for (int i = 1; i < 2000; i++) {
        for (int j = 0; j < i % 97; j++) {
            buffer_append(&b, &next_in, 1);
            next_in++;
            in++;
        }
        for (size_t n = b.size / 2; n > 0; n--) {
            ck_assert_uint_eq(b.data[0], next_out++);
            buffer_consume(&b, 1);
            out++;
        }
        ck_assert_uint_eq(b.size, in - out);
    }
    buffer_consume(&b, b.size);
    ck_assert_uint_eq(b.size, 0);
    buffer_release(&b);
    ck_assert_ptr_null(b.data);
}
END_TEST

START_TEST(buffer_takes_nothing_from_nowhere)
{
    struct buffer b = {0};

    buffer_append(&b, NULL, 0);
    buffer_consume(&b, 0);
    ck_assert_uint_eq(b.size, 0);
    buffer_reserve(&b, 1 << 20);
    ck_assert_uint_ge(b.capacity, 1 << 20);
    buffer_release(&b);
}
END_TEST

START_TEST(memory_is_zeroed_and_never_null)
{
    unsigned char *p = mem_alloc(1000, 3);

    for (int i = 0; i < 3000; i++) {
        ck_assert_uint_eq(p[i], 0);
    }
    p = mem_realloc(p, 4000, 3);
    ck_assert_ptr_nonnull(p);
    free(p);
    p = mem_alloc(0, 0);
    ck_assert_ptr_nonnull(p);
    free(p);
}
END_TEST

START_TEST(strings_are_copied)
{
    char *s = mem_strdup("abc");

    ck_assert_str_eq(s, "abc");
    free(s);
    s = mem_printf("%d-%s", 7, "x");
    ck_assert_str_eq(s, "7-x");
    free(s);
}
END_TEST

START_TEST(clock_does_not_run_back)
{
    uint64_t last = clock_us();

    for (int i = 0; i < 10000; i++) {
        uint64_t now = clock_us();

        ck_assert_uint_ge(now, last);
        last = now;
    }
    ck_assert_uint_le(clock_ms() - last / 1000, 1000);
}
END_TEST

START_TEST(random_numbers_differ)
{
    ck_assert_uint_ne(random_u64(), random_u64());
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base");
    TCase *tc = tcase_create("base");

    tcase_add_test(tc, slices_are_ordered_as_keys_are);
    tcase_add_test(tc, zero_bytes_count);
    tcase_add_test(tc, buffer_is_a_queue_of_bytes);
    tcase_add_test(tc, buffer_takes_nothing_from_nowhere);
    tcase_add_test(tc, memory_is_zeroed_and_never_null);
    tcase_add_test(tc, strings_are_copied);
    tcase_add_test(tc, clock_does_not_run_back);
    tcase_add_test(tc, random_numbers_differ);
    suite_add_tcase(s, tc);
    return suite_main(s);
}
