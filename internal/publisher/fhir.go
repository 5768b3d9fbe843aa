package publisher

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"kiln/fhir"
	"kiln/storage/terminology"
)

// Bounds on FHIR files.
const (
	// MaxResource is how many bytes one resource of a package may have.
	MaxResource = 256 << 20
	// MaxPackage is how many bytes, and MaxPackageFiles how many files, a package may unpack to.
	MaxPackage      = 4 << 30
	MaxPackageFiles = 200_000
)

// EachResource calls do with every CodeSystem, ValueSet and ConceptMap in FHIR's JSON: in packages (.tgz), Bundles and
// single resources, in folders and zips, too. sum is the hash of the resource's text.
func EachResource(ctx context.Context, paths []string, do func(n *fhir.Node, sum []byte) error) error {
	f, err := openFiles(paths)
	if err != nil {
		return err
	}
	defer f.close()
	for _, one := range f.list {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch name := strings.ToLower(one.name); {
		case strings.HasSuffix(name, ".tgz") || strings.HasSuffix(name, ".tar.gz"):
			err = one.read(func(r io.Reader) error { return eachInPackage(r, do) })
		case strings.HasSuffix(name, ".json"):
			err = one.read(func(r io.Reader) error { return eachInJSON(r, do) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func eachInPackage(r io.Reader, do func(*fhir.Node, []byte) error) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	t := tar.NewReader(&bounded{z, MaxPackage})
	for n := 0; ; n++ {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if n > MaxPackageFiles {
			return fmt.Errorf("it has more than %d files", MaxPackageFiles)
		}
		base := path.Base(h.Name)
		if h.Typeflag != tar.TypeReg || !strings.HasSuffix(base, ".json") || strings.HasPrefix(base, ".") ||
			!strings.HasPrefix(path.Clean(h.Name), "package/") {
			continue
		}
		if !strings.HasPrefix(base, "CodeSystem") && !strings.HasPrefix(base, "ValueSet") && !strings.HasPrefix(base, "ConceptMap") {
			continue // packages name files by their types
		}
		if err := eachInJSON(t, do); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func eachInJSON(r io.Reader, do func(*fhir.Node, []byte) error) error {
	data, err := io.ReadAll(io.LimitReader(r, MaxResource+1))
	if err != nil {
		return err
	}
	if len(data) > MaxResource {
		return errors.New("the resource is too large")
	}
	n, err := fhir.ParseJSON(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	if err != nil {
		return err
	}
	return eachIn(n, do)
}

func eachIn(n *fhir.Node, do func(*fhir.Node, []byte) error) error {
	switch typ := n.ResourceType(); {
	case terminology.Holds(typ):
		sum := sha256.Sum256(n.JSON())
		return do(n, sum[:])
	case typ == "Bundle":
		for e := range n.Get("entry").Items() {
			if r := e.Get("resource"); r != nil {
				if err := eachIn(r, do); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
