/*
 * config.c - who the members are and what a quorum of them is. Pure: nothing
 * here knows of terms, roles or messages.
 */
#include "raft/internal.h"

#include <string.h>

/*
 * A configuration as bytes, all numbers little-endian:
 *
 *     u8 version = 1 | u32 n_servers | n * { u64 id | u8 role }
 *     u32 extra_size | extra
 */
enum { CONFIG_VERSION = 1, SERVER_BYTES = 9, HEAD_BYTES = 5, TAIL_BYTES = 4 };

static uint8_t *put(uint8_t *at, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
    return at + n;
}

static uint64_t get(const uint8_t *at, size_t n)
{
    uint64_t value = 0;

    for (size_t i = 0; i < n; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

uint8_t *raft_configuration_encode(const struct raft_configuration *c,
                                   size_t *size)
{
    uint8_t *data, *at;

    ASSERT(c->n_servers <= UINT32_MAX && c->extra_size <= UINT32_MAX);
    *size =
        HEAD_BYTES + c->n_servers * SERVER_BYTES + TAIL_BYTES + c->extra_size;
    data = at = raft_alloc(*size, 1);
    at = put(at, CONFIG_VERSION, 1);
    at = put(at, c->n_servers, 4);
    for (size_t i = 0; i < c->n_servers; i++) {
        ASSERT(c->servers[i].id > (i > 0 ? c->servers[i - 1].id : 0));
        at = put(at, c->servers[i].id, 8);
        at = put(at, (uint64_t)c->servers[i].role, 1);
    }
    at = put(at, c->extra_size, 4);
    if (c->extra_size > 0) {
        memcpy(at, c->extra, c->extra_size);
    }
    return data;
}

/* False if ids do not ascend from 1 on, or a role is unknown. */
static bool decode_servers(struct raft_configuration *c, const uint8_t *at)
{
    raft_id last = 0;

    for (size_t i = 0; i < c->n_servers; i++, at += SERVER_BYTES) {
        raft_id id = get(at, 8);
        uint64_t role = get(at + 8, 1);

        if (id <= last || role > RAFT_VOTER_DEMOTING) {
            return false;
        }
        c->servers[i] = (struct raft_server){id, (enum raft_server_role)role};
        last = id;
    }
    return true;
}

bool raft_configuration_decode(struct raft_configuration *c,
                               const uint8_t *data, size_t size)
{
    size_t n, extra;

    *c = (struct raft_configuration){0};
    if (size < HEAD_BYTES + TAIL_BYTES || data[0] != CONFIG_VERSION) {
        return false;
    }
    n = (size_t)get(data + 1, 4);
    size -= HEAD_BYTES + TAIL_BYTES;
    if (n > size / SERVER_BYTES) {
        return false;
    }
    size -= n * SERVER_BYTES;
    extra = (size_t)get(data + HEAD_BYTES + n * SERVER_BYTES, 4);
    if (extra != size) {
        return false;
    }
    c->n_servers = n;
    c->servers = raft_alloc(n, sizeof(*c->servers));
    if (!decode_servers(c, data + HEAD_BYTES)) {
        raft_configuration_release(c);
        return false;
    }
    if (extra > 0) {
        c->extra = raft_alloc(extra, 1);
        c->extra_size = extra;
        memcpy(c->extra, data + HEAD_BYTES + n * SERVER_BYTES + TAIL_BYTES,
               extra);
    }
    return true;
}

void raft_configuration_release(struct raft_configuration *c)
{
    raft_free(c->servers);
    raft_free(c->extra);
    *c = (struct raft_configuration){0};
}

void config_copy(struct raft_configuration *to,
                 const struct raft_configuration *from)
{
    *to = (struct raft_configuration){.n_servers = from->n_servers,
                                      .extra_size = from->extra_size};
    to->servers = raft_alloc(from->n_servers, sizeof(*to->servers));
    if (from->n_servers > 0) {
        memcpy(to->servers, from->servers,
               from->n_servers * sizeof(*to->servers));
    }
    if (from->extra_size > 0) {
        to->extra = raft_alloc(from->extra_size, 1);
        memcpy(to->extra, from->extra, from->extra_size);
    }
}

/* ---- members and quorums --------------------------------------------------
 */

size_t config_find(const struct raft_configuration *c, raft_id id)
{
    for (size_t i = 0; i < c->n_servers; i++) {
        if (c->servers[i].id == id) {
            return i;
        }
    }
    return CONFIG_NOBODY;
}

/*
 * A joint configuration has two sets of voters, each with a majority of its
 * own (4.3); any other has the same set twice.
 */
enum half { OLD_HALF, NEW_HALF };

static bool votes_in(enum raft_server_role role, enum half half)
{
    switch (role) {
    case RAFT_LEARNER:
        return false;
    case RAFT_VOTER:
        return true;
    case RAFT_VOTER_JOINING:
        return half == NEW_HALF;
    case RAFT_VOTER_LEAVING:
    case RAFT_VOTER_DEMOTING:
        return half == OLD_HALF;
    }
    return false;
}

static size_t n_voters_in(const struct raft_configuration *c, enum half half)
{
    size_t n = 0;

    for (size_t i = 0; i < c->n_servers; i++) {
        n += votes_in(c->servers[i].role, half);
    }
    return n;
}

bool raft_configuration_is_joint(const struct raft_configuration *c)
{
    for (size_t i = 0; i < c->n_servers; i++) {
        if (c->servers[i].role > RAFT_VOTER) {
            return true;
        }
    }
    return false;
}

bool config_is_voter(const struct raft_configuration *c, raft_id id)
{
    size_t i = config_find(c, id);

    return i != CONFIG_NOBODY && c->servers[i].role != RAFT_LEARNER;
}

bool config_stays_voter(const struct raft_configuration *c, raft_id id)
{
    size_t i = config_find(c, id);

    return i != CONFIG_NOBODY && votes_in(c->servers[i].role, NEW_HALF);
}

bool config_is_sole_voter(const struct raft_configuration *c, raft_id id)
{
    for (size_t i = 0; i < c->n_servers; i++) {
        if (c->servers[i].id != id && c->servers[i].role != RAFT_LEARNER) {
            return false;
        }
    }
    return config_is_voter(c, id);
}

static bool is_majority(const struct raft_configuration *c,
                        const uint8_t *marks, enum half half)
{
    size_t n = 0;

    for (size_t i = 0; i < c->n_servers; i++) {
        n += marks[i] != 0 && votes_in(c->servers[i].role, half);
    }
    return n > n_voters_in(c, half) / 2;
}

bool config_is_quorum(const struct raft_configuration *c, const uint8_t *marks)
{
    return is_majority(c, marks, OLD_HALF) && is_majority(c, marks, NEW_HALF);
}

static uint64_t majority_value(const struct raft_configuration *c,
                               const uint64_t *values, uint64_t *scratch,
                               enum half half)
{
    size_t n = 0;

    /* Members are few: insertion, highest first. */
    for (size_t i = 0; i < c->n_servers; i++) {
        size_t at = n;

        if (!votes_in(c->servers[i].role, half)) {
            continue;
        }
        for (; at > 0 && scratch[at - 1] < values[i]; at--) {
            scratch[at] = scratch[at - 1];
        }
        scratch[at] = values[i];
        n++;
    }
    return n > 0 ? scratch[n / 2] : 0;
}

uint64_t config_quorum_value(const struct raft_configuration *c,
                             const uint64_t *values, uint64_t *scratch)
{
    uint64_t in_old = majority_value(c, values, scratch, OLD_HALF);
    uint64_t in_new = majority_value(c, values, scratch, NEW_HALF);

    return in_old < in_new ? in_old : in_new;
}

/* ---- from one to the next ---------------------------------------------------
 */

static bool ids_ascend(const struct raft_configuration *c)
{
    raft_id last = 0;

    for (size_t i = 0; i < c->n_servers; i++) {
        if (c->servers[i].id <= last) {
            return false;
        }
        last = c->servers[i].id;
    }
    return true;
}

bool config_is_sane(const struct raft_configuration *c)
{
    return ids_ascend(c) && n_voters_in(c, OLD_HALF) > 0 &&
           n_voters_in(c, NEW_HALF) > 0;
}

bool config_is_equal(const struct raft_configuration *a,
                     const struct raft_configuration *b)
{
    if (a->n_servers != b->n_servers || a->extra_size != b->extra_size ||
        (a->extra_size > 0 && memcmp(a->extra, b->extra, a->extra_size) != 0)) {
        return false;
    }
    for (size_t i = 0; i < a->n_servers; i++) {
        if (a->servers[i].id != b->servers[i].id ||
            a->servers[i].role != b->servers[i].role) {
            return false;
        }
    }
    return true;
}

/* How many servers vote in one of them only. */
static size_t n_voters_changed(const struct raft_configuration *a,
                               const struct raft_configuration *b)
{
    size_t n = 0;

    for (size_t i = 0; i < a->n_servers; i++) {
        raft_id id = a->servers[i].id;

        n += config_is_voter(a, id) && !config_is_voter(b, id);
    }
    for (size_t i = 0; i < b->n_servers; i++) {
        raft_id id = b->servers[i].id;

        n += config_is_voter(b, id) && !config_is_voter(a, id);
    }
    return n;
}

static enum raft_server_role joint_role(bool was_voter, bool will_vote,
                                        bool stays)
{
    if (was_voter && will_vote) {
        return RAFT_VOTER;
    }
    if (was_voter) {
        return stays ? RAFT_VOTER_DEMOTING : RAFT_VOTER_LEAVING;
    }
    return will_vote ? RAFT_VOTER_JOINING : RAFT_LEARNER;
}

static raft_id next_id(const struct raft_configuration *a, size_t i,
                       const struct raft_configuration *b, size_t k)
{
    if (k == b->n_servers ||
        (i < a->n_servers && a->servers[i].id < b->servers[k].id)) {
        return a->servers[i].id;
    }
    return b->servers[k].id;
}

/* The members of both, by id; a learner that leaves is gone at once. */
static void join(struct raft_configuration *joint,
                 const struct raft_configuration *now,
                 const struct raft_configuration *target)
{
    size_t i = 0, k = 0;

    joint->servers =
        raft_alloc(now->n_servers + target->n_servers, sizeof(*joint->servers));
    joint->n_servers = 0;
    while (i < now->n_servers || k < target->n_servers) {
        raft_id id = next_id(now, i, target, k);
        bool was_voter = config_is_voter(now, id);
        bool stays = config_find(target, id) != CONFIG_NOBODY;

        if (was_voter || stays) {
            joint->servers[joint->n_servers++] = (struct raft_server){
                id, joint_role(was_voter, config_is_voter(target, id), stays)};
        }
        i += i < now->n_servers && now->servers[i].id == id;
        k += stays;
    }
}

void config_step_towards(struct raft_configuration *next,
                         const struct raft_configuration *now,
                         const struct raft_configuration *target)
{
    ASSERT(!raft_configuration_is_joint(now));
    ASSERT(!raft_configuration_is_joint(target));
    config_copy(next, target);
    if (n_voters_changed(now, target) > 1) {
        raft_free(next->servers);
        join(next, now, target);
    }
    ASSERT(config_is_sane(next));
}

void config_leave_joint(struct raft_configuration *next,
                        const struct raft_configuration *joint)
{
    size_t n = 0;

    ASSERT(raft_configuration_is_joint(joint));
    config_copy(next, joint);
    for (size_t i = 0; i < next->n_servers; i++) {
        struct raft_server s = next->servers[i];

        if (s.role == RAFT_VOTER_LEAVING) {
            continue;
        }
        s.role = s.role == RAFT_VOTER_DEMOTING  ? RAFT_LEARNER
                 : s.role == RAFT_VOTER_JOINING ? RAFT_VOTER
                                                : s.role;
        next->servers[n++] = s;
    }
    next->n_servers = n;
    ASSERT(config_is_sane(next) && !raft_configuration_is_joint(next));
}

/* ---- the configurations that the log holds --------------------------------
 */

void config_history_init(struct config_history *h, raft_index index,
                         const struct raft_configuration *c)
{
    struct raft_configuration first = {0};

    *h = (struct config_history){0};
    if (c != NULL) {
        config_copy(&first, c);
    }
    config_history_push(h, index, &first);
}

void config_history_release(struct config_history *h)
{
    for (size_t i = 0; i < h->n; i++) {
        raft_configuration_release(&h->items[i].configuration);
    }
    raft_free(h->items);
    *h = (struct config_history){0};
}

void config_history_push(struct config_history *h, raft_index index,
                         struct raft_configuration *c)
{
    ASSERT(h->n == 0 || index > h->items[h->n - 1].index);
    if (h->n == h->capacity) {
        h->capacity = 2 * h->capacity + 2;
        h->items = raft_realloc(h->items, h->capacity, sizeof(*h->items));
    }
    h->items[h->n++] = (struct config_at){index, *c};
    *c = (struct raft_configuration){0};
}

bool config_history_truncate(struct config_history *h, raft_index from)
{
    size_t old = h->n;

    ASSERT(from > h->items[0].index); /* the first is never uncommitted */
    while (h->items[h->n - 1].index >= from) {
        raft_configuration_release(&h->items[--h->n].configuration);
    }
    return h->n != old;
}

void config_history_compact(struct config_history *h, raft_index index)
{
    size_t n = 0; /* how many are superseded at index */

    while (n + 1 < h->n && h->items[n + 1].index <= index) {
        raft_configuration_release(&h->items[n++].configuration);
    }
    h->n -= n;
    memmove(h->items, h->items + n, h->n * sizeof(*h->items));
}

const struct raft_configuration *
config_history_newest(const struct config_history *h)
{
    return &h->items[h->n - 1].configuration;
}

bool config_history_within(const struct config_history *h, raft_index after,
                           raft_index to)
{
    for (size_t i = h->n; i > 0 && h->items[i - 1].index > after; i--) {
        if (h->items[i - 1].index <= to) {
            return true;
        }
    }
    return false;
}

raft_index config_history_newest_index(const struct config_history *h)
{
    return h->items[h->n - 1].index;
}

static const struct config_at *find_at(const struct config_history *h,
                                       raft_index index)
{
    size_t i = h->n;

    while (i > 1 && h->items[i - 1].index > index) {
        i--;
    }
    return &h->items[i - 1];
}

const struct raft_configuration *
config_history_at(const struct config_history *h, raft_index index)
{
    return &find_at(h, index)->configuration;
}

raft_index config_history_index_at(const struct config_history *h,
                                   raft_index index)
{
    return find_at(h, index)->index;
}

void config_history_restore(struct config_history *h, raft_index index,
                            const struct raft_configuration *c, bool keep_tail)
{
    struct config_history old = *h;

    config_history_init(h, index, c);
    for (size_t i = 0; i < old.n; i++) {
        if (keep_tail && old.items[i].index > index) {
            config_history_push(h, old.items[i].index,
                                &old.items[i].configuration);
        }
    }
    config_history_release(&old);
}
