/*
 * snapshotinternal.h - what snapshot.c, snapshotout.c (sending) and
 * snapshotin.c (receiving) share.
 */
#ifndef PAWL_SNAPSHOTINTERNAL_H
#define PAWL_SNAPSHOTINTERNAL_H

#include "server/snapshot.h"
#include "server/snapshotfile.h"
#include "server/worker.h"

/* What a sender has on its way at most, and a receiver in memory. */
#define SNAPSHOT_WINDOW_BYTES ((uint64_t)4 << 20)
#define SNAPSHOT_CHUNK_BYTES ((size_t)256 << 10)
#define SNAPSHOT_ERROR_BYTES 512

struct copy;
struct transfer;
struct incoming;
LIST_HEAD(transfer_list, transfer);

struct snapshots {
    struct snapshots_config config;
    struct snapshots_parts parts;
    char *directory;
    struct worker *worker; /* reads, writes, verifies, loads */
    struct event *timer;   /* runs while something is under way */
    bool timer_runs;
    bool stopping;

    /* snapshotout.c */
    struct transfer_list transfers;
    struct copy *copy; /* that they send; NULL: none */
    uint64_t tokens;   /* bytes that may be sent now */
    uint64_t refilled_us;

    /* snapshotin.c */
    struct incoming *incoming; /* NULL: none */
    struct snapshots_figures figures;
};

/*
 * Blocking work: work() on the snapshot thread, then done() on the main thread.
 * Embedded in what it works for; one at a time.
 */
struct file_job {
    struct job job;
    void (*work)(struct file_job *j);
    void (*done)(struct file_job *j);
};

void snapshots_submit(struct snapshots *s, struct file_job *j,
                      void (*work)(struct file_job *j),
                      void (*done)(struct file_job *j));
/* Something is under way: have the timer run. */
void snapshots_wake(struct snapshots *s);

/* snapshotout.c; tick: true while something is under way. */
bool snapshot_out_tick(struct snapshots *s);
void snapshot_out_stop(struct snapshots *s);
void snapshot_out_free(struct snapshots *s);
/* Is the state thread copying? If so it stops soon: state.db will be closed. */
bool snapshot_out_is_copying(struct snapshots *s);

/* snapshotin.c */
bool snapshot_in_tick(struct snapshots *s);
void snapshot_in_stop(struct snapshots *s);
void snapshot_in_free(struct snapshots *s);
void snapshot_in_serve(struct snapshots *s, struct rpc_server *server);
/* Remove what an earlier process left and nobody will go on with. */
void snapshot_in_clean(struct snapshots *s);

#endif
