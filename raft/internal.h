/*
 * internal.h - what the core's files keep among themselves.
 *
 *     raft.c         life cycle, ready and advance, the queue of messages
 *     election.c     roles, terms, votes, timers, transfer of leadership
 *     replication.c  entries from leader to followers, commit
 *     membership.c   changes of the configuration
 *     snapshot.c     who needs one, the log that begins anew behind one
 *     read.c         read index
 *     config.c       members and quorums (pure)
 *     progress.c     one follower as its leader sees it (pure)
 *     log.c          entries in memory and what of them is on disk (pure)
 *     check.c        what holds after every call
 *
 * The pure ones know nothing of struct raft. Of the others, only election.c
 * moves role, term and vote, and only replication.c moves commit_index.
 */
#ifndef RAFT_INTERNAL_H
#define RAFT_INTERNAL_H

#include "raft/base.h"
#include "raft/raft.h"

/* ---- log.c ------------------------------------------------------------- */

/* Disk work that was handed out and is not yet confirmed. */
struct log_batch {
    uint64_t number;
    raft_index last_index;      /* the log is stable up to here with it;
                                   lowered when the log is cut meanwhile */
    uint64_t handed_at;         /* tick */
    struct raft_entry *entries; /* the batch's own copy of the descriptions */
    size_t capacity;
};

/* Data of an entry that was cut away while a batch may still read it. */
struct log_grave {
    uint64_t batch; /* the last one that may */
    void *data;
};

/*
 *            prev_index       stable_index   handed_index     last
 *                 |                |              |             |
 *   (cut away)    |   on disk      | being        | not yet     |
 *                 |                | written      | handed out  |
 */
struct log {
    struct raft_entry *slots; /* a window that slides to the right */
    size_t capacity;
    size_t start; /* slots[start] is the entry at prev_index + 1 */
    size_t n;

    raft_index prev_index; /* the last entry that was compacted; 0: none */
    raft_term prev_term;

    raft_index handed_index;
    raft_index stable_index;
    raft_index truncate_from; /* the next batch cuts the disk here; 0: no */

    struct log_batch *batches; /* ring of those in flight, oldest first */
    size_t batches_capacity;
    size_t batches_head;
    size_t n_batches;
    uint64_t last_batch;    /* handed out */
    uint64_t stable_batch;  /* confirmed */
    uint64_t restore_batch; /* the last that begins the log anew; 0: none */

    struct log_grave *graves; /* ascending by batch */
    size_t graves_capacity;
    size_t n_graves;
};

void log_init(struct log *l, raft_index prev_index, raft_term prev_term);
void log_release(struct log *l);

raft_index log_first_index(const struct log *l); /* may be last + 1: empty */
raft_index log_last_index(const struct log *l);
raft_term log_last_term(const struct log *l);
/* prev_index <= i <= last */
raft_term log_term(const struct log *l, raft_index i);
/* first <= i <= last */
const struct raft_entry *log_at(const struct log *l, raft_index i);
/* 3.6.1: is (index, term) at least as far as our last entry? */
bool log_is_up_to_date(const struct log *l, raft_index index, raft_term term);
/* Highest i in [prev_index, min(from, last)] with a term <= term; if there is
 * none, or from is below that, min(from, prev_index). */
raft_index log_find_term(const struct log *l, raft_index from, raft_term term);
/* How many entries from `from` on, up to `to`, fit in bytes_max (at least one
 * if there is any) and n_max; *bytes gets their size. */
size_t log_fit(const struct log *l, raft_index from, raft_index to,
               size_t n_max, size_t bytes_max, size_t *bytes);

/* Append one; its data is copied. */
void log_append(struct log *l, const struct raft_entry *e);
/* What came from the disk is stable and handed out. */
void log_all_is_stable(struct log *l);
/* Forget from, and all behind it. */
void log_truncate(struct log *l, raft_index from);
/* Forget all up to and including index, which is stable. */
void log_compact(struct log *l, raft_index index);
/* Begin anew behind index, which the state machine has durably, whatever the
 * disk holds of the log. True if the entries behind it stay: they do if we had
 * that very entry. The next batch stores it. */
bool log_restore(struct log *l, raft_index index, raft_term term);
/* The batch that does is not stable. */
bool log_is_restoring(const struct log *l);

bool log_has_work(const struct log *l);
/* A new batch of all that is not yet on the way to the disk, maybe nothing.
 * Fills batch, truncate_from, entries, n_entries of rd. */
void log_hand_out(struct log *l, uint64_t now, struct raft_ready *rd);
/* When the oldest batch that is not yet stable was handed out. False: none. */
bool log_oldest_batch(const struct log *l, uint64_t *handed_at);
/* The batch that makes i stable: 0 if it is, the next if not handed out. While
 * the log begins anew nothing is, before that is stored. */
uint64_t log_batch_of(const struct log *l, raft_index i);
/* False if this tells nothing new. */
bool log_stable(struct log *l, uint64_t batch);

/* ---- config.c ---------------------------------------------------------- */

#define CONFIG_NOBODY SIZE_MAX

void config_copy(struct raft_configuration *to,
                 const struct raft_configuration *from);
/* Place in c->servers, or CONFIG_NOBODY. */
size_t config_find(const struct raft_configuration *c, raft_id id);
/* Of either set, if it is joint (4.3). */
bool config_is_voter(const struct raft_configuration *c, raft_id id);
/* Also when the joint configuration is left. */
bool config_stays_voter(const struct raft_configuration *c, raft_id id);
bool config_is_sole_voter(const struct raft_configuration *c, raft_id id);
/* Are those servers[i] with marks[i] != 0 a majority of each set of voters?
 * Never without voters. */
bool config_is_quorum(const struct raft_configuration *c, const uint8_t *marks);
/* Ids ascend, and each set has a voter. */
bool config_is_sane(const struct raft_configuration *c);
bool config_is_equal(const struct raft_configuration *a,
                     const struct raft_configuration *b);
/* What to put into the log now to get to target: itself or, if more than one
 * server begins or ceases to vote, a joint one. Release next. */
void config_step_towards(struct raft_configuration *next,
                         const struct raft_configuration *now,
                         const struct raft_configuration *target);
void config_leave_joint(struct raft_configuration *next,
                        const struct raft_configuration *joint);
/* The highest value that a quorum of voters has reached. values[i] belongs to
 * servers[i]; scratch has room for n_servers. 0 without voters. */
uint64_t config_quorum_value(const struct raft_configuration *c,
                             const uint64_t *values, uint64_t *scratch);

/* The configurations that the log holds, by index: rolled back with it. */
struct config_at {
    raft_index index; /* of the entry; 0 or prev_index: from the start */
    struct raft_configuration configuration;
};

struct config_history {
    struct config_at *items; /* ascending by index, never empty */
    size_t n;
    size_t capacity;
};

void config_history_init(struct config_history *h, raft_index index,
                         const struct raft_configuration *c); /* NULL: empty */
void config_history_release(struct config_history *h);
/* c is taken over. */
void config_history_push(struct config_history *h, raft_index index,
                         struct raft_configuration *c);
/* Both: true if the newest one changed (truncate), never (compact). */
bool config_history_truncate(struct config_history *h, raft_index from);
void config_history_compact(struct config_history *h, raft_index index);
const struct raft_configuration *
config_history_newest(const struct config_history *h);
raft_index config_history_newest_index(const struct config_history *h);
/* As of that index, and where that one began. */
const struct raft_configuration *
config_history_at(const struct config_history *h, raft_index index);
raft_index config_history_index_at(const struct config_history *h,
                                   raft_index index);
/* c holds at index; of the others those behind it stay, or none. */
void config_history_restore(struct config_history *h, raft_index index,
                            const struct raft_configuration *c, bool keep_tail);
/* Is there one with after < index <= to? */
bool config_history_within(const struct config_history *h, raft_index after,
                           raft_index to);

/* ---- progress.c -------------------------------------------------------- */

/*
 *               match known
 *   PROBE ------------------> REPLICATE
 *   ^ ^ |  one append at a time   | |     appends go out ahead of answers,
 *   | | |  until one matches      | |     next_index is optimistic
 *   | | +-------------------------+ |
 *   | |    an append was refused    | next_index was cut away
 *   | |                             v
 *   | +---------------------- SNAPSHOT    nothing is sent but heartbeats
 *   |    installed, or it         ^
 *   |    has what it needs        |
 *   +-----------------------------+
 *        next_index was cut away
 */
struct inflight {
    raft_index last_index; /* of the message's entries */
    size_t bytes;
};

struct progress {
    raft_id id;
    enum raft_progress_state state;
    raft_index match_index; /* known to be synced there */
    raft_index next_index;  /* > match_index */
    bool probe_sent;        /* PROBE: unanswered; wait */
    bool nudge;             /* send an empty append to find out what is lost */
    raft_index commit_sent; /* highest leader_commit told by append */
    uint64_t retry_at;      /* SNAPSHOT: ask the driver again; see below */
    bool is_heard;          /* it said something at all, since then: */
    uint64_t heard_at;      /* tick of its last message, or of our beginning */
    uint64_t moved_at;      /* tick of its last answer to an append, or nudge */
    uint64_t round_acked;   /* newest read round it confirmed */

    struct inflight *window; /* ring of unanswered appends, oldest first */
    size_t window_capacity;
    size_t window_head;
    size_t window_n;
    size_t window_bytes;
};

void progress_init(struct progress *p, raft_id id, raft_index next_index,
                   size_t window_capacity, uint64_t now);
void progress_release(struct progress *p);
void progress_become_probe(struct progress *p, raft_index next_index);
/* The driver is told, and answers with progress_become_probe() or, to be told
 * again, with a tick in retry_at. */
void progress_become_snapshot(struct progress *p);
bool progress_may_send(const struct progress *p, size_t window_bytes_max);
/* An append with n entries, beginning at next_index, goes out. */
void progress_sent(struct progress *p, size_t n, size_t bytes);
/* It holds the log up to match. True if that is news. SNAPSHOT stays. */
bool progress_matched(struct progress *p, raft_index match);
/* It refused prev_log_index = refused and may match up to hint. False if that
 * answers something older than what we know. */
bool progress_refused(struct progress *p, raft_index refused, raft_index hint);

/* ---- the whole ---------------------------------------------------------- */

/* A message that waits for the disk, or only for the next raft_ready(). */
struct outgoing {
    struct raft_message message;
    uint64_t batch; /* leaves once this one is stable */
    raft_term term; /* ours when it was made; stale in another */
};

struct outbox {
    struct outgoing *items;
    size_t n;
    size_t capacity;
};

struct election {
    unsigned elapsed; /* ticks since the leader spoke or the timer was set */
    unsigned timeout; /* in [election_ticks, 2 * election_ticks) */
    uint8_t *granted; /* one mark per server of the configuration */
    uint8_t *hopeful; /* the same: has not refused */
    bool self_counted;
    uint64_t self_batch;  /* our own vote counts once this is stable */
    raft_id transferee;   /* leader: 0 if no transfer is under way */
    uint64_t transfer_at; /* tick of its start */
    bool resigns;         /* leader: steps down when that fails */
    uint64_t resign_at;   /* tick of that decision */
};

struct read_request {
    uint64_t context;
    raft_id asker;
    uint64_t asked_at; /* tick */
    raft_index index;  /* set with round */
    uint64_t round;    /* the heartbeat round that confirms it */
};

struct read_queue {
    struct read_request *items;
    size_t capacity;
    size_t start;
    size_t n;
};

struct reads {
    uint64_t round;          /* newest begun; rises over all terms */
    struct read_queue asked; /* leader: [0, n_begun) have a round */
    size_t n_begun;
    struct read_queue forwarded; /* asked of leader_id */
    struct raft_read_result *results;
    size_t n_results;
    size_t results_capacity;
};

/* A server that the newest configuration has dropped. It is replicated to for
 * a while, so that it learns. */
struct departing {
    struct progress progress;
    raft_index index; /* of the configuration */
    uint64_t until;   /* tick; set when that is committed */
};

/* What the last call left, for check.c. */
struct past {
    raft_term current_term;
    raft_id voted_for;
    raft_index commit_index;
    raft_index last_applied;
};

struct raft {
    struct raft_config config;
    struct rng rng;
    uint64_t now; /* ticks since the start */

    raft_term current_term;
    raft_id voted_for;
    bool hard_state_dirty;     /* term or vote differ from the last batch */
    uint64_t hard_state_batch; /* the batch that stores them */
    raft_term term_stored;     /* the term in it, */
    uint64_t term_batch;       /* and the batch that stored that first */
    raft_index commit_stored;  /* the hint in the last batch that had one */

    struct log log;
    struct config_history configs;
    raft_index config_noted; /* membership_note() has seen it */
    bool was_member;         /* a committed configuration names us */
    bool is_removed;         /* and a later one does not */
    raft_index commit_index;
    raft_index last_applied;

    struct raft_snapshot *restore; /* being installed, or not yet stable */
    bool is_installing;            /* the former */

    enum raft_role role;
    raft_id leader_id;
    struct election election;

    /* Leader. One per server of the configuration, same places. */
    struct progress *progress;
    size_t n_progress;
    struct departing *departing; /* no members any more */
    size_t n_departing;
    uint64_t *scratch;           /* 2 * n_progress values, for quorums */
    raft_index term_first_index; /* our no-op */
    size_t uncommitted_bytes;
    unsigned heartbeat_elapsed;
    bool heartbeat_due;
    bool round_due;           /* tell voters of a new read round */
    raft_index commit_then;   /* commit_index one to two election timeouts */
    raft_index commit_sample; /* ago, and less than one ago */
    uint64_t sampled_at;

    raft_index leader_all_match; /* follower: what the leader last said */
    raft_index leader_match;     /* agreed with this term's leader up to here */
    struct reads reads;

    struct outbox outbox;
    bool ready_pending; /* between raft_ready() and raft_advance() */
    struct raft_message *out;
    size_t n_out;
    size_t out_capacity;
    size_t n_committed_out;
    raft_id *needy; /* members that need a snapshot */
    size_t n_needy;
    size_t needy_capacity;

    struct past past;
};

/* Limits that bound work and memory but are nobody's wish to change. */
enum {
    APPEND_ENTRIES_MAX = 16384,    /* entries in one message */
    COMMITTED_ENTRIES_MAX = 16384, /* handed out in one ready */
    COMMITTED_BYTES_MAX = 4 << 20, /* and their data */
    OUTBOX_MAX = 4096,             /* beyond it messages count as lost */
};

/* raft.c */
const struct raft_configuration *raft_members(const struct raft *r);
/* The batch after which our term and vote are on disk. */
uint64_t raft_vote_batch(const struct raft *r);
/* Queue m, completed with from (and term if it is 0), to leave once our term
 * and vote, and batch, are stable. */
void raft_send(struct raft *r, struct raft_message m, uint64_t batch);
/* Drop queued requests for votes: a new campaign asks anew. */
void raft_drop_vote_requests(struct raft *r);
/* Room for one more message in this raft_ready(); zeroed but for from, term. */
struct raft_message *raft_out(struct raft *r, enum raft_message_type type,
                              raft_id to);
/* Append to our log, keeping the configuration in step. */
void raft_append(struct raft *r, const struct raft_entry *e);

/* election.c */
void election_reset_timer(struct raft *r);
void election_become_follower(struct raft *r, raft_term term, raft_id leader);
void election_tick(struct raft *r);
void election_campaign_alone(struct raft *r);
void election_stable(struct raft *r); /* maybe our own vote counts now */
bool election_leader_lives(const struct raft *r);
void election_pre_vote(struct raft *r, const struct raft_message *m);
void election_request_vote(struct raft *r, const struct raft_message *m);
void election_response(struct raft *r, const struct raft_message *m);
void election_timeout_now(struct raft *r, const struct raft_message *m);
void election_transfer_caught_up(struct raft *r, const struct progress *p);
/* Hand leadership to the voter that is furthest, or step down one election
 * timeout later. */
void election_resign(struct raft *r);

/* replication.c */
void replication_begin(struct raft *r); /* we just became leader */
void replication_end(struct raft *r);
void replication_configure(struct raft *r); /* the configuration changed */
struct progress *replication_progress(const struct raft *r, raft_id id);
void replication_stable(struct raft *r);
void replication_heartbeats(struct raft *r);
void replication_fill(struct raft *r); /* appends, into r->out */
bool replication_append_is_sane(const struct raft *r,
                                const struct raft_message *m);
void replication_append(struct raft *r, const struct raft_message *m);
void replication_append_response(struct raft *r, const struct raft_message *m);
void replication_heartbeat(struct raft *r, const struct raft_message *m);
void replication_heartbeat_response(struct raft *r,
                                    const struct raft_message *m);
raft_index replication_all_match(const struct raft *r);
bool replication_quorum_is_heard(const struct raft *r);
bool replication_is_recent(const struct raft *r, const struct progress *p);
/* The voter, not we, that stays one, is heard and holds most. NULL: none. */
const struct progress *replication_furthest(const struct raft *r);
/* The only one that moves commit_index: never back. */
void replication_commit_to(struct raft *r, raft_index index);

/* membership.c */
void membership_note(struct raft *r); /* commit_index moved */
void membership_proceed(struct raft *r);
void membership_depart(struct raft *r, struct progress *p);
void membership_forget(struct raft *r); /* whom we sent off */
struct progress *membership_departing(const struct raft *r, raft_id id);
/* 0, or the index of the committed configuration that does not name id. */
raft_index membership_without(const struct raft *r, raft_id id);
void membership_told_removed(struct raft *r, raft_index index);

/* snapshot.c */
void snapshot_ask(struct raft *r, struct progress *p);
void snapshot_start(struct raft *r, const struct raft_start *start);
void snapshot_stable(struct raft *r);
void snapshot_release(struct raft *r);
bool snapshot_is_restoring(const struct raft *r);

/* read.c */
void read_release(struct reads *reads);
void read_ask(struct raft *r, raft_id asker, uint64_t context);
void read_forward(struct raft *r, uint64_t context);
void read_begin_round(struct raft *r);
void read_confirm(struct raft *r);
void read_tick(struct raft *r);
void read_lose_leader(struct raft *r);
void read_index_request(struct raft *r, const struct raft_message *m);
void read_index_response(struct raft *r, const struct raft_message *m);

/* check.c */
void check_all(struct raft *r);

#endif
