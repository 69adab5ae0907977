/*
 * test_options.c - flags, environment, and the founding members.
 */
#include <check.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "server/options.h"
#include "tests/suite.h"

#define ARGS_MAX 16

static enum options_result parse(struct options *o, const char *const *args)
{
    char *argv[ARGS_MAX + 2] = {(char *)"pawld"};
    int argc = 1;

    while (args[argc - 1] != NULL) {
        argv[argc] = (char *)args[argc - 1];
        argc++;
    }
    optind = 0; /* getopt_long() starts anew */
    return options_parse(o, argc, argv);
}

#define PARSE(o, ...) parse(o, (const char *const[]){__VA_ARGS__ NULL})

START_TEST(no_flag_is_a_cluster_of_one)
{
    struct options o;

    ck_assert_int_eq(parse(&o, (const char *const[]){NULL}), OPTIONS_RUN);
    ck_assert_str_eq(o.data_dir, "default.pawl");
    ck_assert_str_eq(o.listen_client_urls, "http://127.0.0.1:2379");
    ck_assert_uint_eq(o.n_founders, 1);
    ck_assert_str_eq(o.founders[0].name, "default");
    ck_assert_uint_eq(o.member_id, o.founders[0].id);
    ck_assert_uint_ne(o.cluster_id, 0);
    ck_assert(!o.cluster_given);
    options_release(&o);
}
END_TEST

START_TEST(ids_are_the_same_on_every_member)
{
    struct options a, b;

    ck_assert_int_eq(PARSE(&a, "--name", "n1", "--initial-cluster",
                           "n1=http://127.0.0.1:1,n2=http://127.0.0.1:2",
                           "--initial-advertise-peer-urls",
                           "http://127.0.0.1:1", ),
                     OPTIONS_RUN);
    ck_assert_int_eq(
        PARSE(&b, "--name=n2",
              "--initial-cluster=n2=http://127.0.0.1:2,n1=http://127.0.0.1:1",
              "--initial-advertise-peer-urls=http://127.0.0.1:2", ),
        OPTIONS_RUN);
    ck_assert_uint_eq(a.cluster_id, b.cluster_id);
    ck_assert_uint_ne(a.member_id, b.member_id);
    ck_assert_uint_eq(a.founders[0].id, b.founders[0].id);
    ck_assert_uint_lt(a.founders[0].id, a.founders[1].id);
    options_release(&a);
    options_release(&b);
}
END_TEST

START_TEST(another_token_is_another_cluster)
{
    struct options a, b;

    ck_assert_int_eq(PARSE(&a, "--initial-cluster-token", "a", ), OPTIONS_RUN);
    ck_assert_int_eq(PARSE(&b, "--initial-cluster-token", "b", ), OPTIONS_RUN);
    ck_assert_uint_ne(a.cluster_id, b.cluster_id);
    options_release(&a);
    options_release(&b);
}
END_TEST

START_TEST(flags_win_over_pawl_and_this_over_etcd)
{
    struct options o;

    setenv("ETCD_NAME", "etcd", 1);
    setenv("PAWL_NAME", "pawl", 1);
    setenv("ETCD_HEARTBEAT_INTERVAL", "20", 1);
    ck_assert_int_eq(PARSE(&o, "--log-level", "warn", ), OPTIONS_RUN);
    ck_assert_str_eq(o.name, "pawl");
    ck_assert_uint_eq(o.heartbeat_ms, 20);
    options_release(&o);
    ck_assert_int_eq(PARSE(&o, "--name", "flag", ), OPTIONS_RUN);
    ck_assert_str_eq(o.name, "flag");
    ck_assert_str_eq(o.data_dir, "flag.pawl");
    options_release(&o);
}
END_TEST

/* Each is refused, and nothing is started. */
static const char *const bad[][3] = {
    {"--no-such-flag", "x", NULL},
    {"stray", NULL},
    {"--name", NULL}, /* value missing */
    {"--heartbeat-interval", "0", NULL},
    {"--heartbeat-interval", "-5", NULL},
    {"--heartbeat-interval", "ten", NULL},
    {"--election-timeout", "100", NULL}, /* under five heartbeats */
    {"--listen-client-urls", "https://127.0.0.1:1", NULL},
    {"--listen-client-urls", "", NULL},
    {"--initial-cluster", "other=http://127.0.0.1:1", NULL}, /* not us */
    {"--initial-cluster", "default", NULL},
    {"--initial-cluster", "default=http://h:1,b=http://h:1", NULL},
    {"--initial-cluster-state", "old", NULL},
    {"--log-level", "loud", NULL},
    {"--max-request-bytes", "99999999999", NULL},
};

START_TEST(bad_flags_are_refused)
{
    struct options o;

    ck_assert_int_eq(parse(&o, bad[_i]), OPTIONS_BAD);
    options_release(&o);
}
END_TEST

START_TEST(help_and_version_end_well)
{
    struct options o;

    ck_assert_int_eq(PARSE(&o, "--help", ), OPTIONS_DONE);
    options_release(&o);
    ck_assert_int_eq(PARSE(&o, "--version", ), OPTIONS_DONE);
    options_release(&o);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("options");
    TCase *tc = tcase_create("options");

    tcase_add_test(tc, no_flag_is_a_cluster_of_one);
    tcase_add_test(tc, ids_are_the_same_on_every_member);
    tcase_add_test(tc, another_token_is_another_cluster);
    tcase_add_test(tc, flags_win_over_pawl_and_this_over_etcd);
    tcase_add_loop_test(tc, bad_flags_are_refused, 0,
                        (int)(sizeof(bad) / sizeof(bad[0])));
    tcase_add_test(tc, help_and_version_end_well);
    suite_add_tcase(s, tc);
    return suite_main(s);
}
