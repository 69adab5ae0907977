/*
 * ctl_kv.c - put, get, del.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl.h"

#define STDIN_BYTES_MAX ((size_t)64 << 20) /* a server takes far less */

/* ---- guarded writes ------------------------------------------------------ */

static bool fence_from_environment(struct ctl *ctl, const struct ctl_verb *v)
{
    struct ctl_options *o = &ctl->options;
    const char *key = getenv("PAWL_LOCK_KEY");
    const char *token = getenv("PAWL_FENCING_TOKEN");

    if (key == NULL || token == NULL ||
        !ctl_parse_int(token, 1, INT64_MAX, &o->fence_token)) {
        ctl_usage(ctl, v,
                  "--fenced needs PAWL_LOCK_KEY and PAWL_FENCING_TOKEN, as "
                  "'pawlctl lock NAME -- COMMAND' sets them");
        return false;
    }
    o->fence_key = key;
    o->has_fence_token = true;
    return true;
}

/* *use gets &fence, or NULL for an unguarded write. False: told. */
static bool fence_of(struct ctl *ctl, const struct ctl_verb *v,
                     struct pawl_fence *fence, const struct pawl_fence **use)
{
    struct ctl_options *o = &ctl->options;
    bool given = o->fence_key != NULL || o->has_fence_token;

    *use = NULL;
    if (o->fenced && given) {
        ctl_usage(ctl, v, "--fenced goes without the other --fence flags");
        return false;
    }
    if (o->fenced && !fence_from_environment(ctl, v)) {
        return false;
    }
    if (!o->fenced && !given) {
        return true;
    }
    if (o->fence_key == NULL || !o->has_fence_token) {
        ctl_usage(ctl, v, "--fence-key and --fence-token go together");
        return false;
    }
    *fence = (struct pawl_fence){
        .key = pawl_text(o->fence_key),
        .token = o->fence_token,
    };
    *use = fence;
    return true;
}

/* ---- put ----------------------------------------------------------------- */

/* All of standard input, to free. NULL: told. */
static char *grow(char *data, size_t size)
{
    char *grown = realloc(data, size);

    if (grown == NULL) {
        free(data);
    }
    return grown;
}

static char *read_input(struct ctl *ctl, size_t *size)
{
    size_t capacity = 4096;
    char *data = malloc(capacity);

    *size = 0;
    while (data != NULL) {
        *size += fread(data + *size, 1, capacity - *size, stdin);
        if (*size < capacity) {
            break;
        }
        capacity *= 2;
        if (capacity > STDIN_BYTES_MAX) {
            errno = EFBIG;
            break;
        }
        data = grow(data, capacity);
    }
    if (data == NULL || *size == capacity || ferror(stdin)) {
        fprintf(ctl->err, "Error: standard input: %s\n", strerror(errno));
        free(data);
        return NULL;
    }
    return data;
}

static int put(struct ctl *ctl, struct pawl_bytes key, struct pawl_bytes value,
               const struct pawl_fence *fence)
{
    const struct ctl_options *o = &ctl->options;
    struct pawl_put_options options = {
        .size = sizeof(options),
        .lease = o->lease,
        .prev_kv = o->prev_kv,
        .ignore_value = o->ignore_value,
        .ignore_lease = o->ignore_lease,
        .fence = fence,
    };
    struct pawl_put_result *r;
    enum pawl_status st;
    int code;

    if (!ctl_open(ctl, &code)) {
        return code;
    }
    st = pawl_put(ctl->pawl, key, value, &options, &r);
    if (st != PAWL_OK) {
        return ctl_fail(ctl, st);
    }
    ctl_print_put(ctl->out, o, r);
    pawl_free(r);
    return CTL_OK;
}

static int run_put(struct ctl *ctl, int n, char **arguments)
{
    const struct ctl_verb *v = &ctl_kv_verbs[0];
    const struct ctl_options *o = &ctl->options;
    struct pawl_bytes value = pawl_bytes_of(NULL, 0);
    struct pawl_fence fence;
    const struct pawl_fence *use;
    char *input = NULL;
    int code;

    if (n < 1 || n > 2) {
        return ctl_usage(ctl, v, "it takes a key and a value");
    }
    if (o->ignore_value && n == 2) {
        return ctl_usage(ctl, v, "--ignore-value goes without a value");
    }
    if (!fence_of(ctl, v, &fence, &use)) {
        return CTL_USAGE;
    }
    if (n == 2 && strcmp(arguments[1], "-") != 0) {
        value = pawl_text(arguments[1]);
    } else if (!o->ignore_value) {
        size_t size;

        input = read_input(ctl, &size);
        if (input == NULL) {
            return CTL_FAILED;
        }
        value = pawl_bytes_of(input, size);
    }
    code = put(ctl, pawl_text(arguments[0]), value, use);
    free(input);
    return code;
}

/* ---- get ----------------------------------------------------------------- */

/* A second argument is the end of a range. False: told. */
static bool range_of(struct ctl *ctl, const struct ctl_verb *v, int n,
                     char **arguments, struct pawl_bytes *end)
{
    const struct ctl_options *o = &ctl->options;

    *end = pawl_bytes_of(NULL, 0);
    if (n < 1 || n > 2) {
        ctl_usage(ctl, v, "it takes a key, and maybe the end of a range");
        return false;
    }
    if ((n == 2) + o->prefix + o->from_key > 1) {
        ctl_usage(ctl, v,
                  "of --prefix, --from-key and the end of a range only one "
                  "can be given");
        return false;
    }
    if (n == 2) {
        *end = pawl_text(arguments[1]);
    }
    return true;
}

static int run_get(struct ctl *ctl, int n, char **arguments)
{
    const struct ctl_verb *v = &ctl_kv_verbs[1];
    const struct ctl_options *o = &ctl->options;
    struct pawl_get_options options = {
        .size = sizeof(options),
        .prefix = o->prefix,
        .from_key = o->from_key,
        .serializable = o->serializable,
        .keys_only = o->keys_only,
        .count_only = o->count_only,
        .limit = o->limit,
        .revision = o->revision,
        .order = o->order,
        .sort_by = o->sort_by,
    };
    struct pawl_get_result *r;
    enum pawl_status st;
    int code;

    if (!range_of(ctl, v, n, arguments, &options.end)) {
        return CTL_USAGE;
    }
    if (o->keys_only && o->print_value_only) {
        return ctl_usage(ctl, v,
                         "--keys-only and --print-value-only leave nothing");
    }
    if (o->sort_by != PAWL_SORT_BY_KEY && o->order == PAWL_ORDER_DEFAULT) {
        options.order = PAWL_ORDER_ASCEND; /* or the limit would come first */
    }
    if (!ctl_open(ctl, &code)) {
        return code;
    }
    st = pawl_get(ctl->pawl, pawl_text(arguments[0]), &options, &r);
    if (st != PAWL_OK) {
        return ctl_fail(ctl, st);
    }
    ctl_print_get(ctl->out, o, r);
    pawl_free(r);
    return CTL_OK;
}

/* ---- del ----------------------------------------------------------------- */

static int run_del(struct ctl *ctl, int n, char **arguments)
{
    const struct ctl_verb *v = &ctl_kv_verbs[2];
    const struct ctl_options *o = &ctl->options;
    struct pawl_delete_options options = {
        .size = sizeof(options),
        .prefix = o->prefix,
        .from_key = o->from_key,
        .prev_kv = o->prev_kv,
    };
    struct pawl_delete_result *r;
    struct pawl_fence fence;
    enum pawl_status st;
    int code;

    if (!range_of(ctl, v, n, arguments, &options.end) ||
        !fence_of(ctl, v, &fence, &options.fence)) {
        return CTL_USAGE;
    }
    if (!ctl_open(ctl, &code)) {
        return code;
    }
    st = pawl_delete(ctl->pawl, pawl_text(arguments[0]), &options, &r);
    if (st != PAWL_OK) {
        return ctl_fail(ctl, st);
    }
    ctl_print_delete(ctl->out, o, r);
    pawl_free(r);
    return CTL_OK;
}

static const int put_flags[] = {
    FLAG_LEASE,     FLAG_PREV_KV,     FLAG_IGNORE_VALUE, FLAG_IGNORE_LEASE,
    FLAG_FENCE_KEY, FLAG_FENCE_TOKEN, FLAG_FENCED,       0};
static const int get_flags[] = {FLAG_PREFIX,
                                FLAG_FROM_KEY,
                                FLAG_LIMIT,
                                FLAG_COUNT_ONLY,
                                FLAG_KEYS_ONLY,
                                FLAG_PRINT_VALUE_ONLY,
                                FLAG_CONSISTENCY,
                                FLAG_REV,
                                FLAG_ORDER,
                                FLAG_SORT_BY,
                                0};
static const int del_flags[] = {FLAG_PREFIX,
                                FLAG_FROM_KEY,
                                FLAG_PREV_KV,
                                FLAG_FENCE_KEY,
                                FLAG_FENCE_TOKEN,
                                FLAG_FENCED,
                                0};

const struct ctl_verb ctl_kv_verbs[] = {
    {"put", NULL, "KEY [VALUE]", "store a value",
     "Without VALUE, or with -, the value is read from standard input, to its\n"
     "last byte. Put -- before a value that begins with a dash.\n"
     "\n"
     "Exit code 6: no answer came; the value may be stored or not. 7: the\n"
     "lock that the write was guarded by is not held by that token.\n",
     put_flags, run_put},
    {"get", NULL, "KEY [END]", "print keys and values",
     "With END, the keys from KEY up to and without END. An absent key is no\n"
     "failure: nothing is printed.\n",
     get_flags, run_get},
    {"del", NULL, "KEY [END]", "delete keys, print how many",
     "With END, the keys from KEY up to and without END.\n", del_flags,
     run_del},
    {0},
};
