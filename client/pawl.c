/*
 * pawl.c - the handle: its options, endpoints, connections, and the text of
 * its last failure.
 */
#include "client/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENDPOINTS_DEFAULT "127.0.0.1:2379"
#define CONNECT_TIMEOUT_MS 2000
#define CALL_TIMEOUT_MS 5000
/* A connection on which a server is silent so long while asked is dead. */
#define PING_INTERVAL_MS 3000
#define PING_TIMEOUT_MS 3000
#define OPTIONS_UNKNOWN                                                        \
    "options.size is not set, or the options ask for what this version of "    \
    "libpawl does not know"
/* A range may be large; the server bounds what it sends, we what we take. */
#define MESSAGE_BYTES_MAX ((size_t)256 << 20)

const char *pawl_version(void)
{
    return PAWL_VERSION;
}

const char *pawl_status_text(enum pawl_status status)
{
    switch (status) {
    case PAWL_OK:
        return "ok";
    case PAWL_INVALID:
        return "invalid request";
    case PAWL_NOT_FOUND:
        return "not found";
    case PAWL_EXISTS:
        return "exists already";
    case PAWL_NOT_ACQUIRED:
        return "lock not acquired";
    case PAWL_LOST:
        return "lease lost";
    case PAWL_FENCED:
        return "refused by the fence";
    case PAWL_REFUSED:
        return "refused";
    case PAWL_OUT_OF_RANGE:
        return "out of range";
    case PAWL_LIMIT:
        return "beyond a limit";
    case PAWL_DENIED:
        return "permission denied";
    case PAWL_UNSUPPORTED:
        return "not supported";
    case PAWL_UNAVAILABLE:
        return "unavailable";
    case PAWL_TIMEOUT:
        return "timed out";
    case PAWL_MAYBE_APPLIED:
        return "maybe applied";
    case PAWL_INTERNAL:
        return "internal error";
    }
    return "unknown status";
}

bool options_copy(void *to, size_t to_size, const void *from)
{
    const unsigned char *bytes = from;
    size_t size;

    memset(to, 0, to_size);
    if (from == NULL) {
        return true;
    }
    memcpy(&size, from, sizeof(size));
    if (size < sizeof(size)) {
        return false; /* the caller forgot to set it */
    }
    for (size_t i = to_size; i < size; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    memcpy(to, from, size < to_size ? size : to_size);
    return true;
}

static struct pawl *handle_new(struct endpoints endpoints,
                               const struct pawl_options *o)
{
    struct pawl *p = mem_alloc(1, sizeof(*p));

    p->base = event_base_new();
    ASSERT(p->base != NULL);
    p->loop = rpc_loop_new(p->base);
    p->endpoints = endpoints;
    p->channels = mem_alloc(endpoints.n, sizeof(struct rpc_channel *));
    p->current = o->in_order ? 0 : (size_t)(random_u64() % endpoints.n);
    p->connect_timeout_ms =
        o->connect_timeout_ms > 0 ? o->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    pawl_set_call_timeout(p, o->call_timeout_ms);
    p->error = mem_strdup("");
    return p;
}

struct pawl *pawl_open(const struct pawl_options *options, char *error)
{
    char unwanted[PAWL_ERROR_BYTES];
    struct pawl_options o;
    struct endpoints endpoints;

    if (error == NULL) {
        error = unwanted;
    }
    error[0] = '\0';
    if (!options_copy(&o, sizeof(o), options)) {
        snprintf(error, PAWL_ERROR_BYTES, "%s", OPTIONS_UNKNOWN);
        return NULL;
    }
    if (!endpoints_parse(o.endpoints != NULL ? o.endpoints : ENDPOINTS_DEFAULT,
                         &endpoints, error)) {
        return NULL;
    }
    return handle_new(endpoints, &o);
}

struct pawl *pawl_clone(const struct pawl *p)
{
    struct endpoints copy = {.n = p->endpoints.n};
    struct pawl_options o = {
        .in_order = true, /* current is set below */
        .connect_timeout_ms = p->connect_timeout_ms,
        .call_timeout_ms = p->call_timeout_ms,
    };
    struct pawl *clone;

    copy.addresses = mem_alloc(copy.n, sizeof(*copy.addresses));
    for (size_t i = 0; i < copy.n; i++) {
        copy.addresses[i] = mem_strdup(p->endpoints.addresses[i]);
    }
    clone = handle_new(copy, &o);
    clone->current = p->current;
    return clone;
}

void pawl_close(struct pawl *p)
{
    if (p == NULL) {
        return;
    }
    for (size_t i = 0; i < p->endpoints.n; i++) {
        rpc_channel_free(p->channels[i]);
    }
    rpc_loop_free(p->loop);
    event_base_free(p->base);
    endpoints_release(&p->endpoints);
    free(p->channels);
    free(p->error);
    free(p);
}

struct rpc_channel *pawl_channel(struct pawl *p, size_t endpoint)
{
    struct rpc_channel_config config = {
        .address = p->endpoints.addresses[endpoint],
        .connect_timeout_ms = p->connect_timeout_ms,
    };

    if (p->channels[endpoint] == NULL) {
        rpc_limits_defaults(&config.limits);
        config.limits.message_bytes_max = MESSAGE_BYTES_MAX;
        config.limits.ping_interval_ms = PING_INTERVAL_MS;
        config.limits.ping_timeout_ms = PING_TIMEOUT_MS;
        p->channels[endpoint] = rpc_channel_new(p->loop, &config);
    }
    return p->channels[endpoint];
}

enum pawl_status pawl_fail(struct pawl *p, enum pawl_status status,
                           const char *format, ...)
{
    char *text = NULL;
    va_list ap;

    va_start(ap, format);
    if (vasprintf(&text, format, ap) < 0) {
        abort();
    }
    va_end(ap);
    free(p->error);
    p->error = text;
    return status;
}

enum pawl_status pawl_fail_options(struct pawl *p)
{
    return pawl_fail(p, PAWL_UNSUPPORTED, "%s", OPTIONS_UNKNOWN);
}

const char *pawl_error(const struct pawl *p)
{
    return p->error;
}

void pawl_set_call_timeout(struct pawl *p, uint32_t ms)
{
    p->call_timeout_ms = ms > 0 ? ms : CALL_TIMEOUT_MS;
}

size_t pawl_endpoint_count(const struct pawl *p)
{
    return p->endpoints.n;
}

const char *pawl_endpoint(const struct pawl *p, size_t index)
{
    return index < p->endpoints.n ? p->endpoints.addresses[index] : NULL;
}
