/*
 * writers.c - writes of unique values, and where they are found in the end.
 */
#include "writers.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

#define SHARED_KEYS 4
#define TIMEOUT_MS 1500
#define PAGE 2000

enum kind { UNIQUE, OWN, SHARED };

struct write {
    int64_t revision; /* ACKNOWLEDGED: as told */
    uint8_t kind, shared_key;
    uint8_t outcome; /* enum outcome */
    bool seen;       /* by the verifier */
};

struct writer {
    struct writers *all;
    pthread_t thread;
    size_t id;
    struct random random;
    struct links links;
    struct write *writes; /* by sequence number */
    size_t n, capacity;
};

struct reader {
    struct writers *all;
    pthread_t thread;
    size_t id;
    struct random random;
    struct links links;
    int64_t last[CLUSTER_MAX]; /* newest serializable answer of a member */
    unsigned starts[CLUSTER_MAX];
    uint64_t linearizable, serializable; /* answered */
};

struct writers {
    struct run *run;
    struct writer *writers;
    struct reader *readers;
    size_t n_writers, n_readers;
    atomic_llong shared_revision[SHARED_KEYS]; /* newest acknowledged */
};

/* ---- writing ---------------------------------------------------------------
 */

static void name_key(char *key, size_t size, size_t writer, size_t sequence,
                     const struct write *w)
{
    switch ((enum kind)w->kind) {
    case UNIQUE:
        snprintf(key, size, "u/%03zu/%08zu", writer, sequence);
        break;
    case OWN:
        snprintf(key, size, "c/%03zu", writer);
        break;
    case SHARED:
        snprintf(key, size, "s/%u", w->shared_key);
        break;
    }
}

static struct write *next_write(struct writer *w)
{
    struct write *x;

    if (w->n == w->capacity) {
        w->capacity = w->capacity > 0 ? w->capacity * 2 : 1024;
        w->writes = mem_realloc(w->writes, w->capacity, sizeof(*w->writes));
    }
    x = &w->writes[w->n];
    *x = (struct write){.kind = UNIQUE};
    if (random_below(&w->random, 8) == 0) {
        x->kind = random_below(&w->random, 2) == 0 ? OWN : SHARED;
        x->shared_key = (uint8_t)random_below(&w->random, SHARED_KEYS);
    }
    return x;
}

static void note_acknowledged(struct writer *w, struct write *x, int64_t before)
{
    struct run *r = w->all->run;

    if (x->revision <= before) {
        run_finding(r,
                    "a write got revision %" PRId64 " although %" PRId64
                    " had been answered before it began",
                    x->revision, before);
    }
    raise_to(&r->newest_revision, x->revision);
    if (x->kind == SHARED) {
        raise_to(&w->all->shared_revision[x->shared_key], x->revision);
    }
    atomic_fetch_add(&r->acknowledged, 1);
}

static void write_once(struct writer *w)
{
    struct write *x = next_write(w);
    int64_t before = atomic_load(&w->all->run->newest_revision);
    struct answer a;
    char key[64], value[64];

    name_key(key, sizeof(key), w->id, w->n, x);
    snprintf(value, sizeof(value), "%zu.%zu", w->id, w->n);
    w->n++;
    a = client_put(links_current(&w->links), key, value, 0, NULL);
    x->outcome = (uint8_t)outcome_of(&a);
    if (a.code == GRPC_OK) {
        x->revision = a.put->header->revision;
        note_acknowledged(w, x, before);
    } else {
        links_next(&w->links);
    }
    answer_release(&a);
    if (random_below(&w->random, 100) == 0) {
        w->links.current = random_below(&w->random, w->links.n);
    }
}

static void *run_writer(void *context)
{
    struct writer *w = context;

    links_open(&w->links, w->all->run, TIMEOUT_MS, w->id);
    while (!atomic_load(&w->all->run->stop)) {
        write_once(w);
    }
    links_close(&w->links);
    return NULL;
}

/* ---- reading ---------------------------------------------------------------
 */

static void read_linearizable(struct reader *r)
{
    struct run *run = r->all->run;
    size_t n = random_below(&r->random, SHARED_KEYS);
    int64_t before = atomic_load(&run->newest_revision);
    int64_t written = atomic_load(&r->all->shared_revision[n]);
    struct answer a;
    char key[16];

    snprintf(key, sizeof(key), "s/%zu", n);
    a = client_get(links_current(&r->links), key, 0, false);
    if (a.code != GRPC_OK) {
        links_next(&r->links);
        return;
    }
    r->linearizable++;
    if (a.range->header->revision < before) {
        run_finding(run,
                    "a linearizable read at revision %" PRId64
                    " although %" PRId64 " had been answered before it began",
                    a.range->header->revision, before);
    }
    raise_to(&run->newest_revision, a.range->header->revision);
    if (written > 0 &&
        (a.range->n_kvs == 0 || a.range->kvs[0]->mod_revision < written)) {
        run_finding(run,
                    "a linearizable read of %s does not show the write of "
                    "revision %" PRId64 " that was acknowledged before",
                    key, written);
    } else if (a.range->n_kvs > 0) {
        raise_to(&r->all->shared_revision[n], a.range->kvs[0]->mod_revision);
    }
    answer_release(&a);
}

/* May be old, but never older than what the same process answered before. */
static void read_serializable(struct reader *r)
{
    struct run *run = r->all->run;
    size_t i = random_below(&r->random, r->links.n);
    unsigned starts = cluster_starts(run->cluster, i);
    struct answer a = client_get(r->links.clients[i], "s/0", 0, true);
    int64_t revision;

    if (a.code == GRPC_OK && cluster_starts(run->cluster, i) == starts) {
        r->serializable++;
        revision = a.range->header->revision;
        if (r->starts[i] == starts && revision < r->last[i]) {
            run_finding(run,
                        "member %zu went back from revision %" PRId64
                        " to %" PRId64,
                        i, r->last[i], revision);
        }
        r->starts[i] = starts;
        r->last[i] = revision;
    }
    answer_release(&a);
}

static void *run_reader(void *context)
{
    struct reader *r = context;

    links_open(&r->links, r->all->run, TIMEOUT_MS, r->id);
    while (!atomic_load(&r->all->run->stop)) {
        read_linearizable(r);
        read_serializable(r);
    }
    links_close(&r->links);
    return NULL;
}

/* ---- life ------------------------------------------------------------------
 */

struct writers *writers_new(struct run *r, size_t n_writers, size_t n_readers)
{
    struct writers *w = mem_alloc(1, sizeof(*w));

    w->run = r;
    w->n_writers = n_writers;
    w->n_readers = n_readers;
    w->writers = mem_alloc(n_writers, sizeof(*w->writers));
    w->readers = mem_alloc(n_readers + 1, sizeof(*w->readers));
    for (size_t i = 0; i < n_writers; i++) {
        w->writers[i] = (struct writer){
            .all = w, .id = i, .random = random_stream(100 + i)};
    }
    for (size_t i = 0; i < n_readers; i++) {
        w->readers[i] = (struct reader){
            .all = w, .id = i, .random = random_stream(200 + i)};
    }
    return w;
}

void writers_start(struct writers *w)
{
    atomic_store(&w->run->stop, false);
    for (size_t i = 0; i < w->n_writers; i++) {
        pthread_create(&w->writers[i].thread, NULL, run_writer, &w->writers[i]);
    }
    for (size_t i = 0; i < w->n_readers; i++) {
        pthread_create(&w->readers[i].thread, NULL, run_reader, &w->readers[i]);
    }
}

void writers_stop(struct writers *w)
{
    atomic_store(&w->run->stop, true);
    for (size_t i = 0; i < w->n_writers; i++) {
        pthread_join(w->writers[i].thread, NULL);
    }
    for (size_t i = 0; i < w->n_readers; i++) {
        pthread_join(w->readers[i].thread, NULL);
    }
}

void writers_free(struct writers *w)
{
    for (size_t i = 0; i < w->n_writers; i++) {
        free(w->writers[i].writes);
    }
    free(w->writers);
    free(w->readers);
    free(w);
}

/* ---- what the servers hold -------------------------------------------------
 */

/* A page of all keys as member i has them at that revision. */
static struct answer page_of(struct writers *w, struct client *c, size_t i,
                             const char *from, int64_t revision)
{
    struct answer a = client_range(c, from, "\x7f", revision, PAGE, true);

    if (a.code != GRPC_OK) {
        run_finding(w->run, "reading all of member %zu: %s: %s", i,
                    grpc_code_name((int)a.code), a.text);
    }
    return a;
}

static bool same_bytes(ProtobufCBinaryData a, ProtobufCBinaryData b)
{
    return slice_equal((struct slice){a.data, a.len},
                       (struct slice){b.data, b.len});
}

static bool same_page(const struct answer *a, const struct answer *b)
{
    if (a->code != GRPC_OK || b->code != GRPC_OK ||
        a->range->n_kvs != b->range->n_kvs) {
        return false;
    }
    for (size_t i = 0; i < a->range->n_kvs; i++) {
        const Mvccpb__KeyValue *x = a->range->kvs[i], *y = b->range->kvs[i];

        if (x->mod_revision != y->mod_revision ||
            x->create_revision != y->create_revision ||
            x->version != y->version || x->lease != y->lease ||
            !same_bytes(x->key, y->key) || !same_bytes(x->value, y->value)) {
            return false;
        }
    }
    return true;
}

static bool find_write(struct writers *w, const Mvccpb__KeyValue *kv,
                       size_t *writer, size_t *sequence)
{
    char text[64], *dot, *end;

    snprintf(text, sizeof(text), "%.*s", (int)kv->value.len,
             (const char *)kv->value.data);
    *writer = strtoul(text, &dot, 10);
    if (dot == text || *dot != '.') {
        return false;
    }
    *sequence = strtoul(dot + 1, &end, 10);
    return end > dot + 1 && *end == '\0' && *writer < w->n_writers &&
           *sequence < w->writers[*writer].n;
}

/* One version of one key, as a server has it. */
static void check_pair(struct writers *w, const Mvccpb__KeyValue *kv)
{
    size_t writer, sequence;
    struct write *x;
    char key[64];

    if (!find_write(w, kv, &writer, &sequence)) {
        run_finding(w->run, "%.*s holds \"%.*s\", which nobody wrote",
                    (int)kv->key.len, (const char *)kv->key.data,
                    (int)kv->value.len, (const char *)kv->value.data);
        return;
    }
    x = &w->writers[writer].writes[sequence];
    name_key(key, sizeof(key), writer, sequence, x);
    if (strlen(key) != kv->key.len ||
        memcmp(key, kv->key.data, kv->key.len) != 0) {
        run_finding(w->run, "write %zu.%zu to %s is found in %.*s", writer,
                    sequence, key, (int)kv->key.len,
                    (const char *)kv->key.data);
    }
    if (x->seen) {
        run_finding(w->run, "write %zu.%zu was applied twice", writer,
                    sequence);
    }
    x->seen = true;
    if (x->outcome == OUTCOME_REFUSED) {
        run_finding(w->run, "write %zu.%zu was refused, and it is there",
                    writer, sequence);
    }
    if (x->outcome == OUTCOME_ACKNOWLEDGED && x->revision != kv->mod_revision) {
        run_finding(w->run,
                    "write %zu.%zu was acknowledged at revision %" PRId64
                    " and is at %" PRId64,
                    writer, sequence, x->revision, kv->mod_revision);
    }
    if (x->kind == UNIQUE && kv->version != 1) {
        run_finding(w->run, "%s has version %" PRId64, key, kv->version);
    }
}

/* Pages of all members side by side; the unique keys checked on the way. */
static void verify_all_keys(struct writers *w, int64_t revision)
{
    struct links l;
    char from[256] = "!";
    bool more = true;

    links_open(&l, w->run, PATIENCE_MS, 0);
    while (more) {
        struct answer first = page_of(w, l.clients[0], 0, from, revision);

        for (size_t i = 1; i < l.n; i++) {
            struct answer other = page_of(w, l.clients[i], i, from, revision);

            if (!same_page(&first, &other)) {
                run_finding(w->run, "member %zu holds other keys from %s on", i,
                            from);
            }
            answer_release(&other);
        }
        more = first.code == GRPC_OK && first.range->more;
        for (size_t i = 0; first.code == GRPC_OK && i < first.range->n_kvs;
             i++) {
            const Mvccpb__KeyValue *kv = first.range->kvs[i];

            if (kv->key.len > 2 && memcmp(kv->key.data, "u/", 2) == 0) {
                check_pair(w, kv);
            }
            snprintf(from, sizeof(from), "%.*s", (int)kv->key.len,
                     (const char *)kv->key.data);
        }
        /* The least key after it: text that sorts after, before all others. */
        snprintf(from + strlen(from), sizeof(from) - strlen(from), "!");
        answer_release(&first);
    }
    links_close(&l);
}

/* Back through all versions of one key, each asked of another member. */
static void verify_history(struct writers *w, const char *key)
{
    struct links l;
    int64_t revision = 0, version = 0;

    links_open(&l, w->run, PATIENCE_MS, 0);
    do {
        struct answer a = client_get(links_current(&l), key, revision, false);

        if (a.code != GRPC_OK) {
            run_finding(w->run, "%s at revision %" PRId64 ": %s", key, revision,
                        a.text);
        }
        if (a.code != GRPC_OK || a.range->n_kvs == 0) {
            if (version > 1) {
                run_finding(w->run, "%s: version %" PRId64 " is missing", key,
                            version - 1);
            }
            revision = 0;
        } else {
            const Mvccpb__KeyValue *kv = a.range->kvs[0];

            if (version != 0 && kv->version != version - 1) {
                run_finding(w->run,
                            "%s: version %" PRId64 " before version %" PRId64,
                            key, kv->version, version);
            }
            check_pair(w, kv);
            version = kv->version;
            revision = version > 1 ? kv->mod_revision - 1 : 0;
        }
        answer_release(&a);
        l.current = (l.current + 1) % l.n;
    } while (revision > 0);
    links_close(&l);
}

struct historian {
    struct writers *all;
    pthread_t thread;
    char key[32];
};

static void *run_historian(void *context)
{
    struct historian *h = context;

    verify_history(h->all, h->key);
    return NULL;
}

static void verify_histories(struct writers *w)
{
    size_t n = SHARED_KEYS + w->n_writers;
    struct historian *h = mem_alloc(n, sizeof(*h));

    for (size_t i = 0; i < n; i++) {
        h[i].all = w;
        if (i < SHARED_KEYS) {
            snprintf(h[i].key, sizeof(h[i].key), "s/%zu", i);
        } else {
            snprintf(h[i].key, sizeof(h[i].key), "c/%03zu", i - SHARED_KEYS);
        }
        pthread_create(&h[i].thread, NULL, run_historian, &h[i]);
    }
    for (size_t i = 0; i < n; i++) {
        pthread_join(h[i].thread, NULL);
    }
    free(h);
}

static int compare_revisions(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* Each acknowledged write was found, and none shares its revision. */
static void verify_acknowledged(struct writers *w)
{
    size_t total = 0, n = 0;
    int64_t *revisions;

    for (size_t i = 0; i < w->n_writers; i++) {
        total += w->writers[i].n;
    }
    revisions = mem_alloc(total + 1, sizeof(*revisions));
    for (size_t i = 0; i < w->n_writers; i++) {
        for (size_t j = 0; j < w->writers[i].n; j++) {
            const struct write *x = &w->writers[i].writes[j];

            if (x->outcome != OUTCOME_ACKNOWLEDGED) {
                continue;
            }
            revisions[n++] = x->revision;
            if (!x->seen) {
                run_finding(w->run,
                            "write %zu.%zu was acknowledged at revision "
                            "%" PRId64 " and is lost",
                            i, j, x->revision);
            }
        }
    }
    qsort(revisions, n, sizeof(*revisions), compare_revisions);
    for (size_t i = 1; i < n; i++) {
        if (revisions[i] == revisions[i - 1]) {
            run_finding(w->run, "two writes got revision %" PRId64,
                        revisions[i]);
        }
    }
    free(revisions);
}

static void forget_seen(struct writers *w)
{
    for (size_t i = 0; i < w->n_writers; i++) {
        for (size_t j = 0; j < w->writers[i].n; j++) {
            w->writers[i].writes[j].seen = false;
        }
    }
}

void writers_verify(struct writers *w)
{
    struct client *c = client_new(cluster_address(w->run->cluster, 0));
    struct answer a = client_get(c, "s/0", 0, false);

    if (a.code != GRPC_OK) {
        run_finding(w->run, "the first read afterwards: %s", a.text);
    } else {
        forget_seen(w);
        verify_all_keys(w, a.range->header->revision);
        verify_histories(w);
        verify_acknowledged(w);
    }
    answer_release(&a);
    client_free(c);
}

void writers_report(const struct writers *w)
{
    size_t by_outcome[3] = {0};
    size_t unknown_applied = 0;
    uint64_t linearizable = 0, serializable = 0;

    for (size_t i = 0; i < w->n_writers; i++) {
        for (size_t j = 0; j < w->writers[i].n; j++) {
            const struct write *x = &w->writers[i].writes[j];

            by_outcome[x->outcome]++;
            unknown_applied += x->outcome == OUTCOME_UNKNOWN && x->seen;
        }
    }
    for (size_t i = 0; i < w->n_readers; i++) {
        linearizable += w->readers[i].linearizable;
        serializable += w->readers[i].serializable;
    }
    printf("writes: %zu acknowledged, %zu refused, %zu of unknown outcome (%zu "
           "of them applied)\n"
           "reads: %" PRIu64 " linearizable, %" PRIu64 " serializable\n",
           by_outcome[OUTCOME_ACKNOWLEDGED], by_outcome[OUTCOME_REFUSED],
           by_outcome[OUTCOME_UNKNOWN], unknown_applied, linearizable,
           serializable);
}
