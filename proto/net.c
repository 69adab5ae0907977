/*
 * net.c - addresses and sockets.
 */
#include "proto/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Split at the last colon; brackets around the host go. False: no port. */
static bool split(const char *address, char *host, size_t size,
                  const char **port)
{
    const char *colon = strrchr(address, ':');
    size_t n;

    if (colon == NULL || colon[1] == '\0') {
        return false;
    }
    n = (size_t)(colon - address);
    if (n >= 2 && address[0] == '[' && address[n - 1] == ']') {
        address++;
        n -= 2;
    }
    if (n >= size) {
        return false;
    }
    memcpy(host, address, n);
    host[n] = '\0';
    *port = colon + 1;
    return true;
}

int net_resolve(const char *address, enum net_use use, struct addrinfo **result)
{
    char host[256];
    const char *port;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICSERV};

    *result = NULL;
    if (!split(address, host, sizeof(host), &port)) {
        return EINVAL;
    }
    if (use == NET_LISTEN) {
        hints.ai_flags |= AI_PASSIVE;
    } else if (use == NET_NUMERIC) {
        hints.ai_flags |= AI_NUMERICHOST;
    }
    switch (getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, result)) {
    case 0:
        return 0;
    case EAI_MEMORY:
        abort();
    case EAI_SERVICE:
        return EINVAL;
    default:
        *result = NULL;
        return EADDRNOTAVAIL;
    }
}

void net_free(struct addrinfo *ai)
{
    if (ai != NULL) {
        freeaddrinfo(ai);
    }
}

static int bound_port(evutil_socket_t fd)
{
    union {
        struct sockaddr_in6 v6;
        struct sockaddr_in v4;
        struct sockaddr any;
    } address = {0};
    socklen_t size = sizeof(address);

    if (getsockname(fd, &address.any, &size) != 0) {
        return 0;
    }
    return ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port
                                                   : address.v4.sin_port);
}

int net_listen(const struct addrinfo *ai, int backlog, evutil_socket_t *fd,
               int *port)
{
    int one = 1, error;

    *fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0) {
        return errno;
    }
    (void)setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(*fd, ai->ai_addr, ai->ai_addrlen) != 0 ||
        listen(*fd, backlog) != 0) {
        error = errno;
        evutil_closesocket(*fd);
        return error;
    }
    if (port != NULL) {
        *port = bound_port(*fd);
    }
    return 0;
}

int net_connect(const struct addrinfo *ai, evutil_socket_t *fd)
{
    int error;

    *fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0) {
        return errno;
    }
    net_set_nodelay(*fd);
    if (connect(*fd, ai->ai_addr, ai->ai_addrlen) != 0 &&
        errno != EINPROGRESS) {
        error = errno;
        evutil_closesocket(*fd);
        return error;
    }
    return 0;
}

void net_set_nodelay(evutil_socket_t fd)
{
    int one = 1;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

void net_format(char *out, const struct sockaddr *address)
{
    char host[INET6_ADDRSTRLEN];
    const struct sockaddr_in6 *in6;
    const struct sockaddr_in *in;

    switch (address->sa_family) {
    case AF_INET:
        in = (const struct sockaddr_in *)(const void *)address;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        snprintf(out, NET_NAME_BYTES, "%s:%u", host, ntohs(in->sin_port));
        break;
    case AF_INET6:
        in6 = (const struct sockaddr_in6 *)(const void *)address;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        snprintf(out, NET_NAME_BYTES, "[%s]:%u", host, ntohs(in6->sin6_port));
        break;
    default:
        snprintf(out, NET_NAME_BYTES, "unknown");
        break;
    }
}
