/*
 * test_histogram.c - quantiles of known values.
 */
#include "tests/bench/histogram.h"
#include "tests/suite.h"

#include <check.h>
#include <stdlib.h>

static struct histogram h;

static void reset(void)
{
    histogram_reset(&h);
}

START_TEST(empty_says_zero)
{
    ck_assert_uint_eq(histogram_quantile(&h, 0.5), 0);
    ck_assert_uint_eq(histogram_quantile(&h, 1), 0);
}
END_TEST

START_TEST(small_values_are_exact)
{
    for (uint64_t v = 1; v <= 200; v++) {
        histogram_add(&h, v);
    }
    ck_assert_uint_eq(histogram_quantile(&h, 0.5), 100);
    ck_assert_uint_eq(histogram_quantile(&h, 0.99), 198);
    ck_assert_uint_eq(histogram_quantile(&h, 1), 200);
}
END_TEST

START_TEST(quantile_is_within_one_percent_above)
{
    for (uint64_t v = 1; v <= 100000; v++) {
        histogram_add(&h, v * 1000);
    }
    for (int percent = 1; percent <= 100; percent++) {
        uint64_t truth = (uint64_t)percent * 1000 * 1000;
        uint64_t said = histogram_quantile(&h, percent / 100.0);

        ck_assert_uint_ge(said, truth);
        ck_assert_uint_le(said, truth + truth / 100);
    }
}
END_TEST

START_TEST(max_is_exact)
{
    histogram_add(&h, 3);
    histogram_add(&h, 123456789);
    ck_assert_uint_eq(h.max, 123456789);
    ck_assert_uint_eq(histogram_quantile(&h, 0.999), 123456789);
    ck_assert_uint_eq(histogram_quantile(&h, 0.5), 3);
}
END_TEST

START_TEST(takes_the_largest_value_there_is)
{
    histogram_add(&h, UINT64_MAX);
    histogram_add(&h, 0);
    ck_assert_uint_eq(histogram_quantile(&h, 1), UINT64_MAX);
    ck_assert_uint_eq(histogram_quantile(&h, 0.5), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("histogram");
    TCase *tc = tcase_create("quantiles");

    tcase_add_checked_fixture(tc, reset, NULL);
    tcase_add_test(tc, empty_says_zero);
    tcase_add_test(tc, small_values_are_exact);
    tcase_add_test(tc, quantile_is_within_one_percent_above);
    tcase_add_test(tc, max_is_exact);
    tcase_add_test(tc, takes_the_largest_value_there_is);
    suite_add_tcase(suite, tc);
    return suite_main(suite);
}
