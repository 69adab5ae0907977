/*
 * test_members.c - the members change while the cluster works: nothing that
 * was acknowledged is lost, and nobody counts who should not.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster.h"
#include "program.h"
#include "writers.h"

#define REMOVED_STATUS 3
#define OTHER_STORE_STATUS 4

static const char heartbeat_ms[] = "30", election_ms[] = "250";

/* ---- a cluster whose members are not those of its founding -----------------
 */

/* n places; the first n_founders found it. */
static struct cluster *new_cluster(size_t n)
{
    return cluster_new(&(struct cluster_config){
        .n = n, .heartbeat_ms = heartbeat_ms, .election_ms = election_ms});
}

/* NAME=URL of the first n, and of place also if it is not one of them. */
static char *list_of(struct cluster *c, size_t n, size_t also)
{
    char *list = mem_strdup("");

    for (size_t i = 0; i < cluster_size(c); i++) {
        if (i < n || i == also) {
            char *longer = mem_printf("%s%sm%zu=http://%s", list,
                                      list[0] != '\0' ? "," : "", i + 1,
                                      cluster_peer_address(c, i));

            free(list);
            list = longer;
        }
    }
    return list;
}

static void start_founder(struct cluster *c, size_t i, size_t n_founders)
{
    char *list = list_of(c, n_founders, 0);
    const char *flags[] = {"--initial-cluster", list, NULL};

    cluster_start_with(c, i, flags);
    free(list);
}

/* Asks the first n who it is. */
static void start_joining(struct cluster *c, size_t i, size_t n)
{
    char *list = list_of(c, n, i);
    const char *flags[] = {"--initial-cluster", list, "--initial-cluster-state",
                           "existing", NULL};

    cluster_start_with(c, i, flags);
    free(list);
}

static void wipe(struct cluster *c, size_t i)
{
    const char *argv[] = {"/bin/rm", "-rf", "--", cluster_data_dir(c, i), NULL};

    ck_assert_int_eq(run_program(argv, PATIENCE_MS, NULL, 0), 0);
}

static struct answer put_at(struct cluster *c, size_t i, const char *key,
                            const char *value)
{
    struct client *client = client_new(cluster_address(c, i));
    struct answer a;

    client_set_timeout(client, PATIENCE_MS);
    a = client_put(client, key, value, 0, NULL);
    client_free(client);
    return a;
}

/* Waits for a leader, too. */
static void put(struct cluster *c, size_t i, const char *key, const char *value)
{
    uint64_t deadline_ms = clock_ms() + PATIENCE_MS;
    struct answer a = put_at(c, i, key, value);

    while (a.code == GRPC_UNAVAILABLE && clock_ms() < deadline_ms) {
        answer_release(&a);
        short_pause();
        a = put_at(c, i, key, value);
    }
    ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
    answer_release(&a);
}

static void assert_value(struct cluster *c, size_t i, const char *key,
                         const char *value)
{
    struct client *client = client_new(cluster_address(c, i));
    struct answer a = client_get(client, key, 0, false);

    ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
    ck_assert_uint_eq(a.range->n_kvs, value != NULL);
    if (value != NULL) {
        ck_assert_uint_eq(a.range->kvs[0]->value.len, strlen(value));
        ck_assert_mem_eq(a.range->kvs[0]->value.data, value, strlen(value));
    }
    answer_release(&a);
    client_free(client);
}

/* ---- calls -----------------------------------------------------------------
 */

static struct answer ask(struct cluster *c, size_t via, const char *path,
                         const ProtobufCMessage *rq,
                         const ProtobufCMessageDescriptor *rs)
{
    struct client *client = client_new(cluster_address(c, via));
    struct answer a;

    client_set_timeout(client, PATIENCE_MS);
    a = client_call(client, path, rq, rs);
    client_free(client);
    return a;
}

static struct answer try_add_url(struct cluster *c, size_t via, const char *url,
                                 bool learner)
{
    Etcdserverpb__MemberAddRequest rq = ETCDSERVERPB__MEMBER_ADD_REQUEST__INIT;
    char *urls[] = {(char *)(uintptr_t)url};

    rq.peerurls = urls;
    rq.n_peerurls = 1;
    rq.islearner = learner;
    return ask(c, via, "/etcdserverpb.Cluster/MemberAdd", &rq.base,
               &etcdserverpb__member_add_response__descriptor);
}

static struct answer try_add(struct cluster *c, size_t via, size_t i,
                             bool learner)
{
    char *url = mem_printf("http://%s", cluster_peer_address(c, i));
    struct answer a = try_add_url(c, via, url, learner);

    free(url);
    return a;
}

static uint64_t added_id(struct answer *a)
{
    uint64_t id;

    ck_assert_msg(a->code == GRPC_OK, "%s", a->text);
    id = ((Etcdserverpb__MemberAddResponse *)a->any)->member->id;
    answer_release(a);
    return id;
}

static uint64_t add(struct cluster *c, size_t via, size_t i, bool learner)
{
    struct answer a = try_add(c, via, i, learner);

    return added_id(&a);
}

static struct answer try_remove(struct cluster *c, size_t via, uint64_t id)
{
    Etcdserverpb__MemberRemoveRequest rq =
        ETCDSERVERPB__MEMBER_REMOVE_REQUEST__INIT;

    rq.id = id;
    return ask(c, via, "/etcdserverpb.Cluster/MemberRemove", &rq.base,
               &etcdserverpb__member_remove_response__descriptor);
}

static struct answer try_promote(struct cluster *c, size_t via, uint64_t id)
{
    Etcdserverpb__MemberPromoteRequest rq =
        ETCDSERVERPB__MEMBER_PROMOTE_REQUEST__INIT;

    rq.id = id;
    return ask(c, via, "/etcdserverpb.Cluster/MemberPromote", &rq.base,
               &etcdserverpb__member_promote_response__descriptor);
}

static struct answer try_update(struct cluster *c, size_t via, uint64_t id,
                                const char *url)
{
    Etcdserverpb__MemberUpdateRequest rq =
        ETCDSERVERPB__MEMBER_UPDATE_REQUEST__INIT;
    char *urls[] = {(char *)(uintptr_t)url};

    rq.id = id;
    rq.peerurls = urls;
    rq.n_peerurls = 1;
    return ask(c, via, "/etcdserverpb.Cluster/MemberUpdate", &rq.base,
               &etcdserverpb__member_update_response__descriptor);
}

static uint64_t replace(struct cluster *c, size_t via, uint64_t id, size_t i)
{
    Pawl__V1__ReplaceRequest rq = PAWL__V1__REPLACE_REQUEST__INIT;
    char *url = mem_printf("http://%s", cluster_peer_address(c, i));
    struct answer a;
    uint64_t new_id;

    rq.id = id;
    rq.peer_urls = &url;
    rq.n_peer_urls = 1;
    a = ask(c, via, "/pawl.v1.Cluster/Replace", &rq.base,
            &pawl__v1__add_response__descriptor);
    free(url);
    ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
    new_id = ((Pawl__V1__AddResponse *)a.any)->member->id;
    answer_release(&a);
    return new_id;
}

static void assert_refused(struct answer a, enum grpc_code code,
                           const char *text)
{
    ck_assert_msg(a.code == code, "%s: %s", grpc_code_name((int)a.code),
                  a.text);
    ck_assert_str_eq(a.text, text);
    answer_release(&a);
}

static struct answer list(struct cluster *c, size_t via)
{
    Etcdserverpb__MemberListRequest rq =
        ETCDSERVERPB__MEMBER_LIST_REQUEST__INIT;

    rq.linearizable = true;
    return ask(c, via, "/etcdserverpb.Cluster/MemberList", &rq.base,
               &etcdserverpb__member_list_response__descriptor);
}

struct count {
    size_t voters, learners, started;
    bool has; /* the member that was asked about */
};

static struct count count(struct cluster *c, size_t via, uint64_t id)
{
    struct answer a = list(c, via);
    struct count n = {0};

    if (a.code == GRPC_OK) {
        const Etcdserverpb__MemberListResponse *rs =
            (const Etcdserverpb__MemberListResponse *)a.any;

        for (size_t i = 0; i < rs->n_members; i++) {
            bool learner = rs->members[i]->islearner;

            n.voters += !learner;
            n.learners += learner;
            n.started += rs->members[i]->n_clienturls > 0; /* published */
            n.has = n.has || rs->members[i]->id == id;
        }
    }
    answer_release(&a);
    return n;
}

/* Wait until that many vote and nobody is a learner. */
static void wait_voters(struct cluster *c, size_t via, size_t voters)
{
    uint64_t deadline_ms = clock_ms() + PATIENCE_MS;
    struct count n;

    while (n = count(c, via, 0),
           n.voters != voters || n.learners != 0 || n.started != voters) {
        ck_assert_msg(clock_ms() < deadline_ms,
                      "%zu voters, %zu learners, %zu started", n.voters,
                      n.learners, n.started);
        short_pause();
    }
}

/* founders run and lead; the other places are empty. */
static struct cluster *up(size_t n, size_t n_founders)
{
    struct cluster *c = new_cluster(n);

    for (size_t i = 0; i < n_founders; i++) {
        start_founder(c, i, n_founders);
    }
    put(c, 0, "first", "1");
    wait_voters(c, 0, n_founders); /* all have told which data they have */
    return c;
}

static uint64_t id_of(struct cluster *c, size_t i)
{
    uint64_t deadline_ms = clock_ms() + PATIENCE_MS;
    struct member_status s;

    while (!cluster_status(c, i, &s)) {
        ck_assert_uint_lt(clock_ms(), deadline_ms);
        short_pause();
    }
    return s.member;
}

static void wait_writes(struct run *r, uint64_t n)
{
    uint64_t start = atomic_load(&r->acknowledged);
    uint64_t deadline_ms = clock_ms() + PATIENCE_MS;

    while (atomic_load(&r->acknowledged) < start + n) {
        ck_assert_msg(clock_ms() < deadline_ms, "no writes");
        short_pause();
    }
}

static void verify(struct run *r, struct writers *w)
{
    writers_stop(w);
    cluster_settle(r->cluster);
    writers_verify(w);
    writers_report(w);
    run_assert_clean(r);
    writers_free(w);
}

/* It ends by itself, and again when it is started. */
static void assert_stays_down(struct cluster *c, size_t i)
{
    ck_assert_int_eq(cluster_wait_exit(c, i), REMOVED_STATUS);
    start_founder(c, i, cluster_size(c));
    ck_assert_int_eq(cluster_wait_exit(c, i), REMOVED_STATUS);
    ck_assert(cluster_log_has(c, i, "removed from its cluster"));
}

/* ---- growing and shrinking -------------------------------------------------
 */

START_TEST(C07_members_grow_from_one_to_five_and_shrink_under_load)
{
    struct run r = {.cluster = up(5, 1)};
    struct writers *w = writers_new(&r, 4, 1);

    writers_start(w);
    for (size_t i = 1; i < 5; i++) {
        (void)add(r.cluster, i - 1, i, false);
        start_joining(r.cluster, i, i);
        wait_voters(r.cluster, 0, i + 1);
        wait_writes(&r, 50);
    }
    verify(&r, w);
    /* Who votes is known to those who start again (C7). */
    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq(cluster_stop(r.cluster, i), 0);
    }
    for (size_t i = 0; i < 5; i++) {
        start_founder(r.cluster, i, 1 + (i > 0) * 4);
    }
    put(r.cluster, 4, "again", "1");
    wait_voters(r.cluster, 4, 5);
    for (size_t i = 4; i > 0; i--) {
        uint64_t id = id_of(r.cluster, i);
        struct answer a = try_remove(r.cluster, 0, id);

        ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
        answer_release(&a);
        assert_stays_down(r.cluster, i);
        wait_voters(r.cluster, 0, i);
        put(r.cluster, 0, "left", "x");
    }
    cluster_free(r.cluster);
}
END_TEST

/* Over and over, each time back as another member. */
START_TEST(C05_leader_is_removed_under_load)
{
    struct run r = {.cluster = up(3, 3)};
    struct writers *w = writers_new(&r, 4, 1);

    writers_start(w);
    for (int round = 0; round < 3; round++) {
        size_t leader = cluster_leader(r.cluster);
        size_t other = (leader + 1) % 3;
        struct answer a;

        wait_writes(&r, 50);
        a = try_remove(r.cluster, round == 0 ? leader : other,
                       id_of(r.cluster, leader));
        ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
        answer_release(&a);
        ck_assert_int_eq(cluster_wait_exit(r.cluster, leader), REMOVED_STATUS);
        wait_writes(&r, 50);
        wipe(r.cluster, leader);
        (void)add(r.cluster, other, leader, false);
        start_joining(r.cluster, leader, 3);
        wait_voters(r.cluster, other, 3);
    }
    verify(&r, w);
    cluster_free(r.cluster);
}
END_TEST

START_TEST(C06_a_dead_member_is_replaced_in_one_step)
{
    struct cluster *c = up(4, 3);
    uint64_t dead = id_of(c, 2), id;

    cluster_kill(c, 2);
    id = replace(c, 1, dead, 3);
    ck_assert_uint_eq(count(c, 0, dead).voters, 3); /* it still counts */
    ck_assert(count(c, 0, dead).has);
    start_joining(c, 3, 2);
    wait_voters(c, 0, 3);
    ck_assert(!count(c, 0, dead).has);
    ck_assert(count(c, 0, id).has);
    assert_value(c, 3, "first", "1");
    /* The dead one comes back, and is told. */
    start_founder(c, 2, 3);
    ck_assert_int_eq(cluster_wait_exit(c, 2), REMOVED_STATUS);
    cluster_free(c);
}
END_TEST

/* The leader itself is replaced, while writes go on. */
START_TEST(C06_the_leader_is_replaced_under_load)
{
    struct run r = {.cluster = up(4, 3)};
    struct writers *w = writers_new(&r, 4, 1);
    struct member_status s;
    size_t leader = 0;

    ck_assert(cluster_status(r.cluster, 0, &s));
    while (id_of(r.cluster, leader) != s.leader) {
        leader++;
    }
    writers_start(w);
    wait_writes(&r, 50);
    (void)replace(r.cluster, (leader + 1) % 3, s.leader, 3);
    wait_writes(&r, 20);
    start_joining(r.cluster, 3, 3);
    ck_assert_int_eq(cluster_wait_exit(r.cluster, leader), REMOVED_STATUS);
    wait_voters(r.cluster, (leader + 1) % 3, 3);
    wait_writes(&r, 50);
    writers_stop(w);
    run_assert_clean(&r);
    writers_report(w);
    writers_free(w);
    cluster_free(r.cluster);
}
END_TEST

/* ---- what must not cost a quorum -------------------------------------------
 */

START_TEST(C09_a_wrong_address_costs_no_quorum)
{
    struct cluster *c = up(1, 1);
    char *nowhere = free_address();
    char *url = mem_printf("http://%s", nowhere);
    struct answer a = try_add_url(c, 0, url, false);
    uint64_t id = added_id(&a);

    put(c, 0, "k", "v");
    ck_assert_uint_eq(count(c, 0, id).voters, 1);
    assert_refused(try_promote(c, 0, id), GRPC_FAILED_PRECONDITION,
                   status_text(ST_LEARNER_NOT_READY));
    a = try_remove(c, 0, id); /* undone */
    ck_assert_int_eq(a.code, GRPC_OK);
    answer_release(&a);
    ck_assert(!count(c, 0, id).has);
    put(c, 0, "k", "w");
    free(url);
    free(nowhere);
    cluster_free(c);
}
END_TEST

START_TEST(C10_a_learner_may_come_while_a_member_is_down)
{
    struct cluster *c = up(4, 3);
    uint64_t id;

    cluster_kill(c, cluster_leader(c) == 2 ? 1 : 2);
    put(c, 0, "k", "v");
    /* A fourth voter would need three of four, and there are two. */
    for (uint64_t end_ms = clock_ms() + PATIENCE_MS; clock_ms() < end_ms;) {
        struct answer a = try_add(c, 0, 3, false);

        if (a.code != GRPC_OK) {
            assert_refused(a, GRPC_UNAVAILABLE, status_text(ST_UNHEALTHY));
            break;
        }
        a = try_remove(c, 0, added_id(&a)); /* it was not missed yet */
        answer_release(&a);
    }
    id = add(c, 0, 3, true);
    start_joining(c, 3, 1);
    ck_assert_uint_eq(id_of(c, 3), id);
    ck_assert(count(c, 0, id).has);
    cluster_free(c);
}
END_TEST

START_TEST(C08_changes_that_make_no_sense_are_refused_as_etcd_does)
{
    struct cluster *c = up(3, 1);
    uint64_t self = id_of(c, 0), id;
    char *url = mem_printf("http://%s", cluster_peer_address(c, 0));
    struct answer a;

    assert_refused(try_remove(c, 0, 0x123), GRPC_NOT_FOUND,
                   "etcdserver: member not found");
    assert_refused(try_promote(c, 0, 0x123), GRPC_NOT_FOUND,
                   "etcdserver: member not found");
    assert_refused(try_update(c, 0, 0x123, "http://a:1"), GRPC_NOT_FOUND,
                   "etcdserver: member not found");
    assert_refused(try_promote(c, 0, self), GRPC_FAILED_PRECONDITION,
                   "etcdserver: can only promote a learner member");
    assert_refused(try_add_url(c, 0, url, true), GRPC_FAILED_PRECONDITION,
                   "etcdserver: Peer URLs already exists");
    assert_refused(try_add_url(c, 0, "nonsense", true), GRPC_INVALID_ARGUMENT,
                   "etcdserver: given member URLs are invalid");
    /* The last voter does not go (C12). */
    assert_refused(try_remove(c, 0, self), GRPC_UNKNOWN,
                   "etcdserver: re-configuration failed due to not enough "
                   "started members");
    id = add(c, 0, 1, true);
    assert_refused(try_add(c, 0, 2, true), GRPC_FAILED_PRECONDITION,
                   "etcdserver: too many learner members in cluster");
    assert_refused(try_promote(c, 0, id), GRPC_FAILED_PRECONDITION,
                   "etcdserver: can only promote a learner member which is in "
                   "sync with leader");
    assert_refused(try_update(c, 0, id, url), GRPC_FAILED_PRECONDITION,
                   "etcdserver: Peer URLs already exists");
    a = try_remove(c, 0, id);
    ck_assert_int_eq(a.code, GRPC_OK);
    answer_release(&a);
    assert_refused(try_remove(c, 0, id), GRPC_NOT_FOUND,
                   "etcdserver: member not found");
    /* One that is to vote and never started holds up the next (CLU8). */
    (void)add(c, 0, 1, false);
    assert_refused(try_add(c, 0, 2, false), GRPC_UNKNOWN,
                   "etcdserver: re-configuration failed due to not enough "
                   "started members");
    free(url);
    cluster_free(c);
}
END_TEST

START_TEST(A16_a_learner_serves_what_is_asked_for_as_it_stands)
{
    struct cluster *c = up(2, 1);
    struct client *client;
    struct answer a;
    struct member_status s;
    uint64_t id = add(c, 0, 1, true);
    uint64_t deadline_ms = clock_ms() + PATIENCE_MS;

    start_joining(c, 1, 1);
    while (!cluster_status(c, 1, &s) || s.revision < 2) {
        ck_assert_uint_lt(clock_ms(), deadline_ms);
        short_pause();
    }
    client = client_new(cluster_address(c, 1));
    a = client_status(client);
    ck_assert(a.status->islearner);
    answer_release(&a);
    a = client_get(client, "first", 0, true);
    ck_assert_int_eq(a.code, GRPC_OK);
    ck_assert_uint_eq(a.range->n_kvs, 1);
    answer_release(&a);
    assert_refused(client_get(client, "first", 0, false),
                   GRPC_FAILED_PRECONDITION,
                   "etcdserver: rpc not supported for learner");
    assert_refused(client_put(client, "k", "v", 0, NULL),
                   GRPC_FAILED_PRECONDITION,
                   "etcdserver: rpc not supported for learner");
    assert_refused(client_lease_grant(client, 0, 10), GRPC_FAILED_PRECONDITION,
                   "etcdserver: rpc not supported for learner");
    client_free(client);
    a = try_promote(c, 0, id);
    ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
    answer_release(&a);
    put(c, 1, "k", "v");
    cluster_free(c);
}
END_TEST

START_TEST(C11_a_member_moves_to_another_address)
{
    struct cluster *c = up(3, 3);
    char *address = free_address();
    char *url = mem_printf("http://%s", address);
    const char *flags[] = {"--listen-peer-urls",
                           url,
                           "--initial-advertise-peer-urls",
                           url,
                           "--initial-cluster-state",
                           "existing",
                           NULL};
    uint64_t id = id_of(c, 2);
    struct answer a;

    ck_assert_int_eq(cluster_stop(c, 2), 0);
    a = try_update(c, 0, id, url);
    ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
    answer_release(&a);
    cluster_start_with(c, 2, flags);
    put(c, 2, "k", "v");
    cluster_settle(c);
    ck_assert_uint_eq(id_of(c, 2), id);
    free(address);
    free(url);
    cluster_free(c);
}
END_TEST

/* ---- identity --------------------------------------------------------------
 */

START_TEST(F06_a_wiped_member_comes_back_as_a_learner_under_a_new_id)
{
    struct run r = {.cluster = up(3, 3)};
    struct writers *w = writers_new(&r, 4, 1);
    size_t victim = (cluster_leader(r.cluster) + 1) % 3;
    size_t other = (victim + 1) % 3;
    uint64_t id = id_of(r.cluster, victim);

    writers_start(w);
    wait_writes(&r, 50);
    cluster_kill(r.cluster, victim);
    wipe(r.cluster, victim);
    start_founder(r.cluster, victim, 3); /* as its unit file always has */
    ck_assert_uint_ne(id_of(r.cluster, victim), id);
    wait_voters(r.cluster, other, 3);
    ck_assert(!count(r.cluster, other, id).has);
    ck_assert(cluster_log_has(r.cluster, victim, "asking to join again"));
    wait_writes(&r, 50);
    verify(&r, w);
    cluster_free(r.cluster);
}
END_TEST

/* Nobody was there to tell it; then they come. */
START_TEST(A15_a_wiped_member_that_founded_again_is_refused)
{
    struct cluster *c = up(3, 3);
    uint64_t id = id_of(c, 2);

    put(c, 0, "k", "v");
    cluster_settle(c);
    for (size_t i = 0; i < 3; i++) {
        cluster_kill(c, i);
    }
    wipe(c, 2);
    start_founder(c, 2, 3);
    (void)id_of(c, 2); /* it runs, with the old id */
    start_founder(c, 0, 3);
    start_founder(c, 1, 3);
    ck_assert_int_eq(cluster_wait_exit(c, 2), OTHER_STORE_STATUS);
    ck_assert(cluster_log_has(c, 2, "had another data directory"));
    put(c, 0, "k2", "v2");
    assert_value(c, 0, "k", "v");
    wipe(c, 2);
    start_founder(c, 2, 3);
    ck_assert_uint_ne(id_of(c, 2), id);
    wait_voters(c, 0, 3);
    put(c, 2, "k3", "v3");
    assert_value(c, 2, "k", "v");
    cluster_free(c);
}
END_TEST

/* ---- the ways back ---------------------------------------------------------
 */

START_TEST(J08_one_member_goes_on_as_a_new_cluster)
{
    struct cluster *c = up(4, 3);
    char *founders = list_of(c, 3, 0);
    const char *flags[] = {"--initial-cluster", founders, "--force-new-cluster",
                           NULL};
    uint64_t learner = add(c, 0, 3, true);

    put(c, 0, "k", "v");
    for (size_t i = 0; i < 3; i++) {
        cluster_kill(c, i);
    }
    cluster_start_with(c, 2, flags);
    put(c, 2, "k2", "v2");
    assert_value(c, 2, "k2", "v2");
    ck_assert_uint_eq(count(c, 2, learner).voters, 1);
    ck_assert_uint_eq(count(c, 2, learner).learners, 0);
    ck_assert_int_eq(cluster_stop(c, 2), 0);
    start_founder(c, 2, 3); /* without the flag */
    put(c, 2, "k3", "v3");
    wait_voters(c, 2, 1);
    /* Those who were left out are told so when they come back. */
    start_founder(c, 0, 3);
    ck_assert_int_eq(cluster_wait_exit(c, 0), REMOVED_STATUS);
    wipe(c, 0);
    (void)add(c, 2, 0, false);
    start_joining(c, 0, 3);
    wait_voters(c, 2, 2);
    assert_value(c, 0, "k3", "v3");
    free(founders);
    cluster_free(c);
}
END_TEST

static void restore(struct cluster *c, size_t from, size_t to, int expected)
{
    char *file = mem_printf("%s/state.db", cluster_data_dir(c, from));
    char *peer = mem_printf("http://%s", cluster_peer_address(c, to));
    const char *argv[] = {pawld_path(),
                          "--data-dir",
                          cluster_data_dir(c, to),
                          "--initial-advertise-peer-urls",
                          peer,
                          "--restore-from",
                          file,
                          NULL};
    char output[4096];
    int status = run_program(argv, PATIENCE_MS, output, sizeof(output));

    ck_assert_msg(status == expected, "status %d: %s", status, output);
    free(file);
    free(peer);
}

static struct cluster *with_lease_and_key(int64_t *revision, uint64_t *id)
{
    struct cluster *c = up(2, 1);
    struct client *client = client_new(cluster_address(c, 0));
    struct answer a = client_lease_grant(client, 77, 600);

    ck_assert_int_eq(a.code, GRPC_OK);
    answer_release(&a);
    a = client_put(client, "held", "x", 77, NULL);
    ck_assert_int_eq(a.code, GRPC_OK);
    *revision = a.put->header->revision;
    *id = a.put->header->cluster_id;
    answer_release(&a);
    client_free(client);
    return c;
}

START_TEST(J07_a_backup_becomes_a_new_cluster_beyond_every_revision)
{
    int64_t revision;
    uint64_t old_cluster;
    struct cluster *c = with_lease_and_key(&revision, &old_cluster);
    struct member_status s;
    struct client *client;
    struct answer a;

    ck_assert_int_eq(cluster_stop(c, 0), 0);
    restore(c, 0, 1, 0);
    restore(c, 0, 1, 1);    /* nothing is ever overwritten */
    start_joining(c, 1, 1); /* flags say nothing to one that has data */
    put(c, 1, "k", "v");
    ck_assert(cluster_status(c, 1, &s));
    ck_assert_uint_ne(s.cluster, old_cluster);
    ck_assert_int_gt(s.revision, revision + 1000000000);
    assert_value(c, 1, "first", "1");
    assert_value(c, 1, "held", NULL); /* leases ended, and what hung on them */
    client = client_new(cluster_address(c, 1));
    a = client_get(client, "held", revision, false); /* history stays */
    ck_assert_int_eq(a.code, GRPC_OK);
    ck_assert_uint_eq(a.range->n_kvs, 1);
    answer_release(&a);
    a = client_lease_time_to_live(client, 77);
    ck_assert_int_eq(a.time_to_live->ttl, -1);
    answer_release(&a);
    client_free(client);
    wait_voters(c, 1, 1);
    cluster_free(c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("members");
    TCase *tc = tcase_create("members");

    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, C07_members_grow_from_one_to_five_and_shrink_under_load);
    tcase_add_test(tc, C05_leader_is_removed_under_load);
    tcase_add_test(tc, C06_a_dead_member_is_replaced_in_one_step);
    tcase_add_test(tc, C06_the_leader_is_replaced_under_load);
    tcase_add_test(tc, C09_a_wrong_address_costs_no_quorum);
    tcase_add_test(tc, C10_a_learner_may_come_while_a_member_is_down);
    tcase_add_test(tc, C08_changes_that_make_no_sense_are_refused_as_etcd_does);
    tcase_add_test(tc, A16_a_learner_serves_what_is_asked_for_as_it_stands);
    tcase_add_test(tc, C11_a_member_moves_to_another_address);
    tcase_add_test(tc,
                   F06_a_wiped_member_comes_back_as_a_learner_under_a_new_id);
    tcase_add_test(tc, A15_a_wiped_member_that_founded_again_is_refused);
    tcase_add_test(tc, J08_one_member_goes_on_as_a_new_cluster);
    tcase_add_test(tc,
                   J07_a_backup_becomes_a_new_cluster_beyond_every_revision);
    suite_add_tcase(s, tc);
    return program_run(s);
}
