/*
 * walfile.c - writes an SQLite WAL's frames once more.
 */
#include "server/walfile.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base.h"

/* Of SQLite's file format: "WAL Format". */
#define HEADER_SIZE 32
#define HEADER_PAGE_SIZE 8
#define HEADER_SALT 16
#define FRAME_HEADER_SIZE 24
#define FRAME_SALT 8
#define SALT_SIZE 8
#define PAGE_SIZE_MAX 65536

static size_t load_be32(const uint8_t *b)
{
    return (size_t)b[0] << 24 | (size_t)b[1] << 16 | (size_t)b[2] << 8 | b[3];
}

/* Header and frames of the present generation, whole or torn. */
static int write_frames(sqlite3_file *file, sqlite3_int64 size)
{
    uint8_t header[HEADER_SIZE];
    int rc = file->pMethods->xRead(file, header, sizeof(header), 0);
    size_t page_size = load_be32(header + HEADER_PAGE_SIZE);
    int frame_size = (int)(page_size + FRAME_HEADER_SIZE);
    uint8_t *frame;

    if (rc != SQLITE_OK || page_size < 512 || page_size > PAGE_SIZE_MAX) {
        return rc; /* a header that is none: SQLite will begin anew */
    }
    frame = mem_alloc((size_t)frame_size, 1);
    rc = file->pMethods->xWrite(file, header, sizeof(header), 0);
    for (sqlite3_int64 at = HEADER_SIZE;
         rc == SQLITE_OK && at + frame_size <= size; at += frame_size) {
        rc = file->pMethods->xRead(file, frame, frame_size, at);
        if (rc == SQLITE_OK &&
            memcmp(frame + FRAME_SALT, header + HEADER_SALT, SALT_SIZE) != 0) {
            break; /* of an earlier generation */
        }
        if (rc == SQLITE_OK) {
            rc = file->pMethods->xWrite(file, frame, frame_size, at);
        }
    }
    free(frame);
    return rc == SQLITE_OK ? file->pMethods->xSync(file, SQLITE_SYNC_NORMAL)
                           : rc;
}

int walfile_write_again(sqlite3 *db)
{
    sqlite3_file *file = NULL;
    sqlite3_int64 size = 0;
    int rc =
        sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file);

    if (rc != SQLITE_OK || file == NULL || file->pMethods == NULL) {
        return rc; /* there is none yet */
    }
    rc = file->pMethods->xFileSize(file, &size);
    return rc != SQLITE_OK || size < HEADER_SIZE ? rc
                                                 : write_frames(file, size);
}
