/*
 * test_damage.c - files damaged at rest: what was acknowledged is there all the
 * same, and nobody serves anything else.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "cluster.h"
#include "program.h"

#define N_KEYS 300

static struct cluster *up(size_t n)
{
    return cluster_up(&(struct cluster_config){
        .n = n, .heartbeat_ms = "30", .election_ms = "250"});
}

/* ---- what is written and read back ------------------------------------------
 */

static void key_value(unsigned i, char key[32], char value[200])
{
    snprintf(key, 32, "key-%06u", i);
    snprintf(value, 200, "value-%06u-%0150u", i, i);
}

static void put_keys(struct cluster *c, unsigned first, unsigned n)
{
    struct client *client = client_new(cluster_address(c, cluster_leader(c)));
    char key[32], value[200];

    for (unsigned i = first; i < first + n; i++) {
        struct answer a;

        key_value(i, key, value);
        a = client_put(client, key, value, 0, NULL);
        ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
        answer_release(&a);
    }
    client_free(client);
}

/* Each member, by itself, has every key with its value. */
static void assert_holds(struct cluster *c, unsigned n)
{
    char key[32], value[200];

    for (size_t m = 0; m < cluster_size(c); m++) {
        struct client *client = client_new(cluster_address(c, m));

        for (unsigned i = 0; i < n; i++) {
            struct answer a;

            key_value(i, key, value);
            a = client_get(client, key, 0, true);
            ck_assert_msg(a.code == GRPC_OK, "member %zu: %s", m, a.text);
            ck_assert_msg(a.range->n_kvs == 1, "member %zu lost %s", m, key);
            ck_assert_uint_eq(a.range->kvs[0]->value.len, strlen(value));
            ck_assert_mem_eq(a.range->kvs[0]->value.data, value, strlen(value));
            answer_release(&a);
        }
        client_free(client);
    }
}

static void stop_all(struct cluster *c)
{
    for (size_t i = 0; i < cluster_size(c); i++) {
        ck_assert_int_eq(cluster_stop(c, i), 0);
    }
}

static void start_all(struct cluster *c)
{
    for (size_t i = 0; i < cluster_size(c); i++) {
        cluster_start(c, i);
    }
    cluster_settle(c);
}

/* ---- ways to damage a file --------------------------------------------------
 */

static char *file_of(struct cluster *c, size_t i, const char *name)
{
    return mem_printf("%s/%s", cluster_data_dir(c, i), name);
}

static void sql(struct cluster *c, size_t i, const char *name, const char *text)
{
    char *path = file_of(c, i, name), *message = NULL;
    sqlite3 *db;

    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_exec(db, text, NULL, NULL, &message);
    ck_assert_msg(message == NULL, "%s: %s", text, message);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    free(path);
}

/* Turn over a bit in every place where the text is; how many there were. */
static unsigned flip(struct cluster *c, size_t i, const char *name,
                     const char *text)
{
    char *path = file_of(c, i, name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat st;
    unsigned n = 0;
    char *bytes;

    free(path);
    if (fd < 0) {
        return 0;
    }
    ck_assert_int_eq(fstat(fd, &st), 0);
    bytes = mem_alloc((size_t)st.st_size + 1, 1);
    ck_assert_int_eq(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
    for (off_t at = 0; at + (off_t)strlen(text) <= st.st_size; at++) {
        if (memcmp(bytes + at, text, strlen(text)) == 0) {
            char flipped = (char)(text[0] ^ 4);

            ck_assert_int_eq(pwrite(fd, &flipped, 1, at), 1);
            n++;
        }
    }
    free(bytes);
    close(fd);
    return n;
}

static void flip_log(struct cluster *c, size_t i, const char *text)
{
    ck_assert_uint_gt(
        flip(c, i, "raft.db", text) + flip(c, i, "raft.db-wal", text), 0);
}

static void copy_file(const char *from, const char *to)
{
    const char *argv[] = {"/bin/cp", "-f", from, to, NULL};

    ck_assert_int_eq(run_program(argv, PATIENCE_MS, NULL, 0), 0);
}

/* raft.db and its WAL: away, and back again. */
static void copy_log(struct cluster *c, size_t i, const char *from_suffix,
                     const char *to_suffix)
{
    static const char *const names[] = {"raft.db", "raft.db-wal"};

    for (size_t k = 0; k < ARRAY_LENGTH(names); k++) {
        char *base = file_of(c, i, names[k]);
        char *from = mem_printf("%s%s", base, from_suffix);
        char *to = mem_printf("%s%s", base, to_suffix);

        copy_file(from, to);
        free(base);
        free(from);
        free(to);
    }
}

/* ---- one member -------------------------------------------------------------
 */

static const struct log_damage {
    const char *sql;
    const char *said; /* in its log */
} log_damages[] = {
    {"UPDATE entry SET data = x'00' WHERE \"index\" = 150", "is repaired"},
    {"UPDATE entry SET checksum = 1 WHERE \"index\" = 150", "is repaired"},
    {"UPDATE entry SET term = term + 1 WHERE \"index\" = 150", "is repaired"},
    {"DELETE FROM entry WHERE \"index\" = 1", "is repaired"},
    {"DELETE FROM entry WHERE \"index\" BETWEEN 100 AND 200", "is repaired"},
    {"DELETE FROM entry WHERE \"index\" > 290", "is repaired"},
    {"DELETE FROM entry", "is repaired"},
    /* misdirected: two rows whole but for their place */
    {"UPDATE entry SET \"index\" = 100000 WHERE \"index\" = 50;"
     "UPDATE entry SET \"index\" = 50 WHERE \"index\" = 51;"
     "UPDATE entry SET \"index\" = 51 WHERE \"index\" = 100000",
     "is repaired"},
    /* the term, the vote, the beginning, the tables */
    {"DELETE FROM state", "no vote from here"},
    {"UPDATE state SET voted_for = voted_for + 1", "no vote from here"},
    {"UPDATE state SET last_index = last_index - 10", "no vote from here"},
    {"DELETE FROM cut", "no vote from here"},
    {"DELETE FROM meta", "no vote from here"},
    {"DROP TABLE entry", "no vote from here"},
};

/* F2, F4: it is repaired before it takes part; the others never stopped. */
START_TEST(F2_F4_damaged_log_is_repaired_from_the_others)
{
    const struct log_damage *d = &log_damages[_i];
    struct cluster *c = up(3);

    put_keys(c, 0, N_KEYS);
    cluster_settle(c);
    ck_assert_int_eq(cluster_stop(c, 1), 0);
    sql(c, 1, "raft.db", d->sql);
    put_keys(c, N_KEYS, 10);
    cluster_start(c, 1);
    cluster_settle(c);
    ck_assert_msg(cluster_log_has(c, 1, d->said), "%s", d->sql);
    assert_holds(c, N_KEYS + 10);
    /* And it counts again: with it alone the other one can write. */
    cluster_kill(c, cluster_leader(c) == 0 ? 0 : 2);
    put_keys(c, N_KEYS + 10, 5);
    cluster_free(c);
}
END_TEST

START_TEST(F2_bits_flipped_in_the_files_are_repaired)
{
    struct cluster *c = up(3);

    put_keys(c, 0, N_KEYS);
    cluster_settle(c);
    if (_i == 0) {
        ck_assert_int_eq(cluster_stop(c, 1), 0);
    } else {
        cluster_kill(c, 1); /* then they are in the WAL as well */
    }
    flip_log(c, 1, "value-000150-");
    cluster_start(c, 1);
    cluster_settle(c);
    assert_holds(c, N_KEYS);
    cluster_free(c);
}
END_TEST

/* The file of yesterday: a lost write as large as can be. */
START_TEST(F2_F4_old_copy_of_the_log_is_seen_and_repaired)
{
    struct cluster *c = up(3);

    put_keys(c, 0, 50);
    cluster_settle(c);
    ck_assert_int_eq(cluster_stop(c, 1), 0);
    copy_log(c, 1, "", ".old");
    cluster_start(c, 1);
    cluster_settle(c);
    put_keys(c, 50, N_KEYS - 50);
    cluster_settle(c);
    ck_assert_int_eq(cluster_stop(c, 1), 0);
    copy_log(c, 1, ".old", "");
    cluster_start(c, 1);
    cluster_settle(c);
    /* Told by state.db or, if there was an election meanwhile, the ballot. */
    ck_assert(cluster_log_has(c, 1, "not of this time") ||
              cluster_log_has(c, 1, "is an old copy"));
    assert_holds(c, N_KEYS);
    cluster_free(c);
}
END_TEST

static const off_t lengths[] = {0, 1, 4096, 40000};

START_TEST(F2_truncated_log_is_seen_and_repaired)
{
    struct cluster *c = up(3);
    char *path, *wal;

    put_keys(c, 0, N_KEYS);
    cluster_settle(c);
    ck_assert_int_eq(cluster_stop(c, 1), 0);
    path = file_of(c, 1, "raft.db");
    wal = file_of(c, 1, "raft.db-wal");
    ck_assert_int_eq(truncate(path, lengths[_i]), 0);
    ck_assert_int_eq(truncate(wal, 0), 0);
    cluster_start(c, 1);
    cluster_settle(c);
    assert_holds(c, N_KEYS);
    free(path);
    free(wal);
    cluster_free(c);
}
END_TEST

/* ---- several members --------------------------------------------------------
 */

/* F3: each entry is whole on one member at least. */
START_TEST(F3_disjoint_damage_on_all_members_heals)
{
    static const char *const damages[][3] = {
        {"DELETE FROM entry WHERE \"index\" BETWEEN 20 AND 60",
         "DELETE FROM entry WHERE \"index\" BETWEEN 100 AND 200",
         "UPDATE entry SET data = x'00' WHERE \"index\" IN (80, 250)"},
        {"DELETE FROM entry WHERE \"index\" % 3 = 0",
         "DELETE FROM entry WHERE \"index\" % 3 = 1",
         "DELETE FROM entry WHERE \"index\" % 3 = 2"},
    };
    struct cluster *c = up(3);

    put_keys(c, 0, N_KEYS);
    cluster_settle(c);
    stop_all(c);
    for (size_t i = 0; i < 3; i++) {
        sql(c, i, "raft.db", damages[_i][i]);
    }
    start_all(c);
    for (size_t i = 0; i < 3; i++) {
        ck_assert(cluster_log_has(c, i, "is repaired"));
    }
    assert_holds(c, N_KEYS);
    put_keys(c, N_KEYS, 5);
    cluster_free(c);
}
END_TEST

/*
 * What is whole nowhere is not made up, and who lacks it does not take part:
 * nobody leads, nothing is answered.
 */
START_TEST(F3_what_is_whole_nowhere_is_not_made_up)
{
    struct cluster *c = up(3);
    struct client *client;
    struct answer a;

    put_keys(c, 0, 50);
    cluster_settle(c);
    stop_all(c);
    for (size_t i = 0; i < 3; i++) {
        sql(c, i, "raft.db", "DELETE FROM entry WHERE \"index\" = 30");
        cluster_start(c, i);
    }
    while (!cluster_log_has(c, 0, "is being repaired itself")) {
        short_pause();
    }
    client = client_new(cluster_address(c, 0));
    client_set_timeout(client, 1000);
    a = client_get(client, "key-000001", 0, true);
    ck_assert_int_ne(a.code, GRPC_OK);
    answer_release(&a);
    client_free(client);
    stop_all(c);
    cluster_free(c);
}
END_TEST

/* ---- a state that is not the others' ----------------------------------------
 */

static const char *const state_damages[] = {
    "UPDATE revisions SET value = x'00' WHERE mod_revision = 100",
    "DELETE FROM revisions WHERE mod_revision = 100",
    "UPDATE state SET digest = '0123456789abcdef'",
    "UPDATE state SET applied_index = applied_index - 5",
    "DELETE FROM members",
    "DELETE FROM state",
    "DROP TABLE revisions",
};

/* F2, F4: it is made again, from the log as long as that reaches back. */
START_TEST(F2_F4_damaged_state_is_made_again)
{
    struct cluster *c = up(3);

    put_keys(c, 0, N_KEYS);
    cluster_settle(c);
    ck_assert_int_eq(cluster_stop(c, 1), 0);
    sql(c, 1, "state.db", state_damages[_i]);
    cluster_start(c, 1);
    cluster_settle(c);
    ck_assert(cluster_log_has(c, 1, "set aside"));
    assert_holds(c, N_KEYS);
    cluster_free(c);
}
END_TEST

START_TEST(F2_bits_flipped_in_state_are_seen)
{
    struct cluster *c = up(3);

    put_keys(c, 0, N_KEYS);
    cluster_settle(c);
    ck_assert_int_eq(cluster_stop(c, 1), 0);
    ck_assert_uint_gt(flip(c, 1, "state.db", "value-000150-") +
                          flip(c, 1, "state.db-wal", "value-000150-"),
                      0);
    cluster_start(c, 1);
    cluster_settle(c);
    ck_assert(cluster_log_has(c, 1, "set aside"));
    assert_holds(c, N_KEYS);
    cluster_free(c);
}
END_TEST

/* ---- nothing but a snapshot helps -------------------------------------------
 */

static void stop_and_start_cut(struct cluster *c, size_t i, const char *text,
                               const char *name)
{
    static const char *const flags[] = {"--snapshot-catchup-entries", "20",
                                        NULL};

    if (text != NULL) {
        ck_assert_int_eq(cluster_stop(c, i), 0);
        sql(c, i, name, text);
    }
    cluster_start_with(c, i, flags);
}

static const struct {
    const char *name, *sql;
} cut_damages[] = {
    {"raft.db", "DELETE FROM entry"},
    {"raft.db", "DELETE FROM state; DELETE FROM cut"},
    {"raft.db", "DROP TABLE entry"},
    {"state.db", "UPDATE revisions SET value = x'00' WHERE mod_revision = 100"},
    {"state.db", "DELETE FROM state"},
};

/* F2: the others have cut their logs: what is lost here comes as a snapshot. */
START_TEST(F2_damage_beyond_the_others_logs_is_refilled_by_a_snapshot)
{
    struct cluster *c = cluster_new(&(struct cluster_config){
        .n = 3, .heartbeat_ms = "30", .election_ms = "250"});

    for (size_t i = 0; i < 3; i++) {
        stop_and_start_cut(c, i, NULL, NULL);
    }
    put_keys(c, 0, 1000);
    cluster_settle(c);
    stop_and_start_cut(c, 1, cut_damages[_i].sql, cut_damages[_i].name);
    put_keys(c, 1000, 10);
    cluster_settle(c);
    assert_holds(c, 1010);
    cluster_kill(c, cluster_leader(c) == 0 ? 0 : 2);
    put_keys(c, 1010, 5);
    cluster_free(c);
}
END_TEST

#define OTHER_DIGEST 0x0123456789abcdef

/* As state.db has it over the row of state and the sum of all the others. */
static int64_t state_checksum(sqlite3_stmt *row)
{
    const uint64_t words[] = {
        htole64((uint64_t)sqlite3_column_int64(row, 0)),
        htole64((uint64_t)sqlite3_column_int64(row, 1)),
        htole64((uint64_t)sqlite3_column_int64(row, 2)),
        htole64(OTHER_DIGEST),
        htole64((uint64_t)sqlite3_column_int64(row, 3)),
    };

    return (int64_t)XXH3_64bits_withSeed(words, sizeof(words),
                                         XXH3_64bits("state", 5));
}

/* Another digest, and nothing in the file tells that it is not the right one:
 * as if the member had computed it. */
static void let_diverge(struct cluster *c, size_t i)
{
    char *path = file_of(c, i, "state.db"), *edits;
    sqlite3_stmt *row;
    sqlite3 *db;

    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    ck_assert_int_eq(
        sqlite3_prepare_v2(db,
                           "SELECT applied_index, applied_term, revision, rows "
                           "FROM state, checks",
                           -1, &row, NULL),
        SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(row), SQLITE_ROW);
    edits = mem_printf("UPDATE state SET digest = '%016llx';"
                       "UPDATE checks SET state = %lld",
                       (unsigned long long)OTHER_DIGEST,
                       (long long)state_checksum(row));
    ck_assert_int_eq(sqlite3_finalize(row), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    sql(c, i, "state.db", edits);
    free(edits);
    free(path);
}

/*
 * F11: edited by hand while it stood still; a thousand entries later, or after
 * a second with one, the member knows. It ends by itself and says why, and
 * comes back with a state made anew.
 */
START_TEST(F11_member_that_diverged_ends_and_comes_back_sound)
{
    struct cluster *c = up(3);

    put_keys(c, 0, 50);
    cluster_settle(c);
    ck_assert_int_eq(cluster_stop(c, 1), 0);
    let_diverge(c, 1);
    cluster_start(c, 1);
    put_keys(c, 50, 1100);
    ck_assert_int_eq(cluster_wait_exit(c, 1), 5);
    ck_assert(cluster_log_has(c, 1, "differs from that of a majority"));
    cluster_start(c, 1);
    cluster_settle(c);
    assert_holds(c, 1150);
    put_keys(c, 1150, 1100);
    cluster_settle(c);
    ck_assert_int_eq(cluster_stop(c, 1), 0); /* it was there to be stopped */
    cluster_free(c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("damage");
    TCase *tc = tcase_create("damage");

    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, F2_F4_damaged_log_is_repaired_from_the_others, 0,
                        ARRAY_LENGTH(log_damages));
    tcase_add_loop_test(tc, F2_bits_flipped_in_the_files_are_repaired, 0, 2);
    tcase_add_test(tc, F2_F4_old_copy_of_the_log_is_seen_and_repaired);
    tcase_add_loop_test(tc, F2_truncated_log_is_seen_and_repaired, 0,
                        ARRAY_LENGTH(lengths));
    tcase_add_loop_test(tc, F3_disjoint_damage_on_all_members_heals, 0, 2);
    tcase_add_test(tc, F3_what_is_whole_nowhere_is_not_made_up);
    tcase_add_loop_test(tc, F2_F4_damaged_state_is_made_again, 0,
                        ARRAY_LENGTH(state_damages));
    tcase_add_test(tc, F2_bits_flipped_in_state_are_seen);
    tcase_add_loop_test(
        tc, F2_damage_beyond_the_others_logs_is_refilled_by_a_snapshot, 0,
        ARRAY_LENGTH(cut_damages));
    tcase_add_test(tc, F11_member_that_diverged_ends_and_comes_back_sound);
    suite_add_tcase(s, tc);
    return program_run(s);
}
