package conformance

import (
	"archive/zip"
	_ "embed"
	"io"
	"strings"
	"sync"
)

//go:embed definitions/r4-examples.zip
var examplesZip string

// openExamples reads the directory of the embedded examples, one for each type that HL7 published one of.
var openExamples = sync.OnceValues(func() (map[string]*zip.File, error) {
	z, err := zip.NewReader(strings.NewReader(examplesZip), int64(len(examplesZip)))
	if err != nil {
		return nil, err
	}
	files := make(map[string]*zip.File, len(z.File))
	for _, f := range z.File {
		typ, _, _ := strings.Cut(f.Name, "-")
		files[typ] = f
	}
	return files, nil
})

// Example is an official example of a resource type, as HL7 published it, for documents that people read.
func (r *Registry) Example(resourceType string) ([]byte, bool) {
	files, err := openExamples()
	if err != nil || files[resourceType] == nil {
		return nil, false
	}
	entry, err := files[resourceType].Open()
	if err != nil {
		return nil, false
	}
	defer entry.Close()
	data, err := io.ReadAll(entry)
	return data, err == nil
}
