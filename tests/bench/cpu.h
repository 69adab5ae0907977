/*
 * cpu.h - the processor time that processes have used, all threads together.
 */
#ifndef BENCH_CPU_H
#define BENCH_CPU_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* User and system time of a process (/proc/PID/stat), in microseconds; 0 if
   there is no such process. Its grain is a clock tick, 10 ms. */
uint64_t cpu_of_process_us(pid_t pid);
uint64_t cpu_of_processes_us(const pid_t *pids, size_t n);
uint64_t cpu_of_self_us(void); /* to the microsecond */

#endif
