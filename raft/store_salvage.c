/*
 * store_salvage.c - reads a damaged raft.db row by row, over a connection of
 * its own that writes nothing, and tells by the chain what is sound.
 */
#include "raft/store_salvage.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <sqlite3.h>

#include "raft/base.h"
#include "raft/store_format.h"

/* ---- reading --------------------------------------------------------------
 */

static uint64_t column_u64(sqlite3_stmt *q, int column)
{
    return (uint64_t)sqlite3_column_int64(q, column);
}

/* The next row of q, and its columns are of the types that we write. */
static bool next_row(sqlite3_stmt *q, int blob_column)
{
    if (q == NULL || sqlite3_step(q) != SQLITE_ROW) {
        return false;
    }
    for (int i = 0; i < sqlite3_column_count(q); i++) {
        if (sqlite3_column_type(q, i) !=
            (i == blob_column ? SQLITE_BLOB : SQLITE_INTEGER)) {
            return false;
        }
    }
    return true;
}

/* NULL if even that cannot be: then nothing is read. */
static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *q = NULL;

    return sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK ? q : NULL;
}

static void read_meta(sqlite3 *db, struct store_salvage *s)
{
    sqlite3_stmt *q =
        prepare(db, "SELECT cluster_id, member_id, checksum FROM meta");

    if (next_row(q, -1) &&
        column_u64(q, 2) ==
            store_format_origin(column_u64(q, 0), column_u64(q, 1))) {
        s->cluster_id = column_u64(q, 0);
        s->member_id = column_u64(q, 1);
    }
    (void)sqlite3_finalize(q); /* what failed was looked at */
}

static void read_identity(sqlite3 *db, struct store_salvage *s)
{
    sqlite3_stmt *q = prepare(db, "SELECT store_id, joined, removed, checksum"
                                  " FROM identity");
    uint64_t origin = store_format_origin(s->cluster_id, s->member_id);

    if (next_row(q, -1)) {
        uint64_t id = column_u64(q, 0);
        bool joined = column_u64(q, 1) != 0, removed = column_u64(q, 2) != 0;

        if (column_u64(q, 3) ==
            store_format_identity(origin, id, joined, removed)) {
            s->has_identity = true;
            s->store_id = id;
            s->joined = joined;
            s->removed = removed;
        }
    }
    (void)sqlite3_finalize(q);
}

static void read_state(sqlite3 *db, struct store_salvage *s)
{
    sqlite3_stmt *q = prepare(db, "SELECT term, voted_for, commit_index,"
                                  " last_index, last_checksum, checksum"
                                  " FROM state");
    uint64_t origin = store_format_origin(s->cluster_id, s->member_id);

    if (next_row(q, -1)) {
        struct raft_hard_state hs = {column_u64(q, 0), column_u64(q, 1),
                                     column_u64(q, 2)};

        if (column_u64(q, 5) == store_format_state(origin, &hs,
                                                   column_u64(q, 3),
                                                   column_u64(q, 4))) {
            s->has_state = true;
            s->hard_state = hs;
            s->last_index = column_u64(q, 3);
            s->last_checksum = column_u64(q, 4);
        }
    }
    (void)sqlite3_finalize(q);
}

static void read_cut(sqlite3 *db, struct store_salvage *s)
{
    sqlite3_stmt *q = prepare(db, "SELECT \"index\", term, entry_checksum,"
                                  " configuration, checksum FROM cut");
    uint64_t origin = store_format_origin(s->cluster_id, s->member_id);

    s->prev_checksum = origin;
    if (next_row(q, 3)) {
        const uint8_t *bytes = sqlite3_column_blob(q, 3);
        size_t size = (size_t)sqlite3_column_bytes(q, 3);

        if (column_u64(q, 4) ==
                store_format_cut(origin, column_u64(q, 0), column_u64(q, 1),
                                 column_u64(q, 2), bytes, size) &&
            (column_u64(q, 0) == 0 ||
             raft_configuration_decode(&s->configuration, bytes, size))) {
            s->has_cut = true;
            s->prev_index = column_u64(q, 0);
            s->prev_term = column_u64(q, 1);
            s->prev_checksum = column_u64(q, 2);
        }
    }
    (void)sqlite3_finalize(q);
}

static void read_entry(sqlite3_stmt *q, raft_index index,
                       struct salvaged_entry *out)
{
    struct raft_entry *e = &out->entry;

    *out = (struct salvaged_entry){.entry.index = index};
    (void)sqlite3_bind_int64(q, 1, (sqlite3_int64)index); /* else: no row */
    if (next_row(q, 2)) {
        out->is_there = true;
        out->checksum = column_u64(q, 3);
        e->term = column_u64(q, 0);
        e->type = (enum raft_entry_type)sqlite3_column_int(q, 1);
        e->size = (size_t)sqlite3_column_bytes(q, 2);
        if (e->size > 0) {
            uint8_t *data = raft_alloc(e->size, 1);

            memcpy(data, sqlite3_column_blob(q, 2), e->size);
            e->data = data;
        }
    }
    (void)sqlite3_reset(q); /* a row that cannot be read is not there */
}

/* To last_index or, if that is not known, as far as rows go without a hole. */
static void read_entries(sqlite3 *db, struct store_salvage *s)
{
    sqlite3_stmt *q = prepare(db, "SELECT term, type, data, checksum FROM entry"
                                  " WHERE \"index\" = ?1");
    size_t n_room = 0;

    for (raft_index i = s->prev_index + 1;
         s->has_state ? i <= s->last_index : q != NULL; i++) {
        struct salvaged_entry *at;

        if (s->n_entries == n_room) {
            n_room = n_room == 0 ? 64 : 2 * n_room;
            s->entries = raft_realloc(s->entries, n_room, sizeof *s->entries);
        }
        at = &s->entries[s->n_entries];
        read_entry(q, i, at);
        if (!s->has_state && !at->is_there) {
            break;
        }
        s->n_entries++;
    }
    (void)sqlite3_finalize(q);
}

/* ---- judging --------------------------------------------------------------
 */

struct salvaged_entry *store_salvage_at(const struct store_salvage *s,
                                        raft_index i)
{
    return i > s->prev_index && i - s->prev_index <= s->n_entries
               ? &s->entries[i - s->prev_index - 1]
               : NULL;
}

static void judge_forward(struct store_salvage *s)
{
    uint64_t checksum = s->prev_checksum;

    while (s->n_prefix < s->n_entries) {
        const struct salvaged_entry *at = &s->entries[s->n_prefix];

        checksum = store_format_entry(checksum, &at->entry);
        if (!at->is_there || at->checksum != checksum) {
            break;
        }
        s->n_prefix++;
    }
}

/* What is known of an entry's checksum by its own row; the cut's for none. */
static bool stored_checksum(const struct store_salvage *s, size_t n,
                            uint64_t *checksum)
{
    if (n == 0) {
        *checksum = s->prev_checksum;
        return s->has_cut;
    }
    *checksum = s->entries[n - 1].checksum;
    return s->entries[n - 1].is_there;
}

/*
 * From the end, whose checksum is known: an entry that leads there from the
 * checksum stored before it makes both sound.
 */
static void judge_backward(struct store_salvage *s)
{
    uint64_t known = s->last_checksum, before;
    size_t n = s->n_entries;

    while (n > 0 && s->entries[n - 1].is_there &&
           stored_checksum(s, n - 1, &before) &&
           store_format_entry(before, &s->entries[n - 1].entry) == known) {
        s->entries[--n].is_sound = true;
        known = before;
    }
    if (n == 0) {
        return;
    }
    /* The whole is judged at damaged_to, so what only seems sound from the
     * front is a good guess and no more. */
    s->damaged_to = s->prev_index + n;
    s->damaged_from = s->prev_index + (s->n_prefix < n ? s->n_prefix + 1 : n);
}

bool store_salvage_check(const struct store_salvage *s, raft_index first,
                         const struct raft_entry *const *entries, size_t n)
{
    size_t skip = (size_t)(first - s->prev_index - 1);
    size_t end = skip + n;
    uint64_t checksum, wanted = s->last_checksum;

    ASSERT(first > s->prev_index && first <= s->damaged_from);
    ASSERT(s->prev_index + end == s->damaged_to);
    if (!stored_checksum(s, skip, &checksum)) {
        return false;
    }
    if (end < s->n_entries) {
        wanted = s->entries[end - 1].checksum; /* its successor says so */
    }
    for (size_t i = 0; i < n; i++) {
        if (entries[i] == NULL || entries[i]->index != first + i) {
            return false;
        }
        checksum = store_format_entry(checksum, entries[i]);
    }
    return checksum == wanted;
}

/* ---- all of it -------------------------------------------------------------
 */

static void read_all(sqlite3 *db, bool is_settled, struct store_salvage *s)
{
    read_meta(db, s);
    read_identity(db, s);
    read_state(db, s);
    read_cut(db, s);
    if (!is_settled || s->last_index < s->prev_index) {
        s->has_state = false;
    }
    read_entries(db, s);
    judge_forward(s);
    if (!s->has_cut) { /* then only the origin can be the beginning */
        s->has_cut = s->n_prefix > 0;
    }
    if (s->has_state && s->has_cut) {
        judge_backward(s);
        return;
    }
    s->has_state = false;
    while (s->n_entries > s->n_prefix) {
        raft_free((void *)s->entries[--s->n_entries].entry.data);
    }
    s->last_index = s->prev_index + s->n_entries;
    (void)stored_checksum(s, s->n_entries, &s->last_checksum);
    for (size_t i = 0; i < s->n_entries; i++) {
        s->entries[i].is_sound = true;
    }
}

/* Open it for reading; SQLite's status. */
static int open_quietly(const char *path, const char *vfs, sqlite3 **db)
{
    int rc = sqlite3_open_v2(path, db,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, vfs);

    if (rc == SQLITE_OK) {
        /* Closing must not move what the WAL holds into a damaged file. */
        rc = sqlite3_db_config(*db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    }
    if (rc == SQLITE_OK) {
        int on = 1;

        rc = sqlite3_file_control(*db, "main", SQLITE_FCNTL_PERSIST_WAL, &on);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_exec(*db,
                          "PRAGMA locking_mode=EXCLUSIVE;"
                          "SELECT count(*) FROM sqlite_schema",
                          NULL, NULL, NULL);
    }
    return rc & 0xff;
}

bool store_salvage_ids(const char *path, const char *vfs, uint64_t *cluster_id,
                       uint64_t *member_id)
{
    struct store_salvage s = {0};
    sqlite3 *db = NULL;

    if (open_quietly(path, vfs, &db) == SQLITE_OK) {
        read_meta(db, &s);
    }
    (void)sqlite3_close(db); /* it was only read */
    if (s.member_id == 0) {
        return false;
    }
    *cluster_id = s.cluster_id;
    *member_id = s.member_id;
    return true;
}

bool store_salvage_read(const char *path, const char *vfs, bool is_settled,
                        uint64_t cluster_id, uint64_t member_id,
                        struct store_salvage *out, char *error,
                        size_t error_size)
{
    sqlite3 *db = NULL;
    int rc;

    *out = (struct store_salvage){.cluster_id = cluster_id,
                                  .member_id = member_id};
    rc = open_quietly(path, vfs, &db);
    if (rc == SQLITE_OK) {
        read_all(db, is_settled, out);
    }
    (void)sqlite3_close(db); /* it was only read */
    if (rc == SQLITE_OK || rc == SQLITE_NOTADB || rc == SQLITE_CORRUPT) {
        return true; /* of the last two, nothing is left */
    }
    (void)snprintf(error, error_size, "%s: cannot read it: %s (SQLite %d)",
                   path, sqlite3_errstr(rc), rc);
    return false;
}

void store_salvage_release(struct store_salvage *s)
{
    for (size_t i = 0; i < s->n_entries; i++) {
        raft_free((void *)s->entries[i].entry.data);
    }
    raft_free(s->entries);
    if (s->configuration.servers != NULL) {
        raft_configuration_release(&s->configuration);
    }
    *s = (struct store_salvage){0};
}
