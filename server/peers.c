/*
 * peers.c - a struct link for each other member: what we call there, and what
 * it calls here.
 */
#include "server/peers.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/logger.h"
#include "server/url.h"
#include "server/wire.h"

#define PROTOCOL_VERSION 1
#define RECONNECT_MS 100
#define CONNECT_TIMEOUT_MS 2000
#define REFUSED_LOG_MS 10000 /* a refusal repeats with every attempt */
/* More than Raft's own window: past it the link is stuck, drop. */
#define QUEUED_BYTES_MAX ((size_t)64 << 20)

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

struct link {
    struct peers *peers;
    raft_id id;
    char *address;
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
    struct arena arena;
};

/* A stream that another member opened. */
struct inbound {
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
}

static void on_raft_close(struct rpc_call *c, enum grpc_code code,
                          const char *text, bool maybe_processed)
{
    (void)maybe_processed; /* lost messages are nothing new to Raft */
    lane_closed(rpc_call_context(c), code, text);
}

static void on_hello(struct rpc_call *c, const ProtobufCMessage *m)
{
    struct lane *l = rpc_call_context(c);

    (void)m; /* that they answered is what counts */
    if (!l->up) {
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

static struct link *link_new(struct peers *p, raft_id id, const char *address)
{
    struct link *k = mem_alloc(1, sizeof(*k));

    k->peers = p;
    k->id = id;
    k->address = mem_strdup(address);
    arena_init(&k->forwards.arena);
    arena_init(&k->replies.arena);
    lane_init(&k->raft, k, "/pawl.peer.v1.Peer/Raft",
              &pawl__peer__v1__hello__descriptor);
    lane_init(&k->forward, k, "/pawl.peer.v1.Peer/Forward",
              &pawl__peer__v1__forward_reply__descriptor);
    return k;
}

static void link_free(struct link *k)
{
    if (k->their_forward != NULL) {
        rpc_call_set_context(k->their_forward, NULL);
        rpc_call_finish(k->their_forward, GRPC_UNAVAILABLE, "link closed");
    }
    rpc_channel_free(k->raft.channel);
    rpc_channel_free(k->forward.channel);
    gather_release(&k->forwards);
    gather_release(&k->replies);
    free(k->address);
    free(k);
}

/* Do the links lead to these members already? Then they stay as they are, and
 * so do the streams that point to them. */
static bool are_linked(const struct peers *p, const struct member *members,
                       size_t n)
{
    size_t at = 0;
    bool same = true;

    for (size_t i = 0; i < n && same; i++) {
        char *address;

        if (members[i].id == p->config.self || members[i].n_peer_urls == 0) {
            continue;
        }
        address = url_address(members[i].peer_urls[0]);
        same = at < p->n_links && p->links[at]->id == members[i].id &&
               address != NULL && strcmp(p->links[at]->address, address) == 0;
        at++;
        free(address);
    }
    return same && at == p->n_links;
}

void peers_set_members(struct peers *p, const struct member *members, size_t n)
{
    struct link **links;
    size_t n_links = 0;

    if (are_linked(p, members, n)) {
        return;
    }
    links = mem_alloc(n, sizeof(*links));
    for (size_t i = 0; i < n; i++) {
        char *address;

        if (members[i].id == p->config.self || members[i].n_peer_urls == 0) {
            continue;
        }
        address = url_address(members[i].peer_urls[0]);
        ASSERT(address != NULL); /* checked before it was proposed */
        links[n_links++] = link_new(p, members[i].id, address);
        free(address);
    }
    for (size_t i = 0; i < p->n_links; i++) {
        link_free(p->links[i]);
    }
    free(p->links);
    p->links = links;
    p->n_links = n_links;
}

void peers_free(struct peers *p)
{
    if (p == NULL) {
        return;
    }
    peers_set_members(p, NULL, 0);
    free(p->links);
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
    rpc_call_set_context(
        c, arena_alloc(rpc_call_arena(c), sizeof(struct inbound)));
}

/* NULL and the call is over if it is not from a member of ours, for us. */
static struct link *accept_hello(struct peers *p, struct rpc_call *c,
                                 const Pawl__Peer__V1__Hello *h)
{
    struct link *k = h != NULL ? find_link(p, h->from) : NULL;
    const char *reason = NULL;

    if (h == NULL) {
        reason = "pawl: a peer stream must begin with a Hello";
    } else if (h->cluster != p->config.cluster_id) {
        reason = "pawl: cluster ID mismatch";
    } else if (h->to != p->config.self) {
        reason = "pawl: this is another member than the one called";
    } else if (h->version != PROTOCOL_VERSION) {
        reason = "pawl: unknown version of the peer protocol";
    } else if (k == NULL) {
        reason = "pawl: the caller is not a member of this cluster";
    }
    if (reason != NULL) {
        log_line(LOG_WARN,
                 "refused a peer stream from %s (member %" PRIx64
                 ", cluster %" PRIx64 "): %s",
                 rpc_call_peer(c), h != NULL ? h->from : 0,
                 h != NULL ? h->cluster : 0, reason);
        rpc_call_finish(c, GRPC_FAILED_PRECONDITION, reason);
        return NULL;
    }
    return k;
}

void peers_hello(const struct peers *p, raft_id to, Pawl__Peer__V1__Hello *h)
{
    hello_init(p, to, h);
}

raft_id peers_accept_hello(struct peers *p, struct rpc_call *c,
                           const Pawl__Peer__V1__Hello *h)
{
    struct link *k = accept_hello(p, c, h);

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
        in->link = accept_hello(p, c, batch->hello);
        if (in->link == NULL) {
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
        in->link = accept_hello(p, c, request->hello);
        if (in->link == NULL) {
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
    struct inbound *in = rpc_call_context(c);

    if (in->link != NULL && in->link->their_forward == c) {
        in->link->their_forward = NULL;
    }
    rpc_call_finish(c, GRPC_OK, NULL);
}

static void on_close(struct rpc_call *c)
{
    struct inbound *in = rpc_call_context(c);

    if (in != NULL && in->link != NULL && in->link->their_forward == c) {
        in->link->their_forward = NULL;
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
