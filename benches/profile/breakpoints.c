/* breakpoints TABLE FOUND COMMAND...: runs a command whose program has a breakpoint (0xcc) on the first byte of each function, and
 * appends to FOUND which functions were called, by which of the program's subcommands.
 * TABLE: a line for each function, address and the byte that belongs there, both hexadecimal. All children are followed. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define COMMANDS 64
#define FOLLOW (PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)

struct function {
	unsigned long address, callers; /* callers: a bit for each of commands */
	unsigned char byte;
};

static struct function *functions;
static size_t count;
static char commands[COMMANDS][32];
static int known;

static void fail(const char *what) {
	perror(what);
	exit(125);
}

static int by_address(const void *one, const void *other) {
	unsigned long a = ((const struct function *)one)->address, b = ((const struct function *)other)->address;
	return (a > b) - (a < b);
}

static void read_table(const char *path) {
	FILE *file = fopen(path, "r");
	unsigned long address;
	unsigned byte;
	size_t room = 0;
	if (!file) fail(path);
	while (fscanf(file, "%lx %x", &address, &byte) == 2) {
		if (count == room && !(functions = realloc(functions, (room = room * 2 + 1024) * sizeof *functions))) fail("memory");
		functions[count++] = (struct function){.address = address, .byte = (unsigned char)byte};
	}
	fclose(file);
	qsort(functions, count, sizeof *functions, by_address);
}

/* The first word of a process's command line, after the program, that is no option; --root has a value. */
static int command_of(pid_t pid) {
	char path[64], line[4096], *word = line;
	const char *name = "?";
	snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
	FILE *file = fopen(path, "r");
	size_t length = file ? fread(line, 1, sizeof line - 1, file) : 0;
	if (file) fclose(file);
	line[length] = 0;
	for (word += strlen(word) + 1; word < line + length; word += strlen(word) + 1) {
		if (*word != '-') {
			name = word;
			break;
		}
		if (!strcmp(word, "--root")) word += strlen(word) + 1;
	}
	for (int i = 0; i < known; i++)
		if (!strncmp(commands[i], name, sizeof *commands - 1)) return i;
	if (known == COMMANDS) return COMMANDS - 1;
	snprintf(commands[known], sizeof *commands, "%s", name);
	return known++;
}

/* Whether it was one of ours; then the process goes on with that instruction as it should be. */
static int passed(pid_t pid) {
	struct user_regs_struct registers;
	if (ptrace(PTRACE_GETREGS, pid, 0, &registers)) return 0;
	struct function key = {.address = registers.rip - 1};
	struct function *found = bsearch(&key, functions, count, sizeof key, by_address);
	if (!found) return 0;
	found->callers |= 1UL << command_of(pid);
	errno = 0;
	long word = ptrace(PTRACE_PEEKTEXT, pid, found->address, 0);
	if (errno || ptrace(PTRACE_POKETEXT, pid, found->address, (word & ~0xffL) | found->byte)) fail("restore a function");
	registers.rip = found->address;
	return !ptrace(PTRACE_SETREGS, pid, 0, &registers);
}

int main(int argc, char **argv) {
	if (argc < 4) return fputs("usage: breakpoints TABLE FOUND COMMAND...\n", stderr), 2;
	read_table(argv[1]);
	pid_t first = fork(), pid;
	if (first < 0) fail("fork");
	if (!first) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		execvp(argv[3], argv + 3);
		fail(argv[3]);
	}
	int status, result = 125;
	if (waitpid(first, &status, 0) != first || ptrace(PTRACE_SETOPTIONS, first, 0, FOLLOW)) fail("trace");
	ptrace(PTRACE_CONT, first, 0, 0);
	while ((pid = waitpid(-1, &status, __WALL)) > 0) {
		if (!WIFSTOPPED(status)) {
			if (pid == first) result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			continue;
		}
		int signal = WSTOPSIG(status), event = status >> 16;
		int ours = event || signal == SIGSTOP || (signal == SIGTRAP && passed(pid));
		ptrace(PTRACE_CONT, pid, 0, ours ? 0 : signal);
	}
	FILE *out = fopen(argv[2], "a");
	if (!out) fail(argv[2]);
	for (size_t i = 0; i < count; i++) {
		if (!functions[i].callers) continue;
		fprintf(out, "%lx", functions[i].address);
		for (int j = 0; j < known; j++)
			if (functions[i].callers >> j & 1) fprintf(out, " %s", commands[j]);
		fputc('\n', out);
	}
	return fclose(out) ? 125 : result;
}
