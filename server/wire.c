/*
 * wire.c - Raft messages to and from protobuf, field by field.
 */
#include "server/wire.h"

#include <string.h>

_Static_assert((int)RAFT_READ_INDEX_RESPONSE ==
                   (int)PAWL__PEER__V1__MESSAGE_TYPE__READ_INDEX_RESPONSE,
               "raft.h and peer.proto number message types alike");
_Static_assert((int)RAFT_APPEND_ENTRIES ==
                   (int)PAWL__PEER__V1__MESSAGE_TYPE__APPEND_ENTRIES,
               "raft.h and peer.proto number message types alike");

static Pawl__Peer__V1__Entry **encode_entries(const struct raft_message *m,
                                              struct arena *arena)
{
    Pawl__Peer__V1__Entry **list =
        arena_alloc(arena, m->n_entries * sizeof(*list));
    Pawl__Peer__V1__Entry *entries =
        arena_alloc(arena, m->n_entries * sizeof(*entries));

    for (size_t i = 0; i < m->n_entries; i++) {
        const struct raft_entry *e = &m->entries[i];

        pawl__peer__v1__entry__init(&entries[i]);
        entries[i].index = e->index;
        entries[i].term = e->term;
        entries[i].type = (uint32_t)e->type;
        entries[i].data.len = e->size;
        entries[i].data.data = (uint8_t *)e->data; /* only read */
        list[i] = &entries[i];
    }
    return list;
}

Pawl__Peer__V1__Message *wire_encode(const struct raft_message *m,
                                     struct arena *arena)
{
    Pawl__Peer__V1__Message *p = arena_alloc(arena, sizeof(*p));

    pawl__peer__v1__message__init(p);
    p->type = (Pawl__Peer__V1__MessageType)m->type;
    p->from = m->from;
    p->to = m->to;
    p->term = m->term;
    p->log_index = m->log_index;
    p->log_term = m->log_term;
    p->commit = m->commit;
    p->reject_hint = m->reject_hint;
    p->context = m->context;
    p->reject = m->reject;
    p->force = m->force;
    if (m->n_entries > 0) {
        p->n_entries = m->n_entries;
        p->entries = encode_entries(m, arena);
    }
    return p;
}

static bool decode_entries(const Pawl__Peer__V1__Message *p,
                           struct arena *arena, struct raft_message *m)
{
    struct raft_entry *entries =
        arena_alloc(arena, p->n_entries * sizeof(*entries));

    for (size_t i = 0; i < p->n_entries; i++) {
        const Pawl__Peer__V1__Entry *e = p->entries[i];

        if (e->type < RAFT_ENTRY_COMMAND || e->type > RAFT_ENTRY_CONFIG) {
            return false;
        }
        entries[i] = (struct raft_entry){
            .index = e->index,
            .term = e->term,
            .type = (enum raft_entry_type)e->type,
            .size = e->data.len,
            .data = e->data.len > 0 ? e->data.data : NULL,
        };
    }
    m->entries = entries;
    m->n_entries = p->n_entries;
    return true;
}

bool wire_decode(const Pawl__Peer__V1__Message *p, struct arena *arena,
                 struct raft_message *m)
{
    *m = (struct raft_message){
        .type = (enum raft_message_type)p->type,
        .from = p->from,
        .to = p->to,
        .term = p->term,
        .log_index = p->log_index,
        .log_term = p->log_term,
        .commit = p->commit,
        .reject_hint = p->reject_hint,
        .context = p->context,
        .reject = p->reject,
        .force = p->force,
    };
    if ((int)p->type < (int)RAFT_PRE_VOTE ||
        (int)p->type > (int)RAFT_READ_INDEX_RESPONSE) {
        return false;
    }
    return p->n_entries == 0 || decode_entries(p, arena, m);
}
