/*
 * test_endpoints.c - endpoint lists, right and wrong.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"
#include "tests/suite.h"

static const struct {
    const char *list;
    const char *addresses[4];
} good[] = {
    {"127.0.0.1:2379", {"127.0.0.1:2379"}},
    {"127.0.0.1:2379,127.0.0.1:22379", {"127.0.0.1:2379", "127.0.0.1:22379"}},
    {" a:1 , b:2\t,c:3", {"a:1", "b:2", "c:3"}},
    {"http://127.0.0.1:2379", {"127.0.0.1:2379"}},
    {"http://localhost:2379/", {"localhost:2379"}},
    {"db-1.example.com", {"db-1.example.com:2379"}}, /* etcd's port */
    {"http://10.0.0.1", {"10.0.0.1:2379"}},
    {"[::1]:2379", {"[::1]:2379"}},
    {"[fe80::1%eth0]", {"[fe80::1%eth0]:2379"}},
    {"h:1", {"h:1"}},
    {"h:65535", {"h:65535"}},
};

START_TEST(endpoint_list_is_understood)
{
    struct endpoints e;
    char error[PAWL_ERROR_BYTES] = "";
    size_t n = 0;

    ck_assert(endpoints_parse(good[_i].list, &e, error));
    while (n < 4 && good[_i].addresses[n] != NULL) {
        ck_assert_uint_lt(n, e.n);
        ck_assert_str_eq(e.addresses[n], good[_i].addresses[n]);
        n++;
    }
    ck_assert_uint_eq(e.n, n);
    endpoints_release(&e);
}
END_TEST

static const struct {
    const char *list;
    const char *says;
} bad[] = {
    {"", "not host:port"},
    {"a:1,", "not host:port"},
    {",a:1", "not host:port"},
    {"https://a:1", "TLS"},
    {"a:0", "port"},
    {"a:65536", "port"},
    {"a:", "port"},
    {"a:1x", "port"},
    {"a:-1", "port"},
    {"a: 1", "port"},
    {"::1", "not host:port"},
    {"fe80::1:2379", "[::1]:2379"}, /* which colon is it? */
    {"[::1", "not host:port"},
    {"[]:1", "not host:port"},
    {"[::1]2379", "port"},
    {"unix:///run/x", "only http://"},
    {"a b:1", "not host:port"},
    {"http://", "not host:port"},
    {"user@host:1", "not host:port"},
    {"a:1/path", "port"},
};

START_TEST(wrong_endpoint_list_is_refused_with_a_reason)
{
    struct endpoints e;
    char error[PAWL_ERROR_BYTES] = "";

    ck_assert(!endpoints_parse(bad[_i].list, &e, error));
    ck_assert_uint_eq(e.n, 0);
    ck_assert_msg(strstr(error, bad[_i].says) != NULL, "'%s' says: %s",
                  bad[_i].list, error);
}
END_TEST

START_TEST(long_wrong_endpoint_does_not_overflow_the_error)
{
    struct endpoints e;
    char error[PAWL_ERROR_BYTES];
    char list[2000];

    memset(list, '@', sizeof(list));
    list[sizeof(list) - 1] = '\0';
    ck_assert(!endpoints_parse(list, &e, error));
    ck_assert_uint_lt(strlen(error), PAWL_ERROR_BYTES);
}
END_TEST

START_TEST(endless_list_is_refused)
{
    struct endpoints e;
    char error[PAWL_ERROR_BYTES];
    char list[65 * 4 + 1] = "";

    for (size_t i = 0; i < 65; i++) {
        memcpy(list + 4 * i, "a:1,", 4);
    }
    list[65 * 4 - 1] = '\0';
    ck_assert(!endpoints_parse(list, &e, error));
    ck_assert_ptr_nonnull(strstr(error, "too many"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("endpoints");
    TCase *t = tcase_create("list");

    tcase_add_loop_test(t, endpoint_list_is_understood, 0, ARRAY_LENGTH(good));
    tcase_add_loop_test(t, wrong_endpoint_list_is_refused_with_a_reason, 0,
                        ARRAY_LENGTH(bad));
    tcase_add_test(t, long_wrong_endpoint_does_not_overflow_the_error);
    tcase_add_test(t, endless_list_is_refused);
    suite_add_tcase(s, t);
    return suite_main(s);
}
