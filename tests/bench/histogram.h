/*
 * histogram.h - latencies by the million in little memory.
 *
 * Log-linear buckets: 128 to every doubling, so a quantile is right within
 * 1 % from a nanosecond to centuries, and adding costs a few instructions.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_SUB_BITS = 7, /* 2^7 buckets a doubling */
    HISTOGRAM_BUCKETS = (64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS,
};

/* Zero-initialised is empty. */
struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total; /* values added */
    uint64_t max;   /* exact */
};

void histogram_reset(struct histogram *h);
void histogram_add(struct histogram *h, uint64_t value);
/* The value that a share of them (0 to 1) does not exceed; 0 if empty. */
uint64_t histogram_quantile(const struct histogram *h, double share);

#endif
