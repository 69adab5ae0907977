/*
 * members.h - the list of members inside the applier: what the configuration
 * says of them and what they published.
 */
#ifndef PAWL_MEMBERS_H
#define PAWL_MEMBERS_H

#include "server/applier.h"

/* Zero-initialised is empty. */
struct members {
    struct member *list; /* ascending by id */
    size_t n;
};

void members_release(struct members *ms);
struct member *members_find(const struct members *ms, uint64_t id);
/* A copy of m, in place of what was there under its id. */
void members_put(struct members *ms, const struct member *m);
/*
 * The configuration's servers become the members. Names and URLs come from its
 * extra; a name or client URLs that a member published and extra does not
 * give are kept.
 */
void members_follow(struct members *ms, const struct raft_configuration *c,
                    struct arena *arena);

/* URLs as one text, one a line, and back (arrays from the arena). */
struct slice urls_join(char *const *urls, size_t n, struct arena *arena);
char **urls_split(struct slice text, struct arena *arena, size_t *n);

#endif
