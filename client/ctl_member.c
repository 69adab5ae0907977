/*
 * ctl_member.c - member add, remove, update, promote, replace.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl.h"

static void *need(void *p)
{
    if (p == NULL) {
        abort();
    }
    return p;
}

/* --peer-urls, taken apart. */
struct urls {
    char *text;
    const char **list;
    size_t n;
};

static void urls_split(struct urls *u, const char *text)
{
    char *rest, *one;

    *u = (struct urls){.text = need(strdup(text))};
    u->list = need(calloc(strlen(text) + 1, sizeof(*u->list)));
    for (one = strtok_r(u->text, ",", &rest); one != NULL;
         one = strtok_r(NULL, ",", &rest)) {
        u->list[u->n++] = one;
    }
}

static void urls_free(struct urls *u)
{
    free(u->list);
    free(u->text);
}

static bool parse_id(const char *text, uint64_t *id)
{
    char *end;

    errno = 0;
    *id = strtoull(text, &end, 16);
    return isxdigit((unsigned char)text[0]) && errno == 0 && *end == '\0' &&
           *id != 0;
}

/*
 * Opens, after a look at the command line: n_ids ids (in hex) first, and
 * --peer-urls if the verb takes them.
 */
static bool begin(struct ctl *ctl, const char *subname, int n, char **arguments,
                  uint64_t *id, bool needs_urls, int *code)
{
    const struct ctl_verb *verb = ctl_find_verb("member", subname);

    if (n != 1) {
        *code = ctl_usage(ctl, verb, "one member id is needed");
        return false;
    }
    if (!parse_id(arguments[0], id)) {
        *code = ctl_usage(ctl, verb,
                          "'%s' is not a member id (in hex, as "
                          "'member list' prints it)",
                          arguments[0]);
        return false;
    }
    if (needs_urls && ctl->options.peer_urls == NULL) {
        *code = ctl_usage(ctl, verb, "--peer-urls is needed");
        return false;
    }
    return ctl_open(ctl, code);
}

/* Members have no revision; json prints the header and the members. */
static void print_json(struct ctl *ctl,
                       const struct pawl_member_change_result *r)
{
    const struct pawl_member_list_result list = {
        .header = r->header, .members = r->members, .n_members = r->n_members};

    ctl_json_members(ctl->out, &list);
}

static void print_changed(struct ctl *ctl, uint64_t id, const char *what,
                          const struct pawl_member_change_result *r)
{
    if (ctl->options.format == CTL_JSON) {
        print_json(ctl, r);
        return;
    }
    fprintf(ctl->out, "Member %16" PRIx64 " %s %16" PRIx64 "\n", id, what,
            r->header.cluster_id);
}

/* ---- what the new node is started with -----------------------------------
 */

static void print_members_of(FILE *out, const struct pawl_member *m,
                             const char *name, bool *first)
{
    for (size_t i = 0; i < m->n_peer_urls; i++) {
        fprintf(out, "%s%s=%s", *first ? "" : ",", name, m->peer_urls[i]);
        *first = false;
    }
}

/* As etcdctl prints it, so that both can be sourced by a shell. */
static void print_environment(FILE *out, const char *prefix, const char *name,
                              const struct pawl_member_change_result *r)
{
    bool first = true;

    fprintf(out, "%s_NAME=\"%s\"\n%s_INITIAL_CLUSTER=\"", prefix, name, prefix);
    for (size_t i = 0; i < r->n_members; i++) {
        const struct pawl_member *m = &r->members[i];

        print_members_of(out, m, m->id == r->member.id ? name : m->name,
                         &first);
    }
    fprintf(out, "\"\n%s_INITIAL_ADVERTISE_PEER_URLS=\"", prefix);
    for (size_t i = 0; i < r->member.n_peer_urls; i++) {
        fprintf(out, "%s%s", i > 0 ? "," : "", r->member.peer_urls[i]);
    }
    fprintf(out, "\"\n%s_INITIAL_CLUSTER_STATE=\"existing\"\n", prefix);
}

static void print_new(struct ctl *ctl, const char *name,
                      const struct pawl_member_change_result *r)
{
    if (ctl->options.format == CTL_JSON) {
        print_json(ctl, r);
        return;
    }
    print_changed(ctl, r->member.id, "added to cluster", r);
    fprintf(ctl->out, "\n");
    print_environment(ctl->out, "PAWL", name, r);
}

/* ---- the verbs -------------------------------------------------------------
 */

static int run_add(struct ctl *ctl, int n, char **arguments)
{
    const struct ctl_verb *verb = ctl_find_verb("member", "add");
    struct pawl_member_add_options o = {
        .size = sizeof(o),
        .learner = ctl->options.learner,
        .auto_promote = ctl->options.auto_promote,
    };
    const char *name = n > 0 ? arguments[0] : "new";
    struct pawl_member_change_result *r;
    struct urls urls;
    enum pawl_status st;
    int code;

    if (n > 1) {
        return ctl_usage(ctl, verb, "it takes one name");
    }
    if (ctl->options.peer_urls == NULL) {
        return ctl_usage(ctl, verb, "--peer-urls is needed");
    }
    if (!ctl_open(ctl, &code)) {
        return code;
    }
    urls_split(&urls, ctl->options.peer_urls);
    st = pawl_member_add(ctl->pawl, urls.list, urls.n, &o, &r);
    urls_free(&urls);
    if (st != PAWL_OK) {
        return ctl_fail(ctl, st);
    }
    print_new(ctl, name, r);
    pawl_free(r);
    return CTL_OK;
}

static int run_remove(struct ctl *ctl, int n, char **arguments)
{
    struct pawl_member_change_result *r;
    enum pawl_status st;
    uint64_t id;
    int code;

    if (!begin(ctl, "remove", n, arguments, &id, false, &code)) {
        return code;
    }
    st = pawl_member_remove(ctl->pawl, id, &r);
    if (st != PAWL_OK) {
        return ctl_fail(ctl, st);
    }
    print_changed(ctl, id, "removed from cluster", r);
    pawl_free(r);
    return CTL_OK;
}

static int run_promote(struct ctl *ctl, int n, char **arguments)
{
    struct pawl_member_change_result *r;
    enum pawl_status st;
    uint64_t id;
    int code;

    if (!begin(ctl, "promote", n, arguments, &id, false, &code)) {
        return code;
    }
    st = pawl_member_promote(ctl->pawl, id, &r);
    if (st != PAWL_OK) {
        return ctl_fail(ctl, st);
    }
    print_changed(ctl, id, "promoted in cluster", r);
    pawl_free(r);
    return CTL_OK;
}

static int run_update(struct ctl *ctl, int n, char **arguments)
{
    struct pawl_member_change_result *r;
    struct urls urls;
    enum pawl_status st;
    uint64_t id;
    int code;

    if (!begin(ctl, "update", n, arguments, &id, true, &code)) {
        return code;
    }
    urls_split(&urls, ctl->options.peer_urls);
    st = pawl_member_update(ctl->pawl, id, urls.list, urls.n, &r);
    urls_free(&urls);
    if (st != PAWL_OK) {
        return ctl_fail(ctl, st);
    }
    print_changed(ctl, id, "updated in cluster", r);
    pawl_free(r);
    return CTL_OK;
}

static int run_replace(struct ctl *ctl, int n, char **arguments)
{
    struct pawl_member_change_result *r;
    struct urls urls;
    enum pawl_status st;
    uint64_t id;
    int code;

    if (n < 1 || n > 2) {
        return ctl_usage(ctl, ctl_find_verb("member", "replace"),
                         "it takes the id of who goes, and a name");
    }
    if (!begin(ctl, "replace", 1, arguments, &id, true, &code)) {
        return code;
    }
    urls_split(&urls, ctl->options.peer_urls);
    st = pawl_member_replace(ctl->pawl, id, urls.list, urls.n, &r);
    urls_free(&urls);
    if (st != PAWL_OK) {
        return ctl_fail(ctl, st);
    }
    print_new(ctl, n > 1 ? arguments[1] : "new", r);
    pawl_free(r);
    return CTL_OK;
}

static const int add_flags[] = {FLAG_PEER_URLS, FLAG_LEARNER, FLAG_AUTO_PROMOTE,
                                0};
static const int url_flags[] = {FLAG_PEER_URLS, 0};

const struct ctl_verb ctl_member_verbs[] = {
    {"member", "add", "[NAME]", "add a member, print how to start it",
     "It counts as a voter once it runs and has caught up, so a wrong address\n"
     "costs nothing. Start it with an empty data directory and the "
     "environment\n"
     "that this prints.\n",
     add_flags, run_add},
    {"member", "remove", "ID", "remove a member for ever",
     "Its id never returns. It learns of it and ends by itself.\n", NULL,
     run_remove},
    {"member", "update", "ID", "change where a member is called", NULL,
     url_flags, run_update},
    {"member", "promote", "ID", "make a voter of a learner", NULL, NULL,
     run_promote},
    {"member", "replace", "ID [NAME]", "put a new member in its place",
     "The new one comes as a learner; once it has caught up it becomes a "
     "voter\n"
     "and the other goes, in one step. Start it as after 'member add'. This "
     "is\n"
     "the way to bring a dead or wiped member back.\n",
     url_flags, run_replace},
    {0},
};
