/*
 * store_salvage.h - what a damaged raft.db still holds, and what of it can be
 * believed.
 *
 * The chain of checksums says more than "damaged": its newest checksum, in the
 * row with term and vote, vouches for all entries. So an entry that is lost
 * can be taken from anybody: if the chain over it ends in the checksum that is
 * known, it is exactly the entry that was here. store_salvage_check() decides.
 *
 * The damaged file is only read. A repaired log goes into a new file
 * (store_fill()), which then takes the place of the old one.
 */
#ifndef RAFT_STORE_SALVAGE_H
#define RAFT_STORE_SALVAGE_H

#include "raft/store.h"

/* One place of the log. */
struct salvaged_entry {
    struct raft_entry entry; /* data from raft_alloc() */
    uint64_t checksum;       /* as stored, right or wrong */
    bool is_there;           /* a row was read */
    bool is_sound; /* the chain vouches for it, from the log's end backward */
};

struct store_salvage {
    uint64_t cluster_id, member_id;
    bool has_identity; /* the row that tells which file this was: sound */
    uint64_t store_id;
    bool joined, removed;
    bool
        has_state; /* the row with term and vote: sound, and it is the newest */
    struct raft_hard_state hard_state;
    raft_index last_index; /* where the log ended. !has_state: where the
                              salvaged entries end */
    uint64_t last_checksum;
    bool has_cut;          /* knows where the log begins */
    raft_index prev_index; /* last entry cut away; 0: none */
    raft_term prev_term;
    uint64_t prev_checksum;
    struct raft_configuration configuration; /* as of prev_index, if not 0 */
    /* Of prev_index + 1 ... last_index. */
    struct salvaged_entry *entries;
    size_t n_entries;
    /* From the front, entries whose checksum follows from the one before. */
    size_t n_prefix;
    /* All that is not sound lies here; 0, 0: nothing. */
    raft_index damaged_from, damaged_to;
};

/*
 * Read what can be read. is_settled: store_open() found nothing wrong with the
 * file, only store_load() did; else the row with term and vote is not believed
 * to be the newest, though it may be whole. The ids are used if the file's own
 * are damaged. False: there is nothing to read; error tells.
 */
bool store_salvage_read(const char *path, const char *vfs, bool is_settled,
                        uint64_t cluster_id, uint64_t member_id,
                        struct store_salvage *out, char *error,
                        size_t error_size);
/* Only whose it is. False: the file does not say. */
bool store_salvage_ids(const char *path, const char *vfs, uint64_t *cluster_id,
                       uint64_t *member_id);
void store_salvage_release(struct store_salvage *s);

/* The place of that index; NULL: not of this log. */
struct salvaged_entry *store_salvage_at(const struct store_salvage *s,
                                        raft_index i);

/*
 * Are these, one for each place from first on, exactly the entries that this
 * log held at first ... the place before which everything is sound? first <=
 * damaged_from, and the last is the one at damaged_to.
 */
bool store_salvage_check(const struct store_salvage *s, raft_index first,
                         const struct raft_entry *const *entries, size_t n);

#endif
