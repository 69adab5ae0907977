/*
 * vow.h - a member that lost part of its log votes as if it still had it.
 *
 * By acknowledging an entry a member promises not to vote for anybody whose
 * log ends before it (5.4.1). The log itself keeps that promise; once part of
 * it is lost, the vow does: the place where the log ended, in a file beside
 * raft.db. Until the log is that far again
 * - requests for votes from candidates that are not so far go unheard,
 * - we do not stand for election.
 * Everything else goes on: entries are taken and acknowledged, which promises
 * nothing that is not kept.
 */
#ifndef PAWL_VOW_H
#define PAWL_VOW_H

#include "raft/raft.h"

struct vow {
    char *path; /* DATA-DIR/vow */
    bool held;
    raft_term term; /* the log's end, as (term, index) */
    raft_index index;
};

/* Ends the process if there is a file that cannot be read. */
void vow_load(struct vow *v, const char *data_dir);
/* Durable when it returns: 0 or an errno. */
int vow_take(struct vow *v, raft_term term, raft_index index);
/* Nobody is left to whom it was given. 0 or an errno. */
int vow_drop(struct vow *v);
void vow_release(struct vow *v);

/* Whether a message that arrived, or that the core sends, is to be dropped. */
bool vow_forbids_in(const struct vow *v, const struct raft_message *m);
bool vow_forbids_out(const struct vow *v, const struct raft_message *m);
/* Drop the vow if the synced log has reached it. */
void vow_check(struct vow *v, const struct raft *r);

#endif
