/*
 * snapshot.c - what sending and receiving snapshots share: the thread, the
 * timer, beginning and end.
 */
#include "server/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "server/logger.h"
#include "server/snapshotinternal.h"

#define TICK_MS 10

static void run(void *context, const struct job_list *jobs)
{
    struct job *j;

    (void)context;
    STAILQ_FOREACH(j, jobs, link)
    {
        struct file_job *fj = (struct file_job *)j;

        fj->work(fj);
    }
}

static void done(struct job *j)
{
    struct file_job *fj = (struct file_job *)j;

    fj->done(fj);
}

void snapshots_submit(struct snapshots *s, struct file_job *j,
                      void (*work)(struct file_job *j),
                      void (*done_work)(struct file_job *j))
{
    *j = (struct file_job){
        .job = {.done = done}, .work = work, .done = done_work};
    worker_submit(s->worker, &j->job);
}

void snapshots_wake(struct snapshots *s)
{
    struct timeval tick = {.tv_usec = TICK_MS * 1000};

    if (!s->timer_runs && !s->stopping) {
        s->timer_runs = true;
        event_add(s->timer, &tick);
    }
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct snapshots *s = arg;
    bool sending = snapshot_out_tick(s);

    (void)fd;
    (void)what;
    if (!snapshot_in_tick(s) && !sending) {
        s->timer_runs = false;
        event_del(s->timer);
    }
}

struct snapshots *snapshots_new(const struct snapshots_config *config,
                                const struct snapshots_parts *parts)
{
    struct snapshots *s = mem_alloc(1, sizeof(*s));
    struct worker_config wc = {.name = "snapshot", .run = run, .context = s};
    struct event_base *base = rpc_loop_base(parts->loop);

    s->config = *config;
    s->parts = *parts;
    s->directory = mem_printf("%s/snapshot", config->data_dir);
    s->config.data_dir = NULL; /* borrowed for the call */
    if (mkdir(s->directory, 0700) != 0 && errno != EEXIST) {
        log_die("cannot create %s: %s", s->directory, strerror(errno));
    }
    LIST_INIT(&s->transfers);
    snapshot_in_clean(s);
    s->worker = worker_new(base, &wc);
    s->timer = event_new(base, -1, EV_PERSIST, on_timer, s);
    return s;
}

void snapshots_serve(struct snapshots *s, struct rpc_server *server)
{
    snapshot_in_serve(s, server);
}

void snapshots_stop(struct snapshots *s)
{
    s->stopping = true;
    s->timer_runs = false;
    event_del(s->timer);
    snapshot_out_stop(s);
    snapshot_in_stop(s);
}

void snapshots_free(struct snapshots *s)
{
    if (s == NULL) {
        return;
    }
    ASSERT(s->stopping);
    worker_free(s->worker);
    snapshot_out_free(s);
    snapshot_in_free(s);
    event_free(s->timer);
    free(s->directory);
    free(s);
}

void snapshots_get_figures(const struct snapshots *s,
                           struct snapshots_figures *f)
{
    *f = s->figures;
}
