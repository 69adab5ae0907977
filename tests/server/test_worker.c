/*
 * test_worker.c - jobs go to the thread in order and come back in order.
 */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>

#include "server/worker.h"
#include "tests/suite.h"

#define JOBS 1000

struct numbered {
    struct job job;
    int number;
};

/* Jobs as they come back, and what the thread saw. */
struct world {
    struct event_base *base;
    pthread_mutex_t gate; /* held by the test to hold up the thread */
    int batches, seen, back;
    int tidied;
    int tidy_steps;
};

static struct world *the_world; /* done() has no context of its own */

static void run(void *context, const struct job_list *jobs)
{
    struct world *w = context;
    const struct job *j;

    pthread_mutex_lock(&w->gate);
    pthread_mutex_unlock(&w->gate);
    w->batches++;
    STAILQ_FOREACH(j, jobs, link)
    {
        ck_assert_int_eq(((const struct numbered *)j)->number, w->seen++);
    }
}

static bool tidy(void *context)
{
    struct world *w = context;

    w->tidied++;
    return w->tidied < w->tidy_steps;
}

static void done(struct job *j)
{
    ck_assert_int_eq(((struct numbered *)j)->number, the_world->back++);
    free(j);
    if (the_world->back == JOBS) {
        event_base_loopbreak(the_world->base);
    }
}

static void submit(struct worker *worker, int number)
{
    struct numbered *n = mem_alloc(1, sizeof(*n));

    n->job.done = done;
    n->number = number;
    worker_submit(worker, &n->job);
}

static struct worker *start(struct world *w)
{
    struct worker_config config = {
        .name = "test", .run = run, .tidy = tidy, .context = w};

    w->base = event_base_new();
    pthread_mutex_init(&w->gate, NULL);
    the_world = w;
    return worker_new(w->base, &config);
}

START_TEST(order_is_kept_both_ways)
{
    struct world w = {0};
    struct worker *worker = start(&w);

    for (int i = 0; i < JOBS; i++) {
        submit(worker, i);
    }
    event_base_dispatch(w.base);
    ck_assert_int_eq(w.back, JOBS);
    worker_free(worker);
    event_base_free(w.base);
}
END_TEST

START_TEST(what_queues_up_during_a_batch_is_one_batch)
{
    struct world w = {0};
    struct worker *worker = start(&w);

    pthread_mutex_lock(&w.gate);
    for (int i = 0; i < JOBS; i++) {
        submit(worker, i);
    }
    pthread_mutex_unlock(&w.gate);
    event_base_dispatch(w.base);
    ck_assert_int_le(w.batches, 2); /* the first alone, then all others */
    worker_free(worker);
    event_base_free(w.base);
}
END_TEST

START_TEST(freeing_finishes_what_is_queued_and_tidies_in_steps)
{
    struct world w = {.tidy_steps = 3};
    struct worker *worker = start(&w);

    for (int i = 0; i < 10; i++) {
        submit(worker, i);
    }
    worker_free(worker);
    ck_assert_int_eq(w.back, 10);
    ck_assert_int_ge(w.tidied, 1);
    event_base_free(w.base);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("worker");
    TCase *tc = tcase_create("worker");

    tcase_add_test(tc, order_is_kept_both_ways);
    tcase_add_test(tc, what_queues_up_during_a_batch_is_one_batch);
    tcase_add_test(tc, freeing_finishes_what_is_queued_and_tidies_in_steps);
    suite_add_tcase(s, tc);
    return suite_main(s);
}
