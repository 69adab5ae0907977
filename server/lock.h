/*
 * lock.h - locks as keys: NAME/<lease in hex>, the lowest create_revision
 * holds, and that create_revision is the fencing token (DESIGN: locks).
 *
 * Pure functions over kv and leases: nothing is stored beside the keys, so a
 * lock cannot disagree with the store, and etcd's own mutexes share it.
 */
#ifndef PAWL_LOCK_H
#define PAWL_LOCK_H

#include "server/kv.h"

/* NAME/<lease in lower-case hex, no padding, negative as -ff> (LCK1). */
struct slice lock_key(struct slice name, int64_t lease, struct arena *arena);
/* NAME of such a key: up to the last '/'. False if it has none. */
bool lock_name_of_key(struct slice key, struct slice *name);

struct lock_state {
    bool held;
    struct slice holder; /* key; good until the next write */
    int64_t token;       /* the holder's create_revision */
    int64_t lease;       /* the holder's */
    size_t queued;       /* keys under NAME/, the holder's included */
};
void lock_inspect(const struct kv *kv, struct slice name,
                  struct lock_state *out);
/* Whether (key, token) holds its lock now: the guard of fenced writes. */
bool lock_is_holder(const struct kv *kv, struct slice key, int64_t token);

#endif
