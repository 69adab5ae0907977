/*
 * main.c - pawl-bench: load a server that speaks the etcd v3 API, measure it.
 */
#include <stdlib.h>

#include "tests/bench/options.h"
#include "tests/bench/report.h"

enum { LOAD_TIMEOUT_MS = 60000 };

static struct generator *start(const struct options *o, struct workload *w,
                               char *error, size_t error_size)
{
    struct generator_config config = {
        .addresses = o->addresses,
        .n_addresses = o->n_addresses,
        .connections = o->connections,
        .streams = o->streams,
        .timeout_ms = o->timeout_ms,
        .workload = w,
        .keys = o->workload.keys,
        .pids = o->pids,
        .n_pids = o->n_pids,
    };
    struct generator *g = generator_new(&config, error, error_size);

    if (g && o->load &&
        !generator_load(g, LOAD_TIMEOUT_MS, error, error_size)) {
        generator_free(g);
        g = NULL;
    }
    return g;
}

int main(int argc, char **argv)
{
    static struct figures figures;
    struct options o;
    struct workload *w;
    struct generator *g;
    char error[256];

    options_parse(&o, argc, argv);
    w = workload_new(&o.workload);
    g = start(&o, w, error, sizeof(error));
    if (!g) {
        fprintf(stderr, "pawl-bench: %s\n", error);
        workload_free(w);
        return 1;
    }
    generator_measure(g, &o.run, &figures);
    (o.json ? report_json : report_text)(stdout, &figures, o.n_pids > 0);
    generator_free(g);
    workload_free(w);
    return figures.outcomes[OUTCOME_OK] > 0 ? 0 : 1;
}
