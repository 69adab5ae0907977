/*
 * test_snapshot.c - a member that lags behind the log gets a snapshot, while
 * the others go on; and whoever dies meanwhile, nothing is lost or mixed.
 */
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cluster.h"
#include "program.h"
#include "writers.h"

#define VALUE_BYTES ((size_t)16 << 10)
#define KEYS 600

static const char heartbeat_ms[] = "30", election_ms[] = "300";

/* About 10 MB take so long at the slow rate that somebody can die meanwhile. */
static const char *const fast[] = {"--snapshot-catchup-entries", "100",
                                   "--log-level", "debug", NULL};
static const char *const slow[] = {
    "--snapshot-catchup-entries",  "100",     "--log-level", "debug",
    "--snapshot-bytes-per-second", "4000000", NULL};

static struct cluster *up(const char *const *flags)
{
    struct cluster *c = cluster_new(&(struct cluster_config){
        .n = 3, .heartbeat_ms = heartbeat_ms, .election_ms = election_ms});

    for (size_t i = 0; i < 3; i++) {
        cluster_start_with(c, i, flags);
    }
    (void)cluster_leader(c);
    return c;
}

/* Newest place of text in the member's log, or NULL. From malloc: the rest of
 * the log from there on. */
static char *last_in_log(struct cluster *c, size_t i, const char *text)
{
    FILE *f = fopen(cluster_log(c, i), "re");
    char line[1024], *found = NULL;

    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof(line), f) != NULL) {
        if (strstr(line, text) != NULL) {
            free(found);
            found = mem_strdup(strstr(line, text));
        }
    }
    ck_assert_int_eq(fclose(f), 0);
    return found;
}

static size_t count_in_log(struct cluster *c, size_t i, const char *text)
{
    FILE *f = fopen(cluster_log(c, i), "re");
    char line[1024];
    size_t n = 0;

    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof(line), f) != NULL) {
        n += strstr(line, text) != NULL;
    }
    ck_assert_int_eq(fclose(f), 0);
    return n;
}

static void wait_for_log(struct cluster *c, size_t i, const char *text,
                         size_t times)
{
    uint64_t deadline_ms = clock_ms() + 2 * PATIENCE_MS;

    while (count_in_log(c, i, text) < times) {
        ck_assert_msg(clock_ms() < deadline_ms, "member %zu never said: %s", i,
                      text);
        short_pause();
    }
}

/* Returns the longest that one took. */
static uint64_t put_many(struct client *c, size_t first, size_t n)
{
    char *value = mem_alloc(VALUE_BYTES + 1, 1);
    uint64_t longest_ms = 0;

    for (size_t i = first; i < first + n; i++) {
        uint64_t start_ms = clock_ms();
        struct answer a;
        char key[32];

        snprintf(key, sizeof(key), "big/%05zu", i % KEYS);
        memset(value, 'a' + (char)(i % 26), VALUE_BYTES);
        a = client_put(c, key, value, 0, NULL);
        ck_assert_msg(a.code == GRPC_OK, "put: %s", a.text);
        answer_release(&a);
        longest_ms = clock_ms() - start_ms > longest_ms ? clock_ms() - start_ms
                                                        : longest_ms;
    }
    free(value);
    return longest_ms;
}

/* All that a member holds, as one number. */
static uint64_t content_of(struct cluster *c, size_t i)
{
    struct client *client = client_new(cluster_address(c, i));
    uint64_t hash = 14695981039346656037u;

    for (size_t k = 0; k < KEYS; k++) {
        char key[32];
        struct answer a;

        snprintf(key, sizeof(key), "big/%05zu", k);
        a = client_get(client, key, 0, true);
        ck_assert_int_eq(a.code, GRPC_OK);
        for (size_t j = 0; j < a.range->n_kvs; j++) {
            const Mvccpb__KeyValue *kv = a.range->kvs[j];

            for (size_t b = 0; b < kv->value.len; b++) {
                hash = (hash ^ kv->value.data[b]) * 1099511628211u;
            }
            hash = (hash ^ (uint64_t)kv->mod_revision) * 1099511628211u;
            hash = (hash ^ (uint64_t)kv->version) * 1099511628211u;
        }
        answer_release(&a);
    }
    client_free(client);
    return hash;
}

static void verify(struct cluster *c)
{
    uint64_t content;

    cluster_settle(c);
    content = content_of(c, 0);
    for (size_t i = 1; i < cluster_size(c); i++) {
        ck_assert_uint_eq(content_of(c, i), content);
    }
}

/* A follower is stopped, and what it lacks is cut from the leader's log. */
static size_t leave_behind(struct cluster *c)
{
    size_t leader = cluster_leader(c), follower = (leader + 1) % 3;
    struct client *client = client_new(cluster_address(c, leader));

    put_many(client, 0, KEYS); /* so the snapshot is not a small one */
    cluster_kill(c, follower);
    put_many(client, 0, KEYS);
    wait_for_log(c, leader, "cut the log at entry", 1);
    client_free(client);
    return follower;
}

START_TEST(D8_a_member_behind_the_log_gets_a_snapshot_and_writes_go_on)
{
    struct cluster *c = up(slow);
    size_t follower = leave_behind(c), leader = cluster_leader(c);
    struct client *client = client_new(cluster_address(c, leader));
    struct member_status before, after;
    uint64_t longest_ms = 0;
    size_t n = KEYS;

    ck_assert(cluster_status(c, leader, &before));
    cluster_start_with(c, follower, slow);
    while (count_in_log(c, follower, "installed a snapshot") == 0) {
        uint64_t ms = put_many(client, n, 20);

        n += 20;
        longest_ms = ms > longest_ms ? ms : longest_ms;
        ck_assert_uint_lt(n, 100000);
    }
    ck_assert(cluster_status(c, leader, &after));
    ck_assert_uint_eq(after.term, before.term); /* no election */
    ck_assert_uint_gt(n, KEYS + 100);           /* they did go on */
    printf("%zu writes during a snapshot, the longest took %" PRIu64 " ms\n",
           n - KEYS, longest_ms);
    ck_assert_uint_lt(longest_ms, 1000);
    verify(c);
    /* And what it installed is there after a restart. */
    cluster_kill(c, follower);
    cluster_start_with(c, follower, slow);
    verify(c);
    client_free(client);
    cluster_free(c);
}
END_TEST

START_TEST(D8_a_receiver_killed_meanwhile_goes_on_where_it_was)
{
    struct cluster *c = up(slow);
    size_t follower = leave_behind(c);
    char path[512], *said; /* 20 MB, by now */
    FILE *f;
    long size = 0;

    cluster_start_with(c, follower, slow);
    snprintf(path, sizeof(path), "%s/snapshot/incoming.db",
             cluster_data_dir(c, follower));
    wait_for_log(c, follower, "receiving a snapshot", 1);
    while (size < 9 << 20) { /* more than is taken to be not yet synced */
        f = fopen(path, "re");
        if (f != NULL) {
            ck_assert_int_eq(fseek(f, 0, SEEK_END), 0);
            size = ftell(f);
            ck_assert_int_eq(fclose(f), 0);
        }
        short_pause();
    }
    cluster_kill(c, follower);
    cluster_start_with(c, follower, slow);
    wait_for_log(c, follower, "receiving a snapshot", 2);
    said = last_in_log(c, follower, "from byte ");
    ck_assert_int_gt(atol(said + strlen("from byte ")), 0);
    free(said);
    verify(c);
    ck_assert_uint_ge(count_in_log(c, follower, "installed a snapshot"), 1);
    cluster_free(c);
}
END_TEST

START_TEST(D8_a_leader_killed_meanwhile_is_followed_by_another)
{
    struct cluster *c = up(slow);
    size_t follower = leave_behind(c), leader = cluster_leader(c);

    cluster_start_with(c, follower, slow);
    wait_for_log(c, follower, "receiving a snapshot", 1);
    cluster_kill(c, leader);
    wait_for_log(c, follower, "installed a snapshot", 1);
    cluster_start_with(c, leader, slow);
    verify(c);
    cluster_free(c);
}
END_TEST

/* At whatever moment it dies, it starts again, and ends with what all have. */
START_TEST(D4_D7_D9_a_receiver_killed_at_any_moment_has_the_old_or_the_new)
{
    struct cluster *c = up(fast);
    struct random random = random_stream((uint64_t)_i);
    size_t follower = leave_behind(c);

    for (unsigned i = 0; i < 10; i++) {
        struct timespec moment = {.tv_nsec = (long)random_below(&random, 600) *
                                             1000000};

        cluster_start_with(c, follower, fast);
        nanosleep(&moment, NULL); /* the moment is the input here */
        cluster_kill(c, follower);
        if (count_in_log(c, follower, "installed a snapshot") > 0) {
            struct client *client =
                client_new(cluster_address(c, cluster_leader(c)));

            put_many(client, i, 500); /* and behind again */
            client_free(client);
        }
    }
    cluster_start_with(c, follower, fast);
    verify(c);
    printf("installed %zu times\n",
           count_in_log(c, follower, "installed a snapshot"));
    cluster_free(c);
}
END_TEST

static void change_state_db(struct cluster *c, size_t i, const char *sql)
{
    char path[512];
    sqlite3 *db;

    snprintf(path, sizeof(path), "%s/state.db", cluster_data_dir(c, i));
    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    ck_assert_msg(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, "%s",
                  sqlite3_errmsg(db));
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

__attribute__((format(printf, 1, 0))) static void shell(const char *format,
                                                        const char *directory)
{
    char command[1024];

    snprintf(command, sizeof(command), format, directory);
    ck_assert_int_eq(system(command), 0);
}

/*
 * state.db is ahead of raft.db: legal if it is a snapshot that was renamed
 * right before the power went, and then the log begins behind it; else raft.db
 * is from another day, and the member does not vote as if it had it all.
 */
START_TEST(D2_D7_a_state_ahead_of_its_log_is_a_snapshot_or_repaired)
{
    struct cluster *c = up(fast);
    size_t follower = (cluster_leader(c) + 1) % 3;
    const char *directory = cluster_data_dir(c, follower);
    struct client *client;

    ck_assert_int_eq(cluster_stop(c, follower), 0);
    shell("cd %s && cp raft.db old && cp raft.db-wal old-wal", directory);
    client = client_new(cluster_address(c, cluster_leader(c)));
    put_many(client, 0, KEYS);
    client_free(client);
    cluster_start_with(c, follower, fast);
    cluster_settle(c);
    ck_assert_int_eq(cluster_stop(c, follower), 0);
    shell("cd %s && cp old raft.db && cp old-wal raft.db-wal", directory);
    change_state_db(
        c, follower,
        "UPDATE raft SET installed_index = (SELECT applied_index FROM state)");
    cluster_start_with(c, follower, fast);
    verify(c);
    client = client_new(cluster_address(c, cluster_leader(c)));
    put_many(client, 7, 20);
    client_free(client);
    verify(c);
    cluster_kill(c, follower); /* and the log that it began is sound */
    cluster_start_with(c, follower, fast);
    verify(c);
    ck_assert(!cluster_log_has(c, follower, "no vote from here"));
    ck_assert_int_eq(cluster_stop(c, follower), 0);
    shell("cd %s && mv old raft.db && mv old-wal raft.db-wal", directory);
    cluster_start_with(c, follower, fast);
    verify(c);
    ck_assert(cluster_log_has(c, follower, "no vote from here"));
    cluster_free(c);
}
END_TEST

/* Everything at once: many writers, members that come and go. */
START_TEST(D6_writers_and_snapshots_without_pause_lose_nothing)
{
    struct run r = {0};
    struct writers *w;

    r.cluster = up(fast);
    w = writers_new(&r, 4, 1);
    for (size_t round = 0; round < 4; round++) {
        size_t follower = (cluster_leader(r.cluster) + 1) % 3;
        uint64_t start;

        writers_start(w);
        cluster_kill(r.cluster, follower);
        start = atomic_load(&r.acknowledged);
        while (atomic_load(&r.acknowledged) < start + 2000) {
            short_pause();
        }
        cluster_start_with(r.cluster, follower, fast);
        wait_for_log(r.cluster, follower, "installed a snapshot", 1);
        writers_stop(w);
        cluster_settle(r.cluster);
        writers_verify(w);
        run_assert_clean(&r);
    }
    writers_report(w);
    writers_free(w);
    cluster_free(r.cluster);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("snapshot");
    TCase *tc = tcase_create("snapshot");

    tcase_set_timeout(tc, 120);
    tcase_add_test(tc,
                   D8_a_member_behind_the_log_gets_a_snapshot_and_writes_go_on);
    tcase_add_test(tc, D8_a_receiver_killed_meanwhile_goes_on_where_it_was);
    tcase_add_test(tc, D8_a_leader_killed_meanwhile_is_followed_by_another);
    tcase_add_loop_test(
        tc, D4_D7_D9_a_receiver_killed_at_any_moment_has_the_old_or_the_new, 0,
        3);
    tcase_add_test(tc,
                   D2_D7_a_state_ahead_of_its_log_is_a_snapshot_or_repaired);
    tcase_add_test(tc, D6_writers_and_snapshots_without_pause_lose_nothing);
    suite_add_tcase(s, tc);
    return program_run(s);
}
