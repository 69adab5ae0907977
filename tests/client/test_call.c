/*
 * test_call.c - the library against a server that answers, refuses, falls
 * silent or loses its connections.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/internal.h"
#include "fake.h"
#include "tests/suite.h"

static struct fake one, two;
static struct pawl *p;

static struct pawl *open_at(const char *endpoints, uint32_t timeout_ms)
{
    char error[PAWL_ERROR_BYTES];
    struct pawl_options o = {
        .size = sizeof(o),
        .endpoints = endpoints,
        .call_timeout_ms = timeout_ms,
        .connect_timeout_ms = 300,
        .in_order = true,
    };
    struct pawl *opened = pawl_open(&o, error);

    ck_assert_msg(opened != NULL, "%s", error);
    return opened;
}

static void reopen(const char *first, const char *second, uint32_t timeout_ms)
{
    char list[80];

    snprintf(list, sizeof(list), "%s,%s", first, second);
    pawl_close(p);
    p = open_at(list, timeout_ms);
}

static void setup(void)
{
    fake_start(&one);
    fake_start(&two);
    p = open_at(one.address, 5000);
}

static void teardown(void)
{
    pawl_close(p);
    fake_stop(&one);
    fake_stop(&two);
}

static enum pawl_status put(const char *key, const char *value)
{
    return pawl_put(p, pawl_text(key), pawl_text(value), NULL, NULL);
}

static enum pawl_status get(const char *key)
{
    return pawl_get(p, pawl_text(key), NULL, NULL);
}

static void ck_assert_says(const char *words)
{
    ck_assert_msg(strstr(pawl_error(p), words) != NULL, "'%s' lacks '%s'",
                  pawl_error(p), words);
}

/* ---- answers ------------------------------------------------------------- */

START_TEST(what_was_put_is_got)
{
    struct pawl_get_result *got;
    struct pawl_put_result *done;

    ck_assert_int_eq(
        pawl_put(p, pawl_text("colour"), pawl_text("blue"), NULL, &done),
        PAWL_OK);
    ck_assert_int_eq(done->header.revision, 3);
    ck_assert(done->header.cluster_id == UINT64_C(0xfedcba9876543210));
    ck_assert_ptr_null(done->prev_kv);
    ck_assert_int_eq(pawl_get(p, pawl_text("colour"), NULL, &got), PAWL_OK);
    ck_assert_uint_eq(got->n_kvs, 1);
    ck_assert_str_eq(got->kvs[0].key.data, "colour");
    ck_assert_str_eq(got->kvs[0].value.data, "blue");
    ck_assert_int_eq(got->kvs[0].version, 2);
    ck_assert_int_eq(got->count, 1);
    ck_assert_str_eq(pawl_error(p), "");
    pawl_free(got);
    pawl_free(done);
}
END_TEST

START_TEST(bytes_of_any_kind_pass_unchanged)
{
    const struct pawl_bytes key = pawl_bytes_of("a\0\xff\n", 4);
    struct pawl_get_result *got;

    ck_assert_int_eq(pawl_put(p, key, pawl_bytes_of(NULL, 0), NULL, NULL),
                     PAWL_OK);
    ck_assert_int_eq(pawl_get(p, key, NULL, &got), PAWL_OK);
    ck_assert_uint_eq(got->kvs[0].key.size, 4);
    ck_assert_mem_eq(got->kvs[0].key.data, key.data, 4);
    ck_assert_uint_eq(got->kvs[0].value.size, 0);
    ck_assert_str_eq(got->kvs[0].value.data, ""); /* never NULL */
    pawl_free(got);
}
END_TEST

START_TEST(absent_key_is_no_error)
{
    struct pawl_get_result *got;

    ck_assert_int_eq(pawl_get(p, pawl_text("nope"), NULL, &got), PAWL_OK);
    ck_assert_uint_eq(got->n_kvs, 0);
    pawl_free(got);
}
END_TEST

static const struct {
    const char *key;
    size_t key_size;
    bool prefix, from_key;
    const char *end;
    size_t end_size;
} ranges[] = {
    {"a", 1, false, false, "", 0},         {"a", 1, true, false, "b", 1},
    {"ab", 2, true, false, "ac", 2},       {"a\xff", 2, true, false, "b", 1},
    {"\xff\xff", 2, true, false, "\0", 1}, {"a\0", 2, true, false, "a\1", 2},
    {"", 0, true, false, "\0", 1},         {"a", 1, false, true, "\0", 1},
    {"", 0, false, true, "\0", 1},
};

START_TEST(range_ends_where_its_kind_says)
{
    struct pawl_get_options o = {
        .size = sizeof(o),
        .prefix = ranges[_i].prefix,
        .from_key = ranges[_i].from_key,
    };
    struct pawl_delete_options d = {
        .size = sizeof(d),
        .prefix = ranges[_i].prefix,
        .from_key = ranges[_i].from_key,
    };
    struct pawl_bytes key = pawl_bytes_of(ranges[_i].key, ranges[_i].key_size);

    ck_assert_int_eq(pawl_get(p, key, &o, NULL), PAWL_OK);
    ck_assert_uint_eq(one.range_end_size, ranges[_i].end_size);
    ck_assert_mem_eq(one.range_end, ranges[_i].end, ranges[_i].end_size);
    one.range_end_size = 99;
    ck_assert_int_eq(pawl_delete(p, key, &d, NULL), PAWL_OK);
    ck_assert_uint_eq(one.range_end_size, ranges[_i].end_size);
    ck_assert_mem_eq(one.range_end, ranges[_i].end, ranges[_i].end_size);
}
END_TEST

START_TEST(two_kinds_of_range_at_once_are_refused_before_the_server)
{
    struct pawl_get_options o = {
        .size = sizeof(o), .prefix = true, .from_key = true};
    struct pawl_delete_options d = {
        .size = sizeof(d), .prefix = true, .end = {"z", 1}};

    ck_assert_int_eq(pawl_get(p, pawl_text("a"), &o, NULL), PAWL_INVALID);
    ck_assert_int_eq(pawl_delete(p, pawl_text("a"), &d, NULL), PAWL_INVALID);
    ck_assert_says("only one");
    ck_assert_uint_eq(fake_calls(&one, FAKE_RANGE), 0);
    ck_assert_uint_eq(fake_calls(&one, FAKE_DELETE), 0);
}
END_TEST

START_TEST(fence_travels_as_metadata)
{
    struct pawl_fence fence = {{"n/\x01", 3}, INT64_MAX};
    struct pawl_put_options o = {.size = sizeof(o), .fence = &fence};

    ck_assert_int_eq(pawl_put(p, pawl_text("k"), pawl_text("v"), &o, NULL),
                     PAWL_OK);
    ck_assert_str_eq(one.fence_key, "n/\x01");
    ck_assert_str_eq(one.fence_token, "9223372036854775807");
    ck_assert_int_eq(put("k", "v"), PAWL_OK);
    ck_assert_str_eq(one.fence_key, "");
}
END_TEST

START_TEST(refusal_is_reported_in_the_servers_words)
{
    fake_plan(&one, FAKE_PUT, FAKE_FAIL, status_code(ST_FENCED),
              status_text(ST_FENCED));
    ck_assert_int_eq(put("k", "v"), PAWL_FENCED);
    ck_assert_str_eq(pawl_error(p), status_text(ST_FENCED));
    ck_assert_uint_eq(fake_calls(&one, FAKE_PUT), 1);
    ck_assert_int_eq(put("k", "v"), PAWL_OK); /* and is forgotten */
    ck_assert_str_eq(pawl_error(p), "");
}
END_TEST

START_TEST(result_is_null_after_a_failure)
{
    struct pawl_get_result *got = (struct pawl_get_result *)&one;

    fake_plan(&one, FAKE_RANGE, FAKE_FAIL, status_code(ST_COMPACTED),
              status_text(ST_COMPACTED));
    ck_assert_int_eq(pawl_get(p, pawl_text("k"), NULL, &got),
                     PAWL_OUT_OF_RANGE);
    ck_assert_ptr_null(got);
}
END_TEST

/* ---- options from other times -------------------------------------------- */

START_TEST(options_of_a_newer_program_work_as_long_as_they_are_zero)
{
    struct {
        struct pawl_get_options o;
        uint64_t more;
    } future = {.o.size = sizeof(future)};

    ck_assert_int_eq(pawl_get(p, pawl_text("k"), &future.o, NULL), PAWL_OK);
    future.more = 1;
    ck_assert_int_eq(pawl_get(p, pawl_text("k"), &future.o, NULL),
                     PAWL_UNSUPPORTED);
}
END_TEST

START_TEST(options_of_an_older_program_are_completed_with_defaults)
{
    struct pawl_get_options o = {.serializable = true};

    memset(&o.keys_only, 0xff,
           sizeof(o) - offsetof(struct pawl_get_options, keys_only));
    o.size = offsetof(struct pawl_get_options, keys_only);
    ck_assert_int_eq(pawl_get(p, pawl_text("k"), &o, NULL), PAWL_OK);
    ck_assert(one.serializable);
    o.size = 0; /* forgotten */
    ck_assert_int_eq(pawl_get(p, pawl_text("k"), &o, NULL), PAWL_UNSUPPORTED);
    ck_assert_says("size");
}
END_TEST

/* ---- failover ------------------------------------------------------------ */

START_TEST(dead_endpoint_is_passed_over)
{
    char dead[32];
    int fd;

    dead_address(dead, &fd);
    reopen(dead, two.address, 5000);
    ck_assert_int_eq(put("k", "v"), PAWL_OK);
    ck_assert_int_eq(get("k"), PAWL_OK);
    ck_assert_uint_eq(fake_calls(&two, FAKE_PUT), 1);
    ck_assert_uint_eq(fake_calls(&two, FAKE_RANGE), 1);
    close(fd);
}
END_TEST

START_TEST(silent_endpoint_costs_a_write_no_more_than_the_connect_timeout)
{
    char silent[32];
    int fd;

    silent_address(silent, &fd);
    reopen(silent, two.address, 60000);
    ck_assert_int_eq(put("k", "v"), PAWL_OK); /* it was never sent there */
    ck_assert_uint_eq(fake_calls(&two, FAKE_PUT), 1);
    close(fd);
}
END_TEST

START_TEST(server_that_falls_silent_costs_a_read_half_of_its_time)
{
    reopen(one.address, two.address, 600);
    fake_plan(&one, FAKE_RANGE, FAKE_SILENT, GRPC_OK, NULL);
    ck_assert_int_eq(get("k"), PAWL_OK);
    ck_assert_uint_eq(fake_calls(&one, FAKE_RANGE), 1);
    ck_assert_uint_eq(fake_calls(&two, FAKE_RANGE), 1);
}
END_TEST

START_TEST(handle_stays_at_the_endpoint_that_served)
{
    reopen(one.address, two.address, 5000);
    fake_plan(&one, FAKE_RANGE, FAKE_FAIL, status_code(ST_NO_LEADER),
              status_text(ST_NO_LEADER));
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(get("k"), PAWL_OK);
    }
    ck_assert_uint_eq(fake_calls(&one, FAKE_RANGE), 1);
    ck_assert_uint_eq(fake_calls(&two, FAKE_RANGE), 5);
}
END_TEST

START_TEST(lost_connection_repeats_a_read)
{
    fake_plan(&one, FAKE_RANGE, FAKE_DROP, GRPC_OK, NULL);
    ck_assert_int_eq(get("k"), PAWL_OK);
    ck_assert_uint_eq(fake_calls(&one, FAKE_RANGE), 2);
}
END_TEST

START_TEST(nobody_there_is_told_when_the_time_is_up)
{
    uint64_t start = clock_ms();
    char dead[32];
    int fd;

    dead_address(dead, &fd);
    pawl_close(p);
    p = open_at(dead, 400);
    ck_assert_int_eq(get("k"), PAWL_UNAVAILABLE);
    ck_assert_says(dead);
    ck_assert_says("refused");
    ck_assert_uint_ge(clock_ms() - start, 200); /* it tried for a while */
    ck_assert_int_eq(put("k", "v"), PAWL_UNAVAILABLE);
    ck_assert_says("not applied: ");
    close(fd);
}
END_TEST

/* ---- writes happen at most once ------------------------------------------ */

START_TEST(write_is_not_repeated_when_its_connection_is_lost)
{
    reopen(one.address, two.address, 5000);
    fake_plan(&one, FAKE_PUT, FAKE_DROP, GRPC_OK, NULL);
    ck_assert_int_eq(put("k", "v"), PAWL_MAYBE_APPLIED);
    ck_assert_says("maybe applied: ");
    ck_assert_uint_eq(fake_calls(&one, FAKE_PUT), 1);
    ck_assert_uint_eq(fake_calls(&two, FAKE_PUT), 0);
    ck_assert_int_eq(put("k", "v"), PAWL_OK); /* the next one is another */
}
END_TEST

START_TEST(delete_is_not_repeated_when_its_connection_is_lost)
{
    reopen(one.address, two.address, 5000);
    fake_plan(&one, FAKE_DELETE, FAKE_DROP, GRPC_OK, NULL);
    ck_assert_int_eq(pawl_delete(p, pawl_text("k"), NULL, NULL),
                     PAWL_MAYBE_APPLIED);
    ck_assert_uint_eq(fake_calls(&one, FAKE_DELETE), 1);
    ck_assert_uint_eq(fake_calls(&two, FAKE_DELETE), 0);
}
END_TEST

START_TEST(write_is_repeated_when_the_server_says_not_applied)
{
    reopen(one.address, two.address, 5000);
    fake_plan(&one, FAKE_PUT, FAKE_FAIL, status_code(ST_NOT_APPLIED),
              status_text(ST_NOT_APPLIED));
    ck_assert_int_eq(put("k", "v"), PAWL_OK);
    ck_assert_uint_eq(fake_calls(&one, FAKE_PUT), 1);
    ck_assert_uint_eq(fake_calls(&two, FAKE_PUT), 1);
}
END_TEST

START_TEST(write_is_not_repeated_when_the_server_timed_out)
{
    fake_plan(&one, FAKE_PUT, FAKE_FAIL, status_code(ST_TIMEOUT),
              status_text(ST_TIMEOUT));
    ck_assert_int_eq(put("k", "v"), PAWL_MAYBE_APPLIED);
    ck_assert_says(status_text(ST_TIMEOUT));
    ck_assert_uint_eq(fake_calls(&one, FAKE_PUT), 1);
}
END_TEST

START_TEST(write_without_an_answer_is_maybe_applied_at_the_deadline)
{
    uint64_t start = clock_ms();

    pawl_set_call_timeout(p, 150);
    fake_plan(&one, FAKE_PUT, FAKE_SILENT, GRPC_OK, NULL);
    ck_assert_int_eq(put("k", "v"), PAWL_MAYBE_APPLIED);
    ck_assert_uint_ge(clock_ms() - start, 150);
    ck_assert_uint_eq(fake_calls(&one, FAKE_PUT), 1);
}
END_TEST

START_TEST(write_after_the_server_restarted_while_idle_is_applied)
{
    /* The dead connection is noticed before the write goes into it. */
    fake_plan(&one, FAKE_RANGE, FAKE_DROP, GRPC_OK, NULL);
    ck_assert_int_eq(get("k"), PAWL_OK);
    ck_assert_int_eq(put("k", "v"), PAWL_OK);
    fake_stop(&one);
    fake_start(&one); /* on another port: the first endpoint is dead now */
    reopen(two.address, one.address, 5000);
    ck_assert_int_eq(put("k", "v"), PAWL_OK);
}
END_TEST

START_TEST(read_ends_at_its_deadline)
{
    pawl_set_call_timeout(p, 150);
    fake_plan(&one, FAKE_RANGE, FAKE_SILENT, GRPC_OK, NULL);
    fake_plan(&one, FAKE_RANGE, FAKE_SILENT, GRPC_OK, NULL);
    ck_assert_int_eq(get("k"), PAWL_TIMEOUT);
    ck_assert_uint_eq(fake_calls(&one, FAKE_RANGE), 1);
}
END_TEST

/* ---- the cluster --------------------------------------------------------- */

START_TEST(endpoint_is_asked_itself)
{
    struct pawl_endpoint_status_result *r;
    uint64_t took_us = 0;

    reopen(one.address, two.address, 5000);
    ck_assert_int_eq(pawl_endpoint_status(p, 1, &r), PAWL_OK);
    ck_assert_str_eq(r->version, "3.5.0");
    ck_assert_uint_eq(r->leader, 2);
    ck_assert_str_eq(r->storage_version, "");
    pawl_free(r);
    ck_assert_int_eq(pawl_endpoint_health(p, 1, &took_us), PAWL_OK);
    ck_assert_uint_gt(took_us, 0);
    ck_assert_uint_eq(fake_calls(&one, FAKE_STATUS), 0);
    ck_assert_uint_eq(fake_calls(&two, FAKE_STATUS), 1);
    ck_assert_uint_eq(fake_calls(&two, FAKE_RANGE), 1);
    ck_assert_int_eq(pawl_endpoint_status(p, 2, &r), PAWL_INVALID);
    ck_assert_str_eq(pawl_endpoint(p, 1), two.address);
    ck_assert_ptr_null(pawl_endpoint(p, 2));
}
END_TEST

START_TEST(forbidden_key_is_healthy_and_no_leader_is_not)
{
    fake_plan(&one, FAKE_RANGE, FAKE_FAIL, GRPC_PERMISSION_DENIED,
              "etcdserver: permission denied");
    ck_assert_int_eq(pawl_endpoint_health(p, 0, NULL), PAWL_OK);
    pawl_set_call_timeout(p, 1);
    fake_plan(&one, FAKE_RANGE, FAKE_FAIL, GRPC_UNAVAILABLE,
              "etcdserver: no leader");
    ck_assert_int_ne(pawl_endpoint_health(p, 0, NULL), PAWL_OK);
}
END_TEST

START_TEST(members_are_listed)
{
    struct pawl_member_list_result *r;

    ck_assert_int_eq(pawl_member_list(p, &r), PAWL_OK);
    ck_assert_uint_eq(r->n_members, 1);
    ck_assert_uint_eq(r->members[0].id, 0xabc);
    ck_assert_str_eq(r->members[0].name, "n1");
    ck_assert_uint_eq(r->members[0].n_peer_urls, 2);
    ck_assert_str_eq(r->members[0].peer_urls[1], "http://b:2");
    ck_assert_str_eq(r->members[0].client_urls[0], "http://b:2");
    pawl_free(r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("call");
    TCase *t = tcase_create("calls");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 20);
    tcase_add_test(t, what_was_put_is_got);
    tcase_add_test(t, bytes_of_any_kind_pass_unchanged);
    tcase_add_test(t, absent_key_is_no_error);
    tcase_add_loop_test(t, range_ends_where_its_kind_says, 0,
                        ARRAY_LENGTH(ranges));
    tcase_add_test(t, two_kinds_of_range_at_once_are_refused_before_the_server);
    tcase_add_test(t, fence_travels_as_metadata);
    tcase_add_test(t, refusal_is_reported_in_the_servers_words);
    tcase_add_test(t, result_is_null_after_a_failure);
    tcase_add_test(t, options_of_a_newer_program_work_as_long_as_they_are_zero);
    tcase_add_test(t, options_of_an_older_program_are_completed_with_defaults);
    tcase_add_test(t, dead_endpoint_is_passed_over);
    tcase_add_test(
        t, silent_endpoint_costs_a_write_no_more_than_the_connect_timeout);
    tcase_add_test(t, server_that_falls_silent_costs_a_read_half_of_its_time);
    tcase_add_test(t, handle_stays_at_the_endpoint_that_served);
    tcase_add_test(t, lost_connection_repeats_a_read);
    tcase_add_test(t, nobody_there_is_told_when_the_time_is_up);
    tcase_add_test(t, write_is_not_repeated_when_its_connection_is_lost);
    tcase_add_test(t, delete_is_not_repeated_when_its_connection_is_lost);
    tcase_add_test(t, write_is_repeated_when_the_server_says_not_applied);
    tcase_add_test(t, write_is_not_repeated_when_the_server_timed_out);
    tcase_add_test(t, write_without_an_answer_is_maybe_applied_at_the_deadline);
    tcase_add_test(t, write_after_the_server_restarted_while_idle_is_applied);
    tcase_add_test(t, read_ends_at_its_deadline);
    tcase_add_test(t, endpoint_is_asked_itself);
    tcase_add_test(t, forbidden_key_is_healthy_and_no_leader_is_not);
    tcase_add_test(t, members_are_listed);
    suite_add_tcase(s, t);
    return suite_main(s);
}
