/*
 * digest.h - do all members that applied the same entries have the same state?
 *
 * Members tell one another (applied index, digest) every so many entries and
 * every second in which there was one. Each compares what the others tell with
 * its own digest at that index. Who differs from a majority has diverged, by a
 * bit that flipped or by a bug, and must not serve (F11). Pure; main thread.
 */
#ifndef PAWL_DIGEST_H
#define PAWL_DIGEST_H

#include "raft/raft.h"

#define DIGEST_EVERY_ENTRIES 1000
#define DIGEST_EVERY_MS 1000

struct digests;

struct digests *digests_new(void);
void digests_free(struct digests *d);

/* Ours after applying the entry at index. Any order of calls with the rest;
 * indexes rise, and may leap when a snapshot was installed. */
void digests_applied(struct digests *d, raft_index index, uint64_t digest);
/* Another member's. */
void digests_heard(struct digests *d, raft_id from, raft_index index,
                   uint64_t digest);
/* Is it time to tell ours? Then it is what was applied last. */
bool digests_due(struct digests *d, uint64_t now_ms, raft_index *index,
                 uint64_t *digest);

enum digest_verdict {
    DIGEST_AGREES,   /* or not known */
    DIGEST_DOUBTFUL, /* somebody differs, but no majority: which of us is wrong
                        cannot be told */
    DIGEST_DIVERGED, /* a majority of the voters differs from us */
};
/*
 * With these voters. *index: where it was seen. A verdict is given once for
 * each answer of each member; DOUBTFUL once in all.
 */
enum digest_verdict digests_judge(struct digests *d,
                                  const struct raft_configuration *c,
                                  raft_index *index);

#endif
