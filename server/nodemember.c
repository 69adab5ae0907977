/*
 * nodemember.c - changes of the members: the leader's checks, one change at a
 * time, and learners that become voters by themselves.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "server/logger.h"
#include "server/membership.h"
#include "server/nodeinternal.h"

typedef Pawl__Command__V1__MemberChange member_change;

/* ---- what the leader knows -------------------------------------------------
 */

static void look(const struct node *n, const struct members *ms, bool *active,
                 bool *caught_up)
{
    struct raft_progress p;

    for (size_t i = 0; raft_progress_at(n->raft, i, &p); i++) {
        for (size_t j = 0; j < ms->n; j++) {
            if (ms->list[j].id == p.id) {
                active[j] = p.recently_active || p.id == n->config.id;
                caught_up[j] = raft_may_promote(n->raft, p.id);
            }
        }
    }
}

/* Are the applied members those of the newest configuration? */
static bool is_in_step(const struct raft_configuration *c,
                       const struct members *ms)
{
    if (c->n_servers != ms->n || raft_configuration_is_joint(c)) {
        return false;
    }
    for (size_t i = 0; i < ms->n; i++) {
        if (c->servers[i].id != ms->list[i].id ||
            (c->servers[i].role == RAFT_LEARNER) != ms->list[i].is_learner) {
            return false;
        }
    }
    return true;
}

/*
 * Only then do the checks see what they decide about. What older leaders have
 * proposed is either in force or gone once an entry of ours is applied.
 */
static bool is_settled(const struct node *n)
{
    return raft_is_settled_leader(n->raft) &&
           applier_index(n->applier) == raft_commit_index(n->raft) &&
           n->change_index <= applier_index(n->applier) &&
           is_in_step(raft_configuration_now(n->raft),
                      applier_member_set(n->applier));
}

static enum node_change propose(struct node *n, const member_change *change)
{
    struct raft_configuration target;
    raft_index index;
    enum raft_status st;

    membership_target(applier_member_set(n->applier), change, &target);
    st = raft_propose_configuration(n->raft, &target, &index);
    membership_target_release(&target);
    switch (st) {
    case RAFT_OK:
        n->change_index = index;
        return NODE_CHANGE_TAKEN;
    case RAFT_NOT_LEADER:
    case RAFT_BUSY:
    case RAFT_CHANGE_PENDING:
        return NODE_CHANGE_LATER;
    default:
        return NODE_CHANGE_REFUSED;
    }
}

static enum node_change
check_and_propose(struct node *n, const member_change *change, enum status *why)
{
    const struct members *ms = applier_member_set(n->applier);
    bool *active = mem_alloc(ms->n, sizeof(*active));
    bool *caught_up = mem_alloc(ms->n, sizeof(*caught_up));
    struct membership_view v = {.leader = n->config.id,
                                .members = ms,
                                .active = active,
                                .caught_up = caught_up};

    look(n, ms, active, caught_up);
    *why = membership_check(&v, change);
    free(active);
    free(caught_up);
    if (*why != ST_OK) {
        return NODE_CHANGE_REFUSED;
    }
    *why = ST_PROPOSAL_DROPPED; /* should the core refuse it */
    return propose(n, change);
}

enum node_change node_try_change(struct node *n, const uint8_t *data,
                                 size_t size, enum status *why)
{
    enum node_change outcome = NODE_CHANGE_LATER;
    struct arena arena;
    const member_change *change;

    *why = ST_NOT_APPLIED;
    if (n->in_ready || !is_settled(n)) {
        return NODE_CHANGE_LATER;
    }
    arena_init(&arena);
    change =
        pawl__command__v1__member_change__unpack(&arena.allocator, size, data);
    outcome = change != NULL ? check_and_propose(n, change, why)
                             : NODE_CHANGE_REFUSED;
    arena_release(&arena);
    return outcome;
}

void node_change_members(struct node *n, struct node_proposal *p,
                         member_change *change, struct arena *arena)
{
    uint8_t *data;

    node_number_proposal(n, p);
    change->member = n->config.id;
    change->incarnation = n->config.incarnation;
    change->request = p->request;
    p->size = pawl__command__v1__member_change__get_packed_size(change);
    data = arena_alloc(arena, p->size);
    pawl__command__v1__member_change__pack(change, data);
    p->data = data;
    p->is_change = true;
    node_queue_proposal(n, p, false);
}

/* ---- for other members -----------------------------------------------------
 */

void node_forwarded_change(struct node *n, raft_id from,
                           const Pawl__Peer__V1__Forward *item)
{
    Pawl__Peer__V1__ForwardResult result = PAWL__PEER__V1__FORWARD_RESULT__INIT;
    enum status why;

    result.request = item->request;
    result.term = item->term;
    result.status = PAWL__PEER__V1__FORWARD_STATUS__FORWARD_NOT_LEADER;
    if (item->term == raft_term_now(n->raft) &&
        raft_role(n->raft) == RAFT_LEADER) {
        switch (node_try_change(n, item->member_change.data,
                                item->member_change.len, &why)) {
        case NODE_CHANGE_TAKEN:
            return; /* answered by being applied at the asker */
        case NODE_CHANGE_LATER:
            break; /* it asks again with its next tick */
        case NODE_CHANGE_REFUSED:
            result.status = PAWL__PEER__V1__FORWARD_STATUS__FORWARD_REFUSED;
            result.error = (char *)status_text(why); /* only read */
            break;
        }
    }
    n->env.forward_reply(n->env.context, from, &result);
}

/* ---- learners that become voters -------------------------------------------
 */

static void promote(struct node *n, const struct members *ms,
                    const struct member *m)
{
    member_change change;
    enum status why;

    membership_promotion(ms, m, &change);
    if (check_and_propose(n, &change, &why) == NODE_CHANGE_TAKEN) {
        log_line(LOG_INFO,
                 "learner %" PRIx64 " has caught up and becomes a voter",
                 m->id);
    }
}

void node_members_tick(struct node *n)
{
    const struct members *ms = applier_member_set(n->applier);

    for (size_t i = 0; i < ms->n; i++) {
        const struct member *m = &ms->list[i];

        /* One that has not told its store could not be told from a wiped one
         * later (F6). */
        if (m->is_learner && m->auto_promote && m->store_id != 0 &&
            raft_may_promote(n->raft, m->id) && is_settled(n)) {
            promote(n, ms, m);
            return;
        }
    }
}

/* ---- applied ---------------------------------------------------------------
 */

void node_members_applied(struct node *n)
{
    const struct members *ms = applier_member_set(n->applier);
    struct arena arena;
    char *text;

    arena_init(&arena);
    text = arena_printf(&arena, "%s", "");
    for (size_t i = 0; i < ms->n; i++) {
        const struct member *m = &ms->list[i];

        text = arena_printf(&arena, "%s%s%" PRIx64 " (%s%s%s)", text,
                            i > 0 ? ", " : "", m->id, m->name,
                            m->name[0] != '\0' ? ", " : "",
                            m->is_learner ? "learner" : "voter");
    }
    log_line(LOG_INFO, "the members are %s", text);
    arena_release(&arena);
}
