/*
 * lockers.h - clients that take and give back a few locks, and write under
 * their tokens.
 *
 * A locker acquires, does a guarded write of its token to g/NAME, and
 * releases; now and then it forgets its lock, as one that died would, or
 * tries a write under a token of its past.
 */
#ifndef E2E_LOCKERS_H
#define E2E_LOCKERS_H

#include "run.h"

struct lockers;

struct lockers *lockers_start(struct run *r, size_t n);
void lockers_join(struct lockers *l);
/*
 * Nobody held a lock at the same time as another; tokens rose with each grant;
 * guarded writes are in the order of their tokens.
 */
void lockers_verify(struct lockers *l);
void lockers_report(const struct lockers *l);
void lockers_free(struct lockers *l);

#endif
