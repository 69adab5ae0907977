/*
 * progress.c - one follower as its leader sees it: what it is known to hold,
 * what it gets next, and how much is under way to it. Pure.
 *
 * (Answers of this term only come in here. Within a term a follower never
 * loses what it acknowledged, so a late answer can be old but not wrong.)
 */
#include "raft/internal.h"

static void window_clear(struct progress *p)
{
    p->window_head = 0;
    p->window_n = 0;
    p->window_bytes = 0;
}

static void window_push(struct progress *p, raft_index last_index, size_t bytes)
{
    size_t at = (p->window_head + p->window_n) % p->window_capacity;

    ASSERT(p->window_n < p->window_capacity);
    p->window[at] = (struct inflight){last_index, bytes};
    p->window_n++;
    p->window_bytes += bytes;
}

/* What a match index answers: everything up to it. */
static void window_pop(struct progress *p, raft_index match)
{
    while (p->window_n > 0 && p->window[p->window_head].last_index <= match) {
        p->window_bytes -= p->window[p->window_head].bytes;
        p->window_head = (p->window_head + 1) % p->window_capacity;
        p->window_n--;
    }
}

void progress_init(struct progress *p, raft_id id, raft_index next_index,
                   size_t window_capacity, uint64_t now)
{
    ASSERT(next_index > 0 && window_capacity > 0);
    *p = (struct progress){.id = id,
                           .state = RAFT_PROGRESS_PROBE,
                           .next_index = next_index,
                           .heard_at = now,
                           .moved_at = now,
                           .window_capacity = window_capacity};
    p->window = raft_alloc(window_capacity, sizeof(*p->window));
}

void progress_release(struct progress *p)
{
    raft_free(p->window);
    *p = (struct progress){0};
}

void progress_become_probe(struct progress *p, raft_index next_index)
{
    ASSERT(next_index > p->match_index);
    p->state = RAFT_PROGRESS_PROBE;
    p->probe_sent = false;
    p->nudge = false;
    p->next_index = next_index;
    window_clear(p);
}

void progress_become_snapshot(struct progress *p)
{
    p->state = RAFT_PROGRESS_SNAPSHOT;
    p->probe_sent = false;
    p->nudge = false;
    p->next_index = p->match_index + 1;
    p->retry_at = UINT64_MAX;
    window_clear(p);
}

static void become_replicate(struct progress *p)
{
    p->state = RAFT_PROGRESS_REPLICATE;
    p->probe_sent = false;
    p->next_index = p->match_index + 1;
    window_clear(p);
}

bool progress_may_send(const struct progress *p, size_t window_bytes_max)
{
    if (p->state != RAFT_PROGRESS_REPLICATE) {
        return p->state == RAFT_PROGRESS_PROBE && !p->probe_sent;
    }
    return p->window_n < p->window_capacity &&
           p->window_bytes < window_bytes_max;
}

void progress_sent(struct progress *p, size_t n, size_t bytes)
{
    if (p->state == RAFT_PROGRESS_PROBE) {
        p->probe_sent = true; /* next_index moves when it is answered */
        return;
    }
    ASSERT(p->state == RAFT_PROGRESS_REPLICATE);
    if (n > 0) {
        p->next_index += n;
        window_push(p, p->next_index - 1, bytes);
    }
}

bool progress_matched(struct progress *p, raft_index match)
{
    bool news = match > p->match_index;

    if (match < p->match_index) {
        return false; /* overtaken by a later answer */
    }
    p->match_index = match;
    if (p->next_index <= match) {
        p->next_index = match + 1;
    }
    if (p->state == RAFT_PROGRESS_PROBE) {
        become_replicate(p);
    } else {
        window_pop(p, match);
    }
    return news;
}

bool progress_refused(struct progress *p, raft_index refused, raft_index hint)
{
    raft_index next;

    if (refused <= p->match_index) {
        return false; /* it matched meanwhile */
    }
    if (p->state == RAFT_PROGRESS_SNAPSHOT) {
        return false; /* that is why */
    }
    if (p->state == RAFT_PROGRESS_PROBE ? refused != p->next_index - 1
                                        : refused >= p->next_index) {
        return false; /* not what we asked last */
    }
    next = hint < refused ? hint + 1 : refused;
    if (next <= p->match_index) {
        next = p->match_index + 1;
    }
    progress_become_probe(p, next);
    return true;
}
