/*
 * test_log.c - the log in memory, and what of it the disk has.
 */
#include "raft/internal.h"
#include "tests/raft/suite.h"

#include <stdlib.h>
#include <string.h>

static struct log l;

static void setup(void)
{
    log_init(&l, 0, 0);
}

static void teardown(void)
{
    log_release(&l);
}

static void append(raft_index index, raft_term term, const char *text)
{
    struct raft_entry e = {
        .index = index,
        .term = term,
        .type = RAFT_ENTRY_COMMAND,
        .size = strlen(text),
        .data = (const uint8_t *)text,
    };

    log_append(&l, &e);
}

/* Terms of the entries 1, 2, ... as digits. */
static void fill(const char *terms)
{
    for (size_t i = 0; terms[i] != '\0'; i++) {
        append(i + 1, (raft_term)(terms[i] - '0'), "data");
    }
}

static struct raft_ready hand_out(void)
{
    struct raft_ready rd = {0};

    log_hand_out(&l, 0, &rd);
    return rd;
}

START_TEST(data_is_copied)
{
    char text[] = "abc";

    append(1, 1, text);
    text[0] = 'x';
    ck_assert_mem_eq(log_at(&l, 1)->data, "abc", 3);
}
END_TEST

START_TEST(window_slides_without_growing)
{
    for (raft_index i = 1; i <= 100000; i++) {
        append(i, 1, "0123456789");
        if (i > 10) {
            (void)log_stable(&l, hand_out().batch);
            log_compact(&l, i - 10);
        }
    }
    ck_assert_uint_eq(log_first_index(&l), 99991);
    ck_assert_uint_eq(log_last_index(&l), 100000);
    ck_assert_uint_eq(log_at(&l, 99995)->index, 99995);
    ck_assert_uint_le(l.capacity, 64);
}
END_TEST

START_TEST(compaction_keeps_the_term_before_the_first)
{
    fill("1123");
    (void)log_stable(&l, hand_out().batch);
    log_compact(&l, 3);
    ck_assert_uint_eq(log_term(&l, 3), 2);
    ck_assert_uint_eq(log_first_index(&l), 4);
    log_compact(&l, 2); /* nothing to do */
    log_compact(&l, 4);
    ck_assert_uint_eq(log_last_index(&l), 4);
    ck_assert_uint_eq(log_last_term(&l), 3);
    append(5, 3, "next");
    ck_assert_uint_eq(log_at(&l, 5)->term, 3);
}
END_TEST

static const struct {
    raft_index index;
    raft_term term;
    bool is_up_to_date;
    const char *why;
} candidates[] = {
    {4, 3, true, "equal"},
    {5, 3, true, "longer"},
    {3, 3, false, "shorter in the same term"},
    {9, 2, false, "longer, but of an older term"},
    {1, 4, true, "shorter, but of a newer term"},
    {0, 0, false, "empty"},
};

START_TEST(up_to_date_is_by_term_then_index)
{
    fill("1223");
    ck_assert_msg(
        log_is_up_to_date(&l, candidates[_i].index, candidates[_i].term) ==
            candidates[_i].is_up_to_date,
        "%s", candidates[_i].why);
}
END_TEST

static const struct {
    raft_index from;
    raft_term term;
    raft_index found;
} searches[] = {
    {8, 9, 8}, {8, 5, 8}, {8, 4, 5}, {8, 3, 5},  {8, 2, 3}, {8, 1, 2},
    {8, 0, 0}, {4, 4, 4}, {4, 2, 3}, {99, 5, 8}, {0, 5, 0}, {99, 2, 3},
};

START_TEST(find_term_skips_whole_terms)
{
    fill("11233555");
    ck_assert_uint_eq(log_find_term(&l, searches[_i].from, searches[_i].term),
                      searches[_i].found);
}
END_TEST

START_TEST(find_term_stops_at_what_was_compacted)
{
    fill("11233555");
    (void)log_stable(&l, hand_out().batch);
    log_compact(&l, 4);
    ck_assert_uint_eq(log_find_term(&l, 8, 2), 4);
    ck_assert_uint_eq(log_find_term(&l, 8, 3), 5);
    ck_assert_uint_eq(log_find_term(&l, 2, 9), 2);
}
END_TEST

START_TEST(fit_takes_at_least_one)
{
    size_t bytes;

    fill("1111"); /* four bytes each */
    ck_assert_uint_eq(log_fit(&l, 1, 4, 100, 0, &bytes), 1);
    ck_assert_uint_eq(log_fit(&l, 1, 4, 100, 11, &bytes), 2);
    ck_assert_uint_eq(bytes, 8);
    ck_assert_uint_eq(log_fit(&l, 1, 4, 3, 100, &bytes), 3);
    ck_assert_uint_eq(log_fit(&l, 2, 3, 100, 100, &bytes), 2);
    ck_assert_uint_eq(log_fit(&l, 5, 4, 100, 100, &bytes), 0);
}
END_TEST

START_TEST(batches_make_the_log_stable_in_order)
{
    struct raft_ready a, b;

    fill("11");
    a = hand_out();
    append(3, 1, "x");
    b = hand_out();
    ck_assert_uint_eq(a.n_entries, 2);
    ck_assert_uint_eq(b.n_entries, 1);
    ck_assert_uint_eq(b.batch, a.batch + 1);
    ck_assert_uint_eq(log_batch_of(&l, 2), a.batch);
    ck_assert_uint_eq(log_batch_of(&l, 3), b.batch);
    ck_assert_uint_eq(log_batch_of(&l, 4), b.batch + 1);

    ck_assert(log_stable(&l, a.batch));
    ck_assert_uint_eq(l.stable_index, 2);
    ck_assert_uint_eq(log_batch_of(&l, 2), 0);
    ck_assert(!log_stable(&l, a.batch)); /* repeated */
    ck_assert(log_stable(&l, b.batch));
    ck_assert(!log_stable(&l, a.batch)); /* older */
    ck_assert_uint_eq(l.stable_index, 3);
    ck_assert(!log_has_work(&l));
}
END_TEST

START_TEST(one_confirmation_stands_for_all_before_it)
{
    for (raft_index i = 1; i <= 30; i++) { /* the ring grows while in use */
        append(i, 1, "x");
        (void)hand_out();
        if (i == 5) {
            (void)log_stable(&l, 3);
        }
    }
    ck_assert_uint_eq(l.stable_index, 3);
    ck_assert_uint_eq(log_batch_of(&l, 20), 20);
    (void)log_stable(&l, 29);
    ck_assert_uint_eq(l.stable_index, 29);
    ck_assert_uint_eq(l.n_batches, 1);
}
END_TEST

START_TEST(B10_cut_and_refilled_while_the_disk_writes)
{
    struct raft_ready a, b;

    fill("111");
    a = hand_out();
    log_truncate(&l, 2);
    append(2, 2, "new");
    b = hand_out();
    ck_assert_uint_eq(b.truncate_from, 2);
    ck_assert_uint_eq(b.n_entries, 1);
    ck_assert_uint_eq(b.entries[0].term, 2);
    /* The old entry 2 is written now, but it is not our entry 2. */
    (void)log_stable(&l, a.batch);
    ck_assert_uint_eq(l.stable_index, 1);
    ck_assert_uint_eq(log_batch_of(&l, 2), b.batch);
    (void)log_stable(&l, b.batch);
    ck_assert_uint_eq(l.stable_index, 2);
}
END_TEST

START_TEST(lowest_of_several_cuts_goes_to_the_disk)
{
    struct raft_ready rd;

    fill("11111");
    (void)log_stable(&l, hand_out().batch);
    log_truncate(&l, 3);
    append(3, 2, "x");
    append(4, 2, "x");
    log_truncate(&l, 4); /* never handed out: the disk does not know it */
    append(4, 3, "y");
    rd = hand_out();
    ck_assert_uint_eq(rd.truncate_from, 3);
    ck_assert_uint_eq(rd.n_entries, 2);
    ck_assert_uint_eq(rd.entries[0].term, 2);
    ck_assert_uint_eq(rd.entries[1].term, 3);
    ck_assert_uint_eq(hand_out().truncate_from, 0);
}
END_TEST

START_TEST(data_of_a_batch_outlives_a_cut)
{
    struct raft_ready rd;

    fill("111");
    rd = hand_out();
    log_truncate(&l, 1);
    append(1, 2, "other");
    (void)hand_out();
    log_truncate(&l, 1);
    /* With the address sanitizer, this reads freed memory if it is wrong. */
    for (size_t i = 0; i < rd.n_entries; i++) {
        ck_assert_mem_eq(rd.entries[i].data, "data", 4);
    }
    ck_assert_uint_eq(l.n_graves, 4);
    (void)log_stable(&l, rd.batch);
    ck_assert_uint_eq(l.n_graves, 1); /* batch 2 may still read its own */
    (void)log_stable(&l, rd.batch + 1);
    ck_assert_uint_eq(l.n_graves, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *t = tcase_create("log");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, data_is_copied);
    tcase_add_test(t, window_slides_without_growing);
    tcase_add_test(t, compaction_keeps_the_term_before_the_first);
    tcase_add_loop_test(t, up_to_date_is_by_term_then_index, 0,
                        sizeof(candidates) / sizeof(candidates[0]));
    tcase_add_loop_test(t, find_term_skips_whole_terms, 0,
                        sizeof(searches) / sizeof(searches[0]));
    tcase_add_test(t, find_term_stops_at_what_was_compacted);
    tcase_add_test(t, fit_takes_at_least_one);
    tcase_add_test(t, batches_make_the_log_stable_in_order);
    tcase_add_test(t, one_confirmation_stands_for_all_before_it);
    tcase_add_test(t, B10_cut_and_refilled_while_the_disk_writes);
    tcase_add_test(t, lowest_of_several_cuts_goes_to_the_disk);
    tcase_add_test(t, data_of_a_batch_outlives_a_cut);
    suite_add_tcase(suite, t);
    return suite_run(suite);
}
