/*
 * wire.h - Raft messages to and from protobuf (peer.proto). Pure.
 */
#ifndef PAWL_WIRE_H
#define PAWL_WIRE_H

#include "peer.pb-c.h"
#include "proto/arena.h"
#include "raft/raft.h"

/* The protobuf form; entry data is borrowed from m, the rest is the arena's. */
Pawl__Peer__V1__Message *wire_encode(const struct raft_message *m,
                                     struct arena *arena);
/*
 * The way back; data is borrowed from p, entries are the arena's. False if a
 * type is unknown; everything else the core judges itself.
 */
bool wire_decode(const Pawl__Peer__V1__Message *p, struct arena *arena,
                 struct raft_message *m);

#endif
