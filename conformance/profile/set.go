package profile

import (
	"context"
	"strings"
	"sync"

	"kiln/conformance"
	"kiln/fhir"
)

// Source gives a StructureDefinition by its canonical URL, perhaps with |version; nil where there is none.
type Source func(ctx context.Context, canonical string) (*fhir.Node, error)

// Set is the profiles that are known at one time, each compiled when it is first asked for. A change of any definition
// asks for a new Set. It is safe for concurrent use.
type Set struct {
	registry *conformance.Registry
	source   Source
	mu       sync.Mutex
	profiles map[string]*Profile // by canonical
	versions map[string]string   // of official definitions that were read
}

// NewSet makes a set of the official profiles and extensions, and those of source, which come first; source may be nil.
func NewSet(registry *conformance.Registry, source Source) *Set {
	return &Set{registry: registry, source: source, profiles: map[string]*Profile{}, versions: map[string]string{}}
}

// Profile is one profile, compiled.
type Profile struct {
	// URL is the canonical URL, with |version where the definition has one.
	URL  string
	bare string
	typ  string
	root *element
	// base marks the definition of a type itself, which adds nothing.
	base     bool
	contexts []extensionContext
	// depth is how many profiles it derives from in a row.
	depth int
	// fault says why the profile cannot be used.
	fault *fhir.Error
}

type extensionContext struct{ kind, expression string }

// Fault says why the definition of a profile cannot be used, or nil.
func (p *Profile) Fault() *fhir.Error { return p.fault }

// Profile finds a profile; nil where it is not known.
//
// Errors: those of the source.
func (s *Set) Profile(ctx context.Context, canonical string) (*Profile, error) {
	return s.find(ctx, canonical, nil)
}

func (s *Set) find(ctx context.Context, canonical string, within []string) (*Profile, error) {
	s.mu.Lock()
	p, known := s.profiles[canonical]
	s.mu.Unlock()
	if known {
		return p, nil
	}
	n, err := s.definition(ctx, canonical)
	if err != nil {
		return nil, err
	}
	if n != nil {
		if p, err = s.compile(ctx, n, within); err != nil {
			return nil, err
		}
	}
	if n == nil || p.fault != nil && len(within) > 0 {
		// What clients make up is not remembered, nor a fault that may come of where the search began.
		return p, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.profiles[canonical] = p
	return p, nil
}

func (s *Set) definition(ctx context.Context, canonical string) (*fhir.Node, error) {
	if s.source != nil {
		if n, err := s.source(ctx, canonical); n != nil || err != nil {
			return n, err
		}
	}
	url, version, _ := strings.Cut(canonical, "|")
	// Names that clients make up must cost nothing: a definition is read only where its url and version can be those asked for.
	folder := url[:strings.LastIndexByte(url, '/')+1]
	if folder != baseURL && !(conformance.IsOwn(url) && len(folder) <= len(fhir.CanonicalBase)+len("/StructureDefinition/")) {
		return nil, nil
	}
	s.mu.Lock()
	known, read := s.versions[url]
	s.mu.Unlock()
	if read && version != "" && version != known {
		return nil, nil
	}
	data, ok := s.registry.Definition("StructureDefinition", url)
	if !ok || !strings.Contains(url, ":") {
		return nil, nil
	}
	n, err := fhir.ParseJSON(data)
	if err != nil || n.GetText("url") != url {
		return nil, nil
	}
	s.mu.Lock()
	s.versions[url] = n.GetText("version")
	s.mu.Unlock()
	if version != "" && n.GetText("version") != version {
		return nil, nil
	}
	return n, nil
}

// Compile makes a profile of a definition at hand, to say whether it can be used: Profile.Fault.
func (s *Set) Compile(ctx context.Context, n *fhir.Node) (*Profile, error) {
	return s.compile(ctx, n, nil)
}
