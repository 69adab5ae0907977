/*
 * script.c - see script.h.
 */
#include "tests/raft/script.h"

#include "tests/raft/cluster.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

enum { WORDS_MAX = 12 };

struct script {
    const char *path;
    unsigned line;
    struct cluster *cluster;
    FILE *out; /* what the commands of this block say */
    bool said;
};

struct command {
    char *words[WORDS_MAX];
    size_t n;
};

static _Noreturn void fail(const struct script *s, const char *why,
                           const char *what)
{
    fprintf(stderr, "%s:%u: %s: %s\n", s->path, s->line, why, what);
    abort();
}

__attribute__((format(printf, 2, 3))) static void say(struct script *s,
                                                      const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(s->out, format, args);
    va_end(args);
    s->said = true;
}

/* ---- words ------------------------------------------------------------------
 */

static const char *word(const struct script *s, const struct command *c,
                        size_t i)
{
    if (i >= c->n) {
        fail(s, "a word is missing after", c->words[0]);
    }
    return c->words[i];
}

static ull number(const struct script *s, const char *text)
{
    char *end;
    ull n = strtoull(text, &end, 0);

    if (end == text || *end != '\0') {
        fail(s, "not a number", text);
    }
    return n;
}

static struct server *server(const struct script *s, const struct command *c,
                             size_t i)
{
    return cluster_at(s->cluster, number(s, word(s, c, i)));
}

/* "1>2", "1-2": false if it is neither. */
static bool pair(const char *text, char between, raft_id *a, raft_id *b)
{
    char *end;

    *a = strtoull(text, &end, 10);
    if (end == text || *end != between) {
        return false;
    }
    *b = strtoull(end + 1, &end, 10);
    return *end == '\0';
}

static enum raft_message_type type_of(const struct script *s, const char *name)
{
    for (int t = 1; t < TYPES_MAX; t++) {
        if (strcmp(message_type_name((enum raft_message_type)t), name) == 0) {
            return (enum raft_message_type)t;
        }
    }
    fail(s, "no such message type", name);
}

/* ---- what can be seen
 * ---------------------------------------------------------- */

static void say_status(struct script *s, const struct server *v)
{
    raft_id leader;

    if (v->raft == NULL) {
        say(s, "%llu down\n", (ull)v->id);
        return;
    }
    leader = raft_leader(v->raft);
    say(s, "%llu %-8s term=%llu", (ull)v->id, role_name(raft_role(v->raft)),
        (ull)raft_term_now(v->raft));
    if (leader != 0 && leader != v->id) {
        say(s, " leader=%llu", (ull)leader);
    }
    say(s, "\n");
}

static void say_log(struct script *s, const struct server *v)
{
    static const char *const types[] = {"", "", "noop", "config"};

    if (v->raft == NULL) {
        say(s, "%llu down\n", (ull)v->id);
        return;
    }
    say(s, "%llu commit=%llu applied=%llu stable=%llu:", (ull)v->id,
        (ull)raft_commit_index(v->raft), (ull)raft_last_applied(v->raft),
        (ull)raft_stable_index(v->raft));
    for (raft_index i = raft_first_index(v->raft);
         i <= raft_last_index(v->raft); i++) {
        const struct raft_entry *e = raft_entry_at(v->raft, i);

        if (e->type == RAFT_ENTRY_COMMAND) {
            say(s, " %llu/%llu %.*s", (ull)i, (ull)e->term, (int)e->size,
                (const char *)e->data);
        } else {
            say(s, " %llu/%llu %s", (ull)i, (ull)e->term, types[e->type]);
        }
    }
    say(s, "\n");
}

static void say_packets(struct script *s)
{
    for (size_t i = 0; i < s->cluster->n_packets; i++) {
        const struct raft_message *m = &s->cluster->packets[i].message;

        say(s, "%llu>%llu %s term=%llu", (ull)m->from, (ull)m->to,
            message_type_name(m->type), (ull)m->term);
        if (m->log_index != 0) {
            say(s, " index=%llu", (ull)m->log_index);
        }
        if (m->log_term != 0) {
            say(s, " log_term=%llu", (ull)m->log_term);
        }
        if (m->commit != 0) {
            say(s, " commit=%llu", (ull)m->commit);
        }
        if (m->n_entries > 0) {
            say(s, " entries=%zu", m->n_entries);
        }
        if (m->reject) {
            say(s, " reject hint=%llu", (ull)m->reject_hint);
        }
        say(s, "%s\n", m->force ? " force" : "");
    }
    if (s->cluster->n_packets == 0) {
        say(s, "no packets\n");
    }
}

static void say_progress(struct script *s, const struct server *v)
{
    struct raft_progress p;

    for (size_t i = 0; raft_progress_at(v->raft, i, &p); i++) {
        say(s, "%llu match=%llu next=%llu inflight=%zu%s%s\n", (ull)p.id,
            (ull)p.match_index, (ull)p.next_index, p.inflight_messages,
            p.state == RAFT_PROGRESS_SNAPSHOT ? " snapshot" : "",
            p.recently_active ? "" : " silent");
    }
}

/* Of one server, if a word names it, or of all. */
static void say_each(struct script *s, const struct command *c,
                     void (*one)(struct script *, const struct server *))
{
    if (c->n > 1) {
        one(s, server(s, c, 1));
        return;
    }
    for (size_t i = 0; i < s->cluster->n; i++) {
        one(s, &s->cluster->servers[i]);
    }
}

static void do_status(struct script *s, const struct command *c)
{
    say_each(s, c, say_status);
}

static void do_log(struct script *s, const struct command *c)
{
    say_each(s, c, say_log);
}

static void do_packets(struct script *s, const struct command *c)
{
    (void)c;
    say_packets(s);
}

static void do_progress(struct script *s, const struct command *c)
{
    say_progress(s, server(s, c, 1));
}

static void do_reads(struct script *s, const struct command *c)
{
    const struct server *v = server(s, c, 1);

    say(s, "%llu reads ok=%zu failed=%zu waiting=%zu index=%llu\n", (ull)v->id,
        v->reads_ok, v->reads_failed, v->n_asked, (ull)v->last_read.index);
}

/* ---- what can be done
 * ------------------------------------------------------------ */

static void set_option(struct script *s, struct cluster_options *o,
                       struct raft_config *config, const char *w)
{
    const char *value = strchr(w, '=');
    size_t n = value != NULL ? number(s, value + 1) : 0;

    if (strncmp(w, "spares=", 7) == 0) {
        o->n_spares = n;
    } else if (strncmp(w, "stall=", 6) == 0) {
        config->disk_stall_ticks = (unsigned)n;
    } else if (strncmp(w, "lease=", 6) == 0) {
        config->lease_ticks = (unsigned)n;
    } else if (strncmp(w, "learners=", 9) == 0) {
        o->n_learners = n;
    } else if (strncmp(w, "seed=", 5) == 0) {
        o->seed = n;
    } else if (strncmp(w, "append=", 7) == 0) {
        config->append_bytes_max = n;
    } else if (strncmp(w, "window=", 7) == 0) {
        config->inflight_messages_max = n;
    } else if (strncmp(w, "bytes=", 6) == 0) {
        config->inflight_bytes_max = n;
    } else if (strncmp(w, "uncommitted=", 12) == 0) {
        config->uncommitted_bytes_max = n;
    } else if (strcmp(w, "plain") == 0) {
        o->no_pre_vote = true;
    } else if (strcmp(w, "no-check-quorum") == 0) {
        o->no_check_quorum = true;
    } else if (strcmp(w, "prevote") != 0) {
        fail(s, "no such option", w);
    }
}

static void do_nodes(struct script *s, const struct command *c)
{
    struct raft_config config;
    struct cluster_options o = {.seed = 1, .config = &config};

    raft_config_defaults(&config);
    o.n_voters = number(s, word(s, c, 1));
    for (size_t i = 2; i < c->n; i++) {
        set_option(s, &o, &config, c->words[i]);
    }
    if (s->cluster != NULL) {
        cluster_free(s->cluster);
    }
    s->cluster = cluster_new(&o);
    cluster_settle(s->cluster);
}

static void do_elect(struct script *s, const struct command *c)
{
    cluster_elect(s->cluster, number(s, word(s, c, 1)));
}

static void do_tick(struct script *s, const struct command *c)
{
    unsigned n = (unsigned)number(s, word(s, c, 2));

    if (strcmp(c->words[1], "all") == 0) {
        cluster_tick(s->cluster, n);
    } else {
        cluster_tick_one(s->cluster, number(s, c->words[1]), n);
    }
}

static void do_settle(struct script *s, const struct command *c)
{
    (void)c;
    cluster_settle(s->cluster);
}

static void do_work(struct script *s, const struct command *c)
{
    cluster_work(s->cluster, server(s, c, 1));
}

static void do_propose(struct script *s, const struct command *c)
{
    raft_id id = number(s, word(s, c, 1));
    enum raft_status st = cluster_propose(s->cluster, id, word(s, c, 2), NULL);

    if (st != RAFT_OK) {
        say(s, "%llu: %s\n", (ull)id, raft_status_text(st));
    }
}

static void do_read(struct script *s, const struct command *c)
{
    raft_id id = number(s, word(s, c, 1));
    enum raft_status st = cluster_read(s->cluster, id);

    if (st != RAFT_OK) {
        say(s, "%llu: %s\n", (ull)id, raft_status_text(st));
    }
}

static void do_transfer(struct script *s, const struct command *c)
{
    raft_id from, to;
    enum raft_status st;

    if (!pair(word(s, c, 1), '>', &from, &to)) {
        fail(s, "not a pair", c->words[1]);
    }
    st = raft_transfer(cluster_at(s->cluster, from)->raft, to);
    if (st != RAFT_OK) {
        say(s, "%llu: %s\n", (ull)from, raft_status_text(st));
    }
}

static void do_compact(struct script *s, const struct command *c)
{
    cluster_compact(s->cluster, number(s, word(s, c, 1)),
                    number(s, word(s, c, 2)));
}

static void say_members(struct script *s, const struct server *v)
{
    if (v->raft == NULL) {
        say(s, "%llu down\n", (ull)v->id);
        return;
    }
    say(s, "%llu members: %s%s\n", (ull)v->id,
        cluster_members_text(raft_configuration_now(v->raft)),
        raft_is_removed(v->raft) ? " (removed)" : "");
}

static void do_members(struct script *s, const struct command *c)
{
    raft_id id;
    enum raft_status st;

    if (c->n < 3) {
        say_each(s, c, say_members);
        return;
    }
    id = number(s, word(s, c, 1));
    st = cluster_members(s->cluster, id, word(s, c, 2), NULL);
    if (st != RAFT_OK) {
        say(s, "%llu: %s\n", (ull)id, raft_status_text(st));
    }
}

static void do_snapshots(struct script *s, const struct command *c)
{
    const char *what = word(s, c, 1);

    s->cluster->transfers_held = strcmp(what, "release") != 0;
    while (strcmp(what, "lose") == 0 && s->cluster->n_transfers > 0) {
        cluster_transfer_fails(s->cluster, 0);
    }
}

static void do_cut(struct script *s, const struct command *c)
{
    raft_id a, b;

    if (pair(word(s, c, 1), '>', &a, &b)) {
        cluster_cut(s->cluster, a, b, true);
    } else if (pair(c->words[1], '-', &a, &b)) {
        cluster_cut(s->cluster, a, b, true);
        cluster_cut(s->cluster, b, a, true);
    } else {
        cluster_isolate(s->cluster, number(s, c->words[1]), true);
    }
}

static void do_heal(struct script *s, const struct command *c)
{
    (void)c;
    cluster_heal(s->cluster);
}

static void do_hold(struct script *s, const struct command *c)
{
    enum raft_message_type type = type_of(s, word(s, c, 1));

    s->cluster->held[type] = true;
    s->cluster->held_from[type] = c->n > 2 ? number(s, c->words[2]) : 0;
}

static void do_release(struct script *s, const struct command *c)
{
    s->cluster->held[type_of(s, word(s, c, 1))] = false;
}

static void do_drop(struct script *s, const struct command *c)
{
    s->cluster->dropped[type_of(s, word(s, c, 1))] = true;
}

static void do_undrop(struct script *s, const struct command *c)
{
    s->cluster->dropped[type_of(s, word(s, c, 1))] = false;
}

static void do_deliver(struct script *s, const struct command *c)
{
    struct cluster *k = s->cluster;
    raft_id from = 0, to = 0;
    size_t i = 0;

    if (strcmp(word(s, c, 1), "all") == 0) {
        for (size_t n = k->n_packets; n > 0; n--) {
            cluster_deliver(k, 0);
        }
        return;
    }
    if (c->n > 2 && !pair(c->words[2], '>', &from, &to)) {
        fail(s, "not a pair", c->words[2]);
    }
    i = cluster_find(k, type_of(s, c->words[1]), from, to);
    if (i == SIZE_MAX) {
        say(s, "no such packet\n");
    } else if (strcmp(c->words[0], "again") == 0) {
        (void)cluster_deliver_copy(k, i);
    } else if (strcmp(c->words[0], "lose") == 0) {
        cluster_lose(k, i);
    } else {
        cluster_deliver(k, i);
    }
}

static void do_crash(struct script *s, const struct command *c)
{
    cluster_crash(s->cluster, number(s, word(s, c, 1)),
                  c->n > 2 ? number(s, c->words[2]) : 0);
}

static void do_restart(struct script *s, const struct command *c)
{
    struct server *v = server(s, c, 1);

    cluster_restart(s->cluster, v->id, v->applied);
}

static void do_disk(struct script *s, const struct command *c)
{
    const char *what = word(s, c, 1);
    struct server *v = server(s, c, 2);

    if (strcmp(what, "sync") == 0) {
        cluster_sync(s->cluster, v, number(s, word(s, c, 3)));
    } else {
        cluster_hold_disk(s->cluster, v->id, strcmp(what, "hold") == 0);
    }
}

static const struct {
    const char *name;
    void (*run)(struct script *, const struct command *);
} commands[] = {
    {"nodes", do_nodes},       {"elect", do_elect},
    {"tick", do_tick},         {"settle", do_settle},
    {"work", do_work},         {"propose", do_propose},
    {"read", do_read},         {"transfer", do_transfer},
    {"compact", do_compact},   {"cut", do_cut},
    {"heal", do_heal},         {"hold", do_hold},
    {"release", do_release},   {"drop", do_drop},
    {"undrop", do_undrop},     {"deliver", do_deliver},
    {"again", do_deliver},     {"lose", do_deliver},
    {"crash", do_crash},       {"restart", do_restart},
    {"disk", do_disk},         {"status", do_status},
    {"log", do_log},           {"packets", do_packets},
    {"progress", do_progress}, {"reads", do_reads},
    {"members", do_members},   {"snapshots", do_snapshots},
};

static void run_line(struct script *s, const char *text)
{
    struct command c = {.n = 0};
    char *copy = strdup(text), *rest = NULL;

    for (char *w = strtok_r(copy, " ", &rest); w != NULL;
         w = strtok_r(NULL, " ", &rest)) {
        if (c.n == WORDS_MAX) {
            fail(s, "too many words", text);
        }
        c.words[c.n++] = w;
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (c.n > 0 && strcmp(commands[i].name, c.words[0]) == 0) {
            if (s->cluster == NULL && commands[i].run != do_nodes) {
                fail(s, "nodes comes first", text);
            }
            commands[i].run(s, &c);
            free(copy);
            return;
        }
    }
    fail(s, "no such command", text);
}

/* ---- files
 * ------------------------------------------------------------------------- */

static char *read_all(const char *path)
{
    FILE *f = fopen(path, "r");
    char *text = NULL;
    size_t size = 0;
    FILE *memory;
    int c;

    if (f == NULL) {
        perror(path);
        abort();
    }
    memory = open_memstream(&text, &size);
    while ((c = fgetc(f)) != EOF) {
        fputc(c, memory);
    }
    fclose(memory);
    fclose(f);
    return text;
}

/* The block is over: say what it said, or how all are. */
static void end_block(struct script *s, FILE *result, char **said, size_t *size)
{
    if (!s->said) {
        for (size_t i = 0; s->cluster != NULL && i < s->cluster->n; i++) {
            say_status(s, &s->cluster->servers[i]);
        }
    }
    fclose(s->out);
    fputs(*said, result);
    free(*said);
    *said = NULL;
    s->out = open_memstream(said, size);
    s->said = false;
}

/*
 * Copy the script to result, with what its commands say now in the place of
 * what they are expected to. Expected output ends at an empty line.
 */
static void replay(struct script *s, char *text, FILE *result)
{
    char *said = NULL;
    size_t size = 0;
    bool in_expected = false;

    s->out = open_memstream(&said, &size);
    for (char *line = text, *next; line != NULL; line = next) {
        next = strchr(line, '\n');
        if (next != NULL) {
            *next++ = '\0';
        }
        s->line++;
        if (next == NULL && *line == '\0') {
            break;
        }
        if (in_expected && *line != '\0') {
            continue;
        }
        in_expected = false;
        fprintf(result, "%s\n", line);
        if (strcmp(line, "----") == 0) {
            end_block(s, result, &said, &size);
            in_expected = true;
        } else if (*line != '\0' && *line != '#') {
            run_line(s, line);
        }
    }
    fclose(s->out);
    free(said);
}

static void write_all(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    if (f == NULL) {
        perror(path);
        abort();
    }
    fputs(text, f);
    fclose(f);
}

int script_check(const char *path)
{
    struct script s = {.path = path};
    char *before = read_all(path), *text = strdup(before), *after = NULL;
    size_t size = 0;
    FILE *result = open_memstream(&after, &size);
    const char *rewrite = getenv("REWRITE");
    int differs;

    replay(&s, text, result);
    fclose(result);
    differs = strcmp(before, after) != 0;
    if (differs && rewrite != NULL && strcmp(rewrite, "1") == 0) {
        write_all(path, after);
        differs = 0;
    }
    if (differs) {
        fprintf(stderr, "---- %s expects\n%s---- but is\n%s", path, before,
                after);
    }
    if (s.cluster != NULL) {
        cluster_free(s.cluster);
    }
    free(before);
    free(text);
    free(after);
    return differs;
}
