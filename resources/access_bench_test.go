package resources

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/auth"
	"kiln/storage"
)

// BenchmarkAccess_read is what the rule costs a read: the same resource for an operator, who passes the views by, and
// for callers.
func BenchmarkAccess_read(b *testing.B) {
	w := newWard(b)
	callers := map[string]auth.Principal{"operator": auth.Operator("bench"), "patient": patientApp("anna", "patient/*.rs"),
		"doctor": doctor("treats", "user/*.rs"), "admin": admin("user/*.rs"), "backend": backend("system/*.rs")}
	request := func(p auth.Principal) Request {
		return Request{Principal: p, Interaction: Read, Type: "Observation", ID: "a1"}
	}
	// In turns, so that whatever else the machine does falls on all alike.
	spent := map[string]time.Duration{}
	for b.Loop() {
		for name, p := range callers {
			start := time.Now()
			for range 10 {
				do(b, w.Service, request(p))
			}
			spent[name] += time.Since(start)
		}
	}
	for name, d := range spent {
		b.ReportMetric(float64(d.Microseconds())/float64(10*b.N), "us/"+name)
	}
}

// BenchmarkAccess_search is the same for a search among many patients, of whom the doctor treats some.
func BenchmarkAccess_search(b *testing.B) {
	url := ""
	w := &ward{newService(b, func(_ *Options, so *storage.Options) { url, so.Unrestricted = so.URL, false }), b}
	var list []*storage.Prepared
	for i := range 2000 {
		gp := "stranger"
		if i%20 == 0 {
			gp = "treats"
		}
		bodies := []string{fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","name":[{"family":"Family%d"}],"generalPractitioner":[{"reference":"Practitioner/%s"}]}`, i, i, gp)}
		for j := range 10 {
			bodies = append(bodies, fmt.Sprintf(`{"resourceType":"Observation","id":"o%d-%d","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"code-%d"}]},
"subject":{"reference":"Patient/p%d"},"effectiveDateTime":"20%02d-01-01"}`, i, j, j%3, i, 10+j))
		}
		for _, body := range bodies {
			p, err := w.store.Prepare(parse(b, body))
			if err != nil {
				b.Fatal(err)
			}
			list = append(list, p)
		}
	}
	if err := w.store.Copy(b.Context(), list); err != nil {
		b.Fatal(err)
	}
	conn, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(b.Context(), "ANALYZE"); err != nil { // as autovacuum does within a minute
		b.Fatal(err)
	}
	callers := map[string]auth.Principal{"operator": auth.Operator("bench"), "patient": patientApp("p40", "patient/*.rs"), "doctor": doctor("treats", "user/*.rs"), "admin": admin("user/*.rs")}
	for _, q := range []string{"patient=p40&code=code-1&_sort=-date", "code=http://loinc.org|code-1&_sort=-date", "_sort=-date", "code=code-1&_summary=count", "patient.name=family40", "date=ge2015"} {
		b.Run(q, func(b *testing.B) {
			spent := map[string]time.Duration{}
			for b.Loop() {
				for name, p := range callers {
					start := time.Now()
					do(b, w.Service, Request{Principal: p, Interaction: SearchType, Type: "Observation", Query: q})
					spent[name] += time.Since(start)
				}
			}
			for name, d := range spent {
				b.ReportMetric(float64(d.Microseconds())/float64(b.N), "us/"+name)
			}
		})
	}
}
