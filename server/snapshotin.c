/*
 * snapshotin.c - receiving a snapshot and putting it in place of our state.
 *
 *     OPENING ──► RECEIVING ──all there──► VERIFYING ──sound──► INSTALLING
 *        │            │                        │                    │
 *        └────────────┴─── stream broken ──► gone ◄──── done ───────┘
 *
 * OPENING     the snapshot thread finds out what an earlier stream left
 * RECEIVING   chunks are checked, gathered, written and synced, then told
 * VERIFYING   the snapshot thread checks the whole and loads it into an applier
 *             that nobody else has; the file is then ready to be renamed
 * INSTALLING  the core has stopped applying, and the state thread renames it
 *
 * Until the rename the state in use is the old one, untouched by whatever
 * arrives (D5). What is left then for the main thread is to exchange two
 * pointers; what goes out of use is freed by the snapshot thread.
 *
 * One at a time. A broken stream leaves the file and its header, so the next
 * one goes on there.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/logger.h"
#include "server/snapshotinternal.h"

/* Less than the sender's patience. */
#define ALIVE_MS 1000

enum incoming_state { OPENING, RECEIVING, VERIFYING, VERIFIED, INSTALLING };

struct incoming {
    struct snapshots *owner;
    enum incoming_state state;
    struct rpc_call *call; /* NULL: it broke, or was answered */
    raft_id from;
    struct snapshot_header header;
    struct file_job job;
    bool busy;    /* a thread has it */
    bool over;    /* freed when no thread has it */
    bool spoilt;  /* what was received is of no use: drop it, too */
    bool ok;      /* of the job */
    bool is_gone; /* of the install: neither state is open */
    int fd;
    char *path;
    uint64_t received, durable;
    struct buffer gathered; /* up to received */
    struct buffer writing;  /* from durable on; the thread's */
    struct applier *loaded; /* then, after the exchange, the old state */
    uint64_t told_ms;
    char error[SNAPSHOT_ERROR_BYTES];
};

static struct incoming *incoming_of(struct file_job *j)
{
    return (struct incoming *)((char *)j - offsetof(struct incoming, job));
}

static void submit(struct incoming *in, void (*work)(struct file_job *j),
                   void (*done)(struct file_job *j))
{
    in->busy = true;
    snapshots_submit(in->owner, &in->job, work, done);
}

/* ---- the end ----------------------------------------------------------------
 */

static void incoming_free(struct incoming *in)
{
    if (in->fd >= 0) {
        close(in->fd);
    }
    applier_free(in->loaded);
    snapshot_header_release(&in->header);
    buffer_release(&in->gathered);
    buffer_release(&in->writing);
    free(in->path);
    free(in);
}

/* Snapshot thread: an applier of millions of keys takes a while to free. */
static void clean_up(struct file_job *j)
{
    struct incoming *in = incoming_of(j);

    applier_free(in->loaded);
    in->loaded = NULL;
    if (in->spoilt) {
        snapshot_receive_drop(in->path);
    }
}

static void cleaned_up(struct file_job *j)
{
    incoming_of(j)->busy = false; /* the tick frees it */
}

static void hang_up(struct incoming *in, enum grpc_code code, const char *text)
{
    struct rpc_call *c = in->call;

    in->call = NULL;
    if (c != NULL) {
        rpc_call_set_context(c, NULL);
        rpc_call_finish(c, code, text);
    }
}

/* It is over; spoilt: and nothing of what was received is of use. */
static void end(struct incoming *in, enum grpc_code code, const char *text,
                bool spoilt)
{
    if (code != GRPC_OK) {
        log_line(LOG_WARN, "receiving a snapshot from %" PRIx64 " failed: %s",
                 in->from, text);
        in->owner->figures.refused++;
    }
    hang_up(in, code, text);
    in->over = true;
    in->spoilt = in->spoilt || spoilt;
    if (!in->owner->stopping && !in->busy) {
        submit(in, clean_up, cleaned_up);
    }
}

static void send_ack(struct incoming *in, bool with_hello, bool installed)
{
    Pawl__Peer__V1__SnapshotAck ack = PAWL__PEER__V1__SNAPSHOT_ACK__INIT;
    Pawl__Peer__V1__Hello hello;

    if (in->call == NULL) {
        return;
    }
    if (with_hello) {
        peers_hello(in->owner->parts.peers, in->from, &hello);
        ack.hello = &hello;
    }
    ack.offset = in->durable;
    ack.installed = installed;
    rpc_call_send(in->call, &ack.base);
    in->told_ms = clock_ms();
}

/* ---- installing -------------------------------------------------------------
 */

/* State thread. */
static void install(void *context, struct statedb *db)
{
    struct incoming *in = context;

    in->ok = statedb_install(db, in->path) == STATEDB_OK;
    in->is_gone = statedb_is_gone(db);
    if (!in->ok) {
        snprintf(in->error, sizeof(in->error), "%s", statedb_error(db));
    }
}

static void installed(void *context)
{
    struct incoming *in = context;
    struct snapshots *s = in->owner;
    uint64_t start_us = clock_us(), held_us;

    in->busy = false;
    if (in->is_gone) {
        log_die("installing a snapshot failed half way: %s; the process ends; "
                "the next start finds the old state or the new one",
                in->error);
    }
    if (!in->ok) {
        node_restore_end(s->parts.node, false, NULL);
        end(in, GRPC_UNAVAILABLE, in->error, true);
        return;
    }
    statedb_installed(s->parts.statedb);
    node_restore_end(s->parts.node, true, in->loaded);
    held_us = clock_us() - start_us;
    if (held_us > s->figures.install_us_max) {
        s->figures.install_us_max = held_us;
    }
    s->figures.installed++;
    log_line(LOG_INFO,
             "installed a snapshot from %" PRIx64 ": entry %" PRIu64
             " of term %" PRIu64 ", %" PRIu64 " bytes",
             in->from, in->header.index, in->header.term, in->header.size);
    send_ack(in, false, true);
    end(in, GRPC_OK, NULL, true);
}

/* The core and the state thread permitting, now; else the tick tries again. */
static void begin_install(struct incoming *in)
{
    struct snapshots *s = in->owner;
    struct raft_snapshot rs = {.index = in->header.index,
                               .term = in->header.term};
    enum raft_status st;

    if (snapshot_out_is_copying(s) ||
        !raft_configuration_decode(&rs.configuration,
                                   in->header.configuration.data,
                                   in->header.configuration.size)) {
        return; /* it was decoded before, so it is the former */
    }
    st = node_restore_begin(s->parts.node, &rs);
    raft_configuration_release(&rs.configuration);
    switch (st) {
    case RAFT_OK:
        in->state = INSTALLING;
        in->busy = true;
        statethread_call(s->parts.statethread, install, installed, in);
        break;
    case RAFT_BUSY:
        break; /* the tick tries again */
    case RAFT_STALE_SNAPSHOT:
        send_ack(in, false, true); /* we came as far by ourselves */
        end(in, GRPC_OK, NULL, true);
        break;
    default:
        end(in, GRPC_FAILED_PRECONDITION, raft_status_text(st), true);
        break;
    }
}

/* ---- verifying --------------------------------------------------------------
 */

static void verify(struct file_job *j)
{
    struct incoming *in = incoming_of(j);
    struct snapshots *s = in->owner;

    in->ok = snapshot_adopt(in->path, &in->header, s->config.cluster_id,
                            s->config.self, in->loaded, in->error,
                            sizeof(in->error));
}

static void verified(struct file_job *j)
{
    struct incoming *in = incoming_of(j);

    in->busy = false;
    if (in->owner->stopping) {
        return;
    }
    if (!in->ok) {
        end(in, GRPC_DATA_LOSS, in->error, true);
        return;
    }
    in->state = VERIFIED;
    begin_install(in);
}

static void begin_verify(struct incoming *in)
{
    close(in->fd);
    in->fd = -1;
    in->state = VERIFYING;
    in->loaded = applier_new(statedb_fetch, in->owner->parts.statedb);
    submit(in, verify, verified);
}

/* ---- receiving --------------------------------------------------------------
 */

static void write_gathered(struct file_job *j)
{
    struct incoming *in = incoming_of(j);

    in->ok =
        snapshot_receive_write(in->fd, in->durable, in->writing.data,
                               in->writing.size, in->error, sizeof(in->error));
}

static void go_on(struct incoming *in);

static void written(struct file_job *j)
{
    struct incoming *in = incoming_of(j);

    in->busy = false;
    if (in->owner->stopping) {
        return;
    }
    if (!in->ok) {
        end(in, GRPC_UNAVAILABLE, in->error, true); /* makes room as well */
        return;
    }
    in->durable += in->writing.size;
    buffer_consume(&in->writing, in->writing.size);
    send_ack(in, false, false);
    go_on(in);
}

static void go_on(struct incoming *in)
{
    if (in->over || in->busy) {
        if (in->over && !in->busy) {
            submit(in, clean_up, cleaned_up);
        }
        return;
    }
    if (in->durable == in->header.size) {
        begin_verify(in);
    } else if (in->gathered.size > 0) {
        struct buffer empty = in->writing;

        in->writing = in->gathered;
        in->gathered = empty;
        submit(in, write_gathered, written);
    }
}

static void open_file(struct file_job *j)
{
    struct incoming *in = incoming_of(j);

    if (!snapshot_has_room(in->owner->directory, in->header.size, in->error,
                           sizeof(in->error))) {
        return;
    }
    in->fd =
        snapshot_receive_open(in->path, &in->header, 2 * SNAPSHOT_WINDOW_BYTES,
                              &in->durable, in->error, sizeof(in->error));
}

static void opened(struct file_job *j)
{
    struct incoming *in = incoming_of(j);

    in->busy = false;
    if (in->owner->stopping) {
        return;
    }
    if (in->over) {
        submit(in, clean_up, cleaned_up);
        return;
    }
    if (in->fd < 0) {
        end(in, GRPC_UNAVAILABLE, in->error, false);
        return;
    }
    in->state = RECEIVING;
    in->received = in->durable;
    log_line(LOG_INFO,
             "receiving a snapshot from %" PRIx64 ": entry %" PRIu64
             ", from byte %" PRIu64 " of %" PRIu64,
             in->from, in->header.index, in->durable, in->header.size);
    send_ack(in, true, false);
}

/* NULL if it is what comes next, else why not. */
static const char *check_chunk(const struct incoming *in,
                               const Pawl__Peer__V1__SnapshotChunk *m)
{
    if (in->state != RECEIVING) {
        return "pawl: a chunk that nobody asked for";
    }
    if (m->offset != in->received || m->data.len == 0 ||
        m->data.len > in->header.size - in->received) {
        return "pawl: not the chunk that comes next";
    }
    if (in->received + m->data.len - in->durable > 2 * SNAPSHOT_WINDOW_BYTES) {
        return "pawl: chunks come faster than they are acknowledged";
    }
    if (m->checksum !=
        snapshot_checksum(m->offset, m->data.data, m->data.len)) {
        return "pawl: the chunk's checksum does not match";
    }
    return NULL;
}

static void take_chunk(struct incoming *in,
                       const Pawl__Peer__V1__SnapshotChunk *m)
{
    const char *wrong = check_chunk(in, m);

    if (wrong != NULL) {
        end(in, GRPC_DATA_LOSS, wrong, false);
        return;
    }
    buffer_append(&in->gathered, m->data.data, m->data.len);
    in->received += m->data.len;
    in->owner->figures.bytes_received += m->data.len;
    go_on(in);
}

/* ---- the method -------------------------------------------------------------
 */

static void incoming_begin(struct snapshots *s, struct rpc_call *c,
                           raft_id from, struct snapshot_header *header)
{
    struct incoming *in = mem_alloc(1, sizeof(*in));

    in->owner = s;
    in->call = c;
    in->from = from;
    in->header = *header; /* given */
    in->fd = -1;
    in->path = mem_printf("%s/incoming.db", s->directory);
    s->incoming = in;
    rpc_call_set_context(c, in);
    snapshots_wake(s);
    submit(in, open_file, opened);
}

static void refuse(struct snapshots *s, struct rpc_call *c, raft_id from,
                   enum grpc_code code, const char *why)
{
    log_line(LOG_INFO, "refused a snapshot from %" PRIx64 ": %s", from, why);
    s->figures.refused++;
    rpc_call_finish(c, code, why);
}

static void tell_installed(struct snapshots *s, struct rpc_call *c,
                           raft_id from)
{
    Pawl__Peer__V1__SnapshotAck ack = PAWL__PEER__V1__SNAPSHOT_ACK__INIT;
    Pawl__Peer__V1__Hello hello;

    peers_hello(s->parts.peers, from, &hello);
    ack.hello = &hello;
    ack.installed = true;
    rpc_call_send(c, &ack.base);
    rpc_call_finish(c, GRPC_OK, NULL);
}

/* A stream from another sender, or a new one of the same, takes precedence
 * over one that still receives: what there is on disk is not lost with it. */
static void make_way(struct snapshots *s)
{
    struct incoming *in = s->incoming;

    if (in != NULL && !in->over && in->state <= RECEIVING) {
        end(in, GRPC_ABORTED, "pawl: another stream took its place", false);
    }
}

static void on_first(struct snapshots *s, struct rpc_call *c,
                     const Pawl__Peer__V1__SnapshotChunk *m)
{
    raft_id from = peers_accept_hello(s->parts.peers, c, m->hello);
    struct snapshot_header header;

    if (from == 0) {
        return; /* refused */
    }
    if (m->header == NULL || !snapshot_header_decode(m->header, &header)) {
        refuse(s, c, from, GRPC_INVALID_ARGUMENT,
               "pawl: a snapshot must begin with its header");
        return;
    }
    if (header.index <= raft_commit_index(node_raft(s->parts.node))) {
        tell_installed(s, c, from); /* stale: we are as far (D5) */
    } else if (s->stopping || s->incoming != NULL) {
        make_way(s);
        refuse(s, c, from, GRPC_UNAVAILABLE,
               "pawl: another snapshot is being received");
    } else {
        incoming_begin(s, c, from, &header);
        return;
    }
    snapshot_header_release(&header);
}

static void on_chunk(struct rpc_call *c, const ProtobufCMessage *m)
{
    const Pawl__Peer__V1__SnapshotChunk *chunk =
        (const Pawl__Peer__V1__SnapshotChunk *)m;
    struct incoming *in = rpc_call_context(c);

    if (in == NULL) {
        on_first(rpc_call_service(c), c, chunk);
    } else {
        take_chunk(in, chunk);
    }
}

/* The sender is gone. What is complete is installed all the same. */
static void on_lost(struct rpc_call *c)
{
    struct incoming *in = rpc_call_context(c);

    if (in == NULL) {
        return;
    }
    in->call = NULL;
    if (in->state <= RECEIVING && !in->over) {
        end(in, GRPC_CANCELLED, "the stream broke", false);
    }
}

static void on_half_close(struct rpc_call *c)
{
    struct incoming *in = rpc_call_context(c);

    if (in == NULL) {
        rpc_call_finish(c, GRPC_OK, NULL);
    } else if (in->state <= RECEIVING) {
        end(in, GRPC_CANCELLED, "the stream ended early", false);
    }
}

static const struct rpc_method methods[] = {
    {
        .path = "/pawl.peer.v1.Peer/Snapshot",
        .client_streams = true,
        .server_streams = true,
        .request = &pawl__peer__v1__snapshot_chunk__descriptor,
        .on_message = on_chunk,
        .on_half_close = on_half_close,
        .on_close = on_lost,
    },
};

void snapshot_in_serve(struct snapshots *s, struct rpc_server *server)
{
    rpc_server_add(server, methods, ARRAY_LENGTH(methods), s);
}

/* ---- life -------------------------------------------------------------------
 */

bool snapshot_in_tick(struct snapshots *s)
{
    struct incoming *in = s->incoming;

    if (in == NULL) {
        return false;
    }
    if (in->over && !in->busy) {
        incoming_free(in);
        s->incoming = NULL;
        return false;
    }
    if (in->state == VERIFIED && !in->over) {
        begin_install(in);
    } else if (in->state != OPENING && !in->over &&
               clock_ms() - in->told_ms >= ALIVE_MS) {
        send_ack(in, false, false); /* a sign of life */
    }
    return true;
}

void snapshot_in_stop(struct snapshots *s)
{
    if (s->incoming != NULL) {
        hang_up(s->incoming, GRPC_UNAVAILABLE, "pawl: stopping");
    }
}

void snapshot_in_free(struct snapshots *s)
{
    if (s->incoming != NULL) {
        incoming_free(s->incoming);
    }
}

void snapshot_in_clean(struct snapshots *s)
{
    char *copy = mem_printf("%s/outgoing.db", s->directory);

    /* What was begun stays: its header tells whether it is of use, and the
     * next snapshot takes its place if not. */
    (void)unlink(copy); /* it need not be there */
    free(copy);
}
