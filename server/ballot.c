/*
 * ballot.c - the second copy of term and vote.
 */
#include "server/ballot.h"

#include <stdlib.h>

#include "proto/base.h"
#include "server/logger.h"
#include "server/smallfile.h"

#define KIND "pawl-ballot-1"

void ballot_load(struct ballot *b, const char *data_dir, uint64_t cluster_id,
                 raft_id member_id)
{
    uint64_t numbers[4];

    *b = (struct ballot){.path = mem_printf("%s/ballot", data_dir),
                         .cluster_id = cluster_id,
                         .member_id = member_id};
    switch (smallfile_read(b->path, KIND, numbers, 4)) {
    case SMALLFILE_OK:
        if (numbers[0] == cluster_id && numbers[1] == member_id) {
            b->term = numbers[2];
            b->voted_for = numbers[3];
        }
        break;
    case SMALLFILE_NONE:
        break;
    case SMALLFILE_DAMAGED:
        log_line(LOG_WARN, "%s is damaged; it is written anew", b->path);
        break;
    }
}

int ballot_keep(struct ballot *b, const struct raft_hard_state *hs)
{
    const uint64_t numbers[] = {b->cluster_id, b->member_id, hs->term,
                                hs->voted_for};

    if (hs->term == b->term && hs->voted_for == b->voted_for) {
        return 0;
    }
    b->term = hs->term;
    b->voted_for = hs->voted_for;
    return smallfile_write(b->path, KIND, numbers, 4);
}

bool ballot_is_newer(const struct ballot *b, const struct raft_hard_state *hs)
{
    return b->term > hs->term || (b->term == hs->term && b->voted_for != 0 &&
                                  b->voted_for != hs->voted_for);
}

void ballot_release(struct ballot *b)
{
    free(b->path);
    *b = (struct ballot){0};
}
