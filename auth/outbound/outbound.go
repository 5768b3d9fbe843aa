// Package outbound says where the server may connect to when a stranger says where: not into its own network.
package outbound

import (
	"fmt"
	"net/netip"
	"syscall"
)

// PublicOnly refuses to connect to addresses that are not of the public internet. As net.Dialer.Control it sees the address
// that the connection is made to, so that no name can be pointed elsewhere in between.
func PublicOnly(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := at.Addr().Unmap()
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || reserved(ip) {
		return fmt.Errorf("outbound: %s is not a public address", ip)
	}
	return nil
}

// reserved are ranges that count as global and lead inside all the same: shared (RFC 6598), benchmarking, this network,
// and the ways to write an IPv4 address as an IPv6 one.
func reserved(ip netip.Addr) bool {
	for _, text := range []string{"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96"} {
		if netip.MustParsePrefix(text).Contains(ip) {
			return true
		}
	}
	return false
}
