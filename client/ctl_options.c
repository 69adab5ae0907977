/*
 * ctl_options.c - the command line: flags, their values, and what to say when
 * one is wrong. getopt_long() does the splitting.
 */
#include "client/ctl.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- the flags ----------------------------------------------------------- */

static const struct flag {
    int flag;
    char letter; /* 0: none */
    const char *name;
    const char *argument; /* NULL: it is true or, with =false, not */
    const char *help;
} flags[] = {
    {FLAG_ENDPOINTS, 0, "endpoints", "LIST",
     "the servers: host:port,... (127.0.0.1:2379)"},
    {FLAG_COMMAND_TIMEOUT, 0, "command-timeout", "TIME",
     "for the whole call, retries included (5s)"},
    {FLAG_DIAL_TIMEOUT, 0, "dial-timeout", "TIME", "for one connection (2s)"},
    {FLAG_WRITE_OUT, 'w', "write-out", "FORMAT",
     "simple, json or table (simple)"},
    {FLAG_HELP, 'h', "help", NULL, "this text"},
    {FLAG_PREFIX, 0, "prefix", NULL, "all keys that begin with KEY"},
    {FLAG_FROM_KEY, 0, "from-key", NULL, "KEY and all keys behind it"},
    {FLAG_COUNT_ONLY, 0, "count-only", NULL, "print how many keys there are"},
    {FLAG_KEYS_ONLY, 0, "keys-only", NULL, "leave the values out"},
    {FLAG_PRINT_VALUE_ONLY, 0, "print-value-only", NULL,
     "leave the keys out (simple output)"},
    {FLAG_PREV_KV, 0, "prev-kv", NULL, "print the pairs before the change"},
    {FLAG_IGNORE_VALUE, 0, "ignore-value", NULL, "keep the key's value"},
    {FLAG_IGNORE_LEASE, 0, "ignore-lease", NULL, "keep the key's lease"},
    {FLAG_CONSISTENCY, 0, "consistency", "l|s",
     "linearizable, or serializable: may be stale (l)"},
    {FLAG_LIMIT, 0, "limit", "N", "keys at most (all)"},
    {FLAG_REV, 0, "rev", "N", "the store as it was at that revision (now)"},
    {FLAG_ORDER, 0, "order", "ORDER", "ascend or descend (ascend)"},
    {FLAG_SORT_BY, 0, "sort-by", "WHAT",
     "key, version, create, modify or value (key)"},
    {FLAG_LEASE, 0, "lease", "ID", "the lease to live with, in hex"},
    {FLAG_FENCE_KEY, 0, "fence-key", "KEY",
     "write only while the lock of that key is held ..."},
    {FLAG_FENCE_TOKEN, 0, "fence-token", "N", "... by that fencing token"},
    {FLAG_FENCED, 0, "fenced", NULL, "as 'lock' put them into the environment"},
    {FLAG_TTL, 0, "ttl", "TIME",
     "the lock outlives a dead holder so long (10s)"},
    {FLAG_TIMEOUT, 0, "timeout", "TIME", "wait at most so long (for ever)"},
    {FLAG_TRY, 0, "try", NULL, "do not wait at all"},
    {FLAG_ONCE, 0, "once", NULL, "renew once and end"},
    {FLAG_KEYS, 0, "keys", NULL, "print the keys that live with it"},
    {FLAG_PEER_URLS, 0, "peer-urls", "URLS",
     "where the other members call it: http://host:port,..."},
    {FLAG_LEARNER, 0, "learner", NULL, "it does not vote until it is promoted"},
    {FLAG_AUTO_PROMOTE, 0, "auto-promote", NULL,
     "with --learner: promoted by itself once it has caught up"},
};

#define N_FLAGS (sizeof(flags) / sizeof(flags[0]))

static const int global_flags[] = {FLAG_ENDPOINTS,    FLAG_COMMAND_TIMEOUT,
                                   FLAG_DIAL_TIMEOUT, FLAG_WRITE_OUT,
                                   FLAG_HELP,         0};

static const struct flag *flag_find(int flag)
{
    for (size_t i = 0; i < N_FLAGS; i++) {
        if (flags[i].flag == flag) {
            return &flags[i];
        }
    }
    abort(); /* a verb's table names a flag that is none */
}

void ctl_flag_help(FILE *out, int flag)
{
    const struct flag *f = flag_find(flag);
    char left[64];
    char letter[8] = "    ";

    if (f->letter != 0) {
        snprintf(letter, sizeof(letter), "-%c, ", f->letter);
    }
    snprintf(left, sizeof(left), "%s--%s%s%s", letter, f->name,
             f->argument != NULL ? "=" : "",
             f->argument != NULL ? f->argument : "");
    fprintf(out, "  %-28s %s\n", left, f->help);
}

void ctl_global_help(FILE *out)
{
    for (size_t i = 0; global_flags[i] != 0; i++) {
        ctl_flag_help(out, global_flags[i]);
    }
}

void ctl_options_init(struct ctl_options *o)
{
    const char *endpoints = getenv("PAWLCTL_ENDPOINTS");

    *o = (struct ctl_options){
        .command_timeout_ms = 5000,
        .dial_timeout_ms = 2000,
    };
    o->endpoints = endpoints != NULL ? endpoints : getenv("ETCDCTL_ENDPOINTS");
}

/* ---- values -------------------------------------------------------------- */

bool ctl_parse_int(const char *text, int64_t min, int64_t max, int64_t *out)
{
    char *end;
    long long value;

    if (!isdigit((unsigned char)text[0]) && text[0] != '-') {
        return false; /* strtoll() would skip blanks */
    }
    errno = 0;
    value = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || value < min || value > max) {
        return false;
    }
    *out = value;
    return true;
}

bool ctl_parse_lease(const char *text, int64_t *out)
{
    char *end;
    unsigned long long value;

    if (!isxdigit((unsigned char)text[0])) {
        return false;
    }
    errno = 0;
    value = strtoull(text, &end, 16);
    if (errno != 0 || *end != '\0' || value == 0) {
        return false;
    }
    *out = (int64_t)value; /* ids may be negative: they are just bits */
    return true;
}

static bool unit_ms(const char *unit, size_t size, uint64_t *ms)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strlen(units[i].name) == size &&
            strncmp(unit, units[i].name, size) == 0) {
            *ms = units[i].ms;
            return true;
        }
    }
    return false;
}

bool ctl_parse_duration(const char *text, uint64_t *ms)
{
    const uint64_t max = UINT64_C(10) * 365 * 24 * 3600000;
    int64_t seconds;
    uint64_t sum = 0;

    if (ctl_parse_int(text, 0, (int64_t)(max / 1000), &seconds)) {
        *ms = (uint64_t)seconds * 1000;
        return true;
    }
    do {
        size_t digits = strspn(text, "0123456789");
        size_t letters = strspn(text + digits, "mshMSH");
        uint64_t unit;

        if (digits == 0 || digits > 12 ||
            !unit_ms(text + digits, letters, &unit)) {
            return false;
        }
        sum += strtoull(text, NULL, 10) * unit;
        if (sum > max) {
            return false;
        }
        text += digits + letters;
    } while (*text != '\0');
    *ms = sum;
    return true;
}

struct word {
    const char *name;
    int value;
};

static bool parse_word(const char *text, const struct word *words, int *out)
{
    for (; words->name != NULL; words++) {
        if (strcasecmp(words->name, text) == 0) {
            *out = words->value;
            return true;
        }
    }
    return false;
}

static const struct word formats[] = {{"simple", CTL_SIMPLE},
                                      {"json", CTL_JSON},
                                      {"table", CTL_TABLE},
                                      {NULL, 0}};
static const struct word orders[] = {
    {"ascend", PAWL_ORDER_ASCEND}, {"descend", PAWL_ORDER_DESCEND}, {NULL, 0}};
static const struct word sorts[] = {{"key", PAWL_SORT_BY_KEY},
                                    {"version", PAWL_SORT_BY_VERSION},
                                    {"create", PAWL_SORT_BY_CREATE},
                                    {"modify", PAWL_SORT_BY_MOD},
                                    {"mod", PAWL_SORT_BY_MOD},
                                    {"value", PAWL_SORT_BY_VALUE},
                                    {NULL, 0}};
static const struct word consistencies[] = {
    {"l", false}, {"s", true}, {NULL, 0}};

/* A time of which whole seconds are wanted. */
static bool parse_seconds(const char *text, int64_t *seconds)
{
    uint64_t ms;

    if (!ctl_parse_duration(text, &ms) || ms == 0) {
        return false;
    }
    *seconds = (int64_t)((ms + 999) / 1000);
    return true;
}

static bool parse_timeout(const char *text, uint64_t *ms)
{
    return ctl_parse_duration(text, ms) && *ms > 0 && *ms <= UINT32_MAX;
}

/* ---- one flag ------------------------------------------------------------ */

/* NULL or what was expected. */
static const char *set_value(struct ctl_options *o, int flag, const char *text)
{
    int word = 0;
    uint64_t ms;

    switch (flag) {
    case FLAG_ENDPOINTS:
        o->endpoints = text;
        return NULL;
    case FLAG_COMMAND_TIMEOUT:
        return parse_timeout(text, &o->command_timeout_ms)
                   ? NULL
                   : "a time, as 5s or 500ms";
    case FLAG_DIAL_TIMEOUT:
        return parse_timeout(text, &o->dial_timeout_ms)
                   ? NULL
                   : "a time, as 5s or 500ms";
    case FLAG_WRITE_OUT:
        if (!parse_word(text, formats, &word)) {
            return "simple, json or table";
        }
        o->format = (enum ctl_format)word;
        return NULL;
    case FLAG_CONSISTENCY:
        if (!parse_word(text, consistencies, &word)) {
            return "l or s";
        }
        o->serializable = word;
        return NULL;
    case FLAG_LIMIT:
        return ctl_parse_int(text, 0, INT64_MAX, &o->limit) ? NULL : "a number";
    case FLAG_REV:
        return ctl_parse_int(text, 0, INT64_MAX, &o->revision) ? NULL
                                                               : "a revision";
    case FLAG_ORDER:
        if (!parse_word(text, orders, &word)) {
            return "ascend or descend";
        }
        o->order = (enum pawl_order)word;
        return NULL;
    case FLAG_SORT_BY:
        if (!parse_word(text, sorts, &word)) {
            return "key, version, create, modify or value";
        }
        o->sort_by = (enum pawl_sort_by)word;
        return NULL;
    case FLAG_LEASE:
        return ctl_parse_lease(text, &o->lease) ? NULL : "a lease id in hex";
    case FLAG_FENCE_KEY:
        o->fence_key = text;
        return NULL;
    case FLAG_PEER_URLS:
        o->peer_urls = text;
        return NULL;
    case FLAG_FENCE_TOKEN:
        o->has_fence_token = true;
        return ctl_parse_int(text, 1, INT64_MAX, &o->fence_token)
                   ? NULL
                   : "a fencing token";
    case FLAG_TTL:
        return parse_seconds(text, &o->ttl_s) ? NULL : "a time, as 10s";
    case FLAG_TIMEOUT:
        if (!ctl_parse_duration(text, &ms)) {
            return "a time, as 30s";
        }
        o->wait_ms = (int64_t)ms;
        o->has_wait = true;
        return NULL;
    default:
        abort(); /* the table and this switch disagree */
    }
}

static bool *switch_of(struct ctl_options *o, int flag)
{
    switch (flag) {
    case FLAG_HELP:
        return &o->help;
    case FLAG_PREFIX:
        return &o->prefix;
    case FLAG_FROM_KEY:
        return &o->from_key;
    case FLAG_COUNT_ONLY:
        return &o->count_only;
    case FLAG_KEYS_ONLY:
        return &o->keys_only;
    case FLAG_PRINT_VALUE_ONLY:
        return &o->print_value_only;
    case FLAG_PREV_KV:
        return &o->prev_kv;
    case FLAG_IGNORE_VALUE:
        return &o->ignore_value;
    case FLAG_IGNORE_LEASE:
        return &o->ignore_lease;
    case FLAG_FENCED:
        return &o->fenced;
    case FLAG_TRY:
        return &o->try_only;
    case FLAG_ONCE:
        return &o->once;
    case FLAG_KEYS:
        return &o->keys;
    case FLAG_LEARNER:
        return &o->learner;
    case FLAG_AUTO_PROMOTE:
        return &o->auto_promote;
    default:
        return NULL;
    }
}

static const char *set_flag(struct ctl_options *o, int flag, const char *text)
{
    static const struct word booleans[] = {
        {"true", true}, {"false", false}, {NULL, 0}};
    bool *on = switch_of(o, flag);
    int word = true;

    if (on == NULL) {
        return set_value(o, flag, text);
    }
    if (text != NULL && !parse_word(text, booleans, &word)) {
        return "true or false";
    }
    *on = word;
    return NULL;
}

/* ---- nearest word -------------------------------------------------------- */

#define WORD_MAX 32

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t ab = a < b ? a : b;

    return ab < c ? ab : c;
}

/* How many letters must be inserted, removed or replaced. */
static size_t distance(const char *a, const char *b)
{
    size_t row[WORD_MAX + 1];
    size_t n = strlen(b);

    if (n > WORD_MAX || strlen(a) > WORD_MAX) {
        return SIZE_MAX;
    }
    for (size_t j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t above = row[j];

            row[j] = min3(above + 1, row[j - 1] + 1,
                          diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[n];
}

const char *ctl_nearest(const char *word, const char *const *words, size_t n)
{
    const char *nearest = NULL;
    size_t best = strlen(word) > 3 ? 3 : strlen(word); /* not farther off */

    for (size_t i = 0; i < n; i++) {
        size_t d = distance(word, words[i]);

        if (d < best) {
            best = d;
            nearest = words[i];
        }
    }
    return nearest;
}

/* ---- the line ------------------------------------------------------------ */

struct parser {
    struct ctl *ctl;
    const struct ctl_verb *verb; /* NULL: before it */
    struct option options[N_FLAGS + 1];
    const char *names[N_FLAGS]; /* of the flags in options */
    size_t n;
    char letters[2 * N_FLAGS + 4];
};

static void add_flags(struct parser *p, const int *list)
{
    for (size_t i = 0; list != NULL && list[i] != 0; i++) {
        const struct flag *f = flag_find(list[i]);
        size_t end = strlen(p->letters);

        p->options[p->n] = (struct option){
            .name = f->name,
            .has_arg =
                f->argument != NULL ? required_argument : optional_argument,
            .val = f->flag,
        };
        p->names[p->n++] = f->name;
        if (f->letter != 0) {
            p->letters[end++] = f->letter;
            p->letters[end++] = f->argument != NULL ? ':' : '\0';
            p->letters[end] = '\0';
        }
    }
}

static void parser_init(struct parser *p, struct ctl *ctl,
                        const struct ctl_verb *verb)
{
    *p = (struct parser){.ctl = ctl, .verb = verb};
    /* '+': stop at the first word; ':': tell missing values apart */
    snprintf(p->letters, sizeof(p->letters), "%s", verb == NULL ? "+:" : ":");
    add_flags(p, global_flags);
    add_flags(p, verb != NULL ? verb->flags : NULL);
}

static bool unknown_flag(struct parser *p, const char *word)
{
    size_t size = strcspn(word + 2, "=");
    char name[WORD_MAX + 1];
    const char *nearest = NULL;
    bool is_long = strncmp(word, "--", 2) == 0;

    if (is_long && size <= WORD_MAX) {
        snprintf(name, sizeof(name), "%.*s", (int)size, word + 2);
        nearest = ctl_nearest(name, p->names, p->n);
    }
    if (nearest != NULL) {
        ctl_usage(p->ctl, p->verb, "unknown flag %s; did you mean --%s?", word,
                  nearest);
    } else if (p->verb == NULL) {
        ctl_usage(p->ctl, NULL,
                  "unknown flag %s (a verb's own flags come after it)", word);
    } else {
        ctl_usage(p->ctl, p->verb, "unknown flag %s", word);
    }
    return false;
}

static const struct flag *flag_of_letter(int letter)
{
    for (size_t i = 0; i < N_FLAGS; i++) {
        if (flags[i].letter == letter) {
            return &flags[i];
        }
    }
    return flag_find(letter); /* a long one: its own number */
}

static bool take_flag(struct parser *p, int got, char **argv)
{
    const struct flag *f;
    const char *expected;

    if (got == '?') {
        return unknown_flag(p, argv[optind - 1]);
    }
    if (got == ':') {
        ctl_usage(p->ctl, p->verb, "%s needs a value", argv[optind - 1]);
        return false;
    }
    f = flag_of_letter(got);
    expected = set_flag(&p->ctl->options, f->flag, optarg);
    if (expected != NULL) {
        ctl_usage(p->ctl, p->verb, "--%s: '%s' is not %s", f->name, optarg,
                  expected);
        return false;
    }
    return true;
}

static bool parse(struct parser *p, int argc, char **argv, int *rest)
{
    int got;

    optind = 0; /* glibc: start afresh */
    opterr = 0; /* the messages are ours */
    while ((got = getopt_long(argc, argv, p->letters, p->options, NULL)) !=
           -1) {
        if (!take_flag(p, got, argv)) {
            return false;
        }
    }
    *rest = optind;
    return true;
}

bool ctl_parse_global(struct ctl *ctl, int argc, char **argv, int *rest)
{
    struct parser p;

    parser_init(&p, ctl, NULL);
    return parse(&p, argc, argv, rest);
}

bool ctl_parse_verb(struct ctl *ctl, const struct ctl_verb *verb, int argc,
                    char **argv, int *rest)
{
    struct parser p;

    parser_init(&p, ctl, verb);
    return parse(&p, argc, argv, rest);
}
