/*
 * statedb.c - the state machine's SQLite file.
 *
 * Two connections, each with one user: the writer (the state thread, after
 * loading) inserts, syncs and is the only one that checkpoints, since SQLite
 * before 3.51.3 can lose a WAL that two connections reset; the reader (the
 * main thread) fetches one row at a time and holds no transaction between.
 */
#include "server/statedb.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "server/applier.h"
#include "server/changeset.h"
#include "server/members.h"
#include "server/walfile.h"

#define APPLICATION_ID 0x7061776c /* "pawl" */
#define SCHEMA_VERSION 1
#define CHECKPOINT_FRAMES 2000 /* 8 MB of WAL */
#define WAL_BYTES_KEPT "67108864"
#define BUSY_MS 5000 /* for an operator's shell that holds a lock */

/* Kept by SQLite as it stands: `.schema` shows the comments. */
static const char schema[] =
    "CREATE TABLE state (\n"
    "    -- One row: what this file is, and which point of the log it is at.\n"
    "    -- Written in the same transaction as all else.\n"
    "    one           INTEGER PRIMARY KEY CHECK (one = 1),\n"
    "    cluster_id    TEXT NOT NULL,    -- hexadecimal\n"
    "    member_id     TEXT NOT NULL,    -- hexadecimal\n"
    "    applied_index INTEGER NOT NULL, -- log entries up to here are in\n"
    "    applied_term  INTEGER NOT NULL, -- the term of that entry\n"
    "    revision      INTEGER NOT NULL, -- of the store; 1: nothing yet\n"
    "    digest        TEXT NOT NULL     -- of all changes; equal on members\n"
    "                                    -- at the same applied_index\n"
    ") STRICT;\n"
    "CREATE TABLE revisions (\n"
    "    -- Every change to a key, in order; the newest row of a key is its\n"
    "    -- present. Not indexed by key: pawl keeps that index in memory.\n"
    "    mod_revision    INTEGER NOT NULL, -- the change's revision\n"
    "    sub             INTEGER NOT NULL, -- its place in it, from 0\n"
    "    deleted         INTEGER NOT NULL, -- 1: the key was deleted\n"
    "    create_revision INTEGER NOT NULL, -- 0 if deleted, as the next two\n"
    "    version         INTEGER NOT NULL, -- puts since it was created\n"
    "    lease           INTEGER NOT NULL, -- that it lives with, or 0\n"
    "    key             BLOB NOT NULL,\n"
    "    value           BLOB,             -- NULL if deleted\n"
    "    checksum        INTEGER NOT NULL, -- of all of the row; see checks\n"
    "    PRIMARY KEY (mod_revision, sub)\n"
    ") STRICT, WITHOUT ROWID;\n"
    "CREATE TABLE leases (\n"
    "    -- Leases that are alive. Their keys: revisions.lease. When they end\n"
    "    -- is known to the leader alone.\n"
    "    id  INTEGER PRIMARY KEY,\n"
    "    ttl INTEGER NOT NULL, -- seconds, as granted\n"
    "    checksum INTEGER NOT NULL\n"
    ") STRICT;\n"
    "CREATE TABLE members (\n"
    "    id          TEXT PRIMARY KEY, -- hexadecimal\n"
    "    is_learner  INTEGER NOT NULL,\n"
    "    name        TEXT NOT NULL,    -- empty until it started\n"
    "    peer_urls   TEXT NOT NULL,    -- one a line\n"
    "    client_urls TEXT NOT NULL,    -- one a line\n"
    "    auto_promote INTEGER NOT NULL, -- 1: a voter once caught up\n"
    "    replaces    TEXT NOT NULL,    -- who goes then, hexadecimal\n"
    "    store_id    TEXT NOT NULL,    -- of its raft.db\n"
    "    checksum    INTEGER NOT NULL\n"
    ") STRICT, WITHOUT ROWID;\n"
    "CREATE TABLE removed_members (\n"
    "    -- Who was one and is not any more: no such id ever comes back.\n"
    "    id       TEXT PRIMARY KEY, -- hexadecimal\n"
    "    checksum INTEGER NOT NULL\n"
    ") STRICT, WITHOUT ROWID;\n"
    "CREATE TABLE raft (\n"
    "    -- One row: what a log needs that begins behind applied_index.\n"
    "    one             INTEGER PRIMARY KEY CHECK (one = 1),\n"
    "    configuration   BLOB NOT NULL,   -- in force there, encoded\n"
    "    installed_index INTEGER NOT NULL -- of the snapshot that this file\n"
    "                                     -- began as; 0: it began empty\n"
    ") STRICT;\n"
    "CREATE TABLE checks (\n"
    "    -- One row: what tells damage. XXH3 of rows, see README.\n"
    "    one   INTEGER PRIMARY KEY CHECK (one = 1),\n"
    "    rows  INTEGER NOT NULL, -- sum of the checksums of all rows of\n"
    "                            -- revisions, leases, members and\n"
    "                            -- removed_members\n"
    "    state INTEGER NOT NULL  -- of this sum and the row of state\n"
    ") STRICT;\n"
    "INSERT INTO raft VALUES (1, x'', 0);\n";

/* X(name, text): what the writer has prepared. */
#define STATEMENTS(X)                                                          \
    X(BEGIN, "BEGIN IMMEDIATE")                                                \
    X(COMMIT, "COMMIT")                                                        \
    X(ADD_REVISION,                                                            \
      "INSERT INTO revisions (mod_revision, sub, deleted, create_revision, "   \
      "version, lease, key, value, checksum) "                                 \
      "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")                                    \
    X(ADD_LEASE, "INSERT INTO leases (id, ttl, checksum) VALUES (?, ?, ?)")    \
    X(REMOVE_LEASE, "DELETE FROM leases WHERE id = ? RETURNING checksum")      \
    X(CLEAR_MEMBERS, "DELETE FROM members RETURNING checksum")                 \
    X(REMOVE_MEMBER, "DELETE FROM members WHERE id = ? RETURNING checksum")    \
    X(PUT_MEMBER,                                                              \
      "INSERT INTO members (id, is_learner, name, peer_urls, client_urls, "    \
      "auto_promote, replaces, store_id, checksum) "                           \
      "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")                                    \
    X(FORGET_REMOVED,                                                          \
      "DELETE FROM removed_members WHERE id = ? RETURNING checksum")           \
    X(PUT_REMOVED, "INSERT INTO removed_members (id, checksum) VALUES (?, ?)") \
    X(SET_CHECKS, "UPDATE checks SET rows = ?, state = ?")                     \
    X(GET_CHECKS, "SELECT rows, state FROM checks")                            \
    X(SET_STATE,                                                               \
      "UPDATE state SET applied_index = ?, applied_term = ?, revision = ?, "   \
      "digest = ?")                                                            \
    X(GET_STATE,                                                               \
      "SELECT cluster_id, member_id, applied_index, applied_term, revision, "  \
      "digest FROM state")                                                     \
    X(ALL_REVISIONS,                                                           \
      "SELECT mod_revision, sub, deleted, create_revision, version, lease, "   \
      "key, value, checksum FROM revisions ORDER BY mod_revision, sub")        \
    X(ALL_LEASES, "SELECT id, ttl, checksum FROM leases ORDER BY id")          \
    X(ALL_MEMBERS,                                                             \
      "SELECT id, is_learner, name, peer_urls, client_urls, auto_promote, "    \
      "replaces, store_id, checksum FROM members ORDER BY id")                 \
    X(ALL_REMOVED, "SELECT id, checksum FROM removed_members ORDER BY id")     \
    X(SET_CONFIGURATION, "UPDATE raft SET configuration = ?")                  \
    X(GET_RAFT, "SELECT configuration, installed_index FROM raft")             \
    X(SCRUB,                                                                   \
      "SELECT mod_revision, sub, deleted, create_revision, version, lease, "   \
      "key, value, checksum FROM revisions "                                   \
      "WHERE (mod_revision, sub) > (?, ?) ORDER BY mod_revision, sub LIMIT ?") \
    X(PAGES, "PRAGMA page_count")

#define STATEMENT_ENUM(name, text) Q_##name,
enum { STATEMENTS(STATEMENT_ENUM) Q_COUNT };
#undef STATEMENT_ENUM

#define STATEMENT_TEXT(name, text) text,
static const char *const statement_text[Q_COUNT] = {STATEMENTS(STATEMENT_TEXT)};
#undef STATEMENT_TEXT

static const char fetch_text[] =
    "SELECT key, value, create_revision, version, lease, checksum "
    "FROM revisions "
    "WHERE mod_revision = ? AND sub = ? AND deleted = 0";

/* The main thread's connection. */
struct reader {
    sqlite3 *db;
    sqlite3_stmt *fetch;
};

struct statedb {
    char *path;
    const char *vfs;
    uint64_t cluster_id, member_id;
    sqlite3 *writer;
    sqlite3_stmt *q[Q_COUNT];
    struct reader reader;
    struct reader next_reader; /* of a file that was just put in place */
    bool gone;                 /* closed for good: an install failed half way */
    int wal_frames; /* since the last checkpoint that got all of them */
    uint64_t page_bytes;
    int64_t scrubbed_revision, scrubbed_sub; /* in this round */
    uint64_t rows_sum;                       /* as in checks; the writer's */
    _Atomic uint64_t bytes;
    char error[512];       /* the writer's */
    char fetch_error[512]; /* the reader's; empty: none */
};

/* ---- errors
 * ------------------------------------------------------------------ */

static enum statedb_status status_of(int code)
{
    switch (code & 0xff) {
    case SQLITE_OK:
        return STATEDB_OK;
    case SQLITE_FULL:
        return STATEDB_FULL;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_CONSTRAINT: /* a row that is there already: not ours */
    case SQLITE_MISMATCH:
    case SQLITE_ERROR: /* a table or a column is missing */
        return STATEDB_CORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
        return STATEDB_LOCKED;
    default:
        return STATEDB_IO;
    }
}

/* The writer's last call failed: say so. */
static enum statedb_status fail(struct statedb *db, const char *doing)
{
    int code = sqlite3_extended_errcode(db->writer);
    enum statedb_status st = status_of(code);

    snprintf(db->error, sizeof(db->error), "%s: cannot %s: %s (SQLite %d)",
             db->path, doing, sqlite3_errmsg(db->writer), code);
    return st != STATEDB_OK ? st : STATEDB_IO;
}

__attribute__((format(printf, 3, 4))) static enum statedb_status
fail_with(struct statedb *db, enum statedb_status st, const char *format, ...)
{
    int n = snprintf(db->error, sizeof(db->error), "%s: ", db->path);
    va_list ap;

    if (n < 0 || (size_t)n >= sizeof(db->error)) {
        return st;
    }
    va_start(ap, format);
    vsnprintf(db->error + n, sizeof(db->error) - (size_t)n, format, ap);
    va_end(ap);
    return st;
}

const char *statedb_error(const struct statedb *db)
{
    return db->error;
}

const char *statedb_fetch_error(const struct statedb *db)
{
    return db->fetch_error[0] != '\0' ? db->fetch_error : NULL;
}

uint64_t statedb_bytes(const struct statedb *db)
{
    return atomic_load(&db->bytes);
}

/* ---- small SQL
 * ------------------------------------------------------------------ */

/* Run a statement that returns no rows that matter. */
static bool run(sqlite3_stmt *stmt)
{
    int code = sqlite3_step(stmt);

    /* Reset tells a failed step's code again. */
    return sqlite3_reset(stmt) == SQLITE_OK &&
           (code == SQLITE_DONE || code == SQLITE_ROW);
}

static bool exec(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
}

/* The first column of the first row. False: it failed, or there is no row. */
static bool get_int(sqlite3 *db, const char *sql, int64_t *out)
{
    sqlite3_stmt *stmt = NULL;
    bool ok = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
              sqlite3_step(stmt) == SQLITE_ROW;

    if (ok) {
        *out = sqlite3_column_int64(stmt, 0);
    }
    /* A failed step's code comes again here, and stays the connection's. */
    return sqlite3_finalize(stmt) == SQLITE_OK && ok;
}

static struct slice column_bytes(sqlite3_stmt *stmt, int column)
{
    const void *data = sqlite3_column_blob(stmt, column);

    return (struct slice){data, (size_t)sqlite3_column_bytes(stmt, column)};
}

static bool bind_bytes(sqlite3_stmt *stmt, int place, struct slice bytes)
{
    /* A NULL pointer would store NULL, which is not the empty value. */
    const void *data = bytes.size > 0 ? (const void *)bytes.data : "";

    return sqlite3_bind_blob64(stmt, place, data, bytes.size, SQLITE_STATIC) ==
           SQLITE_OK;
}

static bool bind_text(sqlite3_stmt *stmt, int place, struct slice text)
{
    return sqlite3_bind_text64(
               stmt, place, text.size > 0 ? (const char *)text.data : "",
               text.size, SQLITE_STATIC, SQLITE_UTF8) == SQLITE_OK;
}

static bool bind_int(sqlite3_stmt *stmt, int place, int64_t number)
{
    return sqlite3_bind_int64(stmt, place, number) == SQLITE_OK;
}

static bool bind_hex(sqlite3_stmt *stmt, int place, uint64_t number)
{
    char text[17];

    snprintf(text, sizeof(text), "%016llx", (unsigned long long)number);
    return sqlite3_bind_text(stmt, place, text, 16, SQLITE_TRANSIENT) ==
           SQLITE_OK;
}

static uint64_t column_hex(sqlite3_stmt *stmt, int column)
{
    const unsigned char *text = sqlite3_column_text(stmt, column);

    return text != NULL ? strtoull((const char *)text, NULL, 16) : 0;
}

/* ---- checksums
 * -------------------------------------------------------------------- */

/* Of a row: its table, its numbers, its strings. Never 0. */
static int64_t row_checksum(const char *table, const int64_t *numbers, size_t n,
                            const struct slice *strings, size_t n_strings)
{
    uint8_t head[16 * 8];
    uint64_t hash = XXH3_64bits(table, strlen(table));

    ASSERT(n + n_strings <= 16);
    for (size_t i = 0; i < n + n_strings; i++) {
        uint64_t word = htole64(i < n ? (uint64_t)numbers[i]
                                      : (uint64_t)strings[i - n].size);

        memcpy(head + 8 * i, &word, 8);
    }
    hash = XXH3_64bits_withSeed(head, 8 * (n + n_strings), hash);
    for (size_t i = 0; i < n_strings; i++) {
        if (strings[i].size > 0) {
            hash = XXH3_64bits_withSeed(strings[i].data, strings[i].size, hash);
        }
    }
    return hash != 0 ? (int64_t)hash : 1;
}

static int64_t revision_checksum(const struct kv_change *c)
{
    const int64_t numbers[] = {c->mod_revision,    c->sub,     c->deleted,
                               c->create_revision, c->version, c->lease};
    const struct slice strings[] = {c->key, c->value};

    return row_checksum("revisions", numbers, 6, strings, c->deleted ? 1 : 2);
}

static int64_t lease_checksum(int64_t id, int64_t ttl)
{
    const int64_t numbers[] = {id, ttl};

    return row_checksum("leases", numbers, 2, NULL, 0);
}

static int64_t member_checksum(const struct changeset_member *m)
{
    const int64_t numbers[] = {(int64_t)m->id, m->is_learner, m->auto_promote,
                               (int64_t)m->replaces, (int64_t)m->store_id};
    const struct slice strings[] = {m->name, m->peer_urls, m->client_urls};

    return row_checksum("members", numbers, 5, strings, 3);
}

static int64_t removed_checksum(uint64_t id)
{
    const int64_t numbers[] = {(int64_t)id};

    return row_checksum("removed_members", numbers, 1, NULL, 0);
}

/* Of the row of state, as in a changeset, and the sum over the other tables. */
static int64_t state_checksum(const struct changeset *c, uint64_t rows_sum)
{
    const int64_t numbers[] = {(int64_t)c->index, (int64_t)c->term, c->revision,
                               (int64_t)c->digest, (int64_t)rows_sum};

    return row_checksum("state", numbers, 5, NULL, 0);
}

/* ---- opening
 * ------------------------------------------------------------------- */

static enum statedb_status
create_tables(struct statedb *db, uint64_t cluster_id, uint64_t member_id)
{
    const struct changeset nothing = {.revision = 1};
    char *sql = mem_printf(
        "BEGIN IMMEDIATE; %s"
        "INSERT INTO state VALUES (1, '%016llx', '%016llx', 0, 0, 1, "
        "'0000000000000000'); "
        "INSERT INTO checks VALUES (1, 0, %lld); "
        "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
        schema, (unsigned long long)cluster_id, (unsigned long long)member_id,
        (long long)state_checksum(&nothing, 0), APPLICATION_ID, SCHEMA_VERSION);
    enum statedb_status st = STATEDB_OK;

    if (!exec(db->writer, sql)) {
        st = fail(db, "create the tables");
    }
    free(sql);
    return st;
}

/* Whether the file is empty, ours, or something else: before it is touched. */
static enum statedb_status identify(struct statedb *db, bool *empty)
{
    int64_t application, version, objects;

    if (!get_int(db->writer, "PRAGMA application_id", &application) ||
        !get_int(db->writer, "PRAGMA user_version", &version) ||
        !get_int(db->writer, "SELECT count(*) FROM sqlite_schema", &objects)) {
        return fail(db, "read the file's head");
    }
    *empty = application == 0 && version == 0 && objects == 0;
    if (*empty) {
        return STATEDB_OK;
    }
    if (application != APPLICATION_ID) {
        return fail_with(db, STATEDB_VERSION,
                         "is not a state.db of pawl; move it away");
    }
    if (version != SCHEMA_VERSION) {
        return fail_with(db, STATEDB_VERSION,
                         "has schema version %lld, this pawl knows %d: "
                         "use the pawl that wrote it",
                         (long long)version, SCHEMA_VERSION);
    }
    return STATEDB_OK;
}

/* The settings that durability hangs on are read back (G2). */
static enum statedb_status configure(struct statedb *db)
{
    sqlite3_stmt *stmt = NULL;
    int64_t synchronous = 0, page_bytes = 0;
    bool wal;

    if (!exec(db->writer, "PRAGMA synchronous = FULL;"
                          "PRAGMA journal_size_limit = " WAL_BYTES_KEPT) ||
        sqlite3_prepare_v2(db->writer, "PRAGMA journal_mode = WAL", -1, &stmt,
                           NULL) != SQLITE_OK ||
        sqlite3_step(stmt) != SQLITE_ROW) {
        enum statedb_status st = fail(db, "set the journal mode");

        (void)sqlite3_finalize(stmt); /* its code was just told */
        return st;
    }
    wal = strcmp((const char *)sqlite3_column_text(stmt, 0), "wal") == 0;
    if (sqlite3_finalize(stmt) != SQLITE_OK ||
        !get_int(db->writer, "PRAGMA synchronous", &synchronous) ||
        !get_int(db->writer, "PRAGMA page_size", &page_bytes)) {
        return fail(db, "read the settings back");
    }
    if (!wal || synchronous != 2) {
        return fail_with(db, STATEDB_IO,
                         "write-ahead log with full sync is refused by this "
                         "file system");
    }
    db->page_bytes = (uint64_t)page_bytes;
    return STATEDB_OK;
}

static enum statedb_status check_ids(struct statedb *db, uint64_t cluster_id,
                                     uint64_t member_id)
{
    sqlite3_stmt *q = db->q[Q_GET_STATE];
    uint64_t cluster, member;

    if (sqlite3_step(q) != SQLITE_ROW) {
        enum statedb_status st =
            sqlite3_reset(q) != SQLITE_OK
                ? fail(db, "read the table state")
                : fail_with(db, STATEDB_CORRUPT, "the table state is empty");
        return st;
    }
    cluster = column_hex(q, 0);
    member = column_hex(q, 1);
    if (sqlite3_reset(q) != SQLITE_OK) {
        return fail(db, "read the table state");
    }
    if (cluster != cluster_id || member != member_id) {
        return fail_with(
            db, STATEDB_MISMATCH,
            "belongs to member %llx of cluster %llx, not to member %llx of "
            "cluster %llx: wrong data directory?",
            (unsigned long long)member, (unsigned long long)cluster,
            (unsigned long long)member_id, (unsigned long long)cluster_id);
    }
    return STATEDB_OK;
}

/* The sum over all rows, and whether the row of state is what was written. */
static enum statedb_status read_checks(struct statedb *db)
{
    sqlite3_stmt *checks = db->q[Q_GET_CHECKS], *q = db->q[Q_GET_STATE];
    int64_t stored = 0;
    bool ok = sqlite3_step(checks) == SQLITE_ROW, fits = false;

    if (ok) {
        db->rows_sum = (uint64_t)sqlite3_column_int64(checks, 0);
        stored = sqlite3_column_int64(checks, 1);
    }
    if (sqlite3_reset(checks) == SQLITE_OK && ok &&
        sqlite3_step(q) == SQLITE_ROW) {
        const struct changeset c = {
            .index = (raft_index)sqlite3_column_int64(q, 2),
            .term = (raft_term)sqlite3_column_int64(q, 3),
            .revision = sqlite3_column_int64(q, 4),
            .digest = column_hex(q, 5),
        };

        fits = stored == state_checksum(&c, db->rows_sum);
    }
    if (sqlite3_reset(q) != SQLITE_OK) {
        return fail(db, "read the table state");
    }
    return fits ? STATEDB_OK
                : fail_with(db, STATEDB_CORRUPT,
                            "the table state does not fit its checksum");
}

static enum statedb_status prepare_all(struct statedb *db)
{
    for (int i = 0; i < Q_COUNT; i++) {
        if (sqlite3_prepare_v3(db->writer, statement_text[i], -1,
                               SQLITE_PREPARE_PERSISTENT, &db->q[i],
                               NULL) != SQLITE_OK) {
            return fail(db, "prepare a statement");
        }
    }
    return STATEDB_OK;
}

static enum statedb_status open_reader(struct statedb *db, struct reader *r)
{
    int off = 0;
    int code = sqlite3_open_v2(
        db->path, &r->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, db->vfs);

    if (code == SQLITE_OK) {
        code =
            sqlite3_db_config(r->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, &off);
    }
    if (code == SQLITE_OK) {
        code = sqlite3_busy_timeout(r->db, BUSY_MS);
    }
    if (code == SQLITE_OK) {
        code = sqlite3_prepare_v3(r->db, fetch_text, -1,
                                  SQLITE_PREPARE_PERSISTENT, &r->fetch, NULL);
    }
    if (code != SQLITE_OK) {
        return fail_with(
            db, status_of(code), "cannot open it for reading: %s (SQLite %d)",
            r->db != NULL ? sqlite3_errmsg(r->db) : sqlite3_errstr(code), code);
    }
    return STATEDB_OK;
}

static void close_reader(struct reader *r)
{
    /* These tell of errors that were looked at when they came. */
    (void)sqlite3_finalize(r->fetch);
    (void)sqlite3_close(r->db);
    *r = (struct reader){0};
}

static enum statedb_status measure(struct statedb *db)
{
    sqlite3_stmt *q = db->q[Q_PAGES];
    int64_t pages = 0;

    if (sqlite3_step(q) == SQLITE_ROW) {
        pages = sqlite3_column_int64(q, 0);
    }
    if (sqlite3_reset(q) != SQLITE_OK) {
        return fail(db, "read the number of pages");
    }
    atomic_store(&db->bytes, (uint64_t)pages * db->page_bytes);
    return STATEDB_OK;
}

/* Called by SQLite after each commit of the writer. */
static int note_wal_frames(void *context, sqlite3 *connection,
                           const char *schema_name, int frames)
{
    struct statedb *db = context;

    (void)connection; /* the writer's */
    (void)schema_name;
    db->wal_frames = frames;
    return SQLITE_OK;
}

static enum statedb_status open_all(struct statedb *db, struct reader *reader)
{
    enum statedb_status st;
    bool empty;

    if (sqlite3_open_v2(db->path, &db->writer,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                            SQLITE_OPEN_NOMUTEX,
                        db->vfs) != SQLITE_OK ||
        sqlite3_extended_result_codes(db->writer, 1) != SQLITE_OK ||
        sqlite3_busy_timeout(db->writer, BUSY_MS) != SQLITE_OK) {
        return db->writer != NULL ? fail(db, "open it")
                                  : fail_with(db, STATEDB_IO, "cannot open it");
    }
    st = identify(db, &empty);
    if (st == STATEDB_OK) {
        st = configure(db);
    }
    if (st == STATEDB_OK && walfile_write_again(db->writer) != SQLITE_OK) {
        st = fail(db, "settle its write-ahead log");
    }
    if (st == STATEDB_OK && empty) {
        st = create_tables(db, db->cluster_id, db->member_id);
    }
    if (st == STATEDB_OK) {
        st = prepare_all(db);
    }
    if (st == STATEDB_OK) {
        st = check_ids(db, db->cluster_id, db->member_id);
    }
    if (st == STATEDB_OK) {
        st = read_checks(db);
    }
    if (st == STATEDB_OK) {
        st = open_reader(db, reader);
    }
    if (st == STATEDB_OK) {
        st = measure(db);
    }
    if (st == STATEDB_OK) {
        /* Also turns SQLite's own checkpoints off: they drop their errors. */
        (void)sqlite3_wal_hook(db->writer, note_wal_frames, db);
    }
    return st;
}

enum statedb_status statedb_open(const char *path, const char *vfs,
                                 uint64_t cluster_id, uint64_t member_id,
                                 struct statedb **out, char *error,
                                 size_t error_size)
{
    struct statedb *db = mem_alloc(1, sizeof(*db));
    enum statedb_status st;

    db->path = mem_strdup(path);
    db->vfs = vfs;
    db->cluster_id = cluster_id;
    db->member_id = member_id;
    st = open_all(db, &db->reader);
    *out = db;
    if (st != STATEDB_OK) {
        snprintf(error, error_size, "%s", db->error);
        statedb_close(db);
        *out = NULL;
    }
    return st;
}

static void close_writer(struct statedb *db)
{
    for (int i = 0; i < Q_COUNT; i++) {
        (void)sqlite3_finalize(db->q[i]); /* says old errors again */
        db->q[i] = NULL;
    }
    (void)sqlite3_close(db->writer); /* checkpoints, if it is the last */
    db->writer = NULL;
}

void statedb_close(struct statedb *db)
{
    if (db == NULL) {
        return;
    }
    close_reader(&db->reader);
    close_reader(&db->next_reader);
    close_writer(db);
    free(db->path);
    free(db);
}

/* ---- writing
 * -------------------------------------------------------------------- */

/* Run the statement that adds a row, with its checksum at that place. */
static bool add_row(struct statedb *db, sqlite3_stmt *q, int place,
                    int64_t checksum)
{
    db->rows_sum += (uint64_t)checksum;
    return bind_int(q, place, checksum) && run(q);
}

/* Run one that deletes rows and returns their checksums. */
static bool remove_rows(struct statedb *db, sqlite3_stmt *q)
{
    while (sqlite3_step(q) == SQLITE_ROW) {
        db->rows_sum -= (uint64_t)sqlite3_column_int64(q, 0);
    }
    return sqlite3_reset(q) == SQLITE_OK;
}

static bool write_kv(struct statedb *db, const struct kv_change *c)
{
    sqlite3_stmt *q = db->q[Q_ADD_REVISION];

    return bind_int(q, 1, c->mod_revision) && bind_int(q, 2, c->sub) &&
           bind_int(q, 3, c->deleted) && bind_int(q, 4, c->create_revision) &&
           bind_int(q, 5, c->version) && bind_int(q, 6, c->lease) &&
           bind_bytes(q, 7, c->key) &&
           (c->deleted ? sqlite3_bind_null(q, 8) == SQLITE_OK
                       : bind_bytes(q, 8, c->value)) &&
           add_row(db, q, 9, revision_checksum(c));
}

static bool write_member(struct statedb *db, const struct changeset_row *row)
{
    sqlite3_stmt *q = db->q[Q_PUT_MEMBER], *old = db->q[Q_REMOVE_MEMBER];

    return bind_hex(old, 1, row->member.id) && remove_rows(db, old) &&
           bind_hex(q, 1, row->member.id) &&
           bind_int(q, 2, row->member.is_learner) &&
           bind_text(q, 3, row->member.name) &&
           bind_text(q, 4, row->member.peer_urls) &&
           bind_text(q, 5, row->member.client_urls) &&
           bind_int(q, 6, row->member.auto_promote) &&
           bind_hex(q, 7, row->member.replaces) &&
           bind_hex(q, 8, row->member.store_id) &&
           add_row(db, q, 9, member_checksum(&row->member));
}

/* Again and again is fine. */
static bool write_removed(struct statedb *db, uint64_t id)
{
    return bind_hex(db->q[Q_FORGET_REMOVED], 1, id) &&
           remove_rows(db, db->q[Q_FORGET_REMOVED]) &&
           bind_hex(db->q[Q_PUT_REMOVED], 1, id) &&
           add_row(db, db->q[Q_PUT_REMOVED], 2, removed_checksum(id));
}

static bool write_row(struct statedb *db, const struct changeset_row *row)
{
    switch (row->kind) {
    case CHANGESET_KV:
        return write_kv(db, &row->kv);
    case CHANGESET_LEASE_GRANTED:
        return bind_int(db->q[Q_ADD_LEASE], 1, row->lease.id) &&
               bind_int(db->q[Q_ADD_LEASE], 2, row->lease.ttl_s) &&
               add_row(db, db->q[Q_ADD_LEASE], 3,
                       lease_checksum(row->lease.id, row->lease.ttl_s));
    case CHANGESET_LEASE_REVOKED:
        return bind_int(db->q[Q_REMOVE_LEASE], 1, row->lease.id) &&
               remove_rows(db, db->q[Q_REMOVE_LEASE]);
    case CHANGESET_MEMBERS_CLEARED:
        return remove_rows(db, db->q[Q_CLEAR_MEMBERS]);
    case CHANGESET_MEMBER:
        return write_member(db, row);
    case CHANGESET_CONFIGURATION:
        return bind_bytes(db->q[Q_SET_CONFIGURATION], 1, row->configuration) &&
               run(db->q[Q_SET_CONFIGURATION]);
    case CHANGESET_MEMBER_REMOVED:
        return write_removed(db, row->member.id);
    }
    return false;
}

static bool write_state(struct statedb *db, const struct changeset *c)
{
    sqlite3_stmt *q = db->q[Q_SET_STATE], *checks = db->q[Q_SET_CHECKS];

    return bind_int(checks, 1, (int64_t)db->rows_sum) &&
           bind_int(checks, 2, state_checksum(c, db->rows_sum)) &&
           run(checks) && bind_int(q, 1, (int64_t)c->index) &&
           bind_int(q, 2, (int64_t)c->term) && bind_int(q, 3, c->revision) &&
           bind_hex(q, 4, c->digest) && run(q);
}

/* All in one transaction, the applied index as well (G5). */
static bool write_all(struct statedb *db, struct changeset *const *changes,
                      size_t n)
{
    if (!run(db->q[Q_BEGIN])) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        struct changeset_row row;
        size_t at = 0;

        ASSERT(i == 0 || changes[i - 1]->index < changes[i]->index);
        while (changeset_next(changes[i], &at, &row)) {
            if (!write_row(db, &row)) {
                return false;
            }
        }
    }
    return write_state(db, changes[n - 1]) && run(db->q[Q_COMMIT]);
}

/*
 * Move the WAL into the file. A reader at work keeps part of it back, which
 * is no error: the next commit tries again.
 */
static enum statedb_status checkpoint(struct statedb *db)
{
    int frames = 0, moved = 0;
    int code = sqlite3_wal_checkpoint_v2(
        db->writer, NULL, SQLITE_CHECKPOINT_PASSIVE, &frames, &moved);

    if (code != SQLITE_OK && (code & 0xff) != SQLITE_BUSY) {
        return fail(db, "checkpoint");
    }
    if (code == SQLITE_OK && frames == moved) {
        db->wal_frames = 0;
    }
    return STATEDB_OK;
}

enum statedb_status statedb_write(struct statedb *db,
                                  struct changeset *const *changes, size_t n)
{
    uint64_t rows_sum = db->rows_sum;
    enum statedb_status st;

    if (n == 0) {
        return STATEDB_OK;
    }
    if (!write_all(db, changes, n)) {
        st = fail(db, "write");
        db->rows_sum = rows_sum; /* as the file has it */
        if (sqlite3_get_autocommit(db->writer) == 0) {
            /* Should it fail: recovery at the next start does the same. */
            (void)exec(db->writer, "ROLLBACK");
        }
        return st;
    }
    if (db->wal_frames >= CHECKPOINT_FRAMES) {
        st = checkpoint(db);
        if (st != STATEDB_OK) {
            return st;
        }
    }
    return measure(db);
}

/* ---- loading
 * --------------------------------------------------------------------- */

/* Load one row; false: it cannot be. */
typedef bool load_row(struct applier *a, sqlite3_stmt *row,
                      struct arena *arena);

/* False if it is not what was written. */
static bool read_revision(sqlite3_stmt *row, struct kv_change *c)
{
    *c = (struct kv_change){
        .mod_revision = sqlite3_column_int64(row, 0),
        .sub = sqlite3_column_int64(row, 1),
        .deleted = sqlite3_column_int64(row, 2) != 0,
        .create_revision = sqlite3_column_int64(row, 3),
        .version = sqlite3_column_int64(row, 4),
        .lease = sqlite3_column_int64(row, 5),
        .key = column_bytes(row, 6),
        .value = column_bytes(row, 7),
    };
    return sqlite3_column_int64(row, 8) == revision_checksum(c);
}

static bool load_revision(struct applier *a, sqlite3_stmt *row,
                          struct arena *arena)
{
    struct kv_change c;

    (void)arena; /* nothing to build */
    return read_revision(row, &c) && kv_load(applier_kv(a), &c);
}

static bool load_lease(struct applier *a, sqlite3_stmt *row,
                       struct arena *arena)
{
    (void)arena; /* nothing to build */
    return sqlite3_column_int64(row, 2) ==
               lease_checksum(sqlite3_column_int64(row, 0),
                              sqlite3_column_int64(row, 1)) &&
           applier_load_lease(a, sqlite3_column_int64(row, 0),
                              sqlite3_column_int64(row, 1));
}

static bool load_member(struct applier *a, sqlite3_stmt *row,
                        struct arena *arena)
{
    const struct changeset_member stored = {
        .id = column_hex(row, 0),
        .is_learner = sqlite3_column_int64(row, 1) != 0,
        .name = column_bytes(row, 2),
        .peer_urls = column_bytes(row, 3),
        .client_urls = column_bytes(row, 4),
        .auto_promote = sqlite3_column_int64(row, 5) != 0,
        .replaces = column_hex(row, 6),
        .store_id = column_hex(row, 7),
    };
    struct member m = {
        .id = stored.id,
        .is_learner = stored.is_learner,
        .auto_promote = stored.auto_promote,
        .replaces = stored.replaces,
        .store_id = stored.store_id,
    };

    if (sqlite3_column_int64(row, 8) != member_checksum(&stored)) {
        return false;
    }
    m.name = arena_printf(arena, "%.*s", (int)stored.name.size,
                          stored.name.size > 0 ? (const char *)stored.name.data
                                               : "");
    m.peer_urls = urls_split(stored.peer_urls, arena, &m.n_peer_urls);
    m.client_urls = urls_split(stored.client_urls, arena, &m.n_client_urls);
    applier_load_member(a, &m);
    return true;
}

static bool load_removed(struct applier *a, sqlite3_stmt *row,
                         struct arena *arena)
{
    uint64_t id = column_hex(row, 0);

    (void)arena; /* nothing to build */
    if (sqlite3_column_int64(row, 1) != removed_checksum(id)) {
        return false;
    }
    applier_load_removed(a, id);
    return true;
}

static enum statedb_status load_table(struct statedb *db, int query,
                                      load_row *load, struct applier *a,
                                      const char *table, uint64_t *sum)
{
    sqlite3_stmt *q = db->q[query];
    struct arena arena;
    bool ok = true;

    arena_init(&arena);
    while (ok && sqlite3_step(q) == SQLITE_ROW) {
        *sum += (uint64_t)sqlite3_column_int64(q, sqlite3_column_count(q) - 1);
        ok = load(a, q, &arena);
    }
    arena_release(&arena);
    if (sqlite3_reset(q) != SQLITE_OK) {
        return fail(db, "load");
    }
    return ok ? STATEDB_OK
              : fail_with(db, STATEDB_CORRUPT,
                          "the table %s has a row that cannot be", table);
}

static enum statedb_status load_state(struct statedb *db, struct applier *a)
{
    sqlite3_stmt *q = db->q[Q_GET_STATE];
    bool ok = false;

    if (sqlite3_step(q) == SQLITE_ROW) {
        ok = applier_loaded(a, (raft_index)sqlite3_column_int64(q, 2),
                            (raft_term)sqlite3_column_int64(q, 3),
                            sqlite3_column_int64(q, 4), column_hex(q, 5));
    }
    if (sqlite3_reset(q) != SQLITE_OK) {
        return fail(db, "load");
    }
    return ok ? STATEDB_OK
              : fail_with(db, STATEDB_CORRUPT, "its tables do not agree");
}

enum statedb_status statedb_load(struct statedb *db, struct applier *a)
{
    static const struct {
        int query;
        load_row *load;
        const char *table;
    } tables[] = {
        {Q_ALL_LEASES, load_lease, "leases"},
        {Q_ALL_MEMBERS, load_member, "members"},
        {Q_ALL_REMOVED, load_removed, "removed_members"},
        {Q_ALL_REVISIONS, load_revision, "revisions"},
    };

    uint64_t sum = 0;

    ASSERT(applier_index(a) == 0);
    for (size_t i = 0; i < ARRAY_LENGTH(tables); i++) {
        enum statedb_status st = load_table(db, tables[i].query, tables[i].load,
                                            a, tables[i].table, &sum);

        if (st != STATEDB_OK) {
            return st;
        }
    }
    if (sum != db->rows_sum) {
        return fail_with(db, STATEDB_CORRUPT, "a row is lost, or too much");
    }
    return load_state(db, a);
}

/* ---- scrubbing
 * ------------------------------------------------------------------- */

enum statedb_status statedb_scrub(struct statedb *db, size_t n_max)
{
    sqlite3_stmt *q = db->q[Q_SCRUB];
    struct kv_change c = {0};
    size_t n = 0;
    /* Not from memory: what the disk holds is asked. */
    bool ok = sqlite3_db_release_memory(db->writer) == SQLITE_OK &&
              bind_int(q, 1, db->scrubbed_revision) &&
              bind_int(q, 2, db->scrubbed_sub) &&
              bind_int(q, 3, (int64_t)n_max);

    while (ok && sqlite3_step(q) == SQLITE_ROW) {
        ok = read_revision(q, &c);
        n++;
    }
    if (sqlite3_reset(q) != SQLITE_OK) {
        return fail(db, "read the revisions again");
    }
    if (!ok) {
        return fail_with(db, STATEDB_CORRUPT,
                         "revision %lld.%lld is not what was written",
                         (long long)c.mod_revision, (long long)c.sub);
    }
    db->scrubbed_revision = n < n_max ? 0 : c.mod_revision;
    db->scrubbed_sub = n < n_max ? 0 : c.sub;
    return STATEDB_OK;
}

/* ---- sealing
 * --------------------------------------------------------------------- */

#define ADD_CHECKSUM                                                           \
    "UPDATE revisions SET checksum = ? WHERE mod_revision = ? AND sub = ?"

/* Rows that were added without a checksum get theirs. */
static bool seal_revisions(struct statedb *db)
{
    sqlite3_stmt *q = db->q[Q_ALL_REVISIONS], *put = NULL;
    bool ok = sqlite3_prepare_v2(db->writer, ADD_CHECKSUM, -1, &put, NULL) ==
              SQLITE_OK;

    while (ok && sqlite3_step(q) == SQLITE_ROW) {
        struct kv_change c;

        if (!read_revision(q, &c) && sqlite3_column_int64(q, 8) == 0) {
            ok = bind_int(put, 1, revision_checksum(&c)) &&
                 bind_int(put, 2, c.mod_revision) && bind_int(put, 3, c.sub) &&
                 run(put);
        }
    }
    ok = sqlite3_reset(q) == SQLITE_OK && ok;
    (void)sqlite3_finalize(put); /* what failed was looked at */
    return ok;
}

static bool seal_sums(struct statedb *db)
{
    static const int tables[] = {Q_ALL_REVISIONS, Q_ALL_LEASES, Q_ALL_MEMBERS,
                                 Q_ALL_REMOVED};
    sqlite3_stmt *state = db->q[Q_GET_STATE];
    struct changeset c = {0};

    db->rows_sum = 0;
    for (size_t i = 0; i < ARRAY_LENGTH(tables); i++) {
        sqlite3_stmt *q = db->q[tables[i]];
        int last = sqlite3_column_count(q) - 1;

        while (sqlite3_step(q) == SQLITE_ROW) {
            db->rows_sum += (uint64_t)sqlite3_column_int64(q, last);
        }
        if (sqlite3_reset(q) != SQLITE_OK) {
            return false;
        }
    }
    if (sqlite3_step(state) == SQLITE_ROW) {
        c.index = (raft_index)sqlite3_column_int64(state, 2);
        c.term = (raft_term)sqlite3_column_int64(state, 3);
        c.revision = sqlite3_column_int64(state, 4);
        c.digest = column_hex(state, 5);
    }
    return sqlite3_reset(state) == SQLITE_OK && write_state(db, &c);
}

enum statedb_status statedb_seal(const char *path, char *error,
                                 size_t error_size)
{
    struct statedb *db = mem_alloc(1, sizeof(*db));
    enum statedb_status st;

    db->path = mem_strdup(path);
    st = sqlite3_open_v2(path, &db->writer,
                         SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                         NULL) == SQLITE_OK
             ? configure(db)
             : fail_with(db, STATEDB_IO, "cannot open it");
    if (st == STATEDB_OK) {
        st = prepare_all(db);
    }
    if (st == STATEDB_OK && !(run(db->q[Q_BEGIN]) && seal_revisions(db) &&
                              seal_sums(db) && run(db->q[Q_COMMIT]))) {
        st = fail(db, "write its checksums");
    }
    snprintf(error, error_size, "%s", db->error);
    statedb_close(db);
    return st;
}

/* ---- copies and snapshots
 * --------------------------------------------------------------------- */

enum statedb_status statedb_get_log_start(struct statedb *db,
                                          struct statedb_log_start *out)
{
    sqlite3_stmt *q = db->q[Q_GET_RAFT];
    bool ok = sqlite3_step(q) == SQLITE_ROW;

    *out = (struct statedb_log_start){0};
    if (ok) {
        struct slice bytes = column_bytes(q, 0);

        buffer_append(&out->configuration, bytes.data, bytes.size);
        out->installed_index = (raft_index)sqlite3_column_int64(q, 1);
    }
    if (sqlite3_reset(q) != SQLITE_OK) {
        return fail(db, "read the table raft");
    }
    return ok ? STATEDB_OK
              : fail_with(db, STATEDB_CORRUPT, "the table raft is empty");
}

struct statedb_copy {
    sqlite3 *to;
    sqlite3_backup *backup;
    int fd;         /* to have the kernel write early */
    off_t asked_to; /* written up to here, or on its way */
};

struct statedb_copy *statedb_copy_begin(struct statedb *db, const char *path,
                                        char *error, size_t error_size)
{
    struct statedb_copy *c = mem_alloc(1, sizeof(*c));

    c->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    /* A copy that is cut short is thrown away, so it needs no journal. */
    if (c->fd < 0 ||
        sqlite3_open_v2(path, &c->to,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                        db->vfs) != SQLITE_OK ||
        !exec(c->to, "PRAGMA locking_mode = EXCLUSIVE;"
                     "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF") ||
        (c->backup = sqlite3_backup_init(c->to, "main", db->writer, "main")) ==
            NULL) {
        snprintf(error, error_size, "%s: cannot copy to it: %s", path,
                 c->to != NULL ? sqlite3_errmsg(c->to) : strerror(errno));
        statedb_copy_end(c);
        return NULL;
    }
    return c;
}

/* Else all of it would be written when it is synced, and hold up the log. */
static void write_early(struct statedb_copy *c)
{
    struct stat st;

    if (fstat(c->fd, &st) == 0 && st.st_size > c->asked_to) {
        /* The sync at the end tells of errors. */
        (void)sync_file_range(c->fd, c->asked_to, st.st_size - c->asked_to,
                              SYNC_FILE_RANGE_WRITE);
        c->asked_to = st.st_size;
    }
}

bool statedb_copy_step(struct statedb_copy *c, int pages, bool *done,
                       char *error, size_t error_size)
{
    int code = sqlite3_backup_step(c->backup, pages);

    write_early(c);
    *done = code == SQLITE_DONE;
    if (*done) {
        code = sqlite3_backup_finish(c->backup);
        c->backup = NULL;
    }
    if (code != SQLITE_OK) {
        snprintf(error, error_size, "cannot copy state.db: %s (SQLite %d)",
                 sqlite3_errstr(code), code);
    }
    return code == SQLITE_OK;
}

void statedb_copy_end(struct statedb_copy *c)
{
    if (c == NULL) {
        return;
    }
    (void)sqlite3_backup_finish(c->backup); /* its code was told by the step */
    (void)sqlite3_close(c->to);             /* journal and sync are off */
    if (c->fd >= 0) {
        close(c->fd);
    }
    free(c);
}

/* What a name in a directory says is durable after this. */
bool sync_directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *name = slash != NULL ? mem_printf("%.*s/", (int)(slash - path), path)
                               : mem_strdup(".");
    int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0) {
        close(fd);
    }
    free(name);
    return ok;
}

/* The files beside a database that was closed with an empty WAL. */
static bool remove_beside(const char *path)
{
    static const char *const suffix[] = {"-wal", "-shm"};
    bool ok = true;

    for (size_t i = 0; i < ARRAY_LENGTH(suffix); i++) {
        char *name = mem_printf("%s%s", path, suffix[i]);

        ok = (unlink(name) == 0 || errno == ENOENT) && ok;
        free(name);
    }
    return ok;
}

/*
 * Everything into the file, and the WAL empty, so that the file alone is the
 * old state: nothing but the WAL's name ties a WAL to its database, and an old
 * one beside the new file would be played into it (D3).
 */
static enum statedb_status empty_wal(struct statedb *db)
{
    int frames = 0, moved = 0;
    int code = sqlite3_wal_checkpoint_v2(
        db->writer, NULL, SQLITE_CHECKPOINT_TRUNCATE, &frames, &moved);

    return code == SQLITE_OK ? STATEDB_OK : fail(db, "empty its WAL");
}

enum statedb_status statedb_install(struct statedb *db, const char *path)
{
    enum statedb_status st = empty_wal(db);
    int off;

    if (st != STATEDB_OK) {
        return st;
    }
    db->gone = true;
    (void)sqlite3_db_config(db->writer, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1,
                            &off); /* there is nothing left to move */
    close_writer(db);
    /* The reader has the old files open and may go on with them. */
    if (!remove_beside(db->path) || !sync_directory_of(db->path) ||
        rename(path, db->path) != 0 || !sync_directory_of(path) ||
        !sync_directory_of(db->path)) {
        return fail_with(db, STATEDB_IO, "cannot put %s in its place: %s", path,
                         strerror(errno));
    }
    db->wal_frames = 0;
    st = open_all(db, &db->next_reader);
    db->gone = st != STATEDB_OK;
    return st;
}

bool statedb_is_gone(const struct statedb *db)
{
    return db->gone;
}

void statedb_installed(struct statedb *db)
{
    close_reader(&db->reader);
    db->reader = db->next_reader;
    db->next_reader = (struct reader){0};
}

/* ---- fetching
 * --------------------------------------------------------------------- */

static void copy_row(sqlite3_stmt *row, struct arena *arena,
                     Mvccpb__KeyValue *kv)
{
    struct slice key = column_bytes(row, 0), value = column_bytes(row, 1);

    kv->key.len = key.size;
    kv->key.data = arena_copy(arena, key.data, key.size);
    kv->value.len = value.size;
    kv->value.data = arena_copy(arena, value.data, value.size);
    kv->create_revision = sqlite3_column_int64(row, 2);
    kv->version = sqlite3_column_int64(row, 3);
    kv->lease = sqlite3_column_int64(row, 4);
}

/* What was read is what was written there. */
static bool row_fits(sqlite3_stmt *row, const Mvccpb__KeyValue *kv, int64_t sub)
{
    const struct kv_change c = {
        .mod_revision = kv->mod_revision,
        .sub = sub,
        .create_revision = kv->create_revision,
        .version = kv->version,
        .lease = kv->lease,
        .key = {kv->key.data, kv->key.len},
        .value = {kv->value.data, kv->value.len},
    };

    return sqlite3_column_int64(row, 5) == revision_checksum(&c);
}

bool statedb_fetch(void *statedb, int64_t mod_revision, int64_t sub,
                   struct arena *arena, Mvccpb__KeyValue *kv)
{
    struct statedb *db = statedb;
    const char *why = NULL;

    if (!bind_int(db->reader.fetch, 1, mod_revision) ||
        !bind_int(db->reader.fetch, 2, sub)) {
        why = sqlite3_errmsg(db->reader.db);
    } else if (sqlite3_step(db->reader.fetch) == SQLITE_ROW) {
        copy_row(db->reader.fetch, arena, kv);
        kv->mod_revision = mod_revision;
        if (!row_fits(db->reader.fetch, kv, sub)) {
            why = "the row does not fit its checksum";
        }
    } else {
        why = "the row is not there";
    }
    /* Also ends the read transaction, which would hold the WAL up. */
    if (sqlite3_reset(db->reader.fetch) != SQLITE_OK) {
        why = sqlite3_errmsg(db->reader.db);
    }
    if (why != NULL) {
        snprintf(db->fetch_error, sizeof(db->fetch_error),
                 "%s: cannot read revision %lld.%lld: %s", db->path,
                 (long long)mod_revision, (long long)sub, why);
    }
    return why == NULL;
}
