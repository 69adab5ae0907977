/*
 * arena.h - memory for one request: many small allocations, one release.
 *
 * Decoding a request and building its answer take their memory from here, so
 * that a request costs no malloc per field and nothing can leak. Not
 * thread-safe.
 */
#ifndef PAWL_ARENA_H
#define PAWL_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *blocks;   /* newest first */
    unsigned char *next, *end;    /* free space in the newest block */
    ProtobufCAllocator allocator; /* for protobuf_c_message_unpack(); its
                                     frees do nothing */
    size_t allocator_left;        /* bytes until it returns NULL */
};

void arena_init(struct arena *a);
/* Zeroed, aligned for anything, never NULL, good until reset or release. */
void *arena_alloc(struct arena *a, size_t size);
void *arena_copy(struct arena *a, const void *data, size_t size);
char *arena_printf(struct arena *a, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/*
 * From now on a->allocator gives that many bytes and then NULL, on which
 * unpacking fails: an input of two bytes a message must not cost a hundred
 * each. Without this call there is no limit. arena_alloc() knows none.
 */
void arena_limit_allocator(struct arena *a, size_t bytes);
/* All is forgotten; a block is kept for the next request. */
void arena_reset(struct arena *a);
void arena_release(struct arena *a);

#endif
