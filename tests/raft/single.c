/*
 * single.c - see single.h.
 */
#include "tests/raft/single.h"

#include <check.h>
#include <string.h>

static void forget_packets(struct single *s)
{
    while (s->cluster->n_packets > 0) {
        cluster_lose(s->cluster, s->cluster->n_packets - 1);
    }
}

void single_begin(struct single *s, const struct cluster_options *o)
{
    *s = (struct single){.cluster = cluster_new(o)};
    s->server = cluster_at(s->cluster, 1);
    s->raft = s->server->raft;
    /* Only one is real: what others "hold" can not be looked up on a disk. */
    s->cluster->only = 1;
    single_work(s);
}

void single_end(struct single *s)
{
    cluster_free(s->cluster);
}

void single_work(struct single *s)
{
    forget_packets(s);
    cluster_work(s->cluster, s->server);
}

void single_sync(struct single *s)
{
    forget_packets(s);
    do {
        cluster_work(s->cluster, s->server);
        cluster_sync(s->cluster, s->server, s->server->disk.n_writes);
        cluster_work(s->cluster, s->server);
    } while (s->server->disk.n_writes > 0);
}

void single_tick(struct single *s, unsigned n)
{
    forget_packets(s);
    for (; n > 0; n--) {
        raft_tick(s->raft);
        cluster_work(s->cluster, s->server);
    }
}

void single_restart(struct single *s)
{
    cluster_crash(s->cluster, 1, 0);
    cluster_restart(s->cluster, 1, s->server->applied);
    s->raft = s->server->raft;
    single_work(s);
}

enum raft_status single_step(struct single *s, struct raft_message m)
{
    enum raft_status st;

    m.to = m.to != 0 ? m.to : 1;
    st = raft_step(s->raft, &m);
    single_work(s);
    return st;
}

const struct raft_message *single_sent(const struct single *s,
                                       enum raft_message_type type, raft_id to)
{
    size_t i = cluster_find(s->cluster, type, 1, to);

    return i == SIZE_MAX ? NULL : &s->cluster->packets[i].message;
}

size_t single_count(const struct single *s, enum raft_message_type type)
{
    size_t n = 0;

    for (size_t i = 0; i < s->cluster->n_packets; i++) {
        n += s->cluster->packets[i].message.type == type;
    }
    return n;
}

enum raft_status single_append(struct single *s, raft_id from, raft_term term,
                               raft_index prev_index, raft_term prev_term,
                               const char *terms, raft_index commit)
{
    struct raft_entry entries[64];
    size_t n = strlen(terms);

    ck_assert_uint_le(n, 64);
    for (size_t i = 0; i < n; i++) {
        entries[i] = (struct raft_entry){
            .index = prev_index + 1 + i,
            .term = (raft_term)(terms[i] - '0'),
            .type = RAFT_ENTRY_COMMAND,
            .size = 1,
            .data = (const uint8_t *)&terms[i],
        };
    }
    return single_step(s, (struct raft_message){
                              .type = RAFT_APPEND_ENTRIES,
                              .from = from,
                              .term = term,
                              .log_index = prev_index,
                              .log_term = prev_term,
                              .commit = commit,
                              .n_entries = n,
                              .entries = n > 0 ? entries : NULL,
                          });
}

void single_lead(struct single *s)
{
    for (unsigned i = 0; raft_role(s->raft) == RAFT_FOLLOWER; i++) {
        ck_assert_uint_lt(i, 100);
        single_tick(s, 1);
    }
    single_sync(s);
    for (raft_id id = 2; id <= s->cluster->options.n_voters; id++) {
        (void)single_step(
            s, (struct raft_message){.type = RAFT_PRE_VOTE_RESPONSE,
                                     .from = id,
                                     .term = raft_term_now(s->raft) + 1});
    }
    single_sync(s);
    for (raft_id id = 2; id <= s->cluster->options.n_voters; id++) {
        (void)single_step(
            s, (struct raft_message){.type = RAFT_REQUEST_VOTE_RESPONSE,
                                     .from = id,
                                     .term = raft_term_now(s->raft)});
    }
    ck_assert_int_eq(raft_role(s->raft), RAFT_LEADER);
    single_sync(s);
    for (raft_id id = 2; id <= s->cluster->n; id++) {
        single_acknowledge(s, id, raft_last_index(s->raft));
    }
    single_work(s);
    ck_assert(raft_is_settled_leader(s->raft));
}

void single_acknowledge(struct single *s, raft_id from, raft_index match)
{
    enum raft_status st =
        single_step(s, (struct raft_message){
                           .type = RAFT_APPEND_ENTRIES_RESPONSE,
                           .from = from,
                           .term = raft_term_now(s->raft),
                           .log_index = match,
                       });

    ck_assert_int_eq(st, RAFT_OK);
}

const char *single_terms(const struct single *s)
{
    static char terms[256];
    raft_index last = raft_last_index(s->raft);

    for (raft_index i = 1; i <= last && i < sizeof(terms); i++) {
        const struct raft_entry *e = raft_entry_at(s->raft, i);

        terms[i - 1] = e != NULL ? (char)('0' + e->term) : '.';
    }
    terms[last] = '\0';
    return terms;
}
