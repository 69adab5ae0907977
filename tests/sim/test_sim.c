/*
 * test_sim.c - a short sample of the simulator, and that it repeats itself.
 * The long runs: make check-sim.
 */
#include <check.h>
#include <stdlib.h>

#include "tests/sim/cluster.h"
#include "tests/sim/world.h"

#define SEEDS_A_TEST 10

static struct world *run(uint64_t seed)
{
    struct options o;
    struct world *w;

    options_draw(&o, seed);
    o.length_us = 8000000;
    w = world_new(&o);
    ck_assert_msg(world_run(w), "seed 0x%x: %s", (unsigned)seed,
                  w->oracle.failure);
    return w;
}

START_TEST(promises_hold_under_faults)
{
    for (uint64_t i = 0; i < SEEDS_A_TEST; i++) {
        world_free(run((uint64_t)_i * SEEDS_A_TEST + i));
    }
}
END_TEST

START_TEST(a_seed_gives_the_same_run_again)
{
    struct world *a = run((uint64_t)_i), *b = run((uint64_t)_i);
    struct world *c = run((uint64_t)_i + 1);

    ck_assert_uint_gt(a->trace.n, 100);
    ck_assert_uint_eq(a->trace.n, b->trace.n);
    ck_assert_uint_eq(a->trace.hash, b->trace.hash);
    ck_assert_uint_ne(a->trace.hash, c->trace.hash);
    world_free(a);
    world_free(b);
    world_free(c);
}
END_TEST

/* A simulator in which nothing happens would find nothing. */
START_TEST(the_sample_has_every_kind_of_trouble)
{
    struct world_figures sum = {0};

    for (uint64_t seed = 0; seed < 40; seed++) {
        struct world *w = run(seed);

        sum.kills += w->figures.kills;
        sum.power_cuts += w->figures.power_cuts;
        sum.pauses += w->figures.pauses;
        sum.partitions += w->figures.partitions;
        sum.disk_errors += w->figures.disk_errors;
        sum.disk_deaths += w->figures.disk_deaths;
        sum.transfers += w->figures.transfers;
        sum.writes += w->figures.writes;
        sum.reads += w->figures.reads;
        sum.compactions += w->figures.compactions;
        sum.messages += w->net.n_lost > 0 && w->net.n_doubled > 0;
        world_free(w);
    }
    ck_assert_uint_gt(sum.kills, 10);
    ck_assert_uint_gt(sum.power_cuts, 10);
    ck_assert_uint_gt(sum.pauses, 10);
    ck_assert_uint_gt(sum.partitions, 10);
    ck_assert_uint_gt(sum.disk_errors, 0);
    ck_assert_uint_gt(sum.disk_deaths, 0);
    ck_assert_uint_gt(sum.transfers, 10);
    ck_assert_uint_gt(sum.writes, 1000);
    ck_assert_uint_gt(sum.reads, 1000);
    ck_assert_uint_gt(sum.compactions, 10);
    ck_assert_uint_gt(sum.messages, 0);
}
END_TEST

/* ---- whole nodes
 * ------------------------------------------------------------------ */

static struct cluster *run_cluster(uint64_t seed)
{
    struct options o;
    struct cluster *c;

    options_draw_cluster(&o, seed);
    o.length_us = o.length_us < 20000000 ? o.length_us : 20000000;
    c = cluster_new(&o);
    ck_assert_msg(cluster_run(c), "seed 0x%x: %s", (unsigned)seed,
                  c->oracle.failure);
    return c;
}

START_TEST(whole_nodes_keep_their_promises_under_faults)
{
    for (uint64_t i = 0; i < 5; i++) {
        cluster_free(run_cluster((uint64_t)_i * 5 + i));
    }
}
END_TEST

START_TEST(a_seed_gives_the_same_run_of_whole_nodes_again)
{
    struct cluster *a = run_cluster((uint64_t)_i);
    struct cluster *b = run_cluster((uint64_t)_i);
    struct cluster *c = run_cluster((uint64_t)_i + 1);

    ck_assert_uint_gt(a->trace.n, 100);
    ck_assert_uint_eq(a->trace.n, b->trace.n);
    ck_assert_uint_eq(a->trace.hash, b->trace.hash);
    ck_assert_uint_ne(a->trace.hash, c->trace.hash);
    cluster_free(a);
    cluster_free(b);
    cluster_free(c);
}
END_TEST

START_TEST(whole_nodes_meet_every_kind_of_trouble)
{
    struct cluster_figures sum = {0};
    /* What must have happened, and how often at least. */
    const struct {
        const uint64_t *figure;
        uint64_t least;
    } wanted[] = {
        {&sum.kills, 10},         {&sum.power_cuts, 10},
        {&sum.stops, 10},         {&sum.pauses, 10},
        {&sum.suspends, 10},      {&sum.clocks, 10},
        {&sum.partitions, 10},    {&sum.breaks, 10},
        {&sum.disk_errors, 10},   {&sum.disk_deaths, 5},
        {&sum.transfers, 10},     {&sum.failed_starts, 5},
        {&sum.writes, 1000},      {&sum.reads, 1000},
        {&sum.lease_ops, 1000},   {&sum.expiries, 200},
        {&sum.lock_ops, 200},     {&sum.grants_of_locks, 100},
        {&sum.fenced, 10},        {&sum.refused, 50},
        {&sum.unknown, 50},       {&sum.compactions, 10},
        {&sum.saves, 100},        {&sum.forwards, 1000},
        {&sum.checked_ops, 1000},
    };

    for (uint64_t seed = 100; seed < 140; seed++) {
        struct cluster *c = run_cluster(seed);

        for (size_t i = 0; i < sizeof sum / sizeof(uint64_t); i++) {
            ((uint64_t *)&sum)[i] += ((const uint64_t *)&c->figures)[i];
        }
        cluster_free(c);
    }
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        ck_assert_msg(*wanted[i].figure >= wanted[i].least,
                      "figure %zu is %u only", i, (unsigned)*wanted[i].figure);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("simulator");
    TCase *t = tcase_create("all");
    SRunner *runner = srunner_create(suite);
    int n_failed;

    suite_add_tcase(suite, t);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, promises_hold_under_faults, 0, 8);
    tcase_add_loop_test(t, a_seed_gives_the_same_run_again, 0, 3);
    tcase_add_test(t, the_sample_has_every_kind_of_trouble);
    tcase_add_loop_test(t, whole_nodes_keep_their_promises_under_faults, 0, 6);
    tcase_add_loop_test(t, a_seed_gives_the_same_run_of_whole_nodes_again, 0,
                        2);
    tcase_add_test(t, whole_nodes_meet_every_kind_of_trouble);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
