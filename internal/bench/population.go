package bench

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kiln/fhir"
	"kiln/internal/load"
)

// population is what the generator makes resources of: real ones, and the names that occur in them.
type population struct {
	// records are sets of resources that refer to each other: a patient's each.
	records []record
	// shared are the practitioners, organizations and places of all records. They are stored as they are.
	shared        []*fhir.Node
	practitioners []string // their ids
	families      []string
	givens        []string
}

type record struct{ resources []*fhir.Node }

// readPopulation reads the bundles of a Synthea folder; without one the demo data are the only record.
func readPopulation(dir string) (*population, error) {
	p := &population{}
	paths, _ := filepath.Glob(filepath.Join(dir, "v2.7", "*.json.gz"))
	for _, path := range paths {
		list, err := readBundle(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if strings.HasPrefix(filepath.Base(path), "0-") {
			p.shared = append(p.shared, list...)
		} else {
			p.records = append(p.records, record{list})
		}
		p.know(list)
	}
	if len(p.records) == 0 {
		list, err := load.DemoData(time.Now())
		if err != nil {
			return nil, err
		}
		p.records = []record{{list}}
		p.know(list)
	}
	return p, nil
}

// know remembers the names and the practitioners in a list.
func (p *population) know(list []*fhir.Node) {
	for _, node := range list {
		for name := range node.Get("name").Items() {
			if family := withoutDigits(name.GetText("family")); family != "" {
				p.families = append(p.families, family)
			}
			for given := range name.Get("given").Items() {
				p.givens = append(p.givens, withoutDigits(given.Text))
			}
		}
		if node.ResourceType() == "Practitioner" {
			p.practitioners = append(p.practitioners, node.ID())
		}
	}
}

func withoutDigits(name string) string { return strings.TrimRight(name, "0123456789") }

func readBundle(path string) (list []*fhir.Node, err error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	unzip, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(unzip)
	if err != nil {
		return nil, err
	}
	bundle, err := fhir.ParseJSON(data)
	if err != nil {
		return nil, err
	}
	for entry := range bundle.Get("entry").Items() {
		if resource := entry.Get("resource"); resource != nil {
			list = append(list, resource)
		}
	}
	return list, nil
}
