/*
 * events.h - simulated time: a queue of what will happen, in order.
 *
 * Time is microseconds since the run began. Events of the same time come out
 * in the order in which they were put in, so a run has one order only.
 */
#ifndef TESTS_SIM_EVENTS_H
#define TESTS_SIM_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct raft_message;

enum event_kind {
    EVENT_TICK,    /* a member's clock */
    EVENT_MESSAGE, /* arrives at a member */
    EVENT_DISK,    /* a member's disk work is done */
    EVENT_REQUEST, /* a client's operation arrives at a member */
    EVENT_START,   /* a member's process starts */
    EVENT_CLIENT,  /* a client begins its next operation */
    EVENT_TIMEOUT, /* a client gives up waiting */
    EVENT_FAULT,   /* something breaks, or is mended */
    EVENT_HUNT,    /* a new leader is struck down */
    EVENT_HEAL,    /* all links are whole again */
    /* Of whole nodes only: */
    EVENT_ROUND,     /* a member's main loop turns */
    EVENT_STATE,     /* a member's state thread is done */
    EVENT_STREAM,    /* the head of a stream arrives */
    EVENT_ANSWER,    /* reaches a client */
    EVENT_KEEPALIVE, /* a client renews its lease */
    EVENT_LINK_LOST, /* a member's connection to another broke */
    EVENT_GIVE_UP, /* a member hears that a client is gone, or waited enough */
};

struct event {
    uint64_t at_us;
    uint64_t number; /* set by events_put() */
    enum event_kind kind;
    unsigned target; /* place of the member or client */
    uint64_t life;   /* for that life of the member only; 0: any */
    uint64_t value, attempt;
    struct raft_message *message; /* given */
};

struct events {
    struct event *heap;
    size_t n, room;
    uint64_t n_put;
    uint64_t now_us; /* time of the event taken last */
};

void events_release(struct events *q);
void events_put(struct events *q, struct event e);
/* One that was taken comes later; it keeps its number, and so its place among
 * others of that time. */
void events_put_off(struct events *q, struct event e);
bool events_take(struct events *q, struct event *e); /* false: none left */

#endif
