/*
 * rescue.c - founding, and founding again from what is left.
 */
#include "server/rescue.h"

#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "raft/base.h"
#include "server/logger.h"
#include "server/membership.h"
#include "server/smallfile.h"
#include "server/statedb.h"
#include "server/url.h"

/* ---- the log ---------------------------------------------------------------
 */

/* One entry that says who the voters are, committed as it is written. */
static void write_voters(struct store *store, raft_index index, raft_term term,
                         raft_id voted_for, const struct member *voters,
                         size_t n)
{
    struct raft_configuration c = {.n_servers = n};
    struct raft_hard_state hs = {
        .term = term, .voted_for = voted_for, .commit = index};
    struct raft_entry e = {
        .index = index, .term = term, .type = RAFT_ENTRY_CONFIG};
    struct store_batch batch = {
        .entries = &e, .n_entries = 1, .hard_state = &hs};
    uint8_t *data;

    c.servers = mem_alloc(n, sizeof(*c.servers));
    for (size_t i = 0; i < n; i++) {
        c.servers[i].id = voters[i].id;
        c.servers[i].role = RAFT_VOTER;
    }
    c.extra = members_encode(voters, n, NULL, &c.extra_size);
    data = raft_configuration_encode(&c, &e.size);
    e.data = data;
    if (store_write(store, &batch, 1) != STORE_OK) {
        log_die("founding the cluster failed: %s", store_error(store));
    }
    raft_free(data);
    free(c.servers);
    free(c.extra);
}

void rescue_found(struct store *store, const struct member *founders,
                  size_t n_founders)
{
    write_voters(store, 1, 1, 0, founders, n_founders);
}

void rescue_force(struct store *store, const struct store_content *log,
                  uint64_t self, char *const *peer_urls, size_t n_peer_urls)
{
    struct member m = {
        .id = self,
        .name = (char *)"",
        .peer_urls = (char **)peer_urls, /* only read */
        .n_peer_urls = n_peer_urls,
    };
    raft_index last = log->first_prev_index + log->n_entries;
    raft_term term = log->hard_state.term + 1;

    if (last == 0) {
        log_die("--force-new-cluster: this data directory holds nothing to go "
                "on with");
    }
    write_voters(store, last + 1, term, self, &m, 1);
    log_line(LOG_WARN,
             "--force-new-cluster: member %" PRIx64
             " is the whole cluster from entry %" PRIu64 " of term %" PRIu64
             " on; all others are removed for ever: wipe them and add them "
             "again. Start without this flag from now on",
             self, last + 1, term);
}

/* ---- from a backup ---------------------------------------------------------
 */

#define LIVE                                                                   \
    "(SELECT key, lease, deleted, row_number() OVER (PARTITION BY key "        \
    "ORDER BY mod_revision DESC, sub DESC) AS place FROM revisions)"

static bool is_there(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0;
}

static void fail(sqlite3 *db, const char *doing, const char *path)
{
    log_die("restore: cannot %s %s: %s", doing, path,
            db != NULL ? sqlite3_errmsg(db) : "out of memory");
}

static int64_t ask(sqlite3 *db, const char *sql, const char *path)
{
    sqlite3_stmt *q = NULL;
    int64_t n;

    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) != SQLITE_OK ||
        sqlite3_step(q) != SQLITE_ROW) {
        fail(db, "read", path);
    }
    n = sqlite3_column_int64(q, 0);
    if (sqlite3_finalize(q) != SQLITE_OK) {
        fail(db, "read", path);
    }
    return n;
}

static void check_copy(sqlite3 *db, const char *path)
{
    sqlite3_stmt *q = NULL;
    const char *verdict;

    if (sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &q, NULL) !=
            SQLITE_OK ||
        sqlite3_step(q) != SQLITE_ROW) {
        fail(db, "check", path);
    }
    verdict = (const char *)sqlite3_column_text(q, 0);
    if (verdict == NULL || strcmp(verdict, "ok") != 0) {
        log_die("restore: %s is damaged: %s", path,
                verdict != NULL ? verdict : "no verdict");
    }
    (void)sqlite3_finalize(q); /* it has answered */
}

/* SQLite's own way: whatever is in a WAL beside the file comes with it. */
static void copy_database(const char *from, const char *to)
{
    sqlite3 *source = NULL, *copy = NULL;
    sqlite3_backup *backup;

    if (sqlite3_open_v2(from, &source, SQLITE_OPEN_READONLY, NULL) !=
        SQLITE_OK) {
        fail(source, "open", from);
    }
    if (sqlite3_open_v2(to, &copy, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                        NULL) != SQLITE_OK) {
        fail(copy, "make", to);
    }
    backup = sqlite3_backup_init(copy, "main", source, "main");
    if (backup == NULL || sqlite3_backup_step(backup, -1) != SQLITE_DONE ||
        sqlite3_backup_finish(backup) != SQLITE_OK) {
        fail(copy, "copy", from);
    }
    (void)sqlite3_close(source); /* only read */
    if (sqlite3_close(copy) != SQLITE_OK) {
        fail(copy, "write", to);
    }
}

/*
 * Another cluster's state at the begin of its log. The keys of leases get
 * tombstones at the new revision, so that whoever reads the history sees them
 * go.
 */
static char *rewriting(uint64_t cluster_id, uint64_t member_id, int64_t step)
{
    return mem_printf(
        "BEGIN IMMEDIATE;"
        "UPDATE state SET cluster_id = '%016" PRIx64
        "', member_id = '%016" PRIx64
        "', applied_index = 0, applied_term = 0, revision = revision + "
        "%" PRId64 ";"
        "INSERT INTO revisions (mod_revision, sub, deleted, create_revision, "
        "version, lease, key, value, checksum) "
        "SELECT (SELECT revision FROM state) + 1, "
        "row_number() OVER (ORDER BY key) - 1, 1, 0, 0, 0, key, NULL, 0 "
        "FROM " LIVE " WHERE place = 1 AND NOT deleted AND lease <> 0;"
        "UPDATE state SET revision = revision + 1 WHERE changes() > 0;"
        "DELETE FROM leases;"
        "DELETE FROM members;"
        "DELETE FROM removed_members;"
        "COMMIT",
        cluster_id, member_id, step);
}

static void rewrite(const char *path, uint64_t cluster_id, uint64_t member_id,
                    int64_t step)
{
    char *sql = rewriting(cluster_id, member_id, step);
    sqlite3 *db = NULL;

    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK ||
        sqlite3_exec(db, "PRAGMA synchronous = FULL", NULL, NULL, NULL) !=
            SQLITE_OK) {
        fail(db, "open", path);
    }
    check_copy(db, path);
    if (ask(db, "SELECT max(revision) FROM state", path) >
        INT64_MAX / 2 - step) {
        log_die("restore: the revision of %s is too high for --bump-revision",
                path);
    }
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        fail(db, "rewrite", path);
    }
    log_line(
        LOG_INFO, "restored %s: revision %" PRId64 ", %" PRId64 " keys", path,
        ask(db, "SELECT revision FROM state", path),
        ask(db, "SELECT count(*) FROM " LIVE " WHERE place = 1 AND NOT deleted",
            path));
    if (sqlite3_close(db) != SQLITE_OK) {
        fail(db, "close", path);
    }
    free(sql);
}

/* As pawld opens it, which tells what is damaged, or not a state.db at all. */
static void check_as_state(const char *path, uint64_t cluster_id,
                           uint64_t member_id)
{
    char error[512];
    struct applier *applier;
    struct statedb *db;

    if (statedb_open(path, NULL, cluster_id, member_id, &db, error,
                     sizeof(error)) != STATEDB_OK) {
        log_die("restore: %s", error);
    }
    applier = applier_new(statedb_fetch, db);
    if (statedb_load(db, applier) != STATEDB_OK) {
        log_die("restore: %s", statedb_error(db));
    }
    applier_free(applier);
    statedb_close(db);
}

static void learn_ids(const char *path, uint64_t *cluster_id,
                      uint64_t *member_id)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;

    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, "SELECT cluster_id, member_id FROM state", -1,
                           &q, NULL) != SQLITE_OK ||
        sqlite3_step(q) != SQLITE_ROW) {
        fail(db, "read (is it a state.db of pawl?)", path);
    }
    *cluster_id = strtoull((const char *)sqlite3_column_text(q, 0), NULL, 16);
    *member_id = strtoull((const char *)sqlite3_column_text(q, 1), NULL, 16);
    (void)sqlite3_finalize(q); /* it has answered */
    (void)sqlite3_close(db);   /* only read */
}

static void write_log(const struct options *o, const char *path,
                      uint64_t cluster_id, struct member *self)
{
    struct store_options so = {.path = path,
                               .cluster_id = cluster_id,
                               .member_id = self->id,
                               .create = true,
                               .joined = true, /* the flags do not give it */
                               .store_id = random_u64() | 1};
    struct store *store;
    char error[512];

    (void)o;
    if (store_open(&so, &store, error, sizeof(error)) != STORE_OK) {
        log_die("restore: %s", error);
    }
    rescue_found(store, self, 1);
    store_close(store);
}

/* Of another member, which was here before. */
static void forget_notes(const char *data_dir)
{
    static const char *const names[] = {"ballot", "vow", "diverged"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char *path = mem_printf("%s/%s", data_dir, names[i]);
        int error = is_there(path) ? smallfile_remove(path) : 0;

        if (error != 0) {
            log_die("restore: cannot remove %s: %s", path, strerror(error));
        }
        free(path);
    }
}

int rescue_restore(const struct options *o)
{
    char *raft_path = mem_printf("%s/raft.db", o->data_dir);
    char *state_path = mem_printf("%s/state.db", o->data_dir);
    struct member self = {.name = (char *)""};
    uint64_t cluster_id = random_u64() | 1, old_cluster, old_member;
    struct timespec now;
    char error[512];

    if (mkdir(o->data_dir, 0700) != 0 && errno != EEXIST) {
        log_die("cannot create the data directory %s: %s", o->data_dir,
                strerror(errno));
    }
    if (is_there(raft_path) || is_there(state_path)) {
        log_die("restore: %s holds data already: move it away, or name another "
                "--data-dir",
                o->data_dir);
    }
    clock_gettime(CLOCK_REALTIME, &now); /* makes the id new, no more */
    self.peer_urls =
        url_list(o->initial_advertise_peer_urls, &self.n_peer_urls);
    self.id = membership_new_id(
        self.peer_urls, self.n_peer_urls, o->initial_cluster_token,
        (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
    copy_database(o->restore_from, state_path);
    learn_ids(state_path, &old_cluster, &old_member);
    check_as_state(state_path, old_cluster, old_member);
    rewrite(state_path, cluster_id, self.id, o->revision_step);
    if (statedb_seal(state_path, error, sizeof(error)) != STATEDB_OK) {
        log_die("restore: %s", error);
    }
    forget_notes(o->data_dir);
    write_log(o, raft_path, cluster_id, &self);
    log_line(LOG_INFO,
             "member %" PRIx64 " of the new cluster %" PRIx64
             " (it was %" PRIx64 "): start pawld on %s, then add members",
             self.id, cluster_id, old_cluster, o->data_dir);
    url_list_free(self.peer_urls, self.n_peer_urls);
    free(raft_path);
    free(state_path);
    return 0;
}
