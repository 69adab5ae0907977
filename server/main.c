/*
 * main.c - pawld: opens the files, builds the parts, runs the loop.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/rpc.h"
#include "raft/base.h"
#include "raft/store.h"
#include "raft/store_salvage.h"
#include "server/ballot.h"
#include "server/fetch.h"
#include "server/identify.h"
#include "server/join.h"
#include "server/logger.h"
#include "server/logthread.h"
#include "server/members.h"
#include "server/node.h"
#include "server/options.h"
#include "server/peers.h"
#include "server/repair.h"
#include "server/rescue.h"
#include "server/service.h"
#include "server/smallfile.h"
#include "server/snapshot.h"
#include "server/statedb.h"
#include "server/statethread.h"
#include "server/url.h"
#include "server/vow.h"

#define ERROR_BYTES 512
/* Raft messages carry up to an append's worth of entries. */
#define PEER_MESSAGE_BYTES_MAX ((size_t)64 << 20)
/* On top of --max-request-bytes, as etcd has it. */
#define REQUEST_OVERHEAD ((size_t)512 << 10)

/* What only an operator can mend: scripts and units may tell them apart. The
 * last mends itself with the next start. */
enum { EXIT_REMOVED = 3, EXIT_OTHER_STORE = 4, EXIT_DIVERGED = 5 };
/* The file DATA-DIR/diverged: an index. */
#define DIVERGED_KIND "pawl-diverged-1"
/* A step of the scrub: how often, and how many rows of state.db. */
#define SCRUB_S 1
#define SCRUB_ROWS 500

struct pawld {
    struct options options;
    struct member self; /* to publish */
    struct event_base *base;
    struct rpc_loop *loop;
    struct store *store;
    struct store_content log; /* as loaded; released once the core has it */
    struct statedb *statedb;
    struct applier *applier;
    struct logthread *logthread;
    struct statethread *statethread;
    struct peers *peers;
    struct node *node;
    struct snapshots *snapshots;
    struct statedb_log_start log_start; /* released with log */
    struct service *service;
    struct rpc_server *clients, *members;
    struct identify *identify;
    struct members seniors; /* who joins: the members that it was told */
    bool joined;            /* by a running cluster, in this start */
    struct fetch *fetch;
    struct fetch_running running;
    struct vow vow;
    struct ballot ballot; /* the log thread's, once it runs */
    struct members known; /* of a state.db that was set aside */
    struct event *interrupt, *terminate;
    bool scrubbing; /* a step is under way */
    bool stopping;
    enum peers_refusal refused; /* what others said of us; 0: nothing */
    uint64_t removed_ms;        /* when we saw our own removal; 0: not */
    int exit_status;
};

/* ---- effects
 * ------------------------------------------------------------------------- */

static uint64_t env_now_ms(void *context)
{
    (void)context;
    return clock_ms();
}

static void env_log_append(void *context, const struct raft_ready *rd)
{
    logthread_append(((struct pawld *)context)->logthread, rd);
}

static void env_log_compact(void *context, raft_index index,
                            const struct raft_configuration *configuration)
{
    logthread_compact(((struct pawld *)context)->logthread, index,
                      configuration);
}

static void env_send(void *context, const struct raft_message *messages,
                     size_t n)
{
    const struct pawld *p = context;
    struct raft_message allowed[16];
    size_t n_allowed = 0;

    if (!p->vow.held) {
        peers_send(p->peers, messages, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (!vow_forbids_out(&p->vow, &messages[i])) {
            allowed[n_allowed++] = messages[i];
        }
        if (n_allowed == ARRAY_LENGTH(allowed) || i + 1 == n) {
            peers_send(p->peers, allowed, n_allowed);
            n_allowed = 0;
        }
    }
}

static void env_forward(void *context, raft_id to,
                        const Pawl__Peer__V1__Forward *item)
{
    peers_forward(((struct pawld *)context)->peers, to, item);
}

static void env_forward_reply(void *context, raft_id to,
                              const Pawl__Peer__V1__ForwardResult *item)
{
    peers_forward_reply(((struct pawld *)context)->peers, to, item);
}

static void env_state_write(void *context, struct changeset *c)
{
    statethread_write(((struct pawld *)context)->statethread, c);
}

static void env_members(void *context, const struct member *members, size_t n)
{
    peers_set_members(((struct pawld *)context)->peers, members, n);
}

/*
 * Nothing more is served or voted: the process ends at once, and a file tells
 * the next start that state.db is not to be used.
 */
static void env_diverged(void *context, raft_index index)
{
    const struct pawld *p = context;
    const uint64_t numbers[] = {index};
    char *path = mem_printf("%s/diverged", p->options.data_dir);
    int error = smallfile_write(path, DIVERGED_KIND, numbers, 1);

    log_line(LOG_ERROR,
             "the state here differs from that of a majority of the members "
             "at entry %" PRIu64 ": this member ends; the next start sets "
             "its state aside and gets it anew%s%s",
             index, error != 0 ? "; but that could not be noted: " : "",
             error != 0 ? strerror(error) : "");
    _exit(EXIT_DIVERGED);
}

static void env_snapshots(void *context, const raft_id *members, size_t n)
{
    snapshots_send(((struct pawld *)context)->snapshots, members, n);
}

static void on_stable(void *context, uint64_t batch)
{
    struct pawld *p = context;

    node_stable(p->node, batch);
    vow_check(&p->vow, node_raft(p->node));
}

static void on_persisted(void *context, raft_index index)
{
    node_persisted(((struct pawld *)context)->node, index);
}

/* ---- signals
 * -------------------------------------------------------------------------- */

static void on_signal(evutil_socket_t number, short what, void *arg)
{
    struct pawld *p = arg;

    (void)what;
    log_line(LOG_INFO, "stopping: signal %d", (int)number);
    p->stopping = true;
}

static void listen_to_signals(struct pawld *p)
{
    p->interrupt = evsignal_new(p->base, SIGINT, on_signal, p);
    p->terminate = evsignal_new(p->base, SIGTERM, on_signal, p);
    event_add(p->interrupt, NULL);
    event_add(p->terminate, NULL);
}

/* ---- files
 * ----------------------------------------------------------------------------
 */

static void make_data_dir(const char *path)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        log_die("cannot create the data directory %s: %s", path,
                strerror(errno));
    }
}

static bool exists(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0;
}

/* For ever: nothing is touched any more. */
static void end_as_removed(void)
{
    log_line(LOG_ERROR,
             "this member was removed from its cluster, and its id never "
             "returns: to come back, add a new member ('pawlctl member add') "
             "and start it with an empty data directory and "
             "--initial-cluster-state existing");
    exit(EXIT_REMOVED);
}

/* A first start: are the flags right about who we are? */
static void find_out_who_we_are(struct pawld *p)
{
    struct join_result r;

    switch (join_find_out(p->loop, &p->options, &r)) {
    case JOIN_FOUND:
        break;
    case JOIN_JOINED:
        p->joined = true;
        p->options.cluster_id = r.cluster_id;
        p->options.member_id = r.member_id;
        p->seniors = r.members;
        log_line(LOG_INFO, "joining cluster %" PRIx64 " as member %" PRIx64,
                 r.cluster_id, r.member_id);
        break;
    case JOIN_REMOVED:
        end_as_removed();
        break;
    case JOIN_FAILED:
        log_die("%s", r.error);
    }
}

/*
 * The file says who we are, unless the flags say that it is the wrong one. A
 * member that was given its id by a cluster has flags that know nothing of it.
 */
static void check_whose_data(const struct pawld *p, const char *path)
{
    const struct options *o = &p->options;

    if (!o->cluster_given || o->join_existing || store_joined(p->store) ||
        (store_cluster_id(p->store) == o->cluster_id &&
         store_member_id(p->store) == o->member_id)) {
        return;
    }
    log_die("%s: it is the log of member %" PRIx64 " of cluster %" PRIx64
            ", not of member %" PRIx64 " of cluster %" PRIx64 " (belongs to "
            "another member or cluster); check the data directory and "
            "--initial-cluster, or leave that out",
            path, store_member_id(p->store), store_cluster_id(p->store),
            o->member_id, o->cluster_id);
}

/* STORE_OK, or STORE_CORRUPT with error filled; else the process ends. */
static enum store_status open_store(struct pawld *p, const char *path,
                                    char *error, size_t error_size)
{
    struct store_options so = {
        .path = path,
        .cluster_id = p->options.cluster_id,
        .member_id = p->options.member_id,
        .adopt = true,
        .create = true,
        .joined = p->joined,
        .store_id = random_u64() | 1,
    };
    enum store_status st = store_open(&so, &p->store, error, error_size);

    if (st == STORE_CORRUPT) {
        /* If it does not say so, the flags' ids stand. */
        (void)store_salvage_ids(path, NULL, &p->options.cluster_id,
                                &p->options.member_id);
        return st;
    }
    if (st != STORE_OK) {
        log_die("%s", error);
    }
    check_whose_data(p, path);
    p->options.cluster_id = store_cluster_id(p->store);
    p->options.member_id = store_member_id(p->store);
    if (store_is_removed(p->store)) {
        end_as_removed();
    }
    return st;
}

static void close_statedb(struct pawld *p)
{
    applier_free(p->applier);
    statedb_close(p->statedb);
    p->applier = NULL;
    p->statedb = NULL;
}

static enum statedb_status try_statedb(struct pawld *p, const char *path,
                                       char *error, size_t error_size)
{
    enum statedb_status st =
        statedb_open(path, NULL, p->options.cluster_id, p->options.member_id,
                     &p->statedb, error, error_size);

    if (st != STATEDB_OK) {
        return st;
    }
    p->applier = applier_new(statedb_fetch, p->statedb);
    st = statedb_load(p->statedb, p->applier);
    if (st != STATEDB_OK) {
        snprintf(error, error_size, "%s", statedb_error(p->statedb));
        close_statedb(p);
    }
    return st;
}

/*
 * A damaged state is never served from, not even in part: it is set aside, and
 * an empty one refilled from the log, or by the leader; see load().
 */
static void open_statedb(struct pawld *p, const char *path)
{
    char error[ERROR_BYTES];
    enum statedb_status st = try_statedb(p, path, error, sizeof(error));

    if (st == STATEDB_CORRUPT) {
        log_line(LOG_WARN, "%s: it is set aside and made again", error);
        repair_set_aside(path);
        st = try_statedb(p, path, error, sizeof(error));
    }
    if (st != STATEDB_OK) {
        log_die("%s", error);
    }
}

static void found(struct pawld *p)
{
    const struct options *o = &p->options;

    rescue_found(p->store, o->founders, o->n_founders);
    log_line(LOG_INFO, "founded cluster %" PRIx64 " of %zu member(s)",
             o->cluster_id, o->n_founders);
}

/*
 * A first start writes to raft.db before there is a state.db, so that one cut
 * short leaves nothing that looks like a lost log.
 */
static void found_if_new(struct pawld *p, bool had_state)
{
    if (store_is_new(p->store) && !store_joined(p->store) && !had_state) {
        found(p);
    }
}

enum load_result {
    LOAD_OK,
    LOAD_DAMAGED, /* entries are damaged or missing */
    LOAD_TOO_OLD, /* not of the same time as state.db */
};

/*
 * Nobody is left whom votes and promises of before concern: what stands for
 * them beside raft.db goes, and the ballot is that of the new log.
 */
static enum load_result force_new_cluster(struct pawld *p, char *error,
                                          size_t error_size)
{
    size_t n;
    char **urls = url_list(p->options.initial_advertise_peer_urls, &n);
    int failed;

    rescue_force(p->store, &p->log, p->options.member_id, urls, n);
    url_list_free(urls, n);
    store_content_release(&p->log);
    if (store_load(p->store, &p->log) != STORE_OK) {
        snprintf(error, error_size, "%s", store_error(p->store));
        return LOAD_DAMAGED;
    }
    failed = vow_drop(&p->vow);
    if (failed == 0) {
        failed = ballot_keep(&p->ballot, &p->log.hard_state);
    }
    if (failed != 0) {
        log_die("--force-new-cluster: cannot write to %s: %s",
                p->options.data_dir, strerror(failed));
    }
    p->options.force = false; /* done, should the log be loaded again */
    return LOAD_OK;
}

/* Read the log; unless LOAD_OK, error tells. */
static enum load_result read_log(struct pawld *p, const char *state_path,
                                 char *error, size_t error_size)
{
    if (store_is_new(p->store) &&
        (applier_index(p->applier) > 0 || !store_joined(p->store))) {
        snprintf(error, error_size,
                 "%s holds data but raft.db beside it does not: this member "
                 "has lost its log and must not go on as if it had not; move "
                 "the data directory away to start anew",
                 state_path);
        return LOAD_TOO_OLD;
    }
    if (store_load(p->store, &p->log) != STORE_OK) {
        snprintf(error, error_size, "%s", store_error(p->store));
        return LOAD_DAMAGED;
    }
    return p->options.force ? force_new_cluster(p, error, error_size) : LOAD_OK;
}

/* Is it of the same time as what lies beside it? */
static enum load_result judge_log(struct pawld *p, char *error,
                                  size_t error_size)
{
    raft_index applied = applier_index(p->applier);
    raft_index last = p->log.first_prev_index + p->log.n_entries;

    if (ballot_is_newer(&p->ballot, &p->log.hard_state)) {
        snprintf(error, error_size,
                 "raft.db knows term %" PRIu64 ", or another vote in it, but "
                 "%s beside it knows term %" PRIu64 ": raft.db is an old copy, "
                 "or lost a write; restore all of the data directory, or none",
                 p->log.hard_state.term, p->ballot.path, p->ballot.term);
        return LOAD_TOO_OLD;
    }
    /*
     * state.db holds what was committed, and that the log had synced before it
     * was. The one case in which state.db is ahead: it is a snapshot, nothing
     * was applied since, and the process ended before the log began anew
     * behind it. Then that happens now; see build_node().
     */
    if (applied < p->log.first_prev_index ||
        (applied > last && applied != p->log_start.installed_index)) {
        snprintf(error, error_size,
                 "state.db stands at entry %" PRIu64 " but raft.db holds only "
                 "%" PRIu64 " to %" PRIu64 ": one of them is not of this time; "
                 "restore both together, or move the data directory away",
                 applied, p->log.first_prev_index + 1, last);
        return LOAD_TOO_OLD;
    }
    return LOAD_OK;
}

/* The same; what is not used is released. */
static enum load_result load(struct pawld *p, const char *state_path,
                             char *error, size_t error_size)
{
    enum load_result result = read_log(p, state_path, error, error_size);

    if (result == LOAD_OK) {
        result = judge_log(p, error, error_size);
        if (result != LOAD_OK) {
            store_content_release(&p->log);
        }
    }
    return result;
}

/* By which the others know this member's raft.db; 0: it is not known here. */
static uint64_t published_store(const struct pawld *p)
{
    size_t n;
    const struct member *list = applier_members(p->applier, &n);

    for (size_t i = 0; i < n; i++) {
        if (list[i].id == p->options.member_id) {
            return list[i].store_id;
        }
    }
    return 0;
}

/* raft.db is damaged: nothing else happens until it is whole. */
static void repair(struct pawld *p, const char *path, const char *state_path,
                   const char *why, bool is_settled)
{
    size_t n_known;
    const struct member *known = applier_members(p->applier, &n_known);
    struct repair_config config = {
        .base = p->base,
        .loop = p->loop,
        .fetch = p->fetch,
        .path = path,
        .why = why,
        .cluster_id = p->options.cluster_id,
        .self = p->options.member_id,
        .is_settled = is_settled,
        .members = n_known > 0 ? known : p->options.founders,
        .n_members = n_known > 0 ? n_known : p->options.n_founders,
        .applied = applier_index(p->applier),
        .applied_term = applier_term(p->applier),
        .store_id = published_store(p),
        .term = p->ballot.term,
        .configuration = {p->log_start.configuration.data,
                          p->log_start.configuration.size},
        .vow = &p->vow,
        .stop = &p->stopping,
    };

    store_close(p->store);
    p->store = NULL;
    switch (repair_log(&config)) {
    case REPAIR_DONE:
        break;
    case REPAIR_STATE_GONE:
        for (size_t i = 0; i < n_known; i++) {
            members_put(&p->known, &known[i]);
        }
        if (applier_index(p->applier) > 0) {
            close_statedb(p);
            repair_set_aside(state_path);
            open_statedb(p, state_path);
        }
        buffer_release(&p->log_start.configuration);
        p->log_start = (struct statedb_log_start){0};
        break;
    case REPAIR_STOPPED:
        exit(EXIT_SUCCESS);
    }
}

/* The log that was exact but for some entries may turn out to be an old one. */
#define REPAIRS_MAX 2

/* st, why: what opening it said. */
static void load_or_repair(struct pawld *p, const char *path,
                           const char *state_path, enum store_status st,
                           char why[ERROR_BYTES])
{
    for (int i = 0;; i++) {
        enum load_result loaded = st == STORE_OK
                                      ? load(p, state_path, why, ERROR_BYTES)
                                      : LOAD_TOO_OLD;

        if (loaded == LOAD_OK) {
            return;
        }
        if (i == REPAIRS_MAX) {
            log_die("%s", why);
        }
        repair(p, path, state_path, why, loaded == LOAD_DAMAGED);
        st = open_store(p, path, why, ERROR_BYTES);
    }
}

/* What env_diverged() asked for. The note goes last. */
static void forget_diverged_state(struct pawld *p, const char *state_path)
{
    char *path = mem_printf("%s/diverged", p->options.data_dir);
    uint64_t index;
    int error;

    /* One that is damaged asks for the same. */
    if (smallfile_read(path, DIVERGED_KIND, &index, 1) != SMALLFILE_NONE) {
        if (access(state_path, F_OK) == 0) {
            log_line(LOG_WARN, "state.db has diverged: it is set aside");
            repair_set_aside(state_path);
        }
        error = smallfile_remove(path);
        if (error != 0) {
            log_die("cannot remove %s: %s", path, strerror(error));
        }
    }
    free(path);
}

/* One that joined and was stopped before it got anything knows nobody. */
static void meet_again(struct pawld *p)
{
    uint64_t cluster_id = p->options.cluster_id;
    uint64_t member_id = p->options.member_id;

    if (p->joined || !store_joined(p->store) || !store_is_new(p->store)) {
        return;
    }
    p->options.join_existing = true; /* whatever the flags say by now */
    find_out_who_we_are(p);
    if (p->options.cluster_id != cluster_id ||
        p->options.member_id != member_id) {
        log_die("%s was made for member %" PRIx64
                ", which another has replaced before it began: empty it and "
                "start again",
                p->options.data_dir, member_id);
    }
}

/* Before a file is made. */
static void settle_identity(struct pawld *p)
{
    char *raft_path = mem_printf("%s/raft.db", p->options.data_dir);
    char *state_path = mem_printf("%s/state.db", p->options.data_dir);
    bool first;

    repair_finish(raft_path);
    first = !exists(raft_path);
    if (first && p->options.force) {
        log_die("--force-new-cluster: %s holds nothing to go on with",
                p->options.data_dir);
    }
    /* A state without its log is no first start: see read_log(). */
    if (first && !exists(state_path)) {
        find_out_who_we_are(p);
    }
    free(raft_path);
    free(state_path);
}

static void open_files(struct pawld *p)
{
    char *raft_path = mem_printf("%s/raft.db", p->options.data_dir);
    char *state_path = mem_printf("%s/state.db", p->options.data_dir);
    bool had_state = exists(state_path);
    char why[ERROR_BYTES];
    enum store_status st;

    make_data_dir(p->options.data_dir);
    vow_load(&p->vow, p->options.data_dir);
    forget_diverged_state(p, state_path);
    st = open_store(p, raft_path, why, sizeof(why));
    if (st == STORE_OK) {
        meet_again(p);
        found_if_new(p, had_state);
    }
    listen_to_signals(p);
    open_statedb(p, state_path);
    ballot_load(&p->ballot, p->options.data_dir, p->options.cluster_id,
                p->options.member_id);
    if (statedb_get_log_start(p->statedb, &p->log_start) != STATEDB_OK) {
        log_die("%s", statedb_error(p->statedb));
    }
    load_or_repair(p, raft_path, state_path, st, why);
    free(raft_path);
    free(state_path);
}

/* ---- parts
 * ------------------------------------------------------------------------------
 */

/* What state.db stands for, if it is a snapshot and no more than that; the log
 * may not know of it yet. */
static bool installed_snapshot(const struct pawld *p, struct raft_snapshot *s)
{
    const struct buffer *configuration = &p->log_start.configuration;

    *s = (struct raft_snapshot){.index = p->log_start.installed_index,
                                .term = applier_term(p->applier)};
    if (s->index == 0 || s->index != applier_index(p->applier)) {
        return false;
    }
    if (!raft_configuration_decode(&s->configuration, configuration->data,
                                   configuration->size)) {
        log_die("state.db holds no readable configuration: move the data "
                "directory away and add this member anew");
    }
    return true;
}

/* Who published which store, in entries that are not applied yet. */
static void expect_stores(struct pawld *p)
{
    struct arena arena;

    arena_init(&arena);
    for (size_t i = 0; i < p->log.n_entries; i++) {
        const struct raft_entry *e = &p->log.entries[i];
        const Pawl__Command__V1__Command *c = NULL;

        arena_reset(&arena);
        if (e->type == RAFT_ENTRY_COMMAND &&
            e->index > applier_index(p->applier)) {
            c = pawl__command__v1__command__unpack(&arena.allocator, e->size,
                                                   e->data);
        }
        if (c != NULL &&
            c->change_case ==
                PAWL__COMMAND__V1__COMMAND__CHANGE_MEMBER_PUBLISH &&
            c->member_publish->store_id != 0) {
            peers_expect_store(p->peers, c->member_publish->id,
                               c->member_publish->store_id);
        }
    }
    arena_release(&arena);
}

static void on_refused(void *context, enum peers_refusal why)
{
    ((struct pawld *)context)->refused = why; /* see check_standing() */
}

/* Who is there, until the log tells. */
static void introduce(struct pawld *p)
{
    const struct options *o = &p->options;
    size_t n;

    (void)applier_members(p->applier, &n);
    if (n > 0) {
        return; /* the node has told */
    }
    if (p->joined) {
        peers_set_members(p->peers, p->seniors.list, p->seniors.n);
    } else if (p->known.n > 0) {
        peers_set_members(p->peers, p->known.list, p->known.n);
    } else if (!store_joined(p->store)) {
        peers_set_members(p->peers, o->founders, o->n_founders);
    }
}

static void build_node(struct pawld *p)
{
    struct raft_snapshot installed;
    bool is_installed = installed_snapshot(p, &installed);
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
        .snapshots = env_snapshots,
        .members = env_members,
        .diverged = env_diverged,
    };
    struct raft_start start = {
        .hard_state = p->log.hard_state,
        .first_prev_index = p->log.first_prev_index,
        .first_prev_term = p->log.first_prev_term,
        .configuration =
            p->log.first_prev_index > 0 ? &p->log.configuration : NULL,
        .entries = p->log.entries,
        .n_entries = p->log.n_entries,
        .last_applied = applier_index(p->applier),
        .snapshot = is_installed ? &installed : NULL,
    };
    struct peers_config pc = {
        .cluster_id = p->options.cluster_id,
        .self = p->options.member_id,
        .incarnation = random_u64() | 1,
        .store_id = store_id(p->store),
        .peer_urls = p->self.peer_urls,
        .n_peer_urls = p->self.n_peer_urls,
        .departing_ms = 3 * (uint64_t)p->options.election_ms,
        .on_refused = on_refused,
        .context = p,
        .vow = &p->vow,
    };
    struct fetch_source source = fetch_from_raft(&p->running);

    node_config_defaults(&config);
    config.id = p->options.member_id;
    config.incarnation = pc.incarnation;
    config.seed = random_u64();
    config.heartbeat_ms = p->options.heartbeat_ms;
    config.election_ms = p->options.election_ms;
    config.tick_ms = p->options.heartbeat_ms / 2;
    config.request_timeout_ms = 5000 + 2 * p->options.election_ms;
    config.log_keep_entries = p->options.log_keep_entries;
    p->peers = peers_new(p->loop, &pc);
    p->logthread = logthread_new(p->base, p->store, on_stable, p);
    logthread_set_ballot(p->logthread, &p->ballot);
    p->statethread = statethread_new(p->base, p->statedb, on_persisted, p);
    p->node = node_new(&config, &env, &start, p->applier);
    peers_set_node(p->peers, p->node);
    expect_stores(p);
    introduce(p);
    identify_set_node(p->identify, p->node, p->options.cluster_id,
                      p->options.initial_cluster_token);
    p->running = (struct fetch_running){node_raft(p->node), &p->vow};
    fetch_set_source(p->fetch, pc.cluster_id, pc.self, &source);
    store_content_release(&p->log);
    buffer_release(&p->log_start.configuration);
    raft_configuration_release(&installed.configuration);
}

static void build_snapshots(struct pawld *p)
{
    struct snapshots_config config = {
        .data_dir = p->options.data_dir,
        .cluster_id = p->options.cluster_id,
        .self = p->options.member_id,
        .bytes_per_second = p->options.snapshot_rate,
        .log_keep_entries = p->options.log_keep_entries,
    };
    struct snapshots_parts parts = {
        .loop = p->loop,
        .peers = p->peers,
        .node = p->node,
        .statedb = p->statedb,
        .statethread = p->statethread,
    };

    p->snapshots = snapshots_new(&config, &parts);
    snapshots_serve(p->snapshots, p->members);
}

static struct rpc_server *listen_on(struct pawld *p, const char *urls,
                                    const struct rpc_limits *limits,
                                    const char *flag)
{
    struct rpc_server *server = rpc_server_new(p->loop, limits);
    size_t n;
    char **list = url_list(urls, &n);

    for (size_t i = 0; i < n; i++) {
        char *address = url_address(list[i]);
        int error = rpc_server_listen(server, address, NULL);

        if (error != 0) {
            log_die("cannot listen on %s: %s; choose another with --%s",
                    address, strerror(error), flag);
        }
        free(address);
    }
    url_list_free(list, n);
    return server;
}

static void build_client_server(struct pawld *p)
{
    struct rpc_limits limits;

    rpc_limits_defaults(&limits);
    limits.message_bytes_max = p->options.request_bytes_max + REQUEST_OVERHEAD;
    p->clients = listen_on(p, p->options.listen_client_urls, &limits,
                           "listen-client-urls");
}

/* Before all else: founders that start together ask each other who they are. */
static void build_member_server(struct pawld *p)
{
    struct rpc_limits limits;

    rpc_limits_defaults(&limits);
    limits.message_bytes_max = PEER_MESSAGE_BYTES_MAX;
    p->members =
        listen_on(p, p->options.listen_peer_urls, &limits, "listen-peer-urls");
    p->fetch = fetch_new(p->members);
    p->identify = identify_new();
    identify_serve(p->identify, p->members);
}

static void describe_self(struct pawld *p)
{
    p->self.id = p->options.member_id;
    p->self.name = p->options.name;
    p->self.store_id = store_id(p->store);
    p->self.client_urls =
        url_list(p->options.advertise_client_urls, &p->self.n_client_urls);
    p->self.peer_urls =
        url_list(p->options.initial_advertise_peer_urls, &p->self.n_peer_urls);
}

static void build_service(struct pawld *p)
{
    struct service_config config = {
        .cluster_id = p->options.cluster_id,
        .member_id = p->options.member_id,
        .request_bytes_max = p->options.request_bytes_max,
        .election_ms = p->options.election_ms,
        .self = &p->self,
        .token = p->options.initial_cluster_token,
        .statedb = p->statedb,
    };

    p->service = service_new(p->loop, p->node, &config);
    service_serve(p->service, p->clients);
    peers_serve(p->peers, p->members);
}

/* ---- the loop
 * -----------------------------------------------------------------------------
 */

/* Is there a reason to end that only the cluster can give? */
static void check_standing(struct pawld *p)
{
    uint64_t now_ms = clock_ms();

    if (p->removed_ms == 0 && raft_is_removed(node_raft(p->node))) {
        p->removed_ms = now_ms;
        log_line(LOG_WARN, "this member is removed from the cluster");
    }
    /* One that led hands over first; and answers are still on their way. */
    if (p->refused == PEERS_REMOVED ||
        (p->removed_ms != 0 && raft_role(node_raft(p->node)) != RAFT_LEADER &&
         now_ms - p->removed_ms >= 2 * (uint64_t)p->options.election_ms)) {
        p->exit_status = EXIT_REMOVED;
        p->stopping = true;
    } else if (p->refused == PEERS_OTHER_STORE) {
        log_line(LOG_ERROR,
                 "this member had another data directory: what it voted and "
                 "acknowledged with that is not in %s. Bring that one back; or "
                 "move this one away and start again, and the member joins as "
                 "a learner under a new id",
                 p->options.data_dir);
        p->exit_status = EXIT_OTHER_STORE;
        p->stopping = true;
    }
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct pawld *p = arg;

    (void)fd;
    (void)what;
    node_tick(p->node);
    service_tick(p->service);
    check_standing(p);
}

/* On the state thread. */
static void scrub_state(void *context, struct statedb *db)
{
    (void)context;
    if (statedb_scrub(db, SCRUB_ROWS) != STATEDB_OK) {
        log_die("checking state.db: %s; the process ends so that it is not "
                "served from; start it again: it is made anew",
                statedb_error(db));
    }
}

static void scrubbed(void *context)
{
    ((struct pawld *)context)->scrubbing = false;
}

/* A few rows of each file are read again: so damage is found while the others
 * still can repair it. */
static void on_scrub(evutil_socket_t fd, short what, void *arg)
{
    struct pawld *p = arg;

    (void)fd;
    (void)what;
    if (!p->scrubbing) {
        p->scrubbing = true;
        logthread_scrub(p->logthread);
        statethread_call(p->statethread, scrub_state, scrubbed, p);
    }
}

static void run(struct pawld *p)
{
    unsigned tick_ms = p->options.heartbeat_ms / 2;
    struct timeval tick = {
        .tv_sec = tick_ms / 1000,
        .tv_usec = (suseconds_t)(tick_ms % 1000) * 1000,
    };
    const struct timeval scrub = {.tv_sec = SCRUB_S};
    struct event *timer = event_new(p->base, -1, EV_PERSIST, on_tick, p);
    struct event *scrubber = event_new(p->base, -1, EV_PERSIST, on_scrub, p);

    event_add(timer, &tick);
    event_add(scrubber, &scrub);
    while (!p->stopping) {
        node_round(p->node);
        peers_flush(p->peers);
        rpc_loop_flush(p->loop);
        event_base_loop(p->base, EVLOOP_ONCE);
    }
    event_free(timer);
    event_free(scrubber);
}

/* Connections first, then what they used, then the threads, then the files. */
static void shut_down(struct pawld *p)
{
    rpc_server_free(p->clients);
    rpc_server_free(p->members);
    fetch_free(p->fetch);
    service_free(p->service);
    node_flush_state(p->node);
    snapshots_stop(p->snapshots);
    statethread_free(p->statethread); /* may still ask for a compaction */
    logthread_free(p->logthread);
    snapshots_free(p->snapshots);
    node_free(p->node);
    peers_free(p->peers);
    rpc_loop_free(p->loop);
    applier_free(p->applier);
    statedb_close(p->statedb);
    if (p->exit_status == EXIT_REMOVED &&
        store_set_removed(p->store) != STORE_OK) {
        log_line(LOG_ERROR, "%s", store_error(p->store));
    }
    store_close(p->store);
    identify_free(p->identify);
    members_release(&p->seniors);
    url_list_free(p->self.peer_urls, p->self.n_peer_urls);
    event_free(p->interrupt);
    event_free(p->terminate);
    event_base_free(p->base);
    vow_release(&p->vow);
    ballot_release(&p->ballot);
    members_release(&p->known);
    url_list_free(p->self.client_urls, p->self.n_client_urls);
    options_release(&p->options);
}

/* A thousand connections are nothing unusual: take what the system allows. */
static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* else it stays as it is */
    }
}

/* The coarse clock that libevent prefers ends a wait up to 4 ms early. */
static struct event_base *new_event_base(void)
{
    struct event_config *config = event_config_new();
    struct event_base *base;

    event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
    base = event_base_new_with_config(config);
    event_config_free(config);
    if (base == NULL) {
        log_die("libevent finds no way to wait for sockets here");
    }
    return base;
}

/* One connection a thread: locks around SQLite's counters only cost. */
static void configure_sqlite(void)
{
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); /* a matter of speed */
    (void)sqlite3_config(SQLITE_CONFIG_MULTITHREAD);
}

int main(int argc, char **argv)
{
    struct pawld p = {0};

    switch (options_parse(&p.options, argc, argv)) {
    case OPTIONS_DONE:
        options_release(&p.options);
        return 0;
    case OPTIONS_BAD:
        options_release(&p.options);
        return 2;
    case OPTIONS_RUN:
        break;
    }
    logger_set_level(p.options.level);
    if (p.options.restore_from != NULL) {
        configure_sqlite();
        p.exit_status = rescue_restore(&p.options);
        options_release(&p.options);
        return p.exit_status;
    }
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    configure_sqlite();
    p.base = new_event_base();
    p.loop = rpc_loop_new(p.base);
    build_member_server(&p); /* a port in use is found before a file is made */
    settle_identity(&p);
    build_client_server(&p);
    open_files(&p);
    describe_self(&p);
    build_node(&p);
    build_snapshots(&p);
    build_service(&p);
    log_line(LOG_INFO,
             "pawld %s: member %" PRIx64 " (%s) of cluster %" PRIx64
             ", clients on %s, members on %s, data in %s",
             PAWL_VERSION, p.options.member_id, p.options.name,
             p.options.cluster_id, p.options.listen_client_urls,
             p.options.listen_peer_urls, p.options.data_dir);
    run(&p);
    shut_down(&p);
    if (p.exit_status == EXIT_REMOVED) {
        end_as_removed();
    }
    return p.exit_status;
}
