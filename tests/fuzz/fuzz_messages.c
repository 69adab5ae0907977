/*
 * fuzz_messages.c - decoding requests as the RPC layer does. The first byte
 * chooses the message.
 */
#include <stdlib.h>
#include <string.h>

#include "etcd/rpc.pb-c.h"
#include "etcd/v3lock.pb-c.h"
#include "pawl.pb-c.h"
#include "peer.pb-c.h"
#include "proto/rpc_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessageDescriptor *const types[] = {
    &etcdserverpb__txn_request__descriptor,
    &etcdserverpb__range_request__descriptor,
    &etcdserverpb__put_request__descriptor,
    &etcdserverpb__delete_range_request__descriptor,
    &etcdserverpb__watch_request__descriptor,
    &etcdserverpb__watch_response__descriptor,
    &etcdserverpb__txn_response__descriptor,
    &etcdserverpb__lease_grant_request__descriptor,
    &v3lockpb__lock_request__descriptor,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rpc_call call; /* only what decoding looks at */
    struct arena a;
    ProtobufCMessage *m;

    if (size == 0) {
        return 0;
    }
    call.receives = types[data[0] % ARRAY_LENGTH(types)];
    arena_init(&a);
    m = call_decode(&call, &a, data + 1, size - 1);
    if (m != NULL) {
        size_t packed = protobuf_c_message_get_packed_size(m);
        uint8_t *out = mem_alloc(packed + 1, 1);

        ASSERT(protobuf_c_message_pack(m, out) == packed);
        /* What we send can be read again. */
        ASSERT(call_decode(&call, &a, out, packed) != NULL);
        free(out);
    }
    arena_release(&a);
    return 0;
}
