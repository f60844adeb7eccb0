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

long ptrace(enum __ptrace_request request, ...)
{
	static ptrace_function original;
	static char registers[64 << 10];
	va_list arguments;

	va_start(arguments, request);
	pid_t pid = va_arg(arguments, pid_t);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);
	if (!original)
		original = (ptrace_function)dlsym(RTLD_NEXT, "ptrace");

	long result = original(request, pid, address, data);
	if (result != -1 || errno != EFAULT || request != PTRACE_SETREGSET || (long)address != NT_X86_XSTATE)
		return result;
	const struct iovec *given = data;
	struct iovec whole = { registers, sizeof(registers) };
	if (original(PTRACE_GETREGSET, pid, address, &whole) == -1 || whole.iov_len < given->iov_len) {
		errno = EFAULT;
		return -1;
	}
	memcpy(registers, given->iov_base, given->iov_len);
	return original(request, pid, address, &whole);
}
