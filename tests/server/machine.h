/*
 * machine.h - a state machine for tests: an applier that is fed commands in
 * the way the log feeds it, packed into entries.
 */
#ifndef PAWL_TESTS_SERVER_MACHINE_H
#define PAWL_TESTS_SERVER_MACHINE_H

#include "server/applier.h"

struct machine {
    struct applier *applier;
    struct arena arena; /* lives as long as the machine */
    raft_term term;
    struct applied out; /* of the last entry */
    /* Goes into every command that follows. */
    const char *fence_key; /* NULL: none */
    int64_t fence_token;
};

void machine_init(struct machine *m, kv_fetch *fetch, void *context);
void machine_release(struct machine *m);
struct kv *machine_kv(struct machine *m);
struct leases *machine_leases(struct machine *m);

/* One entry, whatever it holds. */
enum status machine_entry(struct machine *m, enum raft_entry_type type,
                          const void *data, size_t size);
enum status machine_command(struct machine *m, Pawl__Command__V1__Command *c);

/* Commands. Keys and values are strings here; NULL is empty. */
enum status machine_put(struct machine *m, const char *key, const char *value,
                        int64_t lease);
enum status machine_delete(struct machine *m, const char *key,
                           const char *range_end);
enum status machine_grant(struct machine *m, int64_t id, int64_t ttl);
enum status machine_revoke(struct machine *m, int64_t id, uint64_t expiry_term);
enum status machine_acquire(struct machine *m, const char *name, int64_t lease,
                            int64_t ttl, bool try);
enum status machine_release_lock(struct machine *m, const char *key,
                                 int64_t token, bool only_if_waiting,
                                 bool revoke_lease);
enum status machine_publish(struct machine *m, uint64_t id, const char *name,
                            const char *url);
/* A configuration entry with voters 1 .. n and their addresses. */
void machine_configure(struct machine *m, size_t n);

/* Questions. */
int64_t machine_revision(struct machine *m);
/* The pair's create_revision, mod_revision, …; all 0 if there is none. */
struct kv_change machine_get(struct machine *m, const char *key);
struct slice text_slice(const char *text);
bool slice_is(struct slice s, const char *text);

#endif
