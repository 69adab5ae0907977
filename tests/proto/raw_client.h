/*
 * raw_client.h - an HTTP/2 client that says exactly what a test wants, right
 * or wrong, and opens its windows only when told; or just a socket.
 */
#ifndef RAW_CLIENT_H
#define RAW_CLIENT_H

#include <nghttp2/nghttp2.h>

#include "rpc_world.h"

#define RAW_STREAMS 128

struct raw_stream {
    struct buffer body; /* to send */
    size_t body_start;
    bool body_ends;
    int http_status;
    int grpc_status; /* -1: none */
    int n_blocks;    /* header blocks received */
    char content_type[64], message[512];
    struct buffer data; /* received */
    bool ended;         /* END_STREAM came */
    bool closed;
    bool reset; /* RST_STREAM came */
    uint32_t reset_code;
};

struct raw {
    struct world *w;
    int fd;
    bool eof;
    bool goaway;
    bool settings;
    nghttp2_session *session; /* NULL: just a socket */
    struct raw_stream streams[RAW_STREAMS];
    struct buffer input; /* of a socket without session */
};

/* A socket, connected. */
void raw_connect(struct raw *raw, struct world *w);
/* And HTTP/2 on it; windows are not opened by themselves. */
void raw_open(struct raw *raw, struct world *w);
void raw_close(struct raw *raw);

/* Bytes as they are. */
void raw_write(struct raw *raw, const void *data, size_t size);
/* Write and read what there is to, and one round of the world. */
void raw_round(struct raw *raw);
#define raw_until(raw, x)                                                      \
    do {                                                                       \
        uint64_t raw_end_ = clock_ms() + 10000;                                \
        while (!(x)) {                                                         \
            raw_round(raw);                                                    \
            ck_assert_msg(clock_ms() < raw_end_, "never: %s", #x);             \
        }                                                                      \
    } while (0)

/* name, value, name, value, NULL. body may be NULL: END_STREAM on HEADERS. */
int32_t raw_request(struct raw *raw, const char *const *headers,
                    const void *body, size_t size, bool end);
/* The usual headers for a path. */
int32_t raw_post(struct raw *raw, const char *path, const void *body,
                 size_t size, bool end);
/* More of a body that has not ended. */
void raw_more(struct raw *raw, int32_t id, const void *body, size_t size,
              bool end);
struct raw_stream *raw_stream(struct raw *raw, int32_t id);
/* A RangeRequest with prefix, appended. */
void raw_message(struct buffer *b, const char *key, size_t key_size,
                 int64_t limit);

#endif
