/*
 * checker.h - is a history of one key linearizable? Wing and Gong's search,
 * with Lowe's memory of what was tried: an order is sought in which every
 * operation stands between its begin and its end and sees what it saw.
 *
 * Keys are independent, so a store is linearizable if each key is. An
 * operation with an unknown outcome is open: it may take effect at any time
 * after its begin, or never.
 */
#ifndef TESTS_SIM_CHECKER_H
#define TESTS_SIM_CHECKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHECK_OPEN UINT64_MAX

/* Values are numbers, 0 is "no such key". */
struct check_op {
    uint64_t begin, end; /* CHECK_OPEN: no answer came */
    bool sees;           /* the value before it was seen */
    uint64_t seen;
    bool writes; /* it sets value; 0: deletes */
    uint64_t value;
};

enum check_result { CHECK_GOOD, CHECK_BAD, CHECK_UNDECIDED };

/* UNDECIDED: it was not found out in so many steps. */
enum check_result checker_run(const struct check_op *ops, size_t n,
                              uint64_t steps_max);

#endif
