/*
 * ctl_json.c - results as JSON, in the layout of etcdctl -w json: the names of
 * the wire's fields, what is zero left out, bytes in base64, one line.
 */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl.h"

typedef struct json_object json;

/* ---- parts --------------------------------------------------------------- */

static void *need(void *p)
{
    if (p == NULL) {
        abort(); /* no memory */
    }
    return p;
}

static json *object(void)
{
    return need(json_object_new_object());
}

static json *array(void)
{
    return need(json_object_new_array());
}

static void add(json *o, const char *name, json *value)
{
    json_object_object_add(o, name, value);
}

static void add_int(json *o, const char *name, int64_t value)
{
    if (value != 0) {
        add(o, name, need(json_object_new_int64(value)));
    }
}

static void add_uint(json *o, const char *name, uint64_t value)
{
    if (value != 0) {
        add(o, name, need(json_object_new_uint64(value)));
    }
}

static void add_bool(json *o, const char *name, bool value)
{
    if (value) {
        add(o, name, need(json_object_new_boolean(true)));
    }
}

static void add_text(json *o, const char *name, const char *value)
{
    if (value[0] != '\0') {
        add(o, name, need(json_object_new_string(value)));
    }
}

static json *base64(struct pawl_bytes b)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "abcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *data = b.data;
    size_t size = (b.size + 2) / 3 * 4;
    char *text = need(malloc(size + 1));
    char *to = text;
    json *o;

    for (size_t i = 0; i < b.size; i += 3) {
        size_t n = b.size - i < 3 ? b.size - i : 3;
        unsigned group = (unsigned)data[i] << 16 |
                         (n > 1 ? (unsigned)data[i + 1] << 8 : 0) |
                         (n > 2 ? (unsigned)data[i + 2] : 0);

        *to++ = digits[group >> 18];
        *to++ = digits[group >> 12 & 63];
        *to++ = n > 1 ? digits[group >> 6 & 63] : '=';
        *to++ = n > 2 ? digits[group & 63] : '=';
    }
    o = need(json_object_new_string_len(text, (int)size));
    free(text);
    return o;
}

static void add_bytes(json *o, const char *name, struct pawl_bytes value)
{
    if (value.size > 0) {
        add(o, name, base64(value));
    }
}

static void add_texts(json *o, const char *name, const char *const *texts,
                      size_t n)
{
    json *a;

    if (n == 0) {
        return;
    }
    a = array();
    for (size_t i = 0; i < n; i++) {
        json_object_array_add(a, need(json_object_new_string(texts[i])));
    }
    add(o, name, a);
}

static void add_header_fields(json *o, const struct pawl_header *h)
{
    add_uint(o, "cluster_id", h->cluster_id);
    add_uint(o, "member_id", h->member_id);
    add_int(o, "revision", h->revision);
    add_uint(o, "raft_term", h->raft_term);
}

static json *with_header(const struct pawl_header *h)
{
    json *o = object();
    json *header = object();

    add_header_fields(header, h);
    add(o, "header", header);
    return o;
}

static json *kv(const struct pawl_kv *from)
{
    json *o = object();

    add_bytes(o, "key", from->key);
    add_int(o, "create_revision", from->create_revision);
    add_int(o, "mod_revision", from->mod_revision);
    add_int(o, "version", from->version);
    add_bytes(o, "value", from->value);
    add_int(o, "lease", from->lease);
    return o;
}

static void add_kvs(json *o, const char *name, const struct pawl_kv *kvs,
                    size_t n)
{
    json *a;

    if (n == 0) {
        return;
    }
    a = array();
    for (size_t i = 0; i < n; i++) {
        json_object_array_add(a, kv(&kvs[i]));
    }
    add(o, name, a);
}

/* Writes it and frees it. */
static void print(FILE *out, json *o)
{
    fputs(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
                                                JSON_C_TO_STRING_NOSLASHESCAPE),
          out);
    fputc('\n', out);
    json_object_put(o);
}

/* ---- results ------------------------------------------------------------- */

void ctl_json_get(FILE *out, const struct pawl_get_result *r)
{
    json *o = with_header(&r->header);

    add_kvs(o, "kvs", r->kvs, r->n_kvs);
    add_bool(o, "more", r->more);
    add_int(o, "count", r->count);
    print(out, o);
}

void ctl_json_put(FILE *out, const struct pawl_put_result *r)
{
    json *o = with_header(&r->header);

    if (r->prev_kv != NULL) {
        add(o, "prev_kv", kv(r->prev_kv));
    }
    print(out, o);
}

void ctl_json_delete(FILE *out, const struct pawl_delete_result *r)
{
    json *o = with_header(&r->header);

    add_int(o, "deleted", r->deleted);
    add_kvs(o, "prev_kvs", r->prev_kvs, r->n_prev_kvs);
    print(out, o);
}

/* Leases have the header's fields beside their own. */
static json *lease_base(const struct pawl_header *h)
{
    json *o = object();

    add_header_fields(o, h);
    return o;
}

void ctl_json_grant(FILE *out, const struct pawl_lease_result *r)
{
    json *o = lease_base(&r->header);

    add(o, "ID", need(json_object_new_int64(r->lease)));
    add(o, "TTL", need(json_object_new_int64(r->ttl_s)));
    add(o, "Error", need(json_object_new_string("")));
    print(out, o);
}

void ctl_json_renewal(FILE *out, const struct pawl_lease_result *r)
{
    json *o = lease_base(&r->header);

    add(o, "ID", need(json_object_new_int64(r->lease)));
    add(o, "TTL", need(json_object_new_int64(r->ttl_s)));
    print(out, o);
}

void ctl_json_header(FILE *out, const struct pawl_header *r)
{
    print(out, with_header(r));
}

void ctl_json_lease(FILE *out, const struct pawl_lease_info *r)
{
    json *o = lease_base(&r->header);
    json *keys = NULL;

    add(o, "id", need(json_object_new_int64(r->lease)));
    add(o, "ttl", need(json_object_new_int64(r->ttl_s)));
    add(o, "granted-ttl", need(json_object_new_int64(r->granted_ttl_s)));
    for (size_t i = 0; i < r->n_keys; i++) {
        keys = keys != NULL ? keys : array();
        json_object_array_add(keys, base64(r->keys[i]));
    }
    add(o, "keys", keys); /* null if there are none */
    print(out, o);
}

void ctl_json_leases(FILE *out, const struct pawl_lease_list_result *r)
{
    json *o = lease_base(&r->header);
    json *leases = array();

    for (size_t i = 0; i < r->n_leases; i++) {
        json *lease = object();

        add(lease, "id", need(json_object_new_int64(r->leases[i])));
        json_object_array_add(leases, lease);
    }
    add(o, "leases", leases);
    print(out, o);
}

void ctl_json_lock(FILE *out, const struct pawl_lock_result *r)
{
    json *o = with_header(&r->header);

    add_bytes(o, "key", r->key);
    add_int(o, "token", r->token);
    add_int(o, "lease", r->lease);
    add_int(o, "ttl", r->ttl_s);
    print(out, o);
}

void ctl_json_release(FILE *out, const struct pawl_release_result *r)
{
    json *o = with_header(&r->header);

    add(o, "released", need(json_object_new_boolean(r->released)));
    print(out, o);
}

void ctl_json_check(FILE *out, const struct pawl_check_result *r)
{
    json *o = with_header(&r->header);

    add(o, "held", need(json_object_new_boolean(r->held)));
    add_bytes(o, "holder", r->holder);
    add_int(o, "holder_token", r->holder_token);
    add_int(o, "waiters", r->waiters);
    print(out, o);
}

void ctl_json_members(FILE *out, const struct pawl_member_list_result *r)
{
    json *o = with_header(&r->header);
    json *members = array();

    for (size_t i = 0; i < r->n_members; i++) {
        const struct pawl_member *from = &r->members[i];
        json *m = object();

        add_uint(m, "ID", from->id);
        add_text(m, "name", from->name);
        add_texts(m, "peerURLs", from->peer_urls, from->n_peer_urls);
        add_texts(m, "clientURLs", from->client_urls, from->n_client_urls);
        add_bool(m, "isLearner", from->is_learner);
        json_object_array_add(members, m);
    }
    add(o, "members", members);
    print(out, o);
}

void ctl_json_statuses(FILE *out, const struct ctl_endpoint_status *s, size_t n)
{
    json *all = array();

    for (size_t i = 0; i < n; i++) {
        const struct pawl_endpoint_status_result *from = s[i].status;
        json *o, *status;

        if (from == NULL) {
            continue; /* told on stderr */
        }
        o = object();
        status = with_header(&from->header);
        add_text(o, "Endpoint", s[i].endpoint);
        add_text(status, "version", from->version);
        add_int(status, "dbSize", from->db_bytes);
        add_uint(status, "leader", from->leader);
        add_uint(status, "raftIndex", from->raft_index);
        add_uint(status, "raftTerm", from->raft_term);
        add_uint(status, "raftAppliedIndex", from->raft_applied_index);
        add_texts(status, "errors", from->errors, from->n_errors);
        add_int(status, "dbSizeInUse", from->db_bytes_in_use);
        add_bool(status, "isLearner", from->is_learner);
        add_text(status, "storageVersion", from->storage_version);
        add_int(status, "dbSizeQuota", from->db_bytes_quota);
        add(o, "Status", status);
        json_object_array_add(all, o);
    }
    print(out, all);
}

void ctl_json_healths(FILE *out, const struct ctl_endpoint_health *h, size_t n)
{
    json *all = array();

    for (size_t i = 0; i < n; i++) {
        json *o = object();
        char took[32];

        ctl_duration(took, sizeof(took), h[i].took_us);
        add_text(o, "endpoint", h[i].endpoint);
        add(o, "health", need(json_object_new_boolean(h[i].error == NULL)));
        add_text(o, "took", took);
        if (h[i].error != NULL) {
            add_text(o, "error", h[i].error);
        }
        json_object_array_add(all, o);
    }
    print(out, all);
}
