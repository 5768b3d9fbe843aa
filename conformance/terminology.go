package conformance

import (
	"archive/zip"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"kiln/fhir"
)

// currencies is the value set of currencies as HL7 expanded it in 2019, with the codes that ISO has added by 2025 at its
// end: the code system, ISO 4217, is not HL7's own.
//
//go:embed definitions/currencies.json
var currencies []byte

// DefinitionsHash names the embedded definitions by their content.
func DefinitionsHash() string {
	// The directory of the zip holds a checksum of every entry; it is the end of the file.
	sum := sha256.New()
	files, err := openZip()
	if err != nil {
		return ""
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(sum, "%s %08x\n", name, files[name].CRC32)
	}
	sum.Write(currencies)
	return hex.EncodeToString(sum.Sum(nil))
}

// EachTerminology calls do for every official CodeSystem, ValueSet and ConceptMap, in the order of their file names,
// until it returns an error. The node is do's own. The code system of currencies is made from their expansion.
func EachTerminology(do func(*fhir.Node) error) error {
	return eachOf([]string{"CodeSystem", "ConceptMap", "ValueSet"}, do)
}

// eachOf gives the official definitions of some types, type by type and by name, and then the currencies of today.
func eachOf(types []string, do func(*fhir.Node) error) error {
	files, err := openZip()
	if err != nil {
		return err
	}
	for _, typ := range types {
		var list []*zip.File
		for name, f := range files {
			if strings.HasPrefix(name, typ+"-") {
				list = append(list, f)
			}
		}
		slices.SortFunc(list, func(a, b *zip.File) int { return strings.Compare(a.Name, b.Name) })
		if err := eachEntry(list, do); err != nil {
			return err
		}
	}
	n, err := currencySystem()
	if err != nil {
		return err
	}
	return do(n)
}

func eachEntry(list []*zip.File, do func(*fhir.Node) error) error {
	for _, f := range list {
		n, err := readEntry(f)
		if err != nil {
			return fmt.Errorf("conformance: %s: %w", f.Name, err)
		}
		if err := do(n); err != nil {
			return err
		}
	}
	return nil
}

func readEntry(f *zip.File) (*fhir.Node, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return fhir.ParseJSON(data)
}

// currencySystem is ISO 4217 as far as that file has it.
func currencySystem() (*fhir.Node, error) {
	set, err := fhir.ParseJSON(currencies)
	if err != nil {
		return nil, fmt.Errorf("conformance: currencies.json: %w", err)
	}
	var system string
	var concepts []fhir.Node
	for c := range set.At("expansion", "contains").Items() {
		system = c.GetText("system")
		concepts = append(concepts, fhir.Obj(fhir.Str(c.GetText("code")).As("code"), fhir.Str(c.GetText("display")).As("display")))
	}
	n := fhir.Obj(fhir.Str("CodeSystem").As("resourceType"), fhir.Str("iso-4217").As("id"), fhir.Str(system).As("url"),
		fhir.Str("ISO4217").As("name"), fhir.Str("Currency codes of ISO 4217").As("title"), fhir.Str("active").As("status"),
		fhir.Boolean(true).As("caseSensitive"), fhir.Str("complete").As("content"), fhir.Arr(concepts...).As("concept"))
	return &n, nil
}
