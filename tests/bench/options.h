/*
 * options.h - what the command line asks for.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <sys/types.h>

#include "tests/bench/generator.h"

enum { OPTIONS_LIST_MAX = 16 };

struct options {
    const char *addresses[OPTIONS_LIST_MAX]; /* point into the arguments */
    size_t n_addresses;
    pid_t pids[OPTIONS_LIST_MAX];
    size_t n_pids;
    size_t connections, streams;
    uint64_t timeout_ms;
    struct workload_config workload;
    struct generator_run run;
    bool load; /* put every key once before */
    bool json;
};

/* Ends the program with a message if the arguments make no sense, and with the
   usage for --help. Changes the arguments. */
void options_parse(struct options *o, int argc, char **argv);

#endif
