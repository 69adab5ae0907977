/*
 * test_data_dir.c - starts that must fail, and say why; a disk that is full.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster.h"
#include "program.h"

#define START_MS 10000

static struct cluster *up(size_t n, const char *data_parent)
{
    return cluster_up(&(struct cluster_config){.n = n,
                                               .heartbeat_ms = "30",
                                               .election_ms = "250",
                                               .data_parent = data_parent});
}

static void put(struct cluster *c, const char *key, const char *value)
{
    struct client *client = client_new(cluster_address(c, 0));
    struct answer a = client_put(client, key, value, 0, NULL);

    ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
    answer_release(&a);
    client_free(client);
}

static void assert_holds(struct cluster *c, const char *key, const char *value)
{
    struct client *client = client_new(cluster_address(c, 0));
    struct answer a = client_get(client, key, 0, false);

    ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
    ck_assert_msg(a.range->n_kvs == 1, "%s is lost", key);
    ck_assert_uint_eq(a.range->kvs[0]->value.len, strlen(value));
    ck_assert_mem_eq(a.range->kvs[0]->value.data, value, strlen(value));
    answer_release(&a);
    client_free(client);
}

/* It ends with that status and a line that holds the text. */
static void assert_start_fails(const char *const *argv, int status,
                               const char *text)
{
    char output[4096];
    int got = run_program(argv, START_MS, output, sizeof(output));

    ck_assert_msg(got == status, "status %d and not %d: %s", got, status,
                  output);
    ck_assert_msg(strstr(output, text) != NULL, "said, without \"%s\": %s",
                  text, output);
}

/* ---- flags -----------------------------------------------------------------
 */

static const struct bad_flag {
    const char *flags[4];
    const char *text;
} bad_flags[] = {
    {{"--no-such-flag", "1"}, "no-such-flag"},
    {{"--data-dir"}, "data-dir"},
    {{"stray"}, "unexpected argument 'stray'"},
    {{"--election-timeout", "abc"}, "--election-timeout 'abc'"},
    {{"--election-timeout", "100"}, "at least five heartbeat intervals"},
    {{"--heartbeat-interval", "-1"}, "--heartbeat-interval '-1'"},
    {{"--listen-client-urls", "ftp://x"}, "--listen-client-urls 'ftp://x'"},
    {{"--initial-cluster", "other=http://127.0.0.1:1"}, "--name"},
    {{"--initial-cluster-state", "maybe"}, "--initial-cluster-state"},
    {{"--log-level", "loud"}, "--log-level 'loud'"},
};

START_TEST(bad_flag_ends_with_status_2_and_its_name)
{
    const struct bad_flag *b = &bad_flags[_i];
    const char *argv[6] = {pawld_path(), b->flags[0], b->flags[1]};

    assert_start_fails(argv, 2, b->text);
}
END_TEST

/* ---- ports and directories -------------------------------------------------
 */

START_TEST(port_in_use_is_named)
{
    struct cluster *c = up(1, NULL);
    char *client = mem_printf("http://%s", cluster_address(c, 0));
    char *peer_address = free_address();
    char *peer = mem_printf("http://%s", peer_address);
    char *data = mem_printf("%s/other", cluster_dir(c));
    const char *argv[] = {
        pawld_path(), "--data-dir",         data, "--listen-client-urls",
        client,       "--listen-peer-urls", peer, NULL};
    struct stat st;

    assert_start_fails(argv, 1, "Address already in use");
    assert_start_fails(argv, 1, cluster_address(c, 0));
    ck_assert_int_ne(stat(data, &st), 0); /* nothing was begun */
    put(c, "k", "v");
    free(client);
    free(peer_address);
    free(peer);
    free(data);
    cluster_free(c);
}
END_TEST

START_TEST(second_process_on_a_data_directory_is_refused)
{
    struct cluster *c = up(1, NULL);
    char *addresses[2] = {free_address(), free_address()};
    char *client = mem_printf("http://%s", addresses[0]);
    char *peer = mem_printf("http://%s", addresses[1]);
    const char *argv[] = {pawld_path(),
                          "--data-dir",
                          cluster_data_dir(c, 0),
                          "--listen-client-urls",
                          client,
                          "--listen-peer-urls",
                          peer,
                          NULL};

    put(c, "k", "v");
    assert_start_fails(argv, 1, "in use by another process");
    put(c, "k", "w");
    cluster_kill(c, 0);
    cluster_start(c, 0);
    (void)cluster_leader(c);
    assert_holds(c, "k", "w");
    free(addresses[0]);
    free(addresses[1]);
    free(client);
    free(peer);
    cluster_free(c);
}
END_TEST

START_TEST(data_directory_that_cannot_be_made_is_named)
{
    char *addresses[2] = {free_address(), free_address()};
    char *client = mem_printf("http://%s", addresses[0]);
    char *peer = mem_printf("http://%s", addresses[1]);
    const char *argv[] = {pawld_path(),
                          "--data-dir",
                          "/proc/no/such/dir",
                          "--listen-client-urls",
                          client,
                          "--listen-peer-urls",
                          peer,
                          NULL};

    assert_start_fails(argv, 1, "/proc/no/such/dir");
    free(addresses[0]);
    free(addresses[1]);
    free(client);
    free(peer);
}
END_TEST

/* It ends by itself, status 1, and its log holds the text. */
static void assert_refuses(struct cluster *c, const char *const *flags,
                           const char *text)
{
    int status;

    cluster_start_with(c, 0, flags);
    status = cluster_wait_exit(c, 0);
    ck_assert_msg(cluster_log_has(c, 0, text), "said nothing of \"%s\"", text);
    ck_assert_int_eq(status, 1);
}

START_TEST(data_of_another_member_or_cluster_is_refused)
{
    struct cluster *c = up(3, NULL);
    const char *another_member[] = {"--data-dir", cluster_data_dir(c, 1), NULL};
    const char *another_cluster[] = {"--initial-cluster-token", "another",
                                     NULL};
    const char *nothing[] = {NULL};
    char *copy = mem_printf("%s/state.db", cluster_data_dir(c, 0));
    char *original = mem_printf("%s/state.db", cluster_data_dir(c, 1));
    const char *mix_up[] = {"/bin/cp", original, copy, NULL};

    put(c, "k", "v");
    cluster_settle(c);
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(cluster_stop(c, i), 0);
    }
    assert_refuses(c, another_member, "belongs to");
    assert_refuses(c, another_cluster, "belongs to");
    for (size_t i = 0; i < 3; i++) {
        cluster_start(c, i);
    }
    cluster_settle(c);
    assert_holds(c, "k", "v");
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(cluster_stop(c, i), 0);
    }
    ck_assert_int_eq(run_program(mix_up, START_MS, NULL, 0), 0);
    assert_refuses(c, nothing, "wrong data directory?");
    free(copy);
    free(original);
    cluster_free(c);
}
END_TEST

/* ---- damage ----------------------------------------------------------------
 */

/* Turn over one bit of each place where the text is; how many there were. */
static unsigned damage(const char *path, const char *text)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat st;
    unsigned n = 0;
    char *bytes;

    if (fd < 0) {
        return 0;
    }
    ck_assert_int_eq(fstat(fd, &st), 0);
    bytes = mem_alloc((size_t)st.st_size + 1, 1);
    ck_assert_int_eq(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
    for (off_t at = 0; at + (off_t)strlen(text) <= st.st_size; at++) {
        if (memcmp(bytes + at, text, strlen(text)) == 0) {
            char flipped = (char)(text[0] ^ 4);

            ck_assert_int_eq(pwrite(fd, &flipped, 1, at), 1);
            n++;
        }
    }
    free(bytes);
    close(fd);
    return n;
}

static unsigned damage_log(struct cluster *c, const char *text)
{
    char *db = mem_printf("%s/raft.db", cluster_data_dir(c, 0));
    char *wal = mem_printf("%s/raft.db-wal", cluster_data_dir(c, 0));
    unsigned n = damage(db, text) + damage(wal, text);

    free(db);
    free(wal);
    return n;
}

static void put_many(struct cluster *c)
{
    struct client *client = client_new(cluster_address(c, 0));
    char key[32], value[200];

    for (int i = 0; i < 300; i++) {
        struct answer a;

        snprintf(key, sizeof(key), "key-%03d", i);
        snprintf(value, sizeof(value), "value-%03d-%0150d", i, i);
        a = client_put(client, key, value, 0, NULL);
        ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
        answer_release(&a);
    }
    client_free(client);
}

/* F2: what was acknowledged must not be cut away as if it were a torn end. */
START_TEST(F2_damaged_log_is_refused_and_not_cut)
{
    const char *nothing[] = {NULL};
    struct cluster *c = up(1, NULL);

    put_many(c);
    if (_i == 0) {
        ck_assert_int_eq(cluster_stop(c, 0), 0);
    } else {
        cluster_kill(c, 0);
    }
    ck_assert_uint_gt(damage_log(c, "value-150-"), 0);
    assert_refuses(c, nothing, "damaged");
    assert_refuses(c, nothing, "raft.db"); /* and again, not repaired away */
    cluster_free(c);
}
END_TEST

START_TEST(lost_log_beside_a_state_is_refused)
{
    const char *nothing[] = {NULL};
    struct cluster *c = up(1, NULL);
    const char *files[] = {"raft.db", "raft.db-wal", "raft.db-shm"};

    put_many(c);
    ck_assert_int_eq(cluster_stop(c, 0), 0);
    for (size_t i = 0; i < ARRAY_LENGTH(files); i++) {
        char *path = mem_printf("%s/%s", cluster_data_dir(c, 0), files[i]);

        (void)unlink(path); /* the last two may not be there */
        free(path);
    }
    assert_refuses(c, nothing, "lost its log");
    cluster_free(c);
}
END_TEST

/* state.db can be made again from the log as long as nothing was cut. */
START_TEST(lost_state_is_made_again_from_the_log)
{
    struct cluster *c = up(1, NULL);
    char *path = mem_printf("%s/state.db", cluster_data_dir(c, 0));
    char *wal = mem_printf("%s-wal", path);

    put(c, "k", "v");
    ck_assert_int_eq(cluster_stop(c, 0), 0);
    ck_assert_int_eq(unlink(path), 0);
    (void)unlink(wal); /* may not be there */
    cluster_start(c, 0);
    (void)cluster_leader(c);
    assert_holds(c, "k", "v");
    free(path);
    free(wal);
    cluster_free(c);
}
END_TEST

/* ---- a full disk -----------------------------------------------------------
 */

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    ck_assert_msg(fd >= 0 &&
                      write(fd, text, strlen(text)) == (ssize_t)strlen(text),
                  "%s: %s", path, strerror(errno));
    close(fd);
}

/* Mounts of our own, as root or in a user namespace. */
static void enter_namespace(void)
{
    char map[64];
    uid_t uid = getuid();
    gid_t gid = getgid();

    if (unshare(CLONE_NEWNS) != 0) {
        ck_assert_msg(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0, "unshare: %s",
                      strerror(errno));
        write_file("/proc/self/setgroups", "deny");
        snprintf(map, sizeof(map), "0 %u 1", (unsigned)uid);
        write_file("/proc/self/uid_map", map);
        snprintf(map, sizeof(map), "0 %u 1", (unsigned)gid);
        write_file("/proc/self/gid_map", map);
    }
    ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
}

static char *mount_small_disk(const char *size)
{
    char *dir = mem_strdup("/tmp/pawl-e2e-disk-XXXXXX");

    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_msg(mount("pawl", dir, "tmpfs", 0, size) == 0, "mount: %s",
                  strerror(errno));
    return dir;
}

/* Until the server ends. How many were acknowledged. */
static unsigned fill(struct cluster *c)
{
    struct client *client = client_new(cluster_address(c, 0));
    size_t size = (size_t)64 << 10;
    char *value = mem_alloc(size, 1), key[32];
    unsigned n = 0;
    struct answer a;

    memset(value, 'v', size - 1);
    do {
        snprintf(key, sizeof(key), "full/%06u", n);
        a = client_put(client, key, value, 0, NULL);
        n += a.code == GRPC_OK;
        answer_release(&a);
        ck_assert_uint_lt(n, 100000);
    } while (a.code == GRPC_OK);
    free(value);
    client_free(client);
    return n;
}

static void assert_all_there(struct cluster *c, unsigned n)
{
    struct client *client = client_new(cluster_address(c, 0));
    char key[32];

    client_set_timeout(client, PATIENCE_MS);
    for (unsigned i = 0; i < n; i++) {
        struct answer a;

        snprintf(key, sizeof(key), "full/%06u", i);
        a = client_get(client, key, 0, false);
        ck_assert_msg(a.code == GRPC_OK, "%s", a.text);
        ck_assert_msg(a.range->n_kvs == 1, "%s was acknowledged and is lost",
                      key);
        answer_release(&a);
    }
    client_free(client);
}

START_TEST(full_disk_ends_the_server_and_loses_nothing)
{
    struct cluster *c;
    const char *nothing[] = {NULL};
    char *disk;
    unsigned n;

    enter_namespace();
    disk = mount_small_disk("size=40m");
    c = up(1, disk);
    n = fill(c);
    ck_assert_int_eq(cluster_wait_exit(c, 0), 1);
    ck_assert(cluster_log_has(c, 0, "full"));
    ck_assert(cluster_log_has(c, 0, "start again"));
    ck_assert_uint_gt(n, 10);
    assert_refuses(c, nothing, "full"); /* it is no better yet */
    ck_assert_int_eq(mount("pawl", disk, "tmpfs", MS_REMOUNT, "size=200m"), 0);
    cluster_start(c, 0);
    (void)cluster_leader(c);
    assert_all_there(c, n);
    put(c, "after", "served");
    printf("a disk of 40 MB took %u values of 64 KiB\n", n);
    cluster_free(c);
    ck_assert_int_eq(umount2(disk, MNT_DETACH), 0);
    ck_assert_int_eq(rmdir(disk), 0);
    free(disk);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("data directory");
    TCase *tc = tcase_create("data directory");

    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, bad_flag_ends_with_status_2_and_its_name, 0,
                        ARRAY_LENGTH(bad_flags));
    tcase_add_test(tc, port_in_use_is_named);
    tcase_add_test(tc, second_process_on_a_data_directory_is_refused);
    tcase_add_test(tc, data_directory_that_cannot_be_made_is_named);
    tcase_add_test(tc, data_of_another_member_or_cluster_is_refused);
    tcase_add_loop_test(tc, F2_damaged_log_is_refused_and_not_cut, 0, 2);
    tcase_add_test(tc, lost_log_beside_a_state_is_refused);
    tcase_add_test(tc, lost_state_is_made_again_from_the_log);
    tcase_add_test(tc, full_disk_ends_the_server_and_loses_nothing);
    suite_add_tcase(s, tc);
    return program_run(s);
}
