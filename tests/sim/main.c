/*
 * main.c - sim: many runs of the simulator, each from its own seed.
 *
 *     sim [--seed SEED] [--runs RUNS] [--trace]
 *
 * Stops at the first run that breaks a promise, with the command that repeats
 * it. --trace shows every step of a run.
 */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/world.h"

#ifndef PAWL_COMMIT
#define PAWL_COMMIT "unknown"
#endif

static const char *program;
static struct world *current; /* for the handler of SIGABRT */

static void show_failure(const struct world *w)
{
    char text[500];

    if (!w->trace.live) {
        trace_show(&w->trace, 60, stdout);
    }
    options_show(&w->options, text, sizeof text);
    (void)printf("%s\n\nFAILED seed=0x%" PRIx64 " commit=%s: %s\n", text,
                 w->options.seed, PAWL_COMMIT,
                 w->oracle.failed ? w->oracle.failure : "an assertion");
    (void)printf("repeat: %s --seed 0x%" PRIx64 " --runs 1 --trace\n", program,
                 w->options.seed);
    (void)fflush(stdout);
}

/* An assertion of the core is a failure like any other: say how to repeat. */
static void on_abort(int signal_number)
{
    (void)signal_number;
    if (current != NULL) {
        show_failure(current);
    }
    _exit(1);
}

static void add_figures(struct world_figures *sum,
                        const struct world_figures *one)
{
    uint64_t a[sizeof *sum / 8], b[sizeof *sum / 8];

    memcpy(a, sum, sizeof a);
    memcpy(b, one, sizeof b);
    for (size_t i = 0; i < sizeof a / sizeof a[0]; i++) {
        a[i] += b[i];
    }
    memcpy(sum, a, sizeof a);
}

static void show_figures(const struct world_figures *f, uint64_t runs,
                         uint64_t simulated_us, double took)
{
    (void)printf(
        "%" PRIu64 " runs, %" PRIu64 " s simulated in %.1f s; %" PRIu64
        " kills, %" PRIu64 " power cuts, %" PRIu64 " pauses, %" PRIu64
        " partitions, %" PRIu64 " bad disks (%" PRIu64 " errors, %" PRIu64
        " deaths, %" PRIu64 " failed starts), %" PRIu64 " transfers, %" PRIu64
        " elections, %" PRIu64 " leaders struck\n"
        "%" PRIu64 " writes, %" PRIu64 " reads, %" PRIu64 " refused, %" PRIu64
        " given up; %" PRIu64 " entries applied, %" PRIu64
        " compactions, %" PRIu64 " messages\n",
        runs, simulated_us / 1000000, took, f->kills, f->power_cuts, f->pauses,
        f->partitions, f->bad_disks, f->disk_errors, f->disk_deaths,
        f->failed_starts, f->transfers, f->elections, f->hunts, f->writes,
        f->reads, f->refused, f->given_up, f->applied, f->compactions,
        f->messages);
}

static double now_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int run_all(uint64_t seed, uint64_t runs, bool show)
{
    struct world_figures sum = {0};
    uint64_t simulated_us = 0;
    double begin = now_s();

    for (uint64_t i = 0; i < runs; i++) {
        struct options o;
        bool ok;

        options_draw(&o, seed + i);
        current = world_new(&o);
        current->trace.live = show;
        ok = world_run(current);
        if (!ok) {
            show_failure(current);
        } else if (show) {
            (void)printf("trace=0x%016" PRIx64 "\n", current->trace.hash);
        }
        simulated_us += world_now(current);
        add_figures(&sum, &current->figures);
        world_free(current);
        current = NULL;
        if (!ok) {
            return EXIT_FAILURE;
        }
    }
    show_figures(&sum, runs, simulated_us, now_s() - begin);
    return EXIT_SUCCESS;
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

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},
        {"runs", required_argument, NULL, 'r'},
        {"trace", no_argument, NULL, 't'},
        {NULL, 0, NULL, 0}};
    uint64_t seed = (uint64_t)time(NULL) << 20 ^ (uint64_t)getpid();
    uint64_t runs = 100;
    bool show = false;
    int c;

    program = argv[0];
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
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
                          "usage: sim [--seed SEED] [--runs RUNS] [--trace]\n");
            return 2;
        }
    }
    (void)printf("seed=0x%" PRIx64 " commit=%s\n", seed, PAWL_COMMIT);
    (void)fflush(stdout);
    (void)signal(SIGABRT, on_abort);
    return run_all(seed, runs, show);
}
