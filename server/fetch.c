/*
 * fetch.c - answers Peer.FetchEntries.
 */
#include "server/fetch.h"

#include <stdlib.h>

#include "raft/base.h"

#define PROTOCOL_VERSION 1
/* Of entry data in one reply, past the first entry. */
#define REPLY_BYTES_MAX ((size_t)4 << 20)
#define REPLY_ENTRIES_MAX 10000

struct fetch {
    struct rpc_server *server;
    uint64_t cluster_id;
    raft_id self;
    bool is_set;
    struct fetch_source source;
};

static void add_entry(Pawl__Peer__V1__FetchReply *out,
                      const struct raft_entry *e, struct arena *arena)
{
    Pawl__Peer__V1__Entry *copy = arena_alloc(arena, sizeof(*copy));

    pawl__peer__v1__entry__init(copy);
    copy->index = e->index;
    copy->term = e->term;
    copy->type = (uint32_t)e->type;
    copy->data.len = e->size;
    copy->data.data = (uint8_t *)e->data; /* encoded before it can change */
    out->entries[out->n_entries++] = copy;
}

/* Bounded in bytes, entries, and in places that are looked at. */
static void add_entries(const struct fetch_source *s, uint64_t first,
                        uint64_t last, struct arena *arena,
                        Pawl__Peer__V1__FetchReply *out)
{
    size_t bytes = 0, n = 0;

    out->entries =
        arena_alloc(arena, REPLY_ENTRIES_MAX * sizeof(out->entries[0]));
    for (uint64_t i = first; i <= last && i <= out->last_index; i++) {
        const struct raft_entry *e = s->entry_at(s->context, i);

        if (n == REPLY_ENTRIES_MAX || bytes > REPLY_BYTES_MAX) {
            out->next = i;
            return;
        }
        n++;
        if (e != NULL) {
            bytes += e->size;
            add_entry(out, e, arena);
        }
    }
}

static const char *refusal(const struct fetch *f,
                           const Pawl__Peer__V1__Hello *h)
{
    if (h == NULL || h->version != PROTOCOL_VERSION) {
        return "pawl: a request for entries must begin with a Hello";
    }
    if (h->cluster != f->cluster_id || h->to != f->self) {
        return "pawl: this is another member than the one called";
    }
    return NULL;
}

static void on_fetch(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Pawl__Peer__V1__FetchRequest *rq =
        (const Pawl__Peer__V1__FetchRequest *)m;
    const struct fetch *f = rpc_call_service(c);
    struct arena *arena = rpc_call_arena(c);
    Pawl__Peer__V1__FetchReply reply = PAWL__PEER__V1__FETCH_REPLY__INIT;
    const char *reason;

    if (!f->is_set) {
        rpc_call_finish(c, GRPC_UNAVAILABLE, "pawl: starting");
        return;
    }
    reason = refusal(f, rq->hello);
    if (reason != NULL) {
        rpc_call_finish(c, GRPC_FAILED_PRECONDITION, reason);
        return;
    }
    f->source.describe(f->source.context, arena, &reply);
    if (rq->first != 0) {
        add_entries(&f->source, rq->first, rq->last, arena, &reply);
    }
    rpc_call_reply(c, &reply.base);
}

static const struct rpc_method methods[] = {
    {
        .path = "/pawl.peer.v1.Peer/FetchEntries",
        .request = &pawl__peer__v1__fetch_request__descriptor,
        .on_message = on_fetch,
    },
};

struct fetch *fetch_new(struct rpc_server *server)
{
    struct fetch *f = mem_alloc(1, sizeof(*f));

    f->server = server;
    rpc_server_add(server, methods, ARRAY_LENGTH(methods), f);
    return f;
}

void fetch_free(struct fetch *f)
{
    free(f);
}

void fetch_set_source(struct fetch *f, uint64_t cluster_id, raft_id self,
                      const struct fetch_source *source)
{
    f->cluster_id = cluster_id;
    f->self = self;
    f->is_set = source != NULL;
    if (source != NULL) {
        f->source = *source;
    }
}

/* ---- a running member ------------------------------------------------------
 */

static void describe_raft(void *context, struct arena *arena,
                          Pawl__Peer__V1__FetchReply *out)
{
    const struct fetch_running *running = context;
    const struct raft *r = running->raft;
    const struct vow *v = running->vow;
    const struct raft_entry *last = raft_entry_at(r, raft_last_index(r));
    uint8_t *bytes = raft_configuration_encode(raft_configuration_now(r),
                                               &out->configuration.len);

    out->sound = true;
    out->term = raft_term_now(r);
    out->last_index = raft_last_index(r);
    /* All was cut away: not known here, and no term is higher. */
    out->last_term = last != NULL ? last->term : out->term;
    if (v->held && (v->term > out->last_term || (v->term == out->last_term &&
                                                 v->index > out->last_index))) {
        out->last_term = v->term;
        out->last_index = v->index;
    }
    out->configuration.data = arena_copy(arena, bytes, out->configuration.len);
    raft_free(bytes);
}

static const struct raft_entry *raft_entry(void *context, raft_index i)
{
    return raft_entry_at(((struct fetch_running *)context)->raft, i);
}

struct fetch_source fetch_from_raft(struct fetch_running *running)
{
    return (struct fetch_source){
        .context = running,
        .describe = describe_raft,
        .entry_at = raft_entry,
    };
}
