/*
 * test_ctl_print.c - the exact text of each result in each format.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl.h"
#include "proto/base.h"
#include "tests/suite.h"

static FILE *out;
static char *text;
static size_t size;
static struct ctl_options simple, json, table;

static void setup(void)
{
    ctl_options_init(&simple);
    json = table = simple;
    json.format = CTL_JSON;
    table.format = CTL_TABLE;
    out = open_memstream(&text, &size);
}

static void teardown(void)
{
    fclose(out);
    free(text);
}

/* What was printed since the last time. */
static void ck_assert_printed(const char *expected)
{
    fclose(out);
    ck_assert_str_eq(text, expected);
    free(text);
    out = open_memstream(&text, &size);
}

static const struct pawl_header header = {UINT64_C(0xfedcba9876543210),
                                          0x2e1259d415f2a040, 9, 2};
/* The first is above INT64_MAX: unsigned. */
#define HEADER                                                                 \
    "\"cluster_id\":18364758544493064720,\"member_id\":3319814642761637952,"   \
    "\"revision\":9,\"raft_term\":2"

static const struct pawl_kv kvs[] = {
    {{"foo", 3}, {"bar", 3}, 2, 4, 3, 0},
    {{"\0\xff", 2}, {"", 0}, 5, 5, 1, -1},
};

START_TEST(get_prints_key_and_value_lines)
{
    struct pawl_get_result r = {header, kvs, 1, 7, true};

    ctl_print_get(out, &simple, &r);
    ck_assert_printed("foo\nbar\n");
    simple.print_value_only = true;
    ctl_print_get(out, &simple, &r);
    ck_assert_printed("bar\n");
    simple.count_only = true;
    ctl_print_get(out, &simple, &r);
    ck_assert_printed("7\n");
}
END_TEST

START_TEST(get_of_nothing_prints_nothing)
{
    struct pawl_get_result r = {.header = header};

    ctl_print_get(out, &simple, &r);
    ck_assert_printed("");
    ctl_print_get(out, &json, &r);
    ck_assert_printed("{\"header\":{" HEADER "}}\n");
}
END_TEST

START_TEST(get_in_json_is_base64_and_leaves_out_what_is_zero)
{
    struct pawl_get_result r = {header, kvs, 2, 7, true};

    ctl_print_get(out, &json, &r);
    ck_assert_printed(
        "{\"header\":{" HEADER "},\"kvs\":["
        "{\"key\":\"Zm9v\",\"create_revision\":2,\"mod_revision\":4,"
        "\"version\":3,\"value\":\"YmFy\"},"
        "{\"key\":\"AP8=\",\"create_revision\":5,\"mod_revision\":5,"
        "\"version\":1,\"lease\":-1}],\"more\":true,\"count\":7}\n");
}
END_TEST

static const struct {
    const char *bytes, *base64;
} encodings[] = {{"f", "Zg=="},
                 {"fo", "Zm8="},
                 {"foo", "Zm9v"},
                 {"foob", "Zm9vYg=="},
                 {"\xfb\xff\xbf", "+/+/"}};

START_TEST(base64_is_padded)
{
    struct pawl_kv kv = {.key = pawl_text(encodings[_i].bytes)};
    struct pawl_get_result r = {.kvs = &kv, .n_kvs = 1};
    char expected[100];

    snprintf(expected, sizeof(expected),
             "{\"header\":{},\"kvs\":[{\"key\":\"%s\"}]}\n",
             encodings[_i].base64);
    ctl_print_get(out, &json, &r);
    ck_assert_printed(expected);
}
END_TEST

START_TEST(get_in_a_table_has_the_metadata)
{
    struct pawl_get_result r = {header, kvs, 1, 1, false};

    ctl_print_get(out, &table, &r);
    ck_assert_printed("KEY VALUE CREATE MOD VERSION LEASE\n"
                      "foo bar        2   4       3 \n");
}
END_TEST

START_TEST(put_and_del_print_what_was_before)
{
    struct pawl_put_result put = {header, kvs};
    struct pawl_delete_result del = {header, 1, kvs, 1};

    ctl_print_put(out, &simple, &put);
    ck_assert_printed("OK\nfoo\nbar\n");
    ctl_print_put(out, &json, &put);
    ck_assert_printed("{\"header\":{" HEADER "},\"prev_kv\":{\"key\":\"Zm9v\","
                      "\"create_revision\":2,\"mod_revision\":4,\"version\":3,"
                      "\"value\":\"YmFy\"}}\n");
    put.prev_kv = NULL;
    ctl_print_put(out, &simple, &put);
    ck_assert_printed("OK\n");
    ctl_print_delete(out, &simple, &del);
    ck_assert_printed("1\nfoo\nbar\n");
    ctl_print_delete(out, &json, &del);
    ck_assert_printed("{\"header\":{" HEADER "},\"deleted\":1,\"prev_kvs\":[{"
                      "\"key\":\"Zm9v\",\"create_revision\":2,"
                      "\"mod_revision\":4,\"version\":3,\"value\":\"YmFy\"}]}"
                      "\n");
}
END_TEST

START_TEST(leases_are_printed_as_etcdctl_does)
{
    struct pawl_lease_result lease = {header, 0xabc, 60};
    const struct pawl_bytes keys[] = {{"a", 1}, {"b", 1}};
    struct pawl_lease_info info = {header, 0xabc, 59, 60, keys, 2};
    const int64_t ids[] = {0xabc, -1};
    struct pawl_lease_list_result list = {header, ids, 2};

    ctl_print_grant(out, &simple, &lease);
    ck_assert_printed("lease 0000000000000abc granted with TTL(60s)\n");
    ctl_print_grant(out, &json, &lease);
    ck_assert_printed("{" HEADER ",\"ID\":2748,\"TTL\":60,\"Error\":\"\"}\n");
    ctl_print_renewal(out, &simple, &lease);
    ck_assert_printed("lease 0000000000000abc keepalived with TTL(60)\n");
    ctl_print_revoke(out, &simple, 0xabc, &header);
    ck_assert_printed("lease 0000000000000abc revoked\n");
    ctl_print_revoke(out, &json, 0xabc, &header);
    ck_assert_printed("{\"header\":{" HEADER "}}\n");
    ctl_print_lease(out, &simple, &info);
    ck_assert_printed("lease 0000000000000abc granted with TTL(60s), "
                      "remaining(59s)\n");
    simple.keys = true;
    ctl_print_lease(out, &simple, &info);
    ck_assert_printed("lease 0000000000000abc granted with TTL(60s), "
                      "remaining(59s), attached keys([a b])\n");
    ctl_print_lease(out, &json, &info);
    ck_assert_printed("{" HEADER ",\"id\":2748,\"ttl\":59,\"granted-ttl\":60,"
                      "\"keys\":[\"YQ==\",\"Yg==\"]}\n");
    info.ttl_s = -1;
    ctl_print_lease(out, &simple, &info);
    ck_assert_printed("lease 0000000000000abc already expired\n");
    ctl_print_leases(out, &simple, &list);
    ck_assert_printed("found 2 leases\n0000000000000abc\nffffffffffffffff\n");
    ctl_print_leases(out, &json, &list);
    ck_assert_printed("{" HEADER ",\"leases\":[{\"id\":2748},{\"id\":-1}]}\n");
}
END_TEST

START_TEST(locks_are_printed_with_their_tokens)
{
    struct pawl_lock_result lock = {header, {"n/abc", 5}, 17, 0xabc, 10};
    struct pawl_check_result check = {header, true, {"n/abc", 5}, 17, 2};
    struct pawl_release_result release = {header, true};

    ctl_print_lock(out, &simple, &lock);
    ck_assert_printed("n/abc\n17\n");
    ctl_print_lock(out, &json, &lock);
    ck_assert_printed("{\"header\":{" HEADER "},\"key\":\"bi9hYmM=\","
                      "\"token\":17,\"lease\":2748,\"ttl\":10}\n");
    ctl_print_check(out, &simple, &check);
    ck_assert_printed("n/abc\n17\n");
    ctl_print_check(out, &json, &check);
    ck_assert_printed("{\"header\":{" HEADER "},\"held\":true,"
                      "\"holder\":\"bi9hYmM=\",\"holder_token\":17,"
                      "\"waiters\":2}\n");
    ctl_print_check(out, &table, &check);
    ck_assert_printed("HOLDER TOKEN WAITERS HELD\n"
                      "n/abc     17       2 true\n");
    check = (struct pawl_check_result){.header = header};
    ctl_print_check(out, &simple, &check);
    ck_assert_printed("not held\n");
    ctl_print_release(out, &simple, &release);
    ck_assert_printed("released\n");
}
END_TEST

START_TEST(members_and_endpoints_are_printed_as_etcdctl_does)
{
    const char *const urls[] = {"http://a:1", "http://b:2"};
    struct pawl_member member = {0xabc, "n1", urls, 2, urls, 1, false};
    struct pawl_member_list_result members = {header, &member, 1};
    struct pawl_endpoint_status_result status = {
        .header = header,
        .version = "3.5.0",
        .storage_version = "",
        .db_bytes = 24576,
        .leader = header.member_id,
        .raft_index = 17,
        .raft_term = 2,
        .raft_applied_index = 16,
    };
    struct ctl_endpoint_status statuses[] = {{"h:1", NULL, "down"},
                                             {"h:2", &status, NULL}};
    struct ctl_endpoint_health healths[] = {{"h:1", "down", 2000000},
                                            {"h:2", NULL, 1293}};

    ctl_print_members(out, &simple, &members);
    ck_assert_printed("abc, started, n1, http://a:1,http://b:2, http://a:1, "
                      "false\n");
    ctl_print_members(out, &json, &members);
    ck_assert_printed("{\"header\":{" HEADER "},\"members\":[{\"ID\":2748,"
                      "\"name\":\"n1\",\"peerURLs\":[\"http://a:1\","
                      "\"http://b:2\"],\"clientURLs\":[\"http://a:1\"]}]}\n");
    ctl_print_statuses(out, &simple, statuses, 2);
    ck_assert_printed("h:2, 2e1259d415f2a040, 3.5.0, 25 kB, true, false, 2, "
                      "17, 16, \n");
    ctl_print_statuses(out, &json, statuses, 2);
    ck_assert_printed("[{\"Endpoint\":\"h:2\",\"Status\":{\"header\":{" HEADER
                      "},\"version\":\"3.5.0\",\"dbSize\":24576,"
                      "\"leader\":3319814642761637952,\"raftIndex\":17,"
                      "\"raftTerm\":2,\"raftAppliedIndex\":16}}]\n");
    ctl_print_healths(out, &simple, healths, 2);
    ck_assert_printed("h:1 is unhealthy: down\n"
                      "h:2 is healthy: successfully committed proposal: took "
                      "= 1.293ms\n");
    ctl_print_healths(out, &json, healths, 2);
    ck_assert_printed("[{\"endpoint\":\"h:1\",\"health\":false,"
                      "\"took\":\"2.000s\",\"error\":\"down\"},"
                      "{\"endpoint\":\"h:2\",\"health\":true,"
                      "\"took\":\"1.293ms\"}]\n");
}
END_TEST

START_TEST(sizes_are_short)
{
    static const struct {
        int64_t bytes;
        const char *text;
    } rows[] = {{0, "0 B"},
                {999, "999 B"},
                {1000, "1.0 kB"},
                {24576, "25 kB"},
                {999499, "999 kB"},
                {1500000, "1.5 MB"},
                {2147483648, "2.1 GB"}};
    char said[32];

    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        ctl_bytes(said, sizeof(said), rows[i].bytes);
        ck_assert_str_eq(said, rows[i].text);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl_print");
    TCase *t = tcase_create("print");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, get_prints_key_and_value_lines);
    tcase_add_test(t, get_of_nothing_prints_nothing);
    tcase_add_test(t, get_in_json_is_base64_and_leaves_out_what_is_zero);
    tcase_add_loop_test(t, base64_is_padded, 0, ARRAY_LENGTH(encodings));
    tcase_add_test(t, get_in_a_table_has_the_metadata);
    tcase_add_test(t, put_and_del_print_what_was_before);
    tcase_add_test(t, leases_are_printed_as_etcdctl_does);
    tcase_add_test(t, locks_are_printed_with_their_tokens);
    tcase_add_test(t, members_and_endpoints_are_printed_as_etcdctl_does);
    tcase_add_test(t, sizes_are_short);
    suite_add_tcase(s, t);
    return suite_main(s);
}
