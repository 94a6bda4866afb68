/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What loading does to the process. There are two constructors here. Go's, which starts
 * the runtime on a thread of its own, runs between them: it has no priority, and its
 * object is linked before this one (mk/build.mk). The second one here waits until the
 * runtime has started, and restores the program's environment, signals and threads.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>

#include "_cgo_export.h"
#include "shim.h"

/* ---- One copy in a process ---- */

/* Each copy of the library, shared or static, has a note in the file that it is part
 * of. The note says where that copy's state is. */
enum { UNKNOWN = 0, IN_FORCE = 0x65735031, REFUSED = 0x65735032 };
__attribute__((used, visibility("hidden"))) volatile int libeesp_state = UNKNOWN;
__asm__(".pushsection .note.eesp,\"a\",%note\n"
	".balign 4\n"
	".long 5, 4, 1\n"
	".asciz \"eesp\"\n"
	".balign 4\n"
	".long libeesp_state - .\n"
	".popsection\n");

static char other_copy[200];

static int look_for_copies(struct dl_phdr_info *info, size_t size, void *unused)
{
	(void)size;
	(void)unused;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		if (h->p_type != PT_NOTE)
			continue;
		size_t mask = h->p_align == 8 ? 7 : 3;
		const char *at = (const char *)(info->dlpi_addr + h->p_vaddr), *end = at + h->p_memsz;
		while (at + sizeof(ElfW(Nhdr)) <= end) {
			ElfW(Nhdr) n;
			memcpy(&n, at, sizeof n);
			const char *name = at + sizeof n, *desc = name + ((n.n_namesz + mask) & ~mask);
			if (n.n_namesz > (size_t)(end - name) || desc > end || n.n_descsz > (size_t)(end - desc))
				break;
			at = desc + ((n.n_descsz + mask) & ~mask);
			if (n.n_type != 1 || n.n_namesz != 5 || n.n_descsz != 4 || memcmp(name, "eesp", 5) != 0)
				continue;
			int32_t far;
			memcpy(&far, desc, sizeof far);
			if (*(volatile int *)(uintptr_t)(desc + far) != IN_FORCE)
				continue; /* this copy, or one that was refused */
			const char *file = info->dlpi_name != NULL && info->dlpi_name[0] != 0 ? info->dlpi_name
											      : "the program itself";
			snprintf(other_copy, sizeof other_copy, "another copy of libeesp is loaded in this process: %s",
				 file);
			return 1;
		}
	}
	return 0;
}

const char *refused_copy(void) { return libeesp_state == REFUSED ? other_copy : NULL; }

/* ---- The environment ---- */

/* Go's runtime reads variables from the environment with which the process was started.
 * GODEBUG could switch off what keeps keys out of signal frames, so it is hidden from the
 * runtime. In a program with more rights than its caller, all of Go's variables are. They
 * belong to the program and come back when the runtime has started. */
static struct { char **at, *was; } hidden[32];
static size_t hides;

static int is_of_go(const char *entry, int all)
{
	static const char *const names[] = { "GODEBUG=", "GOGC=", "GOMEMLIMIT=", "GOMAXPROCS=", "GOTRACEBACK=" };
	for (size_t i = 0; i < (all ? sizeof names / sizeof names[0] : 1); i++)
		if (strncmp(entry, names[i], strlen(names[i])) == 0)
			return 1;
	return 0;
}

static void hide_environment(char **env)
{
	static char nothing[] = "=\0\0"; /* longer than needed: getenv of old glibc compares two octets at a time */
	for (; *env != NULL && hides < sizeof hidden / sizeof hidden[0]; env++)
		if (is_of_go(*env, getauxval(AT_SECURE) != 0)) {
			hidden[hides].at = env;
			hidden[hides++].was = *env;
			*env = nothing;
		}
}

static void show_environment(void)
{
	while (hides > 0) {
		hides--;
		*hidden[hides].at = hidden[hides].was;
	}
}

/* ---- Signals ---- */

/* The library's threads start with all signals blocked, except for the synchronous ones,
 * which Go unblocks. So signals to the process are delivered to the program's threads. */
static sigset_t callers_mask;
static struct sigaction before[_NSIG];

static void keep_handlers(void)
{
	for (int s = 1; s < _NSIG; s++)
		sigaction(s, NULL, &before[s]);
}

/* Go installs handlers for SIGPIPE and SIGURG, which it does not need here, and adds
 * SA_ONSTACK to other handlers: both are undone. It keeps the handlers for faults, which
 * its own code may cause. */
static void give_handlers_back(void)
{
	struct sigaction gos, now;
	if (sigaction(SIGSEGV, NULL, &gos) != 0)
		return;
	for (int s = 1; s < _NSIG; s++) {
		if (s == SIGSEGV || s == SIGBUS || s == SIGFPE || sigaction(s, NULL, &now) != 0)
			continue;
		int taken = now.sa_sigaction == gos.sa_sigaction && before[s].sa_sigaction != gos.sa_sigaction;
		int changed = now.sa_sigaction == before[s].sa_sigaction &&
			      (now.sa_flags ^ before[s].sa_flags) == SA_ONSTACK;
		if (taken || changed)
			sigaction(s, &before[s], NULL);
	}
}

/* ---- Threads ---- */

static void *wait_at(void *gate)
{
	pthread_mutex_lock(gate);
	pthread_mutex_unlock(gate);
	return NULL;
}

/* Whether n more threads can be created. Go ends the process if it cannot create one, so
 * this is tried before Go is asked to. */
int can_have_threads(int n)
{
	pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
	pthread_t t[32];
	int made = 0, most = (int)(sizeof t / sizeof t[0]);
	sigset_t every, mask;
	if (n > most)
		return 0;
	sigfillset(&every);
	pthread_sigmask(SIG_SETMASK, &every, &mask);
	pthread_mutex_lock(&gate);
	while (made < n && pthread_create(&t[made], NULL, wait_at, &gate) == 0)
		made++;
	pthread_mutex_unlock(&gate);
	for (int i = 0; i < made; i++)
		pthread_join(t[i], NULL);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	return made == n;
}

/* ---- Loading ---- */

__attribute__((constructor(101))) static void before_go(int argc, char **argv, char **env)
{
	(void)env; /* Go reads the memory behind argv, whatever environ is now */
	libeesp_state = dl_iterate_phdr(look_for_copies, NULL) ? REFUSED : IN_FORCE;
	if (argv != NULL)
		hide_environment(argv + argc + 1);
	keep_handlers();
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &callers_mask);
}

static void *start(void *unused)
{
	eespGoStart();
	return unused;
}

__attribute__((constructor)) static void after_go(void)
{
	/* On a new thread, since Go gives threads that call it an alternate stack for
	 * signals. */
	pthread_t t;
	if (pthread_create(&t, NULL, start, NULL) == 0)
		pthread_join(t, NULL);
	else
		eespGoStart();
	show_environment();
	give_handlers_back();
	pthread_sigmask(SIG_SETMASK, &callers_mask, NULL);
}
