/*
 * options.c - what the command line asks for.
 */
#include "tests/bench/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum option_id {
    OPTION_ENDPOINTS,
    OPTION_CONNECTIONS,
    OPTION_STREAMS,
    OPTION_OP,
    OPTION_READS,
    OPTION_VALUE_SIZE,
    OPTION_KEY_SIZE,
    OPTION_KEYS,
    OPTION_SERIALIZABLE,
    OPTION_DURATION,
    OPTION_REQUESTS,
    OPTION_WARMUP,
    OPTION_RATE,
    OPTION_TIMEOUT,
    OPTION_SEED,
    OPTION_NO_LOAD,
    OPTION_PIDS,
    OPTION_JSON,
    OPTION_HELP,
    OPTION_COUNT,
};

/* argument: what the usage calls it; NULL: the option takes none. */
static const struct {
    const char *name, *argument, *text;
} options[OPTION_COUNT] = {
    [OPTION_ENDPOINTS] = {"endpoints", "HOST:PORT,...",
                          "servers; connections are spread over them"},
    [OPTION_CONNECTIONS] = {"connections", "N", "connections in all (64)"},
    [OPTION_STREAMS] = {"streams", "N",
                        "requests in flight on each connection (1)"},
    [OPTION_OP] = {"op", "put|get|mixed|txn", "what to ask (put)"},
    [OPTION_READS] = {"reads", "PERCENT", "gets among the mixed (50)"},
    [OPTION_VALUE_SIZE] = {"value-size", "BYTES", "(256)"},
    [OPTION_KEY_SIZE] = {"key-size", "BYTES", "(16)"},
    [OPTION_KEYS] = {"keys", "N", "different keys (10000)"},
    [OPTION_SERIALIZABLE] = {"serializable", NULL,
                             "gets that may be stale: local reads"},
    [OPTION_DURATION] = {"duration", "SECONDS", "measured time (5)"},
    [OPTION_REQUESTS] = {"requests", "N", "end after so many answers"},
    [OPTION_WARMUP] = {"warmup", "SECONDS", "before the measured time (1)"},
    [OPTION_RATE] = {"rate", "N",
                     "requests a second at fixed times; "
                     "else as fast as answers come"},
    [OPTION_TIMEOUT] = {"timeout", "SECONDS", "give a request up (10)"},
    [OPTION_SEED] = {"seed", "N", "of the choice of keys (1)"},
    [OPTION_NO_LOAD] = {"no-load", NULL,
                        "do not put every key once before gets"},
    [OPTION_PIDS] = {"pids", "PID,...",
                     "servers, to report their processor time"},
    [OPTION_JSON] = {"json", NULL, "report as one JSON object"},
    [OPTION_HELP] = {"help", NULL, "this text"},
};

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "pawl-bench: %s: %s (see --help)\n", what, why);
    exit(2);
}

static _Noreturn void usage(void)
{
    printf("usage: pawl-bench --endpoints HOST:PORT,... [OPTION...]\n"
           "Load a server that speaks the etcd v3 API and measure it.\n\n");
    for (int i = 0; i < OPTION_COUNT; i++) {
        printf("  --%-13s %-18s %s\n", options[i].name,
               options[i].argument ? options[i].argument : "", options[i].text);
    }
    exit(0);
}

static double parse_number(const char *name, const char *text, double min,
                           double max)
{
    char *end;
    double number;

    errno = 0;
    number = strtod(text, &end);
    if (end == text || *end || errno || !(number >= min && number <= max)) {
        fail(name, "not a number in range");
    }
    return number;
}

static void parse_op(struct options *o, const char *text)
{
    struct workload_config *w = &o->workload;

    w->put_percent = w->get_percent = w->txn_percent = 0;
    if (strcmp(text, "put") == 0) {
        w->put_percent = 100;
    } else if (strcmp(text, "get") == 0) {
        w->get_percent = 100;
    } else if (strcmp(text, "txn") == 0) {
        w->txn_percent = 100;
    } else if (strcmp(text, "mixed") == 0) {
        w->get_percent = w->put_percent = 50;
    } else {
        fail("--op", "put, get, mixed or txn");
    }
}

static void parse_endpoints(struct options *o, char *list)
{
    static const char scheme[] = "http://";
    char *rest = NULL;

    o->n_addresses = 0;
    for (char *s = strtok_r(list, ",", &rest); s;
         s = strtok_r(NULL, ",", &rest)) {
        if (strncmp(s, scheme, strlen(scheme)) == 0) {
            s += strlen(scheme);
        }
        if (o->n_addresses == OPTIONS_LIST_MAX || !strchr(s, ':')) {
            fail("--endpoints", "up to 16 times HOST:PORT");
        }
        o->addresses[o->n_addresses++] = s;
    }
}

static void parse_pids(struct options *o, char *list)
{
    char *rest = NULL;

    o->n_pids = 0;
    for (char *s = strtok_r(list, ",", &rest); s;
         s = strtok_r(NULL, ",", &rest)) {
        if (o->n_pids == OPTIONS_LIST_MAX) {
            fail("--pids", "at most 16");
        }
        o->pids[o->n_pids++] = (pid_t)parse_number("--pids", s, 1, INT_MAX);
    }
}

static uint64_t parse_count(int id, const char *text, double min, double max)
{
    return (uint64_t)parse_number(options[id].name, text, min, max);
}

static uint64_t parse_ms(int id, const char *text)
{
    return (uint64_t)(1e3 * parse_number(options[id].name, text, 0, 3600));
}

static void parse_one(struct options *o, int id, char *text)
{
    struct workload_config *w = &o->workload;

    switch ((enum option_id)id) {
    case OPTION_ENDPOINTS:
        parse_endpoints(o, text);
        break;
    case OPTION_CONNECTIONS:
        o->connections = parse_count(id, text, 1, 100000);
        break;
    case OPTION_STREAMS:
        o->streams = parse_count(id, text, 1, 100000);
        break;
    case OPTION_OP:
        parse_op(o, text);
        break;
    case OPTION_READS:
        w->get_percent = (int)parse_count(id, text, 0, 100);
        w->put_percent = 100 - w->get_percent;
        break;
    case OPTION_VALUE_SIZE:
        w->value_size = parse_count(id, text, 0, 1 << 20);
        break;
    case OPTION_KEY_SIZE:
        w->key_size = parse_count(id, text, 8, 4096);
        break;
    case OPTION_KEYS:
        w->keys = parse_count(id, text, 1, 9999999);
        break;
    case OPTION_SERIALIZABLE:
        w->serializable = true;
        break;
    case OPTION_DURATION:
        o->run.duration_ms = parse_ms(id, text);
        break;
    case OPTION_REQUESTS:
        o->run.requests = parse_count(id, text, 1, 1e12);
        break;
    case OPTION_WARMUP:
        o->run.warmup_ms = parse_ms(id, text);
        break;
    case OPTION_RATE:
        o->run.rate_per_s = parse_count(id, text, 1, 1e7);
        break;
    case OPTION_TIMEOUT:
        o->timeout_ms = parse_ms(id, text);
        break;
    case OPTION_SEED:
        w->seed = parse_count(id, text, 0, 1e15);
        break;
    case OPTION_NO_LOAD:
        o->load = false;
        break;
    case OPTION_PIDS:
        parse_pids(o, text);
        break;
    case OPTION_JSON:
        o->json = true;
        break;
    case OPTION_HELP:
    case OPTION_COUNT:
        usage();
    }
}

static void options_defaults(struct options *o)
{
    *o = (struct options){
        .connections = 64,
        .streams = 1,
        .timeout_ms = 10000,
        .workload = {.put_percent = 100,
                     .keys = 10000,
                     .key_size = 16,
                     .value_size = 256,
                     .seed = 1},
        .run = {.warmup_ms = 1000, .duration_ms = 5000},
        .load = true,
    };
}

void options_parse(struct options *o, int argc, char **argv)
{
    struct option longs[OPTION_COUNT + 1] = {0};
    int id;

    options_defaults(o);
    for (int i = 0; i < OPTION_COUNT; i++) {
        longs[i].name = options[i].name;
        longs[i].has_arg =
            options[i].argument ? required_argument : no_argument;
        longs[i].val = i;
    }
    while ((id = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (id == '?') {
            exit(2); /* getopt has said why */
        }
        parse_one(o, id, optarg);
    }
    if (optind < argc) {
        fail(argv[optind], "what is this?");
    }
    if (o->n_addresses == 0) {
        fail("--endpoints", "needed");
    }
    o->load = o->load && o->workload.put_percent < 100;
}
