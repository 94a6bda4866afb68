package burst

import "libeesp/internal/kernel"

// ordering says whether the jobs of a chunk are in order of length, and holds that
// order if they are not.
type ordering struct {
	order  [kernel.Chunk]uint8
	sorted bool   // the jobs so far are in order
	last   uint32 // length of the last one
}

func (o *ordering) begin() { o.sorted, o.last = true, 0 }

func (o *ordering) lastLen() uint32 { return o.last }

// lanesToPick is room for an order of some of the lanes.
func (o *ordering) lanesToPick() []uint8 { return o.order[:0] }

// next takes note of one more job by its length, run of several jobs: whether they
// are in order, behind the last one, and the length of their last one.
func (o *ordering) next(n uint32) { o.run(n >= o.last, n) }

func (o *ordering) run(sorted bool, last uint32) { o.sorted, o.last = o.sorted && sorted, last }

// byLength returns the order of n jobs by length, in which kernels want them; nil:
// they are in this order.
func (w *Worker) byLength(n int, order []uint8) []uint8 {
	if order == nil {
		if w.sorted {
			return nil
		}
		order = w.order[:n]
		for x := range order {
			order[x] = uint8(x)
		}
	}
	sortByLength(order, w.jobs[:])
	return order
}

// sortByLength sorts indices of jobs by length. Mostly there are few lengths: then
// it sorts by counting.
func sortByLength(order []uint8, jobs []kernel.Job) {
	var lens [8]uint32
	var count, at [8]uint8
	var class, out [kernel.Chunk]uint8
	d := 0
	for i, x := range order {
		n, k := jobs[x].Len, 0
		for k < d && lens[k] != n {
			k++
		}
		if k == d {
			if d == len(lens) {
				insertByLength(order, jobs)
				return
			}
			lens[d] = n
			d++
		}
		class[i] = uint8(k)
		count[k]++
	}
	for k, n := range lens[:d] {
		for o, m := range lens[:d] {
			if m < n {
				at[k] += count[o]
			}
		}
	}
	for i, x := range order {
		k := class[i] & 7
		out[at[k]&(kernel.Chunk-1)] = x
		at[k]++
	}
	copy(order, out[:])
}

// insertByLength is sortByLength for many lengths.
func insertByLength(order []uint8, jobs []kernel.Job) {
	for i := 1; i < len(order); i++ {
		x := order[i]
		n, j := jobs[x].Len, i
		for j > 0 && jobs[order[j-1]].Len > n {
			order[j] = order[j-1]
			j--
		}
		order[j] = x
	}
}

// at returns the lane of job i.
func at(order []uint8, i int) int {
	if order == nil {
		return i
	}
	return int(order[i])
}

// inOrder returns nil if the caller's jobs are in order of length, else that order.
func (w *Worker) inOrder(jobs []kernel.Job) []uint8 {
	sorted := true
	for i := 1; i < len(jobs); i++ {
		sorted = sorted && jobs[i].Len >= jobs[i-1].Len
	}
	if sorted {
		return nil
	}
	order := w.order[:len(jobs)]
	for i := range order {
		order[i] = uint8(i)
	}
	sortByLength(order, jobs)
	return order
}
