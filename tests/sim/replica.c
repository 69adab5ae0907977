/*
 * replica.c - one simulated member.
 */
#include "tests/sim/replica.h"

#include <inttypes.h>
#include <string.h>

#include <xxhash.h>

#include "raft/base.h"
#include "tests/sim/world.h"

#define OPERATION_SIZE 8 /* a command begins with its operation's number */

void replica_init(struct replica *n, raft_id id, struct world *w)
{
    *n = (struct replica){.id = id, .life = 1};
    n->disk = disk_new(rng_next(&w->rng), w->options.sector_size);
    history_init(&n->submitted);
    history_init(&n->durable);
    history_init(&n->maybe);
}

void replica_release(struct replica *n)
{
    raft_free_all(n->raft);
    store_close(n->store);
    disk_free(n->disk);
    history_release(&n->submitted);
    history_release(&n->durable);
    history_release(&n->maybe);
    raft_free(n->jobs);
    raft_free(n->proposals);
    raft_free(n->reads);
}

bool replica_is_up(const struct replica *n)
{
    return n->raft != NULL;
}

/* ---- the log thread
 * ---------------------------------------------------------- */

static struct job *add_job(struct replica *n)
{
    if (n->n_jobs == n->room_jobs) {
        n->room_jobs = 2 * n->room_jobs + 16;
        n->jobs = raft_realloc(n->jobs, n->room_jobs, sizeof *n->jobs);
    }
    n->jobs[n->n_jobs] = (struct job){0};
    return &n->jobs[n->n_jobs++];
}

static uint64_t draw_disk_time(struct world *w)
{
    const struct options *o = &w->options;

    if (!w->is_calm && world_chance(w, o->disk_stall)) {
        return world_between(w, o->disk_max_us, o->disk_stall_max_us);
    }
    return world_between(w, o->disk_min_us, o->disk_max_us);
}

/* An idle disk takes all writes that queued up, or one compaction. */
static void start_disk(struct world *w, struct replica *n)
{
    struct event e = {
        .kind = EVENT_DISK, .target = (unsigned)n->id - 1, .life = n->life};

    if (n->n_running > 0 || n->n_jobs == 0) {
        return;
    }
    while (n->n_running < n->n_jobs && n->jobs[n->n_running].batch != 0) {
        n->n_running++;
    }
    n->n_running = n->n_running == 0 ? 1 : n->n_running;
    e.at_us = world_now(w) + draw_disk_time(w);
    events_put(&w->events, e);
}

/* What the disk will hold if the running work gets done. */
static void prepare_maybe(struct replica *n)
{
    history_copy(&n->maybe, &n->durable);
    n->has_maybe = true;
    for (size_t i = 0; i < n->n_running; i++) {
        if (n->jobs[i].batch != 0) {
            history_write(&n->maybe, &n->jobs[i].write);
        }
    }
}

static enum store_status write_running(struct replica *n)
{
    struct store_batch *batches = raft_alloc(n->n_running, sizeof *batches);
    enum store_status st;

    for (size_t i = 0; i < n->n_running; i++) {
        batches[i] = n->jobs[i].write;
        if (batches[i].hard_state != NULL) { /* the array may have moved */
            batches[i].hard_state = &n->jobs[i].hard_state;
        }
    }
    st = store_write(n->store, batches, n->n_running);
    raft_free(batches);
    return st;
}

static enum store_status compact_running(struct world *w, struct replica *n)
{
    size_t left = 1;
    enum store_status st = STORE_OK;

    while (st == STORE_OK && left > 0) {
        st = store_compact(n->store, n->jobs[0].compact_to, &w->founders,
                           1 + world_between(w, 0, 50), &left);
    }
    return st;
}

static enum store_status run_running(struct world *w, struct replica *n)
{
    /* The array of jobs may have moved since they were put in. */
    for (size_t i = 0; i < n->n_running; i++) {
        if (n->jobs[i].write.hard_state != NULL) {
            n->jobs[i].write.hard_state = &n->jobs[i].hard_state;
        }
    }
    prepare_maybe(n);
    return n->jobs[0].batch != 0 ? write_running(n) : compact_running(w, n);
}

/* ---- start and stop
 * ----------------------------------------------------------- */

static void start_later(struct world *w, struct replica *n)
{
    struct event e = {.kind = EVENT_START,
                      .target = (unsigned)n->id - 1,
                      .life = n->life,
                      .at_us = world_now(w) + world_between(w, 1000, 2000000)};

    events_put(&w->events, e);
}

static void forget_process(struct replica *n)
{
    raft_free_all(n->raft);
    n->raft = NULL;
    store_close(n->store);
    n->store = NULL;
    n->n_jobs = n->n_running = 0;
    n->n_proposals = n->n_reads = 0;
    n->life++;
}

void replica_stop(struct world *w, struct replica *n, bool power_cut)
{
    if (n->n_running > 0) { /* it gets done up to some point */
        disk_stop_at(n->disk, 1 + world_between(w, 0, 40));
        (void)run_running(w, n); /* nobody hears of it */
    }
    forget_process(n);
    disk_restart(n->disk, power_cut);
    start_later(w, n);
}

/* The process ends by itself: its disk refused something. */
static void die_of_disk(struct world *w, struct replica *n,
                        enum store_status st, uint64_t n_errors)
{
    TRACE(w, "n%" PRIu64 " dies: %s", n->id, store_error(n->store));
    if (disk_errors(n->disk) == n_errors || st == STORE_CORRUPT) {
        oracle_fail(&w->oracle, "the disk is fine, and %s",
                    store_error(n->store));
    }
    w->figures.disk_deaths++;
    forget_process(n);
    disk_restart(n->disk, false);
    start_later(w, n);
}

static bool content_is(const struct store_content *c, const struct history *h)
{
    const struct raft_hard_state *hs = &c->hard_state;
    struct place p;

    if (c->first_prev_index > h->last ||
        c->first_prev_index + c->n_entries != h->last ||
        hs->term != h->hard_state.term ||
        hs->voted_for != h->hard_state.voted_for ||
        hs->commit != h->hard_state.commit) {
        return false;
    }
    p = h->places[c->first_prev_index];
    if (p.term != c->first_prev_term) {
        return false;
    }
    for (size_t i = 0; i < c->n_entries; i++) {
        p = place_of(&p, &c->entries[i]);
    }
    return p.prefix == h->places[h->last].prefix;
}

/* O6, O7: the disk holds what was confirmed, or that and the last write. */
static void check_loaded(struct world *w, struct replica *n,
                         const struct store_content *c)
{
    if (n->has_maybe && content_is(c, &n->maybe)) {
        history_copy(&n->durable, &n->maybe);
    } else if (!content_is(c, &n->durable)) {
        oracle_fail(&w->oracle,
                    "O6: %" PRIu64 " finds another log than was confirmed: "
                    "ends at %" PRIu64 " not %" PRIu64,
                    n->id, c->first_prev_index + c->n_entries, n->durable.last);
        return;
    }
    n->has_maybe = false;
    history_copy(&n->submitted, &n->durable);
    oracle_votes(&w->oracle, n->id, n->durable.hard_state.term,
                 n->durable.hard_state.voted_for);
    if (c->first_prev_index > n->saved.applied) {
        oracle_fail(&w->oracle, "D3: %" PRIu64 " has a hole before its log",
                    n->id);
    }
}

/* A first start has the founding configuration for a log. */
static enum store_status found(struct world *w, struct replica *n)
{
    static const struct raft_hard_state hard_state = {1, 0, 1};
    size_t size;
    uint8_t *data = raft_configuration_encode(&w->founders, &size);
    struct raft_entry e = {1, 1, RAFT_ENTRY_CONFIG, size, data};
    struct store_batch b = {
        .entries = &e, .n_entries = 1, .hard_state = &hard_state};
    enum store_status st;

    if (n->durable.last > 0) {
        oracle_fail(&w->oracle, "O6: %" PRIu64 " lost its whole log", n->id);
    }
    oracle_founds(&w->oracle, &e);
    history_copy(&n->maybe, &n->durable);
    history_write(&n->maybe, &b);
    n->has_maybe = true;
    st = store_write(n->store, &b, 1);
    raft_free(data);
    return st;
}

static void begin_raft(struct world *w, struct replica *n,
                       const struct store_content *c)
{
    struct raft_config config = w->options.raft;
    struct raft_start start = {
        .hard_state = c->hard_state,
        .first_prev_index = c->first_prev_index,
        .first_prev_term = c->first_prev_term,
        .configuration = c->first_prev_index > 0 ? &c->configuration : NULL,
        .entries = c->entries,
        .n_entries = c->n_entries,
        .last_applied = n->saved.applied,
    };

    config.id = n->id;
    config.seed = rng_next(&w->rng);
    n->raft = raft_new(&config, &start);
    n->state = n->saved;
    n->cut = c->first_prev_index;
    n->commit_index = 0; /* look at what it starts with, too */
    n->led_term = 0;
}

static void schedule_tick(struct world *w, struct replica *n)
{
    uint64_t drift = w->options.tick_us * w->options.drift_percent / 100;
    struct event e = {
        .kind = EVENT_TICK, .target = (unsigned)n->id - 1, .life = n->life};

    e.at_us =
        world_now(w) + w->options.tick_us + drift * n->id / w->options.n_nodes;
    events_put(&w->events, e);
}

static enum store_status open_and_load(struct world *w, struct replica *n,
                                       struct store_content *c, char *error,
                                       size_t error_size)
{
    struct store_options options = {.path = "raft.db",
                                    .vfs = disk_vfs(n->disk),
                                    .cluster_id = 1,
                                    .member_id = n->id,
                                    .create = true,
                                    .wal_pages = w->options.wal_pages};
    enum store_status st = store_open(&options, &n->store, error, error_size);

    if (st != STORE_OK) {
        return st;
    }
    if (store_is_new(n->store)) {
        st = found(w, n);
    }
    if (st == STORE_OK) {
        st = store_load(n->store, c);
    }
    if (st != STORE_OK) {
        (void)snprintf(error, error_size, "%s", store_error(n->store));
    }
    return st;
}

void replica_start(struct world *w, struct replica *n)
{
    static const struct disk_faults none;
    bool bad = !w->is_calm && world_now(w) < n->bad_disk_until_us;
    uint64_t n_errors = disk_errors(n->disk);
    struct store_content c = {0};
    char error[600] = "";
    enum store_status st;

    disk_set_faults(n->disk, bad ? &w->options.disk : &none);
    st = open_and_load(w, n, &c, error, sizeof error);
    if (st != STORE_OK) {
        TRACE(w, "n%" PRIu64 " does not start: %s", n->id, error);
        if (disk_errors(n->disk) == n_errors) {
            oracle_fail(&w->oracle, "the disk is fine, and %s", error);
        }
        w->figures.failed_starts++;
        forget_process(n);
        disk_restart(n->disk, false);
        start_later(w, n);
        return;
    }
    check_loaded(w, n, &c);
    if (!w->oracle.failed) {
        begin_raft(w, n, &c);
        TRACE(w,
              "n%" PRIu64 " starts: term %" PRIu64 " log %" PRIu64 "..%" PRIu64
              " applied %" PRIu64,
              n->id, c.hard_state.term, n->cut + 1, n->durable.last,
              n->state.applied);
        schedule_tick(w, n);
    }
    store_content_release(&c);
}

/* ---- what the core hands out
 * ---------------------------------------------------- */

static void submit(struct world *w, struct replica *n,
                   const struct raft_ready *rd)
{
    struct job *job = add_job(n);

    job->batch = rd->batch;
    job->hard_state = rd->hard_state;
    job->write = (struct store_batch){
        .truncate_from = rd->truncate_from,
        .entries = rd->entries,
        .n_entries = rd->n_entries,
        .hard_state = rd->hard_state_changed ? &job->hard_state : NULL};
    history_write(&n->submitted, &job->write);
    for (size_t i = 0; i < rd->n_entries; i++) {
        oracle_holds(&w->oracle, rd->entries[i].index,
                     &n->submitted.places[rd->entries[i].index]);
    }
    TRACE(w,
          "n%" PRIu64 " batch %" PRIu64 ": cut %" PRIu64 " add %zu to %" PRIu64
          " term %" PRIu64 " vote %" PRIu64,
          n->id, rd->batch, rd->truncate_from, rd->n_entries, n->submitted.last,
          n->submitted.hard_state.term, n->submitted.hard_state.voted_for);
}

static void send_messages(struct world *w, struct replica *n,
                          const struct raft_ready *rd)
{
    for (size_t i = 0; i < rd->n_messages; i++) {
        if (rd->messages[i].from != n->id) {
            oracle_fail(&w->oracle, "%" PRIu64 " sends as %" PRIu64, n->id,
                        rd->messages[i].from);
        }
        oracle_sends(&w->oracle, &rd->messages[i], &n->durable);
        net_send(&w->net, &w->events, &rd->messages[i]);
    }
}

/* The clients whose proposals stood for this index hear of it. */
static void settle_proposals(struct world *w, struct replica *n,
                             const struct raft_entry *e)
{
    size_t kept = 0;

    for (size_t i = 0; i < n->n_proposals; i++) {
        struct proposal p = n->proposals[i];

        if (p.index != e->index) {
            n->proposals[kept++] = p;
            continue;
        }
        world_answer(w, p.operation,
                     p.term == e->term ? ANSWER_OK : ANSWER_NOT_APPLIED,
                     n->state.revision, 0);
    }
    n->n_proposals = kept;
}

static void apply(struct world *w, struct replica *n,
                  const struct raft_entry *e)
{
    uint64_t operation = 0;

    if (e->index != n->state.applied + 1 ||
        !history_holds(&n->durable, e->index, &n->submitted.places[e->index])) {
        oracle_fail(&w->oracle,
                    "O6: %" PRIu64 " applies %" PRIu64 " after %" PRIu64
                    ", synced up to %" PRIu64,
                    n->id, e->index, n->state.applied, n->durable.last);
        return;
    }
    n->state.applied = e->index;
    if (e->type == RAFT_ENTRY_COMMAND) {
        ASSERT(e->size >= OPERATION_SIZE);
        memcpy(&operation, e->data, OPERATION_SIZE);
        n->state.revision++;
        n->state.digest =
            XXH3_64bits_withSeed(e->data, e->size, n->state.digest);
    }
    oracle_applies(&w->oracle, n->id, &n->state, operation);
    w->figures.applied++;
    settle_proposals(w, n, e);
}

static void take_read_result(struct world *w, struct replica *n,
                             const struct raft_read_result *result)
{
    for (size_t i = 0; i < n->n_reads; i++) {
        struct read *r = &n->reads[i];

        if (r->context != result->context) {
            continue;
        }
        if (result->ok) {
            r->index = result->index;
            return;
        }
        world_answer(w, r->operation, ANSWER_UNKNOWN, 0, 0);
        *r = n->reads[--n->n_reads];
        return;
    }
    oracle_fail(&w->oracle, "%" PRIu64 " answers a read that nobody asked",
                n->id);
}

static void serve_reads(struct world *w, struct replica *n)
{
    size_t kept = 0;

    for (size_t i = 0; i < n->n_reads; i++) {
        struct read r = n->reads[i];

        if (r.index == 0 || r.index > n->state.applied) {
            n->reads[kept++] = r;
            continue;
        }
        world_answer(w, r.operation, ANSWER_OK, n->state.revision, 0);
    }
    n->n_reads = kept;
}

/* O1, O4, O6, O7 of a member, with all of its log handed out. */
static void check_standing(struct world *w, struct replica *n)
{
    const struct history *durable[NODES_MAX];
    raft_term term = raft_term_now(n->raft);
    raft_index commit = raft_commit_index(n->raft);

    if (commit < n->commit_index) {
        oracle_fail(&w->oracle, "O7: commit index of %" PRIu64 " fell", n->id);
    }
    for (unsigned i = 0; i < w->options.n_nodes; i++) {
        durable[i] = &w->nodes[i].durable;
    }
    if (raft_stable_index(n->raft) > n->durable.last) {
        oracle_fail(&w->oracle, "O6: %" PRIu64 " believes in unsynced entries",
                    n->id);
    }
    if (commit != n->commit_index) {
        oracle_commits(&w->oracle, n->id, term, commit, &n->submitted, durable);
        n->commit_index = commit;
    }
    if (raft_role(n->raft) == RAFT_LEADER && n->led_term != term) {
        n->led_term = term;
        TRACE(w, "n%" PRIu64 " leads term %" PRIu64, n->id, term);
        oracle_leads(&w->oracle, n->id, term);
        oracle_leader_log(&w->oracle, n->id, term, &n->submitted);
        world_elected(w, n);
    }
}

static void compact(struct world *w, struct replica *n)
{
    raft_index to = raft_all_match_index(n->raft);
    struct job *job;

    if (w->options.compact_every == 0 ||
        n->state.applied - n->saved.applied < w->options.compact_every) {
        return;
    }
    n->saved = n->state; /* synced, and only then is the log cut */
    to = to < n->saved.applied ? to : n->saved.applied;
    if (to <= n->cut) {
        return;
    }
    n->cut = to;
    raft_compact(n->raft, to);
    job = add_job(n);
    job->compact_to = to;
    w->figures.compactions++;
    TRACE(w, "n%" PRIu64 " compacts to %" PRIu64, n->id, to);
}

static void drive(struct world *w, struct replica *n)
{
    struct raft_ready rd;

    while (!w->oracle.failed && raft_ready(n->raft, &rd)) {
        if (rd.batch != 0) {
            submit(w, n, &rd);
        }
        check_standing(w, n);
        send_messages(w, n, &rd);
        for (size_t i = 0; i < rd.n_committed && !w->oracle.failed; i++) {
            apply(w, n, &rd.committed[i]);
        }
        for (size_t i = 0; i < rd.n_reads; i++) {
            take_read_result(w, n, &rd.reads[i]);
        }
        raft_advance(n->raft);
    }
    if (!w->oracle.failed) {
        check_standing(w, n);
        serve_reads(w, n);
        compact(w, n);
        start_disk(w, n);
    }
}

/* ---- what happens to it
 * --------------------------------------------------------- */

void replica_tick(struct world *w, struct replica *n)
{
    raft_tick(n->raft);
    schedule_tick(w, n);
    drive(w, n);
}

void replica_receive(struct world *w, struct replica *n,
                     const struct raft_message *m)
{
    enum raft_status st = raft_step(n->raft, m);

    TRACE(w,
          "n%" PRIu64 " <- n%" PRIu64 " %s term %" PRIu64 " log %" PRIu64
          "/%" PRIu64 " commit %" PRIu64 " n %zu%s%s",
          n->id, m->from, message_name(m->type), m->term, m->log_index,
          m->log_term, m->commit, m->n_entries, m->reject ? " rejects" : "",
          st == RAFT_OK ? "" : " (dropped)");
    if (st == RAFT_BAD_MESSAGE) {
        oracle_fail(&w->oracle, "%" PRIu64 " takes a message for malformed",
                    n->id);
    }
    drive(w, n);
}

void replica_disk_done(struct world *w, struct replica *n)
{
    uint64_t n_errors = disk_errors(n->disk);
    uint64_t batch = n->jobs[n->n_running - 1].batch;
    enum store_status st = run_running(w, n);

    if (st == STORE_OK) {
        history_copy(&n->durable, &n->maybe);
        n->has_maybe = false;
        oracle_votes(&w->oracle, n->id, n->durable.hard_state.term,
                     n->durable.hard_state.voted_for);
        n->n_jobs -= n->n_running;
        memmove(n->jobs, n->jobs + n->n_running, n->n_jobs * sizeof *n->jobs);
        n->n_running = 0;
        raft_stable(n->raft, batch); /* 0 changes nothing */
        st = store_checkpoint(n->store, world_chance(w, 20000));
    }
    if (st != STORE_OK) {
        die_of_disk(w, n, st, n_errors);
        return;
    }
    drive(w, n);
}

void replica_transfer(struct world *w, struct replica *n, raft_id to)
{
    enum raft_status st = raft_transfer(n->raft, to);

    TRACE(w, "n%" PRIu64 " hands over to n%" PRIu64 ": %s", n->id, to,
          raft_status_text(st));
    drive(w, n);
}

static void propose(struct world *w, struct replica *n, uint64_t operation)
{
    uint8_t data[8192] = {0};
    size_t size =
        OPERATION_SIZE + world_between(w, 0, w->options.data_size_max);
    struct proposal p = {.operation = operation};
    enum raft_status st;

    ASSERT(size <= sizeof data);
    memcpy(data, &operation, OPERATION_SIZE);
    st = raft_propose(n->raft, data, size, &p.index);
    if (st != RAFT_OK) {
        world_answer(w, operation, ANSWER_NOT_APPLIED, 0, raft_leader(n->raft));
        return;
    }
    p.term = raft_term_now(n->raft);
    if (n->n_proposals == n->room_proposals) {
        n->room_proposals = 2 * n->room_proposals + 16;
        n->proposals =
            raft_realloc(n->proposals, n->room_proposals, sizeof *n->proposals);
    }
    n->proposals[n->n_proposals++] = p;
    TRACE(w, "n%" PRIu64 " proposes %" PRIu64 " at %" PRIu64, n->id, operation,
          p.index);
}

static void read(struct world *w, struct replica *n, uint64_t operation)
{
    struct read r = {.context = ++w->next_context, .operation = operation};

    if (raft_read(n->raft, r.context) != RAFT_OK) {
        world_answer(w, operation, ANSWER_UNKNOWN, 0, 0);
        return;
    }
    if (n->n_reads == n->room_reads) {
        n->room_reads = 2 * n->room_reads + 16;
        n->reads = raft_realloc(n->reads, n->room_reads, sizeof *n->reads);
    }
    n->reads[n->n_reads++] = r;
}

void replica_request(struct world *w, struct replica *n, uint64_t operation)
{
    if (w->oracle.operations[operation].is_write) {
        propose(w, n, operation);
    } else {
        read(w, n, operation);
    }
    drive(w, n);
}
