/*
 * digest.c - digests of the last entries, and what the others say of theirs.
 */
#include "server/digest.h"

#include <stdlib.h>

#include "proto/base.h"

/* A power of two; further back nobody is compared. */
#define KEPT 16384
#define OTHERS_MAX 64

/* Another member's newest word. */
struct other {
    raft_id id;
    raft_index index; /* 0: settled, see differs */
    uint64_t digest;
    bool differs;
    raft_index differs_at;
};

struct digests {
    uint64_t kept[KEPT];    /* by index modulo KEPT */
    raft_index first, last; /* kept; 0: none */
    struct other others[OTHERS_MAX];
    size_t n_others;
    raft_index told;
    uint64_t told_ms;
    bool doubted;
};

struct digests *digests_new(void)
{
    return mem_alloc(1, sizeof(struct digests));
}

void digests_free(struct digests *d)
{
    free(d);
}

static bool is_kept(const struct digests *d, raft_index index)
{
    return d->last != 0 && index >= d->first && index <= d->last;
}

/* Compare, if we have come so far. */
static void settle(struct digests *d, struct other *o)
{
    if (o->index == 0 || o->index > d->last) {
        return;
    }
    if (is_kept(d, o->index)) {
        o->differs = d->kept[o->index % KEPT] != o->digest;
        o->differs_at = o->index;
    }
    o->index = 0;
}

void digests_applied(struct digests *d, raft_index index, uint64_t digest)
{
    if (index != d->last + 1) {
        d->first = index;
    }
    d->kept[index % KEPT] = digest;
    d->last = index;
    if (d->last - d->first >= KEPT) {
        d->first = d->last - KEPT + 1;
    }
    for (size_t i = 0; i < d->n_others; i++) {
        if (d->others[i].index == index) {
            settle(d, &d->others[i]);
        }
    }
}

/* One that waits for us to get there is not replaced by a later one: we might
 * never get to compare. */
void digests_heard(struct digests *d, raft_id from, raft_index index,
                   uint64_t digest)
{
    struct other *o = d->others;

    while (o < d->others + d->n_others && o->id != from) {
        o++;
    }
    if (o == d->others + d->n_others) {
        if (d->n_others == OTHERS_MAX) {
            return;
        }
        d->n_others++;
        *o = (struct other){.id = from};
    }
    settle(d, o); /* a leap may have left it behind */
    if (index != 0 && o->index == 0) {
        o->index = index;
        o->digest = digest;
        settle(d, o);
    }
}

bool digests_due(struct digests *d, uint64_t now_ms, raft_index *index,
                 uint64_t *digest)
{
    if (d->last <= d->told || (d->last - d->told < DIGEST_EVERY_ENTRIES &&
                               now_ms - d->told_ms < DIGEST_EVERY_MS)) {
        return false;
    }
    d->told = *index = d->last;
    d->told_ms = now_ms;
    *digest = d->kept[d->last % KEPT];
    return true;
}

static bool is_voter(const struct raft_server *s)
{
    return s->role != RAFT_LEARNER;
}

enum digest_verdict digests_judge(struct digests *d,
                                  const struct raft_configuration *c,
                                  raft_index *index)
{
    size_t n_voters = 0, n_differ = 0;

    for (size_t i = 0; i < c->n_servers; i++) {
        n_voters += is_voter(&c->servers[i]);
        for (size_t k = 0; k < d->n_others; k++) {
            const struct other *o = &d->others[k];

            if (is_voter(&c->servers[i]) && o->id == c->servers[i].id &&
                o->differs) {
                n_differ++;
                *index = o->differs_at;
            }
        }
    }
    if (n_differ == 0) {
        return DIGEST_AGREES;
    }
    if (n_differ > n_voters / 2) {
        return DIGEST_DIVERGED;
    }
    if (d->doubted) {
        return DIGEST_AGREES;
    }
    d->doubted = true;
    return DIGEST_DOUBTFUL;
}
