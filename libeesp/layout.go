package main

/*
#include "shim.h"
*/
import "C"

import (
	"unsafe"

	"libeesp/internal/burst"
	"libeesp/internal/counter"
	"libeesp/internal/eesp"
	"libeesp/internal/fresh"
	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/plan"
	"libeesp/internal/profile"
	"libeesp/internal/replay"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// The layouts in C and in Go must be the same: if a size, an offset or a number differs,
// this does not compile.

var (
	cp  C.eesp_pkt
	gp  profile.Desc
	cc  C.eesp_context
	gc  profile.KeyContext
	ck  C.eesp_data_key
	gk  profile.DataKey
	ci  C.eesp_iov
	gi  profile.IOV
	cj  C.eesp_job
	gj  kernel.Job
	cd  C.struct_eesp_direct
	gd  kernel.Direct
	cr  C.struct_eesp_worker_view
	gr  burst.WorkerView
	cs  C.struct_eesp_seal_plan
	gs  plan.Seal
	co  C.struct_eesp_open_plan
	go_ plan.Open
	ch  C.struct_eesp_layout
	gh  plan.Layout
	ct  C.struct_eesp_pattern
	gt  plan.Pattern
	cw  C.struct_eesp_windows
	gw  replay.View
	gu  keys.UsageWords
	cy  C.struct_eesp_times
	gy  fresh.View
	cf  C.struct_eesp_flow
	gf  replay.Key
)

// same is an array of length 1: same[x] compiles for a constant x only if x is 0.
var same = [1]struct{}{}

var (
	_ = same[unsafe.Sizeof(cp)-unsafe.Sizeof(gp)]
	_ = same[unsafe.Offsetof(cp.data)-unsafe.Offsetof(gp.Data)]
	_ = same[unsafe.Offsetof(cp.len)-unsafe.Offsetof(gp.Len)]
	_ = same[unsafe.Offsetof(cp.headroom)-unsafe.Offsetof(gp.Headroom)]
	_ = same[unsafe.Offsetof(cp.tailroom)-unsafe.Offsetof(gp.Tailroom)]
	_ = same[unsafe.Offsetof(cp.coffset)-unsafe.Offsetof(gp.COffset)]
	_ = same[unsafe.Offsetof(cp.ioffset)-unsafe.Offsetof(gp.IOffset)]
	_ = same[unsafe.Offsetof(cp.iov_count)-unsafe.Offsetof(gp.IOVCount)]
	_ = same[unsafe.Offsetof(cp.iov)-unsafe.Offsetof(gp.IOV)]
	_ = same[unsafe.Offsetof(cp.dst)-unsafe.Offsetof(gp.Dst)]
	_ = same[unsafe.Offsetof(cp.dst_size)-unsafe.Offsetof(gp.DstSize)]
	_ = same[unsafe.Offsetof(cp.status)-unsafe.Offsetof(gp.Status)]
	_ = same[unsafe.Offsetof(cp.out)-unsafe.Offsetof(gp.Out)]
	_ = same[unsafe.Offsetof(cp.out_len)-unsafe.Offsetof(gp.OutLen)]
	_ = same[unsafe.Offsetof(cp.flags)-unsafe.Offsetof(gp.Flags)]
	_ = same[unsafe.Offsetof(cp.next_header)-unsafe.Offsetof(gp.NextHeader)]
	_ = same[unsafe.Offsetof(cp.reserved)-unsafe.Offsetof(gp.Reserved)]
	_ = same[unsafe.Offsetof(cp.addr)-unsafe.Offsetof(gp.Src)]
	_ = same[unsafe.Offsetof(cp.addr)+16-unsafe.Offsetof(gp.DstIP)]
	_ = same[unsafe.Offsetof(cp.id)-unsafe.Offsetof(gp.ID)]
	_ = same[unsafe.Offsetof(cp.tsc)-unsafe.Offsetof(gp.TSC)]
	_ = same[unsafe.Offsetof(cp.out_addr)-unsafe.Offsetof(gp.OutAddr)]
	_ = same[unsafe.Offsetof(cp.user)-unsafe.Offsetof(gp.User)]

	_ = same[unsafe.Sizeof(cc)-unsafe.Sizeof(gc)]
	_ = same[unsafe.Offsetof(cc.epoch)-unsafe.Offsetof(gc.Epoch)]
	_ = same[unsafe.Offsetof(cc.v)-unsafe.Offsetof(gc.V)]
	_ = same[unsafe.Offsetof(cc.levels)-unsafe.Offsetof(gc.Levels)]
	_ = same[unsafe.Offsetof(cc.generation)-unsafe.Offsetof(gc.Generation)]
	_ = same[unsafe.Offsetof(cc.addr)-unsafe.Offsetof(gc.Addr)]

	_ = same[unsafe.Sizeof(ck)-unsafe.Sizeof(gk)]
	_ = same[unsafe.Offsetof(ck.epoch)-unsafe.Offsetof(gk.Epoch)]
	_ = same[unsafe.Offsetof(ck.v)-unsafe.Offsetof(gk.V)]
	_ = same[unsafe.Offsetof(ck.key_len)-unsafe.Offsetof(gk.KeyLen)]
	_ = same[unsafe.Offsetof(ck.options_len)-unsafe.Offsetof(gk.OptionsLen)]
	_ = same[unsafe.Offsetof(ck.addr)-unsafe.Offsetof(gk.Addr)]
	_ = same[unsafe.Offsetof(ck.key)-unsafe.Offsetof(gk.Key)]
	_ = same[unsafe.Offsetof(ck.options)-unsafe.Offsetof(gk.Options)]
	_ = same[unsafe.Offsetof(ck.profile)-unsafe.Offsetof(gk.Profile)]
	_ = same[unsafe.Offsetof(ck.params)-unsafe.Offsetof(gk.Params)]
	_ = same[unsafe.Offsetof(ck.domain)-unsafe.Offsetof(gk.Domain)]

	_ = same[unsafe.Sizeof(cd)-unsafe.Sizeof(gd)]
	_ = same[unsafe.Offsetof(cd.expanded)-unsafe.Offsetof(gd.Expanded)]
	_ = same[unsafe.Offsetof(cd.long_)-unsafe.Offsetof(gd.Long)]
	_ = same[unsafe.Offsetof(cd.begin)-unsafe.Offsetof(gd.Begin)]
	_ = same[unsafe.Offsetof(cd.long_least)-unsafe.Offsetof(gd.LongLeast)]
	_ = same[unsafe.Offsetof(cd.rows_at)-unsafe.Offsetof(gd.RowsAt)]
	_ = same[unsafe.Offsetof(cd.long_at)-unsafe.Offsetof(gd.LongAt)]
	_ = same[unsafe.Offsetof(cd.one)-unsafe.Offsetof(gd.One)]
	_ = same[unsafe.Offsetof(cd.one_aad)-unsafe.Offsetof(gd.OneAAD)]
	_ = same[unsafe.Offsetof(cd.pair)-unsafe.Offsetof(gd.Pair)]
	_ = same[unsafe.Offsetof(cd.alone)-unsafe.Offsetof(gd.Alone)]
	_ = same[unsafe.Offsetof(cd.residue_len)-unsafe.Offsetof(gd.ResidueLen)]
	_ = same[unsafe.Offsetof(cd.one_blocks)-unsafe.Offsetof(gd.OneBlocks)]
	_ = same[unsafe.Offsetof(cd.brief)-unsafe.Offsetof(gd.Brief)]
	_ = same[unsafe.Offsetof(cd.narrow)-unsafe.Offsetof(gd.Narrow)]
	_ = same[unsafe.Offsetof(cd.narrow_aad)-unsafe.Offsetof(gd.NarrowAAD)]
	_ = same[unsafe.Offsetof(cd.rest_limit)-unsafe.Offsetof(gd.RestLimit)]

	_ = same[unsafe.Sizeof(cr)-unsafe.Sizeof(gr)]
	_ = same[unsafe.Offsetof(cr.msgs)-unsafe.Offsetof(gr.Msgs)]
	_ = same[unsafe.Offsetof(cr.waiting)-unsafe.Offsetof(gr.Waiting)]
	_ = same[unsafe.Offsetof(cr.number)-unsafe.Offsetof(gr.Number)]
	_ = same[unsafe.Offsetof(cr.aad)-unsafe.Offsetof(gr.AAD)]
	_ = same[unsafe.Offsetof(cr.around)-unsafe.Offsetof(gr.Around)]
	_ = same[unsafe.Offsetof(cr.plain)-unsafe.Offsetof(gr.Plain)]
	_ = same[C.AAD_ROOM-profile.MaxAAD]
	_ = same[C.AROUND_ROOM-burst.AroundLen]
	_ = same[unsafe.Offsetof(cs.usage)-unsafe.Offsetof(gs.Usage)]
	_ = same[unsafe.Offsetof(cs.memo)-unsafe.Offsetof(gs.Memo)]
	_ = same[C.SHARES*C.sizeof_struct_eesp_memo-profile.MemoSize]
	_ = same[unsafe.Offsetof(cs.counter)-unsafe.Offsetof(gs.Counter)]
	_ = same[unsafe.Offsetof(cs.counter.low)-unsafe.Offsetof(gs.Counter.Low)]
	_ = same[unsafe.Offsetof(cs.counter.start)-unsafe.Offsetof(gs.Counter.Start)]
	_ = same[C.LOOK_EVERY-counter.LookEvery]
	_ = same[C.IDLE_NS-counter.Idle]
	_ = same[unsafe.Offsetof(cs.tsc_at)-unsafe.Offsetof(gs.TSCAt)]
	_ = same[unsafe.Offsetof(cs.copies)-unsafe.Offsetof(gs.Copies)]
	_ = same[unsafe.Offsetof(cs.copy)-unsafe.Offsetof(gs.Copy)]
	_ = same[unsafe.Offsetof(cs.nonce)-unsafe.Offsetof(gs.Nonce)]
	_ = same[unsafe.Offsetof(cs.header)-unsafe.Offsetof(gs.Header)]
	_ = same[unsafe.Offsetof(co.octets)-unsafe.Offsetof(go_.Octets)]
	_ = same[unsafe.Offsetof(co.split)-unsafe.Offsetof(go_.Split)]
	_ = same[unsafe.Offsetof(co.split.shift)-unsafe.Offsetof(go_.Split.Shift)]
	_ = same[unsafe.Offsetof(co.bucket_shift)-unsafe.Offsetof(go_.BucketShift)]
	_ = same[unsafe.Offsetof(co.wide)-unsafe.Offsetof(go_.Wide)]
	_ = same[unsafe.Offsetof(co.strangers)-unsafe.Offsetof(go_.Strangers)]
	_ = same[unsafe.Offsetof(co.screen)-unsafe.Offsetof(go_.Screen)]
	_ = same[unsafe.Sizeof(co.screen)-unsafe.Sizeof(go_.Screen)]
	_ = same[unsafe.Offsetof(co.screen.names)-unsafe.Offsetof(go_.Screen.Names)]
	_ = same[unsafe.Sizeof(C.struct_eesp_domain{})-unsafe.Sizeof(plan.Domain{})]
	_ = same[unsafe.Sizeof(ch)-unsafe.Sizeof(gh)]
	_ = same[unsafe.Offsetof(ch.next_at)-unsafe.Offsetof(gh.NextAt)]
	_ = same[unsafe.Offsetof(ch.rekey_bits)-unsafe.Offsetof(gh.RekeyBits)]
	_ = same[unsafe.Offsetof(ch.epoch_mask)-unsafe.Offsetof(gh.EpochMask)]
	_ = same[unsafe.Offsetof(ch.copy)-unsafe.Offsetof(gh.Copy)]
	_ = same[unsafe.Offsetof(ch.mask)-unsafe.Offsetof(gh.Mask)]
	_ = same[unsafe.Offsetof(ch.nonce_tail)-unsafe.Offsetof(gh.NonceTail)]
	_ = same[unsafe.Sizeof(ct)-unsafe.Sizeof(gt)]
	_ = same[unsafe.Offsetof(ct.master)-unsafe.Offsetof(gt.Master)]
	_ = same[unsafe.Offsetof(ct.usage)-unsafe.Offsetof(gt.Usage)]
	_ = same[unsafe.Offsetof(ct.nonce)-unsafe.Offsetof(gt.Nonce)]
	_ = same[unsafe.Offsetof(ct.kind)+2-unsafe.Offsetof(gt.Kind)]
	_ = same[unsafe.Offsetof(ct.key_len)-unsafe.Offsetof(gt.KeyLen)]
	_ = same[unsafe.Offsetof(ct.addr)-unsafe.Offsetof(gt.Addr)]
	_ = same[unsafe.Offsetof(ct.subs)-unsafe.Offsetof(gt.Subs)]
	_ = same[unsafe.Offsetof(ch.inner)-unsafe.Offsetof(gh.Inner)]
	_ = same[unsafe.Offsetof(cs.pad_mask)-unsafe.Offsetof(gs.PadMask)]
	_ = same[C.UNWRAP_ONLY-plan.Only]
	_ = same[C.SERIAL-plan.KindSerial]
	_ = same[C.COPY_PACKET_4-plan.CopyPacket4]
	_ = same[C.TALLY_SEALED-keys.Sealed]
	_ = same[C.TALLY_OPENED-keys.Opened]
	_ = same[unsafe.Offsetof(cs.rekey_mask)-unsafe.Offsetof(gs.RekeyMask)]
	_ = same[unsafe.Offsetof(cs.from_prefix)-unsafe.Offsetof(gs.FromPrefix)]
	_ = same[C.USAGE_OPENED*8-unsafe.Offsetof(gu.Opened)]
	_ = same[C.USAGE_EXTRA*8-unsafe.Offsetof(gu.Extra)]
	_ = same[C.USAGE_SHARES*8-keys.UsageShares]
	_ = same[C.TALLY_SHARES*8-keys.TallyShares]
	_ = same[C.SHARES-keys.ShareCount]
	_ = same[unsafe.Sizeof(C.struct_eesp_share{})-keys.ShareSize]
	_ = same[unsafe.Offsetof(cs.shares)-unsafe.Offsetof(gs.Shares)]
	_ = same[unsafe.Offsetof(co.shares)-unsafe.Offsetof(go_.Shares)]
	_ = same[unsafe.Offsetof(co.refused)-unsafe.Offsetof(go_.Refused)]
	_ = same[unsafe.Offsetof(co.kept)-unsafe.Offsetof(go_.Kept)]
	_ = same[C.SHARES*C.sizeof_struct_eesp_kept-profile.KeptSize]
	_ = same[C.KEPT_PLACES-profile.KeptPlaces]
	_ = same[C.KEPT_CREDIT-profile.KeptCredit]
	_ = same[C.SUB_QUAD-keys.SubQuad]
	_ = same[unsafe.Offsetof(co.missing)-unsafe.Offsetof(go_.Missing)]
	_ = same[unsafe.Offsetof(co.ahead)-unsafe.Offsetof(go_.Ahead)]
	_ = same[C.ODD_DOMAIN-plan.OddDomain]
	_ = same[unsafe.Offsetof(ch.begin)-unsafe.Offsetof(gh.Begin)]
	_ = same[unsafe.Offsetof(ch.unusable)-unsafe.Offsetof(gh.Unusable)]
	_ = same[unsafe.Offsetof(ch.probe_more)-unsafe.Offsetof(gh.ProbeMore)]
	_ = same[unsafe.Offsetof(ct.latch)-unsafe.Offsetof(gt.Latch)]
	_ = same[unsafe.Offsetof(co.retries)-1-unsafe.Offsetof(go_.Ahead)]
	_ = same[unsafe.Offsetof(ct.most_clear)-unsafe.Offsetof(gt.MostClear)]
	_ = same[unsafe.Offsetof(ch.moves)-unsafe.Offsetof(gh.Moves)]
	_ = same[C.REFUSED_WORDS-burst.RefusedWords]
	_ = same[unsafe.Offsetof(ct.tally)-unsafe.Offsetof(gt.Tally)]
	_ = same[unsafe.Offsetof(ct.age)-unsafe.Offsetof(gt.Age)]
	_ = same[unsafe.Offsetof(ch.ages)-unsafe.Offsetof(gh.Ages)]
	_ = same[C.SUB_MASK-keys.SubMask]
	_ = same[C.SUB_LANE-keys.SubLane]
	_ = same[unsafe.Sizeof(cw)-unsafe.Sizeof(gw)]
	_ = same[C.WINDOW_ADDR-replay.AddrAt]
	_ = same[C.WINDOW_TOP-replay.TopAt]
	_ = same[C.WINDOW_WORDS-replay.WordsAt]
	_ = same[unsafe.Offsetof(cw.sole)-replay.SoleAt]
	_ = same[unsafe.Offsetof(cw.sole.busy)-replay.BusyAt]
	_ = same[unsafe.Offsetof(cw.duplicate)-replay.DuplicateAt]
	_ = same[unsafe.Sizeof(cy)-unsafe.Sizeof(gy)]
	_ = same[unsafe.Offsetof(cy.words)-fresh.WordsAt]
	_ = same[unsafe.Offsetof(cy.floor)-fresh.FloorAt]
	_ = same[unsafe.Offsetof(cy.behind)-fresh.BehindAt]
	_ = same[unsafe.Offsetof(cy.sole)-fresh.SoleAt]
	_ = same[unsafe.Offsetof(cy.duplicate)-fresh.DuplicateAt]
	_ = same[unsafe.Offsetof(co.times)-unsafe.Offsetof(go_.Times)]
	_ = same[unsafe.Offsetof(cs.counter.time_lead)-unsafe.Offsetof(gs.Counter.TimeLead)]
	_ = same[unsafe.Sizeof(cf)-unsafe.Sizeof(gf)]

	_ = same[unsafe.Sizeof(cj)-unsafe.Sizeof(gj)]
	_ = same[unsafe.Offsetof(cj.src)-unsafe.Offsetof(gj.Src)]
	_ = same[unsafe.Offsetof(cj.dst)-unsafe.Offsetof(gj.Dst)]
	_ = same[unsafe.Offsetof(cj.tag)-unsafe.Offsetof(gj.Tag)]
	_ = same[unsafe.Offsetof(cj.aad_len)-unsafe.Offsetof(gj.AADLen)]
	_ = same[unsafe.Offsetof(cj.len)-unsafe.Offsetof(gj.Len)]
	_ = same[unsafe.Offsetof(cj.key)-unsafe.Offsetof(gj.Key)]
	_ = same[unsafe.Offsetof(cj.ok)-unsafe.Offsetof(gj.OK)]
	_ = same[unsafe.Offsetof(cj.nonce)-unsafe.Offsetof(gj.Nonce)]
	_ = same[C.EESP_MAX_KEYSET-burst.MaxKeyset]

	_ = same[unsafe.Sizeof(ci)-unsafe.Sizeof(gi)]
	_ = same[unsafe.Offsetof(ci.len)-unsafe.Offsetof(gi.Len)]

	// statuses: begin
	_ = same[C.EESP_OK-int(status.OK)]
	_ = same[C.EESP_ERR_ARGUMENT-int(status.ErrArgument)]
	_ = same[C.EESP_ERR_AUTH-int(status.ErrAuth)]
	_ = same[C.EESP_ERR_REPLAY-int(status.ErrReplay)]
	_ = same[C.EESP_ERR_NO_KEY-int(status.ErrNoKey)]
	_ = same[C.EESP_ERR_SHORT-int(status.ErrShort)]
	_ = same[C.EESP_ERR_VERSION-int(status.ErrVersion)]
	_ = same[C.EESP_ERR_V-int(status.ErrV)]
	_ = same[C.EESP_ERR_RESERVED-int(status.ErrReserved)]
	_ = same[C.EESP_ERR_HEADER_LEN-int(status.ErrHeaderLen)]
	_ = same[C.EESP_ERR_OFFSET-int(status.ErrOffset)]
	_ = same[C.EESP_ERR_OPTION-int(status.ErrOption)]
	_ = same[C.EESP_ERR_ROOM-int(status.ErrRoom)]
	_ = same[C.EESP_ERR_TOO_LONG-int(status.ErrTooLong)]
	_ = same[C.EESP_ERR_OVERLAP-int(status.ErrOverlap)]
	_ = same[C.EESP_ERR_EXHAUSTED-int(status.ErrExhausted)]
	_ = same[C.EESP_ERR_CLOCK-int(status.ErrClock)]
	_ = same[C.EESP_ERR_STATE-int(status.ErrState)]
	_ = same[C.EESP_ERR_REFLECTED-int(status.ErrReflected)]
	_ = same[C.EESP_ERR_CONTEXT-int(status.ErrContext)]
	_ = same[C.EESP_ERR_FORKED-int(status.ErrForked)]
	_ = same[C.EESP_ERR_SELF_TEST-int(status.ErrSelfTest)]
	_ = same[C.EESP_ERR_BACKEND-int(status.ErrBackend)]
	_ = same[C.EESP_ERR_MEMORY-int(status.ErrMemory)]
	_ = same[C.EESP_ERR_ROOT_KEY-int(status.ErrRootKey)]
	_ = same[C.EESP_ERR_EXISTS-int(status.ErrExists)]
	_ = same[C.EESP_ERR_NOT_FOUND-int(status.ErrNotFound)]
	_ = same[C.EESP_ERR_UNSUPPORTED-int(status.ErrUnsupported)]
	_ = same[C.EESP_ERR_INTERNAL-int(status.ErrInternal)]
	_ = same[C.EESP_ERR_SEGMENTS-int(status.ErrSegments)]
	_ = same[C.EESP_ERR_EPOCH-int(status.ErrEpoch)]
	_ = same[C.EESP_ERR_SESSION-int(status.ErrSession)]
	_ = same[C.EESP_ERR_SEQUENCE-int(status.ErrSequence)]
	_ = same[C.EESP_ERR_PAYLOAD-int(status.ErrPayload)]
	_ = same[C.EESP_ERR_WINDOWS-int(status.ErrWindows)]
	_ = same[C.EESP_ERR_ENCAP-int(status.ErrEncap)]
	_ = same[C.EESP_ERR_DUMMY-int(status.ErrDummy)]
	_ = same[C.EESP_ERR_LATCHED-int(status.ErrLatched)]
	_ = same[C.EESP_ERR_STALE-int(status.ErrStale)]
	_ = same[C.EESP_ERR_EARLY-int(status.ErrEarly)]
	_ = same[C.EESP_ERR_FULL-int(status.ErrFull)]
	_ = same[C.EESP_ERR_FENCED-int(status.ErrFenced)]
	_ = same[C.EESP_ERR_OUT_OF_TOUCH-int(status.ErrOutOfTouch)]
	_ = same[C.EESP_ERR_AGENT-int(status.ErrAgent)]
	_ = same[C.EESP_ERR_TIMEOUT-int(status.ErrTimeout)]
	_ = same[C.EESP_ERR_FLOODED-int(status.ErrFlooded)]
	// statuses: end
	_ = same[C.EESP_STATUS_COUNT-int(status.Count)]

	_ = same[C.EESP_ICV_LEN-eesp.ICVLen]
	_ = same[C.EESP_MAX_HEADER-eesp.MaxHeader]
	_ = same[C.EESP_MAX_LEN-eesp.MaxLen]
	_ = same[C.EESP_MAX_GROUPS-eesp.MaxGroups]
	_ = same[C.EESP_ROOT_KEY_LEN-eesp.RootKeyLen]
	_ = same[C.EESP_LEVEL_TASK-int(eesp.Task)]
	_ = same[C.EESP_COUNTER_EXPLICIT-int(eesp.CounterExplicit)]
	_ = same[C.EESP_COUNTER_RESERVED-int(eesp.CounterReserved)]
	_ = same[C.EESP_AEAD_AES_256_GCM-int(eesp.AES256GCM)]
	_ = same[C.EESP_COMBINER_XOR-int(eesp.CombinerXOR)]
	_ = same[C.EESP_V_LONG_ID_SRC_DST-eesp.VLongIDSrcDst]
	_ = same[C.EESP_V_TSS_SSI-eesp.VTSSSSI]
	_ = same[C.EESP_V_TSS_ADDR_IPV6-eesp.VTSSAddrIPv6]
	_ = same[C.EESP_V_TSS_SSI_IPV6-eesp.VTSSSSIIPv6]
	_ = same[C.EESP_GENERATION_PREVIOUS-int(eesp.Previous)]
	_ = same[C.EESP_GENERATION_NEXT-int(eesp.Next)]
	_ = same[C.EESP_PROFILE_PSP-int(eesp.ProfilePSP)]
	_ = same[C.EESP_PROFILE_TSS-int(eesp.ProfileTSS)]
	_ = same[C.EESP_PROFILE_EESP-int(eesp.ProfileEESP)]
	_ = same[C.EESP_TSS_SERVER-int(eesp.TSSServer)]
	_ = same[C.EESP_TSS_DIRECT-int(eesp.TSSDirect)]
	_ = same[C.EESP_SSKDF_HKDF_SHA2_256-int(eesp.SSKDFSHA256)]
	_ = same[C.EESP_SSKDF_AES256_CMAC-int(eesp.SSKDFCMAC)]
	_ = same[C.EESP_SSKDF_NONE-int(eesp.SSKDFNone)]
	_ = same[C.EESP_DRAFT_03-profile.EESPDraft]
	_ = same[C.EESP_ENCAP_TUNNEL-int(eesp.EncapTunnel)]
	_ = same[C.EESP_ENCAP_IPTFS-int(eesp.EncapIPTFS)]
	_ = same[C.EESP_PKT_IPV6-profile.FlagIPv6]
	_ = same[C.EESP_PKT_EXTENSION-profile.FlagExtension]
	_ = same[C.EESP_PSP_MAX_EXTENSION-wire.PSPMaxExtension]
	_ = same[C.EESP_MAX_FLOW_ID-profile.MaxFlow]
	_ = same[C.EESP_MAX_PADDING+C.EESP_ICV_LEN-profile.MaxTail]
	_ = same[C.EESP_TSS_LEAD_IPV4-wire.TSSPrefix4]
	_ = same[C.EESP_TSS_LEAD_IPV6-wire.TSSPrefix6]
	_ = same[C.EESP_PSP_UDP_PORT-wire.PSPPort]
	_ = same[C.EESP_TSS_UDP_PORT-wire.TSSPort]
)
