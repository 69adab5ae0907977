/*
 * net.c - the simulated network.
 */
#include "tests/sim/net.h"

#include <stdio.h>
#include <string.h>

struct raft_message *message_copy(const struct raft_message *m)
{
    size_t size = sizeof *m + m->n_entries * sizeof *m->entries;
    struct raft_message *copy;
    struct raft_entry *entries;
    uint8_t *data;

    for (size_t i = 0; i < m->n_entries; i++) {
        size += m->entries[i].size;
    }
    copy = raft_alloc(1, size);
    *copy = *m;
    entries = (struct raft_entry *)(copy + 1);
    data = (uint8_t *)(entries + m->n_entries);
    copy->entries = m->n_entries == 0 ? NULL : entries;
    for (size_t i = 0; i < m->n_entries; i++) {
        entries[i] = m->entries[i];
        if (entries[i].size > 0) {
            memcpy(data, m->entries[i].data, entries[i].size);
            entries[i].data = data;
            data += entries[i].size;
        }
    }
    return copy;
}

void message_free(struct raft_message *m)
{
    raft_free(m);
}

const char *message_name(enum raft_message_type type)
{
    static const char *const names[] = {
        [RAFT_PRE_VOTE] = "pre-vote?",
        [RAFT_PRE_VOTE_RESPONSE] = "pre-vote!",
        [RAFT_REQUEST_VOTE] = "vote?",
        [RAFT_REQUEST_VOTE_RESPONSE] = "vote!",
        [RAFT_APPEND_ENTRIES] = "append?",
        [RAFT_APPEND_ENTRIES_RESPONSE] = "append!",
        [RAFT_HEARTBEAT] = "heartbeat?",
        [RAFT_HEARTBEAT_RESPONSE] = "heartbeat!",
        [RAFT_TIMEOUT_NOW] = "timeout-now",
        [RAFT_READ_INDEX] = "read?",
        [RAFT_READ_INDEX_RESPONSE] = "read!",
    };

    if ((size_t)type >= sizeof names / sizeof names[0] || !names[type]) {
        return "unknown";
    }
    return names[type];
}

void net_init(struct net *net, uint64_t seed, unsigned n_nodes,
              const struct net_quality *quality)
{
    *net = (struct net){.n_nodes = n_nodes, .quality = *quality};
    rng_init(&net->rng, seed);
}

static bool happens(struct net *net, uint32_t chance)
{
    return chance > 0 && rng_below(&net->rng, 1000000) < chance;
}

static uint64_t draw_delay(struct net *net)
{
    const struct net_quality *q = &net->quality;
    uint64_t max = happens(net, q->detour) ? q->detour_max_us : q->delay_max_us;

    return q->delay_min_us + rng_below(&net->rng, max - q->delay_min_us + 1);
}

static void send_once(struct net *net, struct events *events,
                      const struct raft_message *m)
{
    struct event e = {.at_us = events->now_us + draw_delay(net),
                      .kind = EVENT_MESSAGE,
                      .target = (unsigned)m->to - 1,
                      .message = message_copy(m)};

    events_put(events, e);
}

void net_send(struct net *net, struct events *events,
              const struct raft_message *m)
{
    ASSERT(m->to >= 1 && m->to <= net->n_nodes && m->to != m->from);
    net->n_sent++;
    if (happens(net, net->quality.loss)) {
        net->n_lost++;
        return;
    }
    send_once(net, events, m);
    while (happens(net, net->quality.duplication)) {
        net->n_doubled++;
        send_once(net, events, m);
    }
}

bool net_delivers(const struct net *net, const struct raft_message *m)
{
    return !net->cut[m->from - 1][m->to - 1];
}

void net_heal(struct net *net)
{
    memset(net->cut, 0, sizeof net->cut);
}

void net_isolate(struct net *net, unsigned who)
{
    for (unsigned a = 0; a < net->n_nodes; a++) {
        net->cut[a][who] = net->cut[who][a] = a != who;
    }
}

/* Two sides, each member on one of them by chance. */
static void cut_in_two(struct net *net, bool one_way)
{
    uint64_t side = rng_next(&net->rng);

    for (unsigned a = 0; a < net->n_nodes; a++) {
        for (unsigned b = 0; b < net->n_nodes; b++) {
            bool left = (side >> a) & 1, right = (side >> b) & 1;

            net->cut[a][b] = one_way ? left && !right : left != right;
        }
    }
}

/* One member hears nobody, or is heard by nobody, or both. */
static void cut_off_one(struct net *net, bool one_way)
{
    unsigned who = (unsigned)rng_below(&net->rng, net->n_nodes);
    bool hears = one_way && rng_below(&net->rng, 2);

    for (unsigned a = 0; a < net->n_nodes; a++) {
        net->cut[a][who] = a != who && !hears;
        net->cut[who][a] = a != who && (hears || !one_way);
    }
}

/* Each link by itself: some members meet only through others (A13). */
static void cut_links(struct net *net, bool one_way)
{
    for (unsigned a = 0; a < net->n_nodes; a++) {
        for (unsigned b = 0; b < a; b++) {
            net->cut[a][b] = rng_below(&net->rng, 3) == 0;
            net->cut[b][a] =
                one_way ? rng_below(&net->rng, 3) == 0 : net->cut[a][b];
        }
    }
}

void net_break(struct net *net, bool one_way, char *text, size_t size)
{
    net_heal(net);
    switch (rng_below(&net->rng, 3)) {
    case 0:
        cut_in_two(net, one_way);
        break;
    case 1:
        cut_off_one(net, one_way);
        break;
    default:
        cut_links(net, one_way);
    }
    (void)snprintf(text, size, "cut:");
    for (unsigned a = 0; a < net->n_nodes; a++) {
        for (unsigned b = 0; b < net->n_nodes; b++) {
            size_t end = strlen(text);

            if (net->cut[a][b]) {
                (void)snprintf(text + end, size - end, " %u>%u", a + 1, b + 1);
            }
        }
    }
}
