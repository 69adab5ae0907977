/*
 * test_snapshot.c - copies of state.db, what is accepted of those that arrive,
 * and what a crash leaves while one is put in place.
 */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "raft/base.h"
#include "server/snapshotfile.h"
#include "server/statedb.h"
#include "tests/server/machine.h"
#include "tests/server/suite.h"

#define CLUSTER UINT64_C(0xfedcba9876543210)
#define SENDER 1
#define RECEIVER 3

static char source_path[300], copy_path[300], state_path[300];
static char error[600];
static struct machine m; /* the sender's */

/* ---- calls that change the disk, counted -----------------------------------
 */

/* The process ends at the call with that number; 0: at none. */
static unsigned die_at, calls;

static void maybe_die(void)
{
    calls++;
    if (calls == die_at) {
        _exit(42);
    }
}

int fsync(int fd)
{
    maybe_die();
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    maybe_die();
    return (int)syscall(SYS_fdatasync, fd);
}

int rename(const char *old_path, const char *new_path)
{
    maybe_die();
    return (int)syscall(SYS_renameat, AT_FDCWD, old_path, AT_FDCWD, new_path);
}

int unlink(const char *path)
{
    maybe_die();
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

/* ---- a sender's and a receiver's state --------------------------------------
 */

static void setup(void)
{
    const char *directory = suite_directory();

    snprintf(source_path, sizeof(source_path), "%s/source.db", directory);
    snprintf(copy_path, sizeof(copy_path), "%s/copy.db", directory);
    snprintf(state_path, sizeof(state_path), "%s/state.db", directory);
    error[0] = '\0';
    die_at = calls = 0;
    machine_init(&m, NULL, NULL);
}

static void teardown(void)
{
    machine_release(&m);
}

static struct statedb *open_db(const char *path, uint64_t member)
{
    struct statedb *db;

    ck_assert_msg(statedb_open(path, NULL, CLUSTER, member, &db, error,
                               sizeof(error)) == STATEDB_OK,
                  "%s", error);
    return db;
}

static void write_changes(struct statedb *db, struct machine *machine)
{
    struct changeset *c = applier_take_changes(machine->applier);

    ck_assert_int_eq(statedb_write(db, &c, c != NULL), STATEDB_OK);
    changeset_free(c);
}

static void put_some(struct machine *machine, unsigned n)
{
    char value[900];

    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    for (unsigned i = 0; i < n; i++) {
        char key[32];

        snprintf(key, sizeof(key), "k/%u", i);
        machine_put(machine, key, value, 0);
    }
}

/* Steps until it is done; before each, some more is written. */
static unsigned copy_all(struct statedb *db, int pages, unsigned writes)
{
    struct statedb_copy *c =
        statedb_copy_begin(db, copy_path, error, sizeof(error));
    bool done = false;
    unsigned steps = 0;

    ck_assert_msg(c != NULL, "%s", error);
    while (!done) {
        if (writes > 0) {
            writes--;
            put_some(&m, 1);
            write_changes(db, &m);
        }
        ck_assert_msg(statedb_copy_step(c, pages, &done, error, sizeof(error)),
                      "%s", error);
        steps++;
        ck_assert_uint_lt(steps, 100000);
    }
    statedb_copy_end(c);
    return steps;
}

/* The sender's state, on disk, and a copy of it. */
static void make_copy(struct snapshot_header *h)
{
    struct statedb *db = open_db(source_path, SENDER);

    machine_configure(&m, 3);
    machine_grant(&m, 7, 60);
    machine_put(&m, "leased", "x", 7);
    put_some(&m, 300);
    write_changes(db, &m);
    copy_all(db, 64, 0);
    statedb_close(db);
    ck_assert_msg(snapshot_describe(copy_path, h, error, sizeof(error)), "%s",
                  error);
}

static uint64_t digest_of(const char *path, uint64_t member, raft_index *index)
{
    struct statedb *db = open_db(path, member);
    struct applier *a = applier_new(statedb_fetch, db);
    uint64_t digest;

    ck_assert_msg(statedb_load(db, a) == STATEDB_OK, "%s", statedb_error(db));
    digest = applier_digest(a);
    *index = applier_index(a);
    applier_free(a);
    statedb_close(db);
    return digest;
}

static void run_sql(const char *path, const char *text)
{
    sqlite3 *db;

    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    ck_assert_msg(sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK, "%s",
                  sqlite3_errmsg(db));
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

static off_t size_of(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? st.st_size : 0;
}

/* ---- copies -----------------------------------------------------------------
 */

/* What is written between two steps is in the copy, none begins again, and the
 * WAL starts over meanwhile as it does without one. */
START_TEST(G3_D6_a_copy_needs_no_pause_of_the_writer_and_holds_no_wal)
{
    struct statedb *db = open_db(source_path, SENDER);
    struct snapshot_header h = {0};
    char wal[310];
    raft_index index;
    unsigned steps;

    snprintf(wal, sizeof(wal), "%s-wal", source_path);
    machine_configure(&m, 3);
    for (unsigned i = 0; i < 10; i++) {
        put_some(&m, 1000);
        write_changes(db, &m);
    }
    /* A write before each step: it never catches its breath. */
    steps = copy_all(db, 4, 100000);
    ck_assert_uint_gt(steps, 500);
    ck_assert_uint_le(steps, (unsigned)(size_of(copy_path) / 4096 / 4 + 2));
    ck_assert_int_lt(size_of(wal), 24 << 20);
    ck_assert_msg(snapshot_describe(copy_path, &h, error, sizeof(error)), "%s",
                  error);
    ck_assert_uint_eq(h.index, applier_index(m.applier));
    ck_assert_int_eq(size_of(copy_path), (off_t)h.size);
    statedb_close(db);
    ck_assert_uint_eq(digest_of(copy_path, SENDER, &index),
                      applier_digest(m.applier));
    ck_assert_uint_eq(index, h.index);
    snapshot_header_release(&h);
}
END_TEST

START_TEST(a_copy_suffices_to_begin_a_log_with)
{
    struct snapshot_header h = {0}, back;
    Pawl__Peer__V1__SnapshotHeader message;
    struct raft_configuration c;

    make_copy(&h);
    ck_assert_uint_eq(h.term, m.term);
    ck_assert(raft_configuration_decode(&c, h.configuration.data,
                                        h.configuration.size));
    ck_assert_uint_eq(c.n_servers, 3);
    raft_configuration_release(&c);
    snapshot_header_encode(&h, &message);
    ck_assert(snapshot_header_decode(&message, &back));
    ck_assert(snapshot_header_equal(&h, &back));
    snapshot_header_release(&back);
    message.configuration.len--;
    ck_assert(!snapshot_header_decode(&message, &back));
    message.configuration.len++;
    message.hash.len--;
    ck_assert(!snapshot_header_decode(&message, &back));
    snapshot_header_release(&h);
}
END_TEST

START_TEST(D3_a_full_disk_is_seen_before_a_copy_is_begun)
{
    ck_assert(snapshot_has_room(suite_directory(), 1, error, sizeof(error)));
    ck_assert(!snapshot_has_room(suite_directory(), UINT64_MAX / 2, error,
                                 sizeof(error)));
    ck_assert_ptr_nonnull(strstr(error, "free"));
}
END_TEST

/* ---- adopting ---------------------------------------------------------------
 */

static bool adopt(const struct snapshot_header *h, struct applier *into)
{
    return snapshot_adopt(copy_path, h, CLUSTER, RECEIVER, into, error,
                          sizeof(error));
}

START_TEST(an_adopted_copy_is_the_receivers_and_holds_the_senders_state)
{
    struct snapshot_header h = {0};
    struct applier *into = applier_new(NULL, NULL);
    struct statedb_log_start start;
    struct statedb *db;
    raft_index index;

    make_copy(&h);
    ck_assert_msg(adopt(&h, into), "%s", error);
    ck_assert_uint_eq(applier_digest(into), applier_digest(m.applier));
    ck_assert_uint_eq(applier_index(into), h.index);
    ck_assert(lease_exists(applier_leases(into), 7));
    ck_assert_uint_eq(digest_of(copy_path, RECEIVER, &index),
                      applier_digest(m.applier));
    db = open_db(copy_path, RECEIVER);
    ck_assert_int_eq(statedb_get_log_start(db, &start), STATEDB_OK);
    ck_assert_uint_eq(start.installed_index, h.index);
    ck_assert_uint_eq(start.configuration.size, h.configuration.size);
    buffer_release(&start.configuration);
    statedb_close(db);
    applier_free(into);
    snapshot_header_release(&h);
}
END_TEST

static void flip_a_byte(struct snapshot_header *h)
{
    int fd = open(copy_path, O_RDWR);
    uint8_t byte;
    off_t at = (off_t)h->size / 2;

    ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void cut_it_short(struct snapshot_header *h)
{
    ck_assert_int_eq(truncate(copy_path, (off_t)h->size - 4096), 0);
}

static void make_it_longer(struct snapshot_header *h)
{
    ck_assert_int_eq(truncate(copy_path, (off_t)h->size + 1), 0);
}

static void claim_another_index(struct snapshot_header *h)
{
    h->index++;
}

static void claim_another_term(struct snapshot_header *h)
{
    h->term++;
}

static void claim_other_members(struct snapshot_header *h)
{
    h->configuration.data[h->configuration.size - 1] ^= 1;
}

/* Sender and file agree about these, so only a look inside finds them. */
static void describe_anew(struct snapshot_header *h)
{
    struct snapshot_header anew = {0};

    if (snapshot_describe(copy_path, &anew, error, sizeof(error))) {
        snapshot_header_release(h);
        *h = anew;
    }
}

static void be_of_another_cluster(struct snapshot_header *h)
{
    run_sql(copy_path, "UPDATE state SET cluster_id = '0000000000000001'");
    describe_anew(h);
}

static void be_of_a_newer_version(struct snapshot_header *h)
{
    run_sql(copy_path, "PRAGMA user_version = 99");
    describe_anew(h);
}

static void lose_a_lease(struct snapshot_header *h)
{
    run_sql(copy_path, "DELETE FROM leases");
    describe_anew(h);
}

static void damage_a_page(struct snapshot_header *h)
{
    static const uint8_t zeros[2048];
    int fd = open(copy_path, O_RDWR);

    ck_assert_int_eq(pwrite(fd, zeros, sizeof(zeros), 4096 * 9), sizeof(zeros));
    close(fd);
    describe_anew(h);
}

static void (*const damages[])(struct snapshot_header *h) = {
    flip_a_byte,         cut_it_short,          make_it_longer,
    claim_another_index, claim_another_term,    claim_other_members,
    lose_a_lease,        be_of_another_cluster, be_of_a_newer_version,
    damage_a_page,
};

START_TEST(D5_what_is_not_what_the_header_says_is_refused)
{
    struct snapshot_header h = {0};
    struct applier *into = applier_new(NULL, NULL);

    make_copy(&h);
    damages[_i](&h);
    ck_assert_msg(!adopt(&h, into), "damage %d was not seen", _i);
    ck_assert_str_ne(error, "");
    applier_free(into);
    snapshot_header_release(&h);
}
END_TEST

/* ---- receiving --------------------------------------------------------------
 */

static int receive(const struct snapshot_header *h, uint64_t *offset)
{
    int fd =
        snapshot_receive_open(state_path, h, 100, offset, error, sizeof(error));

    ck_assert_msg(fd >= 0, "%s", error);
    return fd;
}

START_TEST(D8_a_broken_transfer_goes_on_with_the_same_copy_only)
{
    struct snapshot_header h = {0};
    uint8_t bytes[1000] = {1};
    uint64_t offset;
    char header_path[320];
    int fd;

    make_copy(&h);
    snprintf(header_path, sizeof(header_path), "%s.header", state_path);
    fd = receive(&h, &offset);
    ck_assert_uint_eq(offset, 0);
    ck_assert(snapshot_receive_write(fd, 0, bytes, sizeof(bytes), error,
                                     sizeof(error)));
    close(fd);
    fd = receive(&h, &offset);
    close(fd);
    ck_assert_uint_eq(offset, 900); /* the rest may not be on disk */
    h.hash[3] ^= 1;                 /* another copy */
    fd = receive(&h, &offset);
    ck_assert_uint_eq(offset, 0);
    ck_assert_int_eq(size_of(state_path), 0);
    ck_assert(snapshot_receive_write(fd, 0, bytes, sizeof(bytes), error,
                                     sizeof(error)));
    close(fd);
    /* D3: a header that is damaged is none. */
    ck_assert_int_eq(truncate(header_path, size_of(header_path) - 1), 0);
    fd = receive(&h, &offset);
    close(fd);
    ck_assert_uint_eq(offset, 0);
    snapshot_receive_drop(state_path);
    ck_assert_int_eq(access(state_path, F_OK), -1);
    ck_assert_int_eq(access(header_path, F_OK), -1);
    snapshot_header_release(&h);
}
END_TEST

/* ---- installing -------------------------------------------------------------
 */

/* The receiver's old state: some of it in the file, some in the WAL. */
static struct statedb *old_state(struct machine *old)
{
    struct statedb *db = open_db(state_path, RECEIVER);

    machine_init(old, NULL, NULL);
    machine_configure(old, 3);
    put_some(old, 50);
    write_changes(db, old);
    machine_put(old, "only", "old", 0);
    write_changes(db, old);
    return db;
}

/* In a process of its own that dies at the given call; false: it lived. */
static bool install_and_die(unsigned at)
{
    pid_t pid = fork();
    int status;

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct machine old;
        struct statedb *db = old_state(&old);

        calls = 0;
        die_at = at;
        if (statedb_install(db, copy_path) != STATEDB_OK) {
            _exit(1);
        }
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_ne(WEXITSTATUS(status), 1);
    return WEXITSTATUS(status) == 42;
}

static void remove_state(void)
{
    static const char *const tails[] = {"", "-wal", "-shm"};

    for (size_t i = 0; i < ARRAY_LENGTH(tails); i++) {
        char name[320];

        snprintf(name, sizeof(name), "%s%s", state_path, tails[i]);
        (void)unlink(name);
    }
}

START_TEST(D2_D4_D7_a_crash_while_installing_leaves_the_old_or_the_new)
{
    unsigned n_old = 0, n_new = 0;
    struct snapshot_header h = {0};
    struct machine old;
    char keep[320], command[700];
    bool died = true;

    statedb_close(old_state(&old));
    remove_state();
    make_copy(&h);
    {
        struct applier *into = applier_new(NULL, NULL);

        ck_assert_msg(adopt(&h, into), "%s", error);
        applier_free(into);
    }
    snprintf(keep, sizeof(keep), "%s.keep", copy_path);
    snprintf(command, sizeof(command), "cp %s %s", copy_path, keep);
    ck_assert_int_eq(system(command), 0);
    for (unsigned at = 1; died; at++) {
        raft_index index;
        uint64_t digest;

        died = install_and_die(at);
        digest = digest_of(state_path, RECEIVER, &index);
        if (index == h.index) {
            ck_assert_uint_eq(digest, applier_digest(m.applier));
            n_new++;
        } else {
            ck_assert_uint_eq(index, applier_index(old.applier));
            ck_assert_uint_eq(digest, applier_digest(old.applier));
            ck_assert_uint_eq(n_new, 0); /* once new, it stays new */
            n_old++;
        }
        remove_state();
        snprintf(command, sizeof(command), "cp %s %s", keep, copy_path);
        ck_assert_int_eq(system(command), 0);
    }
    ck_assert_uint_gt(n_old, 3);
    ck_assert_uint_gt(n_new, 2);
    machine_release(&old);
    snapshot_header_release(&h);
}
END_TEST

/* The main thread may look up old revisions all the while. */
START_TEST(D6_the_old_state_can_be_read_until_the_new_one_is_in_use)
{
    struct snapshot_header h = {0};
    struct applier *into = applier_new(NULL, NULL);
    struct machine old;
    struct statedb *db = old_state(&old);
    int64_t newest = machine_revision(&old);
    Mvccpb__KeyValue kv;
    struct arena arena;

    arena_init(&arena);
    make_copy(&h);
    ck_assert_msg(adopt(&h, into), "%s", error);
    ck_assert(statedb_fetch(db, newest, 0, &arena, &kv));
    ck_assert_int_eq(statedb_install(db, copy_path), STATEDB_OK);
    mvccpb__key_value__init(&kv);
    ck_assert_msg(statedb_fetch(db, newest, 0, &arena, &kv), "%s",
                  statedb_fetch_error(db));
    ck_assert_uint_eq(kv.value.len, 3); /* "old" */
    statedb_installed(db);
    mvccpb__key_value__init(&kv);
    ck_assert_msg(statedb_fetch(db, newest, 0, &arena, &kv), "%s",
                  statedb_fetch_error(db));
    ck_assert_uint_gt(kv.value.len, 3);
    /* And the new one is written on. */
    machine_put(&m, "next", "x", 0);
    write_changes(db, &m);
    statedb_close(db);
    {
        raft_index index;

        ck_assert_uint_eq(digest_of(state_path, RECEIVER, &index),
                          applier_digest(m.applier));
    }
    arena_release(&arena);
    applier_free(into);
    machine_release(&old);
    snapshot_header_release(&h);
}
END_TEST

/* Somebody's shell holds the WAL: then the old state stays, in use. */
START_TEST(D4_an_install_that_cannot_be_leaves_the_old_state_open)
{
    struct snapshot_header h = {0};
    struct machine old;
    struct statedb *db = old_state(&old);
    sqlite3 *shell;

    make_copy(&h);
    ck_assert_int_eq(sqlite3_open(state_path, &shell), SQLITE_OK);
    ck_assert_int_eq(
        sqlite3_exec(shell, "BEGIN; SELECT * FROM state", NULL, NULL, NULL),
        SQLITE_OK);
    machine_put(&old, "more", "x", 0);
    write_changes(db, &old);
    ck_assert_int_eq(statedb_install(db, copy_path), STATEDB_LOCKED);
    ck_assert(!statedb_is_gone(db));
    machine_put(&old, "more", "y", 0);
    write_changes(db, &old);
    ck_assert_int_eq(sqlite3_close(shell), SQLITE_OK);
    statedb_close(db);
    {
        raft_index index;

        ck_assert_uint_eq(digest_of(state_path, RECEIVER, &index),
                          applier_digest(old.applier));
    }
    machine_release(&old);
    snapshot_header_release(&h);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("snapshot");
    TCase *tc = tcase_create("snapshot");
    SRunner *runner = srunner_create(s);
    int failed;

    tcase_add_checked_fixture(tc, NULL, suite_cleanup);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc,
                   G3_D6_a_copy_needs_no_pause_of_the_writer_and_holds_no_wal);
    tcase_add_test(tc, a_copy_suffices_to_begin_a_log_with);
    tcase_add_test(tc, D3_a_full_disk_is_seen_before_a_copy_is_begun);
    tcase_add_test(
        tc, an_adopted_copy_is_the_receivers_and_holds_the_senders_state);
    tcase_add_loop_test(tc, D5_what_is_not_what_the_header_says_is_refused, 0,
                        (int)ARRAY_LENGTH(damages));
    tcase_add_test(tc, D8_a_broken_transfer_goes_on_with_the_same_copy_only);
    tcase_add_test(tc,
                   D2_D4_D7_a_crash_while_installing_leaves_the_old_or_the_new);
    tcase_add_test(tc,
                   D6_the_old_state_can_be_read_until_the_new_one_is_in_use);
    tcase_add_test(tc, D4_an_install_that_cannot_be_leaves_the_old_state_open);
    suite_add_tcase(s, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
