/*
 * lookup.c - the system's resolver in a thread.
 *
 * The thread writes what it found into struct lookup and rings the eventfd.
 * Both sides hold a reference: whoever lets go last cleans up.
 */
#include "proto/lookup.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/net.h"

struct lookup {
    atomic_int references;
    int bell; /* an eventfd */
    char *address;
    atomic_bool ready; /* error and result are the loop's to read */
    int error;
    struct addrinfo *result;
    /* the loop's alone */
    struct event *rung;
    lookup_done *done;
    void *context;
};

static void let_go(struct lookup *l)
{
    if (atomic_fetch_sub(&l->references, 1) > 1) {
        return;
    }
    net_free(l->result);
    close(l->bell);
    free(l->address);
    free(l);
}

static void *run(void *context)
{
    struct lookup *l = context;
    uint64_t one = 1;

    l->error = net_resolve(l->address, NET_CONNECT, &l->result);
    atomic_store(&l->ready, true);
    if (write(l->bell, &one, sizeof(one)) < 0) {
        abort(); /* an eventfd takes a one */
    }
    let_go(l);
    return NULL;
}

static void on_rung(evutil_socket_t fd, short what, void *context)
{
    struct lookup *l = context;
    lookup_done *done = l->done;
    void *its_context = l->context;
    struct addrinfo *result;
    int error;

    (void)fd;
    (void)what;
    ASSERT(atomic_load(&l->ready));
    error = l->error;
    result = l->result;
    l->result = NULL;
    lookup_cancel(l);
    done(its_context, error, result);
}

/* False: the system has no thread left. */
static bool start_thread(struct lookup *l)
{
    pthread_attr_t attributes;
    pthread_t thread;
    bool good;

    if (pthread_attr_init(&attributes) != 0) {
        return false;
    }
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    atomic_store(&l->references, 2);
    good = pthread_create(&thread, &attributes, run, l) == 0;
    pthread_attr_destroy(&attributes);
    if (!good) {
        atomic_store(&l->references, 1);
    }
    return good;
}

struct lookup *lookup_start(struct event_base *base, const char *address,
                            lookup_done *done, void *context)
{
    struct lookup *l;
    int bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (bell < 0) {
        return NULL;
    }
    l = mem_alloc(1, sizeof(*l));
    l->bell = bell;
    l->address = mem_strdup(address);
    l->done = done;
    l->context = context;
    l->rung = event_new(base, bell, EV_READ, on_rung, l);
    if (l->rung == NULL) {
        abort();
    }
    event_add(l->rung, NULL);
    if (!start_thread(l)) {
        lookup_cancel(l);
        return NULL;
    }
    return l;
}

void lookup_cancel(struct lookup *l)
{
    event_free(l->rung);
    l->rung = NULL;
    let_go(l);
}
