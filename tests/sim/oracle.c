/*
 * oracle.c - the promises, checked.
 */
#include "tests/sim/oracle.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "raft/base.h"

struct known {
    raft_index index; /* 0: free */
    struct place place;
};

void oracle_init(struct oracle *o, unsigned n_nodes)
{
    *o = (struct oracle){.n_nodes = n_nodes};
    history_init(&o->committed);
    o->n_operations = 1; /* number 0 is none */
    o->room_operations = 64;
    o->operations = raft_alloc(o->room_operations, sizeof *o->operations);
}

void oracle_release(struct oracle *o)
{
    raft_free(o->leaders);
    for (unsigned i = 0; i < NODES_MAX; i++) {
        raft_free(o->votes[i]);
    }
    raft_free(o->known);
    history_release(&o->committed);
    raft_free(o->commit_terms);
    raft_free(o->states);
    raft_free(o->operations);
    *o = (struct oracle){0};
}

void oracle_fail(struct oracle *o, const char *format, ...)
{
    va_list args;

    if (o->failed) {
        return;
    }
    o->failed = true;
    va_start(args, format);
    (void)vsnprintf(o->failure, sizeof o->failure, format, args);
    va_end(args);
}

/* Make room for an element of that number; new ones are zero. */
static void *grow(void *array, size_t *n, size_t number, size_t size)
{
    if (number >= *n) {
        size_t room = 2 * number + 16;

        array = raft_realloc(array, room, size);
        memset((uint8_t *)array + *n * size, 0, (room - *n) * size);
        *n = room;
    }
    return array;
}

void oracle_founds(struct oracle *o, const struct raft_entry *e)
{
    if (o->committed.last == 0) {
        history_append(&o->committed, e);
    }
}

void oracle_leads(struct oracle *o, raft_id id, raft_term term)
{
    raft_id *leader;

    o->leaders = grow(o->leaders, &o->n_leaders, term, sizeof *o->leaders);
    leader = &o->leaders[term];
    if (*leader != 0 && *leader != id) {
        oracle_fail(o, "O1: %" PRIu64 " and %" PRIu64 " lead term %" PRIu64,
                    *leader, id, term);
    }
    *leader = id;
}

void oracle_votes(struct oracle *o, raft_id id, raft_term term,
                  raft_id voted_for)
{
    unsigned k = (unsigned)id - 1;
    raft_id *vote;

    o->votes[k] = grow(o->votes[k], &o->n_votes[k], term, sizeof *vote);
    vote = &o->votes[k][term];
    if (voted_for == 0) {
        return;
    }
    if (*vote != 0 && *vote != voted_for) {
        oracle_fail(o,
                    "O2: %" PRIu64 " votes for %" PRIu64 " and %" PRIu64
                    " in term %" PRIu64,
                    id, *vote, voted_for, term);
    }
    *vote = voted_for;
}

static struct known *find_known(struct oracle *o, raft_index index,
                                raft_term term)
{
    uint64_t key[] = {index, term};
    size_t i = (size_t)XXH3_64bits(key, sizeof key) & (o->room_known - 1);

    while (o->known[i].index != 0 &&
           (o->known[i].index != index || o->known[i].place.term != term)) {
        i = (i + 1) & (o->room_known - 1);
    }
    return &o->known[i];
}

static void grow_known(struct oracle *o)
{
    struct known *old = o->known;
    size_t n = o->room_known;

    o->room_known = n == 0 ? 1024 : 2 * n;
    o->known = raft_alloc(o->room_known, sizeof *o->known);
    for (size_t i = 0; i < n; i++) {
        if (old[i].index != 0) {
            *find_known(o, old[i].index, old[i].place.term) = old[i];
        }
    }
    raft_free(old);
}

void oracle_holds(struct oracle *o, raft_index index, const struct place *p)
{
    struct known *k;

    if (2 * o->n_known >= o->room_known) {
        grow_known(o);
    }
    k = find_known(o, index, p->term);
    if (k->index == 0) {
        *k = (struct known){index, *p};
        o->n_known++;
    } else if (k->place.prefix != p->prefix) {
        oracle_fail(
            o, "O3: two logs differ up to entry %" PRIu64 " of term %" PRIu64,
            index, p->term);
    }
}

void oracle_leader_log(struct oracle *o, raft_id id, raft_term term,
                       const struct history *log)
{
    raft_index i = o->committed.last;

    /* A candidate may learn late that it won, when a later term has already
     * committed things; even old entries, that no quorum had before. */
    while (i > 1 && o->commit_terms[i] >= term) {
        i--;
    }
    if (!history_holds(log, i, &o->committed.places[i])) {
        oracle_fail(o,
                    "O4: %" PRIu64 " leads term %" PRIu64
                    " without committed entry %" PRIu64,
                    id, term, i);
    }
}

static unsigned count_durable(const struct oracle *o, raft_index index,
                              const struct place *p,
                              const struct history *const *durable)
{
    unsigned n = 0;

    for (unsigned k = 0; k < o->n_nodes; k++) {
        n += history_holds(durable[k], index, p);
    }
    return n;
}

void oracle_commits(struct oracle *o, raft_id id, raft_term term,
                    raft_index commit, const struct history *log,
                    const struct history *const *durable)
{
    raft_index i = o->committed.last;

    if (commit > log->last) {
        oracle_fail(o, "O7: %" PRIu64 " commits %" PRIu64 " beyond its log", id,
                    commit);
        return;
    }
    if (commit <= i) {
        i = commit;
        if (!history_holds(log, i, &o->committed.places[i])) {
            oracle_fail(o,
                        "O4: %" PRIu64 " commits entry %" PRIu64
                        " where another one was committed",
                        id, i);
        }
        return;
    }
    if (!history_holds(log, i, &o->committed.places[i])) {
        oracle_fail(o,
                    "O4: %" PRIu64 " commits past entry %" PRIu64
                    ", which it does not hold",
                    id, i);
        return;
    }
    /* The last one will do: who holds it holds what is before it. */
    if (2 * count_durable(o, commit, &log->places[commit], durable) <=
        o->n_nodes) {
        oracle_fail(o,
                    "O6: %" PRIu64 " commits entry %" PRIu64
                    ", which no quorum has synced",
                    id, commit);
    }
    for (i = o->committed.last + 1; i <= commit; i++) {
        o->committed.places = grow(o->committed.places, &o->committed.room, i,
                                   sizeof *o->committed.places);
        o->committed.places[i] = log->places[i];
        o->commit_terms = grow(o->commit_terms, &o->n_commit_terms, i,
                               sizeof *o->commit_terms);
        o->commit_terms[i] = term;
    }
    o->committed.last = commit;
}

static void check_vote_request(struct oracle *o, const struct raft_message *m,
                               const struct history *durable)
{
    raft_index i = m->log_index;

    if (i > durable->last || durable->places[i].term != m->log_term) {
        oracle_fail(o,
                    "O6, A5: %" PRIu64 " campaigns with entry %" PRIu64
                    " of term %" PRIu64 ", which it has not synced",
                    m->from, i, m->log_term);
    }
}

void oracle_sends(struct oracle *o, const struct raft_message *m,
                  const struct history *durable)
{
    const struct raft_hard_state *hs = &durable->hard_state;

    if (m->type == RAFT_PRE_VOTE || m->type == RAFT_REQUEST_VOTE) {
        check_vote_request(o, m, durable);
    }
    if (m->type == RAFT_PRE_VOTE || m->type == RAFT_PRE_VOTE_RESPONSE) {
        return; /* of a term that nobody is in yet */
    }
    if (m->term > hs->term) {
        oracle_fail(o,
                    "O6: %" PRIu64 " speaks of term %" PRIu64
                    ", its disk of %" PRIu64,
                    m->from, m->term, hs->term);
        return;
    }
    if (m->type == RAFT_REQUEST_VOTE) {
        oracle_votes(o, m->from, m->term, m->from);
    }
    if (m->type == RAFT_REQUEST_VOTE_RESPONSE && !m->reject) {
        oracle_votes(o, m->from, m->term, m->to);
    }
    if ((m->type == RAFT_REQUEST_VOTE && hs->term == m->term &&
         hs->voted_for != m->from) ||
        (m->type == RAFT_REQUEST_VOTE_RESPONSE && !m->reject &&
         hs->term == m->term && hs->voted_for != m->to)) {
        oracle_fail(o, "O6, A1: %" PRIu64 " sends a vote that is not synced",
                    m->from);
    }
    if (m->type == RAFT_APPEND_ENTRIES_RESPONSE && !m->reject &&
        m->log_index > durable->last) {
        oracle_fail(o,
                    "O6: %" PRIu64 " acknowledges %" PRIu64
                    ", its disk ends at %" PRIu64,
                    m->from, m->log_index, durable->last);
    }
}

static void note_write(struct oracle *o, const struct state *state,
                       uint64_t operation)
{
    struct operation *op = &o->operations[operation];

    ASSERT(operation < o->n_operations);
    if (op->committed != 0) {
        oracle_fail(o,
                    "O11: write %" PRIu64 " takes effect at %" PRIu64
                    " and again at %" PRIu64,
                    operation, op->committed, state->applied);
    }
    if (op->end == OPERATION_NOT_APPLIED) {
        oracle_fail(o, "O8: write %" PRIu64 " was refused and takes effect",
                    operation);
    }
    op->committed = state->applied;
}

void oracle_applies(struct oracle *o, raft_id id, const struct state *state,
                    uint64_t operation)
{
    struct state *known;

    o->states = grow(o->states, &o->n_states, state->applied, sizeof *known);
    known = &o->states[state->applied];
    if (state->applied > o->committed.last) {
        oracle_fail(o, "%" PRIu64 " applies %" PRIu64 ", not committed", id,
                    state->applied);
        return;
    }
    if (known->applied == 0) {
        *known = *state;
        if (operation != 0) {
            note_write(o, state, operation);
        }
        return;
    }
    if (known->digest != state->digest || known->revision != state->revision) {
        oracle_fail(o, "O5: %" PRIu64 " has another state at %" PRIu64, id,
                    state->applied);
    }
}

uint64_t oracle_begin(struct oracle *o, bool is_write)
{
    if (o->n_operations == o->room_operations) {
        o->room_operations *= 2;
        o->operations = raft_realloc(o->operations, o->room_operations,
                                     sizeof *o->operations);
    }
    o->operations[o->n_operations] =
        (struct operation){.is_write = is_write, .floor = o->revision_seen};
    return o->n_operations++;
}

void oracle_answer(struct oracle *o, uint64_t operation, uint64_t revision)
{
    struct operation *op = &o->operations[operation];

    /* A write makes a revision of its own; a read shows at least the floor. */
    if (revision < op->floor + op->is_write) {
        oracle_fail(o,
                    "O8: %s %" PRIu64 " answers revision %" PRIu64
                    ", but %" PRIu64 " was seen before it began",
                    op->is_write ? "write" : "read", operation, revision,
                    op->floor);
    }
    op->end = OPERATION_DONE;
    if (revision > o->revision_seen) {
        o->revision_seen = revision;
    }
}

void oracle_refuse(struct oracle *o, uint64_t operation)
{
    struct operation *op = &o->operations[operation];

    op->end = OPERATION_NOT_APPLIED;
    if (op->committed != 0) {
        oracle_fail(o, "O8: write %" PRIu64 " took effect and is refused",
                    operation);
    }
}
