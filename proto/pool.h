/*
 * pool.h - small blocks of memory that come and go with each request.
 *
 * nghttp2 allocates about ten blocks for a stream and frees them soon after.
 * Lists of free blocks by size make that cheaper than malloc, which keeps only
 * a handful of each size at hand. One thread.
 */
#ifndef PAWL_POOL_H
#define PAWL_POOL_H

#include <stddef.h>

/* Memory that is kept for reuse hides its misuse from the address sanitizer. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_KEEPS 0
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define POOL_KEEPS 0
#endif
#ifndef POOL_KEEPS
#define POOL_KEEPS 1
#endif

#define POOL_CLASSES 33

struct pool_block;

struct pool {
    struct pool_block *free[POOL_CLASSES];
    size_t n_free[POOL_CLASSES];
};

void pool_init(struct pool *p);
/* All blocks must have been freed. */
void pool_release(struct pool *p);

/* As malloc and its family, but running out aborts. */
void *pool_alloc(struct pool *p, size_t size);
void *pool_realloc(struct pool *p, void *old, size_t size);
void pool_free(struct pool *p, void *data); /* NULL is fine */

#endif
