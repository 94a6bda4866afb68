/* SPDX-License-Identifier: BSD-3-Clause */
/* A UDP socket, for both programs. */
#ifndef UDP_H
#define UDP_H

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* A socket bound to HOST:PORT, or connected to it. -1: no. */
static int udp_socket(const char *addr, int to_bind)
{
	char host[256];
	const char *port = strrchr(addr, ':');
	struct addrinfo hint = { .ai_socktype = SOCK_DGRAM, .ai_flags = to_bind ? AI_PASSIVE : 0 }, *l;
	struct timeval wait = { 1, 0 };
	if (port == NULL || (size_t)(port - addr) >= sizeof host)
		return -1;
	memcpy(host, addr, (size_t)(port - addr));
	host[port - addr] = 0;
	if (getaddrinfo(host, port + 1, &hint, &l) != 0)
		return -1;
	int fd = socket(l->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && ((to_bind ? bind(fd, l->ai_addr, l->ai_addrlen) : connect(fd, l->ai_addr, l->ai_addrlen)) != 0 ||
			setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) != 0)) {
		close(fd);
		fd = -1;
	}
	freeaddrinfo(l);
	return fd;
}

#endif
