/*
 * test_retry.c - what an outcome means for a read and for a write, and when to
 * try again.
 */
#include <check.h>
#include <string.h>

#include "client/internal.h"
#include "tests/suite.h"

#define YES true
#define NO false

/*
 * Each outcome, with what it is to be for a call that may be repeated (status,
 * retry) and for a write (status, retry). The last column says why.
 */
static const struct {
    enum grpc_code code;
    const char *text;
    bool maybe;
    enum pawl_status read;
    bool read_again;
    enum pawl_status write;
    bool write_again;
    const char *why;
} table[] = {
    {GRPC_OK, "", YES, PAWL_OK, NO, PAWL_OK, NO, "an answer"},

    /* the connection */
    {GRPC_UNAVAILABLE, "Connection refused", NO, PAWL_UNAVAILABLE, YES,
     PAWL_UNAVAILABLE, YES, "nobody saw it"},
    {GRPC_UNAVAILABLE, "the connection was lost", YES, PAWL_UNAVAILABLE, YES,
     PAWL_MAYBE_APPLIED, NO, "it was sent"},
    {GRPC_CANCELLED, "reset", YES, PAWL_TIMEOUT, YES, PAWL_MAYBE_APPLIED, NO,
     "the server dropped it half way"},
    {GRPC_DEADLINE_EXCEEDED, "", NO, PAWL_TIMEOUT, YES, PAWL_TIMEOUT, YES,
     "it never left"},
    {GRPC_DEADLINE_EXCEEDED, "", YES, PAWL_TIMEOUT, YES, PAWL_MAYBE_APPLIED, NO,
     "no answer"},
    {GRPC_INTERNAL, "bad frame", YES, PAWL_INTERNAL, NO, PAWL_MAYBE_APPLIED, NO,
     "an answer that cannot be read"},
    {GRPC_UNKNOWN, "?", YES, PAWL_INTERNAL, NO, PAWL_MAYBE_APPLIED, NO,
     "the server does not know either"},
    {GRPC_DATA_LOSS, "etcdserver: corrupt cluster", YES, PAWL_INTERNAL, NO,
     PAWL_MAYBE_APPLIED, NO, "better not"},
    {(enum grpc_code)99, "", YES, PAWL_INTERNAL, NO, PAWL_MAYBE_APPLIED, NO,
     "no code of gRPC"},

    /* the server's words: not applied */
    {GRPC_UNAVAILABLE,
     "pawl: not applied: the leader changed before the write was replicated; "
     "retry is safe",
     YES, PAWL_UNAVAILABLE, YES, PAWL_UNAVAILABLE, YES, "pawl's promise"},
    {GRPC_UNAVAILABLE, "etcdserver: no leader", YES, PAWL_UNAVAILABLE, YES,
     PAWL_UNAVAILABLE, YES, "nobody to propose it to"},
    {GRPC_UNKNOWN, "etcdserver: too many requests", YES, PAWL_UNAVAILABLE, YES,
     PAWL_UNAVAILABLE, YES, "turned away at the door"},
    {GRPC_UNKNOWN, "raft proposal dropped", YES, PAWL_UNAVAILABLE, YES,
     PAWL_UNAVAILABLE, YES, "not in the log"},
    {GRPC_FAILED_PRECONDITION, "etcdserver: rpc not supported for learner", YES,
     PAWL_REFUSED, YES, PAWL_REFUSED, YES, "another member can"},

    /* the server's words: it does not know */
    {GRPC_UNAVAILABLE, "etcdserver: request timed out", YES, PAWL_UNAVAILABLE,
     YES, PAWL_MAYBE_APPLIED, NO, "it may commit yet"},
    {GRPC_UNAVAILABLE, "etcdserver: leader changed", YES, PAWL_UNAVAILABLE, YES,
     PAWL_MAYBE_APPLIED, NO, "it may have committed"},
    {GRPC_UNAVAILABLE, "etcdserver: server stopped", YES, PAWL_UNAVAILABLE, YES,
     PAWL_MAYBE_APPLIED, NO, "it was waiting for its entry"},
    {GRPC_RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", YES,
     PAWL_LIMIT, NO, PAWL_MAYBE_APPLIED, NO,
     "etcd may write it and say so all the same"},

    /* decisions: final, and nothing happened */
    {GRPC_INVALID_ARGUMENT, "etcdserver: key is not provided", YES,
     PAWL_INVALID, NO, PAWL_INVALID, NO, ""},
    {GRPC_INVALID_ARGUMENT, "etcdserver: key not found", YES, PAWL_NOT_FOUND,
     NO, PAWL_NOT_FOUND, NO, ""},
    {GRPC_INVALID_ARGUMENT, "etcdserver: request is too large", YES, PAWL_LIMIT,
     NO, PAWL_LIMIT, NO, ""},
    {GRPC_NOT_FOUND, "etcdserver: requested lease not found", YES,
     PAWL_NOT_FOUND, NO, PAWL_NOT_FOUND, NO, ""},
    {GRPC_UNKNOWN, "etcdserver: requested lease not found", YES, PAWL_NOT_FOUND,
     NO, PAWL_NOT_FOUND, NO, "as etcd's lock service sends it"},
    {GRPC_FAILED_PRECONDITION, "etcdserver: lease already exists", YES,
     PAWL_EXISTS, NO, PAWL_EXISTS, NO, ""},
    {GRPC_FAILED_PRECONDITION,
     "pawl: fencing token is not the holder's: write refused", YES, PAWL_FENCED,
     NO, PAWL_FENCED, NO, ""},
    {GRPC_FAILED_PRECONDITION,
     "pawl: the lease ended while waiting for the lock", YES, PAWL_LOST, NO,
     PAWL_LOST, NO, ""},
    {GRPC_DEADLINE_EXCEEDED, "pawl: the lock was not free within the wait time",
     YES, PAWL_NOT_ACQUIRED, NO, PAWL_NOT_ACQUIRED, NO,
     "the server's decision, not a timeout"},
    {GRPC_OUT_OF_RANGE,
     "etcdserver: mvcc: required revision has been compacted", YES,
     PAWL_OUT_OF_RANGE, NO, PAWL_OUT_OF_RANGE, NO, ""},
    {GRPC_RESOURCE_EXHAUSTED, "grpc: received message larger than max", YES,
     PAWL_LIMIT, NO, PAWL_LIMIT, NO, ""},
    {GRPC_PERMISSION_DENIED, "etcdserver: permission denied", YES, PAWL_DENIED,
     NO, PAWL_DENIED, NO, ""},
    {GRPC_UNAUTHENTICATED, "etcdserver: invalid auth token", YES, PAWL_DENIED,
     NO, PAWL_DENIED, NO, ""},
    {GRPC_UNIMPLEMENTED, "unknown service pawl.v1.Lock", YES, PAWL_UNSUPPORTED,
     NO, PAWL_UNSUPPORTED, NO, ""},
    {GRPC_FAILED_PRECONDITION, NULL, YES, PAWL_REFUSED, NO, PAWL_REFUSED, NO,
     "no text at all"},
};

START_TEST(outcome_is_judged)
{
    struct outcome o = {table[_i].code, table[_i].text, table[_i].maybe};
    struct verdict read = retry_judge(RETRY_ALWAYS, &o);
    struct verdict write = retry_judge(RETRY_IF_NOT_APPLIED, &o);

    ck_assert_msg(read.status == table[_i].read &&
                      read.retry == table[_i].read_again &&
                      write.status == table[_i].write &&
                      write.retry == table[_i].write_again,
                  "%s '%s' (%s): read %d %d, write %d %d",
                  grpc_code_name((int)o.code), o.text, table[_i].why,
                  read.status, read.retry, write.status, write.retry);
}
END_TEST

START_TEST(write_that_may_be_applied_is_never_repeated)
{
    for (int code = 0; code <= 17; code++) {
        struct outcome o = {(enum grpc_code)code, "whatever", true};
        struct verdict v = retry_judge(RETRY_IF_NOT_APPLIED, &o);

        ck_assert_msg(!v.retry, "code %d", code);
    }
}
END_TEST

START_TEST(every_statuses_text_of_the_server_is_judged_by_its_meaning)
{
    /* The texts are the contract: a changed one must be noticed here. */
    struct outcome not_applied = {status_code(ST_NOT_APPLIED),
                                  status_text(ST_NOT_APPLIED), true};
    struct outcome fenced = {status_code(ST_FENCED), status_text(ST_FENCED),
                             true};
    struct outcome lost = {status_code(ST_LOCK_LOST), status_text(ST_LOCK_LOST),
                           true};
    struct outcome wait = {status_code(ST_LOCK_WAIT_TIMEOUT),
                           status_text(ST_LOCK_WAIT_TIMEOUT), true};

    ck_assert(retry_judge(RETRY_IF_NOT_APPLIED, &not_applied).retry);
    ck_assert_int_eq(retry_judge(RETRY_IF_NOT_APPLIED, &fenced).status,
                     PAWL_FENCED);
    ck_assert_int_eq(retry_judge(RETRY_ALWAYS, &lost).status, PAWL_LOST);
    ck_assert_int_eq(retry_judge(RETRY_ALWAYS, &wait).status,
                     PAWL_NOT_ACQUIRED);
}
END_TEST

START_TEST(first_round_over_the_endpoints_does_not_wait)
{
    ck_assert_uint_eq(retry_delay_ms(1, 3, false, UINT64_MAX), 0);
    ck_assert_uint_eq(retry_delay_ms(2, 3, false, UINT64_MAX), 0);
    ck_assert_uint_gt(retry_delay_ms(3, 3, false, 50), 0);
    ck_assert_uint_gt(retry_delay_ms(1, 1, false, 50), 0);
    ck_assert_uint_gt(retry_delay_ms(1, 3, true, 50), 0); /* server said so */
}
END_TEST

/* The longest delay that any random number gives. */
static uint64_t bound_of(unsigned attempt, size_t n)
{
    uint64_t longest = 0;

    for (uint64_t random = 0; random < 5000; random++) {
        uint64_t delay = retry_delay_ms(attempt, n, true, random);

        longest = delay > longest ? delay : longest;
    }
    return longest;
}

START_TEST(delay_doubles_with_each_round_up_to_two_seconds)
{
    static const uint64_t one[] = {50, 100, 200, 400, 800, 1600, 2000, 2000};

    for (unsigned i = 0; i < ARRAY_LENGTH(one); i++) {
        ck_assert_uint_eq(bound_of(i + 1, 1), one[i]);
    }
    ck_assert_uint_eq(bound_of(1, 3), 50);
    ck_assert_uint_eq(bound_of(3, 3), 50);
    ck_assert_uint_eq(bound_of(6, 3), 100);
    ck_assert_uint_eq(bound_of(4000000000u, 1), 2000);
}
END_TEST

START_TEST(delay_is_spread_over_its_whole_range)
{
    bool seen[51] = {false};

    for (uint64_t random = 0; random < 51; random++) {
        seen[retry_delay_ms(1, 1, true, random)] = true;
    }
    for (size_t i = 0; i < ARRAY_LENGTH(seen); i++) {
        ck_assert(seen[i]);
    }
}
END_TEST

START_TEST(read_leaves_time_for_another_endpoint_and_a_write_does_not)
{
    ck_assert_uint_eq(retry_attempt_ms(RETRY_ALWAYS, 5000, 2), 2500);
    ck_assert_uint_eq(retry_attempt_ms(RETRY_ALWAYS, 5000, 1), 5000);
    ck_assert_uint_eq(retry_attempt_ms(RETRY_IF_NOT_APPLIED, 5000, 2), 5000);
    ck_assert_uint_eq(retry_attempt_ms(RETRY_ALWAYS, 400, 2), 250);
    ck_assert_uint_eq(retry_attempt_ms(RETRY_ALWAYS, 250, 2), 250);
    ck_assert_uint_eq(retry_attempt_ms(RETRY_ALWAYS, 1, 2), 1);
    ck_assert_uint_eq(retry_attempt_ms(RETRY_ALWAYS, NO_DEADLINE, 2), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("retry");
    TCase *t = tcase_create("rules");

    tcase_add_loop_test(t, outcome_is_judged, 0, ARRAY_LENGTH(table));
    tcase_add_test(t, write_that_may_be_applied_is_never_repeated);
    tcase_add_test(t,
                   every_statuses_text_of_the_server_is_judged_by_its_meaning);
    tcase_add_test(t, first_round_over_the_endpoints_does_not_wait);
    tcase_add_test(t, delay_doubles_with_each_round_up_to_two_seconds);
    tcase_add_test(t, delay_is_spread_over_its_whole_range);
    tcase_add_test(t,
                   read_leaves_time_for_another_endpoint_and_a_write_does_not);
    suite_add_tcase(s, t);
    return suite_main(s);
}
