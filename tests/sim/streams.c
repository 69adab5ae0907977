/*
 * streams.c - connections for forwarded requests.
 */
#include "tests/sim/streams.h"

#include <string.h>

#define RECONNECT_US 100000

void streams_init(struct streams *s, uint64_t seed, struct net *net,
                  struct events *events, uint32_t break_chance)
{
    *s = (struct streams){
        .net = net, .events = events, .break_chance = break_chance};
    rng_init(&s->rng, seed);
}

static void pipe_cut(struct streams *s, struct pipe *p, size_t n)
{
    for (size_t i = n; i < p->n; i++) {
        raft_free(p->items[i].data);
        s->n_lost++;
    }
    p->n = n < p->n ? n : p->n;
}

void streams_release(struct streams *s)
{
    for (unsigned a = 0; a < NODES_MAX; a++) {
        for (unsigned b = 0; b < NODES_MAX; b++) {
            pipe_cut(s, &s->of[a][b].forwards, 0);
            pipe_cut(s, &s->of[a][b].replies, 0);
            raft_free(s->of[a][b].forwards.items);
            raft_free(s->of[a][b].replies.items);
        }
    }
}

/* ---- sending
 * ------------------------------------------------------------------ */

static uint64_t draw(struct streams *s, uint64_t low, uint64_t high)
{
    return low + rng_below(&s->rng, high - low + 1);
}

static void schedule(struct streams *s, struct pipe *p, unsigned opener,
                     unsigned other, bool is_reply, uint64_t at_us)
{
    struct event e = {.kind = EVENT_STREAM,
                      .at_us =
                          at_us > s->events->now_us ? at_us : s->events->now_us,
                      .target = is_reply ? opener : other,
                      .value = (opener * NODES_MAX + other) * 2 + is_reply};

    p->under_way = true;
    events_put(s->events, e);
}

static void push(struct streams *s, unsigned opener, unsigned other,
                 bool is_reply, const ProtobufCMessage *m)
{
    struct stream *st = &s->of[opener][other];
    struct pipe *p = is_reply ? &st->replies : &st->forwards;
    const struct net_quality *q = &s->net->quality;
    struct stream_item item = {.connection = st->connection,
                               .is_reply = is_reply};

    item.at_us = s->events->now_us + draw(s, q->delay_min_us, q->delay_max_us);
    if (q->detour > 0 && rng_below(&s->rng, 1000000) < q->detour) {
        item.at_us += draw(s, 0, q->detour_max_us);
    }
    if (p->n > 0 && p->items[p->n - 1].at_us > item.at_us) {
        item.at_us = p->items[p->n - 1].at_us;
    }
    item.size = protobuf_c_message_get_packed_size(m);
    item.data = raft_alloc(item.size + 1, 1);
    protobuf_c_message_pack(m, item.data);
    if (p->n == p->room) {
        p->room = 2 * p->room + 8;
        p->items = raft_realloc(p->items, p->room, sizeof *p->items);
    }
    p->items[p->n++] = item;
    s->n_items++;
    if (!p->under_way) {
        schedule(s, p, opener, other, is_reply, item.at_us);
    }
}

void streams_break(struct streams *s, unsigned from, unsigned to)
{
    struct stream *st = &s->of[from][to];

    if (!st->is_open) {
        return;
    }
    s->n_breaks++;
    st->is_open = false;
    pipe_cut(s, &st->forwards, (size_t)rng_below(&s->rng, st->forwards.n + 1));
    pipe_cut(s, &st->replies, 0); /* the asker listens no more */
}

void streams_end(struct streams *s, unsigned who)
{
    for (unsigned k = 0; k < s->net->n_nodes; k++) {
        streams_break(s, who, k); /* the system still sends what it was given */
        streams_break(s, k, who);
        pipe_cut(s, &s->of[k][who].forwards, 0);
    }
}

void streams_forward(struct streams *s, unsigned from, unsigned to,
                     const Pawl__Peer__V1__Forward *item)
{
    struct stream *st = &s->of[from][to];

    if (s->break_chance > 0 && rng_below(&s->rng, 1000000) < s->break_chance) {
        streams_break(s, from, to);
    }
    if (!st->is_open) {
        if (st->connection > 0 &&
            s->events->now_us - st->tried_us < RECONNECT_US) {
            s->n_lost++;
            return;
        }
        st->is_open = true;
        st->connection++;
        st->tried_us = s->events->now_us;
    }
    push(s, from, to, false, &item->base);
}

void streams_reply(struct streams *s, unsigned from, unsigned to,
                   const Pawl__Peer__V1__ForwardResult *item)
{
    struct stream *st = &s->of[to][from];

    if (!st->is_open || st->greeted != st->connection) {
        s->n_lost++;
        return;
    }
    push(s, to, from, true, &item->base);
}

/* ---- arriving
 * ----------------------------------------------------------------- */

static bool get_stuck(struct streams *s, struct pipe *p, unsigned opener,
                      unsigned other, bool is_reply)
{
    unsigned from = is_reply ? other : opener, to = is_reply ? opener : other;

    if (!s->net->cut[from][to]) {
        return false;
    }
    if (rng_below(&s->rng, 8) == 0) {
        streams_break(s, opener, other);
        pipe_cut(s, p, 0);
    } else {
        schedule(s, p, opener, other, is_reply,
                 s->events->now_us + draw(s, 50000, 300000));
    }
    return true;
}

bool streams_take(struct streams *s, const struct event *e,
                  struct stream_item *item, unsigned *from)
{
    bool is_reply = e->value & 1;
    unsigned opener = (unsigned)(e->value / 2) / NODES_MAX;
    unsigned other = (unsigned)(e->value / 2) % NODES_MAX;
    struct stream *st = &s->of[opener][other];
    struct pipe *p = is_reply ? &st->replies : &st->forwards;

    p->under_way = false;
    if (p->n == 0 || get_stuck(s, p, opener, other, is_reply)) {
        return false;
    }
    if (p->items[0].at_us > s->events->now_us) { /* the one meant was lost */
        schedule(s, p, opener, other, is_reply, p->items[0].at_us);
        return false;
    }
    *item = p->items[0];
    *from = is_reply ? other : opener;
    memmove(p->items, p->items + 1, --p->n * sizeof *p->items);
    if (p->n > 0) {
        schedule(s, p, opener, other, is_reply, p->items[0].at_us);
    }
    if (!is_reply && item->connection > st->greeted) {
        st->greeted = item->connection;
    }
    return true;
}
