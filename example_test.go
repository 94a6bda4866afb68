package eesp_test

import (
	"crypto/rand"
	"fmt"
	"log"

	eesp "libeesp"
)

// must is for examples: a program of its own handles errors.
func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// seal seals one payload in place, with room around it.
func seal(s *eesp.Sender, payload string) []byte {
	const tail = eesp.ICVLen + 3 // eesp: padding
	buf := make([]byte, eesp.MaxHeader+len(payload)+tail)
	burst := []eesp.Packet{{Buf: buf, Off: eesp.MaxHeader, Len: copy(buf[eesp.MaxHeader:], payload)}}
	if s.Seal(burst) != 1 {
		log.Fatal(burst[0].Status)
	}
	return burst[0].Out
}

func open(r *eesp.Receiver, packet []byte) (string, eesp.Status) {
	burst := []eesp.Packet{{Buf: packet, Len: len(packet)}}
	r.Open(burst)
	return string(burst[0].Out), burst[0].Status
}

// Profile stateless: members of a trust group find each other's keys in
// headers. The receiver refuses its own packets and those that it has seen.
func Example() {
	group := must(eesp.NewGroup(eesp.GroupConfig{}))
	defer group.Close()
	if err := group.GenerateRootKey(eesp.Zone, []byte("example zone key")); err != nil {
		log.Fatal(err)
	}
	sender := must(eesp.NewSender(group, eesp.SenderConfig{ID: 7, Options: true}))
	defer sender.Close()
	receiver := must(eesp.NewReceiver(eesp.ReceiverConfig{ReplayWindow: 1024, OwnIDs: []uint64{8}}, group))
	defer receiver.Close()

	packet := seal(sender, "hello")
	again := append([]byte(nil), packet...)
	fmt.Println(open(receiver, packet))
	_, status := open(receiver, again)
	fmt.Println(status == eesp.ErrReplay)
	// Output:
	// hello eesp: success
	// true
}

// Profile psp: a receiver gives each of its clients an SPI and a data key.
func Example_psp() {
	group := must(eesp.NewGroup(eesp.GroupConfig{Profile: eesp.ProfilePSP}))
	defer group.Close()
	must(group.RotateKey(nil)) // a random device key
	spi := must(group.AllocSPI(1))
	key := must(group.ExportDataKey(eesp.Context{ID: uint64(spi)}, false))

	client := must(eesp.NewSenderWithKey(key, eesp.SenderConfig{}))
	defer client.Close()
	server := must(eesp.NewReceiver(eesp.ReceiverConfig{}, group))
	defer server.Close()
	fmt.Println(open(server, seal(client, "from a client")))
	// Output: from a client eesp: success
}

// Profile eesp: an SA whose packets are shared out to Sub SAs, one for each core, say.
func Example_eesp() {
	group := must(eesp.NewGroup(eesp.GroupConfig{Profile: eesp.ProfileEESP, Mode: eesp.SSKDFSHA256, Domain: 0x1000}))
	defer group.Close()
	root := make([]byte, 32)
	rand.Read(root)
	if err := group.SetKey(0, root); err != nil {
		log.Fatal(err)
	}
	receiver := must(eesp.NewReceiver(eesp.ReceiverConfig{ReplayWindow: 1024}, group))
	defer receiver.Close()
	for session := range uint64(2) {
		sender := must(eesp.NewSender(group, eesp.SenderConfig{ID: session}))
		fmt.Println(open(receiver, seal(sender, fmt.Sprint("from Sub SA ", session))))
		sender.Close()
	}
	// Output:
	// from Sub SA 0 eesp: success
	// from Sub SA 1 eesp: success
}

// Profile tss: members of a job derive keys from each other's SSI. The octets in
// front of the header, addresses and entropy, are authenticated with it.
func Example_tss() {
	group := must(eesp.NewGroup(eesp.GroupConfig{Profile: eesp.ProfileTSS, AEAD: eesp.AES256GCM, Domain: 0xA1B2C3}))
	defer group.Close()
	key := make([]byte, 32)
	rand.Read(key)
	if err := group.SetKey(0, key); err != nil {
		log.Fatal(err)
	}
	sender := must(eesp.NewSender(group, eesp.SenderConfig{ID: 77, V: eesp.VTSSSSI}))
	defer sender.Close()
	receiver := must(eesp.NewReceiver(eesp.ReceiverConfig{ReplayWindow: 1024}, group))
	defer receiver.Close()

	const prefix = 12 // source and destination address, entropy
	buf := make([]byte, eesp.MaxHeader+5+eesp.ICVLen)
	at := eesp.MaxHeader - sender.HeaderLen() - prefix
	copy(buf[at:], []byte{10, 0, 0, 1, 10, 0, 0, 2, 0xab, 0xcd, 0, 0})
	burst := []eesp.Packet{{Buf: buf, Off: eesp.MaxHeader, Len: copy(buf[eesp.MaxHeader:], "hello")}}
	if sender.Seal(burst) != 1 {
		log.Fatal(burst[0].Status)
	}
	burst[0] = eesp.Packet{Buf: buf, Off: at + prefix, Len: len(burst[0].Out)}
	receiver.Open(burst)
	fmt.Println(string(burst[0].Out), burst[0].Status)
	// Output: hello eesp: success
}

// Root keys rotate under traffic: packets in flight open before and after.
func ExampleGroup_Rotate() {
	group := must(eesp.NewGroup(eesp.GroupConfig{}))
	defer group.Close()
	if err := group.GenerateRootKey(eesp.Zone, []byte("example zone key")); err != nil {
		log.Fatal(err)
	}
	sender := must(eesp.NewSender(group, eesp.SenderConfig{ID: 9, Options: true}))
	defer sender.Close()
	receiver := must(eesp.NewReceiver(eesp.ReceiverConfig{}, group))
	defer receiver.Close()

	inFlight := seal(sender, "sealed before")
	if err := group.Rotate(eesp.Zone, 3, nil); err != nil {
		log.Fatal(err)
	}
	fmt.Println(open(receiver, inFlight))
	fmt.Println(open(receiver, seal(sender, "sealed after")))
	// Output:
	// sealed before eesp: success
	// sealed after eesp: success
}

// A KeySet is for keys and formats of the caller's own.
func ExampleKeySet() {
	keys := make([]byte, 2*16)
	rand.Read(keys)
	set := must(eesp.NewKeySet(eesp.AES128GCM, keys))
	defer set.Close()

	jobs := make([]eesp.Job, 2)
	for i := range jobs {
		text := []byte(fmt.Sprint("message ", i))
		jobs[i] = eesp.Job{Key: i, Nonce: [12]byte{byte(i)}, AAD: []byte("header"), Src: text, Dst: text, Tag: make([]byte, eesp.ICVLen)}
	}
	if err := set.Seal(jobs); err != nil {
		log.Fatal(err)
	}
	jobs[1].Tag[0] ^= 1 // on the way
	good := must(set.Open(jobs))
	fmt.Println(good, string(jobs[0].Dst), jobs[0].OK, jobs[1].OK)
	// Output: 1 message 0 true false
}
