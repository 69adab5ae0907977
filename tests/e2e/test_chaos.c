/*
 * test_chaos.c - the main promise: whatever is acknowledged stays, whoever is
 * killed.
 *
 * Clients write, read and lock without pause while the leader is killed again
 * and again, and leaders and followers are stopped and woken. SEED and ROUNDS
 * come from the environment.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cluster.h"
#include "lockers.h"
#include "program.h"
#include "writers.h"

#define ROUNDS 20
/* Acknowledged writes that are waited for between two blows. */
#define PROGRESS 600

struct counts {
    unsigned leader_kills, follower_kills, leader_stops, lonely_leaders;
};

/* Writes of some count are acknowledged from now on. */
static void wait_for_progress(struct run *r, const char *when)
{
    uint64_t start = atomic_load(&r->acknowledged);
    uint64_t deadline_ms = clock_ms() + PATIENCE_MS;

    while (atomic_load(&r->acknowledged) < start + PROGRESS &&
           atomic_load(&r->findings) == 0) {
        ck_assert_msg(clock_ms() < deadline_ms, "writes stand still %s", when);
        short_pause();
    }
}

static void kill_and_restart(struct run *r, size_t i, const char *when)
{
    cluster_kill(r->cluster, i);
    wait_for_progress(r, when);
    cluster_start(r->cluster, i);
}

/* It still believes that it leads when it wakes. */
static void stop_leader(struct run *r, size_t i)
{
    cluster_pause(r->cluster, i);
    wait_for_progress(r, "with the old leader stopped");
    cluster_resume(r->cluster, i);
    wait_for_progress(r, "with the old leader awake again");
}

/*
 * What a leader alone has taken must not have been acknowledged: it is gone
 * once the others go on without it.
 */
static void leave_leader_alone(struct run *r, size_t leader)
{
    struct timespec moment = {.tv_nsec = 100 * 1000000};
    size_t n = cluster_size(r->cluster);

    for (size_t i = 1; i < n; i++) {
        cluster_kill(r->cluster, (leader + i) % n);
    }
    nanosleep(&moment, NULL); /* time to be wrong in */
    cluster_kill(r->cluster, leader);
    for (size_t i = 1; i < n; i++) {
        cluster_start(r->cluster, (leader + i) % n);
    }
    wait_for_progress(r, "after all were killed, the leader last");
    cluster_start(r->cluster, leader);
}

static void strike(struct run *r, struct random *random, struct counts *n)
{
    size_t leader = cluster_leader(r->cluster);
    size_t size = cluster_size(r->cluster);

    switch (random_below(random, 8)) {
    case 0:
        n->leader_stops++;
        stop_leader(r, leader);
        break;
    case 1:
        n->follower_kills++;
        kill_and_restart(r,
                         (leader + 1 + random_below(random, size - 1)) % size,
                         "with a follower killed");
        break;
    case 2:
        n->lonely_leaders++;
        leave_leader_alone(r, leader);
        break;
    default:
        n->leader_kills++;
        kill_and_restart(r, leader, "with the leader killed");
        break;
    }
}

static unsigned rounds(void)
{
    const char *given = getenv("ROUNDS");

    return given != NULL ? (unsigned)strtoul(given, NULL, 10) : ROUNDS;
}

static uint64_t term_now(struct cluster *c)
{
    struct member_status s;

    ck_assert(cluster_status(c, cluster_leader(c), &s));
    return s.term;
}

START_TEST(acknowledged_writes_outlive_every_leader)
{
    struct cluster *c = cluster_up(&(struct cluster_config){
        .n = 3, .heartbeat_ms = "30", .election_ms = "250"});
    struct run r = {.cluster = c};
    struct random random = random_stream(1);
    struct counts n = {0};
    uint64_t first_term = term_now(c), start_ms = clock_ms();
    struct writers *w = writers_new(&r, 6, 2);
    struct lockers *l;

    writers_start(w);
    l = lockers_start(&r, 4);
    wait_for_progress(&r, "at the beginning");
    for (unsigned i = 0; i < rounds() && atomic_load(&r.findings) == 0; i++) {
        strike(&r, &random, &n);
    }
    writers_stop(w);
    lockers_join(l);
    printf("blows: %u leaders killed, %u followers killed, %u leaders stopped, "
           "%u left alone and killed, in %.1f s\n",
           n.leader_kills, n.follower_kills, n.leader_stops, n.lonely_leaders,
           (double)(clock_ms() - start_ms) / 1000);
    cluster_settle(c);
    printf("terms: %" PRIu64 " to %" PRIu64 "\n", first_term, term_now(c));
    writers_verify(w);
    lockers_verify(l);
    writers_report(w);
    lockers_report(l);
    printf("verified in %.1f s from the start\n",
           (double)(clock_ms() - start_ms) / 1000);
    run_assert_clean(&r);
    writers_free(w);
    lockers_free(l);
    cluster_free(c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("chaos");
    TCase *tc = tcase_create("chaos");

    tcase_set_timeout(tc, 200);
    tcase_add_test(tc, acknowledged_writes_outlive_every_leader);
    suite_add_tcase(s, tc);
    return program_run(s);
}
