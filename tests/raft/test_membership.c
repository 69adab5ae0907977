/*
 * test_membership.c - changes of the members, as one server sees them.
 * Conversations are in data/C*.txt.
 */
#include "tests/raft/single.h"
#include "tests/raft/suite.h"

#include <string.h>

static struct single s;

static void setup(void)
{
    single_begin(&s, &(struct cluster_options){
                         .n_voters = 3, .n_learners = 1, .seed = 3});
}

static void teardown(void)
{
    single_end(&s);
}

static enum raft_status propose(const char *members, raft_index *index)
{
    return cluster_members(s.cluster, 1, members, index);
}

static const char *members(void)
{
    return cluster_members_text(raft_configuration_now(s.raft));
}

/* It is synced here and on those. */
static void commit(const char *ids)
{
    raft_index last = raft_last_index(s.raft);

    single_sync(&s);
    for (; *ids != '\0'; ids++) {
        single_acknowledge(&s, (raft_id)(*ids - '0'), last);
    }
    single_work(&s);
}

static void hear(raft_id from)
{
    (void)single_step(&s, (struct raft_message){.type = RAFT_HEARTBEAT_RESPONSE,
                                                .from = from,
                                                .term = raft_term_now(s.raft)});
}

static const struct {
    const char *target, *entry;
    const char *why;
} changes[] = {
    {"1 2 3", "1 2 3", "a learner goes"},
    {"1 2 3 4l 5l 6l", "1 2 3 4l 5l 6l", "learners come, any number"},
    {"1 2 3 4", "1 2 3 4", "one is promoted"},
    {"1 2l 3 4l", "1 2l 3 4l", "one is demoted"},
    {"1 2 4l", "1 2 4l", "one goes"},
    {"1 2 3 4l 5", "1 2 3 4l 5", "one comes"},
    {"1 2l 3 5l", "1 2l 3 5l", "one is demoted, learners change"},
    {"1 2 4", "1 2 3- 4+", "one for another"},
    {"1 4 5", "1 2- 3- 4+ 5+", "two for two others"},
    {"1 2 3l 4", "1 2 3d 4+", "one up, one down"},
    {"1 2 3l 4l 5 6l", "1 2 3d 4l 5+ 6l", "and learners beside"},
    {"1", "1 2- 3-", "down to one"},
};

START_TEST(C6_more_than_one_voter_makes_it_joint)
{
    raft_index index;

    single_lead(&s);
    ck_assert_int_eq(propose(changes[_i].target, &index), RAFT_OK);
    ck_assert_uint_eq(index, raft_last_index(s.raft));
    ck_assert_msg(strcmp(members(), changes[_i].entry) == 0, "%s: %s",
                  changes[_i].why, members());
}
END_TEST

static const struct {
    const char *target;
    const char *why;
} bad[] = {
    {"", "nobody"},
    {"1l 2l 4l", "no voter"},
    {"2 1 3", "out of order"},
    {"1 1 2 3", "twice the same"},
    {"0 1 2 3", "nobody's id"},
    {"1 2 3 4l", "no change"},
};

START_TEST(bad_configuration_is_refused)
{
    raft_index index = 99, last;

    single_lead(&s);
    last = raft_last_index(s.raft);
    ck_assert_msg(propose(bad[_i].target, &index) == RAFT_BAD_CONFIGURATION,
                  "%s", bad[_i].why);
    ck_assert_uint_eq(index, 99);
    ck_assert_uint_eq(raft_last_index(s.raft), last);
}
END_TEST

START_TEST(joint_target_is_refused)
{
    struct raft_server servers[] = {
        {1, RAFT_VOTER}, {2, RAFT_VOTER}, {3, RAFT_VOTER_LEAVING}};
    struct raft_configuration joint = {.servers = servers, .n_servers = 3};
    raft_index index;

    single_lead(&s);
    ck_assert_int_eq(raft_propose_configuration(s.raft, &joint, &index),
                     RAFT_BAD_CONFIGURATION);
}
END_TEST

START_TEST(C1_next_waits_for_commit_and_application)
{
    struct raft_ready rd;

    ck_assert_int_eq(propose("1 2 3", NULL), RAFT_NOT_LEADER);
    single_lead(&s);
    ck_assert_int_eq(propose("1 2 3", NULL), RAFT_OK);
    ck_assert_int_eq(propose("1 2", NULL), RAFT_CHANGE_PENDING);
    single_sync(&s);
    ck_assert_int_eq(propose("1 2", NULL), RAFT_CHANGE_PENDING);
    (void)raft_step(
        s.raft, &(struct raft_message){.type = RAFT_APPEND_ENTRIES_RESPONSE,
                                       .from = 2,
                                       .to = 1,
                                       .term = raft_term_now(s.raft),
                                       .log_index = raft_last_index(s.raft)});
    ck_assert_uint_eq(raft_commit_index(s.raft), raft_last_index(s.raft));
    ck_assert_int_eq(propose("1 2", NULL), RAFT_CHANGE_PENDING);
    ck_assert(raft_ready(s.raft, &rd)); /* hands it out */
    raft_advance(s.raft);
    s.server->applied = raft_last_applied(s.raft);
    ck_assert_int_eq(propose("1 2", NULL), RAFT_OK);
}
END_TEST

/* Ongaro, 2015: a leader that has committed nothing of its own. */
START_TEST(C1_first_waits_for_an_entry_of_the_own_term)
{
    for (unsigned i = 0; raft_role(s.raft) == RAFT_FOLLOWER; i++) {
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
    ck_assert_int_eq(propose("1 2 3", NULL), RAFT_BUSY);
    single_acknowledge(&s, 2, raft_last_index(s.raft));
    ck_assert_int_eq(propose("1 2 3", NULL), RAFT_OK);
}
END_TEST

START_TEST(C6_joint_commits_by_both_and_is_left_once)
{
    raft_index joint;

    single_lead(&s);
    ck_assert_int_eq(propose("1 4 5", &joint), RAFT_OK);
    commit("23");
    ck_assert_uint_eq(raft_commit_index(s.raft), joint - 1);
    ck_assert_str_eq(members(), "1 2- 3- 4+ 5+");
    ck_assert_int_eq(propose("1 2 3", NULL), RAFT_CHANGE_PENDING);
    commit("4");
    ck_assert_uint_eq(raft_commit_index(s.raft), joint);
    ck_assert_uint_eq(raft_last_index(s.raft), joint + 1);
    ck_assert_str_eq(members(), "1 4 5");
    commit("23"); /* they are sent it, and count no more */
    ck_assert_uint_eq(raft_commit_index(s.raft), joint);
    commit("5");
    ck_assert_uint_eq(raft_commit_index(s.raft), joint + 1);
    commit("45");
    ck_assert_uint_eq(raft_last_index(s.raft), joint + 1);
    ck_assert_str_eq(cluster_members_text(raft_configuration_at(s.raft, joint)),
                     "1 2- 3- 4+ 5+");
    ck_assert_str_eq(
        cluster_members_text(raft_configuration_at(s.raft, joint - 1)),
        "1 2 3 4l");
}
END_TEST

START_TEST(C6_joint_leader_steps_down_without_either_majority)
{
    single_lead(&s);
    ck_assert_int_eq(propose("1 4 5", NULL), RAFT_OK);
    for (int i = 0; i < 12 && raft_role(s.raft) == RAFT_LEADER; i++) {
        single_tick(&s, 1);
        hear(2);
        hear(3); /* the old majority, and nobody of the new */
    }
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
}
END_TEST

START_TEST(C6_joint_read_index_needs_both_majorities)
{
    single_lead(&s);
    ck_assert_int_eq(propose("1 4 5", NULL), RAFT_OK);
    ck_assert_int_eq(cluster_read(s.cluster, 1), RAFT_OK);
    single_work(&s);
    for (raft_id id = 2; id <= 4; id++) {
        ck_assert_uint_eq(s.server->reads_ok, 0);
        (void)single_step(&s,
                          (struct raft_message){.type = RAFT_HEARTBEAT_RESPONSE,
                                                .from = id,
                                                .context = 1,
                                                .term = raft_term_now(s.raft)});
    }
    ck_assert_uint_eq(s.server->reads_ok, 1);
}
END_TEST

START_TEST(C5_removed_leader_does_not_count_itself)
{
    raft_index index;

    single_lead(&s);
    ck_assert_int_eq(propose("2 3 4l", &index), RAFT_OK);
    commit("2");
    ck_assert_uint_eq(raft_commit_index(s.raft), index - 1);
    ck_assert_int_eq(raft_role(s.raft), RAFT_LEADER);
    commit("3");
    ck_assert_uint_eq(raft_commit_index(s.raft), index);
    ck_assert(raft_is_removed(s.raft));
    ck_assert_int_eq(raft_propose(s.raft, "x", 1, &index), RAFT_BUSY);
    ck_assert_int_eq(propose("1 2 3", NULL), RAFT_BUSY);
}
END_TEST

START_TEST(C5_removed_leader_steps_down_if_nobody_takes_over)
{
    single_lead(&s);
    ck_assert_int_eq(propose("2 3 4l", NULL), RAFT_OK);
    commit("23");
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(raft_role(s.raft), RAFT_LEADER);
        single_tick(&s, 1);
        hear(2);
        hear(3);
    }
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
    single_tick(&s, 200);
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
}
END_TEST

START_TEST(C5_leadership_goes_to_the_voter_that_is_furthest)
{
    single_lead(&s);
    ck_assert_int_eq(propose("2 3 4l", NULL), RAFT_OK);
    ck_assert_int_eq(raft_propose(s.raft, "x", 1, &(raft_index){0}), RAFT_OK);
    single_sync(&s);
    single_acknowledge(&s, 4, raft_last_index(s.raft)); /* learns only */
    single_acknowledge(&s, 2, raft_last_index(s.raft) - 1);
    single_acknowledge(&s, 3, raft_last_index(s.raft));
    ck_assert_ptr_nonnull(single_sent(&s, RAFT_TIMEOUT_NOW, 3));
    ck_assert_uint_eq(single_count(&s, RAFT_TIMEOUT_NOW), 1);
}
END_TEST

START_TEST(C8_learner_is_promoted_when_it_has_caught_up)
{
    single_lead(&s);
    ck_assert(raft_may_promote(s.raft, 4));
    ck_assert(!raft_may_promote(s.raft, 2));  /* votes already */
    ck_assert(!raft_may_promote(s.raft, 77)); /* who? */
    for (int i = 0; i < 40; i++) {            /* writes go on, it lags */
        single_tick(&s, 1);
        (void)raft_propose(s.raft, "x", 1, &(raft_index){0});
        commit("23");
        hear(4);
    }
    ck_assert(!raft_may_promote(s.raft, 4));
    commit("234");
    ck_assert(raft_may_promote(s.raft, 4));
    for (int i = 0; i < 10; i++) {
        single_tick(&s, 1);
        hear(2);
    }
    ck_assert(!raft_may_promote(s.raft, 4)); /* not heard lately */
}
END_TEST

START_TEST(C8_learner_that_never_started_is_not_promoted)
{
    struct raft_progress p;

    single_lead(&s);
    ck_assert_int_eq(propose("1 2 3 4l 5l", NULL), RAFT_OK);
    commit("23");
    ck_assert(!raft_may_promote(s.raft, 5));
    ck_assert(raft_progress_at(s.raft, 4, &p));
    ck_assert(!p.recently_active);
    hear(5); /* it runs, but has nothing */
    ck_assert(!raft_may_promote(s.raft, 5));
}
END_TEST

START_TEST(A10_no_change_while_leadership_is_transferred)
{
    single_lead(&s);
    ck_assert_int_eq(raft_transfer(s.raft, 2), RAFT_OK);
    ck_assert_int_eq(propose("1 2l 3", NULL), RAFT_BUSY);
    for (int i = 0; i < 10; i++) {
        single_tick(&s, 1);
        hear(2);
    }
    ck_assert_int_eq(propose("1 2l 3 4l", NULL), RAFT_OK);
}
END_TEST

START_TEST(A10_leadership_is_not_given_to_one_that_goes)
{
    single_lead(&s);
    ck_assert_int_eq(propose("1 4 5", NULL), RAFT_OK);
    ck_assert_int_eq(raft_transfer(s.raft, 2), RAFT_BAD_MEMBER);
    ck_assert_int_eq(raft_transfer(s.raft, 4), RAFT_OK);
}
END_TEST

START_TEST(C11_only_members_and_those_who_learn_that_they_left_are_contacted)
{
    single_lead(&s);
    ck_assert_int_eq(propose("1 2 4l", NULL), RAFT_OK);
    single_tick(&s, 1);
    ck_assert_ptr_nonnull(single_sent(&s, RAFT_HEARTBEAT, 3));
    commit("23");
    for (int i = 0; i < 20; i++) {
        single_tick(&s, 1);
        hear(2);
    }
    single_tick(&s, 1);
    ck_assert_ptr_null(single_sent(&s, RAFT_HEARTBEAT, 3));
    ck_assert_ptr_nonnull(single_sent(&s, RAFT_HEARTBEAT, 2));
    ck_assert_int_eq(
        single_step(&s, (struct raft_message){.type = RAFT_HEARTBEAT_RESPONSE,
                                              .from = 3,
                                              .term = raft_term_now(s.raft)}),
        RAFT_BAD_MESSAGE);
}
END_TEST

START_TEST(C11_message_from_oneself_is_refused)
{
    for (int type = RAFT_PRE_VOTE; type <= RAFT_READ_INDEX_RESPONSE; type++) {
        ck_assert_int_eq(
            single_step(
                &s, (struct raft_message){.type = (enum raft_message_type)type,
                                          .from = 1,
                                          .term = 9}),
            RAFT_BAD_MESSAGE);
    }
    ck_assert_uint_eq(raft_term_now(s.raft), 1);
}
END_TEST

START_TEST(member_that_comes_back_at_once_is_replicated_to)
{
    struct raft_progress p;

    single_lead(&s);
    ck_assert_int_eq(propose("1 2 4l", NULL), RAFT_OK);
    commit("23");
    ck_assert_int_eq(propose("1 2 3 4l", NULL), RAFT_OK);
    commit("23");
    ck_assert(raft_progress_at(s.raft, 2, &p));
    ck_assert_uint_eq(p.id, 3);
    ck_assert_uint_eq(p.match_index, raft_last_index(s.raft));
    single_tick(&s, 1);
    ck_assert_uint_eq(single_count(&s, RAFT_HEARTBEAT), 3);
}
END_TEST

static void append_members(raft_index index, const char *text, raft_index up_to)
{
    struct raft_configuration c;
    struct raft_entry e = {
        .index = index, .term = 2, .type = RAFT_ENTRY_CONFIG};
    uint8_t *data;

    cluster_parse_members(&c, text);
    data = raft_configuration_encode(&c, &e.size);
    e.data = data;
    (void)single_step(&s, (struct raft_message){
                              .type = RAFT_APPEND_ENTRIES,
                              .from = 2,
                              .term = 2,
                              .log_index = index - 1,
                              .log_term = index > 2 ? 2 : 1,
                              .commit = up_to,
                              .n_entries = 1,
                              .entries = &e,
                          });
    raft_free(data);
    raft_configuration_release(&c);
}

START_TEST(C5_removal_counts_when_it_is_committed)
{
    append_members(2, "2 3", 1);
    ck_assert_str_eq(members(), "2 3");
    ck_assert(!raft_is_removed(s.raft));
    append_members(3, "2 3 4", 2);
    ck_assert(raft_is_removed(s.raft));
}
END_TEST

/* 4.2.2: it may be the only one that can win. */
START_TEST(C5_voter_campaigns_until_its_removal_is_committed)
{
    append_members(2, "2 3", 1);
    single_sync(&s);
    single_tick(&s, 20);
    ck_assert_int_eq(raft_role(s.raft), RAFT_PRE_CANDIDATE);
    ck_assert_ptr_nonnull(single_sent(&s, RAFT_PRE_VOTE, 3));
    (void)single_step(&s, (struct raft_message){.type = RAFT_PRE_VOTE_RESPONSE,
                                                .from = 2,
                                                .term = 3});
    ck_assert_int_eq(raft_role(s.raft), RAFT_PRE_CANDIDATE); /* 1 of 2 */
    append_members(3, "2 3 4", 2);
    single_sync(&s);
    single_tick(&s, 100);
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
}
END_TEST

START_TEST(C4_configuration_of_a_cut_log_is_the_one_in_force_there)
{
    append_members(2, "1 2 3", 2);
    append_members(3, "1 2", 3);
    append_members(4, "1 2 3 4", 3);
    single_sync(&s);
    raft_compact(s.raft, 3);
    ck_assert_str_eq(cluster_members_text(raft_configuration_at(s.raft, 3)),
                     "1 2");
    ck_assert_str_eq(cluster_members_text(raft_configuration_at(s.raft, 4)),
                     "1 2 3 4");
    (void)single_append(&s, 3, 3, 3, 2, "3", 3); /* C2: rolled back */
    ck_assert_str_eq(members(), "1 2");
}
END_TEST

static const struct {
    raft_index index;
    bool is_removed;
    const char *why;
} hints[] = {
    {0, false, "a refusal that says nothing of it"},
    {2, false, "ours is as new: the other may not have it yet"},
    {3, true, "one that we have not heard of is committed without us"},
};

START_TEST(A15_refusal_tells_of_a_missed_removal)
{
    append_members(2, "1 2 3", 2);
    single_sync(&s);
    single_tick(&s, 20);
    (void)single_step(&s, (struct raft_message){.type = RAFT_PRE_VOTE_RESPONSE,
                                                .from = 3,
                                                .term = 2,
                                                .reject = true,
                                                .log_index = hints[_i].index});
    ck_assert_msg(raft_is_removed(s.raft) == hints[_i].is_removed, "%s",
                  hints[_i].why);
}
END_TEST

START_TEST(A15_removed_candidate_is_told_so)
{
    struct raft_message ask = {
        .type = RAFT_PRE_VOTE, .term = 9, .log_index = 1, .log_term = 1};

    append_members(2, "1 2", 2);
    single_sync(&s);
    ask.from = 3;
    (void)single_step(&s, ask);
    ck_assert(single_sent(&s, RAFT_PRE_VOTE_RESPONSE, 3)->reject);
    ck_assert_uint_eq(single_sent(&s, RAFT_PRE_VOTE_RESPONSE, 3)->log_index, 2);
    ask.from = 2;
    (void)single_step(&s, ask);
    ck_assert_uint_eq(single_sent(&s, RAFT_PRE_VOTE_RESPONSE, 2)->log_index, 0);
}
END_TEST

/* A new member replays a past in which it is not: that is no removal. */
START_TEST(new_member_is_not_removed)
{
    struct cluster_options o = {.n_voters = 3, .n_spares = 1, .seed = 1};
    struct cluster *c = cluster_new(&o);

    cluster_elect(c, 1);
    ck_assert_int_eq(cluster_members(c, 1, "1 2 3 4l", NULL), RAFT_OK);
    cluster_at(c, 1)->config.append_bytes_max = 1;
    cluster_tick(c, 3);
    ck_assert_uint_eq(cluster_at(c, 4)->applied, 3);
    ck_assert(!raft_is_removed(cluster_at(c, 4)->raft));
    cluster_free(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("membership");
    TCase *t = tcase_create("membership");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, C6_more_than_one_voter_makes_it_joint, 0,
                        sizeof(changes) / sizeof(changes[0]));
    tcase_add_loop_test(t, bad_configuration_is_refused, 0,
                        sizeof(bad) / sizeof(bad[0]));
    tcase_add_test(t, joint_target_is_refused);
    tcase_add_test(t, C1_next_waits_for_commit_and_application);
    tcase_add_test(t, C1_first_waits_for_an_entry_of_the_own_term);
    tcase_add_test(t, C6_joint_commits_by_both_and_is_left_once);
    tcase_add_test(t, C6_joint_leader_steps_down_without_either_majority);
    tcase_add_test(t, C6_joint_read_index_needs_both_majorities);
    tcase_add_test(t, C5_removed_leader_does_not_count_itself);
    tcase_add_test(t, C5_removed_leader_steps_down_if_nobody_takes_over);
    tcase_add_test(t, C5_leadership_goes_to_the_voter_that_is_furthest);
    tcase_add_test(t, C8_learner_is_promoted_when_it_has_caught_up);
    tcase_add_test(t, C8_learner_that_never_started_is_not_promoted);
    tcase_add_test(t, A10_no_change_while_leadership_is_transferred);
    tcase_add_test(t, A10_leadership_is_not_given_to_one_that_goes);
    tcase_add_test(
        t, C11_only_members_and_those_who_learn_that_they_left_are_contacted);
    tcase_add_test(t, C11_message_from_oneself_is_refused);
    tcase_add_test(t, member_that_comes_back_at_once_is_replicated_to);
    tcase_add_test(t, C5_removal_counts_when_it_is_committed);
    tcase_add_test(t, C5_voter_campaigns_until_its_removal_is_committed);
    tcase_add_test(t, C4_configuration_of_a_cut_log_is_the_one_in_force_there);
    tcase_add_loop_test(t, A15_refusal_tells_of_a_missed_removal, 0,
                        sizeof(hints) / sizeof(hints[0]));
    tcase_add_test(t, A15_removed_candidate_is_told_so);
    tcase_add_test(t, new_member_is_not_removed);
    suite_add_tcase(suite, t);
    return suite_run(suite);
}
