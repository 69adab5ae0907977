/*
 * arena.c - a chain of blocks, allocated from the newest.
 */
#include "proto/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"

#define BLOCK_BYTES ((size_t)4096 - 64)
#define LARGE_BYTES (BLOCK_BYTES / 4)
#define ALIGNMENT alignof(max_align_t)

struct arena_block {
    struct arena_block *older;
    size_t size; /* of data */
    alignas(max_align_t) unsigned char data[];
};

static void *take(struct arena *a, size_t size);

static void *allocator_alloc(void *data, size_t size)
{
    struct arena *a = data;

    if (size > a->allocator_left) {
        return NULL;
    }
    a->allocator_left -= size;
    return take(a, size); /* protobuf-c fills all that it asks for */
}

static void allocator_free(void *data, void *p)
{
    (void)data; /* the arena frees all at once */
    (void)p;
}

void arena_init(struct arena *a)
{
    *a = (struct arena){0};
    a->allocator.alloc = allocator_alloc;
    a->allocator.free = allocator_free;
    a->allocator.allocator_data = a;
    a->allocator_left = SIZE_MAX;
}

void arena_limit_allocator(struct arena *a, size_t bytes)
{
    a->allocator_left = bytes;
}

static struct arena_block *new_block(size_t bytes)
{
    struct arena_block *b = malloc(sizeof(*b) + bytes);

    if (b == NULL) {
        abort();
    }
    b->size = bytes;
    return b;
}

/* A block of its own, behind the newest, whose free space stays in use. */
static void *alloc_large(struct arena *a, size_t size)
{
    struct arena_block *b = new_block(size);
    struct arena_block **place =
        a->blocks != NULL ? &a->blocks->older : &a->blocks;

    b->older = *place;
    *place = b;
    return b->data;
}

static void add_block(struct arena *a)
{
    struct arena_block *b = new_block(BLOCK_BYTES);

    b->older = a->blocks;
    a->blocks = b;
    a->next = b->data;
    a->end = b->data + BLOCK_BYTES;
}

/* Not zeroed. */
static void *take(struct arena *a, size_t size)
{
    void *p;

    ASSERT(size < SIZE_MAX / 2);
    size = (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    if (a->next == NULL || (size_t)(a->end - a->next) < size) {
        if (size > LARGE_BYTES) {
            return alloc_large(a, size);
        }
        add_block(a);
    }
    p = a->next;
    a->next += size;
    return p;
}

void *arena_alloc(struct arena *a, size_t size)
{
    return memset(take(a, size), 0, size);
}

void *arena_copy(struct arena *a, const void *data, size_t size)
{
    void *p = take(a, size > 0 ? size : 1);

    return size > 0 ? memcpy(p, data, size) : p;
}

char *arena_printf(struct arena *a, const char *format, ...)
{
    va_list ap;
    int n;
    char *s;

    va_start(ap, format);
    n = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    ASSERT(n >= 0);
    s = arena_alloc(a, (size_t)n + 1);
    va_start(ap, format);
    vsnprintf(s, (size_t)n + 1, format, ap);
    va_end(ap);
    return s;
}

void arena_reset(struct arena *a)
{
    struct arena_block *kept = NULL, *b;

    while ((b = a->blocks) != NULL) {
        a->blocks = b->older;
        if (kept == NULL && b->size == BLOCK_BYTES) {
            kept = b;
        } else {
            free(b);
        }
    }
    a->allocator_left = SIZE_MAX;
    a->next = a->end = NULL;
    if (kept != NULL) {
        kept->older = NULL;
        a->blocks = kept;
        a->next = kept->data;
        a->end = kept->data + kept->size;
    }
}

void arena_release(struct arena *a)
{
    arena_reset(a);
    free(a->blocks);
    a->blocks = NULL;
    a->next = a->end = NULL;
}
