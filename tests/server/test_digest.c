/*
 * test_digest.c - who differs from whom, and who is told to stop.
 */
#include "server/digest.h"

#include <check.h>
#include <stdlib.h>

#include "suite.h"

static struct digests *d;
static struct raft_server servers[] = {
    {1, RAFT_VOTER}, {2, RAFT_VOTER}, {3, RAFT_VOTER}, {9, RAFT_LEARNER}};
static const struct raft_configuration three = {servers, 4, NULL, 0};
static raft_index where;

static void setup(void)
{
    d = digests_new();
    where = 0;
}

static void teardown(void)
{
    digests_free(d);
}

/* Our digest of entry i is 100 + i. */
static void apply_to(raft_index first, raft_index last)
{
    for (raft_index i = first; i <= last; i++) {
        digests_applied(d, i, 100 + i);
    }
}

START_TEST(F11_who_differs_from_a_majority_has_diverged)
{
    apply_to(1, 10);
    digests_heard(d, 2, 5, 105);
    digests_heard(d, 3, 7, 107);
    ck_assert_int_eq(digests_judge(d, &three, &where), DIGEST_AGREES);
    digests_heard(d, 2, 6, 1);
    ck_assert_int_eq(digests_judge(d, &three, &where), DIGEST_DOUBTFUL);
    ck_assert_uint_eq(where, 6);
    ck_assert_int_eq(digests_judge(d, &three, &where), DIGEST_AGREES);
    digests_heard(d, 3, 8, 2);
    ck_assert_int_eq(digests_judge(d, &three, &where), DIGEST_DIVERGED);
}
END_TEST

START_TEST(F11_a_learner_does_not_count)
{
    apply_to(1, 10);
    digests_heard(d, 9, 5, 1);
    digests_heard(d, 2, 5, 1);
    ck_assert_int_eq(digests_judge(d, &three, &where), DIGEST_DOUBTFUL);
}
END_TEST

START_TEST(F11_what_others_have_applied_before_us_waits_for_us)
{
    apply_to(1, 10);
    digests_heard(d, 2, 20, 1);
    digests_heard(d, 2, 21, 121); /* does not push the first one out */
    digests_heard(d, 3, 20, 1);
    ck_assert_int_eq(digests_judge(d, &three, &where), DIGEST_AGREES);
    apply_to(11, 19);
    ck_assert_int_eq(digests_judge(d, &three, &where), DIGEST_AGREES);
    apply_to(20, 20);
    ck_assert_int_eq(digests_judge(d, &three, &where), DIGEST_DIVERGED);
    ck_assert_uint_eq(where, 20);
}
END_TEST

START_TEST(who_came_back_with_the_right_state_is_believed_again)
{
    apply_to(1, 10);
    digests_heard(d, 2, 5, 1);
    digests_heard(d, 2, 9, 109);
    digests_heard(d, 3, 9, 1);
    ck_assert_int_eq(digests_judge(d, &three, &where), DIGEST_DOUBTFUL);
}
END_TEST

START_TEST(entries_that_are_not_known_here_are_not_compared)
{
    apply_to(1, 10);
    digests_applied(d, 50, 150); /* a snapshot */
    digests_heard(d, 2, 30, 1);
    digests_heard(d, 3, 49, 1);
    ck_assert_int_eq(digests_judge(d, &three, &where), DIGEST_AGREES);
    apply_to(51, 50000);
    digests_heard(d, 2, 60, 1); /* too long ago */
    digests_heard(d, 3, 60, 1);
    ck_assert_int_eq(digests_judge(d, &three, &where), DIGEST_AGREES);
    digests_heard(d, 2, 49000, 1);
    digests_heard(d, 3, 49000, 1);
    ck_assert_int_eq(digests_judge(d, &three, &where), DIGEST_DIVERGED);
}
END_TEST

START_TEST(F11_ours_is_told_each_second_and_each_thousand_entries)
{
    raft_index index = 0;
    uint64_t digest = 0;

    ck_assert(!digests_due(d, 5000, &index, &digest));
    apply_to(1, 1);
    ck_assert(digests_due(d, 5000, &index, &digest));
    ck_assert_uint_eq(index, 1);
    ck_assert_uint_eq(digest, 101);
    ck_assert(!digests_due(d, 9000, &index, &digest)); /* nothing new */
    apply_to(2, 3);
    ck_assert(digests_due(d, 9000, &index, &digest));
    apply_to(4, 1002);
    ck_assert(!digests_due(d, 9999, &index, &digest));
    apply_to(1003, 1003);
    ck_assert(digests_due(d, 9999, &index, &digest));
    ck_assert_uint_eq(index, 1003);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        F11_who_differs_from_a_majority_has_diverged,
        F11_a_learner_does_not_count,
        F11_what_others_have_applied_before_us_waits_for_us,
        who_came_back_with_the_right_state_is_believed_again,
        entries_that_are_not_known_here_are_not_compared,
        F11_ours_is_told_each_second_and_each_thousand_entries,
    };

    return suite_run_with("digest", tests, sizeof(tests) / sizeof(tests[0]),
                          setup, teardown);
}
