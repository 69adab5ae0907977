/*
 * How fast the state machine is, and how large: bench_state [keys] [rounds].
 * Figures go to stdout, one a line. Keys of 16 bytes, values of 256.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "raft/base.h"
#include "server/applier.h"

#define VALUE_BYTES 256

static struct applier *applier;
static struct arena arena;
static struct rng rng;
static unsigned keys = 100000;

static double resident_mb(void)
{
    char line[128], *second;
    FILE *f = fopen("/proc/self/statm", "r");

    if (f == NULL || fgets(line, sizeof(line), f) == NULL ||
        (second = strchr(line, ' ')) == NULL) {
        abort();
    }
    fclose(f);
    return strtod(second, NULL) * (double)sysconf(_SC_PAGESIZE) / 1e6;
}

/* CPU time: other work on the machine touches it least. */
static uint64_t cpu_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void tell(const char *what, uint64_t start_us, double n)
{
    double us = (double)(cpu_us() - start_us);

    printf("%-44s %8.3f us of CPU each, %8.1f ms\n", what, us / n, us / 1000);
}

static void put(unsigned i)
{
    Pawl__Command__V1__Command c = PAWL__COMMAND__V1__COMMAND__INIT;
    Etcdserverpb__PutRequest rq = ETCDSERVERPB__PUT_REQUEST__INIT;
    struct raft_entry e = {.term = 1, .type = RAFT_ENTRY_COMMAND};
    uint8_t value[VALUE_BYTES], data[VALUE_BYTES + 64];
    struct applied out;
    char key[24];

    snprintf(key, sizeof(key), "key-%012u", i);
    memset(value, (int)i, sizeof(value));
    rq.key = (ProtobufCBinaryData){strlen(key), (uint8_t *)key};
    rq.value = (ProtobufCBinaryData){sizeof(value), value};
    c.member = c.incarnation = c.request = 1;
    c.change_case = PAWL__COMMAND__V1__COMMAND__CHANGE_PUT;
    c.put = &rq;
    e.size = pawl__command__v1__command__pack(&c, data);
    e.data = data;
    e.index = applier_index(applier) + 1;
    applier_apply(applier, &e, &arena, &out);
    arena_reset(&arena);
    ASSERT(out.status == ST_OK);
}

static void write_changes(struct statedb *db)
{
    struct changeset *c = applier_take_changes(applier);

    ASSERT(statedb_write(db, &c, 1) == STATEDB_OK);
    applier_persisted(applier, changeset_index(c));
    changeset_free(c);
}

static void range(const char *what, unsigned n, unsigned span, bool count_only,
                  int64_t revision)
{
    uint64_t start = cpu_us();

    for (unsigned i = 0; i < n; i++) {
        Etcdserverpb__RangeRequest rq = ETCDSERVERPB__RANGE_REQUEST__INIT;
        Etcdserverpb__RangeResponse rs = ETCDSERVERPB__RANGE_RESPONSE__INIT;
        unsigned first = (unsigned)rng_below(&rng, keys - span + 1);
        char from[24], to[24];

        snprintf(from, sizeof(from), "key-%012u", first);
        snprintf(to, sizeof(to), "key-%012u", first + span);
        rq.key = (ProtobufCBinaryData){strlen(from), (uint8_t *)from};
        if (span > 1) {
            rq.range_end = (ProtobufCBinaryData){strlen(to), (uint8_t *)to};
        }
        rq.count_only = count_only;
        rq.revision = revision;
        ASSERT(kv_range(applier_kv(applier), &rq, &arena, &rs) == ST_OK);
        ASSERT(rs.count == (revision == 0 ? span : 1));
        arena_reset(&arena);
    }
    tell(what, start, n);
}

/* In a process of its own, whose memory is that of a start. */
static void load(const char *path)
{
    struct statedb *db;
    char error[256];
    uint64_t start = cpu_us();

    ASSERT(statedb_open(path, NULL, 1, 1, &db, error, sizeof(error)) == 0);
    applier = applier_new(statedb_fetch, db);
    ASSERT(statedb_load(db, applier) == STATEDB_OK);
    tell("open and load", start, keys);
    printf("%-44s %8.1f MB\n", "resident after load", resident_mb());
    range("get, loaded", 1000000, 1, false, 0);
    applier_free(applier);
    statedb_close(db);
}

static unsigned argument(int argc, char **argv, int i, unsigned otherwise)
{
    return argc > i ? (unsigned)strtoul(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    unsigned rounds = argument(argc, argv, 2, 3);
    char directory[] = "/tmp/pawl-bench-XXXXXX", path[64], error[256];
    struct statedb *db;
    uint64_t start;

    keys = argument(argc, argv, 1, keys);
    rng_init(&rng, 1);
    arena_init(&arena);
    if (argc > 3) {
        load(argv[3]);
        return 0;
    }
    ASSERT(mkdtemp(directory) != NULL);
    snprintf(path, sizeof(path), "%s/state.db", directory);
    ASSERT(statedb_open(path, NULL, 1, 1, &db, error, sizeof(error)) == 0);
    applier = applier_new(statedb_fetch, db);
    printf("%-44s %8.1f MB\n", "resident at start", resident_mb());
    start = cpu_us();
    for (unsigned i = 0; i < keys; i++) {
        put((unsigned)((uint64_t)i * 7919 % keys));
    }
    tell("apply a put of a new key", start, keys);
    start = cpu_us();
    write_changes(db);
    tell("write them to state.db, one transaction", start, keys);
    malloc_trim(0);
    printf("%-44s %8.1f MB\n", "resident, without what malloc keeps",
           resident_mb());
    range("get", 1000000, 1, false, 0);
    range("range of 100", 20000, 100, false, 0);
    range("count of 10000", 1000000, 10000, true, 0);
    fflush(stdout);
    if (fork() == 0) {
        snprintf(error, sizeof(error), "%u", keys);
        execl(argv[0], argv[0], error, "load", path, (char *)NULL);
        _exit(1);
    }
    wait(NULL);
    for (unsigned round = 0; round < rounds; round++) {
        start = cpu_us();
        for (unsigned i = 0; i < keys; i++) {
            put((unsigned)rng_below(&rng, keys));
            if (i % 10000 == 9999) {
                write_changes(db);
            }
        }
        tell("apply a put of an old key, and write", start, keys);
    }
    printf("%-44s %8.1f MB\n", "resident", resident_mb());
    range("get", 1000000, 1, false, 0);
    applier_free(applier);
    statedb_close(db);
    arena_release(&arena);
    return unlink(path) != 0 || rmdir(directory) != 0;
}
