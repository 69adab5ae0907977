/*
 * test_store.c - raft.db on a disk that loses, tears, refuses and rots.
 *
 * A model (struct wanted) says what the log must hold. What an entry carries
 * follows from its index and term, so the model is a list of terms.
 */
#include "raft/store.h"

#include <check.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raft/base.h"
#include "tests/sim/disk.h"

#define DB "raft.db"
#define WAL "raft.db-wal"
#define LOG_MAX 4000
#define FRAME_SIZE (24 + 4096)

struct wanted {
    raft_index prev_index, last_index;
    raft_term prev_term;
    raft_term terms[LOG_MAX];
    struct raft_hard_state hard_state;
};

static char error[600];

/* ---- entries and the model -------------------------------------------------
 */

static size_t entry_size(raft_index index, raft_term term)
{
    return (size_t)((index * 97 + term * 31) % 700);
}

static uint8_t entry_byte(raft_index index, raft_term term, size_t i)
{
    return (uint8_t)(index * 7 + term * 3 + i);
}

static struct raft_entry make_entry(raft_index index, raft_term term)
{
    struct raft_entry e = {.index = index,
                           .term = term,
                           .type = RAFT_ENTRY_COMMAND,
                           .size = entry_size(index, term)};
    uint8_t *data = raft_alloc(e.size, 1);

    for (size_t i = 0; i < e.size; i++) {
        data[i] = entry_byte(index, term, i);
    }
    e.data = data;
    return e;
}

static bool entry_is_right(const struct raft_entry *e, raft_index index,
                           raft_term term)
{
    if (e->index != index || e->term != term || e->type != RAFT_ENTRY_COMMAND ||
        e->size != entry_size(index, term)) {
        return false;
    }
    for (size_t i = 0; i < e->size; i++) {
        if (e->data[i] != entry_byte(index, term, i)) {
            return false;
        }
    }
    return true;
}

static bool content_is(const struct store_content *c, const struct wanted *w)
{
    if (c->first_prev_index != w->prev_index ||
        c->first_prev_term != w->prev_term ||
        c->n_entries != w->last_index - w->prev_index ||
        c->hard_state.term != w->hard_state.term ||
        c->hard_state.voted_for != w->hard_state.voted_for ||
        c->hard_state.commit != w->hard_state.commit) {
        return false;
    }
    if (w->prev_index > 0 &&
        (c->configuration.n_servers != 1 ||
         c->configuration.servers[0].id != w->prev_index)) {
        return false;
    }
    for (size_t i = 0; i < c->n_entries; i++) {
        raft_index index = w->prev_index + i + 1;

        if (!entry_is_right(&c->entries[i], index, w->terms[index])) {
            return false;
        }
    }
    return true;
}

/* ---- steps: done to the store, and to the model -----------------------------
 */

static enum store_status open_store(struct disk *d, struct store **s)
{
    struct store_options options = {.path = DB,
                                    .vfs = disk_vfs(d),
                                    .cluster_id = 7,
                                    .member_id = 3,
                                    .create = true,
                                    .wal_pages = 16};

    return store_open(&options, s, error, sizeof error);
}

static struct store *open_ok(struct disk *d)
{
    struct store *s;
    enum store_status st = open_store(d, &s);

    ck_assert_msg(st == STORE_OK, "%s", error);
    return s;
}

/* One transaction: cut from truncate_from (0: no), then append n entries. */
static enum store_status write_entries(struct store *s, struct wanted *w,
                                       raft_index truncate_from, size_t n,
                                       raft_term term)
{
    struct raft_entry entries[64];
    struct store_batch b = {.truncate_from = truncate_from,
                            .entries = entries,
                            .n_entries = n,
                            .hard_state = &w->hard_state};
    enum store_status st;

    ck_assert(n <= 64 && w->last_index + n < LOG_MAX);
    if (truncate_from != 0) {
        w->last_index = truncate_from - 1;
    }
    for (size_t i = 0; i < n; i++) {
        entries[i] = make_entry(w->last_index + 1, term);
        w->terms[++w->last_index] = term;
    }
    w->hard_state.term = term;
    w->hard_state.voted_for = term % 3 + 1;
    w->hard_state.commit = w->prev_index;
    st = store_write(s, &b, 1);
    for (size_t i = 0; i < n; i++) {
        raft_free((void *)entries[i].data);
    }
    return st;
}

static enum store_status compact(struct store *s, struct wanted *w,
                                 raft_index index, size_t n_max, size_t *left)
{
    struct raft_server server = {.id = index, .role = RAFT_VOTER};
    struct raft_configuration c = {.servers = &server, .n_servers = 1};

    if (index > w->prev_index) {
        w->prev_index = index;
        w->prev_term = w->terms[index];
    }
    return store_compact(s, index, &c, n_max, left);
}

static bool store_holds(struct store *s, const struct wanted *w)
{
    struct store_content c;
    enum store_status st = store_load(s, &c);
    bool right;

    ck_assert_msg(st == STORE_OK, "%s", store_error(s));
    right = content_is(&c, w);
    store_content_release(&c);
    return right;
}

/* Open, and look whether it holds a or, if not NULL, b. Says which: 'a', 'b'.
 */
static char open_and_compare(struct disk *d, const struct wanted *a,
                             const struct wanted *b)
{
    struct store *s = open_ok(d);
    char which = store_holds(s, a)                ? 'a'
                 : b != NULL && store_holds(s, b) ? 'b'
                                                  : '?';

    store_close(s);
    return which;
}

/* ---- power cuts -------------------------------------------------------------
 */

/* A random step; most runs meet truncation, compaction and checkpoints. */
static enum store_status random_step(struct store *s, struct wanted *w,
                                     struct rng *g)
{
    raft_term term = w->hard_state.term + rng_below(g, 2);
    raft_index room = w->last_index - w->prev_index;
    size_t left;

    switch (rng_below(g, 8)) {
    case 0:
        return room == 0 ? STORE_OK
                         : compact(s, w, w->prev_index + rng_below(g, room + 1),
                                   rng_below(g, 8), &left);
    case 1:
        return store_checkpoint(s, rng_below(g, 2));
    case 2:
        return write_entries(s, w,
                             room == 0 ? 0 : w->last_index - rng_below(g, room),
                             rng_below(g, 5), term);
    case 3:
        return write_entries(s, w, 0, rng_below(g, 60), term);
    default:
        return write_entries(s, w, 0, rng_below(g, 3), term);
    }
}

/*
 * A2, F5: at whatever operation of the disk the power goes or the process
 * dies, the log is what the last finished step left or what the interrupted
 * one was about to, and nothing else; again and again on one disk.
 */
START_TEST(A2_F5_a_crash_anywhere_leaves_all_of_a_step_or_nothing)
{
    struct rng g;
    struct disk *d = disk_new((uint64_t)_i, _i % 2 ? 512 : 4096);
    static struct wanted before, after;

    rng_init(&g, (uint64_t)_i * 7919);
    memset(&before, 0, sizeof before);
    for (int life = 0; life < 12; life++) {
        struct store *s;
        enum store_status st;

        disk_stop_at(d, 1 + rng_below(&g, 300));
        after = before;
        st = open_store(d, &s);
        while (st == STORE_OK) {
            before = after;
            if (after.last_index + 64 >= LOG_MAX) {
                break;
            }
            st = random_step(s, &after, &g);
        }
        store_close(s);
        disk_restart(d, rng_below(&g, 3) > 0);
        switch (open_and_compare(d, &before, &after)) {
        case 'a':
            break;
        case 'b':
            before = after;
            break;
        default:
            ck_abort_msg("seed %d life %d: neither before nor after", _i, life);
        }
    }
    disk_free(d);
}
END_TEST

/* O6, G2: what store_write() confirmed needs no sync any more. */
START_TEST(G2_a_confirmed_write_survives_losing_all_that_was_not_synced)
{
    struct disk *d = disk_new(1, 4096);
    static struct wanted w;

    memset(&w, 0, sizeof w);
    for (int i = 0; i < 40; i++) {
        struct store *s = open_ok(d);

        ck_assert(store_holds(s, &w));
        ck_assert_int_eq(write_entries(s, &w, 0, (size_t)i % 7, 1), STORE_OK);
        store_close(s);
        disk_restart_and_lose_all(d);
    }
    ck_assert_int_eq(open_and_compare(d, &w, NULL), 'a');
    disk_free(d);
}
END_TEST

/*
 * What a killed process wrote and never synced looks fine to the next one.
 * Once that one has opened the log, it may be believed: it is synced.
 */
START_TEST(F1_what_recovery_found_is_synced_before_it_is_believed)
{
    int n_found_new = 0;

    for (uint64_t stop = 1; stop < 40; stop++) {
        struct disk *d = disk_new(stop, 4096);
        struct store *s = open_ok(d);
        static struct wanted before, after;
        struct store_content c;

        memset(&before, 0, sizeof before);
        ck_assert_int_eq(write_entries(s, &before, 0, 3, 1), STORE_OK);
        after = before;
        disk_stop_at(d, stop);
        (void)write_entries(s, &after, 0, 5, 2); /* its end may be unseen */
        store_close(s);
        disk_restart(d, false); /* killed: the page cache stays */
        s = open_ok(d);
        ck_assert_int_eq(store_load(s, &c), STORE_OK);
        store_close(s);
        disk_restart_and_lose_all(d); /* and now the power goes */
        n_found_new += content_is(&c, &after);
        ck_assert_int_eq(
            open_and_compare(d, content_is(&c, &after) ? &after : &before,
                             NULL),
            'a');
        store_content_release(&c);
        disk_free(d);
    }
    ck_assert_int_gt(n_found_new, 0);
}
END_TEST

/*
 * A sync failed, the process died of it, the next one finds pages in the cache
 * that are on no disk and that no sync will bring there. If it reads them as
 * log, they are log for good.
 */
START_TEST(F1_what_a_failed_sync_left_is_written_again_or_gone)
{
    struct disk *d = disk_new((uint64_t)_i, _i % 2 ? 512 : 4096);
    static struct wanted before, after;
    struct store *s = open_ok(d);
    struct store_content c;
    bool is_after;

    memset(&before, 0, sizeof before);
    for (int i = 0; i < _i % 5; i++) {
        ck_assert_int_eq(write_entries(s, &before, 0, 3, 1), STORE_OK);
    }
    after = before;
    disk_fail_operation(d, DISK_SYNC, 1, SQLITE_IOERR_FSYNC);
    ck_assert_int_eq(write_entries(s, &after, 0, 5, 2), STORE_IO);
    store_close(s);
    disk_restart(d, false);
    s = open_ok(d);
    ck_assert_int_eq(store_load(s, &c), STORE_OK);
    is_after = content_is(&c, &after);
    ck_assert(is_after || content_is(&c, &before));
    store_content_release(&c);
    store_close(s);
    disk_restart(d, true);
    ck_assert_int_eq(open_and_compare(d, is_after ? &after : &before, NULL),
                     'a');
    disk_free(d);
}
END_TEST

/* F5: the file ends anywhere in what the last, unconfirmed write wrote. */
START_TEST(F5_a_log_cut_at_any_byte_of_the_last_write_starts)
{
    static struct wanted before, after;
    struct disk *d = disk_new(1, 4096);
    struct store *s = open_ok(d);
    size_t begin, end;

    memset(&before, 0, sizeof before);
    ck_assert_int_eq(write_entries(s, &before, 0, 3, 1), STORE_OK);
    after = before;
    ck_assert_int_eq(store_checkpoint(s, true), STORE_OK);
    ck_assert_int_eq(write_entries(s, &after, 0, 2, 1), STORE_OK);
    store_close(s);
    disk_restart(d, false);
    begin = 32; /* the WAL began again after the checkpoint */
    end = begin;
    while (memcmp(disk_file_bytes(d, WAL) + end + 8,
                  disk_file_bytes(d, WAL) + 16, 8) == 0) {
        end += FRAME_SIZE;
    }
    ck_assert_uint_gt(end, begin + FRAME_SIZE);
    for (size_t at = begin; at < end;
         at += at % 4120 < 64 || end - at < 64 ? 1 : 61) {
        struct disk *copy = disk_clone(d, at);

        disk_cut_file(copy, WAL, at);
        ck_assert_int_eq(open_and_compare(copy, &before, NULL), 'a');
        disk_free(copy);
    }
    disk_free(d);
}
END_TEST

/* ---- refusals ---------------------------------------------------------------
 */

/*
 * F1: a sync fails once and would succeed if it were tried again. It is not:
 * the store refuses everything, also after a sync that "succeeds".
 */
START_TEST(F1_a_failed_sync_is_never_retried)
{
    static struct wanted before, after;
    struct disk *d = disk_new((uint64_t)_i, 4096);
    struct store *s = open_ok(d);
    struct store_content c;
    size_t left;

    memset(&before, 0, sizeof before);
    ck_assert_int_eq(write_entries(s, &before, 0, 5, 1), STORE_OK);
    after = before;
    disk_fail_operation(d, DISK_SYNC, 1, SQLITE_IOERR_FSYNC);
    ck_assert_int_eq(write_entries(s, &after, 0, 5, 1), STORE_IO);
    ck_assert_ptr_nonnull(strstr(store_error(s), DB));
    for (int i = 0; i < 3; i++) {
        struct wanted more = after;

        ck_assert_int_eq(write_entries(s, &more, 0, 1, 1), STORE_IO);
        ck_assert_int_eq(store_checkpoint(s, true), STORE_IO);
        ck_assert_int_eq(compact(s, &more, 2, 1, &left), STORE_IO);
        ck_assert_int_eq(store_load(s, &c), STORE_IO);
    }
    store_close(s);
    disk_restart(d, _i % 2);
    ck_assert_int_ne(open_and_compare(d, &before, &after), '?');
    disk_free(d);
}
END_TEST

/* A life of the store from nothing; *w follows each step that was begun. */
static enum store_status live(struct disk *d, struct wanted *done,
                              struct wanted *w)
{
    struct store *s = NULL;
    enum store_status st = open_store(d, &s);
    struct store_content c;
    size_t left = 1;
    int step = 0;

    while (st == STORE_OK && step < 12) {
        *done = *w;
        switch (step++) {
        case 0:
        case 1:
        case 6:
            st = write_entries(s, w, 0, 20, 2);
            break;
        case 2:
            st = write_entries(s, w, 15, 9, 3);
            break;
        case 3:
            st = compact(s, w, 10, 4, &left);
            break;
        case 4:
            st = store_checkpoint(s, true);
            break;
        case 5:
            st = compact(s, w, 10, 40, &left);
            break;
        case 7:
            if ((st = store_load(s, &c)) == STORE_OK) {
                store_content_release(&c);
            }
            break;
        case 8:
            store_close(s);
            s = NULL;
            st = open_store(d, &s);
            break;
        default:
            st = write_entries(s, w, 0, 30, 4);
        }
    }
    if (st == STORE_OK) {
        *done = *w;
    }
    if (st != STORE_OK && s != NULL) { /* poisoned */
        ck_assert_int_ne(store_checkpoint(s, true), STORE_OK);
        ck_assert_int_gt((int)strlen(store_error(s)), 20);
    }
    store_close(s);
    return st;
}

static const struct {
    int code;
    unsigned kinds;
    enum store_status wanted;
} refusals[] = {
    {SQLITE_IOERR_READ, DISK_READ, STORE_IO},
    {SQLITE_CORRUPT, DISK_READ, STORE_CORRUPT},
    {SQLITE_IOERR_WRITE, DISK_WRITE, STORE_IO},
    {SQLITE_FULL, DISK_WRITE, STORE_FULL},
    {SQLITE_IOERR_FSYNC, DISK_SYNC, STORE_IO},
    {SQLITE_IOERR_TRUNCATE, DISK_TRUNCATE, STORE_IO},
    {SQLITE_IOERR_FSTAT, DISK_SIZE, STORE_IO},
    {SQLITE_IOERR_NOMEM, DISK_READ | DISK_WRITE, STORE_IO},
    {SQLITE_IOERR_LOCK, DISK_LOCK, STORE_IO},
    {SQLITE_BUSY, DISK_LOCK, STORE_LOCKED},
    {SQLITE_CANTOPEN, DISK_OPEN, STORE_IO},
    {SQLITE_PERM, DISK_OPEN, STORE_IO},
    {SQLITE_IOERR_ACCESS, DISK_ACCESS, STORE_IO},
    {SQLITE_IOERR_DELETE, DISK_DELETE, STORE_IO},
};

/*
 * G7: each code at each call that can give it. It comes out as a status, the
 * store is poisoned, and the next start finds the log before or after.
 */
START_TEST(G7_no_refusal_of_the_disk_is_swallowed)
{
    static struct wanted done, w;
    uint64_t n = 0;

    for (;;) {
        struct disk *d = disk_new(n, 4096);
        enum store_status st;

        memset(&w, 0, sizeof w);
        memset(&done, 0, sizeof done);
        n++;
        disk_fail_operation(d, refusals[_i].kinds, n, refusals[_i].code);
        st = live(d, &done, &w);
        if (disk_errors(d) == 0) { /* there is no n-th call any more */
            ck_assert_int_eq(st, STORE_OK);
            disk_free(d);
            break;
        }
        ck_assert_msg(st == refusals[_i].wanted, "call %d: status %d: %s",
                      (int)n, (int)st, error);
        disk_restart(d, n % 2);
        ck_assert_int_ne(open_and_compare(d, &done, &w), '?');
        disk_free(d);
    }
    ck_assert_int_gt((int)n, 1);
}
END_TEST

/* ---- rot
 * --------------------------------------------------------------------- */

/* A log of some pages, all of it moved out of the WAL. */
static struct disk *make_settled_log(struct wanted *w)
{
    struct disk *d = disk_new(1, 4096);
    struct store *s = open_ok(d);

    memset(w, 0, sizeof *w);
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(write_entries(s, w, 0, 10, 1), STORE_OK);
    }
    ck_assert_int_eq(store_checkpoint(s, true), STORE_OK);
    ck_assert_int_eq(write_entries(s, w, 0, 0, 2), STORE_OK);
    ck_assert_int_eq(store_checkpoint(s, true), STORE_OK);
    store_close(s);
    disk_restart(d, false);
    /* Else recovery would mend the file from the WAL's old frames. */
    disk_cut_file(d, WAL, 0);
    return d;
}

/*
 * F2, F4: one bit flips anywhere in the file. The log is then refused, or (an
 * unused byte) read as it was: never read as anything else.
 */
START_TEST(F2_a_flipped_bit_is_never_read_as_a_log)
{
    static struct wanted w;
    struct disk *d = make_settled_log(&w);
    size_t size = (size_t)disk_file_size(d, DB);
    int n_refused = 0;

    for (size_t at = (size_t)_i; at < size; at += 101) {
        struct disk *copy = disk_clone(d, at);
        struct store *s = NULL;
        struct store_content c;
        enum store_status st;

        disk_flip_bit(copy, DB, at, (unsigned)(at % 8));
        st = open_store(copy, &s);
        if (st == STORE_OK && (st = store_load(s, &c)) == STORE_OK) {
            ck_assert_msg(content_is(&c, &w), "byte %zu", at);
            store_content_release(&c);
        }
        ck_assert_msg(st == STORE_OK || st == STORE_CORRUPT ||
                          st == STORE_VERSION,
                      "byte %zu: %s", at, error);
        n_refused += st != STORE_OK;
        store_close(s);
        disk_free(copy);
    }
    ck_assert_int_gt(n_refused, (int)(size / 101 / 3));
    disk_free(d);
}
END_TEST

/*
 * F4: one page of the file is as it was before the last transactions: a write
 * that was lost, or went elsewhere. Every single page is right by itself.
 */
START_TEST(F4_a_lost_page_write_is_seen)
{
    static struct wanted w;
    struct disk *d = make_settled_log(&w);
    struct disk *older = disk_clone(d, 2);
    struct store *s = open_ok(d);
    int n_pages = 0, n_refused = 0;

    ck_assert_int_eq(write_entries(s, &w, 0, 20, 2), STORE_OK);
    ck_assert_int_eq(store_checkpoint(s, true), STORE_OK);
    store_close(s);
    disk_restart(d, false);
    disk_cut_file(d, WAL, 0);
    for (size_t at = 4096; at < (size_t)disk_file_size(older, DB); at += 4096) {
        struct disk *copy = disk_clone(d, at);
        struct store_content c;
        enum store_status st;

        if (memcmp(disk_file_bytes(older, DB) + at, disk_file_bytes(d, DB) + at,
                   4096) == 0) {
            disk_free(copy);
            continue;
        }
        disk_put_bytes(copy, DB, at, disk_file_bytes(older, DB) + at, 4096);
        st = open_store(copy, &s);
        if (st == STORE_OK && (st = store_load(s, &c)) == STORE_OK) {
            ck_assert(content_is(&c, &w)); /* a page of the free list */
            store_content_release(&c);
        }
        n_pages++;
        n_refused += st == STORE_CORRUPT;
        store_close(s);
        disk_free(copy);
    }
    ck_assert_int_ge(n_pages, 2);
    ck_assert_int_eq(n_refused, n_pages);
    disk_free(older);
    disk_free(d);
}
END_TEST

/*
 * F2: damage in the WAL with synced commits behind it. SQLite by itself takes
 * the part before and says nothing: a vote would be forgotten.
 */
START_TEST(F2_damage_in_the_middle_of_the_wal_is_not_taken_for_a_torn_tail)
{
    static struct wanted w;
    struct disk *d = disk_new(1, 4096);
    struct store *s = open_ok(d);
    size_t end = 32;

    memset(&w, 0, sizeof w);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(write_entries(s, &w, 0, 1, 1), STORE_OK);
    }
    store_close(s);
    disk_restart(d, false);
    while (memcmp(disk_file_bytes(d, WAL) + end + 8,
                  disk_file_bytes(d, WAL) + 16, 8) == 0) {
        end += FRAME_SIZE;
    }
    /* Two transactions behind: each wrote at least one frame. */
    for (size_t at = 0; at + 4 * FRAME_SIZE < end; at += 173) {
        struct disk *copy = disk_clone(d, at);

        disk_flip_bit(copy, WAL, at, (unsigned)(at % 8));
        ck_assert_msg(open_store(copy, &s) == STORE_CORRUPT, "byte %zu of %zu",
                      at, end);
        ck_assert_ptr_nonnull(strstr(error, "WAL"));
        disk_free(copy);
    }
    disk_free(d);
}
END_TEST

/* The tail of a torn commit must not be mistaken for one, commits later. */
START_TEST(F2_remains_of_a_torn_commit_never_look_like_damage)
{
    static struct wanted before, after;
    struct disk *d = disk_new((uint64_t)_i, 512);
    struct rng g;

    rng_init(&g, (uint64_t)_i);
    memset(&before, 0, sizeof before);
    for (int i = 0; i < 20; i++) {
        struct store *s = open_ok(d);
        char which;

        ck_assert(store_holds(s, &before));
        after = before;
        /* A long transaction dies, then short ones die over its remains. */
        disk_stop_at(d, 2 + rng_below(&g, 30));
        (void)write_entries(s, &after, 0, i % 4 == 0 ? 60 : 1, 1);
        store_close(s);
        disk_restart(d, true);
        which = open_and_compare(d, &before, &after);
        ck_assert_int_ne(which, '?');
        if (which == 'b') {
            before = after;
        }
    }
    disk_free(d);
}
END_TEST

/* ---- the WAL's size
 * ----------------------------------------------------------- */

/* G3: however busy, without one call of store_checkpoint(). */
START_TEST(G3_the_wal_stays_within_its_size)
{
    struct disk *d = disk_new(1, 4096);
    struct store *s = open_ok(d);
    static struct wanted w;
    struct store_figures f;
    uint64_t size;

    memset(&w, 0, sizeof w);
    store_get_figures(s, &f);
    size = f.wal_bytes;
    ck_assert_uint_eq(size, 32 + 20 * FRAME_SIZE);
    for (int i = 0; i < 1000; i++) {
        ck_assert_int_eq(write_entries(s, &w, 0, 3, 1), STORE_OK);
    }
    store_get_figures(s, &f);
    ck_assert_uint_eq(f.wal_bytes, size);
    ck_assert_uint_gt(f.checkpoints, 50);
    ck_assert_uint_eq(f.entries_written, 3000);
    store_close(s);
    s = open_ok(d); /* kept by close and open too */
    store_get_figures(s, &f);
    ck_assert_uint_eq(f.wal_bytes, size);
    store_close(s);
    disk_free(d);
}
END_TEST

/* G6: rows that went make room for new ones; the file does not grow. */
START_TEST(G6_a_log_that_is_cut_regularly_keeps_its_size)
{
    struct disk *d = disk_new(1, 4096);
    struct store *s = open_ok(d);
    static struct wanted w;
    struct store_figures f;
    uint64_t size = 0;

    memset(&w, 0, sizeof w);
    for (int i = 0; i < 120; i++) {
        size_t left = 1;

        ck_assert_int_eq(write_entries(s, &w, 0, 30, 1), STORE_OK);
        while (left > 0) {
            ck_assert_int_eq(compact(s, &w, w.last_index - 5, 10, &left),
                             STORE_OK);
        }
        store_get_figures(s, &f);
        size = i == 20 ? f.database_bytes : size;
    }
    ck_assert_uint_le(f.database_bytes, size + 4 * 4096);
    ck_assert(store_holds(s, &w));
    store_close(s);
    disk_free(d);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store on a simulated disk");
    TCase *t = tcase_create("all");
    SRunner *runner = srunner_create(suite);
    int n_failed;

    suite_add_tcase(suite, t);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(
        t, A2_F5_a_crash_anywhere_leaves_all_of_a_step_or_nothing, 0, 60);
    tcase_add_test(
        t, G2_a_confirmed_write_survives_losing_all_that_was_not_synced);
    tcase_add_test(t, F1_what_recovery_found_is_synced_before_it_is_believed);
    tcase_add_loop_test(t, F1_what_a_failed_sync_left_is_written_again_or_gone,
                        0, 60);
    tcase_add_test(t, F5_a_log_cut_at_any_byte_of_the_last_write_starts);
    tcase_add_loop_test(t, F1_a_failed_sync_is_never_retried, 0, 8);
    tcase_add_loop_test(t, G7_no_refusal_of_the_disk_is_swallowed, 0,
                        (int)(sizeof refusals / sizeof refusals[0]));
    tcase_add_loop_test(t, F2_a_flipped_bit_is_never_read_as_a_log, 0, 4);
    tcase_add_test(t, F4_a_lost_page_write_is_seen);
    tcase_add_test(
        t, F2_damage_in_the_middle_of_the_wal_is_not_taken_for_a_torn_tail);
    tcase_add_loop_test(t, F2_remains_of_a_torn_commit_never_look_like_damage,
                        0, 20);
    tcase_add_test(t, G3_the_wal_stays_within_its_size);
    tcase_add_test(t, G6_a_log_that_is_cut_regularly_keeps_its_size);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
