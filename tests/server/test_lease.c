/*
 * Leases: the replicated half, and the leader's clock. LEA rules are etcd's,
 * I hazards those of leases elsewhere.
 */
#include <stdlib.h>
#include <string.h>

#include "raft/base.h"
#include "server/lease.h"
#include "tests/server/suite.h"

#define RETRY_MS 5000

static struct leases *ls;

static void setup(void)
{
    ls = leases_new();
}

static void teardown(void)
{
    leases_free(ls);
}

static struct slice key(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static void grant(int64_t id, int64_t ttl_s)
{
    ck_assert_int_eq(lease_grant(ls, id, ttl_s), ST_OK);
}

/* How many are past their end; the first's id in *first. */
static size_t expired(uint64_t now_ms, int64_t *first)
{
    int64_t ids[8] = {0};
    size_t n = leases_expired(ls, now_ms, RETRY_MS, ids, 8);

    *first = ids[0];
    return n;
}

static void check_keys(int64_t id, size_t n, const char *const *expected)
{
    size_t found;
    struct slice *keys = lease_keys(ls, id, &found);

    ck_assert_uint_eq(found, n);
    ck_assert(n > 0 || keys == NULL);
    for (size_t i = 0; i < n; i++) {
        ck_assert(slice_equal(keys[i], key(expected[i])));
    }
    free(keys);
}

/* ---- replicated
 * --------------------------------------------------------------- */

START_TEST(LEA1_an_id_in_use_is_refused)
{
    grant(5, 10);
    ck_assert_int_eq(lease_grant(ls, 5, 20), ST_LEASE_EXIST);
    ck_assert_int_eq(lease_ttl_s(ls, 5), 10);
    ck_assert_int_eq(lease_revoke(ls, 5), ST_OK);
    ck_assert_int_eq(lease_revoke(ls, 5), ST_LEASE_NOT_FOUND);
    grant(5, 20);
    ck_assert_int_eq(lease_ttl_s(ls, 5), 20);
}
END_TEST

START_TEST(I6_ids_and_ttls_at_the_edges)
{
    ck_assert_int_eq(lease_grant(ls, 0, 10), ST_LEASE_NOT_FOUND);
    ck_assert_int_eq(lease_grant(ls, 1, LEASE_TTL_MAX_S + 1),
                     ST_LEASE_TTL_TOO_LARGE);
    ck_assert_int_eq(lease_grant(ls, 1, INT64_MAX), ST_LEASE_TTL_TOO_LARGE);
    ck_assert(!lease_exists(ls, 1));
    grant(INT64_MIN, LEASE_TTL_MAX_S);
    grant(INT64_MAX, INT64_MIN);
    grant(-1, 0);
    ck_assert_int_eq(lease_ttl_s(ls, INT64_MAX), 1);
    ck_assert_int_eq(lease_ttl_s(ls, -1), 1);
    leases_start_clock(ls, UINT64_MAX / 2, 0);
    ck_assert_int_eq(lease_remaining_s(ls, INT64_MIN, UINT64_MAX / 2),
                     LEASE_TTL_MAX_S);
}
END_TEST

START_TEST(ids_come_in_order_of_value)
{
    static const int64_t ids[] = {INT64_MIN, -7, -1, 1, 2, 300, INT64_MAX};
    size_t n;
    int64_t *listed;

    for (size_t i = ARRAY_LENGTH(ids); i-- > 0;) {
        grant(ids[i], 10);
    }
    listed = leases_ids(ls, &n);
    ck_assert_uint_eq(n, ARRAY_LENGTH(ids));
    ck_assert_uint_eq(n, leases_count(ls));
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(listed[i], ids[i]);
    }
    free(listed);
}
END_TEST

START_TEST(LEA13_keys_in_byte_order_each_lease_its_own)
{
    static const char *const one[] = {"a", "b", "b\x01", "c"};
    static const char *const other[] = {"b"};

    grant(1, 10);
    grant(2, 10);
    grant(-1, 10);
    lease_attach(ls, 1, key("c"));
    lease_attach(ls, 1, key("b"));
    lease_attach(ls, 1, key("a"));
    lease_attach(ls, 1, key("b\x01"));
    lease_attach(ls, 1, key("b"));
    lease_attach(ls, 2, key("b"));
    lease_attach(ls, 0, key("z"));
    check_keys(1, 4, one);
    check_keys(2, 1, other);
    check_keys(-1, 0, NULL);
    check_keys(99, 0, NULL);
    lease_detach(ls, 1, key("c"));
    lease_detach(ls, 1, key("c"));
    lease_detach(ls, 1, key("nothing"));
    lease_detach(ls, 0, key("a"));
    lease_detach(ls, 99, key("a"));
    check_keys(1, 3, one);
    lease_detach(ls, 2, key("b"));
    ck_assert_int_eq(lease_revoke(ls, 2), ST_OK);
    check_keys(1, 3, one);
}
END_TEST

/* ---- timed
 * ---------------------------------------------------------------------- */

START_TEST(LEA7_expires_at_its_ttl_and_not_before)
{
    int64_t id;

    grant(1, 10);
    grant(2, 5);
    leases_start_clock(ls, 1000, 0);
    ck_assert_uint_eq(leases_next_expiry_ms(ls), 6000);
    ck_assert_uint_eq(expired(5999, &id), 0);
    ck_assert_uint_eq(expired(6000, &id), 1);
    ck_assert_int_eq(id, 2);
    ck_assert_uint_eq(expired(10999, &id), 0);
    ck_assert_uint_eq(expired(11000, &id), 2); /* 2 again, after RETRY_MS */
}
END_TEST

START_TEST(LEA9_a_new_leader_gives_the_full_ttl_and_more)
{
    int64_t id;

    grant(1, 10);
    leases_start_clock(ls, 0, 1000);
    ck_assert_int_eq(lease_remaining_s(ls, 1, 0), 11);
    ck_assert_uint_eq(expired(10999, &id), 0);
    leases_stop_clock(ls);
    ck_assert_uint_eq(expired(99999, &id), 0);
    ck_assert_uint_eq(leases_next_expiry_ms(ls), UINT64_MAX);
    leases_start_clock(ls, 20000, 0);
    ck_assert_uint_eq(expired(29999, &id), 0);
    ck_assert_uint_eq(expired(30000, &id), 1);
}
END_TEST

START_TEST(LEA3_renewal_gives_the_full_ttl)
{
    int64_t id;

    grant(1, 10);
    leases_start_clock(ls, 0, 0);
    ck_assert_int_eq(lease_renew(ls, 1, 9000), 10);
    ck_assert_uint_eq(expired(18999, &id), 0);
    ck_assert_uint_eq(expired(19000, &id), 1);
    ck_assert_int_eq(lease_renew(ls, 99, 0), 0);
}
END_TEST

START_TEST(LEA5_I3_renewal_never_revives)
{
    int64_t id;

    grant(1, 10);
    leases_start_clock(ls, 0, 0);
    ck_assert_int_eq(lease_renew(ls, 1, 10000), 0); /* not even told of yet */
    ck_assert_uint_eq(expired(10000, &id), 1);
    ck_assert_int_eq(lease_renew(ls, 1, 10001), 0);
    ck_assert_int_eq(lease_remaining_s(ls, 1, 10001), 0);
    ck_assert_int_eq(lease_revoke(ls, 1), ST_OK);
    ck_assert_int_eq(lease_renew(ls, 1, 10002), 0);
    ck_assert_int_eq(lease_remaining_s(ls, 1, 10002), -1);
}
END_TEST

START_TEST(I3_a_lease_granted_again_runs_anew)
{
    int64_t id;

    grant(1, 10);
    leases_start_clock(ls, 0, 0);
    ck_assert_uint_eq(expired(10000, &id), 1);
    ck_assert_int_eq(lease_revoke(ls, 1), ST_OK);
    grant(1, 10);
    ck_assert_int_eq(lease_renew(ls, 1, 12000), 10);
    ck_assert_uint_eq(expired(21999, &id), 0);
    ck_assert_uint_eq(expired(22000, &id), 1);
}
END_TEST

START_TEST(a_grant_begins_to_run_with_the_next_timed_call)
{
    int64_t id;

    leases_start_clock(ls, 0, 0);
    ck_assert_uint_eq(leases_next_expiry_ms(ls), UINT64_MAX);
    grant(1, 10);
    ck_assert_int_eq(lease_remaining_s(ls, 1, 123456), 10);
    ck_assert_uint_eq(leases_next_expiry_ms(ls), 0); /* ask at once */
    ck_assert_uint_eq(expired(123456, &id), 0);
    ck_assert_uint_eq(leases_next_expiry_ms(ls), 133456);
    ck_assert_uint_eq(expired(133455, &id), 0);
    ck_assert_uint_eq(expired(133456, &id), 1);
}
END_TEST

START_TEST(LEA11_remaining_is_rounded_down)
{
    grant(1, 10);
    ck_assert_int_eq(lease_remaining_s(ls, 1, 0), -1); /* no clock here */
    ck_assert_int_eq(lease_renew(ls, 1, 0), 0);
    leases_start_clock(ls, 0, 0);
    ck_assert_int_eq(lease_remaining_s(ls, 1, 0), 10);
    ck_assert_int_eq(lease_remaining_s(ls, 1, 1), 9);
    ck_assert_int_eq(lease_remaining_s(ls, 1, 9999), 0);
    ck_assert_int_eq(lease_remaining_s(ls, 2, 0), -1);
}
END_TEST

START_TEST(what_expired_is_told_once_until_it_is_time_to_retry)
{
    int64_t id;

    grant(1, 10);
    leases_start_clock(ls, 0, 0);
    ck_assert_uint_eq(expired(10000, &id), 1);
    ck_assert_uint_eq(expired(10000, &id), 0);
    ck_assert_uint_eq(leases_next_expiry_ms(ls), 10000 + RETRY_MS);
    ck_assert_uint_eq(expired(10000 + RETRY_MS - 1, &id), 0);
    ck_assert_uint_eq(expired(10000 + RETRY_MS, &id), 1);
    ck_assert_uint_eq(leases_expired(ls, 99999, 0, &id, 1), 1);
    ck_assert_uint_eq(leases_expired(ls, 99999, 0, &id, 1), 0);
}
END_TEST

START_TEST(I2_elections_do_not_make_a_lease_immortal)
{
    /*
     * Each election restarts the TTL, as LEA9 has it. What must not be is an
     * end that moves without an election or a renewal.
     */
    int64_t id;
    uint64_t now = 0;

    grant(1, 10);
    for (int i = 0; i < 5; i++) {
        leases_start_clock(ls, now, 1000);
        ck_assert_uint_eq(leases_next_expiry_ms(ls), now + 11000);
        ck_assert_uint_eq(expired(now + 9000, &id), 0);
        leases_stop_clock(ls);
        now += 9000;
    }
    leases_start_clock(ls, now, 1000);
    for (uint64_t t = now; t < now + 11000; t += 100) {
        ck_assert_uint_eq(expired(t, &id), 0);
        ck_assert_uint_eq(leases_next_expiry_ms(ls), now + 11000);
    }
    ck_assert_uint_eq(expired(now + 11000, &id), 1);
}
END_TEST

START_TEST(at_most_max_are_told_nearest_end_first)
{
    int64_t ids[3];

    for (int64_t id = 1; id <= 5; id++) {
        grant(id, 20 - id);
    }
    leases_start_clock(ls, 0, 0);
    ck_assert_uint_eq(leases_expired(ls, 60000, RETRY_MS, ids, 3), 3);
    ck_assert_int_eq(ids[0], 5);
    ck_assert_int_eq(ids[1], 4);
    ck_assert_int_eq(ids[2], 3);
    ck_assert_uint_eq(leases_expired(ls, 60000, RETRY_MS, ids, 3), 2);
    ck_assert_int_eq(ids[0], 2);
    ck_assert_int_eq(ids[1], 1);
    ck_assert_uint_eq(leases_expired(ls, 60000, RETRY_MS, ids, 3), 0);
}
END_TEST

#define MODEL 200

START_TEST(random_ends_agree_with_the_model)
{
    uint64_t end[MODEL + 1] = {0}; /* 0: no such lease */
    uint64_t now = 1;
    unsigned missed = 0;
    struct rng g;

    rng_init(&g, 4);
    leases_start_clock(ls, now, 0);
    for (int step = 0; step < 20000; step++) {
        int64_t id = 1 + (int64_t)rng_below(&g, MODEL);
        int64_t ttl = 1 + (int64_t)rng_below(&g, 30);
        int64_t due;

        now += rng_below(&g, 50);
        while (leases_expired(ls, now, 1000000, &due, 1) > 0) {
            ck_assert_uint_ne(end[due], 0);
            ck_assert_uint_le(end[due], now);
            ck_assert_int_eq(lease_revoke(ls, due), ST_OK);
            end[due] = 0;
        }
        for (int64_t i = 1; i <= MODEL; i++) {
            missed += end[i] != 0 && end[i] <= now;
        }
        if (end[id] == 0) {
            grant(id, ttl);
            end[id] = now + (uint64_t)ttl * 1000;
            ck_assert_int_eq(lease_renew(ls, id, now), ttl);
        } else if (rng_below(&g, 2) == 0) {
            ck_assert_int_eq(lease_revoke(ls, id), ST_OK);
            end[id] = 0;
        } else {
            ttl = lease_renew(ls, id, now);
            end[id] = now + (uint64_t)ttl * 1000;
        }
    }
    ck_assert_uint_eq(missed, 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        LEA1_an_id_in_use_is_refused,
        I6_ids_and_ttls_at_the_edges,
        ids_come_in_order_of_value,
        LEA13_keys_in_byte_order_each_lease_its_own,
        LEA7_expires_at_its_ttl_and_not_before,
        LEA9_a_new_leader_gives_the_full_ttl_and_more,
        LEA3_renewal_gives_the_full_ttl,
        LEA5_I3_renewal_never_revives,
        I3_a_lease_granted_again_runs_anew,
        a_grant_begins_to_run_with_the_next_timed_call,
        LEA11_remaining_is_rounded_down,
        what_expired_is_told_once_until_it_is_time_to_retry,
        I2_elections_do_not_make_a_lease_immortal,
        at_most_max_are_told_nearest_end_first,
        random_ends_agree_with_the_model,
    };

    return suite_run_with("lease", tests, ARRAY_LENGTH(tests), setup, teardown);
}
