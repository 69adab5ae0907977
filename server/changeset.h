/*
 * changeset.h - what the applier changed, as rows in the order in which
 * state.db gets them. Written by the applier on the main thread, read by
 * statedb on the state thread; it stays in one process, so its form may change
 * with any release, and a reader may trust it.
 */
#ifndef PAWL_CHANGESET_H
#define PAWL_CHANGESET_H

#include "server/statedb.h"

enum changeset_kind {
    CHANGESET_KV = 1,
    CHANGESET_LEASE_GRANTED,
    CHANGESET_LEASE_REVOKED,
    CHANGESET_MEMBERS_CLEARED, /* the rows of the new list follow */
    CHANGESET_MEMBER,          /* new or changed */
    CHANGESET_CONFIGURATION,   /* Raft's, encoded; not in the digest */
    CHANGESET_MEMBER_REMOVED,  /* member.id alone; it may be known already */
};

struct changeset_member {
    uint64_t id;
    bool is_learner, auto_promote;
    uint64_t replaces, store_id;
    struct slice name;
    struct slice peer_urls, client_urls; /* one a line */
};

struct changeset_row {
    enum changeset_kind kind;
    union {
        struct kv_change kv;
        struct {
            int64_t id, ttl_s;
        } lease;
        struct changeset_member member;
        struct slice configuration;
    };
};

struct changeset {
    raft_index index; /* applied up to here ... */
    raft_term term;   /* ... the term of that entry */
    int64_t revision; /* the store's after it */
    uint64_t digest;  /* applier_digest() after it */
    struct buffer rows;
};

struct changeset *changeset_new(void);
/* Returns digest with the row's bytes mixed in. */
uint64_t changeset_append(struct changeset *c, const struct changeset_row *row,
                          uint64_t digest);
/*
 * Rows in order: *at starts as 0. False at the end. Slices point into the
 * changeset.
 */
bool changeset_next(const struct changeset *c, size_t *at,
                    struct changeset_row *row);

#endif
