/*
 * test_wire.c - a Raft message survives the way over the wire.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "server/wire.h"
#include "tests/suite.h"

static const struct raft_entry entries[] = {
    {.index = 7, .term = 3, .type = RAFT_ENTRY_NOOP},
    {.index = 8,
     .term = 4,
     .type = RAFT_ENTRY_COMMAND,
     .size = 3,
     .data = (const uint8_t *)"a\0b"},
};

static const struct raft_message full = {
    .type = RAFT_APPEND_ENTRIES,
    .from = UINT64_MAX,
    .to = 2,
    .term = 4,
    .log_index = 6,
    .log_term = 3,
    .commit = 5,
    .reject_hint = 9,
    .context = UINT64_C(1) << 63,
    .reject = true,
    .force = true,
    .n_entries = 2,
    .entries = entries,
};

/* Encode, pack, unpack, decode: as between two members. */
static bool travel(const struct raft_message *m, struct arena *arena,
                   struct raft_message *out)
{
    Pawl__Peer__V1__Message *p = wire_encode(m, arena);
    size_t size = pawl__peer__v1__message__get_packed_size(p);
    uint8_t *bytes = arena_alloc(arena, size);

    pawl__peer__v1__message__pack(p, bytes);
    p = pawl__peer__v1__message__unpack(&arena->allocator, size, bytes);
    ck_assert_ptr_nonnull(p);
    return wire_decode(p, arena, out);
}

START_TEST(every_field_survives)
{
    struct arena arena;
    struct raft_message m;

    arena_init(&arena);
    ck_assert(travel(&full, &arena, &m));
    ck_assert_int_eq(m.type, full.type);
    ck_assert_uint_eq(m.from, full.from);
    ck_assert_uint_eq(m.to, full.to);
    ck_assert_uint_eq(m.term, full.term);
    ck_assert_uint_eq(m.log_index, full.log_index);
    ck_assert_uint_eq(m.log_term, full.log_term);
    ck_assert_uint_eq(m.commit, full.commit);
    ck_assert_uint_eq(m.reject_hint, full.reject_hint);
    ck_assert_uint_eq(m.context, full.context);
    ck_assert(m.reject && m.force);
    ck_assert_uint_eq(m.n_entries, 2);
    for (size_t i = 0; i < 2; i++) {
        ck_assert_uint_eq(m.entries[i].index, entries[i].index);
        ck_assert_uint_eq(m.entries[i].term, entries[i].term);
        ck_assert_int_eq(m.entries[i].type, entries[i].type);
        ck_assert_uint_eq(m.entries[i].size, entries[i].size);
    }
    ck_assert_ptr_null(m.entries[0].data);
    ck_assert_mem_eq(m.entries[1].data, "a\0b", 3);
    arena_release(&arena);
}
END_TEST

START_TEST(unknown_types_are_refused)
{
    struct arena arena;
    struct raft_message m;
    struct raft_entry e = entries[0];
    struct raft_message bad = {.type = 0, .from = 1, .to = 2, .term = 1};

    arena_init(&arena);
    ck_assert(!travel(&bad, &arena, &m));
    bad.type = RAFT_READ_INDEX_RESPONSE + 1;
    ck_assert(!travel(&bad, &arena, &m));
    bad.type = RAFT_APPEND_ENTRIES;
    e.type = RAFT_ENTRY_CONFIG + 1;
    bad.entries = &e;
    bad.n_entries = 1;
    ck_assert(!travel(&bad, &arena, &m));
    arena_release(&arena);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("wire");
    TCase *tc = tcase_create("wire");

    tcase_add_test(tc, every_field_survives);
    tcase_add_test(tc, unknown_types_are_refused);
    suite_add_tcase(s, tc);
    return suite_main(s);
}
