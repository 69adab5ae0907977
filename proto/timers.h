/*
 * timers.h - many deadlines on one event of the event base.
 *
 * Most requests bring a deadline and nearly none reaches it, so setting and
 * cancelling must cost next to nothing: a binary heap in an array, and a
 * libevent timer that is moved only when the earliest deadline comes closer.
 * Belongs to the thread of its event base.
 */
#ifndef PAWL_TIMERS_H
#define PAWL_TIMERS_H

#include <event2/event.h>
#include <stddef.h>
#include <stdint.h>

/* Embedded in what waits. Zero-initialised is not set. */
struct timer {
    uint64_t due_ms;               /* on clock_ms() */
    size_t place;                  /* 1 + index in the heap; 0: not set */
    void (*fire)(struct timer *t); /* it is no longer set by then */
};

struct timers {
    struct event *event;
    uint64_t armed_ms; /* when the event comes; UINT64_MAX: it does not */
    struct timer **heap;
    size_t n, capacity;
};

void timers_init(struct timers *ts, struct event_base *base);
/* None may be set any more. */
void timers_release(struct timers *ts);

/* Set or move. t->fire must be filled in. */
void timers_set(struct timers *ts, struct timer *t, uint64_t due_ms);
/* Fine if it is not set. */
void timers_cancel(struct timers *ts, struct timer *t);

#endif
