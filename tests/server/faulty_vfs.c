/*
 * faulty_vfs.c - passes every call on, unless it is its turn to fail.
 */
#include "tests/server/faulty_vfs.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

struct fault fault = {.after = -1};

struct file {
    sqlite3_file base;
    sqlite3_file *real;
};

static sqlite3_vfs *real_vfs;

/* SQLITE_OK, or the code to fail with. */
static int turn(enum fault_kind kind)
{
    long call;

    if ((fault.kinds & (unsigned)kind) == 0) {
        return SQLITE_OK;
    }
    call = fault.calls++;
    if (fault.after < 0 || call < fault.after ||
        (call > fault.after && !fault.always)) {
        return SQLITE_OK;
    }
    fault.failed++;
    return fault.code;
}

static sqlite3_file *real_of(sqlite3_file *f)
{
    return ((struct file *)f)->real;
}

static int file_close(sqlite3_file *f)
{
    sqlite3_file *real = real_of(f);
    int code = real->pMethods->xClose(real);

    free(real);
    return code;
}

static int file_read(sqlite3_file *f, void *to, int n, sqlite3_int64 at)
{
    int code = turn(FAULT_READ);

    return code != SQLITE_OK
               ? code
               : real_of(f)->pMethods->xRead(real_of(f), to, n, at);
}

static int file_write(sqlite3_file *f, const void *from, int n,
                      sqlite3_int64 at)
{
    int code = turn(FAULT_WRITE);

    if (code == SQLITE_OK) {
        return real_of(f)->pMethods->xWrite(real_of(f), from, n, at);
    }
    if (n > 1) { /* half of it gets there */
        (void)real_of(f)->pMethods->xWrite(real_of(f), from, n / 2, at);
    }
    return code;
}

static int file_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    int code = turn(FAULT_WRITE);

    return code != SQLITE_OK
               ? code
               : real_of(f)->pMethods->xTruncate(real_of(f), size);
}

static int file_sync(sqlite3_file *f, int flags)
{
    int code = turn(FAULT_SYNC);

    return code != SQLITE_OK ? code
                             : real_of(f)->pMethods->xSync(real_of(f), flags);
}

static int file_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return real_of(f)->pMethods->xFileSize(real_of(f), size);
}

static int file_lock(sqlite3_file *f, int lock)
{
    int code = turn(FAULT_LOCK);

    return code != SQLITE_OK ? code
                             : real_of(f)->pMethods->xLock(real_of(f), lock);
}

static int file_unlock(sqlite3_file *f, int lock)
{
    return real_of(f)->pMethods->xUnlock(real_of(f), lock);
}

static int file_check_reserved(sqlite3_file *f, int *out)
{
    return real_of(f)->pMethods->xCheckReservedLock(real_of(f), out);
}

static int file_control(sqlite3_file *f, int op, void *arg)
{
    return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}

static int file_sector(sqlite3_file *f)
{
    return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int file_characteristics(sqlite3_file *f)
{
    return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

static int file_shm_map(sqlite3_file *f, int page, int size, int extend,
                        void volatile **out)
{
    int code = turn(FAULT_MAP);

    return code != SQLITE_OK ? code
                             : real_of(f)->pMethods->xShmMap(real_of(f), page,
                                                             size, extend, out);
}

static int file_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    int code = (flags & SQLITE_SHM_UNLOCK) ? SQLITE_OK : turn(FAULT_LOCK);

    return code != SQLITE_OK
               ? code
               : real_of(f)->pMethods->xShmLock(real_of(f), offset, n, flags);
}

static void file_shm_barrier(sqlite3_file *f)
{
    real_of(f)->pMethods->xShmBarrier(real_of(f));
}

static int file_shm_unmap(sqlite3_file *f, int remove)
{
    return real_of(f)->pMethods->xShmUnmap(real_of(f), remove);
}

static const sqlite3_io_methods methods = {
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
    .xSectorSize = file_sector,
    .xDeviceCharacteristics = file_characteristics,
    .xShmMap = file_shm_map,
    .xShmLock = file_shm_lock,
    .xShmBarrier = file_shm_barrier,
    .xShmUnmap = file_shm_unmap,
};

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f,
                    int flags, int *out_flags)
{
    struct file *file = (struct file *)f;
    int code = turn(FAULT_OPEN);

    (void)vfs;
    file->base.pMethods = NULL;
    if (code != SQLITE_OK) {
        return code;
    }
    file->real = calloc(1, (size_t)real_vfs->szOsFile);
    if (file->real == NULL) {
        abort();
    }
    code = real_vfs->xOpen(real_vfs, name, file->real, flags, out_flags);
    if (code == SQLITE_OK) {
        file->base.pMethods = &methods;
    } else {
        free(file->real);
    }
    return code;
}

void faulty_vfs_install(void)
{
    static sqlite3_vfs vfs;

    fault = (struct fault){.after = -1};
    if (real_vfs == NULL) {
        real_vfs = sqlite3_vfs_find(NULL);
        vfs = *real_vfs;
        vfs.zName = FAULTY_VFS;
        vfs.szOsFile = sizeof(struct file);
        vfs.xOpen = vfs_open;
        vfs.pNext = NULL;
        if (sqlite3_vfs_register(&vfs, 0) != SQLITE_OK) {
            abort();
        }
    }
}
