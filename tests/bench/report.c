/*
 * report.c - what was measured, as text for people or JSON for scripts.
 */
#include "tests/bench/report.h"

#include <inttypes.h>

#include "proto/base.h"

static const char *const outcome_names[OUTCOME_COUNT] = {
    [OUTCOME_OK] = "ok",       [OUTCOME_STATUS] = "status",
    [OUTCOME_SHORT] = "short", [OUTCOME_RESET] = "reset",
    [OUTCOME_LOST] = "lost",   [OUTCOME_TIMEOUT] = "timeout",
};

static const struct {
    const char *name;
    double share;
} quantiles[] = {
    {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1},
};

static double per_second(const struct figures *f)
{
    double seconds = (double)f->elapsed_ns / 1e9;

    return seconds > 0 ? (double)f->outcomes[OUTCOME_OK] / seconds : 0;
}

static double per_request(const struct figures *f, uint64_t amount)
{
    uint64_t n = f->outcomes[OUTCOME_OK];

    return n > 0 ? (double)amount / (double)n : 0;
}

static uint64_t errors(const struct figures *f)
{
    uint64_t sum = 0;

    for (int i = OUTCOME_OK + 1; i < OUTCOME_COUNT; i++) {
        sum += f->outcomes[i];
    }
    return sum;
}

static double quantile_us(const struct figures *f, double share)
{
    return (double)histogram_quantile(&f->latency_ns, share) / 1e3;
}

static void errors_text(FILE *to, const struct figures *f)
{
    fprintf(to, "errors       %" PRIu64, errors(f));
    for (int i = OUTCOME_OK + 1; i < OUTCOME_COUNT; i++) {
        if (i != OUTCOME_STATUS && f->outcomes[i] > 0) {
            fprintf(to, "  %s %" PRIu64, outcome_names[i], f->outcomes[i]);
        }
    }
    for (int i = 1; i < GRPC_CODES; i++) {
        if (f->codes[i] > 0) {
            fprintf(to, "  grpc-status-%d %" PRIu64, i, f->codes[i]);
        }
    }
    fputc('\n', to);
}

void report_text(FILE *to, const struct figures *f, bool with_cpu)
{
    fprintf(to, "requests     %" PRIu64 " in %.2f s, %.0f/s\n",
            f->outcomes[OUTCOME_OK], (double)f->elapsed_ns / 1e9,
            per_second(f));
    fprintf(to, "latency      ");
    for (size_t i = 0; i < ARRAY_LENGTH(quantiles); i++) {
        fprintf(to, "%s%s %.0f us", i ? "  " : "", quantiles[i].name,
                quantile_us(f, quantiles[i].share));
    }
    fputc('\n', to);
    errors_text(to, f);
    if (f->unsent > 0) {
        fprintf(to, "unsent       %" PRIu64 " were due and found no place\n",
                f->unsent);
    }
    fprintf(to, "cpu          ");
    if (with_cpu) {
        fprintf(to, "%.2f us of the servers a request, ",
                per_request(f, f->server_cpu_us));
    }
    fprintf(to, "%.2f us of this program\n", per_request(f, f->own_cpu_us));
}

void report_json(FILE *to, const struct figures *f, bool with_cpu)
{
    fprintf(to, "{\"requests\": %" PRIu64 ", \"seconds\": %.3f",
            f->outcomes[OUTCOME_OK], (double)f->elapsed_ns / 1e9);
    fprintf(to, ", \"per_second\": %.1f", per_second(f));
    for (size_t i = 0; i < ARRAY_LENGTH(quantiles); i++) {
        fprintf(to, ", \"%s_us\": %.1f", quantiles[i].name,
                quantile_us(f, quantiles[i].share));
    }
    fprintf(to, ", \"errors\": %" PRIu64, errors(f));
    for (int i = OUTCOME_OK + 1; i < OUTCOME_COUNT; i++) {
        fprintf(to, ", \"errors_%s\": %" PRIu64, outcome_names[i],
                f->outcomes[i]);
    }
    fprintf(to, ", \"unsent\": %" PRIu64, f->unsent);
    if (with_cpu) {
        fprintf(to, ", \"server_cpu_us\": %.3f",
                per_request(f, f->server_cpu_us));
    }
    fprintf(to, ", \"own_cpu_us\": %.3f}\n", per_request(f, f->own_cpu_us));
}
