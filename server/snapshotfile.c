/*
 * snapshotfile.c - a copy of state.db as a file that travels.
 *
 * Beside what is being received, PATH, lies PATH.header: the header that it was
 * begun under. So a broken transfer goes on where it was, and never with
 * another copy's bytes.
 */
#include "server/snapshotfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <xxhash.h>

#include "server/statedb.h"

#define READ_BYTES ((size_t)1 << 20)
#define CONFIGURATION_BYTES_MAX ((size_t)1 << 20)
#define HEADER_FILE_BYTES_MAX (2 * CONFIGURATION_BYTES_MAX)
/* Left free on the disk: the log must be able to go on. */
#define SPARE_BYTES ((uint64_t)64 << 20)

#define SAY(...) ((void)snprintf(error, error_size, __VA_ARGS__), false)

/* ---- headers ----------------------------------------------------------------
 */

void snapshot_header_release(struct snapshot_header *h)
{
    buffer_release(&h->configuration);
    *h = (struct snapshot_header){0};
}

static struct slice configuration_of(const struct snapshot_header *h)
{
    return (struct slice){h->configuration.data, h->configuration.size};
}

bool snapshot_header_equal(const struct snapshot_header *a,
                           const struct snapshot_header *b)
{
    return a->index == b->index && a->term == b->term && a->size == b->size &&
           memcmp(a->hash, b->hash, sizeof(a->hash)) == 0 &&
           slice_equal(configuration_of(a), configuration_of(b));
}

void snapshot_header_encode(const struct snapshot_header *h,
                            Pawl__Peer__V1__SnapshotHeader *m)
{
    pawl__peer__v1__snapshot_header__init(m);
    m->index = h->index;
    m->term = h->term;
    m->configuration.data = h->configuration.data;
    m->configuration.len = h->configuration.size;
    m->size = h->size;
    m->hash.data = (uint8_t *)h->hash; /* only read */
    m->hash.len = sizeof(h->hash);
}

bool snapshot_header_decode(const Pawl__Peer__V1__SnapshotHeader *m,
                            struct snapshot_header *h)
{
    struct raft_configuration c;

    *h = (struct snapshot_header){0};
    if (m->index == 0 || m->term == 0 || m->size == 0 ||
        m->size > (uint64_t)INT64_MAX || m->hash.len != sizeof(h->hash) ||
        m->configuration.len > CONFIGURATION_BYTES_MAX ||
        !raft_configuration_decode(&c, m->configuration.data,
                                   m->configuration.len)) {
        return false;
    }
    raft_configuration_release(&c);
    h->index = m->index;
    h->term = m->term;
    h->size = m->size;
    memcpy(h->hash, m->hash.data, sizeof(h->hash));
    buffer_append(&h->configuration, m->configuration.data,
                  m->configuration.len);
    return true;
}

uint64_t snapshot_checksum(uint64_t offset, const void *data, size_t size)
{
    return XXH3_64bits_withSeed(data, size, offset);
}

/* ---- bytes ------------------------------------------------------------------
 */

bool snapshot_has_room(const char *directory, uint64_t bytes, char *error,
                       size_t error_size)
{
    struct statvfs fs;
    uint64_t free_bytes;

    if (statvfs(directory, &fs) != 0) {
        return SAY("%s: cannot tell its free space: %s", directory,
                   strerror(errno));
    }
    free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (free_bytes < bytes + SPARE_BYTES) {
        return SAY("%s: a snapshot of %" PRIu64
                   " MiB needs more than the %" PRIu64 " MiB that are free",
                   directory, bytes >> 20, free_bytes >> 20);
    }
    return true;
}

static bool hash_file(int fd, uint64_t *size, uint8_t *hash)
{
    XXH3_state_t *state = XXH3_createState();
    uint8_t *bytes = mem_alloc(READ_BYTES, 1);
    XXH128_canonical_t canonical;
    ssize_t n = -1;

    *size = 0;
    if (state != NULL && XXH3_128bits_reset(state) == XXH_OK) {
        while ((n = pread(fd, bytes, READ_BYTES, (off_t)*size)) > 0) {
            (void)XXH3_128bits_update(state, bytes, (size_t)n); /* NULL only */
            *size += (uint64_t)n;
        }
        XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
        memcpy(hash, canonical.digest, SNAPSHOT_HASH_BYTES);
    }
    (void)XXH3_freeState(state); /* always OK */
    free(bytes);
    return n == 0;
}

static bool write_all(int fd, uint64_t offset, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = pwrite(fd, data, size, (off_t)offset);

        if (n < 0 && errno != EINTR) {
            return false;
        }
        if (n > 0) {
            data += n;
            offset += (uint64_t)n;
            size -= (size_t)n;
        }
    }
    return true;
}

/* ---- looking into a copy ----------------------------------------------------
 */

/* For a URI: SQLite takes these three for its own. */
static char *uri_of(const char *path)
{
    static const char start[] = "file:";
    char *uri = mem_alloc(strlen(path) * 3 + 32, 1);
    char *to = uri + sizeof(start) - 1;

    memcpy(uri, start, sizeof(start));
    for (; *path != '\0'; path++) {
        if (*path == '%' || *path == '?' || *path == '#') {
            to += snprintf(to, 4, "%%%02X", (unsigned)*path);
        } else {
            *to++ = *path;
        }
    }
    memcpy(to, "?immutable=1", sizeof("?immutable=1"));
    return uri;
}

/* Nothing but the file itself counts, and nothing is written beside it. */
static sqlite3 *open_as_it_is(const char *path, char *error, size_t error_size)
{
    sqlite3 *db = NULL;
    char *uri = uri_of(path);
    int code = sqlite3_open_v2(
        uri, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX,
        NULL);

    free(uri);
    if (code != SQLITE_OK) {
        (void)SAY("%s: cannot open it: %s", path, sqlite3_errstr(code));
        (void)sqlite3_close(db); /* NULL is fine */
        return NULL;
    }
    return db;
}

/* What the copy says it stands for. */
struct content {
    uint64_t cluster_id;
    raft_index index;
    raft_term term;
    struct buffer configuration;
};

static bool read_content(sqlite3 *db, struct content *c)
{
    static const char text[] =
        "SELECT s.cluster_id, s.applied_index, s.applied_term, r.configuration "
        "FROM state s, raft r WHERE s.one = 1 AND r.one = 1";
    sqlite3_stmt *stmt = NULL;
    bool ok = sqlite3_prepare_v2(db, text, -1, &stmt, NULL) == SQLITE_OK &&
              sqlite3_step(stmt) == SQLITE_ROW;

    *c = (struct content){0};
    if (ok) {
        const unsigned char *id = sqlite3_column_text(stmt, 0);

        c->cluster_id = id != NULL ? strtoull((const char *)id, NULL, 16) : 0;
        c->index = (raft_index)sqlite3_column_int64(stmt, 1);
        c->term = (raft_term)sqlite3_column_int64(stmt, 2);
        buffer_append(&c->configuration, sqlite3_column_blob(stmt, 3),
                      (size_t)sqlite3_column_bytes(stmt, 3));
    }
    return sqlite3_finalize(stmt) == SQLITE_OK && ok;
}

bool snapshot_describe(const char *path, struct snapshot_header *h, char *error,
                       size_t error_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    sqlite3 *db = NULL;
    struct content c = {0};
    bool ok = fd >= 0 && fsync(fd) == 0 && sync_directory_of(path) &&
              hash_file(fd, &h->size, h->hash);

    if (!ok) {
        (void)SAY("%s: cannot sync and read it: %s", path, strerror(errno));
    } else if ((db = open_as_it_is(path, error, error_size)) == NULL) {
        ok = false;
    } else if (!read_content(db, &c)) {
        ok = SAY("%s: cannot be read: %s", path, sqlite3_errmsg(db));
    } else {
        h->index = c.index;
        h->term = c.term;
        h->configuration = c.configuration;
    }
    (void)sqlite3_close(db); /* only read */
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

/* ---- receiving --------------------------------------------------------------
 */

static bool write_file(const char *path, const uint8_t *data, size_t size)
{
    char *temporary = mem_printf("%s.new", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write_all(fd, 0, data, size) && fsync(fd) == 0 &&
              rename(temporary, path) == 0 && sync_directory_of(path);

    if (fd >= 0) {
        close(fd);
    }
    free(temporary);
    return ok;
}

/* PATH.header: a checksum, then the header's message. */
static bool save_header(const char *path, const struct snapshot_header *h)
{
    Pawl__Peer__V1__SnapshotHeader m;
    uint8_t *bytes;
    size_t size;
    uint64_t checksum;
    bool ok;

    snapshot_header_encode(h, &m);
    size = pawl__peer__v1__snapshot_header__get_packed_size(&m);
    bytes = mem_alloc(size + sizeof(checksum), 1);
    pawl__peer__v1__snapshot_header__pack(&m, bytes + sizeof(checksum));
    checksum = snapshot_checksum(0, bytes + sizeof(checksum), size);
    memcpy(bytes, &checksum, sizeof(checksum));
    ok = write_file(path, bytes, size + sizeof(checksum));
    free(bytes);
    return ok;
}

static bool parse_header(const uint8_t *bytes, size_t size,
                         struct snapshot_header *h)
{
    uint64_t checksum;
    Pawl__Peer__V1__SnapshotHeader *m;
    bool ok;

    if (size <= sizeof(checksum)) {
        return false;
    }
    memcpy(&checksum, bytes, sizeof(checksum));
    bytes += sizeof(checksum);
    size -= sizeof(checksum);
    if (checksum != snapshot_checksum(0, bytes, size)) {
        return false;
    }
    m = pawl__peer__v1__snapshot_header__unpack(NULL, size, bytes);
    ok = m != NULL && snapshot_header_decode(m, h);
    pawl__peer__v1__snapshot_header__free_unpacked(m, NULL);
    return ok;
}

static bool load_header(const char *path, struct snapshot_header *h)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *bytes;
    ssize_t n;
    bool ok;

    if (fd < 0) {
        return false;
    }
    bytes = mem_alloc(HEADER_FILE_BYTES_MAX, 1);
    n = pread(fd, bytes, HEADER_FILE_BYTES_MAX, 0);
    ok = n > 0 && parse_header(bytes, (size_t)n, h);
    free(bytes);
    close(fd);
    return ok;
}

/* Is what lies there a beginning of this very copy? */
static bool was_begun(const char *header_path, const struct snapshot_header *h)
{
    struct snapshot_header begun;
    bool same;

    if (!load_header(header_path, &begun)) {
        return false;
    }
    same = snapshot_header_equal(&begun, h);
    snapshot_header_release(&begun);
    return same;
}

static void remove_with(const char *path, const char *suffix)
{
    char *name = mem_printf("%s%s", path, suffix);

    (void)unlink(name); /* it need not be there */
    free(name);
}

void snapshot_receive_drop(const char *path)
{
    remove_with(path, ".header"); /* first: without it the rest is nothing */
    remove_with(path, ".header.new");
    remove_with(path, "-wal");
    remove_with(path, "-shm");
    remove_with(path, "");
}

int snapshot_receive_open(const char *path, const struct snapshot_header *h,
                          uint64_t unsynced, uint64_t *offset, char *error,
                          size_t error_size)
{
    char *header_path = mem_printf("%s.header", path);
    struct stat st = {0};
    bool begun = was_begun(header_path, h);
    bool ok = true;
    int fd;

    *offset = 0;
    if (!begun) {
        snapshot_receive_drop(path);
        ok = save_header(header_path, h);
    }
    free(header_path);
    fd = ok ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    ok = fd >= 0 && fstat(fd, &st) == 0;
    if (ok && (uint64_t)st.st_size > unsynced &&
        (uint64_t)st.st_size <= h->size) {
        *offset = (uint64_t)st.st_size - unsynced;
    }
    ok = ok && ftruncate(fd, (off_t)*offset) == 0 && sync_directory_of(path);
    if (!ok) {
        (void)SAY("%s: cannot begin to receive: %s", path, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

bool snapshot_receive_write(int fd, uint64_t offset, const void *data,
                            size_t size, char *error, size_t error_size)
{
    if (!write_all(fd, offset, data, size) || fdatasync(fd) != 0) {
        return SAY("cannot write a snapshot: %s", strerror(errno));
    }
    return true;
}

/* ---- adopting ---------------------------------------------------------------
 */

static bool check_bytes(const char *path, const struct snapshot_header *h,
                        char *error, size_t error_size)
{
    uint8_t hash[SNAPSHOT_HASH_BYTES];
    uint64_t size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && hash_file(fd, &size, hash);

    if (fd >= 0) {
        close(fd);
    }
    if (!ok) {
        return SAY("%s: cannot read it: %s", path, strerror(errno));
    }
    if (size != h->size || memcmp(hash, h->hash, sizeof(hash)) != 0) {
        return SAY("%s: its bytes are not those that the sender has", path);
    }
    return true;
}

static bool quick_check(sqlite3 *db, const char *path, char *error,
                        size_t error_size)
{
    sqlite3_stmt *stmt = NULL;
    const char *said = NULL;
    bool ok = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &stmt,
                                 NULL) == SQLITE_OK &&
              sqlite3_step(stmt) == SQLITE_ROW;

    if (ok) {
        said = (const char *)sqlite3_column_text(stmt, 0);
        ok = said != NULL && strcmp(said, "ok") == 0;
    }
    if (!ok) {
        (void)SAY("%s: is not a sound database: %s", path,
                  said != NULL ? said : sqlite3_errmsg(db));
    }
    (void)sqlite3_finalize(stmt); /* its error was looked at */
    return ok;
}

static bool check_content(sqlite3 *db, const char *path,
                          const struct snapshot_header *h, uint64_t cluster_id,
                          char *error, size_t error_size)
{
    struct content c;
    struct slice configuration;
    bool ok = true;

    if (!read_content(db, &c)) {
        return SAY("%s: is not a state.db that this pawl knows: %s", path,
                   sqlite3_errmsg(db));
    }
    configuration = (struct slice){c.configuration.data, c.configuration.size};
    if (c.cluster_id != cluster_id) {
        ok = SAY("%s: is of cluster %" PRIx64 ", not of %" PRIx64, path,
                 c.cluster_id, cluster_id);
    } else if (c.index != h->index || c.term != h->term ||
               /* A file that an older pawl began has none. */
               (configuration.size > 0 &&
                !slice_equal(configuration, configuration_of(h)))) {
        ok = SAY("%s: stands at entry %" PRIu64 " of term %" PRIu64
                 ", which is not what the sender says",
                 path, c.index, c.term);
    }
    buffer_release(&c.configuration);
    return ok;
}

static bool check_file(const char *path, const struct snapshot_header *h,
                       uint64_t cluster_id, char *error, size_t error_size)
{
    sqlite3 *db;
    bool ok;

    if (!check_bytes(path, h, error, error_size)) {
        return false;
    }
    db = open_as_it_is(path, error, error_size);
    if (db == NULL) {
        return false;
    }
    ok = quick_check(db, path, error, error_size) &&
         check_content(db, path, h, cluster_id, error, error_size);
    (void)sqlite3_close(db); /* only read */
    return ok;
}

static bool run_bound(sqlite3 *db, const char *sql, const char *member,
                      const struct snapshot_header *h)
{
    sqlite3_stmt *stmt = NULL;
    bool ok = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK;

    if (ok && member != NULL) {
        ok = sqlite3_bind_text(stmt, 1, member, -1, SQLITE_STATIC) == SQLITE_OK;
    } else if (ok && h != NULL) {
        ok = sqlite3_bind_blob64(stmt, 1, h->configuration.data,
                                 h->configuration.size,
                                 SQLITE_STATIC) == SQLITE_OK &&
             sqlite3_bind_int64(stmt, 2, (int64_t)h->index) == SQLITE_OK;
    }
    ok = ok && sqlite3_step(stmt) == SQLITE_DONE;
    return sqlite3_finalize(stmt) == SQLITE_OK && ok;
}

/* It says whose it is, and from which snapshot it comes. */
static bool make_ours(const char *path, const struct snapshot_header *h,
                      uint64_t member_id, char *error, size_t error_size)
{
    sqlite3 *db = NULL;
    char member[17];
    bool ok;

    (void)snprintf(member, sizeof(member), "%016" PRIx64, member_id);
    ok = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                         NULL) == SQLITE_OK &&
         run_bound(db, "UPDATE state SET member_id = ?", member, NULL) &&
         run_bound(db, "UPDATE raft SET configuration = ?, installed_index = ?",
                   NULL, h);
    if (!ok) {
        (void)SAY("%s: cannot be made this member's: %s", path,
                  db != NULL ? sqlite3_errmsg(db) : "out of memory");
    }
    return sqlite3_close(db) == SQLITE_OK && ok;
}

static bool load(const char *path, uint64_t cluster_id, uint64_t member_id,
                 struct applier *into, char *error, size_t error_size)
{
    struct statedb *db;
    bool ok;

    if (statedb_open(path, NULL, cluster_id, member_id, &db, error,
                     error_size) != STATEDB_OK) {
        return false;
    }
    ok = statedb_load(db, into) == STATEDB_OK;
    if (!ok) {
        (void)SAY("%s", statedb_error(db));
    }
    statedb_close(db);
    return ok;
}

/* Closing moved all into the file; if not, the file alone is not the state. */
static bool settle(const char *path, char *error, size_t error_size)
{
    char *wal = mem_printf("%s-wal", path);
    struct stat st;
    bool alone = stat(wal, &st) != 0 || st.st_size == 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = alone && fd >= 0 && fsync(fd) == 0;

    free(wal);
    if (fd >= 0) {
        close(fd);
    }
    if (!ok) {
        return SAY("%s: cannot be settled on disk", path);
    }
    remove_with(path, "-wal");
    remove_with(path, "-shm");
    return sync_directory_of(path) ||
           SAY("%s: cannot sync its directory: %s", path, strerror(errno));
}

bool snapshot_adopt(const char *path, const struct snapshot_header *h,
                    uint64_t cluster_id, uint64_t member_id,
                    struct applier *into, char *error, size_t error_size)
{
    return check_file(path, h, cluster_id, error, error_size) &&
           make_ours(path, h, member_id, error, error_size) &&
           load(path, cluster_id, member_id, into, error, error_size) &&
           settle(path, error, error_size);
}
