/*
 * test_ctl_options.c - command lines, right and wrong, and what is said about
 * the wrong ones.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl.h"
#include "proto/base.h"
#include "tests/suite.h"

#define WORDS 12
#define LINE 200

/* ---- values -------------------------------------------------------------- */

static const struct {
    const char *text;
    int64_t ms; /* -1: refused */
} durations[] = {
    {"5", 5000},
    {"5s", 5000},
    {"500ms", 500},
    {"1m30s", 90000},
    {"2h", 7200000},
    {"0", 0},
    {"1h1m1s1ms", 3661001},
    {"", -1},
    {"s", -1},
    {"5x", -1},
    {"5 s", -1},
    {"-5", -1},
    {"-5s", -1},
    {"5s ", -1},
    {" 5s", -1},
    {"1.5s", -1},
    {"5sm", -1},
    {"99999999999999h", -1},
    {"999999999999h", -1},
    {"9999999999999999999", -1},
};

START_TEST(duration_is_understood_or_refused)
{
    uint64_t ms = 0;
    bool ok = ctl_parse_duration(durations[_i].text, &ms);

    ck_assert_msg(ok == (durations[_i].ms >= 0), "'%s'", durations[_i].text);
    if (ok) {
        ck_assert_int_eq((int64_t)ms, durations[_i].ms);
    }
}
END_TEST

START_TEST(number_is_whole_and_in_range)
{
    int64_t n;

    ck_assert(ctl_parse_int("42", 0, 42, &n) && n == 42);
    ck_assert(ctl_parse_int("-1", -1, 42, &n) && n == -1);
    ck_assert(!ctl_parse_int("43", 0, 42, &n));
    ck_assert(!ctl_parse_int("", 0, 42, &n));
    ck_assert(!ctl_parse_int(" 4", 0, 42, &n));
    ck_assert(!ctl_parse_int("4x", 0, 42, &n));
    ck_assert(!ctl_parse_int("0x4", 0, 42, &n));
    ck_assert(ctl_parse_int("9223372036854775807", 0, INT64_MAX, &n));
    ck_assert(!ctl_parse_int("9223372036854775808", 0, INT64_MAX, &n));
}
END_TEST

START_TEST(lease_id_is_hex_and_not_zero)
{
    int64_t id;

    ck_assert(ctl_parse_lease("2040a1f87048e315", &id));
    ck_assert_int_eq(id, 0x2040a1f87048e315);
    ck_assert(ctl_parse_lease("ffffffffffffffff", &id));
    ck_assert_int_eq(id, -1);
    ck_assert(!ctl_parse_lease("0", &id));
    ck_assert(!ctl_parse_lease("", &id));
    ck_assert(!ctl_parse_lease("-1", &id));
    ck_assert(!ctl_parse_lease("12g", &id));
    ck_assert(!ctl_parse_lease("10000000000000000", &id));
}
END_TEST

START_TEST(nearest_word_is_near)
{
    static const char *const words[] = {"prefix", "prev-kv", "limit"};

    ck_assert_str_eq(ctl_nearest("prefx", words, 3), "prefix");
    ck_assert_str_eq(ctl_nearest("limti", words, 3), "limit");
    ck_assert_str_eq(ctl_nearest("prevkv", words, 3), "prev-kv");
    ck_assert_ptr_null(ctl_nearest("consistency", words, 3));
    ck_assert_ptr_null(ctl_nearest("", words, 3));
    ck_assert_ptr_null(
        ctl_nearest("a-word-of-more-than-thirty-two-letters", words, 3));
}
END_TEST

/* ---- flags --------------------------------------------------------------- */

/* The words of a line, as argv. */
static int split(const char *line, char *copy, char **argv)
{
    char *save;
    int argc = 0;

    snprintf(copy, LINE, "%s", line);
    for (char *word = strtok_r(copy, " ", &save); word != NULL;
         word = strtok_r(NULL, " ", &save)) {
        ck_assert_int_lt(argc, WORDS - 1);
        argv[argc++] = word;
    }
    argv[argc] = NULL;
    return argc;
}

static struct ctl_options parse(const char *line, int *n_arguments)
{
    struct ctl ctl = {.out = stdout, .err = stderr};
    static char copy[LINE]; /* options point into it */
    char *argv[WORDS];
    int argc = split(line, copy, argv);
    int rest;

    ctl_options_init(&ctl.options);
    ck_assert(ctl_parse_verb(&ctl, ctl_find_verb(argv[0], argv[1]), argc, argv,
                             &rest));
    *n_arguments = argc - rest;
    return ctl.options;
}

START_TEST(flags_may_stand_anywhere)
{
    int n;
    struct ctl_options o =
        parse("get a --prefix --limit 3 b --endpoints=h:1 -w json", &n);

    ck_assert(o.prefix);
    ck_assert_int_eq(o.limit, 3);
    ck_assert_str_eq(o.endpoints, "h:1");
    ck_assert_int_eq(o.format, CTL_JSON);
    ck_assert_int_eq(n, 2);
}
END_TEST

START_TEST(flags_of_get_are_understood)
{
    int n;
    struct ctl_options o =
        parse("get --consistency=s --rev=7 --order=DESCEND --sort-by=MODIFY "
              "--keys-only --count-only=true --from-key=false k",
              &n);

    ck_assert(o.serializable);
    ck_assert_int_eq(o.revision, 7);
    ck_assert_int_eq(o.order, PAWL_ORDER_DESCEND);
    ck_assert_int_eq(o.sort_by, PAWL_SORT_BY_MOD);
    ck_assert(o.keys_only && o.count_only && !o.from_key);
}
END_TEST

START_TEST(words_behind_two_dashes_are_arguments)
{
    int n;
    struct ctl_options o = parse("lock n --ttl 5s -- cmd --ttl 6 -x", &n);

    ck_assert_int_eq(o.ttl_s, 5);
    ck_assert_int_eq(n, 5);
}
END_TEST

START_TEST(part_of_a_second_counts_as_one)
{
    int n;

    ck_assert_int_eq(parse("lock n --ttl 1500ms", &n).ttl_s, 2);
    ck_assert_int_eq(parse("lock n --timeout 0", &n).wait_ms, 0);
    ck_assert(parse("lock n --timeout 0", &n).has_wait);
}
END_TEST

START_TEST(endpoints_come_from_the_environment_unless_given)
{
    int n;

    setenv("ETCDCTL_ENDPOINTS", "e:1", 1);
    ck_assert_str_eq(parse("get k", &n).endpoints, "e:1");
    setenv("PAWLCTL_ENDPOINTS", "p:1", 1);
    ck_assert_str_eq(parse("get k", &n).endpoints, "p:1");
    ck_assert_str_eq(parse("get k --endpoints f:1", &n).endpoints, "f:1");
}
END_TEST

/* ---- what is said about mistakes ----------------------------------------- */

static const struct {
    const char *line;
    const char *says;
} mistakes[] = {
    {"pawlctl", "which command?"},
    {"pawlctl gte k", "did you mean 'get'?"},
    {"pawlctl frobnicate", "unknown command 'frobnicate'\n"},
    {"pawlctl lease", "a command is missing"},
    {"pawlctl lease grnat 5", "did you mean 'pawlctl lease grant'?"},
    {"pawlctl --prefix get k", "a verb's own flags come after it"},
    {"pawlctl --endpint=x get k", "did you mean --endpoints?"},
    {"pawlctl get --prefx k", "get: unknown flag --prefx; did you mean"},
    {"pawlctl get --prefx=1 k", "did you mean --prefix?"},
    {"pawlctl get -x k", "unknown flag"},
    {"pawlctl get --limit", "--limit needs a value"},
    {"pawlctl get -w", "-w needs a value"},
    {"pawlctl get -w xml k", "--write-out: 'xml' is not simple, json or"},
    {"pawlctl get --limit=x k", "--limit: 'x' is not a number"},
    {"pawlctl get --limit=-1 k", "--limit: '-1' is not a number"},
    {"pawlctl get --prefix=maybe k", "'maybe' is not true or false"},
    {"pawlctl get --consistency=x k", "is not l or s"},
    {"pawlctl get --order=up k", "is not ascend or descend"},
    {"pawlctl get --sort-by=size k", "is not key, version, create"},
    {"pawlctl get --command-timeout=0 k", "is not a time"},
    {"pawlctl get", "get: it takes a key"},
    {"pawlctl get a b c", "get: it takes a key"},
    {"pawlctl get a b --prefix", "only one can be given"},
    {"pawlctl get a --prefix --from-key", "only one can be given"},
    {"pawlctl get a --keys-only --print-value-only", "leave nothing"},
    {"pawlctl put", "put: it takes a key and a value"},
    {"pawlctl put k v --lease=zz", "is not a lease id in hex"},
    {"pawlctl put k v --ignore-value", "goes without a value"},
    {"pawlctl put k v --fence-key=n/1", "go together"},
    {"pawlctl put k v --fence-token=1", "go together"},
    {"pawlctl put k v --fence-key=n/1 --fence-token=0", "not a fencing token"},
    {"pawlctl put k v --fenced", "needs PAWL_LOCK_KEY"},
    {"pawlctl put k v --fenced --fence-token=1", "goes without"},
    {"pawlctl del", "del: it takes a key"},
    {"pawlctl lock", "it takes the name of a lock"},
    {"pawlctl lock n --try --timeout=1s", "--try goes without --timeout"},
    {"pawlctl lock n cmd -x", "unknown flag"},
    {"pawlctl lock n --ttl=0", "is not a time"},
    {"pawlctl unlock k", "the key and the token"},
    {"pawlctl unlock k x", "'x' is not a fencing token"},
    {"pawlctl lock-check", "the name of a lock"},
    {"pawlctl lease grant", "it takes a TTL"},
    {"pawlctl lease grant x", "'x' is not a time"},
    {"pawlctl lease revoke", "it takes a lease id"},
    {"pawlctl lease revoke zz", "is not a lease id in hex"},
    {"pawlctl lease list x", "it takes no argument"},
    {"pawlctl member list x", "it takes no argument"},
    {"pawlctl version x", "it takes no argument"},
    {"pawlctl get k --endpoints=https://h:1", "TLS is not supported"},
    {"pawlctl get k --endpoints=", "not host:port"},
};

START_TEST(mistake_is_named_and_ends_with_code_2)
{
    struct ctl ctl = {.out = stdout};
    char *said;
    size_t size;
    char copy[200], *argv[WORDS];
    int argc = split(mistakes[_i].line, copy, argv);
    int code;

    unsetenv("PAWL_LOCK_KEY");
    ctl.err = open_memstream(&said, &size);
    code = ctl_main(&ctl, argc, argv);
    fclose(ctl.err);
    ck_assert_msg(code == CTL_USAGE, "'%s' gives %d", mistakes[_i].line, code);
    ck_assert_msg(strstr(said, mistakes[_i].says) != NULL, "'%s' says: %s",
                  mistakes[_i].line, said);
    ck_assert_msg(strncmp(said, "pawlctl: ", 9) == 0, "%s", said);
    free(said);
}
END_TEST

/* ---- help ---------------------------------------------------------------- */

static char *help_of(const char *line, int *code)
{
    struct ctl ctl = {.err = stderr};
    char *said;
    size_t size;
    char copy[200], *argv[WORDS];
    int argc = split(line, copy, argv);

    ctl.out = open_memstream(&said, &size);
    *code = ctl_main(&ctl, argc, argv);
    fclose(ctl.out);
    return said;
}

static const struct {
    const char *line;
    const char *says;
} helps[] = {
    {"pawlctl --help", "6  no answer to a write: it may have been applied"},
    {"pawlctl -h", "exit codes:"},
    {"pawlctl help", "exit codes:"},
    {"pawlctl get --help", "usage: pawlctl get [FLAGS] KEY [END]"},
    {"pawlctl get k -h", "--consistency=l|s"},
    {"pawlctl help lock", "PAWL_FENCING_TOKEN"},
    {"pawlctl --help put", "--fence-token=N"},
    {"pawlctl lease grant --help", "usage: pawlctl lease grant [FLAGS] TTL"},
    {"pawlctl lease --help", "lease keep-alive ID"},
    {"pawlctl help lease", "lease keep-alive ID"},
    {"pawlctl help lease grant", "usage: pawlctl lease grant"},
};

START_TEST(help_is_given_to_who_asks)
{
    int code;
    char *said = help_of(helps[_i].line, &code);

    ck_assert_int_eq(code, CTL_OK);
    ck_assert_msg(strstr(said, helps[_i].says) != NULL, "'%s' says: %s",
                  helps[_i].line, said);
    free(said);
}
END_TEST

START_TEST(help_fits_in_eighty_columns)
{
    int code;
    char *said = help_of(helps[_i].line, &code);

    for (char *line = said; *line != '\0'; line += strcspn(line, "\n") + 1) {
        ck_assert_msg(strcspn(line, "\n") <= 80, "%s", line);
    }
    free(said);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl_options");
    TCase *t = tcase_create("options");

    tcase_add_loop_test(t, duration_is_understood_or_refused, 0,
                        ARRAY_LENGTH(durations));
    tcase_add_test(t, number_is_whole_and_in_range);
    tcase_add_test(t, lease_id_is_hex_and_not_zero);
    tcase_add_test(t, nearest_word_is_near);
    tcase_add_test(t, flags_may_stand_anywhere);
    tcase_add_test(t, flags_of_get_are_understood);
    tcase_add_test(t, words_behind_two_dashes_are_arguments);
    tcase_add_test(t, part_of_a_second_counts_as_one);
    tcase_add_test(t, endpoints_come_from_the_environment_unless_given);
    tcase_add_loop_test(t, mistake_is_named_and_ends_with_code_2, 0,
                        ARRAY_LENGTH(mistakes));
    tcase_add_loop_test(t, help_is_given_to_who_asks, 0, ARRAY_LENGTH(helps));
    tcase_add_loop_test(t, help_fits_in_eighty_columns, 0, ARRAY_LENGTH(helps));
    suite_add_tcase(s, t);
    return suite_main(s);
}
