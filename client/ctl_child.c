/*
 * ctl_child.c - a command that runs while a lock is held, and the signals of
 * that time.
 *
 *   running --- renewals fail until grace_ms are left ---> told (SIGTERM)
 *      |        or the lease is gone                          |
 *      |                                                      | the lease ends
 *      |                                                      v
 *      +--------------- the command ends <---------------- killed (SIGKILL)
 *
 * The command is told while the lock is still held, so that it can be gone by
 * the time that another may hold it. It may yet fail to: fence its writes.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/ctl.h"

#define GRACE_MAX_MS 2000
#define GRACE_PART 5 /* of the TTL */

enum stage { RUNNING, TOLD, KILLED };

struct child {
    struct ctl *ctl;
    struct pawl_keeper *keeper;
    pid_t pid;   /* and process group */
    int signals; /* signalfd */
    uint64_t grace_ms;
    uint64_t told_ms; /* of now_ms() */
    enum stage stage;
    bool has_terminal; /* it is the foreground group of our terminal */
    bool ended;
    int code;
};

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void taken_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGCHLD);
}

void ctl_child_block(void)
{
    sigset_t set;

    taken_signals(&set);
    sigaddset(&set, SIGTTOU); /* we give the terminal away and take it back */
    sigprocmask(SIG_BLOCK, &set, NULL);
}

static int open_signals(void)
{
    sigset_t set;
    int fd;

    taken_signals(&set);
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        abort(); /* no descriptors, no memory */
    }
    return fd;
}

/* ---- the terminal -------------------------------------------------------- */

/* If we are in the foreground the command is to be, or it could not read. */
static void give_terminal(struct child *c)
{
    if (tcgetpgrp(STDIN_FILENO) == getpgrp()) {
        c->has_terminal = tcsetpgrp(STDIN_FILENO, c->pid) == 0;
    }
}

static void take_terminal(struct child *c)
{
    if (c->has_terminal) {
        (void)tcsetpgrp(STDIN_FILENO, getpgrp()); /* it may be gone */
        c->has_terminal = false;
    }
}

/* ---- start and end ------------------------------------------------------- */

/* In the child. Only what is allowed between fork() and exec(). */
static void exec_command(char **command, pid_t parent)
{
    sigset_t none;
    int code;

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* nobody would renew the lease */
    if (getppid() != parent) {
        _exit(CTL_LOST);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execvp(command[0], command);
    code = errno == ENOENT ? 127 : 126;
    dprintf(STDERR_FILENO, "Error: %s: %s\n", command[0], strerror(errno));
    _exit(code);
}

static void set_environment(const struct pawl_lock_result *lock)
{
    char token[24];

    snprintf(token, sizeof(token), "%" PRId64, lock->token);
    setenv("PAWL_LOCK_KEY", lock->key.data, 1);
    setenv("PAWL_FENCING_TOKEN", token, 1);
}

static bool start(struct child *c, char **command)
{
    pid_t parent = getpid();

    fflush(NULL); /* or the child's copy would be written too */
    c->pid = fork();
    if (c->pid < 0) {
        fprintf(c->ctl->err, "Error: fork: %s\n", strerror(errno));
        c->code = 126;
        return false;
    }
    if (c->pid == 0) {
        exec_command(command, parent);
    }
    setpgid(c->pid, c->pid); /* here too: whoever comes first */
    give_terminal(c);
    return true;
}

static void send_group(const struct child *c, int signal)
{
    kill(-c->pid, signal);
    kill(-c->pid, SIGCONT); /* a stopped one would not notice */
}

/* Ctrl-Z stopped the command: stop as well, so that the shell sees it. */
static void stop_with_it(struct child *c)
{
    bool had = c->has_terminal;

    take_terminal(c);
    kill(getpid(), SIGSTOP);
    if (had) {
        give_terminal(c);
    }
    kill(-c->pid, SIGCONT);
}

static void reap(struct child *c)
{
    int status;

    while (!c->ended && waitpid(c->pid, &status, WNOHANG | WUNTRACED) > 0) {
        if (WIFSTOPPED(status)) {
            if (WSTOPSIG(status) == SIGTSTP) {
                stop_with_it(c);
            }
            continue;
        }
        c->ended = true;
        c->code =
            WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
}

/* ---- while it runs ------------------------------------------------------- */

static void take_signals(struct child *c)
{
    struct signalfd_siginfo info;

    while (read(c->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGCHLD) {
            reap(c);
        } else {
            send_group(c, (int)info.ssi_signo);
        }
    }
}

static void tell(struct child *c, uint64_t left_ms)
{
    char why[PAWL_ERROR_BYTES];

    pawl_keeper_error(c->keeper, why, sizeof(why));
    fprintf(c->ctl->err, "Error: %s: %s; ending the command\n",
            left_ms > 0 ? "the lock is about to be lost" : "the lock is lost",
            why[0] != '\0' ? why : "the lease could not be renewed");
    fflush(c->ctl->err);
    send_group(c, SIGTERM);
    c->told_ms = now_ms();
    c->stage = TOLD;
}

/* Moves the stage on; returns how long to wait for the next look. */
static int watch_lease(struct child *c)
{
    uint64_t left = pawl_keeper_left_ms(c->keeper);
    uint64_t since;

    if (c->stage == RUNNING && left > c->grace_ms) {
        uint64_t wait = left - c->grace_ms;

        return wait < 60000 ? (int)wait : 60000;
    }
    if (c->stage == RUNNING) {
        tell(c, left);
    }
    if (c->stage == KILLED) {
        return -1;
    }
    since = now_ms() - c->told_ms;
    if (since < c->grace_ms) {
        return (int)(c->grace_ms - since);
    }
    send_group(c, SIGKILL);
    c->stage = KILLED;
    return -1;
}

static void attend(struct child *c)
{
    while (!c->ended) {
        int wait = watch_lease(c);
        struct pollfd fds[] = {
            {.fd = c->signals, .events = POLLIN},
            /* looked at once: it stays readable */
            {.fd = c->stage == RUNNING ? pawl_keeper_fd(c->keeper) : -1,
             .events = POLLIN},
        };

        (void)poll(fds, 2, wait); /* whatever it was, look at all */
        take_signals(c);
    }
}

static uint64_t grace_of(const struct pawl_lock_result *lock)
{
    uint64_t part =
        (uint64_t)(lock->ttl_s > 0 ? lock->ttl_s : 1) * 1000 / GRACE_PART;

    return part < GRACE_MAX_MS ? part : GRACE_MAX_MS;
}

int ctl_child_run(struct ctl *ctl, struct pawl_keeper *keeper,
                  const struct pawl_lock_result *lock, char **command,
                  bool *lost)
{
    struct child c = {
        .ctl = ctl,
        .keeper = keeper,
        .signals = open_signals(),
        .grace_ms = grace_of(lock),
    };

    set_environment(lock);
    if (start(&c, command)) {
        attend(&c);
        take_terminal(&c);
    }
    close(c.signals);
    *lost = c.stage != RUNNING;
    return c.code;
}

int ctl_child_hold(struct pawl_keeper *keeper)
{
    int signals = open_signals();
    struct signalfd_siginfo info = {0};

    for (;;) {
        struct pollfd fds[] = {
            {.fd = signals, .events = POLLIN},
            {.fd = pawl_keeper_fd(keeper), .events = POLLIN},
        };

        (void)poll(fds, 2, -1);
        if (read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info) &&
            info.ssi_signo != SIGCHLD) {
            break;
        }
        info.ssi_signo = 0;
        if (pawl_keeper_status(keeper) == PAWL_LOST) {
            break;
        }
    }
    close(signals);
    return (int)info.ssi_signo;
}
