/*
 * options.c - a run's options from its seed.
 */
#include "tests/sim/options.h"

#include <inttypes.h>
#include <stdio.h>

static uint64_t between(struct rng *g, uint64_t low, uint64_t high)
{
    return low + rng_below(g, high - low + 1);
}

/* Is this kind of trouble part of the run? And how much? */
static unsigned weight(struct rng *g)
{
    return rng_below(g, 2) ? 0 : (unsigned)between(g, 1, 10);
}

static void draw_raft(struct options *o, struct rng *g)
{
    struct raft_config *c = &o->raft;

    raft_config_defaults(c);
    c->election_ticks = (unsigned)between(g, 8, 12);
    c->heartbeat_ticks = (unsigned)between(g, 1, 3);
    if (rng_below(g, 2)) { /* small limits are reached often */
        c->append_bytes_max = rng_below(g, 2) ? 1 : between(g, 1, 2000);
        c->inflight_messages_max = between(g, 1, 8);
        c->inflight_bytes_max = between(g, 1, 8000);
        c->uncommitted_bytes_max = between(g, 1000, 20000);
    }
    c->no_pre_vote = rng_below(g, 8) == 0;
    c->no_check_quorum = rng_below(g, 8) == 0;
}

static void draw_net(struct options *o, struct rng *g)
{
    struct net_quality *q = &o->net;

    q->delay_min_us = between(g, 50, 1000);
    q->delay_max_us = q->delay_min_us + between(g, 0, 20000);
    q->detour_max_us = between(g, 100000, 3000000);
    q->loss = rng_below(g, 2) ? 0 : (uint32_t)between(g, 0, 200000);
    q->duplication = rng_below(g, 2) ? 0 : (uint32_t)between(g, 0, 500000);
    q->detour = rng_below(g, 2) ? 0 : (uint32_t)between(g, 0, 50000);
}

static void draw_disk(struct options *o, struct rng *g)
{
    o->sector_size = rng_below(g, 2) ? 512 : 4096;
    o->wal_pages = (unsigned)between(g, 16, 80);
    o->disk_min_us = between(g, 10, 200);
    o->disk_max_us =
        o->disk_min_us + between(g, 0, rng_below(g, 4) ? 5000 : 100000);
    o->disk_stall = rng_below(g, 2) ? 0 : (uint32_t)between(g, 0, 5000);
    o->disk_stall_max_us = between(g, 100000, 5000000);
    o->disk.read_error = 100;
    o->disk.write_error = rng_below(g, 2) ? 0 : (uint32_t)between(g, 1, 10000);
    o->disk.sync_error = rng_below(g, 2) ? 0 : (uint32_t)between(g, 1, 200000);
    o->disk.full = rng_below(g, 2) ? 0 : (uint32_t)between(g, 1, 300000);
}

void options_draw(struct options *o, uint64_t seed)
{
    static const unsigned sizes[] = {1, 2, 3, 3, 3, 3, 3, 4, 5, 5};
    struct rng g;

    *o = (struct options){.seed = seed};
    rng_init(&g, seed);
    o->n_nodes = sizes[rng_below(&g, sizeof sizes / sizeof sizes[0])];
    o->n_clients = (unsigned)between(&g, 1, 12);
    o->length_us = between(&g, 3, 15) * 1000000;
    o->tick_us = 10000;
    o->drift_percent = (unsigned)between(&g, 0, 10);
    draw_raft(o, &g);
    draw_net(o, &g);
    draw_disk(o, &g);
    o->think_us = between(&g, 1000, 200000);
    o->patience_us = between(&g, 200000, 3000000);
    o->write_percent = (unsigned)between(&g, 20, 90);
    o->data_size_max = rng_below(&g, 3) ? 100 : 6000;
    o->compact_every = rng_below(&g, 3) ? between(&g, 5, 100) : 0;
    o->fault_every_us = rng_below(&g, 10) ? between(&g, 20000, 2000000) : 0;
    o->kills = weight(&g);
    o->power_cuts = weight(&g);
    o->pauses = weight(&g);
    o->partitions = weight(&g);
    o->one_way = weight(&g);
    o->bad_disks = weight(&g);
    o->transfers = weight(&g);
    o->hunt_percent = rng_below(&g, 2) ? 0 : (unsigned)between(&g, 10, 90);
}

void options_draw_cluster(struct options *o, uint64_t seed)
{
    static const unsigned sizes[] = {1, 2, 3, 3, 3, 3, 4, 5, 5, 6, 7};
    struct rng g;

    options_draw(o, seed);
    rng_init(&g, seed ^ 0x636c7573746572); /* another run, for all else */
    o->n_nodes = sizes[rng_below(&g, sizeof sizes / sizeof sizes[0])];
    o->n_clients = (unsigned)between(&g, 1, 12);
    o->tick_us = between(&g, 1, 5) * 10000;
    o->length_us = between(&g, 5, 40) * 1000000;
    o->net.loss = rng_below(&g, 2) ? 0 : (uint32_t)between(&g, 0, 300000);
    o->raft.no_pre_vote = o->raft.no_check_quorum = false; /* not to be had */
    o->wal_pages = (unsigned)between(&g, 16, 200);
    o->stops = weight(&g);
    o->suspends = weight(&g);
    o->clocks = weight(&g);
    o->breaks = weight(&g);
    o->start_crash = rng_below(&g, 2) ? 0 : (uint32_t)between(&g, 1, 400000);
    o->hunt_answers = rng_below(&g, 2) ? 0 : (uint32_t)between(&g, 1, 30000);
    o->stream_break = rng_below(&g, 2) ? 0 : (uint32_t)between(&g, 1, 50000);
    o->request_timeout_ms = (unsigned)between(&g, 500, 7000);
    o->log_keep_entries =
        rng_below(&g, 4) ? between(&g, 0, rng_below(&g, 2) ? 5 : 100) : 5000;
    o->ttl_max_s = (int64_t)between(&g, 1, 5);
    o->n_keys = (unsigned)between(&g, 1, 8);
    o->n_locks = (unsigned)between(&g, 1, 3);
}

void options_show(const struct options *o, char *text, size_t size)
{
    (void)snprintf(
        text, size,
        "nodes=%u clients=%u length=%" PRIu64 "s loss=%u%% double=%u%% "
        "detour=%u%% disk=%" PRIu64 "us stall=%u wal=%u compact=%" PRIu64
        " fault-every=%" PRIu64 "ms kill=%u cut=%u pause=%u part=%u "
        "one-way=%u bad-disk=%u transfer=%u hunt=%u%%%s%s stop=%u suspend=%u "
        "clock=%u break=%u tick=%" PRIu64 "us drift=%u%% timeout=%ums",
        o->n_nodes, o->n_clients, o->length_us / 1000000, o->net.loss / 10000,
        o->net.duplication / 10000, o->net.detour / 10000, o->disk_max_us,
        o->disk_stall, o->wal_pages, o->compact_every, o->fault_every_us / 1000,
        o->kills, o->power_cuts, o->pauses, o->partitions, o->one_way,
        o->bad_disks, o->transfers, o->hunt_percent,
        o->raft.no_pre_vote ? " no-pre-vote" : "",
        o->raft.no_check_quorum ? " no-check-quorum" : "", o->stops,
        o->suspends, o->clocks, o->breaks, o->tick_us, o->drift_percent,
        o->request_timeout_ms);
}
