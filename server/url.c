/*
 * url.c - takes URLs apart.
 */
#include "server/url.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"

static bool is_port(const char *text, size_t size)
{
    long port = 0;

    if (size == 0 || size > 5) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (!isdigit((unsigned char)text[i])) {
            return false;
        }
        port = port * 10 + (text[i] - '0');
    }
    return port <= 65535;
}

char *url_address(const char *text)
{
    static const char scheme[] = "http://";
    const char *host = text + sizeof(scheme) - 1;
    const char *colon;
    size_t size;

    if (strncmp(text, scheme, sizeof(scheme) - 1) != 0) {
        return NULL;
    }
    size = strcspn(host, "/");
    if (host[size] == '/' && host[size + 1] != '\0') {
        return NULL;
    }
    colon = memrchr(host, ':', size);
    if (colon == NULL || colon == host ||
        !is_port(colon + 1, (size_t)(host + size - colon - 1))) {
        return NULL;
    }
    return mem_printf("%.*s", (int)size, host);
}

char **url_list(const char *text, size_t *n)
{
    char **list = NULL;

    *n = 0;
    while (*text != '\0') {
        size_t size = strcspn(text, ",");

        if (size > 0) {
            list = mem_realloc(list, *n + 1, sizeof(*list));
            list[(*n)++] = mem_printf("%.*s", (int)size, text);
        }
        text += size + (text[size] == ',');
    }
    return list;
}

void url_list_free(char **list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(list[i]);
    }
    free(list);
}
