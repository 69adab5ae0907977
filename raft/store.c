/*
 * store.c - raft.db: the Raft log, term and vote in SQLite.
 *
 * Tables, all of them small but the first:
 *
 *     entry   the log, one row an entry, with the chained checksum
 *     state   one row: term, vote, commit; where the log ends, and with which
 *             checksum. It changes in every transaction, so a lost page of
 *             either table is seen as a difference between them.
 *     cut     one row: the last entry that compaction cut away, and the
 *             configuration as of there. Rows up to it may still be in entry,
 *             waiting to be deleted in small steps; they are no longer log.
 *     meta    one row: whose log this is.
 *     identity  one row: which file this is, and whether its member is still
 *             one. Apart from meta, which older files have without it.
 *
 * The WAL is written full of zeros once and never shortened: a WAL that grows
 * costs a file system transaction a commit. SQLite begins again at its start
 * after each complete checkpoint, and with one connection all are complete.
 */
#include "raft/store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <sqlite3.h>

#include "raft/base.h"
#include "raft/store_format.h"

/* "pwlr": what file(1) and the sqlite3 shell see. Never changes. */
#define APPLICATION_ID 0x70776c72
#define SCHEMA_VERSION 1

#define PAGE_SIZE 4096
#define WAL_HEADER_SIZE 32
#define WAL_FRAME_HEADER_SIZE 24
#define WAL_FRAME_SIZE (WAL_FRAME_HEADER_SIZE + PAGE_SIZE)
#define WAL_PAGES_DEFAULT 2000 /* 8 MB; a checkpoint of it takes some 10 ms */
#define WAL_PAGES_MIN 16

#define STORE_ERROR_SIZE 512

static const char SCHEMA[] =
    "CREATE TABLE entry ("
    " \"index\" INTEGER PRIMARY KEY, term INTEGER NOT NULL,"
    " type INTEGER NOT NULL, data BLOB NOT NULL, checksum INTEGER NOT NULL"
    ") STRICT;"
    "CREATE TABLE state ("
    " id INTEGER PRIMARY KEY CHECK (id = 1), term INTEGER NOT NULL,"
    " voted_for INTEGER NOT NULL, commit_index INTEGER NOT NULL,"
    " last_index INTEGER NOT NULL, last_checksum INTEGER NOT NULL,"
    " checksum INTEGER NOT NULL"
    ") STRICT;"
    "CREATE TABLE cut ("
    " id INTEGER PRIMARY KEY CHECK (id = 1), \"index\" INTEGER NOT NULL,"
    " term INTEGER NOT NULL, entry_checksum INTEGER NOT NULL,"
    " configuration BLOB NOT NULL, checksum INTEGER NOT NULL"
    ") STRICT;"
    "CREATE TABLE meta ("
    " id INTEGER PRIMARY KEY CHECK (id = 1), cluster_id INTEGER NOT NULL,"
    " member_id INTEGER NOT NULL, checksum INTEGER NOT NULL"
    ") STRICT;";

static const char IDENTITY_SCHEMA[] =
    "CREATE TABLE IF NOT EXISTS identity ("
    " id INTEGER PRIMARY KEY CHECK (id = 1), store_id INTEGER NOT NULL,"
    " joined INTEGER NOT NULL, removed INTEGER NOT NULL,"
    " checksum INTEGER NOT NULL"
    ") STRICT;";

/* Statements that are kept. */
#define STATEMENTS(X)                                                          \
    X(BEGIN, "BEGIN IMMEDIATE")                                                \
    X(COMMIT, "COMMIT")                                                        \
    X(APPEND, "INSERT INTO entry VALUES (?1, ?2, ?3, ?4, ?5)")                 \
    X(TRUNCATE, "DELETE FROM entry WHERE \"index\" >= ?1")                     \
    X(DELETE, "DELETE FROM entry WHERE \"index\" < ?1")                        \
    X(GET, "SELECT term, checksum FROM entry WHERE \"index\" = ?1")            \
    X(SCAN, "SELECT \"index\", term, type, data, checksum FROM entry"          \
            " WHERE \"index\" > ?1 ORDER BY \"index\"")                        \
    X(FIRST, "SELECT min(\"index\") FROM entry")                               \
    X(PUT_STATE, "REPLACE INTO state VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)")      \
    X(GET_STATE, "SELECT term, voted_for, commit_index, last_index,"           \
                 " last_checksum, checksum FROM state")                        \
    X(PUT_CUT, "REPLACE INTO cut VALUES (1, ?1, ?2, ?3, ?4, ?5)")              \
    X(GET_CUT, "SELECT \"index\", term, entry_checksum, configuration,"        \
               " checksum FROM cut")                                           \
    X(PUT_META, "REPLACE INTO meta VALUES (1, ?1, ?2, ?3)")                    \
    X(GET_META, "SELECT cluster_id, member_id, checksum FROM meta")

enum statement {
#define X(name, sql) SQL_##name,
    STATEMENTS(X)
#undef X
        N_STATEMENTS
};

static const char *const STATEMENT_SQL[] = {
#define X(name, sql) sql,
    STATEMENTS(X)
#undef X
};

/* The last entry that was cut away; index 0: none. */
struct cut {
    raft_index index;
    raft_term term;
    uint64_t checksum;      /* of that entry: what the next one is chained to */
    uint8_t *configuration; /* encoded */
    size_t configuration_size;
};

struct store {
    sqlite3 *db;
    sqlite3_stmt *statements[N_STATEMENTS];
    char *path;
    uint64_t cluster_id, member_id;
    bool adopt; /* options.adopt */
    uint64_t id;
    bool joined, removed;
    unsigned wal_pages;  /* a checkpoint is due */
    unsigned wal_frames; /* in the WAL and not yet moved; from wal_hook() */
    struct raft_hard_state hard_state;
    struct cut cut;
    raft_index last_index; /* cut.index if there is no entry */
    uint64_t last_checksum;
    raft_index first_row; /* oldest row, cut away or not; 0: there is none */
    enum store_status failed; /* once set, every call answers it (fsync must
                                 not be tried again) */
    raft_index scrubbed;      /* checked up to here in this round */
    struct store_figures figures;
    char error[STORE_ERROR_SIZE];
};

const char *store_status_text(enum store_status st)
{
    static const char *const text[] = {
        [STORE_OK] = "ok",
        [STORE_IO] = "the disk refused",
        [STORE_FULL] = "no space left",
        [STORE_CORRUPT] = "damaged",
        [STORE_LOCKED] = "in use by another process",
        [STORE_MISMATCH] = "belongs to another member or cluster",
        [STORE_VERSION] = "unknown version",
        [STORE_MISSING] = "missing",
    };

    if ((size_t)st >= sizeof text / sizeof text[0]) {
        return "unknown status";
    }
    return text[st];
}

/* ---- failing ------------------------------------------------------------ */

/* What an operator does about it. */
static const char *advice(enum store_status st)
{
    switch (st) {
    case STORE_IO:
        return "check the disk, then start again";
    case STORE_FULL:
        return "free some space, then start again";
    case STORE_CORRUPT:
        return "start it again while the other members run: they repair it; "
               "if there are none, restore a backup";
    case STORE_LOCKED:
        return "is another pawld running on this data directory?";
    case STORE_MISMATCH:
        return "check the data directory and the cluster's settings";
    case STORE_VERSION:
        return "check the path, or start the version of pawl that wrote it";
    case STORE_MISSING:
        return "check the data directory";
    case STORE_OK:
        break;
    }
    return "";
}

/* From here on the store answers st to everything. The first failure stays. */
__attribute__((format(printf, 3, 4))) static enum store_status
fail(struct store *s, enum store_status st, const char *format, ...)
{
    char what[STORE_ERROR_SIZE / 2];
    va_list args;

    ASSERT(st != STORE_OK);
    if (s->failed != STORE_OK) {
        return s->failed;
    }
    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args); /* cut short is fine */
    va_end(args);
    (void)snprintf(s->error, sizeof s->error, "%s: %s (%s); %s", s->path, what,
                   store_status_text(st), advice(st));
    s->failed = st;
    return st;
}

static enum store_status status_of_sqlite(int rc, int system_errno)
{
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return STORE_FULL;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR:      /* our SQL is right, so the schema is not */
    case SQLITE_CONSTRAINT: /* a row where there must be none, or reverse */
    case SQLITE_MISMATCH:
        return STORE_CORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return STORE_LOCKED;
    case SQLITE_IOERR:
        return system_errno == ENOSPC || system_errno == EDQUOT ? STORE_FULL
                                                                : STORE_IO;
    default:
        return STORE_IO;
    }
}

static enum store_status fail_sqlite(struct store *s, int rc, const char *what)
{
    int system_errno = s->db == NULL ? 0 : sqlite3_system_errno(s->db);
    const char *text = sqlite3_errstr(rc);

    if (system_errno != 0) {
        return fail(s, status_of_sqlite(rc, system_errno),
                    "cannot %s: %s (SQLite %d, %s)", what, text, rc,
                    strerror(system_errno));
    }
    return fail(s, status_of_sqlite(rc, 0), "cannot %s: %s (SQLite %d)", what,
                text, rc);
}

const char *store_error(const struct store *s)
{
    return s->error;
}

/* ---- checksums ------------------------------------------------------------
 */

static uint64_t chain_origin(const struct store *s)
{
    return store_format_origin(s->cluster_id, s->member_id);
}

static uint64_t state_checksum(const struct store *s)
{
    return store_format_state(chain_origin(s), &s->hard_state, s->last_index,
                              s->last_checksum);
}

static uint64_t cut_checksum(const struct store *s, const struct cut *c)
{
    return store_format_cut(chain_origin(s), c->index, c->term, c->checksum,
                            c->configuration, c->configuration_size);
}

/* ---- statements ------------------------------------------------------------
 */

static int bind_u64(sqlite3_stmt *stmt, int place, uint64_t value)
{
    return sqlite3_bind_int64(stmt, place, (sqlite3_int64)value);
}

/* Never NULL as a value: an empty blob is not SQL's NULL. */
static int bind_bytes(sqlite3_stmt *stmt, int place, const void *data,
                      size_t size)
{
    return size == 0
               ? sqlite3_bind_zeroblob(stmt, place, 0)
               : sqlite3_bind_blob64(stmt, place, data, size, SQLITE_STATIC);
}

static uint64_t column_u64(sqlite3_stmt *stmt, int column)
{
    return (uint64_t)sqlite3_column_int64(stmt, column);
}

/* Bind n numbers to the first places. */
static enum store_status bind_numbers(struct store *s, enum statement which,
                                      const uint64_t *numbers, int n)
{
    for (int i = 0; i < n; i++) {
        int rc = bind_u64(s->statements[which], i + 1, numbers[i]);

        if (rc != SQLITE_OK) {
            return fail_sqlite(s, rc, "bind a value");
        }
    }
    return STORE_OK;
}

/* Run a bound statement that answers no row. */
static enum store_status run(struct store *s, enum statement which,
                             const char *what)
{
    sqlite3_stmt *stmt = s->statements[which];
    int rc = sqlite3_step(stmt);
    int reset = sqlite3_reset(stmt); /* repeats the error of the step */

    if (rc != SQLITE_DONE) {
        return fail_sqlite(s, rc, what);
    }
    return reset == SQLITE_OK ? STORE_OK : fail_sqlite(s, reset, what);
}

/*
 * Fetch the one row of a statement; *found is false if there is none. The
 * caller reads the columns, then calls finish_row().
 */
static enum store_status fetch_row(struct store *s, enum statement which,
                                   const char *what, bool *found)
{
    int rc = sqlite3_step(s->statements[which]);

    *found = rc == SQLITE_ROW;
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        (void)sqlite3_reset(s->statements[which]); /* says the same again */
        return fail_sqlite(s, rc, what);
    }
    return STORE_OK;
}

static enum store_status finish_row(struct store *s, enum statement which)
{
    int rc = sqlite3_reset(s->statements[which]);

    return rc == SQLITE_OK ? STORE_OK : fail_sqlite(s, rc, "read");
}

/* Every column but those in blobs (a bit set) is an integer, those are blobs.
 */
static bool row_is_well_typed(sqlite3_stmt *stmt, unsigned blobs)
{
    for (int i = 0; i < sqlite3_column_count(stmt); i++) {
        int wanted = (blobs >> i) & 1 ? SQLITE_BLOB : SQLITE_INTEGER;

        if (sqlite3_column_type(stmt, i) != wanted) {
            return false;
        }
    }
    return true;
}

static enum store_status execute(struct store *s, const char *sql,
                                 const char *what)
{
    int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK ? STORE_OK : fail_sqlite(s, rc, what);
}

/* The first column of the first row of sql, as a number; 0 if there is none. */
static enum store_status query_number(struct store *s, const char *sql,
                                      sqlite3_int64 *out)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, &stmt, NULL);

    *out = 0;
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(stmt);
        if (rc == SQLITE_ROW) {
            *out = sqlite3_column_int64(stmt, 0);
        }
        rc = sqlite3_finalize(stmt); /* the step's error, if it had one */
    }
    return rc == SQLITE_OK ? STORE_OK : fail_sqlite(s, rc, "read");
}

static enum store_status prepare_statements(struct store *s)
{
    for (int i = 0; i < N_STATEMENTS; i++) {
        int rc = sqlite3_prepare_v3(s->db, STATEMENT_SQL[i], -1,
                                    SQLITE_PREPARE_PERSISTENT,
                                    &s->statements[i], NULL);

        if (rc != SQLITE_OK) {
            return fail_sqlite(s, rc, "read the schema");
        }
    }
    return STORE_OK;
}

/* ---- settings --------------------------------------------------------------
 */

static enum store_status expect_number(struct store *s, const char *sql,
                                       sqlite3_int64 wanted)
{
    sqlite3_int64 got;
    enum store_status st = query_number(s, sql, &got);

    if (st == STORE_OK && got != wanted) {
        st = fail(s, STORE_IO, "%s is %lld where %lld was asked for", sql,
                  (long long)got, (long long)wanted);
    }
    return st;
}

static enum store_status expect_text(struct store *s, const char *sql,
                                     const char *wanted)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, &stmt, NULL);
    bool same = false;

    if (rc == SQLITE_OK) {
        if (sqlite3_step(stmt) == SQLITE_ROW) {
            const void *text = sqlite3_column_text(stmt, 0);

            same = text != NULL && strcmp(text, wanted) == 0;
        }
        rc = sqlite3_finalize(stmt); /* the step's error, if it had one */
    }
    if (rc != SQLITE_OK) {
        return fail_sqlite(s, rc, "set up SQLite");
    }
    return same ? STORE_OK
                : fail(s, STORE_IO, "%s did not give %s", sql, wanted);
}

/*
 * Settings of the connection that touch nothing in the file. EXCLUSIVE comes
 * before the first read: then the WAL's index lives in our memory and no
 * second process gets in.
 */
static enum store_status configure_connection(struct store *s)
{
    int on = 1;
    int rc = sqlite3_extended_result_codes(s->db, 1);

    if (rc == SQLITE_OK) {
        /* A failed store is closed too: that must not move a page. */
        rc =
            sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_file_control(s->db, "main", SQLITE_FCNTL_PERSIST_WAL, &on);
    }
    if (rc != SQLITE_OK) {
        return fail_sqlite(s, rc, "set up SQLite");
    }
    return execute(s,
                   "PRAGMA locking_mode=EXCLUSIVE; PRAGMA page_size=4096;"
                   "PRAGMA synchronous=FULL; PRAGMA journal_size_limit=-1;"
                   "PRAGMA cell_size_check=ON; PRAGMA secure_delete=OFF;"
                   "PRAGMA temp_store=MEMORY; PRAGMA mmap_size=0;",
                   "set up SQLite");
}

/* What durability stands on is read back and not believed. */
static enum store_status check_settings(struct store *s)
{
    enum store_status st;

    if ((st = expect_text(s, "PRAGMA journal_mode", "wal")) ||
        (st = expect_text(s, "PRAGMA locking_mode", "exclusive")) ||
        (st = expect_number(s, "PRAGMA synchronous", 2)) ||
        (st = expect_number(s, "PRAGMA page_size", PAGE_SIZE)) ||
        (st = expect_number(s, "PRAGMA journal_size_limit", -1)) ||
        (st = expect_number(s, "PRAGMA wal_autocheckpoint", 0))) {
        return st;
    }
    return STORE_OK;
}

/* ---- the WAL ---------------------------------------------------------------
 */

static int count_frames(void *context, sqlite3 *db, const char *name, int n)
{
    struct store *s = context;

    (void)db;
    (void)name;
    s->wal_frames = (unsigned)n;
    return SQLITE_OK;
}

static enum store_status wal_file(struct store *s, sqlite3_file **file,
                                  sqlite3_int64 *size)
{
    int rc =
        sqlite3_file_control(s->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, file);

    if (rc == SQLITE_OK) {
        rc = (*file)->pMethods == NULL
                 ? SQLITE_CANTOPEN
                 : (*file)->pMethods->xFileSize(*file, size);
    }
    return rc == SQLITE_OK ? STORE_OK : fail_sqlite(s, rc, "find the WAL");
}

/* *n_frames: how many frames the WAL held that count. All are moved. */
static enum store_status checkpoint(struct store *s, int mode, int *n_frames)
{
    int n_moved = 0;
    int rc = sqlite3_wal_checkpoint_v2(s->db, "main", mode, n_frames, &n_moved);

    if (rc != SQLITE_OK) {
        return fail_sqlite(s, rc, "checkpoint");
    }
    if (*n_frames != n_moved) { /* one connection: nobody can be in the way */
        return fail(s, STORE_IO, "checkpoint moved %d of %d pages", n_moved,
                    *n_frames);
    }
    s->wal_frames = 0;
    s->figures.checkpoints++;
    return STORE_OK;
}

static uint32_t load_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
           p[3];
}

static uint32_t load_le32(const uint8_t *p)
{
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 |
           p[0];
}

/* SQLite's own check of the WAL's header; see its file format, section 4.2. */
static bool wal_header_is_valid(const uint8_t *header)
{
    uint32_t magic = load_be32(header);
    uint32_t s0 = 0, s1 = 0;

    if ((magic & ~UINT32_C(1)) != 0x377f0682) {
        return false;
    }
    for (size_t i = 0; i < 24; i += 8) {
        s0 += (magic & 1 ? load_be32 : load_le32)(header + i) + s1;
        s1 += (magic & 1 ? load_be32 : load_le32)(header + i + 4) + s0;
    }
    return s0 == load_be32(header + 24) && s1 == load_be32(header + 28);
}

static bool is_all_zero(const uint8_t *p, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (p[i] != 0) {
            return false;
        }
    }
    return true;
}

/* What lies in the WAL behind the frames that SQLite accepted. */
struct wal_tail {
    unsigned n_frames;  /* of the same generation: with the header's salts */
    unsigned n_commits; /* of these, frames that end a transaction */
    bool ends_in_commit;
};

static int scan_wal_tail(sqlite3_file *file, sqlite3_int64 size,
                         const uint8_t *wal_header, int n_valid,
                         struct wal_tail *tail)
{
    sqlite3_int64 at =
        WAL_HEADER_SIZE + (sqlite3_int64)n_valid * WAL_FRAME_SIZE;
    uint8_t frame[WAL_FRAME_HEADER_SIZE];

    for (; at + WAL_FRAME_SIZE <= size; at += WAL_FRAME_SIZE) {
        int rc = file->pMethods->xRead(file, frame, sizeof frame, at);

        if (rc != SQLITE_OK) {
            return rc;
        }
        if (memcmp(frame + 8, wal_header + 16, 8) != 0) {
            continue; /* of an earlier generation, or never written */
        }
        tail->n_frames++;
        tail->ends_in_commit = load_be32(frame + 4) != 0;
        tail->n_commits += tail->ends_in_commit;
    }
    return SQLITE_OK;
}

/*
 * Tell a torn tail from damage. SQLite takes the WAL up to the first frame
 * that does not check, and says nothing about it. A commit is synced before
 * the next one is begun, so only one transaction can be torn: if more
 * transactions follow the bad frame, it was whole once, and what it held was
 * promised. Without this, one flipped bit would silently take back votes and
 * acknowledged entries. (A flip in the very last transaction can not be told
 * from a tear.)
 */
static enum store_status check_wal(struct store *s, int n_valid, bool *torn)
{
    uint8_t header[WAL_HEADER_SIZE + WAL_FRAME_HEADER_SIZE] = {0};
    struct wal_tail tail = {0};
    sqlite3_file *file;
    sqlite3_int64 size;
    enum store_status st = wal_file(s, &file, &size);
    int rc;

    *torn = false;
    if (st != STORE_OK || size < (sqlite3_int64)sizeof header) {
        return st;
    }
    rc = file->pMethods->xRead(file, header, sizeof header, 0);
    if (rc == SQLITE_OK && is_all_zero(header, sizeof header)) {
        return STORE_OK; /* grown, and not used yet */
    }
    if (rc == SQLITE_OK && !wal_header_is_valid(header)) {
        return fail(s, STORE_CORRUPT, "the header of its WAL is damaged");
    }
    if (rc == SQLITE_OK) {
        rc = scan_wal_tail(file, size, header, n_valid, &tail);
    }
    if (rc != SQLITE_OK) {
        return fail_sqlite(s, rc, "read the WAL");
    }
    if (tail.n_commits > 1 || (tail.n_commits == 1 && !tail.ends_in_commit)) {
        return fail(s, STORE_CORRUPT,
                    "frame %d of its WAL is damaged, and synced commits follow",
                    n_valid + 1);
    }
    *torn = tail.n_frames > 0;
    return STORE_OK;
}

/* Where the frames of the WAL's present generation end, whole or torn. */
static int find_wal_end(sqlite3_file *file, sqlite3_int64 size,
                        sqlite3_int64 *end)
{
    uint8_t header[WAL_HEADER_SIZE], frame[WAL_FRAME_HEADER_SIZE];
    int rc = SQLITE_OK;

    *end = 0;
    if (size < WAL_HEADER_SIZE) {
        return SQLITE_OK;
    }
    rc = file->pMethods->xRead(file, header, sizeof header, 0);
    for (*end = WAL_HEADER_SIZE;
         rc == SQLITE_OK && *end + WAL_FRAME_SIZE <= size;
         *end += WAL_FRAME_SIZE) {
        rc = file->pMethods->xRead(file, frame, sizeof frame, *end);
        if (memcmp(frame + 8, header + 16, 8) != 0) {
            break;
        }
    }
    return rc;
}

/*
 * Make true again what recovery will find. The last process may have written
 * frames that never got synced, or whose sync failed: they look fine until the
 * power goes, and a sync alone would not help, since after a failed one the
 * kernel takes them for clean. So they are written once more, and synced,
 * before SQLite moves a page or anybody believes one.
 */
static enum store_status rewrite_wal(struct store *s)
{
    uint8_t buffer[16 * PAGE_SIZE];
    sqlite3_file *file;
    sqlite3_int64 size, end = 0;
    enum store_status st = wal_file(s, &file, &size);
    int rc;

    if (st != STORE_OK) {
        return st;
    }
    rc = find_wal_end(file, size, &end);
    for (sqlite3_int64 at = 0; rc == SQLITE_OK && at < end;) {
        sqlite3_int64 left = end - at, room = (sqlite3_int64)sizeof buffer;
        int n = (int)(left < room ? left : room);

        rc = file->pMethods->xRead(file, buffer, n, at);
        if (rc == SQLITE_OK) {
            rc = file->pMethods->xWrite(file, buffer, n, at);
        }
        at += n;
    }
    if (rc == SQLITE_OK && end > 0) {
        rc = file->pMethods->xSync(file, SQLITE_SYNC_NORMAL);
    }
    return rc == SQLITE_OK ? STORE_OK : fail_sqlite(s, rc, "settle the WAL");
}

/*
 * Begin with everything in its place: pages in the database, nothing torn. The
 * remains of a torn transaction go, so that they can not be mixed up with a
 * later one.
 */
static enum store_status settle_wal(struct store *s)
{
    int n_valid = 0;
    bool torn = false;
    enum store_status st;

    if ((st = rewrite_wal(s)) ||
        (st = checkpoint(s, SQLITE_CHECKPOINT_PASSIVE, &n_valid)) ||
        (st = check_wal(s, n_valid, &torn))) {
        return st;
    }
    return torn ? checkpoint(s, SQLITE_CHECKPOINT_TRUNCATE, &n_valid)
                : STORE_OK;
}

/* Write zeros behind the end of the WAL until it has its size, and sync. */
static enum store_status grow_wal(struct store *s)
{
    static const uint8_t zeros[16 * PAGE_SIZE];
    sqlite3_int64 wanted =
        WAL_HEADER_SIZE + (sqlite3_int64)s->wal_pages * 5 / 4 * WAL_FRAME_SIZE;
    sqlite3_file *file = NULL;
    sqlite3_int64 size = 0;
    enum store_status st = wal_file(s, &file, &size);
    int rc;

    if (st != STORE_OK || size >= wanted) {
        return st;
    }
    /* If it was just cut to nothing, that comes first: zeros among the old
     * frames would undo some of what the database already has. */
    rc = file->pMethods->xSync(file, SQLITE_SYNC_NORMAL);
    while (rc == SQLITE_OK && size < wanted) {
        sqlite3_int64 n = wanted - size;

        n = n < (sqlite3_int64)sizeof zeros ? n : (sqlite3_int64)sizeof zeros;
        rc = file->pMethods->xWrite(file, zeros, (int)n, size);
        size += n;
    }
    if (rc == SQLITE_OK) {
        rc = file->pMethods->xSync(file, SQLITE_SYNC_NORMAL);
    }
    return rc == SQLITE_OK ? STORE_OK : fail_sqlite(s, rc, "grow the WAL");
}

enum store_status store_checkpoint(struct store *s, bool force)
{
    int n_frames = 0;

    if (s->failed != STORE_OK) {
        return s->failed;
    }
    if (s->wal_frames == 0 || (!force && s->wal_frames < s->wal_pages / 2)) {
        return STORE_OK;
    }
    return checkpoint(s, SQLITE_CHECKPOINT_PASSIVE, &n_frames);
}

/* ---- single rows ------------------------------------------------------------
 */

static enum store_status put_state(struct store *s)
{
    const uint64_t numbers[] = {s->hard_state.term,   s->hard_state.voted_for,
                                s->hard_state.commit, s->last_index,
                                s->last_checksum,     state_checksum(s)};
    enum store_status st = bind_numbers(s, SQL_PUT_STATE, numbers, 6);

    return st != STORE_OK ? st : run(s, SQL_PUT_STATE, "write term and vote");
}

static enum store_status get_state(struct store *s)
{
    sqlite3_stmt *stmt = s->statements[SQL_GET_STATE];
    bool found;
    enum store_status st =
        fetch_row(s, SQL_GET_STATE, "read term and vote", &found);

    if (st != STORE_OK) {
        return st;
    }
    if (!found || !row_is_well_typed(stmt, 0)) {
        return fail(s, STORE_CORRUPT, "the row with term and vote is lost");
    }
    s->hard_state.term = column_u64(stmt, 0);
    s->hard_state.voted_for = column_u64(stmt, 1);
    s->hard_state.commit = column_u64(stmt, 2);
    s->last_index = column_u64(stmt, 3);
    s->last_checksum = column_u64(stmt, 4);
    if (column_u64(stmt, 5) != state_checksum(s)) {
        return fail(s, STORE_CORRUPT, "the row with term and vote is damaged");
    }
    return finish_row(s, SQL_GET_STATE);
}

static enum store_status put_cut(struct store *s, const struct cut *c)
{
    const uint64_t numbers[] = {c->index, c->term, c->checksum};
    sqlite3_stmt *stmt = s->statements[SQL_PUT_CUT];
    enum store_status st = bind_numbers(s, SQL_PUT_CUT, numbers, 3);
    int rc;

    if (st != STORE_OK) {
        return st;
    }
    rc = bind_bytes(stmt, 4, c->configuration, c->configuration_size);
    if (rc == SQLITE_OK) {
        rc = bind_u64(stmt, 5, cut_checksum(s, c));
    }
    return rc == SQLITE_OK ? run(s, SQL_PUT_CUT, "write where the log begins")
                           : fail_sqlite(s, rc, "bind a value");
}

static enum store_status get_cut(struct store *s)
{
    sqlite3_stmt *stmt = s->statements[SQL_GET_CUT];
    struct cut *c = &s->cut;
    bool found;
    enum store_status st =
        fetch_row(s, SQL_GET_CUT, "read where the log begins", &found);

    if (st != STORE_OK) {
        return st;
    }
    if (!found || !row_is_well_typed(stmt, 1 << 3)) {
        return fail(s, STORE_CORRUPT, "the row with the log's begin is lost");
    }
    c->index = column_u64(stmt, 0);
    c->term = column_u64(stmt, 1);
    c->checksum = column_u64(stmt, 2);
    c->configuration_size = (size_t)sqlite3_column_bytes(stmt, 3);
    c->configuration = raft_alloc(c->configuration_size, 1);
    if (c->configuration_size > 0) {
        memcpy(c->configuration, sqlite3_column_blob(stmt, 3),
               c->configuration_size);
    }
    if (column_u64(stmt, 4) != cut_checksum(s, c)) {
        return fail(s, STORE_CORRUPT,
                    "the row with the log's begin is damaged");
    }
    return finish_row(s, SQL_GET_CUT);
}

static enum store_status put_meta(struct store *s)
{
    const uint64_t numbers[] = {s->cluster_id, s->member_id, chain_origin(s)};
    enum store_status st = bind_numbers(s, SQL_PUT_META, numbers, 3);

    return st != STORE_OK ? st : run(s, SQL_PUT_META, "write the member's id");
}

/* Is it the log of the member that opens it? */
static enum store_status check_meta(struct store *s)
{
    sqlite3_stmt *stmt = s->statements[SQL_GET_META];
    const struct store wanted = {.cluster_id = s->cluster_id,
                                 .member_id = s->member_id};
    struct store found_in = {0};
    bool found;
    enum store_status st =
        fetch_row(s, SQL_GET_META, "read the member's id", &found);

    if (st != STORE_OK) {
        return st;
    }
    if (!found || !row_is_well_typed(stmt, 0)) {
        return fail(s, STORE_CORRUPT, "the row with the member's id is lost");
    }
    found_in.cluster_id = column_u64(stmt, 0);
    found_in.member_id = column_u64(stmt, 1);
    if (column_u64(stmt, 2) != chain_origin(&found_in)) {
        return fail(s, STORE_CORRUPT,
                    "the row with the member's id is damaged");
    }
    if (s->adopt) {
        s->cluster_id = found_in.cluster_id;
        s->member_id = found_in.member_id;
    } else if (chain_origin(&found_in) != chain_origin(&wanted)) {
        return fail(s, STORE_MISMATCH,
                    "it is the log of member %" PRIx64 " of cluster %" PRIx64
                    ", not of member %" PRIx64 " of cluster %" PRIx64,
                    found_in.member_id, found_in.cluster_id, s->member_id,
                    s->cluster_id);
    }
    return finish_row(s, SQL_GET_META);
}

static uint64_t identity_checksum(const struct store *s)
{
    return store_format_identity(chain_origin(s), s->id, s->joined, s->removed);
}

static enum store_status put_identity(struct store *s)
{
    char sql[160];

    (void)snprintf(sql, sizeof sql,
                   "REPLACE INTO identity VALUES (1, %" PRId64 ", %d, %d, "
                   "%" PRId64 ")",
                   (int64_t)s->id, s->joined, s->removed,
                   (int64_t)identity_checksum(s));
    return execute(s, sql, "write which file this is");
}

/* An older file has none: it gets one now. */
static enum store_status get_identity(struct store *s)
{
    sqlite3_int64 n, id, joined, removed, checksum;
    enum store_status st;

    if ((st = execute(s, IDENTITY_SCHEMA, "create a table")) ||
        (st = query_number(s, "SELECT count(*) FROM identity", &n))) {
        return st;
    }
    if (n == 0) {
        return put_identity(s);
    }
    if ((st = query_number(s, "SELECT store_id FROM identity", &id)) ||
        (st = query_number(s, "SELECT joined FROM identity", &joined)) ||
        (st = query_number(s, "SELECT removed FROM identity", &removed)) ||
        (st = query_number(s, "SELECT checksum FROM identity", &checksum))) {
        return st;
    }
    s->id = (uint64_t)id;
    s->joined = joined != 0;
    s->removed = removed != 0;
    if ((uint64_t)checksum != identity_checksum(s)) {
        return fail(s, STORE_CORRUPT,
                    "the row that says which file this is is damaged");
    }
    return STORE_OK;
}

static enum store_status get_first_row(struct store *s)
{
    sqlite3_stmt *stmt = s->statements[SQL_FIRST];
    bool found;
    enum store_status st = fetch_row(s, SQL_FIRST, "read the log", &found);

    if (st != STORE_OK) {
        return st;
    }
    s->first_row = found ? column_u64(stmt, 0) : 0; /* NULL reads as 0 */
    return finish_row(s, SQL_FIRST);
}

/* ---- open and close
 * ---------------------------------------------------------- */

static enum store_status create_tables(struct store *s)
{
    char sql[128];
    enum store_status st;

    (void)snprintf(sql, sizeof sql,
                   "PRAGMA application_id=%d; PRAGMA user_version=%d;",
                   APPLICATION_ID, SCHEMA_VERSION);
    if ((st = expect_text(s, "PRAGMA journal_mode=WAL", "wal")) ||
        (st = execute(s, "BEGIN IMMEDIATE", "begin")) ||
        (st = execute(s, SCHEMA, "create the tables")) ||
        (st = execute(s, IDENTITY_SCHEMA, "create the tables")) ||
        (st = execute(s, sql, "create the tables")) ||
        (st = prepare_statements(s))) {
        return st;
    }
    s->last_checksum = s->cut.checksum = chain_origin(s);
    if ((st = put_meta(s)) || (st = put_identity(s)) ||
        (st = put_cut(s, &s->cut)) || (st = put_state(s))) {
        return st;
    }
    return run(s, SQL_COMMIT, "create the tables");
}

/*
 * *empty: there is a file, but nothing was ever committed to it: a start that
 * was cut off before its tables were there.
 */
static enum store_status check_version(struct store *s, bool *empty)
{
    sqlite3_int64 application_id, version, n_tables;
    enum store_status st;

    if ((st = query_number(s, "PRAGMA application_id", &application_id)) ||
        (st = query_number(s, "PRAGMA user_version", &version)) ||
        (st = query_number(s, "SELECT count(*) FROM sqlite_schema",
                           &n_tables))) {
        return st;
    }
    *empty = application_id == 0 && version == 0 && n_tables == 0;
    if (*empty) {
        return STORE_OK;
    }
    if (application_id != APPLICATION_ID) {
        return fail(s, STORE_VERSION, "it is not a log of pawl");
    }
    if (version != SCHEMA_VERSION) {
        return fail(s, STORE_VERSION,
                    "its version is %lld, this pawl knows version %d",
                    (long long)version, SCHEMA_VERSION);
    }
    return STORE_OK;
}

static enum store_status read_rows(struct store *s)
{
    enum store_status st;

    if ((st = get_identity(s)) || (st = get_cut(s)) || (st = get_state(s)) ||
        (st = get_first_row(s))) {
        return st;
    }
    if (s->last_index < s->cut.index) {
        return fail(s, STORE_CORRUPT,
                    "the log ends at %" PRIu64 " and begins behind %" PRIu64,
                    s->last_index, s->cut.index);
    }
    return STORE_OK;
}

/* Whose it is comes first: another's log is not touched. */
static enum store_status recover(struct store *s)
{
    sqlite3_int64 version;
    enum store_status st;

    if ((st = prepare_statements(s)) || (st = check_meta(s)) ||
        (st = expect_text(s, "PRAGMA journal_mode=WAL", "wal"))) {
        return st;
    }
    /* Some read, so that the WAL is open even if it was another mode. */
    if ((st = query_number(s, "PRAGMA user_version", &version)) ||
        (st = settle_wal(s))) {
        return st;
    }
    return read_rows(s);
}

static enum store_status open_file(struct store *s,
                                   const struct store_options *options)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
    sqlite3_vfs *vfs = sqlite3_vfs_find(options->vfs);
    int exists = 0;
    int rc;

    if (vfs == NULL) {
        return fail(s, STORE_IO, "there is no SQLite VFS of that name");
    }
    rc = vfs->xAccess(vfs, options->path, SQLITE_ACCESS_EXISTS, &exists);
    if (rc != SQLITE_OK) {
        return fail_sqlite(s, rc, "look for the file");
    }
    if (!exists && !options->create) {
        return fail(s, STORE_MISSING, "there is no log");
    }
    flags |= options->create ? SQLITE_OPEN_CREATE : 0;
    rc = sqlite3_open_v2(options->path, &s->db, flags, options->vfs);
    return rc == SQLITE_OK ? STORE_OK : fail_sqlite(s, rc, "open");
}

static enum store_status open_or_create(struct store *s,
                                        const struct store_options *options)
{
    bool empty = false;
    enum store_status st;

    if ((st = open_file(s, options)) || (st = configure_connection(s)) ||
        (st = check_version(s, &empty))) {
        return st;
    }
    if (empty && !options->create) {
        return fail(s, STORE_MISSING, "the file is empty");
    }
    (void)sqlite3_wal_hook(s->db, count_frames, s); /* returns the old one */
    if ((st = empty ? create_tables(s) : recover(s)) ||
        (st = check_settings(s)) || (st = grow_wal(s))) {
        return st;
    }
    return store_checkpoint(s, true);
}

static char *copy_text(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = raft_alloc(size, 1);

    memcpy(copy, text, size);
    return copy;
}

enum store_status store_open(const struct store_options *options,
                             struct store **out, char *error, size_t error_size)
{
    struct store *s = raft_alloc(1, sizeof *s);
    unsigned wal_pages =
        options->wal_pages == 0 ? WAL_PAGES_DEFAULT : options->wal_pages;
    enum store_status st;

    *out = NULL;
    s->path = copy_text(options->path);
    s->cluster_id = options->cluster_id;
    s->member_id = options->member_id;
    s->adopt = options->adopt;
    s->id = options->store_id != 0 ? options->store_id : 1;
    s->joined = options->joined;
    s->wal_pages = wal_pages < WAL_PAGES_MIN ? WAL_PAGES_MIN : wal_pages;
    st = open_or_create(s, options);
    if (st != STORE_OK) {
        if (error_size > 0) {
            (void)snprintf(error, error_size, "%s", s->error);
        }
        store_close(s);
        return st;
    }
    *out = s;
    return STORE_OK;
}

void store_close(struct store *s)
{
    if (s == NULL) {
        return;
    }
    for (int i = 0; i < N_STATEMENTS; i++) {
        (void)sqlite3_finalize(s->statements[i]); /* says old errors again */
    }
    /* Nothing is written here, so nothing can be lost with the answer. */
    (void)sqlite3_close(s->db);
    raft_free(s->cut.configuration);
    raft_free(s->path);
    raft_free(s);
}

uint64_t store_cluster_id(const struct store *s)
{
    return s->cluster_id;
}

uint64_t store_member_id(const struct store *s)
{
    return s->member_id;
}

uint64_t store_id(const struct store *s)
{
    return s->id;
}

bool store_joined(const struct store *s)
{
    return s->joined;
}

bool store_is_removed(const struct store *s)
{
    return s->removed;
}

enum store_status store_set_removed(struct store *s)
{
    if (s->failed != STORE_OK) {
        return s->failed;
    }
    s->removed = true;
    return put_identity(s);
}

bool store_is_new(const struct store *s)
{
    return s->last_index == 0 && s->cut.index == 0 && s->hard_state.term == 0 &&
           s->hard_state.voted_for == 0 && s->hard_state.commit == 0;
}

/* ---- load
 * -------------------------------------------------------------------- */

/* Read the row that the scan stands on; the data is copied. */
static void read_entry(sqlite3_stmt *stmt, struct raft_entry *e)
{
    e->index = column_u64(stmt, 0);
    e->term = column_u64(stmt, 1);
    e->type = (enum raft_entry_type)sqlite3_column_int(stmt, 2);
    e->size = (size_t)sqlite3_column_bytes(stmt, 3);
    if (e->size > 0) {
        uint8_t *data = raft_alloc(e->size, 1);

        memcpy(data, sqlite3_column_blob(stmt, 3), e->size);
        e->data = data;
    }
}

/* The entry that must be the next one, chained to *checksum. */
static enum store_status load_entry(struct store *s, raft_index wanted,
                                    struct raft_entry *e, uint64_t *checksum)
{
    sqlite3_stmt *stmt = s->statements[SQL_SCAN];
    bool found;
    enum store_status st = fetch_row(s, SQL_SCAN, "read the log", &found);

    if (st != STORE_OK) {
        return st;
    }
    if (!found || column_u64(stmt, 0) != wanted) {
        return fail(s, STORE_CORRUPT, "entry %" PRIu64 " is lost", wanted);
    }
    if (!row_is_well_typed(stmt, 1 << 3)) {
        return fail(s, STORE_CORRUPT, "entry %" PRIu64 " is damaged", wanted);
    }
    read_entry(stmt, e);
    *checksum = store_format_entry(*checksum, e);
    if (*checksum != column_u64(stmt, 4)) {
        return fail(s, STORE_CORRUPT,
                    "entry %" PRIu64 " is damaged: its checksum does not "
                    "follow from the entry before",
                    wanted);
    }
    return STORE_OK;
}

static enum store_status load_entries(struct store *s,
                                      struct store_content *out)
{
    size_t n = (size_t)(s->last_index - s->cut.index);
    uint64_t checksum = s->cut.checksum;
    bool more;
    enum store_status st = bind_numbers(s, SQL_SCAN, &s->cut.index, 1);
    size_t n_room = 0;

    for (size_t i = 0; st == STORE_OK && i < n; i++) {
        if (i == n_room) { /* by doubling: n is not yet to be trusted */
            n_room = n_room == 0 ? 64 : 2 * n_room;
            out->entries =
                raft_realloc(out->entries, n_room, sizeof *out->entries);
        }
        out->entries[i] = (struct raft_entry){0};
        out->n_entries = i + 1;
        st = load_entry(s, s->cut.index + i + 1, &out->entries[i], &checksum);
    }
    if (st == STORE_OK) {
        st = fetch_row(s, SQL_SCAN, "read the log", &more);
    }
    if (st == STORE_OK && (more || checksum != s->last_checksum)) {
        st = fail(s, STORE_CORRUPT, "the log does not end at entry %" PRIu64,
                  s->last_index);
    }
    return st == STORE_OK ? finish_row(s, SQL_SCAN) : st;
}

enum store_status store_load(struct store *s, struct store_content *out)
{
    enum store_status st;

    *out = (struct store_content){0};
    if (s->failed != STORE_OK) {
        return s->failed;
    }
    out->hard_state = s->hard_state;
    out->first_prev_index = s->cut.index;
    out->first_prev_term = s->cut.term;
    st = load_entries(s, out);
    if (st == STORE_OK && s->cut.index > 0 &&
        !raft_configuration_decode(&out->configuration, s->cut.configuration,
                                   s->cut.configuration_size)) {
        st = fail(s, STORE_CORRUPT,
                  "the configuration as of entry %" PRIu64 " can not be read",
                  s->cut.index);
    }
    if (st != STORE_OK) {
        store_content_release(out);
    }
    return st;
}

void store_content_release(struct store_content *c)
{
    for (size_t i = 0; i < c->n_entries; i++) {
        raft_free((void *)c->entries[i].data);
    }
    raft_free(c->entries);
    if (c->first_prev_index > 0 && c->configuration.servers != NULL) {
        raft_configuration_release(&c->configuration);
    }
    *c = (struct store_content){0};
}

/* ---- write
 * ------------------------------------------------------------------- */

/* Term and checksum of an entry that the log holds, or of the cut. */
static enum store_status get_entry(struct store *s, raft_index index,
                                   raft_term *term, uint64_t *checksum)
{
    sqlite3_stmt *stmt = s->statements[SQL_GET];
    bool found;
    enum store_status st;

    if (index == s->cut.index) {
        *term = s->cut.term;
        *checksum = s->cut.checksum;
        return STORE_OK;
    }
    if ((st = bind_numbers(s, SQL_GET, &index, 1)) ||
        (st = fetch_row(s, SQL_GET, "read the log", &found))) {
        return st;
    }
    if (!found) {
        return fail(s, STORE_CORRUPT, "entry %" PRIu64 " is lost", index);
    }
    *term = column_u64(stmt, 0);
    *checksum = column_u64(stmt, 1);
    return finish_row(s, SQL_GET);
}

static enum store_status truncate_log(struct store *s, raft_index from)
{
    raft_term term;
    enum store_status st;

    ASSERT(from > s->cut.index); /* what was cut away was committed */
    if (from > s->last_index) {
        return STORE_OK;
    }
    if ((st = get_entry(s, from - 1, &term, &s->last_checksum)) ||
        (st = bind_numbers(s, SQL_TRUNCATE, &from, 1)) ||
        (st = run(s, SQL_TRUNCATE, "cut the log"))) {
        return st;
    }
    s->last_index = from - 1;
    if (s->first_row >= from) {
        s->first_row = 0;
    }
    return STORE_OK;
}

static enum store_status append_entry(struct store *s,
                                      const struct raft_entry *e)
{
    sqlite3_stmt *stmt = s->statements[SQL_APPEND];
    uint64_t checksum = store_format_entry(s->last_checksum, e);
    int rc;

    ASSERT(e->index == s->last_index + 1); /* a hole would never be filled */
    if ((rc = bind_u64(stmt, 1, e->index)) ||
        (rc = bind_u64(stmt, 2, e->term)) ||
        (rc = sqlite3_bind_int(stmt, 3, (int)e->type)) ||
        (rc = bind_bytes(stmt, 4, e->data, e->size)) ||
        (rc = bind_u64(stmt, 5, checksum))) {
        return fail_sqlite(s, rc, "bind an entry");
    }
    s->last_index = e->index;
    s->last_checksum = checksum;
    if (s->first_row == 0) {
        s->first_row = e->index;
    }
    s->figures.entries_written++;
    return run(s, SQL_APPEND, "append to the log");
}

/*
 * What entry index + 1 is chained to after a restore: we never saw the entry
 * at index, so there is no checksum of it. Another restore gives another one,
 * and entries of the log before can not be mistaken for those after.
 */
static uint64_t chain_restored(const struct store *s,
                               const struct raft_snapshot *snapshot)
{
    const uint64_t numbers[] = {chain_origin(s), snapshot->index,
                                snapshot->term};

    return store_format_numbers(numbers, 3, 1);
}

/* Rows up to the snapshot's index are dead from now on; see delete_rows(). */
static enum store_status delete_rows_from(struct store *s, raft_index from)
{
    enum store_status st = bind_numbers(s, SQL_TRUNCATE, &from, 1);

    if (st == STORE_OK) {
        st = run(s, SQL_TRUNCATE, "forget the log");
    }
    if (s->first_row >= from) {
        s->first_row = 0;
    }
    return st;
}

/* The state machine was replaced by a snapshot: so is the log. */
static enum store_status restore_log(struct store *s,
                                     const struct raft_snapshot *snapshot)
{
    struct cut c = {.index = snapshot->index, .term = snapshot->term};
    enum store_status st;

    ASSERT(snapshot->index > s->cut.index); /* what was cut is committed */
    c.checksum = chain_restored(s, snapshot);
    c.configuration = raft_configuration_encode(&snapshot->configuration,
                                                &c.configuration_size);
    st = delete_rows_from(s, snapshot->index + 1);
    if (st == STORE_OK) {
        st = put_cut(s, &c);
    }
    raft_free(s->cut.configuration);
    s->cut = c;
    s->last_index = c.index;
    s->last_checksum = c.checksum;
    return st;
}

static enum store_status write_batch(struct store *s,
                                     const struct store_batch *b)
{
    enum store_status st = STORE_OK;

    if (b->restore != NULL) {
        st = restore_log(s, b->restore);
    }
    if (st == STORE_OK && b->truncate_from != 0) {
        st = truncate_log(s, b->truncate_from);
    }
    for (size_t i = 0; st == STORE_OK && i < b->n_entries; i++) {
        st = append_entry(s, &b->entries[i]);
    }
    if (b->hard_state != NULL) {
        s->hard_state = *b->hard_state;
    }
    return st;
}

/*
 * A busy caller may never find time for store_checkpoint(): the WAL is kept
 * within its size from here. Before the write, so that no reply that is ready
 * waits for it.
 */
static enum store_status begin(struct store *s)
{
    int n_frames;
    enum store_status st = STORE_OK;

    if (s->wal_frames >= s->wal_pages) {
        st = checkpoint(s, SQLITE_CHECKPOINT_PASSIVE, &n_frames);
    }
    return st == STORE_OK ? run(s, SQL_BEGIN, "begin") : st;
}

static enum store_status commit(struct store *s)
{
    enum store_status st = put_state(s);

    if (st == STORE_OK) {
        st = run(s, SQL_COMMIT, "commit");
    }
    s->figures.transactions += st == STORE_OK;
    return st;
}

enum store_status store_write(struct store *s,
                              const struct store_batch *batches, size_t n)
{
    enum store_status st;

    if (s->failed != STORE_OK) {
        return s->failed;
    }
    st = begin(s);
    for (size_t i = 0; st == STORE_OK && i < n; i++) {
        st = write_batch(s, &batches[i]);
    }
    return st == STORE_OK ? commit(s) : st;
}

/* ---- a repaired log
 * ------------------------------------------------------------ */

static enum store_status begin_behind(struct store *s,
                                      const struct store_content *c,
                                      uint64_t prev_checksum)
{
    struct cut cut = {.index = c->first_prev_index,
                      .term = c->first_prev_term,
                      .checksum = prev_checksum};
    enum store_status st;

    if (cut.index == 0) {
        return STORE_OK;
    }
    cut.configuration =
        raft_configuration_encode(&c->configuration, &cut.configuration_size);
    st = put_cut(s, &cut);
    raft_free(s->cut.configuration);
    s->cut = cut;
    s->last_index = cut.index;
    s->last_checksum = cut.checksum;
    return st;
}

enum store_status store_fill(struct store *s, const struct store_content *c,
                             uint64_t prev_checksum, uint64_t *last_checksum)
{
    struct store_batch b = {
        .entries = c->entries,
        .n_entries = c->n_entries,
        .hard_state = &c->hard_state,
    };
    enum store_status st = s->failed;

    ASSERT(store_is_new(s));
    if (st == STORE_OK && (st = begin(s)) == STORE_OK &&
        (st = begin_behind(s, c, prev_checksum)) == STORE_OK &&
        (st = write_batch(s, &b)) == STORE_OK) {
        st = commit(s);
    }
    *last_checksum = s->last_checksum;
    return st;
}

/* ---- compaction
 * ---------------------------------------------------------------- */

/* From here on the log begins behind index; rows go later. */
static enum store_status
move_cut(struct store *s, raft_index index,
         const struct raft_configuration *configuration)
{
    struct cut c = {.index = index};
    enum store_status st = get_entry(s, index, &c.term, &c.checksum);

    if (st != STORE_OK) {
        return st;
    }
    c.configuration =
        raft_configuration_encode(configuration, &c.configuration_size);
    st = put_cut(s, &c);
    raft_free(s->cut.configuration);
    s->cut = c;
    return st;
}

/* Rows in the table that are cut away already. */
static raft_index n_dead_rows(const struct store *s)
{
    return s->first_row == 0 || s->first_row > s->cut.index
               ? 0
               : s->cut.index - s->first_row + 1;
}

static enum store_status delete_rows(struct store *s, size_t n_max)
{
    raft_index n_dead = n_dead_rows(s);
    raft_index end = s->first_row + (n_dead < n_max ? n_dead : n_max);
    enum store_status st;

    if (n_dead == 0 || n_max == 0) {
        return STORE_OK;
    }
    if ((st = bind_numbers(s, SQL_DELETE, &end, 1)) ||
        (st = run(s, SQL_DELETE, "delete old entries"))) {
        return st;
    }
    s->first_row = end > s->last_index ? 0 : end;
    return STORE_OK;
}

enum store_status store_compact(struct store *s, raft_index index,
                                const struct raft_configuration *configuration,
                                size_t n_max, size_t *left)
{
    enum store_status st = s->failed;

    *left = 0;
    if (st != STORE_OK || (index <= s->cut.index && n_dead_rows(s) == 0)) {
        return st;
    }
    ASSERT(index <= s->last_index);
    if ((st = begin(s)) == STORE_OK && index > s->cut.index) {
        st = move_cut(s, index, configuration);
    }
    if (st == STORE_OK && (st = delete_rows(s, n_max)) == STORE_OK) {
        st = commit(s);
    }
    *left = (size_t)n_dead_rows(s);
    return st;
}

/* ---- scrubbing
 * ----------------------------------------------------------------- */

/* The rows behind `at`, whose checksum it is; stops at the log's end. */
static enum store_status scrub_rows(struct store *s, raft_index at,
                                    uint64_t checksum, size_t n)
{
    enum store_status st = bind_numbers(s, SQL_SCAN, &at, 1);

    for (size_t i = 0; st == STORE_OK && i < n && at < s->last_index; i++) {
        struct raft_entry e = {0};

        st = load_entry(s, ++at, &e, &checksum);
        raft_free((void *)e.data);
    }
    if (st == STORE_OK && at == s->last_index && checksum != s->last_checksum) {
        st = fail(s, STORE_CORRUPT, "the log does not end at entry %" PRIu64,
                  at);
    }
    s->scrubbed = at;
    return st == STORE_OK ? finish_row(s, SQL_SCAN) : st;
}

enum store_status store_scrub(struct store *s, size_t n_max)
{
    raft_term term;
    uint64_t checksum;
    enum store_status st = s->failed;

    if (st != STORE_OK) {
        return st;
    }
    /* Not from memory: what the disk holds is asked. */
    (void)sqlite3_db_release_memory(s->db);
    if (s->scrubbed < s->cut.index || s->scrubbed >= s->last_index) {
        s->scrubbed = s->cut.index; /* the next round; or it was cut */
    }
    st = get_entry(s, s->scrubbed, &term, &checksum);
    return st == STORE_OK ? scrub_rows(s, s->scrubbed, checksum, n_max) : st;
}

/* ---- figures
 * -------------------------------------------------------------------- */

static uint64_t file_bytes(sqlite3 *db, int which)
{
    sqlite3_file *file = NULL;
    sqlite3_int64 size = 0;

    if (sqlite3_file_control(db, "main", which, &file) != SQLITE_OK ||
        file == NULL || file->pMethods == NULL ||
        file->pMethods->xFileSize(file, &size) != SQLITE_OK) {
        return 0; /* a figure for a status page, nothing hangs on it */
    }
    return (uint64_t)size;
}

void store_get_figures(const struct store *s, struct store_figures *f)
{
    *f = s->figures;
    f->database_bytes = file_bytes(s->db, SQLITE_FCNTL_FILE_POINTER);
    f->wal_bytes = file_bytes(s->db, SQLITE_FCNTL_JOURNAL_POINTER);
}
