package server

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// fromClient makes RemoteAddr the address of the client where a proxy of ours sent the request on: sign-ins, rates and the audit
// log count by it. Each proxy adds the address that it saw at the end of X-Forwarded-For; what stands before the first address
// that is none of ours may be made up.
func (s *server) fromClient(r *http.Request) {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !s.isProxy(at.Addr()) {
		return
	}
	seen := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for _, text := range slices.Backward(seen) {
		text = strings.TrimSpace(text)
		addr, err := netip.ParseAddr(text)
		if withPort, err2 := netip.ParseAddrPort(text); err != nil && err2 == nil {
			addr, err = withPort.Addr(), nil
		}
		if err != nil {
			return
		}
		r.RemoteAddr = net.JoinHostPort(addr.Unmap().String(), "0")
		if !s.isProxy(addr) {
			return
		}
	}
}

func (s *server) isProxy(addr netip.Addr) bool {
	return slices.ContainsFunc(s.proxies, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
}
