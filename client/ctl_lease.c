/*
 * ctl_lease.c - lease grant, revoke, keep-alive, timetolive, list.
 */
#include <string.h>
#include <time.h>

#include "client/ctl.h"

/* The only argument, a lease id. False: told. */
static bool lease_of(struct ctl *ctl, const struct ctl_verb *v, int n,
                     char **arguments, int64_t *lease)
{
    if (n != 1) {
        ctl_usage(ctl, v, "it takes a lease id");
        return false;
    }
    if (!ctl_parse_lease(arguments[0], lease)) {
        ctl_usage(ctl, v, "'%s' is not a lease id in hex", arguments[0]);
        return false;
    }
    return true;
}

static int run_grant(struct ctl *ctl, int n, char **arguments)
{
    const struct ctl_verb *v = ctl_find_verb("lease", "grant");
    struct pawl_lease_result *r;
    uint64_t ttl_ms;
    enum pawl_status st;
    int code;

    if (n != 1) {
        return ctl_usage(ctl, v, "it takes a TTL");
    }
    if (!ctl_parse_duration(arguments[0], &ttl_ms) || ttl_ms == 0) {
        return ctl_usage(ctl, v, "'%s' is not a time, as 60s", arguments[0]);
    }
    if (!ctl_open(ctl, &code)) {
        return code;
    }
    st = pawl_lease_grant(ctl->pawl, (int64_t)((ttl_ms + 999) / 1000), 0, &r);
    if (st != PAWL_OK) {
        return ctl_fail(ctl, st);
    }
    ctl_print_grant(ctl->out, &ctl->options, r);
    pawl_free(r);
    return CTL_OK;
}

static int run_revoke(struct ctl *ctl, int n, char **arguments)
{
    struct pawl_header *r;
    int64_t lease;
    enum pawl_status st;
    int code;

    if (!lease_of(ctl, ctl_find_verb("lease", "revoke"), n, arguments,
                  &lease)) {
        return CTL_USAGE;
    }
    if (!ctl_open(ctl, &code)) {
        return code;
    }
    st = pawl_lease_revoke(ctl->pawl, lease, &r);
    if (st != PAWL_OK) {
        return ctl_fail(ctl, st);
    }
    ctl_print_revoke(ctl->out, &ctl->options, lease, r);
    pawl_free(r);
    return CTL_OK;
}

/* A third of a TTL: two renewals may fail before the lease does. */
static void sleep_third(int64_t ttl_s)
{
    struct timespec left = {
        .tv_sec = (time_t)(ttl_s / 3),
        .tv_nsec = (long)(ttl_s % 3) * 333333333,
    };

    while (nanosleep(&left, &left) != 0) {
        /* a signal that did not end us */
    }
}

static int run_keep_alive(struct ctl *ctl, int n, char **arguments)
{
    int64_t lease;
    int code;

    if (!lease_of(ctl, ctl_find_verb("lease", "keep-alive"), n, arguments,
                  &lease)) {
        return CTL_USAGE;
    }
    if (!ctl_open(ctl, &code)) {
        return code;
    }
    for (;;) {
        struct pawl_lease_result *r;
        enum pawl_status st = pawl_lease_renew(ctl->pawl, lease, &r);
        int64_t ttl_s;

        if (st != PAWL_OK) {
            return ctl_fail(ctl, st);
        }
        ttl_s = r->ttl_s;
        ctl_print_renewal(ctl->out, &ctl->options, r);
        fflush(ctl->out);
        pawl_free(r);
        if (ctl->options.once) {
            return CTL_OK;
        }
        sleep_third(ttl_s);
    }
}

static int run_timetolive(struct ctl *ctl, int n, char **arguments)
{
    struct pawl_lease_info *r;
    int64_t lease;
    enum pawl_status st;
    int code;

    if (!lease_of(ctl, ctl_find_verb("lease", "timetolive"), n, arguments,
                  &lease)) {
        return CTL_USAGE;
    }
    if (!ctl_open(ctl, &code)) {
        return code;
    }
    st = pawl_lease_inspect(ctl->pawl, lease, ctl->options.keys, &r);
    if (st != PAWL_OK) {
        return ctl_fail(ctl, st);
    }
    ctl_print_lease(ctl->out, &ctl->options, r);
    code = r->ttl_s < 0 ? CTL_NOT_FOUND : CTL_OK;
    pawl_free(r);
    return code;
}

static int run_list(struct ctl *ctl, int n, char **arguments)
{
    struct pawl_lease_list_result *r;
    enum pawl_status st;
    int code;

    (void)arguments;
    if (n != 0) {
        return ctl_usage(ctl, ctl_find_verb("lease", "list"),
                         "it takes no argument");
    }
    if (!ctl_open(ctl, &code)) {
        return code;
    }
    st = pawl_lease_list(ctl->pawl, &r);
    if (st != PAWL_OK) {
        return ctl_fail(ctl, st);
    }
    ctl_print_leases(ctl->out, &ctl->options, r);
    pawl_free(r);
    return CTL_OK;
}

static const int keep_alive_flags[] = {FLAG_ONCE, 0};
static const int timetolive_flags[] = {FLAG_KEYS, 0};

const struct ctl_verb ctl_lease_verbs[] = {
    {"lease", "grant", "TTL", "make a lease, print its id",
     "TTL is a time, as 60s or 60. The server may grant more.\n", NULL,
     run_grant},
    {"lease", "revoke", "ID", "end a lease and delete its keys", NULL, NULL,
     run_revoke},
    {"lease", "keep-alive", "ID", "renew a lease until interrupted",
     "Exit code 3: the lease has ended. 5: nobody could renew it in time.\n",
     keep_alive_flags, run_keep_alive},
    {"lease", "timetolive", "ID", "print how long a lease lives",
     "Exit code 3: there is no such lease.\n", timetolive_flags,
     run_timetolive},
    {"lease", "list", "", "print the ids of all leases", NULL, NULL, run_list},
    {0},
};
