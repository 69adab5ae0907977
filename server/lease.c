/*
 * lease.c - leases in an index by id, their keys in an index by (id, key), and
 * a heap of ends for the leader.
 *
 * The indexes give every walk an order that is the same on all members. The
 * heap is in use only while the clock runs:
 *
 *     granted --> fresh: in the heap with due 0, its end not known yet, since
 *                 applying a command reads no clock
 *     the next timed call --> runs: due = end
 *     past its end and told of --> due = when to tell of it again
 *     renewed --> runs
 */
#include "server/lease.h"

#include <stdlib.h>
#include <string.h>

#include "server/index.h"

#define ID_BYTES 8

struct lease {
    struct index_item item;
    uint8_t id_bytes[ID_BYTES]; /* the item's key */
    int64_t id, ttl_s;
    size_t n_keys;
    /* While the clock runs: */
    bool fresh;
    uint64_t end_ms, due_ms;
    size_t place; /* in the heap */
};

/* A key of a lease. */
struct attachment {
    struct index_item item;
    uint8_t bytes[]; /* the lease's id, then the key */
};

struct leases {
    struct index *by_id;
    struct index *attachments;
    bool clock_runs;
    struct lease **heap; /* the smallest (due_ms, id) first */
    size_t n_heap, heap_capacity;
};

/* Big-endian with the sign turned: bytewise order is order by value. */
static void put_id(uint8_t *to, int64_t id)
{
    uint64_t u = (uint64_t)id ^ (UINT64_C(1) << 63);

    for (int i = 0; i < ID_BYTES; i++) {
        to[i] = (uint8_t)(u >> (56 - 8 * i));
    }
}

static struct lease *find(const struct leases *ls, int64_t id)
{
    uint8_t bytes[ID_BYTES];

    put_id(bytes, id);
    return (struct lease *)index_find(ls->by_id,
                                      (struct slice){bytes, sizeof(bytes)});
}

struct leases *leases_new(void)
{
    struct leases *ls = mem_alloc(1, sizeof(*ls));

    ls->by_id = index_new();
    ls->attachments = index_new();
    return ls;
}

static void free_item(struct index_item *item)
{
    free(item);
}

void leases_free(struct leases *ls)
{
    if (ls == NULL) {
        return;
    }
    index_free(ls->by_id, free_item);
    index_free(ls->attachments, free_item);
    free(ls->heap);
    free(ls);
}

/* ---- the heap --------------------------------------------------------------
 */

static bool is_before(const struct lease *a, const struct lease *b)
{
    return a->due_ms < b->due_ms || (a->due_ms == b->due_ms && a->id < b->id);
}

static void heap_set(struct leases *ls, size_t place, struct lease *l)
{
    ls->heap[place] = l;
    l->place = place;
}

/* Put l, for which place is free, where it belongs. */
static void heap_sift(struct leases *ls, size_t place, struct lease *l)
{
    while (place > 0 && is_before(l, ls->heap[(place - 1) / 2])) {
        heap_set(ls, place, ls->heap[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * place + 1;

        if (child + 1 < ls->n_heap &&
            is_before(ls->heap[child + 1], ls->heap[child])) {
            child++;
        }
        if (child >= ls->n_heap || !is_before(ls->heap[child], l)) {
            break;
        }
        heap_set(ls, place, ls->heap[child]);
        place = child;
    }
    heap_set(ls, place, l);
}

static void heap_add(struct leases *ls, struct lease *l)
{
    if (ls->n_heap == ls->heap_capacity) {
        ls->heap_capacity = ls->n_heap > 0 ? ls->n_heap * 2 : 64;
        ls->heap =
            mem_realloc(ls->heap, ls->heap_capacity, sizeof(ls->heap[0]));
    }
    ls->n_heap++;
    heap_sift(ls, ls->n_heap - 1, l);
}

static void heap_remove(struct leases *ls, struct lease *l)
{
    struct lease *last = ls->heap[ls->n_heap - 1];

    ASSERT(ls->heap[l->place] == l);
    ls->n_heap--;
    if (last != l) {
        heap_sift(ls, l->place, last);
    }
}

static void set_due(struct leases *ls, struct lease *l, uint64_t due_ms)
{
    l->due_ms = due_ms;
    heap_sift(ls, l->place, l);
}

/* ---- replicated ------------------------------------------------------------
 */

enum status lease_grant(struct leases *ls, int64_t id, int64_t ttl_s)
{
    struct lease *l;

    if (id == 0) {
        return ST_LEASE_NOT_FOUND; /* 0 means "no lease" everywhere */
    }
    if (ttl_s > LEASE_TTL_MAX_S) {
        return ST_LEASE_TTL_TOO_LARGE;
    }
    if (find(ls, id) != NULL) {
        return ST_LEASE_EXIST;
    }
    l = mem_alloc(1, sizeof(*l));
    l->id = id;
    l->ttl_s = ttl_s > 0 ? ttl_s : 1;
    put_id(l->id_bytes, id);
    l->item = (struct index_item){l->id_bytes, ID_BYTES, true};
    index_insert(ls->by_id, &l->item);
    if (ls->clock_runs) {
        l->fresh = true;
        heap_add(ls, l);
    }
    return ST_OK;
}

enum status lease_revoke(struct leases *ls, int64_t id)
{
    struct lease *l = find(ls, id);

    if (l == NULL) {
        return ST_LEASE_NOT_FOUND;
    }
    ASSERT(l->n_keys == 0);
    if (ls->clock_runs) {
        heap_remove(ls, l);
    }
    index_remove(ls->by_id, &l->item);
    free(l);
    return ST_OK;
}

bool lease_exists(const struct leases *ls, int64_t id)
{
    return find(ls, id) != NULL;
}

int64_t lease_ttl_s(const struct leases *ls, int64_t id)
{
    const struct lease *l = find(ls, id);

    return l != NULL ? l->ttl_s : 0;
}

static struct attachment *attachment_new(int64_t id, struct slice key)
{
    struct attachment *at = mem_alloc(1, sizeof(*at) + ID_BYTES + key.size);

    ASSERT(key.size < UINT32_MAX - ID_BYTES);
    put_id(at->bytes, id);
    memcpy(at->bytes + ID_BYTES, key.data, key.size);
    at->item.key = at->bytes;
    at->item.key_size = (uint32_t)(ID_BYTES + key.size);
    at->item.live = true;
    return at;
}

static struct slice attachment_key(const struct attachment *at)
{
    return (struct slice){at->item.key, at->item.key_size};
}

void lease_attach(struct leases *ls, int64_t id, struct slice key)
{
    struct lease *l = find(ls, id);
    struct attachment *at;

    if (id == 0) {
        return;
    }
    ASSERT(l != NULL);
    at = attachment_new(id, key);
    if (index_find(ls->attachments, attachment_key(at)) != NULL) {
        free(at);
        return;
    }
    index_insert(ls->attachments, &at->item);
    l->n_keys++;
}

void lease_detach(struct leases *ls, int64_t id, struct slice key)
{
    struct lease *l = find(ls, id);
    struct attachment *at;
    struct index_item *item;

    if (l == NULL) {
        return;
    }
    at = attachment_new(id, key);
    item = index_find(ls->attachments, attachment_key(at));
    free(at);
    if (item != NULL) {
        index_remove(ls->attachments, item);
        free(item);
        l->n_keys--;
    }
}

struct slice *lease_keys(const struct leases *ls, int64_t id, size_t *n)
{
    const struct lease *l = find(ls, id);
    struct index_cursor cursor;
    struct index_item *item;
    struct slice *keys;

    *n = 0;
    if (l == NULL || l->n_keys == 0) {
        return NULL;
    }
    keys = mem_alloc(l->n_keys, sizeof(keys[0]));
    item = index_seek(ls->attachments, (struct slice){l->id_bytes, ID_BYTES},
                      true, &cursor);
    for (; *n < l->n_keys; item = index_next(&cursor)) {
        ASSERT(item != NULL && memcmp(item->key, l->id_bytes, ID_BYTES) == 0);
        keys[(*n)++] =
            (struct slice){item->key + ID_BYTES, item->key_size - ID_BYTES};
    }
    return keys;
}

size_t leases_count(const struct leases *ls)
{
    return index_count(ls->by_id);
}

int64_t *leases_ids(const struct leases *ls, size_t *n)
{
    size_t count = index_count(ls->by_id);
    int64_t *ids = mem_alloc(count, sizeof(ids[0]));
    struct index_cursor cursor;

    *n = 0;
    for (struct index_item *item =
             index_seek(ls->by_id, (struct slice){NULL, 0}, true, &cursor);
         item != NULL; item = index_next(&cursor)) {
        ids[(*n)++] = ((struct lease *)item)->id;
    }
    ASSERT(*n == count);
    return ids;
}

/* ---- timed ------------------------------------------------------------------
 */

static uint64_t ttl_ms(const struct lease *l)
{
    return (uint64_t)l->ttl_s * 1000;
}

static void run_from(struct leases *ls, struct lease *l, uint64_t now_ms)
{
    l->fresh = false;
    l->end_ms = now_ms + ttl_ms(l);
    set_due(ls, l, l->end_ms);
}

/* Leases granted since the last timed call begin to run. */
static void start_fresh(struct leases *ls, uint64_t now_ms)
{
    while (ls->n_heap > 0 && ls->heap[0]->fresh) {
        run_from(ls, ls->heap[0], now_ms);
    }
}

void leases_start_clock(struct leases *ls, uint64_t now_ms, uint64_t extra_ms)
{
    struct index_cursor cursor;

    ls->n_heap = 0;
    ls->clock_runs = true;
    for (struct index_item *item =
             index_seek(ls->by_id, (struct slice){NULL, 0}, true, &cursor);
         item != NULL; item = index_next(&cursor)) {
        struct lease *l = (struct lease *)item;

        l->fresh = false;
        l->end_ms = l->due_ms = now_ms + ttl_ms(l) + extra_ms;
        heap_add(ls, l);
    }
}

void leases_stop_clock(struct leases *ls)
{
    ls->clock_runs = false;
    ls->n_heap = 0;
}

int64_t lease_renew(struct leases *ls, int64_t id, uint64_t now_ms)
{
    struct lease *l = find(ls, id);

    if (l == NULL || !ls->clock_runs) {
        return 0;
    }
    start_fresh(ls, now_ms);
    if (now_ms >= l->end_ms) {
        return 0;
    }
    run_from(ls, l, now_ms);
    return l->ttl_s;
}

int64_t lease_remaining_s(const struct leases *ls, int64_t id, uint64_t now_ms)
{
    const struct lease *l = find(ls, id);

    if (l == NULL || !ls->clock_runs) {
        return -1;
    }
    if (l->fresh) {
        return l->ttl_s;
    }
    return now_ms < l->end_ms ? (int64_t)((l->end_ms - now_ms) / 1000) : 0;
}

size_t leases_expired(struct leases *ls, uint64_t now_ms, uint64_t retry_ms,
                      int64_t *ids, size_t max)
{
    size_t n = 0;

    start_fresh(ls, now_ms);
    while (n < max && ls->n_heap > 0 && ls->heap[0]->due_ms <= now_ms) {
        ids[n++] = ls->heap[0]->id;
        /* At least 1 ms on, or this loop would tell of it again. */
        set_due(ls, ls->heap[0], now_ms + (retry_ms > 0 ? retry_ms : 1));
    }
    return n;
}

uint64_t leases_next_expiry_ms(const struct leases *ls)
{
    return ls->n_heap > 0 ? ls->heap[0]->due_ms : UINT64_MAX;
}
