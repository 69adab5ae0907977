/*
 * join.c - asks those who have data who we are, until that is settled.
 */
#include "server/join.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/identify.h"
#include "server/logger.h"
#include "server/url.h"

#define FOUNDER_WAIT_MS                                                        \
    1000 /* others who start just now answer much sooner                       \
          */
#define ASK_MS 2000
#define CHANGE_MS 10000
#define PAUSE_MS 250
#define PATIENCE_MS 15000 /* with a cluster that does not know us */
#define LOG_MS 10000

struct joiner {
    struct rpc_loop *loop;
    const struct options *options;
    char **addresses; /* of the others' peer ports */
    size_t n_addresses;
    char **peer_urls; /* our own */
    size_t n_peer_urls;
    uint64_t logged_ms;
    size_t turn; /* whom to ask for a change next */
};

static bool is_own(const struct joiner *j, const char *url)
{
    for (size_t i = 0; i < j->n_peer_urls; i++) {
        if (strcmp(j->peer_urls[i], url) == 0) {
            return true;
        }
    }
    return false;
}

static void joiner_init(struct joiner *j, struct rpc_loop *loop,
                        const struct options *o)
{
    *j = (struct joiner){.loop = loop, .options = o};
    j->peer_urls = url_list(o->initial_advertise_peer_urls, &j->n_peer_urls);
    for (size_t i = 0; i < o->n_founders; i++) {
        const struct member *m = &o->founders[i];

        for (size_t k = 0; k < m->n_peer_urls; k++) {
            if (strcmp(m->name, o->name) != 0 && !is_own(j, m->peer_urls[k])) {
                j->addresses = mem_realloc(j->addresses, j->n_addresses + 1,
                                           sizeof(*j->addresses));
                j->addresses[j->n_addresses++] = url_address(m->peer_urls[k]);
            }
        }
    }
}

static void joiner_release(struct joiner *j)
{
    url_list_free(j->addresses, j->n_addresses);
    url_list_free(j->peer_urls, j->n_peer_urls);
}

static struct identify_question question(const struct joiner *j,
                                         uint64_t timeout_ms)
{
    return (struct identify_question){
        .addresses = j->addresses,
        .n_addresses = j->n_addresses,
        .peer_urls = j->peer_urls,
        .n_peer_urls = j->n_peer_urls,
        .timeout_ms = timeout_ms,
    };
}

static bool may_log(struct joiner *j)
{
    uint64_t now_ms = clock_ms();

    if (j->logged_ms != 0 && now_ms - j->logged_ms < LOG_MS) {
        return false;
    }
    j->logged_ms = now_ms;
    return true;
}

static void on_pause_over(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    *(bool *)arg = true;
}

static void take_pause(struct joiner *j)
{
    struct event_base *base = rpc_loop_base(j->loop);
    struct timeval tv = {.tv_usec = PAUSE_MS * 1000};
    bool over = false;
    struct event *timer = event_new(base, -1, 0, on_pause_over, &over);

    event_add(timer, &tv);
    while (!over) {
        rpc_loop_flush(j->loop);
        event_base_loop(base, EVLOOP_ONCE);
    }
    event_free(timer);
}

/* Our member has had data, and we have none. */
static void ask_to_rejoin(struct joiner *j, const struct identity *known)
{
    struct identify_question q = question(j, CHANGE_MS);
    struct identity answer;

    if (may_log(j)) {
        log_line(LOG_WARN,
                 "member %" PRIx64 " had data and this data directory is "
                 "empty: asking to join again, as a learner under a new id",
                 known->member_id);
    }
    q.addresses += j->turn++ % j->n_addresses;
    q.n_addresses = 1;
    q.rejoin = true;
    identify_ask(j->loop, &q, &answer);
    if (!answer.found && answer.error[0] != '\0') {
        log_line(LOG_WARN, "not yet: %s", answer.error);
    }
    identity_release(&answer);
}

static void say_waiting(struct joiner *j, const struct identity *answer)
{
    if (!may_log(j)) {
        return;
    }
    if (answer->found) {
        log_line(LOG_WARN, "waiting to be a member: nobody has the peer URL %s",
                 j->options->initial_advertise_peer_urls);
    } else {
        log_line(LOG_WARN, "no member of the cluster answers: %s",
                 answer->error[0] != '\0' ? answer->error
                                          : "none has data yet");
    }
}

static void take_over(struct join_result *out, struct identity *answer)
{
    out->cluster_id = answer->cluster_id;
    out->member_id = answer->member_id;
    out->members = answer->members;
    answer->members = (struct members){0};
}

/* Until a member that never ran has our URLs: that is us. */
static enum join_outcome join(struct joiner *j, struct join_result *out)
{
    struct identify_question q = question(j, ASK_MS);
    uint64_t unknown_since_ms = 0;

    for (;;) {
        struct identity answer;
        bool is_us;

        identify_ask(j->loop, &q, &answer);
        is_us = answer.found && answer.member_id != 0 && answer.store_id == 0;
        if (is_us) {
            take_over(out, &answer);
        } else if (answer.found && answer.member_id != 0) {
            ask_to_rejoin(j, &answer);
        } else {
            say_waiting(j, &answer);
        }
        if (!answer.found || answer.member_id != 0) {
            unknown_since_ms = 0;
        } else if (unknown_since_ms == 0) {
            unknown_since_ms = clock_ms();
        }
        identity_release(&answer);
        if (is_us) {
            return JOIN_JOINED;
        }
        if (unknown_since_ms != 0 &&
            clock_ms() - unknown_since_ms >= PATIENCE_MS) {
            snprintf(out->error, sizeof(out->error),
                     "no member of the cluster has the peer URL %s: first "
                     "'pawlctl member add --peer-urls=%s'",
                     j->options->initial_advertise_peer_urls,
                     j->options->initial_advertise_peer_urls);
            return JOIN_FAILED;
        }
        take_pause(j);
    }
}

/* A founder, as far as anybody says. */
static enum join_outcome found_or_rejoin(struct joiner *j,
                                         struct join_result *out)
{
    struct identify_question q = question(j, FOUNDER_WAIT_MS);
    struct identity answer;
    enum join_outcome outcome = JOIN_FOUND;

    q.cluster_id = j->options->cluster_id;
    q.member_id = j->options->member_id;
    identify_ask(j->loop, &q, &answer);
    if (answer.found && answer.cluster_id == j->options->cluster_id) {
        if (answer.member_id != 0 &&
            (answer.store_id != 0 ||
             answer.member_id != j->options->member_id)) {
            outcome = JOIN_JOINED; /* by way of rejoining */
        } else if (answer.removed) {
            outcome = JOIN_REMOVED;
        }
    } else if (answer.found) {
        snprintf(out->error, sizeof(out->error),
                 "the others of --initial-cluster run cluster %" PRIx64
                 ", which is not the one that these flags found (%" PRIx64
                 "): to join it use --initial-cluster-state existing",
                 answer.cluster_id, j->options->cluster_id);
        outcome = JOIN_FAILED;
    }
    identity_release(&answer);
    return outcome == JOIN_JOINED ? join(j, out) : outcome;
}

enum join_outcome join_find_out(struct rpc_loop *loop, const struct options *o,
                                struct join_result *out)
{
    enum join_outcome outcome = JOIN_FOUND;
    struct joiner j;

    *out = (struct join_result){.cluster_id = o->cluster_id,
                                .member_id = o->member_id};
    joiner_init(&j, loop, o);
    if (o->join_existing && j.n_addresses == 0) {
        snprintf(out->error, sizeof(out->error),
                 "--initial-cluster-state existing needs an --initial-cluster "
                 "that names the members to join");
        outcome = JOIN_FAILED;
    } else if (o->join_existing) {
        outcome = join(&j, out);
    } else if (j.n_addresses > 0) {
        outcome = found_or_rejoin(&j, out);
    }
    joiner_release(&j);
    return outcome;
}
