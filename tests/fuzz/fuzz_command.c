/*
 * Any bytes as a command entry (H4): nothing may break, and two machines that
 * are given the same bytes must stay the same. The first byte chooses the term
 * and whether the rest is one entry or several, each behind its size.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "server/applier.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_entry(struct applier *a, raft_term term, const uint8_t *data,
                      size_t size)
{
    struct raft_entry e = {
        .index = applier_index(a) + 1,
        .term = term,
        .type = RAFT_ENTRY_COMMAND,
        .size = size,
        .data = size > 0 ? data : NULL,
    };
    struct applied out;
    struct arena arena;

    arena_init(&arena);
    applier_apply(a, &e, &arena, &out);
    ASSERT(out.status < STATUS_COUNT);
    ASSERT(out.revision == kv_revision(applier_kv(a)));
    arena_release(&arena);
}

/* Something to act on: a lease, a lock that it holds, a key that hangs on it.
 */
static void prepare(struct applier *a)
{
    static const uint8_t grant[] = {0x52, 0x04, 0x08, 0x01, 0x10, 0x0a};
    static const uint8_t acquire[] = {0x62, 0x05, 0x0a, 0x01, 'l', 0x10, 0x01};
    static const uint8_t put[] = {0x42, 0x08, 0x0a, 0x01, 'k',
                                  0x12, 0x01, 'v',  0x18, 0x01};

    put_entry(a, 1, grant, sizeof(grant));
    put_entry(a, 1, acquire, sizeof(acquire));
    put_entry(a, 1, put, sizeof(put));
    ASSERT(kv_count(applier_kv(a)) == 2);
}

static uint64_t run(const uint8_t *data, size_t size)
{
    struct applier *a = applier_new(NULL, NULL);
    raft_term term = 1;
    uint64_t digest;

    prepare(a);
    if (size > 0) {
        bool several = (data[0] & 1) != 0;

        term += data[0] >> 1;
        data++;
        size--;
        while (several && size > 0) {
            size_t part = data[0] < size ? data[0] : size - 1;

            put_entry(a, term, data + 1, part);
            data += part + 1;
            size -= part + 1;
        }
        put_entry(a, term, data, size);
    }
    changeset_free(applier_take_changes(a));
    digest = applier_digest(a);
    applier_free(a);
    return digest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ASSERT(run(data, size) == run(data, size));
    return 0;
}
