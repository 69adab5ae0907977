/*
 * peers.c - a struct link for each other member: what we call there, and what
 * it calls here.
 */
#include "server/peers.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/logger.h"
#include "server/members.h"
#include "server/url.h"
#include "server/wire.h"

#define PROTOCOL_VERSION 1
#define RECONNECT_MS 100
#define CONNECT_TIMEOUT_MS 2000
#define REFUSED_LOG_MS 10000 /* a refusal repeats with every attempt */
/* More than Raft's own window: past it the link is stuck, drop. */
#define QUEUED_BYTES_MAX ((size_t)64 << 20)
#define STRANGERS_MAX 16

static const char other_store[] =
    "pawl: the member has lost its data: what it voted and acknowledged before "
    "is not known to it any more";

/* One of the two connections to a member. */
struct lane {
    struct link *link;
    const char *path;
    const ProtobufCMessageDescriptor *answer;
    struct rpc_channel *channel;
    struct rpc_call *call; /* NULL: no stream now */
    uint64_t tried_ms;     /* when it was opened last */
    uint64_t refused_ms;   /* when a refusal was logged last */
    bool greeted;          /* our Hello is on its way */
    bool up;               /* theirs has come */
};

/* Messages that gather until peers_flush(). */
struct gather {
    struct arena arena;
    void **items;
    size_t n, capacity;
};

enum link_kind { LINK_MEMBER, LINK_STRANGER, LINK_DEPARTING };

struct link {
    struct peers *peers;
    raft_id id;
    enum link_kind kind;
    uint64_t until_ms; /* DEPARTING: its end */
    bool listed;       /* in the list that is being taken over */
    char *address;
    LIST_HEAD(, inbound) inbounds;
    struct lane raft, forward;
    struct gather forwards;         /* Pawl__Peer__V1__Forward */
    struct gather replies;          /* Pawl__Peer__V1__ForwardResult */
    struct rpc_call *their_forward; /* the stream that they opened; NULL */
};

struct peers {
    struct rpc_loop *loop;
    struct peers_config config;
    struct node *node;
    struct link **links; /* ascending by id */
    size_t n_links;
    struct member *expected; /* id and store_id alone */
    size_t n_expected;
    struct arena arena;
};

/* A stream that another member opened. */
struct inbound {
    LIST_ENTRY(inbound) entry; /* of the link's, if it has one */
    struct rpc_call *call;
    struct link *link; /* NULL until its Hello was accepted */
};

struct peers *peers_new(struct rpc_loop *loop, const struct peers_config *c)
{
    struct peers *p = mem_alloc(1, sizeof(*p));

    p->loop = loop;
    p->config = *c;
    arena_init(&p->arena);
    return p;
}

void peers_set_node(struct peers *p, struct node *node)
{
    p->node = node;
}

static struct link *find_link(struct peers *p, raft_id id)
{
    for (size_t i = 0; i < p->n_links; i++) {
        if (p->links[i]->id == id) {
            return p->links[i];
        }
    }
    return NULL;
}

/* ---- gathering
 * ---------------------------------------------------------------- */

static void gather_add(struct gather *g, void *item)
{
    if (g->n == g->capacity) {
        g->capacity = g->n > 0 ? g->n * 2 : 64;
        g->items = mem_realloc(g->items, g->capacity, sizeof(*g->items));
    }
    g->items[g->n++] = item;
}

static void gather_reset(struct gather *g)
{
    g->n = 0;
    arena_reset(&g->arena);
}

static void gather_release(struct gather *g)
{
    arena_release(&g->arena);
    free(g->items);
}

/* ---- what we call at the other member
 * -------------------------------------------- */

static void hello_init(const struct peers *p, raft_id to,
                       Pawl__Peer__V1__Hello *h)
{
    pawl__peer__v1__hello__init(h);
    h->cluster = p->config.cluster_id;
    h->from = p->config.self;
    h->to = to;
    h->incarnation = p->config.incarnation;
    h->version = PROTOCOL_VERSION;
    h->store = p->config.store_id;
    h->peer_urls = (char **)p->config.peer_urls; /* only read */
    h->n_peer_urls = p->config.n_peer_urls;
}

static const struct members *known_members(const struct peers *p)
{
    return applier_member_set(node_applier(p->node));
}

/* Is that another data directory than the member is known to have? */
static bool has_other_store(const struct peers *p, raft_id id, uint64_t store)
{
    const struct member *m = members_find(known_members(p), id);

    if (m != NULL && m->store_id != 0) {
        return m->store_id != store;
    }
    for (size_t i = 0; i < p->n_expected; i++) {
        if (p->expected[i].id == id) {
            return p->expected[i].store_id != store;
        }
    }
    return false;
}

void peers_expect_store(struct peers *p, raft_id id, uint64_t store_id)
{
    for (size_t i = 0; i < p->n_expected; i++) {
        if (p->expected[i].id == id) {
            return; /* the first one counts */
        }
    }
    p->expected =
        mem_realloc(p->expected, p->n_expected + 1, sizeof(*p->expected));
    p->expected[p->n_expected++] =
        (struct member){.id = id, .store_id = store_id};
}

/* They know something of us that we do not. */
static void heed(const struct peers *p, enum grpc_code code, const char *text)
{
    enum peers_refusal why = 0;

    if (code != GRPC_FAILED_PRECONDITION || text == NULL) {
        return;
    }
    if (strcmp(text, status_text(ST_REMOVED)) == 0) {
        why = PEERS_REMOVED;
    } else if (strcmp(text, other_store) == 0) {
        why = PEERS_OTHER_STORE;
    }
    if (why != 0 && p->config.on_refused != NULL) {
        p->config.on_refused(p->config.context, why);
    }
}

static void lane_closed(struct lane *l, enum grpc_code code, const char *text)
{
    uint64_t now_ms = clock_ms();
    bool refused = code == GRPC_FAILED_PRECONDITION &&
                   now_ms - l->refused_ms >= REFUSED_LOG_MS;

    l->call = NULL;
    l->greeted = false;
    if (refused) {
        l->refused_ms = now_ms;
    }
    if (l->up || refused) {
        log_line(LOG_WARN, "link to %" PRIx64 " (%s) is down: %s: %s",
                 l->link->id, l->link->address, grpc_code_name((int)code),
                 text != NULL ? text : "");
    }
    l->up = false;
    heed(l->link->peers, code, text);
}

static void on_raft_close(struct rpc_call *c, enum grpc_code code,
                          const char *text, bool maybe_processed)
{
    struct lane *l = rpc_call_context(c);
    bool was_up = l->up;

    (void)maybe_processed; /* lost messages are nothing new to Raft */
    lane_closed(l, code, text);
    if (was_up && code == GRPC_UNAVAILABLE) {
        node_link_lost(l->link->peers->node, l->link->id);
    }
}

/* Is that whom we called? If not the stream ends. h may be NULL: later
 * messages have none. */
static bool check_answer(struct rpc_call *c, const Pawl__Peer__V1__Hello *h)
{
    struct lane *l = rpc_call_context(c);
    struct link *k = l->link;

    if (h == NULL ||
        (h->from == k->id && h->cluster == k->peers->config.cluster_id &&
         !has_other_store(k->peers, k->id, h->store))) {
        return true;
    }
    if (clock_ms() - l->refused_ms >= REFUSED_LOG_MS) {
        l->refused_ms = clock_ms();
        log_line(LOG_WARN,
                 "who answers at %s is not member %" PRIx64
                 " as it was: %s; no messages are sent there",
                 k->address, k->id,
                 h->from != k->id ? "it is another one"
                                  : "it has lost its data");
    }
    rpc_call_cancel(c);
    return false;
}

static void on_hello(struct rpc_call *c, const ProtobufCMessage *m)
{
    struct lane *l = rpc_call_context(c);

    if (check_answer(c, (const Pawl__Peer__V1__Hello *)m) && !l->up) {
        l->up = true;
        log_line(LOG_INFO, "link to %" PRIx64 " (%s) is up", l->link->id,
                 l->link->address);
    }
}

static void on_forward_reply(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Pawl__Peer__V1__ForwardReply *reply =
        (const Pawl__Peer__V1__ForwardReply *)m;
    struct lane *l = rpc_call_context(c);

    if (!check_answer(c, reply->hello)) {
        return;
    }
    l->up = true;
    for (size_t i = 0; i < reply->n_items; i++) {
        node_on_forward_result(l->link->peers->node, reply->items[i]);
    }
}

static const struct rpc_call_events raft_events = {
    .on_message = on_hello,
    .on_close = on_raft_close,
};

static const struct rpc_call_events forward_events = {
    .on_message = on_forward_reply,
    .on_close = on_raft_close,
};

/* The lane's stream, opened if need be; NULL: not now. */
static struct rpc_call *lane_stream(struct lane *l,
                                    const struct rpc_call_events *events)
{
    uint64_t now_ms = clock_ms();

    if (l->call == NULL && now_ms - l->tried_ms >= RECONNECT_MS) {
        l->tried_ms = now_ms;
        l->call = rpc_call_start(l->channel, l->path, l->answer, NULL, 0, 0,
                                 events, l);
    }
    if (l->call != NULL && rpc_call_queued(l->call) > QUEUED_BYTES_MAX) {
        return NULL;
    }
    return l->call;
}

static void lane_init(struct lane *l, struct link *link, const char *path,
                      const ProtobufCMessageDescriptor *answer)
{
    struct rpc_channel_config config = {
        .address = link->address,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
    };

    rpc_limits_defaults(&config.limits);
    config.limits.message_bytes_max = (size_t)64 << 20;
    config.limits.ping_interval_ms = 2000;
    config.limits.ping_timeout_ms = 4000;
    l->link = link;
    l->path = path;
    l->answer = answer;
    l->channel = rpc_channel_new(link->peers->loop, &config);
}

static void link_open(struct link *k, const char *address)
{
    k->address = mem_strdup(address);
    lane_init(&k->raft, k, "/pawl.peer.v1.Peer/Raft",
              &pawl__peer__v1__hello__descriptor);
    lane_init(&k->forward, k, "/pawl.peer.v1.Peer/Forward",
              &pawl__peer__v1__forward_reply__descriptor);
}

static void link_shut(struct link *k)
{
    rpc_channel_free(k->raft.channel);
    rpc_channel_free(k->forward.channel);
    free(k->address);
}

/* In its place among the others. */
static struct link *link_new(struct peers *p, raft_id id, const char *address)
{
    struct link *k = mem_alloc(1, sizeof(*k));
    size_t i = p->n_links++;

    k->peers = p;
    k->id = id;
    LIST_INIT(&k->inbounds);
    arena_init(&k->forwards.arena);
    arena_init(&k->replies.arena);
    link_open(k, address);
    p->links = mem_realloc(p->links, p->n_links, sizeof(*p->links));
    for (; i > 0 && p->links[i - 1]->id > id; i--) {
        p->links[i] = p->links[i - 1];
    }
    p->links[i] = k;
    return k;
}

static void inbound_leave(struct inbound *in)
{
    if (in->link != NULL) {
        if (in->link->their_forward == in->call) {
            in->link->their_forward = NULL;
        }
        LIST_REMOVE(in, entry);
        in->link = NULL;
    }
}

static void link_free(struct link *k, enum status why)
{
    struct inbound *in;

    while ((in = LIST_FIRST(&k->inbounds)) != NULL) {
        struct rpc_call *call = in->call;

        inbound_leave(in);
        rpc_call_fail(call, why);
    }
    link_shut(k);
    gather_release(&k->forwards);
    gather_release(&k->replies);
    free(k);
}

/* The link of a member that is to be called there. */
static void list_member(struct peers *p, raft_id id, const char *address)
{
    struct link *k = find_link(p, id);

    if (k == NULL) {
        k = link_new(p, id, address);
    } else if (strcmp(k->address, address) != 0) {
        log_line(LOG_INFO, "member %" PRIx64 " moved from %s to %s", id,
                 k->address, address);
        link_shut(k);
        link_open(k, address);
    }
    k->kind = LINK_MEMBER;
    k->listed = true;
}

static void unlist(struct peers *p, struct link *k)
{
    if (k->listed || k->kind != LINK_MEMBER) {
        return;
    }
    k->kind = LINK_STRANGER;
    if (p->node != NULL && members_is_removed(known_members(p), k->id)) {
        k->kind = LINK_DEPARTING;
        k->until_ms = clock_ms() + p->config.departing_ms;
    }
}

void peers_set_members(struct peers *p, const struct member *members, size_t n)
{
    for (size_t i = 0; i < p->n_links; i++) {
        p->links[i]->listed = false;
    }
    for (size_t i = 0; i < n; i++) {
        const struct member *m = &members[i];
        char *address =
            m->n_peer_urls > 0 ? url_address(m->peer_urls[0]) : NULL;

        if (m->id != p->config.self && address != NULL) {
            list_member(p, m->id, address);
        }
        free(address);
    }
    for (size_t i = 0; i < p->n_links; i++) {
        unlist(p, p->links[i]);
    }
}

static bool is_over(const struct link *k, uint64_t now_ms)
{
    switch (k->kind) {
    case LINK_STRANGER:
        return LIST_EMPTY(&k->inbounds);
    case LINK_DEPARTING:
        return now_ms >= k->until_ms;
    default:
        return false;
    }
}

/* Here and not where they end: no channel may be freed from its own events. */
static void sweep(struct peers *p)
{
    uint64_t now_ms = clock_ms();
    size_t n = 0;

    for (size_t i = 0; i < p->n_links; i++) {
        struct link *k = p->links[i];

        if (is_over(k, now_ms)) {
            link_free(k, k->kind == LINK_DEPARTING ? ST_REMOVED : ST_STOPPED);
        } else {
            p->links[n++] = k;
        }
    }
    p->n_links = n;
}

void peers_free(struct peers *p)
{
    if (p == NULL) {
        return;
    }
    for (size_t i = 0; i < p->n_links; i++) {
        link_free(p->links[i], ST_STOPPED);
    }
    free(p->links);
    free(p->expected);
    arena_release(&p->arena);
    free(p);
}

static void send_batch(struct peers *p, struct link *k,
                       Pawl__Peer__V1__Message **messages, size_t n)
{
    struct rpc_call *call = lane_stream(&k->raft, &raft_events);
    Pawl__Peer__V1__RaftBatch batch = PAWL__PEER__V1__RAFT_BATCH__INIT;
    Pawl__Peer__V1__Hello hello;

    if (call == NULL) {
        return;
    }
    if (!k->raft.greeted) {
        hello_init(p, k->id, &hello);
        batch.hello = &hello;
        k->raft.greeted = true;
    }
    batch.messages = messages;
    batch.n_messages = n;
    rpc_call_send(call, &batch.base);
}

void peers_send(void *context, const struct raft_message *messages, size_t n)
{
    struct peers *p = context;
    Pawl__Peer__V1__Message **list;

    arena_reset(&p->arena);
    list = arena_alloc(&p->arena, n * sizeof(*list));
    for (size_t i = 0; i < p->n_links; i++) {
        size_t count = 0;

        for (size_t j = 0; j < n; j++) {
            if (messages[j].to == p->links[i]->id) {
                list[count++] = wire_encode(&messages[j], &p->arena);
            }
        }
        if (count > 0) {
            send_batch(p, p->links[i], list, count);
        }
    }
}

void peers_forward(void *context, raft_id to,
                   const Pawl__Peer__V1__Forward *item)
{
    struct peers *p = context;
    struct link *k = find_link(p, to);
    Pawl__Peer__V1__Forward *copy;

    if (k == NULL) {
        return;
    }
    copy = arena_copy(&k->forwards.arena, item, sizeof(*item));
    if (copy->what_case == PAWL__PEER__V1__FORWARD__WHAT_PROPOSE) {
        copy->propose.data = arena_copy(&k->forwards.arena, item->propose.data,
                                        item->propose.len);
    } else if (copy->what_case == PAWL__PEER__V1__FORWARD__WHAT_MEMBER_CHANGE) {
        copy->member_change.data =
            arena_copy(&k->forwards.arena, item->member_change.data,
                       item->member_change.len);
    }
    gather_add(&k->forwards, copy);
}

void peers_forward_reply(void *context, raft_id to,
                         const Pawl__Peer__V1__ForwardResult *item)
{
    struct peers *p = context;
    struct link *k = find_link(p, to);

    if (k != NULL && k->their_forward != NULL) {
        gather_add(&k->replies,
                   arena_copy(&k->replies.arena, item, sizeof(*item)));
    }
}

static void flush_forwards(struct peers *p, struct link *k)
{
    struct rpc_call *call = lane_stream(&k->forward, &forward_events);
    Pawl__Peer__V1__ForwardRequest request =
        PAWL__PEER__V1__FORWARD_REQUEST__INIT;
    Pawl__Peer__V1__Hello hello;

    if (call != NULL) {
        if (!k->forward.greeted) {
            hello_init(p, k->id, &hello);
            request.hello = &hello;
            k->forward.greeted = true;
        }
        request.items = (Pawl__Peer__V1__Forward **)k->forwards.items;
        request.n_items = k->forwards.n;
        rpc_call_send(call, &request.base);
    }
    gather_reset(&k->forwards);
}

static void flush_replies(struct link *k)
{
    Pawl__Peer__V1__ForwardReply reply = PAWL__PEER__V1__FORWARD_REPLY__INIT;

    if (k->their_forward != NULL) {
        reply.items = (Pawl__Peer__V1__ForwardResult **)k->replies.items;
        reply.n_items = k->replies.n;
        rpc_call_send(k->their_forward, &reply.base);
    }
    gather_reset(&k->replies);
}

void peers_flush(struct peers *p)
{
    sweep(p);
    for (size_t i = 0; i < p->n_links; i++) {
        if (p->links[i]->forwards.n > 0) {
            flush_forwards(p, p->links[i]);
        }
        if (p->links[i]->replies.n > 0) {
            flush_replies(p->links[i]);
        }
    }
}

/* ---- what the other members call here
 * --------------------------------------------- */

static void on_open(struct rpc_call *c)
{
    struct inbound *in = arena_alloc(rpc_call_arena(c), sizeof(*in));

    in->call = c;
    rpc_call_set_context(c, in);
}

/* A caller that our list does not name. NULL if it cannot be called back. */
static struct link *befriend(struct peers *p, const Pawl__Peer__V1__Hello *h)
{
    char *address = h->n_peer_urls > 0 ? url_address(h->peer_urls[0]) : NULL;
    struct link *k = NULL;
    size_t strangers = 0;

    for (size_t i = 0; i < p->n_links; i++) {
        strangers += p->links[i]->kind == LINK_STRANGER;
    }
    if (address != NULL && h->from != 0 && strangers < STRANGERS_MAX) {
        k = link_new(p, h->from, address);
        k->kind = LINK_STRANGER;
    }
    free(address);
    return k;
}

static const char *find_fault(const struct peers *p,
                              const Pawl__Peer__V1__Hello *h)
{
    if (h == NULL) {
        return "pawl: a peer stream must begin with a Hello";
    }
    if (h->cluster != p->config.cluster_id) {
        return "pawl: cluster ID mismatch";
    }
    if (members_is_removed(known_members(p), h->from)) {
        return status_text(ST_REMOVED);
    }
    if (h->to != p->config.self) {
        return "pawl: this is another member than the one called";
    }
    if (h->from == p->config.self) {
        return "pawl: a member does not talk to itself";
    }
    if (h->version != PROTOCOL_VERSION) {
        return "pawl: unknown version of the peer protocol";
    }
    return has_other_store(p, h->from, h->store) ? other_store : NULL;
}

/* NULL and the call is over if it is not from a member of ours, for us. */
static struct link *judge_hello(struct peers *p, struct rpc_call *c,
                                const Pawl__Peer__V1__Hello *h)
{
    const char *fault = find_fault(p, h);
    struct link *k = fault == NULL ? find_link(p, h->from) : NULL;

    if (fault == NULL && k == NULL) {
        k = befriend(p, h);
        fault = k == NULL ? "pawl: the caller is not a member of this cluster"
                          : NULL;
    }
    if (fault != NULL) {
        log_line(LOG_WARN,
                 "refused a peer stream from %s (member %" PRIx64
                 ", cluster %" PRIx64 "): %s",
                 rpc_call_peer(c), h != NULL ? h->from : 0,
                 h != NULL ? h->cluster : 0, fault);
        rpc_call_finish(c, GRPC_FAILED_PRECONDITION, fault);
        return NULL;
    }
    return k;
}

static bool accept_hello(struct peers *p, struct inbound *in,
                         const Pawl__Peer__V1__Hello *h)
{
    in->link = judge_hello(p, in->call, h);
    if (in->link == NULL) {
        return false;
    }
    LIST_INSERT_HEAD(&in->link->inbounds, in, entry);
    return true;
}

void peers_hello(const struct peers *p, raft_id to, Pawl__Peer__V1__Hello *h)
{
    hello_init(p, to, h);
}

raft_id peers_accept_hello(struct peers *p, struct rpc_call *c,
                           const Pawl__Peer__V1__Hello *h)
{
    struct link *k = judge_hello(p, c, h);

    return k != NULL ? k->id : 0;
}

static void take_message(struct peers *p, struct link *k,
                         const Pawl__Peer__V1__Message *pm)
{
    struct raft_message m;

    bool ok;

    arena_reset(&p->arena);
    ok = wire_decode(pm, &p->arena, &m) && m.from == k->id;
    if (ok && !vow_forbids_in(p->config.vow, &m)) {
        ok = node_step(p->node, &m) != RAFT_BAD_MESSAGE;
    }
    if (!ok) {
        log_line(LOG_DEBUG,
                 "dropped a bad Raft message of type %d from %" PRIx64,
                 (int)pm->type, k->id);
    }
}

static void on_raft_batch(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Pawl__Peer__V1__RaftBatch *batch =
        (const Pawl__Peer__V1__RaftBatch *)m;
    struct peers *p = rpc_call_service(c);
    struct inbound *in = rpc_call_context(c);
    Pawl__Peer__V1__Hello hello;

    if (in->link == NULL) {
        if (!accept_hello(p, in, batch->hello)) {
            return;
        }
        hello_init(p, in->link->id, &hello);
        rpc_call_send(c, &hello.base);
    }
    for (size_t i = 0; i < batch->n_messages; i++) {
        take_message(p, in->link, batch->messages[i]);
    }
}

static void on_forward_request(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Pawl__Peer__V1__ForwardRequest *request =
        (const Pawl__Peer__V1__ForwardRequest *)m;
    struct peers *p = rpc_call_service(c);
    struct inbound *in = rpc_call_context(c);
    Pawl__Peer__V1__ForwardReply reply = PAWL__PEER__V1__FORWARD_REPLY__INIT;
    Pawl__Peer__V1__Hello hello;

    if (in->link == NULL) {
        if (!accept_hello(p, in, request->hello)) {
            return;
        }
        in->link->their_forward = c; /* a newer stream replaces an older one */
        hello_init(p, in->link->id, &hello);
        reply.hello = &hello;
        rpc_call_send(c, &reply.base);
    }
    for (size_t i = 0; i < request->n_items; i++) {
        node_on_forward(p->node, in->link->id, request->items[i]);
    }
}

static void on_half_close(struct rpc_call *c)
{
    inbound_leave(rpc_call_context(c));
    rpc_call_finish(c, GRPC_OK, NULL);
}

static void on_close(struct rpc_call *c)
{
    struct inbound *in = rpc_call_context(c);

    if (in != NULL) {
        inbound_leave(in);
    }
}

static const struct rpc_method methods[] = {
    {
        .path = "/pawl.peer.v1.Peer/Raft",
        .client_streams = true,
        .server_streams = true,
        .request = &pawl__peer__v1__raft_batch__descriptor,
        .on_open = on_open,
        .on_message = on_raft_batch,
        .on_half_close = on_half_close,
        .on_close = on_close,
    },
    {
        .path = "/pawl.peer.v1.Peer/Forward",
        .client_streams = true,
        .server_streams = true,
        .request = &pawl__peer__v1__forward_request__descriptor,
        .on_open = on_open,
        .on_message = on_forward_request,
        .on_half_close = on_half_close,
        .on_close = on_close,
    },
};

void peers_serve(struct peers *p, struct rpc_server *server)
{
    rpc_server_add(server, methods, ARRAY_LENGTH(methods), p);
}
