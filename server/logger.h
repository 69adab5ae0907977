/*
 * logger.h - lines for the operator, on standard error. Any thread.
 *
 * One line an event: time (UTC), level, text. What happened, to what, and what
 * to do.
 */
#ifndef PAWL_LOGGER_H
#define PAWL_LOGGER_H

#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void logger_set_level(enum log_level level);
/* "debug", "info", "warn", "error"; false if text is none of them. */
bool logger_parse_level(const char *text, enum log_level *level);

void log_line(enum log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * The process cannot go on without risking what it promised: say why and end
 * it, at once, with exit status 1. Nothing is flushed or cleaned up: the next
 * start recovers.
 */
void log_die(const char *format, ...)
    __attribute__((format(printf, 1, 2), noreturn));

#endif
