/*
 * test_statedb.c - state.db on a disk that loses what was not synced.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#include "server/applier.h"
#include "server/statedb.h"
#include "tests/sim/disk.h"
#include "tests/suite.h"

/* As long as one process lives. */
struct life {
    struct statedb *db;
    struct applier *applier;
};

static void begin(struct life *l, struct disk *d)
{
    char error[300] = "";

    ck_assert_msg(statedb_open("state.db", disk_vfs(d), 1, 1, &l->db, error,
                               sizeof error) == STATEDB_OK,
                  "%s", error);
    l->applier = applier_new(statedb_fetch, l->db);
    ck_assert_int_eq(statedb_load(l->db, l->applier), STATEDB_OK);
}

/* It dies: closing writes nothing. */
static raft_index end(struct life *l, struct disk *d, bool power_cut)
{
    raft_index applied = applier_index(l->applier);

    disk_stop_at(d, 1);
    applier_free(l->applier);
    statedb_close(l->db);
    if (power_cut) {
        disk_restart_and_lose_all(d);
    } else {
        disk_restart(d, false);
    }
    return applied;
}

static enum statedb_status write_one(struct life *l)
{
    struct raft_entry e = {.index = applier_index(l->applier) + 1,
                           .term = 1,
                           .type = RAFT_ENTRY_NOOP};
    struct changeset *c;
    struct applied result;
    struct arena arena;
    enum statedb_status st;

    arena_init(&arena);
    applier_apply(l->applier, &e, &arena, &result);
    arena_release(&arena);
    c = applier_take_changes(l->applier);
    st = statedb_write(l->db, &c, 1);
    changeset_free(c);
    return st;
}

static raft_index stored(struct disk *d)
{
    struct life l;

    begin(&l, d);
    return end(&l, d, false);
}

START_TEST(what_was_written_survives_a_power_cut)
{
    struct disk *d = disk_new((uint64_t)_i, _i % 2 ? 512 : 4096);
    struct life l;

    begin(&l, d);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(write_one(&l), STATEDB_OK);
    }
    (void)end(&l, d, true);
    ck_assert_uint_eq(stored(d), 3);
    disk_free(d);
}
END_TEST

/*
 * F1: a sync fails and the process ends. The next one finds frames that look
 * fine and are on no platter; what it writes behind them must not be lost with
 * them when the power goes.
 */
START_TEST(F1_what_follows_a_failed_sync_survives_a_power_cut)
{
    struct disk *d = disk_new((uint64_t)_i, _i % 2 ? 512 : 4096);
    struct life l;
    raft_index applied;

    begin(&l, d);
    ck_assert_int_eq(write_one(&l), STATEDB_OK);
    disk_fail_operation(d, DISK_SYNC, 1, SQLITE_IOERR_FSYNC);
    ck_assert_int_ne(write_one(&l), STATEDB_OK);
    (void)end(&l, d, false);
    begin(&l, d);
    ck_assert_uint_ge(applier_index(l.applier), 1);
    ck_assert_int_eq(write_one(&l), STATEDB_OK);
    applied = end(&l, d, true);
    ck_assert_uint_eq(stored(d), applied);
    disk_free(d);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("state.db on a simulated disk");
    TCase *t = tcase_create("all");

    suite_add_tcase(suite, t);
    tcase_add_loop_test(t, what_was_written_survives_a_power_cut, 0, 10);
    tcase_add_loop_test(t, F1_what_follows_a_failed_sync_survives_a_power_cut,
                        0, 20);
    return suite_main(suite);
}
