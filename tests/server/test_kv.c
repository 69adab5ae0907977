/*
 * The store. Tests of etcd's rules carry the rule's id: REV revisions, KEY
 * metadata, RNG range, PUT put, DEL delete.
 */
#include <stdlib.h>
#include <string.h>

#include "raft/base.h"
#include "server/kv.h"
#include "tests/server/suite.h"

typedef Etcdserverpb__RangeRequest range_request;
typedef Etcdserverpb__RangeResponse range_response;

static struct kv *kv;
static struct arena arena;

/* What state.db would hold: every change, in order. */
static struct {
    struct kv_change *rows;
    size_t n;
    unsigned fetched; /* how often the store asked */
    int64_t synced;   /* later rows are not to be had yet */
} disk;

static bool disk_fetch(void *context, int64_t mod_revision, int64_t sub,
                       struct arena *to, Mvccpb__KeyValue *out)
{
    (void)context;
    for (size_t i = 0; i < disk.n; i++) {
        const struct kv_change *c = &disk.rows[i];

        if (c->mod_revision == mod_revision && c->sub == sub && !c->deleted &&
            c->mod_revision <= disk.synced) {
            disk.fetched++;
            out->value.len = c->value.size;
            out->value.data = arena_copy(to, c->value.data, c->value.size);
            out->create_revision = c->create_revision;
            out->version = c->version;
            out->lease = c->lease;
            return true;
        }
    }
    return false;
}

static void setup(void)
{
    kv = kv_new(disk_fetch, NULL);
    arena_init(&arena);
}

static void teardown(void)
{
    for (size_t i = 0; i < disk.n; i++) {
        free((void *)(uintptr_t)disk.rows[i].key.data);
        free((void *)(uintptr_t)disk.rows[i].value.data);
    }
    free(disk.rows);
    memset(&disk, 0, sizeof(disk));
    kv_free(kv);
    arena_release(&arena);
}

static struct slice keep(struct slice s)
{
    uint8_t *copy = mem_alloc(s.size, 1);

    memcpy(copy, s.size > 0 ? s.data : (const uint8_t *)"", s.size);
    return (struct slice){copy, s.size};
}

static int64_t end(void)
{
    int64_t revision = kv_end(kv);
    size_t n;
    const struct kv_change *changes = kv_changes(kv, &n);

    for (size_t i = 0; i < n; i++) {
        disk.rows = mem_realloc(disk.rows, disk.n + 1, sizeof(*disk.rows));
        disk.rows[disk.n] = changes[i];
        disk.rows[disk.n].key = keep(changes[i].key);
        disk.rows[disk.n].value = keep(changes[i].value);
        disk.n++;
    }
    return revision;
}

static void sync_to(int64_t revision)
{
    disk.synced = revision > disk.synced ? revision : disk.synced;
    kv_persisted(kv, revision);
}

static ProtobufCBinaryData bytes(const char *s)
{
    return (ProtobufCBinaryData){strlen(s), (uint8_t *)(uintptr_t)s};
}

/* One byte 0x00, which strlen() cannot see. */
static ProtobufCBinaryData zero_byte(void)
{
    static uint8_t zero[1];

    return (ProtobufCBinaryData){1, zero};
}

static Etcdserverpb__PutRequest put_request(const char *key, const char *value)
{
    Etcdserverpb__PutRequest rq = ETCDSERVERPB__PUT_REQUEST__INIT;

    rq.key = bytes(key);
    rq.value = bytes(value);
    return rq;
}

static Etcdserverpb__PutResponse put_response;

static enum status put_rq(const Etcdserverpb__PutRequest *rq)
{
    enum status st;

    etcdserverpb__put_response__init(&put_response);
    kv_begin(kv);
    st = kv_put(kv, rq, &arena, &put_response);
    end();
    return st;
}

/* Returns the revision. */
static int64_t put(const char *key, const char *value)
{
    Etcdserverpb__PutRequest rq = put_request(key, value);

    ck_assert_int_eq(put_rq(&rq), ST_OK);
    return kv_revision(kv);
}

static int64_t put_lease(const char *key, const char *value, int64_t lease)
{
    Etcdserverpb__PutRequest rq = put_request(key, value);

    rq.lease = lease;
    ck_assert_int_eq(put_rq(&rq), ST_OK);
    return kv_revision(kv);
}

static Etcdserverpb__DeleteRangeResponse deleted;

static enum status delete_rq(const char *key, const char *range_end)
{
    Etcdserverpb__DeleteRangeRequest rq =
        ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    enum status st;

    rq.key = bytes(key);
    rq.range_end = bytes(range_end);
    rq.prev_kv = true;
    etcdserverpb__delete_range_response__init(&deleted);
    kv_begin(kv);
    st = kv_delete_range(kv, &rq, &arena, &deleted);
    end();
    return st;
}

/* Returns how many. */
static int64_t erase(const char *key, const char *range_end)
{
    ck_assert_int_eq(delete_rq(key, range_end), ST_OK);
    return deleted.deleted;
}

static range_request request(const char *key, const char *range_end)
{
    range_request rq = ETCDSERVERPB__RANGE_REQUEST__INIT;

    rq.key = bytes(key);
    rq.range_end = bytes(range_end);
    return rq;
}

static range_response range(const range_request *rq)
{
    range_response rs = ETCDSERVERPB__RANGE_RESPONSE__INIT;

    ck_assert_int_eq(kv_range(kv, rq, &arena, &rs), ST_OK);
    return rs;
}

static enum status range_status(const range_request *rq)
{
    range_response rs = ETCDSERVERPB__RANGE_RESPONSE__INIT;

    return kv_range(kv, rq, &arena, &rs);
}

/* "a b c": the keys of an answer. */
static const char *keys_of(const range_response *rs)
{
    struct buffer b = {0};
    const char *text;

    for (size_t i = 0; i < rs->n_kvs; i++) {
        buffer_append(&b, " ", i > 0);
        buffer_append(&b, rs->kvs[i]->key.data, rs->kvs[i]->key.len);
    }
    buffer_append(&b, "", 1);
    text = arena_copy(&arena, b.data, b.size);
    buffer_release(&b);
    return text;
}

static const char *keys_in(const char *key, const char *range_end)
{
    range_request rq = request(key, range_end);
    range_response rs = range(&rq);

    ck_assert_int_eq(rs.count, (int64_t)rs.n_kvs);
    return keys_of(&rs);
}

static const char *value_of(const Mvccpb__KeyValue *pair)
{
    return arena_printf(&arena, "%.*s", (int)pair->value.len,
                        pair->value.len > 0 ? (char *)pair->value.data : "");
}

static Mvccpb__KeyValue *get_at(const char *key, int64_t revision)
{
    range_request rq = request(key, "");
    range_response rs;

    rq.revision = revision;
    rs = range(&rq);
    return rs.n_kvs > 0 ? rs.kvs[0] : NULL;
}

static void put_letters(void)
{
    /* create_revision and value run against the order of the keys. */
    put("d", "1");
    put("c", "2");
    put("b", "3");
    put("a", "4");
    put("d", "9"); /* version 2, the newest change */
}

/* ---- REV --------------------------------------------------------------------
 */

START_TEST(REV1_a_fresh_store_is_at_revision_1)
{
    ck_assert_int_eq(kv_revision(kv), 1);
    ck_assert_int_eq(put("a", "1"), 2);
}
END_TEST

START_TEST(REV2_changes_of_one_revision_are_numbered_in_order)
{
    Etcdserverpb__PutRequest a = put_request("a", "1"),
                             b = put_request("b", "2");
    const struct kv_change *changes;
    size_t n;

    kv_begin(kv);
    ck_assert_int_eq(kv_put(kv, &b, &arena, &put_response), ST_OK);
    ck_assert_int_eq(kv_put(kv, &a, &arena, &put_response), ST_OK);
    ck_assert_int_eq(kv_put(kv, &a, &arena, &put_response), ST_OK);
    ck_assert_int_eq(end(), 2);
    changes = kv_changes(kv, &n);
    ck_assert_uint_eq(n, 3);
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(changes[i].mod_revision, 2);
        ck_assert_int_eq(changes[i].sub, (int64_t)i);
        ck_assert_int_eq(changes[i].key.data[0], i == 0 ? 'b' : 'a');
    }
    ck_assert_int_eq(changes[2].version, 2);
    ck_assert_int_eq(changes[2].create_revision, 2);
}
END_TEST

START_TEST(REV3_an_equal_put_is_a_change)
{
    put("a", "1");
    ck_assert_int_eq(put("a", "1"), 3);
    ck_assert_int_eq(get_at("a", 0)->version, 2);
}
END_TEST

START_TEST(REV4_what_changes_nothing_has_no_revision)
{
    size_t n;

    put("a", "1");
    ck_assert_int_eq(erase("b", ""), 0);
    ck_assert_int_eq(erase("b", "z"), 0);
    ck_assert_int_eq(kv_revision(kv), 2);
    (void)kv_changes(kv, &n);
    ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(REV7_a_refused_put_changes_nothing)
{
    Etcdserverpb__PutRequest rq = put_request("a", "");

    rq.ignore_value = true;
    ck_assert_int_eq(put_rq(&rq), ST_KEY_NOT_FOUND);
    ck_assert_int_eq(kv_revision(kv), 1);
    ck_assert_uint_eq(kv_count(kv), 0);
    ck_assert_ptr_null(get_at("a", 0));
}
END_TEST

/* ---- KEY
 * --------------------------------------------------------------------- */

START_TEST(KEY1_create_mod_and_version)
{
    Mvccpb__KeyValue *pair;

    put("x", "");
    put("a", "1");
    put("a", "2");
    put("a", "3");
    pair = get_at("a", 0);
    ck_assert_int_eq(pair->create_revision, 3);
    ck_assert_int_eq(pair->mod_revision, 5);
    ck_assert_int_eq(pair->version, 3);
    ck_assert_str_eq(value_of(pair), "3");
}
END_TEST

START_TEST(KEY2_a_deleted_key_starts_anew)
{
    Mvccpb__KeyValue *pair;

    put("a", "1");
    put("a", "2");
    erase("a", "");
    ck_assert_ptr_null(get_at("a", 0));
    put("a", "3");
    pair = get_at("a", 0);
    ck_assert_int_eq(pair->version, 1);
    ck_assert_int_eq(pair->create_revision, 5);
}
END_TEST

START_TEST(KEY4_a_delete_carries_the_key_alone)
{
    const struct kv_change *c;
    size_t n;

    put_lease("a", "1", 7);
    erase("a", "");
    c = kv_changes(kv, &n);
    ck_assert_uint_eq(n, 1);
    ck_assert(c->deleted);
    ck_assert_int_eq(c->mod_revision, 3);
    ck_assert_int_eq(c->create_revision + c->version + c->lease, 0);
    ck_assert_uint_eq(c->value.size, 0);
    ck_assert_uint_eq(c->key.size, 1);
    ck_assert_int_eq(c->previous_lease, 7);
}
END_TEST

START_TEST(KEY5_keys_are_unsigned_bytes)
{
    put("a\xff", "");
    put("a\x7f", "");
    put("a", "");
    put("a\x01", "");
    ck_assert_str_eq(keys_in("a", "b"), "a a\x01 a\x7f a\xff");
}
END_TEST

/* ---- RNG
 * --------------------------------------------------------------------- */

START_TEST(RNG1_half_open_interval_or_one_key)
{
    put_letters();
    ck_assert_str_eq(keys_in("b", ""), "b");
    ck_assert_str_eq(keys_in("b", "d"), "b c");
    ck_assert_str_eq(keys_in("bb", "e"), "c d");
    ck_assert_str_eq(keys_in("bb", ""), "");
}
END_TEST

START_TEST(RNG2_range_end_of_one_zero_byte_is_open)
{
    range_request rq = request("c", "");
    range_response rs;

    put_letters();
    rq.range_end = zero_byte();
    rs = range(&rq);
    ck_assert_str_eq(keys_of(&rs), "c d");
    rq.key = zero_byte();
    rs = range(&rq);
    ck_assert_str_eq(keys_of(&rs), "a b c d");
    ck_assert_int_eq(rs.count, 4);
}
END_TEST

START_TEST(RNG3_a_prefix_is_an_interval)
{
    put("p/1", "");
    put("p/2", "");
    put("p0", "");
    put("p", "");
    ck_assert_str_eq(keys_in("p/", "p0"), "p/1 p/2");
}
END_TEST

START_TEST(RNG4_an_interval_that_ends_before_it_begins_is_empty)
{
    put_letters();
    ck_assert_str_eq(keys_in("c", "b"), "");
    ck_assert_str_eq(keys_in("c", "c"), "");
    ck_assert_int_eq(erase("c", "b"), 0);
}
END_TEST

START_TEST(RNG5_an_empty_key_is_refused)
{
    range_request rq = request("", "z");

    ck_assert_int_eq(range_status(&rq), ST_EMPTY_KEY);
    rq.range_end = zero_byte();
    ck_assert_int_eq(range_status(&rq), ST_EMPTY_KEY);
}
END_TEST

START_TEST(RNG6_future_revision_is_refused)
{
    range_request rq = request("a", "");

    put("a", "1");
    rq.revision = 3;
    ck_assert_int_eq(range_status(&rq), ST_FUTURE_REVISION);
    rq.revision = 2;
    ck_assert_int_eq(range_status(&rq), ST_OK);
    rq.revision = -5;
    ck_assert_int_eq((int)range(&rq).n_kvs, 1);
}
END_TEST

/* Every revision of a busy store, both sides of the line to state.db. */
static void check_history(void)
{
    ck_assert_ptr_null(get_at("a", 1));
    ck_assert_str_eq(value_of(get_at("a", 2)), "one");
    ck_assert_str_eq(value_of(get_at("a", 3)), "two");
    ck_assert_int_eq(get_at("a", 3)->version, 2);
    ck_assert_int_eq(get_at("a", 3)->create_revision, 2);
    ck_assert_int_eq(get_at("a", 3)->mod_revision, 3);
    ck_assert_int_eq(get_at("a", 3)->lease, 9);
    ck_assert_str_eq(value_of(get_at("a", 4)), "two");
    ck_assert_ptr_null(get_at("a", 5));
    ck_assert_ptr_null(get_at("a", 6));
    ck_assert_str_eq(value_of(get_at("a", 7)), "three");
    ck_assert_int_eq(get_at("a", 7)->version, 1);
    ck_assert_ptr_null(get_at("b", 3));
    ck_assert_str_eq(value_of(get_at("b", 5)), "x");
    ck_assert_str_eq(value_of(get_at("b", 6)), "");
}

START_TEST(RNG6_old_revisions_from_memory_and_from_state_db)
{
    put("a", "one");
    put_lease("a", "two", 9);
    put("b", "x");
    erase("a", "");
    put("b", "");
    put("a", "three");
    put("a", "four");
    check_history();
    ck_assert_uint_eq(disk.fetched, 0);
    for (int64_t revision = 2; revision <= kv_revision(kv); revision++) {
        sync_to(revision);
        check_history();
    }
    ck_assert_uint_gt(disk.fetched, 0);
}
END_TEST

START_TEST(RNG6_no_revision_shows_half_of_a_revision)
{
    Etcdserverpb__PutRequest one = put_request("a", "1"),
                             two = put_request("a", "2");

    kv_begin(kv);
    ck_assert_int_eq(kv_put(kv, &one, &arena, &put_response), ST_OK);
    ck_assert_int_eq(kv_put(kv, &two, &arena, &put_response), ST_OK);
    ck_assert_int_eq(end(), 2);
    put("a", "3");
    ck_assert_str_eq(value_of(get_at("a", 2)), "2");
    ck_assert_int_eq(get_at("a", 2)->version, 2);
    sync_to(2);
    ck_assert_str_eq(value_of(get_at("a", 2)), "2");
    sync_to(3);
    ck_assert_str_eq(value_of(get_at("a", 2)), "2");
}
END_TEST

START_TEST(RNG6_an_old_value_that_is_gone_is_an_error)
{
    range_request rq = request("a", "");

    put("a", "1");
    put("a", "2");
    sync_to(3);
    disk.rows[0].mod_revision = 99; /* as if the row were lost */
    rq.revision = 2;
    ck_assert_int_eq(range_status(&rq), ST_COMPACTED);
}
END_TEST

START_TEST(RNG6_what_memory_gave_outlives_the_next_write)
{
    Mvccpb__KeyValue *old;

    put("a", "1");
    put("a", "2");
    put("a", "3");
    old = get_at("a", 2);
    sync_to(4);
    put("a", "4");
    ck_assert_str_eq(value_of(old), "1");
}
END_TEST

START_TEST(RNG7_count_ignores_limit_and_filters)
{
    range_request rq = request("a", "z");
    range_response rs;

    put_letters();
    rq.limit = 2;
    rq.min_mod_revision = 4;
    rq.max_create_revision = 4;
    rs = range(&rq);
    ck_assert_int_eq(rs.count, 4);
    ck_assert_str_eq(keys_of(&rs), "b d");
    rq = request("b", "");
    rq.min_mod_revision = 100;
    rs = range(&rq);
    ck_assert_int_eq(rs.count, 1);
    ck_assert_uint_eq(rs.n_kvs, 0);
}
END_TEST

START_TEST(RNG7_count_at_an_old_revision)
{
    range_request rq = request("a", "z");
    range_response rs;

    put_letters();
    erase("b", "d");
    rq.revision = 4; /* d, c, b */
    rs = range(&rq);
    ck_assert_int_eq(rs.count, 3);
    ck_assert_str_eq(keys_of(&rs), "b c d");
    rq.limit = 1;
    rs = range(&rq);
    ck_assert_int_eq(rs.count, 3);
    ck_assert_str_eq(keys_of(&rs), "b");
    ck_assert(rs.more);
    rq.count_only = true;
    rs = range(&rq);
    ck_assert_int_eq(rs.count, 3);
    ck_assert_uint_eq(rs.n_kvs, 0);
    ck_assert(!rs.more);
    rq.revision = 0;
    ck_assert_int_eq(range(&rq).count, 2);
}
END_TEST

START_TEST(RNG8_count_only_has_no_kvs_and_no_more)
{
    range_request rq = request("a", "z");
    range_response rs;

    put_letters();
    rq.count_only = true;
    rq.limit = 1;
    rs = range(&rq);
    ck_assert_int_eq(rs.count, 4);
    ck_assert_uint_eq(rs.n_kvs, 0);
    ck_assert(!rs.more);
    rq.range_end = bytes("");
    rs = range(&rq);
    ck_assert_int_eq(rs.count, 1);
    ck_assert_uint_eq(rs.n_kvs, 0);
}
END_TEST

START_TEST(RNG9_more_tells_that_the_limit_cut)
{
    static const struct {
        int64_t limit;
        const char *keys;
        bool more;
    } rows[] = {
        {0, "a b c d", false}, {-1, "a b c d", false},
        {3, "a b c", true},    {4, "a b c d", false},
        {5, "a b c d", false}, {INT64_MAX, "a b c d", false},
        {1, "a", true},
    };

    put_letters();
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        range_request rq = request("a", "z");
        range_response rs;

        rq.limit = rows[i].limit;
        rs = range(&rq);
        ck_assert_str_eq(keys_of(&rs), rows[i].keys);
        ck_assert_int_eq(rs.more, rows[i].more);
        ck_assert_int_eq(rs.count, 4);
    }
}
END_TEST

START_TEST(RNG9_more_counts_after_filtering)
{
    range_request rq = request("a", "z");
    range_response rs;

    put_letters();
    rq.min_mod_revision = 5; /* a and d */
    rq.limit = 2;
    rs = range(&rq);
    ck_assert_str_eq(keys_of(&rs), "a d");
    ck_assert(!rs.more);
    rq.limit = 1;
    rs = range(&rq);
    ck_assert_str_eq(keys_of(&rs), "a");
    ck_assert(rs.more);
}
END_TEST

START_TEST(RNG10_filters_are_inclusive)
{
    static const struct {
        int64_t min_mod, max_mod, min_create, max_create;
        const char *keys;
    } rows[] = {
        /* mod: a 5, b 4, c 3, d 6; create: a 5, b 4, c 3, d 2 */
        {4, 0, 0, 0, "a b d"},    {0, 4, 0, 0, "b c"}, {4, 5, 0, 0, "a b"},
        {0, 0, 3, 0, "a b c"},    {0, 0, 0, 3, "c d"}, {0, 0, 3, 3, "c"},
        {6, 6, 2, 2, "d"},        {7, 0, 0, 0, ""},    {0, -1, 0, 0, ""},
        {-1, 0, 0, 0, "a b c d"},
    };

    put_letters();
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        range_request rq = request("a", "z");
        range_response rs;

        rq.min_mod_revision = rows[i].min_mod;
        rq.max_mod_revision = rows[i].max_mod;
        rq.min_create_revision = rows[i].min_create;
        rq.max_create_revision = rows[i].max_create;
        rs = range(&rq);
        ck_assert_str_eq(keys_of(&rs), rows[i].keys);
    }
}
END_TEST

#define SORT(target) ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__##target
#define ORDER(order) ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__##order

static const char *sorted(Etcdserverpb__RangeRequest__SortTarget target,
                          Etcdserverpb__RangeRequest__SortOrder order,
                          int64_t limit)
{
    range_request rq = request("a", "z");
    range_response rs;

    rq.sort_target = target;
    rq.sort_order = order;
    rq.limit = limit;
    rs = range(&rq);
    ck_assert_int_eq(rs.more, limit > 0 && limit < 4);
    return keys_of(&rs);
}

START_TEST(RNG10_sorting_comes_before_the_limit)
{
    put_letters();
    ck_assert_str_eq(sorted(SORT(CREATE), ORDER(ASCEND), 2), "d c");
    ck_assert_str_eq(sorted(SORT(KEY), ORDER(DESCEND), 3), "d c b");
    ck_assert_str_eq(sorted(SORT(MOD), ORDER(DESCEND), 1), "d");
    ck_assert_str_eq(sorted(SORT(KEY), ORDER(ASCEND), 2), "a b");
}
END_TEST

START_TEST(RNG11_no_order_sorts_by_target_after_the_limit)
{
    put_letters();
    ck_assert_str_eq(sorted(SORT(KEY), ORDER(NONE), 0), "a b c d");
    ck_assert_str_eq(sorted(SORT(CREATE), ORDER(NONE), 0), "d c b a");
    /* The first three in key order, then by create, then cut to two. */
    ck_assert_str_eq(sorted(SORT(CREATE), ORDER(NONE), 2), "c b");
}
END_TEST

START_TEST(RNG12_sort_targets)
{
    put_letters();
    ck_assert_str_eq(sorted(SORT(VALUE), ORDER(ASCEND), 0), "c b a d");
    ck_assert_str_eq(sorted(SORT(VALUE), ORDER(DESCEND), 0), "d a b c");
    ck_assert_str_eq(sorted(SORT(MOD), ORDER(ASCEND), 0), "c b a d");
    ck_assert_str_eq(sorted(SORT(CREATE), ORDER(DESCEND), 0), "a b c d");
    /* Ties have no promised order; ours is the key's. */
    ck_assert_str_eq(sorted(SORT(VERSION), ORDER(DESCEND), 0), "d a b c");
    ck_assert_str_eq(sorted(SORT(VERSION), ORDER(ASCEND), 0), "a b c d");
}
END_TEST

START_TEST(RNG12_versions_sort_as_numbers)
{
    for (int i = 0; i < 10; i++) {
        put("a", "");
    }
    put("b", "");
    put("b", "");
    put("c", "");
    put("d", "");
    ck_assert_str_eq(sorted(SORT(VERSION), ORDER(ASCEND), 0), "c d b a");
}
END_TEST

START_TEST(RNG13_undefined_sort_is_refused)
{
    static const int bad[] = {-1, 3, 5, 1000};

    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        range_request rq = request("a", "z");

        rq.sort_order = (Etcdserverpb__RangeRequest__SortOrder)bad[i];
        ck_assert_int_eq(range_status(&rq), ST_INVALID_SORT);
        rq = request("a", "z");
        rq.sort_target =
            (Etcdserverpb__RangeRequest__SortTarget)(bad[i] == 3 ? 5 : bad[i]);
        ck_assert_int_eq(range_status(&rq), ST_INVALID_SORT);
        rq.key = bytes("");
        ck_assert_int_eq(range_status(&rq), ST_EMPTY_KEY);
    }
}
END_TEST

START_TEST(RNG14_keys_only_drops_the_value_and_keeps_the_lease)
{
    range_request rq = request("a", "");
    range_response rs;

    put_lease("a", "2", 5);
    put("b", "1");
    rq.keys_only = true;
    rs = range(&rq);
    ck_assert_uint_eq(rs.kvs[0]->value.len, 0);
    ck_assert_int_eq(rs.kvs[0]->lease, 5);
    ck_assert_int_eq(rs.kvs[0]->version, 1);
    rq.range_end = bytes("z");
    rq.sort_target = SORT(VALUE);
    rs = range(&rq);
    ck_assert_str_eq(keys_of(&rs), "b a"); /* sorted before it was dropped */
    ck_assert_uint_eq(rs.kvs[1]->value.len, 0);
    ck_assert_int_eq(rs.kvs[1]->lease, 5);
}
END_TEST

/* ---- PUT
 * ---------------------------------------------------------------------- */

START_TEST(PUT1_checks_come_in_order)
{
    Etcdserverpb__PutRequest rq = put_request("", "v");

    rq.ignore_value = rq.ignore_lease = true;
    rq.lease = 5;
    ck_assert_int_eq(kv_check_put(&rq), ST_EMPTY_KEY);
    rq.key = bytes("a");
    ck_assert_int_eq(kv_check_put(&rq), ST_VALUE_PROVIDED);
    rq.value = bytes("");
    ck_assert_int_eq(kv_check_put(&rq), ST_LEASE_PROVIDED);
    rq.lease = 0;
    ck_assert_int_eq(kv_check_put(&rq), ST_OK);
    ck_assert_int_eq(put_rq(&rq), ST_KEY_NOT_FOUND);
}
END_TEST

START_TEST(PUT3_every_put_sets_the_lease)
{
    static const int64_t leases[] = {3, 3, 4, 0};
    int64_t previous = 0;
    size_t n;

    for (size_t i = 0; i < ARRAY_LENGTH(leases); i++) {
        put_lease("a", "", leases[i]);
        ck_assert_int_eq(get_at("a", 0)->lease, leases[i]);
        ck_assert_int_eq(kv_changes(kv, &n)->previous_lease, previous);
        previous = leases[i];
    }
}
END_TEST

START_TEST(PUT4_ignore_value_and_ignore_lease_keep_them)
{
    Etcdserverpb__PutRequest rq = put_request("a", "");

    put_lease("a", "1", 3);
    rq.ignore_value = true;
    rq.lease = 4;
    ck_assert_int_eq(put_rq(&rq), ST_OK);
    ck_assert_str_eq(value_of(get_at("a", 0)), "1");
    ck_assert_int_eq(get_at("a", 0)->lease, 4);
    rq = put_request("a", "2");
    rq.ignore_lease = true;
    ck_assert_int_eq(put_rq(&rq), ST_OK);
    ck_assert_str_eq(value_of(get_at("a", 0)), "2");
    ck_assert_int_eq(get_at("a", 0)->lease, 4);
    rq = put_request("a", "");
    rq.ignore_value = rq.ignore_lease = true;
    ck_assert_int_eq(put_rq(&rq), ST_OK);
    ck_assert_str_eq(value_of(get_at("a", 0)), "2");
    ck_assert_int_eq(get_at("a", 0)->version, 4);
    ck_assert_int_eq(get_at("a", 0)->mod_revision, 5);
    erase("a", "");
    ck_assert_int_eq(put_rq(&rq), ST_KEY_NOT_FOUND);
}
END_TEST

START_TEST(PUT4_ignore_value_after_state_db_has_it)
{
    Etcdserverpb__PutRequest rq = put_request("a", "");

    put("a", "1");
    sync_to(2); /* the old value is freed, not kept */
    rq.ignore_value = true;
    ck_assert_int_eq(put_rq(&rq), ST_OK);
    ck_assert_str_eq(value_of(get_at("a", 0)), "1");
    ck_assert_str_eq(value_of(get_at("a", 2)), "1");
}
END_TEST

START_TEST(PUT5_prev_kv_is_the_pair_before)
{
    Etcdserverpb__PutRequest rq = put_request("a", "1");

    rq.prev_kv = true;
    ck_assert_int_eq(put_rq(&rq), ST_OK);
    ck_assert_ptr_null(put_response.prev_kv);
    rq.value = bytes("2");
    rq.lease = 6;
    ck_assert_int_eq(put_rq(&rq), ST_OK);
    ck_assert_str_eq(value_of(put_response.prev_kv), "1");
    ck_assert_int_eq(put_response.prev_kv->mod_revision, 2);
    ck_assert_int_eq(put_response.prev_kv->version, 1);
    ck_assert_int_eq(put_response.prev_kv->lease, 0);
    erase("a", "");
    ck_assert_int_eq(put_rq(&rq), ST_OK);
    ck_assert_ptr_null(put_response.prev_kv);
}
END_TEST

START_TEST(PUT6_an_empty_value_is_a_value)
{
    put("a", "");
    ck_assert_ptr_nonnull(get_at("a", 0));
    ck_assert_uint_eq(get_at("a", 0)->value.len, 0);
    ck_assert_uint_eq(kv_count(kv), 1);
}
END_TEST

/* ---- DEL
 * ---------------------------------------------------------------------- */

START_TEST(DEL1_deletes_in_key_order_at_one_revision)
{
    const struct kv_change *c;
    size_t n;

    put_letters();
    ck_assert_int_eq(erase("b", "z"), 3);
    ck_assert_int_eq(kv_revision(kv), 7);
    c = kv_changes(kv, &n);
    ck_assert_uint_eq(n, 3);
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(c[i].key.data[0], "bcd"[i]);
        ck_assert_int_eq(c[i].mod_revision, 7);
        ck_assert_int_eq(c[i].sub, (int64_t)i);
    }
    ck_assert_str_eq(keys_in("a", "z"), "a");
    ck_assert_int_eq(delete_rq("", "z"), ST_EMPTY_KEY);
}
END_TEST

START_TEST(DEL2_prev_kvs_in_key_order)
{
    put_letters();
    erase("c", "z");
    ck_assert_uint_eq(deleted.n_prev_kvs, 2);
    ck_assert_str_eq(value_of(deleted.prev_kvs[0]), "2");
    ck_assert_str_eq(value_of(deleted.prev_kvs[1]), "9");
    ck_assert_int_eq(deleted.prev_kvs[1]->version, 2);
}
END_TEST

START_TEST(DEL3_deletes_name_the_lease_to_detach)
{
    size_t n;

    put_lease("a", "", 11);
    put_lease("b", "", 12);
    erase("a", "z");
    ck_assert_int_eq(kv_changes(kv, &n)[0].previous_lease, 11);
    ck_assert_int_eq(kv_changes(kv, &n)[1].previous_lease, 12);
}
END_TEST

/* ---- beside the rules
 * ----------------------------------------------------------- */

START_TEST(oldest_key_under_a_prefix)
{
    struct kv_change pair;
    size_t n;

    put("l/b", "");
    put("l/a", "");
    put("l0", "");
    put("l/b", ""); /* stays the older one */
    ck_assert(kv_oldest(kv, (struct slice){(uint8_t *)"l/", 2}, &pair, &n));
    ck_assert_int_eq(pair.key.data[2], 'b');
    ck_assert_int_eq(pair.create_revision, 2);
    ck_assert_uint_eq(n, 2);
    erase("l/", "l0");
    ck_assert(!kv_oldest(kv, (struct slice){(uint8_t *)"l/", 2}, &pair, &n));
    ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(loading_refuses_what_cannot_be)
{
    struct kv_change c = {.mod_revision = 5,
                          .sub = 1,
                          .key = {(uint8_t *)"a", 1},
                          .create_revision = 5,
                          .version = 1};

    ck_assert(kv_load(kv, &c));
    ck_assert(!kv_load(kv, &c)); /* twice the same */
    c.sub = 0;
    ck_assert(!kv_load(kv, &c)); /* back in time */
    c.mod_revision = 6;
    c.key.size = 0;
    ck_assert(!kv_load(kv, &c));
    c.key = (struct slice){(uint8_t *)"b", 1};
    c.deleted = true;
    ck_assert(!kv_load(kv, &c)); /* never was */
    c.key = (struct slice){(uint8_t *)"a", 1};
    c.create_revision = c.version = 0;
    ck_assert(kv_load(kv, &c));
    kv_loaded(kv, 9);
    ck_assert_int_eq(kv_revision(kv), 9);
    ck_assert_int_eq(put("a", ""), 10);
}
END_TEST

/* A model: for each revision, each key's value or none. */
#define MODEL_KEYS 6
#define MODEL_REVISIONS 300
static int model[MODEL_REVISIONS + 2][MODEL_KEYS]; /* 0: none, else value */

static void check_model_at(int64_t revision)
{
    range_request rq = request("a", "z");
    range_response rs;
    size_t at = 0;

    rq.revision = revision;
    rs = range(&rq);
    for (int k = 0; k < MODEL_KEYS; k++) {
        if (model[revision][k] == 0) {
            continue;
        }
        ck_assert_uint_lt(at, rs.n_kvs);
        ck_assert_int_eq(rs.kvs[at]->key.data[0], 'a' + k);
        ck_assert_int_eq(strtol(value_of(rs.kvs[at]), NULL, 10),
                         model[revision][k]);
        at++;
    }
    ck_assert_uint_eq(at, rs.n_kvs);
    ck_assert_int_eq(rs.count, (int64_t)at);
}

START_TEST(random_history_agrees_with_the_model)
{
    struct rng g;

    rng_init(&g, 3);
    while (kv_revision(kv) < MODEL_REVISIONS) {
        char key[2] = {(char)('a' + rng_below(&g, MODEL_KEYS)), '\0'};
        char last[2] = {(char)(key[0] + 2), '\0'};
        int64_t r = kv_revision(kv) + 1;

        memcpy(model[r], model[r - 1], sizeof(model[r]));
        if (rng_below(&g, 3) > 0) {
            put(key, arena_printf(&arena, "%d", (int)r));
            model[r][key[0] - 'a'] = (int)r;
        } else {
            erase(key, last);
            for (int k = key[0] - 'a'; k < MODEL_KEYS && k < last[0] - 'a';
                 k++) {
                model[r][k] = 0;
            }
        }
        if (rng_below(&g, 4) == 0) {
            sync_to(1 + (int64_t)rng_below(&g, (uint64_t)kv_revision(kv)));
        }
        check_model_at(1 + (int64_t)rng_below(&g, (uint64_t)kv_revision(kv)));
        check_model_at(kv_revision(kv));
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        REV1_a_fresh_store_is_at_revision_1,
        REV2_changes_of_one_revision_are_numbered_in_order,
        REV3_an_equal_put_is_a_change,
        REV4_what_changes_nothing_has_no_revision,
        REV7_a_refused_put_changes_nothing,
        KEY1_create_mod_and_version,
        KEY2_a_deleted_key_starts_anew,
        KEY4_a_delete_carries_the_key_alone,
        KEY5_keys_are_unsigned_bytes,
        RNG1_half_open_interval_or_one_key,
        RNG2_range_end_of_one_zero_byte_is_open,
        RNG3_a_prefix_is_an_interval,
        RNG4_an_interval_that_ends_before_it_begins_is_empty,
        RNG5_an_empty_key_is_refused,
        RNG6_future_revision_is_refused,
        RNG6_old_revisions_from_memory_and_from_state_db,
        RNG6_no_revision_shows_half_of_a_revision,
        RNG6_an_old_value_that_is_gone_is_an_error,
        RNG6_what_memory_gave_outlives_the_next_write,
        RNG7_count_ignores_limit_and_filters,
        RNG7_count_at_an_old_revision,
        RNG8_count_only_has_no_kvs_and_no_more,
        RNG9_more_tells_that_the_limit_cut,
        RNG9_more_counts_after_filtering,
        RNG10_filters_are_inclusive,
        RNG10_sorting_comes_before_the_limit,
        RNG11_no_order_sorts_by_target_after_the_limit,
        RNG12_sort_targets,
        RNG12_versions_sort_as_numbers,
        RNG13_undefined_sort_is_refused,
        RNG14_keys_only_drops_the_value_and_keeps_the_lease,
        PUT1_checks_come_in_order,
        PUT3_every_put_sets_the_lease,
        PUT4_ignore_value_and_ignore_lease_keep_them,
        PUT4_ignore_value_after_state_db_has_it,
        PUT5_prev_kv_is_the_pair_before,
        PUT6_an_empty_value_is_a_value,
        DEL1_deletes_in_key_order_at_one_revision,
        DEL2_prev_kvs_in_key_order,
        DEL3_deletes_name_the_lease_to_detach,
        oldest_key_under_a_prefix,
        loading_refuses_what_cannot_be,
        random_history_agrees_with_the_model,
    };

    return suite_run_with("kv", tests, ARRAY_LENGTH(tests), setup, teardown);
}
