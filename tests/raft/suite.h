/*
 * suite.h - what each test program here begins with.
 */
#ifndef TESTS_RAFT_SUITE_H
#define TESTS_RAFT_SUITE_H

#include <check.h>

/* Run and release it; the exit status for main(). */
int suite_run(Suite *suite);

#endif
