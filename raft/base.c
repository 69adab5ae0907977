/*
 * base.c - memory and random numbers for the core.
 */
#include "raft/base.h"

#include <stdlib.h>

void *raft_alloc(size_t n, size_t size)
{
    void *p = calloc(n > 0 ? n : 1, size > 0 ? size : 1);

    if (p == NULL) {
        abort();
    }
    return p;
}

void *raft_realloc(void *old, size_t n, size_t size)
{
    void *p;

    ASSERT(size > 0 && n <= SIZE_MAX / size);
    p = realloc(old, n > 0 ? n * size : 1);
    if (p == NULL) {
        abort();
    }
    return p;
}

void raft_free(void *p)
{
    free(p);
}

void rng_init(struct rng *g, uint64_t seed)
{
    g->state = seed;
}

uint64_t rng_next(struct rng *g)
{
    uint64_t z = g->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t rng_below(struct rng *g, uint64_t bound)
{
    ASSERT(bound > 0);
    return rng_next(g) % bound;
}
