/* What nothing costs here: `floors STATIC BARE [FOLDER]` prints the fastest tenth and the median in microseconds: of a CPUID, of the
 * lives of a program with the C library and of one without, of a clone3, and of one into the cgroup of v2 at FOLDER. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 400

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;
	return (a > b) - (a < b);
}

static double cpuid(void)
{
	unsigned a, b, c, d;
	double begin = now();
	__cpuid_count(4, 0, a, b, c, d);
	return now() - begin;
}

static double life(char *program)
{
	char *words[] = { program, NULL };
	pid_t child;
	double begin = now();
	if (posix_spawn(&child, program, NULL, NULL, words, words + 1) != 0)
		exit(1);
	waitpid(child, NULL, 0);
	return now() - begin;
}

static double birth(const char *folder)
{
	struct clone_args args = { .exit_signal = SIGCHLD };
	double begin;
	pid_t child;
	if (folder != NULL) {
		args.flags = CLONE_INTO_CGROUP;
		args.cgroup = open(folder, O_PATH | O_CLOEXEC);
	}
	begin = now();
	child = syscall(SYS_clone3, &args, sizeof args);
	if (child == 0)
		_exit(0);
	begin = now() - begin;
	if (folder != NULL)
		close(args.cgroup);
	if (child < 0)
		exit(1);
	waitpid(child, NULL, 0);
	return begin;
}

int main(int count, char **words)
{
	static double times[5][ROUNDS];
	int kinds = count > 3 ? 5 : 4;
	if (count < 3)
		return 2;
	for (int round = 0; round < ROUNDS; round++) {
		times[0][round] = cpuid();
		times[1][round] = life(words[1]);
		times[2][round] = life(words[2]);
		times[3][round] = birth(NULL);
		if (count > 3)
			times[4][round] = birth(words[3]);
	}
	for (int what = 0; what < kinds; what++) {
		qsort(times[what], ROUNDS, sizeof(double), compare);
		printf("%.2f %.2f\n", times[what][ROUNDS / 10], times[what][ROUNDS / 2]);
	}
	return 0;
}
