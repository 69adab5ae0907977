/*
 * test_repair.c - what a repair stands on: small files, vows, ballots.
 */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base.h"
#include "server/ballot.h"
#include "server/smallfile.h"
#include "server/vow.h"
#include "suite.h"

static char *path_of(const char *name)
{
    return mem_printf("%s/%s", suite_directory(), name);
}

/* ---- small files -----------------------------------------------------------
 */

START_TEST(D4_small_file_is_read_as_written_and_replaced_as_a_whole)
{
    const uint64_t first[] = {1, 0, UINT64_MAX}, second[] = {2, 3, 4};
    uint64_t got[3];
    char *path = path_of("numbers"), *half = path_of("numbers.new");
    int fd;

    ck_assert_int_eq(smallfile_read(path, "kind", got, 3), SMALLFILE_NONE);
    ck_assert_int_eq(smallfile_write(path, "kind", first, 3), 0);
    ck_assert_int_eq(smallfile_read(path, "kind", got, 3), SMALLFILE_OK);
    ck_assert_mem_eq(got, first, sizeof(got));
    fd = open(half, O_WRONLY | O_CREAT, 0600); /* cut off while writing */
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "kind 7", 6), 6);
    close(fd);
    ck_assert_int_eq(smallfile_read(path, "kind", got, 3), SMALLFILE_OK);
    ck_assert_mem_eq(got, first, sizeof(got));
    ck_assert_int_eq(smallfile_write(path, "kind", second, 3), 0);
    ck_assert_int_eq(smallfile_read(path, "kind", got, 3), SMALLFILE_OK);
    ck_assert_mem_eq(got, second, sizeof(got));
    ck_assert_int_eq(smallfile_remove(path), 0);
    ck_assert_int_eq(smallfile_remove(path), 0);
    ck_assert_int_eq(smallfile_read(path, "kind", got, 3), SMALLFILE_NONE);
    free(path);
    free(half);
}
END_TEST

START_TEST(F2_small_file_with_any_bit_flipped_or_cut_is_damaged)
{
    const uint64_t numbers[] = {0x1234, 42};
    uint64_t got[2];
    char *path = path_of("numbers"), bytes[256];
    ssize_t size;
    int fd;

    ck_assert_int_eq(smallfile_write(path, "kind", numbers, 2), 0);
    fd = open(path, O_RDWR);
    size = read(fd, bytes, sizeof(bytes));
    ck_assert_int_gt(size, 20);
    for (ssize_t i = 0; i < 8 * size; i++) {
        char flipped = (char)(bytes[i / 8] ^ (1 << (i % 8)));

        ck_assert_int_eq(pwrite(fd, &flipped, 1, i / 8), 1);
        ck_assert_int_eq(smallfile_read(path, "kind", got, 2),
                         SMALLFILE_DAMAGED);
        ck_assert_int_eq(pwrite(fd, &bytes[i / 8], 1, i / 8), 1);
    }
    ck_assert_int_eq(smallfile_read(path, "kind", got, 2), SMALLFILE_OK);
    ck_assert_int_eq(smallfile_read(path, "other", got, 2), SMALLFILE_DAMAGED);
    ck_assert_int_eq(smallfile_read(path, "kind", got, 1), SMALLFILE_DAMAGED);
    for (ssize_t n = size - 1; n >= 0; n--) {
        ck_assert_int_eq(ftruncate(fd, n), 0);
        ck_assert_int_eq(smallfile_read(path, "kind", got, 2),
                         SMALLFILE_DAMAGED);
    }
    close(fd);
    free(path);
}
END_TEST

/* ---- vows ------------------------------------------------------------------
 */

static bool hears(const struct vow *v, enum raft_message_type type,
                  raft_term log_term, raft_index log_index)
{
    const struct raft_message m = {
        .type = type, .log_term = log_term, .log_index = log_index};

    return !vow_forbids_in(v, &m);
}

START_TEST(F2_vow_hears_only_candidates_whose_log_reaches_it)
{
    struct vow v;

    vow_load(&v, suite_directory());
    ck_assert(!v.held);
    ck_assert(hears(&v, RAFT_REQUEST_VOTE, 1, 1));
    ck_assert_int_eq(vow_take(&v, 5, 100), 0);
    vow_release(&v);
    vow_load(&v, suite_directory()); /* after a restart */
    ck_assert(v.held);
    for (int pre = 0; pre < 2; pre++) {
        enum raft_message_type t = pre ? RAFT_PRE_VOTE : RAFT_REQUEST_VOTE;

        ck_assert(!hears(&v, t, 4, 1000));
        ck_assert(!hears(&v, t, 5, 99));
        ck_assert(hears(&v, t, 5, 100));
        ck_assert(hears(&v, t, 6, 1));
    }
    ck_assert(!hears(&v, RAFT_TIMEOUT_NOW, 0, 0));
    ck_assert(hears(&v, RAFT_APPEND_ENTRIES, 1, 1));
    ck_assert(
        vow_forbids_out(&v, &(struct raft_message){.type = RAFT_PRE_VOTE}));
    ck_assert(
        vow_forbids_out(&v, &(struct raft_message){.type = RAFT_REQUEST_VOTE}));
    ck_assert(!vow_forbids_out(
        &v, &(struct raft_message){.type = RAFT_REQUEST_VOTE_RESPONSE}));
    vow_release(&v);
}
END_TEST

/* A log with n entries of that term. */
static struct raft *log_of(size_t n, raft_term term)
{
    static struct raft_entry entries[200];
    struct raft_config config;
    struct raft_start start = {
        .hard_state = {.term = term}, .entries = entries, .n_entries = n};
    struct raft_server servers[] = {{1, RAFT_VOTER}, {2, RAFT_VOTER}};
    struct raft_configuration c = {servers, 2, NULL, 0};
    struct raft *r;
    size_t size;
    uint8_t *bytes = raft_configuration_encode(&c, &size);

    for (size_t i = 0; i < n; i++) {
        entries[i] = (struct raft_entry){i + 1, term, RAFT_ENTRY_NOOP, 0, NULL};
    }
    entries[0].type = RAFT_ENTRY_CONFIG;
    entries[0].data = bytes;
    entries[0].size = size;
    raft_config_defaults(&config);
    config.id = 1;
    r = raft_new(&config, &start);
    free(bytes);
    return r;
}

START_TEST(F2_vow_ends_when_the_log_reaches_it)
{
    static const struct {
        size_t n;
        raft_term term;
        bool held;
    } logs[] = {{99, 5, true}, {150, 4, true}, {100, 5, false}, {1, 6, false}};

    for (size_t i = 0; i < ARRAY_LENGTH(logs); i++) {
        struct raft *r = log_of(logs[i].n, logs[i].term);
        struct vow v;

        vow_load(&v, suite_directory());
        ck_assert_int_eq(vow_take(&v, 5, 100), 0);
        vow_check(&v, r);
        ck_assert_int_eq(v.held, logs[i].held);
        vow_release(&v);
        vow_load(&v, suite_directory());
        ck_assert_int_eq(v.held, logs[i].held);
        vow_release(&v);
        raft_free_all(r);
    }
}
END_TEST

/* ---- ballots ---------------------------------------------------------------
 */

START_TEST(F2_F4_ballot_knows_a_log_that_lost_a_vote)
{
    struct ballot b;
    const struct raft_hard_state voted = {7, 3, 0};

    ballot_load(&b, suite_directory(), 1, 2);
    ck_assert(!ballot_is_newer(&b, &(struct raft_hard_state){0, 0, 0}));
    ck_assert_int_eq(ballot_keep(&b, &voted), 0);
    ballot_release(&b);
    ballot_load(&b, suite_directory(), 1, 2);
    ck_assert(!ballot_is_newer(&b, &voted));
    ck_assert(!ballot_is_newer(&b, &(struct raft_hard_state){8, 0, 0}));
    ck_assert(ballot_is_newer(&b, &(struct raft_hard_state){7, 0, 0}));
    ck_assert(ballot_is_newer(&b, &(struct raft_hard_state){6, 3, 9}));
    ballot_release(&b);
    ballot_load(&b, suite_directory(), 1, 9); /* another member's */
    ck_assert(!ballot_is_newer(&b, &(struct raft_hard_state){6, 3, 9}));
    ballot_release(&b);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        D4_small_file_is_read_as_written_and_replaced_as_a_whole,
        F2_small_file_with_any_bit_flipped_or_cut_is_damaged,
        F2_vow_hears_only_candidates_whose_log_reaches_it,
        F2_vow_ends_when_the_log_reaches_it,
        F2_F4_ballot_knows_a_log_that_lost_a_vote,
    };

    return suite_run("repair", tests, ARRAY_LENGTH(tests));
}
