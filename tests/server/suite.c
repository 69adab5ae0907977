/*
 * suite.c - runs tests; makes and removes their directory.
 */
#include "tests/server/suite.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/suite.h"

static char directory[256];

const char *suite_directory(void)
{
    const char *base = getenv("TMPDIR");

    if (base == NULL) { /* in memory, if there is such a place: no disk waits */
        base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    }
    if (directory[0] == '\0') {
        snprintf(directory, sizeof(directory), "%s/pawl-test-XXXXXX", base);
        ck_assert_ptr_nonnull(mkdtemp(directory));
    }
    return directory;
}

void suite_cleanup(void)
{
    DIR *d = directory[0] != '\0' ? opendir(directory) : NULL;
    struct dirent *entry;

    if (d == NULL) {
        return;
    }
    while ((entry = readdir(d)) != NULL) {
        unlinkat(dirfd(d), entry->d_name, 0);
    }
    closedir(d);
    rmdir(directory);
    directory[0] = '\0';
}

int suite_run(const char *name, const TTest *const *tests, size_t n)
{
    return suite_run_with(name, tests, n, NULL, NULL);
}

int suite_run_with(const char *name, const TTest *const *tests, size_t n,
                   void (*setup)(void), void (*teardown)(void))
{
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, NULL, suite_cleanup);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    for (size_t i = 0; i < n; i++) {
        tcase_add_test(tcase, tests[i]);
    }
    suite_add_tcase(suite, tcase);
    return suite_main(suite);
}
