/*
 * cluster.c - see cluster.h.
 */
#include "tests/raft/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAIL_IF(broken, ...)                                                   \
    do {                                                                       \
        if (broken) {                                                          \
            fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                    \
            fprintf(stderr, __VA_ARGS__);                                      \
            fprintf(stderr, "\n");                                             \
            abort();                                                           \
        }                                                                      \
    } while (0)

#define GROW(array, n, capacity)                                               \
    do {                                                                       \
        if ((n) == (capacity)) {                                               \
            (capacity) = 2 * (capacity) + 16;                                  \
            (array) = raft_realloc((array), (capacity), sizeof(*(array)));     \
        }                                                                      \
    } while (0)

typedef unsigned long long ull;

const char *message_type_name(enum raft_message_type type)
{
    static const char *const names[TYPES_MAX] = {
        "",
        "PreVote",
        "PreVoteResponse",
        "RequestVote",
        "RequestVoteResponse",
        "AppendEntries",
        "AppendEntriesResponse",
        "Heartbeat",
        "HeartbeatResponse",
        "TimeoutNow",
        "ReadIndex",
        "ReadIndexResponse",
    };
    return names[type];
}

const char *role_name(enum raft_role role)
{
    static const char *const names[] = {"follower", "pre-candidate",
                                        "candidate", "leader"};
    return names[role];
}

struct server *cluster_at(struct cluster *c, raft_id id)
{
    FAIL_IF(id == 0 || id > c->n, "no server %llu", (ull)id);
    return &c->servers[id - 1];
}

/* ---- copies ----------------------------------------------------------------
 */

static struct raft_entry copy_entry(const struct raft_entry *e)
{
    struct raft_entry copy = *e;
    uint8_t *data = NULL;

    if (e->size > 0) {
        data = raft_alloc(e->size, 1);
        memcpy(data, e->data, e->size);
    }
    copy.data = data;
    return copy;
}

static void release_entries(struct raft_entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        raft_free((void *)entries[i].data);
    }
}

static struct raft_message copy_message(const struct raft_message *m)
{
    struct raft_message copy = *m;
    struct raft_entry *entries;

    copy.entries = NULL;
    if (m->n_entries > 0) {
        entries = raft_alloc(m->n_entries, sizeof(*entries));
        for (size_t i = 0; i < m->n_entries; i++) {
            entries[i] = copy_entry(&m->entries[i]);
        }
        copy.entries = entries;
    }
    return copy;
}

static void release_message(struct raft_message *m)
{
    release_entries((struct raft_entry *)m->entries, m->n_entries);
    raft_free((void *)m->entries);
}

/* ---- oracles
 * ----------------------------------------------------------------- */

static uint64_t digest_of(const struct raft_entry *e)
{
    uint64_t h = UINT64_C(14695981039346656037) ^ (uint64_t)e->type;

    for (size_t i = 0; i < e->size; i++) {
        h = (h ^ e->data[i]) * UINT64_C(1099511628211);
    }
    return h;
}

static struct known_index *known_at(struct cluster *c, raft_index i)
{
    if (i >= c->n_known) {
        size_t n = (size_t)i * 2 + 64;

        c->known = raft_realloc(c->known, n, sizeof(*c->known));
        memset(c->known + c->n_known, 0, (n - c->n_known) * sizeof(*c->known));
        c->n_known = n;
    }
    return &c->known[i];
}

/* O3, by induction: an entry fixes the one before it. */
static void learn_entry(struct cluster *c, const struct raft_entry *e,
                        raft_term prev_term)
{
    struct known_index *k = known_at(c, e->index);
    uint64_t digest = digest_of(e);

    for (size_t i = 0; i < k->n; i++) {
        if (k->entries[i].term == e->term) {
            FAIL_IF(k->entries[i].prev_term != prev_term ||
                        k->entries[i].digest != digest,
                    "O3: two entries at index %llu term %llu", (ull)e->index,
                    (ull)e->term);
            return;
        }
    }
    k->entries = raft_realloc(k->entries, k->n + 1, sizeof(*k->entries));
    k->entries[k->n++] = (struct known_entry){e->term, prev_term, digest};
    if (e->type == RAFT_ENTRY_CONFIG) {
        struct known_configuration *known;

        GROW(c->configurations, c->n_configurations,
             c->configurations_capacity);
        known = &c->configurations[c->n_configurations++];
        known->index = e->index;
        known->term = e->term;
        FAIL_IF(
            !raft_configuration_decode(&known->configuration, e->data, e->size),
            "malformed configuration at %llu", (ull)e->index);
    }
}

static raft_term disk_term(const struct disk *d, raft_index i)
{
    if (i == d->prev_index) {
        return d->prev_term;
    }
    if (i < d->prev_index || i > d->prev_index + d->n_entries) {
        return 0;
    }
    return d->entries[i - d->prev_index - 1].term;
}

static bool holds(const struct cluster *c, raft_id id,
                  const struct raft_entry *e)
{
    const struct disk *d = &c->servers[id - 1].disk;

    return d->prev_index > e->index || disk_term(d, e->index) == e->term;
}

/* More than half of those that vote in the old (0) or the new (1) half. */
static bool is_majority(const struct cluster *c,
                        const struct raft_configuration *k,
                        const struct raft_entry *e, bool in_new)
{
    size_t n = 0, synced = 0;

    for (size_t i = 0; i < k->n_servers; i++) {
        enum raft_server_role role = k->servers[i].role;

        if (role == RAFT_VOTER || (in_new ? role == RAFT_VOTER_JOINING
                                          : role == RAFT_VOTER_LEAVING ||
                                                role == RAFT_VOTER_DEMOTING)) {
            n++;
            synced += holds(c, k->servers[i].id, e);
        }
    }
    return synced > n / 2;
}

/*
 * A leader counts by the newest configuration in its log. Which one that was we
 * do not know here, but it was not superseded by a committed one below e.
 */
static bool quorum_holds(const struct cluster *c, const struct raft_entry *e)
{
    raft_index newest = 0;

    for (size_t i = 0; i < c->n_configurations; i++) {
        raft_index at = c->configurations[i].index;

        if (at <= e->index && at > newest && c->known[at].is_committed &&
            c->known[at].committed.term == c->configurations[i].term) {
            newest = at;
        }
    }
    for (size_t i = 0; i < c->n_configurations; i++) {
        const struct known_configuration *k = &c->configurations[i];

        if (k->index >= newest && is_majority(c, &k->configuration, e, false) &&
            is_majority(c, &k->configuration, e, true)) {
            return true;
        }
    }
    return false;
}

static void check_applied(struct cluster *c, struct server *s,
                          const struct raft_entry *e)
{
    struct known_index *k = known_at(c, e->index);
    struct known_entry is = {e->term, 0, digest_of(e)};

    FAIL_IF(disk_term(&s->disk, e->index) != e->term,
            "O6: %llu applies %llu, which it has not synced", (ull)s->id,
            (ull)e->index);
    if (k->is_committed) {
        FAIL_IF(k->committed.term != is.term ||
                    k->committed.digest != is.digest,
                "O5: %llu applies another entry at %llu", (ull)s->id,
                (ull)e->index);
        return;
    }
    FAIL_IF(c->only == 0 && !quorum_holds(c, e),
            "O6: %llu applies %llu, which no quorum has synced", (ull)s->id,
            (ull)e->index);
    k->is_committed = true;
    k->committed = is;
}

static enum raft_server_role role_of(const struct raft_configuration *k,
                                     raft_id id)
{
    for (size_t i = 0; i < k->n_servers; i++) {
        if (k->servers[i].id == id) {
            return k->servers[i].role;
        }
    }
    return RAFT_LEARNER;
}

static void check_new_leader(struct cluster *c, struct server *s)
{
    raft_term term = raft_term_now(s->raft);
    const struct raft_configuration *k = raft_configuration_now(s->raft);

    if (term >= c->n_leaders) {
        size_t n = (size_t)term * 2 + 16;

        c->leaders = raft_realloc(c->leaders, n, sizeof(*c->leaders));
        memset(c->leaders + c->n_leaders, 0,
               (n - c->n_leaders) * sizeof(*c->leaders));
        c->n_leaders = n;
    }
    FAIL_IF(c->leaders[term] != 0 && c->leaders[term] != s->id,
            "O1: %llu and %llu lead in term %llu", (ull)c->leaders[term],
            (ull)s->id, (ull)term);
    FAIL_IF(role_of(k, s->id) == RAFT_LEARNER, "A16: %llu leads: no voter",
            (ull)s->id);
    FAIL_IF(s->is_installing, "A11: %llu leads while it installs", (ull)s->id);
    c->leaders[term] = s->id;
    for (raft_index i = raft_first_index(s->raft); i < c->n_known; i++) {
        const struct raft_entry *e = raft_entry_at(s->raft, i);

        FAIL_IF(c->known[i].is_committed &&
                    (e == NULL || e->term != c->known[i].committed.term),
                "O4: leader %llu of term %llu lacks committed %llu", (ull)s->id,
                (ull)term, (ull)i);
    }
}

/* After each call into a server's core. */
static void check_server(struct cluster *c, struct server *s)
{
    raft_index commit = raft_commit_index(s->raft);

    FAIL_IF(commit < s->commit_seen && s->starts == 0, "O7: commit fell");
    s->commit_seen = commit;
    FAIL_IF(raft_term_now(s->raft) < s->term_seen, "O7: term fell");
    if (raft_role(s->raft) == RAFT_LEADER &&
        (s->role_seen != RAFT_LEADER ||
         s->term_seen != raft_term_now(s->raft))) {
        check_new_leader(c, s);
    }
    s->role_seen = raft_role(s->raft);
    s->term_seen = raft_term_now(s->raft);
}

static void note_vote(struct cluster *c, raft_id voter, raft_term term,
                      raft_id candidate)
{
    if (term >= c->n_votes[voter]) {
        size_t n = (size_t)term * 2 + 16, old = c->n_votes[voter];

        c->votes[voter] =
            raft_realloc(c->votes[voter], n, sizeof(*c->votes[voter]));
        memset(c->votes[voter] + old, 0, (n - old) * sizeof(*c->votes[voter]));
        c->n_votes[voter] = n;
    }
    FAIL_IF(c->votes[voter][term] != 0 && c->votes[voter][term] != candidate,
            "O2: %llu votes for %llu and %llu in term %llu", (ull)voter,
            (ull)c->votes[voter][term], (ull)candidate, (ull)term);
    c->votes[voter][term] = candidate;
}

/* O6: what does this message claim, and is it on the sender's disk? */
static void check_sent(struct cluster *c, struct server *s,
                       const struct raft_message *m)
{
    const struct disk *d = &s->disk;
    bool is_future = m->type == RAFT_PRE_VOTE ||
                     (m->type == RAFT_PRE_VOTE_RESPONSE && !m->reject);
    const char *name = message_type_name(m->type);

    FAIL_IF(m->from != s->id || m->to == s->id || m->term == 0,
            "%s is from %llu to %llu, term %llu", name, (ull)m->from,
            (ull)m->to, (ull)m->term);
    FAIL_IF(!is_future && m->term != d->hard_state.term,
            "O6: %llu sends %s of term %llu, synced is %llu", (ull)s->id, name,
            (ull)m->term, (ull)d->hard_state.term);
    if (m->type == RAFT_REQUEST_VOTE || m->type == RAFT_PRE_VOTE) {
        FAIL_IF(disk_term(d, m->log_index) != m->log_term,
                "O6 A5: %llu sends %s with an unsynced last entry", (ull)s->id,
                name);
    }
    if (m->type == RAFT_REQUEST_VOTE ||
        (m->type == RAFT_REQUEST_VOTE_RESPONSE && !m->reject)) {
        raft_id candidate = m->type == RAFT_REQUEST_VOTE ? s->id : m->to;

        FAIL_IF(d->hard_state.voted_for != candidate,
                "O6 A1: %llu sends %s, its synced vote is %llu", (ull)s->id,
                name, (ull)d->hard_state.voted_for);
        note_vote(c, s->id, m->term, candidate);
    }
    if (m->type == RAFT_APPEND_ENTRIES_RESPONSE && !m->reject) {
        FAIL_IF(m->log_index > d->prev_index + d->n_entries,
                "O6: %llu acknowledges %llu unsynced", (ull)s->id,
                (ull)m->log_index);
    }
}

static void check_read(struct cluster *c, struct server *s,
                       const struct raft_read_result *result)
{
    (void)c;
    for (size_t i = 0; i < s->n_asked; i++) {
        if (s->asked[i].context != result->context) {
            continue;
        }
        FAIL_IF(result->ok && result->index < s->asked[i].floor,
                "stale read: %llu got %llu, %llu was applied", (ull)s->id,
                (ull)result->index, (ull)s->asked[i].floor);
        s->asked[i] = s->asked[--s->n_asked];
        s->reads_ok += result->ok;
        s->reads_failed += !result->ok;
        s->last_read = *result;
        return;
    }
    FAIL_IF(true, "read %llu answered twice", (ull)result->context);
}

/* ---- disks
 * ---------------------------------------------------------------------- */

static void disk_begin(struct disk *d, const struct raft_ready *rd)
{
    GROW(d->writes, d->n_writes, d->writes_capacity);
    d->writes[d->n_writes++] = (struct disk_write){
        .batch = rd->batch,
        .restore = rd->restore,
        .truncate_from = rd->truncate_from,
        .entries = (struct raft_entry *)rd->entries,
        .n_entries = rd->n_entries,
        .has_hard_state = rd->hard_state_changed,
        .hard_state = rd->hard_state,
    };
}

static void disk_cut(struct disk *d, raft_index from)
{
    size_t keep = (size_t)(from - d->prev_index - 1);

    FAIL_IF(from <= d->prev_index || keep > d->n_entries,
            "disk: cut at %llu of [%llu, +%zu]", (ull)from, (ull)d->prev_index,
            d->n_entries);
    release_entries(d->entries + keep, d->n_entries - keep);
    d->n_entries = keep;
}

static void copy_snapshot(struct raft_snapshot *to,
                          const struct raft_snapshot *from)
{
    size_t size;
    uint8_t *data = raft_configuration_encode(&from->configuration, &size);

    raft_configuration_release(&to->configuration);
    *to = *from;
    (void)raft_configuration_decode(&to->configuration, data, size);
    raft_free(data);
}

static void disk_restore(struct disk *d, const struct raft_snapshot *s)
{
    struct raft_snapshot copy = {0};

    copy_snapshot(&copy, s);
    release_entries(d->entries, d->n_entries);
    d->n_entries = 0;
    d->prev_index = s->index;
    d->prev_term = s->term;
    raft_configuration_release(&d->configuration);
    d->configuration = copy.configuration;
}

/* Reads the entries now: they must still be good. */
static void disk_finish(struct cluster *c, struct disk *d)
{
    struct disk_write w = d->writes[0];

    if (w.restore != NULL) {
        disk_restore(d, w.restore);
    }
    if (w.truncate_from != 0) {
        disk_cut(d, w.truncate_from);
    }
    for (size_t i = 0; i < w.n_entries; i++) {
        raft_index last = d->prev_index + d->n_entries;

        FAIL_IF(w.entries[i].index != last + 1, "disk: %llu put behind %llu",
                (ull)w.entries[i].index, (ull)last);
        learn_entry(c, &w.entries[i], disk_term(d, last));
        GROW(d->entries, d->n_entries, d->capacity);
        d->entries[d->n_entries++] = copy_entry(&w.entries[i]);
    }
    if (w.has_hard_state) {
        d->hard_state = w.hard_state;
    }
    d->n_writes--;
    memmove(d->writes, d->writes + 1, d->n_writes * sizeof(*d->writes));
}

static void disk_compact(struct disk *d, raft_index index)
{
    size_t n = (size_t)(index - d->prev_index);

    for (size_t i = 0; i < n; i++) {
        const struct raft_entry *e = &d->entries[i];

        if (e->type == RAFT_ENTRY_CONFIG) {
            raft_configuration_release(&d->configuration);
            (void)raft_configuration_decode(&d->configuration, e->data,
                                            e->size);
        }
    }
    d->prev_term = disk_term(d, index);
    d->prev_index = index;
    release_entries(d->entries, n);
    d->n_entries -= n;
    memmove(d->entries, d->entries + n, d->n_entries * sizeof(*d->entries));
}

/* ---- life
 * ------------------------------------------------------------------------- */

static void start(struct server *s, raft_index applied)
{
    struct disk *d = &s->disk;
    struct raft_start from = {
        .hard_state = d->hard_state,
        .first_prev_index = d->prev_index,
        .first_prev_term = d->prev_term,
        .configuration = d->prev_index > 0 ? &d->configuration : NULL,
        .entries = d->entries,
        .n_entries = d->n_entries,
        .last_applied = applied,
        .snapshot = s->installed.index > 0 ? &s->installed : NULL,
    };

    s->config.seed += s->starts * 7919;
    s->raft = raft_new(&s->config, &from);
    s->applied = applied;
    s->commit_seen = 0;
    s->role_seen = RAFT_FOLLOWER;
}

static void make_configuration(struct cluster *c)
{
    struct raft_configuration *k = &c->configuration;

    k->n_servers = c->n - c->options.n_spares;
    k->servers = raft_alloc(k->n_servers, sizeof(*k->servers));
    for (size_t i = 0; i < k->n_servers; i++) {
        k->servers[i].id = i + 1;
        k->servers[i].role =
            i < c->options.n_voters ? RAFT_VOTER : RAFT_LEARNER;
    }
}

static void make_server(struct cluster *c, raft_id id)
{
    struct server *s = cluster_at(c, id);
    struct raft_entry first = {
        .index = 1, .term = 1, .type = RAFT_ENTRY_CONFIG};
    uint8_t *data = raft_configuration_encode(&c->configuration, &first.size);

    first.data = data;
    s->id = id;
    raft_config_defaults(&s->config);
    if (c->options.config != NULL) {
        s->config = *c->options.config;
    }
    s->config.id = id;
    s->config.seed = c->options.seed;
    s->config.no_pre_vote = c->options.no_pre_vote;
    s->config.no_check_quorum = c->options.no_check_quorum;

    if (id <= c->n - c->options.n_spares) {
        GROW(s->disk.entries, s->disk.n_entries, s->disk.capacity);
        s->disk.entries[s->disk.n_entries++] = copy_entry(&first);
        s->disk.hard_state = (struct raft_hard_state){1, 0, 1};
        learn_entry(c, &first, 0);
    }
    raft_free(data);
    start(s, 0);
}

struct cluster *cluster_new(const struct cluster_options *o)
{
    struct cluster *c = raft_alloc(1, sizeof(*c));

    c->options = *o;
    c->n = o->n_voters + o->n_learners + o->n_spares;
    FAIL_IF(c->n > SERVERS_MAX, "too many servers");
    c->servers = raft_alloc(c->n, sizeof(*c->servers));
    make_configuration(c);
    for (raft_id id = 1; id <= c->n; id++) {
        make_server(c, id);
    }
    return c;
}

static void release_server(struct server *s)
{
    raft_free_all(s->raft);
    release_entries(s->disk.entries, s->disk.n_entries);
    raft_free(s->disk.entries);
    raft_free(s->disk.writes);
    raft_configuration_release(&s->disk.configuration);
    raft_configuration_release(&s->installed.configuration);
    raft_configuration_release(&s->incoming.configuration);
    raft_free(s->asked);
}

static void drop_transfer(struct cluster *c, size_t i)
{
    raft_configuration_release(&c->transfers[i].snapshot.configuration);
    c->n_transfers--;
    memmove(c->transfers + i, c->transfers + i + 1,
            (c->n_transfers - i) * sizeof(*c->transfers));
}

void cluster_free(struct cluster *c)
{
    for (size_t i = 0; i < c->n; i++) {
        release_server(&c->servers[i]);
        raft_free(c->votes[i + 1]);
    }
    for (size_t i = 0; i < c->n_packets; i++) {
        release_message(&c->packets[i].message);
    }
    for (size_t i = 0; i < c->n_known; i++) {
        raft_free(c->known[i].entries);
    }
    while (c->n_transfers > 0) {
        drop_transfer(c, 0);
    }
    for (size_t i = 0; i < c->n_configurations; i++) {
        raft_configuration_release(&c->configurations[i].configuration);
    }
    raft_free(c->configurations);
    raft_free(c->transfers);
    raft_configuration_release(&c->configuration);
    raft_free(c->known);
    raft_free(c->leaders);
    raft_free(c->packets);
    raft_free(c->servers);
    raft_free(c);
}

/* ---- work
 * ----------------------------------------------------------------------------
 */

static void send_packet(struct cluster *c, const struct raft_message *m)
{
    c->sent[m->type]++;
    if (c->dropped[m->type]) {
        return;
    }
    GROW(c->packets, c->n_packets, c->packets_capacity);
    c->packets[c->n_packets++].message = copy_message(m);
}

struct raft_snapshot cluster_snapshot(struct cluster *c, raft_id from)
{
    struct server *s = cluster_at(c, from);
    struct raft_snapshot now = {
        .index = s->applied,
        .term = disk_term(&s->disk, s->applied),
        .configuration = *raft_configuration_at(s->raft, s->applied),
    };
    struct raft_snapshot copy = {0};

    copy_snapshot(&copy, &now);
    return copy;
}

static void begin_transfer(struct cluster *c, struct server *s, raft_id to)
{
    GROW(c->transfers, c->n_transfers, c->transfers_capacity);
    c->transfers[c->n_transfers++] =
        (struct transfer){s->id, to, cluster_snapshot(c, s->id)};
    c->n_told++;
}

/* An entry that is applied is committed, so what the term of the last one is
 * is known: a snapshot says the same. */
static void check_snapshot(struct cluster *c, const struct raft_snapshot *s)
{
    const struct known_index *k = known_at(c, s->index);

    FAIL_IF(!k->is_committed || k->committed.term != s->term,
            "D5: a snapshot of %llu, which is not committed", (ull)s->index);
}

void cluster_work(struct cluster *c, struct server *s)
{
    struct raft_ready rd;

    while (s->raft != NULL && raft_ready(s->raft, &rd)) {
        if (rd.batch != 0) {
            disk_begin(&s->disk, &rd);
        }
        for (size_t i = 0; i < rd.n_messages; i++) {
            check_sent(c, s, &rd.messages[i]);
            send_packet(c, &rd.messages[i]);
        }
        for (size_t i = 0; i < rd.n_committed; i++) {
            FAIL_IF(rd.committed[i].index != s->applied + 1,
                    "O7: %llu applied behind %llu", (ull)rd.committed[i].index,
                    (ull)s->applied);
            check_applied(c, s, &rd.committed[i]);
            s->applied++;
        }
        if (s->applied > c->applied_max) {
            c->applied_max = s->applied;
        }
        for (size_t i = 0; i < rd.n_reads; i++) {
            check_read(c, s, &rd.reads[i]);
        }
        FAIL_IF(rd.n_committed > 0 && s->is_installing,
                "D6: %llu applies while it installs", (ull)s->id);
        for (size_t i = 0; i < rd.n_snapshots; i++) {
            begin_transfer(c, s, rd.snapshots[i]);
        }
        raft_advance(s->raft);
        check_server(c, s);
    }
}

void cluster_sync(struct cluster *c, struct server *s, size_t n)
{
    while (s->raft != NULL && n > 0 && s->disk.n_writes > 0) {
        uint64_t batch = s->disk.writes[0].batch;

        disk_finish(c, &s->disk);
        raft_stable(s->raft, batch);
        check_server(c, s);
        n--;
    }
}

void cluster_lose(struct cluster *c, size_t i)
{
    release_message(&c->packets[i].message);
    c->n_packets--;
    memmove(c->packets + i, c->packets + i + 1,
            (c->n_packets - i) * sizeof(*c->packets));
}

/* A test elects somebody else. */
static bool is_rival(const struct cluster *c, const struct raft_message *m)
{
    return c->elected != 0 && m->from != c->elected &&
           (m->type == RAFT_PRE_VOTE || m->type == RAFT_REQUEST_VOTE);
}

enum raft_status cluster_deliver_copy(struct cluster *c, size_t i)
{
    const struct raft_message *m = &c->packets[i].message;
    struct server *s = cluster_at(c, m->to);
    enum raft_status st = RAFT_OK;

    if (s->raft != NULL && !c->cut[m->from][m->to] && !is_rival(c, m)) {
        st = raft_step(s->raft, m);
        check_server(c, s);
    }
    return st;
}

static bool is_member(const struct raft_configuration *k, raft_id id)
{
    for (size_t i = 0; i < k->n_servers; i++) {
        if (k->servers[i].id == id) {
            return true;
        }
    }
    return false;
}

enum raft_status cluster_deliver(struct cluster *c, size_t i)
{
    raft_id from = c->packets[i].message.from;
    struct server *s = cluster_at(c, c->packets[i].message.to);
    bool knows =
        s->raft == NULL || is_member(raft_configuration_now(s->raft), from);
    enum raft_status st = cluster_deliver_copy(c, i);

    FAIL_IF(st != RAFT_OK && knows, "%s of %llu is called bad by %llu",
            message_type_name(c->packets[i].message.type),
            (ull)c->packets[i].message.from, (ull)c->packets[i].message.to);
    cluster_lose(c, i);
    return st;
}

static bool is_held(const struct cluster *c, const struct raft_message *m)
{
    return c->held[m->type] &&
           (c->held_from[m->type] == 0 || c->held_from[m->type] == m->from);
}

void cluster_settle(struct cluster *c)
{
    bool moved = true;

    for (unsigned round = 0; moved; round++) {
        size_t i = 0;

        FAIL_IF(round > 100000, "the cluster does not come to rest");
        moved = false;
        for (size_t k = 0; k < c->n; k++) {
            struct server *s = &c->servers[k];

            cluster_work(c, s);
            if (!s->disk.held && s->disk.n_writes > 0 && s->raft != NULL) {
                cluster_sync(c, s, s->disk.n_writes);
                moved = true;
            }
            cluster_work(c, s);
        }
        for (size_t n = c->transfers_held ? 0 : c->n_transfers; n > 0; n--) {
            cluster_transfer_arrives(c, 0, true);
            moved = true;
        }
        /* Only those that are there now; answers come in the next round. */
        for (size_t n = c->n_packets; n > 0; n--) {
            if (is_held(c, &c->packets[i].message)) {
                i++;
            } else {
                cluster_deliver(c, i);
                moved = true;
            }
        }
    }
}

void cluster_tick_one(struct cluster *c, raft_id id, unsigned n)
{
    struct server *s = cluster_at(c, id);

    for (; n > 0 && s->raft != NULL; n--) {
        raft_tick(s->raft);
        check_server(c, s);
        cluster_settle(c);
    }
}

void cluster_tick(struct cluster *c, unsigned n)
{
    for (; n > 0; n--) {
        for (size_t i = 0; i < c->n; i++) {
            if (c->servers[i].raft != NULL) {
                raft_tick(c->servers[i].raft);
                check_server(c, &c->servers[i]);
            }
        }
        cluster_settle(c);
    }
}

/* ---- faults
 * -------------------------------------------------------------------------- */

void cluster_crash(struct cluster *c, raft_id id, size_t n_survive)
{
    struct server *s = cluster_at(c, id);

    while (n_survive-- > 0 && s->disk.n_writes > 0) {
        disk_finish(c, &s->disk);
    }
    s->disk.n_writes = 0;
    s->n_asked = 0;
    s->is_installing = false; /* the old state is still in place */
    raft_free_all(s->raft);
    s->raft = NULL;
    /* What was only in memory may be forgotten. */
    s->term_seen = s->disk.hard_state.term;
}

void cluster_restart(struct cluster *c, raft_id id, raft_index applied)
{
    struct server *s = cluster_at(c, id);

    FAIL_IF(s->raft != NULL, "%llu runs", (ull)id);
    FAIL_IF(applied > s->applied, "applied never rises by a restart");
    if (applied < s->disk.prev_index) {
        applied = s->disk.prev_index;
    }
    if (applied < s->installed.index) {
        applied = s->installed.index;
    }
    s->starts++;
    start(s, applied);
    check_server(c, s);
}

void cluster_compact(struct cluster *c, raft_id id, raft_index index)
{
    struct server *s = cluster_at(c, id);

    if (s->raft != NULL && index > s->disk.prev_index && index <= s->applied) {
        raft_compact(s->raft, index);
        disk_compact(&s->disk, index);
        check_server(c, s);
    }
}

/* ---- snapshots
 * ------------------------------------------------------------------------- */

static void tell_sender(struct cluster *c, raft_id from, raft_id to,
                        raft_index index, bool ok)
{
    struct server *s = cluster_at(c, from);

    if (s->raft != NULL) {
        raft_snapshot_sent(s->raft, to, index, ok);
        check_server(c, s);
    }
}

void cluster_transfer_fails(struct cluster *c, size_t i)
{
    struct transfer *t = &c->transfers[i];

    tell_sender(c, t->from, t->to, t->snapshot.index, false);
    drop_transfer(c, i);
}

void cluster_transfer_arrives(struct cluster *c, size_t i, bool at_once)
{
    struct transfer *t = &c->transfers[i];
    struct server *s = cluster_at(c, t->to);
    enum raft_status st;

    if (s->raft == NULL || c->cut[t->from][t->to] || s->is_installing) {
        cluster_transfer_fails(c, i);
        return;
    }
    st = raft_restore_begin(s->raft, &t->snapshot);
    check_server(c, s);
    FAIL_IF(st == RAFT_BAD_SNAPSHOT, "%llu calls a good snapshot bad",
            (ull)s->id);
    if (st == RAFT_OK) {
        copy_snapshot(&s->incoming, &t->snapshot);
        s->incoming_from = t->from;
        s->is_installing = true;
        drop_transfer(c, i);
        if (at_once) {
            cluster_install(c, s, true);
        }
        return;
    }
    /* It has all that the snapshot has, or is busy with another. */
    tell_sender(c, t->from, t->to, t->snapshot.index,
                st == RAFT_STALE_SNAPSHOT);
    drop_transfer(c, i);
}

void cluster_install(struct cluster *c, struct server *s, bool ok)
{
    FAIL_IF(!s->is_installing, "%llu installs nothing", (ull)s->id);
    s->is_installing = false;
    if (ok) {
        check_snapshot(c, &s->incoming);
        FAIL_IF(s->incoming.index <= s->applied, "O7: applied falls by a "
                                                 "snapshot");
        copy_snapshot(&s->installed, &s->incoming);
        s->applied = s->installed.index;
        c->n_restores++;
    }
    raft_restore_end(s->raft, ok);
    check_server(c, s);
    tell_sender(c, s->incoming_from, s->id, s->incoming.index, ok);
}

/* ---- members
 * ---------------------------------------------------------------------------
 */

void cluster_parse_members(struct raft_configuration *k, const char *members)
{
    *k = (struct raft_configuration){0};
    k->servers = raft_alloc(SERVERS_MAX, sizeof(*k->servers));
    while (*members != '\0') {
        char *end;
        raft_id id = strtoull(members, &end, 10);

        FAIL_IF(end == members, "not members: %s", members);
        k->servers[k->n_servers++] =
            (struct raft_server){id, *end == 'l' ? RAFT_LEARNER : RAFT_VOTER};
        end += *end == 'l';
        end += *end == ' ' || *end == ',';
        members = end;
    }
}

const char *cluster_members_text(const struct raft_configuration *k)
{
    static const char *const marks[] = {"l", "", "+", "-", "d"};
    static char text[8 * SERVERS_MAX + 1];
    int n = 0;

    text[0] = '\0';
    for (size_t i = 0; i < k->n_servers; i++) {
        n += snprintf(text + n, sizeof(text) - (size_t)n, "%s%llu%s",
                      i > 0 ? " " : "", (ull)k->servers[i].id,
                      marks[k->servers[i].role]);
    }
    return text;
}

enum raft_status cluster_members(struct cluster *c, raft_id id,
                                 const char *members, raft_index *index)
{
    struct server *s = cluster_at(c, id);
    struct raft_configuration k;
    raft_index place;
    enum raft_status st;

    cluster_parse_members(&k, members);
    st = raft_propose_configuration(s->raft, &k, &place);
    if (st == RAFT_OK && index != NULL) {
        *index = place;
    }
    raft_configuration_release(&k);
    check_server(c, s);
    return st;
}

void cluster_cut(struct cluster *c, raft_id from, raft_id to, bool cut)
{
    c->cut[from][to] = cut;
}

void cluster_isolate(struct cluster *c, raft_id id, bool cut)
{
    for (raft_id other = 1; other <= c->n; other++) {
        c->cut[id][other] = cut;
        c->cut[other][id] = cut;
    }
}

void cluster_heal(struct cluster *c)
{
    memset(c->cut, 0, sizeof(c->cut));
}

void cluster_hold_disk(struct cluster *c, raft_id id, bool held)
{
    cluster_at(c, id)->disk.held = held;
}

/* ---- wishes
 * -----------------------------------------------------------------------------
 */

void cluster_elect(struct cluster *c, raft_id id)
{
    struct server *s = cluster_at(c, id);

    cluster_settle(c);
    c->elected = id;
    for (unsigned i = 0; raft_role(s->raft) != RAFT_LEADER; i++) {
        FAIL_IF(i > 100, "%llu can not be elected", (ull)id);
        for (raft_id other = 1; other <= c->n; other++) {
            /* Let the others forget their leader, but not campaign. */
            struct server *o = cluster_at(c, other);

            if (o->raft != NULL && other != id &&
                i < s->config.election_ticks &&
                raft_role(o->raft) == RAFT_FOLLOWER) {
                raft_tick(o->raft);
            }
        }
        cluster_tick_one(c, id, 1);
    }
    c->elected = 0;
}

raft_id cluster_leader(struct cluster *c)
{
    raft_term term = 0;
    raft_id leader = 0;

    for (size_t i = 0; i < c->n; i++) {
        struct raft *r = c->servers[i].raft;

        if (r != NULL && raft_term_now(r) >= term) {
            bool leads = raft_role(r) == RAFT_LEADER;

            leader = leads                      ? c->servers[i].id
                     : raft_term_now(r) == term ? leader
                                                : 0;
            term = raft_term_now(r);
        }
    }
    return leader;
}

enum raft_status cluster_propose(struct cluster *c, raft_id id,
                                 const char *text, raft_index *index)
{
    struct server *s = cluster_at(c, id);
    raft_index place;
    enum raft_status st;

    st = raft_propose(s->raft, text, strlen(text), &place);
    if (st == RAFT_OK && index != NULL) {
        *index = place;
    }
    check_server(c, s);
    return st;
}

enum raft_status cluster_read(struct cluster *c, raft_id id)
{
    struct server *s = cluster_at(c, id);
    uint64_t context = ++c->next_context;
    enum raft_status st = raft_read(s->raft, context);

    if (st == RAFT_OK) {
        GROW(s->asked, s->n_asked, s->asked_capacity);
        s->asked[s->n_asked++] = (struct asked_read){context, c->applied_max};
    }
    return st;
}

size_t cluster_find(const struct cluster *c, enum raft_message_type type,
                    raft_id from, raft_id to)
{
    for (size_t i = 0; i < c->n_packets; i++) {
        const struct raft_message *m = &c->packets[i].message;

        if (m->type == type && (from == 0 || from == m->from) &&
            (to == 0 || to == m->to)) {
            return i;
        }
    }
    return SIZE_MAX;
}
