// Command eesp-demo is the data plane of make demo-cluster: it follows a group
// and sends numbered packets over UDP. SIGUSR1 prints what it counted; SIGTERM
// ends sending, and two seconds later the program, which prints once more.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"libeesp/control/demo"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "eesp-demo:", err)
		os.Exit(1)
	}
}

func run() error {
	sock := flag.String("socket", "/run/eespd/agent/agent.sock", "the agent's")
	group := flag.String("group", "net", "to follow")
	tag := flag.Uint("tag", 1, "number of this host in what is counted")
	listen := flag.String("listen", "", "address and port for packets")
	peers := flag.String("peers", "", "addresses and ports to send to, with commas")
	pps := flag.Int("pps", 500, "packets a second")
	start := flag.String("start", "", "a file: nothing is sent before it is there")
	flag.Parse()
	if *listen == "" || flag.NArg() > 0 || *pps < 1 {
		return errors.New("usage: eesp-demo --listen ADDR:PORT --peers ADDR:PORT[,ADDR:PORT]")
	}
	la, err := net.ResolveUDPAddr("udp", *listen)
	if err != nil {
		return err
	}
	c, err := net.ListenUDP("udp", la)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetReadBuffer(8 << 20)
	var to []*net.UDPAddr
	for p := range strings.SplitSeq(*peers, ",") {
		if p == "" {
			continue
		}
		a, err := net.ResolveUDPAddr("udp", p)
		if err != nil {
			return err
		}
		to = append(to, a)
	}
	show := make(chan os.Signal, 1)
	signal.Notify(show, syscall.SIGUSR1) // before FollowGroup, which may wait long for the agent
	g, err := demo.Follow(*sock, *group, uint32(*tag), func(b []byte) {
		for _, a := range to {
			c.WriteToUDP(b, a)
		}
	})
	if err != nil {
		return err
	}
	defer g.Close()
	go func() {
		for b := make([]byte, 2048); ; {
			n, _, err := c.ReadFromUDP(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				g.Receive(append([]byte(nil), b[:n]...))
			}
		}
	}()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	const burst = 5
	tick := time.NewTicker(time.Second * burst / time.Duration(*pps))
	defer tick.Stop()
	out := json.NewEncoder(os.Stdout)
	for {
		select {
		case <-tick.C:
			if *start != "" {
				if _, err := os.Stat(*start); err != nil {
					continue
				}
				*start = ""
			}
			g.Burst(burst)
		case <-show:
			out.Encode(g.Stats())
		case <-ctx.Done():
			time.Sleep(2 * time.Second)
			return out.Encode(g.Stats())
		}
	}
}
