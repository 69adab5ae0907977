/*
 * kv.c - the store itself: records, changes, and old values on their way to
 * state.db. How a range is read: range.c.
 */
#include "server/kv.h"

#include <stdlib.h>
#include <string.h>

#include "server/record.h"

#define CHANGES_KEPT 4096

static struct slice slice_of(ProtobufCBinaryData b)
{
    return (struct slice){b.data, b.len};
}

static struct slice record_key(const struct record *r)
{
    return (struct slice){r->item.key, r->item.key_size};
}

static struct record *record_of(struct index_item *item)
{
    return (struct record *)item; /* its first member */
}

static struct record *find(const struct kv *kv, struct slice key)
{
    return record_of(index_find(kv->index, key));
}

static struct record *find_live(const struct kv *kv, struct slice key)
{
    struct record *r = find(kv, key);

    return r != NULL && r->item.live ? r : NULL;
}

/* ---- life ---------------------------------------------------------------- */

struct kv *kv_new(kv_fetch *fetch, void *context)
{
    struct kv *kv = mem_alloc(1, sizeof(*kv));

    kv->index = index_new();
    kv->fetch = fetch;
    kv->context = context;
    kv->revision = 1; /* REV1 */
    kv->persisted = 1;
    return kv;
}

static void free_record(struct index_item *item)
{
    struct record *r = record_of(item);

    free(r->value);
    free(r->past);
    free(r);
}

void kv_free(struct kv *kv)
{
    if (kv == NULL) {
        return;
    }
    index_free(kv->index, free_record);
    for (size_t i = 0; i < kv->n_replaced; i++) {
        free(kv->replaced[kv->replaced_first + i].value);
    }
    free(kv->replaced);
    free(kv->changes);
    free(kv);
}

int64_t kv_revision(const struct kv *kv)
{
    return kv->revision;
}

size_t kv_count(const struct kv *kv)
{
    return index_count(kv->index);
}

/* ---- intervals ----------------------------------------------------------- */

struct interval interval_of(ProtobufCBinaryData key,
                            ProtobufCBinaryData range_end)
{
    struct interval i = {.from = slice_of(key), .to = slice_of(range_end)};

    i.single = range_end.len == 0;
    i.open = range_end.len == 1 && range_end.data[0] == 0;
    return i;
}

static struct record *within(const struct interval *i, struct index_item *item)
{
    struct record *r = record_of(item);

    if (r == NULL || i->open) {
        return r;
    }
    if (i->single) {
        return slice_equal(record_key(r), i->from) ? r : NULL;
    }
    return slice_compare(record_key(r), i->to) < 0 ? r : NULL;
}

struct record *interval_first(const struct kv *kv, const struct interval *i,
                              bool live_only, struct index_cursor *c)
{
    return within(i, index_seek(kv->index, i->from, live_only, c));
}

struct record *interval_next(const struct interval *i, struct index_cursor *c)
{
    return i->single ? NULL : within(i, index_next(c));
}

size_t interval_count(const struct kv *kv, const struct interval *i)
{
    size_t below, all;

    if (i->single) {
        return find_live(kv, i->from) != NULL;
    }
    below = index_rank(kv->index, i->from);
    all = i->open ? index_count(kv->index) : index_rank(kv->index, i->to);
    return all > below ? all - below : 0; /* RNG4: to <= from */
}

/* ---- the past -------------------------------------------------------------
 */

/* Remember that r had another newest change. */
static void push_older(struct record *r)
{
    uint32_t n = record_n_older(r);

    if ((n & (n - 1)) == 0) { /* 0 or a power of two: full */
        size_t room = n > 0 ? (size_t)n * 2 : 1;

        r->past = mem_realloc(
            r->past, sizeof(*r->past) + room * sizeof(r->past->change[0]), 1);
    }
    r->past->change[n] =
        (struct revision){r->mod_revision, r->sub, .deleted = !r->item.live};
    r->past->n = n + 1;
}

/* Keep r's live pair, which (mod_revision, sub) is about to replace. */
static void push_replaced(struct kv *kv, const struct record *r,
                          int64_t mod_revision, uint32_t sub)
{
    size_t end = kv->replaced_first + kv->n_replaced;

    if (end == kv->replaced_capacity && kv->replaced_first > end / 2) {
        memmove(kv->replaced, kv->replaced + kv->replaced_first,
                kv->n_replaced * sizeof(kv->replaced[0]));
        kv->replaced_first = 0;
        end = kv->n_replaced;
    } else if (end == kv->replaced_capacity) {
        kv->replaced_capacity = end > 0 ? end * 2 : 64;
        kv->replaced = mem_realloc(kv->replaced, kv->replaced_capacity,
                                   sizeof(kv->replaced[0]));
    }
    kv->replaced[end] = (struct replaced){
        .by_mod_revision = mod_revision,
        .by_sub = sub,
        .value_size = r->value_size,
        .create_revision = r->create_revision,
        .version = r->version,
        .lease = r->lease,
        .value = r->value,
    };
    kv->n_replaced++;
}

const struct replaced *replaced_find(const struct kv *kv, int64_t mod_revision,
                                     uint32_t sub)
{
    size_t low = 0, high = kv->n_replaced;

    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct replaced *p = &kv->replaced[kv->replaced_first + middle];

        if (p->by_mod_revision == mod_revision && p->by_sub == sub) {
            return p;
        }
        if (p->by_mod_revision < mod_revision ||
            (p->by_mod_revision == mod_revision && p->by_sub < sub)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

void kv_persisted(struct kv *kv, int64_t revision)
{
    ASSERT(!kv->writing);
    ASSERT(revision <= kv->revision);
    if (revision <= kv->persisted) {
        return;
    }
    kv->persisted = revision;
    while (kv->n_replaced > 0 &&
           kv->replaced[kv->replaced_first].by_mod_revision <= revision) {
        free(kv->replaced[kv->replaced_first].value);
        kv->replaced_first++;
        kv->n_replaced--;
    }
    if (kv->n_replaced == 0) {
        free(kv->replaced);
        kv->replaced = NULL;
        kv->replaced_first = kv->replaced_capacity = 0;
    }
}

/* ---- changing a record ----------------------------------------------------
 */

static struct record *record_new(struct kv *kv, struct slice key)
{
    struct record *r = mem_alloc(1, sizeof(*r) + key.size);

    ASSERT(key.size > 0 && key.size <= UINT32_MAX);
    memcpy(r->key, key.data, key.size);
    r->item.key = r->key;
    r->item.key_size = (uint32_t)key.size;
    r->item.live = true; /* the put that it is made for */
    index_insert(kv->index, &r->item);
    return r;
}

/* The newest change of r becomes a part of its past. */
static void retire_newest(struct kv *kv, struct record *r,
                          int64_t by_mod_revision, uint32_t by_sub)
{
    ASSERT(r->mod_revision <= by_mod_revision);
    push_older(r);
    if (r->item.live && r->mod_revision > kv->persisted) {
        push_replaced(kv, r, by_mod_revision, by_sub);
    } else {
        free(r->value);
    }
    r->value = NULL;
    r->value_size = 0;
}

/* Bytes from malloc, NULL if there are none. */
static uint8_t *copy_bytes(struct slice bytes)
{
    uint8_t *copy;

    ASSERT(bytes.size <= UINT32_MAX);
    if (bytes.size == 0) {
        return NULL;
    }
    copy = mem_alloc(bytes.size, 1);
    return memcpy(copy, bytes.data, bytes.size);
}

/* Make change the newest of its key. r: the key's record, NULL if it has none.
 */
static struct record *record_write(struct kv *kv, struct record *r,
                                   const struct kv_change *change)
{
    uint8_t *value = copy_bytes(change->value); /* before the old one goes */

    if (r == NULL) {
        r = record_new(kv, change->key);
    } else {
        retire_newest(kv, r, change->mod_revision, (uint32_t)change->sub);
        index_set_live(kv->index, &r->item, !change->deleted);
    }
    ASSERT(r->item.live == !change->deleted);
    r->create_revision = change->create_revision;
    r->mod_revision = change->mod_revision;
    r->sub = (uint32_t)change->sub;
    r->version = change->version;
    r->lease = change->lease;
    r->value = value;
    r->value_size = (uint32_t)change->value.size;
    return r;
}

/* ---- loading --------------------------------------------------------------
 */

bool kv_load(struct kv *kv, const struct kv_change *change)
{
    struct record *r = find(kv, change->key);

    if (change->key.size == 0 || change->mod_revision < 2 || change->sub < 0 ||
        change->sub > UINT32_MAX || (r == NULL && change->deleted)) {
        return false;
    }
    if (r != NULL &&
        (r->mod_revision > change->mod_revision ||
         (r->mod_revision == change->mod_revision && r->sub >= change->sub))) {
        return false;
    }
    kv->revision = kv->persisted = change->mod_revision;
    record_write(kv, r, change);
    return true;
}

void kv_loaded(struct kv *kv, int64_t revision)
{
    ASSERT(revision >= kv->revision);
    kv->revision = kv->persisted = revision;
}

/* ---- checks ---------------------------------------------------------------
 */

enum status kv_check_put(const Etcdserverpb__PutRequest *rq)
{
    if (rq->key.len == 0) {
        return ST_EMPTY_KEY;
    }
    if (rq->ignore_value && rq->value.len != 0) {
        return ST_VALUE_PROVIDED;
    }
    if (rq->ignore_lease && rq->lease != 0) {
        return ST_LEASE_PROVIDED;
    }
    return ST_OK;
}

enum status kv_check_delete_range(const Etcdserverpb__DeleteRangeRequest *rq)
{
    return rq->key.len == 0 ? ST_EMPTY_KEY : ST_OK;
}

/* ---- writing ---------------------------------------------------------------
 */

void kv_begin(struct kv *kv)
{
    ASSERT(!kv->writing);
    kv->writing = true;
    kv->n_changes = 0;
    if (kv->changes_capacity > CHANGES_KEPT) { /* after a large delete */
        free(kv->changes);
        kv->changes = NULL;
        kv->changes_capacity = 0;
    }
}

int64_t kv_end(struct kv *kv)
{
    ASSERT(kv->writing);
    kv->writing = false;
    if (kv->n_changes > 0) {
        kv->revision++;
    }
    return kv->revision;
}

const struct kv_change *kv_changes(const struct kv *kv, size_t *n)
{
    *n = kv->n_changes;
    return kv->changes;
}

/* Write change at the next place of this revision, and note it. */
static void apply_change(struct kv *kv, struct record *r,
                         struct kv_change *change)
{
    ASSERT(kv->writing);
    ASSERT(kv->n_changes <= UINT32_MAX);
    if (kv->n_changes == kv->changes_capacity) {
        kv->changes_capacity = kv->n_changes > 0 ? kv->n_changes * 2 : 16;
        kv->changes = mem_realloc(kv->changes, kv->changes_capacity,
                                  sizeof(kv->changes[0]));
    }
    change->mod_revision = kv->revision + 1;
    change->sub = (int64_t)kv->n_changes;
    change->previous_lease = r != NULL ? r->lease : 0;
    r = record_write(kv, r, change);
    change->key = record_key(r);
    change->value = (struct slice){r->value, r->value_size};
    kv->changes[kv->n_changes++] = *change;
}

void record_pair(const struct record *r, Mvccpb__KeyValue *kv)
{
    mvccpb__key_value__init(kv);
    kv->key = (ProtobufCBinaryData){r->item.key_size, (uint8_t *)r->key};
    kv->value = (ProtobufCBinaryData){r->value_size, r->value};
    kv->create_revision = r->create_revision;
    kv->mod_revision = r->mod_revision;
    kv->version = r->version;
    kv->lease = r->lease;
}

/* A pair that outlives its record's next change. */
static Mvccpb__KeyValue *copy_pair(const struct record *r, struct arena *arena)
{
    Mvccpb__KeyValue *pair = arena_alloc(arena, sizeof(*pair));

    record_pair(r, pair);
    pair->key.data = arena_copy(arena, pair->key.data, pair->key.len);
    pair->value.data = arena_copy(arena, pair->value.data, pair->value.len);
    return pair;
}

enum status kv_put(struct kv *kv, const Etcdserverpb__PutRequest *rq,
                   struct arena *arena, Etcdserverpb__PutResponse *rs)
{
    struct kv_change change = {.key = slice_of(rq->key)};
    enum status st = kv_check_put(rq);
    struct record *r, *live;

    if (st != ST_OK) {
        return st;
    }
    r = find(kv, change.key);
    live = r != NULL && r->item.live ? r : NULL;
    if ((rq->ignore_value || rq->ignore_lease) && live == NULL) {
        return ST_KEY_NOT_FOUND;
    }
    if (rq->prev_kv && live != NULL) {
        rs->prev_kv = copy_pair(live, arena);
    }
    change.value = slice_of(rq->value);
    change.lease = rq->lease;
    change.create_revision = kv->revision + 1;
    change.version = 1;
    if (live != NULL) {
        change.create_revision = live->create_revision;
        change.version = live->version + 1;
    }
    if (rq->ignore_value) {
        change.value = (struct slice){live->value, live->value_size};
    }
    if (rq->ignore_lease) {
        change.lease = live->lease;
    }
    apply_change(kv, r, &change);
    return ST_OK;
}

enum status kv_delete_range(struct kv *kv,
                            const Etcdserverpb__DeleteRangeRequest *rq,
                            struct arena *arena,
                            Etcdserverpb__DeleteRangeResponse *rs)
{
    struct interval interval = interval_of(rq->key, rq->range_end);
    enum status st = kv_check_delete_range(rq);
    struct index_cursor cursor;
    struct record **doomed;
    size_t count, n = 0;

    if (st != ST_OK) {
        return st;
    }
    count = interval_count(kv, &interval);
    rs->deleted = (int64_t)count;
    if (count == 0) {
        return ST_OK;
    }
    /* Gathered first: a change ends the walk. */
    doomed = mem_alloc(count, sizeof(doomed[0]));
    for (struct record *r = interval_first(kv, &interval, true, &cursor);
         r != NULL; r = interval_next(&interval, &cursor)) {
        ASSERT(n < count);
        doomed[n++] = r;
    }
    ASSERT(n == count);
    if (rq->prev_kv) {
        rs->n_prev_kvs = n;
        rs->prev_kvs = arena_alloc(arena, n * sizeof(rs->prev_kvs[0]));
    }
    for (size_t i = 0; i < n; i++) {
        struct kv_change change = {.deleted = true};

        change.key = record_key(doomed[i]);
        if (rq->prev_kv) {
            rs->prev_kvs[i] = copy_pair(doomed[i], arena);
        }
        apply_change(kv, doomed[i], &change);
    }
    free(doomed);
    return ST_OK;
}

/* ---- looking ---------------------------------------------------------------
 */

static void describe(const struct record *r, struct kv_change *out)
{
    *out = (struct kv_change){
        .mod_revision = r->mod_revision,
        .sub = r->sub,
        .key = record_key(r),
        .value = {r->value, r->value_size},
        .create_revision = r->create_revision,
        .version = r->version,
        .lease = r->lease,
    };
}

bool kv_get(const struct kv *kv, struct slice key, struct kv_change *out)
{
    const struct record *r = find_live(kv, key);

    if (r == NULL) {
        return false;
    }
    describe(r, out);
    return true;
}

static bool has_prefix(const struct record *r, struct slice prefix)
{
    return r->item.key_size >= prefix.size &&
           (prefix.size == 0 || memcmp(r->key, prefix.data, prefix.size) == 0);
}

bool kv_oldest(const struct kv *kv, struct slice prefix, struct kv_change *out,
               size_t *n)
{
    const struct record *oldest = NULL;
    struct index_cursor cursor;
    struct index_item *item;

    *n = 0;
    for (item = index_seek(kv->index, prefix, true, &cursor); item != NULL;
         item = index_next(&cursor)) {
        const struct record *r = record_of(item);

        if (!has_prefix(r, prefix)) {
            break;
        }
        if (oldest == NULL || r->create_revision < oldest->create_revision) {
            oldest = r;
        }
        (*n)++;
    }
    if (oldest == NULL) {
        return false;
    }
    describe(oldest, out);
    return true;
}

bool kv_each(const struct kv *kv,
             bool (*visit)(void *context, const struct kv_change *pair),
             void *context)
{
    struct index_cursor cursor;
    struct index_item *item;

    for (item = index_seek(kv->index, (struct slice){NULL, 0}, true, &cursor);
         item != NULL; item = index_next(&cursor)) {
        struct kv_change pair;

        describe(record_of(item), &pair);
        if (!visit(context, &pair)) {
            return false;
        }
    }
    return true;
}
