/*
 * Locks: names and tokens, and the commands that take and give them. LCK rules
 * are etcd's, I hazards those of locks elsewhere.
 */
#include <stdlib.h>
#include <string.h>

#include "server/lock.h"
#include "tests/server/machine.h"
#include "tests/server/suite.h"

static struct machine m;

static void setup(void)
{
    machine_init(&m, NULL, NULL);
}

static void teardown(void)
{
    machine_release(&m);
}

static bool acquire(const char *name, int64_t lease)
{
    ck_assert_int_eq(machine_acquire(&m, name, lease, 0, false), ST_OK);
    return m.out.lock_acquire.acquired;
}

static struct lock_state inspect(const char *name)
{
    struct lock_state state;

    lock_inspect(machine_kv(&m), text_slice(name), &state);
    return state;
}

static bool is_holder(const char *key, int64_t token)
{
    return lock_is_holder(machine_kv(&m), text_slice(key), token);
}

static bool release(const char *key, int64_t token)
{
    ck_assert_int_eq(machine_release_lock(&m, key, token, false, false), ST_OK);
    return m.out.lock_release.released;
}

/* ---- names
 * ------------------------------------------------------------------------ */

START_TEST(LCK1_the_key_is_name_and_lease_in_hex)
{
    static const struct {
        const char *name;
        int64_t lease;
        const char *key;
    } rows[] = {
        {"job", 255, "job/ff"},
        {"a/b", 0x10, "a/b/10"},
        {"job", -255, "job/-ff"},
        {"job", INT64_MAX, "job/7fffffffffffffff"},
        {"job", INT64_MIN, "job/-8000000000000000"},
        {"", 1, "/1"},
    };

    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        struct slice key =
            lock_key(text_slice(rows[i].name), rows[i].lease, &m.arena);
        struct slice name;

        ck_assert(slice_is(key, rows[i].key));
        ck_assert(lock_name_of_key(key, &name));
        ck_assert(slice_is(name, rows[i].name));
    }
}
END_TEST

START_TEST(a_key_without_a_slash_is_no_lock)
{
    struct slice name;

    ck_assert(!lock_name_of_key(text_slice("job"), &name));
    ck_assert(!lock_name_of_key(text_slice(""), &name));
    machine_put(&m, "job", "", 0);
    ck_assert(!is_holder("job", 2));
}
END_TEST

/* ---- taking
 * ------------------------------------------------------------------------- */

START_TEST(LCK3_the_lowest_create_revision_holds_first_come_first_served)
{
    machine_grant(&m, 3, 10);
    machine_grant(&m, 1, 10);
    machine_grant(&m, 2, 10);
    ck_assert(acquire("job", 3));
    ck_assert_int_eq(m.out.lock_acquire.token, 2);
    ck_assert(!m.out.lock_acquire.queued);
    ck_assert(!acquire("job", 1));
    ck_assert(m.out.lock_acquire.queued);
    ck_assert(slice_is(m.out.lock_acquire.key, "job/1"));
    ck_assert(slice_is(m.out.lock_acquire.holder, "job/3"));
    ck_assert_int_eq(m.out.lock_acquire.holder_token, 2);
    ck_assert_int_eq(m.out.lock_acquire.token, 3);
    ck_assert(!acquire("job", 2));
    ck_assert_uint_eq(inspect("job").queued, 3);
    ck_assert(release("job/3", 2));
    ck_assert(slice_is(inspect("job").holder, "job/1"));
    ck_assert(is_holder("job/1", 3));
    ck_assert(!is_holder("job/2", 4));
    ck_assert_int_eq(inspect("job").lease, 1);
}
END_TEST

START_TEST(LCK5_I11_the_same_lease_again_gets_the_same_grant_without_a_write)
{
    int64_t revision;

    machine_grant(&m, 1, 10);
    machine_grant(&m, 2, 10);
    ck_assert(acquire("job", 1));
    ck_assert(!acquire("job", 2));
    revision = machine_revision(&m);
    ck_assert(acquire("job", 1));
    ck_assert_int_eq(m.out.lock_acquire.token, 2);
    ck_assert(slice_is(m.out.lock_acquire.key, "job/1"));
    ck_assert(!acquire("job", 2)); /* a waiter keeps its place as well */
    ck_assert_int_eq(m.out.lock_acquire.token, 3);
    ck_assert_int_eq(machine_revision(&m), revision);
    ck_assert_uint_eq(inspect("job").queued, 2);
}
END_TEST

START_TEST(I11_a_retried_call_with_a_ttl_finds_its_lease)
{
    ck_assert_int_eq(machine_acquire(&m, "job", 1, 30, false), ST_OK);
    ck_assert(m.out.lock_acquire.acquired);
    ck_assert_int_eq(m.out.lock_acquire.ttl, 30);
    ck_assert_int_eq(m.out.lock_acquire.lease, 1);
    ck_assert_int_eq(machine_acquire(&m, "job", 1, 30, false), ST_OK);
    ck_assert(m.out.lock_acquire.acquired);
    ck_assert_int_eq(m.out.lock_acquire.token, 2);
    ck_assert_int_eq(machine_revision(&m), 2);
    ck_assert_uint_eq(leases_count(machine_leases(&m)), 1);
}
END_TEST

START_TEST(LCK6_I7_no_lock_without_a_live_lease)
{
    ck_assert_int_eq(machine_acquire(&m, "job", 5, 0, false),
                     ST_LEASE_NOT_FOUND);
    ck_assert_int_eq(machine_acquire(&m, "job", 5, 0, true),
                     ST_LEASE_NOT_FOUND);
    ck_assert_int_eq(machine_acquire(&m, "job", 0, 10, false),
                     ST_BAD_LOCK_NAME);
    ck_assert_int_eq(machine_acquire(&m, "", 5, 10, false), ST_BAD_LOCK_NAME);
    ck_assert_int_eq(machine_acquire(&m, "job", 5, LEASE_TTL_MAX_S + 1, false),
                     ST_LEASE_TTL_TOO_LARGE);
    ck_assert_int_eq(machine_revision(&m), 1);
    ck_assert_uint_eq(leases_count(machine_leases(&m)), 0);
}
END_TEST

START_TEST(I7_a_waiter_whose_lease_died_is_never_granted)
{
    machine_grant(&m, 1, 10);
    machine_grant(&m, 2, 10);
    machine_grant(&m, 3, 10);
    acquire("job", 1);
    acquire("job", 2);
    acquire("job", 3);
    machine_revoke(&m, 2, 0);
    ck_assert_uint_eq(inspect("job").queued, 2);
    release("job/1", 2);
    ck_assert(slice_is(inspect("job").holder, "job/3"));
    ck_assert_int_eq(machine_acquire(&m, "job", 2, 0, false),
                     ST_LEASE_NOT_FOUND);
}
END_TEST

START_TEST(LCK8_the_end_of_the_lease_frees_the_lock)
{
    machine_grant(&m, 1, 10);
    machine_grant(&m, 2, 10);
    acquire("job", 1);
    acquire("job", 2);
    machine_revoke(&m, 1, m.term);
    ck_assert(is_holder("job/2", 3));
}
END_TEST

START_TEST(try_takes_a_free_lock_and_leaves_a_held_one)
{
    machine_grant(&m, 1, 10);
    ck_assert_int_eq(machine_acquire(&m, "job", 1, 0, true), ST_OK);
    ck_assert(m.out.lock_acquire.acquired);
    ck_assert_int_eq(machine_acquire(&m, "job", 2, 10, true), ST_OK);
    ck_assert(!m.out.lock_acquire.acquired);
    ck_assert(!m.out.lock_acquire.queued);
    ck_assert_int_eq(m.out.lock_acquire.token, 0);
    ck_assert(slice_is(m.out.lock_acquire.holder, "job/1"));
    ck_assert_int_eq(m.out.lock_acquire.holder_token, 2);
    ck_assert_int_eq(machine_revision(&m), 2);
    ck_assert(!lease_exists(machine_leases(&m), 2)); /* not granted in vain */
    ck_assert_int_eq(machine_acquire(&m, "job", 1, 0, true), ST_OK);
    ck_assert(m.out.lock_acquire.acquired);
}
END_TEST

START_TEST(I10_a_key_put_by_hand_is_tied_to_the_lease_that_locks)
{
    machine_put(&m, "job/1", "kept", 0);
    machine_grant(&m, 1, 10);
    ck_assert(acquire("job", 1));
    ck_assert_int_eq(m.out.lock_acquire.token, 2); /* keeps its place */
    ck_assert_int_eq(machine_get(&m, "job/1").lease, 1);
    ck_assert(slice_is(machine_get(&m, "job/1").value, "kept"));
    machine_revoke(&m, 1, 0);
    ck_assert(!inspect("job").held);
}
END_TEST

START_TEST(keys_put_by_etcd_clients_are_in_the_same_queue)
{
    machine_grant(&m, 1, 10);
    machine_grant(&m, 2, 10);
    machine_put(&m, "job/1", "", 1); /* as etcd's mutex does it */
    ck_assert(!acquire("job", 2));
    machine_delete(&m, "job/1", NULL); /* LCK9 */
    ck_assert(is_holder("job/2", 3));
}
END_TEST

/* ---- giving
 * ------------------------------------------------------------------------- */

START_TEST(I12_an_old_token_frees_nobody)
{
    machine_grant(&m, 1, 10);
    machine_grant(&m, 2, 10);
    acquire("job", 1);
    ck_assert(release("job/1", 2));
    acquire("job", 2);
    acquire("job", 1); /* job/1 again, with a new token, and waits */
    ck_assert(!release("job/1", 2));
    ck_assert(!release("job/2", 2));
    ck_assert(!release("job/9", 4));
    ck_assert_uint_eq(inspect("job").queued, 2);
    ck_assert(release("job/1", 5));
    ck_assert_uint_eq(inspect("job").queued, 1);
}
END_TEST

START_TEST(a_waiter_that_gives_up_keeps_a_lock_it_got_meanwhile)
{
    machine_grant(&m, 1, 10);
    machine_grant(&m, 2, 10);
    acquire("job", 1);
    acquire("job", 2);
    machine_release_lock(&m, "job/1", 2, true, true);
    ck_assert(m.out.lock_release.holds);
    ck_assert(!m.out.lock_release.released);
    ck_assert(lease_exists(machine_leases(&m), 1));
    machine_release_lock(&m, "job/2", 3, true, false);
    ck_assert(!m.out.lock_release.holds);
    ck_assert(m.out.lock_release.released);
    ck_assert(lease_exists(machine_leases(&m), 2));
    ck_assert_uint_eq(inspect("job").queued, 1);
}
END_TEST

START_TEST(release_can_end_the_lease_too)
{
    machine_acquire(&m, "job", 1, 10, false);
    machine_put(&m, "with/it", "", 1);
    ck_assert_int_eq(machine_release_lock(&m, "job/1", 2, false, true), ST_OK);
    ck_assert(m.out.lock_release.released);
    ck_assert(!lease_exists(machine_leases(&m), 1));
    ck_assert_uint_eq(kv_count(machine_kv(&m)), 0);
    ck_assert_int_eq(machine_revision(&m), 4); /* one revision for both */
}
END_TEST

/* ---- tokens
 * -------------------------------------------------------------------------- */

START_TEST(I9_tokens_rise_with_every_grant)
{
    int64_t last = 0;

    machine_grant(&m, 1, 10);
    machine_grant(&m, 2, 10);
    for (int i = 0; i < 20; i++) {
        int64_t lease = 1 + i % 2;
        const char *key = lease == 1 ? "job/1" : "job/2";

        ck_assert(acquire("job", lease));
        ck_assert_int_gt(m.out.lock_acquire.token, last);
        last = m.out.lock_acquire.token;
        if (i % 3 == 0) {
            machine_delete(&m, "job/", "job0");
        } else {
            release(key, last);
        }
    }
}
END_TEST

START_TEST(I8_a_write_under_an_old_token_is_refused)
{
    machine_grant(&m, 1, 10);
    machine_grant(&m, 2, 10);
    acquire("job", 1);
    m.fence_key = "job/1";
    m.fence_token = 2;
    ck_assert_int_eq(machine_put(&m, "data", "first", 0), ST_OK);
    m.fence_key = NULL;
    acquire("job", 2);
    machine_revoke(&m, 1, 0); /* its holder slept past the end */
    m.fence_key = "job/1";
    ck_assert_int_eq(machine_put(&m, "data", "late", 0), ST_FENCED);
    ck_assert_str_eq(m.out.text,
                     "pawl: fencing token is not the holder's: write refused: "
                     "lock \"job\", token 2, its holder's is 4");
    ck_assert_int_eq(machine_delete(&m, "data", NULL), ST_FENCED);
    ck_assert_int_eq(machine_grant(&m, 9, 10), ST_FENCED);
    ck_assert(slice_is(machine_get(&m, "data").value, "first"));
    ck_assert(!lease_exists(machine_leases(&m), 9));
    m.fence_key = "job/2";
    m.fence_token = 4;
    ck_assert_int_eq(machine_put(&m, "data", "second", 0), ST_OK);
}
END_TEST

START_TEST(I8_I9_an_old_token_of_the_same_key_is_refused)
{
    machine_grant(&m, 1, 10);
    acquire("job", 1);
    machine_delete(&m, "job/1", NULL);
    acquire("job", 1); /* the same lease, the same key, another grant */
    ck_assert(!is_holder("job/1", 2));
    ck_assert(is_holder("job/1", 4));
    m.fence_key = "job/1";
    m.fence_token = 2;
    ck_assert_int_eq(machine_put(&m, "data", "", 0), ST_FENCED);
    m.fence_token = 5;
    ck_assert_int_eq(machine_put(&m, "data", "", 0), ST_FENCED);
    m.fence_token = 4;
    ck_assert_int_eq(machine_put(&m, "data", "", 0), ST_OK);
}
END_TEST

START_TEST(I8_a_waiters_token_guards_nothing)
{
    machine_grant(&m, 1, 10);
    machine_grant(&m, 2, 10);
    acquire("job", 1);
    acquire("job", 2);
    m.fence_key = "job/2";
    m.fence_token = 3;
    ck_assert_int_eq(machine_put(&m, "data", "", 0), ST_FENCED);
    m.fence_key = "nobody/1";
    ck_assert_int_eq(machine_put(&m, "data", "", 0), ST_FENCED);
    ck_assert_str_eq(m.out.text,
                     "pawl: fencing token is not the holder's: write refused: "
                     "lock \"nobody\", token 3, nobody holds it");
    m.fence_key = "no\xff\"lock";
    ck_assert_int_eq(machine_put(&m, "data", "", 0), ST_FENCED);
    ck_assert_ptr_nonnull(strstr(m.out.text, "\"no\\xff\\x22lock\""));
    m.fence_key = "";
    ck_assert_int_eq(machine_put(&m, "data", "", 0), ST_FENCED);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        LCK1_the_key_is_name_and_lease_in_hex,
        a_key_without_a_slash_is_no_lock,
        LCK3_the_lowest_create_revision_holds_first_come_first_served,
        LCK5_I11_the_same_lease_again_gets_the_same_grant_without_a_write,
        I11_a_retried_call_with_a_ttl_finds_its_lease,
        LCK6_I7_no_lock_without_a_live_lease,
        I7_a_waiter_whose_lease_died_is_never_granted,
        LCK8_the_end_of_the_lease_frees_the_lock,
        try_takes_a_free_lock_and_leaves_a_held_one,
        I10_a_key_put_by_hand_is_tied_to_the_lease_that_locks,
        keys_put_by_etcd_clients_are_in_the_same_queue,
        I12_an_old_token_frees_nobody,
        a_waiter_that_gives_up_keeps_a_lock_it_got_meanwhile,
        release_can_end_the_lease_too,
        I9_tokens_rise_with_every_grant,
        I8_a_write_under_an_old_token_is_refused,
        I8_I9_an_old_token_of_the_same_key_is_refused,
        I8_a_waiters_token_guards_nothing,
    };

    return suite_run_with("lock", tests, ARRAY_LENGTH(tests), setup, teardown);
}
