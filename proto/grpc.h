/*
 * grpc.h - gRPC's small encodings on top of HTTP/2: message prefixes,
 * grpc-timeout, grpc-message, base64 of "-bin" metadata. Pure functions.
 */
#ifndef PAWL_GRPC_H
#define PAWL_GRPC_H

#include "proto/base.h"

/* One byte flag, four bytes big-endian length before each message. */
#define GRPC_PREFIX_BYTES 5

void grpc_put_prefix(uint8_t *out, size_t message_bytes);
/* flag: 0 plain, 1 compressed, anything else is an error. */
void grpc_get_prefix(const uint8_t *in, uint8_t *flag, size_t *message_bytes);

/*
 * "250m" and so on: 1 to 8 digits and a unit of H M S m u n. *ms is rounded
 * up, so that a short timeout is not taken for one that has passed. False if
 * malformed.
 */
bool grpc_parse_timeout(struct slice text, uint64_t *ms);
#define GRPC_TIMEOUT_BYTES 12
/* With the NUL, in GRPC_TIMEOUT_BYTES. Returns its length. */
size_t grpc_format_timeout(char *out, uint64_t ms);

/* Room that percent-encoding may need, without a NUL. */
#define GRPC_PERCENT_BYTES(size) (3 * (size))
/* All but printable ASCII, and '%' itself, becomes %XX. Returns the length. */
size_t grpc_percent_encode(char *out, const char *text, size_t size);
/* What is no %XX stays as it is. out: size bytes; may be text itself. */
size_t grpc_percent_decode(char *out, const char *text, size_t size);

#define GRPC_BASE64_BYTES(size) (((size) + 2) / 3 * 4)
/* Without padding, as gRPC prefers. Returns the length. */
size_t grpc_base64_encode(char *out, const uint8_t *data, size_t size);
/*
 * Padded or not. out: 3 bytes for each 4 begun. False if it is no base64.
 */
bool grpc_base64_decode(uint8_t *out, size_t *out_size, struct slice text);

/* "application/grpc", maybe followed by "+subtype" or ";parameters". */
bool grpc_is_content_type(struct slice value);

#endif
