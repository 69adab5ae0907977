/*
 * range.c - kv_range(): which keys, as of which revision, filtered, sorted and
 * cut the way etcd does it (RNG6 to RNG14).
 *
 * The present is served from the index: nothing is copied, and counting is
 * O(log n). A past revision costs a walk over all keys of the interval, dead
 * ones included, and a fetch for every pair that is not the newest.
 */
#include <stdlib.h>
#include <string.h>

#include "server/record.h"

struct selection {
    struct kv *kv;
    const Etcdserverpb__RangeRequest *rq;
    struct interval interval;
    struct arena *arena;
    size_t take; /* at most so many pairs */
    Mvccpb__KeyValue **kvs;
    size_t n, capacity;
    size_t count; /* RNG7 */
};

enum status kv_check_range(const Etcdserverpb__RangeRequest *rq)
{
    if (rq->key.len == 0) {
        return ST_EMPTY_KEY;
    }
    if ((int)rq->sort_order < 0 ||
        rq->sort_order > ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND ||
        (int)rq->sort_target < 0 ||
        rq->sort_target > ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VALUE) {
        return ST_INVALID_SORT;
    }
    return ST_OK;
}

static bool has_filters(const Etcdserverpb__RangeRequest *rq)
{
    return rq->min_mod_revision != 0 || rq->max_mod_revision != 0 ||
           rq->min_create_revision != 0 || rq->max_create_revision != 0;
}

static bool sorts_by_key(const Etcdserverpb__RangeRequest *rq)
{
    return rq->sort_target == ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__KEY;
}

/* In index order already. */
static bool is_in_order(const Etcdserverpb__RangeRequest *rq)
{
    return sorts_by_key(rq) &&
           rq->sort_order != ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND;
}

/*
 * How many pairs to gather in key order: all if they must be filtered or
 * sorted first, else the limit and one that tells that there are more. With
 * sort_order NONE the limit stands even for another target (RNG11).
 */
static size_t how_many(const Etcdserverpb__RangeRequest *rq)
{
    if (rq->limit <= 0 || has_filters(rq)) {
        return SIZE_MAX;
    }
    if (!is_in_order(rq) &&
        rq->sort_order != ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__NONE) {
        return SIZE_MAX;
    }
    return (size_t)rq->limit + 1;
}

static void reserve(struct selection *s, size_t capacity)
{
    Mvccpb__KeyValue **kvs;

    kvs = arena_alloc(s->arena, capacity * sizeof(kvs[0]));
    if (s->n > 0) {
        memcpy(kvs, s->kvs, s->n * sizeof(kvs[0]));
    }
    s->kvs = kvs;
    s->capacity = capacity;
}

static void push(struct selection *s, Mvccpb__KeyValue *pair)
{
    if (s->n == s->capacity) {
        reserve(s, s->n > 0 ? s->n * 2 : 8);
    }
    s->kvs[s->n++] = pair;
}

/* ---- the present -----------------------------------------------------------
 */

static void select_present(struct selection *s)
{
    struct index_cursor cursor;
    Mvccpb__KeyValue *pairs;
    struct record *r;
    size_t n;

    s->count = interval_count(s->kv, &s->interval);
    if (s->rq->count_only || s->count == 0) {
        return;
    }
    n = s->count < s->take ? s->count : s->take;
    reserve(s, n);
    pairs = arena_alloc(s->arena, n * sizeof(pairs[0]));
    for (r = interval_first(s->kv, &s->interval, true, &cursor);
         r != NULL && s->n < n; r = interval_next(&s->interval, &cursor)) {
        record_pair(r, &pairs[s->n]);
        push(s, &pairs[s->n]);
    }
    ASSERT(s->n == n);
}

/* One key as it is now: what most reads are. */
static void range_one(struct kv *kv, const Etcdserverpb__RangeRequest *rq,
                      struct arena *arena, Etcdserverpb__RangeResponse *rs)
{
    struct slice key = {rq->key.data, rq->key.len};
    struct record *r = (struct record *)index_find(kv->index, key);
    struct {
        Mvccpb__KeyValue *kvs[1];
        Mvccpb__KeyValue pair;
    } * one;

    if (r == NULL || !r->item.live) {
        return;
    }
    rs->count = 1;
    if (rq->count_only) {
        return;
    }
    one = arena_alloc(arena, sizeof(*one));
    record_pair(r, &one->pair);
    one->kvs[0] = &one->pair;
    if (rq->keys_only) {
        one->pair.value = (ProtobufCBinaryData){0, NULL};
    }
    rs->kvs = one->kvs;
    rs->n_kvs = 1;
}

/* ---- the past --------------------------------------------------------------
 */

/* The last of r's older changes at or before revision; n_older if none. */
static uint32_t older_at(const struct record *r, int64_t revision)
{
    uint32_t low = 0, high = record_n_older(r);

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (r->past->change[middle].mod_revision <= revision) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 ? low - 1 : record_n_older(r);
}

static Mvccpb__KeyValue *copy_replaced(const struct replaced *p,
                                       struct arena *arena)
{
    Mvccpb__KeyValue *pair = arena_alloc(arena, sizeof(*pair));

    mvccpb__key_value__init(pair);
    pair->create_revision = p->create_revision;
    pair->version = p->version;
    pair->lease = p->lease;
    pair->value.len = p->value_size;
    pair->value.data = arena_copy(arena, p->value, p->value_size);
    return pair;
}

/* The pair that r's older change i stored: from memory, else from state.db. */
static Mvccpb__KeyValue *fetch_older(const struct selection *s,
                                     const struct record *r, uint32_t i)
{
    bool last = i + 1 == record_n_older(r);
    int64_t by = last ? r->mod_revision : r->past->change[i + 1].mod_revision;
    uint32_t by_sub = last ? r->sub : r->past->change[i + 1].sub;
    const struct replaced *p = replaced_find(s->kv, by, by_sub);
    Mvccpb__KeyValue *pair;

    if (p != NULL) {
        pair = copy_replaced(p, s->arena);
    } else {
        pair = arena_alloc(s->arena, sizeof(*pair));
        mvccpb__key_value__init(pair);
        if (s->kv->fetch == NULL ||
            !s->kv->fetch(s->kv->context, r->past->change[i].mod_revision,
                          r->past->change[i].sub, s->arena, pair)) {
            return NULL;
        }
    }
    pair->key = (ProtobufCBinaryData){r->item.key_size, (uint8_t *)r->key};
    pair->mod_revision = r->past->change[i].mod_revision;
    return pair;
}

/* r as of rq->revision joins the selection if it was alive then. */
static bool select_record(struct selection *s, const struct record *r)
{
    Mvccpb__KeyValue *pair;
    bool newest = r->mod_revision <= s->rq->revision;
    uint32_t i = newest ? record_n_older(r) : older_at(r, s->rq->revision);

    if (newest ? !r->item.live
               : i == record_n_older(r) || r->past->change[i].deleted) {
        return true;
    }
    s->count++;
    if (s->rq->count_only || s->n == s->take) {
        return true;
    }
    if (newest) {
        pair = arena_alloc(s->arena, sizeof(*pair));
        record_pair(r, pair);
    } else {
        pair = fetch_older(s, r, i);
        if (pair == NULL) {
            return false;
        }
    }
    push(s, pair);
    return true;
}

static enum status select_past(struct selection *s)
{
    struct index_cursor cursor;

    for (struct record *r = interval_first(s->kv, &s->interval, false, &cursor);
         r != NULL; r = interval_next(&s->interval, &cursor)) {
        if (!select_record(s, r)) {
            return ST_COMPACTED; /* gone from state.db */
        }
    }
    return ST_OK;
}

/* ---- filter, sort, cut ------------------------------------------------------
 */

static bool passes(const Etcdserverpb__RangeRequest *rq,
                   const Mvccpb__KeyValue *p)
{
    return (rq->max_mod_revision == 0 ||
            p->mod_revision <= rq->max_mod_revision) &&
           (rq->min_mod_revision == 0 ||
            p->mod_revision >= rq->min_mod_revision) &&
           (rq->max_create_revision == 0 ||
            p->create_revision <= rq->max_create_revision) &&
           (rq->min_create_revision == 0 ||
            p->create_revision >= rq->min_create_revision);
}

static void filter(struct selection *s)
{
    size_t kept = 0;

    for (size_t i = 0; i < s->n; i++) {
        if (passes(s->rq, s->kvs[i])) {
            s->kvs[kept++] = s->kvs[i];
        }
    }
    s->n = kept;
}

static int compare_bytes(ProtobufCBinaryData a, ProtobufCBinaryData b)
{
    return slice_compare((struct slice){a.data, a.len},
                         (struct slice){b.data, b.len});
}

static int compare_numbers(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_target(const Etcdserverpb__RangeRequest *rq,
                          const Mvccpb__KeyValue *a, const Mvccpb__KeyValue *b)
{
    switch (rq->sort_target) {
    case ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VERSION:
        return compare_numbers(a->version, b->version);
    case ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__CREATE:
        return compare_numbers(a->create_revision, b->create_revision);
    case ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__MOD:
        return compare_numbers(a->mod_revision, b->mod_revision);
    case ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VALUE:
        return compare_bytes(a->value, b->value);
    default:
        return compare_bytes(a->key, b->key);
    }
}

/* Ties fall in key order: the same answer everywhere. */
static int compare_pairs(const void *a, const void *b, void *context)
{
    const Mvccpb__KeyValue *const *x = a, *const *y = b;
    const Etcdserverpb__RangeRequest *rq = context;
    int order = compare_target(rq, *x, *y);

    if (rq->sort_order == ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND) {
        order = -order;
    }
    return order != 0 ? order : compare_bytes((*x)->key, (*y)->key);
}

static void cut(struct selection *s, Etcdserverpb__RangeResponse *rs)
{
    if (s->rq->limit > 0 && (uint64_t)s->n > (uint64_t)s->rq->limit) {
        s->n = (size_t)s->rq->limit;
        rs->more = true;
    }
}

static void answer(struct selection *s, Etcdserverpb__RangeResponse *rs)
{
    if (has_filters(s->rq)) {
        filter(s);
    }
    if (!is_in_order(s->rq) && s->n > 1) {
        qsort_r(s->kvs, s->n, sizeof(s->kvs[0]), compare_pairs, (void *)s->rq);
    }
    cut(s, rs);
    for (size_t i = 0; s->rq->keys_only && i < s->n; i++) {
        s->kvs[i]->value = (ProtobufCBinaryData){0, NULL};
    }
    rs->count = (int64_t)s->count;
    rs->n_kvs = s->n;
    rs->kvs = s->kvs;
}

enum status kv_range(struct kv *kv, const Etcdserverpb__RangeRequest *rq,
                     struct arena *arena, Etcdserverpb__RangeResponse *rs)
{
    struct selection s = {.kv = kv, .rq = rq, .arena = arena};
    enum status st = kv_check_range(rq);

    if (st != ST_OK) {
        return st;
    }
    if (rq->revision > kv->revision) {
        return ST_FUTURE_REVISION;
    }
    s.interval = interval_of(rq->key, rq->range_end);
    s.take = how_many(rq);
    if (rq->revision > 0 && rq->revision < kv->revision) {
        st = select_past(&s);
    } else if (s.interval.single && !has_filters(rq)) {
        range_one(kv, rq, arena, rs);
        return ST_OK;
    } else {
        select_present(&s);
    }
    if (st == ST_OK) {
        answer(&s, rs);
    }
    return st;
}
