/*
 * disk.h - one member's disk, in memory, behind an SQLite VFS of its own.
 *
 * A file has two faces: what programs read (the page cache) and what is on
 * the platter. A write goes to the first; xSync moves it to the second. When
 * the power goes, each unsynced sector is kept or lost by the seed and reading
 * shows the platter. When only the process dies, the page cache stays.
 *
 * A sector is written whole or not at all; that a write does not touch the
 * bytes beside it in a sector ("powersafe overwrite") is what SQLite assumes
 * on Linux too.
 *
 * After a failed sync the written pages count as clean: they never reach the
 * platter unless written again, whatever a later sync says; the page cache
 * shows them still, or forgets them, by the seed. That is how Linux behaves.
 */
#ifndef TESTS_SIM_DISK_H
#define TESTS_SIM_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct disk;

enum disk_operation {
    DISK_OPEN = 1,
    DISK_READ = 2,
    DISK_WRITE = 4,
    DISK_SYNC = 8,
    DISK_TRUNCATE = 16,
    DISK_SIZE = 32,
    DISK_LOCK = 64,
    DISK_ACCESS = 128,
    DISK_DELETE = 256,
    DISK_ANY = 511,
};

/* Chances in a million operations. A full disk refuses to grow files. */
struct disk_faults {
    uint32_t read_error, write_error, sync_error, full;
};

/* An empty disk. Its VFS is registered under disk_vfs(). */
struct disk *disk_new(uint64_t seed, size_t sector_size);
void disk_free(struct disk *d); /* no file may be open */
const char *disk_vfs(const struct disk *d);
/* A copy of the whole disk with a VFS of its own. No file may be open. */
struct disk *disk_clone(const struct disk *d, uint64_t seed);

/* ---- faults -------------------------------------------------------------- */

void disk_set_faults(struct disk *d, const struct disk_faults *faults);
/* The n-th operation of these kinds from now on (1: next) answers code once. */
void disk_fail_operation(struct disk *d, unsigned kinds, uint64_t n, int code);
/* The power goes (or the process dies) before the n-th operation from now. */
void disk_stop_at(struct disk *d, uint64_t n);
/* Is it over that point? */
bool disk_stopped(const struct disk *d);
/* It has not come to that point, and will not. */
void disk_go_on(struct disk *d);
/* Operations since disk_new(). */
uint64_t disk_operations(const struct disk *d);
/* Errors answered since disk_new(), by chance or by disk_fail_operation(). */
uint64_t disk_errors(const struct disk *d);

/*
 * All files are closed and the process is gone: back to working order. With
 * power_cut what was not synced is kept or lost, sector by sector.
 */
void disk_restart(struct disk *d, bool power_cut);
/* The same with each unsynced sector lost. */
void disk_restart_and_lose_all(struct disk *d);

/* ---- looking and damaging; of files by name -------------------------------
 */

/* -1: no such file. */
long disk_file_size(const struct disk *d, const char *name);
const uint8_t *disk_file_bytes(const struct disk *d, const char *name);
/* Bytes not synced yet. */
size_t disk_unsynced(const struct disk *d, const char *name);
void disk_flip_bit(struct disk *d, const char *name, size_t offset,
                   unsigned bit);
void disk_cut_file(struct disk *d, const char *name, size_t size);
void disk_put_bytes(struct disk *d, const char *name, size_t offset,
                    const void *bytes, size_t size);

#endif
