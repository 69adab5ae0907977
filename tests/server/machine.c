/*
 * machine.c - commands into entries into an applier.
 */
#include "tests/server/machine.h"

#include <stdlib.h>
#include <string.h>

static ProtobufCBinaryData bytes_of(const char *text)
{
    return (ProtobufCBinaryData){text != NULL ? strlen(text) : 0,
                                 (uint8_t *)(uintptr_t)text};
}

struct slice text_slice(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

bool slice_is(struct slice s, const char *text)
{
    return slice_equal(s, text_slice(text));
}

void machine_init(struct machine *m, kv_fetch *fetch, void *context)
{
    *m = (struct machine){.term = 1};
    m->applier = applier_new(fetch, context);
    arena_init(&m->arena);
}

void machine_release(struct machine *m)
{
    applier_free(m->applier);
    arena_release(&m->arena);
}

struct kv *machine_kv(struct machine *m)
{
    return applier_kv(m->applier);
}

struct leases *machine_leases(struct machine *m)
{
    return applier_leases(m->applier);
}

enum status machine_entry(struct machine *m, enum raft_entry_type type,
                          const void *data, size_t size)
{
    struct raft_entry e = {
        .index = applier_index(m->applier) + 1,
        .term = m->term,
        .type = type,
        .size = size,
        .data = size > 0 ? data : NULL,
    };

    applier_apply(m->applier, &e, &m->arena, &m->out);
    return m->out.status;
}

enum status machine_command(struct machine *m, Pawl__Command__V1__Command *c)
{
    Pawl__Command__V1__Fence fence = PAWL__COMMAND__V1__FENCE__INIT;
    size_t size;
    uint8_t *data;
    enum status st;

    c->member = 7;
    c->incarnation = 8;
    c->request = 9;
    if (m->fence_key != NULL) {
        fence.key = bytes_of(m->fence_key);
        fence.token = m->fence_token;
        c->fence = &fence;
    }
    size = pawl__command__v1__command__get_packed_size(c);
    data = mem_alloc(size, 1);
    pawl__command__v1__command__pack(c, data);
    st = machine_entry(m, RAFT_ENTRY_COMMAND, data, size);
    free(data); /* what stays must have been copied */
    c->fence = NULL;
    return st;
}

enum status machine_put(struct machine *m, const char *key, const char *value,
                        int64_t lease)
{
    Pawl__Command__V1__Command c = PAWL__COMMAND__V1__COMMAND__INIT;
    Etcdserverpb__PutRequest rq = ETCDSERVERPB__PUT_REQUEST__INIT;

    rq.key = bytes_of(key);
    rq.value = bytes_of(value);
    rq.lease = lease;
    c.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_PUT;
    c.put = &rq;
    return machine_command(m, &c);
}

enum status machine_delete(struct machine *m, const char *key,
                           const char *range_end)
{
    Pawl__Command__V1__Command c = PAWL__COMMAND__V1__COMMAND__INIT;
    Etcdserverpb__DeleteRangeRequest rq =
        ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;

    rq.key = bytes_of(key);
    rq.range_end = bytes_of(range_end);
    c.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_DELETE_RANGE;
    c.delete_range = &rq;
    return machine_command(m, &c);
}

enum status machine_grant(struct machine *m, int64_t id, int64_t ttl)
{
    Pawl__Command__V1__Command c = PAWL__COMMAND__V1__COMMAND__INIT;
    Pawl__Command__V1__LeaseGrant rq = PAWL__COMMAND__V1__LEASE_GRANT__INIT;

    rq.id = id;
    rq.ttl = ttl;
    c.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_LEASE_GRANT;
    c.lease_grant = &rq;
    return machine_command(m, &c);
}

enum status machine_revoke(struct machine *m, int64_t id, uint64_t expiry_term)
{
    Pawl__Command__V1__Command c = PAWL__COMMAND__V1__COMMAND__INIT;
    Pawl__Command__V1__LeaseRevoke rq = PAWL__COMMAND__V1__LEASE_REVOKE__INIT;

    rq.id = id;
    rq.expiry_term = expiry_term;
    c.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_LEASE_REVOKE;
    c.lease_revoke = &rq;
    return machine_command(m, &c);
}

enum status machine_acquire(struct machine *m, const char *name, int64_t lease,
                            int64_t ttl, bool try)
{
    Pawl__Command__V1__Command c = PAWL__COMMAND__V1__COMMAND__INIT;
    Pawl__Command__V1__LockAcquire rq = PAWL__COMMAND__V1__LOCK_ACQUIRE__INIT;

    rq.name = bytes_of(name);
    rq.lease = lease;
    rq.ttl = ttl;
    rq.try_ = try;
    c.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_LOCK_ACQUIRE;
    c.lock_acquire = &rq;
    return machine_command(m, &c);
}

enum status machine_release_lock(struct machine *m, const char *key,
                                 int64_t token, bool only_if_waiting,
                                 bool revoke_lease)
{
    Pawl__Command__V1__Command c = PAWL__COMMAND__V1__COMMAND__INIT;
    Pawl__Command__V1__LockRelease rq = PAWL__COMMAND__V1__LOCK_RELEASE__INIT;

    rq.key = bytes_of(key);
    rq.token = token;
    rq.only_if_waiting = only_if_waiting;
    rq.revoke_lease = revoke_lease;
    c.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_LOCK_RELEASE;
    c.lock_release = &rq;
    return machine_command(m, &c);
}

enum status machine_publish(struct machine *m, uint64_t id, const char *name,
                            const char *url)
{
    Pawl__Command__V1__Command c = PAWL__COMMAND__V1__COMMAND__INIT;
    Pawl__Command__V1__MemberPublish rq =
        PAWL__COMMAND__V1__MEMBER_PUBLISH__INIT;
    char *urls[] = {(char *)(uintptr_t)url};

    rq.id = id;
    rq.name = (char *)(uintptr_t)name;
    rq.n_client_urls = 1;
    rq.client_urls = urls;
    c.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_MEMBER_PUBLISH;
    c.member_publish = &rq;
    return machine_command(m, &c);
}

void machine_configure(struct machine *m, size_t n)
{
    struct raft_configuration c = {.n_servers = n};
    struct member *members = mem_alloc(n, sizeof(*members));
    char **urls = mem_alloc(n, sizeof(*urls));
    uint8_t *data;
    size_t size;

    c.servers = mem_alloc(n, sizeof(*c.servers));
    for (size_t i = 0; i < n; i++) {
        c.servers[i] = (struct raft_server){i + 1, RAFT_VOTER};
        urls[i] = mem_printf("http://10.0.0.%zu:2380", i + 1);
        members[i] = (struct member){
            .id = i + 1,
            .name = (char *)(uintptr_t) "",
            .peer_urls = &urls[i],
            .n_peer_urls = 1,
        };
    }
    c.extra = members_encode(members, n, &c.extra_size);
    data = raft_configuration_encode(&c, &size);
    machine_entry(m, RAFT_ENTRY_CONFIG, data, size);
    free(data);
    free(c.extra);
    free(c.servers);
    for (size_t i = 0; i < n; i++) {
        free(urls[i]);
    }
    free(urls);
    free(members);
}

int64_t machine_revision(struct machine *m)
{
    return kv_revision(machine_kv(m));
}

struct kv_change machine_get(struct machine *m, const char *key)
{
    struct kv_change pair;

    if (!kv_get(machine_kv(m), text_slice(key), &pair)) {
        return (struct kv_change){0};
    }
    return pair;
}
