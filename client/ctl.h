/*
 * ctl.h - what pawlctl's verbs share.
 *
 *     pawlctl.c      main()
 *     ctl_main.c     from a command line to a verb; help
 *     ctl_options.c  the command line
 *     ctl_kv.c ctl_lease.c ctl_lock.c ctl_cluster.c ctl_member.c   the verbs
 *     ctl_print.c    output for eyes, ctl_json.c for programs
 *     ctl_child.c    a command that runs while a lock is held
 *
 * A verb is a row of a table: its name, its help, its flags, its function.
 */
#ifndef PAWL_CTL_H
#define PAWL_CTL_H

#include <stdio.h>

#include "client/pawl.h"

/* What scripts can tell apart. Documented in pawlctl --help. */
enum ctl_exit {
    CTL_OK = 0,
    CTL_FAILED = 1,
    CTL_USAGE = 2,
    CTL_NOT_FOUND = 3,
    CTL_NOT_ACQUIRED = 4,
    CTL_UNAVAILABLE = 5,
    CTL_MAYBE_APPLIED = 6,
    CTL_FENCED = 7,
    CTL_LOST = 8,
};

int ctl_exit_of(enum pawl_status status);

enum ctl_format { CTL_SIMPLE, CTL_JSON, CTL_TABLE };

/* All flags of all verbs; each verb's table says which are its own. */
struct ctl_options {
    /* everywhere */
    const char *endpoints;
    uint64_t command_timeout_ms;
    uint64_t dial_timeout_ms;
    enum ctl_format format;
    bool help;
    /* get, put, del */
    bool prefix, from_key, count_only, keys_only, print_value_only, prev_kv;
    bool ignore_value, ignore_lease, serializable;
    int64_t limit, revision;
    enum pawl_order order;
    enum pawl_sort_by sort_by;
    int64_t lease;
    /* guarded writes */
    bool fenced;
    const char *fence_key; /* NULL: not given */
    int64_t fence_token;
    bool has_fence_token;
    /* lock, lease */
    int64_t ttl_s; /* 0: not given */
    int64_t wait_ms;
    bool has_wait;
    bool try_only;
    int64_t token;
    bool once, keys;
    /* member */
    const char *peer_urls; /* NULL: not given */
    bool learner, auto_promote;
};

/* A flag's long names, as in "--prefix". */
enum ctl_flag {
    FLAG_HELP = 256, /* above any character */
    FLAG_ENDPOINTS,
    FLAG_COMMAND_TIMEOUT,
    FLAG_DIAL_TIMEOUT,
    FLAG_WRITE_OUT,
    FLAG_PREFIX,
    FLAG_FROM_KEY,
    FLAG_COUNT_ONLY,
    FLAG_KEYS_ONLY,
    FLAG_PRINT_VALUE_ONLY,
    FLAG_PREV_KV,
    FLAG_IGNORE_VALUE,
    FLAG_IGNORE_LEASE,
    FLAG_CONSISTENCY,
    FLAG_LIMIT,
    FLAG_REV,
    FLAG_ORDER,
    FLAG_SORT_BY,
    FLAG_LEASE,
    FLAG_FENCED,
    FLAG_FENCE_KEY,
    FLAG_FENCE_TOKEN,
    FLAG_TTL,
    FLAG_TIMEOUT,
    FLAG_TRY,

    FLAG_ONCE,
    FLAG_KEYS,

    FLAG_PEER_URLS,
    FLAG_LEARNER,
    FLAG_AUTO_PROMOTE,
};

struct ctl {
    struct ctl_options options;
    struct pawl *pawl; /* opened by ctl_open() */
    FILE *out;         /* stdout, or a test's */
    FILE *err;
};

struct ctl_verb {
    const char *name;    /* "lease" */
    const char *subname; /* "grant", or NULL */
    const char *arguments;
    const char *summary;
    const char *help; /* paragraphs below the usage; may be NULL */
    const int *flags; /* enum ctl_flag, ends with 0 */
    int (*run)(struct ctl *ctl, int n, char **arguments);
};

/* ---- ctl_main.c ---------------------------------------------------------- */

/* The tables, one a file of verbs; each ends with a row without a name. */
extern const struct ctl_verb ctl_kv_verbs[];
extern const struct ctl_verb ctl_lock_verbs[];
extern const struct ctl_verb ctl_lease_verbs[];
extern const struct ctl_verb ctl_cluster_verbs[];
extern const struct ctl_verb ctl_member_verbs[];

/* The whole program, but for the process: what main() returns. */
int ctl_main(struct ctl *ctl, int argc, char **argv);

void ctl_help(FILE *out);
void ctl_verb_help(FILE *out, const struct ctl_verb *verb);
/* The help line of a flag. */
void ctl_flag_help(FILE *out, int flag);
/* Those of the flags that every verb has. */
void ctl_global_help(FILE *out);

/* ---- ctl_options.c ------------------------------------------------------- */

void ctl_options_init(struct ctl_options *o);
/*
 * Flags up to the first word that is none. *rest gets the place of that word.
 * False: told on err.
 */
bool ctl_parse_global(struct ctl *ctl, int argc, char **argv, int *rest);
/*
 * A verb's flags and the global ones, anywhere up to "--"; argv[0] is the
 * verb's last word. *rest gets the place of the first argument, flags having
 * been moved before it.
 */
bool ctl_parse_verb(struct ctl *ctl, const struct ctl_verb *verb, int argc,
                    char **argv, int *rest);
/* "to get: unknown flag" needs the nearest of the known words, or NULL. */
const char *ctl_nearest(const char *word, const char *const *words, size_t n);

bool ctl_parse_int(const char *text, int64_t min, int64_t max, int64_t *out);
bool ctl_parse_lease(const char *text, int64_t *out); /* hex */
/* "5s", "100ms", "1m30s", "2h"; a bare number is seconds. */
bool ctl_parse_duration(const char *text, uint64_t *ms);

/* ---- for verbs ----------------------------------------------------------- */

/* Opens ctl->pawl. False: told, and *code is the exit code. */
bool ctl_open(struct ctl *ctl, int *code);
/* Tells why the last call failed; returns the exit code for it. */
int ctl_fail(struct ctl *ctl, enum pawl_status status);
/* Tells what is wrong with the command line, with a hint; CTL_USAGE. */
int ctl_usage(struct ctl *ctl, const struct ctl_verb *verb, const char *format,
              ...) __attribute__((format(printf, 3, 4)));
/* The verb whose run function this is, for messages. */
const struct ctl_verb *ctl_find_verb(const char *name, const char *subname);

/* ---- ctl_print.c --------------------------------------------------------- */

void ctl_print_bytes(FILE *out, struct pawl_bytes b);
void ctl_duration(char *text, size_t size, uint64_t us); /* "1.293ms" */
void ctl_bytes(char *text, size_t size, int64_t bytes);  /* "25 kB" */
void ctl_print_get(FILE *out, const struct ctl_options *o,
                   const struct pawl_get_result *r);
void ctl_print_put(FILE *out, const struct ctl_options *o,
                   const struct pawl_put_result *r);
void ctl_print_delete(FILE *out, const struct ctl_options *o,
                      const struct pawl_delete_result *r);
void ctl_print_grant(FILE *out, const struct ctl_options *o,
                     const struct pawl_lease_result *r);
void ctl_print_renewal(FILE *out, const struct ctl_options *o,
                       const struct pawl_lease_result *r);
void ctl_print_revoke(FILE *out, const struct ctl_options *o, int64_t lease,
                      const struct pawl_header *r);
void ctl_print_lease(FILE *out, const struct ctl_options *o,
                     const struct pawl_lease_info *r);
void ctl_print_leases(FILE *out, const struct ctl_options *o,
                      const struct pawl_lease_list_result *r);
void ctl_print_lock(FILE *out, const struct ctl_options *o,
                    const struct pawl_lock_result *r);
void ctl_print_release(FILE *out, const struct ctl_options *o,
                       const struct pawl_release_result *r);
void ctl_print_check(FILE *out, const struct ctl_options *o,
                     const struct pawl_check_result *r);
void ctl_print_members(FILE *out, const struct ctl_options *o,
                       const struct pawl_member_list_result *r);

/* What one endpoint said, or why it did not. */
struct ctl_endpoint_status {
    const char *endpoint;
    const struct pawl_endpoint_status_result *status; /* NULL: error */
    const char *error;
};
struct ctl_endpoint_health {
    const char *endpoint;
    const char *error; /* NULL: healthy */
    uint64_t took_us;
};
void ctl_print_statuses(FILE *out, const struct ctl_options *o,
                        const struct ctl_endpoint_status *s, size_t n);
void ctl_print_healths(FILE *out, const struct ctl_options *o,
                       const struct ctl_endpoint_health *h, size_t n);

/* ---- ctl_json.c ---------------------------------------------------------- */

/* The same in the layout of etcdctl -w json: bytes in base64. */
void ctl_json_get(FILE *out, const struct pawl_get_result *r);
void ctl_json_put(FILE *out, const struct pawl_put_result *r);
void ctl_json_delete(FILE *out, const struct pawl_delete_result *r);
void ctl_json_grant(FILE *out, const struct pawl_lease_result *r);
void ctl_json_renewal(FILE *out, const struct pawl_lease_result *r);
void ctl_json_header(FILE *out, const struct pawl_header *r);
void ctl_json_lease(FILE *out, const struct pawl_lease_info *r);
void ctl_json_leases(FILE *out, const struct pawl_lease_list_result *r);
void ctl_json_lock(FILE *out, const struct pawl_lock_result *r);
void ctl_json_release(FILE *out, const struct pawl_release_result *r);
void ctl_json_check(FILE *out, const struct pawl_check_result *r);
void ctl_json_members(FILE *out, const struct pawl_member_list_result *r);
void ctl_json_statuses(FILE *out, const struct ctl_endpoint_status *s,
                       size_t n);
void ctl_json_healths(FILE *out, const struct ctl_endpoint_health *h, size_t n);

/* ---- ctl_child.c --------------------------------------------------------- */

/*
 * From now on SIGINT, SIGTERM, SIGHUP and SIGCHLD wait until one of the
 * functions below takes them.
 */
void ctl_child_block(void);

/*
 * Runs a command in a process group of its own, with PAWL_LOCK_KEY and
 * PAWL_FENCING_TOKEN in its environment. SIGINT, SIGTERM and SIGHUP are passed
 * on to the group. Before the lease can end unrenewed, the group gets SIGTERM,
 * and SIGKILL when it does end.
 *
 * Returns the command's exit code, 128 + n if signal n ended it, 126 or 127 if
 * it could not be run. *lost: it was ended because of the lease.
 */
int ctl_child_run(struct ctl *ctl, struct pawl_keeper *keeper,
                  const struct pawl_lock_result *lock, char **command,
                  bool *lost);

/* Waits for one of those signals, or the loss. Returns the signal, or 0. */
int ctl_child_hold(struct pawl_keeper *keeper);

#endif
