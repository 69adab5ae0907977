/*
 * index.c - a counted B+tree.
 *
 *            inner:  item[0]  item[1]  item[2]      the smallest item below ...
 *                    child[0] child[1] child[2]     ... each child
 *                    live[0]  live[1]  live[2]      live items below it
 *                       |
 *            leaf:   item[0]  item[1]  ...          the items themselves
 *
 * All leaves are at the same depth. An inner node repeats the smallest item of
 * each child instead of keeping separators of its own: no key is copied, and
 * what a change leaves stale is refreshed on the way back up.
 *
 * Items lie anywhere in memory, so a search that looked at each of them would
 * wait for memory six times a node. A node therefore keeps four bytes of every
 * key, those behind the prefix that all its keys share (skip): the search runs
 * over these and asks an item only where they are equal.
 */
#include "server/index.h"

#include <stdlib.h>
#include <string.h>

#define SLOTS 64u
#define SLOTS_MIN (SLOTS / 4) /* fewer: merge or borrow; the root may */

struct index_node {
    uint16_t n;
    bool leaf;
    uint32_t skip; /* all keys here share their first skip bytes, or more */
    uint32_t hint[SLOTS];
    struct index_item *item[SLOTS];
};

struct inner {
    struct index_node node; /* first: an inner node is a node */
    struct index_node *child[SLOTS];
    uint32_t live[SLOTS];
};

struct index {
    struct index_node *root;
    size_t live;
};

static struct inner *inner_of(struct index_node *n)
{
    ASSERT(!n->leaf);
    return (struct inner *)n;
}

static const struct inner *inner_of_const(const struct index_node *n)
{
    ASSERT(!n->leaf);
    return (const struct inner *)n;
}

static struct slice item_key(const struct index_item *item)
{
    return (struct slice){item->key, item->key_size};
}

static struct index_node *node_new(bool leaf)
{
    struct index_node *n =
        mem_alloc(1, leaf ? sizeof(struct index_node) : sizeof(struct inner));

    n->leaf = leaf;
    return n;
}

struct index *index_new(void)
{
    struct index *ix = mem_alloc(1, sizeof(*ix));

    ix->root = node_new(true);
    return ix;
}

static void node_free(struct index_node *n,
                      void (*free_item)(struct index_item *item))
{
    for (unsigned i = 0; i < n->n; i++) {
        if (!n->leaf) {
            node_free(inner_of(n)->child[i], free_item);
        } else if (free_item != NULL) {
            free_item(n->item[i]);
        }
    }
    free(n);
}

void index_free(struct index *ix, void (*free_item)(struct index_item *item))
{
    if (ix == NULL) {
        return;
    }
    node_free(ix->root, free_item);
    free(ix);
}

/* ---- finding ------------------------------------------------------------ */

/* The four bytes behind skip as a number that orders as they do. */
static uint32_t hint_of(struct slice key, uint32_t skip)
{
    uint8_t bytes[4] = {0};
    size_t n = key.size - skip;

    ASSERT(key.size >= skip);
    if (n > 0) {
        memcpy(bytes, key.data + skip, n < 4 ? n : 4);
    }
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 |
           (uint32_t)bytes[2] << 8 | bytes[3];
}

/* How key stands to the prefix that the node's keys share. */
static int compare_prefix(const struct index_node *n, struct slice key)
{
    size_t shared = key.size < n->skip ? key.size : n->skip;
    int order = shared > 0 ? memcmp(key.data, n->item[0]->key, shared) : 0;

    return order == 0 && key.size < n->skip ? -1 : order;
}

/* How the item at slot stands to a key that begins with the prefix. */
static int compare_slot(const struct index_node *n, unsigned slot,
                        struct slice key, uint32_t hint)
{
    if (n->hint[slot] != hint) {
        return n->hint[slot] < hint ? -1 : 1;
    }
    return slice_compare(item_key(n->item[slot]), key);
}

/* The first slot whose item is >= key; *equal: it is the key's. */
static unsigned lower_bound(const struct index_node *n, struct slice key,
                            bool *equal)
{
    unsigned low = 0, high = n->n;
    int prefix = n->n > 0 ? compare_prefix(n, key) : 0;
    uint32_t hint;

    *equal = false;
    if (n->n == 0 || prefix != 0) {
        return prefix > 0 ? n->n : 0;
    }
    hint = hint_of(key, n->skip);
    while (low < high) {
        unsigned middle = (low + high) / 2;
        int order = compare_slot(n, middle, key, hint);

        if (order == 0) {
            *equal = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Which child of an inner node holds key, or would. */
static unsigned child_slot(const struct index_node *n, struct slice key)
{
    bool equal;
    unsigned slot = lower_bound(n, key, &equal);

    return equal || slot == 0 ? slot : slot - 1;
}

struct index_item *index_find(const struct index *ix, struct slice key)
{
    const struct index_node *n = ix->root;
    bool equal;
    unsigned slot;

    while (!n->leaf) {
        n = inner_of_const(n)->child[child_slot(n, key)];
    }
    slot = lower_bound(n, key, &equal);
    return equal ? n->item[slot] : NULL;
}

size_t index_count(const struct index *ix)
{
    return ix->live;
}

size_t index_rank(const struct index *ix, struct slice key)
{
    const struct index_node *n = ix->root;
    size_t rank = 0;
    unsigned slot;
    bool equal;

    while (!n->leaf) {
        const struct inner *in = inner_of_const(n);

        slot = child_slot(n, key);
        for (unsigned i = 0; i < slot; i++) {
            rank += in->live[i];
        }
        n = in->child[slot];
    }
    slot = lower_bound(n, key, &equal);
    for (unsigned i = 0; i < slot; i++) {
        rank += n->item[i]->live;
    }
    return rank;
}

/* ---- walking ------------------------------------------------------------ */

static bool slot_is_live(const struct index_node *n, unsigned slot)
{
    return n->leaf ? n->item[slot]->live : inner_of_const(n)->live[slot] > 0;
}

/* From wherever the cursor stands, on to the next place that counts. */
static struct index_item *cursor_settle(struct index_cursor *c)
{
    for (;;) {
        const struct index_node *n = c->level[c->depth].node;
        unsigned slot = c->level[c->depth].slot;

        while (slot < n->n && c->live_only && !slot_is_live(n, slot)) {
            slot++;
        }
        c->level[c->depth].slot = slot;
        if (slot == n->n) {
            if (c->depth == 0) {
                return NULL;
            }
            c->depth--;
            c->level[c->depth].slot++;
        } else if (n->leaf) {
            return n->item[slot];
        } else {
            c->depth++;
            ASSERT(c->depth < INDEX_HEIGHT_MAX);
            c->level[c->depth].node = inner_of_const(n)->child[slot];
            c->level[c->depth].slot = 0;
        }
    }
}

struct index_item *index_seek(const struct index *ix, struct slice from,
                              bool live_only, struct index_cursor *c)
{
    const struct index_node *n = ix->root;
    bool equal;

    c->depth = 0;
    c->live_only = live_only;
    while (!n->leaf) {
        unsigned slot = child_slot(n, from);

        c->level[c->depth].node = n;
        c->level[c->depth].slot = slot;
        c->depth++;
        ASSERT(c->depth < INDEX_HEIGHT_MAX);
        n = inner_of_const(n)->child[slot];
    }
    c->level[c->depth].node = n;
    c->level[c->depth].slot = lower_bound(n, from, &equal);
    return cursor_settle(c);
}

struct index_item *index_next(struct index_cursor *c)
{
    if (c->level[c->depth].slot >= c->level[c->depth].node->n) {
        return NULL;
    }
    c->level[c->depth].slot++;
    return cursor_settle(c);
}

/* ---- changing ------------------------------------------------------------ */

static uint32_t node_live(const struct index_node *n)
{
    uint32_t live = 0;

    for (unsigned i = 0; i < n->n; i++) {
        live += n->leaf ? n->item[i]->live : inner_of_const(n)->live[i];
    }
    return live;
}

/* Look at all keys of n again: what they share, and what follows that. */
static void rehint(struct index_node *n)
{
    struct slice first, last;
    uint32_t skip = 0;

    if (n->n == 0) {
        n->skip = 0;
        return;
    }
    first = item_key(n->item[0]);
    last = item_key(n->item[n->n - 1]);
    while (skip < first.size && skip < last.size &&
           first.data[skip] == last.data[skip]) {
        skip++;
    }
    n->skip = skip;
    for (unsigned i = 0; i < n->n; i++) {
        n->hint[i] = hint_of(item_key(n->item[i]), skip);
    }
}

/* Place an item, whose hint follows if it shares the prefix. */
static void slot_set(struct index_node *n, unsigned slot,
                     struct index_item *item)
{
    const struct index_item *other = n->item[slot > 0 ? 0 : n->n - 1];

    n->item[slot] = item;
    if (n->n < 2 || item->key_size < n->skip ||
        memcmp(item->key, other->key, n->skip) != 0) {
        rehint(n);
    } else {
        n->hint[slot] = hint_of(item_key(item), n->skip);
    }
}

/* Move count slots, with all that belongs to them, between or within nodes. */
static void slots_move(struct index_node *to, unsigned to_slot,
                       struct index_node *from, unsigned from_slot,
                       unsigned count)
{
    ASSERT(to->leaf == from->leaf);
    ASSERT(to_slot + count <= SLOTS && from_slot + count <= SLOTS);
    memmove(to->item + to_slot, from->item + from_slot,
            count * sizeof(to->item[0]));
    memmove(to->hint + to_slot, from->hint + from_slot,
            count * sizeof(to->hint[0]));
    if (!to->leaf) {
        struct inner *t = inner_of(to), *f = inner_of(from);

        memmove(t->child + to_slot, f->child + from_slot,
                count * sizeof(t->child[0]));
        memmove(t->live + to_slot, f->live + from_slot,
                count * sizeof(t->live[0]));
    }
}

static void slot_open(struct index_node *n, unsigned slot)
{
    ASSERT(n->n < SLOTS && slot <= n->n);
    slots_move(n, slot + 1, n, slot, n->n - slot);
    n->item[slot] = NULL; /* for its caller to set */
    n->n++;
}

static void slot_close(struct index_node *n, unsigned slot)
{
    ASSERT(slot < n->n);
    slots_move(n, slot, n, slot + 1, n->n - slot - 1u);
    n->n--;
}

/* The smallest item below a child, after that child changed. */
static void slot_follow(struct inner *in, unsigned slot)
{
    struct index_item *first = in->child[slot]->item[0];

    ASSERT(in->child[slot]->n > 0);
    if (in->node.item[slot] != first) {
        slot_set(&in->node, slot, first);
    }
}

/* All that an inner node says of a child, after that child changed much. */
static void slot_refresh(struct inner *in, unsigned slot)
{
    slot_follow(in, slot);
    in->live[slot] = node_live(in->child[slot]);
}

/*
 * Room for one more at *slot: if n is full, half of it moves to a new right
 * sibling, which is returned; *at gets the node that the slot is now in.
 * Appending at the very end, as rising keys do, leaves the left one full.
 */
static struct index_node *make_room(struct index_node *n, unsigned *slot,
                                    struct index_node **at)
{
    struct index_node *right;
    unsigned keep;

    *at = n;
    if (n->n < SLOTS) {
        return NULL;
    }
    keep = *slot == SLOTS ? SLOTS - 1 : SLOTS / 2;
    right = node_new(n->leaf);
    slots_move(right, 0, n, keep, SLOTS - keep);
    right->n = (uint16_t)(SLOTS - keep);
    n->n = (uint16_t)keep;
    rehint(right);
    rehint(n);
    if (*slot > keep) {
        *slot -= keep;
        *at = right;
    }
    return right;
}

/* Returns the new right sibling if n had to be split. */
static struct index_node *insert_below(struct index_node *n,
                                       struct index_item *item)
{
    struct index_node *split, *right, *at;
    struct inner *in;
    unsigned slot;

    if (n->leaf) {
        bool equal;

        slot = lower_bound(n, item_key(item), &equal);
        ASSERT(!equal);
        right = make_room(n, &slot, &at);
        slot_open(at, slot);
        slot_set(at, slot, item);
        return right;
    }
    in = inner_of(n);
    slot = child_slot(n, item_key(item));
    split = insert_below(in->child[slot], item);
    if (split == NULL) {
        slot_follow(in, slot);
        in->live[slot] += item->live;
        return NULL;
    }
    slot_refresh(in, slot);
    slot++;
    right = make_room(n, &slot, &at);
    slot_open(at, slot);
    inner_of(at)->child[slot] = split;
    slot_refresh(inner_of(at), slot);
    return right;
}

void index_insert(struct index *ix, struct index_item *item)
{
    struct index_node *right = insert_below(ix->root, item);

    if (right != NULL) {
        struct index_node *root = node_new(false);

        inner_of(root)->child[0] = ix->root;
        inner_of(root)->child[1] = right;
        root->n = 1;
        slot_refresh(inner_of(root), 0);
        root->n = 2;
        slot_refresh(inner_of(root), 1);
        ix->root = root;
    }
    ix->live += item->live;
}

/* The child at slot has become too small: share with or join a neighbour. */
static void rebalance(struct inner *in, unsigned slot)
{
    unsigned l = slot > 0 ? slot - 1 : 0;
    struct index_node *left, *right;
    unsigned total, keep;

    if (in->node.n < 2) {
        return; /* only under a root that is about to go */
    }
    left = in->child[l];
    right = in->child[l + 1];
    total = (unsigned)left->n + right->n;
    if (total <= SLOTS) {
        slots_move(left, left->n, right, 0, right->n);
        left->n = (uint16_t)total;
        rehint(left);
        free(right);
        slot_close(&in->node, l + 1);
        slot_refresh(in, l);
        return;
    }
    keep = total / 2;
    if (left->n > keep) {
        unsigned moved = left->n - keep;

        slots_move(right, moved, right, 0, right->n);
        slots_move(right, 0, left, keep, moved);
    } else {
        unsigned moved = keep - left->n;

        slots_move(left, left->n, right, 0, moved);
        slots_move(right, 0, right, moved, right->n - moved);
    }
    left->n = (uint16_t)keep;
    right->n = (uint16_t)(total - keep);
    rehint(left);
    rehint(right);
    slot_refresh(in, l);
    slot_refresh(in, l + 1);
}

static void remove_below(struct index_node *n, struct index_item *item)
{
    struct inner *in;
    unsigned slot;

    if (n->leaf) {
        bool equal;

        slot = lower_bound(n, item_key(item), &equal);
        ASSERT(equal && n->item[slot] == item);
        slot_close(n, slot);
        return;
    }
    in = inner_of(n);
    slot = child_slot(n, item_key(item));
    remove_below(in->child[slot], item);
    if (in->child[slot]->n < SLOTS_MIN && n->n > 1) {
        rebalance(in, slot);
    } else {
        slot_follow(in, slot);
        in->live[slot] -= item->live;
    }
}

void index_remove(struct index *ix, struct index_item *item)
{
    remove_below(ix->root, item);
    ix->live -= item->live;
    if (!ix->root->leaf && ix->root->n == 1) {
        struct index_node *root = ix->root;

        ix->root = inner_of(root)->child[0];
        free(root);
    }
}

void index_set_live(struct index *ix, struct index_item *item, bool live)
{
    struct slice key = item_key(item);
    struct index_node *n = ix->root;
    uint32_t step = live ? 1 : UINT32_MAX; /* plus or minus one, modulo 2^32 */

    if (item->live == live) {
        return;
    }
    while (!n->leaf) {
        unsigned slot = child_slot(n, key);

        inner_of(n)->live[slot] += step;
        n = inner_of(n)->child[slot];
    }
    item->live = live;
    ix->live += live ? 1 : SIZE_MAX;
}

/* ---- checking ------------------------------------------------------------ */

static unsigned node_check(const struct index_node *n, bool is_root)
{
    unsigned height = 0;

    ASSERT(n->n <= SLOTS);
    ASSERT(is_root || n->n > 0);
    for (unsigned i = 0; i < n->n; i++) {
        if (i > 0) {
            ASSERT(slice_compare(item_key(n->item[i - 1]),
                                 item_key(n->item[i])) < 0);
        }
        ASSERT(n->item[i]->key_size >= n->skip);
        ASSERT(memcmp(n->item[i]->key, n->item[0]->key, n->skip) == 0);
        ASSERT(n->hint[i] == hint_of(item_key(n->item[i]), n->skip));
        if (!n->leaf) {
            const struct inner *in = inner_of_const(n);
            unsigned h = node_check(in->child[i], false);

            ASSERT(i == 0 || h == height);
            ASSERT(in->child[i]->item[0] == n->item[i]);
            ASSERT(node_live(in->child[i]) == in->live[i]);
            height = h;
        }
    }
    return height + 1;
}

void index_check(const struct index *ix)
{
    (void)node_check(ix->root, true);
    ASSERT(node_live(ix->root) == ix->live);
}
