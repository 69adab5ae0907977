/*
 * trace.h - what happened, as lines: the last ones are kept to be shown, and
 * all of them are hashed, so that two runs can be compared by one number.
 */
#ifndef TESTS_SIM_TRACE_H
#define TESTS_SIM_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define TRACE_LINES 400
#define TRACE_LINE_SIZE 200

struct trace {
    char lines[TRACE_LINES][TRACE_LINE_SIZE];
    uint64_t n;    /* lines so far */
    uint64_t hash; /* of all of them */
    bool live;     /* print each at once, too */
};

__attribute__((format(printf, 3, 4))) void
trace_add(struct trace *t, uint64_t now_us, const char *format, ...);
/* The last lines, as far as they are kept. */
void trace_show(const struct trace *t, unsigned n_lines, FILE *to);

/* For anything that has a trace and events. */
#define TRACE(w, ...) trace_add(&(w)->trace, (w)->events.now_us, __VA_ARGS__)

#endif
