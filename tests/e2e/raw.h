/*
 * raw.h - a socket that says exactly what a test wants: HTTP/2 by hand, right
 * or wrong.
 */
#ifndef E2E_RAW_H
#define E2E_RAW_H

#include "proto/base.h"

struct raw; /* a connection */

struct raw *raw_connect(const char *address);
void raw_free(struct raw *r);

void raw_write(struct raw *r, const void *data, size_t size);
void raw_preface(struct raw *r); /* and empty SETTINGS */
/* A frame with that payload; size may lie. */
void raw_frame(struct raw *r, uint8_t type, uint8_t flags, uint32_t stream,
               size_t size, const void *payload, size_t payload_size);
/* HEADERS of a gRPC call on stream 1: POST path. */
void raw_headers(struct raw *r, const char *path, bool end_stream);
/* DATA on stream 1. */
void raw_data(struct raw *r, const void *data, size_t size, bool end_stream);

/*
 * Read until stream 1 or the connection ends: grpc-status, or -1 if none came.
 * message gets grpc-message as it is on the wire.
 */
int raw_status(struct raw *r, char *message, size_t size);
/* Wait until the server closes the connection. False: it does not. */
bool raw_wait_closed(struct raw *r);

#endif
