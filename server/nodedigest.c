/*
 * nodedigest.c - the node tells the others its digest and judges theirs.
 */
#include <inttypes.h>

#include "server/logger.h"
#include "server/nodeinternal.h"

static void judge(struct node *n)
{
    raft_index index = 0;

    switch (
        digests_judge(n->digests, raft_configuration_now(n->raft), &index)) {
    case DIGEST_AGREES:
        break;
    case DIGEST_DOUBTFUL:
        log_line(LOG_ERROR,
                 "another member's state differs from ours at entry %" PRIu64
                 "; it is not known whose is wrong",
                 index);
        break;
    case DIGEST_DIVERGED:
        if (n->env.diverged != NULL) {
            n->env.diverged(n->env.context, index);
        }
        break;
    }
}

void node_digest_applied(struct node *n)
{
    digests_applied(n->digests, applier_index(n->applier),
                    applier_digest(n->applier));
}

void node_digest_heard(struct node *n, raft_id from,
                       const Pawl__Peer__V1__Forward *item)
{
    digests_heard(n->digests, from, item->index, item->digest);
}

void node_digest_round(struct node *n)
{
    Pawl__Peer__V1__Forward item = PAWL__PEER__V1__FORWARD__INIT;
    size_t n_members;
    const struct member *members = applier_members(n->applier, &n_members);

    judge(n);
    if (!digests_due(n->digests, node_now_ms(n), &item.index, &item.digest)) {
        return;
    }
    item.what_case = PAWL__PEER__V1__FORWARD__WHAT_DIGEST;
    for (size_t i = 0; i < n_members; i++) {
        if (members[i].id != n->config.id) {
            n->env.forward(n->env.context, members[i].id, &item);
        }
    }
}
