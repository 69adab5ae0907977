/*
 * request.h - operations at a member: what the services in server/svc_*.c do
 * with a call, on struct node and struct applier, and what becomes of it.
 */
#ifndef TESTS_SIM_REQUEST_H
#define TESTS_SIM_REQUEST_H

#include "server/node.h"

struct process;

/* An attempt of a client's operation arrives. */
void request_start(struct process *p, uint64_t attempt);
/* The client is gone: as when a call is closed. */
void request_close(struct process *p, uint64_t attempt);
/* wait_ms of a lock's acquire passed. */
void request_wait_is_over(struct process *p, uint64_t attempt);

void requests_listen(struct process *p);
void requests_tick(struct process *p);
/* The process is gone, its node as well. */
void requests_drop(struct process *p);

#endif
