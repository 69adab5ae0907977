/*
 * cluster.c - starts, kills, pauses and asks pawld processes.
 */
#include "cluster.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "program.h"

struct member {
    char *name, *data_dir, *log;
    char *address, *peer_address;
    pid_t pid; /* 0: does not run */
    bool paused;
    atomic_uint starts;
};

struct cluster {
    struct cluster_config config;
    char *dir;
    char *initial; /* --initial-cluster */
    struct member members[CLUSTER_MAX];
};

/* ---- small things ----------------------------------------------------------
 */

void short_pause(void)
{
    struct timespec ts = {.tv_nsec = 2 * 1000 * 1000};

    nanosleep(&ts, NULL);
}

const char *pawld_path(void)
{
    static char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

    ck_assert_int_gt(n, 0);
    path[n] = '\0';
    for (int up = 0; up < 3; up++) { /* build/x/tests/e2e/test_y */
        *strrchr(path, '/') = '\0';
    }
    snprintf(path + strlen(path), sizeof(path) - strlen(path), "/pawld");
    return path;
}

static bool port_is_free(const char *host, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok;

    inet_pton(AF_INET, host, &a.sin_addr);
    ok = bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
    close(fd);
    return ok;
}

/*
 * Below the ports that connections are given, and on a host of 127/8 that
 * hardly anybody else uses: what is free now stays free while a killed server
 * is away.
 */
static char *address_on(const char *host)
{
    int port;

    do {
        port = 20000 + (int)(random_u64() % 10000);
    } while (!port_is_free(host, port));
    return mem_printf("%s:%d", host, port);
}

static char *random_host(void)
{
    uint64_t r = random_u64();

    return mem_printf("127.%u.%u.%u", 1 + (unsigned)(r % 254),
                      (unsigned)(r >> 8) % 256, 1 + (unsigned)(r >> 16) % 254);
}

char *free_address(void)
{
    char *host = random_host();
    char *address = address_on(host);

    free(host);
    return address;
}

/* ---- life ------------------------------------------------------------------
 */

static char *make_dir(void)
{
    const char *tmp = getenv("TMPDIR");
    char *dir = mem_printf("%s/pawl-e2e-XXXXXX", tmp != NULL ? tmp : "/tmp");

    ck_assert_msg(mkdtemp(dir) != NULL, "mkdtemp %s: %s", dir, strerror(errno));
    return dir;
}

struct cluster *cluster_new(const struct cluster_config *config)
{
    struct cluster *c = mem_alloc(1, sizeof(*c));
    char *host = random_host();

    ck_assert_uint_le(config->n, CLUSTER_MAX);
    c->config = *config;
    c->dir = make_dir();
    c->initial = mem_strdup("");
    for (size_t i = 0; i < config->n; i++) {
        struct member *m = &c->members[i];
        char *longer;

        m->name = mem_printf("m%zu", i + 1);
        m->data_dir = mem_printf(
            "%s/%s", config->data_parent != NULL ? config->data_parent : c->dir,
            m->name);
        m->log = mem_printf("%s/%s.log", c->dir, m->name);
        m->address = address_on(host);
        do { /* the two must differ, and from those before */
            free(m->peer_address);
            m->peer_address = address_on(host);
        } while (strcmp(m->address, m->peer_address) == 0 ||
                 strstr(c->initial, m->peer_address) != NULL);
        longer = mem_printf("%s%s%s=http://%s", c->initial, i > 0 ? "," : "",
                            m->name, m->peer_address);
        free(c->initial);
        c->initial = longer;
    }
    free(host);
    program_watch(c->dir);
    return c;
}

struct cluster *cluster_up(const struct cluster_config *config)
{
    struct cluster *c = cluster_new(config);

    for (size_t i = 0; i < config->n; i++) {
        cluster_start(c, i);
    }
    (void)cluster_leader(c); /* waited for */
    return c;
}

static void remove_tree(const char *dir)
{
    const char *argv[] = {"/bin/rm", "-rf", "--", dir, NULL};

    (void)run_program(argv, PATIENCE_MS, NULL, 0); /* else it stays there */
}

void cluster_free(struct cluster *c)
{
    for (size_t i = 0; i < c->config.n; i++) {
        if (c->members[i].pid != 0) {
            cluster_kill(c, i);
        }
    }
    for (size_t i = 0; i < c->config.n; i++) { /* built with a sanitizer */
        ck_assert(!cluster_log_has(c, i, "WARNING: ThreadSanitizer"));
        ck_assert(!cluster_log_has(c, i, "runtime error: "));
    }
    program_unwatch(c->dir);
    remove_tree(c->dir);
    for (size_t i = 0; i < c->config.n; i++) {
        struct member *m = &c->members[i];

        free(m->name);
        free(m->data_dir);
        free(m->log);
        free(m->address);
        free(m->peer_address);
    }
    free(c->dir);
    free(c->initial);
    free(c);
}

/* ---- questions -------------------------------------------------------------
 */

size_t cluster_size(const struct cluster *c)
{
    return c->config.n;
}

const char *cluster_dir(const struct cluster *c)
{
    return c->dir;
}

const char *cluster_address(const struct cluster *c, size_t i)
{
    return c->members[i].address;
}

const char *cluster_peer_address(const struct cluster *c, size_t i)
{
    return c->members[i].peer_address;
}

const char *cluster_data_dir(const struct cluster *c, size_t i)
{
    return c->members[i].data_dir;
}

const char *cluster_log(const struct cluster *c, size_t i)
{
    return c->members[i].log;
}

unsigned cluster_starts(const struct cluster *c, size_t i)
{
    return atomic_load(&c->members[i].starts);
}

pid_t cluster_pid(const struct cluster *c, size_t i)
{
    return c->members[i].pid;
}

bool cluster_is_paused(const struct cluster *c, size_t i)
{
    return c->members[i].paused;
}

bool cluster_log_has(const struct cluster *c, size_t i, const char *text)
{
    FILE *f = fopen(c->members[i].log, "r");
    char line[4096];
    bool found = false;

    while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL) {
        found = strstr(line, text) != NULL;
    }
    if (f != NULL) {
        fclose(f);
    }
    return found;
}

/* ---- processes -------------------------------------------------------------
 */

/* In a child: dies with its parent, says all to fd, has nothing else open. */
static void become(const char *const *argv, int fd, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(126);
    }
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    close_range(3, ~0u, 0);
    execv(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

static pid_t spawn(const char *const *argv, int fd)
{
    pid_t parent = getpid(), pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        become(argv, fd, parent);
    }
    return pid;
}

static char *url_of(const char *address)
{
    return mem_printf("http://%s", address);
}

void cluster_start(struct cluster *c, size_t i)
{
    static const char *const none[] = {NULL};

    cluster_start_with(c, i, none);
}

void cluster_start_with(struct cluster *c, size_t i, const char *const *flags)
{
    struct member *m = &c->members[i];
    char *client = url_of(m->address), *peer = url_of(m->peer_address);
    int fd = open(m->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const char *argv[40] = {
        pawld_path(),
        "--name",
        m->name,
        "--data-dir",
        m->data_dir,
        "--listen-client-urls",
        client,
        "--advertise-client-urls",
        client,
        "--listen-peer-urls",
        peer,
        "--initial-advertise-peer-urls",
        peer,
        "--initial-cluster",
        c->initial,
        "--initial-cluster-token",
        strrchr(c->dir, '/') + 1,
    };
    size_t n = 17;

    if (c->config.heartbeat_ms != NULL) {
        argv[n++] = "--heartbeat-interval";
        argv[n++] = c->config.heartbeat_ms;
        argv[n++] = "--election-timeout";
        argv[n++] = c->config.election_ms;
    }
    for (; *flags != NULL; flags++) {
        ck_assert_uint_lt(n + 1, ARRAY_LENGTH(argv));
        argv[n++] = *flags;
    }
    ck_assert_int_eq(m->pid, 0);
    ck_assert_int_ge(fd, 0);
    atomic_fetch_add(&m->starts, 1);
    m->pid = spawn(argv, fd);
    close(fd);
    free(client);
    free(peer);
}

static int status_of(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* -1: still runs at the end of that time. */
static int wait_exit(pid_t pid, uint64_t timeout_ms)
{
    uint64_t deadline_ms = clock_ms() + timeout_ms;
    int status;

    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (clock_ms() > deadline_ms) {
            return -1;
        }
        short_pause();
    }
    return status_of(status);
}

void cluster_kill(struct cluster *c, size_t i)
{
    struct member *m = &c->members[i];
    int status;

    ck_assert_int_ne(m->pid, 0);
    kill(m->pid, SIGKILL);
    ck_assert_int_eq(waitpid(m->pid, &status, 0), m->pid);
    m->pid = 0;
    m->paused = false;
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                  "%s had ended by itself before it was killed: status %d",
                  m->name, status_of(status));
}

void cluster_pause(struct cluster *c, size_t i)
{
    int status;

    kill(c->members[i].pid, SIGSTOP);
    ck_assert_int_eq(waitpid(c->members[i].pid, &status, WUNTRACED),
                     c->members[i].pid);
    ck_assert(WIFSTOPPED(status));
    c->members[i].paused = true;
}

void cluster_resume(struct cluster *c, size_t i)
{
    kill(c->members[i].pid, SIGCONT);
    c->members[i].paused = false;
}

int cluster_wait_exit(struct cluster *c, size_t i)
{
    struct member *m = &c->members[i];
    int status = wait_exit(m->pid, PATIENCE_MS);

    ck_assert_msg(status != -1, "%s does not end", m->name);
    m->pid = 0;
    return status;
}

int cluster_stop(struct cluster *c, size_t i)
{
    kill(c->members[i].pid, SIGTERM);
    return cluster_wait_exit(c, i);
}

static void read_all(int fd, char *output, size_t size)
{
    ssize_t n = pread(fd, output, size - 1, 0);

    output[n > 0 ? n : 0] = '\0';
}

int run_program(const char *const *argv, uint64_t timeout_ms, char *output,
                size_t output_size)
{
    char path[] = "/tmp/pawl-e2e-out-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC), status;
    pid_t pid;

    ck_assert_int_ge(fd, 0);
    unlink(path);
    pid = spawn(argv, fd);
    status = wait_exit(pid, timeout_ms);
    if (status == -1) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    if (output != NULL) {
        read_all(fd, output, output_size);
    }
    close(fd);
    return status;
}

/* ---- asking ----------------------------------------------------------------
 */

bool cluster_status(struct cluster *c, size_t i, struct member_status *out)
{
    struct client *client;
    struct answer a;

    if (c->members[i].pid == 0 || c->members[i].paused) {
        return false;
    }
    client = client_new(c->members[i].address);
    client_set_timeout(client, 1000);
    a = client_status(client);
    *out = (struct member_status){0};
    if (a.code == GRPC_OK) {
        *out = (struct member_status){
            .member = a.status->header->member_id,
            .cluster = a.status->header->cluster_id,
            .leader = a.status->leader,
            .term = a.status->raftterm,
            .commit = a.status->raftindex,
            .applied = a.status->raftappliedindex,
            .revision = a.status->header->revision,
        };
    }
    answer_release(&a);
    client_free(client);
    return out->member != 0;
}

/* The member that leads in the newest term and is followed by most; or n. */
static size_t find_leader(struct cluster *c)
{
    struct member_status s[CLUSTER_MAX];
    bool ok[CLUSTER_MAX];
    uint64_t term = 0, leader = 0;
    size_t followers = 0, place = c->config.n;

    for (size_t i = 0; i < c->config.n; i++) {
        ok[i] = cluster_status(c, i, &s[i]);
        if (ok[i] && s[i].leader != 0 && s[i].term >= term) {
            term = s[i].term;
            leader = s[i].leader;
        }
    }
    for (size_t i = 0; i < c->config.n && leader != 0; i++) {
        if (ok[i] && s[i].term == term && s[i].leader == leader) {
            followers++;
            place = s[i].member == leader ? i : place;
        }
    }
    return followers > c->config.n / 2 ? place : c->config.n;
}

/* A server that ended by itself will not be waited for. */
static void check_alive(struct cluster *c)
{
    for (size_t i = 0; i < c->config.n; i++) {
        struct member *m = &c->members[i];
        int status;

        if (m->pid != 0 && waitpid(m->pid, &status, WNOHANG) == m->pid) {
            m->pid = 0;
            ck_abort_msg("%s ended by itself: status %d", m->name,
                         status_of(status));
        }
    }
}

size_t cluster_leader(struct cluster *c)
{
    uint64_t deadline_ms = clock_ms() + PATIENCE_MS;
    size_t leader;

    while ((leader = find_leader(c)) == c->config.n) {
        check_alive(c);
        ck_assert_msg(clock_ms() < deadline_ms, "no leader");
        short_pause();
    }
    return leader;
}

static bool is_settled(struct cluster *c)
{
    struct member_status s[CLUSTER_MAX];
    uint64_t commit = 0;

    for (size_t i = 0; i < c->config.n; i++) {
        if (!cluster_status(c, i, &s[i])) {
            return false;
        }
        commit = s[i].commit > commit ? s[i].commit : commit;
    }
    for (size_t i = 0; i < c->config.n; i++) {
        if (s[i].leader == 0 || s[i].leader != s[0].leader ||
            s[i].term != s[0].term || s[i].applied < commit) {
            return false;
        }
    }
    return true;
}

/* Answered once the leader knows what was committed before its term. */
static bool reads(struct cluster *c, size_t i)
{
    struct client *client = client_new(c->members[i].address);
    struct answer a = client_get(client, "settled?", 0, false);
    bool ok = a.code == GRPC_OK;

    answer_release(&a);
    client_free(client);
    return ok;
}

void cluster_settle(struct cluster *c)
{
    uint64_t deadline_ms = clock_ms() + PATIENCE_MS;

    while (!reads(c, 0) || !is_settled(c)) {
        check_alive(c);
        ck_assert_msg(clock_ms() < deadline_ms, "members do not catch up");
        short_pause();
    }
}
