/*
 * smallfile.c - one line of text: kind, numbers in hexadecimal, their checksum.
 */
#include "server/smallfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "proto/base.h"

#define LINE_BYTES 512

/* The line without its checksum and line feed. */
static size_t format_line(char *line, const char *kind, const uint64_t *numbers,
                          size_t n)
{
    int size = snprintf(line, LINE_BYTES, "%s", kind);

    for (size_t i = 0; i < n; i++) {
        size += snprintf(line + size, LINE_BYTES - (size_t)size, " %" PRIx64,
                         numbers[i]);
        ASSERT(size < LINE_BYTES - 32);
    }
    return (size_t)size;
}

static ssize_t read_whole(const char *path, char *line)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = 0, got;

    if (fd < 0) {
        return errno == ENOENT ? -2 : -1;
    }
    do {
        got = read(fd, line + size, (size_t)(LINE_BYTES - 1 - size));
        size += got > 0 ? got : 0;
    } while (got > 0 || (got < 0 && errno == EINTR));
    close(fd);
    line[size] = '\0';
    return got < 0 ? -1 : size;
}

enum smallfile_status smallfile_read(const char *path, const char *kind,
                                     uint64_t *numbers, size_t n)
{
    char line[LINE_BYTES], again[LINE_BYTES];
    ssize_t size = read_whole(path, line);
    size_t length = strlen(kind);
    const char *at = line + length;
    char *end;

    if (size < 0) {
        return size == -2 ? SMALLFILE_NONE : SMALLFILE_DAMAGED;
    }
    if ((size_t)size < length || memcmp(line, kind, length) != 0) {
        return SMALLFILE_DAMAGED;
    }
    for (size_t i = 0; i < n; i++) {
        numbers[i] = strtoull(at, &end, 16);
        at = end;
    }
    length = format_line(again, kind, numbers, n);
    (void)snprintf(again + length, sizeof(again) - length, " %016" PRIx64 "\n",
                   (uint64_t)XXH3_64bits(again, length));
    return strcmp(line, again) == 0 ? SMALLFILE_OK : SMALLFILE_DAMAGED;
}

static int write_whole(int fd, const char *line, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, line, size);

        if (n < 0 && errno != EINTR) {
            return errno;
        }
        if (n > 0) {
            line += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

int smallfile_sync_directory(const char *path)
{
    char *directory = mem_strdup(path);
    char *slash = strrchr(directory, '/');
    int fd, error = 0;

    if (slash != NULL) {
        *slash = '\0';
    }
    fd = open(slash != NULL ? directory : ".",
              O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        error = errno;
    }
    if (fd >= 0) {
        close(fd);
    }
    free(directory);
    return error;
}

int smallfile_write(const char *path, const char *kind, const uint64_t *numbers,
                    size_t n)
{
    char line[LINE_BYTES];
    size_t size = format_line(line, kind, numbers, n);
    char *fresh = mem_printf("%s.new", path);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int error = fd < 0 ? errno : 0;

    size +=
        (size_t)snprintf(line + size, sizeof(line) - size, " %016" PRIx64 "\n",
                         (uint64_t)XXH3_64bits(line, size));
    if (error == 0) {
        error = write_whole(fd, line, size);
    }
    if (error == 0 && fsync(fd) != 0) {
        error = errno;
    }
    if (fd >= 0 && close(fd) != 0 && error == 0) {
        error = errno;
    }
    if (error == 0 && rename(fresh, path) != 0) {
        error = errno;
    }
    free(fresh);
    return error != 0 ? error : smallfile_sync_directory(path);
}

int smallfile_remove(const char *path)
{
    if (unlink(path) != 0) {
        return errno == ENOENT ? 0 : errno;
    }
    return smallfile_sync_directory(path);
}
