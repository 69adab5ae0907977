/*
 * test_timers.c - deadlines fire in order, once, and not before their time.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "proto/timers.h"
#include "tests/suite.h"

#define N 500

static struct event_base *base;
static struct timers ts;
static struct timer all[N];
static size_t n_fired;
static struct timer *order[N * 10];

static void note(struct timer *t)
{
    ck_assert_uint_eq(t->place, 0); /* it may be set again at once */
    ck_assert_uint_le(t->due_ms, clock_ms());
    order[n_fired++] = t;
}

static void setup(void)
{
    base = event_base_new();
    timers_init(&ts, base);
    memset(all, 0, sizeof(all));
    for (int i = 0; i < N; i++) {
        all[i].fire = note;
    }
    n_fired = 0;
}

static void teardown(void)
{
    for (int i = 0; i < N; i++) {
        timers_cancel(&ts, &all[i]);
    }
    timers_release(&ts);
    event_base_free(base);
}

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static bool is_heap(void)
{
    for (size_t i = 0; i < ts.n; i++) {
        if (ts.heap[i]->place != i + 1 ||
            (i > 0 && ts.heap[(i - 1) / 2]->due_ms > ts.heap[i]->due_ms)) {
            return false;
        }
    }
    return true;
}

START_TEST(heap_stays_a_heap)
{
    uint32_t state = 12345;
    size_t set = 0;

    for (int i = 0; i < 20000; i++) {
        struct timer *t = &all[next_random(&state) % N];

        if (next_random(&state) % 3 == 0) {
            set -= t->place != 0;
            timers_cancel(&ts, t);
        } else {
            set += t->place == 0;
            timers_set(&ts, t,
                       clock_ms() + 1000000 + next_random(&state) % 1000);
        }
        if (!is_heap() || ts.n != set) {
            ck_abort_msg("broken after %d steps", i);
        }
    }
}
END_TEST

START_TEST(timers_fire_in_order_and_once)
{
    uint32_t state = 99;
    uint64_t now = clock_ms();

    for (int i = 0; i < N; i++) {
        timers_set(&ts, &all[i], now + next_random(&state) % 40);
    }
    for (int i = 0; i < N; i += 5) {
        timers_cancel(&ts, &all[i]);
    }
    while (ts.n > 0) {
        event_base_loop(base, EVLOOP_ONCE);
    }
    ck_assert_uint_eq(n_fired, N - N / 5);
    for (size_t i = 1; i < n_fired; i++) {
        ck_assert_uint_le(order[i - 1]->due_ms, order[i]->due_ms);
    }
}
END_TEST

START_TEST(earlier_timer_set_later_comes_first)
{
    uint64_t now = clock_ms();

    timers_set(&ts, &all[0], now + 60000);
    timers_set(&ts, &all[1], now + 5);
    while (n_fired == 0) {
        event_base_loop(base, EVLOOP_ONCE);
    }
    ck_assert_ptr_eq(order[0], &all[1]);
    ck_assert_uint_lt(clock_ms(), now + 30000);
}
END_TEST

START_TEST(cancelled_earliest_does_not_stop_the_next)
{
    uint64_t now = clock_ms();

    timers_set(&ts, &all[0], now + 2);
    timers_set(&ts, &all[1], now + 20);
    timers_cancel(&ts, &all[0]);
    while (n_fired == 0) {
        event_base_loop(base, EVLOOP_ONCE);
    }
    ck_assert_ptr_eq(order[0], &all[1]);
    ck_assert_uint_ge(clock_ms(), now + 20);
}
END_TEST

static void set_again(struct timer *t)
{
    note(t);
    if (n_fired < 5) {
        timers_set(&ts, t, clock_ms() + 1);
    }
    if (t == &all[0]) {
        timers_cancel(&ts, &all[1]);
    }
}

START_TEST(timer_may_set_itself_and_cancel_others_when_it_fires)
{
    uint64_t now = clock_ms();

    all[0].fire = all[1].fire = set_again;
    timers_set(&ts, &all[0], now);
    timers_set(&ts, &all[1], now);
    while (ts.n > 0) {
        event_base_loop(base, EVLOOP_ONCE);
    }
    ck_assert_uint_eq(n_fired, 5);
}
END_TEST

START_TEST(due_in_the_past_fires_at_once)
{
    timers_set(&ts, &all[0], 0);
    event_base_loop(base, EVLOOP_ONCE);
    ck_assert_uint_eq(n_fired, 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("timers");
    TCase *tc = tcase_create("timers");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, heap_stays_a_heap);
    tcase_add_test(tc, timers_fire_in_order_and_once);
    tcase_add_test(tc, earlier_timer_set_later_comes_first);
    tcase_add_test(tc, cancelled_earliest_does_not_stop_the_next);
    tcase_add_test(tc, timer_may_set_itself_and_cancel_others_when_it_fires);
    tcase_add_test(tc, due_in_the_past_fires_at_once);
    suite_add_tcase(s, tc);
    return suite_main(s);
}
