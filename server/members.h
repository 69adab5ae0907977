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
    uint64_t *removed; /* ids of those who were members; ascending */
    size_t n_removed;
};

void members_release(struct members *ms);
struct member *members_find(const struct members *ms, uint64_t id);
/* A copy of m, in place of what was there under its id. */
void members_put(struct members *ms, const struct member *m);
void members_put_removed(struct members *ms, uint64_t id);
bool members_is_removed(const struct members *ms, uint64_t id);
/*
 * The configuration's servers become the members, and those that it does not
 * name any more the removed. Names and URLs come from list, the configuration's
 * extra; a name or client URLs that a member published and list does not give
 * are kept.
 */
void members_follow(struct members *ms, const struct raft_configuration *c,
                    const Pawl__Command__V1__MemberList *list);
/* A configuration's extra. NULL if it does not parse. */
Pawl__Command__V1__MemberList *
members_decode(const struct raft_configuration *c, struct arena *arena);
/* m for a message; strings are borrowed. */
void member_fill(Pawl__Command__V1__Member *to, const struct member *m);
/* A copy on the heap, and its end. */
struct member member_copy(const struct member *m);
void member_release(struct member *m);

/* URLs as one text, one a line, and back (arrays from the arena). */
struct slice urls_join(char *const *urls, size_t n, struct arena *arena);
char **urls_split(struct slice text, struct arena *arena, size_t *n);

#endif
