package asm

import (
	"fmt"
	"testing"
	"unsafe"

	"libeesp/internal/generic"
	"libeesp/internal/kernel"
	"libeesp/internal/kerneltest"
)

const imix = 0 // instead of a size

// Kernels alone, in bursts of 32 packets with 32 keys: `go test -bench . ./internal/asm`.
// `make bench` measures the library.
func BenchmarkKernels(b *testing.B) {
	type memory struct {
		master  kernel.Master
		area    [kernel.Chunk * kernel.MaxKeyBytes]byte
		keys    [kernel.Chunk * 32]byte
		msgs    [kernel.Chunk * 32]byte
		scratch [kernel.ScratchBytes]byte
	}
	raw := make([]byte, unsafe.Sizeof(memory{})+64)
	m := (*memory)(unsafe.Pointer(&raw[-uintptr(unsafe.Pointer(&raw[0]))&63]))
	generic.ExpandMaster(&m.master, new([32]byte), unsafe.Pointer(&m.scratch))
	const n = kernel.Chunk
	buf := make([]byte, n*(8942+256))
	var jobs [n]kernel.Job
	for _, e := range list() {
		if !e.supported() || e.backend.Name == "generic" {
			continue
		}
		be := e.backend
		for _, keyLen := range []int{16, 32} {
			for _, size := range []int{imix, 64, 128, 256, 512, 768, 896, 1024, 1420, 4096, 8942} {
				room := (size+64)&^63 | 64 // an odd number of cache lines
				for i := range jobs {
					size := size
					if size == imix { // 7:4:1, in order of length
						room = 1472 + 64
						size = []int{64, 594, 1420}[min(i/19, 1)+i/30]
					}
					p := unsafe.Pointer(&buf[i*room])
					jobs[i] = kernel.Job{AAD: p, AADLen: 20, Src: unsafe.Add(p, 20), Dst: unsafe.Add(p, 20), Len: uint32(size), Tag: unsafe.Add(p, 20+size), Key: uint32(i)}
				}
				run := func(name string, f func()) {
					kerneltest.Fastest(b, fmt.Sprintf("%s/%s/aes=%d/size=%d", be.Name, name, keyLen*8, size), n, f)
				}
				keys, scratch, area := unsafe.Pointer(&m.keys), unsafe.Pointer(&m.scratch), unsafe.Pointer(&m.area)
				rekey := func(crypt func(unsafe.Pointer, *kernel.Job, int, int, kernel.Mode, unsafe.Pointer)) func() {
					return func() {
						be.Derive(keys, unsafe.Pointer(&m.msgs), n*keyLen/16, 1, &m.master, &m.master.K1, scratch)
						crypt(keys, &jobs[0], n, keyLen, kernel.OneShot, scratch)
					}
				}
				run("rekey-seal", rekey(be.Seal))
				run("rekey-open", rekey(be.Open))
				be.Expand(area, keys, n, keyLen, scratch)
				run("cached-seal", func() { be.Seal(area, &jobs[0], n, keyLen, kernel.Shared, scratch) })
			}
		}
	}
}
