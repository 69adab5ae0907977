/*
 * test_store.c - raft.db on real files: whose it is, who may open it, and what
 * other programs did to it. Crashes and bad disks: tests/sim/test_store.c.
 */
#include "raft/store.h"
#include "raft/store_salvage.h"

#include <check.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[64];
static char path[128];
static char error[600];
static struct store *store;
static struct store_content content;

static void setup(void)
{
    (void)snprintf(directory, sizeof directory, "/tmp/test-store-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    (void)snprintf(path, sizeof path, "%s/raft.db", directory);
    store = NULL;
}

static void remove_file(const char *suffix)
{
    char name[160];

    (void)snprintf(name, sizeof name, "%s%s", path, suffix);
    (void)unlink(name); /* it need not be there */
}

static void teardown(void)
{
    store_close(store);
    remove_file("");
    remove_file("-wal");
    remove_file("-journal");
    ck_assert_int_eq(rmdir(directory), 0); /* nothing else was left */
}

static enum store_status open_as(uint64_t cluster_id, uint64_t member_id,
                                 bool create)
{
    struct store_options options = {.path = path,
                                    .cluster_id = cluster_id,
                                    .member_id = member_id,
                                    .create = create,
                                    .wal_pages = 16};

    return store_open(&options, &store, error, sizeof error);
}

static void open_ok(void)
{
    enum store_status st = open_as(1, 2, true);

    ck_assert_msg(st == STORE_OK, "%s", error);
}

static void close_store(void)
{
    store_close(store);
    store = NULL;
}

/* Append n entries "data-INDEX", in one transaction. */
static void append(raft_index first, size_t n, raft_term term)
{
    char data[32][16];
    struct raft_entry entries[32];
    struct raft_hard_state hard_state = {term, 2, first - 1};
    struct store_batch b = {0, entries, n, &hard_state, NULL};
    enum store_status st;

    for (size_t i = 0; i < n; i++) {
        int size =
            snprintf(data[i], sizeof data[i], "data-%d", (int)(first + i));

        entries[i] = (struct raft_entry){first + i, term, RAFT_ENTRY_COMMAND,
                                         (size_t)size, (uint8_t *)data[i]};
    }
    st = store_write(store, &b, 1);
    ck_assert_msg(st == STORE_OK, "%s", store_error(store));
}

static void load_ok(void)
{
    enum store_status st = store_load(store, &content);

    ck_assert_msg(st == STORE_OK, "%s", store_error(store));
}

/* Do something to the file that pawl would not. */
static void tamper(const char *sql)
{
    sqlite3 *db;
    char *message = NULL;

    close_store();
    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_exec(db, sql, NULL, NULL, &message);
    ck_assert_msg(message == NULL, "%s", message);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

/* ---- what goes in comes out
 * --------------------------------------------------- */

START_TEST(a_first_start_is_known_as_one)
{
    struct raft_hard_state hard_state = {1, 0, 0};
    struct store_batch b = {0, NULL, 0, &hard_state, NULL};

    open_ok();
    ck_assert(store_is_new(store));
    load_ok();
    ck_assert_uint_eq(content.n_entries, 0);
    ck_assert_uint_eq(content.hard_state.term, 0);
    store_content_release(&content);
    ck_assert_int_eq(store_write(store, &b, 1), STORE_OK);
    ck_assert(!store_is_new(store));
    close_store();
    open_ok();
    ck_assert(!store_is_new(store));
}
END_TEST

START_TEST(entries_of_every_kind_come_back_as_they_were)
{
    uint8_t bytes[3] = {0, 255, 0};
    uint64_t high = UINT64_C(0xfffffffffffffff0);
    struct raft_entry entries[] = {
        {1, 1, RAFT_ENTRY_CONFIG, 3, bytes},
        {2, 1, RAFT_ENTRY_NOOP, 0, NULL},
        {3, high, RAFT_ENTRY_COMMAND, 1, bytes},
    };
    struct raft_hard_state hard_state = {high, high - 1, 2};
    struct store_batch b = {0, entries, 3, &hard_state, NULL};

    open_ok();
    ck_assert_int_eq(store_write(store, &b, 1), STORE_OK);
    close_store();
    open_ok();
    load_ok();
    ck_assert_uint_eq(content.n_entries, 3);
    ck_assert_uint_eq(content.hard_state.term, high);
    ck_assert_uint_eq(content.hard_state.voted_for, high - 1);
    ck_assert_uint_eq(content.hard_state.commit, 2);
    for (size_t i = 0; i < 3; i++) {
        const struct raft_entry *e = &content.entries[i];

        ck_assert_uint_eq(e->index, entries[i].index);
        ck_assert_uint_eq(e->term, entries[i].term);
        ck_assert_int_eq(e->type, entries[i].type);
        ck_assert_uint_eq(e->size, entries[i].size);
        ck_assert(e->size == 0 || memcmp(e->data, bytes, e->size) == 0);
    }
    store_content_release(&content);
}
END_TEST

START_TEST(batches_of_one_write_are_taken_in_order)
{
    struct raft_entry first[] = {{1, 1, RAFT_ENTRY_COMMAND, 1, (uint8_t *)"a"},
                                 {2, 1, RAFT_ENTRY_COMMAND, 1, (uint8_t *)"b"}};
    struct raft_entry second[] = {
        {2, 2, RAFT_ENTRY_COMMAND, 1, (uint8_t *)"c"}};
    struct raft_hard_state one = {1, 1, 0}, two = {2, 0, 1};
    struct store_batch batches[] = {{0, first, 2, &one, NULL},
                                    {2, second, 1, &two, NULL},
                                    {0, NULL, 0, NULL, NULL}};
    struct store_figures f;

    open_ok();
    ck_assert_int_eq(store_write(store, batches, 3), STORE_OK);
    store_get_figures(store, &f);
    ck_assert_uint_eq(f.transactions, 1);
    close_store();
    open_ok();
    load_ok();
    ck_assert_uint_eq(content.n_entries, 2);
    ck_assert_uint_eq(content.entries[1].term, 2);
    ck_assert_int_eq(content.entries[1].data[0], 'c');
    ck_assert_uint_eq(content.hard_state.term, 2);
    store_content_release(&content);
}
END_TEST

START_TEST(compaction_keeps_the_configuration_and_goes_in_steps)
{
    struct raft_server servers[] = {{1, RAFT_VOTER}, {2, RAFT_LEARNER}};
    struct raft_configuration c = {servers, 2, NULL, 0};
    size_t left;

    open_ok();
    append(1, 20, 1);
    ck_assert_int_eq(store_compact(store, 12, &c, 5, &left), STORE_OK);
    ck_assert_uint_eq(left, 7);
    close_store(); /* in the middle of it */
    open_ok();
    load_ok();
    ck_assert_uint_eq(content.first_prev_index, 12);
    ck_assert_uint_eq(content.first_prev_term, 1);
    ck_assert_uint_eq(content.n_entries, 8);
    ck_assert_uint_eq(content.configuration.n_servers, 2);
    ck_assert_int_eq(content.configuration.servers[1].role, RAFT_LEARNER);
    store_content_release(&content);
    ck_assert_int_eq(store_compact(store, 12, &c, 5, &left), STORE_OK);
    ck_assert_uint_eq(left, 2);
    ck_assert_int_eq(store_compact(store, 20, &c, 100, &left), STORE_OK);
    ck_assert_uint_eq(left, 0);
    append(21, 3, 2); /* the chain goes on behind an empty table */
    close_store();
    open_ok();
    load_ok();
    ck_assert_uint_eq(content.first_prev_index, 20);
    ck_assert_uint_eq(content.n_entries, 3);
    store_content_release(&content);
}
END_TEST

/* Restore to a snapshot at index, of that term, in a batch with n entries. */
static void restore(raft_index index, raft_term term, size_t n)
{
    struct raft_server servers[] = {{2, RAFT_VOTER}, {7, RAFT_VOTER}};
    struct raft_snapshot snapshot = {index, term, {servers, 2, NULL, 0}};
    struct raft_hard_state hard_state = {term, 0, index};
    struct raft_entry entries[4] = {{0}};
    struct store_batch b = {.restore = &snapshot,
                            .entries = entries,
                            .n_entries = n,
                            .hard_state = &hard_state};

    for (size_t i = 0; i < n; i++) {
        entries[i] = (struct raft_entry){
            .index = index + 1 + i, .term = term, .type = RAFT_ENTRY_NOOP};
    }
    ck_assert_msg(store_write(store, &b, 1) == STORE_OK, "%s",
                  store_error(store));
}

static void expect_log(raft_index prev_index, raft_term prev_term, size_t n)
{
    load_ok();
    ck_assert_uint_eq(content.first_prev_index, prev_index);
    ck_assert_uint_eq(content.first_prev_term, prev_term);
    ck_assert_uint_eq(content.n_entries, n);
    ck_assert_uint_eq(content.configuration.n_servers, 2);
    ck_assert_uint_eq(content.configuration.servers[1].id, 7);
    store_content_release(&content);
}

/* Shorter than the snapshot, longer, and with nothing of it: all is forgotten,
 * and what follows is chained anew. */
START_TEST(D2_a_restore_forgets_the_whole_log)
{
    static const raft_index at[] = {100, 20, 13, 1000};
    raft_index index = at[_i];
    size_t left;

    open_ok();
    append(1, 20, 1);
    restore(index, 5, 0);
    close_store();
    open_ok();
    expect_log(index, 5, 0);
    append(index + 1, 3, 5);
    close_store();
    open_ok();
    expect_log(index, 5, 3);
    /* The old rows go in small steps, as after a cut. */
    do {
        ck_assert_int_eq(
            store_compact(store, index, &content.configuration, 7, &left),
            STORE_OK);
    } while (left > 0);
    append(index + 4, 1, 5);
    close_store();
    open_ok();
    expect_log(index, 5, 4);
}
END_TEST

START_TEST(D2_a_second_restore_and_its_entries_go_in_one_transaction)
{
    open_ok();
    append(1, 5, 1);
    restore(50, 2, 3);
    restore(60, 3, 4);
    ck_assert_uint_eq(store_is_new(store), false);
    close_store();
    open_ok();
    expect_log(60, 3, 4);
    restore(62, 3, 0); /* in the middle of what is there */
    close_store();
    open_ok();
    expect_log(62, 3, 0);
}
END_TEST

START_TEST(D2_a_log_begun_anew_is_still_checked)
{
    open_ok();
    append(1, 5, 1);
    restore(50, 2, 4);
    tamper("UPDATE cut SET term = 3");
    open_as(1, 2, false);
    ck_assert_ptr_null(store);
    ck_assert_ptr_nonnull(strstr(error, "damaged"));
}
END_TEST

/* ---- who may open it
 * ---------------------------------------------------------- */

START_TEST(a_missing_log_is_made_only_if_asked)
{
    struct stat st;

    ck_assert_int_eq(open_as(1, 2, false), STORE_MISSING);
    ck_assert_ptr_null(store);
    ck_assert_ptr_nonnull(strstr(error, path));
    ck_assert_int_ne(stat(path, &st), 0);
    open_ok();
    close_store();
    ck_assert_int_eq(open_as(1, 2, false), STORE_OK);
}
END_TEST

START_TEST(a_directory_that_is_not_there_is_told)
{
    (void)snprintf(path, sizeof path, "%s/nowhere/raft.db", directory);
    ck_assert_int_eq(open_as(1, 2, true), STORE_IO);
    ck_assert_ptr_nonnull(strstr(error, path));
}
END_TEST

START_TEST(the_log_of_another_member_is_refused)
{
    open_ok();
    append(1, 3, 1);
    close_store();
    ck_assert_int_eq(open_as(1, 3, true), STORE_MISMATCH);
    ck_assert_int_eq(open_as(9, 2, true), STORE_MISMATCH);
    ck_assert_ptr_nonnull(strstr(error, "cluster 9"));
    open_ok(); /* and took no harm */
    load_ok();
    ck_assert_uint_eq(content.n_entries, 3);
    store_content_release(&content);
}
END_TEST

START_TEST(a_second_process_is_kept_out)
{
    pid_t pid;
    int status;

    open_ok();
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct store *other;
        struct store_options options = {
            .path = path, .cluster_id = 1, .member_id = 2, .create = true};
        enum store_status st =
            store_open(&options, &other, error, sizeof error);

        _exit(st == STORE_LOCKED && strstr(error, "another pawld") ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    append(1, 1, 1);
}
END_TEST

START_TEST(other_files_are_refused_and_not_touched)
{
    char text[64] = "";
    FILE *f = fopen(path, "w");

    ck_assert_ptr_nonnull(f);
    (void)fprintf(f, "%s",
                  "a letter to my aunt, longer than a header of "
                  "SQLite's: really, it is long enough, I think\n");
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(open_as(1, 2, true), STORE_CORRUPT);
    f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_ptr_nonnull(fgets(text, sizeof text, f));
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(strncmp(text, "a letter", 8), 0);

    ck_assert_int_eq(unlink(path), 0);
    tamper("CREATE TABLE aunt (letter TEXT)");
    ck_assert_int_eq(open_as(1, 2, true), STORE_VERSION);
}
END_TEST

START_TEST(a_newer_version_is_refused)
{
    open_ok();
    tamper("PRAGMA user_version=2");
    ck_assert_int_eq(open_as(1, 2, true), STORE_VERSION);
    ck_assert_ptr_nonnull(strstr(error, "version is 2"));
}
END_TEST

/* Created up to there, then the power went. */
START_TEST(F5_a_start_cut_off_before_its_tables_is_begun_again)
{
    tamper("PRAGMA journal_mode=WAL");
    ck_assert_int_eq(open_as(1, 2, false), STORE_MISSING);
    open_ok();
    append(1, 1, 1);
}
END_TEST

/* ---- damage
 * ------------------------------------------------------------------- */

static const struct {
    const char *sql;
    const char *error; /* must be said */
} damages[] = {
    {"UPDATE entry SET data = x'646174612d39' WHERE \"index\" = 7", "entry 7 "},
    {"UPDATE entry SET term = 2 WHERE \"index\" = 1", "entry 1 "},
    {"UPDATE entry SET type = 2 WHERE \"index\" = 20", "entry 20 "},
    {"UPDATE entry SET checksum = checksum + 1 WHERE \"index\" = 4",
     "entry 4 "},
    {"DELETE FROM entry WHERE \"index\" = 1", "entry 1 is lost"},
    {"DELETE FROM entry WHERE \"index\" = 5", "entry 5 is lost"},
    {"DELETE FROM entry WHERE \"index\" = 20", "entry 20 is lost"},
    {"DELETE FROM entry", "entry 1 is lost"},
    /* swap two rows, whole but for their place */
    {"UPDATE entry SET \"index\" = 100 WHERE \"index\" = 8;"
     "UPDATE entry SET \"index\" = 8 WHERE \"index\" = 9;"
     "UPDATE entry SET \"index\" = 9 WHERE \"index\" = 100",
     "entry 8 "},
    {"INSERT INTO entry SELECT 21, term, type, data, checksum FROM entry"
     " WHERE \"index\" = 20",
     "does not end at entry 20"},
    {"UPDATE state SET voted_for = 1", "term and vote is damaged"},
    {"UPDATE state SET term = term - 1", "term and vote is damaged"},
    {"DELETE FROM state", "term and vote is lost"},
    {"DELETE FROM cut", "begin is lost"},
    {"UPDATE cut SET \"index\" = 3", "begin is damaged"},
    {"DELETE FROM meta", "member's id is lost"},
    {"UPDATE meta SET member_id = 5", "member's id is damaged"},
    {"DROP TABLE cut", "schema"},
};

/* F2, F4: it is refused, and the message names the place. */
START_TEST(F2_F4_a_row_changed_lost_or_misplaced_is_seen)
{
    enum store_status st;
    const char *said = error;

    open_ok();
    append(1, 20, 3);
    tamper(damages[_i].sql);
    st = open_as(1, 2, true);
    if (st == STORE_OK) {
        st = store_load(store, &content);
        said = store_error(store);
    }
    ck_assert_msg(st == STORE_CORRUPT, "%s: %s", damages[_i].sql,
                  store_status_text(st));
    ck_assert_msg(strstr(said, damages[_i].error) != NULL, "%s", said);
    ck_assert_ptr_nonnull(strstr(said, path));
}
END_TEST

/* ---- G1, G2
 * -------------------------------------------------------------------- */

/* The shell may have been used on it: settings that stay in the file. */
START_TEST(G2_settings_are_made_again_at_each_open)
{
    char name[160];
    struct stat st;

    open_ok();
    append(1, 3, 1);
    tamper("PRAGMA journal_mode=DELETE");
    (void)snprintf(name, sizeof name, "%s-wal", path);
    ck_assert_int_ne(stat(name, &st), 0);
    open_ok();
    append(4, 3, 1);
    ck_assert_int_eq(stat(name, &st), 0);
    ck_assert_int_gt((int)st.st_size, 16 * 4096);
    load_ok();
    ck_assert_uint_eq(content.n_entries, 6);
    store_content_release(&content);
}
END_TEST

/* No -shm file: the WAL's index is ours alone, so nobody can join. */
START_TEST(G1_there_is_no_shared_memory_to_join)
{
    char name[160];
    struct stat st;

    open_ok();
    append(1, 3, 1);
    (void)snprintf(name, sizeof name, "%s-shm", path);
    ck_assert_int_ne(stat(name, &st), 0);
}
END_TEST

/* ---- scrubbing
 * ----------------------------------------------------------------- */

/* Turn over a bit where that text is, behind SQLite's back. */
static void flip(const char *text)
{
    FILE *f = fopen(path, "r+");
    static char bytes[1 << 20];
    size_t size, n = 0;

    ck_assert_ptr_nonnull(f);
    size = fread(bytes, 1, sizeof bytes, f);
    for (size_t at = 0; at + strlen(text) <= size; at++) {
        if (memcmp(bytes + at, text, strlen(text)) == 0) {
            ck_assert_int_eq(fseek(f, (long)at, SEEK_SET), 0);
            ck_assert_int_ne(fputc(text[0] ^ 4, f), EOF);
            n++;
        }
    }
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_uint_gt(n, 0);
}

START_TEST(F2_a_scrub_finds_a_bit_that_rots_while_it_runs)
{
    enum store_status st = STORE_OK;

    open_ok();
    append(1, 30, 1);
    append(31, 30, 1);
    ck_assert_int_eq(store_checkpoint(store, true), STORE_OK);
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(store_scrub(store, 7), STORE_OK);
    }
    flip("data-44");
    for (int i = 0; i < 9 && st == STORE_OK; i++) {
        st = store_scrub(store, 7);
    }
    ck_assert_int_eq(st, STORE_CORRUPT);
    ck_assert_ptr_nonnull(strstr(store_error(store), "entry 44 "));
}
END_TEST

START_TEST(a_scrub_follows_a_log_that_is_cut_and_truncated)
{
    struct raft_server servers[] = {{1, RAFT_VOTER}};
    struct raft_configuration c = {servers, 1, NULL, 0};
    struct store_batch b = {.truncate_from = 25};
    size_t left;

    open_ok();
    ck_assert_int_eq(store_scrub(store, 7), STORE_OK); /* empty */
    append(1, 30, 1);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(store_scrub(store, 7), STORE_OK);
    }
    ck_assert_int_eq(store_write(store, &b, 1), STORE_OK);
    ck_assert_int_eq(store_scrub(store, 7), STORE_OK);
    ck_assert_int_eq(store_compact(store, 20, &c, 100, &left), STORE_OK);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(store_scrub(store, 7), STORE_OK);
    }
    append(25, 30, 2);
    for (int i = 0; i < 9; i++) {
        ck_assert_int_eq(store_scrub(store, 7), STORE_OK);
    }
}
END_TEST

/* ---- salvage
 * ------------------------------------------------------------------- */

static struct store_salvage salvage;

static void salvage_ok(bool is_settled)
{
    close_store();
    ck_assert_msg(store_salvage_read(path, NULL, is_settled, 1, 2, &salvage,
                                     error, sizeof error),
                  "%s", error);
}

/* Is entry i taken for sound? */
static bool sound(raft_index i)
{
    return store_salvage_at(&salvage, i)->is_sound;
}

START_TEST(F2_F3_salvage_tells_what_is_damaged)
{
    open_ok();
    append(1, 20, 3);
    tamper("DELETE FROM entry WHERE \"index\" = 8;"
           "UPDATE entry SET data = x'00' WHERE \"index\" = 12");
    salvage_ok(true);
    ck_assert(salvage.has_state);
    ck_assert_uint_eq(salvage.n_entries, 20);
    ck_assert_uint_eq(salvage.n_prefix, 7);
    ck_assert_uint_eq(salvage.damaged_from, 8);
    ck_assert_uint_eq(salvage.damaged_to, 12);
    ck_assert(!store_salvage_at(&salvage, 8)->is_there);
    ck_assert(!sound(12) && sound(13) && sound(20));
    store_salvage_release(&salvage);
}
END_TEST

/* The right entries are taken, from wherever; one that differs is not. */
START_TEST(F3_salvage_takes_exactly_the_entries_that_were_here)
{
    const struct raft_entry *whole[5];
    struct raft_entry other;

    open_ok();
    append(1, 20, 3);
    load_ok();
    for (size_t i = 0; i < 5; i++) {
        whole[i] = &content.entries[7 + i]; /* 8 to 12 */
    }
    tamper("DELETE FROM entry WHERE \"index\" BETWEEN 8 AND 11");
    salvage_ok(true);
    ck_assert_uint_eq(salvage.damaged_from, 8);
    ck_assert_uint_eq(salvage.damaged_to, 12); /* nothing leads to it */
    ck_assert(store_salvage_check(&salvage, 8, whole, 5));
    other = *whole[2];
    other.term++;
    whole[2] = &other;
    ck_assert(!store_salvage_check(&salvage, 8, whole, 5));
    whole[2] = NULL;
    ck_assert(!store_salvage_check(&salvage, 8, whole, 5));
    store_salvage_release(&salvage);
    store_content_release(&content);
}
END_TEST

/* F4: a page of earlier times holds rows that fit one another, and those
 * before; only the end tells. */
START_TEST(F4_salvage_is_not_taken_in_by_rows_of_earlier_times)
{
    struct store_batch b = {.truncate_from = 11};

    open_ok();
    append(1, 20, 3);
    close_store();
    tamper("CREATE TABLE kept AS SELECT * FROM entry WHERE \"index\" > 10");
    open_ok();
    ck_assert_int_eq(store_write(store, &b, 1), STORE_OK);
    append(11, 20, 4);
    tamper("REPLACE INTO entry SELECT * FROM kept; DROP TABLE kept");
    salvage_ok(true);
    ck_assert_uint_eq(salvage.n_prefix, 20); /* so it seems */
    ck_assert(!sound(20) && !sound(21) && sound(22));
    ck_assert_uint_le(salvage.damaged_from, 21);
    ck_assert_uint_eq(salvage.damaged_to, 21);
    store_salvage_release(&salvage);
}
END_TEST

START_TEST(F2_salvage_believes_no_end_that_may_not_be_the_newest)
{
    open_ok();
    append(1, 20, 3);
    salvage_ok(false);
    ck_assert(!salvage.has_state);
    ck_assert_uint_eq(salvage.hard_state.term, 3); /* at least */
    ck_assert_uint_eq(salvage.n_prefix, 20);
    store_salvage_release(&salvage);
}
END_TEST

START_TEST(a_log_is_filled_as_it_was)
{
    struct raft_server servers[] = {{1, RAFT_VOTER}, {2, RAFT_VOTER}};
    struct raft_configuration c = {servers, 2, NULL, 0};
    uint64_t checksum;
    size_t left;

    open_ok();
    append(1, 20, 3);
    ck_assert_int_eq(store_compact(store, 5, &c, 100, &left), STORE_OK);
    load_ok();
    salvage_ok(true);
    ck_assert_uint_eq(salvage.prev_index, 5);
    remove_file("");
    remove_file("-wal");
    open_ok();
    ck_assert_int_eq(
        store_fill(store, &content, salvage.prev_checksum, &checksum),
        STORE_OK);
    ck_assert_uint_eq(checksum, salvage.last_checksum);
    store_content_release(&content);
    close_store();
    open_ok();
    load_ok();
    ck_assert_uint_eq(content.first_prev_index, 5);
    ck_assert_uint_eq(content.n_entries, 15);
    ck_assert_uint_eq(content.hard_state.term, 3);
    ck_assert_uint_eq(content.configuration.n_servers, 2);
    store_content_release(&content);
    store_salvage_release(&salvage);
    append(21, 3, 4); /* and it goes on */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *t = tcase_create("all");
    SRunner *runner = srunner_create(suite);
    int n_failed;

    suite_add_tcase(suite, t);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_first_start_is_known_as_one);
    tcase_add_test(t, entries_of_every_kind_come_back_as_they_were);
    tcase_add_test(t, batches_of_one_write_are_taken_in_order);
    tcase_add_test(t, compaction_keeps_the_configuration_and_goes_in_steps);
    tcase_add_loop_test(t, D2_a_restore_forgets_the_whole_log, 0, 4);
    tcase_add_test(t,
                   D2_a_second_restore_and_its_entries_go_in_one_transaction);
    tcase_add_test(t, D2_a_log_begun_anew_is_still_checked);
    tcase_add_test(t, a_missing_log_is_made_only_if_asked);
    tcase_add_test(t, a_directory_that_is_not_there_is_told);
    tcase_add_test(t, the_log_of_another_member_is_refused);
    tcase_add_test(t, a_second_process_is_kept_out);
    tcase_add_test(t, other_files_are_refused_and_not_touched);
    tcase_add_test(t, a_newer_version_is_refused);
    tcase_add_test(t, F5_a_start_cut_off_before_its_tables_is_begun_again);
    tcase_add_loop_test(t, F2_F4_a_row_changed_lost_or_misplaced_is_seen, 0,
                        (int)(sizeof damages / sizeof damages[0]));
    tcase_add_test(t, G2_settings_are_made_again_at_each_open);
    tcase_add_test(t, G1_there_is_no_shared_memory_to_join);
    tcase_add_test(t, F2_a_scrub_finds_a_bit_that_rots_while_it_runs);
    tcase_add_test(t, a_scrub_follows_a_log_that_is_cut_and_truncated);
    tcase_add_test(t, F2_F3_salvage_tells_what_is_damaged);
    tcase_add_test(t, F3_salvage_takes_exactly_the_entries_that_were_here);
    tcase_add_test(t, F4_salvage_is_not_taken_in_by_rows_of_earlier_times);
    tcase_add_test(t, F2_salvage_believes_no_end_that_may_not_be_the_newest);
    tcase_add_test(t, a_log_is_filled_as_it_was);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
