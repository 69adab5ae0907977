/*
 * vow.c - what a member that lost part of its log may not do.
 */
#include "server/vow.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "server/logger.h"
#include "server/smallfile.h"

#define KIND "pawl-vow-1"

void vow_load(struct vow *v, const char *data_dir)
{
    uint64_t numbers[2];

    *v = (struct vow){.path = mem_printf("%s/vow", data_dir)};
    switch (smallfile_read(v->path, KIND, numbers, 2)) {
    case SMALLFILE_OK:
        v->held = true;
        v->term = numbers[0];
        v->index = numbers[1];
        break;
    case SMALLFILE_NONE:
        break;
    case SMALLFILE_DAMAGED:
        log_die("%s is damaged: this member cannot tell which votes it may "
                "give; remove it from the cluster and add it again with an "
                "empty data directory",
                v->path);
    }
}

int vow_take(struct vow *v, raft_term term, raft_index index)
{
    const uint64_t numbers[] = {term, index};

    v->held = true;
    v->term = term;
    v->index = index;
    return smallfile_write(v->path, KIND, numbers, 2);
}

int vow_drop(struct vow *v)
{
    v->held = false;
    return smallfile_remove(v->path);
}

void vow_release(struct vow *v)
{
    free(v->path);
    *v = (struct vow){0};
}

static bool reaches(const struct vow *v, raft_term term, raft_index index)
{
    return term > v->term || (term == v->term && index >= v->index);
}

bool vow_forbids_in(const struct vow *v, const struct raft_message *m)
{
    switch (m->type) {
    case RAFT_PRE_VOTE:
    case RAFT_REQUEST_VOTE:
        return v->held && !reaches(v, m->log_term, m->log_index);
    case RAFT_TIMEOUT_NOW:
        return v->held;
    default:
        return false;
    }
}

bool vow_forbids_out(const struct vow *v, const struct raft_message *m)
{
    return v->held &&
           (m->type == RAFT_PRE_VOTE || m->type == RAFT_REQUEST_VOTE);
}

void vow_check(struct vow *v, const struct raft *r)
{
    raft_index stable = raft_stable_index(r);
    const struct raft_entry *e = raft_entry_at(r, stable);

    if (!v->held || e == NULL || !reaches(v, e->term, stable)) {
        return;
    }
    if (smallfile_remove(v->path) != 0) {
        return; /* it is asked again: keeping a vow too long does no harm */
    }
    v->held = false;
    log_line(LOG_INFO,
             "the log is whole again, at entry %" PRIu64 " of term %" PRIu64
             ": this member votes again",
             stable, e->term);
}
