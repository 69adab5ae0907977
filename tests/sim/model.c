/*
 * model.c - keys, leases and locks once more, in the simplest way.
 */
#include "tests/sim/model.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "command.pb-c.h"

typedef Pawl__Command__V1__Command command;

void model_init(struct model *m)
{
    *m = (struct model){.revision = 1};
}

void model_release(struct model *m)
{
    free(m->pairs);
    free(m->past);
    free(m->leases);
    free(m->outcomes);
    *m = (struct model){0};
}

static void *grow(void *array, size_t *room, size_t n, size_t size)
{
    if (n < *room) {
        return array;
    }
    array = mem_realloc(array, 2 * n + 64, size);
    memset((uint8_t *)array + *room * size, 0, (2 * n + 64 - *room) * size);
    *room = 2 * n + 64;
    return array;
}

__attribute__((format(printf, 2, 3))) static void fail(struct model *m,
                                                       const char *format, ...)
{
    va_list args;

    if (m->failure[0] == '\0') {
        va_start(args, format);
        (void)vsnprintf(m->failure, sizeof m->failure, format, args);
        va_end(args);
    }
}

/* ---- hashes
 * ------------------------------------------------------------------- */

uint64_t model_value(const void *data, size_t size)
{
    return XXH3_64bits(data, size) | 1; /* 0 is none */
}

uint64_t model_mix(uint64_t hash, struct slice key, uint64_t value,
                   int64_t create_revision, int64_t mod_revision,
                   int64_t version, int64_t lease)
{
    uint64_t numbers[] = {value, (uint64_t)create_revision,
                          (uint64_t)mod_revision, (uint64_t)version,
                          (uint64_t)lease};

    hash = XXH3_64bits_withSeed(key.data, key.size, hash);
    return XXH3_64bits_withSeed(numbers, sizeof numbers, hash);
}

uint64_t model_pair_part(struct slice key, uint64_t value,
                         int64_t create_revision, int64_t mod_revision,
                         int64_t version, int64_t lease)
{
    return model_mix(1, key, value, create_revision, mod_revision, version,
                     lease);
}

uint64_t model_lease_part(int64_t id, int64_t ttl_s)
{
    int64_t numbers[] = {id, ttl_s};

    return XXH3_64bits_withSeed(numbers, sizeof numbers, 2);
}

static struct slice text(const char *s)
{
    return (struct slice){(const uint8_t *)s, strlen(s)};
}

static uint64_t part_of(const struct model_pair *p)
{
    return model_pair_part(text(p->key), p->value, p->create_revision,
                           p->mod_revision, p->version, p->lease);
}

/* ---- keys
 * ---------------------------------------------------------------------- */

static struct model_pair *find(const struct model *m, const char *key)
{
    for (size_t i = 0; i < m->n_pairs; i++) {
        if (strcmp(m->pairs[i].key, key) == 0) {
            return &m->pairs[i];
        }
    }
    return NULL;
}

static void remember(struct model *m, const struct model_pair *p)
{
    m->past = grow(m->past, &m->room_past, m->n_past, sizeof *m->past);
    m->past[m->n_past++] = *p;
}

static struct model_pair *insert(struct model *m, const char *key)
{
    size_t i = m->n_pairs;

    m->pairs = grow(m->pairs, &m->room_pairs, i, sizeof *m->pairs);
    m->n_pairs++;
    while (i > 0 && strcmp(m->pairs[i - 1].key, key) > 0) {
        m->pairs[i] = m->pairs[i - 1];
        i--;
    }
    m->pairs[i] = (struct model_pair){0};
    (void)snprintf(m->pairs[i].key, MODEL_KEY_SIZE, "%s", key);
    return &m->pairs[i];
}

static void put(struct model *m, const char *key, uint64_t value, int64_t lease)
{
    struct model_pair *p = find(m, key);

    if (p == NULL) {
        p = insert(m, key);
        p->create_revision = m->revision + 1;
    } else {
        m->content -= part_of(p);
    }
    p->value = value;
    p->lease = lease;
    p->version++;
    p->mod_revision = m->revision + 1;
    m->content += part_of(p);
    remember(m, p);
}

static void drop(struct model *m, struct model_pair *p)
{
    struct model_pair gone = {.deleted = true, .mod_revision = m->revision + 1};

    memcpy(gone.key, p->key, sizeof gone.key);
    m->content -= part_of(p);
    remember(m, &gone);
    m->n_pairs--;
    memmove(p, p + 1, (m->n_pairs - (size_t)(p - m->pairs)) * sizeof *m->pairs);
}

const struct model_pair *model_at(const struct model *m, const char *key,
                                  int64_t revision)
{
    for (size_t i = m->n_past; i > 0; i--) {
        const struct model_pair *p = &m->past[i - 1];

        if (p->mod_revision <= revision && strcmp(p->key, key) == 0) {
            return p->deleted ? NULL : p;
        }
    }
    return NULL;
}

/* Keys are few, so what was live is found key by key. */
size_t model_range(const struct model *m, const char *prefix, int64_t revision,
                   uint64_t *hash)
{
    struct model then = {.revision = revision};
    size_t n = 0;

    *hash = 0;
    for (size_t i = 0; i < m->n_past && m->past[i].mod_revision <= revision;
         i++) {
        struct model_pair *p;

        if (strncmp(m->past[i].key, prefix, strlen(prefix)) != 0) {
            continue;
        }
        p = find(&then, m->past[i].key);
        if (p == NULL) {
            p = insert(&then, m->past[i].key);
        }
        *p = m->past[i];
    }
    for (size_t i = 0; i < then.n_pairs; i++) {
        const struct model_pair *p = &then.pairs[i];

        if (!p->deleted) {
            n++;
            *hash = model_mix(*hash, text(p->key), p->value, p->create_revision,
                              p->mod_revision, p->version, p->lease);
        }
    }
    free(then.pairs);
    return n;
}

static void take_text(char out[MODEL_KEY_SIZE], ProtobufCBinaryData b)
{
    ASSERT(b.len < MODEL_KEY_SIZE);
    memset(out, 0, MODEL_KEY_SIZE);
    if (b.len > 0) {
        memcpy(out, b.data, b.len);
    }
}

/* ---- leases
 * -------------------------------------------------------------------- */

static struct model_lease *find_lease(const struct model *m, int64_t id)
{
    for (size_t i = 0; i < m->n_leases; i++) {
        if (m->leases[i].id == id) {
            return &m->leases[i];
        }
    }
    return NULL;
}

const struct model_lease *model_lease(const struct model *m, int64_t id)
{
    return find_lease(m, id);
}

static void grant(struct model *m, int64_t id, int64_t ttl_s)
{
    m->leases =
        grow(m->leases, &m->room_leases, m->n_leases, sizeof *m->leases);
    m->leases[m->n_leases++] = (struct model_lease){id, ttl_s > 0 ? ttl_s : 1};
    m->content += model_lease_part(id, ttl_s > 0 ? ttl_s : 1);
}

/* With its keys, at one revision. Returns how many there were. */
static size_t revoke(struct model *m, int64_t id)
{
    struct model_lease *l = find_lease(m, id);
    size_t n = 0;

    for (size_t i = 0; i < m->n_pairs;) {
        if (m->pairs[i].lease == id) {
            drop(m, &m->pairs[i]);
            n++;
        } else {
            i++;
        }
    }
    m->content -= model_lease_part(id, l->ttl_s);
    *l = m->leases[--m->n_leases];
    return n;
}

/* ---- locks
 * --------------------------------------------------------------------- */

/* The oldest live key below NAME/. */
static const struct model_pair *holder_of(const struct model *m,
                                          const char *name)
{
    const struct model_pair *oldest = NULL;
    size_t n = strlen(name);

    for (size_t i = 0; i < m->n_pairs; i++) {
        const struct model_pair *p = &m->pairs[i];

        if (strncmp(p->key, name, n) == 0 && p->key[n] == '/' &&
            (oldest == NULL || p->create_revision < oldest->create_revision)) {
            oldest = p;
        }
    }
    return oldest;
}

static bool is_holder(const struct model *m, const char *key, int64_t token)
{
    char name[MODEL_KEY_SIZE];
    char *slash;
    const struct model_pair *holder;

    (void)snprintf(name, sizeof name, "%s", key);
    slash = strrchr(name, '/');
    if (slash == NULL) {
        return false;
    }
    *slash = '\0';
    holder = holder_of(m, name);
    return holder != NULL && strcmp(holder->key, key) == 0 &&
           holder->create_revision == token;
}

static void acquire(struct model *m, const Pawl__Command__V1__LockAcquire *rq,
                    struct model_outcome *out, size_t *changes)
{
    char name[MODEL_KEY_SIZE], key[2 * MODEL_KEY_SIZE];
    const struct model_pair *holder, *mine;

    take_text(name, rq->name);
    if (rq->ttl == 0 && find_lease(m, rq->lease) == NULL) {
        out->status = ST_LEASE_NOT_FOUND;
        return;
    }
    (void)snprintf(key, sizeof key, "%s/%" PRIx64, name, rq->lease);
    holder = holder_of(m, name);
    mine = find(m, key);
    if (!rq->try_ || holder == NULL || mine != NULL) {
        if (find_lease(m, rq->lease) == NULL) {
            grant(m, rq->lease, rq->ttl);
        }
        if (mine == NULL || mine->lease != rq->lease) {
            put(m, key, mine != NULL ? mine->value : model_value("", 0),
                rq->lease);
            *changes += 1;
        }
    }
    holder = holder_of(m, name);
    mine = find(m, key);
    out->holder_token = holder->create_revision;
    if (mine != NULL) {
        out->token = mine->create_revision;
        out->acquired = mine == holder;
        out->queued = mine != holder;
    }
}

static void release(struct model *m, const Pawl__Command__V1__LockRelease *rq,
                    struct model_outcome *out, size_t *changes)
{
    char key[MODEL_KEY_SIZE];
    struct model_pair *p;

    take_text(key, rq->key);
    p = find(m, key);
    if (p == NULL || p->create_revision != rq->token) {
        return;
    }
    if (rq->only_if_waiting && is_holder(m, key, rq->token)) {
        out->holds = true;
        return;
    }
    if (rq->revoke_lease && p->lease != 0) {
        *changes += revoke(m, p->lease);
    } else {
        drop(m, p);
        *changes += 1;
    }
    out->released = true;
}

static struct model_lock *lock_named(struct model *m, const char *name)
{
    for (size_t i = 0; i < m->n_locks; i++) {
        if (strcmp(m->locks[i].name, name) == 0) {
            return &m->locks[i];
        }
    }
    ASSERT(m->n_locks < MODEL_LOCKS_MAX);
    (void)snprintf(m->locks[m->n_locks].name, MODEL_KEY_SIZE, "%s", name);
    return &m->locks[m->n_locks++];
}

/* O10: whoever holds a lock anew has a token above all before. */
static void look_at_locks(struct model *m)
{
    for (size_t i = 0; i < m->n_locks; i++) {
        struct model_lock *l = &m->locks[i];
        const struct model_pair *holder = holder_of(m, l->name);
        int64_t token = holder != NULL ? holder->create_revision : 0;

        if (token != 0 && token != l->holder_token) {
            if (token <= l->highest) {
                fail(m,
                     "O10: lock %s goes from token %" PRId64
                     " back to %" PRId64,
                     l->name, l->highest, token);
            }
            l->highest = token;
        }
        l->holder_token = token;
    }
}

/* ---- commands
 * ------------------------------------------------------------------ */

static void apply_put(struct model *m, const Etcdserverpb__PutRequest *rq,
                      struct model_outcome *out, size_t *changes)
{
    char key[MODEL_KEY_SIZE];
    const struct model_pair *p;

    take_text(key, rq->key);
    if (rq->lease != 0 && find_lease(m, rq->lease) == NULL) {
        out->status = ST_LEASE_NOT_FOUND;
        return;
    }
    p = find(m, key);
    out->previous = p != NULL ? p->value : 0;
    put(m, key, model_value(rq->value.data, rq->value.len), rq->lease);
    *changes += 1;
}

/* One key, or all from key up to range_end. */
static void apply_delete(struct model *m,
                         const Etcdserverpb__DeleteRangeRequest *rq,
                         struct model_outcome *out, size_t *changes)
{
    char from[MODEL_KEY_SIZE], to[MODEL_KEY_SIZE];

    take_text(from, rq->key);
    take_text(to, rq->range_end);
    for (size_t i = 0; i < m->n_pairs;) {
        struct model_pair *p = &m->pairs[i];
        bool hit = to[0] == '\0'
                       ? strcmp(p->key, from) == 0
                       : strcmp(p->key, from) >= 0 && strcmp(p->key, to) < 0;

        if (!hit) {
            i++;
            continue;
        }
        out->previous = p->value;
        out->deleted++;
        *changes += 1;
        drop(m, p);
    }
}

static void apply_revoke(struct model *m,
                         const Pawl__Command__V1__LeaseRevoke *rq,
                         struct model_outcome *out, size_t *changes)
{
    out->is_expiry = rq->expiry_term != 0;
    if (rq->expiry_term != 0 && rq->expiry_term != m->term) {
        out->status = ST_NOT_APPLIED;
    } else if (find_lease(m, rq->id) == NULL) {
        out->status = ST_LEASE_NOT_FOUND;
    } else {
        out->expired = rq->expiry_term != 0 ? rq->id : 0;
        *changes += revoke(m, rq->id);
    }
}

static void apply_change(struct model *m, const command *c,
                         struct model_outcome *out, size_t *changes)
{
    switch (c->change_case) {
    case PAWL__COMMAND__V1__COMMAND__CHANGE_PUT:
        apply_put(m, c->put, out, changes);
        break;
    case PAWL__COMMAND__V1__COMMAND__CHANGE_DELETE_RANGE:
        apply_delete(m, c->delete_range, out, changes);
        break;
    case PAWL__COMMAND__V1__COMMAND__CHANGE_LEASE_GRANT:
        if (find_lease(m, c->lease_grant->id) != NULL) {
            out->status = ST_LEASE_EXIST;
        } else {
            grant(m, c->lease_grant->id, c->lease_grant->ttl);
        }
        break;
    case PAWL__COMMAND__V1__COMMAND__CHANGE_LEASE_REVOKE:
        apply_revoke(m, c->lease_revoke, out, changes);
        break;
    case PAWL__COMMAND__V1__COMMAND__CHANGE_LOCK_ACQUIRE:
        acquire(m, c->lock_acquire, out, changes);
        break;
    case PAWL__COMMAND__V1__COMMAND__CHANGE_LOCK_RELEASE:
        release(m, c->lock_release, out, changes);
        break;
    default:
        break;
    }
}

static void apply_command(struct model *m, const struct raft_entry *e,
                          struct model_outcome *out)
{
    command *c = pawl__command__v1__command__unpack(NULL, e->size, e->data);
    size_t changes = 0;

    ASSERT(c != NULL);
    out->member = c->member;
    out->incarnation = c->incarnation;
    out->request = c->request;
    if (c->change_case == PAWL__COMMAND__V1__COMMAND__CHANGE_LOCK_ACQUIRE) {
        char name[MODEL_KEY_SIZE];

        take_text(name, c->lock_acquire->name);
        (void)lock_named(m, name);
    }
    if (c->fence != NULL) {
        char key[MODEL_KEY_SIZE];

        take_text(key, c->fence->key);
        if (!is_holder(m, key, c->fence->token)) {
            out->status = ST_FENCED;
        }
    }
    if (out->status == ST_OK) {
        apply_change(m, c, out, &changes);
    }
    m->revision += changes > 0;
    pawl__command__v1__command__free_unpacked(c, NULL);
}

const struct model_outcome *model_apply(struct model *m,
                                        const struct raft_entry *e)
{
    struct model_outcome out = {0};

    ASSERT(e->index == m->index + 1);
    m->outcomes =
        grow(m->outcomes, &m->room_outcomes, e->index, sizeof *m->outcomes);
    m->index = e->index;
    m->term = e->term;
    if (e->type == RAFT_ENTRY_COMMAND) {
        apply_command(m, e, &out);
        look_at_locks(m);
    }
    out.revision = m->revision;
    out.content = m->content;
    m->outcomes[e->index] = out;
    return &m->outcomes[e->index];
}
