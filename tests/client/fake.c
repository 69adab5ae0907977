/*
 * fake.c - a server that does what it is told.
 */
#include "fake.h"

#include <arpa/inet.h>
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "etcd/rpc.pb-c.h"
#include "pawl.pb-c.h"

/* ---- what to do with a call ---------------------------------------------- */

/* True: answer it. Otherwise it was dealt with. */
static bool begin(struct rpc_call *c, enum fake_method m)
{
    struct fake *f = rpc_call_service(c);
    struct fake_step step = {0};

    pthread_mutex_lock(&f->mutex);
    f->calls[m]++;
    pthread_cond_broadcast(&f->called);
    if (f->next_step[m] < f->n_steps[m]) {
        step = f->steps[m][f->next_step[m]++];
    }
    pthread_mutex_unlock(&f->mutex);
    if (step.how == FAKE_FAIL) {
        rpc_call_finish(c, step.code, step.text);
    }
    if (step.how == FAKE_DROP) {
        f->drop = true; /* done when the handlers have returned */
    }
    return step.how == FAKE_ANSWER;
}

static Etcdserverpb__ResponseHeader header(void)
{
    Etcdserverpb__ResponseHeader h = ETCDSERVERPB__RESPONSE_HEADER__INIT;

    h.cluster_id = UINT64_C(0xfedcba9876543210);
    h.member_id = 2;
    h.revision = 3;
    h.raft_term = 4;
    return h;
}

static size_t keep(uint8_t to[FAKE_BYTES], ProtobufCBinaryData from)
{
    ck_assert_uint_le(from.len, FAKE_BYTES);
    if (from.len > 0) {
        memcpy(to, from.data, from.len);
    }
    return from.len;
}

static void keep_metadata(struct rpc_call *c, const char *name,
                          char to[FAKE_BYTES])
{
    struct slice value;

    to[0] = '\0';
    if (rpc_call_metadata(c, name, &value)) {
        snprintf(to, FAKE_BYTES, "%.*s", (int)value.size,
                 (const char *)value.data);
    }
}

/* ---- keys ---------------------------------------------------------------- */

static Mvccpb__KeyValue pair(struct fake *f)
{
    Mvccpb__KeyValue kv = MVCCPB__KEY_VALUE__INIT;

    kv.key = (ProtobufCBinaryData){f->key_size, f->key};
    kv.value = (ProtobufCBinaryData){f->value_size, f->value};
    kv.create_revision = 2;
    kv.mod_revision = 3;
    kv.version = 2;
    return kv;
}

static void on_range(struct rpc_call *c, const ProtobufCMessage *m)
{
    struct fake *f = rpc_call_service(c);
    const Etcdserverpb__RangeRequest *r = (const Etcdserverpb__RangeRequest *)m;
    Etcdserverpb__RangeResponse to = ETCDSERVERPB__RANGE_RESPONSE__INIT;
    Etcdserverpb__ResponseHeader h = header();
    Mvccpb__KeyValue kv;
    Mvccpb__KeyValue *kvs[] = {&kv};

    if (!begin(c, FAKE_RANGE)) {
        return;
    }
    pthread_mutex_lock(&f->mutex);
    f->serializable = r->serializable;
    f->range_end_size = keep(f->range_end, r->range_end);
    kv = pair(f);
    to.header = &h;
    to.kvs = kvs;
    to.n_kvs = f->has_pair;
    to.count = f->has_pair;
    rpc_call_reply(c, &to.base);
    pthread_mutex_unlock(&f->mutex);
}

static void on_put(struct rpc_call *c, const ProtobufCMessage *m)
{
    struct fake *f = rpc_call_service(c);
    const Etcdserverpb__PutRequest *r = (const Etcdserverpb__PutRequest *)m;
    Etcdserverpb__PutResponse to = ETCDSERVERPB__PUT_RESPONSE__INIT;
    Etcdserverpb__ResponseHeader h = header();

    if (!begin(c, FAKE_PUT)) {
        return;
    }
    pthread_mutex_lock(&f->mutex);
    f->key_size = keep(f->key, r->key);
    f->value_size = keep(f->value, r->value);
    f->has_pair = true;
    keep_metadata(c, "pawl-fence-key-bin", f->fence_key);
    keep_metadata(c, "pawl-fence-token", f->fence_token);
    pthread_mutex_unlock(&f->mutex);
    to.header = &h;
    rpc_call_reply(c, &to.base);
}

static void on_delete(struct rpc_call *c, const ProtobufCMessage *m)
{
    struct fake *f = rpc_call_service(c);
    const Etcdserverpb__DeleteRangeRequest *r =
        (const Etcdserverpb__DeleteRangeRequest *)m;
    Etcdserverpb__DeleteRangeResponse to =
        ETCDSERVERPB__DELETE_RANGE_RESPONSE__INIT;
    Etcdserverpb__ResponseHeader h = header();

    if (!begin(c, FAKE_DELETE)) {
        return;
    }
    pthread_mutex_lock(&f->mutex);
    f->range_end_size = keep(f->range_end, r->range_end);
    to.deleted = f->has_pair;
    f->has_pair = false;
    keep_metadata(c, "pawl-fence-key-bin", f->fence_key);
    pthread_mutex_unlock(&f->mutex);
    to.header = &h;
    rpc_call_reply(c, &to.base);
}

/* ---- leases -------------------------------------------------------------- */

static void on_grant(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__LeaseGrantRequest *r =
        (const Etcdserverpb__LeaseGrantRequest *)m;
    Etcdserverpb__LeaseGrantResponse to =
        ETCDSERVERPB__LEASE_GRANT_RESPONSE__INIT;
    Etcdserverpb__ResponseHeader h = header();

    if (begin(c, FAKE_GRANT)) {
        to.header = &h;
        to.id = r->id != 0 ? r->id : 0x77;
        to.ttl = r->ttl;
        rpc_call_reply(c, &to.base);
    }
}

static void on_renew(struct rpc_call *c, const ProtobufCMessage *m)
{
    struct fake *f = rpc_call_service(c);
    const Etcdserverpb__LeaseKeepAliveRequest *r =
        (const Etcdserverpb__LeaseKeepAliveRequest *)m;
    Etcdserverpb__LeaseKeepAliveResponse to =
        ETCDSERVERPB__LEASE_KEEP_ALIVE_RESPONSE__INIT;
    Etcdserverpb__ResponseHeader h = header();

    if (begin(c, FAKE_RENEW)) {
        pthread_mutex_lock(&f->mutex);
        to.ttl = f->ttl_s;
        pthread_mutex_unlock(&f->mutex);
        to.header = &h;
        to.id = r->id;
        rpc_call_send(c, &to.base);
        rpc_call_set_context(c, f); /* answered */
    }
}

static void on_renew_half_close(struct rpc_call *c)
{
    if (rpc_call_context(c) != NULL) {
        rpc_call_finish(c, GRPC_OK, NULL);
    }
}

static void on_revoke(struct rpc_call *c, const ProtobufCMessage *m)
{
    struct fake *f = rpc_call_service(c);
    const Etcdserverpb__LeaseRevokeRequest *r =
        (const Etcdserverpb__LeaseRevokeRequest *)m;
    Etcdserverpb__LeaseRevokeResponse to =
        ETCDSERVERPB__LEASE_REVOKE_RESPONSE__INIT;
    Etcdserverpb__ResponseHeader h = header();

    if (begin(c, FAKE_REVOKE)) {
        pthread_mutex_lock(&f->mutex);
        f->revoked = r->id;
        pthread_mutex_unlock(&f->mutex);
        to.header = &h;
        rpc_call_reply(c, &to.base);
    }
}

static void on_inspect(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Etcdserverpb__LeaseTimeToLiveRequest *r =
        (const Etcdserverpb__LeaseTimeToLiveRequest *)m;
    Etcdserverpb__LeaseTimeToLiveResponse to =
        ETCDSERVERPB__LEASE_TIME_TO_LIVE_RESPONSE__INIT;
    Etcdserverpb__ResponseHeader h = header();
    ProtobufCBinaryData keys[] = {{1, (uint8_t[]){'a'}},
                                  {2, (uint8_t[]){0, 0xff}}};

    if (begin(c, FAKE_INSPECT)) {
        to.header = &h;
        to.id = r->id;
        to.ttl = 59;
        to.grantedttl = 60;
        to.keys = keys;
        to.n_keys = r->keys ? 2 : 0;
        rpc_call_reply(c, &to.base);
    }
}

static void on_leases(struct rpc_call *c, const ProtobufCMessage *m)
{
    Etcdserverpb__LeaseLeasesResponse to =
        ETCDSERVERPB__LEASE_LEASES_RESPONSE__INIT;
    Etcdserverpb__ResponseHeader h = header();
    Etcdserverpb__LeaseStatus lease = ETCDSERVERPB__LEASE_STATUS__INIT;
    Etcdserverpb__LeaseStatus *leases[] = {&lease};

    (void)m;
    if (begin(c, FAKE_LEASES)) {
        lease.id = -5; /* ids are just bits */
        to.header = &h;
        to.leases = leases;
        to.n_leases = 1;
        rpc_call_reply(c, &to.base);
    }
}

/* ---- the cluster --------------------------------------------------------- */

static void on_members(struct rpc_call *c, const ProtobufCMessage *m)
{
    Etcdserverpb__MemberListResponse to =
        ETCDSERVERPB__MEMBER_LIST_RESPONSE__INIT;
    Etcdserverpb__Member member = ETCDSERVERPB__MEMBER__INIT;
    Etcdserverpb__Member *members[] = {&member};
    char *urls[] = {(char[]){"http://a:1"}, (char[]){"http://b:2"}};

    (void)m;
    if (begin(c, FAKE_MEMBERS)) {
        member.id = 0xabc;
        member.name = (char[]){"n1"};
        member.peerurls = urls;
        member.n_peerurls = 2;
        member.clienturls = urls + 1;
        member.n_clienturls = 1;
        to.members = members;
        to.n_members = 1;
        rpc_call_reply(c, &to.base);
    }
}

static void on_status(struct rpc_call *c, const ProtobufCMessage *m)
{
    Etcdserverpb__StatusResponse to = ETCDSERVERPB__STATUS_RESPONSE__INIT;
    Etcdserverpb__ResponseHeader h = header();

    (void)m;
    if (begin(c, FAKE_STATUS)) {
        to.header = &h;
        to.version = (char[]){"3.5.0"};
        to.leader = 2;
        to.raftterm = 4;
        rpc_call_reply(c, &to.base);
    }
}

/* ---- locks --------------------------------------------------------------- */

static void on_acquire(struct rpc_call *c, const ProtobufCMessage *m)
{
    struct fake *f = rpc_call_service(c);
    const Pawl__V1__AcquireRequest *r = (const Pawl__V1__AcquireRequest *)m;
    Pawl__V1__AcquireResponse to = PAWL__V1__ACQUIRE_RESPONSE__INIT;
    Etcdserverpb__ResponseHeader h = header();
    char key[FAKE_BYTES];
    int size =
        snprintf(key, sizeof(key), "%.*s/%llx", (int)r->name.len,
                 (const char *)r->name.data, (unsigned long long)r->lease);

    pthread_mutex_lock(&f->mutex);
    f->leases[f->calls[FAKE_ACQUIRE] % FAKE_STEPS] = r->lease;
    f->waits[f->calls[FAKE_ACQUIRE] % FAKE_STEPS] = r->wait_ms;
    to.acquired = !f->held_by_other;
    pthread_mutex_unlock(&f->mutex);
    if (!begin(c, FAKE_ACQUIRE)) {
        return;
    }
    to.header = &h;
    to.key = (ProtobufCBinaryData){(size_t)size, (uint8_t *)key};
    to.token = 17;
    to.lease = r->lease;
    to.ttl = r->ttl;
    to.holder = (ProtobufCBinaryData){3, (uint8_t[]){'x', '/', '1'}};
    to.holder_token = 9;
    rpc_call_reply(c, &to.base);
}

static void on_release(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Pawl__V1__ReleaseRequest *r = (const Pawl__V1__ReleaseRequest *)m;
    Pawl__V1__ReleaseResponse to = PAWL__V1__RELEASE_RESPONSE__INIT;

    if (begin(c, FAKE_RELEASE)) {
        to.released = r->token == 17;
        rpc_call_reply(c, &to.base);
    }
}

static void on_check(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Pawl__V1__CheckRequest *r = (const Pawl__V1__CheckRequest *)m;
    Pawl__V1__CheckResponse to = PAWL__V1__CHECK_RESPONSE__INIT;

    if (begin(c, FAKE_CHECK)) {
        to.held = r->token == 17;
        to.holder = (ProtobufCBinaryData){3, (uint8_t[]){'n', '/', '1'}};
        to.holder_token = 17;
        to.waiters = 2;
        rpc_call_reply(c, &to.base);
    }
}

/* ---- the server ---------------------------------------------------------- */

#define UNARY(name, type, handler)                                             \
    {                                                                          \
        .path = (name), .request = &type##__descriptor,                        \
        .on_message = (handler),                                               \
    }

static const struct rpc_method methods[] = {
    UNARY("/etcdserverpb.KV/Range", etcdserverpb__range_request, on_range),
    UNARY("/etcdserverpb.KV/Put", etcdserverpb__put_request, on_put),
    UNARY("/etcdserverpb.KV/DeleteRange", etcdserverpb__delete_range_request,
          on_delete),
    UNARY("/etcdserverpb.Lease/LeaseGrant", etcdserverpb__lease_grant_request,
          on_grant),
    {.path = "/etcdserverpb.Lease/LeaseKeepAlive",
     .client_streams = true,
     .server_streams = true,
     .request = &etcdserverpb__lease_keep_alive_request__descriptor,
     .on_message = on_renew,
     .on_half_close = on_renew_half_close},
    UNARY("/etcdserverpb.Lease/LeaseRevoke", etcdserverpb__lease_revoke_request,
          on_revoke),
    UNARY("/etcdserverpb.Lease/LeaseTimeToLive",
          etcdserverpb__lease_time_to_live_request, on_inspect),
    UNARY("/etcdserverpb.Lease/LeaseLeases", etcdserverpb__lease_leases_request,
          on_leases),
    UNARY("/etcdserverpb.Cluster/MemberList", etcdserverpb__member_list_request,
          on_members),
    UNARY("/etcdserverpb.Maintenance/Status", etcdserverpb__status_request,
          on_status),
    UNARY("/pawl.v1.Lock/Acquire", pawl__v1__acquire_request, on_acquire),
    UNARY("/pawl.v1.Lock/Release", pawl__v1__release_request, on_release),
    UNARY("/pawl.v1.Lock/Check", pawl__v1__check_request, on_check),
};

static void serve(struct fake *f)
{
    struct rpc_limits limits;
    char address[32];

    rpc_limits_defaults(&limits);
    snprintf(address, sizeof(address), "127.0.0.1:%d", f->port);
    f->server = rpc_server_new(f->loop, &limits);
    rpc_server_add(f->server, methods, ARRAY_LENGTH(methods), f);
    ck_assert_int_eq(rpc_server_listen(f->server, address, &f->port), 0);
}

static void on_stop(evutil_socket_t fd, short what, void *context)
{
    struct fake *f = context;

    (void)fd;
    (void)what;
    f->stopped = true;
}

static void *run(void *context)
{
    struct fake *f = context;

    while (!f->stopped) {
        event_base_loop(f->base, EVLOOP_ONCE);
        rpc_loop_flush(f->loop);
        if (f->drop) {
            f->drop = false;
            rpc_server_free(f->server);
            serve(f);
        }
    }
    return NULL;
}

/* No signal is for this thread. */
static void start_thread(struct fake *f)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    ck_assert_int_eq(pthread_create(&f->thread, NULL, run, f), 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void fake_start(struct fake *f)
{
    *f = (struct fake){.ttl_s = 60};
    f->base = event_base_new();
    f->loop = rpc_loop_new(f->base);
    f->stop_fd = eventfd(0, EFD_CLOEXEC);
    pthread_mutex_init(&f->mutex, NULL);
    pthread_cond_init(&f->called, NULL);
    f->stop_event = event_new(f->base, f->stop_fd, EV_READ, on_stop, f);
    event_add(f->stop_event, NULL);
    serve(f);
    snprintf(f->address, sizeof(f->address), "127.0.0.1:%d", f->port);
    start_thread(f);
}

void fake_stop(struct fake *f)
{
    uint64_t one = 1;

    ck_assert_int_eq(write(f->stop_fd, &one, sizeof(one)), sizeof(one));
    pthread_join(f->thread, NULL);
    rpc_server_free(f->server);
    rpc_loop_free(f->loop);
    event_free(f->stop_event);
    event_base_free(f->base);
    close(f->stop_fd);
    pthread_cond_destroy(&f->called);
    pthread_mutex_destroy(&f->mutex);
}

void fake_plan(struct fake *f, enum fake_method m, enum fake_how how,
               enum grpc_code code, const char *text)
{
    pthread_mutex_lock(&f->mutex);
    ck_assert_uint_lt(f->n_steps[m], FAKE_STEPS);
    f->steps[m][f->n_steps[m]++] = (struct fake_step){how, code, text};
    pthread_mutex_unlock(&f->mutex);
}

unsigned fake_calls(struct fake *f, enum fake_method m)
{
    unsigned calls;

    pthread_mutex_lock(&f->mutex);
    calls = f->calls[m];
    pthread_mutex_unlock(&f->mutex);
    return calls;
}

void fake_await_call(struct fake *f, enum fake_method m)
{
    pthread_mutex_lock(&f->mutex);
    while (f->calls[m] == 0) { /* the test's timeout bounds it */
        pthread_cond_wait(&f->called, &f->mutex);
    }
    pthread_mutex_unlock(&f->mutex);
}

void fake_set_ttl(struct fake *f, int64_t ttl_s)
{
    pthread_mutex_lock(&f->mutex);
    f->ttl_s = ttl_s;
    pthread_mutex_unlock(&f->mutex);
}

/* ---- addresses of no server ---------------------------------------------- */

static int bound(char address[32])
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    socklen_t size = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&sa, &size), 0);
    snprintf(address, 32, "127.0.0.1:%d", ntohs(sa.sin_port));
    return fd;
}

void dead_address(char address[32], int *fd)
{
    *fd = bound(address); /* bound, so nobody else's; not listening */
}

void silent_address(char address[32], int *fd)
{
    *fd = bound(address);
    ck_assert_int_eq(listen(*fd, 16), 0);
}
