/*
 * ctl_print.c - results for eyes: lines as etcdctl writes them, or a table.
 */
#include <inttypes.h>
#include <libsmartcols/libsmartcols.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl.h"

void ctl_print_bytes(FILE *out, struct pawl_bytes b)
{
    fwrite(b.data, 1, b.size, out);
}

void ctl_duration(char *text, size_t size, uint64_t us)
{
    if (us < 1000) {
        snprintf(text, size, "%" PRIu64 "\u00b5s", us);
    } else if (us < 1000000) {
        snprintf(text, size, "%.3fms", (double)us / 1e3);
    } else {
        snprintf(text, size, "%.3fs", (double)us / 1e6);
    }
}

/* "25 kB", "1.2 MB" */
void ctl_bytes(char *text, size_t size, int64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1000 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1000;
        unit++;
    }
    snprintf(text, size, unit > 0 && value < 10 ? "%.1f %s" : "%.0f %s", value,
             units[unit]);
}

/* ---- tables -------------------------------------------------------------- */

static struct libscols_table *table_new(const char *const *columns, size_t n)
{
    struct libscols_table *t = scols_new_table();

    if (t == NULL) {
        abort(); /* no memory */
    }
    for (size_t i = 0; i < n; i++) {
        /* a '>' before the name: numbers, to the right */
        bool right = columns[i][0] == '>';

        if (scols_table_new_column(t, columns[i] + right, 0,
                                   right ? SCOLS_FL_RIGHT : 0) == NULL) {
            abort();
        }
    }
    return t;
}

static struct libscols_line *row_new(struct libscols_table *t)
{
    struct libscols_line *line = scols_table_new_line(t, NULL);

    if (line == NULL) {
        abort();
    }
    return line;
}

static void cell(struct libscols_line *row, size_t column, const char *format,
                 ...) __attribute__((format(printf, 3, 4)));

static void cell(struct libscols_line *row, size_t column, const char *format,
                 ...)
{
    char *text;
    va_list ap;

    va_start(ap, format);
    if (vasprintf(&text, format, ap) < 0 ||
        scols_line_refer_data(row, column, text) != 0) {
        abort();
    }
    va_end(ap);
}

static void cell_bytes(struct libscols_line *row, size_t column,
                       struct pawl_bytes b)
{
    cell(row, column, "%.*s", (int)b.size, (const char *)b.data);
}

static void table_print(FILE *out, struct libscols_table *t)
{
    scols_table_set_stream(t, out);
    scols_print_table(t);
    scols_unref_table(t);
}

/* ---- keys ---------------------------------------------------------------- */

static const char *const kv_columns[] = {"KEY",  "VALUE",    ">CREATE",
                                         ">MOD", ">VERSION", "LEASE"};

static void table_kvs(FILE *out, const struct pawl_kv *kvs, size_t n)
{
    struct libscols_table *t = table_new(kv_columns, 6);

    for (size_t i = 0; i < n; i++) {
        struct libscols_line *row = row_new(t);

        cell_bytes(row, 0, kvs[i].key);
        cell_bytes(row, 1, kvs[i].value);
        cell(row, 2, "%" PRId64, kvs[i].create_revision);
        cell(row, 3, "%" PRId64, kvs[i].mod_revision);
        cell(row, 4, "%" PRId64, kvs[i].version);
        cell(row, 5, kvs[i].lease != 0 ? "%016" PRIx64 : "%.0" PRIx64,
             (uint64_t)kvs[i].lease);
    }
    table_print(out, t);
}

static void print_kv(FILE *out, const struct pawl_kv *kv, bool value_only)
{
    if (!value_only) {
        ctl_print_bytes(out, kv->key);
        fputc('\n', out);
    }
    ctl_print_bytes(out, kv->value);
    fputc('\n', out);
}

void ctl_print_get(FILE *out, const struct ctl_options *o,
                   const struct pawl_get_result *r)
{
    if (o->format == CTL_JSON) {
        ctl_json_get(out, r);
    } else if (o->count_only) {
        fprintf(out, "%" PRId64 "\n", r->count);
    } else if (o->format == CTL_TABLE) {
        table_kvs(out, r->kvs, r->n_kvs);
    } else {
        for (size_t i = 0; i < r->n_kvs; i++) {
            print_kv(out, &r->kvs[i], o->print_value_only);
        }
    }
}

void ctl_print_put(FILE *out, const struct ctl_options *o,
                   const struct pawl_put_result *r)
{
    if (o->format == CTL_JSON) {
        ctl_json_put(out, r);
        return;
    }
    fputs("OK\n", out);
    if (r->prev_kv != NULL && o->format == CTL_TABLE) {
        table_kvs(out, r->prev_kv, 1);
    } else if (r->prev_kv != NULL) {
        print_kv(out, r->prev_kv, false);
    }
}

void ctl_print_delete(FILE *out, const struct ctl_options *o,
                      const struct pawl_delete_result *r)
{
    if (o->format == CTL_JSON) {
        ctl_json_delete(out, r);
        return;
    }
    fprintf(out, "%" PRId64 "\n", r->deleted);
    if (o->format == CTL_TABLE && r->n_prev_kvs > 0) {
        table_kvs(out, r->prev_kvs, r->n_prev_kvs);
        return;
    }
    for (size_t i = 0; i < r->n_prev_kvs; i++) {
        print_kv(out, &r->prev_kvs[i], false);
    }
}

/* ---- leases -------------------------------------------------------------- */

static void table_lease(FILE *out, int64_t lease, int64_t ttl_s)
{
    static const char *const columns[] = {"LEASE", ">TTL"};
    struct libscols_table *t = table_new(columns, 2);
    struct libscols_line *row = row_new(t);

    cell(row, 0, "%016" PRIx64, (uint64_t)lease);
    cell(row, 1, "%" PRId64, ttl_s);
    table_print(out, t);
}

void ctl_print_grant(FILE *out, const struct ctl_options *o,
                     const struct pawl_lease_result *r)
{
    if (o->format == CTL_JSON) {
        ctl_json_grant(out, r);
    } else if (o->format == CTL_TABLE) {
        table_lease(out, r->lease, r->ttl_s);
    } else {
        fprintf(out, "lease %016" PRIx64 " granted with TTL(%" PRId64 "s)\n",
                (uint64_t)r->lease, r->ttl_s);
    }
}

void ctl_print_renewal(FILE *out, const struct ctl_options *o,
                       const struct pawl_lease_result *r)
{
    if (o->format == CTL_JSON) {
        ctl_json_renewal(out, r);
    } else if (o->format == CTL_TABLE) {
        table_lease(out, r->lease, r->ttl_s);
    } else {
        fprintf(out, "lease %016" PRIx64 " keepalived with TTL(%" PRId64 ")\n",
                (uint64_t)r->lease, r->ttl_s);
    }
}

void ctl_print_revoke(FILE *out, const struct ctl_options *o, int64_t lease,
                      const struct pawl_header *r)
{
    if (o->format == CTL_JSON) {
        ctl_json_header(out, r);
        return;
    }
    fprintf(out, "lease %016" PRIx64 " revoked\n", (uint64_t)lease);
}

static void print_lease_keys(FILE *out, const struct pawl_lease_info *r)
{
    fputs(", attached keys([", out);
    for (size_t i = 0; i < r->n_keys; i++) {
        fputs(i > 0 ? " " : "", out);
        ctl_print_bytes(out, r->keys[i]);
    }
    fputs("])", out);
}

static void table_lease_info(FILE *out, const struct pawl_lease_info *r)
{
    static const char *const columns[] = {"LEASE", ">TTL", ">LEFT", "KEY"};
    struct libscols_table *t = table_new(columns, 4);

    for (size_t i = 0; i < (r->n_keys > 0 ? r->n_keys : 1); i++) {
        struct libscols_line *row = row_new(t);

        cell(row, 0, "%016" PRIx64, (uint64_t)r->lease);
        cell(row, 1, "%" PRId64, r->granted_ttl_s);
        cell(row, 2, "%" PRId64, r->ttl_s);
        if (i < r->n_keys) {
            cell_bytes(row, 3, r->keys[i]);
        }
    }
    table_print(out, t);
}

void ctl_print_lease(FILE *out, const struct ctl_options *o,
                     const struct pawl_lease_info *r)
{
    if (o->format == CTL_JSON) {
        ctl_json_lease(out, r);
    } else if (r->ttl_s < 0) {
        fprintf(out, "lease %016" PRIx64 " already expired\n",
                (uint64_t)r->lease);
    } else if (o->format == CTL_TABLE) {
        table_lease_info(out, r);
    } else {
        fprintf(out,
                "lease %016" PRIx64 " granted with TTL(%" PRId64
                "s), remaining(%" PRId64 "s)",
                (uint64_t)r->lease, r->granted_ttl_s, r->ttl_s);
        if (o->keys) {
            print_lease_keys(out, r);
        }
        fputc('\n', out);
    }
}

static void table_leases(FILE *out, const struct pawl_lease_list_result *r)
{
    static const char *const columns[] = {"LEASE"};
    struct libscols_table *t = table_new(columns, 1);

    for (size_t i = 0; i < r->n_leases; i++) {
        cell(row_new(t), 0, "%016" PRIx64, (uint64_t)r->leases[i]);
    }
    table_print(out, t);
}

void ctl_print_leases(FILE *out, const struct ctl_options *o,
                      const struct pawl_lease_list_result *r)
{
    if (o->format == CTL_JSON) {
        ctl_json_leases(out, r);
        return;
    }
    if (o->format == CTL_TABLE) {
        table_leases(out, r);
        return;
    }
    fprintf(out, "found %zu leases\n", r->n_leases);
    for (size_t i = 0; i < r->n_leases; i++) {
        fprintf(out, "%016" PRIx64 "\n", (uint64_t)r->leases[i]);
    }
}

/* ---- locks --------------------------------------------------------------- */

void ctl_print_lock(FILE *out, const struct ctl_options *o,
                    const struct pawl_lock_result *r)
{
    if (o->format == CTL_JSON) {
        ctl_json_lock(out, r);
        return;
    }
    ctl_print_bytes(out, r->key);
    fprintf(out, "\n%" PRId64 "\n", r->token);
}

void ctl_print_release(FILE *out, const struct ctl_options *o,
                       const struct pawl_release_result *r)
{
    if (o->format == CTL_JSON) {
        ctl_json_release(out, r);
        return;
    }
    fputs(r->released ? "released\n" : "not held\n", out);
}

static void table_check(FILE *out, const struct pawl_check_result *r)
{
    static const char *const columns[] = {"HOLDER", ">TOKEN", ">WAITERS",
                                          "HELD"};
    struct libscols_table *t = table_new(columns, 4);
    struct libscols_line *row = row_new(t);

    cell_bytes(row, 0, r->holder);
    cell(row, 1, "%" PRId64, r->holder_token);
    cell(row, 2, "%" PRId64, r->waiters);
    cell(row, 3, "%s", r->held ? "true" : "false");
    table_print(out, t);
}

void ctl_print_check(FILE *out, const struct ctl_options *o,
                     const struct pawl_check_result *r)
{
    if (o->format == CTL_JSON) {
        ctl_json_check(out, r);
    } else if (o->format == CTL_TABLE) {
        table_check(out, r);
    } else if (r->holder_token == 0) {
        fputs("not held\n", out);
    } else {
        ctl_print_bytes(out, r->holder);
        fprintf(out, "\n%" PRId64 "\n", r->holder_token);
    }
}

/* ---- the cluster --------------------------------------------------------- */

/* "a,b" to free. */
static char *join(const char *const *texts, size_t n)
{
    size_t size = 1;
    char *joined;

    for (size_t i = 0; i < n; i++) {
        size += strlen(texts[i]) + 1;
    }
    joined = calloc(size, 1);
    if (joined == NULL) {
        abort();
    }
    for (size_t i = 0; i < n; i++) {
        size_t at = strlen(joined);

        snprintf(joined + at, size - at, "%s%s", i > 0 ? "," : "", texts[i]);
    }
    return joined;
}

static const char *yes(bool b)
{
    return b ? "true" : "false";
}

static const char *started(const struct pawl_member *m)
{
    return m->name[0] != '\0' ? "started" : "unstarted";
}

static void table_members(FILE *out, const struct pawl_member_list_result *r)
{
    static const char *const columns[] = {
        "ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"};
    struct libscols_table *t = table_new(columns, 6);

    for (size_t i = 0; i < r->n_members; i++) {
        const struct pawl_member *m = &r->members[i];
        struct libscols_line *row = row_new(t);
        char *peers = join(m->peer_urls, m->n_peer_urls);
        char *clients = join(m->client_urls, m->n_client_urls);

        cell(row, 0, "%" PRIx64, m->id);
        cell(row, 1, "%s", started(m));
        cell(row, 2, "%s", m->name);
        cell(row, 3, "%s", peers);
        cell(row, 4, "%s", clients);
        cell(row, 5, "%s", yes(m->is_learner));
        free(peers);
        free(clients);
    }
    table_print(out, t);
}

void ctl_print_members(FILE *out, const struct ctl_options *o,
                       const struct pawl_member_list_result *r)
{
    if (o->format == CTL_JSON) {
        ctl_json_members(out, r);
        return;
    }
    if (o->format == CTL_TABLE) {
        table_members(out, r);
        return;
    }
    for (size_t i = 0; i < r->n_members; i++) {
        const struct pawl_member *m = &r->members[i];
        char *peers = join(m->peer_urls, m->n_peer_urls);
        char *clients = join(m->client_urls, m->n_client_urls);

        fprintf(out, "%" PRIx64 ", %s, %s, %s, %s, %s\n", m->id, started(m),
                m->name, peers, clients, yes(m->is_learner));
        free(peers);
        free(clients);
    }
}

static bool leads(const struct pawl_endpoint_status_result *s)
{
    return s->leader != 0 && s->leader == s->header.member_id;
}

static void table_statuses(FILE *out, const struct ctl_endpoint_status *s,
                           size_t n)
{
    static const char *const columns[] = {
        "ENDPOINT",   "ID",         "VERSION",     ">DB SIZE", "IS LEADER",
        "IS LEARNER", ">RAFT TERM", ">RAFT INDEX", ">APPLIED", "ERRORS"};
    struct libscols_table *t = table_new(columns, 10);

    for (size_t i = 0; i < n; i++) {
        const struct pawl_endpoint_status_result *r = s[i].status;
        struct libscols_line *row;
        char size[32];
        char *errors;

        if (r == NULL) {
            continue; /* told on stderr */
        }
        row = row_new(t);
        errors = join(r->errors, r->n_errors);
        ctl_bytes(size, sizeof(size), r->db_bytes);
        cell(row, 0, "%s", s[i].endpoint);
        cell(row, 1, "%" PRIx64, r->header.member_id);
        cell(row, 2, "%s", r->version);
        cell(row, 3, "%s", size);
        cell(row, 4, "%s", yes(leads(r)));
        cell(row, 5, "%s", yes(r->is_learner));
        cell(row, 6, "%" PRIu64, r->raft_term);
        cell(row, 7, "%" PRIu64, r->raft_index);
        cell(row, 8, "%" PRIu64, r->raft_applied_index);
        cell(row, 9, "%s", errors);
        free(errors);
    }
    table_print(out, t);
}

void ctl_print_statuses(FILE *out, const struct ctl_options *o,
                        const struct ctl_endpoint_status *s, size_t n)
{
    if (o->format == CTL_JSON) {
        ctl_json_statuses(out, s, n);
        return;
    }
    if (o->format == CTL_TABLE) {
        table_statuses(out, s, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const struct pawl_endpoint_status_result *r = s[i].status;
        char size[32];
        char *errors;

        if (r == NULL) {
            continue;
        }
        errors = join(r->errors, r->n_errors);
        ctl_bytes(size, sizeof(size), r->db_bytes);
        fprintf(out,
                "%s, %" PRIx64 ", %s, %s, %s, %s, %" PRIu64 ", %" PRIu64
                ", %" PRIu64 ", %s\n",
                s[i].endpoint, r->header.member_id, r->version, size,
                yes(leads(r)), yes(r->is_learner), r->raft_term, r->raft_index,
                r->raft_applied_index, errors);
        free(errors);
    }
}

static void table_healths(FILE *out, const struct ctl_endpoint_health *h,
                          size_t n)
{
    static const char *const columns[] = {"ENDPOINT", "HEALTH", ">TOOK",
                                          "ERROR"};
    struct libscols_table *t = table_new(columns, 4);

    for (size_t i = 0; i < n; i++) {
        struct libscols_line *row = row_new(t);
        char took[32];

        ctl_duration(took, sizeof(took), h[i].took_us);
        cell(row, 0, "%s", h[i].endpoint);
        cell(row, 1, "%s", yes(h[i].error == NULL));
        cell(row, 2, "%s", took);
        cell(row, 3, "%s", h[i].error != NULL ? h[i].error : "");
    }
    table_print(out, t);
}

void ctl_print_healths(FILE *out, const struct ctl_options *o,
                       const struct ctl_endpoint_health *h, size_t n)
{
    if (o->format == CTL_JSON) {
        ctl_json_healths(out, h, n);
        return;
    }
    if (o->format == CTL_TABLE) {
        table_healths(out, h, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        char took[32];

        ctl_duration(took, sizeof(took), h[i].took_us);
        if (h[i].error == NULL) {
            fprintf(out,
                    "%s is healthy: successfully committed proposal: took = "
                    "%s\n",
                    h[i].endpoint, took);
        } else {
            fprintf(out, "%s is unhealthy: %s\n", h[i].endpoint, h[i].error);
        }
    }
}
