/*
 * test_ctl.c - commands against a server that does what it is told: output,
 * exit codes, and a command that runs while a lock is held.
 */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/ctl.h"
#include "fake.h"
#include "tests/suite.h"

static struct fake fake;
static char *out, *err;
static size_t out_size, err_size;

static void setup(void)
{
    fake_start(&fake);
    setenv("PAWLCTL_ENDPOINTS", fake.address, 1);
    out = err = NULL;
}

static void teardown(void)
{
    fake_stop(&fake);
    free(out);
    free(err);
}

/* Runs pawlctl with these words; out and err get what it says. */
static int run(char **argv)
{
    struct ctl ctl = {0};
    int argc = 0, code;

    free(out);
    free(err);
    ctl.out = open_memstream(&out, &out_size);
    ctl.err = open_memstream(&err, &err_size);
    while (argv[argc] != NULL) {
        argc++;
    }
    code = ctl_main(&ctl, argc, argv);
    fclose(ctl.out);
    fclose(ctl.err);
    return code;
}

#define RUN(...) run((char *[]){(char[]){"pawlctl"}, __VA_ARGS__, NULL})
#define W(word) ((char[]){word})

START_TEST(put_get_del)
{
    ck_assert_int_eq(RUN(W("put"), W("k"), W("v")), CTL_OK);
    ck_assert_str_eq(out, "OK\n");
    ck_assert_int_eq(RUN(W("get"), W("k")), CTL_OK);
    ck_assert_str_eq(out, "k\nv\n");
    ck_assert_int_eq(RUN(W("del"), W("k")), CTL_OK);
    ck_assert_str_eq(out, "1\n");
    ck_assert_int_eq(RUN(W("get"), W("k")), CTL_OK);
    ck_assert_str_eq(out, "");
    ck_assert_str_eq(err, "");
}
END_TEST

START_TEST(fence_comes_from_flags_or_when_asked_from_the_environment)
{
    setenv("PAWL_LOCK_KEY", "env/1", 1);
    setenv("PAWL_FENCING_TOKEN", "9", 1);
    ck_assert_int_eq(RUN(W("put"), W("k"), W("v")), CTL_OK);
    ck_assert_str_eq(fake.fence_key, ""); /* not by itself */
    ck_assert_int_eq(RUN(W("put"), W("k"), W("v"), W("--fenced")), CTL_OK);
    ck_assert_str_eq(fake.fence_key, "env/1");
    ck_assert_str_eq(fake.fence_token, "9");
    ck_assert_int_eq(RUN(W("put"), W("k"), W("v"), W("--fence-key=f/1"),
                         W("--fence-token=17")),
                     CTL_OK);
    ck_assert_str_eq(fake.fence_key, "f/1");
    ck_assert_str_eq(fake.fence_token, "17");
    ck_assert_int_eq(RUN(W("del"), W("k"), W("--fenced")), CTL_OK);
    ck_assert_str_eq(fake.fence_key, "env/1");
}
END_TEST

static const struct {
    enum grpc_code code;
    const char *text;
    int exit;
} refusals[] = {
    {GRPC_INVALID_ARGUMENT, "etcdserver: key is not provided", CTL_FAILED},
    {GRPC_NOT_FOUND, "etcdserver: requested lease not found", CTL_NOT_FOUND},
    {GRPC_FAILED_PRECONDITION,
     "pawl: fencing token is not the holder's: write refused", CTL_FENCED},
    {GRPC_UNAVAILABLE, "etcdserver: request timed out", CTL_MAYBE_APPLIED},
    {GRPC_UNIMPLEMENTED, "unknown service", CTL_FAILED},
};

START_TEST(refusal_has_its_exit_code_and_says_why)
{
    fake_plan(&fake, FAKE_PUT, FAKE_FAIL, refusals[_i].code, refusals[_i].text);
    ck_assert_int_eq(RUN(W("put"), W("k"), W("v")), refusals[_i].exit);
    ck_assert_ptr_nonnull(strstr(err, refusals[_i].text));
    ck_assert_int_eq(strncmp(err, "Error: ", 7), 0);
    ck_assert_str_eq(out, "");
}
END_TEST

START_TEST(nobody_there_is_unavailable)
{
    char dead[32];
    int fd;

    dead_address(dead, &fd);
    setenv("PAWLCTL_ENDPOINTS", dead, 1);
    ck_assert_int_eq(RUN(W("get"), W("k"), W("--command-timeout=50ms")),
                     CTL_UNAVAILABLE);
    ck_assert_int_eq(
        RUN(W("endpoint"), W("health"), W("--command-timeout=50ms")),
        CTL_UNAVAILABLE);
    ck_assert_int_eq(
        RUN(W("endpoint"), W("status"), W("--command-timeout=50ms")),
        CTL_UNAVAILABLE);
    close(fd);
}
END_TEST

START_TEST(lease_that_has_ended_is_not_found)
{
    ck_assert_int_eq(RUN(W("lease"), W("keep-alive"), W("7"), W("--once")),
                     CTL_OK);
    fake_set_ttl(&fake, 0);
    ck_assert_int_eq(RUN(W("lease"), W("keep-alive"), W("7")), CTL_NOT_FOUND);
}
END_TEST

START_TEST(lock_check_tells_by_its_exit_code)
{
    ck_assert_int_eq(RUN(W("lock-check"), W("n")), CTL_OK);
    ck_assert_str_eq(out, "n/1\n17\n");
    ck_assert_int_eq(RUN(W("lock-check"), W("n"), W("17")), CTL_OK);
    ck_assert_int_eq(RUN(W("lock-check"), W("n"), W("16")), CTL_FENCED);
    ck_assert_int_eq(RUN(W("unlock"), W("n/1"), W("17")), CTL_OK);
    ck_assert_int_eq(RUN(W("unlock"), W("n/1"), W("16")), CTL_NOT_FOUND);
}
END_TEST

START_TEST(lock_of_another_is_not_acquired)
{
    fake.held_by_other = true;
    ck_assert_int_eq(RUN(W("lock"), W("n"), W("--try"), W("--"), W("false")),
                     CTL_NOT_ACQUIRED);
}
END_TEST

/* ---- lock with a command ------------------------------------------------- */

START_TEST(command_runs_under_the_lock_and_gives_the_exit_code)
{
    ck_assert_int_eq(RUN(W("lock"), W("n"), W("--"), W("sh"), W("-c"),
                         W("test $PAWL_FENCING_TOKEN = 17 && "
                           "test ${PAWL_LOCK_KEY%/*} = n && exit 42")),
                     42);
    ck_assert_str_eq(err, "");
    ck_assert_uint_eq(fake_calls(&fake, FAKE_RELEASE), 1);
    ck_assert_int_eq(fake.revoked, fake.leases[0]);
}
END_TEST

START_TEST(command_killed_by_a_signal_gives_128_and_its_number)
{
    ck_assert_int_eq(
        RUN(W("lock"), W("n"), W("--"), W("sh"), W("-c"), W("kill -9 $$")),
        128 + 9);
    ck_assert_uint_eq(fake_calls(&fake, FAKE_RELEASE), 1);
}
END_TEST

START_TEST(command_that_cannot_be_run_gives_127_or_126)
{
    ck_assert_int_eq(RUN(W("lock"), W("n"), W("--"), W("/nowhere/x")), 127);
    ck_assert_int_eq(RUN(W("lock"), W("n"), W("--"), W("/etc/passwd")), 126);
    ck_assert_uint_eq(fake_calls(&fake, FAKE_RELEASE), 2);
}
END_TEST

START_TEST(command_is_told_when_the_lease_is_gone)
{
    fake_set_ttl(&fake, 0);
    ck_assert_int_eq(RUN(W("lock"), W("n"), W("--"), W("sh"), W("-c"),
                         W("exec tail -f /dev/null")),
                     CTL_LOST);
    ck_assert_ptr_nonnull(strstr(err, "lost"));
}
END_TEST

/*
 * pawlctl in a process of its own, to send signals to. It is this program
 * again: a process forked from one with threads may do little more than exec.
 */
static pid_t start(char **argv, int *read_fd)
{
    int fds[2];
    pid_t pid;

    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        dup2(fds[1], STDERR_FILENO);
        execv("/proc/self/exe", argv);
        _exit(99);
    }
    close(fds[1]);
    *read_fd = fds[0];
    return pid;
}

#define START(fd, ...)                                                         \
    start((char *[]){(char[]){"pawlctl"}, __VA_ARGS__, NULL}, fd)

static void await_output(int fd)
{
    char c;

    ck_assert_int_eq(read(fd, &c, 1), 1);
}

static int exit_code(pid_t pid)
{
    int status;

    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(held_lock_is_given_back_on_interrupt)
{
    int fd;
    pid_t pid = START(&fd, W("lock"), W("n"));

    await_output(fd);
    kill(pid, SIGINT);
    ck_assert_int_eq(exit_code(pid), CTL_OK);
    ck_assert_uint_eq(fake_calls(&fake, FAKE_RELEASE), 1);
    ck_assert_int_eq(fake.revoked, fake.leases[0]);
    close(fd);
}
END_TEST

START_TEST(held_lock_that_is_lost_says_so)
{
    int fd;
    pid_t pid;

    fake_set_ttl(&fake, 0);
    pid = START(&fd, W("lock"), W("n"));
    ck_assert_int_eq(exit_code(pid), CTL_LOST);
    close(fd);
}
END_TEST

START_TEST(signal_is_passed_on_to_the_command)
{
    int fd;
    pid_t pid = START(
        &fd, W("lock"), W("n"), W("--"), W("sh"), W("-c"),
        W("trap 'exit 33' TERM; tail -f /dev/null >&2 & echo ready; wait"));

    await_output(fd);
    kill(pid, SIGTERM);
    ck_assert_int_eq(exit_code(pid), 33);
    ck_assert_uint_eq(fake_calls(&fake, FAKE_RELEASE), 1);
    close(fd);
}
END_TEST

START_TEST(command_that_does_not_listen_is_killed_with_its_children)
{
    int fd;
    pid_t ctl;
    char c;

    fake_set_ttl(&fake, 1); /* so that it renews soon again */
    ctl =
        START(&fd, W("lock"), W("n"), W("--ttl=1s"), W("--"), W("sh"), W("-c"),
              W("trap '' TERM; tail -f /dev/null & echo; wait; wait"));
    await_output(fd);
    fake_set_ttl(&fake, 0);
    ck_assert_int_eq(exit_code(ctl), CTL_LOST);
    while (read(fd, &c, 1) > 0) { /* the end comes when no child has it open */
    }
    close(fd);
}
END_TEST

START_TEST(command_is_told_while_the_lock_still_holds)
{
    char said[300] = "";
    int fd;
    pid_t ctl;
    FILE *f;

    fake_set_ttl(&fake, 3);
    for (int i = 0; i < FAKE_STEPS; i++) {
        fake_plan(&fake, FAKE_RENEW, i == 0 ? FAKE_ANSWER : FAKE_SILENT,
                  GRPC_OK, NULL);
    }
    ctl =
        START(&fd, W("lock"), W("n"), W("--ttl=3s"), W("--"), W("sh"), W("-c"),
              W("trap 'echo told; exit' TERM; tail -f /dev/null >&2 & wait"));
    f = fdopen(fd, "r");
    ck_assert_ptr_nonnull(fgets(said, sizeof(said), f));
    ck_assert_msg(strstr(said, "about to be lost") != NULL, "%s", said);
    ck_assert_ptr_nonnull(fgets(said, sizeof(said), f));
    ck_assert_str_eq(said, "told\n");
    ck_assert_int_eq(exit_code(ctl), CTL_LOST);
    ck_assert_uint_eq(fake_calls(&fake, FAKE_RELEASE), 1);
    fclose(f);
}
END_TEST

static int run_tests(void)
{
    Suite *s = suite_create("ctl");
    TCase *t = tcase_create("commands");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 20);
    tcase_add_test(t, put_get_del);
    tcase_add_test(t,
                   fence_comes_from_flags_or_when_asked_from_the_environment);
    tcase_add_loop_test(t, refusal_has_its_exit_code_and_says_why, 0,
                        ARRAY_LENGTH(refusals));
    tcase_add_test(t, nobody_there_is_unavailable);
    tcase_add_test(t, lease_that_has_ended_is_not_found);
    tcase_add_test(t, lock_check_tells_by_its_exit_code);
    tcase_add_test(t, lock_of_another_is_not_acquired);
    tcase_add_test(t, command_runs_under_the_lock_and_gives_the_exit_code);
    tcase_add_test(t, command_killed_by_a_signal_gives_128_and_its_number);
    tcase_add_test(t, command_that_cannot_be_run_gives_127_or_126);
    tcase_add_test(t, command_is_told_when_the_lease_is_gone);
    tcase_add_test(t, command_that_does_not_listen_is_killed_with_its_children);
    tcase_add_test(t, held_lock_is_given_back_on_interrupt);
    tcase_add_test(t, held_lock_that_is_lost_says_so);
    tcase_add_test(t, signal_is_passed_on_to_the_command);
    tcase_add_test(t, command_is_told_while_the_lock_still_holds);
    suite_add_tcase(s, t);
    return suite_main(s);
}

int main(int argc, char **argv)
{
    struct ctl ctl = {.out = stdout, .err = stderr};

    if (strcmp(argv[0], "pawlctl") == 0) {
        return ctl_main(&ctl, argc, argv); /* see start() */
    }
    return run_tests();
}
