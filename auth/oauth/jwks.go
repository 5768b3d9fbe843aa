package oauth

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"

	"kiln/auth/outbound"
	"kiln/storage/identity"
)

const (
	// MaxJWKS bounds a key set in bytes, maxKeys in keys.
	MaxJWKS = 256 << 10
	maxKeys = 50
	// jwksLife is how long fetched keys are used where the answer does not say, jwksLongest where it says more, and
	// jwksPause the least time between two fetches for an unknown kid; the first is made at once.
	jwksLife    = 5 * time.Minute
	jwksLongest = time.Hour
	jwksPause   = 5 * time.Second
	jwksTimeout = 5 * time.Second
)

// ParseJWKS reads a key set and refuses one that cannot be meant: no key, symmetric or private keys, keys that are too
// small.
func ParseJWKS(content []byte) (*jose.JSONWebKeySet, error) {
	if len(content) > MaxJWKS {
		return nil, fmt.Errorf("the key set is larger than %d bytes", MaxJWKS)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(content, &set); err != nil {
		return nil, fmt.Errorf("the key set cannot be read: %w", err)
	}
	if len(set.Keys) == 0 || len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("a key set has 1 to %d keys", maxKeys)
	}
	for _, key := range set.Keys {
		switch public := key.Key.(type) {
		case *rsa.PublicKey:
			if public.N.BitLen() < 2048 {
				return nil, errors.New("an RSA key has 2048 bits at least")
			}
		case *ecdsa.PublicKey:
		default:
			return nil, errors.New("a key set holds public RSA and EC keys and nothing else")
		}
	}
	return &set, nil
}

// clientKeys returns the client's keys with a kid that fit for verification.
func (s *Server) clientKeys(ctx context.Context, c *identity.Client, kid string) ([]jose.JSONWebKey, error) {
	if c.JWKSURI == "" {
		set, err := ParseJWKS(c.JWKS)
		if err != nil {
			return nil, err
		}
		return verifying(set, kid), nil
	}
	return s.fetcher.keys(ctx, c.JWKSURI, kid, c.RegisteredBy == registeredByOperator)
}

const registeredByOperator = "operator"

func verifying(set *jose.JSONWebKeySet, kid string) []jose.JSONWebKey {
	var keys []jose.JSONWebKey
	for _, key := range set.Key(kid) {
		if key.Use == "" || key.Use == "sig" {
			keys = append(keys, key)
		}
	}
	return keys
}

// fetcher fetches key sets of clients and keeps them for a while.
//
// What an operator registered is fetched as registered. What a stranger registered must be https and must not lead into
// the server's own network: the address is checked when the connection is made, so that no name can be pointed
// elsewhere in between.
type fetcher struct {
	now            func() time.Time
	trusted, other *http.Client

	mu     sync.Mutex
	cached map[source]*fetched
}

// source is where keys come from. What was fetched for an operator's client serves no stranger's.
type source struct {
	uri     string
	trusted bool
}

type fetched struct {
	set   *jose.JSONWebKeySet
	until time.Time
	// forced is when an unknown kid last made the set be fetched; zero for never.
	forced time.Time
}

func newFetcher(now func() time.Time) *fetcher {
	f := &fetcher{now: now, cached: map[source]*fetched{}}
	f.trusted, f.other = fetchClient(nil), fetchClient(outbound.PublicOnly)
	return f
}

func fetchClient(control func(network, address string, c syscall.RawConn) error) *http.Client {
	dialer := &net.Dialer{Timeout: jwksTimeout, Control: control}
	return &http.Client{
		Timeout: jwksTimeout,
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: jwksTimeout, DisableKeepAlives: true,
			MaxResponseHeaderBytes: 32 << 10, // and no proxy from the environment, which would make the check void
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// keys returns the keys with a kid. An unknown kid makes the set be fetched once more, since keys rotate.
func (f *fetcher) keys(ctx context.Context, uri, kid string, trusted bool) ([]jose.JSONWebKey, error) {
	f.mu.Lock()
	from := source{uri, trusted}
	have := f.cached[from]
	f.mu.Unlock()
	now := f.now()
	var forced time.Time
	if have != nil && now.Before(have.until) {
		if keys := verifying(have.set, kid); len(keys) > 0 || now.Sub(have.forced) < jwksPause {
			return keys, nil
		}
		forced = now
	}
	set, life, err := f.fetch(ctx, uri, trusted)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.cached) > 1000 {
		clear(f.cached)
	}
	f.cached[from] = &fetched{set: set, until: now.Add(life), forced: forced}
	return verifying(set, kid), nil
}

func (f *fetcher) fetch(ctx context.Context, uri string, trusted bool) (*jose.JSONWebKeySet, time.Duration, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !(trusted && u.Scheme == "http") {
		return nil, 0, errors.New("oauth: a jwks_uri is an https URL")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	client := f.other
	if trusted {
		client = f.trusted
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, 0, fmt.Errorf("oauth: fetch jwks_uri: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("oauth: fetch jwks_uri: status %d", response.StatusCode)
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, MaxJWKS+1))
	if err != nil {
		return nil, 0, fmt.Errorf("oauth: fetch jwks_uri: %w", err)
	}
	set, err := ParseJWKS(content)
	return set, cacheLife(response.Header.Get("Cache-Control")), err
}

// cacheLife is how long an answer may be kept by its Cache-Control.
func cacheLife(control string) time.Duration {
	life := jwksLife
	for directive := range strings.SplitSeq(control, ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			if n, err := strconv.Atoi(strings.Trim(value, `"`)); err == nil && n >= 0 {
				life = min(time.Duration(min(n, 1<<20))*time.Second, jwksLongest)
			}
		}
	}
	return life
}
