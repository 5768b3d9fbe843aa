package conformance

import (
	"archive/zip"
	_ "embed"
	"io"
	"strings"
	"sync"

	"kiln/fhir"
)

//go:embed definitions/r4-definitions.zip
var r4Zip string

// openZip reads the directory of the embedded zip, a cache of a pure function of an embedded constant. The entries
// stay compressed until Definition asks for one.
var openZip = sync.OnceValues(func() (map[string]*zip.File, error) {
	z, err := zip.NewReader(strings.NewReader(r4Zip), int64(len(r4Zip)))
	if err != nil {
		return nil, err
	}
	files := make(map[string]*zip.File, len(z.File))
	for _, f := range z.File {
		files[f.Name] = f
	}
	return files, nil
})

// Definition returns a definition of ours, or an official one as HL7 published it, by its id or its canonical URL (a |version is
// ignored): StructureDefinition, SearchParameter, OperationDefinition, CompartmentDefinition, ValueSet, CodeSystem,
// ConceptMap, CapabilityStatement or NamingSystem. The bytes are the caller's.
func (r *Registry) Definition(resourceType, idOrURL string) ([]byte, bool) {
	url, byURL := idOrURL, strings.Contains(idOrURL, ":")
	id, special := r.urls[resourceType+" "+url] // some URLs of HL7 v2 tables hold a |version
	if !special {
		url, _, _ = strings.Cut(url, "|")
		if id, special = r.urls[resourceType+" "+url]; !special {
			id = url
			if byURL {
				id = url[strings.LastIndexByte(url, '/')+1:]
			}
		}
	}
	if !byURL || IsOwn(url) {
		if data, ok := ownDefinition(resourceType, id); ok {
			return data, true
		}
	}
	files, err := openZip()
	if err != nil {
		return nil, false
	}
	file := files[resourceType+"-"+id+".json"]
	if file == nil {
		return nil, false
	}
	entry, err := file.Open()
	if err != nil {
		return nil, false
	}
	defer entry.Close()
	data, err := io.ReadAll(entry)
	if err != nil {
		return nil, false
	}
	if byURL { // the end of a foreign URL may be an official id
		if n, err := fhir.ParseJSON(data); err != nil || n.GetText("url") != url {
			return nil, false
		}
	}
	return data, true
}
