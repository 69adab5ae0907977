/*
 * ctl_main.c - from a command line to a verb; help; exit codes.
 */
#include "client/ctl.h"

#include <stdarg.h>
#include <string.h>

static const struct ctl_verb *const tables[] = {
    ctl_kv_verbs, ctl_lock_verbs, ctl_lease_verbs, ctl_member_verbs,
    ctl_cluster_verbs};

#define N_TABLES (sizeof(tables) / sizeof(tables[0]))
#define VERBS_MAX 64

int ctl_exit_of(enum pawl_status status)
{
    switch (status) {
    case PAWL_OK:
        return CTL_OK;
    case PAWL_NOT_FOUND:
        return CTL_NOT_FOUND;
    case PAWL_NOT_ACQUIRED:
        return CTL_NOT_ACQUIRED;
    case PAWL_UNAVAILABLE:
    case PAWL_TIMEOUT:
        return CTL_UNAVAILABLE;
    case PAWL_MAYBE_APPLIED:
        return CTL_MAYBE_APPLIED;
    case PAWL_FENCED:
        return CTL_FENCED;
    case PAWL_LOST:
        return CTL_LOST;
    case PAWL_INVALID:
    case PAWL_EXISTS:
    case PAWL_REFUSED:
    case PAWL_OUT_OF_RANGE:
    case PAWL_LIMIT:
    case PAWL_DENIED:
    case PAWL_UNSUPPORTED:
    case PAWL_INTERNAL:
        break;
    }
    return CTL_FAILED;
}

/* ---- help ---------------------------------------------------------------- */

static const char *space_subname(const struct ctl_verb *v)
{
    return v->subname != NULL ? v->subname : "";
}

static void print_summary(FILE *out, const struct ctl_verb *v)
{
    char left[80];

    snprintf(left, sizeof(left), "%s%s%s %s", v->name,
             v->subname != NULL ? " " : "", space_subname(v), v->arguments);
    fprintf(out, "  %-38s %s\n", left, v->summary);
}

void ctl_help(FILE *out)
{
    fprintf(out, "pawlctl: the command line of pawl, and of any server of the "
                 "etcd v3 API\n\n"
                 "usage: pawlctl [FLAGS] COMMAND [FLAGS] [ARGUMENTS]\n\n"
                 "commands:\n");
    for (size_t i = 0; i < N_TABLES; i++) {
        for (const struct ctl_verb *v = tables[i]; v->name != NULL; v++) {
            print_summary(out, v);
        }
    }
    fprintf(out, "\nflags, before or after the command:\n");
    ctl_global_help(out);
    fprintf(out, "\nexit codes:\n"
                 "  0  done\n"
                 "  1  failed; the message says why\n"
                 "  2  the command line is wrong\n"
                 "  3  not found: no such lease, lock or holder\n"
                 "  4  the lock was not acquired\n"
                 "  5  unavailable or timed out; nothing was changed\n"
                 "  6  no answer to a write: it may have been applied\n"
                 "  7  a guarded write was refused: the lock is not held\n"
                 "  8  the lock was lost while it was held\n"
                 "\n'pawlctl COMMAND --help' tells more about each.\n");
}

void ctl_verb_help(FILE *out, const struct ctl_verb *v)
{
    fprintf(out, "%s\n\nusage: pawlctl %s%s%s [FLAGS] %s\n", v->summary,
            v->name, v->subname != NULL ? " " : "", space_subname(v),
            v->arguments);
    if (v->help != NULL) {
        fprintf(out, "\n%s", v->help);
    }
    if (v->flags != NULL) {
        fprintf(out, "\nflags:\n");
        for (size_t i = 0; v->flags[i] != 0; i++) {
            ctl_flag_help(out, v->flags[i]);
        }
    }
    fprintf(out, "\nflags of all commands:\n");
    ctl_global_help(out);
}

int ctl_usage(struct ctl *ctl, const struct ctl_verb *v, const char *format,
              ...)
{
    va_list ap;

    fprintf(ctl->err, "pawlctl: ");
    if (v != NULL) {
        fprintf(ctl->err, "%s%s%s: ", v->name, v->subname != NULL ? " " : "",
                space_subname(v));
    }
    va_start(ap, format);
    vfprintf(ctl->err, format, ap);
    va_end(ap);
    fprintf(ctl->err, "\ntry 'pawlctl %s%s%s%s--help'\n",
            v != NULL ? v->name : "", v != NULL ? " " : "",
            v != NULL ? space_subname(v) : "",
            v != NULL && v->subname != NULL ? " " : "");
    return CTL_USAGE;
}

/* ---- verbs --------------------------------------------------------------- */

const struct ctl_verb *ctl_find_verb(const char *name, const char *subname)
{
    for (size_t i = 0; i < N_TABLES; i++) {
        for (const struct ctl_verb *v = tables[i]; v->name != NULL; v++) {
            if (strcmp(v->name, name) == 0 &&
                (v->subname == NULL ||
                 (subname != NULL && strcmp(v->subname, subname) == 0))) {
                return v;
            }
        }
    }
    return NULL;
}

/* The words that may follow name; the verbs if name is NULL. */
static size_t list_words(const char *name, const char **words)
{
    size_t n = 0;

    for (size_t i = 0; i < N_TABLES; i++) {
        for (const struct ctl_verb *v = tables[i]; v->name != NULL; v++) {
            if (name == NULL) {
                words[n++] = v->name;
            } else if (strcmp(v->name, name) == 0 && v->subname != NULL) {
                words[n++] = v->subname;
            }
            if (n == VERBS_MAX) {
                return n;
            }
        }
    }
    return n;
}

/* A word that takes another, with a wrong one or none behind it. */
static int unknown_subverb(struct ctl *ctl, const char *name, const char *word,
                           const char **words, size_t n)
{
    bool asked = word != NULL &&
                 (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0);
    FILE *out = asked ? ctl->out : ctl->err;
    const char *nearest = NULL;

    if (!asked && word == NULL) {
        fprintf(out, "pawlctl: %s: a command is missing\n", name);
    } else if (!asked) {
        nearest = ctl_nearest(word, words, n);
        fprintf(out, "pawlctl: %s: unknown command '%s'\n", name, word);
    }
    if (nearest != NULL) {
        fprintf(out, "did you mean 'pawlctl %s %s'?\n", name, nearest);
        return CTL_USAGE;
    }
    fprintf(out, "commands:\n");
    for (size_t i = 0; i < n; i++) {
        print_summary(out, ctl_find_verb(name, words[i]));
    }
    return asked ? CTL_OK : CTL_USAGE;
}

static int unknown_verb(struct ctl *ctl, char **words_given)
{
    const char *words[VERBS_MAX];
    size_t n = list_words(words_given[0], words);
    const char *nearest;

    if (n > 0) {
        return unknown_subverb(ctl, words_given[0], words_given[1], words, n);
    }
    n = list_words(NULL, words);
    nearest = ctl_nearest(words_given[0], words, n);
    if (nearest != NULL) {
        return ctl_usage(ctl, NULL, "unknown command '%s'; did you mean '%s'?",
                         words_given[0], nearest);
    }
    return ctl_usage(ctl, NULL, "unknown command '%s'", words_given[0]);
}

static int help_verb(struct ctl *ctl, char **words)
{
    const struct ctl_verb *v;
    char *group[] = {words[0], (char[]){"--help"}};

    if (words[0] == NULL) {
        ctl_help(ctl->out);
        return CTL_OK;
    }
    v = ctl_find_verb(words[0], words[1]);
    if (v == NULL) {
        return unknown_verb(ctl, words[1] == NULL ? group : words);
    }
    ctl_verb_help(ctl->out, v);
    return CTL_OK;
}

static int run_verb(struct ctl *ctl, const struct ctl_verb *v, int argc,
                    char **argv)
{
    int rest, code;

    if (!ctl_parse_verb(ctl, v, argc, argv, &rest)) {
        return CTL_USAGE;
    }
    if (ctl->options.help) {
        ctl_verb_help(ctl->out, v);
        return CTL_OK;
    }
    code = v->run(ctl, argc - rest, argv + rest);
    pawl_close(ctl->pawl);
    ctl->pawl = NULL;
    return code;
}

/* argv ends with NULL, as main()'s does. */
int ctl_main(struct ctl *ctl, int argc, char **argv)
{
    const struct ctl_verb *v;
    int rest;

    ctl_options_init(&ctl->options);
    if (!ctl_parse_global(ctl, argc, argv, &rest)) {
        return CTL_USAGE;
    }
    if (ctl->options.help ||
        (argv[rest] != NULL && strcmp(argv[rest], "help") == 0)) {
        return help_verb(ctl,
                         argv[rest] != NULL && strcmp(argv[rest], "help") == 0
                             ? argv + rest + 1
                             : argv + rest);
    }
    if (argv[rest] == NULL) {
        return ctl_usage(ctl, NULL, "which command?");
    }
    v = ctl_find_verb(argv[rest], argv[rest + 1]);
    if (v == NULL) {
        return unknown_verb(ctl, argv + rest);
    }
    rest += v->subname != NULL;
    return run_verb(ctl, v, argc - rest, argv + rest);
}

bool ctl_open(struct ctl *ctl, int *code)
{
    char error[PAWL_ERROR_BYTES];
    struct pawl_options o = {
        .size = sizeof(o),
        .endpoints = ctl->options.endpoints,
        .connect_timeout_ms = (uint32_t)ctl->options.dial_timeout_ms,
        .call_timeout_ms = (uint32_t)ctl->options.command_timeout_ms,
        .in_order = true,
    };

    ctl->pawl = pawl_open(&o, error);
    if (ctl->pawl == NULL) {
        *code = ctl_usage(ctl, NULL, "%s", error);
        return false;
    }
    *code = CTL_OK;
    return true;
}

int ctl_fail(struct ctl *ctl, enum pawl_status status)
{
    fprintf(ctl->err, "Error: %s\n", pawl_error(ctl->pawl));
    return ctl_exit_of(status);
}
