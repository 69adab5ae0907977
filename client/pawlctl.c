/*
 * pawlctl.c - the program: everything of it is in ctl_main().
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/ctl.h"

int main(int argc, char **argv)
{
    struct ctl ctl = {.out = stdout, .err = stderr};
    int code = ctl_main(&ctl, argc, argv);

    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "Error: output: %s\n", strerror(errno));
        return code != CTL_OK ? code : CTL_FAILED;
    }
    return code;
}
