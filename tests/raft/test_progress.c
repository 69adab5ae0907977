/*
 * test_progress.c - a follower as its leader sees it.
 */
#include "raft/internal.h"
#include "tests/raft/suite.h"

enum { WINDOW = 3, BYTES = 100 };

static struct progress p;

static void setup(void)
{
    progress_init(&p, 2, 11, WINDOW, 0);
}

static void teardown(void)
{
    progress_release(&p);
}

static void replicate_from(raft_index match)
{
    (void)progress_matched(&p, match);
    ck_assert_int_eq(p.state, RAFT_PROGRESS_REPLICATE);
}

START_TEST(probe_sends_one_at_a_time)
{
    ck_assert(progress_may_send(&p, BYTES));
    progress_sent(&p, 5, 50);
    ck_assert(!progress_may_send(&p, BYTES));
    ck_assert_uint_eq(p.next_index, 11); /* not optimistic */
}
END_TEST

START_TEST(match_begins_replicating)
{
    progress_sent(&p, 5, 50);
    ck_assert(progress_matched(&p, 15));
    ck_assert_int_eq(p.state, RAFT_PROGRESS_REPLICATE);
    ck_assert_uint_eq(p.next_index, 16);
}
END_TEST

START_TEST(window_is_bounded_by_messages)
{
    replicate_from(10);
    for (int i = 0; i < WINDOW; i++) {
        ck_assert(progress_may_send(&p, BYTES));
        progress_sent(&p, 2, 1);
    }
    ck_assert(!progress_may_send(&p, BYTES));
    ck_assert_uint_eq(p.next_index, 17);
    (void)progress_matched(&p, 13); /* the first, and half of the second */
    ck_assert_uint_eq(p.window_n, 2);
    ck_assert(progress_may_send(&p, BYTES));
    progress_sent(&p, 2, 1); /* wraps around */
    (void)progress_matched(&p, 18);
    ck_assert_uint_eq(p.window_n, 0);
    ck_assert_uint_eq(p.window_bytes, 0);
}
END_TEST

START_TEST(window_is_bounded_by_bytes)
{
    replicate_from(10);
    progress_sent(&p, 1, BYTES);
    ck_assert(!progress_may_send(&p, BYTES));
    (void)progress_matched(&p, 11);
    ck_assert(progress_may_send(&p, BYTES));
}
END_TEST

START_TEST(empty_appends_take_no_room)
{
    replicate_from(10);
    progress_sent(&p, 0, 0);
    ck_assert_uint_eq(p.window_n, 0);
    ck_assert_uint_eq(p.next_index, 11);
}
END_TEST

START_TEST(B5_match_never_falls_and_next_is_above)
{
    replicate_from(20);
    ck_assert(!progress_matched(&p, 15));
    ck_assert_uint_eq(p.match_index, 20);
    ck_assert(!progress_matched(&p, 20));
    ck_assert(progress_matched(&p, 30)); /* beyond what we sent */
    ck_assert_uint_eq(p.next_index, 31);
    ck_assert(!progress_refused(&p, 30, 3)); /* late: it matched since */
    ck_assert_int_eq(p.state, RAFT_PROGRESS_REPLICATE);
    ck_assert(!progress_refused(&p, 31, 3)); /* never asked */
}
END_TEST

START_TEST(refusal_goes_back_to_probing_at_the_hint)
{
    replicate_from(10);
    progress_sent(&p, 5, 10);
    progress_sent(&p, 5, 10);
    ck_assert(progress_refused(&p, 15, 12));
    ck_assert_int_eq(p.state, RAFT_PROGRESS_PROBE);
    ck_assert_uint_eq(p.next_index, 13);
    ck_assert_uint_eq(p.window_n, 0);
    ck_assert(progress_may_send(&p, BYTES));
    ck_assert(!progress_refused(&p, 20, 12)); /* of the same loss */
    ck_assert_uint_eq(p.next_index, 13);
}
END_TEST

START_TEST(hint_below_match_is_not_believed)
{
    replicate_from(10);
    progress_sent(&p, 5, 10);
    ck_assert(progress_refused(&p, 14, 3));
    ck_assert_uint_eq(p.next_index, 11);
}
END_TEST

START_TEST(probe_always_falls_when_refused)
{
    for (raft_index refused = 10; refused > 0; refused--) {
        progress_sent(&p, 1, 1);
        /* A hint that is no help: one step at a time. */
        ck_assert(progress_refused(&p, refused, refused));
        ck_assert_uint_eq(p.next_index, refused);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("progress");
    TCase *t = tcase_create("progress");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, probe_sends_one_at_a_time);
    tcase_add_test(t, match_begins_replicating);
    tcase_add_test(t, window_is_bounded_by_messages);
    tcase_add_test(t, window_is_bounded_by_bytes);
    tcase_add_test(t, empty_appends_take_no_room);
    tcase_add_test(t, B5_match_never_falls_and_next_is_above);
    tcase_add_test(t, refusal_goes_back_to_probing_at_the_hint);
    tcase_add_test(t, hint_below_match_is_not_believed);
    tcase_add_test(t, probe_always_falls_when_refused);
    suite_add_tcase(suite, t);
    return suite_run(suite);
}
