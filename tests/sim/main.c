/*
 * main.c - sim: many runs of the simulator, each from its own seed.
 *
 *     sim [--world core|node|both] [--seed SEED] [--runs RUNS] [--trace]
 *
 * Worlds: the core with its log alone (world.h), or whole nodes with clients
 * that lock and lease (cluster.h); both: in turns. Stops at the first run that
 * breaks a promise, with the command that repeats it. --trace shows every step
 * of a run.
 */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/cluster.h"
#include "tests/sim/world.h"

#ifndef PAWL_COMMIT
#define PAWL_COMMIT "unknown"
#endif

enum kind { CORE, NODE, BOTH };

static const char *const kind_names[] = {"core", "node", "both"};

static const char *program;

/* The run under way, for the handler of SIGABRT. */
static struct {
    enum kind kind;
    const struct options *options;
    const struct trace *trace; /* NULL: none */
    const struct oracle *oracle;
} current;

static void show_failure(void)
{
    char text[500];

    if (!current.trace->live) {
        trace_show(current.trace, 60, stdout);
    }
    options_show(current.options, text, sizeof text);
    (void)printf(
        "%s\n\nFAILED world=%s seed=0x%" PRIx64 " commit=%s: %s\n", text,
        kind_names[current.kind], current.options->seed, PAWL_COMMIT,
        current.oracle->failed ? current.oracle->failure : "an assertion");
    (void)printf("repeat: %s --world %s --seed 0x%" PRIx64
                 " --runs 1 --trace\n",
                 program, kind_names[current.kind], current.options->seed);
    (void)fflush(stdout);
}

/* An assertion of the core is a failure like any other: say how to repeat. */
static void on_abort(int signal_number)
{
    (void)signal_number;
    if (current.trace != NULL) {
        show_failure();
    }
    _exit(1);
}

/* Figures are numbers and nothing else. */
static void add_figures(void *sum, const void *one, size_t size)
{
    for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
        uint64_t a, b;

        memcpy(&a, (char *)sum + i, sizeof a);
        memcpy(&b, (const char *)one + i, sizeof b);
        a += b;
        memcpy((char *)sum + i, &a, sizeof a);
    }
}

struct sums {
    uint64_t runs, simulated_us;
    struct world_figures core;
    struct cluster_figures node;
};

static void show_core(const struct world_figures *f)
{
    (void)printf(
        "core: %" PRIu64 " kills, %" PRIu64 " power cuts, %" PRIu64
        " pauses, %" PRIu64 " partitions, %" PRIu64 " bad disks (%" PRIu64
        " errors, %" PRIu64 " deaths, %" PRIu64 " failed starts), %" PRIu64
        " transfers, %" PRIu64 " elections, %" PRIu64 " leaders struck\n"
        "core: %" PRIu64 " writes, %" PRIu64 " reads, %" PRIu64
        " refused, %" PRIu64 " given up; %" PRIu64 " entries applied, %" PRIu64
        " compactions, %" PRIu64 " messages\n",
        f->kills, f->power_cuts, f->pauses, f->partitions, f->bad_disks,
        f->disk_errors, f->disk_deaths, f->failed_starts, f->transfers,
        f->elections, f->hunts, f->writes, f->reads, f->refused, f->given_up,
        f->applied, f->compactions, f->messages);
}

static void show_node(const struct cluster_figures *f)
{
    (void)printf(
        "node: %" PRIu64 " kills, %" PRIu64 " power cuts, %" PRIu64
        " stops, %" PRIu64 " pauses, %" PRIu64 " suspends, %" PRIu64
        " clock changes, %" PRIu64 " partitions, %" PRIu64
        " broken connections, %" PRIu64 " bad disks (%" PRIu64
        " errors, %" PRIu64 " deaths, %" PRIu64 " failed starts), %" PRIu64
        " transfers, %" PRIu64 " elections, %" PRIu64 " leaders struck\n",
        f->kills, f->power_cuts, f->stops, f->pauses, f->suspends, f->clocks,
        f->partitions, f->breaks, f->bad_disks, f->disk_errors, f->disk_deaths,
        f->failed_starts, f->transfers, f->elections, f->hunts);
    (void)printf(
        "node: %" PRIu64 " writes, %" PRIu64 " reads, %" PRIu64
        " lease calls, %" PRIu64 " expiries, %" PRIu64 " lock calls, %" PRIu64
        " locks granted, %" PRIu64 " writes fenced off, %" PRIu64
        " refused, %" PRIu64 " unknown; %" PRIu64 " entries applied, %" PRIu64
        " saves, %" PRIu64 " compactions, %" PRIu64 " messages, %" PRIu64
        " forwards; %" PRIu64 " keys with %" PRIu64
        " operations checked, %" PRIu64 " undecided\n",
        f->writes, f->reads, f->lease_ops, f->expiries, f->lock_ops,
        f->grants_of_locks, f->fenced, f->refused, f->unknown, f->applied,
        f->saves, f->compactions, f->messages, f->forwards, f->checked_keys,
        f->checked_ops, f->undecided);
}

static double now_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool end_run(bool ok, bool show)
{
    if (!ok) {
        show_failure();
    } else if (show) {
        (void)printf("trace=0x%016" PRIx64 "\n", current.trace->hash);
    }
    current.trace = NULL;
    return ok;
}

static bool run_core(uint64_t seed, bool show, struct sums *sums)
{
    struct options o;
    struct world *w;
    bool ok;

    options_draw(&o, seed);
    w = world_new(&o);
    current.kind = CORE;
    current.options = &w->options;
    current.oracle = &w->oracle;
    current.trace = &w->trace;
    w->trace.live = show;
    ok = end_run(world_run(w), show);
    sums->simulated_us += world_now(w);
    add_figures(&sums->core, &w->figures, sizeof w->figures);
    world_free(w);
    return ok;
}

static bool run_node(uint64_t seed, bool show, struct sums *sums)
{
    struct options o;
    struct cluster *c;
    bool ok;

    options_draw_cluster(&o, seed);
    c = cluster_new(&o);
    current.kind = NODE;
    current.options = &c->options;
    current.oracle = &c->oracle;
    current.trace = &c->trace;
    c->trace.live = show;
    ok = end_run(cluster_run(c), show);
    sums->simulated_us += cluster_now(c);
    add_figures(&sums->node, &c->figures, sizeof c->figures);
    cluster_free(c);
    return ok;
}

static int run_all(enum kind kind, uint64_t seed, uint64_t runs, bool show)
{
    struct sums sums = {0};
    double begin = now_s();
    bool ok = true;

    for (; ok && sums.runs < runs; sums.runs++) {
        ok = (kind == CORE || run_node(seed + sums.runs, show, &sums)) &&
             (kind == NODE || run_core(seed + sums.runs, show, &sums));
    }
    (void)printf("%" PRIu64 " runs, %" PRIu64 " s simulated in %.1f s\n",
                 sums.runs, sums.simulated_us / 1000000, now_s() - begin);
    if (kind != NODE) {
        show_core(&sums.core);
    }
    if (kind != CORE) {
        show_node(&sums.node);
    }
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

static uint64_t number_or_die(const char *text)
{
    char *end;
    uint64_t number = strtoull(text, &end, 0);

    if (*text == '\0' || *end != '\0') {
        (void)fprintf(stderr, "sim: not a number: %s\n", text);
        exit(2);
    }
    return number;
}

static enum kind kind_or_die(const char *text)
{
    for (int i = CORE; i <= BOTH; i++) {
        if (strcmp(text, kind_names[i]) == 0) {
            return (enum kind)i;
        }
    }
    (void)fprintf(stderr, "sim: no such world: %s\n", text);
    exit(2);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"world", required_argument, NULL, 'w'},
        {"seed", required_argument, NULL, 's'},
        {"runs", required_argument, NULL, 'r'},
        {"trace", no_argument, NULL, 't'},
        {NULL, 0, NULL, 0}};
    uint64_t seed = (uint64_t)time(NULL) << 20 ^ (uint64_t)getpid();
    uint64_t runs = 1000;
    enum kind kind = BOTH;
    bool show = false;
    int c;

    program = argv[0];
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'w':
            kind = kind_or_die(optarg);
            break;
        case 's':
            seed = number_or_die(optarg);
            break;
        case 'r':
            runs = number_or_die(optarg);
            break;
        case 't':
            show = true;
            break;
        default:
            (void)fprintf(stderr,
                          "usage: sim [--world core|node|both] [--seed SEED] "
                          "[--runs RUNS] [--trace]\n");
            return 2;
        }
    }
    (void)printf("seed=0x%" PRIx64 " commit=%s\n", seed, PAWL_COMMIT);
    (void)fflush(stdout);
    (void)signal(SIGABRT, on_abort);
    return run_all(kind, seed, runs, show);
}
