/*
 * test_restart.c - what was acknowledged is there after kill -9, when nobody
 * else has it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "cluster.h"
#include "program.h"
#include "writers.h"

#define KILLS 20
#define KILLS_OF_ALL 6
#define KILLS_AT_START 8

static const char heartbeat_ms[] = "30", election_ms[] = "250";

/* Some writes, then the blow; what is in flight has an unknown outcome. */
static void wait_for_writes(struct run *r, uint64_t n)
{
    uint64_t start = atomic_load(&r->acknowledged);
    uint64_t deadline_ms = clock_ms() + PATIENCE_MS;

    while (atomic_load(&r->acknowledged) < start + n) {
        ck_assert_msg(clock_ms() < deadline_ms, "no writes after a restart");
        short_pause();
    }
}

static void verify(struct run *r, struct writers *w)
{
    cluster_settle(r->cluster);
    writers_verify(w);
    run_assert_clean(r);
}

static void kill_all(struct run *r, struct writers *w, uint64_t writes)
{
    writers_start(w);
    wait_for_writes(r, writes);
    for (size_t i = 0; i < cluster_size(r->cluster); i++) {
        cluster_kill(r->cluster, i);
    }
    writers_stop(w);
    for (size_t i = 0; i < cluster_size(r->cluster); i++) {
        cluster_start(r->cluster, i);
    }
    verify(r, w);
}

static void test_kills(size_t members, unsigned kills)
{
    struct run r = {0};
    struct random random = random_stream(members);
    struct writers *w;

    r.cluster =
        cluster_up(&(struct cluster_config){.n = members,
                                            .heartbeat_ms = heartbeat_ms,
                                            .election_ms = election_ms});
    w = writers_new(&r, 4, 1);
    for (unsigned i = 0; i < kills; i++) {
        kill_all(&r, w, 1 + random_below(&random, 200));
    }
    printf("%zu member(s), %u kills:\n", members, kills);
    writers_report(w);
    writers_free(w);
    cluster_free(r.cluster);
}

START_TEST(a_single_node_keeps_what_it_acknowledged)
{
    test_kills(1, KILLS);
}
END_TEST

START_TEST(three_nodes_killed_at_once_keep_what_they_acknowledged)
{
    test_kills(3, KILLS_OF_ALL);
}
END_TEST

/* Recovery itself is cut short, over and over. */
START_TEST(a_node_killed_while_it_starts_starts_again)
{
    struct run r = {0};
    struct random random = random_stream(7);
    struct writers *w;

    r.cluster = cluster_up(&(struct cluster_config){
        .n = 1, .heartbeat_ms = heartbeat_ms, .election_ms = election_ms});
    w = writers_new(&r, 4, 0);
    writers_start(w);
    wait_for_writes(&r, 500);
    cluster_kill(r.cluster, 0);
    writers_stop(w);
    for (unsigned i = 0; i < KILLS_AT_START; i++) {
        struct timespec moment = {.tv_nsec = (long)random_below(&random, 40) *
                                             1000000};

        cluster_start(r.cluster, 0);
        nanosleep(&moment, NULL); /* the moment is the input here */
        cluster_kill(r.cluster, 0);
    }
    cluster_start(r.cluster, 0);
    verify(&r, w);
    writers_free(w);
    cluster_free(r.cluster);
}
END_TEST

/* An orderly end writes all that is applied; the next start has no replay. */
START_TEST(a_stopped_node_ends_with_status_0_and_keeps_everything)
{
    struct run r = {0};
    struct writers *w;

    r.cluster = cluster_up(&(struct cluster_config){
        .n = 1, .heartbeat_ms = heartbeat_ms, .election_ms = election_ms});
    w = writers_new(&r, 4, 1);
    writers_start(w);
    wait_for_writes(&r, 200);
    ck_assert_int_eq(cluster_stop(r.cluster, 0), 0);
    writers_stop(w);
    cluster_start(r.cluster, 0);
    verify(&r, w);
    writers_free(w);
    cluster_free(r.cluster);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("restart");
    TCase *tc = tcase_create("restart");

    tcase_set_timeout(tc, 90);
    tcase_add_test(tc, a_single_node_keeps_what_it_acknowledged);
    tcase_add_test(tc, three_nodes_killed_at_once_keep_what_they_acknowledged);
    tcase_add_test(tc, a_node_killed_while_it_starts_starts_again);
    tcase_add_test(tc, a_stopped_node_ends_with_status_0_and_keeps_everything);
    suite_add_tcase(s, tc);
    return program_run(s);
}
