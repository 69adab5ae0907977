/*
 * log.c - the log in memory, and how much of it is on disk.
 *
 * Entries lie in one array, so that a message or a batch of committed ones is
 * a pointer into it. Compacting moves the start to the right; the array is
 * moved back to its front when it runs out of room, which costs a constant
 * per entry over time.
 *
 * The disk reads entries at its own pace. A batch therefore has its own copy
 * of the descriptions, and data that is cut away while a batch may still be
 * reading it is buried: freed when that batch is stable.
 */
#include "raft/internal.h"

#include <string.h>

enum {
    SLOTS_MIN = 64,
    BATCHES_MIN = 8,
    BATCH_KEPT_MAX = 4096, /* entries; larger buffers are not kept for reuse */
};

static const uint8_t *copy_data(const uint8_t *data, size_t size)
{
    void *copy;

    if (size == 0) {
        return NULL;
    }
    copy = raft_realloc(NULL, size, 1);
    memcpy(copy, data, size);
    return copy;
}

void log_init(struct log *l, raft_index prev_index, raft_term prev_term)
{
    *l = (struct log){.prev_index = prev_index, .prev_term = prev_term};
    l->handed_index = prev_index;
    l->stable_index = prev_index;
}

void log_release(struct log *l)
{
    for (size_t i = 0; i < l->n; i++) {
        raft_free((void *)l->slots[l->start + i].data);
    }
    for (size_t i = 0; i < l->n_graves; i++) {
        raft_free(l->graves[i].data);
    }
    for (size_t i = 0; i < l->batches_capacity; i++) {
        raft_free(l->batches[i].entries);
    }
    raft_free(l->slots);
    raft_free(l->graves);
    raft_free(l->batches);
    *l = (struct log){0};
}

/* ---- questions ---------------------------------------------------------- */

raft_index log_first_index(const struct log *l)
{
    return l->prev_index + 1;
}

raft_index log_last_index(const struct log *l)
{
    return l->prev_index + l->n;
}

raft_term log_last_term(const struct log *l)
{
    return log_term(l, log_last_index(l));
}

const struct raft_entry *log_at(const struct log *l, raft_index i)
{
    ASSERT(i > l->prev_index && i <= log_last_index(l));
    return &l->slots[l->start + (size_t)(i - l->prev_index - 1)];
}

raft_term log_term(const struct log *l, raft_index i)
{
    return i == l->prev_index ? l->prev_term : log_at(l, i)->term;
}

bool log_is_up_to_date(const struct log *l, raft_index index, raft_term term)
{
    raft_term last_term = log_last_term(l);

    return term > last_term ||
           (term == last_term && index >= log_last_index(l));
}

raft_index log_find_term(const struct log *l, raft_index from, raft_term term)
{
    raft_index low = l->prev_index, high = log_last_index(l);

    if (from <= low) {
        return from;
    }
    high = from < high ? from : high;
    /* Terms never fall along a log: the answer is in [low, high]. */
    while (low < high) {
        raft_index middle = low + (high - low + 1) / 2;

        if (log_term(l, middle) <= term) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

size_t log_fit(const struct log *l, raft_index from, raft_index to,
               size_t n_max, size_t bytes_max, size_t *bytes)
{
    size_t n = 0;

    *bytes = 0;
    for (raft_index i = from; i <= to && n < n_max; i++, n++) {
        size_t size = log_at(l, i)->size;

        if (n > 0 && (size > bytes_max || *bytes > bytes_max - size)) {
            break;
        }
        *bytes += size;
    }
    return n;
}

/* ---- growing and cutting --------------------------------------------------
 */

static void make_room(struct log *l)
{
    if (l->start + l->n < l->capacity) {
        return;
    }
    if (l->start >= l->capacity / 2 && l->start > 0) {
        memmove(l->slots, l->slots + l->start, l->n * sizeof(*l->slots));
        l->start = 0;
        return;
    }
    l->capacity = l->capacity > 0 ? 2 * l->capacity : SLOTS_MIN;
    l->slots = raft_realloc(l->slots, l->capacity, sizeof(*l->slots));
}

void log_append(struct log *l, const struct raft_entry *e)
{
    struct raft_entry *slot;

    ASSERT(e->index == log_last_index(l) + 1);
    ASSERT(e->term >= log_last_term(l));
    make_room(l);
    slot = &l->slots[l->start + l->n];
    *slot = *e;
    slot->data = copy_data(e->data, e->size);
    l->n++;
}

void log_all_is_stable(struct log *l)
{
    ASSERT(l->last_batch == 0);
    l->handed_index = log_last_index(l);
    l->stable_index = log_last_index(l);
}

static void bury(struct log *l, const uint8_t *data)
{
    if (l->n_batches == 0 || data == NULL) {
        raft_free((void *)data);
        return;
    }
    if (l->n_graves == l->graves_capacity) {
        l->graves_capacity = 2 * l->graves_capacity + 16;
        l->graves =
            raft_realloc(l->graves, l->graves_capacity, sizeof(*l->graves));
    }
    l->graves[l->n_graves++] =
        (struct log_grave){.batch = l->last_batch, .data = (void *)data};
}

/* The i-th oldest that is under way. */
static struct log_batch *batch_at(const struct log *l, size_t i)
{
    ASSERT(i < l->n_batches);
    return &l->batches[(l->batches_head + i) % l->batches_capacity];
}

static void lower(raft_index *i, raft_index to)
{
    *i = *i < to ? *i : to;
}

void log_truncate(struct log *l, raft_index from)
{
    raft_index last = log_last_index(l);

    ASSERT(from > l->prev_index && from <= last);
    for (raft_index i = from; i <= last; i++) {
        bury(l, log_at(l, i)->data);
    }
    l->n -= (size_t)(last - from + 1);

    if (from <= l->handed_index) { /* the disk has it, or soon will */
        if (l->truncate_from == 0 || from < l->truncate_from) {
            l->truncate_from = from;
        }
        l->handed_index = from - 1;
    }
    lower(&l->stable_index, from - 1);
    for (size_t i = 0; i < l->n_batches; i++) {
        lower(&batch_at(l, i)->last_index, from - 1);
    }
}

void log_compact(struct log *l, raft_index index)
{
    size_t n;

    ASSERT(index <= l->stable_index);
    if (index <= l->prev_index) {
        return;
    }
    n = (size_t)(index - l->prev_index);
    l->prev_term = log_term(l, index);
    for (size_t i = 0; i < n; i++) {
        raft_free((void *)l->slots[l->start + i].data);
    }
    l->start += n;
    l->n -= n;
    l->prev_index = index;
}

bool log_restore(struct log *l, raft_index index, raft_term term)
{
    raft_index last = log_last_index(l);
    bool keeps_tail =
        index >= l->prev_index && index <= last && log_term(l, index) == term;
    size_t n = keeps_tail ? (size_t)(index - l->prev_index) : l->n;

    ASSERT(index > l->prev_index);
    ASSERT(l->restore_batch <= l->stable_batch); /* one at a time */
    for (size_t i = 0; i < n; i++) {
        bury(l, l->slots[l->start + i].data);
    }
    l->start += n;
    l->n -= n;
    l->prev_index = index;
    l->prev_term = term;
    /* The stored log goes as a whole, so the tail is written anew. What is
     * being written now says nothing about the log that begins here. */
    l->handed_index = index;
    l->stable_index = index;
    l->truncate_from = 0;
    for (size_t i = 0; i < l->n_batches; i++) {
        lower(&batch_at(l, i)->last_index, index);
    }
    l->restore_batch = l->last_batch + 1;
    return keeps_tail;
}

/* ---- the way to the disk --------------------------------------------------
 */

bool log_has_work(const struct log *l)
{
    return l->handed_index < log_last_index(l) || l->truncate_from != 0 ||
           l->restore_batch > l->last_batch;
}

static struct log_batch *new_batch(struct log *l)
{
    size_t old = l->batches_capacity;

    if (l->n_batches == old) {
        /* Straighten the ring: its wrapped part moves into the new half. */
        l->batches_capacity = old > 0 ? 2 * old : BATCHES_MIN;
        l->batches =
            raft_realloc(l->batches, l->batches_capacity, sizeof(*l->batches));
        memset(l->batches + old, 0,
               (l->batches_capacity - old) * sizeof(*l->batches));
        for (size_t i = 0; i < l->batches_head; i++) {
            struct log_batch unused = l->batches[old + i];
            l->batches[old + i] = l->batches[i];
            l->batches[i] = unused;
        }
    }
    return &l->batches[(l->batches_head + l->n_batches++) %
                       l->batches_capacity];
}

void log_hand_out(struct log *l, uint64_t now, struct raft_ready *rd)
{
    struct log_batch *b = new_batch(l);
    raft_index last = log_last_index(l);
    size_t n = (size_t)(last - l->handed_index);

    if (n > b->capacity) {
        b->entries = raft_realloc(b->entries, n, sizeof(*b->entries));
        b->capacity = n;
    }
    if (n > 0) {
        memcpy(b->entries, log_at(l, l->handed_index + 1),
               n * sizeof(*b->entries));
    }
    b->number = ++l->last_batch;
    b->last_index = last;
    b->handed_at = now;

    rd->batch = b->number;
    rd->truncate_from = l->truncate_from;
    rd->entries = n > 0 ? b->entries : NULL;
    rd->n_entries = n;
    l->handed_index = last;
    l->truncate_from = 0;
}

bool log_is_restoring(const struct log *l)
{
    return l->restore_batch > l->stable_batch;
}

bool log_oldest_batch(const struct log *l, uint64_t *handed_at)
{
    if (l->n_batches > 0) {
        *handed_at = batch_at(l, 0)->handed_at;
    }
    return l->n_batches > 0;
}

uint64_t log_batch_of(const struct log *l, raft_index i)
{
    if (i <= l->stable_index) {
        return log_is_restoring(l) ? l->restore_batch : 0;
    }
    for (size_t k = 0; k < l->n_batches; k++) {
        if (batch_at(l, k)->last_index >= i) {
            return batch_at(l, k)->number;
        }
    }
    return l->last_batch + 1;
}

static void open_graves(struct log *l)
{
    size_t n = 0;

    while (n < l->n_graves && l->graves[n].batch <= l->stable_batch) {
        raft_free(l->graves[n++].data);
    }
    if (n > 0) {
        l->n_graves -= n;
        memmove(l->graves, l->graves + n, l->n_graves * sizeof(*l->graves));
    }
}

bool log_stable(struct log *l, uint64_t batch)
{
    ASSERT(batch <= l->last_batch);
    if (batch <= l->stable_batch) {
        return false;
    }
    while (l->n_batches > 0 && l->batches[l->batches_head].number <= batch) {
        struct log_batch *b = &l->batches[l->batches_head];

        if (b->last_index > l->stable_index) {
            l->stable_index = b->last_index;
        }
        if (b->capacity > BATCH_KEPT_MAX) {
            raft_free(b->entries);
            b->entries = NULL;
            b->capacity = 0;
        }
        l->batches_head = (l->batches_head + 1) % l->batches_capacity;
        l->n_batches--;
    }
    l->stable_batch = batch;
    open_graves(l);
    return true;
}
