/*
 * history.c - remembered logs.
 */
#include "tests/sim/history.h"

#include <string.h>

#include <xxhash.h>

#include "raft/base.h"

static void make_room(struct history *h, raft_index last)
{
    if (last >= h->room) {
        h->room = 2 * (size_t)last + 16;
        h->places = raft_realloc(h->places, h->room, sizeof *h->places);
    }
}

void history_init(struct history *h)
{
    *h = (struct history){0};
    make_room(h, 0);
    h->places[0] = (struct place){0};
}

void history_release(struct history *h)
{
    raft_free(h->places);
    *h = (struct history){0};
}

void history_copy(struct history *to, const struct history *from)
{
    make_room(to, from->last);
    memcpy(to->places, from->places, (from->last + 1) * sizeof *to->places);
    to->last = from->last;
    to->hard_state = from->hard_state;
}

bool history_equal(const struct history *a, const struct history *b)
{
    return a->last == b->last &&
           a->places[a->last].prefix == b->places[b->last].prefix &&
           a->hard_state.term == b->hard_state.term &&
           a->hard_state.voted_for == b->hard_state.voted_for &&
           a->hard_state.commit == b->hard_state.commit;
}

struct place place_of(const struct place *before, const struct raft_entry *e)
{
    uint64_t numbers[] = {before->prefix, e->index, e->term, (uint64_t)e->type,
                          e->size};
    uint64_t seed = XXH3_64bits(numbers, sizeof numbers);

    return (struct place){
        .term = e->term,
        .prefix = XXH3_64bits_withSeed(e->size > 0 ? (const void *)e->data : "",
                                       e->size, seed)};
}

void history_append(struct history *h, const struct raft_entry *e)
{
    ASSERT(e->index == h->last + 1);
    make_room(h, e->index);
    h->places[e->index] = place_of(&h->places[h->last], e);
    h->last = e->index;
}

void history_write(struct history *h, const struct store_batch *b)
{
    if (b->truncate_from != 0 && b->truncate_from <= h->last) {
        h->last = b->truncate_from - 1;
    }
    for (size_t i = 0; i < b->n_entries; i++) {
        history_append(h, &b->entries[i]);
    }
    if (b->hard_state != NULL) {
        h->hard_state = *b->hard_state;
    }
}

bool history_holds(const struct history *h, raft_index index,
                   const struct place *p)
{
    return index <= h->last && h->places[index].prefix == p->prefix;
}
