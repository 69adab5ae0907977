/*
 * svc_kv.c - etcdserverpb.KV.
 */
#include "server/logger.h"
#include "server/service.h"
#include "server/statedb.h"

/* The read itself, once the state machine may be asked. */
static void serve_range(struct service *s, struct rpc_call *c,
                        const ProtobufCMessage *request)
{
    const Etcdserverpb__RangeRequest *rq =
        (const Etcdserverpb__RangeRequest *)request;
    Etcdserverpb__RangeResponse rs = ETCDSERVERPB__RANGE_RESPONSE__INIT;
    struct kv *kv = applier_kv(s->applier);
    enum status st = kv_range(kv, rq, rpc_call_arena(c), &rs);

    if (statedb_fetch_error(s->config.statedb) != NULL) {
        log_die("reading an old revision from state.db failed: %s; the "
                "process ends so that nobody is told something wrong",
                statedb_fetch_error(s->config.statedb));
    }
    if (st != ST_OK) {
        rpc_call_fail(c, st);
        return;
    }
    rs.header = service_header(s, c, kv_revision(kv));
    rpc_call_reply(c, &rs.base);
}

static void on_range(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__RangeRequest *rq =
        (const Etcdserverpb__RangeRequest *)m;
    struct service *s = rpc_call_service(c);
    enum status st = kv_check_range(rq);

    if (st == ST_OK) {
        st = service_check(s, c);
    }
    if (st != ST_OK) {
        rpc_call_fail(c, st);
    } else if (rq->serializable) {
        serve_range(s, c, m);
    } else {
        service_read(c, m, serve_range);
    }
}

static void reply_put(struct write_call *w, const struct applied *result)
{
    Etcdserverpb__PutResponse rs = result->put;

    rs.header = service_header(w->service, w->call, result->revision);
    rpc_call_reply(w->call, &rs.base);
}

/* What every write has to pass, whatever it asks for. */
static enum status check_write(struct rpc_call *c, size_t size,
                               Pawl__Command__V1__Fence **fence)
{
    const struct service *s = rpc_call_service(c);
    enum status st = size > s->config.request_bytes_max ? ST_REQUEST_TOO_LARGE
                                                        : service_check(s, c);

    return st == ST_OK ? service_fence(c, fence) : st;
}

static void on_put(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__PutRequest *rq = (const Etcdserverpb__PutRequest *)m;
    Pawl__Command__V1__Command cmd = PAWL__COMMAND__V1__COMMAND__INIT;
    enum status st = kv_check_put(rq);

    if (st == ST_OK) {
        st = check_write(c, rq->key.len + rq->value.len, &cmd.fence);
    }
    if (st != ST_OK) {
        rpc_call_fail(c, st);
        return;
    }
    cmd.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_PUT;
    cmd.put = (Etcdserverpb__PutRequest *)rq; /* only read */
    service_write(c, &cmd, reply_put);
}

static void reply_delete_range(struct write_call *w,
                               const struct applied *result)
{
    Etcdserverpb__DeleteRangeResponse rs = result->delete_range;

    rs.header = service_header(w->service, w->call, result->revision);
    rpc_call_reply(w->call, &rs.base);
}

static void on_delete_range(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__DeleteRangeRequest *rq =
        (const Etcdserverpb__DeleteRangeRequest *)m;
    Pawl__Command__V1__Command cmd = PAWL__COMMAND__V1__COMMAND__INIT;
    enum status st = kv_check_delete_range(rq);

    if (st == ST_OK) {
        st = check_write(c, rq->key.len + rq->range_end.len, &cmd.fence);
    }
    if (st != ST_OK) {
        rpc_call_fail(c, st);
        return;
    }
    cmd.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_DELETE_RANGE;
    cmd.delete_range = (Etcdserverpb__DeleteRangeRequest *)rq; /* only read */
    service_write(c, &cmd, reply_delete_range);
}

static const struct rpc_method methods[] = {
    {
        .path = "/etcdserverpb.KV/Range",
        .request = &etcdserverpb__range_request__descriptor,
        .on_message = on_range,
        .on_close = service_read_closed,
    },
    {
        .path = "/etcdserverpb.KV/Put",
        .request = &etcdserverpb__put_request__descriptor,
        .on_message = on_put,
        .on_close = service_write_closed,
    },
    {
        .path = "/etcdserverpb.KV/DeleteRange",
        .request = &etcdserverpb__delete_range_request__descriptor,
        .on_message = on_delete_range,
        .on_close = service_write_closed,
    },
};

void svc_kv_serve(struct service *s, struct rpc_server *server)
{
    rpc_server_add(server, methods, ARRAY_LENGTH(methods), s);
}
