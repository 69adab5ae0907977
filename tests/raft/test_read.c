/*
 * test_read.c - read index (6.4) as one server sees it. Conversations of
 * several are in data/E*.txt.
 */
#include "tests/raft/single.h"
#include "tests/raft/suite.h"

static struct single s;

static void setup(void)
{
    single_begin(&s, &(struct cluster_options){.n_voters = 3, .seed = 5});
}

static void setup_leader(void)
{
    setup();
    single_lead(&s);
}

static void teardown(void)
{
    single_end(&s);
}

static void confirm(raft_id from, uint64_t round)
{
    ck_assert_int_eq(
        single_step(&s, (struct raft_message){.type = RAFT_HEARTBEAT_RESPONSE,
                                              .from = from,
                                              .term = raft_term_now(s.raft),
                                              .context = round}),
        RAFT_OK);
}

static uint64_t newest_round(void)
{
    const struct raft_message *m = single_sent(&s, RAFT_HEARTBEAT, 2);

    ck_assert_ptr_nonnull(m);
    return m->context;
}

START_TEST(read_is_confirmed_by_a_quorum)
{
    ck_assert_int_eq(cluster_read(s.cluster, 1), RAFT_OK);
    single_work(&s);
    ck_assert_uint_eq(single_count(&s, RAFT_HEARTBEAT), 2); /* at once */
    ck_assert_uint_eq(s.server->reads_ok, 0);
    confirm(2, newest_round());
    ck_assert_uint_eq(s.server->reads_ok, 1);
    ck_assert_uint_eq(s.server->last_read.index, raft_commit_index(s.raft));
}
END_TEST

START_TEST(reads_between_two_readies_share_a_round)
{
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(cluster_read(s.cluster, 1), RAFT_OK);
    }
    single_work(&s);
    ck_assert_uint_eq(single_count(&s, RAFT_HEARTBEAT), 2);
    confirm(3, newest_round());
    ck_assert_uint_eq(s.server->reads_ok, 100);
}
END_TEST

START_TEST(E1_new_leader_waits_for_its_noop)
{
    single_tick(&s, 20);
    (void)single_step(&s, (struct raft_message){.type = RAFT_PRE_VOTE_RESPONSE,
                                                .from = 2,
                                                .term = 2});
    single_sync(&s);
    (void)single_step(
        &s, (struct raft_message){
                .type = RAFT_REQUEST_VOTE_RESPONSE, .from = 2, .term = 2});
    single_sync(&s);
    ck_assert_int_eq(raft_role(s.raft), RAFT_LEADER);
    ck_assert(!raft_is_settled_leader(s.raft));
    ck_assert_int_eq(cluster_read(s.cluster, 1), RAFT_OK);
    single_work(&s);
    ck_assert_uint_eq(single_count(&s, RAFT_HEARTBEAT), 0);
    confirm(2, 0);
    confirm(3, 0);
    ck_assert_uint_eq(s.server->reads_ok, 0);

    single_acknowledge(&s, 2, 2);
    confirm(3, newest_round());
    ck_assert_uint_eq(s.server->reads_ok, 1);
    ck_assert_uint_eq(s.server->last_read.index, 2);
}
END_TEST

START_TEST(E2_answer_to_an_earlier_round_confirms_no_later_read)
{
    uint64_t first;

    ck_assert_int_eq(cluster_read(s.cluster, 1), RAFT_OK);
    single_work(&s);
    first = newest_round();
    ck_assert_int_eq(cluster_read(s.cluster, 1), RAFT_OK);
    single_work(&s);
    ck_assert_uint_gt(newest_round(), first);
    confirm(2, first); /* delayed */
    confirm(3, first);
    ck_assert_uint_eq(s.server->reads_ok, 1);
    confirm(2, first + 1);
    ck_assert_uint_eq(s.server->reads_ok, 2);
}
END_TEST

START_TEST(later_round_confirms_all_before_it)
{
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(cluster_read(s.cluster, 1), RAFT_OK);
        single_work(&s);
    }
    confirm(3, newest_round());
    ck_assert_uint_eq(s.server->reads_ok, 5);
}
END_TEST

START_TEST(read_that_arrives_after_the_heartbeat_waits_for_the_next)
{
    single_tick(&s, 1); /* a heartbeat is under way */
    ck_assert_int_eq(cluster_read(s.cluster, 1), RAFT_OK);
    confirm(2, 0);
    confirm(3, 0);
    ck_assert_uint_eq(s.server->reads_ok, 0);
}
END_TEST

START_TEST(E2_rounds_rise_over_terms)
{
    uint64_t first;

    ck_assert_int_eq(cluster_read(s.cluster, 1), RAFT_OK);
    single_work(&s);
    first = newest_round();
    (void)single_append(&s, 2, 9, 1, 1, "", 1);
    single_sync(&s);
    single_tick(&s, 20);
    single_lead(&s);
    ck_assert_int_eq(cluster_read(s.cluster, 1), RAFT_OK);
    single_work(&s);
    ck_assert_uint_gt(newest_round(), first);
}
END_TEST

START_TEST(answer_to_a_round_that_never_was_is_bad)
{
    ck_assert_int_eq(
        single_step(&s, (struct raft_message){.type = RAFT_HEARTBEAT_RESPONSE,
                                              .from = 2,
                                              .term = raft_term_now(s.raft),
                                              .context = 99}),
        RAFT_BAD_MESSAGE);
}
END_TEST

START_TEST(lost_round_is_confirmed_by_the_next_heartbeat)
{
    ck_assert_int_eq(cluster_read(s.cluster, 1), RAFT_OK);
    single_work(&s); /* lost */
    single_tick(&s, 1);
    confirm(2, newest_round());
    ck_assert_uint_eq(s.server->reads_ok, 1);
}
END_TEST

START_TEST(E3_reads_fail_with_the_leadership)
{
    ck_assert_int_eq(cluster_read(s.cluster, 1), RAFT_OK);
    single_work(&s);
    (void)single_append(&s, 2, 9, 1, 1, "", 1);
    ck_assert_uint_eq(s.server->reads_failed, 1);
    ck_assert(!s.server->last_read.ok);
}
END_TEST

START_TEST(E3_asker_is_told_when_leadership_ends)
{
    (void)single_step(&s, (struct raft_message){.type = RAFT_READ_INDEX,
                                                .from = 3,
                                                .term = raft_term_now(s.raft),
                                                .context = 42});
    single_tick(&s, 10); /* nobody answers: check quorum */
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
    ck_assert(single_sent(&s, RAFT_READ_INDEX_RESPONSE, 3)->reject);
}
END_TEST

START_TEST(leader_answers_a_follower)
{
    const struct raft_message *m;

    (void)single_step(&s, (struct raft_message){.type = RAFT_READ_INDEX,
                                                .from = 3,
                                                .term = raft_term_now(s.raft),
                                                .context = 42});
    ck_assert_ptr_null(single_sent(&s, RAFT_READ_INDEX_RESPONSE, 0));
    confirm(2, newest_round());
    m = single_sent(&s, RAFT_READ_INDEX_RESPONSE, 3);
    ck_assert_uint_eq(m->context, 42);
    ck_assert(!m->reject);
    ck_assert_uint_eq(m->log_index, raft_commit_index(s.raft));
}
END_TEST

START_TEST(nobody_to_ask)
{
    ck_assert_int_eq(cluster_read(s.cluster, 1), RAFT_NOT_READY);
    (void)single_step(
        &s, (struct raft_message){
                .type = RAFT_READ_INDEX, .from = 3, .term = 1, .context = 42});
    ck_assert(single_sent(&s, RAFT_READ_INDEX_RESPONSE, 3)->reject);
}
END_TEST

static enum raft_status answer(raft_id from, raft_term term, uint64_t context)
{
    return single_step(&s,
                       (struct raft_message){.type = RAFT_READ_INDEX_RESPONSE,
                                             .from = from,
                                             .term = term,
                                             .log_index = 1,
                                             .context = context});
}

START_TEST(follower_asks_its_leader)
{
    (void)single_append(&s, 2, 2, 1, 1, "", 1);
    single_sync(&s);
    ck_assert_int_eq(cluster_read(s.cluster, 1), RAFT_OK);
    single_work(&s);
    ck_assert_uint_eq(single_sent(&s, RAFT_READ_INDEX, 2)->context, 1);
    (void)answer(3, 2, 1); /* not whom we asked */
    (void)answer(2, 2, 9); /* not what we asked */
    ck_assert_uint_eq(s.server->reads_ok, 0);
    (void)answer(2, 2, 1);
    ck_assert_uint_eq(s.server->reads_ok, 1);
    (void)answer(2, 2, 1); /* twice */
    ck_assert_uint_eq(s.server->reads_ok, 1);
}
END_TEST

START_TEST(E3_answer_of_an_older_term_is_not_used)
{
    (void)single_append(&s, 2, 2, 1, 1, "", 1);
    single_sync(&s);
    ck_assert_int_eq(cluster_read(s.cluster, 1), RAFT_OK);
    single_work(&s);
    (void)single_append(&s, 2, 3, 1, 1, "", 1); /* it leads again, later */
    ck_assert_uint_eq(s.server->reads_failed, 1);
    (void)answer(2, 2, 1);
    ck_assert_uint_eq(s.server->reads_ok, 0);
}
END_TEST

START_TEST(lost_question_fails_after_an_election_timeout)
{
    (void)single_append(&s, 2, 2, 1, 1, "", 1);
    single_sync(&s);
    ck_assert_int_eq(cluster_read(s.cluster, 1), RAFT_OK);
    single_tick(&s, 5);
    ck_assert_int_eq(cluster_read(s.cluster, 1), RAFT_OK);
    (void)single_append(&s, 2, 2, 1, 1, "", 1); /* the leader lives */
    single_tick(&s, 4);
    ck_assert_uint_eq(s.server->reads_failed, 0);
    single_tick(&s, 1);
    ck_assert_uint_eq(s.server->reads_failed, 1);
    (void)answer(2, 2, 2); /* out of the middle of a queue */
    ck_assert_uint_eq(s.server->reads_ok, 1);
}
END_TEST

START_TEST(answers_may_come_in_any_order)
{
    (void)single_append(&s, 2, 2, 1, 1, "", 1);
    single_sync(&s);
    for (int i = 0; i < 50; i++) {
        ck_assert_int_eq(cluster_read(s.cluster, 1), RAFT_OK);
    }
    for (uint64_t context = 50; context > 0; context--) {
        (void)answer(2, 2, context);
    }
    ck_assert_uint_eq(s.server->reads_ok, 50);
}
END_TEST

START_TEST(sole_voter_answers_in_the_next_ready)
{
    struct single l;
    struct cluster_options o = {.n_voters = 1, .n_learners = 1, .seed = 1};

    single_begin(&l, &o);
    single_sync(&l);
    ck_assert_int_eq(cluster_read(l.cluster, 1), RAFT_OK);
    single_work(&l);
    ck_assert_uint_eq(l.server->reads_ok, 1);
    ck_assert_uint_eq(single_count(&l, RAFT_HEARTBEAT), 0);
    single_end(&l);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("read");
    TCase *t = tcase_create("follower"), *leader = tcase_create("leader");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, E1_new_leader_waits_for_its_noop);
    tcase_add_test(t, nobody_to_ask);
    tcase_add_test(t, follower_asks_its_leader);
    tcase_add_test(t, E3_answer_of_an_older_term_is_not_used);
    tcase_add_test(t, lost_question_fails_after_an_election_timeout);
    tcase_add_test(t, answers_may_come_in_any_order);
    tcase_add_test(t, sole_voter_answers_in_the_next_ready);
    suite_add_tcase(suite, t);

    tcase_add_checked_fixture(leader, setup_leader, teardown);
    tcase_add_test(leader, read_is_confirmed_by_a_quorum);
    tcase_add_test(leader, reads_between_two_readies_share_a_round);
    tcase_add_test(leader,
                   E2_answer_to_an_earlier_round_confirms_no_later_read);
    tcase_add_test(leader, later_round_confirms_all_before_it);
    tcase_add_test(leader,
                   read_that_arrives_after_the_heartbeat_waits_for_the_next);
    tcase_add_test(leader, E2_rounds_rise_over_terms);
    tcase_add_test(leader, answer_to_a_round_that_never_was_is_bad);
    tcase_add_test(leader, lost_round_is_confirmed_by_the_next_heartbeat);
    tcase_add_test(leader, E3_reads_fail_with_the_leadership);
    tcase_add_test(leader, E3_asker_is_told_when_leadership_ends);
    tcase_add_test(leader, leader_answers_a_follower);
    suite_add_tcase(suite, leader);
    return suite_run(suite);
}
