/*
 * test_replication.c - appends, refusals, commit, as one server sees them.
 * Conversations of several are in data/B*.txt.
 */
#include "tests/raft/single.h"
#include "tests/raft/suite.h"

#include <string.h>

static struct single s;
static struct raft_config config;

static void begin(size_t n_voters, size_t n_learners)
{
    single_begin(&s, &(struct cluster_options){.n_voters = n_voters,
                                               .n_learners = n_learners,
                                               .seed = 5,
                                               .config = &config});
}

static void setup(void)
{
    raft_config_defaults(&config);
    begin(3, 0);
}

static void setup_small_window(void)
{
    raft_config_defaults(&config);
    config.append_bytes_max = 10;
    config.inflight_messages_max = 2;
    begin(3, 0);
    single_lead(&s);
}

static void setup_five(void)
{
    raft_config_defaults(&config);
    begin(5, 1);
    single_lead(&s);
}

static void teardown(void)
{
    single_end(&s);
}

static raft_index propose(const char *text)
{
    raft_index index = 0;

    ck_assert_int_eq(raft_propose(s.raft, text, strlen(text), &index), RAFT_OK);
    return index;
}

static struct raft_progress progress_of(size_t i)
{
    struct raft_progress p;

    ck_assert(raft_progress_at(s.raft, i, &p));
    return p;
}

static void refuse(raft_id from, raft_index prev, raft_index hint,
                   raft_term hint_term)
{
    ck_assert_int_eq(
        single_step(&s,
                    (struct raft_message){.type = RAFT_APPEND_ENTRIES_RESPONSE,
                                          .from = from,
                                          .term = raft_term_now(s.raft),
                                          .reject = true,
                                          .log_index = prev,
                                          .reject_hint = hint,
                                          .log_term = hint_term}),
        RAFT_OK);
}

static void respond_to_heartbeat(raft_id from)
{
    (void)single_step(&s, (struct raft_message){.type = RAFT_HEARTBEAT_RESPONSE,
                                                .from = from,
                                                .term = raft_term_now(s.raft)});
}

/* ---- the follower
 * ------------------------------------------------------------ */

START_TEST(B6_acknowledgement_waits_for_the_disk)
{
    (void)single_append(&s, 2, 2, 1, 1, "22", 1);
    ck_assert_ptr_null(single_sent(&s, RAFT_APPEND_ENTRIES_RESPONSE, 0));
    single_sync(&s);
    ck_assert_uint_eq(
        single_sent(&s, RAFT_APPEND_ENTRIES_RESPONSE, 2)->log_index, 3);
}
END_TEST

START_TEST(each_batch_frees_its_own_acknowledgement)
{
    (void)single_append(&s, 2, 2, 1, 1, "2", 1);
    (void)single_append(&s, 2, 2, 2, 2, "2", 1);
    ck_assert_uint_eq(s.server->disk.n_writes, 2);
    cluster_sync(s.cluster, s.server, 1);
    single_work(&s);
    ck_assert_uint_eq(
        single_sent(&s, RAFT_APPEND_ENTRIES_RESPONSE, 2)->log_index, 2);
    cluster_sync(s.cluster, s.server, 1);
    single_work(&s);
    ck_assert_uint_eq(
        single_sent(&s, RAFT_APPEND_ENTRIES_RESPONSE, 2)->log_index, 3);
}
END_TEST

START_TEST(A6_acknowledgement_of_an_older_term_is_dropped)
{
    (void)single_append(&s, 2, 2, 1, 1, "2", 1);
    (void)single_append(&s, 3, 3, 1, 1, "", 1);
    single_sync(&s);
    for (size_t i = 0; i < s.cluster->n_packets; i++) {
        ck_assert_uint_eq(s.cluster->packets[i].message.term, 3);
    }
}
END_TEST

START_TEST(B2_late_append_cuts_nothing)
{
    (void)single_append(&s, 2, 2, 1, 1, "2222", 1);
    (void)single_append(&s, 2, 2, 1, 1, "22", 1); /* again, shorter */
    ck_assert_str_eq(single_terms(&s), "12222");
    (void)single_append(&s, 2, 2, 2, 2, "", 1);
    ck_assert_str_eq(single_terms(&s), "12222");
}
END_TEST

START_TEST(B2_conflict_cuts_from_there_on)
{
    (void)single_append(&s, 2, 2, 1, 1, "2222", 1);
    (void)single_append(&s, 3, 3, 2, 2, "23", 1);
    ck_assert_str_eq(single_terms(&s), "1223");
}
END_TEST

START_TEST(B2_committed_entries_are_never_cut)
{
    (void)single_append(&s, 2, 2, 1, 1, "222", 3);
    single_sync(&s);
    ck_assert_int_eq(single_append(&s, 3, 3, 1, 1, "33", 1), RAFT_BAD_MESSAGE);
    ck_assert_int_eq(single_append(&s, 3, 3, 2, 3, "3", 1), RAFT_BAD_MESSAGE);
    ck_assert_str_eq(single_terms(&s), "1222");
    ck_assert_uint_eq(raft_term_now(s.raft), 2); /* not even its term */
}
END_TEST

START_TEST(B2_leader_does_not_replace_its_own_entries)
{
    (void)single_append(&s, 2, 4, 1, 1, "23", 1);
    ck_assert_int_eq(single_append(&s, 2, 4, 1, 1, "24", 1), RAFT_BAD_MESSAGE);
    ck_assert_str_eq(single_terms(&s), "123");
    ck_assert_int_eq(single_append(&s, 2, 5, 1, 1, "24", 1), RAFT_OK);
    ck_assert_str_eq(single_terms(&s), "124");
}
END_TEST

START_TEST(B3_compacted_entries_match)
{
    (void)single_append(&s, 2, 2, 1, 1, "2222", 5);
    single_sync(&s);
    cluster_compact(s.cluster, 1, 4);
    ck_assert_uint_eq(raft_first_index(s.raft), 5);

    (void)single_append(&s, 2, 2, 2, 2, "2222", 5); /* 3, 4, 5 and a new 6 */
    ck_assert_uint_eq(raft_last_index(s.raft), 6);
    single_sync(&s);
    ck_assert_uint_eq(
        single_sent(&s, RAFT_APPEND_ENTRIES_RESPONSE, 2)->log_index, 6);

    (void)single_append(&s, 2, 2, 0, 0, "12", 5); /* prev = 0 */
    ck_assert(!single_sent(&s, RAFT_APPEND_ENTRIES_RESPONSE, 2)->reject);
    ck_assert_uint_eq(
        single_sent(&s, RAFT_APPEND_ENTRIES_RESPONSE, 2)->log_index, 5);
    ck_assert_uint_eq(raft_last_index(s.raft), 6);
}
END_TEST

START_TEST(B8_commit_and_conflict_in_one_message)
{
    (void)single_append(&s, 2, 2, 1, 1, "222", 1);
    single_sync(&s);
    (void)single_append(&s, 3, 3, 2, 2, "3", 4); /* new 3; it committed 4 */
    ck_assert_uint_eq(raft_commit_index(s.raft), 3);
    ck_assert_uint_eq(s.server->applied, 2); /* new 3 is not synced */
    single_sync(&s);
    ck_assert_uint_eq(s.server->applied, 3);
    ck_assert_uint_eq(raft_entry_at(s.raft, 3)->term, 3);
}
END_TEST

START_TEST(B8_tail_that_was_not_checked_does_not_commit)
{
    (void)single_append(&s, 2, 2, 1, 1, "222", 1);
    /* Leader 3 matches at 2; what it has at 3 and 4 is not known here. */
    (void)single_append(&s, 3, 3, 2, 2, "", 4);
    ck_assert_uint_eq(raft_commit_index(s.raft), 2);
}
END_TEST

START_TEST(B10_cut_entry_is_accepted_again)
{
    (void)single_append(&s, 2, 2, 1, 1, "22", 1);
    (void)single_append(&s, 3, 3, 1, 1, "3", 1);
    (void)single_append(&s, 2, 4, 1, 1, "224", 1); /* nothing synced yet */
    ck_assert_str_eq(single_terms(&s), "1224");
    single_sync(&s);
    ck_assert_uint_eq(s.server->disk.n_entries, 4);
    ck_assert_uint_eq(s.server->disk.entries[2].term, 2);
}
END_TEST

START_TEST(B14_cut_rolls_the_configuration_back)
{
    struct raft_server two[] = {{1, RAFT_VOTER}, {2, RAFT_VOTER}};
    struct raft_configuration c = {.servers = two, .n_servers = 2};
    struct raft_entry e = {.index = 2, .term = 2, .type = RAFT_ENTRY_CONFIG};
    uint8_t *data = raft_configuration_encode(&c, &e.size);

    e.data = data;
    (void)single_step(&s, (struct raft_message){.type = RAFT_APPEND_ENTRIES,
                                                .from = 2,
                                                .term = 2,
                                                .log_index = 1,
                                                .log_term = 1,
                                                .n_entries = 1,
                                                .entries = &e});
    raft_free(data);
    ck_assert_uint_eq(raft_configuration_now(s.raft)->n_servers, 2);
    (void)single_append(&s, 3, 3, 1, 1, "3", 1);
    ck_assert_uint_eq(raft_configuration_now(s.raft)->n_servers, 3);
}
END_TEST

START_TEST(B16_copies_and_disorder_end_in_the_same_log)
{
    (void)single_append(&s, 2, 2, 3, 2, "22", 1); /* too early */
    ck_assert(single_sent(&s, RAFT_APPEND_ENTRIES_RESPONSE, 2) == NULL);
    for (int i = 0; i < 3; i++) {
        (void)single_append(&s, 2, 2, 1, 1, "22", 1);
        (void)single_append(&s, 2, 2, 3, 2, "22", 1);
    }
    (void)single_append(&s, 2, 2, 2, 2, "2", 1);
    ck_assert_str_eq(single_terms(&s), "12222");
}
END_TEST

static const struct {
    raft_index prev;
    raft_term prev_term;
    raft_index hint;
    raft_term hint_term;
    const char *why;
} refusals[] = {
    {9, 5, 6, 3, "our log is short: our last entry"},
    {9, 2, 4, 2, "nothing above the leader's term can match"},
    {5, 2, 4, 2, "the whole term 3 is skipped"},
    {6, 1, 1, 1, "terms 2 and 3 are skipped"},
};

START_TEST(refusal_hints_where_logs_may_meet)
{
    const struct raft_message *m;

    (void)single_append(&s, 2, 3, 1, 1, "22233", 1);
    single_sync(&s);
    (void)single_append(&s, 3, 5, refusals[_i].prev, refusals[_i].prev_term, "",
                        1);
    single_sync(&s);
    m = single_sent(&s, RAFT_APPEND_ENTRIES_RESPONSE, 3);
    ck_assert(m->reject);
    ck_assert_uint_eq(m->log_index, refusals[_i].prev);
    ck_assert_msg(m->reject_hint == refusals[_i].hint &&
                      m->log_term == refusals[_i].hint_term,
                  "%s", refusals[_i].why);
}
END_TEST

START_TEST(heartbeat_moves_commit_and_says_what_all_hold)
{
    struct raft_message m = {.type = RAFT_HEARTBEAT,
                             .from = 2,
                             .term = 2,
                             .commit = 3,
                             .log_index = 2,
                             .context = 9};

    (void)single_append(&s, 2, 2, 1, 1, "22", 1);
    ck_assert_int_eq(single_step(&s, m), RAFT_OK);
    ck_assert_uint_eq(raft_commit_index(s.raft), 3);
    single_sync(&s);
    ck_assert_uint_eq(single_sent(&s, RAFT_HEARTBEAT_RESPONSE, 2)->context, 9);
    (void)single_step(&s, m);
    ck_assert_uint_eq(raft_all_match_index(s.raft), 2);
    m.commit = 4; /* more than we can hold: something is broken */
    ck_assert_int_eq(single_step(&s, m), RAFT_BAD_MESSAGE);
}
END_TEST

/* ---- bad messages
 * ------------------------------------------------------------- */

static const struct raft_entry good[] = {
    {.index = 2, .term = 2, .type = RAFT_ENTRY_COMMAND},
    {.index = 3, .term = 2, .type = RAFT_ENTRY_NOOP},
};
static const struct raft_entry hole[] = {
    {.index = 2, .term = 2, .type = RAFT_ENTRY_COMMAND},
    {.index = 4, .term = 2, .type = RAFT_ENTRY_COMMAND},
};
static const struct raft_entry zero[] = {
    {.index = 0, .term = 2, .type = RAFT_ENTRY_COMMAND},
    {.index = 1, .term = 2, .type = RAFT_ENTRY_COMMAND},
};
static const struct raft_entry falling[] = {
    {.index = 2, .term = 2, .type = RAFT_ENTRY_COMMAND},
    {.index = 3, .term = 1, .type = RAFT_ENTRY_COMMAND},
};
static const struct raft_entry future[] = {
    {.index = 2, .term = 2, .type = RAFT_ENTRY_COMMAND},
    {.index = 3, .term = 9, .type = RAFT_ENTRY_COMMAND},
};
static const struct raft_entry unknown[] = {
    {.index = 2, .term = 2, .type = (enum raft_entry_type)9},
    {.index = 3, .term = 2, .type = RAFT_ENTRY_COMMAND},
};
static const struct raft_entry no_data[] = {
    {.index = 2, .term = 2, .type = RAFT_ENTRY_COMMAND, .size = 5},
    {.index = 3, .term = 2, .type = RAFT_ENTRY_COMMAND},
};
static const struct raft_entry bad_config[] = {
    {.index = 2, .term = 2, .type = RAFT_ENTRY_COMMAND},
    {.index = 3,
     .term = 2,
     .type = RAFT_ENTRY_CONFIG,
     .size = 1,
     .data = (const uint8_t *)"x"},
};

#define APPEND(...)                                                            \
    {                                                                          \
        .type = RAFT_APPEND_ENTRIES, .from = 2, .to = 1, .term = 7,            \
        .log_index = 1, .log_term = 1, .n_entries = 2, __VA_ARGS__             \
    }
#define PLAIN(t, ...)                                                          \
    {                                                                          \
        .type = t, .from = 2, .to = 1, .term = 7, __VA_ARGS__                  \
    }

static const struct {
    const char *why;
    struct raft_message m;
} bad[] = {
    {"B4: a hole", APPEND(.entries = hole)},
    {"index 0", APPEND(.entries = zero)},
    {"falling terms", APPEND(.entries = falling)},
    {"an entry of a later term", APPEND(.entries = future)},
    {"an unknown kind of entry", APPEND(.entries = unknown)},
    {"size without data", APPEND(.entries = no_data)},
    {"a configuration that is none", APPEND(.entries = bad_config)},
    {"entries that are not there", APPEND(.entries = NULL)},
    {"overflow",
     {.type = RAFT_APPEND_ENTRIES,
      .from = 2,
      .to = 1,
      .term = 7,
      .log_index = UINT64_MAX,
      .log_term = 1,
      .n_entries = 2,
      .entries = good}},
    {"prev term without index",
     {.type = RAFT_APPEND_ENTRIES,
      .from = 2,
      .to = 1,
      .term = 7,
      .log_term = 1}},
    {"prev of a later term",
     {.type = RAFT_APPEND_ENTRIES,
      .from = 2,
      .to = 1,
      .term = 7,
      .log_index = 1,
      .log_term = 8}},
    {"entries in a heartbeat",
     PLAIN(RAFT_HEARTBEAT, .n_entries = 2, .entries = good)},
    {"commit beyond our log", PLAIN(RAFT_HEARTBEAT, .commit = 2)},
    {"unknown type", PLAIN((enum raft_message_type)99)},
    {"type 0", PLAIN((enum raft_message_type)0)},
    {"not for us", {.type = RAFT_HEARTBEAT, .from = 2, .to = 3, .term = 7}},
    {"from ourselves", {.type = RAFT_HEARTBEAT, .from = 1, .to = 1, .term = 7}},
    {"from nobody", {.type = RAFT_HEARTBEAT, .from = 0, .to = 1, .term = 7}},
    {"a term that can not be raised",
     {.type = RAFT_HEARTBEAT, .from = 2, .to = 1, .term = UINT64_MAX}},
    {"term 0", {.type = RAFT_HEARTBEAT, .from = 2, .to = 1, .term = 0}},
    {"a stranger's answer",
     {.type = RAFT_HEARTBEAT_RESPONSE, .from = 77, .to = 1, .term = 7}},
    {"a stranger's read",
     {.type = RAFT_READ_INDEX, .from = 77, .to = 1, .term = 7}},
    {"a stranger's wish",
     {.type = RAFT_TIMEOUT_NOW, .from = 77, .to = 1, .term = 7}},
};

START_TEST(B4_bad_message_changes_nothing)
{
    struct raft_ready rd;
    struct raft_message m = bad[_i].m;

    ck_assert_msg(raft_step(s.raft, &m) == RAFT_BAD_MESSAGE, "%s", bad[_i].why);
    ck_assert_uint_eq(raft_term_now(s.raft), 1);
    ck_assert_uint_eq(raft_last_index(s.raft), 1);
    ck_assert(!raft_ready(s.raft, &rd));
}
END_TEST

START_TEST(good_message_is_taken)
{
    const struct raft_message m = APPEND(.entries = good);

    ck_assert_int_eq(raft_step(s.raft, &m), RAFT_OK);
    ck_assert_uint_eq(raft_last_index(s.raft), 3);
}
END_TEST

START_TEST(second_leader_of_a_term_is_bad)
{
    ck_assert_int_eq(single_append(&s, 2, 2, 1, 1, "", 1), RAFT_OK);
    ck_assert_int_eq(single_append(&s, 3, 2, 1, 1, "", 1), RAFT_BAD_MESSAGE);
    single_tick(&s, 20);
    single_sync(&s);
    single_lead(&s);
    ck_assert_int_eq(single_append(&s, 3, raft_term_now(s.raft), 1, 1, "", 1),
                     RAFT_BAD_MESSAGE);
}
END_TEST

START_TEST(acknowledgement_beyond_our_log_is_bad)
{
    single_lead(&s);
    ck_assert_int_eq(
        single_step(&s,
                    (struct raft_message){.type = RAFT_APPEND_ENTRIES_RESPONSE,
                                          .from = 2,
                                          .term = raft_term_now(s.raft),
                                          .log_index = 99}),
        RAFT_BAD_MESSAGE);
}
END_TEST

/* ---- the leader
 * ------------------------------------------------------------------ */

START_TEST(new_leader_writes_a_noop)
{
    single_lead(&s);
    ck_assert_int_eq(raft_entry_at(s.raft, 2)->type, RAFT_ENTRY_NOOP);
    ck_assert_uint_eq(raft_entry_at(s.raft, 2)->size, 0);
}
END_TEST

START_TEST(B6_own_entry_counts_when_synced)
{
    raft_index i;

    single_lead(&s);
    i = propose("x");
    single_work(&s);
    /* Entries go out at once, beside our own write. */
    ck_assert_uint_eq(single_sent(&s, RAFT_APPEND_ENTRIES, 2)->n_entries, 1);
    single_acknowledge(&s, 2, i);
    ck_assert_uint_eq(raft_commit_index(s.raft), i - 1);
    single_sync(&s);
    ck_assert_uint_eq(raft_commit_index(s.raft), i);
}
END_TEST

START_TEST(B6_two_others_commit_but_we_apply_when_synced)
{
    raft_index i;

    single_lead(&s);
    i = propose("x");
    single_work(&s);
    single_acknowledge(&s, 2, i);
    single_acknowledge(&s, 3, i);
    ck_assert_uint_eq(raft_commit_index(s.raft), i);
    ck_assert_uint_eq(s.server->applied, i - 1);
    single_sync(&s);
    ck_assert_uint_eq(s.server->applied, i);
}
END_TEST

START_TEST(B7_commit_is_the_highest_majority)
{
    single_sync(&s);
    for (raft_index i = 0; i < 10; i++) {
        (void)propose("x"); /* 3 .. 12 */
    }
    single_sync(&s);
    single_acknowledge(&s, 2, 7);
    ck_assert_uint_eq(raft_commit_index(s.raft), 2);
    single_acknowledge(&s, 6, 12); /* A16: a learner */
    ck_assert_uint_eq(raft_commit_index(s.raft), 2);
    single_acknowledge(&s, 3, 5);
    ck_assert_uint_eq(raft_commit_index(s.raft), 5);
    single_acknowledge(&s, 4, 12);
    ck_assert_uint_eq(raft_commit_index(s.raft), 7);
}
END_TEST

START_TEST(proposals_travel_together)
{
    single_lead(&s);
    (void)propose("a");
    (void)propose("b");
    (void)propose("c");
    single_work(&s);
    ck_assert_uint_eq(single_count(&s, RAFT_APPEND_ENTRIES), 2);
    ck_assert_uint_eq(single_sent(&s, RAFT_APPEND_ENTRIES, 3)->n_entries, 3);
}
END_TEST

START_TEST(appends_go_out_ahead_of_answers)
{
    raft_index a, b;

    single_lead(&s);
    a = propose("a");
    single_work(&s);
    b = propose("b");
    single_work(&s);
    ck_assert_uint_eq(single_sent(&s, RAFT_APPEND_ENTRIES, 2)->log_index, a);
    ck_assert_uint_eq(progress_of(1).next_index, b + 1);
    ck_assert_uint_eq(progress_of(1).match_index, a - 1);
    ck_assert_uint_eq(progress_of(1).inflight_messages, 2);
}
END_TEST

START_TEST(append_size_and_window_are_bounded)
{
    for (int i = 0; i < 10; i++) {
        (void)propose("12345");
    }
    single_work(&s);
    /* Ten bytes a message, two messages to each of two. */
    ck_assert_uint_eq(single_count(&s, RAFT_APPEND_ENTRIES), 4);
    ck_assert_uint_eq(single_sent(&s, RAFT_APPEND_ENTRIES, 2)->n_entries, 2);
    ck_assert_uint_eq(progress_of(1).next_index, 7);
    single_acknowledge(&s, 2, 4);
    ck_assert_uint_eq(single_count(&s, RAFT_APPEND_ENTRIES), 1);
}
END_TEST

START_TEST(large_entry_goes_alone)
{
    (void)propose("1234567890 more than one append may carry");
    (void)propose("x");
    single_work(&s);
    ck_assert_uint_eq(single_sent(&s, RAFT_APPEND_ENTRIES, 2)->n_entries, 1);
    ck_assert_uint_eq(single_count(&s, RAFT_APPEND_ENTRIES), 4);
}
END_TEST

START_TEST(B5_stale_answers_do_not_count)
{
    single_lead(&s);
    (void)propose("a");
    (void)propose("b");
    single_sync(&s);
    single_acknowledge(&s, 2, 4);
    single_acknowledge(&s, 2, 3); /* overtaken */
    ck_assert_uint_eq(progress_of(1).match_index, 4);
    refuse(2, 3, 1, 1); /* late as well */
    ck_assert_uint_eq(progress_of(1).next_index, 5);
    /* Of an older term: not even looked at. */
    (void)single_step(
        &s, (struct raft_message){.type = RAFT_APPEND_ENTRIES_RESPONSE,
                                  .from = 3,
                                  .term = 1,
                                  .log_index = 4});
    ck_assert_uint_eq(progress_of(2).match_index, 2);
}
END_TEST

START_TEST(back_up_takes_a_round_trip_a_term)
{
    /* Our log: 1 222 333 and, once we lead, a no-op of term 4. */
    (void)single_append(&s, 2, 3, 1, 1, "222333", 1);
    single_sync(&s);
    single_tick(&s, 20);
    single_sync(&s);
    while (raft_role(s.raft) != RAFT_LEADER) {
        (void)single_step(
            &s, (struct raft_message){.type = RAFT_PRE_VOTE_RESPONSE,
                                      .from = 3,
                                      .term = raft_term_now(s.raft) + 1});
        single_sync(&s);
        (void)single_step(
            &s, (struct raft_message){.type = RAFT_REQUEST_VOTE_RESPONSE,
                                      .from = 3,
                                      .term = raft_term_now(s.raft)});
    }
    ck_assert_str_eq(single_terms(&s), "12223334");
    ck_assert_uint_eq(single_sent(&s, RAFT_APPEND_ENTRIES, 3)->log_index, 7);
    /* 3 has 1 2222222: all of our term 3 is skipped. */
    refuse(3, 7, 7, 2);
    ck_assert_uint_eq(single_sent(&s, RAFT_APPEND_ENTRIES, 3)->log_index, 4);
    ck_assert_uint_eq(single_sent(&s, RAFT_APPEND_ENTRIES, 3)->n_entries, 4);
    /* 2 has 1 only. */
    refuse(2, 7, 1, 1);
    ck_assert_uint_eq(single_sent(&s, RAFT_APPEND_ENTRIES, 2)->log_index, 1);
}
END_TEST

START_TEST(B12_heartbeat_answer_restarts_a_full_window)
{
    for (int i = 0; i < 8; i++) {
        (void)propose("12345");
    }
    single_sync(&s); /* both windows are full now, and all of it is lost */
    respond_to_heartbeat(2);
    ck_assert_uint_eq(single_count(&s, RAFT_APPEND_ENTRIES), 0); /* too soon */
    single_tick(&s, 1);
    respond_to_heartbeat(2);
    ck_assert_uint_eq(single_count(&s, RAFT_APPEND_ENTRIES), 1);
    ck_assert_uint_eq(single_sent(&s, RAFT_APPEND_ENTRIES, 2)->log_index, 6);
    refuse(2, 6, 2, 2);
    ck_assert_uint_eq(single_sent(&s, RAFT_APPEND_ENTRIES, 2)->log_index, 2);
    single_acknowledge(&s, 2, 4);
    ck_assert_uint_eq(single_count(&s, RAFT_APPEND_ENTRIES), 2);
}
END_TEST

START_TEST(B12_lost_probe_is_sent_again)
{
    single_lead(&s);
    (void)propose("x");
    single_sync(&s);
    (void)propose("y");
    single_sync(&s);
    refuse(2, 3, 2, 2);
    ck_assert_uint_eq(single_sent(&s, RAFT_APPEND_ENTRIES, 2)->log_index, 2);
    single_tick(&s, 1);
    ck_assert_ptr_null(single_sent(&s, RAFT_APPEND_ENTRIES, 2));
    respond_to_heartbeat(2);
    ck_assert_uint_eq(single_sent(&s, RAFT_APPEND_ENTRIES, 2)->log_index, 2);
}
END_TEST

START_TEST(follower_below_our_log_is_left_alone)
{
    single_lead(&s);
    for (int i = 0; i < 5; i++) {
        raft_index last = propose("x");

        single_sync(&s);
        single_acknowledge(&s, 2, last);
    }
    single_sync(&s);
    cluster_compact(s.cluster, 1, 6);
    refuse(3, 2, 1, 1); /* not believed: it matched 2 */
    ck_assert_uint_eq(progress_of(2).next_index, 3 + 5);
    refuse(3, 7, 3, 2);
    single_tick(&s, 3);
    respond_to_heartbeat(3);
    ck_assert_uint_eq(single_count(&s, RAFT_APPEND_ENTRIES), 0);
    ck_assert_uint_eq(raft_all_match_index(s.raft), 2);
    single_tick(&s, 1);
    ck_assert_ptr_nonnull(single_sent(&s, RAFT_HEARTBEAT, 3));
}
END_TEST

START_TEST(commit_is_told_without_waiting_for_a_heartbeat)
{
    raft_index i;

    single_lead(&s);
    i = propose("x");
    single_sync(&s);
    single_acknowledge(&s, 2, i);
    ck_assert_uint_eq(single_sent(&s, RAFT_APPEND_ENTRIES, 2)->commit, i);
    ck_assert_uint_eq(single_sent(&s, RAFT_APPEND_ENTRIES, 2)->n_entries, 0);
    single_work(&s);
    ck_assert_uint_eq(single_count(&s, RAFT_APPEND_ENTRIES), 0); /* once */
}
END_TEST

START_TEST(heartbeat_tells_no_commit_beyond_match)
{
    raft_index i;

    single_lead(&s);
    i = propose("x");
    single_sync(&s);
    single_acknowledge(&s, 2, i);
    single_tick(&s, 1);
    ck_assert_uint_eq(single_sent(&s, RAFT_HEARTBEAT, 2)->commit, i);
    ck_assert_uint_eq(single_sent(&s, RAFT_HEARTBEAT, 3)->commit, i - 1);
    ck_assert_uint_eq(single_sent(&s, RAFT_HEARTBEAT, 3)->log_index, i - 1);
}
END_TEST

START_TEST(too_much_uncommitted_is_busy)
{
    char big[400];
    raft_index index = 77;

    single_end(&s);
    config.uncommitted_bytes_max = 1000;
    begin(3, 0);
    single_lead(&s);
    memset(big, 'x', sizeof(big));
    (void)raft_propose(s.raft, big, 400, &index);
    (void)raft_propose(s.raft, big, 400, &index);
    ck_assert_uint_eq(raft_uncommitted_bytes(s.raft), 800);
    index = 77;
    ck_assert_int_eq(raft_propose(s.raft, big, 201, &index), RAFT_BUSY);
    ck_assert_uint_eq(index, 77);
    ck_assert_int_eq(raft_propose(s.raft, big, 200, &index), RAFT_OK);
    single_sync(&s);
    single_acknowledge(&s, 2, 4);
    ck_assert_uint_eq(raft_uncommitted_bytes(s.raft), 200);
}
END_TEST

START_TEST(B15_deposed_leader_forgets_nothing_it_wrote)
{
    raft_index i = 0;

    single_lead(&s);
    i = propose("x");
    single_sync(&s);
    (void)single_append(&s, 2, 9, 1, 1, "", 1);
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
    ck_assert_uint_eq(raft_last_index(s.raft), i); /* it may yet commit */
    ck_assert_uint_eq(raft_uncommitted_bytes(s.raft), 0);
    ck_assert_int_eq(raft_propose(s.raft, "y", 1, &i), RAFT_NOT_LEADER);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replication");
    TCase *t = tcase_create("three"), *small = tcase_create("small window"),
          *five = tcase_create("five and a learner");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, B6_acknowledgement_waits_for_the_disk);
    tcase_add_test(t, each_batch_frees_its_own_acknowledgement);
    tcase_add_test(t, A6_acknowledgement_of_an_older_term_is_dropped);
    tcase_add_test(t, B2_late_append_cuts_nothing);
    tcase_add_test(t, B2_conflict_cuts_from_there_on);
    tcase_add_test(t, B2_committed_entries_are_never_cut);
    tcase_add_test(t, B2_leader_does_not_replace_its_own_entries);
    tcase_add_test(t, B3_compacted_entries_match);
    tcase_add_test(t, B8_commit_and_conflict_in_one_message);
    tcase_add_test(t, B8_tail_that_was_not_checked_does_not_commit);
    tcase_add_test(t, B10_cut_entry_is_accepted_again);
    tcase_add_test(t, B14_cut_rolls_the_configuration_back);
    tcase_add_test(t, B16_copies_and_disorder_end_in_the_same_log);
    tcase_add_loop_test(t, refusal_hints_where_logs_may_meet, 0,
                        sizeof(refusals) / sizeof(refusals[0]));
    tcase_add_test(t, heartbeat_moves_commit_and_says_what_all_hold);
    tcase_add_loop_test(t, B4_bad_message_changes_nothing, 0,
                        sizeof(bad) / sizeof(bad[0]));
    tcase_add_test(t, good_message_is_taken);
    tcase_add_test(t, second_leader_of_a_term_is_bad);
    tcase_add_test(t, acknowledgement_beyond_our_log_is_bad);
    tcase_add_test(t, new_leader_writes_a_noop);
    tcase_add_test(t, B6_own_entry_counts_when_synced);
    tcase_add_test(t, B6_two_others_commit_but_we_apply_when_synced);
    tcase_add_test(t, proposals_travel_together);
    tcase_add_test(t, appends_go_out_ahead_of_answers);
    tcase_add_test(t, B5_stale_answers_do_not_count);
    tcase_add_test(t, back_up_takes_a_round_trip_a_term);
    tcase_add_test(t, B12_lost_probe_is_sent_again);
    tcase_add_test(t, follower_below_our_log_is_left_alone);
    tcase_add_test(t, commit_is_told_without_waiting_for_a_heartbeat);
    tcase_add_test(t, heartbeat_tells_no_commit_beyond_match);
    tcase_add_test(t, too_much_uncommitted_is_busy);
    tcase_add_test(t, B15_deposed_leader_forgets_nothing_it_wrote);
    suite_add_tcase(suite, t);

    tcase_add_checked_fixture(small, setup_small_window, teardown);
    tcase_add_test(small, append_size_and_window_are_bounded);
    tcase_add_test(small, large_entry_goes_alone);
    tcase_add_test(small, B12_heartbeat_answer_restarts_a_full_window);
    suite_add_tcase(suite, small);

    tcase_add_checked_fixture(five, setup_five, teardown);
    tcase_add_test(five, B7_commit_is_the_highest_majority);
    suite_add_tcase(suite, five);
    return suite_run(suite);
}
