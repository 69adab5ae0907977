/*
 * snapshotout.c - sending snapshots: one copy, any number of members that take
 * it.
 *
 *     COPYING ──last step──► DESCRIBING ──synced, hashed──► READY
 *        │                       │                            │ not used for
 *        └──────── failed, no longer leading, stopping ───────┴─► gone  a while
 *
 * COPYING     the state thread takes steps between its writes
 * DESCRIBING  the snapshot thread syncs the file and reads what it stands for
 * READY       transfers send it, each at the receiver's pace
 *
 * A transfer reads a chunk (on the snapshot thread), sends it, reads the next;
 * it stops while the receiver has a window's worth not yet on disk, while the
 * connection has too much queued, or while what may be sent a second is used
 * up. It ends once, by raft_snapshot_sent(); a broken one is begun again by the
 * core, and goes on where the receiver says. When the receiver has installed
 * the snapshot it still lacks what was written meanwhile: until it has caught
 * up with that, our log is not cut above it, or it would need the next one.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "raft/base.h"
#include "server/logger.h"
#include "server/snapshotinternal.h"
#include "server/url.h"

/* 1 MiB a step: about a millisecond, for which a write to state.db may wait. */
#define COPY_STEP_PAGES 256
#define CONNECT_TIMEOUT_MS 2000
/* A receiver says something every second, whatever it does. */
#define SILENCE_MS 15000
/* A copy that nobody takes waits for a transfer that broke to begin again. */
#define COPY_LINGER_MS 30000
/* Saved up for a burst: a tenth of a second. */
#define BURST_DIVISOR 10

enum copy_state { COPYING, DESCRIBING, READY };

struct copy {
    struct snapshots *owner;
    enum copy_state state;
    atomic_bool unwanted; /* goes as soon as no thread has it */
    bool failed;
    size_t readers;   /* jobs that read from fd */
    uint64_t used_ms; /* when somebody was sent it last */
    char *path;
    int fd;
    struct snapshot_header header; /* READY */
    struct file_job job;           /* describing */
    char error[SNAPSHOT_ERROR_BYTES];
    /* The state thread's, while COPYING. */
    struct statedb_copy *steps;
    bool step_ok, all_done;
};

struct transfer {
    LIST_ENTRY(transfer) link;
    struct snapshots *owner;
    raft_id to;
    raft_term term; /* that we lead in */
    struct rpc_channel *channel;
    struct rpc_call *call; /* NULL: not yet, or no more */
    struct copy *copy;     /* NULL: not yet, or no more */
    raft_index index;      /* of the copy */
    bool ended;            /* freed when no thread has it */
    bool installed;        /* and it has to catch up */
    bool answered;         /* it said where to begin */
    uint64_t sent, acknowledged;
    uint64_t started_ms, heard_ms, started_at;
    /* One chunk being read. */
    struct file_job job;
    bool reading, read_ok;
    size_t chunk_size;
    uint8_t *chunk;
};

/* ---- the copy ---------------------------------------------------------------
 */

static bool is_taken(const struct snapshots *s)
{
    struct transfer *t;

    LIST_FOREACH(t, &s->transfers, link)
    {
        if (t->copy != NULL && !t->ended) {
            return true;
        }
    }
    return false;
}

/* No thread has it any more. */
static void copy_free(struct copy *c)
{
    ASSERT(c->readers == 0 && c->steps == NULL);
    if (c->fd >= 0) {
        close(c->fd);
    }
    (void)unlink(c->path); /* the next start would remove it too */
    snapshot_header_release(&c->header);
    free(c->path);
    free(c);
}

static void copy_failed(struct copy *c)
{
    log_line(LOG_WARN, "no snapshot: %s", c->error);
    c->failed = true;
}

static void described(struct file_job *j)
{
    struct copy *c = (struct copy *)((char *)j - offsetof(struct copy, job));

    if (c->fd < 0) {
        copy_failed(c);
        return;
    }
    if (c->header.configuration.size == 0) { /* an older pawl's file */
        const struct raft_configuration *known;
        struct raft *r = node_raft(c->owner->parts.node);
        uint8_t *bytes;
        size_t size;

        if (c->header.index < raft_first_index(r) - 1) {
            snprintf(c->error, sizeof(c->error),
                     "the members as of entry %" PRIu64 " are not known",
                     c->header.index);
            copy_failed(c);
            return;
        }
        known = raft_configuration_at(r, c->header.index);
        bytes = raft_configuration_encode(known, &size);
        buffer_append(&c->header.configuration, bytes, size);
        raft_free(bytes);
    }
    c->state = READY;
    c->owner->figures.copies++;
    c->used_ms = clock_ms();
    log_line(LOG_INFO,
             "copied state.db for a snapshot: entry %" PRIu64 ", %" PRIu64
             " bytes",
             c->header.index, c->header.size);
}

static void describe(struct file_job *j)
{
    struct copy *c = (struct copy *)((char *)j - offsetof(struct copy, job));

    if (!snapshot_describe(c->path, &c->header, c->error, sizeof(c->error))) {
        return;
    }
    c->fd = open(c->path, O_RDONLY | O_CLOEXEC);
    if (c->fd < 0) {
        snprintf(c->error, sizeof(c->error), "%s: cannot open it", c->path);
    }
}

/* State thread: one step, so that writes go on between two. */
static void copy_step(void *context, struct statedb *db)
{
    struct copy *c = context;

    if (c->steps == NULL && !c->unwanted) {
        c->step_ok = snapshot_has_room(c->owner->directory, statedb_bytes(db),
                                       c->error, sizeof(c->error)) &&
                     (c->steps = statedb_copy_begin(db, c->path, c->error,
                                                    sizeof(c->error))) != NULL;
    } else if (!c->unwanted) {
        c->step_ok = statedb_copy_step(c->steps, COPY_STEP_PAGES, &c->all_done,
                                       c->error, sizeof(c->error));
    }
    if (c->all_done || c->unwanted || !c->step_ok) {
        statedb_copy_end(c->steps);
        c->steps = NULL;
    }
}

static void copy_stepped(void *context)
{
    struct copy *c = context;
    struct snapshots *s = c->owner;

    if (c->steps != NULL && s->stopping) { /* the state thread is gone */
        statedb_copy_end(c->steps);
        c->steps = NULL;
    }
    if (c->steps != NULL) { /* not done, and nothing went wrong */
        statethread_call(s->parts.statethread, copy_step, copy_stepped, c);
        return;
    }
    if (!c->step_ok) {
        copy_failed(c);
    }
    c->state = DESCRIBING;
    if (c->failed || c->unwanted || s->stopping) {
        c->failed = true; /* snapshot_out_tick() or _free() frees it */
        return;
    }
    snapshots_submit(s, &c->job, describe, described);
}

static void copy_begin(struct snapshots *s)
{
    struct copy *c = mem_alloc(1, sizeof(*c));

    c->owner = s;
    c->fd = -1;
    c->step_ok = true;
    c->path = mem_printf("%s/outgoing.db", s->directory);
    s->copy = c;
    statethread_call(s->parts.statethread, copy_step, copy_stepped, c);
}

/* Is it far enough for the log to go on from it? */
static bool reaches_log(const struct copy *c)
{
    return c->header.index + 1 >=
           raft_first_index(node_raft(c->owner->parts.node));
}

static void copy_tick(struct snapshots *s, bool leading)
{
    struct copy *c = s->copy;

    if (c == NULL) {
        return;
    }
    if (is_taken(s)) {
        c->used_ms = clock_ms();
    } else if (!leading || (c->state == READY &&
                            (!reaches_log(c) ||
                             clock_ms() - c->used_ms >= COPY_LINGER_MS))) {
        c->unwanted = true;
    }
    if (c->readers == 0 && !is_taken(s) &&
        (c->failed || (c->unwanted && c->state == READY))) {
        copy_free(c);
        s->copy = NULL;
    }
}

bool snapshot_out_is_copying(struct snapshots *s)
{
    if (s->copy == NULL || s->copy->state != COPYING) {
        return false;
    }
    s->copy->unwanted = true;
    return true;
}

/* ---- transfers --------------------------------------------------------------
 */

static void end(struct transfer *t, bool ok)
{
    if (t->ended) {
        return;
    }
    t->ended = true;
    t->installed = ok;
    t->owner->figures.sent += ok;
    if (raft_term_now(node_raft(t->owner->parts.node)) == t->term) {
        node_snapshot_sent(t->owner->parts.node, t->to, t->index, ok);
    }
}

static void end_because(struct transfer *t, const char *why)
{
    if (!t->ended) {
        log_line(LOG_WARN, "sending a snapshot to %" PRIx64 " failed: %s",
                 t->to, why);
    }
    end(t, false);
}

/* Ended, and no thread has it. Not from inside a callback of its call. */
static void hang_up(struct transfer *t)
{
    ASSERT(t->ended && !t->reading);
    if (t->call != NULL) {
        rpc_call_cancel(t->call);
    }
    rpc_channel_free(t->channel);
    t->channel = NULL;
    t->copy = NULL;
    free(t->chunk);
    t->chunk = NULL;
}

static void transfer_free(struct transfer *t)
{
    hang_up(t);
    LIST_REMOVE(t, link);
    free(t);
}

static void pump(struct transfer *t);

static void read_chunk(struct file_job *j)
{
    struct transfer *t =
        (struct transfer *)((char *)j - offsetof(struct transfer, job));

    t->read_ok = pread(t->copy->fd, t->chunk, t->chunk_size, (off_t)t->sent) ==
                 (ssize_t)t->chunk_size;
}

static void chunk_read(struct file_job *j)
{
    struct transfer *t =
        (struct transfer *)((char *)j - offsetof(struct transfer, job));
    Pawl__Peer__V1__SnapshotChunk m = PAWL__PEER__V1__SNAPSHOT_CHUNK__INIT;

    t->reading = false;
    t->copy->readers--;
    if (t->ended || t->call == NULL || t->owner->stopping) {
        return;
    }
    if (!t->read_ok) {
        end_because(t, "the copy cannot be read");
        return;
    }
    m.offset = t->sent;
    m.data.data = t->chunk;
    m.data.len = t->chunk_size;
    m.checksum = snapshot_checksum(t->sent, t->chunk, t->chunk_size);
    rpc_call_send(t->call, &m.base);
    t->sent += t->chunk_size;
    t->owner->figures.bytes_sent += t->chunk_size;
    pump(t);
}

static size_t chunk_bytes(const struct snapshots *s)
{
    uint64_t burst = s->config.bytes_per_second / BURST_DIVISOR;

    return burst < SNAPSHOT_CHUNK_BYTES ? (size_t)burst + 1
                                        : SNAPSHOT_CHUNK_BYTES;
}

/* Read and send the next chunk, if the receiver, the connection and the
 * throttle have room for it. */
static void pump(struct transfer *t)
{
    struct snapshots *s = t->owner;
    uint64_t left;

    if (t->ended || t->reading || t->call == NULL || !t->answered ||
        s->stopping) {
        return;
    }
    left = t->copy->header.size - t->sent;
    t->chunk_size = left < chunk_bytes(s) ? (size_t)left : chunk_bytes(s);
    if (left == 0 || s->tokens < t->chunk_size ||
        t->sent + t->chunk_size - t->acknowledged > SNAPSHOT_WINDOW_BYTES ||
        rpc_call_queued(t->call) > SNAPSHOT_WINDOW_BYTES) {
        return;
    }
    s->tokens -= t->chunk_size;
    t->reading = true;
    t->copy->readers++;
    snapshots_submit(s, &t->job, read_chunk, chunk_read);
}

static void on_ack(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Pawl__Peer__V1__SnapshotAck *ack =
        (const Pawl__Peer__V1__SnapshotAck *)m;
    struct transfer *t = rpc_call_context(c);

    t->heard_ms = clock_ms();
    if (t->ended) {
        return;
    }
    if (ack->installed) {
        log_line(LOG_INFO,
                 "member %" PRIx64 " has the snapshot at entry %" PRIu64
                 "; %" PRIu64 " bytes in %" PRIu64 " ms",
                 t->to, t->copy->header.index, t->sent - t->started_at,
                 t->heard_ms - t->started_ms);
        end(t, true);
        return;
    }
    if (ack->offset > t->copy->header.size ||
        (t->answered &&
         (ack->offset > t->sent || ack->offset < t->acknowledged))) {
        end_because(t, "it acknowledges what it was not sent");
        return;
    }
    if (!t->answered) {
        t->answered = true;
        t->sent = t->started_at = ack->offset;
    }
    t->acknowledged = ack->offset;
    pump(t);
}

static void on_close(struct rpc_call *c, enum grpc_code code, const char *text,
                     bool maybe_processed)
{
    struct transfer *t = rpc_call_context(c);

    (void)code;
    (void)maybe_processed; /* the receiver tells next time how far it is */
    t->call = NULL;
    end_because(t, text != NULL ? text : "the connection was lost");
}

static const struct rpc_call_events events = {
    .on_message = on_ack,
    .on_close = on_close,
};

/* From malloc; NULL if the member is not known, or without an address. */
static char *address_of(struct snapshots *s, raft_id id)
{
    size_t n;
    const struct member *members =
        applier_members(node_applier(s->parts.node), &n);

    for (size_t i = 0; i < n; i++) {
        if (members[i].id == id && members[i].n_peer_urls > 0) {
            return url_address(members[i].peer_urls[0]);
        }
    }
    return NULL;
}

static void open_stream(struct transfer *t)
{
    struct snapshots *s = t->owner;
    struct rpc_channel_config config = {
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
    };
    Pawl__Peer__V1__SnapshotChunk first = PAWL__PEER__V1__SNAPSHOT_CHUNK__INIT;
    Pawl__Peer__V1__SnapshotHeader header;
    Pawl__Peer__V1__Hello hello;
    char *address = address_of(s, t->to);

    if (address == NULL) {
        end_because(t, "its address is not known");
        return;
    }
    rpc_limits_defaults(&config.limits);
    config.limits.ping_interval_ms = 2000;
    config.limits.ping_timeout_ms = 4000;
    config.address = address;
    t->channel = rpc_channel_new(s->parts.loop, &config);
    free(address);
    t->chunk = mem_alloc(SNAPSHOT_CHUNK_BYTES, 1);
    t->call = rpc_call_start(t->channel, "/pawl.peer.v1.Peer/Snapshot",
                             &pawl__peer__v1__snapshot_ack__descriptor, NULL, 0,
                             0, &events, t);
    peers_hello(s->parts.peers, t->to, &hello);
    snapshot_header_encode(&t->copy->header, &header);
    first.hello = &hello;
    first.header = &header;
    rpc_call_send(t->call, &first.base);
    log_line(LOG_INFO,
             "sending member %" PRIx64 " a snapshot at entry %" PRIu64
             ", %" PRIu64 " bytes",
             t->to, t->copy->header.index, t->copy->header.size);
}

/* Join the copy that is there, or have one made. */
static void find_copy(struct transfer *t)
{
    struct snapshots *s = t->owner;
    struct copy *c = s->copy;

    t->heard_ms = clock_ms();
    if (c == NULL) {
        copy_begin(s);
    } else if (c->failed) {
        end(t, false); /* said already */
    } else if (c->state == READY && !c->unwanted && reaches_log(c)) {
        t->copy = c;
        t->index = c->header.index;
        open_stream(t);
    }
}

static void transfer_tick(struct transfer *t, bool leading)
{
    struct raft *r = node_raft(t->owner->parts.node);

    if (t->ended) {
        return;
    }
    if (!leading || raft_term_now(r) != t->term) {
        end_because(t, "no longer leading");
    } else if (t->copy == NULL) {
        find_copy(t);
    } else if (clock_ms() - t->heard_ms >= SILENCE_MS) {
        end_because(t, "it does not answer");
    } else {
        pump(t);
    }
}

void snapshots_send(void *context, const raft_id *members, size_t n)
{
    struct snapshots *s = context;

    for (size_t i = 0; i < n && !s->stopping; i++) {
        struct transfer *t = mem_alloc(1, sizeof(*t));

        t->owner = s;
        t->to = members[i];
        t->term = raft_term_now(node_raft(s->parts.node));
        t->started_ms = t->heard_ms = clock_ms();
        LIST_INSERT_HEAD(&s->transfers, t, link);
        snapshots_wake(s);
    }
}

/* ---- life -------------------------------------------------------------------
 */

static void refill(struct snapshots *s)
{
    uint64_t now_us = clock_us();
    uint64_t rate = s->config.bytes_per_second;
    uint64_t burst = rate / BURST_DIVISOR + SNAPSHOT_CHUNK_BYTES;
    uint64_t passed_us = now_us - s->refilled_us;

    passed_us = passed_us < 1000000 ? passed_us : 1000000;
    s->tokens += rate * passed_us / 1000000;
    s->tokens = s->tokens < burst ? s->tokens : burst;
    s->refilled_us = now_us;
}

/* How far that member's log reaches, or 0 if that is no matter any more: it is
 * gone, or near enough to ours. */
static raft_index catching_up_at(const struct transfer *t)
{
    struct raft *r = node_raft(t->owner->parts.node);
    raft_index near = t->owner->config.log_keep_entries / 2;
    struct raft_progress p;

    if (!t->installed || raft_term_now(r) != t->term) {
        return 0;
    }
    for (size_t i = 0; raft_progress_at(r, i, &p); i++) {
        if (p.id == t->to) {
            return p.recently_active && p.state != RAFT_PROGRESS_SNAPSHOT &&
                           p.match_index + near < raft_commit_index(r)
                       ? (p.match_index > 0 ? p.match_index : t->index)
                       : 0;
        }
    }
    return 0;
}

/* Above the least of these the log is not cut for now. */
static void hold_log(struct snapshots *s)
{
    raft_index hold = 0;
    struct transfer *t;

    LIST_FOREACH(t, &s->transfers, link)
    {
        raft_index at = t->ended          ? catching_up_at(t)
                        : t->copy != NULL ? t->index
                                          : 0;

        hold = at != 0 && (hold == 0 || at < hold) ? at : hold;
    }
    node_hold_log(s->parts.node, hold);
}

bool snapshot_out_tick(struct snapshots *s)
{
    bool leading = raft_role(node_raft(s->parts.node)) == RAFT_LEADER;
    struct transfer *t, *next;

    refill(s);
    for (t = LIST_FIRST(&s->transfers); t != NULL; t = next) {
        next = LIST_NEXT(t, link);
        transfer_tick(t, leading);
        if (t->ended && !t->reading) {
            hang_up(t);
            if (!leading || catching_up_at(t) == 0) {
                transfer_free(t);
            }
        }
    }
    copy_tick(s, leading);
    hold_log(s);
    return s->copy != NULL || !LIST_EMPTY(&s->transfers);
}

void snapshot_out_stop(struct snapshots *s)
{
    struct transfer *t, *next;

    if (s->copy != NULL) {
        s->copy->unwanted = true;
    }
    for (t = LIST_FIRST(&s->transfers); t != NULL; t = next) {
        next = LIST_NEXT(t, link);
        end(t, false);
        if (!t->reading) {
            transfer_free(t);
        }
    }
}

/* All threads are done. */
void snapshot_out_free(struct snapshots *s)
{
    struct transfer *t;

    while ((t = LIST_FIRST(&s->transfers)) != NULL) {
        transfer_free(t);
    }
    if (s->copy != NULL) {
        copy_free(s->copy);
    }
}
