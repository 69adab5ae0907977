/*
 * membership.c - checks a change of the members and works out its result.
 */
#include "server/membership.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "server/logger.h"
#include "server/url.h"

#define LEARNERS_MAX 1 /* that nobody asked to become voters; etcd's limit */

typedef Pawl__Command__V1__MemberChange member_change;

/* ---- who is there ----------------------------------------------------------
 */

static const struct member *find(const struct members *ms, uint64_t id)
{
    return members_find(ms, id);
}

static size_t place(const struct members *ms, const struct member *m)
{
    return (size_t)(m - ms->list);
}

static bool is_joining(const struct member *m)
{
    return m->is_learner && m->auto_promote;
}

/* A voter, or one that is about to become one (and is nobody's successor). */
static bool is_to_vote(const struct member *m)
{
    return !m->is_learner || (is_joining(m) && m->replaces == 0);
}

static bool is_started(const struct member *m)
{
    return m->name[0] != '\0'; /* CLU3 */
}

static size_t quorum(size_t n_voters)
{
    return n_voters / 2 + 1;
}

struct tally {
    size_t voters, started, active;
};

/* Of those who vote, or are to, but the member except. */
static struct tally count(const struct membership_view *v, bool joining_too,
                          uint64_t except)
{
    struct tally t = {0};

    for (size_t i = 0; i < v->members->n; i++) {
        const struct member *m = &v->members->list[i];

        if (m->id != except && (joining_too ? is_to_vote(m) : !m->is_learner)) {
            t.voters++;
            t.started += is_started(m);
            t.active += v->active[i];
        }
    }
    return t;
}

static bool has_url(const struct member *m, const char *url)
{
    for (size_t i = 0; i < m->n_peer_urls; i++) {
        if (strcmp(m->peer_urls[i], url) == 0) {
            return true;
        }
    }
    return false;
}

/* Does another than that one have one of the change's URLs? */
static bool url_is_taken(const struct members *ms, const member_change *change,
                         uint64_t owner)
{
    for (size_t i = 0; i < ms->n; i++) {
        for (size_t j = 0; j < change->n_peer_urls; j++) {
            if (ms->list[i].id != owner &&
                has_url(&ms->list[i], change->peer_urls[j])) {
                return true;
            }
        }
    }
    return false;
}

/* ---- may it? ---------------------------------------------------------------
 */

/* CLU8. One voter may always get a second: how else would it. */
static enum status check_room_for_voter(const struct membership_view *v)
{
    struct tally t = count(v, true, 0);

    if (t.voters == 1 && t.started == 1) {
        return ST_OK;
    }
    if (t.started < quorum(t.voters + 1)) {
        return ST_MEMBER_NOT_ENOUGH_STARTED;
    }
    return t.active < quorum(t.voters + 1) ? ST_UNHEALTHY : ST_OK;
}

static enum status check_learners(const struct members *ms)
{
    size_t learners = 0;

    for (size_t i = 0; i < ms->n; i++) {
        learners += ms->list[i].is_learner && !ms->list[i].auto_promote;
    }
    return learners >= LEARNERS_MAX ? ST_TOO_MANY_LEARNERS : ST_OK;
}

static enum status check_new_id(const struct members *ms, uint64_t id)
{
    if (members_is_removed(ms, id)) {
        return ST_MEMBER_NOT_FOUND; /* etcd's word for it (CLU5) */
    }
    return find(ms, id) != NULL || id == 0 ? ST_MEMBER_EXIST : ST_OK;
}

static enum status check_add(const struct membership_view *v,
                             const member_change *change)
{
    enum status st = change->is_learner ? ST_OK : check_room_for_voter(v);

    if (st == ST_OK) {
        st = check_new_id(v->members, change->id);
    }
    if (st == ST_OK && url_is_taken(v->members, change, 0)) {
        st = ST_PEER_URL_EXIST;
    }
    if (st == ST_OK && change->is_learner && !change->auto_promote) {
        st = check_learners(v->members);
    }
    return st;
}

/* CLU9. Of the last voter nothing would be left (C12). */
static enum status check_remove(const struct membership_view *v,
                                const member_change *change)
{
    const struct member *m = find(v->members, change->id);
    struct tally rest = count(v, false, change->id);

    if (m == NULL) {
        return ST_MEMBER_NOT_FOUND;
    }
    if (m->is_learner) {
        return ST_OK;
    }
    if (rest.started < quorum(rest.voters)) {
        return ST_MEMBER_NOT_ENOUGH_STARTED;
    }
    if (m->id != v->leader && !v->active[place(v->members, m)]) {
        return ST_OK; /* it is missed already */
    }
    return rest.active < quorum(rest.voters) ? ST_UNHEALTHY : ST_OK;
}

static enum status check_update(const struct membership_view *v,
                                const member_change *change)
{
    if (find(v->members, change->id) == NULL) {
        return ST_MEMBER_NOT_FOUND;
    }
    return url_is_taken(v->members, change, change->id) ? ST_PEER_URL_EXIST
                                                        : ST_OK;
}

/* Will those who vote then, of whom one goes (0: nobody), have a quorum? */
static enum status check_voters_after(const struct membership_view *v,
                                      uint64_t leaves)
{
    struct tally t = count(v, false, leaves);

    /* The new one counts as started (CLU11), and as active: it caught up. */
    if (t.started + 1 < quorum(t.voters + 1)) {
        return ST_MEMBER_NOT_ENOUGH_STARTED;
    }
    return t.active + 1 < quorum(t.voters + 1) ? ST_UNHEALTHY : ST_OK;
}

static enum status check_promote(const struct membership_view *v,
                                 const member_change *change)
{
    const struct member *m = find(v->members, change->id);

    if (m == NULL) {
        return ST_MEMBER_NOT_FOUND;
    }
    if (!m->is_learner) {
        return ST_MEMBER_NOT_LEARNER;
    }
    if (!v->caught_up[place(v->members, m)]) {
        return ST_LEARNER_NOT_READY;
    }
    return check_voters_after(
        v, change->kind == PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__SWAP
               ? m->replaces
               : 0);
}

static bool is_being_replaced(const struct members *ms, uint64_t id)
{
    for (size_t i = 0; i < ms->n; i++) {
        if (ms->list[i].replaces == id) {
            return true;
        }
    }
    return false;
}

static enum status check_replace(const struct membership_view *v,
                                 const member_change *change)
{
    const struct member *m = find(v->members, change->id);
    enum status st;

    if (m == NULL) {
        return ST_MEMBER_NOT_FOUND;
    }
    st = check_new_id(v->members, change->new_id);
    if (st != ST_OK) {
        return st;
    }
    if (change->only_if_silent && v->active[place(v->members, m)]) {
        return ST_MEMBER_ALIVE;
    }
    if (is_being_replaced(v->members, m->id)) {
        return ST_MEMBER_REPLACED;
    }
    return url_is_taken(v->members, change, m->id) ? ST_PEER_URL_EXIST : ST_OK;
}

enum status membership_check(const struct membership_view *v,
                             const member_change *change)
{
    switch (change->kind) {
    case PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__ADD:
        return check_add(v, change);
    case PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__REMOVE:
        return check_remove(v, change);
    case PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__UPDATE:
        return check_update(v, change);
    case PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__PROMOTE:
    case PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__SWAP:
        return check_promote(v, change);
    case PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__REPLACE:
        return check_replace(v, change);
    default:
        return ST_NOT_APPLIED; /* of a newer pawl */
    }
}

/* ---- what comes of it ------------------------------------------------------
 */

/* The members to be; strings are borrowed from the old ones and the change. */
struct draft {
    struct member *list;
    bool *leaves; /* described, but not a server any more */
    size_t n;
};

static struct member *draft_find(struct draft *d, uint64_t id)
{
    for (size_t i = 0; i < d->n; i++) {
        if (d->list[i].id == id) {
            return &d->list[i];
        }
    }
    ASSERT(false); /* checked before */
    return NULL;
}

static void draft_init(struct draft *d, const struct members *ms)
{
    d->list = mem_alloc(ms->n + 1, sizeof(*d->list));
    d->leaves = mem_alloc(ms->n + 1, sizeof(*d->leaves));
    d->n = ms->n;
    for (size_t i = 0; i < ms->n; i++) {
        d->list[i] = ms->list[i];
        /* What was published stays as it is, or as it is by then. */
        d->list[i].name = (char *)"";
        d->list[i].n_client_urls = 0;
    }
}

static void draft_add(struct draft *d, const struct member *m)
{
    size_t i = d->n++;

    for (; i > 0 && d->list[i - 1].id > m->id; i--) {
        d->list[i] = d->list[i - 1];
        d->leaves[i] = d->leaves[i - 1];
    }
    d->list[i] = *m;
    d->leaves[i] = false;
}

static void draft_drop(struct draft *d, uint64_t id)
{
    for (size_t i = 0; i < d->n; i++) {
        d->leaves[i] = d->leaves[i] || d->list[i].id == id;
    }
}

static struct member newcomer(const member_change *change)
{
    return (struct member){
        .id = change->id,
        .name = (char *)"",
        .peer_urls = change->peer_urls,
        .n_peer_urls = change->n_peer_urls,
        .is_learner = true,
        .auto_promote = change->auto_promote || !change->is_learner,
    };
}

static void replace(struct draft *d, const member_change *change)
{
    struct member *old = draft_find(d, change->id);
    struct member m = newcomer(change);

    m.id = change->new_id;
    m.auto_promote = true;
    m.replaces = old->id;
    if (old->is_learner) { /* nothing to wait for */
        m.auto_promote = old->auto_promote;
        m.replaces = old->replaces;
        draft_drop(d, old->id);
    }
    draft_add(d, &m);
}

static void change_draft(struct draft *d, const member_change *change)
{
    struct member m = newcomer(change);
    struct member *known;

    switch (change->kind) {
    case PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__ADD:
        draft_add(d, &m);
        break;
    case PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__REMOVE:
        draft_drop(d, change->id);
        break;
    case PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__UPDATE:
        known = draft_find(d, change->id);
        known->peer_urls = change->peer_urls;
        known->n_peer_urls = change->n_peer_urls;
        break;
    case PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__REPLACE:
        replace(d, change);
        break;
    default: /* PROMOTE, SWAP */
        known = draft_find(d, change->id);
        known->is_learner = false;
        if (change->kind == PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__SWAP) {
            draft_drop(d, known->replaces);
        }
        break;
    }
}

void membership_target(const struct members *ms, const member_change *change,
                       struct raft_configuration *target)
{
    struct draft d;

    draft_init(&d, ms);
    change_draft(&d, change);
    *target = (struct raft_configuration){0};
    target->servers = mem_alloc(d.n, sizeof(*target->servers));
    for (size_t i = 0; i < d.n; i++) {
        if (!d.leaves[i]) {
            target->servers[target->n_servers++] = (struct raft_server){
                d.list[i].id, d.list[i].is_learner ? RAFT_LEARNER : RAFT_VOTER};
        }
    }
    target->extra = members_encode(d.list, d.n, change, &target->extra_size);
    free(d.list);
    free(d.leaves);
}

void membership_target_release(struct raft_configuration *target)
{
    free(target->servers);
    free(target->extra);
    *target = (struct raft_configuration){0};
}

void membership_promotion(const struct members *ms, const struct member *m,
                          member_change *change)
{
    pawl__command__v1__member_change__init(change);
    change->kind = m->replaces != 0 && find(ms, m->replaces) != NULL
                       ? PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__SWAP
                       : PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__PROMOTE;
    change->id = m->id;
}

/* ---- URLs and ids ----------------------------------------------------------
 */

bool membership_urls_are_good(char *const *urls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char *address = url_address(urls[i]);

        free(address);
        if (address == NULL) {
            return false;
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(urls[i], urls[j]) == 0) {
                return false;
            }
        }
    }
    return n > 0;
}

static int compare_urls(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

uint64_t membership_digest(const void *data, size_t size)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    uint64_t id = 0;

    if (EVP_Digest(data, size, digest, NULL, EVP_sha1(), NULL) != 1) {
        log_die("SHA-1 is not available from OpenSSL");
    }
    for (size_t i = 0; i < sizeof(id); i++) {
        id = id << 8 | digest[i];
    }
    return id != 0 ? id : 1;
}

uint64_t membership_new_id(char *const *urls, size_t n, const char *token,
                           uint64_t time_ns)
{
    char **sorted = mem_alloc(n, sizeof(*sorted));
    struct buffer b = {0};
    uint64_t id;

    memcpy(sorted, urls, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), compare_urls);
    for (size_t i = 0; i < n; i++) {
        buffer_append(&b, sorted[i], strlen(sorted[i]));
    }
    buffer_append(&b, token, strlen(token));
    if (time_ns != 0) {
        char text[24];

        snprintf(text, sizeof(text), "%" PRIu64, time_ns);
        buffer_append(&b, text, strlen(text));
    }
    id = membership_digest(b.data, b.size);
    buffer_release(&b);
    free(sorted);
    return id;
}
