/*
 * identify.c - who has these peer URLs?
 */
#include "server/identify.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/logger.h"
#include "server/membership.h"

struct identify {
    struct node *node; /* NULL: nothing to tell yet */
    uint64_t cluster_id;
    const char *token;
};

struct identify *identify_new(void)
{
    return mem_alloc(1, sizeof(struct identify));
}

void identify_free(struct identify *s)
{
    free(s);
}

void identify_set_node(struct identify *s, struct node *node,
                       uint64_t cluster_id, const char *token)
{
    s->node = node;
    s->cluster_id = cluster_id;
    s->token = token;
}

/* ---- answering -------------------------------------------------------------
 */

static bool has_one_of(const struct member *m, char *const *urls, size_t n)
{
    for (size_t i = 0; i < m->n_peer_urls; i++) {
        for (size_t j = 0; j < n; j++) {
            if (strcmp(m->peer_urls[i], urls[j]) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* A member and the one that replaces it may share URLs: the one that never ran
 * is meant, or else the newer. */
static const struct member *owner(const struct members *ms, char *const *urls,
                                  size_t n)
{
    const struct member *best = NULL;

    for (size_t i = 0; i < ms->n; i++) {
        const struct member *m = &ms->list[i];

        if (has_one_of(m, urls, n) &&
            (best == NULL || (best->store_id != 0 &&
                              (m->store_id == 0 || m->replaces == best->id)))) {
            best = m;
        }
    }
    return best;
}

static Pawl__Command__V1__Member **list_members(const struct members *ms,
                                                struct arena *arena)
{
    Pawl__Command__V1__Member **list =
        arena_alloc(arena, ms->n * sizeof(*list));

    for (size_t i = 0; i < ms->n; i++) {
        list[i] = arena_alloc(arena, sizeof(**list));
        member_fill(list[i], &ms->list[i]);
    }
    return list;
}

static void answer(struct identify *s, struct rpc_call *c,
                   const Pawl__Peer__V1__IdentifyRequest *rq)
{
    Pawl__Peer__V1__IdentifyResponse rs =
        PAWL__PEER__V1__IDENTIFY_RESPONSE__INIT;
    const struct members *ms =
        s->node != NULL ? applier_member_set(node_applier(s->node)) : NULL;

    if (ms != NULL && ms->n > 0) {
        const struct member *m = owner(ms, rq->peer_urls, rq->n_peer_urls);

        rs.has_data = true;
        rs.cluster = s->cluster_id;
        rs.member = m != NULL ? m->id : 0;
        rs.store = m != NULL ? m->store_id : 0;
        rs.removed = members_is_removed(ms, rq->member);
        rs.members = list_members(ms, rpc_call_arena(c));
        rs.n_members = ms->n;
    }
    rpc_call_reply(c, &rs.base);
}

/* A rejoin that its caller waits for. */
struct rejoin {
    struct node_proposal proposal;
    struct identify *server;
    struct rpc_call *call;
    const Pawl__Peer__V1__IdentifyRequest *request;
};

static void rejoin_done(struct node_proposal *p, enum status st,
                        const struct applied *result)
{
    struct rejoin *r = (struct rejoin *)p;

    (void)result; /* the members tell */
    rpc_call_set_context(r->call, NULL);
    if (st == ST_OK) {
        answer(r->server, r->call, r->request);
    } else {
        rpc_call_fail(r->call, st);
    }
}

static void start_rejoin(struct identify *s, struct rpc_call *c,
                         const Pawl__Peer__V1__IdentifyRequest *rq,
                         const struct member *m)
{
    Pawl__Command__V1__MemberChange change =
        PAWL__COMMAND__V1__MEMBER_CHANGE__INIT;
    struct rejoin *r = arena_alloc(rpc_call_arena(c), sizeof(*r));
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now); /* makes the id unique, no more */
    change.kind = PAWL__COMMAND__V1__MEMBER_CHANGE__KIND__REPLACE;
    change.id = m->id;
    change.new_id = membership_new_id(rq->peer_urls, rq->n_peer_urls, s->token,
                                      (uint64_t)now.tv_sec * 1000000000u +
                                          (uint64_t)now.tv_nsec);
    change.peer_urls = rq->peer_urls;
    change.n_peer_urls = rq->n_peer_urls;
    change.only_if_silent = true;
    r->server = s;
    r->call = c;
    r->request = rq;
    r->proposal.done = rejoin_done;
    rpc_call_set_context(c, r);
    log_line(LOG_WARN,
             "member %" PRIx64 " says that it has lost its data: a new member "
             "is to replace it",
             m->id);
    node_change_members(s->node, &r->proposal, &change, rpc_call_arena(c));
}

static void on_identify(struct rpc_call *c, const ProtobufCMessage *message)
{
    const Pawl__Peer__V1__IdentifyRequest *rq =
        (const Pawl__Peer__V1__IdentifyRequest *)message;
    struct identify *s = rpc_call_service(c);
    const struct member *m = NULL;

    if (s->node != NULL && rq->rejoin) {
        m = owner(applier_member_set(node_applier(s->node)), rq->peer_urls,
                  rq->n_peer_urls);
    }
    if (m != NULL && m->store_id != 0 &&
        membership_urls_are_good(rq->peer_urls, rq->n_peer_urls)) {
        start_rejoin(s, c, rq, m);
    } else {
        answer(s, c, rq);
    }
}

static void on_identify_close(struct rpc_call *c)
{
    struct rejoin *r = rpc_call_context(c);

    if (r != NULL) {
        node_forget(r->server->node, &r->proposal);
    }
}

static const struct rpc_method methods[] = {
    {
        .path = "/pawl.peer.v1.Peer/Identify",
        .request = &pawl__peer__v1__identify_request__descriptor,
        .on_message = on_identify,
        .on_close = on_identify_close,
    },
};

void identify_serve(struct identify *s, struct rpc_server *server)
{
    rpc_server_add(server, methods, ARRAY_LENGTH(methods), s);
}

/* ---- asking ----------------------------------------------------------------
 */

struct round {
    struct identity *best;
    size_t waiting; /* calls that are not over */
};

struct asked {
    struct round *round;
    const char *address;
    struct rpc_channel *channel;
};

static void take_member(struct members *to, const Pawl__Command__V1__Member *m)
{
    members_put(to, &(struct member){
                        .id = m->id,
                        .name = m->name,
                        .peer_urls = m->peer_urls,
                        .n_peer_urls = m->n_peer_urls,
                        .client_urls = m->client_urls,
                        .n_client_urls = m->n_client_urls,
                        .is_learner = m->is_learner,
                    });
}

static void on_answer(struct rpc_call *c, const ProtobufCMessage *message)
{
    const Pawl__Peer__V1__IdentifyResponse *rs =
        (const Pawl__Peer__V1__IdentifyResponse *)message;
    struct asked *a = rpc_call_context(c);
    struct identity *best = a->round->best;

    /* Who knows our member knows more than who lags behind. */
    if (!rs->has_data || (best->found && best->member_id != 0 &&
                          (rs->store == 0 || best->store_id != 0))) {
        return;
    }
    members_release(&best->members);
    best->found = true;
    best->cluster_id = rs->cluster;
    best->member_id = rs->member;
    best->store_id = rs->store;
    best->removed = best->removed || rs->removed;
    for (size_t i = 0; i < rs->n_members; i++) {
        take_member(&best->members, rs->members[i]);
    }
}

static void on_answered(struct rpc_call *c, enum grpc_code code,
                        const char *text, bool maybe_processed)
{
    struct asked *a = rpc_call_context(c);

    (void)maybe_processed; /* it is asked again */
    a->round->waiting--;
    if (code != GRPC_OK) {
        snprintf(a->round->best->error, sizeof(a->round->best->error), "%s: %s",
                 a->address,
                 text != NULL && text[0] != '\0' ? text
                                                 : grpc_code_name((int)code));
    }
}

static const struct rpc_call_events events = {
    .on_message = on_answer,
    .on_close = on_answered,
};

static void ask_one(struct rpc_loop *loop, struct asked *a,
                    const struct identify_question *q)
{
    struct rpc_channel_config config = {.address = a->address,
                                        .connect_timeout_ms = q->timeout_ms};
    Pawl__Peer__V1__IdentifyRequest rq = PAWL__PEER__V1__IDENTIFY_REQUEST__INIT;
    struct rpc_call *c;

    rpc_limits_defaults(&config.limits);
    a->channel = rpc_channel_new(loop, &config);
    rq.cluster = q->cluster_id;
    rq.member = q->member_id;
    rq.peer_urls = (char **)q->peer_urls; /* only read */
    rq.n_peer_urls = q->n_peer_urls;
    rq.rejoin = q->rejoin;
    a->round->waiting++;
    c = rpc_call_start(a->channel, methods[0].path,
                       &pawl__peer__v1__identify_response__descriptor, NULL, 0,
                       q->timeout_ms, &events, a);
    rpc_call_send(c, &rq.base);
    rpc_call_half_close(c);
}

void identify_ask(struct rpc_loop *loop, const struct identify_question *q,
                  struct identity *out)
{
    struct round round = {.best = out};
    struct asked *all = mem_alloc(q->n_addresses, sizeof(*all));

    *out = (struct identity){0};
    for (size_t i = 0; i < q->n_addresses; i++) {
        all[i].round = &round;
        all[i].address = q->addresses[i];
        ask_one(loop, &all[i], q);
    }
    while (round.waiting > 0) { /* each call has a deadline */
        rpc_loop_flush(loop);
        event_base_loop(rpc_loop_base(loop), EVLOOP_ONCE);
    }
    rpc_loop_flush(loop); /* our own answers to others */
    for (size_t i = 0; i < q->n_addresses; i++) {
        rpc_channel_free(all[i].channel);
    }
    free(all);
}

void identity_release(struct identity *identity)
{
    members_release(&identity->members);
}
