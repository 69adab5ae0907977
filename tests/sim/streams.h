/*
 * streams.h - what members forward to the leader, and the replies: each pair
 * of members has a connection in each direction, as in server/peers.c.
 *
 * A connection delivers in order and never twice. When it breaks, what is on
 * its way is lost from some point on; the next item opens a new one, but not
 * within 100 ms of the last attempt. What an old connection still had in its
 * pipe may arrive after the first items of the new one. A cut link clogs the
 * pipe or breaks it. Replies travel on the connection that the asker opened
 * last, whatever it was that they answer.
 */
#ifndef TESTS_SIM_STREAMS_H
#define TESTS_SIM_STREAMS_H

#include "peer.pb-c.h"
#include "tests/sim/net.h"

struct stream_item {
    uint64_t at_us;
    uint64_t connection; /* which one of this pair, from 1 */
    bool is_reply;
    size_t size;
    uint8_t *data;
};

/* One direction of one pair, in order. */
struct pipe {
    struct stream_item *items;
    size_t n, room;
    bool under_way; /* an event for its head exists */
};

struct stream {
    bool is_open;
    uint64_t connection; /* the newest, 0: none was opened yet */
    uint64_t greeted;    /* the newest that the other side has heard of */
    uint64_t tried_us;
    struct pipe forwards; /* from the one that opened it */
    struct pipe replies;  /* to it */
};

struct streams {
    struct rng rng;
    struct net *net;
    struct events *events;
    uint32_t break_chance;                  /* in a million items */
    struct stream of[NODES_MAX][NODES_MAX]; /* [who opened it][to whom] */
    uint64_t n_items, n_lost, n_breaks;
};

void streams_init(struct streams *s, uint64_t seed, struct net *net,
                  struct events *events, uint32_t break_chance);
void streams_release(struct streams *s);

void streams_forward(struct streams *s, unsigned from, unsigned to,
                     const Pawl__Peer__V1__Forward *item);
void streams_reply(struct streams *s, unsigned from, unsigned to,
                   const Pawl__Peer__V1__ForwardResult *item);
/* That process is gone: what others sent it is lost. */
void streams_end(struct streams *s, unsigned who);
void streams_break(struct streams *s, unsigned from, unsigned to);

/*
 * The event that e is came up. False: nothing arrives now. Else *item is
 * what arrives at e->target, from *from; its data is the caller's to free.
 */
bool streams_take(struct streams *s, const struct event *e,
                  struct stream_item *item, unsigned *from);

#endif
