/*
 * replay.c - a main for a fuzz target without libFuzzer: runs it once on each
 * file that is named, and on each file in each directory that is named.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int n_runs;

static bool run_file(const char *path)
{
    struct buffer b = {0};
    FILE *f = fopen(path, "rb");
    size_t n;

    if (f == NULL) {
        perror(path);
        return false;
    }
    do {
        buffer_reserve(&b, 4096);
        n = fread(b.data + b.size, 1, 4096, f);
        b.size += n;
    } while (n > 0);
    fclose(f);
    (void)LLVMFuzzerTestOneInput(b.data, b.size);
    buffer_release(&b);
    n_runs++;
    return true;
}

static bool run(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *entry;
    bool good = true;

    if (d == NULL) {
        return run_file(path);
    }
    while ((entry = readdir(d)) != NULL) {
        char *file;

        if (entry->d_name[0] == '.') {
            continue;
        }
        file = mem_printf("%s/%s", path, entry->d_name);
        good = run_file(file) && good;
        free(file);
    }
    closedir(d);
    return good;
}

int main(int argc, char **argv)
{
    bool good = true;

    for (int i = 1; i < argc; i++) {
        good = run(argv[i]) && good;
    }
    printf("%d inputs: %s\n", n_runs, good ? "ok" : "failed");
    return good && n_runs > 0 ? 0 : 1;
}
