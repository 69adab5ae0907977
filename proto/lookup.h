/*
 * lookup.h - a host name to addresses, without making the loop wait.
 *
 * A thread per lookup runs the system's resolver (all that nsswitch, hosts and
 * resolv.conf say holds), and is left alone if nobody wants its answer any
 * more. Everything here belongs to the thread of the event base.
 */
#ifndef PAWL_LOOKUP_H
#define PAWL_LOOKUP_H

#include <event2/event.h>
#include <netdb.h>

struct lookup;

/*
 * error: 0, or an errno; result is the callee's, for net_free(). The lookup is
 * gone when done is called.
 */
typedef void lookup_done(void *context, int error, struct addrinfo *result);

/* "host:port". NULL: there is no thread to be had. done comes later. */
struct lookup *lookup_start(struct event_base *base, const char *address,
                            lookup_done *done, void *context);
/* done will not be called. */
void lookup_cancel(struct lookup *l);

#endif
