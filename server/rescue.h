/*
 * rescue.h - the ways back when a quorum is lost for good: go on with the data
 * of one member, or begin anew from a backup. Before the node runs.
 */
#ifndef PAWL_RESCUE_H
#define PAWL_RESCUE_H

#include "raft/store.h"
#include "server/options.h"

/*
 * --force-new-cluster: append to the log, of which log is the content, that
 * member self alone is the cluster, in a new term. All entries stay, as any of
 * them may have been acknowledged. peer_urls: where it is called from now on.
 * Load the log again after it. Ends the process if the disk refuses.
 */
void rescue_force(struct store *store, const struct store_content *log,
                  uint64_t self, char *const *peer_urls, size_t n_peer_urls);

/*
 * --restore-from: make --data-dir from a copy of state.db. One member, with
 * new ids of cluster and member, so that nobody of the old cluster talks to it;
 * the revision moved on by --bump-revision; all leases ended and their keys
 * deleted, as whoever held them has been told otherwise since. Returns the
 * process's exit status.
 */
int rescue_restore(const struct options *o);

/* The entry that a cluster's log begins with, for all of the founders. Ends the
 * process if the disk refuses. */
void rescue_found(struct store *store, const struct member *founders,
                  size_t n_founders);

#endif
