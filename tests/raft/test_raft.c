#include "tests/raft/cluster.h"

#include <check.h>
#include <stdlib.h>

START_TEST(smoke)
{
    struct cluster_options o = {.n_voters = 3, .seed = 1};
    struct cluster *c = cluster_new(&o);
    raft_index i;
    cluster_elect(c, 1);
    ck_assert_int_eq(cluster_propose(c, 1, "x", &i), RAFT_OK);
    cluster_settle(c);
    ck_assert_uint_eq(c->servers[2].applied, i);
    ck_assert_int_eq(cluster_read(c, 2), RAFT_OK);
    ck_assert_int_eq(cluster_read(c, 1), RAFT_OK);
    cluster_settle(c);
    ck_assert_uint_eq(c->servers[0].reads_ok, 1);
    ck_assert_uint_eq(c->servers[1].reads_ok, 1);
    cluster_free(c);
    o.n_voters = 1;
    c = cluster_new(&o);
    cluster_settle(c);
    ck_assert_int_eq(raft_role(c->servers[0].raft), RAFT_LEADER);
    cluster_free(c);
}
END_TEST
int main(void)
{
    Suite *s = suite_create("raft");
    TCase *t = tcase_create("raft");
    SRunner *sr;
    int n;
    tcase_add_test(t, smoke);
    suite_add_tcase(s, t);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    n = srunner_ntests_failed(sr);
    srunner_free(sr);
    return n == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
