/*
 * cluster.c - the members, the clients and the troubles, event by event.
 */
#include "tests/sim/cluster.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>
#include <xxhash.h>

#include "server/logger.h"
#include "tests/sim/checker.h"

/* O12: within so many of the longest election timeouts. */
#define RECOVERY_TIMEOUTS 40
/* What a history may cost the checker, in steps. */
#define CHECKER_STEPS 2000000

uint64_t cluster_now(const struct cluster *c)
{
    return c->events.now_us;
}

bool cluster_chance(struct cluster *c, uint32_t in_a_million)
{
    return in_a_million > 0 && rng_below(&c->rng, 1000000) < in_a_million;
}

uint64_t cluster_between(struct cluster *c, uint64_t low, uint64_t high)
{
    return low + rng_below(&c->rng, high - low + 1);
}

void cluster_put(struct cluster *c, enum event_kind kind, unsigned target,
                 uint64_t after_us, uint64_t value, uint64_t attempt)
{
    struct event e = {.kind = kind,
                      .target = target,
                      .at_us = cluster_now(c) + after_us,
                      .value = value,
                      .attempt = attempt};

    events_put(&c->events, e);
}

/* ---- attempts
 * ------------------------------------------------------------------ */

uint64_t cluster_attempt(struct cluster *c, uint64_t op)
{
    if (c->n_attempts == c->room_attempts) {
        c->room_attempts = 2 * c->room_attempts + 64;
        c->attempts =
            raft_realloc(c->attempts, c->room_attempts, sizeof *c->attempts);
    }
    c->attempts[c->n_attempts] = (struct attempt){.op = op};
    return c->n_attempts++;
}

static struct request_key *find_key(struct cluster *c, uint64_t incarnation,
                                    uint64_t request)
{
    uint64_t key[] = {incarnation, request};
    size_t mask = c->room_request_keys - 1;
    size_t i = (size_t)XXH3_64bits(key, sizeof key) & mask;

    while (c->request_keys[i].request != 0 &&
           (c->request_keys[i].request != request ||
            c->request_keys[i].incarnation != incarnation)) {
        i = (i + 1) & mask;
    }
    return &c->request_keys[i];
}

static void grow_keys(struct cluster *c)
{
    struct request_key *old = c->request_keys;
    size_t n = c->room_request_keys;

    c->room_request_keys = n == 0 ? 1024 : 2 * n;
    c->request_keys = raft_alloc(c->room_request_keys, sizeof *c->request_keys);
    for (size_t i = 0; i < n; i++) {
        if (old[i].request != 0) {
            *find_key(c, old[i].incarnation, old[i].request) = old[i];
        }
    }
    raft_free(old);
}

void cluster_name_request(struct cluster *c, uint64_t incarnation,
                          uint64_t request, uint64_t attempt)
{
    if (2 * c->n_request_keys >= c->room_request_keys) {
        grow_keys(c);
    }
    c->n_request_keys++;
    *find_key(c, incarnation, request) =
        (struct request_key){incarnation, request, attempt};
}

/* The member is struck soon after: what it said must hold all the same. */
static void hunt_soon(struct cluster *c, const struct process *p)
{
    struct event e = {
        .kind = EVENT_HUNT, .target = (unsigned)p->id - 1, .life = p->life};

    e.at_us = cluster_now(c) + cluster_between(c, 0,
                                               2 * c->options.net.delay_max_us +
                                                   c->options.disk_max_us);
    events_put(&c->events, e);
}

void cluster_answer(struct cluster *c, struct process *p, uint64_t attempt,
                    const struct op_answer *answer)
{
    struct attempt *a = &c->attempts[attempt];
    const struct op *op = &c->ops[a->op];

    a->answer = *answer;
    if (answer->not_applied && op_is_write(op->kind)) {
        a->refused = true;
        if (a->committed != 0) {
            oracle_fail(&c->oracle,
                        "O8: n%" PRIu64 " refuses %s #%" PRIu64
                        ", which entry %" PRIu64 " is",
                        p->id, op_name(op->kind), a->op, a->committed);
        }
    }
    if (!answer->not_applied && !answer->unknown &&
        cluster_chance(c, c->options.hunt_answers)) {
        hunt_soon(c, p);
    }
    if (c->is_calm || !cluster_chance(c, c->net.quality.loss / 4)) {
        cluster_put(c, EVENT_ANSWER, op->client, cluster_between(c, 10, 2000),
                    0, attempt);
    }
}

/* ---- what is committed
 * --------------------------------------------------------- */

static void note_effect(struct cluster *c, const struct model_outcome *m)
{
    const struct request_key *key =
        c->room_request_keys == 0 ? NULL
                                  : find_key(c, m->incarnation, m->request);
    struct attempt *a;

    if (m->is_expiry) {
        return; /* a member's own */
    }
    if (key == NULL || key->request == 0) {
        oracle_fail(&c->oracle, "O11: entry %" PRIu64 " was asked by nobody",
                    c->model.index);
        return;
    }
    a = &c->attempts[key->attempt];
    if (a->committed != 0) {
        oracle_fail(&c->oracle,
                    "O11: %s #%" PRIu64 " is entry %" PRIu64
                    " and again entry %" PRIu64,
                    op_name(c->ops[a->op].kind), a->op, a->committed,
                    c->model.index);
    }
    if (a->refused) {
        oracle_fail(&c->oracle,
                    "O8: %s #%" PRIu64 " was refused and is entry %" PRIu64,
                    op_name(c->ops[a->op].kind), a->op, c->model.index);
    }
    a->committed = c->model.index;
}

static bool add_part(void *context, const struct kv_change *pair)
{
    uint64_t *sum = context;

    *sum += model_pair_part(
        pair->key, model_value(pair->value.data, pair->value.size),
        pair->create_revision, pair->mod_revision, pair->version, pair->lease);
    return true;
}

static uint64_t reference_content(struct cluster *c)
{
    struct leases *ls = applier_leases(c->reference);
    uint64_t sum = 0;
    size_t n;
    int64_t *ids = leases_ids(ls, &n);

    (void)kv_each(applier_kv(c->reference), add_part, &sum);
    for (size_t i = 0; i < n; i++) {
        sum += model_lease_part(ids[i], lease_ttl_s(ls, ids[i]));
    }
    free(ids);
    return sum;
}

/* The shipping applier and the model agree on every entry. */
static void compare(struct cluster *c, const struct raft_entry *e,
                    const struct model_outcome *m, const struct applied *r)
{
    const char *what = m->status != r->status               ? "status"
                       : m->revision != r->revision         ? "revision"
                       : m->content != reference_content(c) ? "content"
                                                            : NULL;

    if (what != NULL) {
        oracle_fail(&c->oracle,
                    "the model: entry %" PRIu64 " should give status %d, "
                    "revision %" PRId64 "; it gave %d, %" PRId64
                    ": differs in %s",
                    e->index, (int)m->status, m->revision, (int)r->status,
                    r->revision, what);
    }
}

void cluster_commit(struct cluster *c, const struct raft_entry *e)
{
    const struct model_outcome *m;
    struct applied result;

    if (e == NULL) {
        oracle_fail(&c->oracle, "entry %" PRIu64 " is committed and gone",
                    c->model.index + 1);
        return;
    }
    m = model_apply(&c->model, e);
    arena_reset(&c->arena);
    applier_apply(c->reference, e, &c->arena, &result);
    if (e->index >= c->room_digests) {
        c->room_digests = 2 * e->index + 64;
        c->digests =
            raft_realloc(c->digests, c->room_digests, sizeof *c->digests);
    }
    c->digests[e->index] = applier_digest(c->reference);
    if (c->model.failure[0] != '\0') {
        oracle_fail(&c->oracle, "%s", c->model.failure);
    }
    compare(c, e, m, &result);
    if (e->type == RAFT_ENTRY_COMMAND) {
        note_effect(c, m);
        TRACE(c,
              "entry %" PRIu64 " of term %" PRIu64 ": status %d revision "
              "%" PRId64 "%s",
              e->index, e->term, (int)m->status, m->revision,
              m->expired != 0 ? ", a lease ends" : "");
    }
    if (m->expired != 0) {
        session_expired(c, m->expired);
    }
}

/* ---- troubles
 * ------------------------------------------------------------------- */

static void crash(struct cluster *c, struct process *p, bool power_cut)
{
    if (!process_is_up(p)) {
        return;
    }
    TRACE(c, "n%" PRIu64 " %s", p->id, power_cut ? "loses power" : "is killed");
    c->figures.kills += !power_cut;
    c->figures.power_cuts += power_cut;
    process_kill(p, power_cut);
}

static void stop(struct cluster *c, struct process *p)
{
    if (process_is_up(p) && p->paused_until_us <= cluster_now(c)) {
        TRACE(c, "n%" PRIu64 " is told to stop", p->id);
        c->figures.stops++;
        process_stop(p);
    }
}

static void pause_process(struct cluster *c, struct process *p, bool suspend)
{
    uint64_t until_us = cluster_now(c) + cluster_between(c, 10000, 4000000);

    TRACE(c, "n%" PRIu64 " %s", p->id, suspend ? "is suspended" : "pauses");
    c->figures.pauses += !suspend;
    c->figures.suspends += suspend;
    process_pause(p, until_us, suspend);
}

static uint64_t draw_rate(struct cluster *c)
{
    uint64_t drift = (uint64_t)c->options.drift_percent * 10000;

    return cluster_between(c, 1000000 - drift, 1000000 + drift);
}

static void change_clock(struct cluster *c, struct process *p)
{
    c->figures.clocks++;
    process_set_clock(p, draw_rate(c));
    TRACE(c, "n%" PRIu64 " has a clock at %" PRIu64 " ppm", p->id, p->rate_ppm);
}

static void partition(struct cluster *c, bool one_way)
{
    char text[300];

    if (rng_below(&c->rng, 3) == 0) {
        net_heal(&c->net);
        TRACE(c, "all links are whole");
        return;
    }
    net_break(&c->net, one_way, text, sizeof text);
    c->figures.partitions++;
    TRACE(c, "%s", text);
}

void cluster_link_lost(struct cluster *c, unsigned at, unsigned to)
{
    if (cluster_chance(c, 500000) && !c->net.cut[to][at]) {
        cluster_put(c, EVENT_LINK_LOST, at, cluster_between(c, 50, 20000),
                    to + 1, 0);
    }
}

static void break_stream(struct cluster *c)
{
    unsigned a = (unsigned)cluster_between(c, 0, c->options.n_nodes - 1);
    unsigned b = (unsigned)cluster_between(c, 0, c->options.n_nodes - 1);

    c->figures.breaks++;
    streams_break(&c->streams, a, b);
    cluster_link_lost(c, a, b);
    TRACE(c, "the connection n%u to n%u breaks", a + 1, b + 1);
}

static void spoil_disk(struct cluster *c, struct process *p)
{
    p->bad_disk_until_us = cluster_now(c) + cluster_between(c, 100000, 3000000);
    disk_set_faults(p->disk, &c->options.disk);
    c->figures.bad_disks++;
    TRACE(c, "n%" PRIu64 " has a bad disk", p->id);
}

static void transfer(struct cluster *c, struct process *p)
{
    raft_id to = cluster_between(c, 1, c->options.n_nodes);
    enum raft_status st;

    if (process_is_up(p) && to != p->id &&
        p->paused_until_us <= cluster_now(c)) {
        c->figures.transfers++;
        st = raft_transfer(node_raft(p->node), to);
        TRACE(c, "n%" PRIu64 " hands over to n%" PRIu64 ": %s", p->id, to,
              raft_status_text(st));
        process_wake(p);
    }
}

static bool leads(const struct process *p)
{
    return process_is_up(p) && raft_role(node_raft(p->node)) == RAFT_LEADER;
}

/* Any member, or more often the leader: there it hurts most. */
static struct process *draw_process(struct cluster *c)
{
    unsigned place = (unsigned)cluster_between(c, 0, c->options.n_nodes - 1);

    for (unsigned i = 0; i < c->options.n_nodes && rng_below(&c->rng, 2); i++) {
        if (leads(&c->processes[i])) {
            return &c->processes[i];
        }
    }
    return &c->processes[place];
}

void cluster_elected(struct cluster *c, const struct process *p)
{
    c->figures.elections++;
    if (cluster_between(c, 0, 99) < c->options.hunt_percent) {
        hunt_soon(c, p);
    }
}

/* Cut off, killed or paused: its last messages are on their way. */
static void hunt(struct cluster *c, struct process *p, uint64_t life)
{
    if (c->is_calm || p->life != life || !process_is_up(p)) {
        return;
    }
    c->figures.hunts++;
    switch (cluster_between(c, 0, 6)) {
    case 0:
        crash(c, p, true);
        break;
    case 1:
        crash(c, p, false);
        break;
    case 2:
        pause_process(c, p, false);
        break;
    case 3:
        pause_process(c, p, true);
        break;
    default:
        TRACE(c, "n%" PRIu64 " is cut off", p->id);
        net_heal(&c->net);
        net_isolate(&c->net, (unsigned)p->id - 1);
        cluster_put(c, EVENT_HEAL, 0, cluster_between(c, 10000, 3000000), 0, 0);
    }
}

static void mend_disks(struct cluster *c)
{
    static const struct disk_faults none;

    for (unsigned i = 0; i < c->options.n_nodes; i++) {
        if (c->processes[i].bad_disk_until_us <= cluster_now(c)) {
            disk_set_faults(c->processes[i].disk, &none);
        }
    }
}

enum trouble {
    KILL,
    POWER_CUT,
    PAUSE,
    PARTITION,
    ONE_WAY,
    BAD_DISK,
    TRANSFER,
    STOP,
    SUSPEND,
    CLOCK,
    BREAK,
    N_TROUBLES
};

static enum trouble draw_trouble(struct cluster *c)
{
    const struct options *o = &c->options;
    const unsigned weights[N_TROUBLES] = {
        [KILL] = o->kills,         [POWER_CUT] = o->power_cuts,
        [PAUSE] = o->pauses,       [PARTITION] = o->partitions,
        [ONE_WAY] = o->one_way,    [BAD_DISK] = o->bad_disks,
        [TRANSFER] = o->transfers, [STOP] = o->stops,
        [SUSPEND] = o->suspends,   [CLOCK] = o->clocks,
        [BREAK] = o->breaks,
    };
    unsigned sum = 0, draw, which = 0;

    for (size_t i = 0; i < N_TROUBLES; i++) {
        sum += weights[i];
    }
    if (sum == 0) {
        return N_TROUBLES;
    }
    for (draw = (unsigned)rng_below(&c->rng, sum); draw >= weights[which];) {
        draw -= weights[which++];
    }
    return (enum trouble)which;
}

static void cause_trouble(struct cluster *c)
{
    struct process *p = draw_process(c);
    enum trouble which = draw_trouble(c);

    cluster_put(c, EVENT_FAULT, 0,
                cluster_between(c, 1, c->options.fault_every_us), 0, 0);
    mend_disks(c);
    switch (which) {
    case KILL:
    case POWER_CUT:
        crash(c, p, which == POWER_CUT);
        break;
    case PAUSE:
    case SUSPEND:
        pause_process(c, p, which == SUSPEND);
        break;
    case PARTITION:
    case ONE_WAY:
        partition(c, which == ONE_WAY);
        break;
    case BAD_DISK:
        spoil_disk(c, p);
        break;
    case TRANSFER:
        transfer(c, p);
        break;
    case STOP:
        stop(c, p);
        break;
    case CLOCK:
        change_clock(c, p);
        break;
    case BREAK:
        break_stream(c);
        break;
    case N_TROUBLES:
        break;
    }
}

/* ---- events
 * --------------------------------------------------------------------- */

static void take_stream_item(struct cluster *c, struct process *p,
                             const struct event *e)
{
    struct stream_item item;
    struct arena arena;
    unsigned from;

    if (!streams_take(&c->streams, e, &item, &from)) {
        return;
    }
    arena_init(&arena);
    if (process_is_up(p) && item.is_reply) {
        node_on_forward_result(p->node,
                               pawl__peer__v1__forward_result__unpack(
                                   &arena.allocator, item.size, item.data));
    } else if (process_is_up(p)) {
        node_on_forward(p->node, from + 1,
                        pawl__peer__v1__forward__unpack(&arena.allocator,
                                                        item.size, item.data));
    }
    if (process_is_up(p)) {
        process_wake(p);
    }
    arena_release(&arena);
    raft_free(item.data);
}

/* Nobody listens there, or what is between answers for it. */
static void refuse_request(struct cluster *c, struct process *p,
                           uint64_t attempt)
{
    static const struct op_answer refused = {.not_applied = true};

    cluster_answer(c, p, attempt, &refused);
}

static void tell_process(struct cluster *c, struct process *p,
                         const struct event *e)
{
    switch (e->kind) {
    case EVENT_TICK:
        process_tick(p);
        break;
    case EVENT_MESSAGE:
        process_receive(p, e->message);
        break;
    case EVENT_DISK:
        process_log_done(p);
        break;
    case EVENT_STATE:
        process_state_done(p);
        break;
    case EVENT_ROUND:
        process_round(p);
        break;
    case EVENT_STREAM:
        take_stream_item(c, p, e);
        break;
    case EVENT_LINK_LOST:
        node_link_lost(p->node, e->value);
        process_wake(p);
        break;
    case EVENT_REQUEST:
        request_start(p, e->attempt);
        break;
    case EVENT_GIVE_UP:
        if (e->value == 1) {
            request_wait_is_over(p, e->attempt);
        } else {
            request_close(p, e->attempt);
        }
        break;
    default:
        break;
    }
}

/* A stopped process hears nothing; it all waits for it. */
static bool is_put_off(struct cluster *c, const struct process *p,
                       const struct event *e)
{
    struct event later = *e;

    if (p->paused_until_us <= cluster_now(c)) {
        return false;
    }
    later.at_us = p->paused_until_us;
    events_put_off(&c->events, later);
    return true;
}

static void handle_at_process(struct cluster *c, struct event *e)
{
    struct process *p = &c->processes[e->target];

    if (e->life != 0 && e->life != p->life) {
        return; /* that process is gone */
    }
    if (e->kind == EVENT_START) {
        process_start(p);
        return;
    }
    if (!process_is_up(p)) {
        if (e->kind == EVENT_STREAM) {
            take_stream_item(c, p, e);
        } else if (e->kind == EVENT_REQUEST) {
            refuse_request(c, p, e->attempt);
        }
        return;
    }
    if (e->kind == EVENT_MESSAGE && !net_delivers(&c->net, e->message)) {
        return;
    }
    if (is_put_off(c, p, e)) {
        e->message = NULL; /* went with it */
        return;
    }
    tell_process(c, p, e);
}

static void handle(struct cluster *c, struct event *e)
{
    switch (e->kind) {
    case EVENT_CLIENT:
        session_begin(c, e->target);
        break;
    case EVENT_KEEPALIVE:
        session_keepalive(c, e->target);
        break;
    case EVENT_ANSWER:
        session_answer(c, e->attempt);
        break;
    case EVENT_TIMEOUT:
        session_timeout(c, e->value, e->attempt);
        break;
    case EVENT_FAULT:
        if (!c->is_calm) {
            cause_trouble(c);
        }
        break;
    case EVENT_HUNT:
        hunt(c, &c->processes[e->target], e->life);
        break;
    case EVENT_HEAL:
        net_heal(&c->net);
        break;
    default:
        handle_at_process(c, e);
    }
    message_free(e->message);
}

/* Run until that time, or until a claim becomes true (NULL: never). */
static void run_until(struct cluster *c, uint64_t end_us,
                      bool (*done)(const struct cluster *c))
{
    struct event e;

    while (!c->oracle.failed && c->events.now_us < end_us &&
           (done == NULL || !done(c)) && events_take(&c->events, &e)) {
        handle(c, &e);
    }
}

/* ---- the calm at the end
 * ---------------------------------------------------------- */

/* Faults are over: the network is whole, disks are good, everybody runs. */
static void calm_down(struct cluster *c)
{
    static const struct disk_faults none;
    struct net_quality *q = &c->net.quality;

    TRACE(c, "faults end");
    c->is_calm = true;
    net_heal(&c->net);
    q->loss = q->duplication = q->detour = 0;
    c->streams.break_chance = 0;
    for (unsigned i = 0; i < c->options.n_nodes; i++) {
        struct process *p = &c->processes[i];

        p->paused_until_us = 0;
        p->bad_disk_until_us = 0;
        disk_set_faults(p->disk, &none);
        if (!process_is_up(p)) {
            p->life++; /* the start that is scheduled is too late */
            process_start(p);
        }
    }
    c->calm_index = (raft_index)c->n_ops;
}

/* A write that began after the calm was answered. */
static bool writes_again(const struct cluster *c)
{
    for (size_t i = c->calm_index; i < c->n_ops; i++) {
        if (op_is_write(c->ops[i].kind) && c->ops[i].end == OP_DONE) {
            return true;
        }
    }
    return false;
}

/* Everybody holds and has applied all that is committed. */
static bool is_level(const struct cluster *c)
{
    for (unsigned i = 0; i < c->options.n_nodes; i++) {
        const struct process *p = &c->processes[i];

        if (!process_is_up(p) || p->applied < c->oracle.committed.last) {
            return false;
        }
    }
    return true;
}

static bool leases_are_gone(const struct cluster *c)
{
    return c->model.n_leases == 0 && is_level(c);
}

static bool no_op_is_open(const struct cluster *c)
{
    for (unsigned k = 0; k < c->options.n_clients; k++) {
        if (c->sessions[k].op != 0 || c->sessions[k].keepalive != 0) {
            return false;
        }
    }
    return true;
}

/*
 * Run until a claim is true. A backlog and slow disks may make that long, but
 * within each bound_us something must be applied.
 */
static void run_on(struct cluster *c, uint64_t bound_us,
                   bool (*done)(const struct cluster *c), const char *claim)
{
    for (int i = 0; !c->oracle.failed && !done(c); i++) {
        uint64_t applied = c->figures.applied;

        run_until(c, cluster_now(c) + bound_us, done);
        if (!done(c) && (c->figures.applied == applied || i >= 100)) {
            oracle_fail(&c->oracle, "O12: faults are over, but not: %s", claim);
        }
    }
}

static void recover(struct cluster *c)
{
    const struct options *o = &c->options;
    uint64_t timeout_us = 2 * o->raft.election_ticks * o->tick_us * 11 / 10;
    uint64_t bound_us = RECOVERY_TIMEOUTS * (timeout_us + o->disk_max_us +
                                             o->net.delay_max_us + o->think_us);
    uint64_t ttl_us = (uint64_t)o->ttl_max_s * 1200000;

    calm_down(c);
    run_on(c, bound_us + o->patience_us + 3000000, writes_again,
           "a write commits");
    c->is_quiet = true;
    run_on(c, bound_us, is_level, "all members catch up");
    run_until(c,
              cluster_now(c) + 8 * (o->patience_us + 3000000) +
                  2000ull * o->request_timeout_ms,
              no_op_is_open);
    /* Timeouts of operations take their time; then TTL, the clocks' drift,
     * the grace of a new leader, and a second try of the revoke (I2, I10). */
    run_until(c, cluster_now(c) + ttl_us + timeout_us + 5000000,
              leases_are_gone);
    if (!c->oracle.failed && !leases_are_gone(c)) {
        oracle_fail(&c->oracle,
                    "I2: %zu leases are alive that nobody renews: "
                    "%" PRIx64 " first",
                    c->model.n_leases,
                    c->model.n_leases > 0 ? (uint64_t)c->model.leases[0].id
                                          : 0);
    }
    run_until(c, cluster_now(c) + timeout_us, NULL);
}

/* ---- histories
 * ------------------------------------------------------------------- */

static bool belongs(const struct op *op, const char *key)
{
    return (op->kind == OP_PUT || op->kind == OP_DELETE ||
            op->kind == OP_GET) &&
           strcmp(op->key, key) == 0 && op->end != OP_REFUSED &&
           !(op->end == OP_DONE && op->answer.status != ST_OK) &&
           !(op->end != OP_DONE && op->kind == OP_GET);
}

static uint64_t value_of(const struct op *op)
{
    size_t size = strlen(op->value);
    uint8_t *bytes = raft_alloc(size + op->value_padding + 1, 1);
    uint64_t value;

    memcpy(bytes, op->value, size);
    value = model_value(bytes, size + op->value_padding);
    raft_free(bytes);
    return value;
}

static struct check_op check_op_of(const struct op *op)
{
    struct check_op x = {.begin = op->begin_us, .end = op->end_us};

    if (op->end != OP_DONE) {
        x.end = CHECK_OPEN;
    }
    switch (op->kind) {
    case OP_PUT:
        x.writes = true;
        x.value = value_of(op);
        x.sees = op->previous && op->end == OP_DONE;
        x.seen = op->answer.value;
        break;
    case OP_DELETE:
        x.writes = true;
        x.sees = op->end == OP_DONE;
        x.seen = op->answer.value;
        break;
    default:
        x.sees = true;
        x.seen = op->answer.value;
    }
    return x;
}

static void check_key(struct cluster *c, const char *key)
{
    struct check_op *ops = raft_alloc(c->n_ops, sizeof *ops);
    size_t n = 0;

    for (size_t i = 1; i < c->n_ops; i++) {
        if (belongs(&c->ops[i], key)) {
            ops[n++] = check_op_of(&c->ops[i]);
        }
    }
    c->figures.checked_keys++;
    c->figures.checked_ops += n;
    switch (checker_run(ops, n, CHECKER_STEPS)) {
    case CHECK_BAD:
        oracle_fail(&c->oracle,
                    "O8: no order of its %zu operations explains key %s", n,
                    key);
        break;
    case CHECK_UNDECIDED:
        c->figures.undecided++;
        break;
    case CHECK_GOOD:
        break;
    }
    raft_free(ops);
}

static void check_histories(struct cluster *c)
{
    char key[MODEL_KEY_SIZE];

    for (unsigned i = 1; i <= c->options.n_keys; i++) {
        (void)snprintf(key, sizeof key, "k/%u", i);
        check_key(c, key);
    }
    for (unsigned i = 1; i <= c->options.n_locks; i++) {
        (void)snprintf(key, sizeof key, "g/%u", i);
        check_key(c, key);
    }
}

/* ---- the run
 * --------------------------------------------------------------------- */

static void sum_up(struct cluster *c)
{
    c->figures.messages = c->net.n_sent;
    c->figures.forwards = c->streams.n_items;
    for (unsigned i = 0; i < c->options.n_nodes; i++) {
        c->figures.disk_errors += disk_errors(c->processes[i].disk);
    }
    if (c->oracle.failed) {
        TRACE(c, "%s", c->oracle.failure);
    }
}

bool cluster_run(struct cluster *c)
{
    char text[500];

    options_show(&c->options, text, sizeof text);
    TRACE(c, "%s", text);
    for (unsigned i = 0; i < c->options.n_nodes; i++) {
        process_start(&c->processes[i]);
    }
    for (unsigned k = 0; k < c->options.n_clients; k++) {
        cluster_put(c, EVENT_CLIENT, k,
                    cluster_between(c, 0, c->options.think_us), 0, 0);
    }
    if (c->options.fault_every_us > 0) {
        cluster_put(c, EVENT_FAULT, 0, c->options.fault_every_us, 0, 0);
    }
    run_until(c, c->options.length_us, NULL);
    if (!c->oracle.failed) {
        recover(c);
    }
    if (!c->oracle.failed) {
        check_histories(c);
    }
    sum_up(c);
    return !c->oracle.failed;
}

/* The entry that every founding member begins its log with. */
static void found(struct cluster *c)
{
    struct raft_server servers[NODES_MAX];
    struct member list[NODES_MAX];
    char url[] = "http://127.0.0.1:1", name[] = "";
    char *urls[] = {url};
    struct raft_configuration conf = {.servers = servers,
                                      .n_servers = c->options.n_nodes};

    for (unsigned i = 0; i < c->options.n_nodes; i++) {
        servers[i] = (struct raft_server){i + 1, RAFT_VOTER};
        list[i] = (struct member){
            .id = i + 1, .name = name, .peer_urls = urls, .n_peer_urls = 1};
    }
    conf.extra = members_encode(list, c->options.n_nodes, NULL, &conf.extra_size);
    c->founding =
        (struct raft_entry){.index = 1, .term = 1, .type = RAFT_ENTRY_CONFIG};
    c->founding.data = raft_configuration_encode(&conf, &c->founding.size);
    free(conf.extra);
    oracle_founds(&c->oracle, &c->founding);
    cluster_commit(c, &c->founding);
}

struct cluster *cluster_new(const struct options *o)
{
    struct cluster *c = raft_alloc(1, sizeof *c);

    logger_set_level(LOG_ERROR);
    c->options = *o;
    rng_init(&c->rng, ~o->seed);
    (void)sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, (int)o->seed | 1,
                               NULL);
    net_init(&c->net, rng_next(&c->rng), o->n_nodes, &o->net);
    streams_init(&c->streams, rng_next(&c->rng), &c->net, &c->events,
                 o->stream_break);
    oracle_init(&c->oracle, o->n_nodes);
    model_init(&c->model);
    arena_init(&c->arena);
    c->reference = applier_new(NULL, NULL);
    c->n_ops = c->n_attempts = 1;
    c->room_ops = c->room_attempts = 64;
    c->ops = raft_alloc(64, sizeof *c->ops);
    c->attempts = raft_alloc(64, sizeof *c->attempts);
    found(c);
    for (unsigned i = 0; i < o->n_nodes; i++) {
        process_init(&c->processes[i], i + 1, c);
        process_set_clock(&c->processes[i], draw_rate(c));
    }
    for (unsigned k = 0; k < o->n_clients; k++) {
        c->sessions[k].role = (unsigned)cluster_between(c, 0, 2);
    }
    return c;
}

void cluster_free(struct cluster *c)
{
    for (unsigned i = 0; i < c->options.n_nodes; i++) {
        process_release(&c->processes[i]);
    }
    applier_free(c->reference);
    arena_release(&c->arena);
    model_release(&c->model);
    oracle_release(&c->oracle);
    streams_release(&c->streams);
    events_release(&c->events);
    raft_free((void *)c->founding.data);
    raft_free(c->digests);
    raft_free(c->ops);
    raft_free(c->attempts);
    raft_free(c->request_keys);
    raft_free(c->leases);
    raft_free(c);
}
