/*
 * fetch.h - the answering side of Peer.FetchEntries: entries of our log for a
 * member whose own are damaged. While we are being repaired ourselves they
 * come from the damaged file, later from the core. Main thread.
 */
#ifndef PAWL_FETCH_H
#define PAWL_FETCH_H

#include "peer.pb-c.h"
#include "proto/rpc.h"
#include "raft/raft.h"
#include "server/vow.h"

/* Where entries come from. */
struct fetch_source {
    void *context;
    /* Fill all but entries and next; memory from the arena. */
    void (*describe)(void *context, struct arena *arena,
                     Pawl__Peer__V1__FetchReply *out);
    /* NULL: not held, or not to be read. */
    const struct raft_entry *(*entry_at)(void *context, raft_index i);
};

struct fetch; /* one a server */

/* Adds the method; until there is a source it answers UNAVAILABLE. */
struct fetch *fetch_new(struct rpc_server *server);
void fetch_free(struct fetch *f); /* after the server; NULL is fine */
/* source is copied; NULL: none. */
void fetch_set_source(struct fetch *f, uint64_t cluster_id, raft_id self,
                      const struct fetch_source *source);

/* The source that is a running member; r and v are borrowed. */
struct fetch_running {
    const struct raft *raft;
    const struct vow *vow;
};
struct fetch_source fetch_from_raft(struct fetch_running *running);

#endif
