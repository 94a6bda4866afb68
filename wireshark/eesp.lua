-- SPDX-License-Identifier: BSD-3-Clause
--
-- Dissectors for what libeesp seals, in UDP: profiles stateless, psp, tss and
-- eesp. They show headers, and as experts' notes what the library refuses a
-- packet for before it looks for a key, by the status that it gives. They never
-- ask for keys: `python -m eesp open` is what decrypts a capture.
--
--   wireshark -X lua_script:eesp.lua CAPTURE
--   tshark -X lua_script:eesp.lua -r CAPTURE -O eespse,eesppsp,eesptss,eespsa
--
-- What a packet does not say about itself is a preference of its protocol.
-- docs/wireshark.md has more.

local ICV = 16
local VERSION = "1.0"
set_plugin_info({ version = VERSION, author = "libeesp", repository = "" })

-- A protocol with its fields: fields is a list of { key, ProtoField }.
local function protocol(name, description, fields)
	local p = Proto(name, description)
	local f, all = {}, {}
	for _, x in ipairs(fields) do
		f[x[1]] = x[2]
		all[#all + 1] = x[2]
	end
	f.icv = ProtoField.bytes(name .. ".icv", "ICV")
	f.clear = ProtoField.bytes(name .. ".clear", "Payload in clear, authenticated")
	f.open = ProtoField.bytes(name .. ".unauthenticated", "Payload in clear, not authenticated")
	f.text = ProtoField.bytes(name .. ".ciphertext", "Encrypted")
	all[#all + 1], all[#all + 2], all[#all + 3], all[#all + 4] = f.icv, f.clear, f.open, f.text
	p.fields = all
	p.experts = {}
	local e = {}
	local list = {}
	for _, s in ipairs({ "SHORT", "VERSION", "V", "RESERVED", "HEADER_LEN", "OFFSET", "OPTION", "SEQUENCE", "NO_KEY" }) do
		e[s] = ProtoExpert.new(name .. "." .. s:lower(), "EESP_ERR_" .. s, expert.group.MALFORMED, expert.severity.ERROR)
		list[#list + 1] = e[s]
	end
	p.experts = list
	return p, f, e
end

-- refuse notes why the library refuses a packet, and returns how much was read.
local function refuse(tree, e, status, text, tvb, pinfo)
	tree:add_proto_expert_info(e[status], "EESP_ERR_" .. status .. ": " .. text)
	pinfo.cols.info:append(" [refused: " .. status .. "]")
	return tvb:len()
end

-- payload adds what is between a header and the ICV: not authenticated up to
-- skip, authenticated in clear up to clear, and encrypted.
local function payload(tree, f, tvb, at, skip, clear)
	local e = tvb:len() - ICV
	if skip > 0 then tree:add(f.open, tvb(at, skip)) end
	if clear > skip then tree:add(f.clear, tvb(at + skip, clear - skip)) end
	if at + clear < e then tree:add(f.text, tvb(at + clear, e - at - clear)) end
	tree:add(f.icv, tvb(e, ICV))
end

local function zero(range)
	local b = range:bytes()
	for i = 0, b:len() - 1 do
		if b:get_index(i) ~= 0 then return false end
	end
	return true
end

---- stateless -----------------------------------------------------------------

local levels = { [0xE0] = "zone", [0xE1] = "user", [0xE2] = "task" }
local se, sf, sx = protocol("eespse", "EESP Stateless Encryption", {
	{ "version", ProtoField.uint8("eespse.version", "Version", base.DEC, nil, 0xF0) },
	{ "hl", ProtoField.uint8("eespse.hl", "Header length (8-octet units, not counting the first)", base.DEC, nil, 0x0F) },
	{ "v", ProtoField.uint8("eespse.v", "V", base.HEX, {
		[0] = "DeviceID", "DeviceID, source address", "DeviceID, both addresses",
		[8] = "ConnectionID", [9] = "ConnectionID, source address", [10] = "ConnectionID, both addresses" }, 0xF0) },
	{ "reserve", ProtoField.uint16("eespse.reserve", "Reserve", base.HEX, nil, 0x0FF0) },
	{ "coffset", ProtoField.uint16("eespse.coffset", "COffset (4-octet units)", base.DEC, nil, 0x0FF0) },
	{ "ioffset", ProtoField.uint8("eespse.ioffset", "IOffset (4-octet units)", base.DEC, nil, 0x0F) },
	{ "id", ProtoField.uint64("eespse.id", "ID", base.HEX) },
	{ "level", ProtoField.uint8("eespse.key.level", "Level", base.HEX, levels) },
	{ "index", ProtoField.uint8("eespse.key.index", "Root key index, modulo 256", base.DEC) },
	{ "key", ProtoField.bytes("eespse.key.id", "Root key ID") },
	{ "pad", ProtoField.bytes("eespse.padding", "Padding") },
	{ "epoch", ProtoField.uint16("eespse.epoch", "Epoch", base.DEC) },
	{ "counter", ProtoField.uint64("eespse.counter", "Counter", base.DEC) },
})

-- options reads Master Key Options from a range; nil: malformed.
local function options(tree, tvb, at, till)
	local last, padding = 0, 0
	while at < till do
		local kind = tvb(at, 1):uint()
		if kind == 0 then
			tree:add(sf.pad, tvb(at, 1))
			at, padding = at + 1, padding + 1
		else
			if at + 2 > till then return nil end
			local n = tvb(at + 1, 1):uint()
			if at + 2 + n > till then return nil end
			if kind == 1 then
				if n > 0 and not zero(tvb(at + 2, n)) then return nil end
				tree:add(sf.pad, tvb(at, n + 2))
				padding = padding + n + 2
			else
				if not levels[kind] or kind <= last or padding > 0 or n < 2 then return nil end
				local pad = tvb(at + 3, 1):uint()
				local id = n - 2 - pad
				if pad > 3 or id < 16 or id > 32 or (n + 2) % 4 ~= 0 then return nil end
				if pad > 0 and not zero(tvb(at + 4 + id, pad)) then return nil end
				local t = tree:add(se, tvb(at, n + 2), "Master Key Option: " .. levels[kind])
				t:add(sf.level, tvb(at, 1))
				t:add(sf.index, tvb(at + 2, 1))
				t:add(sf.key, tvb(at + 4, id))
				last = kind
			end
			at = at + 2 + n
		end
	end
	if padding >= 8 then return nil end
	return true
end

function se.dissector(tvb, pinfo, root)
	pinfo.cols.protocol = "EESP-SE"
	pinfo.cols.info = "EESP stateless encryption"
	local tree = root:add(se, tvb())
	local n = tvb:len()
	local function no(status, text) return refuse(tree, sx, status, text, tvb, pinfo) end
	if n < 4 then return no("SHORT", "fewer than 4 octets") end
	tree:add(sf.version, tvb(0, 1))
	tree:add(sf.hl, tvb(0, 1))
	tree:add(sf.v, tvb(1, 1))
	tree:add(sf.reserve, tvb(1, 2))
	tree:add(sf.coffset, tvb(2, 2))
	tree:add(sf.ioffset, tvb(3, 1))
	local v = tvb(1, 1):bitfield(0, 4)
	if tvb(0, 1):bitfield(0, 4) ~= 0 then return no("VERSION", "Version is not 0") end
	if v % 8 > 2 then return no("V", "V names no combination") end
	if tvb(1, 2):bitfield(4, 8) ~= 0 then return no("RESERVED", "Reserve is not 0") end
	local head, id = 8 * (tvb(0, 1):bitfield(4, 4) + 1), v >= 8 and 8 or 4
	if head < 4 + id + 8 then return no("HEADER_LEN", "HL is too small for ID, Epoch and Counter") end
	if n < head + ICV then return no("SHORT", "shorter than its header and ICV") end
	tree:add(sf.id, tvb(4, id))
	if not options(tree, tvb, 4 + id, head - 8) then return no("OPTION", "malformed between ID and Epoch") end
	tree:add(sf.epoch, tvb(head - 8, 2))
	tree:add(sf.counter, tvb(head - 6, 6))
	local c, i = tvb(2, 2):bitfield(4, 8) * 4, tvb(3, 1):bitfield(4, 4) * 4
	if i > c or c > n - head - ICV then return no("OFFSET", "IOffset above COffset, or COffset behind the payload") end
	payload(tree, sf, tvb, head, i, c)
	pinfo.cols.info = string.format("ID 0x%s epoch %d counter %s, %d octets", tostring(tvb(4, id):bytes()):lower(),
		tvb(head - 8, 2):uint(), tostring(tvb(head - 6, 6):uint64()), n - head - ICV)
	return n
end

---- psp -------------------------------------------------------------------------

local versions = { [0] = "AES-128-GCM", "AES-256-GCM", "AES-128-GMAC", "AES-256-GMAC" }
local psp, pf, px = protocol("eesppsp", "Google PSP", {
	{ "next", ProtoField.uint8("eesppsp.next_header", "Next header", base.DEC) },
	{ "len", ProtoField.uint8("eesppsp.ext_len", "Hdr Ext Len (8-octet units, not counting the first)", base.DEC) },
	{ "reserved", ProtoField.uint8("eesppsp.reserved", "Reserved, ignored", base.DEC, nil, 0xC0) },
	{ "offset", ProtoField.uint8("eesppsp.crypt_offset", "Crypt offset (4-octet units from the IV's end)", base.DEC, nil, 0x3F) },
	{ "s", ProtoField.bool("eesppsp.s", "Sample at receiver", 8, nil, 0x80) },
	{ "d", ProtoField.bool("eesppsp.d", "Drop after sampling", 8, nil, 0x40) },
	{ "version", ProtoField.uint8("eesppsp.version", "Version", base.DEC, versions, 0x3C) },
	{ "v", ProtoField.bool("eesppsp.v", "Virtualization cookie", 8, nil, 0x02) },
	{ "one", ProtoField.uint8("eesppsp.one", "Always 1", base.DEC, nil, 0x01) },
	{ "spi", ProtoField.uint32("eesppsp.spi", "SPI", base.HEX) },
	{ "device", ProtoField.uint32("eesppsp.device_key", "Device key", base.DEC, nil, 0x80000000) },
	{ "iv", ProtoField.uint64("eesppsp.iv", "IV", base.HEX) },
	{ "ext", ProtoField.bytes("eesppsp.extension", "Cookie and other extension fields, in clear") },
	{ "hidden", ProtoField.bytes("eesppsp.extension.encrypted", "Cookie and other extension fields, encrypted") },
})

function psp.dissector(tvb, pinfo, root)
	pinfo.cols.protocol = "PSP"
	pinfo.cols.info = "PSP"
	local tree = root:add(psp, tvb())
	local n = tvb:len()
	local function no(status, text) return refuse(tree, px, status, text, tvb, pinfo) end
	if n < 16 + ICV then return no("SHORT", "shorter than the base header and an ICV") end
	for _, x in ipairs({ { "next", 0, 1 }, { "len", 1, 1 }, { "reserved", 2, 1 }, { "offset", 2, 1 }, { "s", 3, 1 }, { "d", 3, 1 },
		{ "version", 3, 1 }, { "v", 3, 1 }, { "one", 3, 1 }, { "spi", 4, 4 }, { "device", 4, 4 }, { "iv", 8, 8 } }) do
		tree:add(pf[x[1]], tvb(x[2], x[3]))
	end
	local version, v = tvb(3, 1):bitfield(2, 4), tvb(3, 1):bitfield(6, 1)
	local len, offset = tvb(1, 1):uint(), 4 * tvb(2, 1):bitfield(2, 6)
	if version > 3 then return no("VERSION", "there are versions 0 to 3") end
	if tvb(3, 1):bitfield(7, 1) == 0 then return no("RESERVED", "the last bit of octet 3 is not 1") end
	if len < 1 + v then return no("HEADER_LEN", "no room for the IV, or for the cookie") end
	local head = 8 + 8 * len
	if n < head + ICV then return no("SHORT", "shorter than its header and ICV") end
	if 16 + offset + ICV > n then return no("OFFSET", "the crypt offset goes beyond the packet") end
	if tvb(4, 4):bitfield(1, 31) == 0 then return no("NO_KEY", "the low 31 bits of an SPI are never 0") end
	if version > 1 then offset = n - ICV - 16 end -- GMAC encrypts nothing
	local clear = math.min(offset, head - 16)
	if clear > 0 then tree:add(pf.ext, tvb(16, clear)) end
	if clear < head - 16 then tree:add(pf.hidden, tvb(16 + clear, head - 16 - clear)) end
	payload(tree, pf, tvb, head, 0, math.max(offset + 16 - head, 0))
	pinfo.cols.info = string.format("SPI 0x%08x IV 0x%s %s, next header %d, %d octets", tvb(4, 4):uint(), tostring(tvb(8, 8):bytes()):lower(),
		versions[version], tvb(0, 1):uint(), n - head - ICV)
	return n
end

---- tss -------------------------------------------------------------------------

local tss, tf, tx = protocol("eesptss", "Ultra Ethernet Transport Security Sublayer", {
	{ "type", ProtoField.uint8("eesptss.type", "Type", base.DEC, { [1] = "security" }, 0xF8) },
	{ "sp", ProtoField.bool("eesptss.sp", "SSI present", 8, nil, 0x04) },
	{ "reserved", ProtoField.uint8("eesptss.reserved", "Reserved", base.DEC, nil, 0x02) },
	{ "an", ProtoField.uint8("eesptss.an", "AN", base.DEC, nil, 0x01) },
	{ "sdi", ProtoField.uint24("eesptss.sdi", "SDI", base.HEX) },
	{ "ssi", ProtoField.uint32("eesptss.ssi", "SSI", base.HEX) },
	{ "epoch", ProtoField.uint16("eesptss.epoch", "Epoch", base.DEC) },
	{ "counter", ProtoField.uint64("eesptss.counter", "Counter", base.DEC) },
	{ "way", ProtoField.uint8("eesptss.direction", "Server mode: direction", base.DEC, { [0] = "to the server", "to the client" }, 0x80) },
})
tss.prefs.crypt_offset = Pref.uint("Crypt offset", 0, "Of the domain: octets in clear from the header's first on; 0: the header")

function tss.dissector(tvb, pinfo, root)
	pinfo.cols.protocol = "UET-TSS"
	pinfo.cols.info = "UET TSS"
	local tree = root:add(tss, tvb())
	local n = tvb:len()
	local function no(status, text) return refuse(tree, tx, status, text, tvb, pinfo) end
	if n < 12 + ICV then return no("SHORT", "shorter than the shortest header and an ICV") end
	for _, x in ipairs({ "type", "sp", "reserved", "an" }) do tree:add(tf[x], tvb(0, 1)) end
	tree:add(tf.sdi, tvb(1, 3))
	if tvb(0, 1):bitfield(0, 5) ~= 1 then return no("VERSION", "the type is not 1") end
	if tvb(0, 1):bitfield(6, 1) ~= 0 then return no("RESERVED", "the reserved bit is not 0") end
	local head, who = 12, ""
	if tvb(0, 1):bitfield(5, 1) == 1 then
		if n < 16 + ICV then return no("SHORT", "shorter than a header with SSI and an ICV") end
		head, who = 16, string.format(" SSI 0x%08x", tvb(4, 4):uint())
		tree:add(tf.ssi, tvb(4, 4))
	end
	tree:add(tf.epoch, tvb(head - 8, 2))
	tree:add(tf.counter, tvb(head - 6, 6))
	tree:add(tf.way, tvb(head - 6, 1))
	local clear = math.max(tss.prefs.crypt_offset, head) - head
	if clear > n - head - ICV then return no("OFFSET", "the domain's crypt offset is behind the payload") end
	payload(tree, tf, tvb, head, 0, clear)
	pinfo.cols.info = string.format("SDI 0x%06x AN %d%s epoch %d counter %s, %d octets", tvb(1, 3):uint(), tvb(0, 1):bitfield(7, 1), who,
		tvb(head - 8, 2):uint(), tostring(tvb(head - 6, 6):uint64()), n - head - ICV)
	return n
end

---- eesp ------------------------------------------------------------------------

local sa, ef, ex = protocol("eespsa", "Enhanced Encapsulating Security Payload", {
	{ "one", ProtoField.uint8("eespsa.one", "Always 1", base.DEC, nil, 0x80) },
	{ "version", ProtoField.uint8("eespsa.version", "Version", base.DEC, nil, 0x78) },
	{ "r", ProtoField.uint8("eespsa.reserved", "Reserved", base.HEX, nil, 0x07) },
	{ "optlen", ProtoField.uint8("eespsa.opt_len", "Opt Len", base.DEC) },
	{ "session", ProtoField.uint16("eespsa.session", "Session ID", base.DEC) },
	{ "spi", ProtoField.uint32("eespsa.spi", "SPI", base.HEX) },
	{ "option", ProtoField.bytes("eespsa.option", "Option") },
	{ "flow", ProtoField.bytes("eespsa.flow_id", "Flow Identifier") },
	{ "poffset", ProtoField.uint16("eespsa.payload_offset", "Payload Offset (4-octet units)", base.DEC, nil, 0xFC00) },
	{ "coffset", ProtoField.uint16("eespsa.coffset", "CryptOffset (4-octet units)", base.DEC, nil, 0x03F0) },
	{ "sequence", ProtoField.uint64("eespsa.sequence", "Sequence number", base.DEC) },
	{ "iv", ProtoField.uint64("eespsa.iv", "IV", base.HEX) },
})
sa.prefs.sequence = Pref.bool("Sequence numbers", true, "Packets of the SA have one")
sa.prefs.iv = Pref.bool("Explicit IVs", false, "Packets of the SA have one")
sa.prefs.optimized = Pref.bool("Optimized format", false, "Payloads have no Payload Info Header (draft -03: tunnel mode)")
sa.prefs.flows = Pref.bool("Draft -02", false, "Packets may have a Flow Identifier, which draft -03 does not have")

-- eesp_options reads options from a range; the second result is Crypt Offset's place.
local function eesp_options(tree, tvb, at, till)
	local offset, flow
	while at < till do
		local kind = tvb(at, 1):uint()
		if kind == 0 then
			at = at + 1
		else
			if at + 2 > till then return nil end
			local n = tvb(at + 1, 1):uint()
			if at + 2 + n > till then return nil end
			local b = at + 2
			if kind == 2 and not offset and n == 2 then
				offset = b
			elseif kind == 3 and not flow and sa.prefs.flows then
				flow = b
				if n > 0 then tree:add(ef.flow, tvb(b, n)) end
			elseif kind < 224 and (kind ~= 1 or n > 0 and not zero(tvb(b, n))) then
				return nil
			end
			tree:add(ef.option, tvb(at, n + 2))
			at = b + n
		end
	end
	return true, offset
end

function sa.dissector(tvb, pinfo, root)
	pinfo.cols.protocol = "EESP"
	pinfo.cols.info = "EESP"
	local tree = root:add(sa, tvb())
	local n = tvb:len()
	local peer = (sa.prefs.sequence and 8 or 0) + (sa.prefs.iv and 8 or 0)
	local info = sa.prefs.optimized and 0 or 4
	local function no(status, text) return refuse(tree, ex, status, text, tvb, pinfo) end
	if n < 16 + ICV then return no("SHORT", "shorter than the shortest header and an ICV") end
	for _, x in ipairs({ { "one", 0, 1 }, { "version", 0, 1 }, { "r", 0, 1 }, { "optlen", 1, 1 }, { "session", 2, 2 }, { "spi", 4, 4 } }) do
		tree:add(ef[x[1]], tvb(x[2], x[3]))
	end
	if tvb(0, 1):bitfield(0, 5) ~= 0x10 then return no("VERSION", "the first bit is not 1, or Version not 0") end
	if tvb(0, 1):bitfield(5, 3) ~= 0 then return no("RESERVED", "R is not 0") end
	if n < 8 + peer + info + ICV then return no("SHORT", "shorter than the SA's headers and an ICV") end
	local len = tvb(1, 1):uint()
	if len % 4 ~= 0 then return no("HEADER_LEN", "Opt Len is not a multiple of 4") end
	local head = 8 + len + peer
	if n < head + info + ICV then return no("SHORT", "shorter than its headers and ICV") end
	local good, offset = eesp_options(tree, tvb, 8, 8 + len)
	if not good then return no("OPTION", "malformed, unknown or repeated") end
	local clear = 0
	if offset then
		tree:add(ef.poffset, tvb(offset, 2))
		tree:add(ef.coffset, tvb(offset, 2))
		clear = 4 * tvb(offset, 2):bitfield(6, 6)
		if sa.prefs.optimized or 4 * tvb(offset, 2):bitfield(0, 6) ~= head or head + clear + ICV > n then
			return no("OFFSET", "of a Crypt Offset option")
		end
	end
	local number = "none"
	if sa.prefs.sequence then
		tree:add(ef.sequence, tvb(8 + len, 8))
		number = tostring(tvb(8 + len, 8):uint64())
		if zero(tvb(8 + len, 8)) then return no("SEQUENCE", "the sequence number is 0") end
	end
	if sa.prefs.iv then tree:add(ef.iv, tvb(head - 8, 8)) end
	payload(tree, ef, tvb, head, 0, clear)
	pinfo.cols.info = string.format("SPI 0x%08x Session ID %d sequence number %s, %d octets", tvb(4, 4):uint(), tvb(2, 2):uint(), number,
		n - head - ICV)
	return n
end

---- ports -----------------------------------------------------------------------

-- stateless and eesp have no port of their own. Their first bits differ, unless a
-- packet is damaged.
local either = Proto("eespudp", "EESP in UDP")
either.prefs.port = Pref.range("UDP ports", "63377", "Of profiles stateless and eesp, in place of what else is there: 63377,4500", 65535)
either.prefs.profile = Pref.enum("Profile", 0, "What packets to that port are",
	{ { 1, "by their first bit", 0 }, { 2, "stateless", 1 }, { 3, "eesp", 2 } }, false)
function either.dissector(tvb, pinfo, root)
	local eesp = either.prefs.profile == 2
	if either.prefs.profile == 0 then eesp = tvb:len() > 0 and tvb(0, 1):bitfield(0, 1) == 1 end
	if eesp then return sa.dissector(tvb, pinfo, root) end
	return se.dissector(tvb, pinfo, root)
end

local udp, ports, before = DissectorTable.get("udp.port"), nil, {}
function either.init()
	if ports == either.prefs.port then return end
	ports = either.prefs.port
	for number, was in pairs(before) do -- 4500, say, is IPsec's again
		udp:remove(number, either)
		if was then udp:add(number, was) end
	end
	before = {}
	for first, last in ports:gmatch("(%d+)%-?(%d*)") do
		for number = tonumber(first), tonumber(last) or tonumber(first) do
			before[number] = udp:get_dissector(number) or false
			udp:add(number, either)
		end
	end
end
udp:add(1000, psp)
udp:add(4793, tss)
