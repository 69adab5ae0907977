/*
 * test_random.c - whole clusters under faults that a seed draws: loss,
 * duplication, reordering, partitions, crashes that lose what is not synced,
 * slow disks, compaction, snapshots that break or arrive late, servers that
 * become members, voters, learners and nobody. cluster.c checks safety all
 * along; then the faults stop and a write must commit everywhere (O12).
 *
 *     PAWL_SEED=0x1234 build/.../test_random      repeats one run
 *     PAWL_RUNS=1000                              more of them
 */
#include "tests/raft/cluster.h"
#include "tests/raft/suite.h"

#include <stdio.h>
#include <stdlib.h>

enum { STEPS = 40000, RUNS = 100 };

struct world {
    struct cluster *c;
    struct rng rng;
    unsigned loss, duplication; /* per cent */
    unsigned ticks;             /* per cent: how fast timers run */
    unsigned syncs;             /* per cent: how fast disks are */
    unsigned fault;             /* one step in this many is a fault */
    bool changes;               /* of the members */
    bool cuts_deep;             /* compaction does not wait for the slowest */
    unsigned n_proposed, n_changed, n_joint;
};

static bool chance(struct world *w, unsigned percent)
{
    return rng_below(&w->rng, 100) < percent;
}

static raft_id anybody(struct world *w)
{
    return 1 + rng_below(&w->rng, w->c->n);
}

/* Any packet, not only the oldest; some arrive twice, some never. */
static void deliver_some(struct world *w)
{
    struct cluster *c = w->c;
    size_t i;

    if (c->n_packets == 0) {
        return;
    }
    i = chance(w, 60) ? 0 : rng_below(&w->rng, c->n_packets);
    if (chance(w, w->loss)) {
        cluster_lose(c, i);
        return;
    }
    if (chance(w, w->duplication)) {
        (void)cluster_deliver_copy(c, i);
        return;
    }
    cluster_deliver(c, i);
}

static void propose_some(struct world *w)
{
    char text[600];
    struct server *s = cluster_at(w->c, anybody(w));
    int n = snprintf(text, sizeof(text), "%u ", w->n_proposed++);

    if (s->raft == NULL) {
        return;
    }
    for (size_t i = rng_below(&w->rng, 500); i > 0; i--) {
        text[n++] = 'x';
    }
    text[n] = '\0';
    (void)cluster_propose(w->c, s->id, text, NULL);
}

/* The state machine lost some of what it had applied, if not synced. */
static void restart(struct world *w, struct server *s)
{
    raft_index prev = s->disk.prev_index;

    cluster_restart(w->c, s->id,
                    prev + rng_below(&w->rng, s->applied - prev + 1));
}

static void crash_or_restart(struct world *w)
{
    struct server *s = cluster_at(w->c, anybody(w));

    if (s->raft != NULL) {
        cluster_crash(w->c, s->id, rng_below(&w->rng, s->disk.n_writes + 1));
    } else {
        restart(w, s);
    }
}

static void change_network(struct world *w)
{
    raft_id a = anybody(w), b = anybody(w);

    switch (rng_below(&w->rng, 4)) {
    case 0:
        cluster_isolate(w->c, a, true);
        break;
    case 1:
        cluster_cut(w->c, a, b, true); /* one way */
        break;
    default:
        cluster_heal(w->c);
        break;
    }
}

static void repair_all(struct world *w)
{
    cluster_heal(w->c);
    for (raft_id id = 1; id <= w->c->n; id++) {
        if (cluster_at(w->c, id)->is_installing) {
            cluster_install(w->c, cluster_at(w->c, id), true);
        }
        cluster_hold_disk(w->c, id, false);
        if (cluster_at(w->c, id)->raft == NULL) {
            restart(w, cluster_at(w->c, id));
        }
    }
}

static void fault(struct world *w)
{
    if (chance(w, 40)) {
        repair_all(w);
        return;
    }
    switch (rng_below(&w->rng, 4)) {
    case 0:
        crash_or_restart(w);
        break;
    case 1:
        change_network(w);
        break;
    case 2:
        cluster_hold_disk(w->c, anybody(w), chance(w, 40));
        break;
    default: {
        struct server *s = cluster_at(w->c, anybody(w));
        struct server *t = cluster_at(w->c, anybody(w));

        if (s->raft != NULL) {
            (void)raft_transfer(s->raft, t->id);
        }
        break;
    }
    }
}

static void compact_some(struct world *w)
{
    struct server *s = cluster_at(w->c, anybody(w));
    raft_index all;

    if (s->raft != NULL) {
        all = w->cuts_deep ? s->applied : raft_all_match_index(s->raft);
        cluster_compact(w->c, s->id, all < s->applied ? all : s->applied);
    }
}

/* A stream ends, well or not; a state is installed, or not, or the power fails
 * on the way. */
static void move_snapshots(struct world *w)
{
    struct cluster *c = w->c;
    struct server *s = cluster_at(c, anybody(w));

    if (s->is_installing) {
        if (chance(w, 10)) {
            cluster_install_and_crash(c, s);
        } else {
            cluster_install(c, s, chance(w, 80));
        }
    } else if (c->n_transfers > 0) {
        size_t i = rng_below(&w->rng, c->n_transfers);

        if (chance(w, 20)) {
            cluster_transfer_fails(c, i);
        } else {
            cluster_transfer_arrives(c, i, chance(w, 50));
        }
    }
}

/* Everybody may become anything; mostly few do. */
static void change_members(struct world *w, struct server *s)
{
    unsigned much = chance(w, 20) ? 50 : 15;
    struct raft_configuration target;
    raft_index index;

    cluster_parse_members(&target, "");
    for (raft_id id = 1; id <= w->c->n; id++) {
        enum raft_server_role role;
        bool is_in = cluster_role(raft_configuration_now(s->raft), id, &role);

        if (chance(w, much)) {
            is_in = chance(w, 75);
            role = chance(w, 70) ? RAFT_VOTER : RAFT_LEARNER;
        }
        if (is_in) {
            target.servers[target.n_servers++] = (struct raft_server){id, role};
        }
    }
    if (raft_propose_configuration(s->raft, &target, &index) == RAFT_OK) {
        w->n_changed++;
        w->n_joint +=
            raft_configuration_is_joint(raft_configuration_now(s->raft));
    }
    raft_configuration_release(&target);
}

static void change_some_members(struct world *w)
{
    struct server *s = cluster_at(w->c, anybody(w));

    if (w->changes && s->raft != NULL) {
        change_members(w, s);
    }
}

static void step(struct world *w)
{
    struct server *s = cluster_at(w->c, anybody(w));

    switch (rng_below(&w->rng, 16)) {
    case 0:
        if (s->raft != NULL && chance(w, w->ticks)) {
            raft_tick(s->raft);
        }
        break;
    case 1:
        propose_some(w);
        break;
    case 2:
        if (s->raft != NULL) {
            (void)cluster_read(w->c, s->id);
        }
        break;
    case 3:
    case 4:
        if (!s->disk.held && chance(w, w->syncs)) {
            cluster_sync(w->c, s, 1 + rng_below(&w->rng, 3));
        }
        break;
    case 5:
        if (chance(w, 10)) {
            compact_some(w);
        } else if (chance(w, 10)) {
            change_some_members(w);
        } else {
            move_snapshots(w);
        }
        break;
    case 6:
    case 7:
    case 8:
        cluster_work(w->c, s);
        break;
    default:
        deliver_some(w);
        break;
    }
    if (rng_below(&w->rng, w->fault) == 0) {
        fault(w);
    }
}

/* As who is furthest knows them. */
static const struct raft_configuration *newest_members(struct cluster *c)
{
    struct server *best = cluster_at(c, 1);

    for (raft_id id = 2; id <= c->n; id++) {
        if (cluster_at(c, id)->applied > best->applied) {
            best = cluster_at(c, id);
        }
    }
    return raft_configuration_now(best->raft);
}

/* Whatever terms others are in: a removed server may go on asking for votes
 * when there is no pre-vote, and nobody listens. */
static raft_id newest_leader(struct cluster *c)
{
    raft_id leader = 0;
    raft_term term = 0;

    for (raft_id id = 1; id <= c->n; id++) {
        const struct raft *r = cluster_at(c, id)->raft;

        if (raft_role(r) == RAFT_LEADER && raft_term_now(r) > term) {
            leader = id;
            term = raft_term_now(r);
        }
    }
    return leader;
}

/* O12: all faults are over; soon a write is applied by everybody. */
static void make_progress(struct world *w)
{
    struct cluster *c = w->c;
    unsigned n = 0;

    repair_all(w);
    for (raft_index i = 0;; n++) {
        raft_id leader = newest_leader(c);
        size_t done = 0;

        ck_assert_msg(n < 400, "no progress in 400 ticks");
        cluster_tick(c, 1);
        if (i == 0 && leader != 0 &&
            cluster_propose(c, leader, "last", &i) != RAFT_OK) {
            i = 0;
        }
        if (i != 0) {
            const struct raft_configuration *k = newest_members(c);

            for (size_t m = 0; m < k->n_servers; m++) {
                done += cluster_at(c, k->servers[m].id)->applied >= i;
            }
            if (done == k->n_servers && !raft_configuration_is_joint(k)) {
                break;
            }
        }
    }
}

static raft_term raft_term_seen(const struct cluster *c)
{
    raft_term term = 0;

    for (size_t i = 0; i < c->n; i++) {
        if (c->servers[i].term_seen > term) {
            term = c->servers[i].term_seen;
        }
    }
    return term;
}

static void run(uint64_t seed)
{
    struct raft_config config;
    struct world w = {0};
    struct cluster_options o = {.config = &config};

    printf("PAWL_SEED=0x%llx\n", (unsigned long long)seed);
    fflush(stdout);
    rng_init(&w.rng, seed);
    raft_config_defaults(&config);
    config.append_bytes_max = 100 + rng_below(&w.rng, 2000);
    config.inflight_messages_max = 1 + rng_below(&w.rng, 8);
    config.inflight_bytes_max = 1000 + rng_below(&w.rng, 10000);
    config.uncommitted_bytes_max = 10000;
    config.disk_stall_ticks =
        rng_below(&w.rng, 2) == 0 ? 5 + (unsigned)rng_below(&w.rng, 30) : 0;
    o.n_voters = rng_below(&w.rng, 2) == 0 ? 3 : 5;
    o.n_learners = rng_below(&w.rng, 3) == 0;
    o.no_pre_vote = rng_below(&w.rng, 4) == 0;
    o.no_check_quorum = rng_below(&w.rng, 4) == 0;
    o.seed = rng_next(&w.rng);
    w.loss = (unsigned)rng_below(&w.rng, 20);
    w.duplication = (unsigned)rng_below(&w.rng, 50);
    w.fault = 50 + (unsigned)rng_below(&w.rng, 2000);
    w.syncs = rng_below(&w.rng, 2) == 0 ? 100 : 3;
    w.ticks = 5 + (unsigned)rng_below(&w.rng, 96);
    w.cuts_deep = rng_below(&w.rng, 2) == 0;
    /* In plain Raft a server that was removed disturbs for ever (4.2.3). */
    w.changes = !o.no_check_quorum && rng_below(&w.rng, 2) == 0;
    o.n_spares = w.changes ? rng_below(&w.rng, 3) : 0;
    w.c = cluster_new(&o);
    for (unsigned i = 0; i < STEPS; i++) {
        step(&w);
    }
    printf("  applied=%llu terms=%llu proposed=%u snapshots=%zu/%zu "
           "changes=%u joint=%u\n",
           (unsigned long long)w.c->applied_max,
           (unsigned long long)raft_term_seen(w.c), w.n_proposed,
           w.c->n_restores, w.c->n_told, w.n_changed, w.n_joint);
    make_progress(&w);
    cluster_free(w.c);
}

START_TEST(O1_to_O7_and_O12_hold_under_random_faults)
{
    const char *seed = getenv("PAWL_SEED"), *runs = getenv("PAWL_RUNS");
    unsigned long n = runs != NULL ? strtoul(runs, NULL, 0) : RUNS;

    if (seed != NULL) {
        run(strtoull(seed, NULL, 0));
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        run(0x5eed0000 + i);
    }
}
END_TEST

/* ---- any graph of links
 * ------------------------------------------------------- */

/* Each link, both ways, is up or down. */
static void cut_some_links(struct cluster *c, struct rng *g, unsigned percent)
{
    for (raft_id a = 1; a <= c->n; a++) {
        for (raft_id b = a + 1; b <= c->n; b++) {
            bool cut = rng_below(g, 100) < percent;

            cluster_cut(c, a, b, cut);
            cluster_cut(c, b, a, cut);
        }
    }
}

static bool would_vote_for(const struct cluster *c, raft_id voter, raft_id id)
{
    const struct raft *a = c->servers[voter - 1].raft;
    const struct raft *b = c->servers[id - 1].raft;
    raft_index last_a = raft_last_index(a), last_b = raft_last_index(b);
    raft_term term_a = raft_entry_at(a, last_a)->term;
    raft_term term_b = raft_entry_at(b, last_b)->term;

    return !c->cut[voter][id] &&
           (term_b > term_a || (term_b == term_a && last_b >= last_a));
}

/* Somebody sees a quorum of servers that have no more than itself. */
static bool somebody_can_win(const struct cluster *c)
{
    for (raft_id id = 1; id <= c->n; id++) {
        size_t votes = 0;

        for (raft_id voter = 1; voter <= c->n; voter++) {
            votes += would_vote_for(c, voter, id);
        }
        if (votes > c->n / 2) {
            return true;
        }
    }
    return false;
}

/* Writes commit while the links stay as they are. */
static void check_that_somebody_leads(struct cluster *c, unsigned graph)
{
    raft_index enough = c->applied_max + 20;
    unsigned n = 0;

    while (c->applied_max < enough) {
        ck_assert_msg(n++ < 300, "no leader in graph %u", graph);
        cluster_tick(c, 1);
        for (raft_id id = 1; id <= c->n; id++) {
            if (raft_is_settled_leader(cluster_at(c, id)->raft)) {
                (void)cluster_propose(c, id, "x", NULL);
            }
        }
    }
}

START_TEST(A13_ends_with_a_leader_if_one_can_win)
{
    unsigned n_winnable = 0;
    struct rng g;

    rng_init(&g, 0xa13 + (uint64_t)_i);
    for (unsigned graph = 0; graph < 200; graph++) {
        struct cluster_options o = {.n_voters = _i % 2 == 0 ? 5 : 3,
                                    .seed = rng_next(&g)};
        struct cluster *c = cluster_new(&o);

        for (unsigned past = (unsigned)rng_below(&g, 4); past > 0; past--) {
            raft_id leader = cluster_leader(c);

            cut_some_links(c, &g, 30);
            if (leader != 0) {
                (void)cluster_propose(c, leader, "past", NULL);
            }
            cluster_tick(c, (unsigned)rng_below(&g, 40));
        }
        cut_some_links(c, &g, 20 + (unsigned)rng_below(&g, 50));
        cluster_tick(c, 10); /* a leader that hears no quorum is gone */
        if (somebody_can_win(c)) {
            n_winnable++;
            check_that_somebody_leads(c, graph);
        }
        cluster_free(c);
    }
    ck_assert_uint_gt(n_winnable, 50);
}
END_TEST

/* ---- anything from anybody
 * ---------------------------------------------------- */

/* Small numbers, near to what the server has: so that much of it is taken. */
static struct raft_message invent(struct rng *g, const struct raft *r,
                                  struct raft_entry entries[8])
{
    static const uint8_t data[] = {1, 1, 0, 0, 0, 2, 0, 0, 0,
                                   0, 0, 0, 0, 1, 0, 0, 0, 0};
    raft_term term = raft_term_now(r) + rng_below(g, 3);
    raft_index near = raft_last_index(r) + 2;
    struct raft_message m = {
        .type = (enum raft_message_type)rng_below(g, TYPES_MAX + 1),
        .from = 1 + rng_below(g, 4),
        .to = 1,
        .term = term > 0 ? term - rng_below(g, 2) : 0,
        .log_index = near - rng_below(g, near < 6 ? near + 1 : 6),
        .log_term = term - rng_below(g, term < 3 ? term + 1 : 3),
        .commit = rng_below(g, near + 1),
        .reject_hint = rng_below(g, near + 1),
        .context = rng_below(g, 4),
        .reject = rng_below(g, 2) == 0,
        .force = rng_below(g, 8) == 0,
        .entries = entries,
    };

    if (m.type == RAFT_APPEND_ENTRIES) {
        m.n_entries = rng_below(g, 4);
    }
    for (size_t i = 0; i < m.n_entries; i++) {
        entries[i] = (struct raft_entry){
            .index = m.log_index + 1 + i,
            .term = m.log_term + rng_below(g, 2),
            .type =
                rng_below(g, 6) > 0 ? RAFT_ENTRY_COMMAND : RAFT_ENTRY_CONFIG,
            .size = sizeof(data),
            .data = data,
        };
    }
    return m;
}

/* Whatever a peer says, a server may refuse or believe it, but not stop. */
START_TEST(no_message_stops_a_server)
{
    struct rng g;
    size_t taken = 0, led = 0;

    rng_init(&g, 0xbad + (uint64_t)_i);
    for (unsigned life = 0; life < 50; life++) {
        struct cluster_options o = {.n_voters = 3, .seed = rng_next(&g)};
        struct cluster *c = cluster_new(&o);
        struct raft *r = cluster_at(c, 1)->raft;
        uint64_t batch = 0;

        for (unsigned i = 0; i < 1000; i++) {
            struct raft_entry entries[8];
            struct raft_message m = invent(&g, r, entries);
            struct raft_ready rd;
            raft_index index;

            taken += raft_step(r, &m) == RAFT_OK;
            if (rng_below(&g, 8) == 0) {
                raft_tick(r);
                (void)raft_read(r, i);
                (void)raft_propose(r, "x", 1, &index);
            }
            if (rng_below(&g, 3) == 0 && raft_ready(r, &rd)) {
                batch = rd.batch != 0 ? rd.batch : batch;
                raft_advance(r);
            }
            if (rng_below(&g, 3) == 0) {
                raft_stable(r, batch);
            }
            led += raft_role(r) == RAFT_LEADER;
        }
        cluster_free(c);
    }
    ck_assert_uint_gt(taken, 5000);
    printf("taken=%zu led=%zu\n", taken, led);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("random");
    TCase *t = tcase_create("random");
    tcase_set_timeout(t, 600);
    tcase_add_test(t, O1_to_O7_and_O12_hold_under_random_faults);
    tcase_add_loop_test(t, A13_ends_with_a_leader_if_one_can_win, 0, 4);
    tcase_add_loop_test(t, no_message_stops_a_server, 0, 4);
    suite_add_tcase(suite, t);
    return suite_run(suite);
}
