/*
 * peers.h - the links to the other members, both ways, on the RPC layer.
 *
 * To each member two connections: Raft messages on one, requests for the
 * leader on the other, so that a flood of writes never delays a heartbeat.
 * Every stream opens with a Hello; one of another cluster, for another member,
 * from one that was removed or has lost its data is refused (A15, F6). Links
 * open when there is something to send and again, not more often than every
 * 100 ms, after they were lost; messages meanwhile are dropped, which Raft
 * takes for loss. Main thread.
 *
 *     MEMBER ----- not in the list any more, removed ----> DEPARTING
 *       |  ^                                                   |
 *       |  +- in the list --+                                  | its time is up
 *       +- not in the list -+> STRANGER -- calls no more --> gone
 *
 * A stranger calls us, or did, and our list does not name it: ours may be older
 * than its (4.1). Whoever was removed is still sent, for a while, that it was.
 */
#ifndef PAWL_PEERS_H
#define PAWL_PEERS_H

#include "proto/rpc.h"
#include "server/node.h"
#include "server/vow.h"

struct peers;

/* What another member told us of ourselves, which ends this process. */
enum peers_refusal {
    PEERS_REMOVED = 1, /* from the cluster, for ever */
    PEERS_OTHER_STORE, /* our member had another raft.db than this one */
};

struct peers_config {
    uint64_t cluster_id;
    raft_id self;
    uint64_t incarnation;
    uint64_t store_id;
    char *const *peer_urls; /* where we are called; borrowed */
    size_t n_peer_urls;
    uint64_t departing_ms; /* how long who was removed is still called */
    void (*on_refused)(void *context, enum peers_refusal why); /* may be NULL */
    void *context;
    const struct vow *vow; /* keeps messages from the node */
};

struct peers *peers_new(struct rpc_loop *loop, const struct peers_config *c);
void peers_free(struct peers *p);

/* The node that gets what arrives. Once, before the loop runs. */
void peers_set_node(struct peers *p, struct node *node);
/* Adds the Peer service to the server of the peer port. */
void peers_serve(struct peers *p, struct rpc_server *server);
/*
 * What the log says of a member's store beyond what is applied yet: at start a
 * wiped member must not be heard before that either (F6).
 */
void peers_expect_store(struct peers *p, raft_id id, uint64_t store_id);
/* Make the links those of the members, self left out. Who stays at the same
 * address keeps its link and its streams. */
void peers_set_members(struct peers *p, const struct member *members, size_t n);

/* For other streams between members: our Hello, and a look at theirs. 0: it was
 * refused, and the call is over. */
void peers_hello(const struct peers *p, raft_id to, Pawl__Peer__V1__Hello *h);
raft_id peers_accept_hello(struct peers *p, struct rpc_call *c,
                           const Pawl__Peer__V1__Hello *h);

/* Effects of struct node_env; context is the struct peers. */
void peers_send(void *context, const struct raft_message *messages, size_t n);
void peers_forward(void *context, raft_id to,
                   const Pawl__Peer__V1__Forward *item);
void peers_forward_reply(void *context, raft_id to,
                         const Pawl__Peer__V1__ForwardResult *item);
/* Send what forwards and replies gathered, end links that are over; once a
 * round. */
void peers_flush(struct peers *p);

#endif
