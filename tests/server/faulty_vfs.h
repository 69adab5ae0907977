/*
 * faulty_vfs.h - an SQLite VFS over the default one, whose calls fail when a
 * test says so. It counts every call that touches a file.
 */
#ifndef PAWL_TESTS_SERVER_FAULTY_VFS_H
#define PAWL_TESTS_SERVER_FAULTY_VFS_H

#include <stdbool.h>

#define FAULTY_VFS "faulty"

enum fault_kind {
    FAULT_OPEN = 1,
    FAULT_READ = 2,
    FAULT_WRITE = 4, /* and truncate */
    FAULT_SYNC = 8,
    FAULT_LOCK = 16, /* and the locks on shared memory */
    FAULT_MAP = 32,  /* shared memory */
    FAULT_ANY = 63,
};

struct fault {
    unsigned kinds;
    long after;  /* so many calls of these kinds go well; -1: all do */
    bool always; /* every later call of these kinds fails too */
    int code;    /* what the call returns */
    long calls;  /* seen so far; set to 0 to begin */
    long failed; /* how many of them were made to fail */
};

extern struct fault fault;

/* Registers it, once; all goes well at first. */
void faulty_vfs_install(void);

#endif
