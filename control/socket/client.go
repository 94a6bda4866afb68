package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"

	"libeesp/control/record"
	"libeesp/internal/link"
)

// Client is a program's end of the protocol, for tests and programs of this module. It calls Apply with each
// state, one at a time, and answers with its error.
type Client struct {
	Apply func(State) error

	c   net.Conn
	mu  sync.Mutex
	ids chan idsOrErr
	// Refused is the text of the agent's last ERROR.
	Refused string
}

type idsOrErr struct {
	ids []uint64
	err error
}

// Dial connects to an agent and sends HELLO.
func Dial(path, program string, apply func(State) error) (*Client, error) {
	c, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	h := Put(put64(put16(put16(nil, 1, Major), 2, Minor), 3, 0), 4, []byte("go"))
	if err := WriteFrame(c, Frame{Type: link.Hello, Flags: link.MustKnow, Fields: Put(h, 5, []byte(program))}); err != nil {
		return nil, err
	}
	f, err := ReadFrame(c)
	if err != nil || f.Type != link.Welcome {
		c.Close()
		return nil, fmt.Errorf("agent: %v", errors.Join(err, ErrFrame))
	}
	return &Client{Apply: apply, c: c, ids: make(chan idsOrErr, 1)}, nil
}

// Follow asks the agent for a group.
func (c *Client) Follow(group string) error {
	return c.write(Frame{Type: link.Follow, Fields: Put(nil, 1, []byte(group))})
}

func (c *Client) write(f Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return WriteFrame(c.c, f)
}

// Run reads until the connection ends.
func (c *Client) Run() error {
	for {
		f, err := ReadFrame(c.c)
		if err != nil {
			return err
		}
		m, err := Fields(f.Fields)
		if err != nil {
			return err
		}
		switch f.Type {
		case link.StateFrame:
			st, err := ParseState(f.Fields)
			clear(f.Fields)
			if err != nil {
				return err
			}
			b := put64(Put(nil, 1, st.Group.ID[:]), 2, st.Seq)
			if err := c.Apply(st); err == errNoAnswer {
				continue
			} else if err != nil {
				b = Put(Put(b, 3, []byte{1}), 4, []byte(err.Error()))
			} else {
				b = Put(b, 3, []byte{0})
			}
			if err := c.write(Frame{Type: link.Done, Fields: b}); err != nil {
				return err
			}
		case link.IDs:
			var l []uint64
			for v := m[2]; len(v) >= 8; v = v[8:] {
				l = append(l, binary.BigEndian.Uint64(v))
			}
			c.ids <- idsOrErr{l, nil}
		case link.Error:
			c.mu.Lock()
			c.Refused = string(m[2])
			c.mu.Unlock()
			if get16(m[1]) == link.ErrCodeIDs {
				c.ids <- idsOrErr{nil, errors.New(string(m[2]))}
			}
		}
	}
}

// errNoAnswer, returned by Apply, sends no answer: for tests of programs that hang.
var errNoAnswer = errors.New("no answer")

// NeedIDs asks for IDs for senders.
func (c *Client) NeedIDs(group record.ID, n int) ([]uint64, error) {
	if err := c.write(Frame{Type: link.NeedIDs, Fields: put16(Put(nil, 1, group[:]), 2, uint16(n))}); err != nil {
		return nil, err
	}
	r := <-c.ids
	return r.ids, r.err
}

// Usage reports the usage of a generation.
func (c *Client) Usage(u Usage) error {
	var v []byte
	for _, x := range []uint64{u.Gen, u.Derived, u.Sealed, u.Opened, u.Refused} {
		v = binary.BigEndian.AppendUint64(v, x)
	}
	return c.write(Frame{Type: link.UsageFrame, Fields: Put(Put(nil, 1, u.Ring[:]), 2, v)})
}

// Close ends the connection.
func (c *Client) Close() error { return c.c.Close() }
