/*
 * logger.c - formats a line and writes it with one write().
 */
#include "server/logger.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES_MAX 2048

static const char *const level_names[] = {"debug", "info", "warn", "error"};

/* The one global of the server: every thread and layer logs. */
static atomic_int threshold = LOG_INFO;

void logger_set_level(enum log_level level)
{
    atomic_store(&threshold, (int)level);
}

bool logger_parse_level(const char *text, enum log_level *level)
{
    for (int i = LOG_DEBUG; i <= LOG_ERROR; i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

static void write_line(const char *level, const char *format, va_list ap)
    __attribute__((format(printf, 2, 0)));

static void write_line(const char *level, const char *format, va_list ap)
{
    char line[LINE_BYTES_MAX];
    struct timespec now;
    struct tm utc;
    size_t n;
    int k;

    clock_gettime(CLOCK_REALTIME, &now); /* for people only */
    gmtime_r(&now.tv_sec, &utc);
    n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &utc);
    k = snprintf(line + n, sizeof(line) - n, ".%03ldZ %-5s ",
                 now.tv_nsec / 1000000, level);
    n += (size_t)k;
    k = vsnprintf(line + n, sizeof(line) - n - 1, format, ap);
    n += k > 0 ? (size_t)k : 0;
    if (n > sizeof(line) - 2) {
        n = sizeof(line) - 2;
    }
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0) {
        return; /* nowhere left to complain */
    }
}

void log_line(enum log_level level, const char *format, ...)
{
    va_list ap;

    if ((int)level < atomic_load(&threshold)) {
        return;
    }
    va_start(ap, format);
    write_line(level_names[level], format, ap);
    va_end(ap);
}

void log_die(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    write_line("fatal", format, ap);
    va_end(ap);
    _exit(1);
}
