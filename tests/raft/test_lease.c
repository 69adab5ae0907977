/*
 * test_lease.c - reads from a lease: when they are served, when not, and what
 * a new leader owes to those who may still serve (E4).
 */
#include "tests/raft/single.h"
#include "tests/raft/suite.h"

#include <signal.h>

enum { LEASE = 20, DEFERRAL = 20 + 2 + 1 }; /* 10 % of drift, rounded up */

static struct single s;

static void begin(unsigned lease_ticks)
{
    struct raft_config config;

    raft_config_defaults(&config);
    config.lease_ticks = lease_ticks;
    single_begin(&s, &(struct cluster_options){.n_voters = 3,
                                               .seed = 3,
                                               .no_check_quorum = true,
                                               .config = &config});
}

static void setup(void)
{
    begin(LEASE);
}

static void teardown(void)
{
    single_end(&s);
}

static void pass(unsigned ticks)
{
    raft_clock(s.raft, ticks);
    single_work(&s);
}

/* Just elected; its no-op is on disk here, and on 2. */
static void win(void)
{
    while (raft_role(s.raft) == RAFT_FOLLOWER) {
        single_tick(&s, 1);
    }
    single_sync(&s);
    (void)single_step(&s, (struct raft_message){.type = RAFT_PRE_VOTE_RESPONSE,
                                                .from = 2,
                                                .term = 2});
    single_sync(&s);
    (void)single_step(
        &s, (struct raft_message){
                .type = RAFT_REQUEST_VOTE_RESPONSE, .from = 2, .term = 2});
    ck_assert_int_eq(raft_role(s.raft), RAFT_LEADER);
    single_sync(&s);
    single_acknowledge(&s, 2, raft_last_index(s.raft));
}

/* Settled, and its newest entry was appended and committed just now. */
static void win_and_write(void)
{
    raft_index index;

    win();
    pass(0);
    pass(DEFERRAL);
    ck_assert(raft_is_settled_leader(s.raft));
    ck_assert_int_eq(raft_propose(s.raft, "x", 1, &index), RAFT_OK);
    single_sync(&s);
    single_acknowledge(&s, 2, index);
}

static bool read_is_served_after(unsigned ticks)
{
    size_t before = s.server->reads_ok;

    (void)cluster_read(s.cluster, 1);
    pass(ticks);
    return s.server->reads_ok > before;
}

/* ---- a new leader -----------------------------------------------------------
 */

START_TEST(new_leader_defers_commit)
{
    win();
    pass(0); /* from here on it counts */
    pass(DEFERRAL - 1);
    ck_assert(!raft_is_settled_leader(s.raft));
    ck_assert_uint_eq(raft_commit_index(s.raft), 1);
    pass(1);
    ck_assert(raft_is_settled_leader(s.raft));
    ck_assert_uint_eq(s.server->applied, raft_last_index(s.raft));
}
END_TEST

START_TEST(new_leader_takes_writes_meanwhile)
{
    raft_index index;

    win();
    pass(0);
    ck_assert_int_eq(raft_propose(s.raft, "x", 1, &index), RAFT_OK);
    single_sync(&s);
    single_acknowledge(&s, 2, index);
    ck_assert_uint_lt(raft_commit_index(s.raft), index);
    pass(DEFERRAL);
    ck_assert_uint_eq(raft_commit_index(s.raft), index);
}
END_TEST

/* Votes are counted after a long stop, before the clock is read: that the
 * clock then jumps is no time that has passed since the election. */
START_TEST(E4_stop_before_the_election_is_not_counted)
{
    win();
    pass(1000);
    ck_assert(!raft_is_settled_leader(s.raft));
    pass(DEFERRAL - 1);
    ck_assert(!raft_is_settled_leader(s.raft));
    pass(1);
    ck_assert(raft_is_settled_leader(s.raft));
}
END_TEST

START_TEST(each_leadership_defers_anew)
{
    win_and_write();
    (void)single_append(&s, 2, 3, raft_last_index(s.raft), 2, "3", 0);
    single_sync(&s);
    while (raft_role(s.raft) == RAFT_FOLLOWER) {
        single_tick(&s, 1);
    }
    single_sync(&s);
    (void)single_step(&s, (struct raft_message){.type = RAFT_PRE_VOTE_RESPONSE,
                                                .from = 2,
                                                .term = 4});
    single_sync(&s);
    (void)single_step(
        &s, (struct raft_message){
                .type = RAFT_REQUEST_VOTE_RESPONSE, .from = 2, .term = 4});
    single_sync(&s);
    single_acknowledge(&s, 2, raft_last_index(s.raft));
    pass(0);
    ck_assert(!raft_is_settled_leader(s.raft));
    ck_assert(!read_is_served_after(0));
    pass(DEFERRAL);
    ck_assert(raft_is_settled_leader(s.raft));
}
END_TEST

START_TEST(without_leases_nothing_is_deferred)
{
    single_end(&s);
    begin(0);
    win();
    ck_assert(raft_is_settled_leader(s.raft));
    ck_assert(!read_is_served_after(0));
}
END_TEST

/* ---- who holds one ----------------------------------------------------------
 */

START_TEST(lease_serves_without_a_round)
{
    win_and_write();
    ck_assert(read_is_served_after(0));
    ck_assert_uint_eq(single_count(&s, RAFT_HEARTBEAT), 0);
    ck_assert_uint_eq(s.server->last_read.index, raft_commit_index(s.raft));
}
END_TEST

START_TEST(lease_ends_by_the_age_of_the_entry)
{
    win_and_write();
    pass(LEASE - 1);
    ck_assert(read_is_served_after(0));
    /* That read had an entry written to go on; it is not committed. */
    ck_assert(!read_is_served_after(1));
    ck_assert_uint_gt(single_count(&s, RAFT_HEARTBEAT), 0);
    single_sync(&s);
    single_acknowledge(&s, 2, raft_last_index(s.raft));
    ck_assert_uint_eq(s.server->reads_ok, 2); /* the lease is back */
}
END_TEST

/* Not when it is committed: it may have been on its way for long. */
START_TEST(lease_begins_when_the_entry_is_appended)
{
    raft_index index;

    win_and_write();
    pass(LEASE);
    ck_assert_int_eq(raft_propose(s.raft, "x", 1, &index), RAFT_OK);
    pass(LEASE - 1);
    single_sync(&s);
    single_acknowledge(&s, 2, index);
    ck_assert(read_is_served_after(0));
    ck_assert(!read_is_served_after(1));
}
END_TEST

START_TEST(lease_is_by_the_newest_committed_entry)
{
    raft_index first, second;

    win_and_write();
    pass(LEASE);
    ck_assert_int_eq(raft_propose(s.raft, "x", 1, &first), RAFT_OK);
    pass(LEASE / 2);
    ck_assert_int_eq(raft_propose(s.raft, "y", 1, &second), RAFT_OK);
    single_sync(&s);
    single_acknowledge(&s, 2, first);
    pass(LEASE / 2);
    ck_assert(!read_is_served_after(0)); /* the second's not yet */
    single_acknowledge(&s, 2, second);
    ck_assert_uint_eq(s.server->reads_ok, 1);
}
END_TEST

/* The process was stopped: what it believes is older than it thinks. */
START_TEST(E4_read_after_a_stop_is_not_served)
{
    win_and_write();
    ck_assert(!read_is_served_after(1000));
}
END_TEST

START_TEST(E4_read_that_came_after_the_clock_was_read_is_not_served)
{
    win_and_write();
    pass(0);
    (void)cluster_read(s.cluster, 1);
    single_work(&s);
    ck_assert_uint_eq(s.server->reads_ok, 0);
    pass(0);
    ck_assert_uint_eq(s.server->reads_ok, 1);
}
END_TEST

START_TEST(followers_are_served_from_the_leaders_lease)
{
    win_and_write();
    (void)single_step(
        &s, (struct raft_message){
                .type = RAFT_READ_INDEX, .from = 3, .context = 7, .term = 2});
    ck_assert_ptr_null(single_sent(&s, RAFT_READ_INDEX_RESPONSE, 3));
    pass(0);
    ck_assert_uint_eq(single_sent(&s, RAFT_READ_INDEX_RESPONSE, 3)->log_index,
                      raft_commit_index(s.raft));
}
END_TEST

START_TEST(idle_lease_costs_no_entries_and_reads_keep_it)
{
    raft_index last;

    win_and_write();
    last = raft_last_index(s.raft);
    pass(10 * LEASE);
    ck_assert_uint_eq(raft_last_index(s.raft), last);
    for (unsigned i = 0; i < 10 * LEASE; i++) {
        (void)read_is_served_after(1);
        single_sync(&s);
        single_acknowledge(&s, 2, raft_last_index(s.raft));
    }
    ck_assert_uint_le(raft_last_index(s.raft), last + 21);
    ck_assert_uint_eq(s.server->reads_ok, 10 * LEASE);
}
END_TEST

/* ---- two leaders ------------------------------------------------------------
 */

static unsigned n_served_by_old, committed_by_new_at;

/*
 * 1 leads and has a fresh lease; it hands over to 2, and is cut off just then,
 * so that it leads on in its own eyes. Time passes at two rates; 1 is asked for
 * a read, and 2 for a write, all the time. cluster.c looks at what 1 answers.
 */
static void contest(unsigned old_rate, unsigned new_rate)
{
    struct raft_config config;
    struct cluster_options o = {
        .n_voters = 3, .seed = 1, .no_check_quorum = true, .config = &config};
    struct cluster *c;
    raft_index before;

    raft_config_defaults(&config);
    config.lease_ticks = LEASE;
    config.lease_drift_permille = 1000;
    c = cluster_new(&o);
    cluster_elect(c, 1);
    cluster_tick(c, 2 * LEASE + 2);
    ck_assert_int_eq(cluster_propose(c, 1, "x", NULL), RAFT_OK);
    cluster_settle(c);
    before = c->applied_max;
    ck_assert_int_eq(raft_transfer(cluster_at(c, 1)->raft, 2), RAFT_OK);
    cluster_work(c, cluster_at(c, 1));
    cluster_deliver(c, cluster_find(c, RAFT_TIMEOUT_NOW, 1, 2));
    cluster_isolate(c, 1, true);
    cluster_settle(c);
    ck_assert_int_eq(raft_role(cluster_at(c, 2)->raft), RAFT_LEADER);

    n_served_by_old = committed_by_new_at = 0;
    for (unsigned i = 0; i < 100; i++) {
        size_t served = cluster_at(c, 1)->reads_ok;

        (void)cluster_propose(c, 2, "y", NULL);
        ck_assert_int_eq(cluster_read(c, 1), RAFT_OK);
        cluster_clock(c, 1, old_rate);
        cluster_clock(c, 2, new_rate);
        cluster_settle(c);
        n_served_by_old += cluster_at(c, 1)->reads_ok > served;
        if (committed_by_new_at == 0 && c->applied_max > before) {
            committed_by_new_at = i + 1;
        }
    }
    cluster_free(c);
}

START_TEST(E4_old_leader_serves_while_the_new_one_defers)
{
    contest(1, 1);
    ck_assert_uint_eq(n_served_by_old, LEASE - 1);
    ck_assert_uint_eq(committed_by_new_at, 2 * LEASE + 2);
}
END_TEST

START_TEST(E4_clocks_at_the_bound_are_harmless)
{
    contest(1, 2);
    ck_assert_uint_eq(n_served_by_old, LEASE - 1);
    ck_assert_uint_eq(committed_by_new_at, LEASE + 2);
}
END_TEST

/* That the checks would see it; and what the assumption is for. */
START_TEST(E4_clocks_beyond_the_bound_serve_stale_reads)
{
    contest(1, 3);
}
END_TEST

START_TEST(E4_clock_that_stops_serves_stale_reads)
{
    contest(0, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lease");
    TCase *t = tcase_create("lease"), *two = tcase_create("two leaders");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, new_leader_defers_commit);
    tcase_add_test(t, new_leader_takes_writes_meanwhile);
    tcase_add_test(t, E4_stop_before_the_election_is_not_counted);
    tcase_add_test(t, each_leadership_defers_anew);
    tcase_add_test(t, without_leases_nothing_is_deferred);
    tcase_add_test(t, lease_serves_without_a_round);
    tcase_add_test(t, lease_ends_by_the_age_of_the_entry);
    tcase_add_test(t, lease_begins_when_the_entry_is_appended);
    tcase_add_test(t, lease_is_by_the_newest_committed_entry);
    tcase_add_test(t, E4_read_after_a_stop_is_not_served);
    tcase_add_test(t, E4_read_that_came_after_the_clock_was_read_is_not_served);
    tcase_add_test(t, followers_are_served_from_the_leaders_lease);
    tcase_add_test(t, idle_lease_costs_no_entries_and_reads_keep_it);
    suite_add_tcase(suite, t);
    tcase_add_test(two, E4_old_leader_serves_while_the_new_one_defers);
    tcase_add_test(two, E4_clocks_at_the_bound_are_harmless);
    tcase_add_test_raise_signal(
        two, E4_clocks_beyond_the_bound_serve_stale_reads, SIGABRT);
    tcase_add_test_raise_signal(two, E4_clock_that_stops_serves_stale_reads,
                                SIGABRT);
    suite_add_tcase(suite, two);
    return suite_run(suite);
}
