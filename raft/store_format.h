/*
 * store_format.h - the checksums of raft.db: what store.c writes, and what
 * store_salvage.c finds again in a damaged file. For these two.
 *
 * Every entry's checksum covers the entry and the checksum before it, from an
 * origin that names the cluster and the member. So one checksum that is known
 * to be right vouches for every entry before it.
 */
#ifndef RAFT_STORE_FORMAT_H
#define RAFT_STORE_FORMAT_H

#include "raft/raft.h"

/* Of up to eight numbers, the same on every machine. */
uint64_t store_format_numbers(const uint64_t *numbers, size_t n, uint64_t seed);
/* What entry 1 is chained to: a log put under another name is seen too. */
uint64_t store_format_origin(uint64_t cluster_id, uint64_t member_id);
/* Of an entry; before: of the entry before it. */
uint64_t store_format_entry(uint64_t before, const struct raft_entry *e);
/* Of the row with term and vote. */
uint64_t store_format_state(uint64_t origin, const struct raft_hard_state *hs,
                            raft_index last_index, uint64_t last_checksum);
/* Of the row that tells where the log begins. */
uint64_t store_format_cut(uint64_t origin, raft_index index, raft_term term,
                          uint64_t entry_checksum, const uint8_t *configuration,
                          size_t configuration_size);
/* Of the row that tells which file this is. */
uint64_t store_format_identity(uint64_t origin, uint64_t store_id, bool joined,
                               bool removed);

#endif
