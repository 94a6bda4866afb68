/* SPDX-License-Identifier: BSD-3-Clause */
/* The header compiles alone, as C and as C++, and its structures have this layout. */
#include <eesp.h>

#ifdef __cplusplus
#define AT(type, field, offset) static_assert(offsetof(type, field) == (offset), #type "." #field)
#define SIZE(type, size) static_assert(sizeof(type) == (size), #type)
#define VALUE(name, value) static_assert((name) == (value), #name)
#else
#define AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field)
#define SIZE(type, size) _Static_assert(sizeof(type) == (size), #type)
#define VALUE(name, value) _Static_assert((name) == (value), #name)
#endif

SIZE(eesp_status, 4);
SIZE(eesp_group_config, 72);
AT(eesp_group_config, struct_size, 0);
AT(eesp_group_config, profile, 4);
AT(eesp_group_config, aead, 8);
AT(eesp_group_config, combiner, 12);
AT(eesp_group_config, domain, 16);
AT(eesp_group_config, sub_sas, 20);
AT(eesp_group_config, rekey_mask, 24);
AT(eesp_group_config, rekey_shift, 32);
AT(eesp_group_config, mode, 33);
AT(eesp_group_config, versions, 34);
AT(eesp_group_config, max_coffset, 35);
AT(eesp_group_config, flags, 36);
AT(eesp_group_config, reserved, 40);
AT(eesp_group_config, draft, 48); /* where 1.0 ended */
AT(eesp_group_config, encap, 49);
AT(eesp_group_config, crypt_offset, 50);
AT(eesp_group_config, epoch_age, 52);
AT(eesp_group_config, auth_failure_limit, 56);
AT(eesp_group_config, counter_limit, 64);
SIZE(eesp_domain_stats, 128);
SIZE(eesp_usage, 64);
AT(eesp_usage, index, 24);

SIZE(eesp_root_key_info, 64);
AT(eesp_root_key_info, index, 0);
AT(eesp_root_key_info, id, 24);
AT(eesp_root_key_info, id_len, 56);
AT(eesp_root_key_info, has_previous, 60);

SIZE(eesp_addr, 32);
AT(eesp_addr, dst, 16);

SIZE(eesp_context, 48);
AT(eesp_context, id, 0);
AT(eesp_context, epoch, 8);
AT(eesp_context, v, 10);
AT(eesp_context, levels, 11);
AT(eesp_context, generation, 12);
AT(eesp_context, reserved, 13);
AT(eesp_context, addr, 16);

SIZE(eesp_data_key, 192);
AT(eesp_data_key, id, 0);
AT(eesp_data_key, epoch, 8);
AT(eesp_data_key, v, 10);
AT(eesp_data_key, key_len, 11);
AT(eesp_data_key, options_len, 12);
AT(eesp_data_key, profile, 13);
AT(eesp_data_key, params, 14);
AT(eesp_data_key, addr, 16);
AT(eesp_data_key, key, 48);
AT(eesp_data_key, options, 80);
AT(eesp_data_key, domain, 188);

SIZE(eesp_iov, 16);
AT(eesp_iov, base, 0);
AT(eesp_iov, len, 8);

SIZE(eesp_pkt, 128);
AT(eesp_pkt, data, 0);
AT(eesp_pkt, len, 8);
AT(eesp_pkt, headroom, 12);
AT(eesp_pkt, tailroom, 16);
AT(eesp_pkt, coffset, 20);
AT(eesp_pkt, ioffset, 21);
AT(eesp_pkt, iov_count, 22);
AT(eesp_pkt, iov, 24);
AT(eesp_pkt, dst, 32);
AT(eesp_pkt, dst_size, 40);
AT(eesp_pkt, status, 44);
AT(eesp_pkt, out, 48);
AT(eesp_pkt, out_len, 56);
AT(eesp_pkt, flags, 60);
AT(eesp_pkt, next_header, 62);
AT(eesp_pkt, reserved, 63);
AT(eesp_pkt, addr, 64);
AT(eesp_pkt, id, 96);
AT(eesp_pkt, tsc, 104);
AT(eesp_pkt, out_addr, 112);
AT(eesp_pkt, user, 120);

SIZE(eesp_sender_config, 96);
AT(eesp_sender_config, struct_size, 0);
AT(eesp_sender_config, flags, 4);
AT(eesp_sender_config, id, 8);
AT(eesp_sender_config, v, 16);
AT(eesp_sender_config, levels, 17);
AT(eesp_sender_config, counter_mode, 18);
AT(eesp_sender_config, engine_bits, 19);
AT(eesp_sender_config, lock_dir, 80);
AT(eesp_sender_config, engine, 20);
AT(eesp_sender_config, rate_log2, 24);
AT(eesp_sender_config, reserved1, 25);
AT(eesp_sender_config, epoch, 26);
AT(eesp_sender_config, reserved2, 28);
AT(eesp_sender_config, epoch_start_ns, 32);
AT(eesp_sender_config, start_counter, 40);
AT(eesp_sender_config, reserve_run, 48);
AT(eesp_sender_config, state_path, 56);
AT(eesp_sender_config, extra, 64);
AT(eesp_sender_config, extra_len, 72);
AT(eesp_sender_config, reserved3, 76);
AT(eesp_sender_config, reserved, 88);

SIZE(eesp_receiver_config, 80);
AT(eesp_receiver_config, struct_size, 0);
AT(eesp_receiver_config, flags, 4);
AT(eesp_receiver_config, own_ids, 8);
AT(eesp_receiver_config, own_id_count, 16);
AT(eesp_receiver_config, replay_window, 24);
AT(eesp_receiver_config, replay_contexts, 28);
AT(eesp_receiver_config, engine_bits, 32);
AT(eesp_receiver_config, replay_mode, 33);
AT(eesp_receiver_config, max_age_us, 40);
AT(eesp_receiver_config, mark_path, 56);
AT(eesp_receiver_config, heir_of, 64);

SIZE(eesp_replay_stats, 64);
AT(eesp_replay_stats, duplicates, 16);
AT(eesp_replay_stats, given_up, 48);

SIZE(eesp_stats, 512);
AT(eesp_stats, octets, 0);
AT(eesp_stats, packets, 8);
AT(eesp_stats, reserved, 504);

VALUE(EESP_VERSION, EESP_VERSION_MAJOR * 0x1000000u + EESP_VERSION_MINOR * 0x10000u + EESP_VERSION_PATCH * 0x100u);
VALUE(EESP_VERSION_MAJOR, 1);
/* EESP_STATUS_COUNT is not here because it grows: layout.go compares it. */
VALUE(EESP_ICV_LEN, 16);
VALUE(EESP_MAX_HEADER, 128);
VALUE(EESP_MAX_SEALED_LEN(100), 247);
VALUE(EESP_MAX_OPTIONS, 3 * (4 + EESP_MAX_ROOT_KEY_ID));
VALUE(EESP_LEVELS_ZONE, 1 << EESP_LEVEL_ZONE);
VALUE(EESP_LEVELS_USER, 1 << EESP_LEVEL_USER);
VALUE(EESP_LEVELS_TASK, 1 << EESP_LEVEL_TASK);
VALUE(EESP_ERR_ARGUMENT, -1);
VALUE(EESP_ERR_AUTH, -2);
VALUE(EESP_ERR_FORKED, -20);
VALUE(EESP_ERR_SEGMENTS, -29);
VALUE(EESP_ERR_ENCAP, -35);
VALUE(EESP_ERR_DUMMY, -36);
VALUE(EESP_ERR_LATCHED, -37);
VALUE(EESP_ERR_STALE, -38);
VALUE(EESP_ERR_EARLY, -39);
VALUE(EESP_ERR_FULL, -40);
VALUE(EESP_ERR_FENCED, -41);
VALUE(EESP_ERR_OUT_OF_TOUCH, -42);
VALUE(EESP_ERR_AGENT, -43);
VALUE(EESP_ERR_TIMEOUT, -44);
VALUE(EESP_ERR_FLOODED, -45);

/* The initializers compile. */
int main(void)
{
	const eesp_group_config g = EESP_GROUP_CONFIG_INIT;
	const eesp_sender_config s = EESP_SENDER_CONFIG_INIT;
	const eesp_receiver_config r = EESP_RECEIVER_CONFIG_INIT;
	uint8_t a[16];
	static eesp_pkt p;
	eesp_addr_from_ipv4(a, "\xc0\x00\x02\x01");
	return !(g.struct_size == sizeof g && s.struct_size == sizeof s && r.struct_size == sizeof r && a[12] == 0xc0 &&
		 eesp_partition(&p, 1) == 1 && eesp_version() == EESP_VERSION);
}
