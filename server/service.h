/*
 * service.h - turns requests into proposals and reads: what the methods of all
 * services share. One svc_*.c a service. Main thread.
 */
#ifndef PAWL_SERVICE_H
#define PAWL_SERVICE_H

#include "proto/rpc.h"
#include "server/node.h"

/* Announced where etcd announces its version; clients gate features on it. */
#define SERVICE_ETCD_VERSION "3.6.0"

struct lock_service;
struct publication;

struct service_config {
    uint64_t cluster_id;
    uint64_t member_id;
    size_t request_bytes_max;
    unsigned election_ms;      /* bounds lease TTLs from below */
    const struct member *self; /* name, client URLs, store to publish;
                                  borrowed */
    const char *token;         /* of the cluster: goes into new members' ids */
    struct statedb *statedb;   /* for its size; borrowed */
};

struct service {
    struct service_config config;
    struct rpc_loop *loop;
    struct node *node;
    struct applier *applier;
    struct lock_service *locks;
    LIST_HEAD(, move_call) moves;    /* svc_maintenance.c */
    struct publication *publication; /* of our name and URLs, on its way */
};

struct service *service_new(struct rpc_loop *loop, struct node *node,
                            const struct service_config *config);
void service_free(struct service *s);
/* Add all services of the client port. */
void service_serve(struct service *s, struct rpc_server *server);
/* With node_tick(). */
void service_tick(struct service *s);

/* ---- for the svc_*.c
 * ---------------------------------------------------------- */

/* A header from the call's arena. */
Etcdserverpb__ResponseHeader *
service_header(const struct service *s, struct rpc_call *c, int64_t revision);

/*
 * What is looked at before anything is done: whether we are a voter, for a
 * learner has nothing to say but what it is asked for as it stands (CLU10);
 * and from the request's metadata hasleader, and the fence of a guarded write
 * (*fence stays NULL if there is none).
 */
bool service_is_learner(const struct service *s); /* or no member (yet) */
enum status service_check(const struct service *s, struct rpc_call *c);
enum status service_fence(struct rpc_call *c, Pawl__Command__V1__Fence **fence);

/* Lease TTLs are raised to 1.5 election timeouts (LEA2). */
int64_t service_clamp_ttl(const struct service *s, int64_t ttl_s);
/* Positive, random, not in use here (LEA1). */
int64_t service_new_lease_id(const struct service *s);

/*
 * A unary call that waits for its command. reply() answers (or fails) the call
 * when the command was applied with ST_OK; every other outcome is answered
 * here. Allocated from the call's arena; ends with the call.
 */
struct write_call {
    struct node_proposal proposal;
    struct service *service;
    struct rpc_call *call;
    void (*reply)(struct write_call *w, const struct applied *result);
    uint64_t new_member; /* svc_cluster.c */
};

void service_write(struct rpc_call *c, Pawl__Command__V1__Command *cmd,
                   void (*reply)(struct write_call *w,
                                 const struct applied *result));
/* rpc_method.on_close of methods that use service_write(). */
void service_write_closed(struct rpc_call *c);

/* The same for a change of the members. */
void service_change(struct rpc_call *c, Pawl__Command__V1__MemberChange *change,
                    void (*reply)(struct write_call *w,
                                  const struct applied *result));

/* A unary call that waits for a read index; serve() answers it. */
struct read_call {
    struct node_read read;
    struct service *service;
    struct rpc_call *call;
    const ProtobufCMessage *request;
    void (*serve)(struct service *s, struct rpc_call *c,
                  const ProtobufCMessage *request);
};

void service_read(struct rpc_call *c, const ProtobufCMessage *request,
                  void (*serve)(struct service *s, struct rpc_call *c,
                                const ProtobufCMessage *request));
void service_read_closed(struct rpc_call *c);

/* Each file adds its methods. */
void svc_kv_serve(struct service *s, struct rpc_server *server);
void svc_lease_serve(struct service *s, struct rpc_server *server);
void svc_cluster_serve(struct service *s, struct rpc_server *server);
void svc_maintenance_serve(struct service *s, struct rpc_server *server);
void svc_maintenance_tick(struct service *s);

struct lock_service *svc_lock_new(struct service *s);
void svc_lock_free(struct lock_service *ls);
void svc_lock_serve(struct lock_service *ls, struct rpc_server *server);
void svc_lock_tick(struct lock_service *ls);

#endif
