/*
 * base.h - what every file of the core stands on: ASSERT, memory that never
 * runs out, a generator of random numbers. No I/O, no clock, no threads.
 */
#ifndef RAFT_BASE_H
#define RAFT_BASE_H

#ifdef NDEBUG
#error "assertions stay on: stopping beats a wrong log"
#endif
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* What the author knows to be true. Never on what a peer or client sent. */
#define ASSERT(claim) assert(claim)

/* The same for claims that cost a scan: on in tests, off in what ships. */
#ifdef PAWL_SLOW_ASSERTS
#define ASSERT_SLOW(claim) assert(claim)
#else
#define ASSERT_SLOW(claim) ((void)0)
#endif

/*
 * Memory, zeroed, never NULL: running out aborts, which is as safe as any
 * crash, since nothing is promised that is not on disk. Free with raft_free().
 */
void *raft_alloc(size_t n, size_t size);
void *raft_realloc(void *old, size_t n, size_t size);
void raft_free(void *p); /* NULL is fine */

/* A small deterministic generator (splitmix64). Any seed is good. */
struct rng {
    uint64_t state;
};

void rng_init(struct rng *g, uint64_t seed);
uint64_t rng_next(struct rng *g);
uint64_t rng_below(struct rng *g, uint64_t bound); /* [0, bound), bound > 0 */

#endif
