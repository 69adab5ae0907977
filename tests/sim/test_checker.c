/*
 * test_checker.c - histories of which we know whether an order explains them.
 */
#include <check.h>
#include <stdlib.h>

#include "raft/base.h"
#include "tests/sim/checker.h"
#include "tests/suite.h"

#define OPEN CHECK_OPEN
#define PUT(b, e, v)                                                           \
    {                                                                          \
        .begin = (b), .end = (e), .writes = true, .value = (v)                 \
    }
#define SWAP(b, e, s, v)                                                       \
    {                                                                          \
        .begin = (b), .end = (e), .sees = true, .seen = (s), .writes = true,   \
        .value = (v)                                                           \
    }
#define GET(b, e, s)                                                           \
    {                                                                          \
        .begin = (b), .end = (e), .sees = true, .seen = (s)                    \
    }
#define DELETE(b, e, s) SWAP(b, e, s, 0)

struct history {
    const char *why;
    enum check_result expected;
    size_t n;
    struct check_op ops[8];
};

static const struct history histories[] = {
    {"nothing happened", CHECK_GOOD, 0, {{0}}},
    {"one after the other",
     CHECK_GOOD,
     3,
     {PUT(1, 2, 7), GET(3, 4, 7), DELETE(5, 6, 7)}},
    {"a read of what was never written",
     CHECK_BAD,
     2,
     {PUT(1, 2, 7), GET(3, 4, 8)}},
    {"a stale read", CHECK_BAD, 3, {PUT(1, 2, 7), PUT(3, 4, 8), GET(5, 6, 7)}},
    {"a read beside a write sees it",
     CHECK_GOOD,
     2,
     {PUT(1, 5, 7), GET(2, 3, 7)}},
    {"or does not", CHECK_GOOD, 2, {PUT(1, 5, 7), GET(2, 3, 0)}},
    {"seen, and then not any more",
     CHECK_BAD,
     3,
     {PUT(1, 9, 7), GET(2, 3, 7), GET(4, 5, 0)}},
    {"not seen, and then seen",
     CHECK_GOOD,
     3,
     {PUT(1, 9, 7), GET(2, 3, 0), GET(4, 5, 7)}},
    {"two readers disagree on the order of two writes",
     CHECK_BAD,
     6,
     {PUT(1, 9, 7), PUT(1, 9, 8), GET(2, 3, 7), GET(4, 5, 8), GET(2, 3, 8),
      GET(4, 5, 7)}},
    {"an open write is seen at last",
     CHECK_GOOD,
     3,
     {PUT(1, OPEN, 7), GET(2, 3, 0), GET(100, 101, 7)}},
    {"an open write is never seen",
     CHECK_GOOD,
     2,
     {PUT(1, OPEN, 7), GET(100, 101, 0)}},
    {"an open write is seen before it began",
     CHECK_BAD,
     2,
     {GET(1, 2, 7), PUT(3, OPEN, 7)}},
    {"an open write is seen, lost, and seen again",
     CHECK_BAD,
     4,
     {PUT(1, OPEN, 7), GET(2, 3, 7), GET(4, 5, 0), GET(6, 7, 7)}},
    {"an open write took effect twice",
     CHECK_BAD,
     4,
     {PUT(1, OPEN, 7), SWAP(2, 3, 7, 8), GET(4, 5, 8), GET(6, 7, 7)}},
    {"a write was lost: the next one did not replace it",
     CHECK_BAD,
     2,
     {SWAP(1, 2, 0, 7), SWAP(3, 4, 0, 8)}},
    {"each of three replaced another",
     CHECK_GOOD,
     3,
     {SWAP(1, 9, 8, 7), SWAP(1, 9, 0, 8), SWAP(1, 9, 7, 9)}},
    {"three in a circle",
     CHECK_BAD,
     3,
     {SWAP(1, 9, 9, 7), SWAP(1, 9, 7, 8), SWAP(1, 9, 8, 9)}},
    {"deleted twice",
     CHECK_BAD,
     3,
     {PUT(1, 2, 7), DELETE(3, 6, 7), DELETE(3, 6, 7)}},
    {"an open delete explains an absence",
     CHECK_GOOD,
     3,
     {PUT(1, 2, 7), {.begin = 3, .end = OPEN, .writes = true}, GET(5, 6, 0)}},
    {"touching ends are no order", CHECK_GOOD, 2, {PUT(1, 5, 7), GET(5, 6, 0)}},
};

START_TEST(history_is_told_good_or_bad)
{
    const struct history *h = &histories[_i];

    ck_assert_msg(checker_run(h->ops, h->n, 1000) == h->expected, "%s", h->why);
}
END_TEST

#define N 400

/*
 * A register that works, asked by a few clients at a time: each operation
 * takes effect at a moment between its begin and its end.
 */
static void draw_history(uint64_t seed, struct check_op *ops)
{
    struct rng g;
    uint64_t value = 0, at = 10;

    rng_init(&g, seed);
    for (size_t i = 0; i < N; i++) {
        struct check_op *o = &ops[i];

        at += 1 + rng_below(&g, 10); /* its moment */
        *o = (struct check_op){.begin = at - rng_below(&g, 10),
                               .end = at + rng_below(&g, 60),
                               .sees = rng_below(&g, 3) > 0,
                               .seen = value,
                               .writes = rng_below(&g, 2)};
        o->sees |= !o->writes;
        o->value = rng_below(&g, 4) ? i + 1 : 0;
        value = o->writes ? o->value : value;
        if (o->writes && rng_below(&g, 10) == 0) {
            o->end = OPEN;
            o->sees = false;
        }
    }
}

START_TEST(long_histories_of_a_true_register_are_good)
{
    struct check_op ops[N];

    draw_history((uint64_t)_i, ops);
    ck_assert_int_eq(checker_run(ops, N, 10000000), CHECK_GOOD);
}
END_TEST

/* What was seen is of a value that had been replaced, and read so, for long. */
START_TEST(one_stale_read_spoils_a_long_history)
{
    struct check_op ops[N];

    draw_history((uint64_t)_i, ops);
    ops[N / 2] =
        (struct check_op)PUT(ops[N / 2].begin, ops[N / 2].begin + 60, 9999);
    ops[N - 1] = (struct check_op)GET(100000, 100001, 9999);
    ops[N - 2] = (struct check_op)GET(99998, 99999, 9998);
    ops[N - 3] = (struct check_op)PUT(99996, 99997, 9998);
    ck_assert_int_ne(checker_run(ops, N, 10000000), CHECK_GOOD);
}
END_TEST

START_TEST(a_search_has_an_end)
{
    struct check_op ops[N];

    draw_history(1, ops);
    ck_assert_int_eq(checker_run(ops, N, 10), CHECK_UNDECIDED);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checker");
    TCase *t = tcase_create("all");

    suite_add_tcase(suite, t);
    tcase_set_timeout(t, 60); /* a search; sanitizers slow it tenfold */
    tcase_add_loop_test(t, history_is_told_good_or_bad, 0,
                        sizeof histories / sizeof histories[0]);
    tcase_add_loop_test(t, long_histories_of_a_true_register_are_good, 0, 20);
    tcase_add_loop_test(t, one_stale_read_spoils_a_long_history, 0, 20);
    tcase_add_test(t, a_search_has_an_end);
    return suite_main(suite);
}
