/*
 * replication.c - what a leader sends its followers, what they answer, and when
 * an entry is committed (3.5, 3.6). Elections: election.c.
 *
 * Appends are built in raft_ready() only, from what each follower's progress
 * allows at that time: so proposals that arrive together travel together, and
 * a message is a pointer into the log. They do not wait for our own disk
 * (10.2.1): we are one voter among others, counted when synced.
 */
#include "raft/internal.h"

/* ---- the leader's view of the members --------------------------------------
 */

struct progress *replication_progress(const struct raft *r, raft_id id)
{
    for (size_t i = 0; i < r->n_progress; i++) {
        if (r->progress[i].id == id) {
            return &r->progress[i];
        }
    }
    return membership_departing(r, id);
}

static void release_progress(struct progress *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        progress_release(&p[i]);
    }
    raft_free(p);
}

/* Servers that stay keep what we know of them. */
void replication_configure(struct raft *r)
{
    const struct raft_configuration *c = raft_members(r);
    struct progress *fresh, *old;

    if (r->role != RAFT_LEADER) {
        return;
    }
    fresh = raft_alloc(c->n_servers, sizeof(*fresh));
    for (size_t i = 0; i < c->n_servers; i++) {
        raft_id id = c->servers[i].id;

        old = replication_progress(r, id);
        if (old != NULL) { /* one that departs stays after all, as well */
            fresh[i] = *old;
            *old = (struct progress){0};
        } else {
            progress_init(&fresh[i], id, log_last_index(&r->log) + 1,
                          r->config.inflight_messages_max, r->now);
        }
    }
    for (size_t i = 0; i < r->n_progress; i++) {
        membership_depart(r, &r->progress[i]);
    }
    raft_free(r->progress);
    r->progress = fresh;
    r->n_progress = c->n_servers;
    r->scratch =
        raft_realloc(r->scratch, 2 * c->n_servers, sizeof(*r->scratch));
}

/*
 * A leader does not know what of the log is committed until an entry of its
 * own term is: so it writes one that does nothing (6.4).
 */
void replication_begin(struct raft *r)
{
    struct raft_entry noop = {
        .index = log_last_index(&r->log) + 1,
        .term = r->current_term,
        .type = RAFT_ENTRY_NOOP,
    };

    ASSERT(r->n_progress == 0);
    replication_configure(r);
    r->term_first_index = noop.index;
    r->uncommitted_bytes = 0;
    r->commit_then = r->commit_sample = r->commit_index;
    r->sampled_at = r->now;
    r->heartbeat_elapsed = 0;
    r->heartbeat_due = false;
    r->round_due = false;
    raft_append(r, &noop);
    replication_stable(r);
}

void replication_end(struct raft *r)
{
    r->leader_all_match = 0; /* until the next leader says */
    release_progress(r->progress, r->n_progress);
    r->progress = NULL;
    r->n_progress = 0;
    membership_forget(r);
    r->uncommitted_bytes = 0;
}

raft_index replication_all_match(const struct raft *r)
{
    raft_index lowest = r->n_progress > 0 ? r->log.stable_index : 0;

    for (size_t i = 0; i < r->n_progress; i++) {
        if (r->progress[i].match_index < lowest) {
            lowest = r->progress[i].match_index;
        }
    }
    return lowest;
}

/* With ourselves as one of them. */
bool replication_quorum_is_heard(const struct raft *r)
{
    uint64_t *values = r->scratch, *spare = r->scratch + r->n_progress;

    for (size_t i = 0; i < r->n_progress; i++) {
        const struct progress *p = &r->progress[i];

        values[i] = p->id == r->config.id ||
                    r->now - p->heard_at < r->config.election_ticks;
    }
    return config_quorum_value(raft_members(r), values, spare) > 0;
}

bool replication_is_recent(const struct raft *r, const struct progress *p)
{
    return p->id == r->config.id ||
           (p->is_heard && r->now - p->heard_at < r->config.election_ticks);
}

const struct progress *replication_furthest(const struct raft *r)
{
    const struct progress *best = NULL;

    for (size_t i = 0; i < r->n_progress; i++) {
        const struct progress *p = &r->progress[i];

        if (p->id != r->config.id && replication_is_recent(r, p) &&
            config_stays_voter(raft_members(r), p->id) &&
            (best == NULL || p->match_index > best->match_index)) {
            best = p;
        }
    }
    return best;
}

/* ---- commit
 * ------------------------------------------------------------------ */

void replication_commit_to(struct raft *r, raft_index index)
{
    ASSERT(index <= log_last_index(&r->log));
    if (index <= r->commit_index) {
        return;
    }
    if (r->role == RAFT_LEADER && r->uncommitted_bytes > 0) {
        for (raft_index i = r->commit_index + 1; i <= index; i++) {
            const struct raft_entry *e = log_at(&r->log, i);

            if (i > r->term_first_index && e->type == RAFT_ENTRY_COMMAND) {
                ASSERT(r->uncommitted_bytes >= e->size);
                r->uncommitted_bytes -= e->size;
            }
        }
    }
    r->commit_index = index;
    membership_note(r);
}

/*
 * Move commit_index up to the highest entry that a quorum holds (B7: each
 * majority counts, not only one that has the newest).
 *
 * Only an entry of our own term commits by counting: an older one can sit on a
 * majority and still be overwritten by a leader that never saw it (3.6.2,
 * figure 3.7; B1). Committing one of ours commits all before it.
 */
static void commit_by_counting(struct raft *r)
{
    uint64_t *values = r->scratch, *spare = r->scratch + r->n_progress;
    raft_index match;

    ASSERT(r->role == RAFT_LEADER);
    for (size_t i = 0; i < r->n_progress; i++) {
        values[i] = r->progress[i].match_index;
    }
    match = config_quorum_value(raft_members(r), values, spare);
    if (match >= r->term_first_index) {
        replication_commit_to(r, match);
    }
}

/* We count ourselves up to what is on our own disk (B6). */
void replication_stable(struct raft *r)
{
    struct progress *self = replication_progress(r, r->config.id);

    ASSERT(r->role == RAFT_LEADER);
    if (self != NULL) {
        self->match_index = r->log.stable_index;
        self->next_index = self->match_index + 1;
        commit_by_counting(r);
    }
}

/* ---- the leader sends
 * --------------------------------------------------------- */

/* Does our log still hold what it needs next? If not, only a snapshot helps. */
static bool is_within_reach(const struct raft *r, const struct progress *p)
{
    return p->next_index >= log_first_index(&r->log);
}

static void send_append(struct raft *r, struct progress *p, size_t n,
                        size_t bytes)
{
    struct raft_message *m = raft_out(r, RAFT_APPEND_ENTRIES, p->id);

    m->log_index = p->next_index - 1;
    m->log_term = log_term(&r->log, m->log_index);
    m->commit = r->commit_index;
    m->n_entries = n;
    m->entries = n > 0 ? log_at(&r->log, p->next_index) : NULL;
    if (p->window_n == 0) {
        p->moved_at = r->now;
    }
    if (p->state == RAFT_PROGRESS_REPLICATE) {
        p->commit_sent = r->commit_index;
    }
    p->nudge = false;
    progress_sent(p, n, bytes);
}

/*
 * With no entries to send, is there still something to say? Yes to a follower
 * that should know of a new commit_index now (its readers and watchers wait),
 * that owes us an answer for suspiciously long, or of which we know nothing.
 */
static bool owes_empty_append(const struct raft *r, const struct progress *p)
{
    if (p->state == RAFT_PROGRESS_PROBE) {
        return !p->probe_sent;
    }
    return p->nudge || (p->next_index > log_last_index(&r->log) &&
                        p->commit_sent < r->commit_index);
}

/* All that the window allows. */
static void fill(struct raft *r, struct progress *p)
{
    raft_index last = log_last_index(&r->log);
    size_t sent = r->n_out;

    if (p->state == RAFT_PROGRESS_SNAPSHOT || !is_within_reach(r, p)) {
        snapshot_ask(r, p);
        return;
    }
    while (p->next_index <= last &&
           progress_may_send(p, r->config.inflight_bytes_max)) {
        size_t bytes, n;

        n = log_fit(&r->log, p->next_index, last, APPEND_ENTRIES_MAX,
                    r->config.append_bytes_max, &bytes);
        send_append(r, p, n, bytes);
    }
    if (r->n_out == sent && owes_empty_append(r, p)) {
        send_append(r, p, 0, 0);
    }
}

void replication_fill(struct raft *r)
{
    ASSERT(raft_vote_batch(r) <= r->log.stable_batch);
    for (size_t i = 0; i < r->n_progress; i++) {
        if (r->progress[i].id != r->config.id) {
            fill(r, &r->progress[i]);
        }
    }
    for (size_t i = 0; i < r->n_departing; i++) {
        struct progress *p = &r->departing[i].progress;

        if (p->state != RAFT_PROGRESS_SNAPSHOT && is_within_reach(r, p)) {
            fill(r, p); /* no snapshot for the sake of a farewell */
        }
    }
}

static void send_heartbeat(struct raft *r, const struct progress *p,
                           raft_index all_match)
{
    raft_index match = p->match_index;

    raft_send(r,
              (struct raft_message){
                  .type = RAFT_HEARTBEAT,
                  .to = p->id,
                  .log_index = all_match,
                  .commit = match < r->commit_index ? match : r->commit_index,
                  .context = r->reads.round,
              },
              0);
}

/* To all when it is time; to the voters as soon as a read waits for them. */
void replication_heartbeats(struct raft *r)
{
    const struct raft_configuration *c = raft_members(r);
    raft_index all_match;

    if (!r->heartbeat_due && !r->round_due) {
        return;
    }
    all_match = replication_all_match(r);
    for (size_t i = 0; i < r->n_progress; i++) {
        const struct progress *p = &r->progress[i];
        bool is_voter = c->servers[i].role != RAFT_LEARNER;

        if (p->id != r->config.id && (r->heartbeat_due || is_voter)) {
            send_heartbeat(r, p, all_match);
        }
    }
    for (size_t i = 0; i < r->n_departing && r->heartbeat_due; i++) {
        send_heartbeat(r, &r->departing[i].progress, all_match);
    }
    r->heartbeat_due = false;
    r->round_due = false;
}

/* ---- the leader hears
 * ------------------------------------------------------------ */

static void take_refusal(struct raft *r, struct progress *p,
                         const struct raft_message *m)
{
    /* Where could we agree? Below the hint, at its term or an older one: a
     * whole term of conflicting entries costs one round trip. */
    raft_index hint = log_find_term(&r->log, m->reject_hint, m->log_term);

    (void)progress_refused(p, m->log_index, hint); /* old news are fine */
}

void replication_append_response(struct raft *r, const struct raft_message *m)
{
    struct progress *p = replication_progress(r, m->from);

    if (r->role != RAFT_LEADER || p == NULL) {
        return;
    }
    p->moved_at = r->now;
    if (m->reject) {
        take_refusal(r, p, m);
        return;
    }
    if (progress_matched(p, m->log_index)) {
        commit_by_counting(r);
        election_transfer_caught_up(r, p);
    }
    if (p->state == RAFT_PROGRESS_SNAPSHOT && is_within_reach(r, p)) {
        progress_become_probe(p, p->next_index); /* it has got one */
    }
}

/*
 * It lives, yet it has not answered an append for a heartbeat's time: that, or
 * the answer, may be lost. Ask again, or it would wait for ever (B12). Not
 * sooner, since reads cause heartbeats at any rate.
 */
static void look_for_loss(struct raft *r, struct progress *p)
{
    if (p->match_index >= log_last_index(&r->log) ||
        r->now - p->moved_at < r->config.heartbeat_ticks) {
        return;
    }
    p->moved_at = r->now;
    if (p->state == RAFT_PROGRESS_PROBE) {
        p->probe_sent = false;
    } else {
        p->nudge = p->window_n > 0;
    }
}

void replication_heartbeat_response(struct raft *r,
                                    const struct raft_message *m)
{
    struct progress *p = replication_progress(r, m->from);

    if (r->role != RAFT_LEADER || p == NULL) {
        return;
    }
    look_for_loss(r, p);
    if (m->context > p->round_acked) {
        p->round_acked = m->context;
        read_confirm(r);
    }
}

/* ---- the follower
 * ------------------------------------------------------------------ */

static bool entry_is_sane(const struct raft_entry *e)
{
    struct raft_configuration c;
    bool ok;

    if (e->type < RAFT_ENTRY_COMMAND || e->type > RAFT_ENTRY_CONFIG ||
        (e->size > 0 && e->data == NULL)) {
        return false;
    }
    if (e->type != RAFT_ENTRY_CONFIG) {
        return true;
    }
    ok = raft_configuration_decode(&c, e->data, e->size) && config_is_sane(&c);
    raft_configuration_release(&c);
    return ok;
}

/*
 * Would it replace what is committed, or what this very leader sent before? A
 * leader only ever appends, so one of us two is broken.
 */
static bool contradicts(const struct raft *r, const struct raft_message *m,
                        raft_index i, raft_term term)
{
    raft_index agreed = r->commit_index;

    if (m->term == r->current_term && r->leader_match > agreed) {
        agreed = r->leader_match;
    }
    return i >= r->log.prev_index && i <= agreed &&
           log_term(&r->log, i) != term;
}

/*
 * Entries continue prev_log_index without a hole, terms never fall, each can be
 * read, none contradicts what is committed (B2, B4).
 */
bool replication_append_is_sane(const struct raft *r,
                                const struct raft_message *m)
{
    raft_term term = m->log_term;

    if (m->log_index > UINT64_MAX - m->n_entries ||
        (m->n_entries > 0 && m->entries == NULL) ||
        contradicts(r, m, m->log_index, m->log_term)) {
        return false;
    }
    for (size_t i = 0; i < m->n_entries; i++) {
        const struct raft_entry *e = &m->entries[i];

        if (e->index != m->log_index + 1 + i || e->term < term ||
            e->term == 0 || e->term > m->term || !entry_is_sane(e) ||
            contradicts(r, m, e->index, e->term)) {
            return false;
        }
        term = e->term;
    }
    return true;
}

static void hear_leader(struct raft *r, const struct raft_message *m)
{
    ASSERT(r->role != RAFT_LEADER);
    if (r->role != RAFT_FOLLOWER || r->leader_id != m->from) {
        election_become_follower(r, r->current_term, m->from);
    }
    election_reset_timer(r);
}

/*
 * Does our log agree with the leader's at prev_log_index? What is committed
 * does in any case, be it compacted here or not (B3).
 */
static bool matches(const struct raft *r, const struct raft_message *m)
{
    return m->log_index <= r->commit_index ||
           (m->log_index <= log_last_index(&r->log) &&
            log_term(&r->log, m->log_index) == m->log_term);
}

static void refuse(struct raft *r, const struct raft_message *m)
{
    raft_index hint = log_find_term(&r->log, m->log_index, m->log_term);

    raft_send(r,
              (struct raft_message){
                  .type = RAFT_APPEND_ENTRIES_RESPONSE,
                  .to = m->from,
                  .reject = true,
                  .log_index = m->log_index,
                  .reject_hint = hint,
                  .log_term = log_term(&r->log, hint),
              },
              0);
}

/*
 * Append what we lack. Entries that we have are skipped, so that an append that
 * arrives late or twice cuts nothing; the first that differs cuts our log from
 * there on, and never at or below commit_index (B2).
 */
static void take_entries(struct raft *r, const struct raft_message *m)
{
    for (size_t i = 0; i < m->n_entries; i++) {
        const struct raft_entry *e = &m->entries[i];

        if (e->index <= r->commit_index) {
            continue;
        }
        if (e->index <= log_last_index(&r->log)) {
            if (log_term(&r->log, e->index) == e->term) {
                continue;
            }
            log_truncate(&r->log, e->index);
            (void)config_history_truncate(&r->configs, e->index);
        }
        raft_append(r, e);
    }
}

static raft_index lower_of(raft_index a, raft_index b)
{
    return a < b ? a : b;
}

void replication_append(struct raft *r, const struct raft_message *m)
{
    raft_index last_new = m->log_index + m->n_entries;
    raft_index match;

    hear_leader(r, m);
    if (!matches(r, m)) {
        refuse(r, m);
        return;
    }
    take_entries(r, m);
    /* What lies behind last_new is not known to agree with the leader. */
    replication_commit_to(r, lower_of(m->commit, last_new));

    match = last_new > r->commit_index ? last_new : r->commit_index;
    r->leader_match = match > r->leader_match ? match : r->leader_match;
    raft_send(r,
              (struct raft_message){
                  .type = RAFT_APPEND_ENTRIES_RESPONSE,
                  .to = m->from,
                  .log_index = match,
              },
              log_batch_of(&r->log, match));
}

void replication_heartbeat(struct raft *r, const struct raft_message *m)
{
    hear_leader(r, m);
    r->leader_all_match = lower_of(m->log_index, r->log.stable_index);
    /* <= our match index, as the leader knows it */
    replication_commit_to(r, m->commit);
    raft_send(r,
              (struct raft_message){
                  .type = RAFT_HEARTBEAT_RESPONSE,
                  .to = m->from,
                  .context = m->context,
              },
              0);
}
