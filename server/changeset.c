/*
 * changeset.c - rows in a buffer: the kind, the numbers, the byte strings,
 * each row padded to eight bytes so that the digest reads whole words.
 */
#include "server/changeset.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define NUMBERS_MAX 6
#define STRINGS_MAX 3

/* What every row is made of. */
struct parts {
    int64_t number[NUMBERS_MAX];
    struct slice string[STRINGS_MAX];
};

static const struct {
    unsigned numbers, strings;
} shape[] = {
    [CHANGESET_KV] = {6, 2},
    [CHANGESET_LEASE_GRANTED] = {2, 0},
    [CHANGESET_LEASE_REVOKED] = {1, 0},
    [CHANGESET_MEMBERS_CLEARED] = {0, 0},
    [CHANGESET_MEMBER] = {2, 3},
    [CHANGESET_CONFIGURATION] = {0, 1},
};

struct changeset *changeset_new(void)
{
    return mem_alloc(1, sizeof(struct changeset));
}

void changeset_free(struct changeset *c)
{
    if (c == NULL) {
        return;
    }
    buffer_release(&c->rows);
    free(c);
}

raft_index changeset_index(const struct changeset *c)
{
    return c->index;
}

static void take_apart(const struct changeset_row *row, struct parts *p)
{
    switch (row->kind) {
    case CHANGESET_KV:
        p->number[0] = row->kv.mod_revision;
        p->number[1] = row->kv.sub;
        p->number[2] = row->kv.deleted;
        p->number[3] = row->kv.create_revision;
        p->number[4] = row->kv.version;
        p->number[5] = row->kv.lease;
        p->string[0] = row->kv.key;
        p->string[1] = row->kv.value;
        break;
    case CHANGESET_LEASE_GRANTED:
    case CHANGESET_LEASE_REVOKED:
        p->number[0] = row->lease.id;
        p->number[1] = row->lease.ttl_s;
        break;
    case CHANGESET_MEMBERS_CLEARED:
        break;
    case CHANGESET_MEMBER:
        p->number[0] = (int64_t)row->member.id;
        p->number[1] = row->member.is_learner;
        p->string[0] = row->member.name;
        p->string[1] = row->member.peer_urls;
        p->string[2] = row->member.client_urls;
        break;
    case CHANGESET_CONFIGURATION:
        p->string[0] = row->configuration;
        break;
    }
}

static void put_together(const struct parts *p, struct changeset_row *row)
{
    switch (row->kind) {
    case CHANGESET_KV:
        row->kv = (struct kv_change){
            .mod_revision = p->number[0],
            .sub = p->number[1],
            .deleted = p->number[2] != 0,
            .create_revision = p->number[3],
            .version = p->number[4],
            .lease = p->number[5],
            .key = p->string[0],
            .value = p->string[1],
        };
        break;
    case CHANGESET_LEASE_GRANTED:
    case CHANGESET_LEASE_REVOKED:
        row->lease.id = p->number[0];
        row->lease.ttl_s = p->number[1];
        break;
    case CHANGESET_MEMBERS_CLEARED:
        break;
    case CHANGESET_MEMBER:
        row->member.id = (uint64_t)p->number[0];
        row->member.is_learner = p->number[1] != 0;
        row->member.name = p->string[0];
        row->member.peer_urls = p->string[1];
        row->member.client_urls = p->string[2];
        break;
    case CHANGESET_CONFIGURATION:
        row->configuration = p->string[0];
        break;
    }
}

/*
 * A running digest: two members that applied the same entries have the same.
 * It tells accidents apart, not attackers, and must not cost more than the
 * copy: a word at a time, spread by splitmix64's finaliser.
 */
static uint64_t mix(uint64_t digest, const uint8_t *data, size_t size)
{
    ASSERT(size % 8 == 0);
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word;

        memcpy(&word, data + i, 8);
        digest = (digest ^ le64toh(word)) * UINT64_C(0xbf58476d1ce4e5b9);
        digest ^= digest >> 29;
    }
    return digest;
}

static void append_number(struct buffer *b, int64_t number)
{
    uint64_t word = htole64((uint64_t)number);

    buffer_append(b, &word, sizeof(word));
}

uint64_t changeset_append(struct changeset *c, const struct changeset_row *row,
                          uint64_t digest)
{
    static const uint8_t zeros[8];
    struct parts p = {0};
    size_t start = c->rows.size;

    take_apart(row, &p);
    append_number(&c->rows, row->kind);
    for (unsigned i = 0; i < shape[row->kind].numbers; i++) {
        append_number(&c->rows, p.number[i]);
    }
    for (unsigned i = 0; i < shape[row->kind].strings; i++) {
        append_number(&c->rows, (int64_t)p.string[i].size);
        buffer_append(&c->rows, p.string[i].data, p.string[i].size);
        buffer_append(&c->rows, zeros, (8 - p.string[i].size % 8) % 8);
    }
    return mix(digest, c->rows.data + start, c->rows.size - start);
}

static int64_t read_number(const struct changeset *c, size_t *at)
{
    uint64_t word;

    ASSERT(c->rows.size - *at >= sizeof(word));
    memcpy(&word, c->rows.data + *at, sizeof(word));
    *at += sizeof(word);
    return (int64_t)le64toh(word);
}

bool changeset_next(const struct changeset *c, size_t *at,
                    struct changeset_row *row)
{
    struct parts p = {0};

    if (*at == c->rows.size) {
        return false;
    }
    row->kind = (enum changeset_kind)read_number(c, at);
    ASSERT(row->kind >= CHANGESET_KV && row->kind <= CHANGESET_CONFIGURATION);
    for (unsigned i = 0; i < shape[row->kind].numbers; i++) {
        p.number[i] = read_number(c, at);
    }
    for (unsigned i = 0; i < shape[row->kind].strings; i++) {
        size_t size = (size_t)read_number(c, at);
        size_t padded = (size + 7) / 8 * 8;

        ASSERT(padded <= c->rows.size - *at);
        p.string[i] = (struct slice){c->rows.data + *at, size};
        *at += padded;
    }
    put_together(&p, row);
    return true;
}
