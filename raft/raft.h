/*
 * raft.h - the consensus core: messages and ticks in, work to do out.
 *
 *     raft_tick(), raft_step(), raft_propose(), raft_read(),
 *     raft_transfer(), raft_propose_configuration(), raft_stable(),
 *     raft_snapshot_sent(), raft_restore()    in any order
 *     raft_ready()      what to persist, what to send, what to apply
 *     raft_advance()    all of it is under way
 *
 * The core does no I/O, reads no clock, starts no thread and keeps no globals:
 * the same calls in the same order give the same result. Time is the number
 * of raft_tick() calls.
 *
 * Raft's ordering rule (dissertation, 3.8) is kept in here and not left to the
 * driver: a vote, an acknowledgement, or any message of a new term waits
 * inside the core until raft_stable() says that what it vouches for is synced.
 * So a driver may start the disk write and send rd.messages at the same time.
 *
 * Not thread-safe: a struct raft belongs to one thread.
 * Sections cited as "3.6" are those of Ongaro's dissertation.
 */
#ifndef RAFT_RAFT_H
#define RAFT_RAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t raft_id;    /* a member; never 0, which means "nobody" */
typedef uint64_t raft_term;  /* first real term is 1 */
typedef uint64_t raft_index; /* a place in the log; first is 1, 0 = before it */

enum raft_status {
    RAFT_OK = 0,
    RAFT_NOT_LEADER,     /* only a leader does that: ask raft_leader() */
    RAFT_BUSY,           /* a limit of the config is reached, or leadership is
                            being transferred: retry later */
    RAFT_NOT_READY,      /* no leader is known, so nobody to ask */
    RAFT_BAD_MESSAGE,    /* malformed, for another member, or from a stranger:
                            dropped */
    RAFT_BAD_MEMBER,     /* no such voter */
    RAFT_CHANGE_PENDING, /* a change of the members is not yet committed and
                            applied: retry later */
    RAFT_BAD_CONFIGURATION, /* no voter, doubles, malformed, or no change */
    RAFT_STALE_SNAPSHOT,    /* our log is already as far */
    RAFT_BAD_SNAPSHOT,      /* contradicts what is committed here */
};

const char *raft_status_text(enum raft_status st);

enum raft_role {
    RAFT_FOLLOWER,
    RAFT_PRE_CANDIDATE, /* asks whether it could win; term untouched (9.6) */
    RAFT_CANDIDATE,
    RAFT_LEADER,
};

/* ---- the log ---------------------------------------------------------- */

enum raft_entry_type {
    RAFT_ENTRY_COMMAND = 1, /* the state machine's */
    RAFT_ENTRY_NOOP = 2,    /* a leader's first (6.4); no data */
    RAFT_ENTRY_CONFIG = 3,  /* an encoded raft_configuration */
};

struct raft_entry {
    raft_index index;
    raft_term term;
    enum raft_entry_type type;
    size_t size;         /* bytes in data */
    const uint8_t *data; /* NULL if size is 0 */
};

/* What must be on disk before anybody may rely on it; changes as one (3.8). */
struct raft_hard_state {
    raft_term term;
    raft_id voted_for; /* 0: nobody in this term */
    raft_index commit; /* a hint that may lag; never needs a sync of its own */
};

/* ---- the configuration (membership), carried by the log ---------------- */

/*
 * The last three are in joint configurations only (4.3), which the core makes
 * and leaves by itself. They say who belongs to which of the two majorities.
 *
 *                         counts in the old   in the new   becomes
 *     RAFT_LEARNER              no                no       learner
 *     RAFT_VOTER                yes               yes      voter
 *     RAFT_VOTER_JOINING        no                yes      voter
 *     RAFT_VOTER_LEAVING        yes               no       nobody
 *     RAFT_VOTER_DEMOTING       yes               no       learner
 */
enum raft_server_role {
    RAFT_LEARNER = 0, /* is replicated to; never counted, never campaigns */
    RAFT_VOTER = 1,
    RAFT_VOTER_JOINING = 2,
    RAFT_VOTER_LEAVING = 3,
    RAFT_VOTER_DEMOTING = 4,
};

struct raft_server {
    raft_id id;
    enum raft_server_role role;
};

struct raft_configuration {
    struct raft_server *servers; /* ascending by id, no doubles */
    size_t n_servers;
    uint8_t *extra; /* the driver's own bytes (names, addresses), opaque here */
    size_t extra_size;
};

/*
 * Encode c as the data of a RAFT_ENTRY_CONFIG. Returns memory that the caller
 * gives to raft_free(); *size gets its length. The form is fixed: a member
 * set, encoded on two machines, gives the same bytes.
 */
uint8_t *raft_configuration_encode(const struct raft_configuration *c,
                                   size_t *size);
/* The way back. False if data is malformed; then *c is empty. Else release. */
bool raft_configuration_decode(struct raft_configuration *c,
                               const uint8_t *data, size_t size);
void raft_configuration_release(struct raft_configuration *c);

bool raft_configuration_is_joint(const struct raft_configuration *c);

/* ---- snapshots --------------------------------------------------------- */

/*
 * What a copy of the state machine's storage stands for: all entries up to
 * index. Its data never passes the core.
 */
struct raft_snapshot {
    raft_index index; /* the last entry that it includes */
    raft_term term;   /* of that entry */
    struct raft_configuration configuration; /* as of index: see
                                                raft_configuration_at() */
};

/* ---- messages ---------------------------------------------------------- */

/*
 * Which fields a type uses, beside from, to and term:
 *
 * PRE_VOTE, REQUEST_VOTE     log_index, log_term: candidate's last synced
 *                            entry; force: leadership transfer, do not ask
 *                            whether a leader lives. PRE_VOTE's term is the
 *                            one that the candidate would start.
 * ..._VOTE_RESPONSE          reject. A granted PRE_VOTE answers with the
 *                            candidate's term, a refusal with the voter's own;
 *                            log_index of that: not 0 if the configuration
 *                            committed there does not name the candidate
 * APPEND_ENTRIES             log_index, log_term: the entry before entries
 *                            (prev_log_*); commit: leader_commit; entries
 * APPEND_ENTRIES_RESPONSE    ok: log_index = match index. reject: log_index =
 *                            the refused prev_log_index; reject_hint,
 *                            log_term: where and with which term the
 *                            follower's log could match (fast back-up)
 * HEARTBEAT                  commit: min(match, leader's commit_index);
 *                            context: newest read round; log_index: lowest
 *                            match index of all members (see
 *                            raft_all_match_index())
 * HEARTBEAT_RESPONSE         context: echoed
 * TIMEOUT_NOW                (transfer: campaign at once, 3.10)
 * READ_INDEX                 context: the asker's number
 * READ_INDEX_RESPONSE        context: echoed; log_index: the read index;
 *                            reject: could not be confirmed, ask again
 */
enum raft_message_type {
    RAFT_PRE_VOTE = 1,
    RAFT_PRE_VOTE_RESPONSE,
    RAFT_REQUEST_VOTE,
    RAFT_REQUEST_VOTE_RESPONSE,
    RAFT_APPEND_ENTRIES,
    RAFT_APPEND_ENTRIES_RESPONSE,
    RAFT_HEARTBEAT,
    RAFT_HEARTBEAT_RESPONSE,
    RAFT_TIMEOUT_NOW,
    RAFT_READ_INDEX,
    RAFT_READ_INDEX_RESPONSE,
};

struct raft_message {
    enum raft_message_type type;
    raft_id from, to;
    raft_term term;
    raft_index log_index;
    raft_term log_term;
    raft_index commit;
    raft_index reject_hint;
    uint64_t context;
    bool reject;
    bool force;
    size_t n_entries;
    const struct raft_entry *entries;
};

/* ---- life -------------------------------------------------------------- */

struct raft; /* opaque */

struct raft_config {
    raft_id id;
    uint64_t seed;                 /* of the election timeouts; differs per
                                      member and start */
    unsigned election_ticks;       /* timeouts are drawn from [n, 2n) */
    unsigned heartbeat_ticks;      /* < election_ticks */
    size_t append_bytes_max;       /* entry data in one APPEND_ENTRIES */
    size_t inflight_messages_max;  /* unanswered appends to one follower */
    size_t inflight_bytes_max;     /* and their entry data */
    size_t uncommitted_bytes_max;  /* proposals beyond it get RAFT_BUSY */
    unsigned disk_stall_ticks;     /* 0: off. A leader whose disk confirms
                                      nothing for so long hands leadership
                                      over, or steps down one election timeout
                                      later; until the disk moves it does not
                                      campaign */
    unsigned lease_ticks;          /* 0: off, the same on every member. Reads
                                      are served from a lease: see README.md
                                      for its price and what it asks of clocks,
                                      raft_clock() for what it asks of you */
    unsigned lease_drift_permille; /* no member's clock runs faster than
                                      another's by more than this */
    bool no_pre_vote;              /* tests of plain Raft only */
    bool no_check_quorum;          /* tests of plain Raft only */
};

/* Values for production: 10 and 1 ticks (of 100 ms), 1 MiB, 256, 16 MiB, 64
 * MiB; no bound for a disk's stall, no leases, clocks that differ by up to 10
 * %. */
void raft_config_defaults(struct raft_config *c);

/*
 * What the disk held at start. entries are contiguous and begin right behind
 * first_prev_index (0 for a log never cut). All pointers are borrowed for the
 * call. A first start has one entry: RAFT_ENTRY_CONFIG at index 1, term 1, the
 * same bytes on every founding member, and hard_state {1, 0, 1}.
 */
struct raft_start {
    struct raft_hard_state hard_state;
    raft_index first_prev_index; /* the last entry that was cut away */
    raft_term first_prev_term;
    const struct raft_configuration *configuration; /* as of first_prev_index;
                                                       NULL if that is 0 */
    const struct raft_entry *entries;
    size_t n_entries;
    raft_index last_applied; /* the state machine already holds these */
    /* What the state machine's storage holds, if a snapshot was ever installed
     * there; NULL is fine if not. The power may have failed between that and
     * the disk work of its raft_restore(): if the entries do not reach so far
     * the restore happens now. last_applied >= its index. */
    const struct raft_snapshot *snapshot;
};

/* Never NULL. config and start are copied. The member starts as a follower; a
 * sole voter stands for election in the first raft_ready() that finds all that
 * is known to be committed applied, without waiting for a timer. */
struct raft *raft_new(const struct raft_config *config,
                      const struct raft_start *start);
void raft_free_all(struct raft *r); /* NULL is fine */

/* ---- in ---------------------------------------------------------------- */

/* One unit of time has passed: raft_clock(r, 1). */
void raft_tick(struct raft *r);

/*
 * So many units of time have passed since the last call; 0 is fine.
 *
 * With leases (lease_ticks) the driver promises more: the clock was read after
 * every read and message that it passed in so far had arrived, and it counts
 * while the process is stopped or the machine asleep (CLOCK_BOOTTIME). So: take
 * what arrived, read the clock, raft_clock() with all that passed, even if it
 * is 0, raft_ready(). Reads that came in after the last raft_clock() are not
 * served from a lease.
 */
void raft_clock(struct raft *r, unsigned ticks);

/*
 * A message arrived. Borrowed for the call, entries and their data as well.
 * Votes, appends and heartbeats may come from servers that our configuration
 * does not name: it may be older than theirs (4.1).
 * RAFT_BAD_MESSAGE: dropped, nothing changed; worth a line in the log.
 */
enum raft_status raft_step(struct raft *r, const struct raft_message *m);

/*
 * Append a command to the log and start replicating it. Leader only.
 *
 * data is borrowed; the core copies it. *index gets the entry's place; its
 * term is raft_term_now(). The command has taken effect once raft_ready()
 * hands out that index as committed with the same term, which may never
 * happen; once another term's entry is handed out at that index, it never will.
 * A command above uncommitted_bytes_max is taken when nothing else is waiting.
 *
 * RAFT_NOT_LEADER, RAFT_BUSY: nothing was appended, *index is untouched
 */
enum raft_status raft_propose(struct raft *r, const void *data, size_t size,
                              raft_index *index);

/*
 * Ask for a read index (6.4): rd.reads answers later, with the same context.
 * Works on any member: a follower asks its leader. Contexts must not repeat
 * in the life of this struct raft. Every read that got RAFT_OK is answered
 * once: with ok = false after one election timeout at the latest, as messages
 * may be lost, or when leadership moves; ask again then. Batch: one call may
 * stand for any number of reads that arrived before it.
 *
 * RAFT_NOT_READY: no leader known
 */
enum raft_status raft_read(struct raft *r, uint64_t context);

/*
 * The connection to that member broke. If it is our leader, do not wait out the
 * whole election timeout: campaign soon, at a random moment within half of one.
 * No danger to a leader that lives: pre-vote asks the others, who hear it.
 */
void raft_suspect(struct raft *r, raft_id id);

/*
 * Hand leadership to a voter (3.10). Proposals get RAFT_BUSY until it is over:
 * the other one leads, or one election timeout passed.
 */
enum raft_status raft_transfer(struct raft *r, raft_id to);

/*
 * Change the members. Leader only. target names them all, learners and voters,
 * ascending by id, none joint; it is copied. It counts as soon as it is in the
 * log (4.1), and is in force for good once raft_ready() hands it out.
 *
 * If at most one server becomes, or ceases to be, a voter, it is one entry. If
 * more do, it is two (4.3): a joint one, whose decisions need a majority of the
 * old and one of the new voters, and when that is committed, by itself, the
 * target. Both carry target's extra: let it also describe those who leave.
 * *index gets the place of the first entry.
 *
 * A leader that does not vote in the target replicates until that is committed,
 * then hands leadership to another and steps down. A server that is no member
 * any more is sent the entry that says so, if it can be reached.
 *
 * RAFT_NOT_LEADER, RAFT_BAD_CONFIGURATION
 * RAFT_CHANGE_PENDING  the one before is not committed and applied here
 * RAFT_BUSY            leadership is being transferred, or nothing of this
 *                      leader's term is committed yet
 */
enum raft_status raft_propose_configuration(
    struct raft *r, const struct raft_configuration *target, raft_index *index);

/*
 * The disk work of that batch, and of all before it, is written and synced.
 * Batches are confirmed in order; a repeated or older number changes nothing.
 */
void raft_stable(struct raft *r, uint64_t batch);

/*
 * Forget log entries up to and including index: the state machine's own
 * storage has them synced. index <= raft_last_applied(). Members that lag
 * further behind then need a snapshot; see raft_all_match_index().
 */
void raft_compact(struct raft *r, raft_index index);

/*
 * Leader: what came of sending a snapshot to a member that rd.snapshots named.
 * Called once for each time it did. ok: the member has installed the state up
 * to index; it gets entries from there on. Not ok: rd.snapshots names it again
 * after an election timeout. Late, for a member that is gone, or after this
 * server led another term: harmless.
 */
void raft_snapshot_sent(struct raft *r, raft_id to, raft_index index, bool ok);

/*
 * Follower: the driver has received and verified s and is about to put it in
 * the place of its state. From now on nothing committed is handed out and
 * there is no campaign (A11), until raft_restore_end() says whether that
 * worked. s is copied.
 *
 * RAFT_STALE_SNAPSHOT  raft_commit_index() is there already, or we lead
 * RAFT_BAD_SNAPSHOT    not what the log holds there, or malformed
 * RAFT_BUSY            another restore is not yet stable
 * Unless RAFT_OK nothing has changed.
 */
enum raft_status raft_restore_begin(struct raft *r,
                                    const struct raft_snapshot *s);
/*
 * ok: the state machine now holds exactly s, durably. The log begins anew
 * behind s.index, which is committed and applied; rd.restore has the disk work.
 * The leader is told when that is stable.
 */
void raft_restore_end(struct raft *r, bool ok);
/* Both at once, for a state that is installed already or meanwhile. */
enum raft_status raft_restore(struct raft *r, const struct raft_snapshot *s);

/* ---- out --------------------------------------------------------------- */

struct raft_read_result {
    uint64_t context;
    raft_index index; /* serve the read once this is applied */
    bool ok;          /* false: not confirmed, ask again with a new context */
};

/*
 * Work to do. Pointers belong to the core:
 * - messages (and what they point to), committed, reads, snapshots: good until
 *   raft_advance()
 * - restore, entries and their data: good until raft_stable() for this batch,
 *   even if the core cuts them away meanwhile
 */
struct raft_ready {
    /* Disk, in this order and in one transaction; nothing if batch is 0. */
    uint64_t batch; /* rises by one; pass to raft_stable() */
    const struct raft_snapshot *restore; /* not NULL: forget the whole stored
                                  log. It begins anew behind restore->index,
                                  of restore->term, with that configuration */
    raft_index truncate_from; /* not 0: delete stored entries from here on */
    const struct raft_entry *entries; /* then append these */
    size_t n_entries;
    bool hard_state_changed; /* then store hard_state */
    struct raft_hard_state hard_state;

    /* Network, at the same time. None vouches for what is not yet synced. */
    const struct raft_message *messages;
    size_t n_messages;

    /* State machine, in order. All are synced here and on a quorum. */
    const struct raft_entry *committed;
    size_t n_committed;

    const struct raft_read_result *reads;
    size_t n_reads;

    /* Members that need a snapshot, from this leader: see
     * raft_snapshot_sent(). Each is told once. End what is under way for a
     * member when leadership ends. */
    const raft_id *snapshots;
    size_t n_snapshots;
};

/*
 * Gather work. False (and *rd all zero) if there is none. Each call that
 * returned true is followed by raft_advance() before any other call.
 */
bool raft_ready(struct raft *r, struct raft_ready *rd);
void raft_advance(struct raft *r);

/* ---- questions ---------------------------------------------------------- */

enum raft_role raft_role(const struct raft *r);
raft_id raft_leader(const struct raft *r); /* 0: unknown */
raft_term raft_term_now(const struct raft *r);
raft_id raft_voted_for(const struct raft *r);
raft_index raft_commit_index(const struct raft *r);
raft_index raft_last_applied(const struct raft *r);
raft_index raft_first_index(const struct raft *r); /* first entry held */
raft_index raft_last_index(const struct raft *r);
raft_index raft_stable_index(const struct raft *r); /* synced up to here */
/* NULL if not held. Good until the next call that changes r. */
const struct raft_entry *raft_entry_at(const struct raft *r, raft_index i);
/* The newest configuration in the log, committed or not (4.1). */
const struct raft_configuration *raft_configuration_now(const struct raft *r);
/*
 * The configuration as of that entry: what a snapshot of the state at index,
 * or a log that is cut there, must carry. raft_first_index() - 1 <= index <=
 * raft_last_index(). Good until the next call that changes r.
 */
const struct raft_configuration *raft_configuration_at(const struct raft *r,
                                                       raft_index index);
/*
 * A committed configuration does not name us, and an earlier one did. For ever:
 * ids are not used again. Known only as long as the log holds the earlier one
 * or this struct raft lives, so let the driver write it down.
 */
bool raft_is_removed(const struct raft *r);
/* May that learner become a voter without harm? Leader only; it answered lately
 * and holds what was committed an election timeout ago. */
bool raft_may_promote(const struct raft *r, raft_id id);
/* Its disk has confirmed nothing for disk_stall_ticks. */
bool raft_disk_is_stalled(const struct raft *r);
/* A leader that may still be asked to lead: has committed in its own term. */
bool raft_is_settled_leader(const struct raft *r);
/*
 * Every member is known to hold the log up to here, so cutting it there
 * strands nobody. On a follower, what its leader last said.
 */
raft_index raft_all_match_index(const struct raft *r);
/* Bytes of commands proposed here and not yet committed. */
size_t raft_uncommitted_bytes(const struct raft *r);

enum raft_progress_state {
    RAFT_PROGRESS_PROBE,     /* finding out what it holds */
    RAFT_PROGRESS_REPLICATE, /* entries flow */
    RAFT_PROGRESS_SNAPSHOT,  /* needs entries that were cut away */
};

/* A leader's view of one member, for status pages and tests. */
struct raft_progress {
    raft_id id;
    enum raft_progress_state state;
    raft_index match_index, next_index;
    size_t inflight_messages;
    bool recently_active; /* said something since this leader leads, and that
                             is less than an election timeout ago */
};
/* False unless leader and i < number of servers in the configuration. */
bool raft_progress_at(const struct raft *r, size_t i, struct raft_progress *p);

#endif
