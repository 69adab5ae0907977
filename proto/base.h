/*
 * base.h - what proto, server and client stand on: ASSERT, memory that never
 * runs out, slices, a growable buffer, the monotonic clock.
 */
#ifndef PAWL_BASE_H
#define PAWL_BASE_H

#ifdef NDEBUG
#error "assertions stay on: stopping beats a wrong answer"
#endif
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the author knows to be true. Never on what a peer or client sent. */
#define ASSERT(claim) assert(claim)

#define ARRAY_LENGTH(a) (sizeof(a) / sizeof((a)[0]))

/* Zeroed memory, never NULL: running out aborts. Free with free(). */
void *mem_alloc(size_t n, size_t size);
void *mem_realloc(void *old, size_t n, size_t size);
char *mem_strdup(const char *s);
char *mem_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Bytes that belong to somebody else. */
struct slice {
    const uint8_t *data;
    size_t size;
};

/* memcmp order, shorter first: the order of keys. */
int slice_compare(struct slice a, struct slice b);
bool slice_equal(struct slice a, struct slice b);

/* Bytes that grow. Zero-initialised is empty; buffer_release() frees. */
struct buffer {
    uint8_t *data;
    size_t size, capacity;
};

void buffer_reserve(struct buffer *b, size_t more); /* room behind size */
void buffer_append(struct buffer *b, const void *data, size_t size);
void buffer_consume(struct buffer *b, size_t size); /* drop from the front */
void buffer_release(struct buffer *b);

/* CLOCK_MONOTONIC. Never the wall clock: that decides nothing in pawl. */
uint64_t clock_ms(void);
uint64_t clock_us(void);

/* Random bytes of the system, for ids. Aborts if there are none. */
uint64_t random_u64(void);

#endif
