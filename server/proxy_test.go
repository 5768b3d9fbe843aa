package server_test

import (
	"net/http"
	"net/netip"
	"testing"

	"kiln/auth"
	"kiln/server"
)

// Who is behind a proxy of ours is who the proxies say, and nobody else's X-Forwarded-For counts.
func TestProxies_tell_the_client(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		proxies, forwarded []string
		want               string
	}{
		"no_proxy":               {nil, []string{"203.0.113.7"}, "127.0.0.1"},
		"another_proxy":          {[]string{"10.0.0.0/8"}, []string{"203.0.113.7"}, "127.0.0.1"},
		"one":                    {[]string{"127.0.0.1/32"}, []string{"203.0.113.7"}, "203.0.113.7"},
		"with_a_port":            {[]string{"127.0.0.1/32"}, []string{"[2001:db8::7]:4711"}, "2001:db8::7"},
		"what_the_client_claims": {[]string{"127.0.0.1/32"}, []string{"198.51.100.1, 203.0.113.7"}, "203.0.113.7"},
		"two":                    {[]string{"127.0.0.0/8", "10.0.0.0/8"}, []string{"198.51.100.1", "203.0.113.7, 10.1.1.1"}, "203.0.113.7"},
		"from_inside":            {[]string{"127.0.0.0/8", "10.0.0.0/8"}, []string{"10.2.2.2, ::ffff:10.1.1.1"}, "10.2.2.2"},
		"nonsense":               {[]string{"127.0.0.1/32"}, []string{"203.0.113.7, unknown"}, "127.0.0.1"},
		"nothing":                {[]string{"127.0.0.1/32"}, nil, "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			h := start(t, func(o *server.Options) {
				for _, p := range c.proxies {
					o.Proxies = append(o.Proxies, netip.MustParsePrefix(p))
				}
				o.Authenticate = func(r *http.Request) (auth.Principal, error) {
					at := netip.MustParseAddrPort(r.RemoteAddr)
					got = at.Addr().String()
					return auth.Principal{User: "u"}, nil
				}
			})
			var headers []string
			for _, f := range c.forwarded {
				headers = append(headers, "X-Forwarded-For: "+f)
			}
			h.send(t, "GET", "/fhir/Patient/p1", "", headers...)
			if got != c.want {
				t.Errorf("it came from %s, want %s", got, c.want)
			}
		})
	}
}
