/*
 * net.h - addresses and sockets: "host:port" to a socket and back.
 */
#ifndef PAWL_NET_H
#define PAWL_NET_H

#include <event2/util.h>
#include <netdb.h>

#include "proto/base.h"

#define NET_NAME_BYTES 64

enum net_use {
    NET_LISTEN,  /* ":port" is any address */
    NET_CONNECT, /* ":port" is this machine */
    NET_NUMERIC, /* to connect; names are not looked up */
};

/*
 * "127.0.0.1:2379", "[::1]:0", "host:port", ":port". Returns 0 or an errno;
 * EADDRNOTAVAIL is a name that is not known, or not numeric. Looking a name up
 * may block.
 */
int net_resolve(const char *address, enum net_use use,
                struct addrinfo **result);
void net_free(struct addrinfo *ai); /* NULL is fine */

/* Returns 0 or an errno; *port (if not NULL) gets what was bound. */
int net_listen(const struct addrinfo *ai, int backlog, evutil_socket_t *fd,
               int *port);
/* Begin a connection. Returns 0 or an errno. */
int net_connect(const struct addrinfo *ai, evutil_socket_t *fd);

/* Small frames must not wait for one another. */
void net_set_nodelay(evutil_socket_t fd);

/* "127.0.0.1:51234", in NET_NAME_BYTES. */
void net_format(char *out, const struct sockaddr *address);

#endif
