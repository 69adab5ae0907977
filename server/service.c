/*
 * service.c - what all services share.
 */
#include "server/service.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/logger.h"
#include "server/members.h"

/* An answer that a write was not applied leaves this long before the call's
 * deadline: after it, the client could not know. */
#define LAST_WORD_MS 200

/* A MemberPublish on its way. */
struct publication {
    struct node_proposal proposal;
    struct arena arena;
    struct service *service;
};

struct service *service_new(struct rpc_loop *loop, struct node *node,
                            const struct service_config *config)
{
    struct service *s = mem_alloc(1, sizeof(*s));

    s->config = *config;
    s->loop = loop;
    s->node = node;
    s->applier = node_applier(node);
    s->locks = svc_lock_new(s);
    return s;
}

static void publication_free(struct publication *pub)
{
    pub->service->publication = NULL;
    arena_release(&pub->arena);
    free(pub);
}

void service_free(struct service *s)
{
    if (s == NULL) {
        return;
    }
    if (s->publication != NULL) {
        node_forget(s->node, &s->publication->proposal);
        publication_free(s->publication);
    }
    svc_lock_free(s->locks);
    free(s);
}

void service_serve(struct service *s, struct rpc_server *server)
{
    svc_kv_serve(s, server);
    svc_lease_serve(s, server);
    svc_cluster_serve(s, server);
    svc_maintenance_serve(s, server);
    svc_lock_serve(s->locks, server);
}

Etcdserverpb__ResponseHeader *
service_header(const struct service *s, struct rpc_call *c, int64_t revision)
{
    Etcdserverpb__ResponseHeader *h =
        arena_alloc(rpc_call_arena(c), sizeof(*h));

    etcdserverpb__response_header__init(h);
    h->cluster_id = s->config.cluster_id;
    h->member_id = s->config.member_id;
    h->revision = revision;
    h->raft_term = raft_term_now(node_raft(s->node));
    return h;
}

static bool slice_is(struct slice s, const char *text)
{
    return s.size == strlen(text) && memcmp(s.data, text, s.size) == 0;
}

bool service_is_learner(const struct service *s)
{
    const struct members *ms = applier_member_set(s->applier);
    const struct member *m = members_find(ms, s->config.member_id);

    /* Before anything is applied nobody is known: let requests wait. */
    return ms->n > 0 && (m == NULL || m->is_learner);
}

enum status service_check(const struct service *s, struct rpc_call *c)
{
    struct slice value;

    if (service_is_learner(s)) {
        return ST_NOT_SUPPORTED_FOR_LEARNER;
    }
    if (rpc_call_metadata(c, "hasleader", &value) && slice_is(value, "true") &&
        raft_leader(node_raft(s->node)) == 0) {
        return ST_NO_LEADER;
    }
    return ST_OK;
}

static bool parse_token(struct slice text, int64_t *token)
{
    char digits[24];
    char *end;

    if (text.size == 0 || text.size >= sizeof(digits)) {
        return false;
    }
    memcpy(digits, text.data, text.size);
    digits[text.size] = '\0';
    errno = 0;
    *token = strtoll(digits, &end, 10);
    return errno == 0 && *end == '\0' && *token > 0;
}

enum status service_fence(struct rpc_call *c, Pawl__Command__V1__Fence **fence)
{
    struct slice key, token;
    bool has_key = rpc_call_metadata(c, "pawl-fence-key-bin", &key);
    bool has_token = rpc_call_metadata(c, "pawl-fence-token", &token);
    Pawl__Command__V1__Fence *f;

    *fence = NULL;
    if (!has_key && !has_token) {
        return ST_OK;
    }
    f = arena_alloc(rpc_call_arena(c), sizeof(*f));
    pawl__command__v1__fence__init(f);
    if (!has_key || !has_token || key.size == 0 ||
        !parse_token(token, &f->token)) {
        return ST_BAD_FENCE;
    }
    f->key.data = (uint8_t *)key.data; /* only read */
    f->key.len = key.size;
    *fence = f;
    return ST_OK;
}

int64_t service_clamp_ttl(const struct service *s, int64_t ttl_s)
{
    int64_t minimum = (3 * (int64_t)s->config.election_ms / 2 + 999) / 1000;

    return ttl_s < minimum ? minimum : ttl_s;
}

int64_t service_new_lease_id(const struct service *s)
{
    int64_t id;

    do {
        id = (int64_t)(random_u64() & INT64_MAX);
    } while (id == 0 || lease_exists(applier_leases(s->applier), id));
    return id;
}

/* ---- writes
 * ---------------------------------------------------------------------- */

static void write_done(struct node_proposal *p, enum status st,
                       const struct applied *result)
{
    struct write_call *w = (struct write_call *)p;

    rpc_call_set_context(w->call, NULL);
    if (st != ST_OK) {
        rpc_call_finish(w->call, status_code(st),
                        result != NULL && result->text != NULL
                            ? result->text
                            : status_text(st));
        return;
    }
    w->reply(w, result);
}

static struct write_call *
write_call_new(struct rpc_call *c, void (*reply)(struct write_call *w,
                                                 const struct applied *result))
{
    struct write_call *w = arena_alloc(rpc_call_arena(c), sizeof(*w));
    uint64_t deadline_ms = rpc_call_deadline(c);

    w->proposal.done = write_done;
    w->proposal.give_up_ms =
        deadline_ms > LAST_WORD_MS ? deadline_ms - LAST_WORD_MS : 0;
    w->service = rpc_call_service(c);
    w->call = c;
    w->reply = reply;
    rpc_call_set_context(c, w);
    return w;
}

void service_write(struct rpc_call *c, Pawl__Command__V1__Command *cmd,
                   void (*reply)(struct write_call *w,
                                 const struct applied *result))
{
    struct write_call *w = write_call_new(c, reply);

    node_propose(w->service->node, &w->proposal, cmd, rpc_call_arena(c), false);
}

void service_change(struct rpc_call *c, Pawl__Command__V1__MemberChange *change,
                    void (*reply)(struct write_call *w,
                                  const struct applied *result))
{
    struct write_call *w = write_call_new(c, reply);

    w->new_member = change->new_id != 0 ? change->new_id : change->id;
    node_change_members(w->service->node, &w->proposal, change,
                        rpc_call_arena(c));
}

void service_write_closed(struct rpc_call *c)
{
    struct write_call *w = rpc_call_context(c);

    if (w != NULL) {
        node_forget(w->service->node, &w->proposal);
    }
}

/* ---- reads
 * ----------------------------------------------------------------------- */

static void read_done(struct node_read *r, enum status st)
{
    struct read_call *rc = (struct read_call *)r;

    rpc_call_set_context(rc->call, NULL);
    if (st != ST_OK) {
        rpc_call_fail(rc->call, st);
        return;
    }
    rc->serve(rc->service, rc->call, rc->request);
}

void service_read(struct rpc_call *c, const ProtobufCMessage *request,
                  void (*serve)(struct service *s, struct rpc_call *c,
                                const ProtobufCMessage *request))
{
    struct service *s = rpc_call_service(c);
    struct read_call *rc = arena_alloc(rpc_call_arena(c), sizeof(*rc));

    rc->read.done = read_done;
    rc->service = s;
    rc->call = c;
    rc->request = request;
    rc->serve = serve;
    rpc_call_set_context(c, rc);
    node_read(s->node, &rc->read);
}

void service_read_closed(struct rpc_call *c)
{
    struct read_call *rc = rpc_call_context(c);

    if (rc != NULL) {
        node_read_cancel(&rc->read);
    }
}

/* ---- publishing our name
 * ----------------------------------------------------------- */

static bool is_published(const struct service *s)
{
    const struct member *self = s->config.self;
    size_t n;
    const struct member *members = applier_members(s->applier, &n);

    for (size_t i = 0; i < n; i++) {
        const struct member *m = &members[i];

        if (m->id != self->id) {
            continue;
        }
        if (m->store_id == 0 && self->store_id != 0) {
            return false;
        }
        if (m->store_id != self->store_id) {
            return true; /* it would be refused; the peers tell why (F6) */
        }
        if (strcmp(m->name, self->name) != 0 ||
            m->n_client_urls != self->n_client_urls) {
            return false;
        }
        for (size_t j = 0; j < m->n_client_urls; j++) {
            if (strcmp(m->client_urls[j], self->client_urls[j]) != 0) {
                return false;
            }
        }
        return true;
    }
    return true; /* not a member (yet): nothing to tell */
}

static void publication_done(struct node_proposal *p, enum status st,
                             const struct applied *result)
{
    (void)st; /* the next tick looks whether it is there */
    (void)result;
    publication_free((struct publication *)p);
}

static void publish(struct service *s)
{
    const struct member *self = s->config.self;
    struct publication *pub = mem_alloc(1, sizeof(*pub));
    Pawl__Command__V1__Command cmd = PAWL__COMMAND__V1__COMMAND__INIT;
    Pawl__Command__V1__MemberPublish m =
        PAWL__COMMAND__V1__MEMBER_PUBLISH__INIT;

    m.id = self->id;
    m.name = self->name;
    m.client_urls = self->client_urls;
    m.n_client_urls = self->n_client_urls;
    m.store_id = self->store_id;
    cmd.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_MEMBER_PUBLISH;
    cmd.member_publish = &m;
    arena_init(&pub->arena);
    pub->service = s;
    pub->proposal.done = publication_done;
    s->publication = pub;
    node_propose(s->node, &pub->proposal, &cmd, &pub->arena, false);
}

void service_tick(struct service *s)
{
    if (s->publication == NULL && raft_leader(node_raft(s->node)) != 0 &&
        !is_published(s)) {
        publish(s);
    }
    svc_maintenance_tick(s);
    svc_lock_tick(s->locks);
}
