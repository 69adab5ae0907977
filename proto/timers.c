/*
 * timers.c - a binary min-heap of deadlines.
 */
#include "proto/timers.h"

#include <stdlib.h>

#include "proto/base.h"

static void arm(struct timers *ts)
{
    uint64_t now, wait_ms;
    struct timeval tv;

    if (ts->n == 0 || ts->heap[0]->due_ms >= ts->armed_ms) {
        return; /* the event comes early enough and will look again */
    }
    now = clock_ms();
    wait_ms = ts->heap[0]->due_ms > now ? ts->heap[0]->due_ms - now : 0;
    tv.tv_sec = (time_t)(wait_ms / 1000);
    tv.tv_usec = (suseconds_t)(wait_ms % 1000 * 1000);
    ts->armed_ms = ts->heap[0]->due_ms;
    if (event_add(ts->event, &tv) != 0) {
        abort();
    }
}

static void on_event(evutil_socket_t fd, short what, void *context)
{
    struct timers *ts = context;
    uint64_t now = clock_ms();

    (void)fd;
    (void)what;
    /* Nothing arms the event meanwhile: this one will, once, at the end. */
    ts->armed_ms = 0;
    while (ts->n > 0 && ts->heap[0]->due_ms <= now) {
        struct timer *t = ts->heap[0];

        timers_cancel(ts, t);
        t->fire(t);
    }
    ts->armed_ms = UINT64_MAX;
    arm(ts);
}

void timers_init(struct timers *ts, struct event_base *base)
{
    *ts = (struct timers){.armed_ms = UINT64_MAX};
    ts->event = event_new(base, -1, 0, on_event, ts);
    if (ts->event == NULL) {
        abort();
    }
}

void timers_release(struct timers *ts)
{
    ASSERT(ts->n == 0);
    event_free(ts->event);
    free(ts->heap);
}

static void put(struct timers *ts, size_t i, struct timer *t)
{
    ts->heap[i] = t;
    t->place = i + 1;
}

static void move_up(struct timers *ts, size_t i, struct timer *t)
{
    while (i > 0 && ts->heap[(i - 1) / 2]->due_ms > t->due_ms) {
        put(ts, i, ts->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    put(ts, i, t);
}

static void move_down(struct timers *ts, size_t i, struct timer *t)
{
    for (;;) {
        size_t child = 2 * i + 1;

        if (child + 1 < ts->n &&
            ts->heap[child + 1]->due_ms < ts->heap[child]->due_ms) {
            child++;
        }
        if (child >= ts->n || ts->heap[child]->due_ms >= t->due_ms) {
            break;
        }
        put(ts, i, ts->heap[child]);
        i = child;
    }
    put(ts, i, t);
}

void timers_set(struct timers *ts, struct timer *t, uint64_t due_ms)
{
    ASSERT(t->fire != NULL);
    timers_cancel(ts, t);
    if (ts->n == ts->capacity) {
        ts->capacity = ts->capacity > 0 ? 2 * ts->capacity : 64;
        ts->heap = mem_realloc(ts->heap, ts->capacity, sizeof(*ts->heap));
    }
    t->due_ms = due_ms;
    move_up(ts, ts->n++, t);
    arm(ts);
}

void timers_cancel(struct timers *ts, struct timer *t)
{
    size_t i = t->place - 1;
    struct timer *last;

    if (t->place == 0) {
        return;
    }
    ASSERT(i < ts->n && ts->heap[i] == t);
    t->place = 0;
    last = ts->heap[--ts->n];
    if (last == t) {
        return;
    }
    if (i > 0 && ts->heap[(i - 1) / 2]->due_ms > last->due_ms) {
        move_up(ts, i, last);
    } else {
        move_down(ts, i, last);
    }
}
