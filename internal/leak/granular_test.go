package leak

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/auth"
	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/internal/kilntest"
	"kiln/resources"
	"kiln/storage"
)

// What a granular scope is about is looked for by the index and read by its content: both tell the same of every resource, also of those whose
// record their content does not say. That needs each condition beside what meets it, which callers drawn at random seldom have.
func TestGranular_scopes(t *testing.T) {
	t.Parallel()
	now := clock(time.Now().UTC().Truncate(time.Second))
	s, store := open(t, kilntest.DB(t), now.read, true, "")
	defer store.Close()
	(&story{t: t, s: s, r: rand.New(rand.NewPCG(*seed, 1)), now: now.read()}).write()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	w, err := Sample(t.Context(), s, registry, base, 40)
	if err != nil {
		t.Fatal(err)
	}
	callers := []Caller{
		{Principal: auth.Principal{User: "a", Client: "a", FHIRUser: "Patient/p1", Roles: []auth.Role{auth.RolePatient}}},
		{Principal: auth.Principal{User: "a", Client: "a", FHIRUser: "Practitioner/d1", Roles: []auth.Role{auth.RolePractitioner}}},
		{Principal: auth.Principal{User: "a", Client: "a", FHIRUser: "Practitioner/d1", Patient: "p1", Roles: []auth.Role{auth.RolePractitioner}}},
	}
	shown := map[string]int{}
	for _, typ := range w.types {
		list := w.byType[typ]
		if typ != "Provenance" {
			list = list[:min(len(list), 8)]
		}
		for _, n := range list {
			for _, text := range w.granularOf(n) {
				for _, who := range callers {
					level := auth.LevelUser
					if who.Patient != "" {
						level = auth.LevelPatient
					}
					scopes, errs := auth.ParseScopes(fmt.Sprintf("%s/%s.rs?%s", level, typ, text))
					if len(errs) > 0 {
						t.Fatal(errs)
					}
					who.Scopes = scopes
					read := resources.Request{Interaction: resources.Read, Type: typ, ID: n.ID(), Principal: who.Principal}
					_, err := s.Do(t.Context(), read)
					readable := err == nil
					if !readable && fhir.KindOf(err) != fhir.NotFound && fhir.KindOf(err) != fhir.Forbidden {
						t.Fatal(describe(err))
					}
					found, err := s.Do(t.Context(), resources.Request{Interaction: resources.SearchType, Type: typ, Query: "_id=" + n.ID(), Principal: who.Principal})
					if err != nil && fhir.KindOf(err) != fhir.Forbidden {
						t.Fatal(describe(err))
					}
					if findable := err == nil && len(found.Bundle.Entries) > 0; findable != readable {
						t.Errorf("%s: a search shows %s: %t, a read: %t", who, keyOf(n), findable, readable)
					}
					if readable {
						shown[who.FHIRUser+" "+typ]++
					}
				}
			}
		}
	}
	for _, what := range []string{"Patient/p1 Provenance", "Practitioner/d1 Provenance", "Practitioner/d1 Observation"} {
		if shown[what] < 2 {
			t.Errorf("%s: shown %d times", what, shown[what])
		}
	}
}

// granularOf are conditions of granular scopes that a resource meets, one for each parameter.
func (w *World) granularOf(n *fhir.Node) (list []string) {
	r := rand.New(rand.NewPCG(*seed, 3))
	typ := n.ResourceType()
	seen := map[string]bool{}
	for range 40 {
		p := w.condition(r, n)
		def := w.registry.SearchParameter(typ, p.Name)
		if def == nil || def.Type != search.Token && def.Type != search.Reference || p.Name == "_id" || seen[p.Name] {
			continue
		}
		text := p.Name + "=" + p.Value
		if s, err := auth.ParseScope("user/" + typ + ".rs?" + text); err == nil && s.Level != auth.LevelNone && s.Check(w.registry) == nil && !strings.ContainsAny(text, " ") {
			seen[p.Name] = true
			list = append(list, text)
		}
	}
	slices.Sort(list)
	return list
}

// A practitioner whose scopes leave out the Patient of somebody in treatment may still write in the record, by a scope of the other level or for another type:
// that is no stranger, and the server does not answer as if nobody was there. In the record of a stranger it does.
func TestStrangers(t *testing.T) {
	t.Parallel()
	now := clock(time.Now().UTC().Truncate(time.Second))
	url := kilntest.DB(t)
	s, store := open(t, url, now.read, true, "")
	(&story{t: t, s: s, r: rand.New(rand.NewPCG(*seed, 1)), now: now.read()}).write()
	store.Close()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	rehearsal, err := storage.Open(t.Context(), storage.Options{URL: url, Base: base, Registry: registry, PoolSize: 2, Rehearse: true})
	if err != nil {
		t.Fatal(err)
	}
	defer rehearsal.Close()
	if s, err = resources.New(resources.Options{Store: rehearsal, Registry: registry, Base: base}); err != nil {
		t.Fatal(err)
	}
	w, err := Sample(t.Context(), s, registry, base, 40)
	if err != nil {
		t.Fatal(err)
	}
	composition := w.byType["Composition"][0]
	strangers, known := 0, 0
	for d := range practitioners {
		for _, scopes := range []string{"patient/*.rs user/Composition.cruds", "user/Patient.rs?gender=nothing user/Composition.cruds"} {
			who := Caller{Principal: auth.Principal{User: "a", Client: "a", FHIRUser: fmt.Sprintf("Practitioner/d%d", d), Patient: "p3", Roles: []auth.Role{auth.RolePractitioner}}}
			who.Scopes, _ = auth.ParseScopes(scopes)
			v := &writer{session: &session{service: s, world: w, who: who, report: &Report{}, reads: map[string]bool{}}, r: rand.New(rand.NewPCG(*seed, 3))}
			if err := v.meet(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, patient := range w.byType["Patient"] {
				if readable, err := v.readable(t.Context(), keyOf(patient)); err != nil || readable {
					continue
				}
				ask := func(id string) Ask {
					return Ask{Request: resources.Request{Interaction: resources.Create, Type: "Composition"}, Body: without(composition, id)}
				}
				problem, err := v.try(t.Context(), &attempt{ask: ask(patient.ID()), other: ask(never), hidden: keyOf(patient), absent: "Patient/" + never})
				if err != nil {
					t.Fatal(err)
				}
				if slices.Contains(v.strangers, patient) {
					if strangers++; problem != "" {
						t.Errorf("%s: %s", who, problem)
					}
				} else if problem != "" {
					known++
				}
			}
		}
	}
	if strangers < 2 || known < 2 {
		t.Errorf("%d strangers, and %d whom the caller reaches otherwise", strangers, known)
	}
}
