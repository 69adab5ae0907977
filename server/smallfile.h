/*
 * smallfile.h - a few numbers in a file of their own, replaced as a whole: old
 * or new after a crash, never half of each, and durable when the call returns.
 */
#ifndef PAWL_SMALLFILE_H
#define PAWL_SMALLFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum smallfile_status {
    SMALLFILE_OK,
    SMALLFILE_NONE,    /* there is no such file */
    SMALLFILE_DAMAGED, /* or of another kind, or cannot be read */
};

/* kind: one word, what the numbers mean. n: as written. */
enum smallfile_status smallfile_read(const char *path, const char *kind,
                                     uint64_t *numbers, size_t n);
/* 0 or an errno: then it is not known whether the old or the new is there. */
int smallfile_write(const char *path, const char *kind, const uint64_t *numbers,
                    size_t n);
/* The same for its absence. No such file is fine. */
int smallfile_remove(const char *path);
/* Make what was renamed, made or removed in path's directory durable. */
int smallfile_sync_directory(const char *path);

#endif
