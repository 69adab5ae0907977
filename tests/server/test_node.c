/*
 * test_node.c - three members in one process: the shipping node, core and
 * applier, with a network and a clock that the test moves by hand.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "raft/base.h"
#include "server/lock.h"
#include "server/node.h"
#include "server/wire.h"
#include "tests/suite.h"

#define NODES 3
#define PACKETS_MAX 100000

enum packet_kind { RAFT_PACKET, FORWARD_PACKET, RESULT_PACKET };

struct packet {
    enum packet_kind kind;
    raft_id from, to;
    uint8_t *data;
    size_t size;
};

struct world;

struct side {
    struct world *world;
    raft_id id;
    struct node *node;
    struct applier *applier;
    uint64_t batch;  /* newest handed to the disk */
    uint64_t stable; /* told to the node */
    bool disk_stuck;
    raft_index persisted;
    size_t state_writes;
};

struct world {
    uint64_t now_ms;
    struct side sides[NODES];
    struct packet packets[PACKETS_MAX];
    size_t n_packets;
    bool cut[NODES + 1][NODES + 1]; /* from, to */
};

static uint64_t incarnations; /* of all sides, from now on */

/* ---- effects
 * ------------------------------------------------------------------ */

static uint64_t now_ms(void *context)
{
    return ((struct side *)context)->world->now_ms;
}

static void log_append(void *context, const struct raft_ready *rd)
{
    ((struct side *)context)->batch = rd->batch;
}

static void log_compact(void *context, raft_index index,
                        const struct raft_configuration *configuration)
{
    (void)context;
    (void)index;
    (void)configuration;
}

static void put_packet(struct side *s, enum packet_kind kind, raft_id to,
                       const ProtobufCMessage *m)
{
    struct world *w = s->world;
    struct packet *p;

    if (w->cut[s->id][to]) {
        return;
    }
    ck_assert_uint_lt(w->n_packets, PACKETS_MAX);
    p = &w->packets[w->n_packets++];
    p->kind = kind;
    p->from = s->id;
    p->to = to;
    p->size = protobuf_c_message_get_packed_size(m);
    p->data = mem_alloc(p->size, 1);
    protobuf_c_message_pack(m, p->data);
}

static void send_messages(void *context, const struct raft_message *messages,
                          size_t n)
{
    struct arena arena;

    arena_init(&arena);
    for (size_t i = 0; i < n; i++) {
        put_packet(context, RAFT_PACKET, messages[i].to,
                   &wire_encode(&messages[i], &arena)->base);
    }
    arena_release(&arena);
}

static void forward(void *context, raft_id to,
                    const Pawl__Peer__V1__Forward *item)
{
    put_packet(context, FORWARD_PACKET, to, &item->base);
}

static void forward_reply(void *context, raft_id to,
                          const Pawl__Peer__V1__ForwardResult *item)
{
    put_packet(context, RESULT_PACKET, to, &item->base);
}

static void state_write(void *context, struct changeset *c)
{
    struct side *s = context;

    s->persisted = changeset_index(c);
    s->state_writes++;
    changeset_free(c);
}

static void members(void *context, const struct member *list, size_t n)
{
    (void)context;
    (void)list;
    ck_assert_uint_eq(n, NODES);
}

/* ---- the world
 * ------------------------------------------------------------------ */

static uint8_t *founding_entry(struct raft_entry *e)
{
    struct raft_server servers[NODES];
    struct member list[NODES] = {0};
    struct raft_configuration c = {.servers = servers, .n_servers = NODES};
    char *url = mem_strdup("http://127.0.0.1:1");
    uint8_t *data;

    for (size_t i = 0; i < NODES; i++) {
        servers[i] = (struct raft_server){i + 1, RAFT_VOTER};
        list[i] = (struct member){
            .id = i + 1, .name = url, .peer_urls = &url, .n_peer_urls = 1};
    }
    c.extra = members_encode(list, NODES, NULL, &c.extra_size);
    data = raft_configuration_encode(&c, &e->size);
    *e = (struct raft_entry){
        .index = 1, .term = 1, .type = RAFT_ENTRY_CONFIG, .size = e->size};
    e->data = data;
    free(c.extra);
    free(url);
    return data;
}

static void side_start(struct world *w, raft_id id, const struct raft_entry *e)
{
    struct side *s = &w->sides[id - 1];
    struct node_config config;
    struct node_env env = {
        .context = s,
        .now_ms = now_ms,
        .log_append = log_append,
        .log_compact = log_compact,
        .send = send_messages,
        .forward = forward,
        .forward_reply = forward_reply,
        .state_write = state_write,
        .members = members,
    };
    struct raft_start start = {
        .hard_state = {.term = 1, .commit = 1}, .entries = e, .n_entries = 1};

    node_config_defaults(&config);
    config.id = id;
    config.incarnation = 100 + id + incarnations;
    config.seed = id;
    s->world = w;
    s->id = id;
    s->applier = applier_new(NULL, NULL);
    s->node = node_new(&config, &env, &start, s->applier);
}

static struct world *world_new(void)
{
    struct world *w = mem_alloc(1, sizeof(*w));
    struct raft_entry e;
    uint8_t *data = founding_entry(&e);

    for (raft_id id = 1; id <= NODES; id++) {
        side_start(w, id, &e);
    }
    raft_free(data);
    return w;
}

static void world_free(struct world *w)
{
    for (size_t i = 0; i < NODES; i++) {
        node_free(w->sides[i].node);
        applier_free(w->sides[i].applier);
    }
    for (size_t i = 0; i < w->n_packets; i++) {
        free(w->packets[i].data);
    }
    free(w);
}

static void deliver(struct world *w, const struct packet *p)
{
    struct node *n = w->sides[p->to - 1].node;
    struct arena arena;

    arena_init(&arena);
    if (p->kind == RAFT_PACKET) {
        struct raft_message m;

        ck_assert(wire_decode(
            pawl__peer__v1__message__unpack(&arena.allocator, p->size, p->data),
            &arena, &m));
        (void)node_step(n, &m); /* stale ones are refused */
    } else if (p->kind == FORWARD_PACKET) {
        node_on_forward(n, p->from,
                        pawl__peer__v1__forward__unpack(&arena.allocator,
                                                        p->size, p->data));
    } else {
        node_on_forward_result(n, pawl__peer__v1__forward_result__unpack(
                                      &arena.allocator, p->size, p->data));
    }
    arena_release(&arena);
}

/* One round of all: disks, packets, node_round(). False if all is quiet. */
static bool world_step(struct world *w)
{
    size_t n = w->n_packets;
    bool busy = n > 0;

    for (size_t i = 0; i < n; i++) {
        struct packet *p = &w->packets[i];

        if (!w->cut[p->from][p->to]) {
            deliver(w, p);
        }
        free(p->data);
    }
    memmove(w->packets, w->packets + n,
            (w->n_packets - n) * sizeof(*w->packets));
    w->n_packets -= n;
    for (size_t i = 0; i < NODES; i++) {
        struct side *s = &w->sides[i];

        if (s->stable < s->batch && !s->disk_stuck) {
            s->stable = s->batch;
            node_stable(s->node, s->stable);
            busy = true;
        }
        if (s->state_writes > 0) {
            s->state_writes--;
            node_persisted(s->node, s->persisted);
        }
        node_round(s->node);
    }
    return busy || w->n_packets > 0;
}

static void settle(struct world *w)
{
    while (world_step(w)) {
    }
}

static void pass_tick(struct world *w)
{
    w->now_ms += 50;
    for (size_t i = 0; i < NODES; i++) {
        node_tick(w->sides[i].node);
    }
}

static void pass_ms(struct world *w, unsigned ms)
{
    for (unsigned i = 0; i < ms; i += 50) {
        pass_tick(w);
        settle(w);
    }
}

static raft_id leader_of(const struct world *w, raft_id among)
{
    for (size_t i = 0; i < NODES; i++) {
        struct raft *r = node_raft(w->sides[i].node);

        if (raft_role(r) == RAFT_LEADER && !w->cut[among][i + 1]) {
            return i + 1;
        }
    }
    return 0;
}

static void elect(struct world *w)
{
    settle(w);
    while (leader_of(w, 1) == 0) {
        ck_assert_uint_lt(w->now_ms, 60000);
        pass_ms(w, 50);
    }
    pass_ms(w, 200);
}

static void isolate(struct world *w, raft_id id, bool cut)
{
    for (raft_id other = 1; other <= NODES; other++) {
        if (other != id) {
            w->cut[id][other] = w->cut[other][id] = cut;
        }
    }
}

static raft_id follower_of(raft_id leader)
{
    return leader % NODES + 1;
}

static raft_id other_follower_of(raft_id leader)
{
    return follower_of(follower_of(leader));
}

/* ---- requests
 * -------------------------------------------------------------------- */

struct write {
    struct node_proposal proposal;
    struct arena arena;
    int done;
    enum status st;
    bool applied;
    int64_t revision;
};

static void write_done(struct node_proposal *p, enum status st,
                       const struct applied *result)
{
    struct write *w = (struct write *)p;

    w->done++;
    w->st = st;
    w->applied = result != NULL;
    w->revision = result != NULL ? result->revision : 0;
}

static void start_put(struct world *w, raft_id at, struct write *out,
                      const char *key, const char *value)
{
    Pawl__Command__V1__Command cmd = PAWL__COMMAND__V1__COMMAND__INIT;
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;

    memset(out, 0, sizeof(*out));
    arena_init(&out->arena);
    out->proposal.done = write_done;
    put.key.data = (uint8_t *)key;
    put.key.len = strlen(key);
    put.value.data = (uint8_t *)value;
    put.value.len = strlen(value);
    cmd.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_PUT;
    cmd.put = &put;
    node_propose(w->sides[at - 1].node, &out->proposal, &cmd, &out->arena,
                 false);
}

static void start_grant(struct world *w, raft_id at, struct write *out,
                        int64_t id, int64_t ttl_s)
{
    Pawl__Command__V1__Command cmd = PAWL__COMMAND__V1__COMMAND__INIT;
    Pawl__Command__V1__LeaseGrant grant = PAWL__COMMAND__V1__LEASE_GRANT__INIT;

    memset(out, 0, sizeof(*out));
    arena_init(&out->arena);
    out->proposal.done = write_done;
    grant.id = id;
    grant.ttl = ttl_s;
    cmd.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_LEASE_GRANT;
    cmd.lease_grant = &grant;
    node_propose(w->sides[at - 1].node, &out->proposal, &cmd, &out->arena,
                 false);
}

struct read {
    struct node_read read;
    int done;
    enum status st;
};

static void read_done(struct node_read *r, enum status st)
{
    struct read *x = (struct read *)r;

    x->done++;
    x->st = st;
}

static void start_read(struct world *w, raft_id at, struct read *out)
{
    *out = (struct read){.read.done = read_done};
    node_read(w->sides[at - 1].node, &out->read);
}

struct query {
    struct node_lease_query query;
    int done;
    enum status st;
    int64_t ttl_s;
};

static void query_done(struct node_lease_query *q, enum status st,
                       int64_t ttl_s, int64_t granted_ttl_s)
{
    struct query *x = (struct query *)q;

    (void)granted_ttl_s;
    x->done++;
    x->st = st;
    x->ttl_s = ttl_s;
}

static void start_renew(struct world *w, raft_id at, struct query *out,
                        int64_t id)
{
    *out =
        (struct query){.query = {.renew = true, .id = id, .done = query_done}};
    node_lease_query(w->sides[at - 1].node, &out->query);
}

static int64_t version_of(const struct world *w, raft_id at, const char *key)
{
    struct kv_change pair;
    struct slice k = {(const uint8_t *)key, strlen(key)};

    return kv_get(applier_kv(w->sides[at - 1].applier), k, &pair) ? pair.version
                                                                  : 0;
}

static bool has_lease(const struct world *w, raft_id at, int64_t id)
{
    return lease_exists(applier_leases(w->sides[at - 1].applier), id);
}

/* ---- tests
 * ------------------------------------------------------------------------- */

START_TEST(any_member_takes_writes_and_reads)
{
    struct world *w = world_new();
    struct write put[NODES];
    struct read read;

    elect(w);
    for (raft_id id = 1; id <= NODES; id++) {
        start_put(w, id, &put[id - 1], "k", "v");
        settle(w);
        ck_assert_int_eq(put[id - 1].done, 1);
        ck_assert_int_eq(put[id - 1].st, ST_OK);
        ck_assert_int_eq(put[id - 1].revision, 1 + (int64_t)id);
        arena_release(&put[id - 1].arena);
        for (raft_id at = 1; at <= NODES; at++) {
            start_read(w, at, &read);
            settle(w);
            ck_assert_int_eq(read.done, 1);
            ck_assert_int_eq(read.st, ST_OK);
            ck_assert_int_eq(version_of(w, at, "k"), (int64_t)id);
        }
    }
    world_free(w);
}
END_TEST

/* Figure: the leader has the entry alone, is cut off, and another one leads. */
START_TEST(B15_write_lost_with_its_leader_is_repeated_once)
{
    struct world *w = world_new();
    struct write put;
    raft_id leader, asker;

    elect(w);
    leader = leader_of(w, 1);
    asker = _i == 0 ? leader : follower_of(leader);
    if (asker == leader) {
        isolate(w, leader, true); /* appended there, never replicated */
        start_put(w, asker, &put, "k", "v");
        settle(w);
    } else {
        start_put(w, asker, &put, "k", "v");
        node_round(w->sides[asker - 1].node); /* forwarded */
        isolate(w, leader, true);             /* and lost on the way */
    }
    pass_ms(w, 3000);
    ck_assert_uint_ne(leader_of(w, follower_of(leader)), 0);
    if (asker == leader) {
        ck_assert_int_eq(put.done, 0);
        isolate(w, leader, false);
        pass_ms(w, 1000);
    }
    ck_assert_int_eq(put.done, 1);
    ck_assert_int_eq(put.st, ST_OK);
    isolate(w, leader, false);
    pass_ms(w, 3000);
    for (raft_id at = 1; at <= NODES; at++) {
        ck_assert_int_eq(version_of(w, at, "k"), 1);
    }
    arena_release(&put.arena);
    world_free(w);
}
END_TEST

/* An answer to the first sending comes when the second is on its way. */
START_TEST(B15_late_refusal_repeats_nothing)
{
    static const Pawl__Peer__V1__ForwardStatus statuses[] = {
        PAWL__PEER__V1__FORWARD_STATUS__FORWARD_NOT_LEADER,
        PAWL__PEER__V1__FORWARD_STATUS__FORWARD_BUSY};
    Pawl__Peer__V1__ForwardResult late = PAWL__PEER__V1__FORWARD_RESULT__INIT;
    struct world *w = world_new();
    struct node *node;
    struct write put;
    raft_id leader, asker;

    elect(w);
    leader = leader_of(w, 1);
    asker = follower_of(leader);
    node = w->sides[asker - 1].node;
    start_put(w, asker, &put, "k", "v");
    node_round(node);
    late.request = put.proposal.request;
    late.term = put.proposal.term;
    late.status = statuses[_i];
    isolate(w, leader, true);
    while (put.proposal.term <= late.term) {
        ck_assert_uint_lt(w->now_ms, 60000);
        if (!world_step(w)) {
            pass_tick(w);
        }
    }
    ck_assert_int_eq(put.done, 0);
    node_on_forward_result(node, &late);
    pass_ms(w, 1000);
    ck_assert_int_eq(put.done, 1);
    ck_assert_int_eq(put.st, ST_OK);
    ck_assert_int_eq(version_of(w, asker, "k"), 1);
    arena_release(&put.arena);
    world_free(w);
}
END_TEST

/* The leader may answer an earlier life of this member on a new stream. */
START_TEST(request_numbers_are_not_those_of_an_earlier_start)
{
    struct world *a = world_new(), *b;
    struct write first, second;
    struct query ask, ask_again;

    start_put(a, 1, &first, "k", "v");
    start_renew(a, 1, &ask, 1);
    incarnations = 7;
    b = world_new();
    incarnations = 0;
    start_put(b, 1, &second, "k", "v");
    start_renew(b, 1, &ask_again, 1);
    ck_assert_uint_ne(first.proposal.request, second.proposal.request);
    ck_assert_uint_ne(ask.query.request, ask_again.query.request);
    world_free(a);
    world_free(b);
    arena_release(&first.arena);
    arena_release(&second.arena);
}
END_TEST

/* The leader committed it and died before the asker heard: applied, once. */
START_TEST(write_that_the_dead_leader_committed_is_not_repeated)
{
    struct world *w = world_new();
    struct write put;
    raft_id leader, asker, third;

    elect(w);
    leader = leader_of(w, 1);
    asker = follower_of(leader);
    third = other_follower_of(leader);
    start_put(w, asker, &put, "k", "v");
    node_round(w->sides[asker - 1].node);
    w->cut[leader][asker] = true; /* the asker hears nothing any more */
    settle(w);
    ck_assert_int_eq(version_of(w, leader, "k"), 1);
    ck_assert_int_eq(put.done, 0);
    isolate(w, leader, true);
    pass_ms(w, 4000);
    ck_assert_int_eq(put.done, 1);
    ck_assert_int_eq(put.st, ST_OK);
    ck_assert_int_eq(version_of(w, asker, "k"), 1);
    ck_assert_int_eq(version_of(w, third, "k"), 1);
    arena_release(&put.arena);
    world_free(w);
}
END_TEST

START_TEST(minority_refuses_writes_and_reads)
{
    struct world *w = world_new();
    struct write put;
    struct read read;
    raft_id alone;

    elect(w);
    alone = follower_of(leader_of(w, 1));
    isolate(w, alone, true);
    pass_ms(w, 3000); /* it has given its leader up by now */
    start_put(w, alone, &put, "k", "v");
    start_read(w, alone, &read);
    pass_ms(w, 6500);
    ck_assert_int_eq(put.done + read.done, 0);
    pass_ms(w, 1000);
    ck_assert_int_eq(put.done, 1);
    ck_assert_int_eq(put.st, ST_NO_LEADER);
    ck_assert(!put.applied);
    ck_assert_int_eq(read.done, 1);
    ck_assert_int_eq(read.st, ST_NO_LEADER);
    isolate(w, alone, false);
    pass_ms(w, 3000);
    ck_assert_int_eq(version_of(w, alone, "k"), 0); /* and never applied */
    arena_release(&put.arena);
    world_free(w);
}
END_TEST

/* What certainly was not applied says so while the caller still listens. */
START_TEST(write_that_never_left_gives_up_in_time)
{
    struct world *w = world_new();
    struct write put;
    raft_id alone;

    elect(w);
    alone = follower_of(leader_of(w, 1));
    isolate(w, alone, true);
    pass_ms(w, 3000);
    start_put(w, alone, &put, "k", "v");
    put.proposal.give_up_ms = w->now_ms + 500;
    pass_ms(w, 450);
    ck_assert_int_eq(put.done, 0);
    pass_ms(w, 100);
    ck_assert_int_eq(put.done, 1);
    ck_assert_int_eq(put.st, ST_NO_LEADER);
    arena_release(&put.arena);
    world_free(w);
}
END_TEST

/* The leader has it in its log: nobody can say that it is not applied. */
START_TEST(write_under_way_does_not_give_up)
{
    struct world *w = world_new();
    struct write put;
    raft_id leader;

    elect(w);
    leader = leader_of(w, 1);
    isolate(w, leader, true);
    start_put(w, leader, &put, "k", "v");
    put.proposal.give_up_ms = w->now_ms + 500;
    pass_ms(w, 6900);
    ck_assert_int_eq(put.done, 0);
    pass_ms(w, 200);
    ck_assert_int_eq(put.done, 1);
    ck_assert_int_eq(put.st, ST_TIMEOUT_LEADER_FAILED);
    arena_release(&put.arena);
    world_free(w);
}
END_TEST

/* All notice at once that a killed leader's connections broke. */
START_TEST(leader_whose_links_broke_is_replaced_before_the_timeout)
{
    struct world *w = world_new();
    raft_id leader;
    uint64_t cut_ms;

    elect(w);
    leader = leader_of(w, 1);
    isolate(w, leader, true);
    cut_ms = w->now_ms;
    node_link_lost(w->sides[follower_of(leader) - 1].node, leader);
    node_link_lost(w->sides[other_follower_of(leader) - 1].node, leader);
    while (leader_of(w, follower_of(leader)) == 0) {
        pass_ms(w, 50);
    }
    ck_assert_uint_lt(w->now_ms - cut_ms,
                      1000); /* of a timeout in 1000..2000 */
    world_free(w);
}
END_TEST

/* One alone lost it: the others hear the leader, and nothing changes. */
START_TEST(leader_that_lives_survives_a_broken_link)
{
    struct world *w = world_new();
    raft_id leader;
    raft_term term;

    elect(w);
    leader = leader_of(w, 1);
    term = raft_term_now(node_raft(w->sides[leader - 1].node));
    for (int i = 0; i < 20; i++) {
        w->cut[leader][follower_of(leader)] = true;
        node_link_lost(w->sides[follower_of(leader) - 1].node, leader);
        pass_ms(w, 700);
        w->cut[leader][follower_of(leader)] = false;
        pass_ms(w, 300);
    }
    ck_assert_uint_eq(leader_of(w, 1), leader);
    ck_assert_uint_eq(raft_term_now(node_raft(w->sides[leader - 1].node)),
                      term);
    world_free(w);
}
END_TEST

START_TEST(E5_follower_reads_wait_for_the_leader_s_index)
{
    struct world *w = world_new();
    struct write put;
    struct read read;
    raft_id leader, behind;

    elect(w);
    leader = leader_of(w, 1);
    behind = follower_of(leader);
    w->sides[behind - 1].disk_stuck = true; /* cannot apply what it gets */
    start_put(w, leader, &put, "k", "v");
    settle(w);
    ck_assert_int_eq(put.done, 1);
    start_read(w, behind, &read);
    pass_ms(w, 300);
    ck_assert_int_eq(version_of(w, behind, "k"), 0);
    ck_assert_int_eq(read.done, 0);
    w->sides[behind - 1].disk_stuck = false;
    pass_ms(w, 300);
    ck_assert_int_eq(read.done, 1);
    ck_assert_int_eq(read.st, ST_OK);
    ck_assert_int_eq(version_of(w, behind, "k"), 1);
    arena_release(&put.arena);
    world_free(w);
}
END_TEST

START_TEST(forgotten_requests_are_not_answered)
{
    struct world *w = world_new();
    struct write put;
    struct read read;

    elect(w);
    start_put(w, 1, &put, "k", "v");
    node_forget(w->sides[0].node, &put.proposal);
    start_read(w, 1, &read);
    node_read_cancel(&read.read);
    pass_ms(w, 8000);
    ck_assert_int_eq(put.done + read.done, 0);
    arena_release(&put.arena);
    world_free(w);
}
END_TEST

START_TEST(lease_ends_after_its_ttl_and_not_before)
{
    struct world *w = world_new();
    struct write grant;
    struct query renew;
    raft_id leader;

    elect(w);
    leader = leader_of(w, 1);
    start_grant(w, follower_of(leader), &grant, 77, 5);
    settle(w);
    ck_assert_int_eq(grant.st, ST_OK);
    pass_ms(w, 4900);
    start_renew(w, follower_of(leader), &renew, 77); /* by way of the leader */
    settle(w);
    ck_assert_int_eq(renew.done, 1);
    ck_assert_int_eq(renew.ttl_s, 5);
    pass_ms(w, 4900);
    ck_assert(has_lease(w, leader, 77));
    pass_ms(w, 1000);
    for (raft_id at = 1; at <= NODES; at++) {
        ck_assert(!has_lease(w, at, 77));
    }
    start_renew(w, leader, &renew, 77);
    settle(w);
    ck_assert_int_eq(renew.done, 1);
    ck_assert_int_eq(renew.ttl_s, 0);
    arena_release(&grant.arena);
    world_free(w);
}
END_TEST

/* I1, I3: a deposed leader neither ends leases nor promises them. */
START_TEST(I1_deposed_leader_cannot_end_or_renew_a_lease)
{
    struct world *w = world_new();
    struct write grant;
    struct query old, new;
    raft_id leader, next;

    elect(w);
    leader = leader_of(w, 1);
    start_grant(w, leader, &grant, 77, 5);
    settle(w);
    isolate(w, leader, true);
    start_renew(w, leader, &old, 77);
    pass_ms(w, 4000);
    next = leader_of(w, follower_of(leader));
    ck_assert_uint_ne(next, 0);
    ck_assert_uint_ne(next, leader);
    ck_assert_int_eq(old.done, 0); /* it could not confirm its leadership */
    for (int i = 0; i < 4; i++) {  /* the owner lives at the new leader */
        start_renew(w, next, &new, 77);
        pass_ms(w, 2000);
        ck_assert_int_eq(new.ttl_s, 5);
    }
    isolate(w, leader, false);
    pass_ms(w, 1000);
    for (raft_id at = 1; at <= NODES; at++) {
        ck_assert(has_lease(w, at, 77));
    }
    if (old.done == 0) {
        node_lease_cancel(&old.query);
    }
    arena_release(&grant.arena);
    world_free(w);
}
END_TEST

/* I4: nobody could renew while there was no quorum. */
START_TEST(I4_leases_get_a_new_ttl_after_an_election)
{
    struct world *w = world_new();
    struct write grant;
    raft_id leader;

    elect(w);
    leader = leader_of(w, 1);
    start_grant(w, leader, &grant, 77, 5);
    settle(w);
    for (raft_id id = 1; id <= NODES; id++) {
        isolate(w, id, true);
    }
    pass_ms(w, 20000);
    for (raft_id id = 1; id <= NODES; id++) {
        isolate(w, id, false);
    }
    elect(w);
    ck_assert(has_lease(w, leader_of(w, 1), 77));
    pass_ms(w, 3000);
    ck_assert(has_lease(w, leader_of(w, 1), 77));
    pass_ms(w, 5000);
    ck_assert(!has_lease(w, leader_of(w, 1), 77));
    arena_release(&grant.arena);
    world_free(w);
}
END_TEST

/* A17: a member that was held up for long hears its leader before its timer. */
START_TEST(A17_stuck_disk_starts_no_election)
{
    struct world *w = world_new();
    raft_id leader;
    raft_term term;

    elect(w);
    leader = leader_of(w, 1);
    term = raft_term_now(node_raft(w->sides[leader - 1].node));
    w->sides[follower_of(leader) - 1].disk_stuck = true;
    pass_ms(w, 10000);
    w->sides[follower_of(leader) - 1].disk_stuck = false;
    pass_ms(w, 1000);
    ck_assert_uint_eq(leader_of(w, 1), leader);
    ck_assert_uint_eq(raft_term_now(node_raft(w->sides[leader - 1].node)),
                      term);
    world_free(w);
}
END_TEST

/* ---- snapshots
 * --------------------------------------------------------------------- */

/* The state of a member, as a snapshot would bring it. */
static struct applier *state_of(const struct world *w, raft_id at)
{
    struct raft *r = node_raft(w->sides[at - 1].node);
    struct applier *a = applier_new(NULL, NULL);
    struct arena arena;
    struct applied out;

    arena_init(&arena);
    for (raft_index i = 1; i <= raft_last_applied(r); i++) {
        applier_apply(a, raft_entry_at(r, i), &arena, &out);
    }
    arena_release(&arena);
    return a;
}

static void install(struct world *w, raft_id from, raft_id to)
{
    struct raft *r = node_raft(w->sides[from - 1].node);
    struct node *n = w->sides[to - 1].node;
    struct applier *loaded = state_of(w, from);
    struct raft_snapshot s = {.index = applier_index(loaded),
                              .term = applier_term(loaded)};

    s.configuration = *raft_configuration_at(r, s.index);
    ck_assert_int_eq(node_restore_begin(n, &s), RAFT_OK);
    node_restore_end(n, true, loaded);
    ck_assert_uint_eq(applier_index(w->sides[to - 1].applier), s.index);
    applier_free(loaded);
}

static int everything_changed;

static void note_everything(void *context, const struct kv_change *changes,
                            size_t n)
{
    (void)context;
    (void)changes;
    everything_changed += n == 0;
}

/*
 * A member's write is applied by the others and comes back to it in a snapshot.
 * Then an entry of a newer term proves nothing: proposed again it would be
 * applied twice.
 */
START_TEST(D10_a_write_that_came_back_in_a_snapshot_is_not_repeated)
{
    struct world *w = world_new();
    raft_id leader, asker, other;
    struct write put;
    struct read read;

    elect(w);
    leader = leader_of(w, 1);
    asker = follower_of(leader);
    other = other_follower_of(leader);
    everything_changed = 0;
    node_listen(w->sides[asker - 1].node, note_everything, NULL);
    w->cut[leader][asker] = w->cut[other][asker] = true;
    start_put(w, asker, &put, "k", "v");
    settle(w);
    ck_assert_int_eq(version_of(w, leader, "k"), 1);
    ck_assert_int_eq(put.done, 0);
    install(w, leader, asker);
    ck_assert_int_eq(version_of(w, asker, "k"), 1);
    ck_assert_int_eq(everything_changed, 1);
    isolate(w, leader, true); /* a newer term, at the asker as well */
    w->cut[other][asker] = false;
    pass_ms(w, 5000);
    ck_assert_uint_ne(leader_of(w, asker), 0);
    start_read(w, asker, &read);
    pass_ms(w, 5000);
    ck_assert_int_eq(read.st, ST_OK);
    ck_assert_int_eq(version_of(w, asker, "k"), 1);
    ck_assert_int_eq(version_of(w, other, "k"), 1);
    ck_assert_int_eq(put.done, 1);
    ck_assert_int_eq(put.st, ST_TIMEOUT);
    arena_release(&put.arena);
    node_listen(w->sides[asker - 1].node, NULL, NULL);
    world_free(w);
}
END_TEST

/* Nothing is given to state.db while another one is put in its place, and
 * nothing is applied (A11); if that fails all goes on as before. */
START_TEST(D6_nothing_is_applied_while_a_snapshot_is_installed)
{
    struct world *w = world_new();
    raft_id leader, behind;
    struct raft_snapshot s;
    struct write put;
    struct node *n;

    elect(w);
    leader = leader_of(w, 1);
    behind = follower_of(leader);
    n = w->sides[behind - 1].node;
    isolate(w, behind, true);
    start_put(w, leader, &put, "k", "v");
    settle(w);
    s = (struct raft_snapshot){
        .index = applier_index(w->sides[leader - 1].applier),
        .term = applier_term(w->sides[leader - 1].applier)};
    s.configuration =
        *raft_configuration_at(node_raft(w->sides[leader - 1].node), s.index);
    ck_assert_int_eq(node_restore_begin(n, &s), RAFT_OK);
    isolate(w, behind, false);
    w->sides[behind - 1].persisted = 0;
    pass_ms(w, 3000);
    ck_assert_int_eq(version_of(w, behind, "k"), 0);
    node_flush_state(n);
    ck_assert_uint_eq(w->sides[behind - 1].persisted, 0);
    node_restore_end(n, false, NULL);
    pass_ms(w, 1000);
    ck_assert_int_eq(version_of(w, behind, "k"), 1);
    arena_release(&put.arena);
    world_free(w);
}
END_TEST

/* F8: the disk of the leader hangs, without an error. */
START_TEST(F8_leader_with_a_stalled_disk_is_replaced)
{
    struct world *w = world_new();
    struct write put;
    raft_id leader, next = 0;

    elect(w);
    leader = leader_of(w, 1);
    w->sides[leader - 1].disk_stuck = true;
    start_put(w, follower_of(leader), &put, "k", "v");
    pass_ms(w, 4900); /* five election timeouts are the bound */
    ck_assert_uint_eq(leader_of(w, 1), leader);
    pass_ms(w, 3000);
    next = leader_of(w, 1);
    ck_assert_uint_ne(next, 0);
    ck_assert_uint_ne(next, leader);
    ck_assert_int_eq(put.done, 1);
    ck_assert_int_eq(put.st, ST_OK);
    arena_release(&put.arena);
    world_free(w);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("node");
    TCase *tc = tcase_create("node");

    tcase_add_test(tc, any_member_takes_writes_and_reads);
    tcase_add_loop_test(tc, B15_write_lost_with_its_leader_is_repeated_once, 0,
                        2);
    tcase_add_loop_test(tc, B15_late_refusal_repeats_nothing, 0, 2);
    tcase_add_test(tc, write_that_the_dead_leader_committed_is_not_repeated);
    tcase_add_test(tc, request_numbers_are_not_those_of_an_earlier_start);
    tcase_add_test(tc, minority_refuses_writes_and_reads);
    tcase_add_test(tc, write_that_never_left_gives_up_in_time);
    tcase_add_test(tc, write_under_way_does_not_give_up);
    tcase_add_test(tc, leader_whose_links_broke_is_replaced_before_the_timeout);
    tcase_add_test(tc, leader_that_lives_survives_a_broken_link);
    tcase_add_test(tc, E5_follower_reads_wait_for_the_leader_s_index);
    tcase_add_test(tc, forgotten_requests_are_not_answered);
    tcase_add_test(tc, lease_ends_after_its_ttl_and_not_before);
    tcase_add_test(tc, I1_deposed_leader_cannot_end_or_renew_a_lease);
    tcase_add_test(tc, I4_leases_get_a_new_ttl_after_an_election);
    tcase_add_test(tc, F8_leader_with_a_stalled_disk_is_replaced);
    tcase_add_test(tc, A17_stuck_disk_starts_no_election);
    tcase_add_test(tc,
                   D10_a_write_that_came_back_in_a_snapshot_is_not_repeated);
    tcase_add_test(tc, D6_nothing_is_applied_while_a_snapshot_is_installed);
    suite_add_tcase(s, tc);
    return suite_main(s);
}
