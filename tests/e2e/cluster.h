/*
 * cluster.h - real pawld processes on loopback, in a directory of their own.
 *
 * A cluster has an address of its own in 127/8 and ports that nobody used a
 * moment ago. Its processes end with the thread that started them, whatever
 * ends that. If the test program ends before cluster_free(), the ends of the
 * logs are printed and the directory is kept.
 *
 * All functions are for the main thread, but for cluster_address() and
 * cluster_starts(). What cannot be (a program that does not start, a wait
 * without end) fails the test.
 */
#ifndef E2E_CLUSTER_H
#define E2E_CLUSTER_H

#include <stdatomic.h>
#include <sys/types.h>

#include "client.h"

#define CLUSTER_MAX 5
/* What a healthy cluster does in far less: the end of patience. */
#define PATIENCE_MS 20000

struct cluster_config {
    size_t n;
    const char *heartbeat_ms, *election_ms; /* NULL: the program's default */
    const char *data_parent; /* of the data directories; NULL: cluster_dir() */
};

struct cluster;

/* Nobody runs yet. */
struct cluster *cluster_new(const struct cluster_config *config);
/* All run, and a leader answers. */
struct cluster *cluster_up(const struct cluster_config *config);
void cluster_free(struct cluster *c);

size_t cluster_size(const struct cluster *c);
const char *cluster_dir(const struct cluster *c);
const char *cluster_address(const struct cluster *c, size_t i); /* clients' */
const char *cluster_peer_address(const struct cluster *c, size_t i);
const char *cluster_data_dir(const struct cluster *c, size_t i);
const char *cluster_log(const struct cluster *c, size_t i);
/* How often member i was started: two equal answers, one incarnation. */
unsigned cluster_starts(const struct cluster *c, size_t i);
pid_t cluster_pid(const struct cluster *c, size_t i); /* 0: does not run */
bool cluster_is_paused(const struct cluster *c, size_t i);

void cluster_start(struct cluster *c, size_t i);
/* The same, with more or other flags: pairs, NULL last. The last one counts. */
void cluster_start_with(struct cluster *c, size_t i, const char *const *flags);
/* kill -9; it is gone when this returns. */
void cluster_kill(struct cluster *c, size_t i);
void cluster_pause(struct cluster *c, size_t i); /* SIGSTOP */
void cluster_resume(struct cluster *c, size_t i);
/* SIGTERM, and its exit status. */
int cluster_stop(struct cluster *c, size_t i);
/* Wait until it ends by itself: its exit status, 128 + n for a signal. */
int cluster_wait_exit(struct cluster *c, size_t i);

/* What member i says of itself. False if it does not answer at once. */
struct member_status {
    uint64_t member, cluster;
    uint64_t leader; /* member id; 0: none */
    uint64_t term, commit, applied;
    int64_t revision;
};
bool cluster_status(struct cluster *c, size_t i, struct member_status *out);
/* Wait for a leader that a majority of those who run agrees on. */
size_t cluster_leader(struct cluster *c);
/* Wait until all members run the same term and have applied all there is. */
void cluster_settle(struct cluster *c);

/* Does the log of member i hold this text (in bytes from offset on)? */
bool cluster_log_has(const struct cluster *c, size_t i, const char *text);

/* ---- pawld by itself -------------------------------------------------------
 */

/* Path of the program under test. */
const char *pawld_path(void);
/*
 * Run a program and wait: its exit status as above, or -1 if it still ran
 * after that time (and was killed). output (may be NULL) gets what it said on
 * both streams.
 */
int run_program(const char *const *argv, uint64_t timeout_ms, char *output,
                size_t output_size);
/* "127.x.y.z:port", free a moment ago; from malloc. */
char *free_address(void);
/* Between two questions to a server. */
void short_pause(void);

#endif
