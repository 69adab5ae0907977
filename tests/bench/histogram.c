/*
 * histogram.c - latencies by the million in little memory.
 */
#include "tests/bench/histogram.h"

#include <math.h>
#include <string.h>

/*
 * Values below 2^(SUB_BITS+1) have a bucket each. Above, a value is shifted
 * until SUB_BITS+1 bits are left; the shift picks the doubling, the rest the
 * bucket in it:  index = shift * 2^SUB_BITS + (value >> shift).
 */
static unsigned bucket_shift(uint64_t value)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(value | 1);

    return bits > HISTOGRAM_SUB_BITS + 1 ? bits - HISTOGRAM_SUB_BITS - 1 : 0;
}

static uint64_t bucket_upper_edge(unsigned index)
{
    unsigned shift = index >> HISTOGRAM_SUB_BITS;
    uint64_t rest = index;

    if (shift <= 1) {
        return rest; /* the first two doublings are exact */
    }
    shift--;
    rest -= (uint64_t)shift << HISTOGRAM_SUB_BITS;
    return ((rest + 1) << shift) - 1;
}

void histogram_reset(struct histogram *h)
{
    memset(h, 0, sizeof(*h));
}

void histogram_add(struct histogram *h, uint64_t value)
{
    unsigned shift = bucket_shift(value);

    h->counts[(shift << HISTOGRAM_SUB_BITS) + (value >> shift)]++;
    h->total++;
    if (value > h->max) {
        h->max = value;
    }
}

uint64_t histogram_quantile(const struct histogram *h, double share)
{
    uint64_t rank = (uint64_t)ceil(share * (double)h->total);
    uint64_t seen = 0;

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->counts[i];
        if (seen >= rank && seen > 0) {
            uint64_t edge = bucket_upper_edge(i);

            return edge < h->max ? edge : h->max;
        }
    }
    return h->max;
}
