/*
 * membership.c - changes of the configuration (4).
 *
 * One change at a time: the next waits until the one before is committed and
 * applied, and until this leader has committed an entry of its own term (C1:
 * without that, two leaders could each commit a change by majorities that do
 * not overlap). A change of one voter is one entry, since any majorities of old
 * and new overlap (4.2). Others go through a joint configuration (4.3):
 *
 *       old  ---- proposed ----> joint ---- committed ----> target
 *                                  |                          ^
 *                                  +--- by whoever leads -----+
 *
 * Each counts as soon as it is in a log, and is rolled back with it. Of the
 * steps that are due nothing is remembered but the log itself, so that a new
 * leader takes the same ones (C6).
 */
#include "raft/internal.h"

/* ---- proposing --------------------------------------------------------------
 */

static raft_index append_configuration(struct raft *r,
                                       const struct raft_configuration *c)
{
    struct raft_entry e = {.index = log_last_index(&r->log) + 1,
                           .term = r->current_term,
                           .type = RAFT_ENTRY_CONFIG};
    uint8_t *data = raft_configuration_encode(c, &e.size);

    e.data = data;
    raft_append(r, &e);
    raft_free(data);
    return e.index;
}

static bool change_is_pending(const struct raft *r)
{
    return config_history_newest_index(&r->configs) > r->last_applied ||
           raft_configuration_is_joint(raft_members(r));
}

enum raft_status raft_propose_configuration(
    struct raft *r, const struct raft_configuration *target, raft_index *index)
{
    struct raft_configuration next;

    ASSERT(!r->ready_pending);
    if (r->role != RAFT_LEADER) {
        return RAFT_NOT_LEADER;
    }
    if (!config_is_sane(target) || raft_configuration_is_joint(target)) {
        return RAFT_BAD_CONFIGURATION;
    }
    if (change_is_pending(r)) {
        return RAFT_CHANGE_PENDING;
    }
    if (!raft_is_settled_leader(r) || r->election.transferee != 0 ||
        r->election.resigns) {
        return RAFT_BUSY;
    }
    if (config_is_equal(target, raft_members(r))) {
        return RAFT_BAD_CONFIGURATION;
    }
    config_step_towards(&next, raft_members(r), target);
    *index = append_configuration(r, &next);
    raft_configuration_release(&next);
    check_all(r);
    return RAFT_OK;
}

/* ---- what follows from what is committed ------------------------------------
 */

static void leave_joint(struct raft *r)
{
    struct raft_configuration next;

    config_leave_joint(&next, raft_members(r));
    (void)append_configuration(r, &next);
    raft_configuration_release(&next);
}

/* Whom the newest configuration dropped is told for two more election timeouts
 * that this is committed. */
static void send_off(struct raft *r)
{
    size_t n = 0;

    for (size_t i = 0; i < r->n_departing; i++) {
        struct departing *d = &r->departing[i];

        if (d->until == 0 && d->index <= r->commit_index) {
            d->until = r->now + 2 * (uint64_t)r->config.election_ticks;
        }
        /* id 0: it has come back, and what we know of it has moved there. */
        if (d->progress.id == 0 || (d->until != 0 && r->now >= d->until)) {
            progress_release(&d->progress);
        } else {
            r->departing[n++] = *d;
        }
    }
    r->n_departing = n;
}

/* Called before anything is gathered, whatever has moved. */
void membership_proceed(struct raft *r)
{
    bool is_committed;

    if (r->role != RAFT_LEADER) {
        return;
    }
    send_off(r);
    is_committed = raft_is_settled_leader(r) &&
                   config_history_newest_index(&r->configs) <= r->commit_index;
    if (!is_committed || r->election.transferee != 0 || r->election.resigns) {
        return; /* nothing is appended while leadership changes hands */
    }
    if (raft_configuration_is_joint(raft_members(r))) {
        leave_joint(r);
    } else if (!config_is_voter(raft_members(r), r->config.id)) {
        election_resign(r); /* it was ours to commit, no more (C5, 4.2.2) */
    }
}

/* ---- those who leave --------------------------------------------------------
 */

void membership_depart(struct raft *r, struct progress *p)
{
    if (p->id == 0 || p->id == r->config.id) {
        progress_release(p); /* moved, or ourselves */
        return;
    }
    r->departing =
        raft_realloc(r->departing, r->n_departing + 1, sizeof(*r->departing));
    r->departing[r->n_departing++] = (struct departing){
        .progress = *p, .index = config_history_newest_index(&r->configs)};
}

void membership_forget(struct raft *r)
{
    for (size_t i = 0; i < r->n_departing; i++) {
        progress_release(&r->departing[i].progress);
    }
    raft_free(r->departing);
    r->departing = NULL;
    r->n_departing = 0;
}

struct progress *membership_departing(const struct raft *r, raft_id id)
{
    for (size_t i = 0; i < r->n_departing; i++) {
        if (r->departing[i].progress.id == id) {
            return &r->departing[i].progress;
        }
    }
    return NULL;
}

/* ---- are we one? ------------------------------------------------------------
 */

void membership_note(struct raft *r)
{
    raft_index newest = config_history_index_at(&r->configs, r->commit_index);

    if (newest == r->config_noted) {
        return;
    }
    r->config_noted = newest;
    for (size_t i = 0; i < r->configs.n; i++) {
        const struct config_at *at = &r->configs.items[i];
        bool named =
            config_find(&at->configuration, r->config.id) != CONFIG_NOBODY;

        if (at->index <= r->commit_index) {
            r->was_member = r->was_member || named;
            r->is_removed = r->was_member && !named;
        }
    }
}

raft_index membership_without(const struct raft *r, raft_id id)
{
    const struct raft_configuration *c =
        config_history_at(&r->configs, r->commit_index);

    return c->n_servers == 0 || config_find(c, id) != CONFIG_NOBODY
               ? 0
               : config_history_index_at(&r->configs, r->commit_index);
}

/*
 * A voter that refused us says that the configuration committed at index does
 * not name us. If ours is newer, it may not have heard of us yet; if it is
 * older, we have missed our removal.
 */
void membership_told_removed(struct raft *r, raft_index index)
{
    if (r->was_member && index > config_history_newest_index(&r->configs)) {
        r->is_removed = true;
    }
}

bool raft_is_removed(const struct raft *r)
{
    return r->is_removed;
}

bool raft_may_promote(const struct raft *r, raft_id id)
{
    size_t i = config_find(raft_members(r), id);
    const struct progress *p = replication_progress(r, id);

    return raft_is_settled_leader(r) && i != CONFIG_NOBODY && p != NULL &&
           raft_members(r)->servers[i].role == RAFT_LEARNER &&
           p->state == RAFT_PROGRESS_REPLICATE && replication_is_recent(r, p) &&
           p->match_index >= r->commit_then &&
           p->match_index >= r->term_first_index;
}
