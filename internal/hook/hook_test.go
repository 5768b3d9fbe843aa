package hook_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kiln/internal/hook"
	"kiln/resources"
)

func client(t *testing.T, change func(*hook.Options), allow ...string) *hook.Client {
	t.Helper()
	o := hook.Options{Allow: allow, Timeout: time.Minute}
	if change != nil {
		change(&o)
	}
	c, err := hook.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPrivate_addresses(t *testing.T) {
	t.Parallel()
	for _, a := range strings.Fields("127.0.0.1 127.9.9.9 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 0.0.0.0 0.1.2.3 100.64.0.1 192.0.0.8 198.18.0.1 224.0.0.1 240.0.0.1 255.255.255.255 " +
		"::1 :: fe80::1 fc00::1 fd12::1 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 2002:7f00:1::1 2001::1 fec0::1") {
		if !hook.Private(netip.MustParseAddr(a)) {
			t.Errorf("%s is called", a)
		}
	}
	for _, a := range strings.Fields("1.1.1.1 9.9.9.9 172.32.0.1 2606:4700::1111 2a00:1450::1") {
		if hook.Private(netip.MustParseAddr(a)) {
			t.Errorf("%s is not called", a)
		}
	}
}

func TestAllowed_endpoints(t *testing.T) {
	t.Parallel()
	c := client(t, nil, "hooks.example.org", "*.example.net", "http://10.0.0.5:9000")
	for endpoint, ok := range map[string]bool{
		"https://hooks.example.org/x": true, "https://HOOKS.example.org:8443/x?y": true, "https://a.example.net/": true, "https://a.b.example.net/": true, "http://10.0.0.5:9000/in": true,
		"http://hooks.example.org/x": false, "https://example.net/": false, "https://evilexample.net/": false, "https://hooks.example.org.evil.example/": false,
		"https://user:pw@hooks.example.org/": false, "https://evil.example/#hooks.example.org": false, "https://10.0.0.5:9000/": false, "http://10.0.0.5:9001/": false,
		"ftp://hooks.example.org/": false, "file:///etc/passwd": false, "": false, "hooks.example.org": false, "https://": false,
	} {
		if got := c.Allowed(endpoint) == nil; got != ok {
			t.Errorf("%s: %v", endpoint, got)
		}
	}
	all := client(t, nil, "*")
	for _, endpoint := range []string{"https://127.0.0.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/", "http://public.example/"} {
		if all.Allowed(endpoint) == nil {
			t.Errorf("%s is allowed by *", endpoint)
		}
	}
	if client(t, nil).Any() || client(t, nil, "").Any() || !all.Any() {
		t.Error("an empty list allows something")
	}
	for _, bad := range []string{"https://x/path", "a*b.example", "x:80", "*.*.example", "http://u@x", "ftp://x"} {
		if _, err := hook.New(hook.Options{Allow: []string{bad}}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// lyingResolver resolves every name to 127.0.0.1, as a name server of an attacker would after it was looked at.
func lyingResolver(t *testing.T) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			q := buf[:n]
			end := 12
			for q[end] != 0 {
				end += int(q[end]) + 1
			}
			a := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0}, q[12:end+5]...)
			if q[end+2] == 1 { // A
				a = append(a, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1)
			} else {
				a[7] = 0
			}
			pc.WriteTo(a, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

func TestCall_names_that_resolve_to_private_addresses_are_not_called(t *testing.T) {
	t.Parallel()
	var called atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Add(1) }))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	c := client(t, func(o *hook.Options) {
		o.Resolver = lyingResolver(t)
		o.TLSConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // what is tested comes before
	}, "*")
	if _, err := c.Call(t.Context(), resources.HookCall{Endpoint: "https://rebind.example:" + port + "/"}); err == nil || !strings.Contains(err.Error(), "may not be called") || called.Load() != 0 {
		t.Fatal(err, called.Load())
	}
}

func TestCall_faults_of_endpoints(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/fine":
			if body, _ := io.ReadAll(r.Body); r.Method != "POST" || string(body) != "{}" || r.Header.Get("X-A") != "b: c" || r.Header.Get("User-Agent") != "Kiln" {
				w.WriteHeader(500)
			}
		case "/redirect":
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		case "/hang":
			<-hang
		case "/endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		case "/drop":
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	defer close(hang)
	c, impatient := client(t, nil, server.URL), client(t, func(o *hook.Options) { o.Timeout = 500 * time.Millisecond }, server.URL)
	for path, want := range map[string]int{"/fine": 200, "/redirect": 307, "/hang": 0, "/endless": 200, "/drop": 0} {
		caller := c
		if path == "/hang" {
			caller = impatient
		}
		status, err := caller.Call(t.Context(), resources.HookCall{Endpoint: server.URL + path, Headers: []string{"X-A: b: c"}, Body: []byte("{}")})
		if status != want || (err == nil) != (want != 0) {
			t.Errorf("%s: %d %v", path, status, err)
		}
		if err != nil && strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%q tells too much", err)
		}
	}
	if elsewhere.Load() != 0 {
		t.Error("a redirect was followed")
	}
	if _, err := c.Call(t.Context(), resources.HookCall{Endpoint: other.URL}); err == nil || elsewhere.Load() != 0 {
		t.Error("called what is not on the list")
	}
}

func TestCall_checks_certificates(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	server.Config.ErrorLog = nil
	if _, err := client(t, nil, server.URL).Call(t.Context(), resources.HookCall{Endpoint: server.URL}); err == nil {
		t.Error("a certificate of nobody was taken")
	}
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	if status, err := client(t, func(o *hook.Options) { o.TLSConfig = &tls.Config{RootCAs: pool} }, server.URL).Call(t.Context(), resources.HookCall{Endpoint: server.URL}); status != 200 || err != nil {
		t.Error(status, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client(t, nil, server.URL).Call(ctx, resources.HookCall{Endpoint: server.URL}); err == nil || errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
