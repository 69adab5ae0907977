/*
 * lock.c - locks as keys: names, holders, tokens.
 */
#include "server/lock.h"

#include <string.h>

struct slice lock_key(struct slice name, int64_t lease, struct arena *arena)
{
    uint64_t size = lease < 0 ? 0 - (uint64_t)lease : (uint64_t)lease;
    const char *hex = arena_printf(arena, "/%s%llx", lease < 0 ? "-" : "",
                                   (unsigned long long)size);
    size_t hex_size = strlen(hex);
    uint8_t *key = arena_alloc(arena, name.size + hex_size);

    if (name.size > 0) {
        memcpy(key, name.data, name.size);
    }
    memcpy(key + name.size, hex, hex_size);
    return (struct slice){key, name.size + hex_size};
}

/* NAME/ of NAME/…, which is where the queue is; empty if there is no '/'. */
static struct slice queue_prefix(struct slice key)
{
    size_t size = key.size;

    while (size > 0 && key.data[size - 1] != '/') {
        size--;
    }
    return (struct slice){key.data, size};
}

bool lock_name_of_key(struct slice key, struct slice *name)
{
    struct slice prefix = queue_prefix(key);

    if (prefix.size == 0) {
        return false;
    }
    *name = (struct slice){prefix.data, prefix.size - 1};
    return true;
}

static void inspect_queue(const struct kv *kv, struct slice prefix,
                          struct lock_state *out)
{
    struct kv_change oldest;

    *out = (struct lock_state){0};
    if (!kv_oldest(kv, prefix, &oldest, &out->queued)) {
        return;
    }
    out->held = true;
    out->holder = oldest.key;
    out->token = oldest.create_revision;
    out->lease = oldest.lease;
}

void lock_inspect(const struct kv *kv, struct slice name,
                  struct lock_state *out)
{
    struct buffer prefix = {0};

    buffer_append(&prefix, name.data, name.size);
    buffer_append(&prefix, "/", 1);
    inspect_queue(kv, (struct slice){prefix.data, prefix.size}, out);
    buffer_release(&prefix);
}

bool lock_is_holder(const struct kv *kv, struct slice key, int64_t token)
{
    struct slice prefix = queue_prefix(key);
    struct lock_state state;
    struct kv_change pair;

    if (prefix.size == 0 || !kv_get(kv, key, &pair) ||
        pair.create_revision != token) {
        return false; /* told from one look-up, without walking the queue */
    }
    inspect_queue(kv, prefix, &state);
    return slice_equal(state.holder, key);
}
