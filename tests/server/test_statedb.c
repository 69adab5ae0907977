/*
 * state.db: what is written is what is loaded; whatever fails, the file holds
 * a prefix of the changes together with the applied index of just that prefix.
 */
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "raft/base.h"
#include "server/statedb.h"
#include "tests/server/faulty_vfs.h"
#include "tests/server/machine.h"
#include "tests/server/suite.h"

#define CLUSTER UINT64_C(0xfedcba9876543210)
#define MEMBER 3

static struct machine m;
static char path[300];
static char error[300];

static void setup(void)
{
    snprintf(path, sizeof(path), "%s/state.db", suite_directory());
    faulty_vfs_install();
    error[0] = '\0';
    machine_init(&m, NULL, NULL);
}

static void teardown(void)
{
    machine_release(&m);
}

static enum statedb_status open_with(const char *vfs, struct statedb **db)
{
    return statedb_open(path, vfs, CLUSTER, MEMBER, db, error, sizeof(error));
}

static struct statedb *open_db(void)
{
    struct statedb *db;
    enum statedb_status st = open_with(NULL, &db);

    ck_assert_msg(st == STATEDB_OK, "%s", error);
    return db;
}

static enum statedb_status write_all(struct statedb *db)
{
    struct changeset *c = applier_take_changes(m.applier);
    enum statedb_status st = statedb_write(db, &c, c != NULL);

    changeset_free(c);
    return st;
}

static void remove_files(void)
{
    static const char *const tails[] = {"", "-wal", "-shm", "-journal"};

    for (size_t i = 0; i < ARRAY_LENGTH(tails); i++) {
        char name[320];

        snprintf(name, sizeof(name), "%s%s", path, tails[i]);
        remove(name);
    }
}

/* Straight into the file, as anyone may. */
static void sql(const char *text)
{
    sqlite3 *db;

    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    ck_assert_msg(sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK, "%s",
                  sqlite3_errmsg(db));
    sqlite3_close(db);
}

/* A little of everything. */
static void random_command(struct machine *machine, struct rng *g)
{
    int64_t lease = 1 + (int64_t)rng_below(g, 5);
    char key[16], value[32];

    snprintf(key, sizeof(key), "k/%d", (int)rng_below(g, 20));
    snprintf(value, sizeof(value), "v%llu", (unsigned long long)rng_next(g));
    switch (rng_below(g, 8)) {
    case 0:
        machine_grant(machine, lease, 10 + lease);
        break;
    case 1:
        machine_revoke(machine, lease, 0);
        break;
    case 2:
        machine_delete(machine, key, rng_below(g, 2) ? "k/5" : NULL);
        break;
    case 3:
        machine_acquire(machine, "lock", lease, 10, false);
        break;
    case 4:
        machine_put(machine, key, NULL, 0);
        break;
    default:
        machine_put(machine, key, value, rng_below(g, 2) ? lease : 0);
        break;
    }
}

/* ---- comparing
 * ------------------------------------------------------------------ */

static void same_pairs(struct machine *a, struct machine *b, int64_t revision)
{
    Etcdserverpb__RangeRequest rq = ETCDSERVERPB__RANGE_REQUEST__INIT;
    Etcdserverpb__RangeResponse x = ETCDSERVERPB__RANGE_RESPONSE__INIT;
    Etcdserverpb__RangeResponse y = ETCDSERVERPB__RANGE_RESPONSE__INIT;
    uint8_t zero[1] = {0};

    rq.key = rq.range_end = (ProtobufCBinaryData){1, zero};
    rq.revision = revision;
    ck_assert_int_eq(kv_range(machine_kv(a), &rq, &a->arena, &x), ST_OK);
    ck_assert_int_eq(kv_range(machine_kv(b), &rq, &a->arena, &y), ST_OK);
    ck_assert_int_eq(x.count, y.count);
    for (size_t i = 0; i < x.n_kvs; i++) {
        const Mvccpb__KeyValue *p = x.kvs[i], *q = y.kvs[i];

        ck_assert_uint_eq(p->key.len, q->key.len);
        ck_assert_mem_eq(p->key.data, q->key.data, p->key.len);
        ck_assert_uint_eq(p->value.len, q->value.len);
        ck_assert(p->value.len == 0 ||
                  memcmp(p->value.data, q->value.data, p->value.len) == 0);
        ck_assert_int_eq(p->create_revision, q->create_revision);
        ck_assert_int_eq(p->mod_revision, q->mod_revision);
        ck_assert_int_eq(p->version, q->version);
        ck_assert_int_eq(p->lease, q->lease);
    }
}

static void same_leases(struct leases *a, struct leases *b)
{
    size_t n, n_b;
    int64_t *ids = leases_ids(a, &n), *ids_b = leases_ids(b, &n_b);

    ck_assert_uint_eq(n, n_b);
    for (size_t i = 0; i < n; i++) {
        size_t n_keys, n_keys_b;
        struct slice *keys = lease_keys(a, ids[i], &n_keys);
        struct slice *keys_b = lease_keys(b, ids[i], &n_keys_b);

        ck_assert_int_eq(ids[i], ids_b[i]);
        ck_assert_int_eq(lease_ttl_s(a, ids[i]), lease_ttl_s(b, ids[i]));
        ck_assert_uint_eq(n_keys, n_keys_b);
        for (size_t k = 0; k < n_keys; k++) {
            ck_assert(slice_equal(keys[k], keys_b[k]));
        }
        free(keys);
        free(keys_b);
    }
    free(ids);
    free(ids_b);
}

static void same_members(struct applier *a, struct applier *b)
{
    size_t n, n_b;
    const struct member *x = applier_members(a, &n);
    const struct member *y = applier_members(b, &n_b);

    ck_assert_uint_eq(n, n_b);
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_eq(x[i].id, y[i].id);
        ck_assert_str_eq(x[i].name, y[i].name);
        ck_assert_int_eq(x[i].is_learner, y[i].is_learner);
        ck_assert_uint_eq(x[i].n_peer_urls, y[i].n_peer_urls);
        ck_assert_uint_eq(x[i].n_client_urls, y[i].n_client_urls);
        for (size_t u = 0; u < x[i].n_peer_urls; u++) {
            ck_assert_str_eq(x[i].peer_urls[u], y[i].peer_urls[u]);
        }
        for (size_t u = 0; u < x[i].n_client_urls; u++) {
            ck_assert_str_eq(x[i].client_urls[u], y[i].client_urls[u]);
        }
    }
}

static void same(struct machine *a, struct machine *b)
{
    ck_assert_uint_eq(applier_index(a->applier), applier_index(b->applier));
    ck_assert_uint_eq(applier_digest(a->applier), applier_digest(b->applier));
    ck_assert_int_eq(machine_revision(a), machine_revision(b));
    ck_assert_uint_eq(kv_count(machine_kv(a)), kv_count(machine_kv(b)));
    same_leases(machine_leases(a), machine_leases(b));
    same_members(a->applier, b->applier);
}

/* ---- write and load
 * -------------------------------------------------------------- */

START_TEST(what_was_written_is_loaded)
{
    struct statedb *db = open_db();
    struct machine loaded;
    struct rng g;

    rng_init(&g, 5);
    machine_configure(&m, 3);
    machine_publish(&m, 2, "two", "http://10.0.0.2:2379");
    for (int i = 0; i < 500; i++) {
        random_command(&m, &g);
        if (i % 20 == 0) {
            ck_assert_int_eq(write_all(db), STATEDB_OK);
        }
    }
    ck_assert_int_eq(write_all(db), STATEDB_OK);
    statedb_close(db);

    db = open_db();
    machine_init(&loaded, statedb_fetch, db);
    ck_assert_int_eq(statedb_load(db, loaded.applier), STATEDB_OK);
    same(&m, &loaded);
    for (int64_t r = 1; r <= machine_revision(&m); r += 7) {
        same_pairs(&m, &loaded, r);
    }
    ck_assert_ptr_null(statedb_fetch_error(db));
    /* And goes on as if it had never stopped. */
    for (int i = 0; i < 50; i++) {
        struct rng fork = g;

        random_command(&m, &g);
        random_command(&loaded, &fork);
        same(&m, &loaded);
    }
    machine_release(&loaded);
    statedb_close(db);
}
END_TEST

START_TEST(old_values_are_fetched_once_they_are_persisted)
{
    struct statedb *db = open_db();
    struct machine live;
    struct rng g;

    machine_init(&live, statedb_fetch, db);
    rng_init(&g, 6);
    for (int i = 0; i < 200; i++) {
        struct rng fork = g;
        struct changeset *c;

        random_command(&m, &g);
        random_command(&live, &fork);
        if (i % 10 == 9) {
            c = applier_take_changes(live.applier);
            ck_assert_int_eq(statedb_write(db, &c, 1), STATEDB_OK);
            applier_persisted(live.applier, changeset_index(c));
            changeset_free(c);
        }
        same_pairs(&m, &live,
                   1 + (int64_t)rng_below(&g, (uint64_t)machine_revision(&m)));
    }
    ck_assert_ptr_null(statedb_fetch_error(db));
    machine_release(&live);
    statedb_close(db);
}
END_TEST

START_TEST(several_changesets_go_in_one_write)
{
    struct statedb *db = open_db();
    struct changeset *c[3];
    struct machine loaded;

    for (size_t i = 0; i < 3; i++) {
        machine_put(&m, "a", i == 0 ? "x" : "y", 0);
        c[i] = applier_take_changes(m.applier);
        ck_assert_uint_eq(changeset_index(c[i]), i + 1);
    }
    ck_assert_int_eq(statedb_write(db, c, 3), STATEDB_OK);
    ck_assert_int_eq(statedb_write(db, c, 0), STATEDB_OK);
    for (size_t i = 0; i < 3; i++) {
        changeset_free(c[i]);
    }
    machine_init(&loaded, NULL, NULL);
    ck_assert_int_eq(statedb_load(db, loaded.applier), STATEDB_OK);
    same(&m, &loaded);
    machine_release(&loaded);
    statedb_close(db);
}
END_TEST

START_TEST(fetching_what_is_not_there_says_so)
{
    struct statedb *db = open_db();
    Mvccpb__KeyValue pair = MVCCPB__KEY_VALUE__INIT;

    machine_put(&m, "a", "", 0);
    machine_delete(&m, "a", NULL);
    ck_assert_int_eq(write_all(db), STATEDB_OK);
    ck_assert(statedb_fetch(db, 2, 0, &m.arena, &pair));
    ck_assert_int_eq(pair.mod_revision, 2);
    ck_assert_uint_eq(pair.value.len, 0);
    ck_assert_ptr_null(statedb_fetch_error(db));
    ck_assert(!statedb_fetch(db, 3, 0, &m.arena, &pair)); /* a delete */
    ck_assert(!statedb_fetch(db, 2, 1, &m.arena, &pair));
    ck_assert_ptr_nonnull(strstr(statedb_fetch_error(db), "2.1"));
    statedb_close(db);
}
END_TEST

START_TEST(G3_the_wal_is_checkpointed_and_stays_bounded)
{
    struct statedb *db = open_db();
    char wal[320], *value = mem_alloc(100001, 1);
    struct stat st;
    off_t largest = 0;

    snprintf(wal, sizeof(wal), "%s-wal", path);
    memset(value, 'x', 100000);
    for (int i = 0; i < 250; i++) {
        machine_put(&m, "a", value, 0);
        if (i % 10 == 9) {
            ck_assert_int_eq(write_all(db), STATEDB_OK);
            ck_assert_int_eq(stat(wal, &st), 0);
            largest = st.st_size > largest ? st.st_size : largest;
        }
    }
    ck_assert_int_lt(largest, 12 * 1000 * 1000); /* of 25 MB */
    ck_assert_uint_gt(statedb_bytes(db), 20 * 1000 * 1000);
    free(value);
    statedb_close(db);
}
END_TEST

START_TEST(G2_the_settings_are_what_durability_needs)
{
    struct statedb *db = open_db();
    sqlite3 *other;
    sqlite3_stmt *stmt;

    ck_assert_int_eq(sqlite3_open(path, &other), SQLITE_OK);
    sqlite3_prepare_v2(other, "PRAGMA journal_mode", -1, &stmt, NULL);
    ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
    ck_assert_str_eq((const char *)sqlite3_column_text(stmt, 0), "wal");
    sqlite3_finalize(stmt);
    sqlite3_close(other);
    /* One sync of the WAL for a write at the least. */
    statedb_close(db);
    fault = (struct fault){.kinds = FAULT_SYNC, .after = -1};
    ck_assert_int_eq(open_with(FAULTY_VFS, &db), STATEDB_OK);
    for (int i = 0; i < 5; i++) {
        long before = fault.calls;

        machine_put(&m, "a", "x", 0);
        ck_assert_int_eq(write_all(db), STATEDB_OK);
        ck_assert_int_gt(fault.calls, before);
    }
    statedb_close(db);
}
END_TEST

/* What a shell would see. */
static int64_t ask(const char *text)
{
    sqlite3 *db;
    sqlite3_stmt *stmt;
    int64_t answer;

    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_prepare_v2(db, text, -1, &stmt, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
    answer = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return answer;
}

START_TEST(anyone_may_read_it_meanwhile)
{
    struct statedb *db = open_db();

    machine_grant(&m, 5, 10);
    machine_put(&m, "a", NULL, 5);
    machine_put(&m, "a", "x", 0);
    machine_delete(&m, "a", NULL);
    ck_assert_int_eq(write_all(db), STATEDB_OK);
    ck_assert_int_eq(ask("PRAGMA application_id"), 0x7061776c);
    ck_assert_int_eq(ask("PRAGMA user_version"), 1);
    ck_assert_int_eq(ask("SELECT applied_index FROM state"), 4);
    ck_assert_int_eq(ask("SELECT revision FROM state"), 4);
    ck_assert_int_eq(ask("SELECT count(*) FROM revisions"), 3);
    ck_assert_int_eq(ask("SELECT lease FROM revisions WHERE mod_revision = 2"),
                     5);
    /* The empty value is not no value. */
    ck_assert_int_eq(ask("SELECT value = x'' FROM revisions "
                         "WHERE mod_revision = 2"),
                     1);
    ck_assert_int_eq(ask("SELECT value IS NULL AND deleted FROM revisions "
                         "WHERE mod_revision = 4"),
                     1);
    statedb_close(db);
}
END_TEST

struct writing {
    struct statedb *db;
    struct changeset *changes[50];
    _Atomic int done;
};

static void *write_in_a_thread(void *context)
{
    struct writing *w = context;

    for (size_t i = 0; i < ARRAY_LENGTH(w->changes); i++) {
        if (statedb_write(w->db, &w->changes[i], 1) != STATEDB_OK) {
            return NULL;
        }
        atomic_fetch_add(&w->done, 1);
    }
    return w;
}

START_TEST(the_main_thread_fetches_while_the_state_thread_writes)
{
    struct writing w = {.db = open_db()};
    char *value = mem_alloc(50001, 1);
    Mvccpb__KeyValue pair = MVCCPB__KEY_VALUE__INIT;
    pthread_t thread;
    void *result;
    int done;

    memset(value, 'x', 50000);
    for (size_t i = 0; i < ARRAY_LENGTH(w.changes); i++) {
        for (int k = 0; k < 10; k++) {
            machine_put(&m, "a", value, 0);
        }
        w.changes[i] = applier_take_changes(m.applier);
    }
    ck_assert_int_eq(pthread_create(&thread, NULL, write_in_a_thread, &w), 0);
    do {
        done = atomic_load(&w.done);
        if (done > 0) { /* the newest row that is said to be there */
            ck_assert(statedb_fetch(w.db, 1 + done * 10, 0, &m.arena, &pair));
            ck_assert_uint_eq(pair.value.len, 50000);
        }
        ck_assert_uint_gt(statedb_bytes(w.db), 0);
    } while (done < (int)ARRAY_LENGTH(w.changes));
    ck_assert_int_eq(pthread_join(thread, &result), 0);
    ck_assert_ptr_nonnull(result);
    for (size_t i = 0; i < ARRAY_LENGTH(w.changes); i++) {
        changeset_free(w.changes[i]);
    }
    free(value);
    statedb_close(w.db);
}
END_TEST

/* ---- whose file it is
 * ---------------------------------------------------------- */

START_TEST(another_members_file_is_refused)
{
    struct statedb *db = open_db();

    statedb_close(db);
    ck_assert_int_eq(statedb_open(path, NULL, CLUSTER, MEMBER + 1, &db, error,
                                  sizeof(error)),
                     STATEDB_MISMATCH);
    ck_assert_ptr_null(db);
    ck_assert_ptr_nonnull(strstr(error, "member 3"));
    ck_assert_int_eq(
        statedb_open(path, NULL, CLUSTER + 1, MEMBER, &db, error, 300),
        STATEDB_MISMATCH);
    ck_assert_ptr_nonnull(strstr(error, "fedcba9876543211"));
    ck_assert_ptr_null(strchr(error, '\n'));
    db = open_db();
    statedb_close(db);
}
END_TEST

START_TEST(a_newer_schema_is_refused)
{
    struct statedb *db = open_db();

    statedb_close(db);
    sql("PRAGMA user_version = 2");
    ck_assert_int_eq(open_with(NULL, &db), STATEDB_VERSION);
    ck_assert_ptr_nonnull(strstr(error, "schema version 2"));
    sql("PRAGMA user_version = 1");
    db = open_db();
    statedb_close(db);
}
END_TEST

START_TEST(a_file_of_something_else_is_left_alone)
{
    struct statedb *db;
    FILE *f;

    sql("CREATE TABLE theirs (x)");
    ck_assert_int_eq(open_with(NULL, &db), STATEDB_VERSION);
    ck_assert_ptr_nonnull(strstr(error, path));
    sql("INSERT INTO theirs VALUES (1); PRAGMA user_version = 1");
    ck_assert_int_eq(open_with(NULL, &db), STATEDB_VERSION);
    ck_assert_ptr_nonnull(strstr(error, "not a state.db"));
    remove_files();
    f = fopen(path, "w");
    for (int i = 0; i < 1000; i++) {
        fprintf(f, "not a database\n");
    }
    fclose(f);
    ck_assert_int_eq(open_with(NULL, &db), STATEDB_CORRUPT);
    ck_assert_ptr_null(db);
    snprintf(path, sizeof(path), "%s/no/such/state.db", suite_directory());
    ck_assert_int_eq(open_with(NULL, &db), STATEDB_IO);
    ck_assert_ptr_nonnull(strstr(error, "no/such"));
}
END_TEST

START_TEST(F4_F11_a_row_changed_lost_or_added_is_seen)
{
    static const char *const damage[] = {
        "DELETE FROM leases",
        "DELETE FROM revisions WHERE mod_revision = 2",
        "UPDATE state SET revision = 2",
        "DELETE FROM state",
        "UPDATE revisions SET key = x'' WHERE mod_revision = 2",
        "UPDATE leases SET ttl = 999999999999",
        "UPDATE leases SET ttl = ttl + 1",
        "UPDATE revisions SET value = x'00' WHERE mod_revision = 4",
        "UPDATE revisions SET version = version + 1 WHERE mod_revision = 4",
        "UPDATE revisions SET checksum = checksum + 1 WHERE mod_revision = 2",
        "UPDATE revisions SET checksum = 0 WHERE mod_revision = 2",
        "DELETE FROM revisions WHERE mod_revision = 4",
        "INSERT INTO revisions SELECT 5, sub, deleted, create_revision,"
        " version, lease, key, value, 0 FROM revisions"
        " WHERE mod_revision = 4; UPDATE state SET revision = 5",
        "UPDATE state SET applied_index = applied_index + 1",
        "UPDATE state SET digest = '0000000000000001'",
        "UPDATE checks SET rows = rows + 1",
        "DELETE FROM checks",
    };

    for (size_t i = 0; i < ARRAY_LENGTH(damage); i++) {
        struct statedb *db = open_db();
        struct machine loaded;

        machine_release(&m);
        machine_init(&m, NULL, NULL);
        machine_grant(&m, 1, 10);
        machine_put(&m, "a", "", 0);
        machine_delete(&m, "a", NULL);
        machine_put(&m, "b", "", 1);
        ck_assert_int_eq(write_all(db), STATEDB_OK);
        statedb_close(db);
        sql(damage[i]);
        machine_init(&loaded, NULL, NULL);
        if (open_with(NULL, &db) == STATEDB_OK) {
            ck_assert_int_eq(statedb_load(db, loaded.applier), STATEDB_CORRUPT);
            ck_assert_ptr_nonnull(strstr(statedb_error(db), path));
            statedb_close(db);
        } else {
            ck_assert_ptr_nonnull(strstr(error, path));
        }
        machine_release(&loaded);
        remove_files();
    }
}
END_TEST

/* ---- crashes and faults
 * ----------------------------------------------------------- */

#define BATCHES 6

/* Digests of the machine after each batch. */
static struct {
    raft_index index;
    uint64_t digest;
} past[BATCHES + 1];

/*
 * BATCHES writes through the faulty VFS. Returns how many were said to be
 * done; -1: not even opened.
 */
static int write_batches(void)
{
    struct statedb *db;
    struct rng g;
    int done = 0;

    rng_init(&g, 7);
    machine_release(&m);
    machine_init(&m, NULL, NULL);
    if (open_with(FAULTY_VFS, &db) != STATEDB_OK) {
        ck_assert_uint_gt(strlen(error), strlen(path));
        return -1;
    }
    for (int batch = 1; batch <= BATCHES; batch++) {
        enum statedb_status st = STATEDB_OK;

        for (int i = 0; i < 10; i++) {
            random_command(&m, &g);
        }
        past[batch].index = applier_index(m.applier);
        past[batch].digest = applier_digest(m.applier);
        if (done == batch - 1) {
            st = write_all(db);
            ck_assert(st == STATEDB_OK || strlen(statedb_error(db)) > 0);
            done += st == STATEDB_OK;
        }
    }
    statedb_close(db);
    return done;
}

/*
 * What a start finds after that: whole batches only, none of which was said
 * to be done is missing, and the index is that of the data.
 */
static void check_recovery(int done)
{
    struct statedb *db = open_db();
    struct machine loaded;
    int found = 0;

    machine_init(&loaded, statedb_fetch, db);
    ck_assert_msg(statedb_load(db, loaded.applier) == STATEDB_OK, "%s",
                  statedb_error(db));
    while (found <= BATCHES &&
           past[found].index != applier_index(loaded.applier)) {
        found++;
    }
    ck_assert_int_le(found, BATCHES);
    ck_assert_int_ge(found, done < 0 ? 0 : done);
    ck_assert_uint_eq(applier_digest(loaded.applier), past[found].digest);
    /* The log refills it: the same batches again from there. */
    if (found == BATCHES) {
        same(&m, &loaded);
        same_pairs(&m, &loaded, machine_revision(&m) / 2);
    }
    machine_release(&loaded);
    statedb_close(db);
}

static void try_fault(struct fault f)
{
    for (f.after = 0;; f.after++) {
        int done;

        remove_files();
        fault = f;
        done = write_batches();
        if (fault.failed == 0) {
            ck_assert_int_eq(done, BATCHES);
            check_recovery(done);
            break;
        }
        fault = (struct fault){.after = -1};
        check_recovery(done);
    }
    ck_assert_int_gt(f.after, 0); /* there was something to fail */
}

START_TEST(G5_killed_at_any_write_leaves_data_and_index_together)
{
    /* From the n-th write on, none gets to the disk: the process is gone. */
    try_fault((struct fault){.kinds = FAULT_WRITE | FAULT_SYNC,
                             .always = true,
                             .code = SQLITE_IOERR_WRITE});
}
END_TEST

START_TEST(G7_every_failing_call_is_seen_or_harmless)
{
    static const struct fault faults[] = {
        {.kinds = FAULT_WRITE, .code = SQLITE_FULL},
        {.kinds = FAULT_WRITE, .code = SQLITE_IOERR_WRITE},
        {.kinds = FAULT_SYNC, .code = SQLITE_IOERR_FSYNC},
        {.kinds = FAULT_READ, .code = SQLITE_IOERR_READ},
        {.kinds = FAULT_READ, .code = SQLITE_CORRUPT},
        {.kinds = FAULT_LOCK, .code = SQLITE_IOERR_LOCK},
        {.kinds = FAULT_MAP, .code = SQLITE_IOERR_SHMMAP},
        {.kinds = FAULT_MAP, .code = SQLITE_NOMEM},
        {.kinds = FAULT_OPEN, .code = SQLITE_CANTOPEN},
    };

    for (size_t i = 0; i < ARRAY_LENGTH(faults); i++) {
        try_fault(faults[i]);
    }
}
END_TEST

START_TEST(G7_a_failed_checkpoint_is_a_failed_write)
{
    static const enum fault_kind kinds[] = {FAULT_WRITE, FAULT_SYNC};
    char *value = mem_alloc(12000001, 1);

    memset(value, 'x', 12000000);
    for (size_t i = 0; i < ARRAY_LENGTH(kinds); i++) {
        long calls = -1;

        /* First to count the calls, then to fail the last one. */
        for (int round = 0; round < 2; round++) {
            struct statedb *db;

            remove_files();
            fault = (struct fault){.after = -1};
            ck_assert_int_eq(open_with(FAULTY_VFS, &db), STATEDB_OK);
            machine_put(&m, "a", value, 0);
            fault = (struct fault){.kinds = kinds[i],
                                   .after = calls < 0 ? -1 : calls - 1,
                                   .code = SQLITE_IOERR};
            ck_assert_int_eq(write_all(db),
                             round == 0 ? STATEDB_OK : STATEDB_IO);
            calls = fault.calls;
            fault = (struct fault){.after = -1};
            if (round == 1) {
                ck_assert_ptr_nonnull(
                    strstr(statedb_error(db), "cannot checkpoint"));
            }
            statedb_close(db);
        }
    }
    free(value);
}
END_TEST

/* The sum follows rows that go. */
START_TEST(rows_that_are_deleted_leave_the_sum_right)
{
    struct statedb *db = open_db();
    struct machine loaded;

    for (int i = 1; i < 6; i++) {
        machine_grant(&m, i, 10);
        machine_put(&m, "a", "x", i);
        ck_assert_int_eq(write_all(db), STATEDB_OK);
        machine_revoke(&m, i, 0);
    }
    ck_assert_int_eq(write_all(db), STATEDB_OK);
    statedb_close(db);
    db = open_db();
    machine_init(&loaded, NULL, NULL);
    ck_assert_msg(statedb_load(db, loaded.applier) == STATEDB_OK, "%s",
                  statedb_error(db));
    same(&m, &loaded);
    machine_release(&loaded);
    statedb_close(db);
}
END_TEST

/* F2: a value of the past is read when it is asked for, long after the load. */
START_TEST(F2_an_old_value_that_rots_is_not_served)
{
    struct statedb *db = open_db();
    struct arena arena;
    Mvccpb__KeyValue kv = MVCCPB__KEY_VALUE__INIT;

    machine_put(&m, "a", "old", 0);
    machine_put(&m, "a", "new", 0);
    ck_assert_int_eq(write_all(db), STATEDB_OK);
    arena_init(&arena);
    ck_assert(statedb_fetch(db, 2, 0, &arena, &kv));
    sql("UPDATE revisions SET value = x'00' WHERE mod_revision = 2");
    ck_assert(!statedb_fetch(db, 2, 0, &arena, &kv));
    ck_assert_ptr_nonnull(strstr(statedb_fetch_error(db), "checksum"));
    arena_release(&arena);
    statedb_close(db);
}
END_TEST

START_TEST(F2_a_scrub_finds_a_row_that_rots)
{
    struct statedb *db = open_db();
    enum statedb_status st = STATEDB_OK;

    ck_assert_int_eq(statedb_scrub(db, 7), STATEDB_OK); /* empty */
    for (int i = 0; i < 50; i++) {
        machine_put(&m, "a", "x", 0);
    }
    ck_assert_int_eq(write_all(db), STATEDB_OK);
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(statedb_scrub(db, 7), STATEDB_OK);
    }
    sql("UPDATE revisions SET value = x'00' WHERE mod_revision = 30");
    for (int i = 0; i < 9 && st == STATEDB_OK; i++) {
        st = statedb_scrub(db, 7);
    }
    ck_assert_int_eq(st, STATEDB_CORRUPT);
    ck_assert_ptr_nonnull(strstr(statedb_error(db), "revision 30.0"));
    statedb_close(db);
}
END_TEST

START_TEST(G7_a_row_that_is_there_already_is_refused)
{
    struct statedb *db = open_db();
    struct changeset *c;
    struct machine loaded;

    machine_put(&m, "a", "x", 0);
    c = applier_take_changes(m.applier);
    ck_assert_int_eq(statedb_write(db, &c, 1), STATEDB_OK);
    ck_assert_int_eq(statedb_write(db, &c, 1), STATEDB_CORRUPT);
    changeset_free(c);
    machine_init(&loaded, NULL, NULL);
    ck_assert_int_eq(statedb_load(db, loaded.applier), STATEDB_OK);
    same(&m, &loaded);
    machine_release(&loaded);
    statedb_close(db);
}
END_TEST

START_TEST(G7_a_failed_read_is_no_empty_table)
{
    struct statedb *db = open_db();
    bool failed = true;

    for (int i = 0; i < 300; i++) {
        char key[16], value[500] = {0};

        snprintf(key, sizeof(key), "k%d", i);
        memset(value, 'x', sizeof(value) - 1);
        machine_put(&m, key, value, 0);
    }
    ck_assert_int_eq(write_all(db), STATEDB_OK);
    statedb_close(db);
    for (long after = 0; failed; after++) {
        struct machine loaded;
        enum statedb_status st;

        machine_init(&loaded, NULL, NULL);
        fault = (struct fault){.after = -1};
        ck_assert_int_eq(open_with(FAULTY_VFS, &db), STATEDB_OK);
        fault = (struct fault){
            .kinds = FAULT_READ, .after = after, .code = SQLITE_IOERR_READ};
        st = statedb_load(db, loaded.applier);
        failed = fault.failed > 0;
        if (failed) {
            ck_assert_int_eq(st, STATEDB_IO);
            ck_assert_ptr_nonnull(strstr(statedb_error(db), "cannot load"));
        } else {
            ck_assert_int_eq(st, STATEDB_OK);
            ck_assert_int_gt(after, 10);
            same(&m, &loaded);
        }
        machine_release(&loaded);
        statedb_close(db);
    }
}
END_TEST

START_TEST(G7_a_failed_fetch_says_so)
{
    Mvccpb__KeyValue pair = MVCCPB__KEY_VALUE__INIT;
    struct statedb *db;

    ck_assert_int_eq(open_with(FAULTY_VFS, &db), STATEDB_OK);
    machine_put(&m, "a", "x", 0);
    ck_assert_int_eq(write_all(db), STATEDB_OK);
    fault = (struct fault){
        .kinds = FAULT_READ, .code = SQLITE_IOERR_READ, .always = true};
    ck_assert(!statedb_fetch(db, 2, 0, &m.arena, &pair));
    ck_assert_ptr_nonnull(strstr(statedb_fetch_error(db), "disk I/O error"));
    fault = (struct fault){.after = -1};
    ck_assert(statedb_fetch(db, 2, 0, &m.arena, &pair)); /* no lock is left */
    statedb_close(db);
}
END_TEST

START_TEST(G7_a_failed_write_has_the_right_name)
{
    static const struct {
        unsigned kinds;
        int code;
        enum statedb_status st;
    } rows[] = {
        {FAULT_WRITE, SQLITE_FULL, STATEDB_FULL},
        {FAULT_WRITE, SQLITE_IOERR_WRITE, STATEDB_IO},
        {FAULT_SYNC, SQLITE_IOERR_FSYNC, STATEDB_IO},
    };

    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        struct statedb *db;

        remove_files();
        fault = (struct fault){.after = -1};
        ck_assert_int_eq(open_with(FAULTY_VFS, &db), STATEDB_OK);
        machine_put(&m, "a", "x", 0);
        fault = (struct fault){
            .kinds = rows[i].kinds, .code = rows[i].code, .always = true};
        ck_assert_int_eq(write_all(db), rows[i].st);
        ck_assert_ptr_nonnull(strstr(statedb_error(db), path));
        ck_assert_ptr_null(strchr(statedb_error(db), '\n'));
        statedb_close(db);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        what_was_written_is_loaded,
        old_values_are_fetched_once_they_are_persisted,
        several_changesets_go_in_one_write,
        fetching_what_is_not_there_says_so,
        G3_the_wal_is_checkpointed_and_stays_bounded,
        G2_the_settings_are_what_durability_needs,
        anyone_may_read_it_meanwhile,
        the_main_thread_fetches_while_the_state_thread_writes,
        another_members_file_is_refused,
        a_newer_schema_is_refused,
        a_file_of_something_else_is_left_alone,
        F4_F11_a_row_changed_lost_or_added_is_seen,
        G5_killed_at_any_write_leaves_data_and_index_together,
        G7_every_failing_call_is_seen_or_harmless,
        G7_a_failed_checkpoint_is_a_failed_write,
        rows_that_are_deleted_leave_the_sum_right,
        F2_an_old_value_that_rots_is_not_served,
        F2_a_scrub_finds_a_row_that_rots,
        G7_a_row_that_is_there_already_is_refused,
        G7_a_failed_read_is_no_empty_table,
        G7_a_failed_fetch_says_so,
        G7_a_failed_write_has_the_right_name,
    };

    return suite_run_with("statedb", tests, ARRAY_LENGTH(tests), setup,
                          teardown);
}
