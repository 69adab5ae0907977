/*
 * repair.c - makes a damaged raft.db whole, from the other members.
 */
#include "server/repair.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "raft/base.h"
#include "raft/store.h"
#include "raft/store_salvage.h"
#include "server/logger.h"
#include "server/members.h"
#include "server/smallfile.h"
#include "server/url.h"

#define PROTOCOL_VERSION 1
#define CALL_TIMEOUT_MS 5000
#define CONNECT_TIMEOUT_MS 1000
#define STEP_MS 200  /* between two rounds of questions */
#define TELL_MS 3000 /* between two lines about who is missing */
#define ERROR_BYTES 600

/* Another member. */
struct source {
    struct repair *repair;
    raft_id id;
    char *address;
    struct rpc_channel *channel;
    struct rpc_call *call; /* a question is out */
    bool is_done;          /* told all that was asked in this round */
    bool is_sound;         /* as of its newest answer; then these hold: */
    raft_term term;
    raft_index last_index;
    raft_term last_term;
    /* Entries by place, from repair.first on; index 0: it has it not. */
    struct raft_entry *entries;
    uint64_t next; /* to ask for */
    bool is_voter; /* a sound member said so */
};

struct repair {
    const struct repair_config *config;
    struct store_salvage log;
    bool by_vow;  /* it cannot be exact */
    bool is_wide; /* first is the first place of the log */
    /* What is asked for. first 0: no entries. */
    raft_index first, last;
    struct source *sources[64];
    size_t n_sources;
    uint64_t told_ms;
    bool is_over;
    enum repair_result result;
};

/* ---- who the others are ----------------------------------------------------
 */

static struct source *find_source(struct repair *r, raft_id id)
{
    for (size_t i = 0; i < r->n_sources; i++) {
        if (r->sources[i]->id == id) {
            return r->sources[i];
        }
    }
    return NULL;
}

static struct source *add_source(struct repair *r, const struct member *m)
{
    struct rpc_channel_config config = {.connect_timeout_ms =
                                            CONNECT_TIMEOUT_MS};
    struct source *s = find_source(r, m->id);

    if (m->id == r->config->self || m->n_peer_urls == 0 ||
        r->n_sources == ARRAY_LENGTH(r->sources)) {
        return s;
    }
    if (s == NULL) {
        s = mem_alloc(1, sizeof(*s));
        s->repair = r;
        s->id = m->id;
        s->address = url_address(m->peer_urls[0]);
        config.address = s->address;
        rpc_limits_defaults(&config.limits);
        config.limits.message_bytes_max = (size_t)64 << 20;
        s->channel = rpc_channel_new(r->config->loop, &config);
        r->sources[r->n_sources++] = s;
    }
    return s;
}

/*
 * The members that a configuration names. Who votes is believed only if a
 * sound member says so: what we know may be older, and name some who are gone.
 * It may be older than the truth as well, but then one of the voters that it
 * names knows better: a change is committed by them. And all must answer.
 */
static void add_configuration(struct repair *r, const uint8_t *data,
                              size_t size, bool is_believed)
{
    struct raft_configuration c;
    struct members members = {0};
    struct arena arena;

    if (!raft_configuration_decode(&c, data, size)) {
        return;
    }
    arena_init(&arena);
    members_follow(&members, &c, members_decode(&c, &arena));
    for (size_t i = 0; i < members.n; i++) {
        struct source *s = add_source(r, &members.list[i]);

        if (s != NULL && is_believed && !members.list[i].is_learner) {
            s->is_voter = true;
        }
    }
    members_release(&members);
    arena_release(&arena);
    raft_configuration_release(&c);
}

static void find_sources(struct repair *r)
{
    for (size_t i = 0; i < r->config->n_members; i++) {
        (void)add_source(r, &r->config->members[i]); /* it is in the list */
    }
    if (r->log.configuration.servers != NULL) {
        size_t size;
        uint8_t *data = raft_configuration_encode(&r->log.configuration, &size);

        add_configuration(r, data, size, false);
        raft_free(data);
    }
    for (size_t i = 0; i < r->log.n_entries; i++) {
        const struct salvaged_entry *at = &r->log.entries[i];

        if (at->is_there && at->entry.type == RAFT_ENTRY_CONFIG &&
            (at->is_sound || i < r->log.n_prefix)) {
            add_configuration(r, at->entry.data, at->entry.size, false);
        }
    }
}

/* ---- answering -------------------------------------------------------------
 */

static void describe(void *context, struct arena *arena,
                     Pawl__Peer__V1__FetchReply *out)
{
    const struct repair *r = context;

    (void)arena; /* no configuration: we are not sound */
    out->last_index = r->log.last_index;
}

/* Right or wrong: who asks can tell. */
static const struct raft_entry *salvaged(void *context, raft_index i)
{
    const struct salvaged_entry *at =
        store_salvage_at(&((struct repair *)context)->log, i);

    return at != NULL && at->is_there ? &at->entry : NULL;
}

/* ---- asking ----------------------------------------------------------------
 */

static void forget_entries(struct source *s)
{
    size_t n = s->repair->first > 0
                   ? (size_t)(s->repair->last - s->repair->first + 1)
                   : 0;

    for (size_t i = 0; s->entries != NULL && i < n; i++) {
        free((void *)s->entries[i].data);
    }
    free(s->entries);
    s->entries = NULL;
    s->is_done = false;
}

/* From now on, everybody is asked for these. */
static void want(struct repair *r, raft_index first, raft_index last)
{
    for (size_t i = 0; i < r->n_sources; i++) {
        forget_entries(r->sources[i]);
        if (r->sources[i]->call != NULL) {
            rpc_call_cancel(r->sources[i]->call);
        }
    }
    r->first = first;
    r->last = last;
}

static void keep_entry(struct source *s, const Pawl__Peer__V1__Entry *pe)
{
    struct repair *r = s->repair;
    struct raft_entry *e;
    uint8_t *data;

    if (r->first == 0 || pe->index < r->first || pe->index > r->last) {
        return;
    }
    e = &s->entries[pe->index - r->first];
    if (e->index != 0) {
        return;
    }
    data = mem_alloc(pe->data.len + 1, 1);
    memcpy(data, pe->data.len > 0 ? pe->data.data : (const uint8_t *)"",
           pe->data.len);
    *e = (struct raft_entry){
        .index = pe->index,
        .term = pe->term,
        .type = (enum raft_entry_type)pe->type,
        .size = pe->data.len,
        .data = data,
    };
}

static void on_reply(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Pawl__Peer__V1__FetchReply *reply =
        (const Pawl__Peer__V1__FetchReply *)m;
    struct source *s = rpc_call_context(c);

    s->is_sound = reply->sound;
    s->term = reply->term;
    s->last_index = reply->last_index;
    s->last_term = reply->last_term;
    for (size_t i = 0; i < reply->n_entries; i++) {
        keep_entry(s, reply->entries[i]);
    }
    s->is_done = reply->next <= s->next;
    s->next = reply->next;
    if (s->is_sound) {
        add_configuration(s->repair, reply->configuration.data,
                          reply->configuration.len, true);
    }
}

static void on_reply_close(struct rpc_call *c, enum grpc_code code,
                           const char *text, bool maybe_processed)
{
    struct source *s = rpc_call_context(c);

    (void)text;
    (void)maybe_processed; /* a question may be asked twice */
    s->call = NULL;
    if (code != GRPC_OK) {
        s->is_sound = false;
        s->is_done = false;
    }
}

static const struct rpc_call_events events = {
    .on_message = on_reply,
    .on_close = on_reply_close,
};

static void ask(struct source *s)
{
    struct repair *r = s->repair;
    Pawl__Peer__V1__FetchRequest rq = PAWL__PEER__V1__FETCH_REQUEST__INIT;
    Pawl__Peer__V1__Hello hello = PAWL__PEER__V1__HELLO__INIT;

    if (s->call != NULL || s->is_done) {
        return;
    }
    if (s->entries == NULL) {
        size_t n = r->first > 0 ? (size_t)(r->last - r->first + 1) : 0;

        s->entries = mem_alloc(n + 1, sizeof(*s->entries));
        s->next = r->first;
    }
    hello.cluster = r->config->cluster_id;
    hello.from = r->config->self;
    hello.to = s->id;
    hello.version = PROTOCOL_VERSION;
    rq.hello = &hello;
    rq.first = s->next;
    rq.last = r->last;
    s->call = rpc_call_start(s->channel, "/pawl.peer.v1.Peer/FetchEntries",
                             &pawl__peer__v1__fetch_reply__descriptor, NULL, 0,
                             CALL_TIMEOUT_MS, &events, s);
    rpc_call_send(s->call, &rq.base);
    rpc_call_half_close(s->call);
}

/* ---- files -----------------------------------------------------------------
 */

static void remove_files(const char *path)
{
    char *wal = mem_printf("%s-wal", path);

    (void)unlink(path); /* they need not be there */
    (void)unlink(wal);
    free(wal);
}

static void rename_or_die(const char *from, const char *to)
{
    int error = rename(from, to) == 0 ? smallfile_sync_directory(to) : errno;

    if (error != 0) {
        log_die("cannot rename %s to %s: %s", from, to, strerror(error));
    }
}

/* Move the damaged file and its WAL away; the WAL goes second. */
static void set_aside(const char *path, bool wal_only)
{
    char *wal = mem_printf("%s-wal", path);
    char *aside = NULL, *aside_wal = NULL;
    unsigned i = 0;

    do {
        free(aside);
        free(aside_wal);
        aside = mem_printf("%s.damaged-%u", path, ++i);
        aside_wal = mem_printf("%s-wal", aside);
    } while (access(wal_only ? aside_wal : aside, F_OK) == 0);
    if (!wal_only) {
        rename_or_die(path, aside);
    }
    if (access(wal, F_OK) == 0) {
        rename_or_die(wal, aside_wal);
    }
    log_line(LOG_WARN, "the damaged file is kept: %s", aside);
    free(wal);
    free(aside);
    free(aside_wal);
}

void repair_set_aside(const char *path)
{
    set_aside(path, false);
}

void repair_finish(const char *path)
{
    char *fresh = mem_printf("%s.repaired", path);

    if (access(path, F_OK) != 0 && access(fresh, F_OK) == 0) {
        set_aside(path, true);
        rename_or_die(fresh, path);
    }
    free(fresh);
}

/*
 * Which file the new one stands for. An exact one is the old one. Under a vow
 * it is the one that the others know this member by, as the vow stands for
 * what that one promised; only if nothing tells, it counts as another.
 */
static void identify(const struct repair *r, bool is_exact,
                     struct store_options *so)
{
    uint64_t known = r->config->store_id;
    uint64_t id = r->log.has_identity ? r->log.store_id : 0;

    if (!is_exact && known != 0) {
        id = known;
    }
    so->store_id = id != 0 ? id : random_u64() | 1;
    /* The flags may give another id than the member's; then they must not be
     * held against it. */
    so->joined = !r->log.has_identity || r->log.joined;
}

/* A new log, whole and synced, under another name, then under its own. */
static void replace_log(const struct repair *r, const struct store_content *c,
                        uint64_t prev_checksum, bool is_exact)
{
    const char *path = r->config->path;
    char *filling = mem_printf("%s.repairing", path);
    char *fresh = mem_printf("%s.repaired", path);
    char error[ERROR_BYTES];
    struct store_options so = {
        .path = filling,
        .cluster_id = r->config->cluster_id,
        .member_id = r->config->self,
        .create = true,
    };
    struct store *store;
    uint64_t checksum;

    identify(r, is_exact, &so);
    remove_files(filling);
    remove_files(fresh);
    if (store_open(&so, &store, error, sizeof(error)) != STORE_OK) {
        log_die("%s", error);
    }
    if (store_fill(store, c, prev_checksum, &checksum) != STORE_OK ||
        (r->log.removed && store_set_removed(store) != STORE_OK) ||
        store_checkpoint(store, true) != STORE_OK) {
        log_die("%s", store_error(store));
    }
    ASSERT(!is_exact || checksum == r->log.last_checksum);
    store_close(store);
    rename_or_die(filling, fresh); /* its WAL is in it, and stays behind */
    remove_files(filling);
    set_aside(path, false);
    rename_or_die(fresh, path);
    free(filling);
    free(fresh);
}

/* ---- the exact way ---------------------------------------------------------
 */

/* Its entry at that place, or NULL. */
static const struct raft_entry *entry_of(const struct source *s, raft_index i)
{
    const struct repair *r = s->repair;

    return s->entries != NULL && r->first > 0 && i >= r->first &&
                   i <= r->last && s->entries[i - r->first].index == i
               ? &s->entries[i - r->first]
               : NULL;
}

/*
 * The entry to try at that place: the one of the preferred source (NULL: our
 * own), else our own, else anybody's. If a source has the right entry at a
 * place, it had the right ones at all places before (5.3): so one source after
 * the other is preferred, and the others fill its holes.
 */
static const struct raft_entry *candidate(struct repair *r, raft_index i,
                                          const struct source *preferred)
{
    const struct raft_entry *e =
        preferred != NULL ? entry_of(preferred, i) : NULL;

    if (e == NULL) {
        e = salvaged(r, i);
        if (preferred == NULL && i >= r->log.damaged_from) {
            e = NULL; /* ours is why we ask */
        }
    }
    for (size_t k = 0; e == NULL && k < r->n_sources; k++) {
        e = entry_of(r->sources[k], i);
    }
    return e != NULL ? e : salvaged(r, i);
}

static bool fits(struct repair *r, const struct source *preferred,
                 const struct raft_entry **out)
{
    size_t n = (size_t)(r->last - r->first + 1);

    for (size_t i = 0; i < n; i++) {
        out[i] = candidate(r, r->first + i, preferred);
    }
    return store_salvage_check(&r->log, r->first, out, n);
}

static void finish_exactly(struct repair *r, const struct raft_entry **found)
{
    struct store_content c = {
        .hard_state = r->log.hard_state,
        .first_prev_index = r->log.prev_index,
        .first_prev_term = r->log.prev_term,
        .configuration = r->log.configuration,
        .n_entries = r->log.n_entries,
    };

    c.entries = mem_alloc(c.n_entries + 1, sizeof(*c.entries));
    for (size_t i = 0; i < c.n_entries; i++) {
        raft_index at = r->log.prev_index + 1 + i;

        c.entries[i] = at >= r->first && at <= r->last
                           ? *found[at - r->first]
                           : r->log.entries[i].entry;
    }
    replace_log(r, &c, r->log.prev_checksum, true);
    log_line(LOG_INFO,
             "raft.db is repaired: entries %" PRIu64 " to %" PRIu64
             " are what they were, the chain of checksums shows it",
             r->first, r->last);
    free(c.entries);
    r->is_over = true;
    r->result = REPAIR_DONE;
}

static void try_exactly(struct repair *r)
{
    size_t n = (size_t)(r->last - r->first + 1);
    const struct raft_entry **found = mem_alloc(n, sizeof(*found));
    bool ok = fits(r, NULL, found);

    for (size_t i = 0; !ok && i < r->n_sources; i++) {
        ok = r->sources[i]->entries != NULL && fits(r, r->sources[i], found);
    }
    if (ok) {
        finish_exactly(r, found);
    }
    free(found);
}

/* ---- by a vow --------------------------------------------------------------
 */

/* Entries at the front that are sound, whatever comes behind them. */
static raft_index prefix_end(const struct repair *r)
{
    return r->log.prev_index + r->log.n_prefix;
}

/*
 * The log that remains. What state.db has applied needs no entries; if it does
 * not even reach back to where our log begins, the leader has to send its own.
 */
static void remaining_log(struct repair *r, struct store_content *c)
{
    const struct repair_config *config = r->config;

    *c = (struct store_content){0};
    r->result = REPAIR_DONE;
    if (config->applied < r->log.prev_index) {
        r->result = REPAIR_STATE_GONE;
    } else if (config->applied > prefix_end(r)) {
        c->first_prev_index = config->applied;
        c->first_prev_term = config->applied_term;
        if (!raft_configuration_decode(&c->configuration,
                                       config->configuration.data,
                                       config->configuration.size)) {
            c->first_prev_index = c->first_prev_term = 0;
            r->result = REPAIR_STATE_GONE;
        }
    } else {
        c->first_prev_index = r->log.prev_index;
        c->first_prev_term = r->log.prev_term;
        c->configuration = r->log.configuration;
        c->n_entries = r->log.n_prefix;
        c->entries = mem_alloc(c->n_entries + 1, sizeof(*c->entries));
        for (size_t i = 0; i < c->n_entries; i++) {
            c->entries[i] = r->log.entries[i].entry;
        }
    }
}

/*
 * Every other voter has answered, so
 * - whoever got a vote of ours had its own term on disk before it asked: no
 *   vote of ours was in a term above theirs. In the next one we are free. That
 *   also makes the present leader step down, and a new one begins by asking
 *   how long our log is.
 * - whatever was committed with our help is in the log of one of them, at
 *   least: a candidate whose log is as long as the longest of theirs has it.
 * Where our own log ended counts as well if we know it.
 */
static void finish_by_vow(struct repair *r)
{
    raft_term term = r->config->term > r->log.hard_state.term
                         ? r->config->term
                         : r->log.hard_state.term; /* at least */
    raft_term end_term = r->log.has_state ? r->log.hard_state.term : 0;
    raft_index end_index = r->log.has_state ? r->log.last_index : 0;
    struct store_content c;
    int error;

    for (size_t i = 0; i < r->n_sources; i++) {
        const struct source *s = r->sources[i];

        if (!s->is_voter) {
            continue;
        }
        term = s->term > term ? s->term : term;
        if (s->last_term > end_term ||
            (s->last_term == end_term && s->last_index > end_index)) {
            end_term = s->last_term;
            end_index = s->last_index;
        }
    }
    remaining_log(r, &c);
    c.hard_state.term = term + 1;
    /* What founded the cluster was committed from the beginning. */
    c.hard_state.commit =
        c.first_prev_index > 0 ? c.first_prev_index : c.n_entries > 0;
    error = vow_take(r->config->vow, end_term, end_index);
    if (error != 0) {
        log_die("cannot write %s: %s", r->config->vow->path, strerror(error));
    }
    replace_log(r, &c, r->log.prev_checksum, false);
    log_line(LOG_WARN,
             "raft.db begins anew with entries up to %" PRIu64
             " in term %" PRIu64 "; no vote from here for a log that ends "
             "before entry %" PRIu64 " of term %" PRIu64,
             c.first_prev_index + c.n_entries, c.hard_state.term, end_index,
             end_term);
    free(c.entries);
    if (c.configuration.servers != r->log.configuration.servers) {
        raft_configuration_release(&c.configuration);
    }
    r->is_over = true;
}

static bool all_voters_answered(const struct repair *r)
{
    size_t n = 0;

    for (size_t i = 0; i < r->n_sources; i++) {
        const struct source *s = r->sources[i];

        n += s->is_voter;
        if (s->is_voter && (!s->is_done || !s->is_sound)) {
            return false;
        }
    }
    return n > 0;
}

static void begin_vow(struct repair *r, const char *why)
{
    log_line(LOG_WARN, "raft.db cannot be made again as it was: %s", why);
    r->by_vow = true;
    want(r, 0, 0);
}

/* ---- the way through --------------------------------------------------------
 */

static void begin(struct repair *r)
{
    if (!r->log.has_state) {
        begin_vow(r, "it is not known where it ended or what was voted");
    } else if (r->log.damaged_to == 0) {
        begin_vow(r, "its entries follow from one another, and yet something "
                     "is wrong");
    } else {
        log_line(LOG_WARN,
                 "entries %" PRIu64 " to %" PRIu64 " of %" PRIu64 " to %" PRIu64
                 " may be damaged; asking the other members",
                 r->log.damaged_from, r->log.damaged_to, r->log.prev_index + 1,
                 r->log.last_index);
        want(r, r->log.damaged_from, r->log.damaged_to);
    }
}

/* All that was asked is answered. */
static void decide(struct repair *r)
{
    if (r->by_vow) {
        if (all_voters_answered(r)) {
            finish_by_vow(r);
        }
        return;
    }
    try_exactly(r);
    if (r->is_over || !all_voters_answered(r)) {
        return;
    }
    if (!r->is_wide && r->first > r->log.prev_index + 1) {
        r->is_wide = true; /* a page of earlier times may fit at its front */
        want(r, r->log.prev_index + 1, r->log.damaged_to);
    } else {
        begin_vow(r, "no other member has these entries");
    }
}

static void tell_who_is_missing(struct repair *r)
{
    uint64_t now_ms = clock_ms();

    if (now_ms - r->told_ms < TELL_MS) {
        return;
    }
    r->told_ms = now_ms;
    for (size_t i = 0; i < r->n_sources; i++) {
        const struct source *s = r->sources[i];

        if (!s->is_done || !s->is_sound) {
            log_line(LOG_WARN,
                     "repairing raft.db: waiting for member %" PRIx64
                     " (%s), which %s",
                     s->id, s->address,
                     s->is_done ? "is being repaired itself"
                                : "does not answer");
        }
    }
}

static void on_step(evutil_socket_t fd, short what, void *arg)
{
    struct repair *r = arg;

    (void)fd;
    (void)what;
    decide(r);
    if (r->is_over) {
        return;
    }
    tell_who_is_missing(r);
    for (size_t i = 0; i < r->n_sources; i++) {
        if (r->sources[i]->is_done && !r->sources[i]->is_sound) {
            forget_entries(r->sources[i]); /* it may have more by now */
        }
        ask(r->sources[i]);
    }
}

static void run(struct repair *r)
{
    struct timeval step = {.tv_usec = STEP_MS * 1000};
    struct event *timer =
        event_new(r->config->base, -1, EV_PERSIST, on_step, r);

    event_add(timer, &step);
    event_active(timer, EV_TIMEOUT, 0);
    while (!r->is_over && !*r->config->stop) {
        rpc_loop_flush(r->config->loop);
        event_base_loop(r->config->base, EVLOOP_ONCE);
    }
    event_free(timer);
}

static void release(struct repair *r)
{
    for (size_t i = 0; i < r->n_sources; i++) {
        rpc_channel_free(r->sources[i]->channel);
        forget_entries(r->sources[i]);
        free(r->sources[i]->address);
        free(r->sources[i]);
    }
    store_salvage_release(&r->log);
    free(r);
}

enum repair_result repair_log(const struct repair_config *config)
{
    struct repair *r = mem_alloc(1, sizeof(*r));
    const struct fetch_source source = {
        .context = r, .describe = describe, .entry_at = salvaged};
    char error[ERROR_BYTES];
    enum repair_result result;

    r->config = config;
    r->result = REPAIR_STOPPED;
    r->told_ms = clock_ms();
    if (!store_salvage_read(config->path, NULL, config->is_settled,
                            config->cluster_id, config->self, &r->log, error,
                            sizeof(error))) {
        log_die("%s", error);
    }
    find_sources(r);
    if (r->n_sources == 0) {
        log_die("%s; there is no other member to repair it from", config->why);
    }
    log_line(LOG_WARN, "%s; repairing it before anything else", config->why);
    fetch_set_source(config->fetch, config->cluster_id, config->self, &source);
    begin(r);
    run(r);
    fetch_set_source(config->fetch, config->cluster_id, config->self, NULL);
    result = r->result;
    release(r);
    return result;
}
