/*
 * trace.c - the lines of a run.
 */
#include "tests/sim/trace.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include <xxhash.h>

void trace_add(struct trace *t, uint64_t now_us, const char *format, ...)
{
    char *line = t->lines[t->n++ % TRACE_LINES];
    int size = snprintf(line, TRACE_LINE_SIZE, "%4" PRIu64 ".%06" PRIu64 " ",
                        now_us / 1000000, now_us % 1000000);
    va_list args;

    va_start(args, format);
    (void)vsnprintf(line + size, TRACE_LINE_SIZE - (size_t)size, format, args);
    va_end(args);
    t->hash = XXH3_64bits_withSeed(line, strlen(line), t->hash);
    if (t->live) {
        (void)puts(line);
    }
}

void trace_show(const struct trace *t, unsigned n_lines, FILE *to)
{
    uint64_t first;

    n_lines = n_lines < TRACE_LINES ? n_lines : TRACE_LINES;
    first = t->n > n_lines ? t->n - n_lines : 0;

    for (uint64_t i = first; i < t->n; i++) {
        (void)fprintf(to, "%s\n", t->lines[i % TRACE_LINES]);
    }
}
