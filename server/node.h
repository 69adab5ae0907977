/*
 * node.h - one member: drives the Raft core and the applier, and answers those
 * who wait for them. The loop that matters is node_round(), on one screen.
 *
 *     inputs    node_tick(), node_step(), node_stable(), node_persisted(),
 *               node_on_forward…(), node_propose(), node_read()
 *     round     node_round(): start reads, write, send, apply, answer
 *     effects   struct node_env: log thread, peers, state thread, clock
 *
 * All effects go through struct node_env, so a simulator can run the very code
 * that ships. Belongs to the main thread.
 *
 * Requests are structs that the caller embeds in memory of its own, which must
 * stay until done() was called or the request was cancelled. done() is called
 * exactly once, never from inside the function that started the request.
 */
#ifndef PAWL_NODE_H
#define PAWL_NODE_H

#include <sys/queue.h>

#include "command.pb-c.h"
#include "peer.pb-c.h"
#include "raft/raft.h"
#include "server/applier.h"

struct node;

struct node_env {
    void *context;
    uint64_t (*now_ms)(void *context); /* monotonic */
    /* rd.batch != 0; answered by node_stable(). */
    void (*log_append)(void *context, const struct raft_ready *rd);
    void (*log_compact)(void *context, raft_index index,
                        const struct raft_configuration *configuration);
    void (*send)(void *context, const struct raft_message *messages, size_t n);
    /* To the leader; item is borrowed. Lost ones are nobody's concern here. */
    void (*forward)(void *context, raft_id to,
                    const Pawl__Peer__V1__Forward *item);
    void (*forward_reply)(void *context, raft_id to,
                          const Pawl__Peer__V1__ForwardResult *item);
    /* c is given; answered by node_persisted(). */
    void (*state_write)(void *context, struct changeset *c);
    /* Leading: these need a snapshot; node_snapshot_sent() answers. NULL: they
     * never do. Not from inside this call. */
    void (*snapshots)(void *context, const raft_id *members, size_t n);
    /* The member list is new, at start or because one was applied. Borrowed. */
    void (*members)(void *context, const struct member *members, size_t n);
    /* The state here is not that of a majority: it must not be served from
     * any more. May be NULL. */
    void (*diverged)(void *context, raft_index index);
};

struct node_config {
    raft_id id;
    uint64_t incarnation; /* differs with every start; never 0 */
    uint64_t seed;
    unsigned tick_ms;
    unsigned heartbeat_ms, election_ms; /* multiples of tick_ms */
    unsigned request_timeout_ms;
    size_t log_keep_entries; /* behind the cut, for slow followers */
};

/* 50, 100 and 1000 ms; 5 s + 2 election timeouts; 5000 entries. */
void node_config_defaults(struct node_config *c);

/* applier is borrowed and loaded; start as raft_new(). */
struct node *node_new(const struct node_config *config,
                      const struct node_env *env,
                      const struct raft_start *start, struct applier *applier);
void node_free(struct node *n);

/* ---- inputs ---------------------------------------------------------------
 */

void node_tick(struct node *n); /* every tick_ms */
enum raft_status node_step(struct node *n, const struct raft_message *m);
void node_stable(struct node *n, uint64_t batch);
void node_persisted(struct node *n, raft_index index);
/* The connection to that member broke: if it leads, maybe it is dead. */
void node_link_lost(struct node *n, raft_id id);
void node_on_forward(struct node *n, raft_id from,
                     const Pawl__Peer__V1__Forward *item);
void node_on_forward_result(struct node *n,
                            const Pawl__Peer__V1__ForwardResult *item);

/* Once per turn of the main loop, after all inputs. */
void node_round(struct node *n);
/* Hand all applied changes to the state thread now (at shutdown). */
void node_flush_state(struct node *n);

/* ---- writes ---------------------------------------------------------------
 */

/*
 * A change to the state machine. It is proposed here or sent to the leader,
 * and proposed again whenever it is certain that it was not applied, so a
 * change of leader costs the caller nothing but time.
 *
 * done: st is the outcome at apply and result tells more (good during the
 * call); or result is NULL and the change was not seen to be applied:
 * ST_TIMEOUT… it may be or still become so, ST_NO_LEADER, ST_TOO_MANY_REQUESTS,
 * ST_STOPPED it certainly was not. p is the caller's again.
 */
struct node_proposal {
    TAILQ_ENTRY(node_proposal) link;
    uint64_t request;
    raft_term term; /* 0: not on its way, waits for a leader */
    uint64_t deadline_ms;
    uint64_t give_up_ms; /* set by the caller, 0: never. Not on its way by
                            then: ST_NO_LEADER, while somebody still listens */
    bool is_change;      /* data is a MemberChange, not a command */
    const uint8_t *data; /* the encoded command; must live as long as p */
    size_t size;
    void (*done)(struct node_proposal *p, enum status st,
                 const struct applied *result);
};

/*
 * cmd's member, incarnation and request are filled in; it is encoded into the
 * arena, which must live as long as p. patient: no timeout.
 */
void node_propose(struct node *n, struct node_proposal *p,
                  Pawl__Command__V1__Command *cmd, struct arena *arena,
                  bool patient);
/*
 * A change of the members, in the same way: the leader checks it
 * (membership.h), one is under way at a time, and done comes when it is
 * applied here, or with the leader's reason to refuse it. Certainly not done:
 * ST_UNHEALTHY too, if the change before it did not come to its end in time.
 */
void node_change_members(struct node *n, struct node_proposal *p,
                         Pawl__Command__V1__MemberChange *change,
                         struct arena *arena);
/* done will not be called; the change may take effect all the same. */
void node_forget(struct node *n, struct node_proposal *p);

/* ---- reads ----------------------------------------------------------------
 */

/*
 * A linearizable read: done(ST_OK) comes when the state machine holds all that
 * was acknowledged anywhere before node_read(). Else ST_TIMEOUT, ST_NO_LEADER.
 */
struct node_read {
    LIST_ENTRY(node_read) link;
    uint64_t deadline_ms;
    void (*done)(struct node_read *r, enum status st);
};

void node_read(struct node *n, struct node_read *r);
void node_read_cancel(struct node_read *r);

/* ---- leases: questions that only the leader's clock answers ----------------
 */

/*
 * Renew a lease, or ask how long it has left. done: ST_OK with ttl (renew: 0
 * if there is no such lease; ask: -1), or ST_TIMEOUT, ST_NO_LEADER.
 */
struct node_lease_query {
    LIST_ENTRY(node_lease_query) link;
    struct node *node;
    struct node_read read;
    bool reading; /* read is under way */
    bool renew;   /* else: ask */
    int64_t id;
    uint64_t request;
    uint64_t deadline_ms, sent_ms;
    raft_id origin; /* 0: asked here; else the member that forwarded it */
    void (*done)(struct node_lease_query *q, enum status st, int64_t ttl_s,
                 int64_t granted_ttl_s);
};

void node_lease_query(struct node *n, struct node_lease_query *q);
void node_lease_cancel(struct node_lease_query *q);

/* ---- snapshots --------------------------------------------------------------
 */

/* As raft_snapshot_sent(). */
void node_snapshot_sent(struct node *n, raft_id to, raft_index index, bool ok);
/*
 * The log is not cut above index, which a member will go on from that is being
 * sent a snapshot; within reason. 0: cut as usual.
 */
void node_hold_log(struct node *n, raft_index index);

/*
 * As raft_restore_begin(). From RAFT_OK on nothing more is given to the state
 * thread until node_restore_end(): what is behind all that was given before may
 * put a new state.db in place.
 */
enum raft_status node_restore_begin(struct node *n,
                                    const struct raft_snapshot *s);
/*
 * ok: the state is now that of loaded, which is exchanged for the node's
 * applier: see applier_exchange(). Whoever waits for it here goes on: listeners
 * are told, reads served. Proposals that were on their way may or may not be
 * part of it: they are not proposed again, patient ones end with ST_TIMEOUT.
 */
void node_restore_end(struct node *n, bool ok, struct applier *loaded);

/* ---- questions -------------------------------------------------------------
 */

struct raft *node_raft(struct node *n);
struct applier *node_applier(struct node *n);
uint64_t node_now_ms(const struct node *n);
uint64_t node_incarnation(const struct node *n);

/*
 * Told after each applied entry that changed keys. One listener a slot;
 * changes are good during the call. n is 0 if anything may have changed: a
 * snapshot was installed.
 */
typedef void node_listener(void *context, const struct kv_change *changes,
                           size_t n);
void node_listen(struct node *n, node_listener *fn, void *context);

#endif
