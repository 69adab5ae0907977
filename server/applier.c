/*
 * applier.c - one committed entry at a time: decode, check the fence, check
 * the rest, change, note what changed.
 *
 * All or nothing: a handler finds every reason to refuse before it changes
 * anything, so nothing is ever rolled back. Nothing here reads a clock, draws
 * a number, or asks who leads.
 */
#include "server/applier.h"

#include <stdlib.h>
#include <string.h>

#include "server/changeset.h"
#include "server/lock.h"
#include "server/members.h"

typedef Pawl__Command__V1__Command command;

/* A changeset that was taken: the store's revision at its index. */
struct mark {
    raft_index index;
    int64_t revision;
};

struct applier {
    struct kv *kv;
    struct leases *leases;
    struct members members;
    raft_index index;
    raft_term term; /* of the entry at index, or of the one being applied */
    uint64_t digest;
    struct changeset *changes; /* gathered since the last take */
    raft_index taken;          /* index at the last take */
    size_t n_settled;          /* kv_changes() that were noted already */
    struct mark *marks;        /* taken and not yet persisted, in order */
    size_t n_marks, marks_capacity;
};

/* ---- life ------------------------------------------------------------------
 */

struct applier *applier_new(kv_fetch *fetch, void *context)
{
    struct applier *a = mem_alloc(1, sizeof(*a));

    a->kv = kv_new(fetch, context);
    a->leases = leases_new();
    a->changes = changeset_new();
    return a;
}

void applier_free(struct applier *a)
{
    if (a == NULL) {
        return;
    }
    kv_free(a->kv);
    leases_free(a->leases);
    members_release(&a->members);
    changeset_free(a->changes);
    free(a->marks);
    free(a);
}

struct kv *applier_kv(struct applier *a)
{
    return a->kv;
}

struct leases *applier_leases(struct applier *a)
{
    return a->leases;
}

raft_index applier_index(const struct applier *a)
{
    return a->index;
}

raft_term applier_term(const struct applier *a)
{
    return a->term;
}

uint64_t applier_digest(const struct applier *a)
{
    return a->digest;
}

const struct member *applier_members(const struct applier *a, size_t *n)
{
    *n = a->members.n;
    return a->members.list;
}

/* ---- noting what changed
 * ----------------------------------------------------- */

static void note(struct applier *a, const struct changeset_row *row)
{
    a->digest = changeset_append(a->changes, row, a->digest);
}

/* Leases follow the keys; both go into the changeset. */
static void settle(struct applier *a)
{
    size_t n;
    const struct kv_change *changes = kv_changes(a->kv, &n);

    for (; a->n_settled < n; a->n_settled++) {
        const struct kv_change *c = &changes[a->n_settled];

        if (c->lease != c->previous_lease) {
            lease_detach(a->leases, c->previous_lease, c->key);
            lease_attach(a->leases, c->lease, c->key);
        }
        note(a, &(struct changeset_row){.kind = CHANGESET_KV, .kv = *c});
    }
}

static void note_member(struct applier *a, const struct member *m,
                        struct arena *arena)
{
    struct changeset_row row = {.kind = CHANGESET_MEMBER};

    row.member.id = m->id;
    row.member.is_learner = m->is_learner;
    row.member.name = (struct slice){(uint8_t *)m->name, strlen(m->name)};
    row.member.peer_urls = urls_join(m->peer_urls, m->n_peer_urls, arena);
    row.member.client_urls = urls_join(m->client_urls, m->n_client_urls, arena);
    note(a, &row);
}

/* ---- keys -------------------------------------------------------------------
 */

static enum status apply_put(struct applier *a,
                             const Etcdserverpb__PutRequest *rq,
                             struct arena *arena, struct applied *out)
{
    enum status st = kv_check_put(rq);

    etcdserverpb__put_response__init(&out->put);
    if (st != ST_OK) {
        return st;
    }
    if (rq->lease != 0 && !lease_exists(a->leases, rq->lease)) {
        return ST_LEASE_NOT_FOUND; /* PUT1, PUT2 */
    }
    return kv_put(a->kv, rq, arena, &out->put);
}

static enum status
apply_delete_range(struct applier *a,
                   const Etcdserverpb__DeleteRangeRequest *rq,
                   struct arena *arena, struct applied *out)
{
    etcdserverpb__delete_range_response__init(&out->delete_range);
    return kv_delete_range(a->kv, rq, arena, &out->delete_range);
}

static void delete_key(struct applier *a, struct slice key, struct arena *arena)
{
    Etcdserverpb__DeleteRangeRequest rq =
        ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    Etcdserverpb__DeleteRangeResponse rs =
        ETCDSERVERPB__DELETE_RANGE_RESPONSE__INIT;
    enum status st;

    rq.key = (ProtobufCBinaryData){key.size, (uint8_t *)key.data};
    st = kv_delete_range(a->kv, &rq, arena, &rs);
    ASSERT(st == ST_OK && rs.deleted == 1);
}

/* ---- leases -----------------------------------------------------------------
 */

static enum status grant(struct applier *a, int64_t id, int64_t ttl_s)
{
    enum status st = lease_grant(a->leases, id, ttl_s);

    if (st == ST_OK) {
        struct changeset_row row = {.kind = CHANGESET_LEASE_GRANTED};

        row.lease.id = id;
        row.lease.ttl_s = lease_ttl_s(a->leases, id);
        note(a, &row);
    }
    return st;
}

/* The lease, and its keys in byte order (REV5). It must exist. */
static void revoke(struct applier *a, int64_t id, struct arena *arena)
{
    struct changeset_row row = {.kind = CHANGESET_LEASE_REVOKED};
    enum status st;
    size_t n;
    struct slice *keys = lease_keys(a->leases, id, &n);

    for (size_t i = 0; i < n; i++) {
        delete_key(a, keys[i], arena);
    }
    free(keys);
    settle(a); /* detaches them */
    st = lease_revoke(a->leases, id);
    ASSERT(st == ST_OK);
    row.lease.id = id;
    note(a, &row);
}

static enum status apply_lease_grant(struct applier *a,
                                     const Pawl__Command__V1__LeaseGrant *rq,
                                     struct applied *out)
{
    enum status st = grant(a, rq->id, rq->ttl);

    if (st == ST_OK) {
        out->lease_grant.id = rq->id;
        out->lease_grant.ttl = lease_ttl_s(a->leases, rq->id);
    }
    return st;
}

/*
 * A leader that was deposed may have proposed an expiry that a renewal at the
 * new leader has overtaken. Such an entry is of another term than its
 * proposer's and does not count (I1).
 */
static enum status apply_lease_revoke(struct applier *a,
                                      const Pawl__Command__V1__LeaseRevoke *rq,
                                      struct arena *arena, struct applied *out)
{
    if (rq->expiry_term != 0 && rq->expiry_term != a->term) {
        out->text = arena_printf(arena,
                                 "pawl: not applied: an expiry that the "
                                 "leader of term %llu saw, in term %llu",
                                 (unsigned long long)rq->expiry_term,
                                 (unsigned long long)a->term);
        return ST_NOT_APPLIED;
    }
    if (!lease_exists(a->leases, rq->id)) {
        return ST_LEASE_NOT_FOUND;
    }
    revoke(a, rq->id, arena);
    return ST_OK;
}

/* ---- locks ------------------------------------------------------------------
 */

static struct slice slice_of(ProtobufCBinaryData b)
{
    return (struct slice){b.data, b.len};
}

static enum status check_acquire(const struct applier *a,
                                 const Pawl__Command__V1__LockAcquire *rq)
{
    if (rq->name.len == 0 || rq->lease == 0) {
        return ST_BAD_LOCK_NAME;
    }
    if (rq->ttl > LEASE_TTL_MAX_S) {
        return ST_LEASE_TTL_TOO_LARGE;
    }
    if (rq->ttl == 0 && !lease_exists(a->leases, rq->lease)) {
        return ST_LEASE_NOT_FOUND;
    }
    return ST_OK;
}

/*
 * The queue's key for this lease: put, unless it is there (LCK2, LCK5). One
 * that is there but hangs on another lease or on none, because somebody put
 * it by hand, is moved to this one and keeps its place: a lock must not
 * outlive the lease that it was given to (I7, I10).
 */
static void enqueue(struct applier *a, struct slice key, int64_t lease,
                    struct arena *arena)
{
    Etcdserverpb__PutRequest rq = ETCDSERVERPB__PUT_REQUEST__INIT;
    Etcdserverpb__PutResponse rs = ETCDSERVERPB__PUT_RESPONSE__INIT;
    struct kv_change pair;
    enum status st;

    rq.key = (ProtobufCBinaryData){key.size, (uint8_t *)key.data};
    rq.lease = lease;
    if (kv_get(a->kv, key, &pair)) {
        if (pair.lease == lease) {
            return;
        }
        rq.ignore_value = true;
    }
    st = kv_put(a->kv, &rq, arena, &rs);
    ASSERT(st == ST_OK);
}

static void answer_acquire(const struct applier *a, struct slice name,
                           struct slice key, struct arena *arena,
                           struct applied *out)
{
    struct lock_state state;
    struct kv_change mine;

    lock_inspect(a->kv, name, &state);
    ASSERT(state.held);
    out->lock_acquire.key = key;
    out->lock_acquire.holder.data =
        arena_copy(arena, state.holder.data, state.holder.size);
    out->lock_acquire.holder.size = state.holder.size;
    out->lock_acquire.holder_token = state.token;
    if (kv_get(a->kv, key, &mine)) {
        out->lock_acquire.token = mine.create_revision;
        out->lock_acquire.acquired = slice_equal(state.holder, key);
        out->lock_acquire.queued = !out->lock_acquire.acquired;
    }
}

static enum status apply_lock_acquire(struct applier *a,
                                      const Pawl__Command__V1__LockAcquire *rq,
                                      struct arena *arena, struct applied *out)
{
    struct slice name = slice_of(rq->name);
    enum status st = check_acquire(a, rq);
    struct lock_state state;
    struct kv_change pair;
    struct slice key;

    if (st != ST_OK) {
        return st;
    }
    key = lock_key(name, rq->lease, arena);
    lock_inspect(a->kv, name, &state);
    out->lock_acquire.lease = rq->lease;
    if (!rq->try_ || !state.held || kv_get(a->kv, key, &pair)) {
        if (!lease_exists(a->leases, rq->lease)) {
            st = grant(a, rq->lease, rq->ttl);
            ASSERT(st == ST_OK); /* a retried call finds it there (I11) */
        }
        enqueue(a, key, rq->lease, arena);
        out->lock_acquire.ttl = lease_ttl_s(a->leases, rq->lease);
    }
    answer_acquire(a, name, key, arena, out);
    return ST_OK;
}

static enum status apply_lock_release(struct applier *a,
                                      const Pawl__Command__V1__LockRelease *rq,
                                      struct arena *arena, struct applied *out)
{
    struct slice key = slice_of(rq->key);
    struct kv_change pair;

    if (!kv_get(a->kv, key, &pair) || pair.create_revision != rq->token) {
        return ST_OK; /* an old key or token frees nobody else's lock (I12) */
    }
    if (rq->only_if_waiting && lock_is_holder(a->kv, key, rq->token)) {
        out->lock_release.holds = true;
        return ST_OK;
    }
    if (rq->revoke_lease && pair.lease != 0) {
        revoke(a, pair.lease, arena); /* the key goes with it */
    } else {
        delete_key(a, key, arena);
    }
    out->lock_release.released = true;
    return ST_OK;
}

/* ---- members
 * ----------------------------------------------------------------- */

static enum status
apply_member_publish(struct applier *a,
                     const Pawl__Command__V1__MemberPublish *rq,
                     struct arena *arena, struct applied *out)
{
    struct member *known = members_find(&a->members, rq->id);
    struct member m;

    if (known == NULL) {
        out->text = arena_printf(arena, "pawl: not applied: no member %llx",
                                 (unsigned long long)rq->id);
        return ST_NOT_APPLIED;
    }
    m = *known;
    m.name = rq->name;
    m.client_urls = rq->client_urls;
    m.n_client_urls = rq->n_client_urls;
    members_put(&a->members, &m);
    note_member(a, members_find(&a->members, rq->id), arena);
    return ST_OK;
}

static void apply_configuration(struct applier *a, const struct raft_entry *e,
                                struct arena *arena)
{
    struct raft_configuration c;

    if (!raft_configuration_decode(&c, e->data, e->size)) {
        return; /* the core took it from the log, so this cannot be */
    }
    members_follow(&a->members, &c, arena);
    raft_configuration_release(&c);
    /* For a copy of state.db, which must suffice to begin a log with. The
     * digest has the members that follow. */
    (void)changeset_append(
        a->changes,
        &(struct changeset_row){.kind = CHANGESET_CONFIGURATION,
                                .configuration = {e->data, e->size}},
        0);
    note(a, &(struct changeset_row){.kind = CHANGESET_MEMBERS_CLEARED});
    for (size_t i = 0; i < a->members.n; i++) {
        note_member(a, &a->members.list[i], arena);
    }
}

/* ---- commands
 * ----------------------------------------------------------------- */

/* For a text: what is not plain ASCII as \xNN, and not without end. */
static const char *printable(struct slice bytes, struct arena *arena)
{
    size_t shown = bytes.size < 64 ? bytes.size : 64, n = 0;
    char *text = arena_alloc(arena, shown * 4 + 4);

    for (size_t i = 0; i < shown; i++) {
        uint8_t c = bytes.data[i];

        if (c >= 0x20 && c < 0x7f && c != '\\' && c != '"') {
            text[n++] = (char)c;
        } else {
            text[n++] = '\\';
            text[n++] = 'x';
            text[n++] = "0123456789abcdef"[c >> 4];
            text[n++] = "0123456789abcdef"[c & 15];
        }
    }
    if (shown < bytes.size) {
        memcpy(text + n, "...", 4);
    }
    return text;
}

static enum status check_fence(const struct applier *a,
                               const Pawl__Command__V1__Fence *fence,
                               struct arena *arena, struct applied *out)
{
    struct slice key = slice_of(fence->key), name;
    struct lock_state state = {0};

    if (lock_is_holder(a->kv, key, fence->token)) {
        return ST_OK;
    }
    if (lock_name_of_key(key, &name)) {
        lock_inspect(a->kv, name, &state);
    } else {
        name = key;
    }
    if (state.held) {
        out->text = arena_printf(
            arena, "%s: lock \"%s\", token %lld, its holder's is %lld",
            status_text(ST_FENCED), printable(name, arena),
            (long long)fence->token, (long long)state.token);
    } else {
        out->text =
            arena_printf(arena, "%s: lock \"%s\", token %lld, nobody holds it",
                         status_text(ST_FENCED), printable(name, arena),
                         (long long)fence->token);
    }
    return ST_FENCED;
}

static enum status refuse(const char *why, struct arena *arena,
                          struct applied *out)
{
    out->text = arena_printf(arena, "pawl: not applied: %s", why);
    return ST_NOT_APPLIED;
}

static enum status apply_change(struct applier *a, const command *c,
                                struct arena *arena, struct applied *out)
{
    switch (c->change_case) {
    case PAWL__COMMAND__V1__COMMAND__CHANGE_PUT:
        return apply_put(a, c->put, arena, out);
    case PAWL__COMMAND__V1__COMMAND__CHANGE_DELETE_RANGE:
        return apply_delete_range(a, c->delete_range, arena, out);
    case PAWL__COMMAND__V1__COMMAND__CHANGE_LEASE_GRANT:
        return apply_lease_grant(a, c->lease_grant, out);
    case PAWL__COMMAND__V1__COMMAND__CHANGE_LEASE_REVOKE:
        return apply_lease_revoke(a, c->lease_revoke, arena, out);
    case PAWL__COMMAND__V1__COMMAND__CHANGE_LOCK_ACQUIRE:
        return apply_lock_acquire(a, c->lock_acquire, arena, out);
    case PAWL__COMMAND__V1__COMMAND__CHANGE_LOCK_RELEASE:
        return apply_lock_release(a, c->lock_release, arena, out);
    case PAWL__COMMAND__V1__COMMAND__CHANGE_MEMBER_PUBLISH:
        return apply_member_publish(a, c->member_publish, arena, out);
    default:
        return refuse("a change that this version does not know", arena, out);
    }
}

static void apply_command(struct applier *a, const struct raft_entry *e,
                          struct arena *arena, struct applied *out)
{
    const command *c =
        pawl__command__v1__command__unpack(&arena->allocator, e->size, e->data);

    if (c == NULL) {
        out->status = refuse("the command does not parse", arena, out);
        return;
    }
    out->member = c->member;
    out->incarnation = c->incarnation;
    out->request = c->request;
    if (c->fence != NULL) {
        out->status = check_fence(a, c->fence, arena, out);
    }
    if (out->status == ST_OK) {
        out->status = apply_change(a, c, arena, out);
    }
}

void applier_apply(struct applier *a, const struct raft_entry *e,
                   struct arena *arena, struct applied *out)
{
    ASSERT(e->index == a->index + 1);
    ASSERT(e->term >= a->term);
    *out = (struct applied){0};
    a->term = e->term;
    a->n_settled = 0;
    kv_begin(a->kv);
    switch (e->type) {
    case RAFT_ENTRY_COMMAND:
        apply_command(a, e, arena, out);
        break;
    case RAFT_ENTRY_CONFIG:
        apply_configuration(a, e, arena);
        break;
    case RAFT_ENTRY_NOOP:
        break;
    }
    settle(a);
    a->index = e->index;
    out->revision = kv_end(a->kv);
}

/* ---- another state
 * --------------------------------------------------------------------- */

void applier_exchange(struct applier *a, struct applier *other)
{
    struct applier was = *a;

    *a = *other;
    *other = was;
}

/* ---- on the way to state.db
 * ---------------------------------------------------- */

struct changeset *applier_take_changes(struct applier *a)
{
    struct changeset *taken = a->changes;

    if (a->index == a->taken) {
        return NULL;
    }
    taken->index = a->taken = a->index;
    taken->term = a->term;
    taken->revision = kv_revision(a->kv);
    taken->digest = a->digest;
    a->changes = changeset_new();
    if (a->n_marks == a->marks_capacity) {
        a->marks_capacity = a->n_marks > 0 ? a->n_marks * 2 : 16;
        a->marks = mem_realloc(a->marks, a->marks_capacity, sizeof(*a->marks));
    }
    a->marks[a->n_marks++] = (struct mark){taken->index, taken->revision};
    return taken;
}

size_t applier_changes_bytes(const struct applier *a)
{
    return a->changes->rows.size;
}

void applier_persisted(struct applier *a, raft_index index)
{
    size_t done = 0;

    while (done < a->n_marks && a->marks[done].index <= index) {
        done++;
    }
    if (done == 0) {
        return;
    }
    kv_persisted(a->kv, a->marks[done - 1].revision);
    a->n_marks -= done;
    memmove(a->marks, a->marks + done, a->n_marks * sizeof(*a->marks));
}

/* ---- loading
 * -------------------------------------------------------------------- */

bool applier_load_lease(struct applier *a, int64_t id, int64_t ttl_s)
{
    return lease_grant(a->leases, id, ttl_s) == ST_OK;
}

void applier_load_member(struct applier *a, const struct member *m)
{
    members_put(&a->members, m);
}

static bool attach_loaded(void *context, const struct kv_change *pair)
{
    struct applier *a = context;

    if (pair->lease != 0 && !lease_exists(a->leases, pair->lease)) {
        return false;
    }
    lease_attach(a->leases, pair->lease, pair->key);
    return true;
}

bool applier_loaded(struct applier *a, raft_index index, raft_term term,
                    int64_t revision, uint64_t digest)
{
    if (revision < kv_revision(a->kv) || !kv_each(a->kv, attach_loaded, a)) {
        return false;
    }
    kv_loaded(a->kv, revision);
    a->index = a->taken = index;
    a->term = term;
    a->digest = digest;
    return true;
}
