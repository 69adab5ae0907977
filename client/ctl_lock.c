/*
 * ctl_lock.c - lock, unlock, lock-check.
 */
#include <inttypes.h>
#include <string.h>

#include "client/ctl.h"

#define TTL_S 10
#define LOST_TIMEOUT_MS 500

/* ---- lock ---------------------------------------------------------------- */

static enum pawl_status acquire(struct ctl *ctl, const char *name,
                                struct pawl_lock_result **lock)
{
    const struct ctl_options *o = &ctl->options;
    struct pawl_lock_options options = {
        .size = sizeof(options),
        .ttl_s = o->ttl_s > 0 ? o->ttl_s : TTL_S,
        .wait_ms = o->has_wait ? o->wait_ms : -1,
        .try_only = o->try_only || (o->has_wait && o->wait_ms == 0),
    };

    return pawl_lock_acquire(ctl->pawl, pawl_text(name), &options, lock);
}

/*
 * Give it back, with the lease that was made for it. A failure is told but
 * changes no exit code: the lease ends by itself. A lost one is probably no
 * longer there, or nobody to take it: that gets little time.
 */
static void give_back(struct ctl *ctl, const struct pawl_lock_result *lock,
                      bool lost)
{
    enum pawl_status st;

    if (lost) {
        pawl_set_call_timeout(ctl->pawl, LOST_TIMEOUT_MS);
    }
    st = pawl_lock_release(ctl->pawl, lock->key, lock->token, NULL);
    if (st == PAWL_OK) {
        st = pawl_lease_revoke(ctl->pawl, lock->lease, NULL);
    }
    if (st != PAWL_OK && st != PAWL_NOT_FOUND) {
        fprintf(ctl->err, "Warning: the lock stays until its lease ends: %s\n",
                pawl_error(ctl->pawl));
    }
}

static int tell_lost(struct ctl *ctl, struct pawl_keeper *keeper)
{
    char why[PAWL_ERROR_BYTES];

    pawl_keeper_error(keeper, why, sizeof(why));
    fprintf(ctl->err, "Error: the lock is lost: %s\n", why);
    return CTL_LOST;
}

/* Until interrupted, which is how it is meant to end. */
static int hold(struct ctl *ctl, struct pawl_keeper *keeper,
                const struct pawl_lock_result *lock)
{
    ctl_print_lock(ctl->out, &ctl->options, lock);
    if (fflush(ctl->out) != 0) {
        return CTL_FAILED; /* nobody would know the token */
    }
    return ctl_child_hold(keeper) != 0 ? CTL_OK : tell_lost(ctl, keeper);
}

static int run_command(struct ctl *ctl, struct pawl_keeper *keeper,
                       const struct pawl_lock_result *lock, char **command)
{
    bool lost;
    int code = ctl_child_run(ctl, keeper, lock, command, &lost);

    return lost ? CTL_LOST : code;
}

static int run_lock(struct ctl *ctl, int n, char **arguments)
{
    const struct ctl_verb *v = &ctl_lock_verbs[0];
    struct pawl_lock_result *lock;
    struct pawl_keeper *keeper;
    enum pawl_status st;
    int code;

    if (n < 1) {
        return ctl_usage(ctl, v, "it takes the name of a lock");
    }
    if (ctl->options.try_only && ctl->options.has_wait) {
        return ctl_usage(ctl, v, "--try goes without --timeout");
    }
    if (!ctl_open(ctl, &code)) {
        return code;
    }
    st = acquire(ctl, arguments[0], &lock);
    if (st != PAWL_OK) {
        return ctl_fail(ctl, st);
    }
    ctl_child_block();
    keeper = pawl_keeper_start(ctl->pawl, lock->lease, lock->ttl_s);
    code = n > 1 ? run_command(ctl, keeper, lock, arguments + 1)
                 : hold(ctl, keeper, lock);
    pawl_keeper_stop(keeper);
    give_back(ctl, lock, code == CTL_LOST);
    pawl_free(lock);
    return code;
}

/* ---- unlock -------------------------------------------------------------- */

static int run_unlock(struct ctl *ctl, int n, char **arguments)
{
    const struct ctl_verb *v = &ctl_lock_verbs[1];
    struct pawl_release_result *r;
    int64_t token;
    enum pawl_status st;
    int code;

    if (n != 2) {
        return ctl_usage(ctl, v, "it takes the key and the token of a lock");
    }
    if (!ctl_parse_int(arguments[1], 1, INT64_MAX, &token)) {
        return ctl_usage(ctl, v, "'%s' is not a fencing token", arguments[1]);
    }
    if (!ctl_open(ctl, &code)) {
        return code;
    }
    st = pawl_lock_release(ctl->pawl, pawl_text(arguments[0]), token, &r);
    if (st != PAWL_OK) {
        return ctl_fail(ctl, st);
    }
    ctl_print_release(ctl->out, &ctl->options, r);
    code = r->released ? CTL_OK : CTL_NOT_FOUND;
    pawl_free(r);
    return code;
}

/* ---- lock-check ---------------------------------------------------------- */

static int check_code(const struct pawl_check_result *r, bool asked)
{
    if (r->holder_token == 0) {
        return CTL_NOT_FOUND;
    }
    return asked && !r->held ? CTL_FENCED : CTL_OK;
}

static int run_check(struct ctl *ctl, int n, char **arguments)
{
    const struct ctl_verb *v = &ctl_lock_verbs[2];
    struct pawl_check_result *r;
    int64_t token = 0;
    enum pawl_status st;
    int code;

    if (n < 1 || n > 2) {
        return ctl_usage(ctl, v,
                         "it takes the name of a lock, and maybe a token");
    }
    if (n == 2 && !ctl_parse_int(arguments[1], 1, INT64_MAX, &token)) {
        return ctl_usage(ctl, v, "'%s' is not a fencing token", arguments[1]);
    }
    if (!ctl_open(ctl, &code)) {
        return code;
    }
    st = pawl_lock_check(ctl->pawl, pawl_text(arguments[0]), token, &r);
    if (st != PAWL_OK) {
        return ctl_fail(ctl, st);
    }
    ctl_print_check(ctl->out, &ctl->options, r);
    code = check_code(r, n == 2);
    pawl_free(r);
    return code;
}

static const int lock_flags[] = {FLAG_TTL, FLAG_TIMEOUT, FLAG_TRY, 0};

const struct ctl_verb ctl_lock_verbs[] = {
    {"lock", NULL, "NAME [-- COMMAND ...]", "hold a lock, maybe for a command",
     "Without COMMAND, prints the lock's key and its fencing token and holds\n"
     "the lock until it is interrupted.\n"
     "\n"
     "With COMMAND, runs it while the lock is held, with the two in its\n"
     "environment as PAWL_LOCK_KEY and PAWL_FENCING_TOKEN, and ends with its\n"
     "exit code (128 + N if signal N ended it). 'put --fenced' and\n"
     "'del --fenced' in it are refused once the lock is another's. If the\n"
     "lease cannot be renewed, the command's process group gets SIGTERM while\n"
     "the lock still holds, and SIGKILL when it ends: exit code 8.\n"
     "\n"
     "Exit code 4: another holds the lock, with --try or after --timeout.\n",
     lock_flags, run_lock},
    {"unlock", NULL, "KEY TOKEN", "give up a lock that 'lock' printed",
     "Exit code 3: that key and token hold nothing any more.\n", NULL,
     run_unlock},
    {"lock-check", NULL, "NAME [TOKEN]", "print who holds a lock",
     "Exit code 3: nobody holds it. 7: TOKEN is not the holder's.\n", NULL,
     run_check},
    {0},
};
