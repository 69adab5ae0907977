/*
 * ctl_cluster.c - member list, endpoint status, endpoint health, version.
 */
#include <stdlib.h>
#include <string.h>

#include "client/ctl.h"

/* Opens, after refusing arguments. */
static bool open_without_arguments(struct ctl *ctl, const char *name,
                                   const char *subname, int n, int *code)
{
    if (n != 0) {
        *code = ctl_usage(ctl, ctl_find_verb(name, subname),
                          "it takes no argument");
        return false;
    }
    return ctl_open(ctl, code);
}

static int run_member_list(struct ctl *ctl, int n, char **arguments)
{
    struct pawl_member_list_result *r;
    enum pawl_status st;
    int code;

    (void)arguments;
    if (!open_without_arguments(ctl, "member", "list", n, &code)) {
        return code;
    }
    st = pawl_member_list(ctl->pawl, &r);
    if (st != PAWL_OK) {
        return ctl_fail(ctl, st);
    }
    ctl_print_members(ctl->out, &ctl->options, r);
    pawl_free(r);
    return CTL_OK;
}

static void *need(void *p)
{
    if (p == NULL) {
        abort();
    }
    return p;
}

static int run_status(struct ctl *ctl, int n, char **arguments)
{
    struct ctl_endpoint_status *all;
    size_t count;
    int code;

    (void)arguments;
    if (!open_without_arguments(ctl, "endpoint", "status", n, &code)) {
        return code;
    }
    count = pawl_endpoint_count(ctl->pawl);
    all = need(calloc(count, sizeof(*all)));
    for (size_t i = 0; i < count; i++) {
        struct pawl_endpoint_status_result *r;
        enum pawl_status st = pawl_endpoint_status(ctl->pawl, i, &r);

        all[i].endpoint = pawl_endpoint(ctl->pawl, i);
        all[i].status = r;
        if (st != PAWL_OK) {
            code = ctl_fail(ctl, st);
        }
    }
    ctl_print_statuses(ctl->out, &ctl->options, all, count);
    for (size_t i = 0; i < count; i++) {
        pawl_free((void *)(uintptr_t)all[i].status); /* it was ours */
    }
    free(all);
    return code;
}

static int run_health(struct ctl *ctl, int n, char **arguments)
{
    struct ctl_endpoint_health *all;
    size_t count;
    int code;

    (void)arguments;
    if (!open_without_arguments(ctl, "endpoint", "health", n, &code)) {
        return code;
    }
    count = pawl_endpoint_count(ctl->pawl);
    all = need(calloc(count, sizeof(*all)));
    for (size_t i = 0; i < count; i++) {
        enum pawl_status st =
            pawl_endpoint_health(ctl->pawl, i, &all[i].took_us);

        all[i].endpoint = pawl_endpoint(ctl->pawl, i);
        if (st != PAWL_OK) {
            all[i].error = need(strdup(pawl_error(ctl->pawl)));
            code = ctl_exit_of(st);
        }
    }
    ctl_print_healths(ctl->out, &ctl->options, all, count);
    for (size_t i = 0; i < count; i++) {
        free((void *)(uintptr_t)all[i].error); /* strdup's */
    }
    free(all);
    return code;
}

static int run_version(struct ctl *ctl, int n, char **arguments)
{
    (void)arguments;
    if (n != 0) {
        return ctl_usage(ctl, ctl_find_verb("version", NULL),
                         "it takes no argument");
    }
    fprintf(ctl->out, "pawlctl version: %s\nAPI version: 3\n", pawl_version());
    return CTL_OK;
}

const struct ctl_verb ctl_cluster_verbs[] = {
    {"member", "list", "", "print the members of the cluster", NULL, NULL,
     run_member_list},
    {"endpoint", "status", "", "print the state of each endpoint",
     "Asks every endpoint of --endpoints. Exit code 5: not all answered.\n",
     NULL, run_status},
    {"endpoint", "health", "", "check that each endpoint can serve",
     "Does a linearizable read at every endpoint of --endpoints, for which it\n"
     "needs a leader and a quorum. Exit code 5: not all are healthy.\n",
     NULL, run_health},
    {"version", NULL, "", "print the version of this program", NULL, NULL,
     run_version},
    {0},
};
