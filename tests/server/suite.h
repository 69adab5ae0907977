/*
 * suite.h - a test program in one line of main().
 */
#ifndef PAWL_TESTS_SERVER_SUITE_H
#define PAWL_TESTS_SERVER_SUITE_H

#include <check.h>
#include <stddef.h>

/* Runs them and returns what main() returns. */
int suite_run(const char *name, const TTest *const *tests, size_t n);
/* The same, with what goes before and after each. */
int suite_run_with(const char *name, const TTest *const *tests, size_t n,
                   void (*setup)(void), void (*teardown)(void));

/* A directory of its own for the test that asks, gone with suite_cleanup(). */
const char *suite_directory(void);
void suite_cleanup(void);

#endif
