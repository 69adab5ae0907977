/*
 * test_config.c - members, quorums, their encoding and their roll-back.
 */
#include "raft/internal.h"
#include "tests/raft/suite.h"

#include <string.h>

static struct raft_server five[] = {
    {1, RAFT_VOTER},   {2, RAFT_VOTER}, {4, RAFT_VOTER},
    {7, RAFT_LEARNER}, {9, RAFT_VOTER},
};

static struct raft_configuration of(size_t n)
{
    return (struct raft_configuration){.servers = five, .n_servers = n};
}

START_TEST(what_is_encoded_is_decoded)
{
    struct raft_configuration c = of(5), d;
    uint8_t extra[] = {1, 2, 3}, *data;
    size_t size;

    c.extra = extra;
    c.extra_size = sizeof(extra);
    data = raft_configuration_encode(&c, &size);
    ck_assert(raft_configuration_decode(&d, data, size));
    ck_assert_uint_eq(d.n_servers, 5);
    ck_assert_uint_eq(d.servers[3].id, 7);
    ck_assert_int_eq(d.servers[3].role, RAFT_LEARNER);
    ck_assert_uint_eq(d.extra_size, 3);
    ck_assert_mem_eq(d.extra, extra, 3);
    raft_configuration_release(&d);
    raft_free(data);
}
END_TEST

START_TEST(bytes_are_the_same_everywhere)
{
    static const uint8_t expected[] = {1, 1, 0, 0, 0, 1, 0, 0, 0,
                                       0, 0, 0, 0, 1, 0, 0, 0, 0};
    struct raft_configuration c = of(1);
    size_t size;
    uint8_t *data = raft_configuration_encode(&c, &size);

    ck_assert_uint_eq(size, sizeof(expected));
    ck_assert_mem_eq(data, expected, size);
    raft_free(data);
}
END_TEST

/* There is one form only: what decodes would be encoded like that. */
static void check_is_canonical(const uint8_t *data, size_t size)
{
    struct raft_configuration d;
    size_t again_size;
    uint8_t *again;

    if (raft_configuration_decode(&d, data, size)) {
        again = raft_configuration_encode(&d, &again_size);
        ck_assert_uint_eq(again_size, size);
        ck_assert_mem_eq(again, data, size);
        raft_free(again);
    }
    raft_configuration_release(&d);
}

/* Every cut, and every byte set to every value. */
START_TEST(malformed_bytes_are_refused)
{
    struct raft_configuration c = of(5), d;
    size_t size;
    uint8_t *data = raft_configuration_encode(&c, &size);

    for (size_t n = 0; n < size; n++) {
        uint8_t *cut = raft_alloc(n, 1);

        memcpy(cut, data, n);
        ck_assert(!raft_configuration_decode(&d, cut, n));
        ck_assert_ptr_null(d.servers);
        raft_free(cut);
    }
    for (size_t i = 0; i < size; i++) {
        uint8_t old = data[i];

        for (unsigned v = 0; v < 256; v++) {
            data[i] = (uint8_t)v;
            check_is_canonical(data, size);
        }
        data[i] = old;
    }
    raft_free(data);
}
END_TEST

START_TEST(order_and_doubles_are_refused)
{
    struct raft_configuration c = of(2), d;
    size_t size;
    uint8_t *data = raft_configuration_encode(&c, &size);

    data[5] = 2; /* ids 2, 2 */
    ck_assert(!raft_configuration_decode(&d, data, size));
    data[5] = 3; /* 3, 2 */
    ck_assert(!raft_configuration_decode(&d, data, size));
    data[5] = 0; /* 0, 2 */
    ck_assert(!raft_configuration_decode(&d, data, size));
    data[5] = 1;
    data[13] = RAFT_VOTER_DEMOTING + 1; /* no such role */
    ck_assert(!raft_configuration_decode(&d, data, size));
    raft_free(data);
}
END_TEST

START_TEST(A16_learners_are_not_counted)
{
    static const uint8_t two_and_learner[] = {1, 1, 0, 1, 0};
    static const uint8_t three[] = {1, 1, 0, 0, 1};
    struct raft_configuration c = of(5), nobody = {0};

    ck_assert(!config_is_quorum(&c, two_and_learner));
    ck_assert(config_is_quorum(&c, three));
    ck_assert(!config_is_voter(&c, 7));
    ck_assert(!config_is_voter(&c, 3));
    ck_assert(config_is_voter(&c, 9));
    ck_assert_uint_eq(config_find(&c, 9), 4);
    ck_assert_uint_eq(config_find(&c, 3), CONFIG_NOBODY);
    ck_assert(!config_is_quorum(&nobody, three));
    ck_assert(!config_is_sole_voter(&nobody, 1));
}
END_TEST

static const struct {
    size_t n;
    uint64_t values[5], quorum;
    const char *why;
} quorums[] = {
    {1, {7}, 7, "alone"},
    {2, {7, 5}, 5, "both of two"},
    {3, {7, 5, 6}, 6, "the middle of three"},
    {3, {7, 7, 0}, 7, "two of three"},
    {4, {9, 8, 7, 99}, 8, "the learner's is not looked at"},
    {5, {9, 1, 8, 99, 7}, 7, "three of four"},
    {5, {9, 1, 8, 99, 0}, 1, "three of four, one far behind"},
};

START_TEST(quorum_value_is_what_most_have)
{
    struct raft_configuration c = of(quorums[_i].n);
    uint64_t scratch[5];

    ck_assert_msg(config_quorum_value(&c, quorums[_i].values, scratch) ==
                      quorums[_i].quorum,
                  "%s", quorums[_i].why);
}
END_TEST

static void push(struct config_history *h, raft_index index, size_t n)
{
    struct raft_configuration c = of(n), copy;

    config_copy(&copy, &c);
    config_history_push(h, index, &copy);
}

START_TEST(B14_C3_truncation_brings_the_older_one_back)
{
    struct config_history h;

    config_history_init(&h, 0, NULL);
    push(&h, 1, 3);
    push(&h, 5, 4);
    push(&h, 6, 5);
    ck_assert_uint_eq(config_history_newest(&h)->n_servers, 5);
    ck_assert(!config_history_truncate(&h, 7));
    ck_assert(config_history_truncate(&h, 5)); /* two at once */
    ck_assert_uint_eq(config_history_newest(&h)->n_servers, 3);
    config_history_release(&h);
}
END_TEST

START_TEST(compaction_keeps_the_one_that_holds_there)
{
    struct config_history h;

    config_history_init(&h, 0, NULL);
    push(&h, 1, 3);
    push(&h, 5, 4);
    push(&h, 9, 5);
    config_history_compact(&h, 7);
    ck_assert_uint_eq(h.n, 2);
    ck_assert_uint_eq(h.items[0].index, 5);
    ck_assert(config_history_truncate(&h, 8));
    ck_assert_uint_eq(config_history_newest(&h)->n_servers, 4);
    config_history_release(&h);
}
END_TEST

START_TEST(within_looks_between)
{
    struct config_history h;

    config_history_init(&h, 0, NULL);
    push(&h, 1, 3);
    push(&h, 5, 4);
    ck_assert(config_history_within(&h, 0, 1));
    ck_assert(!config_history_within(&h, 1, 4));
    ck_assert(config_history_within(&h, 1, 5));
    ck_assert(config_history_within(&h, 4, 9));
    ck_assert(!config_history_within(&h, 5, 9));
    config_history_release(&h);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *t = tcase_create("config");

    tcase_add_test(t, what_is_encoded_is_decoded);
    tcase_add_test(t, bytes_are_the_same_everywhere);
    tcase_add_test(t, malformed_bytes_are_refused);
    tcase_add_test(t, order_and_doubles_are_refused);
    tcase_add_test(t, A16_learners_are_not_counted);
    tcase_add_loop_test(t, quorum_value_is_what_most_have, 0,
                        sizeof(quorums) / sizeof(quorums[0]));
    tcase_add_test(t, B14_C3_truncation_brings_the_older_one_back);
    tcase_add_test(t, compaction_keeps_the_one_that_holds_there);
    tcase_add_test(t, within_looks_between);
    suite_add_tcase(suite, t);
    return suite_run(suite);
}
