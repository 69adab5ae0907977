/*
 * test_url.c - the forms of URL that flags take.
 */
#include <check.h>
#include <stdlib.h>

#include "server/url.h"
#include "tests/suite.h"

static const struct {
    const char *text;
    const char *address; /* NULL: refused */
} rows[] = {
    {"http://127.0.0.1:2379", "127.0.0.1:2379"},
    {"http://localhost:1/", "localhost:1"},
    {"http://[::1]:2380", "[::1]:2380"},
    {"https://127.0.0.1:2379", NULL}, /* no TLS yet */
    {"127.0.0.1:2379", NULL},         /* no scheme */
    {"http://127.0.0.1", NULL},       /* no port */
    {"http://:2379", NULL},           /* no host */
    {"http://h:65536", NULL},         /* no such port */
    {"http://h:", NULL},
    {"http://h:1x", NULL},
    {"http://h:1/path", NULL}, /* etcd refuses it as well (CLU2) */
    {"", NULL},
};

START_TEST(address_is_host_and_port)
{
    char *address = url_address(rows[_i].text);

    if (rows[_i].address == NULL) {
        ck_assert_ptr_null(address);
    } else {
        ck_assert_ptr_nonnull(address);
        ck_assert_str_eq(address, rows[_i].address);
    }
    free(address);
}
END_TEST

START_TEST(list_leaves_out_what_is_empty)
{
    size_t n;
    char **list = url_list(",a,,bc,", &n);

    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(list[0], "a");
    ck_assert_str_eq(list[1], "bc");
    url_list_free(list, n);
    ck_assert_ptr_null(url_list("", &n));
    ck_assert_uint_eq(n, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("url");
    TCase *tc = tcase_create("url");

    tcase_add_loop_test(tc, address_is_host_and_port, 0,
                        (int)(sizeof(rows) / sizeof(rows[0])));
    tcase_add_test(tc, list_leaves_out_what_is_empty);
    suite_add_tcase(s, tc);
    return suite_main(s);
}
