/*
 * events.c - a binary heap of events, by time and then by number.
 */
#include "tests/sim/events.h"

#include "raft/base.h"
#include "tests/sim/net.h"

static bool is_before(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->number < b->number;
}

static void swap(struct event *a, struct event *b)
{
    struct event c = *a;

    *a = *b;
    *b = c;
}

void events_release(struct events *q)
{
    for (size_t i = 0; i < q->n; i++) {
        message_free(q->heap[i].message);
    }
    raft_free(q->heap);
    *q = (struct events){0};
}

void events_put(struct events *q, struct event e)
{
    e.number = ++q->n_put;
    events_put_off(q, e);
}

void events_put_off(struct events *q, struct event e)
{
    size_t i = q->n;

    ASSERT(e.at_us >= q->now_us);
    if (q->n == q->room) {
        q->room = q->room == 0 ? 256 : 2 * q->room;
        q->heap = raft_realloc(q->heap, q->room, sizeof *q->heap);
    }
    q->heap[q->n++] = e;
    while (i > 0 && is_before(&q->heap[i], &q->heap[(i - 1) / 2])) {
        swap(&q->heap[i], &q->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
}

bool events_take(struct events *q, struct event *e)
{
    size_t i = 0;

    if (q->n == 0) {
        return false;
    }
    *e = q->heap[0];
    q->heap[0] = q->heap[--q->n];
    for (;;) {
        size_t first = i, left = 2 * i + 1, right = 2 * i + 2;

        if (left < q->n && is_before(&q->heap[left], &q->heap[first])) {
            first = left;
        }
        if (right < q->n && is_before(&q->heap[right], &q->heap[first])) {
            first = right;
        }
        if (first == i) {
            break;
        }
        swap(&q->heap[i], &q->heap[first]);
        i = first;
    }
    q->now_us = e->at_us;
    return true;
}
