/*
 * member.c - changes of the members. etcd's own calls where it has them, so
 * that they work with its servers too.
 */
#include "client/internal.h"

#include "pawl.pb-c.h"

static struct pawl_member member_from(void *result,
                                      const Etcdserverpb__Member *m)
{
    return (struct pawl_member){
        .id = m->id,
        .name = result_text(result, m->name),
        .peer_urls = result_texts(result, m->peerurls, m->n_peerurls),
        .n_peer_urls = m->n_peerurls,
        .client_urls = result_texts(result, m->clienturls, m->n_clienturls),
        .n_client_urls = m->n_clienturls,
        .is_learner = m->islearner,
    };
}

static void *change_convert(const Etcdserverpb__ResponseHeader *header,
                            const Etcdserverpb__Member *member,
                            Etcdserverpb__Member *const *from, size_t n)
{
    struct pawl_member_change_result *to = result_new(sizeof(*to));
    struct pawl_member *members = result_alloc(to, n, sizeof(*members));

    to->header = header_from(header);
    if (member != NULL) {
        to->member = member_from(to, member);
    }
    for (size_t i = 0; i < n; i++) {
        members[i] = member_from(to, from[i]);
    }
    to->members = members;
    to->n_members = n;
    return to;
}

static void *add_convert(const ProtobufCMessage *m)
{
    const Etcdserverpb__MemberAddResponse *r =
        (const Etcdserverpb__MemberAddResponse *)m;

    return change_convert(r->header, r->member, r->members, r->n_members);
}

static void *new_convert(const ProtobufCMessage *m)
{
    const Pawl__V1__AddResponse *r = (const Pawl__V1__AddResponse *)m;

    return change_convert(r->header, r->member, r->members, r->n_members);
}

static void *remove_convert(const ProtobufCMessage *m)
{
    const Etcdserverpb__MemberRemoveResponse *r =
        (const Etcdserverpb__MemberRemoveResponse *)m;

    return change_convert(r->header, NULL, r->members, r->n_members);
}

static void *update_convert(const ProtobufCMessage *m)
{
    const Etcdserverpb__MemberUpdateResponse *r =
        (const Etcdserverpb__MemberUpdateResponse *)m;

    return change_convert(r->header, NULL, r->members, r->n_members);
}

static void *promote_convert(const ProtobufCMessage *m)
{
    const Etcdserverpb__MemberPromoteResponse *r =
        (const Etcdserverpb__MemberPromoteResponse *)m;

    return change_convert(r->header, NULL, r->members, r->n_members);
}

/* None may be done twice: a repeated add is another member. */
static enum pawl_status change(struct pawl *p, const char *path,
                               const ProtobufCMessage *message,
                               const ProtobufCMessageDescriptor *response,
                               void *(*convert)(const ProtobufCMessage *m),
                               struct pawl_member_change_result **result)
{
    return call_run_into(p,
                         &(struct request){
                             .path = path,
                             .message = message,
                             .response = response,
                             .retry = RETRY_IF_NOT_APPLIED,
                             .endpoint = ANY_ENDPOINT,
                             .convert = convert,
                         },
                         result);
}

enum pawl_status pawl_member_add(struct pawl *p, const char *const *peer_urls,
                                 size_t n_peer_urls,
                                 const struct pawl_member_add_options *options,
                                 struct pawl_member_change_result **result)
{
    struct pawl_member_add_options o;
    Etcdserverpb__MemberAddRequest m = ETCDSERVERPB__MEMBER_ADD_REQUEST__INIT;
    Pawl__V1__AddRequest own = PAWL__V1__ADD_REQUEST__INIT;

    result_give(NULL, result);
    if (!options_copy(&o, sizeof(o), options)) {
        return pawl_fail_options(p);
    }
    if (o.learner && o.auto_promote) {
        own.peer_urls = (char **)(uintptr_t)peer_urls; /* only read */
        own.n_peer_urls = n_peer_urls;
        own.is_learner = true;
        own.auto_promote = true;
        return change(p, "/pawl.v1.Cluster/Add", &own.base,
                      &pawl__v1__add_response__descriptor, new_convert, result);
    }
    m.peerurls = (char **)(uintptr_t)peer_urls; /* only read */
    m.n_peerurls = n_peer_urls;
    m.islearner = o.learner;
    return change(p, "/etcdserverpb.Cluster/MemberAdd", &m.base,
                  &etcdserverpb__member_add_response__descriptor, add_convert,
                  result);
}

enum pawl_status pawl_member_remove(struct pawl *p, uint64_t id,
                                    struct pawl_member_change_result **result)
{
    Etcdserverpb__MemberRemoveRequest m =
        ETCDSERVERPB__MEMBER_REMOVE_REQUEST__INIT;

    m.id = id;
    return change(p, "/etcdserverpb.Cluster/MemberRemove", &m.base,
                  &etcdserverpb__member_remove_response__descriptor,
                  remove_convert, result);
}

enum pawl_status pawl_member_update(struct pawl *p, uint64_t id,
                                    const char *const *peer_urls,
                                    size_t n_peer_urls,
                                    struct pawl_member_change_result **result)
{
    Etcdserverpb__MemberUpdateRequest m =
        ETCDSERVERPB__MEMBER_UPDATE_REQUEST__INIT;

    m.id = id;
    m.peerurls = (char **)(uintptr_t)peer_urls; /* only read */
    m.n_peerurls = n_peer_urls;
    return change(p, "/etcdserverpb.Cluster/MemberUpdate", &m.base,
                  &etcdserverpb__member_update_response__descriptor,
                  update_convert, result);
}

enum pawl_status pawl_member_promote(struct pawl *p, uint64_t id,
                                     struct pawl_member_change_result **result)
{
    Etcdserverpb__MemberPromoteRequest m =
        ETCDSERVERPB__MEMBER_PROMOTE_REQUEST__INIT;

    m.id = id;
    return change(p, "/etcdserverpb.Cluster/MemberPromote", &m.base,
                  &etcdserverpb__member_promote_response__descriptor,
                  promote_convert, result);
}

enum pawl_status pawl_member_replace(struct pawl *p, uint64_t id,
                                     const char *const *peer_urls,
                                     size_t n_peer_urls,
                                     struct pawl_member_change_result **result)
{
    Pawl__V1__ReplaceRequest m = PAWL__V1__REPLACE_REQUEST__INIT;

    m.id = id;
    m.peer_urls = (char **)(uintptr_t)peer_urls; /* only read */
    m.n_peer_urls = n_peer_urls;
    return change(p, "/pawl.v1.Cluster/Replace", &m.base,
                  &pawl__v1__add_response__descriptor, new_convert, result);
}
