package load

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"strconv"
	"text/template"
	"time"

	"kiln/fhir"
	"kiln/resources"
)

//go:embed demo/*.ndjson
var demo embed.FS

// DemoMarker is a resource that is there exactly when the demo data have been loaded.
const DemoMarker = "demo-clinic"

// Seed loads the demo data, whose dates lie around now. All have fixed ids: loading them again on the same day changes
// nothing, and on another day it moves their dates.
func Seed(ctx context.Context, service *resources.Service, now time.Time) (*Result, error) {
	list, err := DemoData(now)
	if err != nil {
		return nil, err
	}
	entries := make([]fhir.Node, len(list))
	for i, node := range list {
		entries[i] = asEntry(*node, "")
	}
	body := fhir.Obj(fhir.Str("Bundle").As("resourceType"), fhir.Str("transaction").As("type"), fhir.Arr(entries...).As("entry"))
	resp, err := service.Do(ctx, resources.Request{Interaction: resources.Transaction, Body: &body})
	if err != nil {
		return nil, fmt.Errorf("demo data: %w", err)
	}
	result := &Result{Path: "demo data", unit: "entry"}
	for _, e := range resp.Bundle.Entries {
		result.count(e)
	}
	return result, nil
}

// SeedOnce is Seed for a database that does not have the demo data yet; else it does nothing and returns nil. What
// people have made of the demo data stays.
func SeedOnce(ctx context.Context, service *resources.Service, now time.Time) (*Result, error) {
	_, err := service.Do(ctx, resources.Request{Interaction: resources.Read, Type: "Organization", ID: DemoMarker})
	switch {
	case err == nil || fhir.KindOf(err) == fhir.Gone:
		return nil, nil
	case fhir.KindOf(err) != fhir.NotFound:
		return nil, err
	}
	return Seed(ctx, service, now)
}

// DemoData returns the demo resources.
func DemoData(now time.Time) ([]*fhir.Node, error) {
	day := func(n int) string { return now.UTC().AddDate(0, 0, n).Format(time.DateOnly) }
	text, err := template.New("").Funcs(template.FuncMap{
		"day":   day,
		"list":  func(items ...string) []string { return items },
		"dayOf": func(n string) (string, error) { i, err := strconv.Atoi(n); return day(i), err },
	}).ParseFS(demo, "demo/*.ndjson")
	if err != nil {
		return nil, err
	}
	var list []*fhir.Node
	for _, name := range []string{"people.ndjson", "records.ndjson"} {
		var out bytes.Buffer
		if err := text.ExecuteTemplate(&out, name, nil); err != nil {
			return nil, err
		}
		for line := range bytes.Lines(out.Bytes()) {
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			node, err := fhir.ParseJSON(bytes.Clone(line))
			if err != nil {
				return nil, fmt.Errorf("demo data, %s: %w: %s", name, err, line)
			}
			list = append(list, node)
		}
	}
	return list, nil
}
