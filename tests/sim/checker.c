/*
 * checker.c - the search. Begins and ends stand in one list in order of time.
 * Walking it from the front, an operation whose begin is met may come next; an
 * end that is met means that its operation had to come before: back up. Sets
 * of operations done, together with the value that they left, are remembered
 * by their hash and not tried twice.
 */
#include "tests/sim/checker.h"

#include <stdlib.h>
#include <string.h>

#include "raft/base.h"

struct moment {
    uint64_t at;
    size_t op;
    bool is_end;
    struct moment *next, *previous, *match; /* match: of a begin, its end */
};

struct memory {
    uint64_t *hashes; /* 0: free */
    size_t n, room;
};

struct search {
    const struct check_op *ops;
    size_t n;
    struct moment *nodes; /* [0] is the head */
    uint64_t *marks;      /* a random number for each operation */
    uint64_t done;        /* of those in the order so far, xored */
    size_t n_to_end;      /* with an end, not yet in the order */
    uint64_t value;
    struct {
        struct moment *begin;
        uint64_t value; /* before it */
    } * stack;
    size_t n_stack;
    struct memory memory;
};

static uint64_t scramble(uint64_t x)
{
    struct rng g;

    rng_init(&g, x);
    return rng_next(&g);
}

/* False: it was there. */
static bool remember(struct memory *m, uint64_t hash)
{
    size_t i;

    hash += hash == 0;
    if (2 * m->n >= m->room) {
        struct memory old = *m;

        m->room = old.room == 0 ? 256 : 2 * old.room;
        m->hashes = raft_alloc(m->room, sizeof *m->hashes);
        m->n = 0;
        for (i = 0; i < old.room; i++) {
            if (old.hashes[i] != 0) {
                (void)remember(m, old.hashes[i]);
            }
        }
        raft_free(old.hashes);
    }
    for (i = (size_t)hash & (m->room - 1); m->hashes[i] != 0;
         i = (i + 1) & (m->room - 1)) {
        if (m->hashes[i] == hash) {
            return false;
        }
    }
    m->hashes[i] = hash;
    m->n++;
    return true;
}

/* ---- the list
 * -------------------------------------------------------------------- */

/* At equal times begins come first: then both orders are allowed. */
static int compare(const void *a, const void *b)
{
    const struct moment *x = a, *y = b;

    if (x->at != y->at) {
        return x->at < y->at ? -1 : 1;
    }
    if (x->is_end != y->is_end) {
        return x->is_end ? 1 : -1;
    }
    return x->op < y->op ? -1 : x->op > y->op;
}

static void make_list(struct search *s)
{
    struct moment **begins = raft_alloc(s->n + 1, sizeof(struct moment *));
    size_t n = 1;

    for (size_t i = 0; i < s->n; i++) {
        s->nodes[n++] = (struct moment){.at = s->ops[i].begin, .op = i};
        if (s->ops[i].end != CHECK_OPEN) {
            s->nodes[n++] =
                (struct moment){.at = s->ops[i].end, .op = i, .is_end = true};
            s->n_to_end++;
        }
    }
    qsort(s->nodes + 1, n - 1, sizeof s->nodes[0], compare);
    for (size_t i = 0; i < n; i++) {
        s->nodes[i].next = i + 1 < n ? &s->nodes[i + 1] : NULL;
        s->nodes[i].previous = i > 0 ? &s->nodes[i - 1] : NULL;
        if (i > 0 && s->nodes[i].is_end) {
            begins[s->nodes[i].op]->match = &s->nodes[i];
        } else if (i > 0) {
            begins[s->nodes[i].op] = &s->nodes[i];
        }
    }
    raft_free(begins);
}

static void unlink_one(struct moment *x)
{
    x->previous->next = x->next;
    if (x->next != NULL) {
        x->next->previous = x->previous;
    }
}

static void relink_one(struct moment *x)
{
    x->previous->next = x;
    if (x->next != NULL) {
        x->next->previous = x;
    }
}

/* ---- the search
 * ------------------------------------------------------------------ */

/* Put the operation of that begin next in the order, if that is new. */
static bool advance(struct search *s, struct moment *begin)
{
    const struct check_op *op = &s->ops[begin->op];
    uint64_t value = op->writes ? op->value : s->value;
    uint64_t done = s->done ^ s->marks[begin->op];

    if ((op->sees && op->seen != s->value) ||
        !remember(&s->memory, done + scramble(value))) {
        return false;
    }
    s->stack[s->n_stack].begin = begin;
    s->stack[s->n_stack++].value = s->value;
    s->done = done;
    s->value = value;
    unlink_one(begin);
    if (begin->match != NULL) {
        unlink_one(begin->match);
        s->n_to_end--;
    }
    return true;
}

/* Take the last one back. Returns where to go on; NULL: nowhere. */
static struct moment *back_up(struct search *s)
{
    struct moment *begin;

    if (s->n_stack == 0) {
        return NULL;
    }
    begin = s->stack[--s->n_stack].begin;
    s->value = s->stack[s->n_stack].value;
    s->done ^= s->marks[begin->op];
    if (begin->match != NULL) {
        relink_one(begin->match);
        s->n_to_end++;
    }
    relink_one(begin);
    return begin;
}

static enum check_result search(struct search *s, uint64_t steps_max)
{
    struct moment *at = s->nodes[0].next;

    for (uint64_t i = 0; s->n_to_end > 0; i++) {
        if (i >= steps_max) {
            return CHECK_UNDECIDED;
        }
        if (at != NULL && !at->is_end) {
            at = advance(s, at) ? s->nodes[0].next : at->next;
            continue;
        }
        at = back_up(s);
        if (at == NULL) {
            return CHECK_BAD;
        }
        at = at->next;
    }
    return CHECK_GOOD;
}

enum check_result checker_run(const struct check_op *ops, size_t n,
                              uint64_t steps_max)
{
    struct search s = {.ops = ops, .n = n};
    enum check_result result;

    s.nodes = raft_alloc(2 * n + 1, sizeof *s.nodes);
    s.marks = raft_alloc(n + 1, sizeof *s.marks);
    s.stack = raft_alloc(n + 1, sizeof *s.stack);
    for (size_t i = 0; i < n; i++) {
        s.marks[i] = scramble(i + 1);
    }
    make_list(&s);
    result = search(&s, steps_max);
    raft_free(s.nodes);
    raft_free(s.marks);
    raft_free(s.stack);
    raft_free(s.memory.hashes);
    return result;
}
