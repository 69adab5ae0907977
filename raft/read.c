/*
 * read.c - linearizable reads without the log (6.4).
 *
 * A leader may answer with its commit_index as the read index once it knows
 * (a) what is committed: an entry of its own term is, and (b) that it still led
 * when the read arrived: a quorum answered a heartbeat sent after that.
 *
 * Heartbeats carry the number of the newest round. All reads that came in
 * between two raft_ready() share the next one. Numbers rise for as long as the
 * struct raft lives, so that an answer to an earlier round, however late,
 * confirms no later read (E2); an answer to round n confirms all before it.
 * Losing leadership fails what waits: nothing is confirmed across terms (E3).
 *
 * With a lease (lease.c) the round is not needed, provided that the lease was
 * looked at with a clock that was read after the read came in (E4): such reads
 * are the first n_timed that wait. The moment when the clock was read is where
 * the read takes place, so a pause behind it harms nothing.
 */
#include "raft/internal.h"

#include <string.h>

/* ---- a queue ----------------------------------------------------------------
 */

static void queue_push(struct read_queue *q, struct read_request request)
{
    if (q->start + q->n == q->capacity) {
        if (q->start > q->n) {
            memmove(q->items, q->items + q->start, q->n * sizeof(*q->items));
            q->start = 0;
        } else {
            q->capacity = 2 * q->capacity + 16;
            q->items = raft_realloc(q->items, q->capacity, sizeof(*q->items));
        }
    }
    q->items[q->start + q->n++] = request;
}

static struct read_request *queue_at(const struct read_queue *q, size_t i)
{
    ASSERT(i < q->n);
    return &q->items[q->start + i];
}

static struct read_request queue_pop(struct read_queue *q)
{
    struct read_request first = *queue_at(q, 0);

    q->start++;
    q->n--;
    if (q->n == 0) {
        q->start = 0;
    }
    return first;
}

/* Answers mostly come in the order of the questions: near the front. */
static bool queue_take(struct read_queue *q, uint64_t context)
{
    for (size_t i = 0; i < q->n; i++) {
        if (queue_at(q, i)->context == context) {
            memmove(q->items + q->start + 1, q->items + q->start,
                    i * sizeof(*q->items));
            (void)queue_pop(q);
            return true;
        }
    }
    return false;
}

void read_release(struct reads *reads)
{
    raft_free(reads->asked.items);
    raft_free(reads->forwarded.items);
    raft_free(reads->results);
    *reads = (struct reads){0};
}

/* ---- answers
 * ------------------------------------------------------------------ */

static struct read_request pop_asked(struct reads *reads)
{
    reads->n_begun -= reads->n_begun > 0;
    reads->n_timed -= reads->n_timed > 0;
    return queue_pop(&reads->asked);
}

static void add_result(struct reads *reads, struct raft_read_result result)
{
    if (reads->n_results == reads->results_capacity) {
        reads->results_capacity = 2 * reads->results_capacity + 16;
        reads->results = raft_realloc(reads->results, reads->results_capacity,
                                      sizeof(*reads->results));
    }
    reads->results[reads->n_results++] = result;
}

static void send_answer(struct raft *r, raft_id to, uint64_t context,
                        raft_index index, bool ok)
{
    raft_send(r,
              (struct raft_message){
                  .type = RAFT_READ_INDEX_RESPONSE,
                  .to = to,
                  .context = context,
                  .log_index = index,
                  .reject = !ok,
              },
              0);
}

static void answer(struct raft *r, const struct read_request *q, bool ok)
{
    if (q->asker == r->config.id) {
        add_result(&r->reads, (struct raft_read_result){
                                  .context = q->context,
                                  .index = ok ? q->index : 0,
                                  .ok = ok,
                              });
    } else {
        send_answer(r, q->asker, q->context, ok ? q->index : 0, ok);
    }
}

/* ---- the leader
 * ----------------------------------------------------------------- */

void read_ask(struct raft *r, raft_id asker, uint64_t context)
{
    ASSERT(r->role == RAFT_LEADER);
    queue_push(&r->reads.asked, (struct read_request){.context = context,
                                                      .asker = asker,
                                                      .asked_at = r->now});
}

void read_clock(struct raft *r)
{
    r->reads.n_timed = r->reads.asked.n;
}

/* Also those that wait for a round: they came in even earlier. */
static void serve_from_lease(struct raft *r)
{
    while (r->reads.n_timed > 0 && lease_is_valid(r)) {
        struct read_request q = pop_asked(&r->reads);

        q.index = r->commit_index;
        answer(r, &q, true);
    }
}

/* For all that came since the last round, if we know what is committed (E1). */
void read_begin_round(struct raft *r)
{
    struct reads *reads = &r->reads;

    if (reads->asked.n == 0 || !raft_is_settled_leader(r)) {
        return;
    }
    if (lease_is_half_over(r) && !election_is_handing_over(r)) {
        raft_append_noop(r); /* reads alone do not keep it */
    }
    serve_from_lease(r);
    if (reads->n_begun == reads->asked.n) {
        return;
    }
    reads->round++;
    for (; reads->n_begun < reads->asked.n; reads->n_begun++) {
        struct read_request *q = queue_at(&reads->asked, reads->n_begun);

        q->round = reads->round;
        q->index = r->commit_index;
    }
    r->round_due = true;
    read_confirm(r); /* a sole voter is a quorum */
}

void read_confirm(struct raft *r)
{
    struct reads *reads = &r->reads;
    uint64_t *values = r->scratch, *spare = r->scratch + r->n_progress;
    uint64_t confirmed;

    if (reads->n_begun == 0) {
        return;
    }
    for (size_t i = 0; i < r->n_progress; i++) {
        values[i] = r->progress[i].id == r->config.id
                        ? reads->round
                        : r->progress[i].round_acked;
    }
    confirmed = config_quorum_value(raft_members(r), values, spare);
    while (reads->n_begun > 0 &&
           queue_at(&reads->asked, 0)->round <= confirmed) {
        struct read_request q = pop_asked(reads);

        answer(r, &q, true);
    }
}

void read_index_request(struct raft *r, const struct raft_message *m)
{
    if (r->role == RAFT_LEADER) {
        read_ask(r, m->from, m->context);
    } else {
        send_answer(r, m->from, m->context, 0, false);
    }
}

/* ---- the follower
 * ----------------------------------------------------------------- */

void read_forward(struct raft *r, uint64_t context)
{
    queue_push(&r->reads.forwarded, (struct read_request){.context = context,
                                                          .asker = r->config.id,
                                                          .asked_at = r->now});
    raft_send(r,
              (struct raft_message){
                  .type = RAFT_READ_INDEX,
                  .to = r->leader_id,
                  .context = context,
              },
              0);
}

void read_index_response(struct raft *r, const struct raft_message *m)
{
    if (m->from == r->leader_id &&
        queue_take(&r->reads.forwarded, m->context)) {
        add_result(&r->reads, (struct raft_read_result){
                                  .context = m->context,
                                  .index = m->reject ? 0 : m->log_index,
                                  .ok = !m->reject,
                              });
    }
}

/* ---- both
 * ----------------------------------------------------------------------- */

static void fail_asked(struct raft *r)
{
    struct read_request q = pop_asked(&r->reads);

    answer(r, &q, false);
}

static void fail_forwarded(struct raft *r)
{
    struct read_request q = queue_pop(&r->reads.forwarded);

    answer(r, &q, false);
}

/* Whom we asked, or we ourselves, no longer leads. */
void read_lose_leader(struct raft *r)
{
    while (r->reads.asked.n > 0) {
        fail_asked(r);
    }
    while (r->reads.forwarded.n > 0) {
        fail_forwarded(r);
    }
}

static bool is_overdue(const struct raft *r, const struct read_queue *queue)
{
    return queue->n > 0 &&
           r->now - queue_at(queue, 0)->asked_at >= r->config.election_ticks;
}

/* A message was lost, or nobody can confirm: do not let it pile up. */
void read_tick(struct raft *r)
{
    while (is_overdue(r, &r->reads.asked)) {
        fail_asked(r);
    }
    while (is_overdue(r, &r->reads.forwarded)) {
        fail_forwarded(r);
    }
}
