/*
 * keeper.c - renewing a lease from a thread.
 *
 *              start
 *                |
 *                v           answered: valid again for a TTL
 *             keeping <--------+   from when the request was sent
 *              |   |           |
 *              |   +-----------+
 *              |   gone, or not valid any more
 *     stop     +----------------> lost ---> (stop)
 *
 * The thread has a handle of its own. What others ask it for lies under the
 * mutex; valid_until_ms is compared with the clock at every question, so that
 * a keeper whose thread got no time to run does not vouch for a dead lease.
 */
#include "client/internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define RENEWALS_PER_TTL 3
/* Between failed renewals, whose calls have tried all endpoints by then. */
#define PAUSE_MAX_MS 250

struct pawl_keeper {
    struct pawl *p;
    int64_t lease;
    uint64_t ttl_ms; /* as last granted; the thread's */
    pthread_t thread;
    struct event *stop_event; /* stop_fd on p's loop */
    struct event *timer;      /* the next renewal */
    bool due;
    int stop_fd, lost_fd; /* eventfds */
    pthread_mutex_t mutex;
    uint64_t valid_until_ms; /* of now_ms(); under the mutex, as the rest */
    bool lost;
    char error[PAWL_ERROR_BYTES];
};

/* Monotonic, and going on while the machine sleeps: the server's clock does. */
static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void notify(int fd)
{
    uint64_t one = 1;

    /* An eventfd takes eight bytes whole unless its counter is full. */
    while (write(fd, &one, sizeof(one)) < 0) {
        ASSERT(errno == EINTR);
    }
}

static uint64_t left_ms(struct pawl_keeper *k)
{
    uint64_t now = now_ms();
    uint64_t left;

    pthread_mutex_lock(&k->mutex);
    left = !k->lost && k->valid_until_ms > now ? k->valid_until_ms - now : 0;
    pthread_mutex_unlock(&k->mutex);
    return left;
}

static void set_valid(struct pawl_keeper *k, uint64_t until_ms)
{
    pthread_mutex_lock(&k->mutex);
    k->valid_until_ms = until_ms;
    k->error[0] = '\0';
    pthread_mutex_unlock(&k->mutex);
}

static void set_error(struct pawl_keeper *k, const char *text)
{
    pthread_mutex_lock(&k->mutex);
    snprintf(k->error, sizeof(k->error), "%s", text);
    pthread_mutex_unlock(&k->mutex);
}

static void set_lost(struct pawl_keeper *k)
{
    pthread_mutex_lock(&k->mutex);
    k->lost = true;
    if (k->error[0] == '\0') {
        snprintf(k->error, sizeof(k->error),
                 "the TTL passed without an answered renewal");
    }
    pthread_mutex_unlock(&k->mutex);
    notify(k->lost_fd);
}

/* One renewal with all its retries. False: the lease is gone. */
static bool renew(struct pawl_keeper *k, uint64_t time_ms)
{
    struct pawl_lease_result *renewed;
    uint64_t sent_ms = now_ms();

    pawl_set_call_timeout(
        k->p, (uint32_t)(time_ms < UINT32_MAX ? time_ms : UINT32_MAX));
    switch (pawl_lease_renew(k->p, k->lease, &renewed)) {
    case PAWL_OK:
        k->ttl_ms = (uint64_t)renewed->ttl_s * 1000;
        set_valid(k, sent_ms + k->ttl_ms);
        pawl_free(renewed);
        return true;
    case PAWL_NOT_FOUND:
        set_error(k, pawl_error(k->p));
        return false;
    default:
        set_error(k, pawl_error(k->p));
        return true;
    }
}

static void on_due(evutil_socket_t fd, short what, void *context)
{
    struct pawl_keeper *k = context;

    (void)fd;
    (void)what;
    k->due = true;
}

static void on_stop(evutil_socket_t fd, short what, void *context)
{
    struct pawl_keeper *k = context;
    uint64_t count;

    (void)what;
    /* Taken, or a loop that runs until nothing is ready would never end. */
    (void)!read(fd, &count, sizeof(count));
    k->p->interrupted = true;
}

/* Runs the connections meanwhile. */
static void sleep_ms(struct pawl_keeper *k, uint64_t ms)
{
    struct timeval tv = {
        .tv_sec = (time_t)(ms / 1000),
        .tv_usec = (suseconds_t)(ms % 1000) * 1000,
    };

    k->due = false;
    evtimer_add(k->timer, &tv);
    while (!k->due && !k->p->interrupted) {
        event_base_loop(k->p->base, EVLOOP_ONCE);
        rpc_loop_flush(k->p->loop);
    }
    evtimer_del(k->timer);
}

/* How long until the next renewal, after one that went well or did not. */
static uint64_t pause_ms(struct pawl_keeper *k)
{
    uint64_t left = left_ms(k);
    uint64_t passed = k->ttl_ms > left ? k->ttl_ms - left : 0;
    uint64_t due = k->ttl_ms / RENEWALS_PER_TTL;
    uint64_t pause = left < PAUSE_MAX_MS ? left : PAUSE_MAX_MS;

    return passed < due ? due - passed : pause;
}

static void *run(void *context)
{
    struct pawl_keeper *k = context;

    while (!k->p->interrupted) {
        uint64_t left = left_ms(k);

        if (left == 0 || !renew(k, left)) {
            if (!k->p->interrupted) {
                set_lost(k);
            }
            break;
        }
        sleep_ms(k, pause_ms(k));
    }
    return NULL;
}

/* Signals are the program's: none is delivered to this thread. */
static void start_thread(struct pawl_keeper *k)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&k->thread, NULL, run, k) != 0) {
        abort(); /* as when memory runs out */
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

struct pawl_keeper *pawl_keeper_start(const struct pawl *p, int64_t lease,
                                      int64_t ttl_s)
{
    struct pawl_keeper *k = mem_alloc(1, sizeof(*k));

    k->p = pawl_clone(p);
    k->lease = lease;
    k->ttl_ms = (uint64_t)(ttl_s > 0 ? ttl_s : 1) * 1000;
    k->valid_until_ms = now_ms() + k->ttl_ms / 2;
    k->stop_fd = eventfd(0, EFD_CLOEXEC);
    k->lost_fd = eventfd(0, EFD_CLOEXEC);
    ASSERT(k->stop_fd >= 0 && k->lost_fd >= 0);
    pthread_mutex_init(&k->mutex, NULL);
    k->timer = evtimer_new(k->p->base, on_due, k);
    k->stop_event =
        event_new(k->p->base, k->stop_fd, EV_READ | EV_PERSIST, on_stop, k);
    event_add(k->stop_event, NULL);
    start_thread(k);
    return k;
}

int pawl_keeper_fd(const struct pawl_keeper *k)
{
    return k->lost_fd;
}

enum pawl_status pawl_keeper_status(struct pawl_keeper *k)
{
    return left_ms(k) > 0 ? PAWL_OK : PAWL_LOST;
}

uint64_t pawl_keeper_left_ms(struct pawl_keeper *k)
{
    return left_ms(k);
}

void pawl_keeper_error(struct pawl_keeper *k, char *text, size_t text_bytes)
{
    pthread_mutex_lock(&k->mutex);
    snprintf(text, text_bytes, "%s", k->error);
    pthread_mutex_unlock(&k->mutex);
}

void pawl_keeper_stop(struct pawl_keeper *k)
{
    if (k == NULL) {
        return;
    }
    notify(k->stop_fd);
    pthread_join(k->thread, NULL);
    event_free(k->stop_event);
    event_free(k->timer);
    pawl_close(k->p);
    close(k->stop_fd);
    close(k->lost_fd);
    pthread_mutex_destroy(&k->mutex);
    free(k);
}
