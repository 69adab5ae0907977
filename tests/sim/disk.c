/*
 * disk.c - the simulated disk: files in memory, and the VFS that SQLite uses.
 */
#include "tests/sim/disk.h"

#include <stdio.h>
#include <string.h>

#include <sqlite3.h>

#include "raft/base.h"

#define FILES_MAX 16
#define SHM_REGIONS_MAX 16

#define NAME_MAX_SIZE 64

/* A growing array of bytes; what was never written is zero. */
struct bytes {
    uint8_t *data;
    size_t size, room;
};

/* A write, or with data NULL a truncation, that is not on the platter yet. */
struct change {
    size_t offset, size; /* of a truncation: 0 and the new size */
    uint8_t *data;
};

struct handle;

struct file {
    char name[NAME_MAX_SIZE];
    bool exists, exists_on_platter; /* they differ until the directory's sync */
    struct bytes seen, platter;
    struct change *changes; /* since the last sync, in order */
    size_t n_changes, room_changes;
    struct handle *handles;     /* who has it open */
    void *shm[SHM_REGIONS_MAX]; /* shared memory, as long as one maps it */
};

struct disk {
    sqlite3_vfs vfs;
    char vfs_name[32];
    struct rng rng;
    size_t sector_size;
    struct file files[FILES_MAX];
    struct disk_faults faults;
    unsigned fail_kinds;
    uint64_t fail_in; /* 0: not armed */
    int fail_code;
    bool stopping, stopped;
    uint64_t stop_in;
    uint64_t n_operations, n_errors;
    unsigned n_open;
};

/* What SQLite holds of an open file. */
struct handle {
    sqlite3_file base;
    struct disk *disk;
    struct file *file;
    struct handle *next; /* of the same file */
    bool is_database;
    int persist_wal;
    int lock;
    bool has_shm;
    uint8_t shm_shared, shm_exclusive; /* bits of the locks that it holds */
};

/* ---- bytes ------------------------------------------------------------------
 */

static void bytes_resize(struct bytes *b, size_t size)
{
    if (size > b->room) {
        b->room = size + size / 2;
        b->data = raft_realloc(b->data, b->room, 1);
    }
    if (size > b->size) {
        memset(b->data + b->size, 0, size - b->size);
    }
    b->size = size;
}

static void bytes_put(struct bytes *b, size_t offset, const void *data,
                      size_t size)
{
    if (size == 0) {
        return;
    }
    if (offset + size > b->size) {
        bytes_resize(b, offset + size);
    }
    memcpy(b->data + offset, data, size);
}

static void bytes_copy(struct bytes *to, const struct bytes *from)
{
    bytes_resize(to, 0);
    bytes_put(to, 0, from->data, from->size);
}

/* ---- files
 * ------------------------------------------------------------------- */

static struct file *find_file(const struct disk *d, const char *name)
{
    for (size_t i = 0; i < FILES_MAX; i++) {
        if (strcmp(d->files[i].name, name) == 0) {
            return (struct file *)&d->files[i];
        }
    }
    return NULL;
}

static struct file *create_file(struct disk *d, const char *name)
{
    struct file *f = find_file(d, "");

    ASSERT(f != NULL && strlen(name) < sizeof f->name);
    memcpy(f->name, name, strlen(name) + 1);
    return f;
}

static void add_change(struct file *f, size_t offset, const void *data,
                       size_t size)
{
    struct change c = {.offset = offset, .size = size};

    if (data != NULL) {
        c.data = raft_alloc(size, 1);
        memcpy(c.data, data, size);
    }
    if (f->n_changes == f->room_changes) {
        f->room_changes = f->room_changes == 0 ? 64 : 2 * f->room_changes;
        f->changes =
            raft_realloc(f->changes, f->room_changes, sizeof *f->changes);
    }
    f->changes[f->n_changes++] = c;
}

static void drop_changes(struct file *f)
{
    for (size_t i = 0; i < f->n_changes; i++) {
        raft_free(f->changes[i].data);
    }
    f->n_changes = 0;
}

/* Put the sectors of a change on the platter, each with the given chance. */
static void settle_change(struct disk *d, struct file *f,
                          const struct change *c, unsigned percent)
{
    size_t at = c->offset;

    if (c->data == NULL) {
        if (rng_below(&d->rng, 100) < percent) {
            bytes_resize(&f->platter, c->size);
        }
        return;
    }
    while (at < c->offset + c->size) {
        size_t end = (at / d->sector_size + 1) * d->sector_size;

        if (end > c->offset + c->size) {
            end = c->offset + c->size;
        }
        if (rng_below(&d->rng, 100) < percent) {
            bytes_put(&f->platter, at, c->data + (at - c->offset), end - at);
        }
        at = end;
    }
}

static void settle_file(struct disk *d, struct file *f, unsigned percent)
{
    for (size_t i = 0; i < f->n_changes; i++) {
        settle_change(d, f, &f->changes[i], percent);
    }
    drop_changes(f);
}

static void sync_directory(struct disk *d)
{
    for (size_t i = 0; i < FILES_MAX; i++) {
        d->files[i].exists_on_platter = d->files[i].exists;
    }
}

/* All, nothing, or anything between: each is a crash of its own kind. */
static unsigned draw_percent(struct disk *d)
{
    switch (rng_below(&d->rng, 4)) {
    case 0:
        return 0;
    case 1:
        return 100;
    default:
        return (unsigned)rng_below(&d->rng, 101);
    }
}

static void cut_power(struct disk *d, bool lose_all)
{
    for (size_t i = 0; i < FILES_MAX; i++) {
        struct file *f = &d->files[i];

        if (f->exists != f->exists_on_platter) {
            f->exists = lose_all || rng_below(&d->rng, 2) ? f->exists_on_platter
                                                          : f->exists;
            f->exists_on_platter = f->exists;
        }
        settle_file(d, f, lose_all ? 0 : draw_percent(d));
        bytes_copy(&f->seen, &f->platter);
    }
}

/* ---- faults
 * ------------------------------------------------------------------ */

static bool happens(struct disk *d, uint32_t chance)
{
    return chance > 0 && rng_below(&d->rng, 1000000) < chance;
}

/* What an operation of this kind answers: SQLITE_OK, or the fault. */
static int fault_of(struct disk *d, enum disk_operation kind, uint32_t chance,
                    int code)
{
    d->n_operations++;
    if (d->stopping && !d->stopped && d->stop_in-- == 0) {
        d->stopped = true;
    }
    if (d->stopped) {
        return code;
    }
    if ((d->fail_kinds & kind) && d->fail_in > 0 && --d->fail_in == 0) {
        d->n_errors++;
        return d->fail_code;
    }
    if (happens(d, chance)) {
        d->n_errors++;
        return code;
    }
    return SQLITE_OK;
}

/* ---- the methods of a file
 * ------------------------------------------------------ */

static int shm_unmap(sqlite3_file *base, int delete)
{
    struct handle *h = (struct handle *)base;

    (void)delete; /* it is no file of ours */
    h->has_shm = false;
    h->shm_shared = h->shm_exclusive = 0;
    for (const struct handle *o = h->file->handles; o != NULL; o = o->next) {
        if (o->has_shm) {
            return SQLITE_OK;
        }
    }
    for (size_t i = 0; i < SHM_REGIONS_MAX; i++) {
        raft_free(h->file->shm[i]);
        h->file->shm[i] = NULL;
    }
    return SQLITE_OK;
}

static int file_close(sqlite3_file *base)
{
    struct handle *h = (struct handle *)base;

    struct handle **p = &h->file->handles;

    shm_unmap(base, 0);
    while (*p != h) {
        p = &(*p)->next;
    }
    *p = h->next;
    h->disk->n_open--;
    return SQLITE_OK;
}

static int file_read(sqlite3_file *base, void *to, int n, sqlite3_int64 at)
{
    struct handle *h = (struct handle *)base;
    const struct bytes *b = &h->file->seen;
    size_t size = (size_t)n, offset = (size_t)at;
    size_t here = offset >= b->size ? 0 : b->size - offset;
    int rc = fault_of(h->disk, DISK_READ, h->disk->faults.read_error,
                      SQLITE_IOERR_READ);

    if (rc != SQLITE_OK) {
        return rc;
    }
    here = here < size ? here : size;
    if (here > 0) {
        memcpy(to, b->data + offset, here);
    }
    memset((uint8_t *)to + here, 0, size - here);
    return here == size ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

/* How much of a refused write was done all the same: some whole sectors. */
static size_t size_of_refused(struct disk *d, size_t offset, size_t size)
{
    size_t end = offset + rng_below(&d->rng, size + 1);

    end -= end % d->sector_size;
    return end > offset ? end - offset : 0;
}

static int file_write(sqlite3_file *base, const void *data, int n,
                      sqlite3_int64 at)
{
    struct handle *h = (struct handle *)base;
    struct disk *d = h->disk;
    size_t size = (size_t)n, offset = (size_t)at;
    bool grows = offset + size > h->file->seen.size;
    int rc = fault_of(d, DISK_WRITE, d->faults.write_error, SQLITE_IOERR_WRITE);

    if (rc == SQLITE_OK && grows && happens(d, d->faults.full)) {
        d->n_errors++;
        rc = SQLITE_FULL;
    }
    if (rc != SQLITE_OK) {
        size = d->stopped ? 0 : size_of_refused(d, offset, size);
    }
    if (size > 0) {
        bytes_put(&h->file->seen, offset, data, size);
        add_change(h->file, offset, data, size);
    }
    return rc;
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size)
{
    struct handle *h = (struct handle *)base;
    int rc = fault_of(h->disk, DISK_TRUNCATE, h->disk->faults.write_error,
                      SQLITE_IOERR_TRUNCATE);

    if (rc == SQLITE_OK) {
        bytes_resize(&h->file->seen, (size_t)size);
        add_change(h->file, 0, NULL, (size_t)size);
    }
    return rc;
}

static int file_sync(sqlite3_file *base, int flags)
{
    struct handle *h = (struct handle *)base;
    struct disk *d = h->disk;
    int rc = fault_of(d, DISK_SYNC, d->faults.sync_error, SQLITE_IOERR_FSYNC);

    (void)flags;
    if (d->stopped) {
        return rc;
    }
    if (rc != SQLITE_OK) {
        settle_file(d, h->file, draw_percent(d));
        if (rng_below(&d->rng, 2)) { /* some file systems forget the rest */
            bytes_copy(&h->file->seen, &h->file->platter);
        }
        return rc;
    }
    settle_file(d, h->file, 100);
    if (!h->is_database) { /* as in SQLite's own VFS: for a WAL or journal */
        sync_directory(d);
    }
    return SQLITE_OK;
}

static int file_size(sqlite3_file *base, sqlite3_int64 *size)
{
    struct handle *h = (struct handle *)base;
    int rc = fault_of(h->disk, DISK_SIZE, 0, SQLITE_IOERR_FSTAT);

    *size = (sqlite3_int64)h->file->seen.size;
    return rc;
}

/*
 * SQLite's lock rules, among the handles of one file: many may read, one may
 * be about to write, and who writes is alone.
 */
static bool lock_conflicts(const struct handle *h, int lock)
{
    for (const struct handle *o = h->file->handles; o != NULL; o = o->next) {
        if (o == h) {
            continue;
        }
        if ((lock == SQLITE_LOCK_SHARED && o->lock >= SQLITE_LOCK_PENDING) ||
            (lock >= SQLITE_LOCK_RESERVED && o->lock >= SQLITE_LOCK_RESERVED) ||
            (lock == SQLITE_LOCK_EXCLUSIVE && o->lock >= SQLITE_LOCK_SHARED)) {
            return true;
        }
    }
    return false;
}

static int file_lock(sqlite3_file *base, int lock)
{
    struct handle *h = (struct handle *)base;
    int rc = fault_of(h->disk, DISK_LOCK, 0, SQLITE_IOERR_LOCK);

    if (rc != SQLITE_OK) {
        return rc;
    }
    if (lock > h->lock && lock_conflicts(h, lock)) {
        return SQLITE_BUSY;
    }
    h->lock = lock > h->lock ? lock : h->lock;
    return SQLITE_OK;
}

static int file_unlock(sqlite3_file *base, int lock)
{
    ((struct handle *)base)->lock = lock;
    return SQLITE_OK;
}

static int file_check_reserved(sqlite3_file *base, int *out)
{
    const struct handle *h = (const struct handle *)base;

    *out = 0;
    for (const struct handle *o = h->file->handles; o != NULL; o = o->next) {
        *out |= o->lock >= SQLITE_LOCK_RESERVED;
    }
    return SQLITE_OK;
}

/* ---- shared memory: lives while a handle maps it, as after a crash it is
 * built anew ---------------------------------------------------------------
 */

static int shm_map(sqlite3_file *base, int region, int size, int extend,
                   void volatile **out)
{
    struct handle *h = (struct handle *)base;
    struct file *f = h->file;

    *out = NULL;
    if (h->disk->stopped) {
        return SQLITE_IOERR_SHMMAP;
    }
    /* raft.db has one connection, which must do without (G1). */
    ASSERT(region < SHM_REGIONS_MAX && strcmp(f->name, "raft.db") != 0);
    h->has_shm = true;
    if (f->shm[region] == NULL && extend) {
        f->shm[region] = raft_alloc((size_t)size, 1);
    }
    *out = f->shm[region];
    return SQLITE_OK;
}

static int shm_lock(sqlite3_file *base, int offset, int n, int flags)
{
    struct handle *h = (struct handle *)base;
    uint8_t mask = (uint8_t)(((1u << n) - 1) << offset);

    if (flags & SQLITE_SHM_UNLOCK) {
        h->shm_shared &= (uint8_t)~mask;
        h->shm_exclusive &= (uint8_t)~mask;
        return SQLITE_OK;
    }
    for (const struct handle *o = h->file->handles; o != NULL; o = o->next) {
        if (o != h &&
            ((o->shm_exclusive & mask) ||
             ((flags & SQLITE_SHM_EXCLUSIVE) && (o->shm_shared & mask)))) {
            return SQLITE_BUSY;
        }
    }
    if (flags & SQLITE_SHM_EXCLUSIVE) {
        h->shm_exclusive |= mask;
    } else {
        h->shm_shared |= mask;
    }
    return SQLITE_OK;
}

static void shm_barrier(sqlite3_file *base)
{
    (void)base; /* one thread */
}

static int file_control(sqlite3_file *base, int which, void *arg)
{
    struct handle *h = (struct handle *)base;
    int *value = arg;

    if (which == SQLITE_FCNTL_PERSIST_WAL) {
        if (*value >= 0) {
            h->persist_wal = *value;
        }
        *value = h->persist_wal;
        return SQLITE_OK;
    }
    return SQLITE_NOTFOUND;
}

static int file_sector_size(sqlite3_file *base)
{
    return (int)((struct handle *)base)->disk->sector_size;
}

static int file_characteristics(sqlite3_file *base)
{
    (void)base;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods METHODS = {
    .iVersion = 2,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_check_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_characteristics,
    .xShmMap = shm_map,
    .xShmLock = shm_lock,
    .xShmBarrier = shm_barrier,
    .xShmUnmap = shm_unmap,
};

/* ---- the methods of the VFS
 * ------------------------------------------------------ */

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *base,
                    int flags, int *out_flags)
{
    struct disk *d = vfs->pAppData;
    struct handle *h = (struct handle *)base;
    struct file *f = find_file(d, name);
    int rc = fault_of(d, DISK_OPEN, 0, SQLITE_CANTOPEN);

    h->base.pMethods = NULL;
    if (rc != SQLITE_OK) {
        return rc;
    }
    if (f == NULL || !f->exists) {
        if (!(flags & SQLITE_OPEN_CREATE)) {
            return SQLITE_CANTOPEN;
        }
        f = f == NULL ? create_file(d, name) : f;
        f->exists = true;
    }
    *h = (struct handle){.base.pMethods = &METHODS, .disk = d, .file = f};
    h->is_database = (flags & SQLITE_OPEN_MAIN_DB) != 0;
    h->next = f->handles;
    f->handles = h;
    d->n_open++;
    if (out_flags != NULL) {
        *out_flags = flags;
    }
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
    struct disk *d = vfs->pAppData;
    struct file *f = find_file(d, name);
    int rc = fault_of(d, DISK_DELETE, 0, SQLITE_IOERR_DELETE);

    if (rc != SQLITE_OK) {
        return rc;
    }
    if (f == NULL || !f->exists) {
        return SQLITE_IOERR_DELETE_NOENT;
    }
    f->exists = false;
    bytes_resize(&f->seen, 0);
    add_change(f, 0, NULL, 0);
    if (sync_dir) {
        sync_directory(d);
        settle_file(d, f, 100);
    }
    return SQLITE_OK;
}

static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    struct disk *d = vfs->pAppData;
    const struct file *f = find_file(d, name);
    int rc = fault_of(d, DISK_ACCESS, 0, SQLITE_IOERR_ACCESS);

    *out = f != NULL && f->exists;
    if (flags == SQLITE_ACCESS_EXISTS && *out && f->seen.size == 0) {
        *out = 0; /* as SQLite's own VFS: an empty file is none */
    }
    return rc;
}

static int vfs_full_pathname(sqlite3_vfs *vfs, const char *name, int n,
                             char *out)
{
    (void)vfs;
    (void)snprintf(out, (size_t)n, "%s", name);
    return SQLITE_OK;
}

static int vfs_randomness(sqlite3_vfs *vfs, int n, char *out)
{
    struct disk *d = vfs->pAppData;

    for (int i = 0; i < n; i++) {
        out[i] = (char)rng_next(&d->rng);
    }
    return n;
}

static int vfs_sleep(sqlite3_vfs *vfs, int us)
{
    (void)vfs;
    return us;
}

static int vfs_current_time(sqlite3_vfs *vfs, double *out)
{
    (void)vfs;
    *out = 2460000.5;
    return SQLITE_OK;
}

static int vfs_last_error(sqlite3_vfs *vfs, int n, char *out)
{
    (void)vfs;
    (void)n;
    (void)out;
    return 0;
}

/* ---- life -------------------------------------------------------------------
 */

struct disk *disk_new(uint64_t seed, size_t sector_size)
{
    struct disk *d = raft_alloc(1, sizeof *d);

    rng_init(&d->rng, seed);
    d->sector_size = sector_size;
    (void)snprintf(d->vfs_name, sizeof d->vfs_name, "sim-%p", (void *)d);
    d->vfs = (sqlite3_vfs){
        .iVersion = 1,
        .szOsFile = sizeof(struct handle),
        .mxPathname = NAME_MAX_SIZE,
        .zName = d->vfs_name,
        .pAppData = d,
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full_pathname,
        .xRandomness = vfs_randomness,
        .xSleep = vfs_sleep,
        .xCurrentTime = vfs_current_time,
        .xGetLastError = vfs_last_error,
    };
    ASSERT(sqlite3_vfs_register(&d->vfs, 0) == SQLITE_OK);
    return d;
}

void disk_free(struct disk *d)
{
    if (d == NULL) {
        return;
    }
    ASSERT(d->n_open == 0);
    (void)sqlite3_vfs_unregister(&d->vfs); /* never fails */
    for (size_t i = 0; i < FILES_MAX; i++) {
        drop_changes(&d->files[i]);
        raft_free(d->files[i].changes);
        raft_free(d->files[i].seen.data);
        raft_free(d->files[i].platter.data);
    }
    raft_free(d);
}

const char *disk_vfs(const struct disk *d)
{
    return d->vfs_name;
}

struct disk *disk_clone(const struct disk *d, uint64_t seed)
{
    struct disk *copy = disk_new(seed, d->sector_size);

    ASSERT(d->n_open == 0);
    for (size_t i = 0; i < FILES_MAX; i++) {
        const struct file *from = &d->files[i];
        struct file *to = &copy->files[i];

        memcpy(to->name, from->name, sizeof to->name);
        to->exists = from->exists;
        to->exists_on_platter = from->exists_on_platter;
        bytes_copy(&to->seen, &from->seen);
        bytes_copy(&to->platter, &from->platter);
        for (size_t k = 0; k < from->n_changes; k++) {
            add_change(to, from->changes[k].offset, from->changes[k].data,
                       from->changes[k].size);
        }
    }
    return copy;
}

void disk_set_faults(struct disk *d, const struct disk_faults *faults)
{
    d->faults = *faults;
}

void disk_fail_operation(struct disk *d, unsigned kinds, uint64_t n, int code)
{
    d->fail_kinds = kinds;
    d->fail_in = n;
    d->fail_code = code;
}

void disk_stop_at(struct disk *d, uint64_t n)
{
    d->stopping = true;
    d->stop_in = n - 1;
}

bool disk_stopped(const struct disk *d)
{
    return d->stopped;
}

void disk_go_on(struct disk *d)
{
    ASSERT(!d->stopped);
    d->stopping = false;
}

uint64_t disk_operations(const struct disk *d)
{
    return d->n_operations;
}

uint64_t disk_errors(const struct disk *d)
{
    return d->n_errors;
}

static void start_again(struct disk *d)
{
    ASSERT(d->n_open == 0);
    d->stopping = d->stopped = false;
    d->fail_in = 0;
}

void disk_restart(struct disk *d, bool power_cut)
{
    start_again(d);
    if (power_cut) {
        cut_power(d, false);
    }
}

void disk_restart_and_lose_all(struct disk *d)
{
    start_again(d);
    cut_power(d, true);
}

/* ---- looking and damaging
 * ----------------------------------------------------- */

long disk_file_size(const struct disk *d, const char *name)
{
    const struct file *f = find_file(d, name);

    return f == NULL || !f->exists ? -1 : (long)f->seen.size;
}

const uint8_t *disk_file_bytes(const struct disk *d, const char *name)
{
    const struct file *f = find_file(d, name);

    return f == NULL ? NULL : f->seen.data;
}

size_t disk_unsynced(const struct disk *d, const char *name)
{
    const struct file *f = find_file(d, name);
    size_t n = 0;

    for (size_t i = 0; f != NULL && i < f->n_changes; i++) {
        n += f->changes[i].data == NULL ? 1 : f->changes[i].size;
    }
    return n;
}

void disk_put_bytes(struct disk *d, const char *name, size_t offset,
                    const void *bytes, size_t size)
{
    struct file *f = find_file(d, name);

    ASSERT(f != NULL && f->n_changes == 0);
    bytes_put(&f->seen, offset, bytes, size);
    bytes_put(&f->platter, offset, bytes, size);
}

void disk_flip_bit(struct disk *d, const char *name, size_t offset,
                   unsigned bit)
{
    struct file *f = find_file(d, name);
    uint8_t byte;

    ASSERT(f != NULL && offset < f->seen.size);
    byte = (uint8_t)(f->seen.data[offset] ^ (1u << bit));
    disk_put_bytes(d, name, offset, &byte, 1);
}

void disk_cut_file(struct disk *d, const char *name, size_t size)
{
    struct file *f = find_file(d, name);

    ASSERT(f != NULL && f->n_changes == 0 && size <= f->seen.size);
    bytes_resize(&f->seen, size);
    bytes_resize(&f->platter, size);
}
