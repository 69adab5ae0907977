/*
 * report.h - what was measured, as text for people or JSON for scripts.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stdio.h>

#include "tests/bench/generator.h"

/* with_cpu: the servers' processor time was measured. */
void report_text(FILE *to, const struct figures *f, bool with_cpu);
void report_json(FILE *to, const struct figures *f, bool with_cpu);

#endif
