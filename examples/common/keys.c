/* SPDX-License-Identifier: BSD-3-Clause */
/* Keys in files, and the commands that need no running gateway. */
#define _GNU_SOURCE
#include "gw.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

int gw_read_secret(const char *path, uint8_t *to, size_t size, char why[GW_MAX_PATH])
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n = -1;
	if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 077) != 0) {
		snprintf(why, GW_MAX_PATH, "%.900s: open to others; chmod 600 it", path);
		close(fd);
		return -1;
	}
	while (fd >= 0 && len < size && (n = read(fd, to + len, size - len)) > 0)
		len += (size_t)n;
	if (fd < 0 || n < 0)
		snprintf(why, GW_MAX_PATH, "%.900s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return n < 0 ? -1 : (int)len;
}

int gw_write_secret(const char *path, const uint8_t *from, size_t len, bool replace)
{
	char temporary[GW_MAX_PATH];
	if ((size_t)snprintf(temporary, sizeof temporary, "%s.new", path) >= sizeof temporary) {
		errno = ENAMETOOLONG;
		return -1;
	}
	unlink(temporary);
	int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	errno = EIO;
	bool good = write(fd, from, len) == (ssize_t)len && fsync(fd) == 0;
	good = good && (replace ? rename(temporary, path) : link(temporary, path)) == 0;
	int error = errno;
	close(fd);
	if (!good || !replace)
		unlink(temporary);
	errno = error;
	return good ? 0 : -1;
}

static bool said(eesp_status status, const char *path, char why[GW_MAX_PATH])
{
	if (status != EESP_OK)
		snprintf(why, GW_MAX_PATH, "%.500s: %s (%.400s)", path, eesp_strerror(status), eesp_last_error());
	return status == EESP_OK;
}

bool gw_load_root_key(struct gw_group *g, int level, const char *path, char why[GW_MAX_PATH])
{
	uint8_t der[GW_MAX_SECRET];
	int len = gw_read_secret(path, der, sizeof der, why);
	bool good = len >= 0 && said(eesp_group_set_root_key_der(g->handle, level, der, (size_t)len), path, why);
	explicit_bzero(der, sizeof der);
	return good;
}

bool gw_load_key(struct gw_group *g, unsigned slot, const char *path, char why[GW_MAX_PATH])
{
	uint8_t key[GW_MAX_SECRET];
	int len = gw_read_secret(path, key, sizeof key, why);
	bool good = len >= 0 && said(eesp_group_set_key(g->handle, slot, key, (size_t)len), path, why);
	explicit_bzero(key, sizeof key);
	if (good && !g->has_slot[0] && !g->has_slot[1])
		g->slot = slot; /* the first key is what senders use */
	if (good)
		g->has_slot[slot] = true;
	return good;
}

/* ---- Commands ------------------------------------------------------------------- */

void gw_print_tools(FILE *to)
{
	static const char *const lines[] = {
		"check CONFIG             say whether a configuration is right",
		"make-key KEY_ID FILE     write a new root key, for stateless; KEY_ID: 16 to 32 characters",
		"make-secret FILE         write a new key of 32 octets, for psp, tss and eesp",
		"grant CONFIG GROUP FILE  psp: write an SPI and its key for a peer, its send-key",
		"ctl SOCKET COMMAND...    give a running gateway a command: status, keys, stats, help",
	};
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
		fprintf(to, "       %s %s\n", gw_program, lines[i]);
}

static void check(eesp_status status, const char *what)
{
	if (status != EESP_OK)
		die("%s: %s (%s)", what, eesp_strerror(status), eesp_last_error());
}

static void write_new(const char *path, uint8_t *secret, size_t len)
{
	int written = gw_write_secret(path, secret, len, false), error = errno;
	explicit_bzero(secret, len);
	if (written != 0)
		die("%s: %s", path, strerror(error));
}

static void make_key(const char *id, const char *path)
{
	uint8_t der[GW_MAX_SECRET];
	size_t len = sizeof der;
	eesp_group *g;
	check(eesp_group_new(NULL, &g), "group");
	check(eesp_group_generate_root_key(g, EESP_LEVEL_ZONE, (const uint8_t *)id, strlen(id)), id);
	check(eesp_group_get_root_key_der(g, EESP_LEVEL_ZONE, der, &len), id);
	eesp_group_free(g);
	write_new(path, der, len);
}

static void make_secret(const char *path)
{
	uint8_t key[32];
	if (getrandom(key, sizeof key, 0) != sizeof key)
		die("no random numbers: %s", strerror(errno));
	write_new(path, key, sizeof key);
}

/*
 * An SPI is given out once for a device key: two peers with one SPI would have one
 * key. So the last one is written, and synced, before the key is.
 */
static void grant(struct gw *g, const char *config, const char *name, const char *path)
{
	char text[16] = "0";
	uint32_t spi;
	gw_read(g, config);
	struct gw_group *group = gw_find_group(g, name);
	if (group == NULL || group->config.profile != EESP_PROFILE_PSP || group->spi_file[0] == '\0')
		die("%s: '%s' is not a group of profile psp with an spi-file", config, name);
	char locked[GW_MAX_PATH + 8];
	snprintf(locked, sizeof locked, "%s.lock", group->spi_file);
	int lock = open(locked, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (lock < 0 || flock(lock, LOCK_EX) != 0)
		die("%s: %s", locked, strerror(errno));
	int fd = open(group->spi_file, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT)
		die("%s: %s", group->spi_file, strerror(errno));
	if (fd >= 0) {
		ssize_t n = read(fd, text, sizeof text - 1);
		text[n > 0 ? n : 0] = '\0';
		close(fd);
	}
	char *end;
	unsigned long last = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || (*end != '\0' && *end != '\n') || last > UINT32_MAX)
		die("%s: this is not the number of an SPI", group->spi_file);
	/* Each slot's key has SPIs of its own; the file counts for both, which leaves some out. */
	check(eesp_group_alloc_spi(group->handle, (uint32_t)((last & 0x7fffffff) + 1), &spi), "SPI");
	int len = snprintf(text, sizeof text, "%lu\n", (unsigned long)(spi & 0x7fffffff));
	if (gw_write_secret(group->spi_file, (const uint8_t *)text, (size_t)len, true) != 0)
		die("%s: %s", group->spi_file, strerror(errno));
	eesp_data_key key;
	const eesp_context context = { .id = spi, .v = group->v };
	check(eesp_data_key_export(group->handle, &context, 0, &key), "data key");
	write_new(path, (uint8_t *)&key, sizeof key);
	printf("SPI %lu\n", (unsigned long)spi);
	close(lock);
}

/* Whether a word is one of the commands, instead of a configuration. */
static bool is_tool(const char *word)
{
	static const char *const names[] = { "check", "make-key", "make-secret", "grant", "ctl" };
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(word, names[i]) == 0)
			return true;
	return false;
}

int gw_tools(struct gw *g, int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	if (strcmp(name, "check") == 0 && argc == 3)
		gw_read(g, argv[2]);
	else if (strcmp(name, "make-key") == 0 && argc == 4)
		make_key(argv[2], argv[3]);
	else if (strcmp(name, "make-secret") == 0 && argc == 3)
		make_secret(argv[2]);
	else if (strcmp(name, "grant") == 0 && argc == 5)
		grant(g, argv[2], argv[3], argv[4]);
	else if (strcmp(name, "ctl") == 0 && argc >= 4)
		return gw_control_client(argv[2], argv + 3, argc - 3);
	else if (is_tool(name)) {
		fprintf(stderr, "%s %s: wrong number of arguments; usage:\n", gw_program, name);
		gw_print_tools(stderr);
		return 2;
	} else
		return -1;
	for (size_t i = 0; i < g->group_count; i++)
		eesp_group_free(g->groups[i].handle);
	return 0;
}
