/*
 * ballot.h - a second copy of term and vote, DATA-DIR/ballot, apart from
 * raft.db.
 *
 * It is written after raft.db holds them and before anybody relies on them;
 * they change with elections only, so it costs no write of the log a sync. A
 * raft.db that knows less than it is not the newest: a lost write, or an older
 * copy of the file.
 */
#ifndef PAWL_BALLOT_H
#define PAWL_BALLOT_H

#include "raft/raft.h"

struct ballot {
    char *path;
    uint64_t cluster_id;
    raft_id member_id;
    raft_term term; /* 0: there was no file */
    raft_id voted_for;
};

/* A file that is damaged counts as none: it is a second copy. */
void ballot_load(struct ballot *b, const char *data_dir, uint64_t cluster_id,
                 raft_id member_id);
/* Durable when it returns, if it is news: 0 or an errno. */
int ballot_keep(struct ballot *b, const struct raft_hard_state *hs);
/* Does that raft.db know less? */
bool ballot_is_newer(const struct ballot *b, const struct raft_hard_state *hs);
void ballot_release(struct ballot *b);

#endif
