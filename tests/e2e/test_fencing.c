/*
 * test_fencing.c - locks against real servers: the queue, and the token that
 * protects what the lock is for even when its holder does not know better.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster.h"
#include "program.h"

#define NAME "fencing/lock"
#define LONG_TTL_S 60

static struct cluster *cluster;
static struct client *clients[3]; /* to each member */
static size_t observer;           /* the member that Check is asked of */

/* A connection that is up: what is sent on it leaves at once. */
static void connect_to(size_t i)
{
    struct answer a;

    client_free(clients[i]);
    clients[i] = client_new(cluster_address(cluster, i));
    client_set_timeout(clients[i], PATIENCE_MS);
    a = client_status(clients[i]);
    ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
    answer_release(&a);
}

static void set_up(void)
{
    cluster = cluster_up(&(struct cluster_config){
        .n = 3, .heartbeat_ms = "40", .election_ms = "400"});
    cluster_settle(cluster);
    for (size_t i = 0; i < 3; i++) {
        connect_to(i);
    }
}

static void tear_down(void)
{
    for (size_t i = 0; i < 3; i++) {
        client_free(clients[i]);
    }
    cluster_free(cluster);
}

/* ---- with the assertions that everybody needs ------------------------------
 */

static void assert_ok(const struct answer *a)
{
    ck_assert_msg(a->code == GRPC_OK, "%s: %s", grpc_code_name((int)a->code),
                  a->text);
}

static void assert_failed(struct answer *a, enum status st)
{
    ck_assert_msg(
        a->code == status_code(st) &&
            strncmp(a->text, status_text(st), strlen(status_text(st))) == 0,
        "%s: \"%s\" and not \"%s\"", grpc_code_name((int)a->code), a->text,
        status_text(st));
    answer_release(a);
}

static struct fence acquire(struct client *c, int64_t lease, int64_t ttl_s)
{
    struct answer a = client_acquire(
        c,
        &(struct lock_request){.name = NAME, .lease = lease, .ttl_s = ttl_s});
    struct fence f;

    assert_ok(&a);
    ck_assert(a.acquire->acquired);
    f = fence_of(a.acquire);
    ck_assert_int_gt(f.token, 0);
    answer_release(&a);
    return f;
}

static bool release(struct client *c, const struct fence *f)
{
    struct answer a = client_release(c, f);
    bool released;

    assert_ok(&a);
    released = a.release->released;
    answer_release(&a);
    return released;
}

static void start_waiting(struct call *call, struct client *c, int64_t lease,
                          int64_t ttl_s)
{
    call_acquire(
        call, c,
        &(struct lock_request){.name = NAME, .lease = lease, .ttl_s = ttl_s});
}

/* The call is done and got the lock. */
static struct fence granted(struct call *call)
{
    struct fence f;

    ck_assert_msg(call_wait(call, PATIENCE_MS), "a waiter is never granted");
    assert_ok(&call->answer);
    ck_assert(call->answer.acquire->acquired);
    f = fence_of(call->answer.acquire);
    answer_release(&call->answer);
    return f;
}

/* Wait until that many wait behind the holder. */
static void wait_for_waiters(int64_t n)
{
    uint64_t deadline_ms = clock_ms() + PATIENCE_MS;
    int64_t found;

    do {
        struct answer a = client_check(clients[observer], NAME, 1);

        assert_ok(&a);
        found = a.check->waiters;
        answer_release(&a);
        ck_assert_msg(clock_ms() < deadline_ms,
                      "%" PRId64 " wait and not %" PRId64, found, n);
        short_pause();
    } while (found != n);
}

static bool is_held(const struct fence *f)
{
    struct answer a = client_check(clients[1], NAME, f->token);
    bool held;

    assert_ok(&a);
    held = a.check->held;
    answer_release(&a);
    return held;
}

static void put(struct client *c, const char *value, const struct fence *f)
{
    struct answer a = client_put(c, "guarded", value, 0, f);

    assert_ok(&a);
    answer_release(&a);
}

static void assert_put_refused(struct client *c, const struct fence *f)
{
    struct answer a = client_put(c, "guarded", "refused", 0, f);

    assert_failed(&a, ST_FENCED);
}

static void assert_value(const char *value)
{
    struct answer a = client_get(clients[0], "guarded", 0, false);

    assert_ok(&a);
    ck_assert_uint_eq(a.range->n_kvs, 1);
    ck_assert_uint_eq(a.range->kvs[0]->value.len, strlen(value));
    ck_assert_mem_eq(a.range->kvs[0]->value.data, value, strlen(value));
    answer_release(&a);
}

/* ---- a holder in a process of its own --------------------------------------
 */

/* Acquires and writes under its token until it is refused. */
static void be_a_holder(int report)
{
    struct client *c = client_new(cluster_address(cluster, 0));
    struct fence f = acquire(c, 0, 1);

    (void)dprintf(report, "%" PRId64 "\n", f.token);
    for (;;) {
        struct answer a = client_put(c, "guarded", "by the old holder", 0, &f);

        if (a.code != GRPC_OK) {
            _exit(dprintf(report, "%d %s\n", (int)a.code, a.text) <= 0);
        }
        (void)dprintf(report, "written\n");
        answer_release(&a);
    }
}

static pid_t start_holder(FILE **reports)
{
    int fds[2];
    pid_t pid;

    ck_assert_int_eq(pipe(fds), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(fds[0]);
        be_a_holder(fds[1]);
    }
    close(fds[1]);
    *reports = fdopen(fds[0], "r");
    return pid;
}

static const char *next_report(FILE *reports)
{
    static char line[512];

    ck_assert_msg(fgets(line, sizeof(line), reports) != NULL,
                  "the holder ended without a word");
    line[strcspn(line, "\n")] = '\0';
    return line;
}

START_TEST(I8_paused_holder_cannot_write_after_the_next_one)
{
    FILE *reports;
    pid_t holder = start_holder(&reports);
    int64_t old_token = strtoll(next_report(reports), NULL, 10);
    struct fence f;
    const char *report;
    int status;

    ck_assert_str_eq(next_report(reports), "written");
    ck_assert_str_eq(next_report(reports), "written");
    kill(holder, SIGSTOP);
    ck_assert_int_eq(waitpid(holder, &status, WUNTRACED), holder);
    f = acquire(clients[1], 7, LONG_TTL_S); /* once the lease has ended */
    ck_assert_int_gt(f.token, old_token);
    put(clients[1], "by the new holder", &f);
    kill(holder, SIGCONT);
    do { /* what the pipe and the socket held when it was stopped */
        report = next_report(reports);
    } while (strcmp(report, "written") == 0);
    ck_assert_msg(strncmp(report, "9 ", 2) == 0 &&
                      strstr(report, status_text(ST_FENCED)) != NULL,
                  "the old holder was told: %s", report);
    assert_value("by the new holder");
    ck_assert_int_eq(waitpid(holder, &status, 0), holder);
    fclose(reports);
}
END_TEST

/* I10 too: its key is gone on all members. */
START_TEST(lock_of_a_dead_holder_passes_on_after_its_ttl_and_not_before)
{
    uint64_t start_ms = clock_ms(), waited_ms;
    struct fence dead = acquire(clients[0], 5, 1), f;

    f = acquire(clients[1], 7, LONG_TTL_S);
    waited_ms = clock_ms() - start_ms;
    ck_assert_int_gt(f.token, dead.token);
    printf("the lock of a dead holder passed on after %" PRIu64 " ms, its TTL "
           "was 1 s\n",
           waited_ms);
    ck_assert_uint_ge(waited_ms, 1000);
    ck_assert_uint_le(waited_ms, 6000);
    cluster_settle(cluster);
    for (size_t i = 0; i < 3; i++) {
        struct answer a = client_get(clients[i], dead.key, 0, true);

        assert_ok(&a);
        ck_assert_uint_eq(a.range->n_kvs, 0);
        answer_release(&a);
    }
    assert_put_refused(clients[2], &dead);
}
END_TEST

START_TEST(I9_tokens_rise_over_restarts_and_failovers)
{
    struct random r = random_stream(9);
    int64_t last = 0;

    for (int round = 0; round < 5; round++) {
        size_t leader = cluster_leader(cluster);

        for (int64_t lease = 1; lease <= 3; lease++) { /* the same again */
            struct fence f =
                acquire(clients[(leader + 1) % 3], lease, LONG_TTL_S);

            ck_assert_int_gt(f.token, last);
            last = f.token;
            ck_assert(release(clients[(leader + 2) % 3], &f));
        }
        if (random_below(&r, 2) == 0) {
            cluster_kill(cluster, leader);
            cluster_start(cluster, leader);
        } else {
            for (size_t i = 0; i < 3; i++) {
                cluster_kill(cluster, i);
            }
            for (size_t i = 0; i < 3; i++) {
                cluster_start(cluster, i);
            }
        }
        cluster_settle(cluster);
        for (size_t i = 0; i < 3; i++) {
            connect_to(i);
        }
    }
}
END_TEST

/* ---- retries ---------------------------------------------------------------
 */

START_TEST(I11_repeated_acquire_gives_the_same_grant)
{
    struct fence first = acquire(clients[0], 5, LONG_TTL_S);

    for (size_t i = 0; i < 3; i++) {
        struct fence again = acquire(clients[i], 5, LONG_TTL_S);

        ck_assert_int_eq(again.token, first.token);
        ck_assert_str_eq(again.key, first.key);
    }
    wait_for_waiters(0);
}
END_TEST

START_TEST(I11_waiter_that_calls_again_elsewhere_keeps_its_place)
{
    struct fence holder = acquire(clients[0], 5, LONG_TTL_S), f;
    size_t leader = cluster_leader(cluster);
    size_t dies = (leader + 1) % 3, lives = (leader + 2) % 3;
    struct call first, second, again;

    observer = leader;
    start_waiting(&first, clients[dies], 6, LONG_TTL_S);
    ck_assert(!call_wait(&first, 0));
    wait_for_waiters(1);
    start_waiting(&second, clients[leader], 7, LONG_TTL_S);
    wait_for_waiters(2);
    cluster_kill(cluster, dies);
    ck_assert(call_wait(&first, PATIENCE_MS));
    ck_assert_int_eq(first.answer.code, GRPC_UNAVAILABLE);
    start_waiting(&again, clients[lives], 6, LONG_TTL_S);
    ck_assert(release(clients[leader], &holder));
    f = granted(&again);
    ck_assert(!call_wait(&second, 0));
    ck_assert(release(clients[leader], &f));
    ck_assert_int_gt(granted(&second).token, f.token);
    cluster_start(cluster, dies);
}
END_TEST

START_TEST(I11_both_of_two_equal_calls_get_the_grant)
{
    struct fence holder = acquire(clients[0], 5, LONG_TTL_S);
    struct call one, two;

    start_waiting(&one, clients[1], 6, LONG_TTL_S);
    wait_for_waiters(1);
    start_waiting(&two, clients[2], 6, LONG_TTL_S);
    ck_assert(!call_wait(&two, 0));
    ck_assert(release(clients[0], &holder));
    ck_assert_int_eq(granted(&one).token, granted(&two).token);
    wait_for_waiters(0);
}
END_TEST

/* ---- releases --------------------------------------------------------------
 */

START_TEST(I12_release_with_an_old_token_frees_nobody_s_lock)
{
    struct fence old = acquire(clients[0], 5, LONG_TTL_S), f, mixed;
    struct answer a = client_lease_revoke(clients[1], 5);

    assert_ok(&a);
    answer_release(&a);
    f = acquire(clients[2], 5, LONG_TTL_S); /* even under the same key */
    ck_assert_str_eq(f.key, old.key);
    ck_assert_int_gt(f.token, old.token);
    ck_assert(!release(clients[0], &old));
    mixed = f;
    mixed.token++;
    ck_assert(!release(clients[0], &mixed));
    ck_assert(is_held(&f));
    ck_assert(!is_held(&old));
    ck_assert(release(clients[1], &f));
    ck_assert(!release(clients[1], &f));
    ck_assert(!is_held(&f));
}
END_TEST

/* ---- waiters that do not get it --------------------------------------------
 */

START_TEST(cancelled_waiters_leave_the_queue)
{
    struct fence holder = acquire(clients[0], 5, LONG_TTL_S);
    struct client *lost = client_new(cluster_address(cluster, 1));
    struct answer up = client_status(lost);
    struct call cancelled, disconnected, third;

    assert_ok(&up);
    answer_release(&up);
    start_waiting(&cancelled, clients[1], 6, LONG_TTL_S);
    wait_for_waiters(1);
    start_waiting(&disconnected, lost, 7, LONG_TTL_S);
    wait_for_waiters(2);
    call_cancel(&cancelled);
    ck_assert_int_eq(cancelled.answer.code, GRPC_CANCELLED);
    wait_for_waiters(1);
    client_free(lost);
    wait_for_waiters(0);
    start_waiting(&third, clients[2], 8, LONG_TTL_S);
    wait_for_waiters(1);
    ck_assert(release(clients[0], &holder));
    ck_assert_int_gt(granted(&third).token, holder.token);
}
END_TEST

START_TEST(I7_waiter_whose_lease_is_revoked_is_told_and_gone)
{
    struct fence holder = acquire(clients[0], 5, LONG_TTL_S);
    struct answer a = client_lease_grant(clients[1], 6, LONG_TTL_S);
    struct call call;

    assert_ok(&a);
    answer_release(&a);
    start_waiting(&call, clients[1], 6, 0);
    wait_for_waiters(1);
    a = client_lease_revoke(clients[2], 6);
    assert_ok(&a);
    answer_release(&a);
    ck_assert(call_wait(&call, PATIENCE_MS));
    assert_failed(&call.answer, ST_LOCK_LOST);
    wait_for_waiters(0);
    ck_assert(is_held(&holder));
}
END_TEST

START_TEST(I7_waiter_whose_lease_expires_is_told_and_gone)
{
    struct fence holder = acquire(clients[0], 5, LONG_TTL_S);
    struct answer a = client_lease_grant(clients[1], 6, 1);
    struct call call;

    assert_ok(&a);
    answer_release(&a);
    start_waiting(&call, clients[1], 6, 0); /* its own lease: not renewed */
    ck_assert(call_wait(&call, PATIENCE_MS));
    assert_failed(&call.answer, ST_LOCK_LOST);
    wait_for_waiters(0);
    ck_assert(release(clients[0], &holder));
}
END_TEST

START_TEST(acquire_with_an_unknown_lease_is_refused)
{
    struct answer a = client_acquire(
        clients[0], &(struct lock_request){.name = NAME, .lease = 99});

    assert_failed(&a, ST_LEASE_NOT_FOUND);
}
END_TEST

START_TEST(wait_ms_ends_the_wait_and_not_before)
{
    struct fence holder = acquire(clients[0], 5, LONG_TTL_S);
    struct lock_request rq = {
        .name = NAME, .lease = 6, .ttl_s = LONG_TTL_S, .wait_ms = 300};
    uint64_t start_ms = clock_ms();
    struct answer a = client_acquire(clients[1], &rq);

    assert_failed(&a, ST_LOCK_WAIT_TIMEOUT);
    ck_assert_uint_ge(clock_ms() - start_ms, 300);
    wait_for_waiters(0);
    ck_assert(is_held(&holder));
}
END_TEST

START_TEST(try_answers_at_once)
{
    struct fence holder = acquire(clients[0], 5, LONG_TTL_S);
    struct lock_request rq = {
        .name = NAME, .lease = 6, .ttl_s = LONG_TTL_S, .try = true};
    struct answer a = client_acquire(clients[1], &rq);

    assert_ok(&a);
    ck_assert(!a.acquire->acquired);
    ck_assert_int_eq(a.acquire->holder_token, holder.token);
    answer_release(&a);
    wait_for_waiters(0);
    ck_assert(release(clients[0], &holder));
    a = client_acquire(clients[2], &rq);
    assert_ok(&a);
    ck_assert(a.acquire->acquired);
    ck_assert_int_gt(a.acquire->token, holder.token);
    answer_release(&a);
}
END_TEST

/* The lease of such a call is the server's to keep alive while it waits. */
START_TEST(wait_may_be_longer_than_the_ttl)
{
    struct fence holder = acquire(clients[0], 5, LONG_TTL_S), f;
    struct call call;

    start_waiting(&call, clients[1], 0, 1);
    ck_assert(!call_wait(&call, 3000));
    wait_for_waiters(1);
    ck_assert(release(clients[0], &holder));
    f = granted(&call);
    put(clients[2], "after a long wait", &f);
}
END_TEST

/* ---- guarded writes --------------------------------------------------------
 */

START_TEST(only_the_holder_s_key_and_token_open_the_guard)
{
    struct fence holder = acquire(clients[0], 5, LONG_TTL_S), wrong;
    struct call waiter;
    struct answer a;

    put(clients[1], "by the holder", &holder);
    wrong = holder;
    wrong.token--;
    assert_put_refused(clients[0], &wrong);
    wrong.token += 2;
    assert_put_refused(clients[1], &wrong);
    wrong = holder;
    snprintf(wrong.key, sizeof(wrong.key), "no/such/lock");
    assert_put_refused(clients[2], &wrong);
    a = client_delete(clients[2], "guarded", &wrong);
    assert_failed(&a, ST_FENCED);
    start_waiting(&waiter, clients[1], 6, LONG_TTL_S);
    wait_for_waiters(1);
    snprintf(wrong.key, sizeof(wrong.key), NAME "/6");
    a = client_get(clients[1], wrong.key, 0, false);
    assert_ok(&a);
    ck_assert_uint_eq(a.range->n_kvs, 1);
    wrong.token = a.range->kvs[0]->create_revision;
    answer_release(&a);
    assert_put_refused(clients[1], &wrong); /* it waits, it does not hold */
    ck_assert(release(clients[0], &holder));
    ck_assert_int_eq(granted(&waiter).token, wrong.token);
    assert_put_refused(clients[0], &holder);
    assert_value("by the holder");
    put(clients[1], "by the next", &wrong);
    a = client_delete(clients[2], "guarded", &wrong);
    assert_ok(&a);
    ck_assert_int_eq(a.deleted->deleted, 1);
    answer_release(&a);
}
END_TEST

START_TEST(half_a_fence_is_refused)
{
    Etcdserverpb__PutRequest rq = ETCDSERVERPB__PUT_REQUEST__INIT;
    struct rpc_metadata halves[] = {
        {"pawl-fence-key-bin", {(const uint8_t *)"k", 1}},
        {"pawl-fence-token", {(const uint8_t *)"12", 2}},
    };

    rq.key = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "k"};
    for (size_t i = 0; i < 2; i++) {
        struct call call;

        call_start(&call, clients[0], "/etcdserverpb.KV/Put", &rq.base,
                   &etcdserverpb__put_response__descriptor, &halves[i], 1);
        ck_assert(call_wait(&call, PATIENCE_MS));
        assert_failed(&call.answer, ST_BAD_FENCE);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fencing");
    TCase *tc = tcase_create("fencing");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, I8_paused_holder_cannot_write_after_the_next_one);
    tcase_add_test(
        tc, lock_of_a_dead_holder_passes_on_after_its_ttl_and_not_before);
    tcase_add_test(tc, I9_tokens_rise_over_restarts_and_failovers);
    tcase_add_test(tc, I11_repeated_acquire_gives_the_same_grant);
    tcase_add_test(tc, I11_waiter_that_calls_again_elsewhere_keeps_its_place);
    tcase_add_test(tc, I11_both_of_two_equal_calls_get_the_grant);
    tcase_add_test(tc, I12_release_with_an_old_token_frees_nobody_s_lock);
    tcase_add_test(tc, cancelled_waiters_leave_the_queue);
    tcase_add_test(tc, I7_waiter_whose_lease_is_revoked_is_told_and_gone);
    tcase_add_test(tc, I7_waiter_whose_lease_expires_is_told_and_gone);
    tcase_add_test(tc, acquire_with_an_unknown_lease_is_refused);
    tcase_add_test(tc, wait_ms_ends_the_wait_and_not_before);
    tcase_add_test(tc, try_answers_at_once);
    tcase_add_test(tc, wait_may_be_longer_than_the_ttl);
    tcase_add_test(tc, only_the_holder_s_key_and_token_open_the_guard);
    tcase_add_test(tc, half_a_fence_is_refused);
    suite_add_tcase(s, tc);
    return program_run(s);
}
