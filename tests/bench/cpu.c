/*
 * cpu.c - the processor time that processes have used, all threads together.
 */
#include "tests/bench/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* The number that stands n fields further on; 0 if there are not so many. */
static uint64_t field_after(const char *at, int n)
{
    while (at && n-- > 0) {
        at = strchr(at + 1, ' ');
    }
    return at ? strtoull(at, NULL, 10) : 0;
}

uint64_t cpu_of_process_us(pid_t pid)
{
    char path[64], line[1024];
    const char *name_end;
    size_t size;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    f = fopen(path, "re");
    if (!f) {
        return 0;
    }
    size = fread(line, 1, sizeof(line) - 1, f);
    fclose(f);
    line[size] = '\0';
    /* The name, field 2 and in brackets, may hold anything: count from its
       end. utime and stime are fields 14 and 15. */
    name_end = strrchr(line, ')');
    return (field_after(name_end, 12) + field_after(name_end, 13)) *
           (1000000 / (uint64_t)sysconf(_SC_CLK_TCK));
}

uint64_t cpu_of_processes_us(const pid_t *pids, size_t n)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        sum += cpu_of_process_us(pids[i]);
    }
    return sum;
}

static uint64_t timeval_us(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec;
}

uint64_t cpu_of_self_us(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return timeval_us(usage.ru_utime) + timeval_us(usage.ru_stime);
}
