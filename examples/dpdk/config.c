/* SPDX-License-Identifier: BSD-3-Clause */
/* Statements that only eesp_gw has; gateway.conf shows them. ../common/README.md has the others. */
#include "eesp_gw.h"

#include <string.h>

static struct config *config_of(const struct gw_line *l) { return l->gw->program; }

static struct port *find_port(struct config *c, const char *name)
{
	for (size_t i = 0; i < c->port_count; i++)
		if (strcmp(c->ports[i].end.name, name) == 0)
			return &c->ports[i];
	return NULL;
}

static struct rte_ether_addr mac(const struct gw_line *l, const char *key, const char *word)
{
	struct rte_ether_addr a;
	if (rte_ether_unformat_addr(word, &a) != 0 || !rte_is_valid_assigned_ether_addr(&a))
		gw_fail_line(l, "%s: '%s' is not a MAC address of one station", key, word);
	return a;
}

/* port NAME device D next-hop MAC address A [mac MAC] [mtu N] [mbuf-data N] [udp-port N] */
static void read_port(struct gw_line *l)
{
	struct config *c = config_of(l);
	const char *key, *value;
	if (c->port_count == MAX_PORTS)
		gw_fail_line(l, "more than %d ports", MAX_PORTS);
	if (find_port(c, l->word[1]) != NULL)
		gw_fail_line(l, "port '%s' twice", l->word[1]);
	struct port *p = &c->ports[c->port_count++];
	bool has_next_hop = false;
	*p = (struct port){ .end = { .line = l->number }, .mbuf_data = RTE_MBUF_DEFAULT_DATAROOM };
	gw_copy_name(l, "port", p->end.name, l->word[1]);
	for (int at = 2; gw_pair(l, &at, &key, &value);) {
		if (strcmp(key, "device") == 0) {
			gw_copy(l, key, p->device, sizeof p->device, value);
		} else if (strcmp(key, "next-hop") == 0) {
			p->next_hop = mac(l, key, value);
			has_next_hop = true;
		} else if (strcmp(key, "mac") == 0) {
			p->mac = mac(l, key, value);
			p->has_mac = true;
		} else if (strcmp(key, "address") == 0) {
			uint8_t v4[16];
			gw_address(l, key, value, p->end.address);
			memcpy(&p->address, p->end.address + 12, sizeof p->address);
			eesp_addr_from_ipv4(v4, &p->address);
			if (memcmp(v4, p->end.address, sizeof v4) != 0)
				gw_fail_line(l, "%s: '%s' is not an IPv4 address", key, value);
		} else if (strcmp(key, "mtu") == 0) {
			p->mtu = (uint16_t)gw_number(l, key, value, RTE_ETHER_MIN_MTU, UINT16_MAX);
		} else if (strcmp(key, "mbuf-data") == 0) {
			p->mbuf_data = (uint32_t)gw_number(l, key, value, MIN_MBUF_DATA, 65535 - RTE_PKTMBUF_HEADROOM);
		} else if (strcmp(key, "udp-port") == 0) {
			p->end.udp_port = (uint16_t)gw_number(l, key, value, 1, 65535);
		} else {
			gw_fail_line(l, "a port has no '%s'", key);
		}
	}
	if (p->device[0] == '\0' || !has_next_hop || p->address == 0)
		gw_fail_line(l, "a port needs device, next-hop and address");
}

static void face_network(struct gw_line *l, struct port *p)
{
	p->network = true;
	gw_add_end(l, &p->end);
}

/* tunnel HOSTS NETWORK, proxy NETWORK NETWORK, forward HOSTS HOSTS */
static void read_connection(struct gw_line *l)
{
	struct config *c = config_of(l);
	struct port *a = find_port(c, l->word[1]), *b = find_port(c, l->word[2]);
	if (a == NULL || b == NULL)
		gw_fail_line(l, "no port '%s' above", l->word[a == NULL ? 1 : 2]);
	if (a->other != NULL || b->other != NULL || a == b)
		gw_fail_line(l, "port '%s' is connected already", a->other != NULL ? a->end.name : b->end.name);
	a->other = b;
	b->other = a;
	a->proxy = b->proxy = strcmp(l->word[0], "proxy") == 0;
	if (a->proxy)
		face_network(l, a);
	if (a->proxy || strcmp(l->word[0], "tunnel") == 0)
		face_network(l, b);
}

static void read_idle_sleep(struct gw_line *l)
{
	config_of(l)->idle_sleep = (unsigned)gw_number(l, "idle-sleep", l->word[1], 0, 1000);
}

static void read_keep_warm(struct gw_line *l)
{
	config_of(l)->keep_warm = gw_choose(l, gw_yes_no, "keep-warm", l->word[1]);
}

const struct gw_statement statements[] = {
	{ "port", 2, GW_MAX_WORDS, false, read_port, "NAME KEY VALUE..." },
	{ "tunnel", 3, 3, false, read_connection, "HOSTS-PORT NETWORK-PORT" },
	{ "proxy", 3, 3, false, read_connection, "NETWORK-PORT NETWORK-PORT" },
	{ "forward", 3, 3, false, read_connection, "HOSTS-PORT HOSTS-PORT" },
	{ "idle-sleep", 2, 2, true, read_idle_sleep, "MICROSECONDS" },
	{ "keep-warm", 2, 2, true, read_keep_warm, "yes|no" },
	{ 0 },
};

void config_check(struct gw *g)
{
	struct config *c = g->program;
	if (c->port_count == 0)
		gw_fail(g, 1, "there is no port");
	for (size_t i = 0; i < c->port_count; i++) {
		struct port *p = &c->ports[i];
		size_t peers = 0;
		if (p->other == NULL)
			gw_fail(g, p->end.line, "port '%s' is not connected", p->end.name);
		for (size_t j = 0; j < g->peer_count; j++)
			if (g->peers[j].end == &p->end) {
				p->peer = &g->peers[j];
				peers++;
			}
		if (p->network && peers == 0)
			gw_fail(g, p->end.line, "port '%s' has no peer", p->end.name);
		/* A proxy does not read inner packets, so it cannot tell several peers apart. */
		if (p->proxy && peers != 1)
			gw_fail(g, p->end.line, "port '%s' is a proxy's, which has one peer at each port", p->end.name);
	}
}
