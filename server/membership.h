/*
 * membership.h - may the members change like that, and what are they then?
 * Pure: the leader asks with what it knows, tests with what they make up.
 *
 * A new voter always comes as a learner that is promoted by itself once it has
 * caught up (auto_promote), so a wrong address or an empty disk never counts
 * for a quorum (C8, C9). The checks are those of etcd with
 * --strict-reconfig-check; they count such a learner as the voter that it is
 * to become.
 */
#ifndef PAWL_MEMBERSHIP_H
#define PAWL_MEMBERSHIP_H

#include "proto/status.h"
#include "server/members.h"

/* What a leader knows. Arrays go by the places in members->list. */
struct membership_view {
    raft_id leader;
    const struct members *members; /* applied, and no change is under way */
    const bool *active;            /* heard of within an election timeout */
    const bool *caught_up;         /* a learner that may be promoted */
};

/*
 * ST_OK, or why not; see MemberChange for the fields. Beside etcd's:
 * ST_MEMBER_REPLACED  a learner that is to replace it is there already
 * ST_MEMBER_ALIVE     only_if_silent, and it is not
 */
enum status membership_check(const struct membership_view *v,
                             const Pawl__Command__V1__MemberChange *change);

/*
 * The configuration that a checked change leads to, the change itself in its
 * extra. membership_target_release() frees it.
 */
void membership_target(const struct members *ms,
                       const Pawl__Command__V1__MemberChange *change,
                       struct raft_configuration *target);
void membership_target_release(struct raft_configuration *target);

/* The change by which a learner that was asked to becomes a voter. */
void membership_promotion(const struct members *ms, const struct member *m,
                          Pawl__Command__V1__MemberChange *change);

/* The first bytes of SHA-1, as a number; never 0. */
uint64_t membership_digest(const void *data, size_t size);
/* http://host:port, at least one, none twice. */
bool membership_urls_are_good(char *const *urls, size_t n);
/*
 * As etcd makes ids: the first bytes of SHA-1 over the sorted URLs, the
 * cluster's token and the time (CLU1). Never 0. time_ns 0: a founder's,
 * without.
 */
uint64_t membership_new_id(char *const *urls, size_t n, const char *token,
                           uint64_t time_ns);

#endif
