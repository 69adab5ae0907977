/*
 * test_lock.c - leases, their keeper, and locks, against a server that does
 * what it is told.
 */
#include <check.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/internal.h"
#include "fake.h"
#include "tests/suite.h"

static struct fake one, two;
static struct pawl *p;

static void setup(void)
{
    char list[80];
    struct pawl_options o = {
        .size = sizeof(o), .endpoints = list, .in_order = true};

    fake_start(&one);
    fake_start(&two);
    snprintf(list, sizeof(list), "%s,%s", one.address, two.address);
    p = pawl_open(&o, NULL);
    ck_assert_ptr_nonnull(p);
}

static void teardown(void)
{
    pawl_close(p);
    fake_stop(&one);
    fake_stop(&two);
}

/* ---- leases -------------------------------------------------------------- */

START_TEST(lease_lives_from_grant_to_revoke)
{
    struct pawl_lease_result *granted, *renewed;
    struct pawl_lease_info *info;
    struct pawl_lease_list_result *list;

    ck_assert_int_eq(pawl_lease_grant(p, 60, 0, &granted), PAWL_OK);
    ck_assert_int_eq(granted->lease, 0x77);
    ck_assert_int_eq(granted->ttl_s, 60);
    ck_assert_int_eq(pawl_lease_renew(p, 0x77, &renewed), PAWL_OK);
    ck_assert_int_eq(renewed->ttl_s, 60);
    ck_assert_int_eq(pawl_lease_inspect(p, 0x77, true, &info), PAWL_OK);
    ck_assert_int_eq(info->ttl_s, 59);
    ck_assert_uint_eq(info->n_keys, 2);
    ck_assert_mem_eq(info->keys[1].data, "\0\xff", 2);
    ck_assert_int_eq(pawl_lease_list(p, &list), PAWL_OK);
    ck_assert_int_eq(list->leases[0], -5);
    ck_assert_int_eq(pawl_lease_revoke(p, 0x77, NULL), PAWL_OK);
    ck_assert_int_eq(one.revoked, 0x77);
    pawl_free(granted);
    pawl_free(renewed);
    pawl_free(info);
    pawl_free(list);
}
END_TEST

START_TEST(renewal_of_an_ended_lease_is_not_found)
{
    struct pawl_lease_result *renewed = (struct pawl_lease_result *)&one;

    fake_set_ttl(&one, 0); /* as the wire says it */
    ck_assert_int_eq(pawl_lease_renew(p, 1, &renewed), PAWL_NOT_FOUND);
    ck_assert_ptr_null(renewed);
    ck_assert_str_eq(pawl_error(p), status_text(ST_LEASE_NOT_FOUND));
}
END_TEST

START_TEST(grant_of_a_chosen_id_is_not_repeated_blindly)
{
    fake_plan(&one, FAKE_GRANT, FAKE_DROP, GRPC_OK, NULL);
    ck_assert_int_eq(pawl_lease_grant(p, 60, 7, NULL), PAWL_MAYBE_APPLIED);
    ck_assert_uint_eq(fake_calls(&two, FAKE_GRANT), 0);
}
END_TEST

START_TEST(revoke_whose_answer_was_lost_has_revoked)
{
    fake_plan(&one, FAKE_REVOKE, FAKE_DROP, GRPC_OK, NULL);
    fake_plan(&two, FAKE_REVOKE, FAKE_FAIL, status_code(ST_LEASE_NOT_FOUND),
              status_text(ST_LEASE_NOT_FOUND));
    ck_assert_int_eq(pawl_lease_revoke(p, 7, NULL), PAWL_OK);
    ck_assert_str_eq(pawl_error(p), "");
    fake_plan(&two, FAKE_REVOKE, FAKE_FAIL, status_code(ST_LEASE_NOT_FOUND),
              status_text(ST_LEASE_NOT_FOUND));
    ck_assert_int_eq(pawl_lease_revoke(p, 7, NULL), PAWL_NOT_FOUND);
}
END_TEST

/* ---- the keeper ---------------------------------------------------------- */

static bool fd_is_readable(int fd, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    return poll(&poll_fd, 1, timeout_ms) == 1;
}

START_TEST(keeper_renews_at_once_and_then_trusts_the_whole_ttl)
{
    struct pawl_keeper *k;

    fake_set_ttl(&one, 1000);
    k = pawl_keeper_start(p, 7, 10);
    while (pawl_keeper_left_ms(k) <= 10000) { /* the test's timeout bounds it */
        ck_assert(!fd_is_readable(pawl_keeper_fd(k), 1));
    }
    ck_assert_int_eq(pawl_keeper_status(k), PAWL_OK);
    ck_assert_uint_le(pawl_keeper_left_ms(k), 1000000);
    ck_assert(!fd_is_readable(pawl_keeper_fd(k), 0));
    pawl_keeper_stop(k);
    ck_assert_uint_eq(fake_calls(&one, FAKE_RENEW), 1);
    ck_assert_int_eq(one.revoked, 0); /* the lease is the caller's */
}
END_TEST

START_TEST(keeper_renews_again_after_a_third)
{
    struct pawl_keeper *k;

    fake_set_ttl(&one, 1);
    k = pawl_keeper_start(p, 7, 1);
    while (fake_calls(&one, FAKE_RENEW) < 4) {
        ck_assert(!fd_is_readable(pawl_keeper_fd(k), 10));
    }
    ck_assert_int_eq(pawl_keeper_status(k), PAWL_OK);
    pawl_keeper_stop(k);
}
END_TEST

START_TEST(keeper_knows_when_the_lease_is_gone)
{
    struct pawl_keeper *k;
    char text[PAWL_ERROR_BYTES];

    fake_set_ttl(&one, 0);
    k = pawl_keeper_start(p, 7, 1000);
    ck_assert(fd_is_readable(pawl_keeper_fd(k), -1));
    ck_assert_int_eq(pawl_keeper_status(k), PAWL_LOST);
    ck_assert_uint_eq(pawl_keeper_left_ms(k), 0);
    pawl_keeper_error(k, text, sizeof(text));
    ck_assert_str_eq(text, status_text(ST_LEASE_NOT_FOUND));
    pawl_keeper_stop(k);
}
END_TEST

START_TEST(keeper_gives_up_when_the_ttl_has_passed_without_an_answer)
{
    uint64_t start = clock_ms();
    struct pawl_keeper *k;
    char text[PAWL_ERROR_BYTES];

    for (int i = 0; i < FAKE_STEPS; i++) {
        fake_plan(&one, FAKE_RENEW, FAKE_SILENT, GRPC_OK, NULL);
        fake_plan(&two, FAKE_RENEW, FAKE_SILENT, GRPC_OK, NULL);
    }
    k = pawl_keeper_start(p, 7, 1);
    ck_assert(fd_is_readable(pawl_keeper_fd(k), -1));
    ck_assert_uint_ge(clock_ms() - start, 490);
    ck_assert_uint_le(clock_ms() - start, 5000);
    ck_assert_int_eq(pawl_keeper_status(k), PAWL_LOST);
    pawl_keeper_error(k, text, sizeof(text));
    ck_assert_str_ne(text, "");
    pawl_keeper_stop(k);
}
END_TEST

START_TEST(keeper_survives_the_loss_of_a_server)
{
    struct pawl_keeper *k;

    fake_plan(&one, FAKE_RENEW, FAKE_DROP, GRPC_OK, NULL);
    k = pawl_keeper_start(p, 7, 10);
    while (pawl_keeper_left_ms(k) <= 10000) {
        ck_assert(!fd_is_readable(pawl_keeper_fd(k), 1));
    }
    ck_assert_uint_eq(fake_calls(&two, FAKE_RENEW), 1);
    pawl_keeper_stop(k);
}
END_TEST

START_TEST(keeper_stops_in_the_middle_of_a_renewal)
{
    struct pawl_keeper *k;
    uint64_t start = clock_ms();

    fake_plan(&one, FAKE_RENEW, FAKE_SILENT, GRPC_OK, NULL);
    k = pawl_keeper_start(p, 7, 1000);
    fake_await_call(&one, FAKE_RENEW);
    pawl_keeper_stop(k);
    ck_assert_uint_le(clock_ms() - start, 10000); /* not the 250 s it had */
}
END_TEST

/* ---- locks --------------------------------------------------------------- */

START_TEST(lock_is_taken_with_a_lease_of_its_own)
{
    struct pawl_lock_options o = {.size = sizeof(o), .ttl_s = 5};
    struct pawl_lock_result *lock;
    char key[64];

    ck_assert_int_eq(pawl_lock_acquire(p, pawl_text("n"), &o, &lock), PAWL_OK);
    snprintf(key, sizeof(key), "n/%llx", (unsigned long long)lock->lease);
    ck_assert_str_eq(lock->key.data, key);
    ck_assert_int_eq(lock->token, 17);
    ck_assert_int_gt(lock->lease, 0);
    ck_assert_int_eq(lock->ttl_s, 5);
    ck_assert_uint_eq(fake_calls(&one, FAKE_REVOKE), 0);
    pawl_free(lock);
}
END_TEST

START_TEST(repeated_acquire_asks_with_the_same_lease)
{
    struct pawl_lock_result *lock;

    fake_plan(&one, FAKE_ACQUIRE, FAKE_DROP, GRPC_OK, NULL);
    ck_assert_int_eq(pawl_lock_acquire(p, pawl_text("n"), NULL, &lock),
                     PAWL_OK);
    ck_assert_uint_eq(fake_calls(&one, FAKE_ACQUIRE), 1);
    ck_assert_uint_eq(fake_calls(&two, FAKE_ACQUIRE), 1);
    ck_assert_int_ne(one.leases[0], 0);
    ck_assert_int_eq(one.leases[0], two.leases[0]);
    ck_assert_int_eq(lock->lease, one.leases[0]);
    pawl_free(lock);
}
END_TEST

START_TEST(repeated_acquire_waits_only_for_what_is_left)
{
    struct pawl_lock_options o = {.size = sizeof(o), .wait_ms = 30000};

    fake_plan(&one, FAKE_ACQUIRE, FAKE_FAIL, status_code(ST_NO_LEADER),
              status_text(ST_NO_LEADER));
    fake_plan(&two, FAKE_ACQUIRE, FAKE_FAIL, status_code(ST_NO_LEADER),
              status_text(ST_NO_LEADER));
    fake_plan(&one, FAKE_ACQUIRE, FAKE_FAIL, status_code(ST_NO_LEADER),
              status_text(ST_NO_LEADER));
    ck_assert_int_eq(pawl_lock_acquire(p, pawl_text("n"), &o, NULL), PAWL_OK);
    ck_assert_int_le(one.waits[0], 30000);
    ck_assert_int_gt(one.waits[0], 29000);
    ck_assert_int_le(two.waits[1], one.waits[0]);
    ck_assert_int_gt(two.waits[1], 0);
}
END_TEST

START_TEST(waiting_for_ever_has_no_bound_at_the_server)
{
    struct pawl_lock_options o = {.size = sizeof(o), .wait_ms = -1};

    ck_assert_int_eq(pawl_lock_acquire(p, pawl_text("n"), &o, NULL), PAWL_OK);
    ck_assert_int_eq(one.waits[0], 0);
}
END_TEST

START_TEST(lock_of_another_is_not_acquired_and_nothing_is_left)
{
    struct pawl_lock_options o = {.size = sizeof(o), .try_only = true};
    struct pawl_lock_result *lock = (struct pawl_lock_result *)&one;

    one.held_by_other = true;
    ck_assert_int_eq(pawl_lock_acquire(p, pawl_text("n"), &o, &lock),
                     PAWL_NOT_ACQUIRED);
    ck_assert_ptr_null(lock);
    ck_assert_ptr_nonnull(strstr(pawl_error(p), "x/1"));
    ck_assert_ptr_nonnull(strstr(pawl_error(p), "token 9"));
    ck_assert_int_eq(one.revoked, one.leases[0]);
}
END_TEST

START_TEST(lock_that_was_not_free_in_time_leaves_nothing)
{
    fake_plan(&one, FAKE_ACQUIRE, FAKE_FAIL, status_code(ST_LOCK_WAIT_TIMEOUT),
              status_text(ST_LOCK_WAIT_TIMEOUT));
    ck_assert_int_eq(pawl_lock_acquire(p, pawl_text("n"), NULL, NULL),
                     PAWL_NOT_ACQUIRED);
    ck_assert_str_eq(pawl_error(p), status_text(ST_LOCK_WAIT_TIMEOUT));
    ck_assert_uint_eq(fake_calls(&one, FAKE_ACQUIRE), 1);
    ck_assert_int_eq(one.revoked, one.leases[0]);
}
END_TEST

START_TEST(lease_of_the_caller_is_used_and_left_alone)
{
    struct pawl_lock_options o = {
        .size = sizeof(o), .lease = 0x55, .try_only = true};

    one.held_by_other = true;
    ck_assert_int_eq(pawl_lock_acquire(p, pawl_text("n"), &o, NULL),
                     PAWL_NOT_ACQUIRED);
    ck_assert_int_eq(one.leases[0], 0x55);
    ck_assert_uint_eq(fake_calls(&one, FAKE_REVOKE), 0);
}
END_TEST

START_TEST(lease_that_ended_in_the_queue_is_replaced)
{
    struct pawl_lock_options o = {.size = sizeof(o), .lease = 0x55};
    struct pawl_lock_result *lock;

    fake_plan(&one, FAKE_ACQUIRE, FAKE_FAIL, status_code(ST_LOCK_LOST),
              status_text(ST_LOCK_LOST));
    ck_assert_int_eq(pawl_lock_acquire(p, pawl_text("n"), NULL, &lock),
                     PAWL_OK);
    ck_assert_int_ne(one.leases[0], one.leases[1]);
    ck_assert_int_eq(lock->lease, one.leases[1]);
    pawl_free(lock);
    /* but the caller's own is the caller's affair */
    fake_plan(&one, FAKE_ACQUIRE, FAKE_FAIL, status_code(ST_LOCK_LOST),
              status_text(ST_LOCK_LOST));
    ck_assert_int_eq(pawl_lock_acquire(p, pawl_text("n"), &o, NULL), PAWL_LOST);
    ck_assert_uint_eq(fake_calls(&one, FAKE_ACQUIRE), 3);
}
END_TEST

START_TEST(lock_is_released_and_checked_by_its_token)
{
    struct pawl_release_result *released;
    struct pawl_check_result *check;

    ck_assert_int_eq(pawl_lock_check(p, pawl_text("n"), 17, &check), PAWL_OK);
    ck_assert(check->held);
    ck_assert_str_eq(check->holder.data, "n/1");
    ck_assert_int_eq(check->waiters, 2);
    pawl_free(check);
    ck_assert_int_eq(pawl_lock_check(p, pawl_text("n"), 16, &check), PAWL_OK);
    ck_assert(!check->held);
    pawl_free(check);
    ck_assert_int_eq(pawl_lock_release(p, pawl_text("n/1"), 17, &released),
                     PAWL_OK);
    ck_assert(released->released);
    pawl_free(released);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lock");
    TCase *t = tcase_create("leases and locks");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 20);
    tcase_add_test(t, lease_lives_from_grant_to_revoke);
    tcase_add_test(t, renewal_of_an_ended_lease_is_not_found);
    tcase_add_test(t, grant_of_a_chosen_id_is_not_repeated_blindly);
    tcase_add_test(t, revoke_whose_answer_was_lost_has_revoked);
    tcase_add_test(t, keeper_renews_at_once_and_then_trusts_the_whole_ttl);
    tcase_add_test(t, keeper_renews_again_after_a_third);
    tcase_add_test(t, keeper_knows_when_the_lease_is_gone);
    tcase_add_test(t,
                   keeper_gives_up_when_the_ttl_has_passed_without_an_answer);
    tcase_add_test(t, keeper_survives_the_loss_of_a_server);
    tcase_add_test(t, keeper_stops_in_the_middle_of_a_renewal);
    tcase_add_test(t, lock_is_taken_with_a_lease_of_its_own);
    tcase_add_test(t, repeated_acquire_asks_with_the_same_lease);
    tcase_add_test(t, repeated_acquire_waits_only_for_what_is_left);
    tcase_add_test(t, waiting_for_ever_has_no_bound_at_the_server);
    tcase_add_test(t, lock_of_another_is_not_acquired_and_nothing_is_left);
    tcase_add_test(t, lock_that_was_not_free_in_time_leaves_nothing);
    tcase_add_test(t, lease_of_the_caller_is_used_and_left_alone);
    tcase_add_test(t, lease_that_ended_in_the_queue_is_replaced);
    tcase_add_test(t, lock_is_released_and_checked_by_its_token);
    suite_add_tcase(s, t);
    return suite_main(s);
}
