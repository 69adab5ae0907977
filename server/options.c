/*
 * options.c - one table of flags; parsing, defaults, and what follows from
 * them: the founding members and their ids.
 */
#include "server/options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "server/url.h"

struct flag {
    const char *name;
    size_t offset;        /* of the char * in struct options */
    const char *value;    /* what help calls it */
    const char *standard; /* default; NULL: derived */
    const char *help;
};

#define FLAG(field, name, value, standard, help)                               \
    {                                                                          \
        name, offsetof(struct options, field), value, standard, help           \
    }

static const struct flag flags[] = {
    FLAG(name, "name", "NAME", "default", "this member's name"),
    FLAG(data_dir, "data-dir", "DIR", NULL,
         "where raft.db and state.db live (default NAME.pawl)"),
    FLAG(listen_client_urls, "listen-client-urls", "URLS",
         "http://127.0.0.1:2379", "where clients are served"),
    FLAG(advertise_client_urls, "advertise-client-urls", "URLS", NULL,
         "what clients are told (default: the listen URLs)"),
    FLAG(listen_peer_urls, "listen-peer-urls", "URLS", "http://127.0.0.1:2380",
         "where the other members are served"),
    FLAG(initial_advertise_peer_urls, "initial-advertise-peer-urls", "URLS",
         NULL, "what the other members call (default: the listen URLs)"),
    FLAG(initial_cluster, "initial-cluster", "NAME=URL,...", NULL,
         "all founding members (default: this one alone)"),
    FLAG(initial_cluster_state, "initial-cluster-state", "new", "new",
         "a cluster is founded, or goes on if the data is there"),
    FLAG(initial_cluster_token, "initial-cluster-token", "TOKEN",
         "pawl-cluster", "tells clusters with equal URLs apart"),
    FLAG(heartbeat_interval, "heartbeat-interval", "MS", "100",
         "time between a leader's heartbeats"),
    FLAG(election_timeout, "election-timeout", "MS", "1000",
         "silence after which a new leader is elected"),
    FLAG(max_request_bytes, "max-request-bytes", "BYTES", "1572864",
         "largest request that is accepted"),
    FLAG(snapshot_catchup_entries, "snapshot-catchup-entries", "N", "5000",
         "log entries kept for slow followers"),
    FLAG(snapshot_bytes_per_second, "snapshot-bytes-per-second", "BYTES",
         "67108864", "how fast snapshots are sent, all together"),
    FLAG(log_level, "log-level", "LEVEL", "info", "debug, info, warn or error"),
};

#define N_FLAGS ARRAY_LENGTH(flags)

static char **field(struct options *o, const struct flag *f)
{
    return (char **)((char *)o + f->offset);
}

static void print_help(void)
{
    printf("usage: pawld [--FLAG VALUE]...\n\n"
           "A strongly consistent key-value store, lock and election service "
           "that speaks\nthe etcd v3 API. Without a flag: one node on "
           "127.0.0.1:2379, data in ./default.pawl\n\n");
    for (size_t i = 0; i < N_FLAGS; i++) {
        char left[64];

        snprintf(left, sizeof(left), "--%s %s", flags[i].name, flags[i].value);
        printf("  %-42s %s%s%s%s\n", left, flags[i].help,
               flags[i].standard != NULL ? " (default " : "",
               flags[i].standard != NULL ? flags[i].standard : "",
               flags[i].standard != NULL ? ")" : "");
    }
    printf("  %-42s %s\n  %-42s %s\n\n", "--version", "print it and end",
           "--help", "this text");
    printf("Each flag can come from the environment: --data-dir as "
           "PAWL_DATA_DIR or ETCD_DATA_DIR.\n");
}

/* "data-dir" with prefix "PAWL_": PAWL_DATA_DIR. */
static const char *from_environment(const char *prefix, const char *name)
{
    char *key = mem_printf("%s%s", prefix, name);
    const char *value;

    for (char *c = key; *c != '\0'; c++) {
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    }
    value = getenv(key);
    free(key);
    return value;
}

static void set(struct options *o, const struct flag *f, const char *value)
{
    char **p = field(o, f);

    free(*p);
    *p = mem_strdup(value);
}

static void read_environment(struct options *o)
{
    for (size_t i = 0; i < N_FLAGS; i++) {
        const char *value = from_environment("PAWL_", flags[i].name);

        if (value == NULL) {
            value = from_environment("ETCD_", flags[i].name);
        }
        if (value != NULL) {
            set(o, &flags[i], value);
        }
    }
}

static enum options_result read_flags(struct options *o, int argc, char **argv)
{
    struct option longs[N_FLAGS + 3] = {0};
    int which;

    for (size_t i = 0; i < N_FLAGS; i++) {
        longs[i] =
            (struct option){flags[i].name, required_argument, NULL, (int)i};
    }
    longs[N_FLAGS] = (struct option){"help", no_argument, NULL, 'h'};
    longs[N_FLAGS + 1] = (struct option){"version", no_argument, NULL, 'v'};
    _Static_assert(N_FLAGS < 'h', "short letters stay apart from places");
    while ((which = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        if (which == 'h') {
            print_help();
            return OPTIONS_DONE;
        }
        if (which == 'v') {
            printf("pawld %s\n", PAWL_VERSION);
            return OPTIONS_DONE;
        }
        if (which == '?') { /* getopt_long() has said what is wrong */
            fprintf(stderr, "pawld: 'pawld --help' lists the flags\n");
            return OPTIONS_BAD;
        }
        set(o, &flags[which], optarg);
    }
    if (optind < argc) {
        fprintf(stderr,
                "pawld: unexpected argument '%s'; flags begin with "
                "--, see 'pawld --help'\n",
                argv[optind]);
        return OPTIONS_BAD;
    }
    return OPTIONS_RUN;
}

static void set_default(char **p, char *value)
{
    if (*p == NULL) {
        *p = value;
    } else {
        free(value);
    }
}

static void fill_defaults(struct options *o)
{
    o->cluster_given = o->initial_cluster != NULL;
    for (size_t i = 0; i < N_FLAGS; i++) {
        if (flags[i].standard != NULL && *field(o, &flags[i]) == NULL) {
            set(o, &flags[i], flags[i].standard);
        }
    }
    set_default(&o->data_dir, mem_printf("%s.pawl", o->name));
    set_default(&o->advertise_client_urls, mem_strdup(o->listen_client_urls));
    set_default(&o->initial_advertise_peer_urls,
                mem_strdup(o->listen_peer_urls));
    if (o->initial_cluster == NULL) {
        size_t n;
        char **urls = url_list(o->initial_advertise_peer_urls, &n);
        char *all = mem_strdup("");

        for (size_t i = 0; i < n; i++) {
            char *longer = mem_printf("%s%s%s=%s", all, i > 0 ? "," : "",
                                      o->name, urls[i]);

            free(all);
            all = longer;
        }
        o->initial_cluster = all;
        url_list_free(urls, n);
    }
}

static bool bad(const char *flag, const char *value, const char *why)
{
    fprintf(stderr, "pawld: --%s '%s': %s\n", flag, value, why);
    return false;
}

static bool parse_number(const char *flag, const char *text,
                         unsigned long minimum, unsigned long maximum,
                         unsigned long *out)
{
    char *end;

    errno = 0;
    *out = strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *out < minimum ||
        *out > maximum || text[0] == '-') {
        fprintf(stderr,
                "pawld: --%s '%s': a number from %lu to %lu is "
                "needed\n",
                flag, text, minimum, maximum);
        return false;
    }
    return true;
}

static bool parse_numbers(struct options *o)
{
    unsigned long heartbeat, election, bytes, entries, rate;

    if (!parse_number("heartbeat-interval", o->heartbeat_interval, 10, 60000,
                      &heartbeat) ||
        !parse_number("election-timeout", o->election_timeout, 50, 600000,
                      &election) ||
        !parse_number("max-request-bytes", o->max_request_bytes, 1024,
                      64ul << 20, &bytes) ||
        !parse_number("snapshot-catchup-entries", o->snapshot_catchup_entries,
                      1, 100000000, &entries) ||
        !parse_number("snapshot-bytes-per-second", o->snapshot_bytes_per_second,
                      1024, 1ul << 40, &rate)) {
        return false;
    }
    if (election < 5 * heartbeat) {
        return bad("election-timeout", o->election_timeout,
                   "must be at least five heartbeat intervals");
    }
    o->heartbeat_ms = (unsigned)heartbeat;
    o->election_ms = (unsigned)election;
    o->request_bytes_max = bytes;
    o->log_keep_entries = entries;
    o->snapshot_rate = rate;
    return true;
}

static bool check_urls(const char *flag, const char *urls)
{
    size_t n;
    char **list = url_list(urls, &n);
    bool ok = n > 0;

    for (size_t i = 0; i < n; i++) {
        char *address = url_address(list[i]);

        ok = ok && address != NULL;
        free(address);
    }
    url_list_free(list, n);
    return ok || bad(flag, urls,
                     "URLs of the form http://host:port, "
                     "separated by commas, are needed");
}

/* ---- the founding members
 * --------------------------------------------------------- */

static uint64_t digest_of(const struct buffer *b)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    uint64_t id = 0;

    if (EVP_Digest(b->data, b->size, digest, NULL, EVP_sha1(), NULL) != 1) {
        log_die("SHA-1 is not available from OpenSSL");
    }
    for (size_t i = 0; i < sizeof(id); i++) {
        id = id << 8 | digest[i];
    }
    return id != 0 ? id : 1;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int compare_members(const void *a, const void *b)
{
    const struct member *x = a, *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

/* As etcd makes them: SHA-1 over the sorted peer URLs and the token. */
static uint64_t make_member_id(struct member *m, const char *token)
{
    struct buffer b = {0};
    uint64_t id;

    qsort(m->peer_urls, m->n_peer_urls, sizeof(*m->peer_urls), compare_strings);
    for (size_t i = 0; i < m->n_peer_urls; i++) {
        buffer_append(&b, m->peer_urls[i], strlen(m->peer_urls[i]));
    }
    buffer_append(&b, token, strlen(token));
    id = digest_of(&b);
    buffer_release(&b);
    return id;
}

static uint64_t make_cluster_id(const struct options *o)
{
    struct buffer b = {0};
    uint64_t id;

    for (size_t i = 0; i < o->n_founders; i++) {
        for (int shift = 56; shift >= 0; shift -= 8) {
            uint8_t byte = (uint8_t)(o->founders[i].id >> shift);

            buffer_append(&b, &byte, 1);
        }
    }
    id = digest_of(&b);
    buffer_release(&b);
    return id;
}

static struct member *founder(struct options *o, const char *name, size_t size)
{
    struct member *m;

    for (size_t i = 0; i < o->n_founders; i++) {
        m = &o->founders[i];
        if (strlen(m->name) == size && memcmp(m->name, name, size) == 0) {
            return m;
        }
    }
    o->founders =
        mem_realloc(o->founders, o->n_founders + 1, sizeof(*o->founders));
    m = &o->founders[o->n_founders++];
    *m = (struct member){.name = mem_printf("%.*s", (int)size, name)};
    return m;
}

static bool add_founder(struct options *o, const char *text)
{
    const char *equals = strchr(text, '=');
    char *address = equals != NULL ? url_address(equals + 1) : NULL;
    struct member *m;

    if (equals == text || address == NULL) {
        free(address);
        return bad("initial-cluster", text,
                   "NAME=http://host:port is needed for each member");
    }
    free(address);
    m = founder(o, text, (size_t)(equals - text));
    m->peer_urls =
        mem_realloc(m->peer_urls, m->n_peer_urls + 1, sizeof(*m->peer_urls));
    m->peer_urls[m->n_peer_urls++] = mem_strdup(equals + 1);
    return true;
}

static bool parse_cluster(struct options *o)
{
    size_t n;
    char **list = url_list(o->initial_cluster, &n);
    bool ok = true;

    for (size_t i = 0; ok && i < n; i++) {
        ok = add_founder(o, list[i]);
    }
    url_list_free(list, n);
    if (!ok) {
        return false;
    }
    for (size_t i = 0; i < o->n_founders; i++) {
        struct member *m = &o->founders[i];

        m->id = make_member_id(m, o->initial_cluster_token);
        if (strcmp(m->name, o->name) == 0) {
            o->member_id = m->id;
        }
    }
    if (o->member_id == 0) {
        return bad("initial-cluster", o->initial_cluster,
                   "does not name this member; --name must be one of it");
    }
    qsort(o->founders, o->n_founders, sizeof(*o->founders), compare_members);
    for (size_t i = 1; i < o->n_founders; i++) {
        if (o->founders[i].id == o->founders[i - 1].id) {
            return bad("initial-cluster", o->initial_cluster,
                       "two members have the same URLs");
        }
    }
    o->cluster_id = make_cluster_id(o);
    return true;
}

static bool check_all(struct options *o)
{
    if (!logger_parse_level(o->log_level, &o->level)) {
        return bad("log-level", o->log_level,
                   "debug, info, warn or error is needed");
    }
    if (strcmp(o->initial_cluster_state, "new") != 0) {
        return bad("initial-cluster-state", o->initial_cluster_state,
                   "only 'new' is known to this version");
    }
    return parse_numbers(o) &&
           check_urls("listen-client-urls", o->listen_client_urls) &&
           check_urls("advertise-client-urls", o->advertise_client_urls) &&
           check_urls("listen-peer-urls", o->listen_peer_urls) &&
           check_urls("initial-advertise-peer-urls",
                      o->initial_advertise_peer_urls) &&
           parse_cluster(o);
}

enum options_result options_parse(struct options *o, int argc, char **argv)
{
    enum options_result result;

    *o = (struct options){0};
    read_environment(o);
    result = read_flags(o, argc, argv);
    if (result != OPTIONS_RUN) {
        return result;
    }
    fill_defaults(o);
    return check_all(o) ? OPTIONS_RUN : OPTIONS_BAD;
}

void options_release(struct options *o)
{
    for (size_t i = 0; i < N_FLAGS; i++) {
        free(*field(o, &flags[i]));
    }
    for (size_t i = 0; i < o->n_founders; i++) {
        free(o->founders[i].name);
        url_list_free(o->founders[i].peer_urls, o->founders[i].n_peer_urls);
    }
    free(o->founders);
    *o = (struct options){0};
}
