/*
 * noderead.c - linearizable reads: one read index for all that arrived in a
 * round (6.4), served once the state machine has come that far.
 */
#include <stdlib.h>

#include "server/nodeinternal.h"

/* An unanswered question is asked again, under a new number, after this. */
#define READ_RETRY_MS 500
/* Batches on their way at once; more reads gather for the next one. */
#define READ_BATCHES_MAX 2

static void move_reads(struct read_list *from, struct read_list *to)
{
    struct node_read *r;

    while ((r = LIST_FIRST(from)) != NULL) {
        LIST_REMOVE(r, link);
        LIST_INSERT_HEAD(to, r, link);
    }
}

static void end_reads(struct read_list *list, enum status st)
{
    struct node_read *r;

    while ((r = LIST_FIRST(list)) != NULL) {
        LIST_REMOVE(r, link);
        r->done(r, st);
    }
}

void node_read(struct node *n, struct node_read *r)
{
    r->deadline_ms = node_now_ms(n) + n->config.request_timeout_ms;
    LIST_INSERT_HEAD(&n->new_reads, r, link);
}

void node_read_cancel(struct node_read *r)
{
    LIST_REMOVE(r, link);
}

static void remove_batch(struct node *n, struct read_batch *b)
{
    if (!b->confirmed) {
        n->read_batches_unconfirmed--;
    }
    TAILQ_REMOVE(&n->read_batches, b, link);
    free(b);
}

/* Not confirmed: its reads join the next batch. */
static void give_up_batch(struct node *n, struct read_batch *b)
{
    move_reads(&b->reads, &n->new_reads);
    remove_batch(n, b);
}

void node_reads_start(struct node *n)
{
    struct read_batch *b;

    if (LIST_EMPTY(&n->new_reads) ||
        n->read_batches_unconfirmed >= READ_BATCHES_MAX ||
        raft_read(n->raft, n->read_context + 1) != RAFT_OK) {
        return;
    }
    b = mem_alloc(1, sizeof(*b));
    b->context = ++n->read_context;
    b->started_ms = node_now_ms(n);
    LIST_INIT(&b->reads);
    b->reads = n->new_reads;
    LIST_FIRST(&b->reads)->link.le_prev = &LIST_FIRST(&b->reads);
    LIST_INIT(&n->new_reads);
    n->read_batches_unconfirmed++;
    TAILQ_INSERT_TAIL(&n->read_batches, b, link);
}

void node_read_result(struct node *n, const struct raft_read_result *result)
{
    struct read_batch *b;

    TAILQ_FOREACH(b, &n->read_batches, link)
    {
        if (b->context == result->context) {
            break;
        }
    }
    if (b == NULL || b->confirmed) {
        return; /* given up meanwhile */
    }
    if (!result->ok) {
        give_up_batch(n, b);
        return;
    }
    b->confirmed = true;
    b->index = result->index;
    n->read_batches_unconfirmed--;
}

void node_reads_serve(struct node *n)
{
    raft_index applied = applier_index(n->applier);
    struct read_batch *b, *next;

    for (b = TAILQ_FIRST(&n->read_batches); b != NULL; b = next) {
        next = TAILQ_NEXT(b, link);
        if (b->confirmed && b->index <= applied) {
            end_reads(&b->reads, ST_OK);
            remove_batch(n, b);
        }
    }
}

static void expire_reads(struct node *n, struct read_list *list,
                         uint64_t now_ms, bool under_way)
{
    struct node_read *r, *next;

    for (r = LIST_FIRST(list); r != NULL; r = next) {
        next = LIST_NEXT(r, link);
        if (r->deadline_ms <= now_ms) {
            LIST_REMOVE(r, link);
            r->done(r, node_timeout_status(n, under_way));
        }
    }
}

void node_reads_tick(struct node *n, uint64_t now_ms)
{
    struct read_batch *b, *next;

    for (b = TAILQ_FIRST(&n->read_batches); b != NULL; b = next) {
        next = TAILQ_NEXT(b, link);
        expire_reads(n, &b->reads, now_ms, true);
        if (!b->confirmed && now_ms - b->started_ms >= READ_RETRY_MS) {
            give_up_batch(n, b);
        }
    }
    expire_reads(n, &n->new_reads, now_ms, raft_leader(n->raft) != 0);
}

void node_reads_stop(struct node *n)
{
    struct read_batch *b;

    while ((b = TAILQ_FIRST(&n->read_batches)) != NULL) {
        give_up_batch(n, b);
    }
    end_reads(&n->new_reads, ST_STOPPED);
}
