/*
 * world.c - the cluster, its clients and its troubles.
 */
#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <sqlite3.h>

/* O12: within so many of the longest election timeouts. */
#define RECOVERY_TIMEOUTS 40

uint64_t world_now(const struct world *w)
{
    return w->events.now_us;
}

bool world_chance(struct world *w, uint32_t in_a_million)
{
    return in_a_million > 0 && rng_below(&w->rng, 1000000) < in_a_million;
}

uint64_t world_between(struct world *w, uint64_t low, uint64_t high)
{
    return low + rng_below(&w->rng, high - low + 1);
}

static void put(struct world *w, enum event_kind kind, unsigned target,
                uint64_t after_us, uint64_t value)
{
    struct event e = {.kind = kind,
                      .target = target,
                      .at_us = world_now(w) + after_us,
                      .value = value};

    events_put(&w->events, e);
}

/* ---- clients
 * -------------------------------------------------------------------- */

/* A client does one thing at a time. */
static void begin_operation(struct world *w, unsigned k)
{
    struct client *c = &w->clients[k];
    const struct options *o = &w->options;
    bool is_write = world_between(w, 1, 100) <= o->write_percent;
    unsigned node = world_between(w, 1, 10) <= 7
                        ? c->hint
                        : (unsigned)world_between(w, 0, o->n_nodes - 1);

    c->operation = oracle_begin(&w->oracle, is_write);
    put(w, EVENT_REQUEST, node, world_between(w, 10, 2000), c->operation);
    put(w, EVENT_TIMEOUT, k, o->patience_us, c->operation);
}

static struct client *client_of(struct world *w, uint64_t operation)
{
    for (unsigned k = 0; k < w->options.n_clients; k++) {
        if (w->clients[k].operation == operation) {
            return &w->clients[k];
        }
    }
    return NULL; /* it gave up waiting */
}

static void end_operation(struct world *w, struct client *c)
{
    c->operation = 0;
    put(w, EVENT_CLIENT, (unsigned)(c - w->clients),
        world_between(w, 0, w->options.think_us), 0);
}

void world_answer(struct world *w, uint64_t operation, enum answer answer,
                  uint64_t revision, raft_id leader)
{
    struct client *c = client_of(w, operation);

    if (answer == ANSWER_NOT_APPLIED) {
        oracle_refuse(&w->oracle, operation);
        w->figures.refused++;
    }
    if (c == NULL) {
        return;
    }
    if (answer == ANSWER_OK) {
        bool is_write = w->oracle.operations[operation].is_write;

        TRACE(w, "%s %" PRIu64 " answers revision %" PRIu64,
              is_write ? "write" : "read", operation, revision);
        oracle_answer(&w->oracle, operation, revision);
        w->figures.writes += is_write;
        w->figures.reads += !is_write;
    }
    if (leader != 0) {
        c->hint = (unsigned)leader - 1;
    } else if (answer != ANSWER_OK) {
        c->hint = (unsigned)world_between(w, 0, w->options.n_nodes - 1);
    }
    end_operation(w, c);
}

static void give_up(struct world *w, unsigned k, uint64_t operation)
{
    struct client *c = &w->clients[k];

    if (c->operation != operation) {
        return;
    }
    w->figures.given_up++;
    c->hint = (unsigned)world_between(w, 0, w->options.n_nodes - 1);
    end_operation(w, c);
}

/* ---- troubles
 * --------------------------------------------------------------------- */

static void crash(struct world *w, struct replica *n, bool power_cut)
{
    if (!replica_is_up(n)) {
        return;
    }
    TRACE(w, "n%" PRIu64 " %s, %zu jobs with its disk", n->id,
          power_cut ? "loses power" : "is killed", n->n_running);
    w->figures.kills += !power_cut;
    w->figures.power_cuts += power_cut;
    replica_stop(w, n, power_cut);
}

static void pause_node(struct world *w, struct replica *n)
{
    n->paused_until_us = world_now(w) + world_between(w, 10000, 3000000);
    w->figures.pauses++;
    TRACE(w, "n%" PRIu64 " pauses", n->id);
}

static void partition(struct world *w, bool one_way)
{
    char text[160];

    if (rng_below(&w->rng, 3) == 0) {
        net_heal(&w->net);
        TRACE(w, "all links are whole");
        return;
    }
    net_break(&w->net, one_way, text, sizeof text);
    w->figures.partitions++;
    TRACE(w, "%s", text);
}

static void spoil_disk(struct world *w, struct replica *n)
{
    n->bad_disk_until_us = world_now(w) + world_between(w, 100000, 3000000);
    disk_set_faults(n->disk, &w->options.disk);
    w->figures.bad_disks++;
    TRACE(w, "n%" PRIu64 " has a bad disk", n->id);
}

static void transfer(struct world *w, struct replica *n)
{
    raft_id to = world_between(w, 1, w->options.n_nodes);

    if (replica_is_up(n) && w->net.n_nodes > 1 && to != n->id &&
        n->paused_until_us <= world_now(w)) {
        w->figures.transfers++;
        replica_transfer(w, n, to);
    }
}

/* Any member, or more often the leader: there it hurts most. */
static struct replica *draw_node(struct world *w)
{
    unsigned place = (unsigned)world_between(w, 0, w->options.n_nodes - 1);

    for (unsigned i = 0; i < w->options.n_nodes && rng_below(&w->rng, 2); i++) {
        struct replica *n = &w->nodes[i];

        if (replica_is_up(n) && raft_role(n->raft) == RAFT_LEADER) {
            return n;
        }
    }
    return &w->nodes[place];
}

void world_elected(struct world *w, const struct replica *n)
{
    struct event e = {
        .kind = EVENT_HUNT, .target = (unsigned)n->id - 1, .life = n->life};

    w->figures.elections++;
    if (world_between(w, 0, 99) < w->options.hunt_percent) {
        e.at_us = world_now(w) + world_between(w, 0,
                                               2 * w->options.net.delay_max_us +
                                                   w->options.disk_max_us);
        events_put(&w->events, e);
    }
}

/* Cut off, killed or paused: its last messages are on their way. */
static void hunt(struct world *w, struct replica *n, uint64_t life)
{
    if (w->is_calm || n->life != life || !replica_is_up(n)) {
        return;
    }
    w->figures.hunts++;
    switch (world_between(w, 0, 5)) {
    case 0:
        crash(w, n, true);
        break;
    case 1:
        crash(w, n, false);
        break;
    case 2:
        pause_node(w, n);
        break;
    default:
        TRACE(w, "n%" PRIu64 " is cut off", n->id);
        net_heal(&w->net);
        net_isolate(&w->net, (unsigned)n->id - 1);
        put(w, EVENT_HEAL, 0, world_between(w, 10000, 1000000), 0);
    }
}

static void mend_disks(struct world *w)
{
    static const struct disk_faults none;

    for (unsigned i = 0; i < w->options.n_nodes; i++) {
        if (w->nodes[i].bad_disk_until_us <= world_now(w)) {
            disk_set_faults(w->nodes[i].disk, &none);
        }
    }
}

static void cause_trouble(struct world *w)
{
    const struct options *o = &w->options;
    const unsigned weights[] = {o->kills,      o->power_cuts, o->pauses,
                                o->partitions, o->one_way,    o->bad_disks,
                                o->transfers};
    struct replica *n = draw_node(w);
    unsigned sum = 0, draw, which = 0;

    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++) {
        sum += weights[i];
    }
    put(w, EVENT_FAULT, 0, world_between(w, 1, o->fault_every_us), 0);
    mend_disks(w);
    if (sum == 0) {
        return;
    }
    for (draw = (unsigned)rng_below(&w->rng, sum); draw >= weights[which];) {
        draw -= weights[which++];
    }
    switch (which) {
    case 0:
    case 1:
        crash(w, n, which == 1);
        break;
    case 2:
        pause_node(w, n);
        break;
    case 3:
    case 4:
        partition(w, which == 4);
        break;
    case 5:
        spoil_disk(w, n);
        break;
    default:
        transfer(w, n);
    }
}

/* ---- the run
 * ------------------------------------------------------------------------ */

static void tell_node(struct world *w, struct replica *n, const struct event *e)
{
    switch (e->kind) {
    case EVENT_TICK:
        replica_tick(w, n);
        break;
    case EVENT_MESSAGE:
        replica_receive(w, n, e->message);
        break;
    case EVENT_DISK:
        replica_disk_done(w, n);
        break;
    case EVENT_REQUEST:
        replica_request(w, n, e->value);
        break;
    default:
        break;
    }
}

/* A stopped process hears nothing; it all waits for it. */
static bool is_put_off(struct world *w, const struct replica *n,
                       const struct event *e)
{
    struct event later = *e;

    if (n->paused_until_us <= world_now(w)) {
        return false;
    }
    later.at_us = n->paused_until_us;
    events_put_off(&w->events, later);
    return true;
}

static void handle_node_event(struct world *w, struct event *e)
{
    struct replica *n = &w->nodes[e->target];

    if (e->life != 0 && e->life != n->life) {
        return; /* that process is gone */
    }
    if (e->kind == EVENT_START) {
        replica_start(w, n);
        return;
    }
    if (!replica_is_up(n) ||
        (e->kind == EVENT_MESSAGE && !net_delivers(&w->net, e->message))) {
        return;
    }
    if (is_put_off(w, n, e)) {
        e->message = NULL; /* went with it */
        return;
    }
    tell_node(w, n, e);
}

static void handle(struct world *w, struct event *e)
{
    switch (e->kind) {
    case EVENT_CLIENT:
        if (!w->is_quiet) {
            begin_operation(w, e->target);
        }
        break;
    case EVENT_TIMEOUT:
        give_up(w, e->target, e->value);
        break;
    case EVENT_FAULT:
        if (!w->is_calm) {
            cause_trouble(w);
        }
        break;
    case EVENT_HUNT:
        hunt(w, &w->nodes[e->target], e->life);
        break;
    case EVENT_HEAL:
        net_heal(&w->net);
        break;
    default:
        handle_node_event(w, e);
    }
    message_free(e->message);
}

/* Run until that time, or until a claim becomes true (NULL: never). */
static void run_until(struct world *w, uint64_t end_us,
                      bool (*done)(const struct world *w))
{
    struct event e;

    while (!w->oracle.failed && w->events.now_us < end_us &&
           (done == NULL || !done(w)) && events_take(&w->events, &e)) {
        handle(w, &e);
    }
}

/* Faults are over: the network is whole, disks are good, everybody runs. */
static void calm_down(struct world *w)
{
    static const struct disk_faults none;
    struct net_quality *q = &w->net.quality;

    TRACE(w, "faults end");
    w->is_calm = true;
    net_heal(&w->net);
    q->loss = q->duplication = q->detour = 0;
    for (unsigned i = 0; i < w->options.n_nodes; i++) {
        struct replica *n = &w->nodes[i];

        n->paused_until_us = 0;
        n->bad_disk_until_us = 0;
        disk_set_faults(n->disk, &none);
        if (!replica_is_up(n)) {
            n->life++; /* the start that is scheduled is too late */
            replica_start(w, n);
        }
    }
    w->calm_write = w->oracle.n_operations;
}

/* A write that began after the calm has taken effect. */
static bool writes_again(const struct world *w)
{
    for (size_t i = w->calm_write; i < w->oracle.n_operations; i++) {
        const struct operation *op = &w->oracle.operations[i];

        if (op->is_write && op->committed != 0) {
            return true;
        }
    }
    return false;
}

/* Everybody holds and has applied all that is committed. */
static bool is_level(const struct world *w)
{
    for (unsigned i = 0; i < w->options.n_nodes; i++) {
        const struct replica *n = &w->nodes[i];

        if (!replica_is_up(n) || n->state.applied < w->oracle.committed.last) {
            return false;
        }
    }
    return true;
}

/*
 * Run until a claim is true. A backlog, small windows and slow disks may make
 * that long, but within each bound_us something must be applied.
 */
static void run_on(struct world *w, uint64_t bound_us,
                   bool (*done)(const struct world *w), const char *claim)
{
    for (int i = 0; !w->oracle.failed && !done(w); i++) {
        uint64_t applied = w->figures.applied;

        run_until(w, world_now(w) + bound_us, done);
        if (!done(w) && (w->figures.applied == applied || i >= 100)) {
            oracle_fail(&w->oracle, "O12: faults are over, but not: %s", claim);
        }
    }
}

static void recover(struct world *w)
{
    uint64_t timeout_us = 2 * w->options.raft.election_ticks *
                          (w->options.tick_us + w->options.tick_us / 10);
    uint64_t bound_us =
        RECOVERY_TIMEOUTS * (timeout_us + w->options.disk_max_us +
                             w->options.net.delay_max_us + w->options.think_us);

    calm_down(w);
    run_on(w, bound_us + w->options.patience_us, writes_again,
           "a write commits");
    w->is_quiet = true;
    run_on(w, bound_us, is_level, "all members catch up");
    run_until(w, world_now(w) + timeout_us, NULL);
}

bool world_run(struct world *w)
{
    char text[400];

    options_show(&w->options, text, sizeof text);
    TRACE(w, "%s", text);
    for (unsigned i = 0; i < w->options.n_nodes; i++) {
        replica_start(w, &w->nodes[i]);
    }
    for (unsigned k = 0; k < w->options.n_clients; k++) {
        put(w, EVENT_CLIENT, k, world_between(w, 0, w->options.think_us), 0);
    }
    if (w->options.fault_every_us > 0) {
        put(w, EVENT_FAULT, 0, w->options.fault_every_us, 0);
    }
    run_until(w, w->options.length_us, NULL);
    if (!w->oracle.failed) {
        recover(w);
    }
    w->figures.messages = w->net.n_sent;
    for (unsigned i = 0; i < w->options.n_nodes; i++) {
        w->figures.disk_errors += disk_errors(w->nodes[i].disk);
    }
    if (w->oracle.failed) {
        TRACE(w, "%s", w->oracle.failure);
    }
    return !w->oracle.failed;
}

struct world *world_new(const struct options *o)
{
    struct world *w = raft_alloc(1, sizeof *w);

    w->options = *o;
    rng_init(&w->rng, ~o->seed);
    (void)sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, (int)o->seed | 1,
                               NULL);
    net_init(&w->net, rng_next(&w->rng), o->n_nodes, &o->net);
    oracle_init(&w->oracle, o->n_nodes);
    for (unsigned i = 0; i < o->n_nodes; i++) {
        w->servers[i] = (struct raft_server){i + 1, RAFT_VOTER};
        replica_init(&w->nodes[i], i + 1, w);
    }
    w->founders = (struct raft_configuration){.servers = w->servers,
                                              .n_servers = o->n_nodes};
    return w;
}

void world_free(struct world *w)
{
    for (unsigned i = 0; i < w->options.n_nodes; i++) {
        replica_release(&w->nodes[i]);
    }
    oracle_release(&w->oracle);
    events_release(&w->events);
    raft_free(w);
}
