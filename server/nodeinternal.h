/*
 * nodeinternal.h - what node.c, noderead.c, nodelease.c and nodemember.c share.
 */
#ifndef PAWL_NODEINTERNAL_H
#define PAWL_NODEINTERNAL_H

#include "server/digest.h"
#include "server/node.h"

TAILQ_HEAD(proposal_list, node_proposal);
LIST_HEAD(read_list, node_read);
LIST_HEAD(lease_query_list, node_lease_query);

/* Reads that share one read index. */
struct read_batch {
    TAILQ_ENTRY(read_batch) link;
    uint64_t context; /* the core's number for it */
    uint64_t started_ms;
    bool confirmed;
    raft_index index; /* if confirmed */
    struct read_list reads;
};

TAILQ_HEAD(read_batch_list, read_batch);

struct node {
    struct node_config config;
    struct node_env env;
    struct raft *raft;
    struct applier *applier;
    struct arena arena; /* of the entry being applied */
    bool in_ready;      /* between raft_ready() and raft_advance() */

    /* Role as last noticed. */
    enum raft_role role;
    raft_id leader;
    raft_term term;
    raft_term applied_term; /* of the newest applied entry */

    /* Proposals: by slot, and in order of their start. */
    struct node_proposal **slots;
    uint32_t *free_slots;
    size_t n_slots, n_free_slots;
    uint64_t generation;
    struct proposal_list waiting; /* term == 0: not on their way */
    struct proposal_list sent;
    bool propose_soon;       /* waiting is not empty and worth a try */
    raft_index change_index; /* newest change of the members of ours */

    /* Reads: new ones, then batches in order of their start. */
    struct read_list new_reads;
    struct read_batch_list read_batches;
    uint64_t read_context;
    size_t read_batches_unconfirmed;

    /* Lease questions that wait for the leader. */
    struct lease_query_list lease_queries;
    uint64_t lease_request;

    /* state.db */
    size_t state_writes; /* on their way */
    bool restoring;      /* another one is being put in place */
    raft_index log_hold; /* not cut above it; 0: no matter */
    uint64_t state_taken_ms;

    struct digests *digests;

    node_listener *listener;
    void *listener_context;
};

/* A slot and a number; then into the queue, once p has its data. */
void node_number_proposal(struct node *n, struct node_proposal *p);
void node_queue_proposal(struct node *n, struct node_proposal *p, bool patient);
enum status node_timeout_status(const struct node *n, bool under_way);

/* noderead.c */
void node_reads_start(struct node *n);
void node_read_result(struct node *n, const struct raft_read_result *result);
void node_reads_serve(struct node *n);
void node_reads_tick(struct node *n, uint64_t now_ms);
void node_reads_stop(struct node *n);

/* nodelease.c */
void node_lease_query_for(struct node *n, raft_id from, uint64_t request,
                          bool renew, int64_t id);
void node_lease_result(struct node *n,
                       const Pawl__Peer__V1__ForwardResult *item);
void node_leases_resend(struct node *n);
void node_leases_tick(struct node *n, uint64_t now_ms);
void node_leases_stop(struct node *n);

/* nodemember.c */
enum node_change {
    NODE_CHANGE_TAKEN,
    NODE_CHANGE_LATER,  /* another is under way, or we do not lead (any more) */
    NODE_CHANGE_REFUSED /* *why tells */
};
/* Leader: check an encoded MemberChange and propose what it leads to. */
enum node_change node_try_change(struct node *n, const uint8_t *data,
                                 size_t size, enum status *why);
void node_forwarded_change(struct node *n, raft_id from,
                           const Pawl__Peer__V1__Forward *item);
void node_members_tick(struct node *n);
void node_members_applied(struct node *n); /* a new list */

/* nodedigest.c */
void node_digest_applied(struct node *n); /* after each entry */
void node_digest_heard(struct node *n, raft_id from,
                       const Pawl__Peer__V1__Forward *item);
void node_digest_round(struct node *n);

#endif
