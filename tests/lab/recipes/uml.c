/* For user-mode-linux 6.1 on processors with more registers than it knows (AMX): it restores a process' floating point
 * registers by a PTRACE_SETREGSET of a fixed size, the kernel of such a machine wants all of them (EFAULT), and the
 * guest dies of it. Loaded before the C library, this sets what was given in front of what is there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef long (*ptrace_function)(enum __ptrace_request, ...);

static ptrace_function original;
/* All registers: what a process has that uses none of the unknown ones, once that is known. */
static char registers[64 << 10];
static size_t size;

static long set_all(pid_t pid, void *address, const struct iovec *given)
{
	struct iovec whole = { registers, sizeof(registers) };

	if (!size) {
		if (original(PTRACE_GETREGSET, pid, address, &whole) == -1 || whole.iov_len < given->iov_len) {
			errno = EFAULT;
			return -1;
		}
		size = whole.iov_len;
	}
	memcpy(registers, given->iov_base, given->iov_len);
	whole.iov_len = size;
	return original(PTRACE_SETREGSET, pid, address, &whole);
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list arguments;

	va_start(arguments, request);
	pid_t pid = va_arg(arguments, pid_t);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);
	if (!original)
		original = (ptrace_function)dlsym(RTLD_NEXT, "ptrace");

	int is_set = request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE;
	/* It is done on each way back to a process, so not in vain first. */
	if (is_set && size)
		return set_all(pid, address, data);
	long result = original(request, pid, address, data);
	return result == -1 && errno == EFAULT && is_set ? set_all(pid, address, data) : result;
}
