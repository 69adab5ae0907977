/*
 * fuzz_grpc.c - the small encodings: what decodes survives encoding.
 */
#include <stdlib.h>
#include <string.h>

#include "proto/grpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_timeout(struct slice text)
{
    uint64_t ms, again;
    char out[GRPC_TIMEOUT_BYTES];

    if (grpc_parse_timeout(text, &ms)) {
        size_t n = grpc_format_timeout(out, ms);

        ASSERT(grpc_parse_timeout((struct slice){(uint8_t *)out, n}, &again));
        ASSERT(again >= ms);
    }
}

static void try_percent(struct slice text)
{
    char *encoded = mem_alloc(GRPC_PERCENT_BYTES(text.size) + 1, 1);
    char *plain = mem_alloc(GRPC_PERCENT_BYTES(text.size) + 1, 1);
    size_t n = grpc_percent_encode(encoded, (const char *)text.data, text.size);

    n = grpc_percent_decode(plain, encoded, n);
    ASSERT(n == text.size && memcmp(plain, text.data, n) == 0);
    n = grpc_percent_decode(plain, (const char *)text.data, text.size);
    ASSERT(n <= text.size);
    free(encoded);
    free(plain);
}

static void try_base64(struct slice text)
{
    char *encoded = mem_alloc(GRPC_BASE64_BYTES(text.size) + 1, 1);
    uint8_t *raw = mem_alloc((text.size + 3) / 4 * 3 + 1, 1);
    uint8_t *again = mem_alloc(text.size + 3, 1);
    size_t n, size;

    (void)grpc_base64_decode(raw, &n, text);
    n = grpc_base64_encode(encoded, text.data, text.size);
    ASSERT(grpc_base64_decode(again, &size,
                              (struct slice){(uint8_t *)encoded, n}));
    ASSERT(size == text.size && memcmp(again, text.data, size) == 0);
    free(encoded);
    free(raw);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = {data, size};

    if (size == 0) {
        return 0;
    }
    try_timeout(text);
    try_percent(text);
    try_base64(text);
    (void)grpc_is_content_type(text);
    return 0;
}
