/*
 * model.h - what the state machine should do, told a second time: keys, leases
 * and locks in plain arrays, made to be read and compared with, not to be fast.
 *
 * It is fed every committed entry once and remembers, of each index, what the
 * command should have answered and a hash of the whole content; and of each
 * key its whole past. Shares no code with server/ but the encoding of
 * commands.
 */
#ifndef TESTS_SIM_MODEL_H
#define TESTS_SIM_MODEL_H

#include "proto/base.h"
#include "proto/status.h"
#include "raft/raft.h"

#define MODEL_KEY_SIZE 48
#define MODEL_LOCKS_MAX 16

/* A key's newest change, or one of its past. */
struct model_pair {
    char key[MODEL_KEY_SIZE];
    uint64_t value; /* hash of its bytes */
    bool deleted;
    int64_t create_revision, mod_revision, version, lease;
};

/* What a command should have answered. */
struct model_outcome {
    uint64_t member, incarnation, request;
    enum status status;
    int64_t revision;
    /* put, delete: hash of the value that was there; 0: none */
    uint64_t previous;
    int64_t deleted;
    /* lock acquire */
    bool acquired, queued;
    int64_t token, holder_token;
    /* lock release */
    bool released, holds;
    /* an expiry that counted: whose */
    int64_t expired;
    uint64_t content; /* hash of all keys and leases after it */
    bool is_expiry;   /* proposed by a member of itself */
};

struct model_lease {
    int64_t id, ttl_s;
};

/* Of one lock name: what fencing promises of it (O10). */
struct model_lock {
    char name[MODEL_KEY_SIZE];
    int64_t holder_token; /* 0: nobody */
    int64_t highest;      /* that ever held it */
};

struct model {
    raft_index index;
    raft_term term;
    int64_t revision;
    struct model_pair *pairs; /* live, in key order */
    size_t n_pairs, room_pairs;
    struct model_pair *past; /* all changes, in order */
    size_t n_past, room_past;
    struct model_lease *leases;
    size_t n_leases, room_leases;
    struct model_lock locks[MODEL_LOCKS_MAX];
    size_t n_locks;
    uint64_t content;
    struct model_outcome *outcomes; /* by index */
    size_t room_outcomes;
    char failure[200]; /* a promise that it saw broken; empty: none */
};

void model_init(struct model *m);
void model_release(struct model *m);

/* The next committed entry; its outcome stays m->outcomes[e->index]. */
const struct model_outcome *model_apply(struct model *m,
                                        const struct raft_entry *e);

/* The pair as of that revision; NULL: there was none. */
const struct model_pair *model_at(const struct model *m, const char *key,
                                  int64_t revision);
/* The live pairs with that prefix as of a revision: how many, and a hash that
 * model_mix() makes in key order. */
size_t model_range(const struct model *m, const char *prefix, int64_t revision,
                   uint64_t *hash);
uint64_t model_mix(uint64_t hash, struct slice key, uint64_t value,
                   int64_t create_revision, int64_t mod_revision,
                   int64_t version, int64_t lease);
uint64_t model_value(const void *data, size_t size);

/* One pair's or lease's part of a content hash: they are added up. */
uint64_t model_pair_part(struct slice key, uint64_t value,
                         int64_t create_revision, int64_t mod_revision,
                         int64_t version, int64_t lease);
uint64_t model_lease_part(int64_t id, int64_t ttl_s);

const struct model_lease *model_lease(const struct model *m, int64_t id);

#endif
