/*
 * test_failover.c - how long writes pause when the leader is killed.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster.h"
#include "program.h"

struct timing {
    const char *heartbeat_ms, *election_ms;
    size_t kills;
    uint64_t bound_ms; /* for the median */
};

/*
 * A timer fires after one to two election timeouts, and the vote needs a disk
 * or two. The rest of the bound is for a busy machine.
 */
static const struct timing timings[] = {
    {"20", "150", 11, 150 * 2 + 300},
    {NULL, NULL, 5, 1000 * 2 + 500},
};

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* From the kill to the answer of a write at a member that lives. */
static uint64_t measure(struct cluster *c, struct random *r)
{
    size_t leader = cluster_leader(c);
    size_t other = (leader + 1 + random_below(r, 2)) % 3;
    struct client *client = client_new(cluster_address(c, other));
    struct answer a = client_put(client, "before", "", 0, NULL);
    uint64_t start_us;

    ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
    answer_release(&a);
    start_us = clock_us();
    cluster_kill(c, leader);
    a = client_put(client, "after", "", 0, NULL);
    start_us = clock_us() - start_us;
    ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
    answer_release(&a);
    client_free(client);
    cluster_start(c, leader);
    cluster_settle(c);
    return start_us;
}

START_TEST(a_write_waits_for_the_new_leader_and_succeeds)
{
    const struct timing *t = &timings[_i];
    struct random r = random_stream((uint64_t)_i);
    struct cluster *c =
        cluster_up(&(struct cluster_config){.n = 3,
                                            .heartbeat_ms = t->heartbeat_ms,
                                            .election_ms = t->election_ms});
    uint64_t us[16] = {0};

    ck_assert_uint_le(t->kills, ARRAY_LENGTH(us));

    for (size_t i = 0; i < t->kills; i++) {
        us[i] = measure(c, &r);
    }
    qsort(us, t->kills, sizeof(us[0]), compare);
    printf("failover, heartbeat/election %s/%s ms, %zu kills: median %" PRIu64
           " ms, least %" PRIu64 ", most %" PRIu64 "\n",
           t->heartbeat_ms != NULL ? t->heartbeat_ms : "100",
           t->election_ms != NULL ? t->election_ms : "1000", t->kills,
           us[t->kills / 2] / 1000, us[0] / 1000, us[t->kills - 1] / 1000);
    ck_assert_uint_le(us[t->kills / 2] / 1000, t->bound_ms);
    cluster_free(c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("failover");
    TCase *tc = tcase_create("failover");

    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, a_write_waits_for_the_new_leader_and_succeeds, 0,
                        ARRAY_LENGTH(timings));
    suite_add_tcase(s, tc);
    return program_run(s);
}
