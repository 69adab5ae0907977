/*
 * test_snapshot.c - who needs a snapshot, and the log that begins anew behind
 * one, as one server sees them. Conversations are in data/D*.txt.
 */
#include "tests/raft/single.h"
#include "tests/raft/suite.h"

#include <string.h>

static struct single s;
static struct raft_configuration three;

static void setup(void)
{
    single_begin(&s, &(struct cluster_options){.n_voters = 3, .seed = 3});
    cluster_parse_members(&three, "1 2 3");
}

static void teardown(void)
{
    raft_configuration_release(&three);
    single_end(&s);
}

static struct raft_snapshot at(raft_index index, raft_term term)
{
    return (struct raft_snapshot){index, term, three};
}

/* Entries 2 to 6 from leader 2, synced, commit as given. */
static void follow(raft_index commit)
{
    ck_assert_int_eq(single_append(&s, 2, 2, 1, 1, "22222", commit), RAFT_OK);
    single_sync(&s);
}

/* ---- the follower -----------------------------------------------------------
 */

static const struct {
    raft_index index;
    raft_term term;
    const char *members;
    enum raft_status status;
    const char *why;
} refused[] = {
    {3, 2, "1 2 3", RAFT_STALE_SNAPSHOT, "committed here already"},
    {1, 1, "1 2 3", RAFT_STALE_SNAPSHOT, "long since"},
    {5, 1, "1 2 3", RAFT_BAD_SNAPSHOT, "its leader sent us another there"},
    {6, 3, "1 2 3", RAFT_BAD_SNAPSHOT, "the same, later term"},
    {9, 1, "1 2 3", RAFT_BAD_SNAPSHOT, "older than what is committed"},
    {9, 0, "1 2 3", RAFT_BAD_SNAPSHOT, "no term"},
    {9, 2, "", RAFT_BAD_SNAPSHOT, "no members"},
    {9, 2, "1l 2l", RAFT_BAD_SNAPSHOT, "no voters"},
    {9, 2, "2 1", RAFT_BAD_SNAPSHOT, "out of order"},
    {INT64_MAX, 2, "1 2 3", RAFT_BAD_SNAPSHOT, "beyond any log"},
};

START_TEST(D5_is_refused_and_changes_nothing)
{
    struct raft_snapshot bad = {refused[_i].index, refused[_i].term, {0}};
    struct raft_ready rd;

    follow(3);
    cluster_parse_members(&bad.configuration, refused[_i].members);
    ck_assert_msg(raft_restore(s.raft, &bad) == refused[_i].status, "%s",
                  refused[_i].why);
    raft_configuration_release(&bad.configuration);
    ck_assert(!raft_ready(s.raft, &rd));
    ck_assert_str_eq(single_terms(&s), "122222");
    ck_assert_uint_eq(raft_commit_index(s.raft), 3);
    single_tick(&s, 20); /* nor is it thought to install */
    ck_assert_int_eq(raft_role(s.raft), RAFT_PRE_CANDIDATE);
}
END_TEST

START_TEST(log_begins_anew_behind_it)
{
    struct raft_snapshot snapshot = at(9, 2);
    struct raft_ready rd;

    follow(3);
    ck_assert_int_eq(raft_restore(s.raft, &snapshot), RAFT_OK);
    ck_assert_uint_eq(raft_first_index(s.raft), 10);
    ck_assert_uint_eq(raft_last_index(s.raft), 9);
    ck_assert_uint_eq(raft_commit_index(s.raft), 9);
    ck_assert_uint_eq(raft_last_applied(s.raft), 9);
    ck_assert(raft_ready(s.raft, &rd));
    ck_assert_uint_eq(rd.restore->index, 9);
    ck_assert_uint_eq(rd.restore->term, 2);
    ck_assert_uint_eq(rd.restore->configuration.n_servers, 3);
    ck_assert_uint_eq(rd.n_entries, 0);
    ck_assert_uint_eq(rd.truncate_from, 0);
    ck_assert_uint_eq(rd.n_committed, 0); /* the state has them */
    raft_advance(s.raft);
}
END_TEST

/* 5: what follows an entry that we share is not known to be wrong. */
START_TEST(tail_is_kept_and_written_anew)
{
    struct raft_snapshot snapshot = at(4, 2);
    struct raft_ready rd;

    follow(3);
    ck_assert_int_eq(raft_restore(s.raft, &snapshot), RAFT_OK);
    ck_assert_uint_eq(raft_last_index(s.raft), 6);
    ck_assert(raft_ready(s.raft, &rd));
    ck_assert_uint_eq(rd.n_entries, 2);
    ck_assert_uint_eq(rd.entries[0].index, 5);
    raft_advance(s.raft);
    raft_stable(s.raft, rd.batch);
    ck_assert_uint_eq(raft_stable_index(s.raft), 6);
}
END_TEST

/* A leader of term 3 has overwritten what we have behind 3 of term 2. */
START_TEST(tail_of_another_history_is_dropped)
{
    struct raft_snapshot snapshot = at(4, 3);

    follow(3);
    ck_assert_int_eq(single_append(&s, 3, 3, 3, 2, "", 3), RAFT_OK);
    single_sync(&s);
    ck_assert_int_eq(raft_restore(s.raft, &snapshot), RAFT_OK);
    ck_assert_uint_eq(raft_last_index(s.raft), 4);
    single_sync(&s);
    ck_assert_uint_eq(
        single_sent(&s, RAFT_APPEND_ENTRIES_RESPONSE, 3)->log_index, 4);
}
END_TEST

START_TEST(D9_leader_is_told_when_it_is_stable)
{
    struct raft_snapshot snapshot = at(9, 2);

    follow(3);
    ck_assert_int_eq(raft_restore(s.raft, &snapshot), RAFT_OK);
    single_work(&s);
    ck_assert_ptr_null(single_sent(&s, RAFT_APPEND_ENTRIES_RESPONSE, 0));
    ck_assert_int_eq(single_append(&s, 2, 2, 9, 2, "2", 9), RAFT_OK);
    ck_assert_ptr_null(single_sent(&s, RAFT_APPEND_ENTRIES_RESPONSE, 0));
    single_sync(&s);
    ck_assert_uint_eq(
        single_sent(&s, RAFT_APPEND_ENTRIES_RESPONSE, 2)->log_index, 9);
    ck_assert_uint_eq(raft_last_index(s.raft), 10);
}
END_TEST

/* What was on its way to the disk belongs to a log that is about to go. */
START_TEST(D9_earlier_acknowledgement_waits_as_well)
{
    struct raft_snapshot snapshot = at(4, 2);

    (void)single_append(&s, 2, 2, 1, 1, "22222", 3);
    ck_assert_int_eq(raft_restore(s.raft, &snapshot), RAFT_OK);
    single_work(&s);
    cluster_sync(s.cluster, s.server, 1); /* the append's */
    single_work(&s);
    ck_assert_ptr_null(single_sent(&s, RAFT_APPEND_ENTRIES_RESPONSE, 0));
    single_sync(&s);
    ck_assert_uint_eq(
        single_sent(&s, RAFT_APPEND_ENTRIES_RESPONSE, 2)->log_index, 6);
}
END_TEST

START_TEST(D6_nothing_is_applied_while_it_is_installed)
{
    struct raft_snapshot snapshot = at(5, 2);
    struct raft_ready rd;

    follow(3);
    ck_assert_int_eq(raft_restore_begin(s.raft, &snapshot), RAFT_OK);
    (void)single_append(&s, 2, 2, 6, 2, "2", 6);
    single_sync(&s);
    ck_assert_uint_eq(raft_commit_index(s.raft), 6);
    ck_assert_uint_eq(raft_last_applied(s.raft), 3);
    raft_restore_end(s.raft, true); /* behind what is committed, and fine */
    ck_assert_uint_eq(raft_last_applied(s.raft), 5);
    s.server->applied = 5;
    ck_assert(raft_ready(s.raft, &rd));
    ck_assert_uint_eq(rd.n_committed, 0); /* 6 is not stable in the new log */
    raft_advance(s.raft);
    raft_stable(s.raft, rd.batch);
    ck_assert(raft_ready(s.raft, &rd));
    ck_assert_uint_eq(rd.n_committed, 1);
    ck_assert_uint_eq(rd.committed[0].index, 6);
    raft_advance(s.raft);
}
END_TEST

START_TEST(D5_failed_install_is_as_if_it_had_never_begun)
{
    struct raft_snapshot snapshot = at(5, 2);

    follow(3);
    ck_assert_int_eq(raft_restore_begin(s.raft, &snapshot), RAFT_OK);
    (void)single_append(&s, 2, 2, 6, 2, "", 6);
    raft_restore_end(s.raft, false);
    single_work(&s);
    ck_assert_uint_eq(raft_first_index(s.raft), 1);
    ck_assert_uint_eq(s.server->applied, 6);
    single_tick(&s, 20);
    ck_assert_int_eq(raft_role(s.raft), RAFT_PRE_CANDIDATE);
}
END_TEST

START_TEST(A11_no_campaign_until_it_is_stable)
{
    struct raft_snapshot snapshot = at(9, 2);

    follow(3);
    ck_assert_int_eq(raft_restore_begin(s.raft, &snapshot), RAFT_OK);
    single_tick(&s, 100);
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
    raft_restore_end(s.raft, true);
    s.server->applied = 9;
    single_tick(&s, 100);
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
    single_sync(&s);
    single_tick(&s, 20);
    ck_assert_int_eq(raft_role(s.raft), RAFT_PRE_CANDIDATE);
    ck_assert_uint_eq(single_sent(&s, RAFT_PRE_VOTE, 2)->log_index, 9);
}
END_TEST

START_TEST(A11_campaign_ends_when_an_install_begins)
{
    struct raft_snapshot snapshot = at(9, 2);

    follow(3);
    single_tick(&s, 20);
    ck_assert_int_eq(raft_role(s.raft), RAFT_PRE_CANDIDATE);
    ck_assert_int_eq(raft_restore_begin(s.raft, &snapshot), RAFT_OK);
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
    raft_restore_end(s.raft, false);
}
END_TEST

START_TEST(A11_order_to_campaign_is_refused_while_it_is_installed)
{
    struct raft_snapshot snapshot = at(9, 2);

    follow(3);
    ck_assert_int_eq(raft_restore_begin(s.raft, &snapshot), RAFT_OK);
    ck_assert_int_eq(
        single_step(&s, (struct raft_message){.type = RAFT_TIMEOUT_NOW,
                                              .from = 2,
                                              .term = 2}),
        RAFT_OK);
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
    raft_restore_end(s.raft, false);
}
END_TEST

START_TEST(D5_one_restore_at_a_time)
{
    struct raft_snapshot one = at(9, 2), two = at(12, 2);
    struct raft_ready rd;

    follow(3);
    ck_assert_int_eq(raft_restore_begin(s.raft, &one), RAFT_OK);
    ck_assert_int_eq(raft_restore_begin(s.raft, &two), RAFT_BUSY);
    raft_restore_end(s.raft, true);
    ck_assert_int_eq(raft_restore_begin(s.raft, &two), RAFT_BUSY);
    ck_assert(raft_ready(s.raft, &rd));
    raft_advance(s.raft);
    ck_assert_int_eq(raft_restore_begin(s.raft, &two), RAFT_BUSY);
    ck_assert_uint_eq(rd.restore->index, 9); /* the disk may still read it */
    raft_stable(s.raft, rd.batch);
    ck_assert_int_eq(raft_restore(s.raft, &two), RAFT_OK);
    ck_assert_uint_eq(raft_commit_index(s.raft), 12);
}
END_TEST

START_TEST(term_of_a_snapshot_is_taken_over)
{
    struct raft_snapshot snapshot = at(9, 7);
    struct raft_ready rd;

    ck_assert_int_eq(raft_restore(s.raft, &snapshot), RAFT_OK);
    ck_assert(raft_ready(s.raft, &rd));
    ck_assert(rd.hard_state_changed);
    ck_assert_uint_eq(rd.hard_state.term, 7);
    ck_assert_uint_eq(rd.hard_state.commit, 9);
    raft_advance(s.raft);
}
END_TEST

START_TEST(C4_members_are_those_of_the_snapshot)
{
    struct raft_snapshot snapshot = {.index = 9, .term = 2};

    follow(3);
    cluster_parse_members(&snapshot.configuration, "1l 2 4");
    ck_assert_int_eq(raft_restore(s.raft, &snapshot), RAFT_OK);
    raft_configuration_release(&snapshot.configuration);
    ck_assert_str_eq(cluster_members_text(raft_configuration_now(s.raft)),
                     "1l 2 4");
    ck_assert_str_eq(cluster_members_text(raft_configuration_at(s.raft, 9)),
                     "1l 2 4");
    single_tick(&s, 100);
    single_sync(&s);
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
}
END_TEST

/* D7, D9: the state was replaced, the log was not. */
START_TEST(D7_restart_finishes_what_the_power_cut)
{
    struct raft_snapshot snapshot = at(9, 3);
    struct raft_entry first = {
        .index = 1, .term = 1, .type = RAFT_ENTRY_CONFIG};
    uint8_t *data = raft_configuration_encode(&three, &first.size);
    struct raft_start start = {.hard_state = {2, 2, 1},
                               .entries = &first,
                               .n_entries = 1,
                               .last_applied = 9,
                               .snapshot = &snapshot};
    struct raft_ready rd;
    struct raft *r;

    first.data = data;
    r = raft_new(&s.server->config, &start);
    ck_assert_uint_eq(raft_first_index(r), 10);
    ck_assert_uint_eq(raft_commit_index(r), 9);
    ck_assert_uint_eq(raft_term_now(r), 3);
    ck_assert_uint_eq(raft_voted_for(r), 0);
    ck_assert(raft_ready(r, &rd));
    ck_assert_uint_eq(rd.restore->index, 9);
    ck_assert_uint_eq(rd.hard_state.term, 3);
    raft_advance(r);
    raft_stable(r, rd.batch);
    ck_assert(!raft_ready(r, &rd));
    raft_free_all(r);
    raft_free(data);
}
END_TEST

START_TEST(restart_with_a_log_that_goes_on_restores_nothing)
{
    struct raft_snapshot snapshot = at(4, 2);
    struct raft_ready rd;

    follow(4);
    s.server->installed = (struct raft_snapshot){.index = 4, .term = 2};
    cluster_parse_members(&s.server->installed.configuration, "1 2 3");
    cluster_crash(s.cluster, 1, 0);
    cluster_restart(s.cluster, 1, 4);
    s.raft = s.server->raft;
    ck_assert_int_eq(raft_restore(s.raft, &snapshot), RAFT_STALE_SNAPSHOT);
    ck_assert_uint_eq(raft_last_index(s.raft), 6);
    ck_assert(!raft_ready(s.raft, &rd));
}
END_TEST

/* ---- the leader -------------------------------------------------------------
 */

/* Leads, has cut its log up to its no-op's successor; 3 knows nothing of it. */
static raft_index lead_with_a_cut_log(void)
{
    raft_index index;

    single_lead(&s);
    ck_assert_int_eq(raft_propose(s.raft, "x", 1, &index), RAFT_OK);
    single_sync(&s);
    single_acknowledge(&s, 2, index);
    raft_compact(s.raft, index);
    return index;
}

static struct raft_progress of_3(void)
{
    struct raft_progress p;

    ck_assert(raft_progress_at(s.raft, 2, &p));
    return p;
}

/* It has nothing: its log is empty. */
static void refuse_all(void)
{
    (void)single_step(&s, (struct raft_message){
                              .type = RAFT_APPEND_ENTRIES_RESPONSE,
                              .from = 3,
                              .term = raft_term_now(s.raft),
                              .reject = true,
                              .log_index = of_3().next_index - 1,
                          });
}

static void hear_3(void)
{
    (void)single_step(&s, (struct raft_message){.type = RAFT_HEARTBEAT_RESPONSE,
                                                .from = 3,
                                                .term = raft_term_now(s.raft)});
    (void)single_step(&s, (struct raft_message){.type = RAFT_HEARTBEAT_RESPONSE,
                                                .from = 2,
                                                .term = raft_term_now(s.raft)});
}

static void tick_and_hear(unsigned n)
{
    for (; n > 0; n--) {
        single_tick(&s, 1);
        hear_3();
    }
}

START_TEST(need_is_told_once_and_again_after_a_failure)
{
    raft_index index = lead_with_a_cut_log();

    refuse_all();
    single_work(&s);
    ck_assert_int_eq(of_3().state, RAFT_PROGRESS_SNAPSHOT);
    ck_assert_uint_eq(s.cluster->n_told, 1);
    tick_and_hear(50);
    ck_assert_uint_eq(s.cluster->n_told, 1);
    raft_snapshot_sent(s.raft, 3, index, false);
    tick_and_hear(9);
    ck_assert_uint_eq(s.cluster->n_told, 1);
    tick_and_hear(2);
    ck_assert_uint_eq(s.cluster->n_told, 2);
}
END_TEST

START_TEST(D8_heartbeats_go_on_and_no_appends)
{
    (void)lead_with_a_cut_log();
    refuse_all();
    single_work(&s);
    single_tick(&s, 1);
    ck_assert_ptr_nonnull(single_sent(&s, RAFT_HEARTBEAT, 3));
    ck_assert_ptr_null(single_sent(&s, RAFT_APPEND_ENTRIES, 3));
    for (int i = 0; i < 100; i++) {
        single_tick(&s, 1);
        (void)single_step(&s,
                          (struct raft_message){.type = RAFT_HEARTBEAT_RESPONSE,
                                                .from = 3, /* it alone */
                                                .term = raft_term_now(s.raft)});
    }
    ck_assert_int_eq(raft_role(s.raft), RAFT_LEADER);
}
END_TEST

START_TEST(silent_member_is_not_sent_one)
{
    (void)lead_with_a_cut_log();
    refuse_all();
    single_work(&s);
    raft_snapshot_sent(s.raft, 3, 4, false);
    for (int i = 0; i < 40; i++) {
        single_tick(&s, 1);
        (void)single_step(&s,
                          (struct raft_message){.type = RAFT_HEARTBEAT_RESPONSE,
                                                .from = 2,
                                                .term = raft_term_now(s.raft)});
    }
    ck_assert_uint_eq(s.cluster->n_told, 1);
    hear_3();
    ck_assert_uint_eq(s.cluster->n_told, 2);
}
END_TEST

START_TEST(success_goes_on_behind_the_snapshot)
{
    raft_index index = lead_with_a_cut_log();

    refuse_all();
    single_work(&s);
    raft_snapshot_sent(s.raft, 3, index, true);
    single_work(&s);
    ck_assert_int_eq(of_3().state, RAFT_PROGRESS_PROBE);
    ck_assert_uint_eq(single_sent(&s, RAFT_APPEND_ENTRIES, 3)->log_index,
                      index);
}
END_TEST

START_TEST(acknowledgement_alone_is_enough)
{
    raft_index index = lead_with_a_cut_log();

    refuse_all();
    single_work(&s);
    single_acknowledge(&s, 3, index);
    ck_assert_int_eq(of_3().state, RAFT_PROGRESS_PROBE);
    ck_assert_uint_eq(of_3().match_index, index);
    raft_snapshot_sent(s.raft, 3, index, false); /* late news */
    ck_assert_int_eq(of_3().state, RAFT_PROGRESS_PROBE);
}
END_TEST

START_TEST(late_and_foreign_reports_are_harmless)
{
    raft_index index = lead_with_a_cut_log();
    struct raft_ready rd;

    raft_snapshot_sent(s.raft, 3, index, true); /* did not ask */
    raft_snapshot_sent(s.raft, 77, index, true);
    ck_assert_int_eq(of_3().state, RAFT_PROGRESS_REPLICATE);
    refuse_all();
    single_work(&s);
    raft_snapshot_sent(s.raft, 3, index + 100, true); /* of another log */
    ck_assert_int_eq(of_3().state, RAFT_PROGRESS_SNAPSHOT);
    (void)single_append(&s, 2, 9, index, 2, "", index);
    raft_snapshot_sent(s.raft, 3, index, true); /* leads no more */
    single_sync(&s);
    ck_assert(!raft_ready(s.raft, &rd));
}
END_TEST

/* 2 is told a snapshot that is older than where the log now begins. */
START_TEST(log_that_was_cut_meanwhile_needs_another)
{
    raft_index index = lead_with_a_cut_log();

    refuse_all();
    single_work(&s);
    raft_snapshot_sent(s.raft, 3, index - 1, true);
    single_work(&s);
    ck_assert_int_eq(of_3().state, RAFT_PROGRESS_SNAPSHOT);
    ck_assert_uint_eq(s.cluster->n_told, 2);
}
END_TEST

START_TEST(leader_takes_no_snapshot)
{
    struct raft_snapshot snapshot = at(99, 2);

    single_lead(&s);
    ck_assert_int_eq(raft_restore(s.raft, &snapshot), RAFT_STALE_SNAPSHOT);
}
END_TEST

/* The waiter learns it from rd.committed, or from commit_index: never from the
 * entry, which may be gone. */
START_TEST(D10_commit_is_known_when_its_entry_is_cut_away)
{
    raft_index index = lead_with_a_cut_log();

    ck_assert_ptr_null(raft_entry_at(s.raft, index));
    ck_assert_uint_eq(s.server->applied, index); /* was handed out */
    ck_assert_uint_ge(raft_commit_index(s.raft), index);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("snapshot");
    TCase *t = tcase_create("snapshot");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, D5_is_refused_and_changes_nothing, 0,
                        sizeof(refused) / sizeof(refused[0]));
    tcase_add_test(t, log_begins_anew_behind_it);
    tcase_add_test(t, tail_is_kept_and_written_anew);
    tcase_add_test(t, tail_of_another_history_is_dropped);
    tcase_add_test(t, D9_leader_is_told_when_it_is_stable);
    tcase_add_test(t, D9_earlier_acknowledgement_waits_as_well);
    tcase_add_test(t, D6_nothing_is_applied_while_it_is_installed);
    tcase_add_test(t, D5_failed_install_is_as_if_it_had_never_begun);
    tcase_add_test(t, A11_no_campaign_until_it_is_stable);
    tcase_add_test(t, A11_campaign_ends_when_an_install_begins);
    tcase_add_test(t, A11_order_to_campaign_is_refused_while_it_is_installed);
    tcase_add_test(t, D5_one_restore_at_a_time);
    tcase_add_test(t, term_of_a_snapshot_is_taken_over);
    tcase_add_test(t, C4_members_are_those_of_the_snapshot);
    tcase_add_test(t, D7_restart_finishes_what_the_power_cut);
    tcase_add_test(t, restart_with_a_log_that_goes_on_restores_nothing);
    tcase_add_test(t, need_is_told_once_and_again_after_a_failure);
    tcase_add_test(t, D8_heartbeats_go_on_and_no_appends);
    tcase_add_test(t, silent_member_is_not_sent_one);
    tcase_add_test(t, success_goes_on_behind_the_snapshot);
    tcase_add_test(t, acknowledgement_alone_is_enough);
    tcase_add_test(t, late_and_foreign_reports_are_harmless);
    tcase_add_test(t, log_that_was_cut_meanwhile_needs_another);
    tcase_add_test(t, leader_takes_no_snapshot);
    tcase_add_test(t, D10_commit_is_known_when_its_entry_is_cut_away);
    suite_add_tcase(suite, t);
    return suite_run(suite);
}
