package publisher

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"kiln/fhir"
	"kiln/storage/terminology"
)

// Release is one code system in its publisher's files. Close it after use.
type Release struct {
	terminology.Source
	files *files
}

// Close gives the files back.
func (r *Release) Close() { r.files.close() }

// systems are the readers by the names in terminology.Publishers.
var systems = map[string]func(*files) (*reader, error){
	"loinc":   openLOINC,
	"snomed":  openSNOMED,
	"rxnorm":  openRxNorm,
	"icd10cm": openICD10CM,
}

// Systems are the names that Open knows.
func Systems() []string { return slices.Sorted(maps.Keys(systems)) }

// Open finds a code system in files, zips and folders. version is what the release is called, "" for what its files say.
func Open(system, version string, paths ...string) (*Release, error) {
	open := systems[system]
	if open == nil {
		return nil, fmt.Errorf("%q is none of %s", system, strings.Join(Systems(), ", "))
	}
	f, err := openFiles(paths)
	if err != nil {
		return nil, err
	}
	r, err := open(f)
	if err == nil && version != "" {
		r.version = version
	}
	if err == nil && r.version == "" {
		err = errors.New("the files do not say which version they are; give it with --version")
	}
	if err == nil {
		r.hash, err = hashOf(r.inputs...)
	}
	if err != nil {
		f.close()
		return nil, fmt.Errorf("%s: %w", system, err)
	}
	return &Release{Source: r, files: f}, nil
}

// reader is what the readers have in common.
type reader struct {
	id, url, version, name, title string
	copyright                     string
	properties                    []property
	inputs                        []file
	hash                          []byte
	each
}

type property struct{ code, typ string }

func (r *reader) Hash() []byte { return r.hash }

func (r *reader) About() *fhir.Node {
	n := fhir.Obj(fhir.Str("CodeSystem").As("resourceType"), fhir.Str(r.id).As("id"), fhir.Str(r.url).As("url"), fhir.Str(r.version).As("version"),
		fhir.Str(r.name).As("name"), fhir.Str(r.title).As("title"), fhir.Str("active").As("status"), fhir.Str(r.copyright).As("copyright"),
		fhir.Boolean(r.id != "icd10cm").As("caseSensitive"), fhir.Str("is-a").As("hierarchyMeaning"), fhir.Str("complete").As("content"))
	var list []fhir.Node
	for _, p := range r.properties {
		list = append(list, fhir.Obj(fhir.Str(p.code).As("code"), fhir.Str(p.typ).As("type")))
	}
	if list != nil {
		n.Set("property", fhir.Arr(list...))
	}
	return &n
}

func text(code, value string) terminology.Property {
	return terminology.Property{Code: code, Type: "string", Value: value}
}

func code(code, value string) terminology.Property {
	return terminology.Property{Code: code, Type: "code", Value: value}
}

func boolean(code string, value bool) terminology.Property {
	return terminology.Property{Code: code, Type: "boolean", Value: fmt.Sprint(value)}
}
