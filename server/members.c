/*
 * members.c - the list of members.
 */
#include "server/members.h"

#include <stdlib.h>
#include <string.h>

static void free_urls(char **urls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(urls[i]);
    }
    free(urls);
}

void member_release(struct member *m)
{
    free(m->name);
    free_urls(m->peer_urls, m->n_peer_urls);
    free_urls(m->client_urls, m->n_client_urls);
}

void members_release(struct members *ms)
{
    for (size_t i = 0; i < ms->n; i++) {
        member_release(&ms->list[i]);
    }
    free(ms->list);
    free(ms->removed);
    *ms = (struct members){0};
}

static size_t place_of(const struct members *ms, uint64_t id)
{
    size_t i = 0;

    while (i < ms->n && ms->list[i].id < id) {
        i++;
    }
    return i;
}

struct member *members_find(const struct members *ms, uint64_t id)
{
    size_t i = place_of(ms, id);

    return i < ms->n && ms->list[i].id == id ? &ms->list[i] : NULL;
}

/* A URL has no line feed; one that does would come back as two. */
static char **copy_urls(char *const *urls, size_t n, size_t *n_copied)
{
    char **copy = mem_alloc(n, sizeof(copy[0]));

    *n_copied = 0;
    for (size_t i = 0; i < n; i++) {
        if (urls[i][0] != '\0' && strchr(urls[i], '\n') == NULL) {
            copy[(*n_copied)++] = mem_strdup(urls[i]);
        }
    }
    return copy;
}

struct member member_copy(const struct member *m)
{
    struct member copy = *m;

    copy.name = mem_strdup(m->name);
    copy.peer_urls = copy_urls(m->peer_urls, m->n_peer_urls, &copy.n_peer_urls);
    copy.client_urls =
        copy_urls(m->client_urls, m->n_client_urls, &copy.n_client_urls);
    return copy;
}

void members_put(struct members *ms, const struct member *m)
{
    struct member copy = member_copy(m); /* m may be the one that goes */
    size_t i = place_of(ms, m->id);

    if (i < ms->n && ms->list[i].id == copy.id) {
        member_release(&ms->list[i]);
    } else {
        ms->list = mem_realloc(ms->list, ms->n + 1, sizeof(ms->list[0]));
        memmove(ms->list + i + 1, ms->list + i,
                (ms->n - i) * sizeof(ms->list[0]));
        ms->n++;
    }
    ms->list[i] = copy;
}

static size_t removed_place(const struct members *ms, uint64_t id)
{
    size_t i = 0;

    while (i < ms->n_removed && ms->removed[i] < id) {
        i++;
    }
    return i;
}

bool members_is_removed(const struct members *ms, uint64_t id)
{
    size_t i = removed_place(ms, id);

    return i < ms->n_removed && ms->removed[i] == id;
}

void members_put_removed(struct members *ms, uint64_t id)
{
    size_t i = removed_place(ms, id);

    if (members_is_removed(ms, id)) {
        return;
    }
    ms->removed =
        mem_realloc(ms->removed, ms->n_removed + 1, sizeof(ms->removed[0]));
    memmove(ms->removed + i + 1, ms->removed + i,
            (ms->n_removed - i) * sizeof(ms->removed[0]));
    ms->removed[i] = id;
    ms->n_removed++;
}

static const Pawl__Command__V1__Member *
listed(const Pawl__Command__V1__MemberList *list, uint64_t id)
{
    for (size_t i = 0; list != NULL && i < list->n_members; i++) {
        if (list->members[i]->id == id) {
            return list->members[i];
        }
    }
    return NULL;
}

/* One server of the configuration; known: as the old list has it, or NULL. */
static struct member describe(const struct raft_server *server,
                              const Pawl__Command__V1__Member *said,
                              const struct member *known)
{
    struct member m = {.id = server->id, .name = (char *)""};

    m.is_learner = server->role == RAFT_LEARNER;
    if (known != NULL) {
        m = *known;
        m.is_learner = server->role == RAFT_LEARNER;
    }
    if (said != NULL) {
        m.auto_promote = said->auto_promote && m.is_learner;
        m.replaces = m.is_learner ? said->replaces : 0;
        m.peer_urls = said->peer_urls;
        m.n_peer_urls = said->n_peer_urls;
        if (said->name[0] != '\0') {
            m.name = said->name;
        }
        if (said->n_client_urls > 0) {
            m.client_urls = said->client_urls;
            m.n_client_urls = said->n_client_urls;
        }
    }
    return m;
}

Pawl__Command__V1__MemberList *
members_decode(const struct raft_configuration *c, struct arena *arena)
{
    return pawl__command__v1__member_list__unpack(&arena->allocator,
                                                  c->extra_size, c->extra);
}

static bool names(const struct raft_configuration *c, uint64_t id)
{
    for (size_t i = 0; i < c->n_servers; i++) {
        if (c->servers[i].id == id) {
            return true;
        }
    }
    return false;
}

void members_follow(struct members *ms, const struct raft_configuration *c,
                    const Pawl__Command__V1__MemberList *list)
{
    struct members now = {0};

    for (size_t i = 0; i < c->n_servers; i++) {
        raft_id id = c->servers[i].id;
        struct member m =
            describe(&c->servers[i], listed(list, id), members_find(ms, id));

        members_put(&now, &m);
    }
    now.removed = ms->removed;
    now.n_removed = ms->n_removed;
    ms->removed = NULL;
    for (size_t i = 0; i < ms->n; i++) {
        if (!names(c, ms->list[i].id)) {
            members_put_removed(&now, ms->list[i].id);
        }
    }
    members_release(ms);
    *ms = now;
}

void member_fill(Pawl__Command__V1__Member *to, const struct member *m)
{
    pawl__command__v1__member__init(to);
    to->id = m->id;
    to->name = m->name;
    to->n_peer_urls = m->n_peer_urls;
    to->peer_urls = m->peer_urls;
    to->n_client_urls = m->n_client_urls;
    to->client_urls = m->client_urls;
    to->is_learner = m->is_learner;
    to->auto_promote = m->auto_promote;
    to->replaces = m->replaces;
}

uint8_t *members_encode(const struct member *members, size_t n,
                        const Pawl__Command__V1__MemberChange *change,
                        size_t *size)
{
    Pawl__Command__V1__MemberList list = PAWL__COMMAND__V1__MEMBER_LIST__INIT;
    Pawl__Command__V1__Member *each = mem_alloc(n, sizeof(each[0]));
    uint8_t *bytes;

    list.n_members = n;
    list.members = mem_alloc(n, sizeof(list.members[0]));
    for (size_t i = 0; i < n; i++) {
        member_fill(&each[i], &members[i]);
        list.members[i] = &each[i];
    }
    list.change = (Pawl__Command__V1__MemberChange *)change; /* only read */
    *size = pawl__command__v1__member_list__get_packed_size(&list);
    bytes = mem_alloc(*size, 1);
    pawl__command__v1__member_list__pack(&list, bytes);
    free(list.members);
    free(each);
    return bytes;
}

struct slice urls_join(char *const *urls, size_t n, struct arena *arena)
{
    size_t size = 0;
    uint8_t *text, *to;

    for (size_t i = 0; i < n; i++) {
        size += strlen(urls[i]) + 1;
    }
    text = to = arena_alloc(arena, size);
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(urls[i]);

        memcpy(to, urls[i], length);
        to[length] = '\n';
        to += length + 1;
    }
    return (struct slice){text, size > 0 ? size - 1 : 0};
}

char **urls_split(struct slice text, struct arena *arena, size_t *n)
{
    const char *at = arena_printf(arena, "%.*s", (int)text.size,
                                  text.size > 0 ? (const char *)text.data : "");
    char **urls = arena_alloc(arena, (text.size + 1) * sizeof(urls[0]));

    *n = 0;
    while (*at != '\0') {
        size_t length = strcspn(at, "\n");

        if (length > 0) {
            urls[(*n)++] = arena_printf(arena, "%.*s", (int)length, at);
        }
        at += length + (at[length] == '\n');
    }
    return urls;
}
