/*
 * index.h - an ordered index of byte strings that can count: a B+tree whose
 * inner nodes know how many live items lie below each child.
 *
 * So the number of live items in an interval costs O(log n), and a walk over
 * live items steps over dead ones a subtree at a time. The index stores
 * pointers to items that its user embeds in records of his own; it owns no
 * item. Iteration is in key order and depends on nothing else, which is what
 * the state machine needs. Not thread-safe.
 */
#ifndef PAWL_INDEX_H
#define PAWL_INDEX_H

#include "proto/base.h"

struct index;
struct index_node;

/* First in the user's record. key must not change while it is in the index. */
struct index_item {
    const uint8_t *key;
    uint32_t key_size;
    bool live; /* set before index_insert(), then by index_set_live() alone */
};

struct index *index_new(void);
/* free_item, if not NULL, is called for every item. NULL index is fine. */
void index_free(struct index *ix, void (*free_item)(struct index_item *item));

/* Live or dead; NULL if there is none. */
struct index_item *index_find(const struct index *ix, struct slice key);
/* No item with this key may be there. */
void index_insert(struct index *ix, struct index_item *item);
/* The item must be there; it is not freed. */
void index_remove(struct index *ix, struct index_item *item);
void index_set_live(struct index *ix, struct index_item *item, bool live);

size_t index_count(const struct index *ix);                  /* live items */
size_t index_rank(const struct index *ix, struct slice key); /* live, < key */

/* A walk in key order; any change to the index ends it. */
#define INDEX_HEIGHT_MAX 16
struct index_cursor {
    struct {
        const struct index_node *node;
        unsigned slot;
    } level[INDEX_HEIGHT_MAX];
    unsigned depth;
    bool live_only;
};

/* The first item >= from, NULL if none; then the one after it, and so on. */
struct index_item *index_seek(const struct index *ix, struct slice from,
                              bool live_only, struct index_cursor *c);
struct index_item *index_next(struct index_cursor *c);

/* What must hold inside; for tests. */
void index_check(const struct index *ix);

#endif
