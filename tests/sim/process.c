/*
 * process.c - one member as it ships.
 */
#include "tests/sim/process.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "raft/base.h"
#include "tests/sim/cluster.h"

#define COMPACT_STEP 1000 /* as in server/logthread.c */

void process_init(struct process *p, raft_id id, struct cluster *c)
{
    *p = (struct process){
        .cluster = c, .id = id, .life = 1, .rate_ppm = 1000000};
    p->disk = disk_new(rng_next(&c->rng), c->options.sector_size);
    history_init(&p->submitted);
    history_init(&p->durable);
    history_init(&p->maybe);
}

/* Close and free all that a process has; the disk stays. */
static void clear(struct process *p)
{
    p->dying = true;
    node_free(p->node);
    p->node = NULL;
    requests_drop(p);
    applier_free(p->applier);
    p->applier = NULL;
    statedb_close(p->statedb);
    p->statedb = NULL;
    store_close(p->store);
    p->store = NULL;
    for (size_t i = 0; i < p->n_changes; i++) {
        changeset_free(p->changes[i]);
    }
    raft_configuration_release(&p->compact_configuration);
    p->compact_to = 0;
    p->n_changes = p->n_saving = p->n_work = p->n_writing = 0;
    p->log_busy = p->round_due = false;
    p->dying = false;
    p->life++;
}

void process_release(struct process *p)
{
    clear(p);
    disk_free(p->disk);
    history_release(&p->submitted);
    history_release(&p->durable);
    history_release(&p->maybe);
    raft_free(p->work);
    free(p->changes);
}

bool process_is_up(const struct process *p)
{
    return p->node != NULL;
}

static void put(struct process *p, enum event_kind kind, uint64_t after_us)
{
    struct event e = {.kind = kind,
                      .target = (unsigned)p->id - 1,
                      .life = p->life,
                      .at_us = cluster_now(p->cluster) + after_us};

    events_put(&p->cluster->events, e);
}

/* ---- the clock
 * ---------------------------------------------------------------- */

uint64_t process_clock_us(const struct process *p)
{
    uint64_t now_us = cluster_now(p->cluster);

    return now_us <= p->since_us
               ? p->clock_us
               : p->clock_us + (now_us - p->since_us) * p->rate_ppm / 1000000;
}

void process_set_clock(struct process *p, uint64_t rate_ppm)
{
    uint64_t now_us = cluster_now(p->cluster);

    p->clock_us = process_clock_us(p);
    p->since_us = now_us > p->since_us ? now_us : p->since_us;
    p->rate_ppm = rate_ppm;
}

void process_pause(struct process *p, uint64_t until_us, bool clock_stops)
{
    if (until_us < p->paused_until_us) {
        return;
    }
    p->paused_until_us = until_us;
    if (clock_stops) {
        process_set_clock(p, p->rate_ppm);
        p->since_us = until_us > p->since_us ? until_us : p->since_us;
    }
}

static void schedule_tick(struct process *p)
{
    put(p, EVENT_TICK, p->cluster->options.tick_us * 1000000 / p->rate_ppm);
}

/* ---- the log thread
 * ---------------------------------------------------------- */

static uint64_t draw_disk_time(struct cluster *c)
{
    const struct options *o = &c->options;

    if (!c->is_calm && cluster_chance(c, o->disk_stall)) {
        return cluster_between(c, o->disk_max_us, o->disk_stall_max_us);
    }
    return cluster_between(c, o->disk_min_us, o->disk_max_us);
}

/* An idle disk takes all writes that queued up; else it compacts. */
static void start_log(struct process *p)
{
    if (p->log_busy || (p->n_work == 0 && p->compact_to == 0)) {
        return;
    }
    p->log_busy = true;
    p->n_writing = p->n_work;
    put(p, EVENT_DISK, draw_disk_time(p->cluster));
}

static void prepare_maybe(struct process *p)
{
    history_copy(&p->maybe, &p->durable);
    p->has_maybe = true;
    for (size_t i = 0; i < p->n_writing; i++) {
        history_write(&p->maybe, &p->work[i].write);
    }
}

static enum store_status write_log(struct process *p)
{
    struct store_batch *batches = raft_alloc(p->n_writing, sizeof *batches);
    enum store_status st;

    for (size_t i = 0; i < p->n_writing; i++) {
        if (p->work[i].write.hard_state != NULL) { /* the array moves */
            p->work[i].write.hard_state = &p->work[i].hard_state;
        }
        batches[i] = p->work[i].write;
    }
    prepare_maybe(p);
    st = store_write(p->store, batches, p->n_writing);
    raft_free(batches);
    return st;
}

static enum store_status tidy_log(struct process *p)
{
    size_t left = 0;
    enum store_status st =
        store_checkpoint(p->store, cluster_chance(p->cluster, 20000));

    if (st == STORE_OK && p->compact_to > 0) {
        st = store_compact(p->store, p->compact_to, &p->compact_configuration,
                           1 + cluster_between(p->cluster, 0, COMPACT_STEP - 1),
                           &left);
        if (left == 0) {
            p->compact_to = 0;
        }
    }
    return st;
}

/* ---- the state thread
 * -------------------------------------------------------- */

static void start_saving(struct process *p)
{
    if (p->n_saving == 0 && p->n_changes > 0) {
        p->n_saving = p->n_changes;
        put(p, EVENT_STATE, draw_disk_time(p->cluster));
    }
}

static enum statedb_status save(struct process *p)
{
    p->maybe_saved = changeset_index(p->changes[p->n_saving - 1]);
    return statedb_write(p->statedb, p->changes, p->n_saving);
}

/* ---- the end
 * ------------------------------------------------------------------ */

static void start_later(struct process *p)
{
    put(p, EVENT_START, cluster_between(p->cluster, 1000, 2000000));
}

static void end_links(struct process *p)
{
    unsigned place = (unsigned)p->id - 1;

    streams_end(&p->cluster->streams, place);
    for (unsigned k = 0; k < p->cluster->options.n_nodes; k++) {
        if (k != place) {
            cluster_link_lost(p->cluster, k, place);
        }
    }
}

static void end_process(struct process *p, bool power_cut)
{
    disk_stop_at(p->disk, 1); /* closing writes nothing more */
    clear(p);
    disk_restart(p->disk, power_cut);
    end_links(p);
    if (power_cut) { /* a new boot, a new clock */
        process_set_clock(p, p->rate_ppm);
        p->clock_us = cluster_between(p->cluster, 0, 1000000000);
    }
    start_later(p);
}

void process_kill(struct process *p, bool power_cut)
{
    bool state_first = cluster_chance(p->cluster, 500000);

    /* What the threads were at gets done up to some point. */
    disk_stop_at(p->disk, 1 + cluster_between(p->cluster, 0, 60));
    if (p->n_saving > 0 && state_first) {
        (void)save(p); /* nobody hears of it */
    }
    if (p->log_busy) {
        if (p->n_writing > 0) {
            (void)write_log(p); /* likewise */
        } else {
            (void)tidy_log(p); /* likewise */
        }
    }
    if (p->n_saving > 0 && !state_first) {
        (void)save(p); /* likewise */
    }
    end_process(p, power_cut);
}

static void die_of_disk(struct process *p, const char *error, bool corrupt,
                        uint64_t n_errors)
{
    TRACE(p->cluster, "n%" PRIu64 " dies: %s", p->id, error);
    if (disk_errors(p->disk) == n_errors || corrupt) {
        oracle_fail(&p->cluster->oracle,
                    "n%" PRIu64 ": the disk is fine, and %s", p->id, error);
    }
    p->cluster->figures.disk_deaths++;
    end_process(p, false);
}

void process_die(struct process *p, const char *error, uint64_t n_errors)
{
    die_of_disk(p, error, false, n_errors);
}

/* ---- effects of the node
 * ------------------------------------------------------ */

static uint64_t env_now_ms(void *context)
{
    return process_clock_us(context) / 1000;
}

static void env_log_append(void *context, const struct raft_ready *rd)
{
    struct process *p = context;
    struct oracle *o = &p->cluster->oracle;
    struct log_work *work;

    if (p->n_work == p->room_work) {
        p->room_work = 2 * p->room_work + 16;
        p->work = raft_realloc(p->work, p->room_work, sizeof *p->work);
    }
    work = &p->work[p->n_work++];
    *work = (struct log_work){.batch = rd->batch, .hard_state = rd->hard_state};
    work->write = (struct store_batch){
        .truncate_from = rd->truncate_from,
        .entries = rd->entries,
        .n_entries = rd->n_entries,
        .hard_state = rd->hard_state_changed ? &work->hard_state : NULL};
    history_write(&p->submitted, &work->write);
    for (size_t i = 0; i < rd->n_entries; i++) {
        oracle_holds(o, rd->entries[i].index,
                     &p->submitted.places[rd->entries[i].index]);
    }
    TRACE(p->cluster,
          "n%" PRIu64 " batch %" PRIu64 ": cut %" PRIu64 " add %zu to %" PRIu64
          " term %" PRIu64 " vote %" PRIu64,
          p->id, rd->batch, rd->truncate_from, rd->n_entries, p->submitted.last,
          p->submitted.hard_state.term, p->submitted.hard_state.voted_for);
    start_log(p);
}

static void env_log_compact(void *context, raft_index index,
                            const struct raft_configuration *configuration)
{
    struct process *p = context;
    size_t size;
    uint8_t *bytes = raft_configuration_encode(configuration, &size);

    if (index > p->saved) {
        oracle_fail(&p->cluster->oracle,
                    "D9: n%" PRIu64 " cuts its log to %" PRIu64
                    ", state.db has synced %" PRIu64,
                    p->id, index, p->saved);
    }
    raft_configuration_release(&p->compact_configuration);
    ASSERT(raft_configuration_decode(&p->compact_configuration, bytes, size));
    raft_free(bytes);
    p->compact_to = index;
    p->cluster->figures.compactions++;
    TRACE(p->cluster, "n%" PRIu64 " compacts to %" PRIu64, p->id, index);
    start_log(p);
}

static void env_send(void *context, const struct raft_message *messages,
                     size_t n)
{
    struct process *p = context;
    struct cluster *c = p->cluster;

    process_look(p);
    for (size_t i = 0; i < n; i++) {
        if (messages[i].from != p->id) {
            oracle_fail(&c->oracle, "n%" PRIu64 " sends as %" PRIu64, p->id,
                        messages[i].from);
        }
        oracle_sends(&c->oracle, &messages[i], &p->durable);
        net_send(&c->net, &c->events, &messages[i]);
    }
}

static void env_forward(void *context, raft_id to,
                        const Pawl__Peer__V1__Forward *item)
{
    struct process *p = context;

    TRACE(p->cluster, "n%" PRIu64 " forwards %" PRIx64 " to n%" PRIu64 " of %d",
          p->id, item->request, to, (int)item->what_case);
    streams_forward(&p->cluster->streams, (unsigned)p->id - 1, (unsigned)to - 1,
                    item);
}

static void env_forward_reply(void *context, raft_id to,
                              const Pawl__Peer__V1__ForwardResult *item)
{
    struct process *p = context;

    if (!p->dying) {
        TRACE(p->cluster, "n%" PRIu64 " replies %" PRIx64 " to n%" PRIu64,
              p->id, item->request, to);
        streams_reply(&p->cluster->streams, (unsigned)p->id - 1,
                      (unsigned)to - 1, item);
    }
}

static void env_state_write(void *context, struct changeset *cs)
{
    struct process *p = context;

    if (p->n_changes == p->room_changes) {
        p->room_changes = 2 * p->room_changes + 8;
        p->changes =
            mem_realloc(p->changes, p->room_changes, sizeof *p->changes);
    }
    p->changes[p->n_changes++] = cs;
    start_saving(p);
}

static void env_members(void *context, const struct member *members, size_t n)
{
    (void)context; /* who they are does not change yet */
    (void)members;
    (void)n;
}

/* ---- the start
 * ---------------------------------------------------------------- */

static bool content_is(const struct store_content *c, const struct history *h)
{
    const struct raft_hard_state *hs = &c->hard_state;
    struct place at;

    if (c->first_prev_index > h->last ||
        c->first_prev_index + c->n_entries != h->last ||
        hs->term != h->hard_state.term ||
        hs->voted_for != h->hard_state.voted_for ||
        hs->commit != h->hard_state.commit) {
        return false;
    }
    at = h->places[c->first_prev_index];
    if (at.term != c->first_prev_term) {
        return false;
    }
    for (size_t i = 0; i < c->n_entries; i++) {
        at = place_of(&at, &c->entries[i]);
        if (at.prefix != h->places[c->entries[i].index].prefix) {
            return false;
        }
    }
    return true;
}

/* The log is what was confirmed, or that and the last write. */
static void check_log(struct process *p, const struct store_content *c)
{
    struct oracle *o = &p->cluster->oracle;

    if (p->has_maybe && content_is(c, &p->maybe)) {
        history_copy(&p->durable, &p->maybe);
    } else if (!content_is(c, &p->durable)) {
        oracle_fail(o,
                    "O6: n%" PRIu64 " finds another log than was confirmed: "
                    "ends at %" PRIu64 " not %" PRIu64,
                    p->id, c->first_prev_index + c->n_entries, p->durable.last);
        return;
    }
    p->has_maybe = false;
    history_copy(&p->submitted, &p->durable);
    oracle_votes(o, p->id, p->durable.hard_state.term,
                 p->durable.hard_state.voted_for);
}

static bool add_part(void *context, const struct kv_change *pair)
{
    uint64_t *sum = context;

    *sum += model_pair_part(
        pair->key, model_value(pair->value.data, pair->value.size),
        pair->create_revision, pair->mod_revision, pair->version, pair->lease);
    return true;
}

uint64_t process_content(const struct process *p)
{
    struct leases *ls = applier_leases(p->applier);
    uint64_t sum = 0;
    size_t n;
    int64_t *ids = leases_ids(ls, &n);

    (void)kv_each(applier_kv(p->applier), add_part, &sum);
    for (size_t i = 0; i < n; i++) {
        sum += model_lease_part(ids[i], lease_ttl_s(ls, ids[i]));
    }
    free(ids);
    return sum;
}

/* state.db holds what it was told to, and that is what all agreed on. */
static void check_state(struct process *p, const struct store_content *c)
{
    struct oracle *o = &p->cluster->oracle;
    raft_index applied = applier_index(p->applier);

    if (applied != p->saved && (applied == 0 || applied != p->maybe_saved)) {
        oracle_fail(o,
                    "O6: state.db of n%" PRIu64 " stands at %" PRIu64
                    ", not at %" PRIu64 " or %" PRIu64,
                    p->id, applied, p->saved, p->maybe_saved);
    } else if (applied < c->first_prev_index || applied > p->durable.last) {
        oracle_fail(o,
                    "D3: state.db of n%" PRIu64 " stands at %" PRIu64
                    ", its log is %" PRIu64 " to %" PRIu64,
                    p->id, applied, c->first_prev_index + 1, p->durable.last);
    } else if (applied > p->cluster->model.index) {
        oracle_fail(o,
                    "O6: state.db of n%" PRIu64 " holds uncommitted %" PRIu64,
                    p->id, applied);
    } else if (process_content(p) !=
               (applied > 0 ? p->cluster->model.outcomes[applied].content
                            : 0)) {
        oracle_fail(o,
                    "O5: state.db of n%" PRIu64 " is not the state at %" PRIu64,
                    p->id, applied);
    }
    p->saved = applied;
    p->maybe_saved = 0;
}

static enum store_status found(struct process *p)
{
    static const struct raft_hard_state hard_state = {1, 0, 1};
    struct cluster *c = p->cluster;
    struct store_batch b = {.entries = &c->founding,
                            .n_entries = 1,
                            .hard_state = &hard_state};

    if (p->durable.last > 0) {
        oracle_fail(&c->oracle, "O6: n%" PRIu64 " lost its whole log", p->id);
    }
    history_copy(&p->maybe, &p->durable);
    history_write(&p->maybe, &b);
    p->has_maybe = true;
    return store_write(p->store, &b, 1);
}

/* As in server/main.c. False: it said why in error. */
static bool open_files(struct process *p, struct store_content *log,
                       char *error, size_t error_size)
{
    struct store_options so = {.path = "raft.db",
                               .vfs = disk_vfs(p->disk),
                               .cluster_id = 1,
                               .member_id = p->id,
                               .create = true,
                               .wal_pages = p->cluster->options.wal_pages};

    if (store_open(&so, &p->store, error, error_size) != STORE_OK) {
        return false;
    }
    if (store_is_new(p->store) && disk_file_size(p->disk, "state.db") >= 0) {
        oracle_fail(&p->cluster->oracle,
                    "n%" PRIu64 " will never start: it has a state.db and "
                    "its raft.db is new",
                    p->id);
        return false;
    }
    if (store_is_new(p->store) && found(p) != STORE_OK) {
        (void)snprintf(error, error_size, "%s", store_error(p->store));
        return false;
    }
    if (statedb_open("state.db", disk_vfs(p->disk), 1, p->id, &p->statedb,
                     error, error_size) != STATEDB_OK) {
        return false;
    }
    p->applier = applier_new(statedb_fetch, p->statedb);
    if (statedb_load(p->statedb, p->applier) != STATEDB_OK) {
        (void)snprintf(error, error_size, "%s", statedb_error(p->statedb));
        return false;
    }
    if (store_load(p->store, log) != STORE_OK) {
        (void)snprintf(error, error_size, "%s", store_error(p->store));
        return false;
    }
    return true;
}

static void build_node(struct process *p, const struct store_content *log)
{
    const struct options *o = &p->cluster->options;
    struct node_config config;
    struct node_env env = {
        .context = p,
        .now_ms = env_now_ms,
        .log_append = env_log_append,
        .log_compact = env_log_compact,
        .send = env_send,
        .forward = env_forward,
        .forward_reply = env_forward_reply,
        .state_write = env_state_write,
        .members = env_members,
    };
    struct raft_start start = {
        .hard_state = log->hard_state,
        .first_prev_index = log->first_prev_index,
        .first_prev_term = log->first_prev_term,
        .configuration = log->first_prev_index > 0 ? &log->configuration : NULL,
        .entries = log->entries,
        .n_entries = log->n_entries,
        .last_applied = applier_index(p->applier),
    };

    node_config_defaults(&config);
    config.id = p->id;
    config.incarnation = p->incarnation = rng_next(&p->cluster->rng) | 1;
    config.seed = rng_next(&p->cluster->rng);
    config.tick_ms = (unsigned)(o->tick_us / 1000);
    config.heartbeat_ms = config.tick_ms * o->raft.heartbeat_ticks;
    config.election_ms = config.tick_ms * o->raft.election_ticks;
    config.request_timeout_ms = o->request_timeout_ms;
    config.log_keep_entries = o->log_keep_entries;
    p->commit_index = 0; /* look at what it starts with, too */
    p->led_term = 0;
    p->applied = applier_index(p->applier);
    p->revision = kv_revision(applier_kv(p->applier));
    p->node = node_new(&config, &env, &start, p->applier);
    requests_listen(p);
}

static void fail_to_start(struct process *p, const char *error, bool may_fail)
{
    TRACE(p->cluster, "n%" PRIu64 " does not start: %s", p->id, error);
    if (!may_fail) {
        oracle_fail(&p->cluster->oracle,
                    "n%" PRIu64 ": the disk is fine, and %s", p->id, error);
    }
    p->cluster->figures.failed_starts++;
    end_process(p, cluster_chance(p->cluster, 500000));
}

void process_start(struct process *p)
{
    static const struct disk_faults none;
    struct cluster *c = p->cluster;
    bool bad = !c->is_calm && cluster_now(c) < p->bad_disk_until_us;
    bool dies = !c->is_calm && cluster_chance(c, c->options.start_crash);
    uint64_t n_errors = disk_errors(p->disk);
    struct store_content log = {0};
    char error[600] = "";

    disk_set_faults(p->disk, bad ? &c->options.disk : &none);
    if (dies) {
        disk_stop_at(p->disk, 1 + cluster_between(c, 0, 300));
    }
    if (!open_files(p, &log, error, sizeof error) || disk_stopped(p->disk)) {
        fail_to_start(p, error, dies || disk_errors(p->disk) > n_errors);
        store_content_release(&log);
        return;
    }
    disk_go_on(p->disk);
    check_log(p, &log);
    if (!c->oracle.failed) {
        check_state(p, &log);
    }
    if (!c->oracle.failed) {
        build_node(p, &log);
        TRACE(c,
              "n%" PRIu64 " starts: term %" PRIu64 " log %" PRIu64 "..%" PRIu64
              " applied %" PRIu64,
              p->id, log.hard_state.term, log.first_prev_index + 1,
              p->durable.last, p->applied);
        schedule_tick(p);
        process_wake(p);
    }
    store_content_release(&log);
}

/* ---- inputs
 * ------------------------------------------------------------------- */

void process_wake(struct process *p)
{
    if (!p->round_due) {
        p->round_due = true;
        put(p, EVENT_ROUND, cluster_between(p->cluster, 0, 100));
    }
}

void process_tick(struct process *p)
{
    node_tick(p->node);
    requests_tick(p);
    schedule_tick(p);
    process_wake(p);
}

void process_receive(struct process *p, const struct raft_message *m)
{
    enum raft_status st = node_step(p->node, m);

    TRACE(p->cluster,
          "n%" PRIu64 " <- n%" PRIu64 " %s term %" PRIu64 " log %" PRIu64
          "/%" PRIu64 " commit %" PRIu64 " n %zu%s%s",
          p->id, m->from, message_name(m->type), m->term, m->log_index,
          m->log_term, m->commit, m->n_entries, m->reject ? " rejects" : "",
          st == RAFT_OK ? "" : " (dropped)");
    if (st == RAFT_BAD_MESSAGE) {
        oracle_fail(&p->cluster->oracle,
                    "n%" PRIu64 " takes a message for malformed", p->id);
    }
    process_wake(p);
}

/* False: the process died of it. */
static bool finish_log(struct process *p)
{
    uint64_t n_errors = disk_errors(p->disk);
    enum store_status st = STORE_OK;

    if (p->n_writing > 0) {
        uint64_t batch = p->work[p->n_writing - 1].batch;

        st = write_log(p);
        if (st == STORE_OK) {
            history_copy(&p->durable, &p->maybe);
            p->has_maybe = false;
            oracle_votes(&p->cluster->oracle, p->id, p->durable.hard_state.term,
                         p->durable.hard_state.voted_for);
            p->n_work -= p->n_writing;
            memmove(p->work, p->work + p->n_writing,
                    p->n_work * sizeof *p->work);
            p->n_writing = 0;
            node_stable(p->node, batch);
        }
    }
    if (st == STORE_OK) {
        st = tidy_log(p);
    }
    if (st != STORE_OK) {
        die_of_disk(p, store_error(p->store), st == STORE_CORRUPT, n_errors);
        return false;
    }
    p->log_busy = false;
    return true;
}

void process_log_done(struct process *p)
{
    if (finish_log(p)) {
        start_log(p);
        process_wake(p);
    }
}

static bool finish_saving(struct process *p)
{
    uint64_t n_errors = disk_errors(p->disk);
    enum statedb_status st = save(p);
    size_t n = p->n_saving;

    if (st != STATEDB_OK) {
        die_of_disk(p, statedb_error(p->statedb), st == STATEDB_CORRUPT,
                    n_errors);
        return false;
    }
    p->saved = p->maybe_saved;
    p->maybe_saved = 0;
    p->cluster->figures.saves++;
    for (size_t i = 0; i < n; i++) {
        node_persisted(p->node, changeset_index(p->changes[i]));
        changeset_free(p->changes[i]);
    }
    p->n_changes -= n;
    memmove(p->changes, p->changes + n, p->n_changes * sizeof *p->changes);
    p->n_saving = 0;
    return true;
}

void process_state_done(struct process *p)
{
    if (finish_saving(p)) {
        start_saving(p);
        process_wake(p);
    }
}

void process_stop(struct process *p)
{
    node_flush_state(p->node);
    p->n_saving = p->n_changes;
    if (p->n_saving > 0 && !finish_saving(p)) {
        return;
    }
    p->n_writing = p->n_work;
    if (!finish_log(p)) {
        return;
    }
    node_free(p->node); /* tells those who wait */
    p->node = NULL;
    clear(p);
    disk_restart(p->disk, false);
    end_links(p);
    start_later(p);
}

/* ---- looking
 * ------------------------------------------------------------------ */

static void look_at_role(struct process *p)
{
    struct raft *r = node_raft(p->node);
    struct oracle *o = &p->cluster->oracle;
    raft_term term = raft_term_now(r);

    if (raft_role(r) == RAFT_LEADER && p->led_term != term) {
        p->led_term = term;
        TRACE(p->cluster, "n%" PRIu64 " leads term %" PRIu64, p->id, term);
        oracle_leads(o, p->id, term);
        oracle_leader_log(o, p->id, term, &p->submitted);
        cluster_elected(p->cluster, p);
    }
}

static void look_at_commit(struct process *p)
{
    struct raft *r = node_raft(p->node);
    struct cluster *c = p->cluster;
    const struct history *durable[NODES_MAX];
    raft_index commit = raft_commit_index(r);

    if (commit < p->commit_index) {
        oracle_fail(&c->oracle, "O7: commit index of n%" PRIu64 " fell", p->id);
    }
    if (raft_stable_index(r) > p->durable.last) {
        oracle_fail(&c->oracle, "O6: n%" PRIu64 " believes in unsynced entries",
                    p->id);
    }
    if (commit == p->commit_index || c->oracle.failed) {
        return;
    }
    for (unsigned i = 0; i < c->options.n_nodes; i++) {
        durable[i] = &c->processes[i].durable;
    }
    oracle_commits(&c->oracle, p->id, raft_term_now(r), commit, &p->submitted,
                   durable);
    p->commit_index = commit;
    for (raft_index i = c->model.index + 1; i <= commit && !c->oracle.failed;
         i++) {
        cluster_commit(c, raft_entry_at(r, i));
    }
}

/* O5, O7. */
static void look_at_state(struct process *p)
{
    struct cluster *c = p->cluster;
    raft_index applied = applier_index(p->applier);
    int64_t revision = kv_revision(applier_kv(p->applier));

    if (applied == p->applied) {
        return;
    }
    if (applied < p->applied || revision < p->revision) {
        oracle_fail(&c->oracle, "O7: the state of n%" PRIu64 " goes back",
                    p->id);
    } else if (applied > c->model.index ||
               !history_holds(&p->durable, applied,
                              &p->submitted.places[applied])) {
        oracle_fail(&c->oracle,
                    "O6: n%" PRIu64 " applies %" PRIu64 ", it synced %" PRIu64
                    ", committed is %" PRIu64,
                    p->id, applied, p->durable.last, c->model.index);
    } else if (applier_digest(p->applier) != c->digests[applied] ||
               revision != c->model.outcomes[applied].revision) {
        oracle_fail(&c->oracle,
                    "O5: n%" PRIu64 " has another state at %" PRIu64, p->id,
                    applied);
    }
    c->figures.applied += applied - p->applied;
    p->applied = applied;
    p->revision = revision;
}

void process_look(struct process *p)
{
    if (!p->dying && p->node != NULL && !p->cluster->oracle.failed) {
        look_at_commit(p);
        look_at_role(p);
    }
}

void process_round(struct process *p)
{
    p->round_due = false;
    node_round(p->node);
    process_look(p);
    if (!p->cluster->oracle.failed) {
        look_at_state(p);
    }
}
