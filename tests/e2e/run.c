/*
 * run.c - findings, outcomes, connections with failover.
 */
#include "run.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FINDINGS_SHOWN 20

void run_finding(struct run *r, const char *format, ...)
{
    char text[512];
    va_list ap;

    if (atomic_fetch_add(&r->findings, 1) >= FINDINGS_SHOWN) {
        return;
    }
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    printf("FOUND: %s\n", text);
}

void run_assert_clean(const struct run *r)
{
    unsigned n = atomic_load(&r->findings);

    ck_assert_msg(n == 0, "%u findings, the first of them above", n);
}

void raise_to(atomic_llong *highest, int64_t value)
{
    long long old = atomic_load(highest);

    while (old < value && !atomic_compare_exchange_weak(highest, &old, value)) {
    }
}

enum outcome outcome_of(const struct answer *a)
{
    if (a->code == GRPC_OK) {
        return OUTCOME_ACKNOWLEDGED;
    }
    /* What node.h says of these: certainly not applied. */
    if (!a->maybe_processed || a->code == GRPC_FAILED_PRECONDITION ||
        strcmp(a->text, status_text(ST_NO_LEADER)) == 0 ||
        strcmp(a->text, status_text(ST_TOO_MANY_REQUESTS)) == 0) {
        return OUTCOME_REFUSED;
    }
    return OUTCOME_UNKNOWN;
}

void links_open(struct links *l, struct run *r, uint64_t timeout_ms,
                size_t first)
{
    *l = (struct links){.run = r, .n = cluster_size(r->cluster)};
    l->current = first % l->n;
    for (size_t i = 0; i < l->n; i++) {
        l->clients[i] = client_new(cluster_address(r->cluster, i));
        client_set_timeout(l->clients[i], timeout_ms);
    }
}

void links_close(struct links *l)
{
    for (size_t i = 0; i < l->n; i++) {
        client_free(l->clients[i]);
    }
}

struct client *links_current(struct links *l)
{
    return l->clients[l->current];
}

void links_next(struct links *l)
{
    l->current = (l->current + 1) % l->n;
    short_pause(); /* all may be away: a refused connection costs nothing */
}
