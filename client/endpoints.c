/*
 * endpoints.c - "127.0.0.1:2379,http://[::1]:2379,host" to addresses.
 */
#include "client/internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PORT "2379"
#define ENDPOINTS_MAX 64 /* a bound on what a typing error can ask for */

static bool fail(char *error, const char *what, const char *item, size_t size)
{
    snprintf(error, PAWL_ERROR_BYTES, "endpoint '%.*s': %s",
             (int)(size < 100 ? size : 100), item, what);
    return false;
}

static bool begins_with(const char *s, size_t size, const char *prefix)
{
    return size >= strlen(prefix) && strncmp(s, prefix, strlen(prefix)) == 0;
}

/* "1" to "65535", digits alone. */
static bool port_is_valid(const char *s, size_t size)
{
    unsigned long port = 0;

    if (size == 0 || size > 5) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (!isdigit((unsigned char)s[i])) {
            return false;
        }
        port = port * 10 + (unsigned long)(s[i] - '0');
    }
    return port >= 1 && port <= 65535;
}

/* The size of the host part, brackets included; 0 if there is none. */
static size_t host_size(const char *s, size_t size)
{
    const char *end;

    if (size > 0 && s[0] == '[') {
        end = memchr(s, ']', size);
        return end != NULL && end - s > 1 ? (size_t)(end - s) + 1 : 0;
    }
    end = memchr(s, ':', size);
    return end != NULL ? (size_t)(end - s) : size;
}

static bool host_is_valid(const char *s, size_t size)
{
    bool bracketed = size > 0 && s[0] == '[';

    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)s[i];

        if (!isalnum(c) && c != '.' && c != '-' && c != '_' &&
            !(bracketed && strchr("[]:%", c) != NULL)) {
            return false;
        }
    }
    return size > 0;
}

/* One item without its scheme, to "host:port". */
static bool parse_address(const char *s, size_t size, char **out, char *error)
{
    size_t host = host_size(s, size);
    const char *rest = s + host;
    size_t rest_size = size - host;

    if (!host_is_valid(s, host)) {
        return fail(error, "not host:port", s, size);
    }
    if (rest_size == 0) {
        *out = mem_printf("%.*s:" DEFAULT_PORT, (int)host, s);
        return true;
    }
    if (memchr(rest + 1, ':', rest_size - 1) != NULL) {
        return fail(error, "write an IPv6 address as [::1]:2379", s, size);
    }
    if (rest[0] != ':' || !port_is_valid(rest + 1, rest_size - 1)) {
        return fail(error, "the port is not a number from 1 to 65535", s, size);
    }
    *out = mem_printf("%.*s", (int)size, s);
    return true;
}

static bool parse_item(const char *s, size_t size, char **out, char *error)
{
    if (begins_with(s, size, "https://")) {
        return fail(error, "TLS is not supported yet", s, size);
    }
    if (begins_with(s, size, "http://")) {
        s += strlen("http://");
        size -= strlen("http://");
    }
    if (memmem(s, size, "://", 3) != NULL) {
        return fail(error, "only http:// is understood", s, size);
    }
    if (size > 0 && s[size - 1] == '/') {
        size--;
    }
    return parse_address(s, size, out, error);
}

bool endpoints_parse(const char *list, struct endpoints *out, char *error)
{
    *out = (struct endpoints){0};
    for (;;) {
        size_t size;

        list += strspn(list, " \t");
        size = strcspn(list, ",");
        while (size > 0 && isspace((unsigned char)list[size - 1])) {
            size--;
        }
        if (out->n == ENDPOINTS_MAX) {
            fail(error, "too many endpoints", list, size);
            break;
        }
        out->addresses =
            mem_realloc(out->addresses, out->n + 1, sizeof(*out->addresses));
        if (!parse_item(list, size, &out->addresses[out->n], error)) {
            break;
        }
        out->n++;
        list += strcspn(list, ",");
        if (*list == '\0') {
            return true;
        }
        list++; /* the comma */
    }
    endpoints_release(out);
    return false;
}

void endpoints_release(struct endpoints *e)
{
    for (size_t i = 0; i < e->n; i++) {
        free(e->addresses[i]);
    }
    free(e->addresses);
    *e = (struct endpoints){0};
}
