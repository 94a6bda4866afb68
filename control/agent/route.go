package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"syscall"

	"golang.org/x/sys/unix"
)

// Traffic with servers must not go through tunnels whose keys it brings: if all hosts were down at
// once, none could start again. So an address is not used if its route is a device of a program that
// follows this agent, or one that the policy names.

// tunnelled returns an error if a server's address is reached through such a device.
func (a *Agent) tunnelled(ctx context.Context, addr string) error {
	devices := a.Planes.Devices()
	if len(devices) == 0 && len(a.Policy.Tunnels) == 0 {
		return nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return err
	}
	for _, ip := range ips {
		dev, err := routeOf(ip.Unmap())
		if err != nil { // no route: dialling will fail and say so
			continue
		}
		program, is := devices[dev]
		for _, p := range a.Policy.Tunnels {
			if ok, _ := path.Match(p, dev); ok && !is {
				program, is = "the policy", true
			}
		}
		if is {
			return fmt.Errorf("%s is routed through %s, the tunnel of %s, which needs this host's keys: give servers a route outside it", ip, dev, program)
		}
	}
	return nil
}

// routeOf returns the device by which packets to an address leave.
func routeOf(ip netip.Addr) (device string, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	t := unix.NsecToTimeval(int64(2e9))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &t); err != nil {
		return "", err
	}
	family := uint8(unix.AF_INET)
	if ip.Is6() {
		family = unix.AF_INET6
	}
	dst := ip.AsSlice()
	n := unix.SizeofNlMsghdr + unix.SizeofRtMsg + unix.SizeofRtAttr + len(dst)
	b := binary.NativeEndian.AppendUint32(nil, uint32(n))
	b = binary.NativeEndian.AppendUint16(b, unix.RTM_GETROUTE)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...) // sequence, port
	b = append(b, family, uint8(8*len(dst)))
	b = append(b, make([]byte, unix.SizeofRtMsg-2)...)
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(dst)))
	b = binary.NativeEndian.AppendUint16(b, unix.RTA_DST)
	if err := unix.Sendto(fd, append(b, dst...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return "", err
	}
	in := make([]byte, 8192)
	got, _, err := unix.Recvfrom(fd, in, 0)
	if err != nil {
		return "", err
	}
	ms, err := syscall.ParseNetlinkMessage(in[:got])
	if err != nil {
		return "", err
	}
	for i := range ms {
		if ms[i].Header.Type != unix.RTM_NEWROUTE {
			continue
		}
		as, err := syscall.ParseNetlinkRouteAttr(&ms[i])
		if err != nil {
			return "", err
		}
		for _, x := range as {
			if x.Attr.Type == unix.RTA_OIF && len(x.Value) == 4 {
				i, err := net.InterfaceByIndex(int(binary.NativeEndian.Uint32(x.Value)))
				if err != nil {
					return "", err
				}
				return i.Name, nil
			}
		}
	}
	return "", errors.New("no route")
}
