/*
 * test_grpc.c - gRPC's small encodings.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "proto/grpc.h"
#include "tests/suite.h"

static struct slice text_of(const char *s)
{
    return (struct slice){(const uint8_t *)s, strlen(s)};
}

static const struct {
    const char *text;
    bool good;
    uint64_t ms;
} timeouts[] = {
    {"1m", true, 1},
    {"0m", true, 0},
    {"100m", true, 100},
    {"5S", true, 5000},
    {"2M", true, 120000},
    {"1H", true, 3600000},
    {"1u", true, 1}, /* rounded up: it has not passed yet */
    {"1000u", true, 1},
    {"1001u", true, 2},
    {"1n", true, 1},
    {"0n", true, 0},
    {"99999999n", true, 100},
    {"99999999H", true, UINT64_C(359999996400000)},
    {"00000001S", true, 1000},
    {"000000001S", false, 0}, /* nine digits */
    {"", false, 0},
    {"m", false, 0},
    {"5", false, 0},
    {"5s", false, 0},
    {"5h", false, 0},
    {"-5S", false, 0},
    {"+5S", false, 0},
    {" 5S", false, 0},
    {"5S ", false, 0},
    {"5 S", false, 0},
    {"0x5S", false, 0},
    {"1.5S", false, 0},
    {"5Sm", false, 0},
};

START_TEST(timeout_is_parsed)
{
    uint64_t ms = 4711;

    ck_assert(grpc_parse_timeout(text_of(timeouts[_i].text), &ms) ==
              timeouts[_i].good);
    if (timeouts[_i].good) {
        ck_assert_uint_eq(ms, timeouts[_i].ms);
    } else {
        ck_assert_uint_eq(ms, 4711);
    }
}
END_TEST

START_TEST(timeout_survives_its_format)
{
    static const uint64_t rows[] = {1,
                                    999,
                                    5000,
                                    99999998,
                                    99999999,
                                    100000000,
                                    UINT64_C(99999999000),
                                    UINT64_C(123456789012345)};
    char text[GRPC_TIMEOUT_BYTES];
    uint64_t ms;
    size_t n = grpc_format_timeout(text, rows[_i]);

    ck_assert_uint_eq(n, strlen(text));
    ck_assert(grpc_parse_timeout(text_of(text), &ms));
    ck_assert_uint_ge(ms, rows[_i]); /* never shorter */
    ck_assert_uint_le(ms - rows[_i], rows[_i] / 10000);
}
END_TEST

START_TEST(timeout_of_ages_is_cut)
{
    char text[GRPC_TIMEOUT_BYTES];

    grpc_format_timeout(text, UINT64_MAX);
    ck_assert_str_eq(text, "99999999H");
}
END_TEST

START_TEST(prefix_survives)
{
    static const size_t rows[] = {0,     1,          255,       256,
                                  65536, 0x12345678, 0xffffffff};
    uint8_t bytes[GRPC_PREFIX_BYTES], flag = 9;
    size_t n;

    grpc_put_prefix(bytes, rows[_i]);
    grpc_get_prefix(bytes, &flag, &n);
    ck_assert_uint_eq(flag, 0);
    ck_assert_uint_eq(n, rows[_i]);
}
END_TEST

START_TEST(prefix_is_big_endian)
{
    uint8_t bytes[GRPC_PREFIX_BYTES];

    grpc_put_prefix(bytes, 0x01020304);
    ck_assert(memcmp(bytes, "\0\1\2\3\4", 5) == 0);
}
END_TEST

static const struct {
    const char *plain, *encoded;
} percents[] = {
    {"", ""},
    {"etcdserver: no leader", "etcdserver: no leader"},
    {"100%", "100%25"},
    {"a\nb", "a%0Ab"},
    {"\x7f\x1f ~", "%7F%1F ~"},
    {"gr\xc3\xbc\xc3\x9f", "gr%C3%BC%C3%9F"},
};

START_TEST(percent_encoding_goes_both_ways)
{
    char out[64];
    size_t size = strlen(percents[_i].plain), n;

    n = grpc_percent_encode(out, percents[_i].plain, size);
    ck_assert_uint_le(n, GRPC_PERCENT_BYTES(size));
    out[n] = '\0';
    ck_assert_str_eq(out, percents[_i].encoded);
    n = grpc_percent_decode(out, out, n); /* in place */
    out[n] = '\0';
    ck_assert_str_eq(out, percents[_i].plain);
}
END_TEST

START_TEST(what_is_no_escape_stays)
{
    static const char *const rows[][2] = {
        {"%", "%"},     {"%4", "%4"},         {"%4x", "%4x"},
        {"%zz", "%zz"}, {"%41", "A"},         {"%c3%bc", "\xc3\xbc"},
        {"%%41", "%A"}, {"100% a", "100% a"},
    };
    char out[32];
    size_t n = grpc_percent_decode(out, rows[_i][0], strlen(rows[_i][0]));

    out[n] = '\0';
    ck_assert_str_eq(out, rows[_i][1]);
}
END_TEST

/* The vectors of RFC 4648 §10, with and without padding. */
static const struct {
    const char *plain, *unpadded, *padded;
} base64s[] = {
    {"", "", ""},
    {"f", "Zg", "Zg=="},
    {"fo", "Zm8", "Zm8="},
    {"foo", "Zm9v", "Zm9v"},
    {"foob", "Zm9vYg", "Zm9vYg=="},
    {"fooba", "Zm9vYmE", "Zm9vYmE="},
    {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
    {"\xfb\xff\xfe", "+//+", "+//+"},
};

START_TEST(base64_goes_both_ways)
{
    char text[64];
    uint8_t raw[64];
    size_t size = strlen(base64s[_i].plain), n;

    n = grpc_base64_encode(text, (const uint8_t *)base64s[_i].plain, size);
    ck_assert_uint_le(n, GRPC_BASE64_BYTES(size));
    text[n] = '\0';
    ck_assert_str_eq(text, base64s[_i].unpadded);
    ck_assert(grpc_base64_decode(raw, &n, text_of(base64s[_i].unpadded)));
    ck_assert_uint_eq(n, size);
    ck_assert(memcmp(raw, base64s[_i].plain, size) == 0);
    ck_assert(grpc_base64_decode(raw, &n, text_of(base64s[_i].padded)));
    ck_assert_uint_eq(n, size);
    ck_assert(memcmp(raw, base64s[_i].plain, size) == 0);
}
END_TEST

START_TEST(bad_base64_is_refused)
{
    static const char *const rows[] = {
        "A",   "AAAAA", "!AAA",   "AA A",   "=",
        "==",  "A===",  "AA=A",   "AAA==",  "AAAA=",
        "AA=", "-_-_",  "AAAA==", "AAAA\n", "\xff\xff\xff\xff"};
    uint8_t raw[16];
    size_t n;

    ck_assert(!grpc_base64_decode(raw, &n, text_of(rows[_i])));
}
END_TEST

START_TEST(content_type_is_recognised)
{
    static const struct {
        const char *text;
        bool good;
    } rows[] = {
        {"application/grpc", true},      {"application/grpc+proto", true},
        {"application/grpc;x=y", true},  {"application/grpc+", true},
        {"application/grpc-web", false}, {"application/grp", false},
        {"application/GRPC", false},     {"", false},
        {"text/plain", false},
    };

    ck_assert(grpc_is_content_type(text_of(rows[_i].text)) == rows[_i].good);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("grpc");
    TCase *tc = tcase_create("grpc");

    tcase_add_loop_test(tc, timeout_is_parsed, 0, (int)ARRAY_LENGTH(timeouts));
    tcase_add_loop_test(tc, timeout_survives_its_format, 0, 8);
    tcase_add_test(tc, timeout_of_ages_is_cut);
    tcase_add_loop_test(tc, prefix_survives, 0, 7);
    tcase_add_test(tc, prefix_is_big_endian);
    tcase_add_loop_test(tc, percent_encoding_goes_both_ways, 0,
                        (int)ARRAY_LENGTH(percents));
    tcase_add_loop_test(tc, what_is_no_escape_stays, 0, 8);
    tcase_add_loop_test(tc, base64_goes_both_ways, 0,
                        (int)ARRAY_LENGTH(base64s));
    tcase_add_loop_test(tc, bad_base64_is_refused, 0, 15);
    tcase_add_loop_test(tc, content_type_is_recognised, 0, 9);
    suite_add_tcase(s, tc);
    return suite_main(s);
}
