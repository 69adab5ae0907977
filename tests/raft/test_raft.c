/*
 * test_raft.c - the life of a struct raft: start, ready and advance, what
 * waits for the disk, what is bounded.
 */
#include "tests/raft/single.h"
#include "tests/raft/suite.h"

#include <stdio.h>
#include <string.h>

static struct single s;

static void setup(void)
{
    single_begin(&s, &(struct cluster_options){.n_voters = 3, .seed = 5});
}

static void teardown(void)
{
    single_end(&s);
}

static void propose(const char *text)
{
    raft_index index;

    ck_assert_int_eq(raft_propose(s.raft, text, strlen(text), &index), RAFT_OK);
}

START_TEST(nothing_to_do_is_false_and_zero)
{
    static const struct raft_ready zero;
    struct raft_ready rd;

    memset(&rd, 0xff, sizeof(rd));
    ck_assert(!raft_ready(s.raft, &rd));
    ck_assert_uint_eq(rd.batch, 0);
    ck_assert_ptr_null(rd.messages);
    ck_assert_ptr_null(rd.committed);
    ck_assert_uint_eq(rd.n_messages + rd.n_committed + rd.n_reads,
                      zero.n_messages);
}
END_TEST

START_TEST(founding_configuration_is_found_and_handed_out)
{
    ck_assert_uint_eq(raft_configuration_now(s.raft)->n_servers, 3);
    ck_assert_uint_eq(s.server->applied, 1);
    ck_assert_uint_eq(raft_stable_index(s.raft), 1);
    ck_assert_uint_eq(raft_term_now(s.raft), 1);
    ck_assert_int_eq(raft_role(s.raft), RAFT_FOLLOWER);
}
END_TEST

START_TEST(configuration_is_found_when_its_entry_was_cut_away)
{
    (void)single_append(&s, 2, 2, 1, 1, "222", 4);
    single_sync(&s);
    cluster_compact(s.cluster, 1, 3);
    single_restart(&s);
    ck_assert_uint_eq(raft_first_index(s.raft), 4);
    ck_assert_uint_eq(raft_configuration_now(s.raft)->n_servers, 3);
    single_tick(&s, 20);
    ck_assert_int_eq(raft_role(s.raft), RAFT_PRE_CANDIDATE);
}
END_TEST

START_TEST(restart_keeps_what_was_synced)
{
    (void)single_append(&s, 2, 4, 1, 1, "23", 2);
    single_sync(&s);
    (void)single_append(&s, 2, 4, 3, 3, "44", 3);
    single_restart(&s);
    ck_assert_uint_eq(raft_term_now(s.raft), 4);
    ck_assert_str_eq(single_terms(&s), "123");
    ck_assert_uint_eq(raft_commit_index(s.raft), 3); /* 2 on disk; 3 applied */
}
END_TEST

START_TEST(entries_are_handed_out_once)
{
    struct raft_ready rd;

    single_lead(&s);
    propose("a");
    propose("b");
    ck_assert(raft_ready(s.raft, &rd));
    ck_assert_uint_eq(rd.n_entries, 2);
    ck_assert_uint_eq(rd.entries[0].index, 3);
    ck_assert_mem_eq(rd.entries[1].data, "b", 1);
    raft_advance(s.raft);
    ck_assert(!raft_ready(s.raft, &rd)); /* while the disk is at it */
    propose("c");
    ck_assert(raft_ready(s.raft, &rd));
    ck_assert_uint_eq(rd.n_entries, 1);
    raft_advance(s.raft);
}
END_TEST

START_TEST(batch_stays_readable_until_it_is_stable)
{
    struct raft_ready a, b;
    struct raft_entry e = {.index = 2,
                           .term = 3,
                           .type = RAFT_ENTRY_COMMAND,
                           .size = 3,
                           .data = (const uint8_t *)"new"};
    struct raft_message m = {.type = RAFT_APPEND_ENTRIES,
                             .from = 3,
                             .to = 1,
                             .term = 3,
                             .log_index = 1,
                             .log_term = 1,
                             .n_entries = 1,
                             .entries = &e};
    struct raft_entry old = e;
    struct raft_message first = m;

    old.term = 2;
    old.data = (const uint8_t *)"old";
    first.from = 2;
    first.term = 2;
    first.entries = &old;
    ck_assert_int_eq(raft_step(s.raft, &first), RAFT_OK);
    ck_assert(raft_ready(s.raft, &a));
    raft_advance(s.raft);
    ck_assert_int_eq(raft_step(s.raft, &m), RAFT_OK);
    ck_assert(raft_ready(s.raft, &b));
    raft_advance(s.raft);
    ck_assert_mem_eq(a.entries[0].data, "old", 3); /* asan watches */
    ck_assert_uint_eq(b.truncate_from, 2);
    ck_assert_mem_eq(b.entries[0].data, "new", 3);
    raft_stable(s.raft, a.batch);
    ck_assert_uint_eq(raft_stable_index(s.raft), 1);
    raft_stable(s.raft, b.batch);
    ck_assert_uint_eq(raft_stable_index(s.raft), 2);
}
END_TEST

START_TEST(repeated_and_older_confirmations_change_nothing)
{
    struct raft_ready rd;

    single_lead(&s);
    propose("a");
    ck_assert(raft_ready(s.raft, &rd));
    raft_advance(s.raft);
    raft_stable(s.raft, rd.batch - 1);
    ck_assert_uint_eq(raft_stable_index(s.raft), 2);
    raft_stable(s.raft, rd.batch);
    raft_stable(s.raft, rd.batch);
    raft_stable(s.raft, 0);
    ck_assert_uint_eq(raft_stable_index(s.raft), 3);
}
END_TEST

START_TEST(commit_index_alone_is_not_written)
{
    struct raft_ready rd;

    single_lead(&s);
    propose("a");
    single_sync(&s);
    single_acknowledge(&s, 2, 3);
    ck_assert_uint_eq(raft_commit_index(s.raft), 3);
    ck_assert_uint_eq(s.server->disk.n_writes, 0);
    propose("b");
    ck_assert(raft_ready(s.raft, &rd));
    ck_assert(rd.hard_state_changed); /* there is company */
    ck_assert_uint_eq(rd.hard_state.commit, 3);
    raft_advance(s.raft);
}
END_TEST

START_TEST(committed_work_is_bounded_by_bytes)
{
    static char big[1 << 20];
    struct raft_ready rd;
    raft_index index, at = 2;
    unsigned rounds = 0;

    single_lead(&s);
    memset(big, 'x', sizeof(big));
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(raft_propose(s.raft, big, sizeof(big), &index),
                         RAFT_OK);
    }
    ck_assert(raft_ready(s.raft, &rd));
    raft_advance(s.raft);
    raft_stable(s.raft, rd.batch);
    ck_assert_int_eq(
        raft_step(s.raft,
                  &(struct raft_message){.type = RAFT_APPEND_ENTRIES_RESPONSE,
                                         .from = 2,
                                         .to = 1,
                                         .term = raft_term_now(s.raft),
                                         .log_index = index}),
        RAFT_OK);
    for (; raft_ready(s.raft, &rd); rounds++) {
        ck_assert_uint_le(rd.n_committed, 4);
        at += rd.n_committed;
        raft_advance(s.raft);
        ck_assert_uint_eq(raft_last_applied(s.raft), at);
    }
    ck_assert_uint_eq(at, index);
    ck_assert_uint_ge(rounds, 3);
}
END_TEST

START_TEST(messages_of_a_new_term_wait_for_the_disk)
{
    (void)single_append(&s, 2, 5, 9, 5, "", 1); /* refused, in a new term */
    ck_assert_uint_eq(s.cluster->n_packets, 0);
    single_sync(&s);
    ck_assert(single_sent(&s, RAFT_APPEND_ENTRIES_RESPONSE, 2)->reject);
}
END_TEST

START_TEST(hung_disk_fills_no_memory)
{
    (void)single_append(&s, 2, 5, 1, 1, "", 1);
    for (int i = 0; i < 3000; i++) {
        (void)single_step(&s, (struct raft_message){.type = RAFT_HEARTBEAT,
                                                    .from = 2,
                                                    .term = 5});
        (void)single_step(&s, (struct raft_message){.type = RAFT_REQUEST_VOTE,
                                                    .from = 3,
                                                    .term = 4,
                                                    .log_index = 1,
                                                    .log_term = 1});
    }
    single_sync(&s);
    ck_assert_uint_ge(s.cluster->n_packets, 2);
    ck_assert_uint_le(s.cluster->n_packets, 4096);
}
END_TEST

START_TEST(acknowledgements_of_one_batch_are_one_message)
{
    raft_index i = 1;

    for (; i < 20; i++) {
        struct raft_entry e = {
            .index = i + 1, .term = 2, .type = RAFT_ENTRY_COMMAND};
        struct raft_message m = {.type = RAFT_APPEND_ENTRIES,
                                 .from = 2,
                                 .to = 1,
                                 .term = 2,
                                 .log_index = i,
                                 .log_term = i == 1 ? 1 : 2,
                                 .n_entries = 1,
                                 .entries = &e};

        ck_assert_int_eq(raft_step(s.raft, &m), RAFT_OK);
    }
    single_sync(&s);
    ck_assert_uint_eq(single_count(&s, RAFT_APPEND_ENTRIES_RESPONSE), 1);
    ck_assert_uint_eq(
        single_sent(&s, RAFT_APPEND_ENTRIES_RESPONSE, 2)->log_index, i);
}
END_TEST

START_TEST(compaction_forgets_and_questions_say_so)
{
    (void)single_append(&s, 2, 2, 1, 1, "222", 4);
    single_sync(&s);
    raft_compact(s.raft, 3);
    ck_assert_uint_eq(raft_first_index(s.raft), 4);
    ck_assert_ptr_null(raft_entry_at(s.raft, 3));
    ck_assert_ptr_null(raft_entry_at(s.raft, 5));
    ck_assert_uint_eq(raft_entry_at(s.raft, 4)->term, 2);
    raft_compact(s.raft, 4); /* all of it */
    ck_assert_uint_eq(raft_last_index(s.raft), 4);
    (void)single_append(&s, 2, 2, 4, 2, "2", 5);
    ck_assert_uint_eq(raft_last_index(s.raft), 5);
}
END_TEST

START_TEST(followers_have_no_progress_to_show)
{
    struct raft_progress p;

    ck_assert(!raft_progress_at(s.raft, 0, &p));
    single_lead(&s);
    ck_assert(raft_progress_at(s.raft, 2, &p));
    ck_assert_uint_eq(p.id, 3);
    ck_assert(p.recently_active);
    ck_assert(!raft_progress_at(s.raft, 3, &p));
    single_tick(&s, 5);
    single_acknowledge(&s, 2, 2);
    single_tick(&s, 5);
    ck_assert(raft_progress_at(s.raft, 2, &p));
    ck_assert(!p.recently_active);
}
END_TEST

/* One run, as text: who leads, how far, after each step. */
static void play(char *text, size_t size)
{
    struct cluster_options o = {.n_voters = 5, .seed = 99};
    struct cluster *c = cluster_new(&o);
    size_t n = 0;

    for (unsigned i = 0; i < 120; i++) {
        raft_id leader = cluster_leader(c);

        cluster_tick(c, 1);
        if (leader != 0 && i % 3 == 0) {
            (void)cluster_propose(c, leader, "x", NULL);
        }
        if (i % 40 == 39 && leader != 0) {
            cluster_crash(c, leader, 0);
            cluster_tick(c, 5);
            cluster_restart(c, leader, cluster_at(c, leader)->applied);
        }
        n += (size_t)snprintf(text + n, size - n, "%llu:%zu ",
                              (unsigned long long)leader,
                              c->sent[RAFT_APPEND_ENTRIES]);
    }
    cluster_free(c);
}

START_TEST(same_calls_give_the_same_result)
{
    static char one[8192], two[8192];

    play(one, sizeof(one));
    play(two, sizeof(two));
    ck_assert_str_eq(one, two);
}
END_TEST

START_TEST(defaults_are_for_production)
{
    struct raft_config c;

    raft_config_defaults(&c);
    ck_assert_uint_eq(c.election_ticks, 10);
    ck_assert_uint_eq(c.heartbeat_ticks, 1);
    ck_assert_uint_eq(c.append_bytes_max, 1 << 20);
    ck_assert_uint_eq(c.inflight_messages_max, 256);
    ck_assert_uint_eq(c.inflight_bytes_max, 16 << 20);
    ck_assert_uint_eq(c.uncommitted_bytes_max, 64 << 20);
    ck_assert(!c.no_pre_vote && !c.no_check_quorum);
}
END_TEST

START_TEST(every_status_has_a_text)
{
    ck_assert_str_eq(raft_status_text(RAFT_OK), "ok");
    for (int st = RAFT_OK; st <= RAFT_BAD_SNAPSHOT; st++) {
        ck_assert_str_ne(raft_status_text((enum raft_status)st),
                         raft_status_text((enum raft_status)99));
    }
    raft_free_all(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft");
    TCase *t = tcase_create("raft");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, nothing_to_do_is_false_and_zero);
    tcase_add_test(t, founding_configuration_is_found_and_handed_out);
    tcase_add_test(t, configuration_is_found_when_its_entry_was_cut_away);
    tcase_add_test(t, restart_keeps_what_was_synced);
    tcase_add_test(t, entries_are_handed_out_once);
    tcase_add_test(t, batch_stays_readable_until_it_is_stable);
    tcase_add_test(t, repeated_and_older_confirmations_change_nothing);
    tcase_add_test(t, commit_index_alone_is_not_written);
    tcase_add_test(t, committed_work_is_bounded_by_bytes);
    tcase_add_test(t, messages_of_a_new_term_wait_for_the_disk);
    tcase_add_test(t, hung_disk_fills_no_memory);
    tcase_add_test(t, acknowledgements_of_one_batch_are_one_message);
    tcase_add_test(t, compaction_forgets_and_questions_say_so);
    tcase_add_test(t, followers_have_no_progress_to_show);
    tcase_add_test(t, same_calls_give_the_same_result);
    tcase_add_test(t, defaults_are_for_production);
    tcase_add_test(t, every_status_has_a_text);
    suite_add_tcase(suite, t);
    return suite_run(suite);
}
