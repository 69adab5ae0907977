/*
 * The applier: the same entries give the same state (H1, H3), a refused
 * command changes nothing (H2), no bytes bring it down (H4), and an expiry
 * counts only in the term that saw it (I1).
 */
#include <stdlib.h>
#include <string.h>

#include "raft/base.h"
#include "server/changeset.h"
#include "tests/server/machine.h"
#include "tests/server/suite.h"

typedef Pawl__Command__V1__Command command;

static struct machine m;

static void setup(void)
{
    machine_init(&m, NULL, NULL);
}

static void teardown(void)
{
    machine_release(&m);
}

/* ---- outcomes ----------------------------------------------------------- */

START_TEST(an_outcome_names_who_waits_for_it)
{
    machine_put(&m, "a", "1", 0);
    ck_assert_uint_eq(m.out.member, 7);
    ck_assert_uint_eq(m.out.incarnation, 8);
    ck_assert_uint_eq(m.out.request, 9);
    ck_assert_int_eq(m.out.revision, 2);
    ck_assert_ptr_null(m.out.text);
    machine_entry(&m, RAFT_ENTRY_NOOP, NULL, 0);
    ck_assert_uint_eq(m.out.request, 0);
    ck_assert_int_eq(m.out.revision, 2);
    ck_assert_uint_eq(applier_index(m.applier), 2);
}
END_TEST

START_TEST(changes_are_those_of_the_last_entry)
{
    size_t n;

    machine_put(&m, "a", "1", 0);
    (void)kv_changes(machine_kv(&m), &n);
    ck_assert_uint_eq(n, 1);
    machine_grant(&m, 1, 10);
    (void)kv_changes(machine_kv(&m), &n);
    ck_assert_uint_eq(n, 0); /* not those of the put again */
}
END_TEST

START_TEST(put_and_delete_answer)
{
    machine_put(&m, "a", "1", 0);
    machine_put(&m, "b", "1", 0);
    ck_assert_int_eq(machine_delete(&m, "a", "z"), ST_OK);
    ck_assert_int_eq(m.out.delete_range.deleted, 2);
    ck_assert_int_eq(m.out.revision, 4);
    ck_assert_int_eq(machine_delete(&m, "a", "z"), ST_OK);
    ck_assert_int_eq(m.out.delete_range.deleted, 0);
    ck_assert_int_eq(m.out.revision, 4);
}
END_TEST

/* ---- leases ------------------------------------------------------------- */

START_TEST(LEA1_LEA2_grants_answer_and_refuse)
{
    ck_assert_int_eq(machine_grant(&m, -5, 30), ST_OK);
    ck_assert_int_eq(m.out.lease_grant.id, -5);
    ck_assert_int_eq(m.out.lease_grant.ttl, 30);
    ck_assert_int_eq(m.out.revision, 1); /* REV4 */
    ck_assert_int_eq(machine_grant(&m, -5, 30), ST_LEASE_EXIST);
    ck_assert_int_eq(machine_grant(&m, 6, LEASE_TTL_MAX_S + 1),
                     ST_LEASE_TTL_TOO_LARGE);
    ck_assert_int_eq(machine_grant(&m, 0, 30), ST_LEASE_NOT_FOUND);
}
END_TEST

START_TEST(PUT1_an_unknown_lease_comes_before_a_missing_key)
{
    command c = PAWL__COMMAND__V1__COMMAND__INIT;
    Etcdserverpb__PutRequest rq = ETCDSERVERPB__PUT_REQUEST__INIT;

    rq.key = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "a"};
    rq.lease = 5;
    rq.ignore_value = true;
    c.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_PUT;
    c.put = &rq;
    ck_assert_int_eq(machine_command(&m, &c), ST_LEASE_NOT_FOUND);
    machine_grant(&m, 5, 10);
    ck_assert_int_eq(machine_command(&m, &c), ST_KEY_NOT_FOUND);
    rq.ignore_value = false;
    ck_assert_int_eq(machine_command(&m, &c), ST_OK); /* PUT2 */
    rq.key.len = 0;
    rq.lease = 99;
    ck_assert_int_eq(machine_command(&m, &c), ST_EMPTY_KEY);
}
END_TEST

static size_t keys_of(int64_t lease)
{
    size_t n;

    free(lease_keys(machine_leases(&m), lease, &n));
    return n;
}

START_TEST(PUT3_DEL3_keys_follow_their_lease)
{
    machine_grant(&m, 1, 10);
    machine_grant(&m, 2, 10);
    machine_put(&m, "a", "", 1);
    machine_put(&m, "b", "", 1);
    ck_assert_uint_eq(keys_of(1), 2);
    machine_put(&m, "a", "", 2); /* moved */
    ck_assert_uint_eq(keys_of(1), 1);
    ck_assert_uint_eq(keys_of(2), 1);
    machine_put(&m, "a", "", 2); /* kept */
    ck_assert_uint_eq(keys_of(2), 1);
    machine_put(&m, "a", "", 0); /* detached */
    ck_assert_uint_eq(keys_of(2), 0);
    machine_delete(&m, "b", NULL);
    ck_assert_uint_eq(keys_of(1), 0);
    ck_assert(lease_exists(machine_leases(&m), 1));
    machine_revoke(&m, 2, 0);
    ck_assert_int_eq(machine_get(&m, "a").mod_revision, 6);
}
END_TEST

START_TEST(REV5_LEA8_a_revoke_deletes_its_keys_in_byte_order_at_one_revision)
{
    const struct kv_change *c;
    size_t n;

    machine_grant(&m, 1, 10);
    machine_put(&m, "b", "", 1);
    machine_put(&m, "c", "", 0);
    machine_put(&m, "a\xff", "", 1);
    machine_put(&m, "a", "", 1);
    ck_assert_int_eq(machine_revoke(&m, 1, 0), ST_OK);
    ck_assert_int_eq(m.out.revision, 6);
    c = kv_changes(machine_kv(&m), &n);
    ck_assert_uint_eq(n, 3);
    ck_assert(slice_is(c[0].key, "a"));
    ck_assert(slice_is(c[1].key, "a\xff"));
    ck_assert(slice_is(c[2].key, "b"));
    ck_assert(c[0].deleted && c[0].mod_revision == 6 && c[2].sub == 2);
    ck_assert_uint_eq(kv_count(machine_kv(&m)), 1);
    ck_assert_int_eq(machine_revoke(&m, 1, 0), ST_LEASE_NOT_FOUND);
    machine_grant(&m, 2, 10);
    ck_assert_int_eq(machine_revoke(&m, 2, 0), ST_OK);
    ck_assert_int_eq(m.out.revision, 6); /* REV4 */
}
END_TEST

START_TEST(I1_an_expiry_counts_only_in_the_term_that_saw_it)
{
    machine_grant(&m, 1, 10);
    machine_put(&m, "a", "", 1);
    m.term = 4;
    ck_assert_int_eq(machine_revoke(&m, 1, 3), ST_NOT_APPLIED);
    ck_assert_ptr_nonnull(strstr(m.out.text, "term 3"));
    ck_assert(lease_exists(machine_leases(&m), 1));
    ck_assert_uint_eq(kv_count(machine_kv(&m)), 1);
    ck_assert_int_eq(machine_revoke(&m, 1, 5), ST_NOT_APPLIED);
    ck_assert_int_eq(machine_revoke(&m, 1, 4), ST_OK);
    ck_assert_uint_eq(kv_count(machine_kv(&m)), 0);
    ck_assert_int_eq(machine_revoke(&m, 1, 4), ST_LEASE_NOT_FOUND);
}
END_TEST

/* ---- all or nothing ----------------------------------------------------- */

START_TEST(H2_a_refused_command_leaves_no_trace)
{
    uint64_t digest;
    size_t bytes;

    machine_grant(&m, 1, 10);
    machine_acquire(&m, "job", 1, 0, false);
    digest = applier_digest(m.applier);
    bytes = applier_changes_bytes(m.applier);
    machine_put(&m, "", "x", 0);
    machine_put(&m, "a", "x", 99);
    machine_delete(&m, "", "z");
    machine_delete(&m, "nothing", NULL);
    machine_grant(&m, 1, 10);
    machine_revoke(&m, 99, 0);
    machine_revoke(&m, 1, 77);
    machine_acquire(&m, "", 1, 0, false);
    machine_acquire(&m, "job", 1, 0, false); /* held already */
    machine_acquire(&m, "job", 2, 10, true);
    machine_acquire(&m, "free", 2, LEASE_TTL_MAX_S + 1, false);
    machine_release_lock(&m, "job/1", 99, false, true);
    machine_release_lock(&m, "job/1", 2, true, true);
    machine_publish(&m, 1, "nobody", "http://x");
    m.fence_key = "job/1";
    m.fence_token = 1;
    ck_assert_int_eq(machine_put(&m, "a", "x", 0), ST_FENCED);
    ck_assert_int_eq(machine_acquire(&m, "new", 3, 10, false), ST_FENCED);
    ck_assert_uint_eq(applier_digest(m.applier), digest);
    ck_assert_uint_eq(applier_changes_bytes(m.applier), bytes);
    ck_assert_int_eq(machine_revision(&m), 2);
    ck_assert_uint_eq(leases_count(machine_leases(&m)), 1);
    ck_assert_uint_eq(kv_count(machine_kv(&m)), 1);
}
END_TEST

/* ---- the same on all ---------------------------------------------------- */

static void random_command(struct machine *machine, struct rng *g)
{
    int64_t lease = (int64_t)rng_below(g, 6) - 2;
    char *key = mem_printf("k%llu", (unsigned long long)rng_below(g, 9));

    machine->fence_key = rng_below(g, 5) == 0 ? "lock/1" : NULL;
    machine->fence_token = (int64_t)rng_below(g, 30);
    machine->term += rng_below(g, 50) == 0;
    switch (rng_below(g, 9)) {
    case 0:
        machine_grant(machine, lease, 5);
        break;
    case 1:
        machine_revoke(machine, lease, rng_below(g, 2) * machine->term);
        break;
    case 2:
        machine_delete(machine, key, rng_below(g, 2) ? "k5" : NULL);
        break;
    case 3:
        machine_acquire(machine, "lock", lease, (int64_t)rng_below(g, 3),
                        rng_below(g, 2));
        break;
    case 4:
        machine_release_lock(machine, "lock/1", (int64_t)rng_below(g, 30),
                             rng_below(g, 2), rng_below(g, 2));
        break;
    case 5:
        machine_publish(machine, 1 + rng_below(g, 4), key, "http://x");
        break;
    default:
        machine_put(machine, key, key, lease);
        break;
    }
    free(key);
}

START_TEST(H1_H3_the_same_entries_give_the_same_digest)
{
    struct machine other;
    struct rng g;

    rng_init(&g, 8);
    machine_init(&other, NULL, NULL);
    machine_configure(&m, 3);
    machine_configure(&other, 3);
    for (int i = 0; i < 5000; i++) {
        struct rng fork = g;

        random_command(&m, &g);
        random_command(&other, &fork);
        ck_assert_uint_eq(applier_digest(m.applier),
                          applier_digest(other.applier));
        ck_assert_int_eq(m.out.status, other.out.status);
        ck_assert_int_eq(m.out.revision, other.out.revision);
        if (i % 7 == 0) { /* when changes are taken makes no difference */
            changeset_free(applier_take_changes(m.applier));
        }
        if (i % 11 == 0) { /* nor does the leader's clock */
            leases_start_clock(machine_leases(&m), (uint64_t)i * 1000, 0);
        }
    }
    ck_assert_int_gt(machine_revision(&m), 500);
    machine_release(&other);
}
END_TEST

START_TEST(another_order_gives_another_digest)
{
    struct machine other;

    machine_init(&other, NULL, NULL);
    machine_put(&m, "a", "1", 0);
    machine_put(&m, "b", "1", 0);
    machine_put(&other, "b", "1", 0);
    machine_put(&other, "a", "1", 0);
    ck_assert_uint_ne(applier_digest(m.applier), applier_digest(other.applier));
    machine_release(&other);
}
END_TEST

/* ---- bytes that are no command ------------------------------------------ */

/* The same on both, and nothing changed. */
static void refused(struct machine *other, const void *data, size_t size)
{
    uint64_t digest = applier_digest(m.applier);
    uint64_t index = applier_index(m.applier);

    ck_assert_int_eq(machine_entry(&m, RAFT_ENTRY_COMMAND, data, size),
                     ST_NOT_APPLIED);
    machine_entry(other, RAFT_ENTRY_COMMAND, data, size);
    ck_assert_int_eq(other->out.status, ST_NOT_APPLIED);
    ck_assert_str_eq(m.out.text, other->out.text);
    ck_assert_uint_eq(applier_digest(m.applier), digest);
    ck_assert_uint_eq(applier_index(m.applier), index + 1);
}

START_TEST(H4_what_does_not_parse_changes_nothing)
{
    static const uint8_t unknown[] = {0xf2, 0x01, 0x00}; /* field 30, empty */
    static const uint8_t broken[] = {0x42, 0x7f, 0x01};  /* put, cut off */
    static const uint8_t varint[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                     0xff, 0xff, 0xff, 0xff, 0xff};
    struct machine other;

    machine_init(&other, NULL, NULL);
    refused(&other, NULL, 0);
    refused(&other, unknown, sizeof(unknown));
    refused(&other, broken, sizeof(broken));
    refused(&other, varint, sizeof(varint));
    machine_release(&other);
}
END_TEST

static size_t pack_put(uint8_t *to)
{
    command c = PAWL__COMMAND__V1__COMMAND__INIT;
    Etcdserverpb__PutRequest rq = ETCDSERVERPB__PUT_REQUEST__INIT;

    rq.key = (ProtobufCBinaryData){5, (uint8_t *)(uintptr_t) "a key"};
    rq.value = (ProtobufCBinaryData){7, (uint8_t *)(uintptr_t) "a value"};
    rq.prev_kv = true;
    c.member = c.request = 1;
    c.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_PUT;
    c.put = &rq;
    return pawl__command__v1__command__pack(&c, to);
}

START_TEST(H4_cut_and_flipped_commands_do_the_same_on_all)
{
    uint8_t good[64], bad[64];
    size_t size = pack_put(good);
    struct machine other;
    struct rng g;

    ck_assert_uint_le(size, sizeof(good));
    rng_init(&g, 9);
    machine_init(&other, NULL, NULL);
    for (int i = 0; i < 20000; i++) {
        size_t cut = rng_below(&g, size + 1);

        memcpy(bad, good, size);
        bad[rng_below(&g, size)] ^= (uint8_t)(1u << rng_below(&g, 8));
        bad[rng_below(&g, size)] = (uint8_t)rng_below(&g, 256);
        machine_entry(&m, RAFT_ENTRY_COMMAND, bad, cut);
        machine_entry(&other, RAFT_ENTRY_COMMAND, bad, cut);
        ck_assert_int_eq(m.out.status, other.out.status);
        ck_assert_uint_eq(applier_digest(m.applier),
                          applier_digest(other.applier));
        arena_reset(&m.arena);
        arena_reset(&other.arena);
    }
    machine_release(&other);
}
END_TEST

START_TEST(H4_a_malformed_configuration_changes_nothing)
{
    machine_configure(&m, 3);
    machine_entry(&m, RAFT_ENTRY_CONFIG, "nonsense", 8);
    machine_entry(&m, RAFT_ENTRY_CONFIG, NULL, 0);
    ck_assert_int_eq(machine_revision(&m), 1);
    {
        size_t n;

        (void)applier_members(m.applier, &n);
        ck_assert_uint_eq(n, 3);
    }
}
END_TEST

/* ---- members ------------------------------------------------------------ */

START_TEST(members_come_from_the_configuration_and_publish_themselves)
{
    const struct member *list;
    size_t n;

    machine_configure(&m, 3);
    list = applier_members(m.applier, &n);
    ck_assert_uint_eq(n, 3);
    ck_assert_uint_eq(list[2].id, 3);
    ck_assert_str_eq(list[2].name, "");
    ck_assert_str_eq(list[2].peer_urls[0], "http://10.0.0.3:2380");
    ck_assert_uint_eq(list[2].n_client_urls, 0);
    ck_assert_int_eq(machine_publish(&m, 3, "three", "http://c"), ST_OK);
    ck_assert_int_eq(machine_publish(&m, 9, "nine", "http://c"),
                     ST_NOT_APPLIED);
    list = applier_members(m.applier, &n);
    ck_assert_str_eq(list[2].name, "three");
    ck_assert_str_eq(list[2].client_urls[0], "http://c");
    ck_assert_str_eq(list[2].peer_urls[0], "http://10.0.0.3:2380");
    /* A change of the configuration keeps what was published. */
    machine_configure(&m, 4);
    list = applier_members(m.applier, &n);
    ck_assert_uint_eq(n, 4);
    ck_assert_str_eq(list[2].name, "three");
    ck_assert_str_eq(list[2].client_urls[0], "http://c");
    ck_assert_str_eq(list[3].name, "");
    machine_configure(&m, 2);
    (void)applier_members(m.applier, &n);
    ck_assert_uint_eq(n, 2);
}
END_TEST

START_TEST(C7_who_votes_is_the_configurations_to_say)
{
    struct raft_server servers[] = {{1, RAFT_VOTER}, {2, RAFT_LEARNER}};
    struct raft_configuration c = {.servers = servers, .n_servers = 2};
    struct member said = {.id = 2, .name = (char *)(uintptr_t) "two"};
    const struct member *list;
    uint8_t *data;
    size_t size, n;

    c.extra =
        members_encode(&said, 1, NULL, &c.extra_size); /* not 1, and a voter */
    data = raft_configuration_encode(&c, &size);
    machine_entry(&m, RAFT_ENTRY_CONFIG, data, size);
    list = applier_members(m.applier, &n);
    ck_assert_uint_eq(n, 2);
    ck_assert(!list[0].is_learner);
    ck_assert(list[1].is_learner);
    ck_assert_str_eq(list[0].name, "");
    ck_assert_str_eq(list[1].name, "two");
    free(data);
    free(c.extra);
}
END_TEST

/* ---- changesets --------------------------------------------------------- */

START_TEST(changes_are_taken_once_and_in_order)
{
    struct changeset *c;
    struct changeset_row row;
    size_t at = 0;

    ck_assert_ptr_null(applier_take_changes(m.applier));
    machine_grant(&m, 1, 10);
    machine_put(&m, "a", "1", 1);
    machine_revoke(&m, 1, 0);
    ck_assert_uint_gt(applier_changes_bytes(m.applier), 0);
    c = applier_take_changes(m.applier);
    ck_assert_uint_eq(changeset_index(c), 3);
    ck_assert_int_eq(c->revision, 3);
    ck_assert(changeset_next(c, &at, &row));
    ck_assert_int_eq(row.kind, CHANGESET_LEASE_GRANTED);
    ck_assert(changeset_next(c, &at, &row));
    ck_assert_int_eq(row.kind, CHANGESET_KV);
    ck_assert(slice_is(row.kv.key, "a") && slice_is(row.kv.value, "1"));
    ck_assert_int_eq(row.kv.lease, 1);
    ck_assert(changeset_next(c, &at, &row));
    ck_assert(row.kind == CHANGESET_KV && row.kv.deleted);
    ck_assert(changeset_next(c, &at, &row));
    ck_assert_int_eq(row.kind, CHANGESET_LEASE_REVOKED);
    ck_assert(!changeset_next(c, &at, &row));
    ck_assert_uint_eq(applier_changes_bytes(m.applier), 0);
    ck_assert_ptr_null(applier_take_changes(m.applier));
    changeset_free(c);
}
END_TEST

START_TEST(an_entry_without_changes_still_moves_the_applied_index)
{
    struct changeset *c;

    machine_entry(&m, RAFT_ENTRY_NOOP, NULL, 0);
    c = applier_take_changes(m.applier);
    ck_assert_ptr_nonnull(c);
    ck_assert_uint_eq(changeset_index(c), 1);
    ck_assert_ptr_null(applier_take_changes(m.applier));
    changeset_free(c);
}
END_TEST

START_TEST(old_values_stay_until_all_before_them_is_persisted)
{
    Etcdserverpb__RangeRequest rq = ETCDSERVERPB__RANGE_REQUEST__INIT;
    Etcdserverpb__RangeResponse rs = ETCDSERVERPB__RANGE_RESPONSE__INIT;

    rq.key = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "a"};
    rq.revision = 2;
    machine_put(&m, "a", "1", 0);
    changeset_free(applier_take_changes(m.applier));
    machine_put(&m, "a", "2", 0);
    changeset_free(applier_take_changes(m.applier));
    machine_put(&m, "a", "3", 0);
    applier_persisted(m.applier, 0);
    ck_assert_int_eq(kv_range(machine_kv(&m), &rq, &m.arena, &rs), ST_OK);
    applier_persisted(m.applier, 1);
    ck_assert_int_eq(kv_range(machine_kv(&m), &rq, &m.arena, &rs), ST_OK);
    ck_assert_uint_eq(rs.n_kvs, 1);
    applier_persisted(m.applier, 2); /* gone, and there is no fetch here */
    ck_assert_int_eq(kv_range(machine_kv(&m), &rq, &m.arena, &rs),
                     ST_COMPACTED);
    rq.revision = 3;
    ck_assert_int_eq(kv_range(machine_kv(&m), &rq, &m.arena, &rs), ST_OK);
    changeset_free(applier_take_changes(m.applier));
    machine_put(&m, "a", "4", 0);
    changeset_free(applier_take_changes(m.applier));
    rq.revision = 4;
    applier_persisted(m.applier, 4); /* two changesets at once */
    ck_assert_int_eq(kv_range(machine_kv(&m), &rq, &m.arena, &rs),
                     ST_COMPACTED);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        an_outcome_names_who_waits_for_it,
        changes_are_those_of_the_last_entry,
        put_and_delete_answer,
        LEA1_LEA2_grants_answer_and_refuse,
        PUT1_an_unknown_lease_comes_before_a_missing_key,
        PUT3_DEL3_keys_follow_their_lease,
        REV5_LEA8_a_revoke_deletes_its_keys_in_byte_order_at_one_revision,
        I1_an_expiry_counts_only_in_the_term_that_saw_it,
        H2_a_refused_command_leaves_no_trace,
        H1_H3_the_same_entries_give_the_same_digest,
        another_order_gives_another_digest,
        H4_what_does_not_parse_changes_nothing,
        H4_cut_and_flipped_commands_do_the_same_on_all,
        H4_a_malformed_configuration_changes_nothing,
        members_come_from_the_configuration_and_publish_themselves,
        C7_who_votes_is_the_configurations_to_say,
        changes_are_taken_once_and_in_order,
        an_entry_without_changes_still_moves_the_applied_index,
        old_values_stay_until_all_before_them_is_persisted,
    };

    return suite_run_with("applier", tests, ARRAY_LENGTH(tests), setup,
                          teardown);
}
