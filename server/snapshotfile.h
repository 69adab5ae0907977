/*
 * snapshotfile.h - a copy of state.db as a file that travels: what it stands
 * for, and whether what arrived is that. Blocking work for the snapshot thread;
 * nothing here knows of connections or of Raft's core.
 *
 * Functions that return bool tell by error, of error_size bytes, one line for
 * the operator when they return false.
 */
#ifndef PAWL_SNAPSHOTFILE_H
#define PAWL_SNAPSHOTFILE_H

#include "peer.pb-c.h"
#include "server/applier.h"

#define SNAPSHOT_HASH_BYTES 16

/* What a copy stands for, and how to know it again. */
struct snapshot_header {
    raft_index index;
    raft_term term;
    struct buffer configuration; /* encoded */
    uint64_t size;
    uint8_t hash[SNAPSHOT_HASH_BYTES];
};

void snapshot_header_release(struct snapshot_header *h);
bool snapshot_header_equal(const struct snapshot_header *a,
                           const struct snapshot_header *b);
/* The message borrows from the header. */
void snapshot_header_encode(const struct snapshot_header *h,
                            Pawl__Peer__V1__SnapshotHeader *m);
/* False, and nothing to release, if it cannot be of a snapshot. */
bool snapshot_header_decode(const Pawl__Peer__V1__SnapshotHeader *m,
                            struct snapshot_header *h);

uint64_t snapshot_checksum(uint64_t offset, const void *data, size_t size);

/* Is there room for so many bytes in the directory, and some to spare? */
bool snapshot_has_room(const char *directory, uint64_t bytes, char *error,
                       size_t error_size);

/* Sync a copy that was just taken, and fill its header. */
bool snapshot_describe(const char *path, struct snapshot_header *h, char *error,
                       size_t error_size);

/*
 * Open a file to receive into: where the copy with that header was begun
 * already, *offset tells how far it surely is on disk, else it is begun anew,
 * durably under that header. unsynced: bytes at the end of a file found here
 * that may not be on disk. Returns a descriptor, or -1.
 */
int snapshot_receive_open(const char *path, const struct snapshot_header *h,
                          uint64_t unsynced, uint64_t *offset, char *error,
                          size_t error_size);
/* Write and sync. */
bool snapshot_receive_write(int fd, uint64_t offset, const void *data,
                            size_t size, char *error, size_t error_size);
/* Remove what was received, and its header. */
void snapshot_receive_drop(const char *path);

/*
 * All has been received: look whether it is what the header says, a sound
 * database of this cluster; make it this member's, load it into a fresh applier
 * and leave it synced, ready to be renamed (D5). On false the file is spoilt.
 */
bool snapshot_adopt(const char *path, const struct snapshot_header *h,
                    uint64_t cluster_id, uint64_t member_id,
                    struct applier *into, char *error, size_t error_size);

#endif
