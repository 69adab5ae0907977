/*
 * The index against a model that is an array: every answer that the tree
 * gives must be the array's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raft/base.h"
#include "server/index.h"
#include "tests/server/suite.h"

#define KEYS 3000u

struct thing {
    struct index_item item;
    bool is_in;
    char key[24];
};

static struct thing things[KEYS]; /* in key order */
static struct index *ix;

static struct slice key_of(unsigned i)
{
    return (struct slice){(uint8_t *)things[i].key, strlen(things[i].key)};
}

static void setup(void)
{
    ix = index_new();
    for (unsigned i = 0; i < KEYS; i++) {
        struct thing *t = &things[i];

        /* Of different lengths, so that some are prefixes of others. */
        *t = (struct thing){0};
        snprintf(t->key, sizeof(t->key), i % 3 == 0 ? "k%05u" : "k%05u/%u",
                 i - i % 3, i % 3);
        t->item.key = (uint8_t *)t->key;
        t->item.key_size = (uint32_t)strlen(t->key);
    }
}

static size_t model_rank(unsigned end)
{
    size_t n = 0;

    for (unsigned i = 0; i < end; i++) {
        n += things[i].is_in && things[i].item.live;
    }
    return n;
}

static void insert(unsigned i, bool live)
{
    things[i].item.live = live;
    things[i].is_in = true;
    index_insert(ix, &things[i].item);
}

static void change_one(struct rng *g)
{
    unsigned i = (unsigned)rng_below(g, KEYS);
    struct thing *t = &things[i];

    if (!t->is_in) {
        insert(i, rng_below(g, 2) == 0);
    } else if (rng_below(g, 3) == 0) {
        index_remove(ix, &t->item);
        t->is_in = false;
    } else {
        index_set_live(ix, &t->item, !t->item.live);
    }
}

/* From i on, as the index walks and as the model does. */
static void compare_walk(unsigned from, bool live_only)
{
    struct index_cursor c;
    struct index_item *item = index_seek(ix, key_of(from), live_only, &c);

    for (unsigned i = from; i < KEYS; i++) {
        if (things[i].is_in && (things[i].item.live || !live_only)) {
            ck_assert_ptr_eq(item, &things[i].item);
            item = index_next(&c);
        }
    }
    ck_assert_ptr_null(item);
    ck_assert_ptr_null(index_next(&c));
}

static void compare(struct rng *g)
{
    unsigned i = (unsigned)rng_below(g, KEYS);

    index_check(ix);
    ck_assert_uint_eq(index_count(ix), model_rank(KEYS));
    ck_assert_uint_eq(index_rank(ix, key_of(i)), model_rank(i));
    ck_assert_ptr_eq(index_find(ix, key_of(i)),
                     things[i].is_in ? &things[i].item : NULL);
    compare_walk(i, false);
    compare_walk(i, true);
}

START_TEST(random_changes_agree_with_the_model)
{
    struct rng g;

    rng_init(&g, 1);
    setup();
    for (unsigned round = 0; round < 400; round++) {
        for (unsigned i = 0; i < 100; i++) {
            change_one(&g);
        }
        compare(&g);
    }
    index_free(ix, NULL);
}
END_TEST

START_TEST(grows_and_shrinks_in_key_order_both_ways)
{
    struct rng g;

    rng_init(&g, 2);
    setup();
    for (unsigned i = 0; i < KEYS; i++) {
        insert(i, true);
    }
    compare(&g);
    for (unsigned i = 0; i < KEYS; i++) {
        index_remove(ix, &things[i].item);
        things[i].is_in = false;
        if (i % 100 == 0) {
            compare(&g);
        }
    }
    for (unsigned i = KEYS; i-- > 0;) {
        insert(i, true);
    }
    compare(&g);
    for (unsigned i = KEYS; i-- > 0;) {
        index_remove(ix, &things[i].item);
        things[i].is_in = false;
    }
    compare(&g);
    ck_assert_uint_eq(index_count(ix), 0);
    index_free(ix, NULL);
}
END_TEST

START_TEST(dead_items_are_found_but_not_counted)
{
    struct index_cursor c;

    setup();
    insert(1, false);
    insert(2, true);
    ck_assert_ptr_eq(index_find(ix, key_of(1)), &things[1].item);
    ck_assert_uint_eq(index_count(ix), 1);
    ck_assert_uint_eq(index_rank(ix, key_of(2)), 0);
    ck_assert_ptr_eq(index_seek(ix, key_of(0), true, &c), &things[2].item);
    ck_assert_ptr_eq(index_seek(ix, key_of(0), false, &c), &things[1].item);
    index_free(ix, NULL);
}
END_TEST

START_TEST(an_empty_index_answers)
{
    struct index_cursor c;

    setup();
    ck_assert_ptr_null(index_find(ix, key_of(0)));
    ck_assert_ptr_null(index_seek(ix, key_of(0), false, &c));
    ck_assert_ptr_null(index_next(&c));
    ck_assert_uint_eq(index_rank(ix, key_of(0)), 0);
    index_free(ix, NULL);
    index_free(NULL, NULL);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        random_changes_agree_with_the_model,
        grows_and_shrinks_in_key_order_both_ways,
        dead_items_are_found_but_not_counted,
        an_empty_index_answers,
    };

    return suite_run("index", tests, ARRAY_LENGTH(tests));
}
