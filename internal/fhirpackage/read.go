// Package fhirpackage reads the NPM packages in which FHIR implementation guides come, and installs what they define.
package fhirpackage

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"kiln/fhir"
)

// Bounds on packages. They are published in docs/limits.md.
const (
	// MaxFiles is how many entries a package may have.
	MaxFiles = 20_000
	// MaxBytes is how much a package may unpack to, with what is not installed.
	MaxBytes = 512 << 20
	// MaxResource is how many bytes one resource of it may have.
	MaxResource = 16 << 20
)

// Package is what was read of one.
type Package struct {
	Name, Version string
	// Resources are those to install, what others need before them.
	Resources []*fhir.Node
	// SearchParameters are installed behind them, each for itself.
	SearchParameters []File
	// Skipped counts, by type, the resources that are not installed.
	Skipped map[string]int
}

// File is a resource and the name of its file in the package.
type File struct {
	Name     string
	Resource *fhir.Node
}

// types are installed, in this order, and SearchParameters. Others describe a server or are examples: a CapabilityStatement of a guide
// tells what some server should do, and Kiln generates its own.
var types = []string{"CodeSystem", "ValueSet", "ConceptMap", "NamingSystem", "StructureDefinition"}

// Read reads a package (.tgz). Nothing is written to disk, so that the names in it can do no harm; folders other than
// package/, and those within it, such as package/example/, are not looked at.
// Spec: https://confluence.hl7.org/display/FHIR/NPM+Package+Specification
func Read(r io.Reader) (*Package, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("this is no gzip file: %w", err)
	}
	p := &Package{Skipped: map[string]int{}}
	limited := &io.LimitedReader{R: z, N: MaxBytes + 1}
	t := tar.NewReader(limited)
	seen := map[string]string{}
	for n := 1; ; n++ {
		h, err := t.Next()
		switch {
		case limited.N <= 0:
			return nil, fmt.Errorf("it unpacks to more than %d MiB", MaxBytes>>20)
		case err == io.EOF:
			return p.finish()
		case err != nil:
			return nil, fmt.Errorf("it cannot be unpacked: %w", err)
		case n > MaxFiles:
			return nil, fmt.Errorf("it has more than %d files", MaxFiles)
		}
		dir, name := path.Split(h.Name)
		if h.Typeflag != tar.TypeReg || dir != "package/" || !strings.HasSuffix(name, ".json") || strings.HasPrefix(name, ".") {
			continue
		}
		node, err := readJSON(t)
		if limited.N <= 0 {
			return nil, fmt.Errorf("it unpacks to more than %d MiB", MaxBytes>>20)
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		if name == "package.json" {
			p.Name, p.Version = node.GetText("name"), node.GetText("version")
			if err := forR4(node); err != nil {
				return nil, err
			}
			continue
		}
		typ := node.ResourceType()
		if typ == "" {
			continue // such as the specification's lists of files
		}
		if !slices.Contains(types, typ) && typ != "SearchParameter" || node.GetText("url") == "" && typ != "NamingSystem" {
			p.Skipped[typ]++
			continue
		}
		key := typ + " " + node.GetText("url") + "|" + node.GetText("version") + " " + node.ID()
		if other, twice := seen[key]; twice {
			return nil, fmt.Errorf("%q and %q are the same resource", other, name)
		}
		seen[key] = name
		if typ == "SearchParameter" {
			p.SearchParameters = append(p.SearchParameters, File{name, node})
			continue
		}
		p.Resources = append(p.Resources, node)
	}
}

func readJSON(r io.Reader) (*fhir.Node, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxResource+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > MaxResource:
		return nil, fmt.Errorf("it is larger than %d MiB", MaxResource>>20)
	}
	return fhir.ParseJSON([]byte(strings.TrimPrefix(string(data), "\ufeff")))
}

// forR4 refuses packages for another release of FHIR, where they say so.
func forR4(manifest *fhir.Node) error {
	versions := manifest.Get("fhirVersions")
	if versions == nil {
		versions = manifest.Get("fhir-version-list")
	}
	if versions == nil {
		return nil
	}
	for v := range versions.Items() {
		if strings.HasPrefix(v.Text, "4.0") {
			return nil
		}
	}
	return errors.New("it is not for FHIR R4 (4.0)")
}

func (p *Package) finish() (*Package, error) {
	if p.Name == "" || p.Version == "" {
		return nil, errors.New("it has no package/package.json with a name and a version")
	}
	slices.SortStableFunc(p.Resources, func(a, b *fhir.Node) int {
		return slices.Index(types, a.ResourceType()) - slices.Index(types, b.ResourceType())
	})
	p.Resources = basesFirst(p.Resources)
	return p, nil
}

// basesFirst puts each profile behind the one that it derives from.
func basesFirst(list []*fhir.Node) []*fhir.Node {
	byURL := map[string]*fhir.Node{}
	for _, n := range list {
		if n.ResourceType() == "StructureDefinition" {
			byURL[n.GetText("url")] = n
		}
	}
	sorted, done := make([]*fhir.Node, 0, len(list)), map[*fhir.Node]bool{}
	var put func(n *fhir.Node)
	put = func(n *fhir.Node) {
		if done[n] {
			return
		}
		done[n] = true
		url, _, _ := strings.Cut(n.GetText("baseDefinition"), "|")
		if base := byURL[url]; base != nil {
			put(base)
		}
		sorted = append(sorted, n)
	}
	for _, n := range list {
		put(n)
	}
	return sorted
}
