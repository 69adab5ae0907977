/*
 * store_format.c - the checksums of raft.db.
 */
#include "raft/store_format.h"

#include <xxhash.h>

#include "raft/base.h"

/* "pwlr", as the file's application id. Never changes. */
#define ORIGIN_TAG 0x70776c72

uint64_t store_format_numbers(const uint64_t *numbers, size_t n, uint64_t seed)
{
    uint8_t bytes[8 * 8];

    ASSERT(n * 8 <= sizeof bytes);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < 8; k++) {
            bytes[8 * i + k] = (uint8_t)(numbers[i] >> (8 * k));
        }
    }
    return XXH3_64bits_withSeed(bytes, 8 * n, seed);
}

uint64_t store_format_origin(uint64_t cluster_id, uint64_t member_id)
{
    const uint64_t numbers[] = {ORIGIN_TAG, cluster_id, member_id};

    return store_format_numbers(numbers, 3, 0);
}

uint64_t store_format_entry(uint64_t before, const struct raft_entry *e)
{
    const uint64_t numbers[] = {before, e->index, e->term, (uint64_t)e->type,
                                e->size};
    uint64_t seed = store_format_numbers(numbers, 5, 0);

    return e->size == 0 ? seed : XXH3_64bits_withSeed(e->data, e->size, seed);
}

uint64_t store_format_state(uint64_t origin, const struct raft_hard_state *hs,
                            raft_index last_index, uint64_t last_checksum)
{
    const uint64_t numbers[] = {origin,     hs->term,   hs->voted_for,
                                hs->commit, last_index, last_checksum};

    return store_format_numbers(numbers, 6, 0);
}

uint64_t store_format_cut(uint64_t origin, raft_index index, raft_term term,
                          uint64_t entry_checksum, const uint8_t *configuration,
                          size_t configuration_size)
{
    const uint64_t numbers[] = {origin, index, term, entry_checksum,
                                configuration_size};
    uint64_t seed = store_format_numbers(numbers, 5, 0);

    return configuration_size == 0
               ? seed
               : XXH3_64bits_withSeed(configuration, configuration_size, seed);
}

uint64_t store_format_identity(uint64_t origin, uint64_t store_id, bool joined,
                               bool removed)
{
    const uint64_t numbers[] = {origin, store_id, joined, removed};

    return store_format_numbers(numbers, 4, 0);
}
