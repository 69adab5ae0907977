/*
 * identify.h - "who am I?", asked by a server without data of those who have
 * some: pawl.peer.v1.Peer/Identify, both sides. Main thread.
 */
#ifndef PAWL_IDENTIFY_H
#define PAWL_IDENTIFY_H

#include "proto/rpc.h"
#include "server/members.h"
#include "server/node.h"

/* ---- those who have data ------------------------------------------------- */

struct identify;

struct identify *identify_new(void);
void identify_free(struct identify *s); /* after the server; NULL is fine */
void identify_serve(struct identify *s, struct rpc_server *server);
/* From now on there is something to tell. token is borrowed. */
void identify_set_node(struct identify *s, struct node *node,
                       uint64_t cluster_id, const char *token);

/* ---- those who have none --------------------------------------------------
 */

struct identify_question {
    char *const *addresses; /* of peer ports: all are asked at once */
    size_t n_addresses;
    uint64_t cluster_id, member_id; /* that we would found; 0: none */
    char *const *peer_urls;
    size_t n_peer_urls;
    bool rejoin; /* see peer.proto */
    uint64_t timeout_ms;
};

/* The answer that says most; release it. */
struct identity {
    bool found; /* somebody with data answered; else error says what came */
    uint64_t cluster_id;
    uint64_t member_id; /* with our URLs; 0: nobody */
    uint64_t store_id;  /* that it published; 0: it never ran */
    bool removed;       /* member_id of the question was a member */
    struct members members;
    char error[256];
};

/* Runs the loop until all have answered or the time is up. */
void identify_ask(struct rpc_loop *loop, const struct identify_question *q,
                  struct identity *out);
void identity_release(struct identity *identity);

#endif
