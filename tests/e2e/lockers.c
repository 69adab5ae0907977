/*
 * lockers.c - who held which lock from when to when.
 *
 * A hold counts from the arrival of its grant to the start of its release, if
 * the release was answered with "released": then its lease lived all the time
 * and nobody else may have held the lock.
 */
#include "lockers.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

#define LOCKS 2
#define TTL_S 2
#define TIMEOUT_MS 3000

struct hold {
    size_t lock;
    int64_t token;
    uint64_t from_us, to_us;
};

struct locker {
    struct lockers *all;
    pthread_t thread;
    size_t id;
    struct random random;
    struct links links;
    struct hold *holds;
    size_t n, capacity;
    struct fence past[LOCKS]; /* given back for certain; token 0: none */
    uint64_t grants, forgotten, lost, guarded, fenced, retries;
};

struct lockers {
    struct run *run;
    struct locker *lockers;
    size_t n;
    atomic_llong guarded_revision[LOCKS]; /* newest acknowledged */
};

static const char *const names[LOCKS] = {"lock/a", "lock/b"};

/* ---- one round -------------------------------------------------------------
 */

/* Until it is granted or the run ends. A retry has the same lease (I11). */
static bool acquire(struct locker *l, size_t lock, struct fence *out)
{
    struct lock_request rq = {
        .name = names[lock],
        .lease = (int64_t)(random_u64() >> 2) + 1,
        .ttl_s = TTL_S,
    };

    while (!atomic_load(&l->all->run->stop)) {
        struct answer a = client_acquire(links_current(&l->links), &rq);
        bool granted = a.code == GRPC_OK && a.acquire->acquired;

        if (granted) {
            *out = fence_of(a.acquire);
        } else {
            links_next(&l->links);
            l->retries++;
        }
        answer_release(&a);
        if (granted) {
            l->grants++;
            return true;
        }
    }
    return false;
}

static bool is_fenced(const struct answer *a)
{
    return a->code == GRPC_FAILED_PRECONDITION &&
           strncmp(a->text, status_text(ST_FENCED),
                   strlen(status_text(ST_FENCED))) == 0;
}

/* The token, to g/NAME. True if the store refused it. */
static bool write_guarded(struct locker *l, size_t lock, const struct fence *f)
{
    char key[64], value[32];
    struct answer a;
    bool fenced;

    snprintf(key, sizeof(key), "g/%s", names[lock]);
    snprintf(value, sizeof(value), "%" PRId64, f->token);
    a = client_put(links_current(&l->links), key, value, 0, f);
    fenced = is_fenced(&a);
    if (a.code == GRPC_OK) {
        l->guarded++;
        raise_to(&l->all->guarded_revision[lock], a.put->header->revision);
        raise_to(&l->all->run->newest_revision, a.put->header->revision);
        atomic_fetch_add(&l->all->run->acknowledged, 1);
    } else if (!fenced) {
        links_next(&l->links);
    }
    answer_release(&a);
    return fenced;
}

static void write_under_past_token(struct locker *l, size_t lock)
{
    struct answer a;

    if (l->past[lock].token == 0) {
        return;
    }
    a = client_put(links_current(&l->links), "g/past", "past", 0,
                   &l->past[lock]);
    if (a.code == GRPC_OK) {
        run_finding(l->all->run,
                    "a write under token %" PRId64
                    " of %s, which was given back, was accepted",
                    l->past[lock].token, names[lock]);
    } else if (is_fenced(&a)) {
        l->fenced++;
    }
    answer_release(&a);
}

static void note_hold(struct locker *l, const struct hold *h)
{
    if (l->n == l->capacity) {
        l->capacity = l->capacity > 0 ? l->capacity * 2 : 256;
        l->holds = mem_realloc(l->holds, l->capacity, sizeof(*l->holds));
    }
    l->holds[l->n++] = *h;
}

/* Until it is answered: else the lock stays with us until its lease ends. */
static bool release_until_answered(struct locker *l, const struct fence *f,
                                   bool *first_answer, bool *released)
{
    *first_answer = true;
    while (!atomic_load(&l->all->run->stop)) {
        struct answer a = client_release(links_current(&l->links), f);
        bool answered = a.code == GRPC_OK;

        if (answered) {
            *released = a.release->released;
        } else {
            *first_answer = false;
            l->retries++;
            links_next(&l->links);
        }
        answer_release(&a);
        if (answered) {
            return true;
        }
    }
    return false;
}

static void release(struct locker *l, struct hold *h, const struct fence *f,
                    bool fenced)
{
    bool first_answer, released = false;

    h->to_us = clock_us();
    if (!release_until_answered(l, f, &first_answer, &released) ||
        (!released && first_answer)) {
        l->lost++; /* its lease has ended, or will */
        return;
    }
    l->past[h->lock] = *f;
    if (!released) {
        return; /* by a call before, or by the lease's end: who knows */
    }
    if (fenced) {
        run_finding(l->all->run,
                    "a guarded write of the holder of %s, token %" PRId64
                    ", was refused",
                    names[h->lock], f->token);
    }
    note_hold(l, h);
}

static void lock_once(struct locker *l)
{
    struct hold h = {.lock = random_below(&l->random, LOCKS)};
    struct fence f;
    bool fenced;

    if (!acquire(l, h.lock, &f)) {
        return;
    }
    h.from_us = clock_us();
    h.token = f.token;
    fenced = write_guarded(l, h.lock, &f);
    if (random_below(&l->random, 8) == 0) {
        write_under_past_token(l, h.lock);
    }
    if (random_below(&l->random, 400) == 0) {
        l->forgotten++;
        return;
    }
    release(l, &h, &f, fenced);
}

static void *run_locker(void *context)
{
    struct locker *l = context;

    links_open(&l->links, l->all->run, TIMEOUT_MS, l->id);
    while (!atomic_load(&l->all->run->stop)) {
        lock_once(l);
    }
    links_close(&l->links);
    return NULL;
}

/* ---- life ------------------------------------------------------------------
 */

struct lockers *lockers_start(struct run *r, size_t n)
{
    struct lockers *all = mem_alloc(1, sizeof(*all));

    all->run = r;
    all->n = n;
    all->lockers = mem_alloc(n, sizeof(*all->lockers));
    for (size_t i = 0; i < n; i++) {
        struct locker *l = &all->lockers[i];

        *l = (struct locker){
            .all = all, .id = i, .random = random_stream(300 + i)};
        pthread_create(&l->thread, NULL, run_locker, l);
    }
    return all;
}

void lockers_join(struct lockers *all)
{
    for (size_t i = 0; i < all->n; i++) {
        pthread_join(all->lockers[i].thread, NULL);
    }
}

void lockers_free(struct lockers *all)
{
    for (size_t i = 0; i < all->n; i++) {
        free(all->lockers[i].holds);
    }
    free(all->lockers);
    free(all);
}

/* ---- afterwards ------------------------------------------------------------
 */

static int compare_holds(const void *a, const void *b)
{
    const struct hold *x = a, *y = b;

    return (x->from_us > y->from_us) - (x->from_us < y->from_us);
}

static void verify_holds(struct lockers *all, size_t lock)
{
    struct hold *holds;
    size_t n = 0, total = 0;

    for (size_t i = 0; i < all->n; i++) {
        total += all->lockers[i].n;
    }
    holds = mem_alloc(total + 1, sizeof(*holds));
    for (size_t i = 0; i < all->n; i++) {
        for (size_t j = 0; j < all->lockers[i].n; j++) {
            if (all->lockers[i].holds[j].lock == lock) {
                holds[n++] = all->lockers[i].holds[j];
            }
        }
    }
    qsort(holds, n, sizeof(*holds), compare_holds);
    for (size_t i = 1; i < n; i++) {
        if (holds[i].from_us < holds[i - 1].to_us) {
            run_finding(all->run,
                        "%s was held twice at once, under tokens %" PRId64
                        " and %" PRId64 ", for %" PRIu64 " us",
                        names[lock], holds[i - 1].token, holds[i].token,
                        holds[i - 1].to_us - holds[i].from_us);
        }
        if (holds[i].token <= holds[i - 1].token) {
            run_finding(all->run,
                        "the token of %s went from %" PRId64 " to %" PRId64,
                        names[lock], holds[i - 1].token, holds[i].token);
        }
    }
    free(holds);
}

static int64_t number_in(ProtobufCBinaryData b)
{
    char text[32];

    snprintf(text, sizeof(text), "%.*s", (int)b.len, (const char *)b.data);
    return strtoll(text, NULL, 10);
}

/* Back through the guarded key: the tokens in it only fall. */
static void verify_guarded(struct lockers *all, size_t lock)
{
    struct client *c = client_new(cluster_address(all->run->cluster, 0));
    int64_t revision = 0, newer = INT64_MAX;
    char key[64];

    snprintf(key, sizeof(key), "g/%s", names[lock]);
    do {
        struct answer a = client_get(c, key, revision, false);
        int64_t token;

        if (a.code != GRPC_OK || a.range->n_kvs == 0) {
            run_finding(all->run, "%s at revision %" PRId64 " is missing: %s",
                        key, revision, a.text);
            answer_release(&a);
            break;
        }
        token = number_in(a.range->kvs[0]->value);
        if (token > newer) {
            run_finding(all->run,
                        "token %" PRId64 " wrote after token %" PRId64
                        " under %s",
                        newer, token, names[lock]);
        }
        newer = token;
        if (revision == 0 && a.range->kvs[0]->mod_revision <
                                 atomic_load(&all->guarded_revision[lock])) {
            run_finding(all->run, "the last guarded write to %s is lost", key);
        }
        revision = a.range->kvs[0]->version > 1
                       ? a.range->kvs[0]->mod_revision - 1
                       : 0;
        answer_release(&a);
    } while (revision > 0);
    client_free(c);
}

void lockers_verify(struct lockers *all)
{
    for (size_t i = 0; i < LOCKS; i++) {
        verify_holds(all, i);
        verify_guarded(all, i);
    }
}

void lockers_report(const struct lockers *all)
{
    struct locker sum = {0};

    for (size_t i = 0; i < all->n; i++) {
        const struct locker *l = &all->lockers[i];

        sum.grants += l->grants;
        sum.n += l->n;
        sum.forgotten += l->forgotten;
        sum.lost += l->lost;
        sum.guarded += l->guarded;
        sum.fenced += l->fenced;
        sum.retries += l->retries;
    }
    printf("locks: %" PRIu64 " grants, %zu released for certain, %" PRIu64
           " forgotten, %" PRIu64 " ended otherwise, %" PRIu64
           " calls repeated\nguarded writes: %" PRIu64 " acknowledged, %" PRIu64
           " refused under a past token\n",
           sum.grants, sum.n, sum.forgotten, sum.lost, sum.retries, sum.guarded,
           sum.fenced);
}
