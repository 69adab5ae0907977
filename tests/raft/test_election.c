/*
 * test_election.c - votes, terms, timers, transfer, as one server sees them.
 * Conversations of several are in data/A*.txt.
 */
#include "tests/raft/single.h"
#include "tests/raft/suite.h"

static struct single s;

static void setup(void)
{
    single_begin(&s, &(struct cluster_options){.n_voters = 3, .seed = 3});
}

static void setup_plain(void)
{
    single_begin(&s, &(struct cluster_options){
                         .n_voters = 3, .seed = 3, .no_pre_vote = true});
}

static void teardown(void)
{
    single_end(&s);
}

static struct raft_message ask(enum raft_message_type type, raft_id from,
                               raft_term term, raft_index log_index,
                               raft_term log_term)
{
    return (struct raft_message){.type = type,
                                 .from = from,
                                 .term = term,
                                 .log_index = log_index,
                                 .log_term = log_term};
}

static enum raft_status heartbeat(raft_id from, raft_term term)
{
    return single_step(&s, (struct raft_message){.type = RAFT_HEARTBEAT,
                                                 .from = from,
                                                 .term = term});
}

static unsigned ticks_until_campaign(void)
{
    unsigned n = 0;

    while (raft_role(s.raft) == RAFT_FOLLOWER) {
        ck_assert_uint_lt(n, 100);
        single_tick(&s, 1);
        n++;
    }
    return n;
}

START_TEST(timeout_is_drawn_anew_from_n_to_2n)
{
    bool seen[21] = {false};
    unsigned n_seen = 0;

    for (unsigned i = 0; i < 300; i++) {
        unsigned n = ticks_until_campaign();

        ck_assert_uint_ge(n, 10);
        ck_assert_uint_lt(n, 20);
        n_seen += !seen[n];
        seen[n] = true;
        ck_assert_int_eq(heartbeat(2, 1), RAFT_OK);
    }
    ck_assert_uint_eq(n_seen, 10);
}
END_TEST

START_TEST(A1_vote_leaves_when_it_is_synced)
{
    (void)single_step(&s, ask(RAFT_REQUEST_VOTE, 2, 5, 1, 1));
    ck_assert_uint_eq(raft_voted_for(s.raft), 2);
    ck_assert_ptr_null(single_sent(&s, RAFT_REQUEST_VOTE_RESPONSE, 0));
    single_sync(&s);
    ck_assert(!single_sent(&s, RAFT_REQUEST_VOTE_RESPONSE, 2)->reject);
}
END_TEST

START_TEST(A1_lost_vote_was_never_told)
{
    (void)single_step(&s, ask(RAFT_REQUEST_VOTE, 2, 5, 1, 1));
    single_restart(&s);
    ck_assert_uint_eq(raft_voted_for(s.raft), 0);
    (void)single_step(&s, ask(RAFT_REQUEST_VOTE, 3, 5, 1, 1));
    single_sync(&s);
    ck_assert(!single_sent(&s, RAFT_REQUEST_VOTE_RESPONSE, 3)->reject);
}
END_TEST

START_TEST(O2_one_vote_a_term_also_after_a_restart)
{
    (void)single_step(&s, ask(RAFT_REQUEST_VOTE, 2, 5, 1, 1));
    single_sync(&s);
    (void)single_step(&s, ask(RAFT_REQUEST_VOTE, 3, 5, 9, 4));
    ck_assert(single_sent(&s, RAFT_REQUEST_VOTE_RESPONSE, 3)->reject);
    single_restart(&s);
    (void)single_step(&s, ask(RAFT_REQUEST_VOTE, 3, 5, 9, 4));
    ck_assert(single_sent(&s, RAFT_REQUEST_VOTE_RESPONSE, 3)->reject);
    (void)single_step(&s, ask(RAFT_REQUEST_VOTE, 2, 5, 1, 1)); /* again */
    ck_assert(!single_sent(&s, RAFT_REQUEST_VOTE_RESPONSE, 2)->reject);
}
END_TEST

START_TEST(A2_term_and_vote_are_one_write)
{
    struct raft_ready rd;
    struct raft_message m = ask(RAFT_REQUEST_VOTE, 2, 5, 1, 1);

    m.to = 1;
    (void)raft_step(s.raft, &m);
    ck_assert(raft_ready(s.raft, &rd));
    ck_assert(rd.hard_state_changed);
    ck_assert_uint_eq(rd.hard_state.term, 5);
    ck_assert_uint_eq(rd.hard_state.voted_for, 2);
    raft_advance(s.raft);
    ck_assert(!raft_ready(s.raft, &rd));
}
END_TEST

START_TEST(A4_pre_vote_touches_neither_term_nor_vote)
{
    (void)single_step(&s, ask(RAFT_REQUEST_VOTE, 2, 5, 1, 1));
    single_sync(&s);
    (void)single_step(&s, ask(RAFT_PRE_VOTE, 3, 6, 1, 1));
    ck_assert(!single_sent(&s, RAFT_PRE_VOTE_RESPONSE, 3)->reject);
    ck_assert_uint_eq(single_sent(&s, RAFT_PRE_VOTE_RESPONSE, 3)->term, 6);
    (void)ticks_until_campaign();
    ck_assert_int_eq(raft_role(s.raft), RAFT_PRE_CANDIDATE);
    ck_assert_uint_eq(raft_term_now(s.raft), 5);
    ck_assert_uint_eq(raft_voted_for(s.raft), 2);
    (void)single_step(&s, ask(RAFT_REQUEST_VOTE, 3, 5, 1, 1));
    ck_assert(single_sent(&s, RAFT_REQUEST_VOTE_RESPONSE, 3)->reject);
}
END_TEST

static const struct {
    raft_term term;
    raft_index log_index;
    raft_term log_term;
    bool granted;
    const char *why;
} pre_votes[] = {
    {3, 4, 2, true, "next term, equal log"},
    {9, 5, 2, true, "any higher term"},
    {2, 9, 2, false, "A7: not above our term"},
    {3, 3, 2, false, "shorter log"},
    {3, 9, 1, false, "older log"},
};

START_TEST(pre_vote_is_granted_to)
{
    const struct raft_message *answer;

    (void)single_append(&s, 2, 2, 1, 1, "222", 1);
    single_sync(&s);
    single_tick(&s, 10); /* the leader is silent for long enough */
    (void)single_step(&s, ask(RAFT_PRE_VOTE, 3, pre_votes[_i].term,
                              pre_votes[_i].log_index, pre_votes[_i].log_term));
    answer = single_sent(&s, RAFT_PRE_VOTE_RESPONSE, 3);
    ck_assert_msg(answer->reject != pre_votes[_i].granted, "%s",
                  pre_votes[_i].why);
    ck_assert_uint_eq(answer->term,
                      pre_votes[_i].granted ? pre_votes[_i].term : 2);
}
END_TEST

START_TEST(A7_refusal_in_a_newer_term_is_followed)
{
    (void)ticks_until_campaign();
    (void)single_step(&s, (struct raft_message){.type = RAFT_PRE_VOTE_RESPONSE,
                                                .from = 2,
                                                .term = 7,
                                                .reject = true});
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
    ck_assert_uint_eq(raft_term_now(s.raft), 7);
}
END_TEST

START_TEST(A12_votes_are_refused_while_a_leader_lives)
{
    ck_assert_int_eq(heartbeat(2, 2), RAFT_OK);
    single_sync(&s);
    single_tick(&s, 9);
    (void)single_step(&s, ask(RAFT_REQUEST_VOTE, 3, 9, 9, 8));
    ck_assert_uint_eq(raft_term_now(s.raft), 2);
    (void)single_step(&s, ask(RAFT_PRE_VOTE, 3, 9, 9, 8));
    ck_assert(single_sent(&s, RAFT_PRE_VOTE_RESPONSE, 3)->reject);
    single_tick(&s, 1);
    (void)single_step(&s, ask(RAFT_PRE_VOTE, 3, 9, 9, 8));
    ck_assert(!single_sent(&s, RAFT_PRE_VOTE_RESPONSE, 3)->reject);
}
END_TEST

START_TEST(A9_forced_request_is_answered_while_a_leader_lives)
{
    struct raft_message m = ask(RAFT_REQUEST_VOTE, 3, 3, 9, 2);

    ck_assert_int_eq(heartbeat(2, 2), RAFT_OK);
    m.force = true;
    (void)single_step(&s, m);
    single_sync(&s);
    ck_assert(!single_sent(&s, RAFT_REQUEST_VOTE_RESPONSE, 3)->reject);
}
END_TEST

/* 4.1: the candidate's configuration decides who is asked. Ours may be old. */
START_TEST(stranger_may_ask_for_a_vote_and_lead)
{
    (void)single_step(&s, ask(RAFT_REQUEST_VOTE, 77, 5, 1, 1));
    single_sync(&s);
    ck_assert(!single_sent(&s, RAFT_REQUEST_VOTE_RESPONSE, 77)->reject);
    ck_assert_int_eq(heartbeat(77, 5), RAFT_OK);
    ck_assert_uint_eq(raft_leader(s.raft), 77);
}
END_TEST

START_TEST(A5_requests_wait_until_the_log_is_synced)
{
    ck_assert_int_eq(heartbeat(2, 2), RAFT_OK);
    single_sync(&s); /* the term is on disk, the entries are not */
    (void)single_append(&s, 2, 2, 1, 1, "22", 1);
    (void)ticks_until_campaign();
    ck_assert_uint_eq(single_count(&s, RAFT_PRE_VOTE), 0);
    single_sync(&s);
    ck_assert_uint_eq(single_count(&s, RAFT_PRE_VOTE), 2);
    ck_assert_uint_eq(single_sent(&s, RAFT_PRE_VOTE, 2)->log_index, 3);
}
END_TEST

START_TEST(own_vote_counts_when_synced)
{
    (void)ticks_until_campaign();
    ck_assert_int_eq(raft_role(s.raft), RAFT_CANDIDATE);
    ck_assert_uint_eq(single_count(&s, RAFT_REQUEST_VOTE), 0);
    /* A grant that nobody can have asked for yet. */
    (void)single_step(&s, ask(RAFT_REQUEST_VOTE_RESPONSE, 2, 2, 0, 0));
    ck_assert_int_eq(raft_role(s.raft), RAFT_CANDIDATE);
    single_sync(&s);
    ck_assert_uint_eq(single_count(&s, RAFT_REQUEST_VOTE), 2);
    (void)single_step(&s, ask(RAFT_REQUEST_VOTE_RESPONSE, 2, 2, 0, 0));
    ck_assert_int_eq(raft_role(s.raft), RAFT_LEADER);
}
END_TEST

START_TEST(hung_disk_does_not_raise_the_term)
{
    (void)ticks_until_campaign();
    single_tick(&s, 200);
    ck_assert_uint_eq(raft_term_now(s.raft), 2);
    single_sync(&s);
    ck_assert_uint_eq(single_count(&s, RAFT_REQUEST_VOTE), 2);
    single_tick(&s, 20);
    ck_assert_uint_eq(raft_term_now(s.raft), 3);
}
END_TEST

START_TEST(refusals_of_a_quorum_end_the_candidacy)
{
    struct raft_message no = ask(RAFT_REQUEST_VOTE_RESPONSE, 2, 2, 0, 0);

    (void)ticks_until_campaign();
    single_sync(&s);
    no.reject = true;
    (void)single_step(&s, no);
    (void)single_step(&s, no); /* the same one twice is one */
    ck_assert_int_eq(raft_role(s.raft), RAFT_CANDIDATE);
    no.from = 3;
    (void)single_step(&s, no);
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
}
END_TEST

START_TEST(candidate_follows_the_leader_of_its_term)
{
    (void)ticks_until_campaign();
    single_sync(&s);
    ck_assert_int_eq(heartbeat(3, 2), RAFT_OK);
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
    ck_assert_uint_eq(raft_leader(s.raft), 3);
}
END_TEST

START_TEST(A6_requests_of_an_ended_candidacy_are_dropped)
{
    (void)ticks_until_campaign();
    ck_assert_int_eq(heartbeat(3, 2), RAFT_OK);
    single_sync(&s);
    ck_assert_uint_eq(single_count(&s, RAFT_REQUEST_VOTE), 0);
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
}
END_TEST

START_TEST(A6_vote_of_an_older_term_is_dropped)
{
    (void)single_step(&s, ask(RAFT_REQUEST_VOTE, 2, 5, 1, 1));
    (void)single_step(&s, ask(RAFT_REQUEST_VOTE, 3, 6, 1, 1));
    single_sync(&s);
    ck_assert_ptr_null(single_sent(&s, RAFT_REQUEST_VOTE_RESPONSE, 2));
    ck_assert_uint_eq(single_sent(&s, RAFT_REQUEST_VOTE_RESPONSE, 3)->term, 6);
}
END_TEST

static void append_configuration(struct raft_configuration c, raft_index commit)
{
    struct raft_entry e = {.index = 2, .term = 2, .type = RAFT_ENTRY_CONFIG};
    uint8_t *data = raft_configuration_encode(&c, &e.size);

    e.data = data;
    (void)single_step(&s, (struct raft_message){.type = RAFT_APPEND_ENTRIES,
                                                .from = 2,
                                                .term = 2,
                                                .log_index = 1,
                                                .log_term = 1,
                                                .commit = commit,
                                                .n_entries = 1,
                                                .entries = &e});
    raft_free(data);
}

START_TEST(A11_no_campaign_with_an_unapplied_configuration)
{
    append_configuration(s.cluster->configuration, 2);
    ck_assert_uint_eq(raft_commit_index(s.raft), 2);
    single_tick(&s, 50);
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
    single_sync(&s); /* and so it is applied */
    single_tick(&s, 20);
    ck_assert_int_eq(raft_role(s.raft), RAFT_PRE_CANDIDATE);
}
END_TEST

START_TEST(A14_leader_steps_down_without_a_quorum)
{
    single_lead(&s);
    for (int i = 0; i < 30; i++) { /* one of two others is enough */
        single_tick(&s, 1);
        (void)single_step(&s, ask(RAFT_HEARTBEAT_RESPONSE, 2, 2, 0, 0));
    }
    ck_assert_int_eq(raft_role(s.raft), RAFT_LEADER);
    single_tick(&s, 9);
    ck_assert_int_eq(raft_role(s.raft), RAFT_LEADER);
    single_tick(&s, 1);
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
    ck_assert_uint_eq(raft_leader(s.raft), 0);
}
END_TEST

START_TEST(A10_transfer_gives_up_after_an_election_timeout)
{
    raft_index index;

    single_lead(&s);
    ck_assert_int_eq(raft_transfer(s.raft, 2), RAFT_OK);
    single_work(&s);
    ck_assert_ptr_nonnull(single_sent(&s, RAFT_TIMEOUT_NOW, 2));
    ck_assert_int_eq(raft_transfer(s.raft, 3), RAFT_BUSY);
    ck_assert_int_eq(raft_propose(s.raft, "x", 1, &index), RAFT_BUSY);
    single_tick(&s, 9);
    ck_assert_int_eq(raft_propose(s.raft, "x", 1, &index), RAFT_BUSY);
    (void)single_step(&s, ask(RAFT_HEARTBEAT_RESPONSE, 3, 2, 0, 0));
    single_tick(&s, 1);
    ck_assert_int_eq(raft_propose(s.raft, "x", 1, &index), RAFT_OK);
}
END_TEST

START_TEST(transfer_waits_until_the_target_has_all)
{
    raft_index index;

    single_lead(&s);
    ck_assert_int_eq(raft_propose(s.raft, "x", 1, &index), RAFT_OK);
    ck_assert_int_eq(raft_transfer(s.raft, 2), RAFT_OK);
    single_sync(&s);
    ck_assert_ptr_null(single_sent(&s, RAFT_TIMEOUT_NOW, 0));
    single_acknowledge(&s, 2, index);
    ck_assert_ptr_nonnull(single_sent(&s, RAFT_TIMEOUT_NOW, 2));
}
END_TEST

START_TEST(timeout_now_is_for_the_leader_to_say)
{
    ck_assert_int_eq(heartbeat(2, 2), RAFT_OK);
    ck_assert_int_eq(single_step(&s, ask(RAFT_TIMEOUT_NOW, 3, 2, 0, 0)),
                     RAFT_BAD_MESSAGE);
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
    ck_assert_int_eq(single_step(&s, ask(RAFT_TIMEOUT_NOW, 2, 2, 0, 0)),
                     RAFT_OK);
    ck_assert_int_eq(raft_role(s.raft), RAFT_CANDIDATE);
    single_sync(&s);
    ck_assert(single_sent(&s, RAFT_REQUEST_VOTE, 3)->force);
}
END_TEST

/* ---- a disk that stalls
 * ----------------------------------------------------- */

static void setup_stall(void)
{
    struct raft_config config;

    raft_config_defaults(&config);
    config.disk_stall_ticks = 15;
    single_begin(&s, &(struct cluster_options){
                         .n_voters = 3, .seed = 3, .config = &config});
    single_lead(&s);
}

/* Both others answer heartbeats. */
static void tick_and_hear(unsigned n)
{
    for (; n > 0 && raft_role(s.raft) == RAFT_LEADER; n--) {
        single_tick(&s, 1);
        (void)single_step(&s, ask(RAFT_HEARTBEAT_RESPONSE, 2, 2, 0, 0));
        (void)single_step(&s, ask(RAFT_HEARTBEAT_RESPONSE, 3, 2, 0, 0));
    }
}

START_TEST(F8_leadership_goes_to_the_one_that_is_furthest)
{
    raft_index index;

    ck_assert_int_eq(raft_propose(s.raft, "x", 1, &index), RAFT_OK);
    single_work(&s);
    single_acknowledge(&s, 3, index);
    tick_and_hear(14);
    ck_assert(!raft_disk_is_stalled(s.raft));
    ck_assert_int_eq(raft_propose(s.raft, "y", 1, &index), RAFT_OK);
    single_work(&s);
    single_acknowledge(&s, 3, index);
    single_tick(&s, 1); /* 15 since the oldest write began */
    ck_assert(raft_disk_is_stalled(s.raft));
    ck_assert_ptr_nonnull(single_sent(&s, RAFT_TIMEOUT_NOW, 3));
    ck_assert_ptr_null(single_sent(&s, RAFT_TIMEOUT_NOW, 2));
    ck_assert_int_eq(raft_propose(s.raft, "z", 1, &index), RAFT_BUSY);
}
END_TEST

START_TEST(F8_leader_is_gone_one_election_timeout_after_the_bound)
{
    raft_index index;

    ck_assert_int_eq(raft_propose(s.raft, "x", 1, &index), RAFT_OK);
    single_work(&s);
    tick_and_hear(15 + 9);
    ck_assert_int_eq(raft_role(s.raft), RAFT_LEADER);
    tick_and_hear(1);
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
    single_tick(&s, 200);
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER); /* still stalled */
    single_sync(&s);
    single_tick(&s, 20);
    ck_assert_int_eq(raft_role(s.raft), RAFT_PRE_CANDIDATE);
}
END_TEST

START_TEST(F8_stalled_target_does_not_take_over)
{
    (void)single_append(&s, 2, 3, raft_last_index(s.raft), 2, "3", 1);
    single_tick(&s, 9);
    ck_assert_int_eq(heartbeat(2, 3), RAFT_OK);
    single_tick(&s, 6);
    ck_assert(raft_disk_is_stalled(s.raft));
    ck_assert_int_eq(single_step(&s, ask(RAFT_TIMEOUT_NOW, 2, 3, 0, 0)),
                     RAFT_OK);
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
}
END_TEST

/* A write begins before the one before it is done: the age is the oldest's. */
START_TEST(F9_moving_disk_is_not_stalled)
{
    raft_index index;

    for (unsigned i = 0; i < 100; i++) {
        ck_assert_int_eq(raft_propose(s.raft, "x", 1, &index), RAFT_OK);
        single_work(&s);
        tick_and_hear(7);
        ck_assert_int_eq(raft_role(s.raft), RAFT_LEADER);
        if (s.server->disk.n_writes > 1) {
            cluster_sync(s.cluster, s.server, 1);
        }
        ck_assert_int_eq(raft_propose(s.raft, "x", 1, &index), RAFT_OK);
    }
}
END_TEST

START_TEST(A16_learner_does_not_campaign_but_votes)
{
    struct raft_server servers[] = {
        {1, RAFT_LEARNER}, {2, RAFT_VOTER}, {3, RAFT_VOTER}};

    append_configuration(
        (struct raft_configuration){.servers = servers, .n_servers = 3}, 2);
    single_sync(&s);
    for (int i = 0; i < 100; i++) {
        single_tick(&s, 1);
        ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
    }
    (void)single_step(&s, ask(RAFT_REQUEST_VOTE, 2, 5, 2, 2));
    single_sync(&s);
    ck_assert(!single_sent(&s, RAFT_REQUEST_VOTE_RESPONSE, 2)->reject);
}
END_TEST

START_TEST(sole_voter_elects_itself_without_a_tick)
{
    struct single l;
    struct cluster_options o = {.n_voters = 1, .n_learners = 1, .seed = 1};

    single_begin(&l, &o);
    ck_assert_int_eq(raft_role(l.raft), RAFT_CANDIDATE); /* vote not synced */
    single_sync(&l);
    ck_assert_int_eq(raft_role(l.raft), RAFT_LEADER);
    ck_assert(raft_is_settled_leader(l.raft));
    single_end(&l);
}
END_TEST

START_TEST(messages_of_older_terms_are_told_ours)
{
    (void)single_step(&s, ask(RAFT_REQUEST_VOTE, 2, 5, 1, 1));
    single_sync(&s);
    ck_assert_int_eq(heartbeat(3, 4), RAFT_OK);
    ck_assert_uint_eq(single_sent(&s, RAFT_APPEND_ENTRIES_RESPONSE, 3)->term,
                      5);
    ck_assert_uint_eq(raft_leader(s.raft), 0);
    (void)single_step(&s, ask(RAFT_REQUEST_VOTE, 3, 4, 9, 3));
    ck_assert(single_sent(&s, RAFT_REQUEST_VOTE_RESPONSE, 3)->reject);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("election");
    TCase *t = tcase_create("pre-vote"), *plain = tcase_create("plain");
    TCase *stall = tcase_create("stall");

    tcase_add_checked_fixture(stall, setup_stall, teardown);
    tcase_add_test(stall, F8_leadership_goes_to_the_one_that_is_furthest);
    tcase_add_test(stall,
                   F8_leader_is_gone_one_election_timeout_after_the_bound);
    tcase_add_test(stall, F8_stalled_target_does_not_take_over);
    tcase_add_test(stall, F9_moving_disk_is_not_stalled);
    suite_add_tcase(suite, stall);

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, timeout_is_drawn_anew_from_n_to_2n);
    tcase_add_test(t, A1_vote_leaves_when_it_is_synced);
    tcase_add_test(t, A1_lost_vote_was_never_told);
    tcase_add_test(t, O2_one_vote_a_term_also_after_a_restart);
    tcase_add_test(t, A2_term_and_vote_are_one_write);
    tcase_add_test(t, A4_pre_vote_touches_neither_term_nor_vote);
    tcase_add_loop_test(t, pre_vote_is_granted_to, 0,
                        sizeof(pre_votes) / sizeof(pre_votes[0]));
    tcase_add_test(t, A7_refusal_in_a_newer_term_is_followed);
    tcase_add_test(t, A12_votes_are_refused_while_a_leader_lives);
    tcase_add_test(t, A9_forced_request_is_answered_while_a_leader_lives);
    tcase_add_test(t, stranger_may_ask_for_a_vote_and_lead);
    tcase_add_test(t, A5_requests_wait_until_the_log_is_synced);
    tcase_add_test(t, A6_vote_of_an_older_term_is_dropped);
    tcase_add_test(t, A11_no_campaign_with_an_unapplied_configuration);
    tcase_add_test(t, A14_leader_steps_down_without_a_quorum);
    tcase_add_test(t, A10_transfer_gives_up_after_an_election_timeout);
    tcase_add_test(t, transfer_waits_until_the_target_has_all);
    tcase_add_test(t, timeout_now_is_for_the_leader_to_say);
    tcase_add_test(t, A16_learner_does_not_campaign_but_votes);
    tcase_add_test(t, sole_voter_elects_itself_without_a_tick);
    tcase_add_test(t, messages_of_older_terms_are_told_ours);
    suite_add_tcase(suite, t);

    tcase_add_checked_fixture(plain, setup_plain, teardown);
    tcase_add_test(plain, own_vote_counts_when_synced);
    tcase_add_test(plain, hung_disk_does_not_raise_the_term);
    tcase_add_test(plain, refusals_of_a_quorum_end_the_candidacy);
    tcase_add_test(plain, candidate_follows_the_leader_of_its_term);
    tcase_add_test(plain, A6_requests_of_an_ended_candidacy_are_dropped);
    suite_add_tcase(suite, plain);
    return suite_run(suite);
}
