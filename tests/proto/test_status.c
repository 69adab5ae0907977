/*
 * test_status.c - the table of outcomes: clients compare etcd's texts byte for
 * byte and act on the codes.
 */
#include <check.h>
#include <string.h>

#include "proto/base.h"
#include "proto/status.h"
#include "tests/suite.h"

static const struct {
    enum status st;
    int code;
    const char *text;
} rows[] = {
    {ST_OK, 0, ""},
    {ST_EMPTY_KEY, 3, "etcdserver: key is not provided"},
    {ST_COMPACTED, 11,
     "etcdserver: mvcc: required revision has been compacted"},
    {ST_FUTURE_REVISION, 11,
     "etcdserver: mvcc: required revision is a future revision"},
    {ST_LEASE_NOT_FOUND, 5, "etcdserver: requested lease not found"},
    {ST_LEASE_EXIST, 9, "etcdserver: lease already exists"},
    {ST_REQUEST_TOO_LARGE, 3, "etcdserver: request is too large"},
    {ST_TOO_MANY_REQUESTS, 2, "etcdserver: too many requests"},
    {ST_NO_LEADER, 14, "etcdserver: no leader"},
    {ST_NOT_LEADER, 9, "etcdserver: not leader"},
    {ST_STOPPED, 14, "etcdserver: server stopped"},
    {ST_TIMEOUT, 14, "etcdserver: request timed out"},
    {ST_TIMEOUT_LEADER_FAILED, 14,
     "etcdserver: request timed out, possibly due to previous leader failure"},
};

START_TEST(etcds_texts_and_codes_are_exact)
{
    ck_assert_int_eq((int)status_code(rows[_i].st), rows[_i].code);
    ck_assert_str_eq(status_text(rows[_i].st), rows[_i].text);
}
END_TEST

START_TEST(every_failure_has_a_code_and_a_text_of_its_own)
{
    for (int i = ST_OK + 1; i < STATUS_COUNT; i++) {
        const char *text = status_text((enum status)i);

        ck_assert_int_ne(status_code((enum status)i), GRPC_OK);
        ck_assert(strncmp(text, "etcdserver: ", 12) == 0 ||
                  strncmp(text, "pawl: ", 6) == 0 ||
                  strcmp(text, "raft proposal dropped") ==
                      0 /* etcd's, bare */);
        for (int j = ST_OK; j < i; j++) {
            ck_assert_str_ne(text, status_text((enum status)j));
        }
    }
}
END_TEST

START_TEST(codes_have_names)
{
    ck_assert_str_eq(grpc_code_name(0), "OK");
    ck_assert_str_eq(grpc_code_name(4), "DEADLINE_EXCEEDED");
    ck_assert_str_eq(grpc_code_name(16), "UNAUTHENTICATED");
    ck_assert_str_eq(grpc_code_name(17), "UNKNOWN");
    ck_assert_str_eq(grpc_code_name(-1), "UNKNOWN");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("status");
    TCase *tc = tcase_create("status");

    tcase_add_loop_test(tc, etcds_texts_and_codes_are_exact, 0,
                        (int)ARRAY_LENGTH(rows));
    tcase_add_test(tc, every_failure_has_a_code_and_a_text_of_its_own);
    tcase_add_test(tc, codes_have_names);
    suite_add_tcase(s, tc);
    return suite_main(s);
}
