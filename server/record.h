/*
 * record.h - what kv.c and range.c share: the store's inside. Not for others.
 */
#ifndef PAWL_RECORD_H
#define PAWL_RECORD_H

#include "server/index.h"
#include "server/kv.h"

/* One change in a key's past. Its value is in state.db, or in replaced. */
struct revision {
    int64_t mod_revision;
    uint32_t sub;
    bool deleted;
};

/* A key's older changes, ascending. Room: the next power of two. */
struct past {
    uint32_t n;
    struct revision change[];
};

/*
 * A key and all that is known of it without asking state.db: the newest
 * change in full, the places of the older ones. item.live says whether the
 * newest change is a put; if it is a delete, create_revision, version, lease
 * and value are 0.
 */
struct record {
    struct index_item item;
    int64_t create_revision, mod_revision, version, lease;
    uint8_t *value;    /* NULL if value_size is 0 */
    struct past *past; /* NULL: there is none */
    uint32_t value_size;
    uint32_t sub;
    uint8_t key[];
};

static inline uint32_t record_n_older(const struct record *r)
{
    return r->past != NULL ? r->past->n : 0;
}

/*
 * A pair that was replaced before state.db had it. Found by the place of the
 * change that replaced it: those places only rise, so the queue is sorted.
 */
struct replaced {
    int64_t by_mod_revision;
    uint32_t by_sub;
    uint32_t value_size;
    int64_t create_revision, version, lease;
    uint8_t *value;
};

struct kv {
    struct index *index;
    kv_fetch *fetch; /* NULL: there are no old values */
    void *context;
    int64_t revision;
    int64_t persisted; /* state.db holds all changes up to here */
    bool writing;      /* between kv_begin() and kv_end() */
    struct kv_change *changes;
    size_t n_changes, changes_capacity;
    struct replaced *replaced; /* a queue: first .. first + n */
    size_t replaced_first, n_replaced, replaced_capacity;
};

/* From what a request calls key and range_end (RNG1, RNG2, RNG4). */
struct interval {
    struct slice from, to;
    bool single; /* from alone */
    bool open;   /* no end; to is unused */
};

struct interval interval_of(ProtobufCBinaryData key,
                            ProtobufCBinaryData range_end);
/* Live or not, the first record of the interval; then the next. */
struct record *interval_first(const struct kv *kv, const struct interval *i,
                              bool live_only, struct index_cursor *c);
struct record *interval_next(const struct interval *i, struct index_cursor *c);
size_t interval_count(const struct kv *kv, const struct interval *i);

/* A live record's pair; the bytes stay in the store. */
void record_pair(const struct record *r, Mvccpb__KeyValue *kv);
/* The replaced pair that the change at (mod_revision, sub) replaced. */
const struct replaced *replaced_find(const struct kv *kv, int64_t mod_revision,
                                     uint32_t sub);

#endif
