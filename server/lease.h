/*
 * lease.h - leases: which exist, which keys hang on them, when they end.
 *
 * Two halves. The replicated half (grant, revoke, attach, detach) changes only
 * through applied commands and is the same on every member. The timed half
 * (renew, expired) is the leader's alone, runs on the monotonic clock that its
 * caller passes in, and decides nothing by itself: what expired is proposed as
 * a revoke. Belongs to the main thread.
 */
#ifndef PAWL_LEASE_H
#define PAWL_LEASE_H

#include "proto/base.h"
#include "proto/status.h"

#define LEASE_TTL_MAX_S INT64_C(9000000000)

struct leases;

struct leases *leases_new(void);
void leases_free(struct leases *ls);

/* ---- replicated --------------------------------------------------------- */

/*
 * ttl_s below 1 counts as 1: the least TTL that a cluster offers is applied by
 * who proposes. In etcd's order: ST_LEASE_NOT_FOUND (id 0),
 * ST_LEASE_TTL_TOO_LARGE, ST_LEASE_EXIST.
 */
enum status lease_grant(struct leases *ls, int64_t id, int64_t ttl_s);
/* Forget a lease; its keys must be detached or deleted by the caller first. */
enum status lease_revoke(struct leases *ls, int64_t id);
bool lease_exists(const struct leases *ls, int64_t id);
int64_t lease_ttl_s(const struct leases *ls, int64_t id); /* granted; 0: none */
/*
 * A key belongs to at most one lease: follow kv_change. id 0 is skipped. To
 * attach needs a lease that exists; twice is as good as once.
 */
void lease_attach(struct leases *ls, int64_t id, struct slice key);
void lease_detach(struct leases *ls, int64_t id, struct slice key);
/*
 * The keys of a lease in byte order; an array of *n from malloc, the slices
 * point into the lease. NULL and 0 if none.
 */
struct slice *lease_keys(const struct leases *ls, int64_t id, size_t *n);
size_t leases_count(const struct leases *ls);
/* Ids, ascending; an array of *n from malloc. */
int64_t *leases_ids(const struct leases *ls, size_t *n);

/* ---- timed: the leader's clock ------------------------------------------- */

/*
 * This member begins to lead: every lease gets its full TTL from now, plus
 * extra_ms (LEA9). Expiry is told only between start and stop.
 */
void leases_start_clock(struct leases *ls, uint64_t now_ms, uint64_t extra_ms);
void leases_stop_clock(struct leases *ls);
/*
 * The owner was heard of: full TTL from now. Returns the granted TTL in
 * seconds; 0 if there is no such lease or it is past its end and only waits
 * for its revoke (LEA5).
 */
int64_t lease_renew(struct leases *ls, int64_t id, uint64_t now_ms);
/* Whole seconds left, rounded down; -1: no such lease or clock stopped. */
int64_t lease_remaining_s(const struct leases *ls, int64_t id, uint64_t now_ms);
/*
 * Up to max ids past their end that leases_expired() has not told of since
 * their last grant or renewal, or told of longer than retry_ms ago. Returns
 * how many.
 */
size_t leases_expired(struct leases *ls, uint64_t now_ms, uint64_t retry_ms,
                      int64_t *ids, size_t max);
/*
 * When to call leases_expired() again: clock_ms() of the next end, UINT64_MAX
 * if none. 0, which is at once, after a grant: applying reads no clock, so a
 * lease begins to run with the next of these calls.
 */
uint64_t leases_next_expiry_ms(const struct leases *ls);

#endif
