/*
 * url.h - the few forms of URL that etcd's flags know: http://host:port, and
 * lists of them.
 */
#ifndef PAWL_URL_H
#define PAWL_URL_H

#include <stdbool.h>
#include <stddef.h>

/*
 * "http://127.0.0.1:2379" to "127.0.0.1:2379", from malloc. NULL if text has
 * another scheme, no host, no port in 0..65535, or anything behind the port
 * but a '/'.
 */
char *url_address(const char *text);

/*
 * Split at commas; empty parts are left out. An array of *n strings, both from
 * malloc: url_list_free().
 */
char **url_list(const char *text, size_t *n);
void url_list_free(char **list, size_t n);

#endif
