/*
 * writers.h - clients that write without pause, and those who read meanwhile.
 *
 * Each write has a value of its own, "WRITER.SEQUENCE". Most go to a key of
 * their own, u/WRITER/SEQUENCE; each eighth goes to a key that is written
 * again and again: s/N, which all writers share, or c/WRITER.
 */
#ifndef E2E_WRITERS_H
#define E2E_WRITERS_H

#include "run.h"

struct writers;

struct writers *writers_new(struct run *r, size_t n_writers, size_t n_readers);
/* Their threads begin, or go on after a join. */
void writers_start(struct writers *w);
/* Tell them to stop (run->stop) and wait until they have. */
void writers_stop(struct writers *w);
/*
 * Ask the servers, once they are settled: every member holds the same; what
 * was acknowledged is there, at the revision that was told; what was refused
 * is nowhere; nothing was applied twice.
 */
void writers_verify(struct writers *w);
void writers_report(const struct writers *w);
void writers_free(struct writers *w);

#endif
