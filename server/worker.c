/*
 * worker.c - a thread with a queue in and a queue out.
 */
#include "server/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "server/logger.h"

struct worker {
    struct worker_config config;
    pthread_t thread;
    pthread_mutex_t mutex; /* guards todo, done, stopping */
    pthread_cond_t wake;
    struct job_list todo;
    struct job_list done;
    bool stopping;
    int eventfd; /* tells the main loop that done is not empty */
    struct event *event;
};

static void tell_main(struct worker *w)
{
    uint64_t one = 1;

    while (write(w->eventfd, &one, sizeof(one)) < 0) {
        if (errno != EINTR) {
            log_die("worker %s: eventfd: errno %d", w->config.name, errno);
        }
    }
}

static void run_batch(struct worker *w, struct job_list *jobs)
{
    bool was_empty;

    w->config.run(w->config.context, jobs);
    pthread_mutex_lock(&w->mutex);
    was_empty = STAILQ_EMPTY(&w->done);
    STAILQ_CONCAT(&w->done, jobs);
    pthread_mutex_unlock(&w->mutex);
    if (was_empty) {
        tell_main(w);
    }
}

static bool tidy(struct worker *w)
{
    return w->config.tidy != NULL && w->config.tidy(w->config.context);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct job_list jobs = STAILQ_HEAD_INITIALIZER(jobs);
    bool more_to_tidy = false;

    pthread_mutex_lock(&w->mutex);
    for (;;) {
        if (!STAILQ_EMPTY(&w->todo)) {
            STAILQ_CONCAT(&jobs, &w->todo);
            pthread_mutex_unlock(&w->mutex);
            run_batch(w, &jobs);
            more_to_tidy = tidy(w);
        } else if (w->stopping) {
            break;
        } else if (more_to_tidy) {
            pthread_mutex_unlock(&w->mutex);
            more_to_tidy = tidy(w);
        } else {
            pthread_cond_wait(&w->wake, &w->mutex);
            continue;
        }
        pthread_mutex_lock(&w->mutex);
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

static void run_done(struct worker *w)
{
    struct job_list done = STAILQ_HEAD_INITIALIZER(done);
    struct job *j;

    pthread_mutex_lock(&w->mutex);
    STAILQ_CONCAT(&done, &w->done);
    pthread_mutex_unlock(&w->mutex);
    while ((j = STAILQ_FIRST(&done)) != NULL) {
        STAILQ_REMOVE_HEAD(&done, link);
        j->done(j);
    }
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    uint64_t count;

    (void)what;
    if (read(fd, &count, sizeof(count)) < 0) {
        return; /* EAGAIN: already taken */
    }
    run_done(arg);
}

struct worker *worker_new(struct event_base *base,
                          const struct worker_config *config)
{
    struct worker *w = mem_alloc(1, sizeof(*w));

    w->config = *config;
    STAILQ_INIT(&w->todo);
    STAILQ_INIT(&w->done);
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->wake, NULL);
    w->eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (w->eventfd < 0) {
        log_die("worker %s: eventfd: errno %d", config->name, errno);
    }
    w->event = event_new(base, w->eventfd, EV_READ | EV_PERSIST, on_event, w);
    event_add(w->event, NULL);
    if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
        log_die("cannot start thread %s", config->name);
    }
    (void)pthread_setname_np(w->thread, config->name); /* cosmetic */
    return w;
}

void worker_submit(struct worker *w, struct job *j)
{
    bool was_empty;

    pthread_mutex_lock(&w->mutex);
    was_empty = STAILQ_EMPTY(&w->todo);
    STAILQ_INSERT_TAIL(&w->todo, j, link);
    pthread_mutex_unlock(&w->mutex);
    if (was_empty) {
        pthread_cond_signal(&w->wake);
    }
}

void worker_free(struct worker *w)
{
    if (w == NULL) {
        return;
    }
    pthread_mutex_lock(&w->mutex);
    w->stopping = true;
    pthread_mutex_unlock(&w->mutex);
    pthread_cond_signal(&w->wake);
    pthread_join(w->thread, NULL);
    run_done(w);
    event_free(w->event);
    close(w->eventfd);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}
