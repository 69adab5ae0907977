/*
 * base.c - memory, slices, buffers, the monotonic clock.
 */
#include "proto/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

void *mem_alloc(size_t n, size_t size)
{
    void *p = calloc(n > 0 ? n : 1, size > 0 ? size : 1);

    if (p == NULL) {
        abort();
    }
    return p;
}

void *mem_realloc(void *old, size_t n, size_t size)
{
    void *p;

    ASSERT(size > 0 && n <= SIZE_MAX / size);
    p = realloc(old, n > 0 ? n * size : 1);
    if (p == NULL) {
        abort();
    }
    return p;
}

char *mem_strdup(const char *s)
{
    size_t size = strlen(s) + 1;

    return memcpy(mem_alloc(size, 1), s, size);
}

char *mem_printf(const char *format, ...)
{
    char *s = NULL;
    va_list ap;

    va_start(ap, format);
    if (vasprintf(&s, format, ap) < 0) {
        abort();
    }
    va_end(ap);
    return s;
}

int slice_compare(struct slice a, struct slice b)
{
    size_t n = a.size < b.size ? a.size : b.size;
    int order = n > 0 ? memcmp(a.data, b.data, n) : 0;

    if (order != 0) {
        return order;
    }
    return a.size < b.size ? -1 : a.size > b.size;
}

bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size &&
           (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

void buffer_reserve(struct buffer *b, size_t more)
{
    size_t capacity = b->capacity > 0 ? b->capacity : 256;

    ASSERT(more <= SIZE_MAX / 4 && b->size <= SIZE_MAX / 4);
    while (capacity < b->size + more) {
        capacity *= 2;
    }
    if (capacity != b->capacity) {
        b->data = mem_realloc(b->data, capacity, 1);
        b->capacity = capacity;
    }
}

void buffer_append(struct buffer *b, const void *data, size_t size)
{
    if (size == 0) {
        return;
    }
    buffer_reserve(b, size);
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

void buffer_consume(struct buffer *b, size_t size)
{
    ASSERT(size <= b->size);
    if (size < b->size) {
        memmove(b->data, b->data + size, b->size - size);
    }
    b->size -= size;
}

void buffer_release(struct buffer *b)
{
    free(b->data);
    *b = (struct buffer){0};
}

uint64_t clock_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t clock_ms(void)
{
    return clock_us() / 1000;
}

uint64_t random_u64(void)
{
    uint64_t x;

    if (getrandom(&x, sizeof(x), 0) != (ssize_t)sizeof(x)) {
        abort();
    }
    return x;
}
