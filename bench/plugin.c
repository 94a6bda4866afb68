/* SPDX-License-Identifier: BSD-3-Clause */
/* Peers that a user built elsewhere, as bench/plugin.sh makes them. */
#define _GNU_SOURCE
#include "bench.h"
#include <dlfcn.h>
#include <stdlib.h>

static struct {
	const char *file, *version;
} plugins[16];
static size_t count;

const char *plugin_at(size_t i, const char **version)
{
	if (i >= count)
		return NULL;
	*version = plugins[i].version;
	return plugins[i].file;
}

size_t plugin_peers(struct peer *out, size_t room, const char *file)
{
	size_t (*peers)(struct peer *, size_t);
	const char *(*version)(void);
	/* Its library may have the names of one that is loaded already. */
	void *h = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
	if (!h)
		die("%s", dlerror());
	*(void **)&peers = dlsym(h, "plugin_entry_peers");
	*(void **)&version = dlsym(h, "plugin_entry_version");
	if (!peers || !version || count == sizeof plugins / sizeof *plugins)
		die("%s: not a plugin of this benchmark", file);
	size_t n = peers(out, room);
	for (size_t i = 0; i < n; i++) {
		/* "v1.5.0", or the number in "OpenSSL 3.5.1 1 Jul 2025". */
		char *name = must_alloc(64, 128);
		const char *v = version(), *space = strchr(v, ' ');
		v = space ? space + 1 : v;
		snprintf(name, 128, "%s %.*s", out[i].backend, (int)strcspn(v, " "), v);
		out[i].backend = name;
	}
	plugins[count].file = file;
	plugins[count++].version = version();
	return n;
}
