// Package hook calls the endpoints of Subscriptions: those that the operator allows, and no others, however their names
// resolve.
package hook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"kiln/resources"
)

// Options say what may be called.
type Options struct {
	// Allow lists names such as hooks.example.org or *.example.org, or * for all, which may be called by https at public
	// addresses; and origins such as http://10.0.0.5:9000, which may be called as they are.
	Allow []string
	// Timeout is how long a call may take; zero is 10 s.
	Timeout time.Duration
	// TLSConfig is for tests; nil trusts what the machine trusts.
	TLSConfig *tls.Config
	// Resolver is for tests; nil asks the machine.
	Resolver *net.Resolver
}

// Client calls endpoints. It is safe for concurrent use.
type Client struct {
	names, origins   []string
	public, anywhere *http.Client
}

// maxAnswer is how much of an answer is read; nothing of it is used.
const maxAnswer = 64 << 10

// errPrivate is what a call of a private address ends with.
var errPrivate = errors.New("the endpoint is at an address that may not be called")

// New checks the list.
func New(o Options) (*Client, error) {
	c := &Client{}
	for _, entry := range o.Allow {
		entry = strings.ToLower(strings.TrimSpace(entry))
		switch {
		case entry == "":
		case strings.Contains(entry, "://"):
			u, err := url.Parse(entry)
			if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
				return nil, fmt.Errorf("KILN_WEBHOOKS: %q is not an origin such as https://10.0.0.5:9000", entry)
			}
			c.origins = append(c.origins, u.Scheme+"://"+u.Host)
		case strings.ContainsAny(entry, "/:@ ") || strings.Contains(strings.TrimPrefix(entry, "*."), "*") && entry != "*":
			return nil, fmt.Errorf("KILN_WEBHOOKS: %q is not a name such as hooks.example.org or *.example.org", entry)
		default:
			c.names = append(c.names, entry)
		}
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	build := func(control func(string, string, syscall.RawConn) error) *http.Client {
		// The address is looked at when it is dialled, after the name was resolved for the last time.
		dialer := &net.Dialer{Timeout: o.Timeout, Control: control, Resolver: o.Resolver}
		return &http.Client{
			Timeout: o.Timeout,
			Transport: &http.Transport{
				DialContext: dialer.DialContext, TLSClientConfig: o.TLSConfig, TLSHandshakeTimeout: o.Timeout, ResponseHeaderTimeout: o.Timeout,
				DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxAnswer, ForceAttemptHTTP2: true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	c.anywhere = build(nil)
	c.public = build(func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil || Private(at.Addr()) {
			return errPrivate
		}
		return nil
	})
	return c, nil
}

// Any says whether anything may be called at all.
func (c *Client) Any() bool { return len(c.names)+len(c.origins) > 0 }

// Allowed says whether a URL may be called. Where its name leads is seen when it is called.
func (c *Client) Allowed(endpoint string) error {
	_, err := c.client(endpoint)
	return err
}

// client is what an endpoint is called with.
func (c *Client) client(endpoint string) (*http.Client, error) {
	refused := errors.New("the operator does not allow this endpoint any more")
	u, err := url.Parse(endpoint)
	if err != nil || u.User != nil || u.Fragment != "" || u.Host == "" {
		return nil, refused
	}
	host := strings.ToLower(u.Hostname())
	switch {
	case slices.Contains(c.origins, strings.ToLower(u.Scheme+"://"+u.Host)):
		return c.anywhere, nil
	case u.Scheme != "https":
		return nil, refused
	}
	if at, err := netip.ParseAddr(host); err == nil && Private(at) {
		return nil, refused
	}
	for _, name := range c.names {
		if name == "*" || name == host || strings.HasPrefix(name, "*.") && strings.HasSuffix(host, name[1:]) {
			return c.public, nil
		}
	}
	return nil, refused
}

// Call posts to an endpoint. Errors say what went wrong in words of ours: others' may hold addresses and headers.
func (c *Client) Call(ctx context.Context, call resources.HookCall) (int, error) {
	client, err := c.client(call.Endpoint)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, call.Endpoint, bytes.NewReader(call.Body))
	if err != nil {
		return 0, errors.New("the endpoint cannot be called")
	}
	for _, line := range call.Headers {
		name, value, _ := strings.Cut(line, ":")
		req.Header.Add(name, strings.TrimSpace(value))
	}
	req.Header.Set("User-Agent", "Kiln")
	resp, err := client.Do(req)
	var timeout net.Error
	switch {
	case errors.Is(err, errPrivate):
		return 0, errPrivate
	case errors.As(err, &timeout) && timeout.Timeout():
		return 0, errors.New("the endpoint does not answer in time")
	case err != nil:
		return 0, errors.New("the endpoint cannot be reached, or breaks off")
	}
	defer resp.Body.Close()
	// What it says counts for nothing, but some count a call as done only when it was read.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, nil
}
