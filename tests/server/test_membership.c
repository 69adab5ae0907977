/*
 * test_membership.c - which changes of the members are allowed, what comes of
 * them, and what the applier and state.db keep of them.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "raft/base.h"
#include "raft/store.h"
#include "server/changeset.h"
#include "server/membership.h"
#include "server/rescue.h"
#include "suite.h"

#define KIND(name) PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__##name

typedef Pawl__Command__V1__MemberChange member_change;

static struct members members;
static bool active[16], caught_up[16];
static char *urls[16];

static void setup(void)
{
    memset(active, 0, sizeof(active));
    memset(caught_up, 0, sizeof(caught_up));
    for (size_t i = 0; i < ARRAY_LENGTH(urls); i++) {
        urls[i] = mem_printf("http://127.0.0.1:%zu", 1000 + i);
    }
}

static void teardown(void)
{
    suite_cleanup();
    members_release(&members);
    for (size_t i = 0; i < ARRAY_LENGTH(urls); i++) {
        free(urls[i]);
    }
}

/* Ids from 1 on, each with a URL of its own. */
static struct member *join(bool started, bool is_active)
{
    size_t i = members.n;
    struct member m = {.id = i + 1,
                       .name = (char *)(uintptr_t)(started ? "x" : ""),
                       .peer_urls = &urls[i],
                       .n_peer_urls = 1};

    active[i] = is_active;
    members_put(&members, &m);
    return &members.list[i];
}

static struct member *join_learner(bool to_vote)
{
    struct member *m = join(true, true);

    m->is_learner = true;
    m->auto_promote = to_vote;
    return m;
}

static enum status check(const member_change *change)
{
    struct membership_view v = {.leader = 1,
                                .members = &members,
                                .active = active,
                                .caught_up = caught_up};

    return membership_check(&v, change);
}

static member_change change_of(int kind, uint64_t id)
{
    member_change c = PAWL__COMMAND__V1__MEMBER_CHANGE__INIT;

    c.kind = (Pawl__Command__V1__MemberChange__Kind)kind;
    c.id = id;
    return c;
}

static enum status check_add(bool learner)
{
    member_change c = change_of(KIND(ADD), 99);

    c.is_learner = learner;
    c.peer_urls = &urls[15];
    c.n_peer_urls = 1;
    return check(&c);
}

static enum status check_id(int kind, uint64_t id)
{
    member_change c = change_of(kind, id);

    return check(&c);
}

/* ---- what is allowed -------------------------------------------------------
 */

/* Voters, of whom so many started and are active; the answers to adding a voter
 * and to removing one that is active, and one that is not (0: there is none).
 */
static const struct {
    size_t voters, started, active;
    enum status add, remove_active, remove_silent;
} quorums[] = {
    {1, 1, 1, ST_OK, ST_MEMBER_NOT_ENOUGH_STARTED, 0},
    /* etcd's exception is for a single started one, not for two */
    {2, 1, 1, ST_MEMBER_NOT_ENOUGH_STARTED, ST_MEMBER_NOT_ENOUGH_STARTED,
     ST_OK},
    {2, 2, 2, ST_OK, ST_OK, 0},
    {2, 2, 1, ST_UNHEALTHY, ST_UNHEALTHY, ST_OK},
    {3, 3, 3, ST_OK, ST_OK, 0},
    /* a fourth needs three of four */
    {3, 3, 2, ST_UNHEALTHY, ST_UNHEALTHY, ST_OK},
    {4, 4, 3, ST_OK, ST_OK, ST_OK},
    {5, 5, 3, ST_UNHEALTHY, ST_UNHEALTHY, ST_OK},
    {5, 5, 4, ST_OK, ST_OK, ST_OK},
};

START_TEST(C09_change_of_voters_needs_a_quorum_that_is_there)
{
    for (size_t q = 0; q < ARRAY_LENGTH(quorums); q++) {
        size_t voters = quorums[q].voters;

        for (size_t i = 0; i < voters; i++) {
            (void)join(i < quorums[q].started, i < quorums[q].active);
        }
        ck_assert_int_eq(check_add(false), quorums[q].add);
        ck_assert_int_eq(check_id(KIND(REMOVE), 1), quorums[q].remove_active);
        if (quorums[q].active < voters) {
            ck_assert_int_eq(check_id(KIND(REMOVE), voters),
                             quorums[q].remove_silent);
        }
        members_release(&members);
    }
}
END_TEST

START_TEST(C10_learner_is_welcome_while_a_member_is_down)
{
    (void)join(true, true);
    (void)join(true, true);
    (void)join(true, false);
    ck_assert_int_eq(check_add(true), ST_OK);
    ck_assert_int_eq(check_add(false), ST_UNHEALTHY);
    (void)join_learner(false);
    ck_assert_int_eq(check_add(true), ST_TOO_MANY_LEARNERS);
}
END_TEST

START_TEST(C09_one_that_is_to_vote_counts_for_the_next_add)
{
    (void)join(true, true);
    join_learner(true)->name[0] = '\0'; /* it never started */
    active[1] = false;
    ck_assert_int_eq(check_add(false), ST_MEMBER_NOT_ENOUGH_STARTED);
    ck_assert_int_eq(check_add(true), ST_OK);
}
END_TEST

START_TEST(C08_learner_that_lags_is_not_promoted)
{
    (void)join(true, true);
    (void)join_learner(false);
    ck_assert_int_eq(check_id(KIND(PROMOTE), 2), ST_LEARNER_NOT_READY);
    caught_up[1] = true;
    ck_assert_int_eq(check_id(KIND(PROMOTE), 2), ST_OK);
    ck_assert_int_eq(check_id(KIND(PROMOTE), 1), ST_MEMBER_NOT_LEARNER);
    ck_assert_int_eq(check_id(KIND(PROMOTE), 3), ST_MEMBER_NOT_FOUND);
}
END_TEST

START_TEST(C08_promotion_that_needs_a_silent_voter_waits)
{
    (void)join(true, true);
    (void)join(true, false);
    (void)join(true, false);
    (void)join_learner(false);
    caught_up[3] = true;
    ck_assert_int_eq(check_id(KIND(PROMOTE), 4), ST_UNHEALTHY);
    active[1] = true;
    ck_assert_int_eq(check_id(KIND(PROMOTE), 4), ST_OK);
}
END_TEST

START_TEST(A15_removed_ids_never_return)
{
    member_change c = change_of(KIND(ADD), 7);

    (void)join(true, true);
    members_put_removed(&members, 7);
    c.peer_urls = &urls[9];
    c.n_peer_urls = 1;
    c.is_learner = true;
    ck_assert_int_eq(check(&c), ST_MEMBER_NOT_FOUND);
    c.id = 1;
    ck_assert_int_eq(check(&c), ST_MEMBER_EXIST);
    c.id = 8;
    c.peer_urls = &urls[0];
    ck_assert_int_eq(check(&c), ST_PEER_URL_EXIST);
}
END_TEST

START_TEST(F06_only_a_silent_member_is_replaced_by_itself)
{
    member_change c = change_of(KIND(REPLACE), 2);

    (void)join(true, true);
    (void)join(true, true);
    c.new_id = 9;
    c.only_if_silent = true;
    c.peer_urls = &urls[1]; /* the same URL is fine: it goes */
    c.n_peer_urls = 1;
    ck_assert_int_eq(check(&c), ST_MEMBER_ALIVE);
    active[1] = false;
    ck_assert_int_eq(check(&c), ST_OK);
    c.peer_urls = &urls[0];
    ck_assert_int_eq(check(&c), ST_PEER_URL_EXIST);
    c.peer_urls = &urls[1];
    join_learner(true)->replaces = 2;
    ck_assert_int_eq(check(&c), ST_MEMBER_REPLACED);
}
END_TEST

/* ---- what comes of it ------------------------------------------------------
 */

static enum raft_server_role role_of(const struct raft_configuration *c,
                                     uint64_t id)
{
    for (size_t i = 0; i < c->n_servers; i++) {
        ck_assert(i == 0 || c->servers[i - 1].id < c->servers[i].id);
        if (c->servers[i].id == id) {
            return c->servers[i].role;
        }
    }
    return RAFT_VOTER_LEAVING; /* here: it is not there */
}

START_TEST(C09_new_voter_comes_as_a_learner)
{
    member_change c = change_of(KIND(ADD), 2);
    struct raft_configuration target;

    (void)join(true, true);
    (void)join(true, true);
    members.list[1].id = 3;
    c.peer_urls = &urls[9];
    c.n_peer_urls = 1;
    membership_target(&members, &c, &target);
    ck_assert_uint_eq(target.n_servers, 3);
    ck_assert_int_eq(role_of(&target, 1), RAFT_VOTER);
    ck_assert_int_eq(role_of(&target, 2), RAFT_LEARNER);
    ck_assert_int_eq(role_of(&target, 3), RAFT_VOTER);
    membership_target_release(&target);
}
END_TEST

START_TEST(C06_replaced_member_goes_as_the_other_comes)
{
    member_change c;
    struct raft_configuration target;

    (void)join(true, true);
    (void)join(true, false);
    join_learner(true)->replaces = 2;
    membership_promotion(&members, &members.list[2], &c);
    ck_assert_int_eq(c.kind, KIND(SWAP));
    caught_up[2] = true;
    ck_assert_int_eq(check(&c), ST_OK);
    membership_target(&members, &c, &target);
    ck_assert_uint_eq(target.n_servers, 2);
    ck_assert_int_eq(role_of(&target, 1), RAFT_VOTER);
    ck_assert_int_eq(role_of(&target, 3), RAFT_VOTER);
    membership_target_release(&target);
}
END_TEST

START_TEST(C07_learner_that_replaces_nobody_any_more_is_just_promoted)
{
    member_change c;

    (void)join(true, true);
    join_learner(true)->replaces = 17; /* removed meanwhile */
    membership_promotion(&members, &members.list[1], &c);
    ck_assert_int_eq(c.kind, KIND(PROMOTE));
}
END_TEST

START_TEST(ids_differ_by_time_and_urls_and_not_by_their_order)
{
    char *turned[] = {urls[1], urls[0]};

    ck_assert_uint_eq(membership_new_id(urls, 2, "t", 5),
                      membership_new_id(turned, 2, "t", 5));
    ck_assert_uint_ne(membership_new_id(urls, 2, "t", 5),
                      membership_new_id(urls, 2, "t", 6));
    ck_assert_uint_ne(membership_new_id(urls, 2, "t", 5),
                      membership_new_id(urls, 1, "t", 5));
    ck_assert_uint_ne(membership_new_id(urls, 2, "t", 5),
                      membership_new_id(urls, 2, "u", 5));
}
END_TEST

START_TEST(urls_that_nobody_could_call_are_bad)
{
    char *bad[] = {urls[0], (char *)(uintptr_t) "ftp://a:1"};
    char *twice[] = {urls[0], urls[0]};

    ck_assert(membership_urls_are_good(urls, 2));
    ck_assert(!membership_urls_are_good(urls, 0));
    ck_assert(!membership_urls_are_good(bad, 2));
    ck_assert(!membership_urls_are_good(twice, 2));
}
END_TEST

/* ---- applied ---------------------------------------------------------------
 */

static enum status publish(struct machine *m, uint64_t id, uint64_t store)
{
    Pawl__Command__V1__Command c = PAWL__COMMAND__V1__COMMAND__INIT;
    Pawl__Command__V1__MemberPublish p =
        PAWL__COMMAND__V1__MEMBER_PUBLISH__INIT;

    p.id = id;
    p.name = (char *)(uintptr_t) "n";
    p.store_id = store;
    c.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_MEMBER_PUBLISH;
    c.member_publish = &p;
    return machine_command(m, &c);
}

START_TEST(F06_store_that_was_published_first_counts)
{
    struct machine m;
    const struct members *ms;

    machine_init(&m, NULL, NULL);
    machine_configure(&m, 3);
    ms = applier_member_set(m.applier);
    ck_assert_int_eq(publish(&m, 2, 11), ST_OK);
    ck_assert_int_eq(publish(&m, 2, 12), ST_NOT_APPLIED);
    ck_assert_uint_eq(members_find(ms, 2)->store_id, 11);
    ck_assert_int_eq(publish(&m, 2, 11), ST_OK);
    machine_release(&m);
}
END_TEST

/* A configuration entry with that change, from the members as applied. */
static void apply_change(struct machine *m, member_change *c)
{
    struct raft_configuration target;
    uint8_t *data;
    size_t size;

    c->member = 5;
    c->incarnation = 6;
    c->request = 7;
    membership_target(applier_member_set(m->applier), c, &target);
    data = raft_configuration_encode(&target, &size);
    (void)machine_entry(m, RAFT_ENTRY_CONFIG, data, size);
    raft_free(data);
    membership_target_release(&target);
}

START_TEST(A15_who_left_is_remembered_and_the_asker_is_told)
{
    struct machine m;
    member_change c = change_of(KIND(REMOVE), 2);

    machine_init(&m, NULL, NULL);
    machine_configure(&m, 3);
    ck_assert_int_eq(publish(&m, 3, 33), ST_OK);
    apply_change(&m, &c);
    ck_assert_uint_eq(m.out.request, 7);
    ck_assert_uint_eq(m.out.member, 5);
    ck_assert(!m.out.half_done);
    ck_assert(applier_is_removed(m.applier, 2));
    ck_assert(!applier_is_removed(m.applier, 3));
    /* What was published stays as the list changes. */
    ck_assert_uint_eq(members_find(applier_member_set(m.applier), 3)->store_id,
                      33);
    ck_assert_str_eq(members_find(applier_member_set(m.applier), 3)->name, "n");
    machine_release(&m);
}
END_TEST

START_TEST(C07_state_db_keeps_what_members_are)
{
    struct statedb *db;
    struct machine m;
    struct applier *again = applier_new(NULL, NULL);
    member_change c = change_of(KIND(REPLACE), 2);
    struct changeset *changes;
    const struct member *found;
    char error[256], *file;

    file = mem_printf("%s/state.db", suite_directory());
    ck_assert_int_eq(statedb_open(file, NULL, 1, 2, &db, error, sizeof(error)),
                     STATEDB_OK);
    machine_init(&m, NULL, NULL);
    machine_configure(&m, 3);
    c.new_id = 9;
    c.peer_urls = &urls[9];
    c.n_peer_urls = 1;
    apply_change(&m, &c);
    ck_assert_int_eq(publish(&m, 9, UINT64_MAX), ST_OK);
    c = change_of(KIND(REMOVE), 1);
    apply_change(&m, &c);
    changes = applier_take_changes(m.applier);
    ck_assert_int_eq(statedb_write(db, &changes, 1), STATEDB_OK);
    changeset_free(changes);
    ck_assert_int_eq(statedb_load(db, again), STATEDB_OK);
    found = members_find(applier_member_set(again), 9);
    ck_assert_ptr_nonnull(found);
    ck_assert(found->is_learner && found->auto_promote);
    ck_assert_uint_eq(found->replaces, 2);
    ck_assert_uint_eq(found->store_id, UINT64_MAX);
    ck_assert(applier_is_removed(again, 1));
    ck_assert_uint_eq(applier_digest(again), applier_digest(m.applier));
    applier_free(again);
    machine_release(&m);
    statedb_close(db);
    free(file);
}
END_TEST

/* ---- a new cluster from one member's log -----------------------------------
 */

/* A log that ends in a joint configuration, with a learner. */
static void write_joint(struct store *s)
{
    struct raft_server servers[] = {{1, RAFT_VOTER},
                                    {2, RAFT_VOTER_LEAVING},
                                    {3, RAFT_VOTER_JOINING},
                                    {4, RAFT_LEARNER}};
    struct raft_configuration c = {.servers = servers, .n_servers = 4};
    struct raft_hard_state hs = {.term = 3, .commit = 1};
    struct raft_entry e[2] = {
        {.index = 1, .term = 1, .type = RAFT_ENTRY_CONFIG},
        {.index = 2,
         .term = 3,
         .type = RAFT_ENTRY_COMMAND,
         .size = 1,
         .data = (const uint8_t *)"x"}};
    struct store_batch batch = {
        .entries = e, .n_entries = 2, .hard_state = &hs};
    uint8_t *data = raft_configuration_encode(&c, &e[0].size);

    e[0].data = data;
    ck_assert_int_eq(store_write(s, &batch, 1), STORE_OK);
    raft_free(data);
}

static struct raft *start_core(const struct store_content *log)
{
    struct raft_config config;
    struct raft_start start = {.hard_state = log->hard_state,
                               .entries = log->entries,
                               .n_entries = log->n_entries};

    raft_config_defaults(&config);
    config.id = 1;
    config.seed = 1;
    return raft_new(&config, &start);
}

START_TEST(J08_forced_cluster_has_exactly_one_voter)
{
    struct store_options o = {.cluster_id = 1, .member_id = 1, .create = true};
    struct store_content log;
    const struct raft_configuration *now;
    struct store *s;
    struct raft *r;
    char error[256], *path;

    path = mem_printf("%s/raft.db", suite_directory());
    o.path = path;
    ck_assert_int_eq(store_open(&o, &s, error, sizeof(error)), STORE_OK);
    write_joint(s);
    ck_assert_int_eq(store_load(s, &log), STORE_OK);
    rescue_force(s, &log, 1, urls, 1);
    store_content_release(&log);
    ck_assert_int_eq(store_load(s, &log), STORE_OK);
    /* The entry that nobody knew to be committed is still there. */
    ck_assert_uint_eq(log.n_entries, 3);
    ck_assert_uint_eq(log.hard_state.commit, 3);
    ck_assert_uint_eq(log.hard_state.term, 4);
    r = start_core(&log);
    now = raft_configuration_now(r);
    ck_assert_uint_eq(now->n_servers, 1);
    ck_assert_uint_eq(now->servers[0].id, 1);
    ck_assert_int_eq(now->servers[0].role, RAFT_VOTER);
    raft_free_all(r);
    store_content_release(&log);
    store_close(s);
    free(path);
}
END_TEST

START_TEST(A15_store_remembers_which_it_is_and_that_it_is_removed)
{
    struct store_options o = {.cluster_id = 1,
                              .member_id = 1,
                              .create = true,
                              .joined = true,
                              .store_id = UINT64_MAX - 5};
    struct store *s;
    char error[256], *path;

    path = mem_printf("%s/raft.db", suite_directory());
    o.path = path;
    ck_assert_int_eq(store_open(&o, &s, error, sizeof(error)), STORE_OK);
    ck_assert(!store_is_removed(s));
    store_close(s);
    o.store_id = 3; /* for a new file only */
    o.joined = false;
    ck_assert_int_eq(store_open(&o, &s, error, sizeof(error)), STORE_OK);
    ck_assert_uint_eq(store_id(s), UINT64_MAX - 5);
    ck_assert(store_joined(s));
    ck_assert_int_eq(store_set_removed(s), STORE_OK);
    store_close(s);
    ck_assert_int_eq(store_open(&o, &s, error, sizeof(error)), STORE_OK);
    ck_assert(store_is_removed(s));
    ck_assert_uint_eq(store_id(s), UINT64_MAX - 5);
    store_close(s);
    free(path);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        C09_change_of_voters_needs_a_quorum_that_is_there,
        C10_learner_is_welcome_while_a_member_is_down,
        C09_one_that_is_to_vote_counts_for_the_next_add,
        C08_learner_that_lags_is_not_promoted,
        C08_promotion_that_needs_a_silent_voter_waits,
        A15_removed_ids_never_return,
        F06_only_a_silent_member_is_replaced_by_itself,
        C09_new_voter_comes_as_a_learner,
        C06_replaced_member_goes_as_the_other_comes,
        C07_learner_that_replaces_nobody_any_more_is_just_promoted,
        ids_differ_by_time_and_urls_and_not_by_their_order,
        urls_that_nobody_could_call_are_bad,
        F06_store_that_was_published_first_counts,
        A15_who_left_is_remembered_and_the_asker_is_told,
        C07_state_db_keeps_what_members_are,
        J08_forced_cluster_has_exactly_one_voter,
        A15_store_remembers_which_it_is_and_that_it_is_removed,
    };

    return suite_run_with("membership", tests, ARRAY_LENGTH(tests), setup,
                          teardown);
}
