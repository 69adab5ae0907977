/*
 * test_scripts.c - runs each tests/raft/data/ *.txt; see script.h for their
 * form. PAWL_SCRIPT=path runs one; REWRITE=1 makes what they say now the
 * expected: read the difference before you keep it.
 */
#include "tests/raft/script.h"
#include "tests/raft/suite.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

static glob_t scripts;

START_TEST(script_says_what_it_expects)
{
    const char *path = scripts.gl_pathv[_i];

    ck_assert_msg(script_check(path) == 0, "%s differs", path);
}
END_TEST

int main(void)
{
    const char *one = getenv("PAWL_SCRIPT"), *top = getenv("PAWL_TOP");
    Suite *suite = suite_create("scripts");
    TCase *t = tcase_create("scripts");
    char pattern[4096];
    int status;

    snprintf(pattern, sizeof(pattern), "%s/tests/raft/data/*.txt",
             top != NULL ? top : ".");
    if (glob(one != NULL ? one : pattern, 0, NULL, &scripts) != 0) {
        fprintf(stderr, "no scripts: run from the top of the tree, or set "
                        "PAWL_TOP\n");
        return EXIT_FAILURE;
    }
    tcase_add_loop_test(t, script_says_what_it_expects, 0,
                        (int)scripts.gl_pathc);
    suite_add_tcase(suite, t);
    status = suite_run(suite);
    globfree(&scripts);
    return status;
}
