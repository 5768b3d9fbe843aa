package leak

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"kiln/auth"
	"kiln/fhir"
	"kiln/fhir/search"
)

// Account is a user whom the database knows.
type Account struct {
	Roles    []string
	FHIRUser []string
}

// fullPractitioners is how many practitioners have scopes for everything.
const fullPractitioners = 3

// Callers makes n of the callers that this data has: with the rights of its patients, practitioners, administrators and
// backend systems, by scopes of all kinds. None of them signs in, and none is left behind. The first are one of each kind
// with scopes for everything, in a random order, so that what only one of them could do is tried each time.
func (w *World) Callers(r *rand.Rand, accounts []Account, n int) (list []Caller) {
	patient, practitioner, related := w.of(r, "Patient"), w.of(r, "Practitioner"), w.of(r, "RelatedPerson")
	if practitioner != nil { // several: one may treat all who are treated by anybody, and so miss what opens their records
		known := w.byType["Practitioner"]
		for _, i := range r.Perm(len(known))[:min(len(known), fullPractitioners)] {
			list = append(list, w.practitioner(r, known[i]))
		}
	}
	if patient != nil {
		list = append(list, w.patient(r, patient.ID()))
	}
	if related != nil {
		list = append(list, w.proxy(r, related), w.parent(r, w.links(r)))
	}
	if len(accounts) > 0 {
		if c, ok := w.account(r, pick(r, accounts)); ok {
			list = append(list, c)
		}
	}
	list = append(list, w.administrator(r), w.backend(r))
	for i, c := range list {
		list[i].Scopes, _ = auth.ParseScopes(string(c.level()) + "/*.rs")
	}
	if practitioner != nil { // and one who signs in, and gives the app nothing else
		c := w.practitioner(r, practitioner)
		c.Scopes, _ = auth.ParseScopes("openid fhirUser")
		list = append(list, c)
	}
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	for len(list) < n {
		list = append(list, w.caller(r, accounts))
	}
	return list[:n]
}

// level is that of the scopes of a caller, or the one that fits who has none about resources.
func (c Caller) level() auth.Level {
	for _, s := range c.Scopes {
		if s.Level != auth.LevelNone {
			return s.Level
		}
	}
	if c.Patient != "" {
		return auth.LevelPatient
	}
	return auth.LevelUser
}

// opens says whether the scopes of a caller are about a resource, Type/id, at all: what a read shows beyond that, no role or relationship may
// make up for.
func (c Caller) opens(key string) bool {
	typ, _, _ := strings.Cut(key, "/")
	return len(c.Scopes.About(typ, auth.Read)) > 0 || key == c.FHIRUser && c.ReadsSelf()
}

// reaching is the caller who may also read and find all of a type, by each level that its scopes have.
func (c Caller) reaching(typ string) Caller {
	text := c.Scopes.String()
	for _, level := range []auth.Level{auth.LevelPatient, auth.LevelUser, auth.LevelSystem} {
		if slices.ContainsFunc(c.Scopes, func(s auth.Scope) bool { return s.Level == level }) {
			text += " " + string(level) + "/" + typ + ".rs"
		}
	}
	c.Scopes, _ = auth.ParseScopes(text)
	return c
}

// caller is one of any kind, with any scopes.
func (w *World) caller(r *rand.Rand, accounts []Account) Caller {
	if len(accounts) > 0 && r.IntN(3) == 0 {
		if c, ok := w.account(r, pick(r, accounts)); ok {
			return c
		}
	}
	patient, practitioner := w.of(r, "Patient"), w.of(r, "Practitioner")
	switch kind := r.IntN(10); {
	case kind < 3 && patient != nil:
		if related := w.of(r, "RelatedPerson"); related != nil && r.IntN(2) == 0 {
			if r.IntN(2) == 0 {
				return w.parent(r, w.links(r))
			}
			return w.proxy(r, related)
		}
		return w.patient(r, patient.ID())
	case kind < 7 && practitioner != nil:
		c := w.practitioner(r, practitioner)
		if r.IntN(4) == 0 {
			c.Roles = append(c.Roles, auth.RoleAdmin)
		}
		if patient != nil && r.IntN(3) == 0 {
			c.Scopes, c.Patient = w.scopes(r, auth.LevelPatient), patient.ID()
			if r.IntN(2) == 0 { // of both levels
				c.Scopes = append(c.Scopes, w.scopes(r, auth.LevelUser)...)
			}
		}
		return c
	case kind < 8:
		return w.administrator(r)
	}
	return w.backend(r)
}

func (w *World) practitioner(r *rand.Rand, practitioner *fhir.Node) Caller {
	c := w.person(r, "practitioner", auth.LevelUser, auth.RolePractitioner)
	c.FHIRUser = keyOf(practitioner)
	return c
}

func (w *World) administrator(r *rand.Rand) Caller {
	return w.person(r, "administrator", auth.LevelUser, auth.RoleAdmin)
}

func (w *World) backend(r *rand.Rand) Caller {
	c := Caller{Name: "backend system"}
	c.Client, c.Scopes = "verify-access", w.scopes(r, auth.LevelSystem)
	return c
}

func (w *World) patient(r *rand.Rand, id string) Caller {
	c := w.person(r, "patient", pick(r, []auth.Level{auth.LevelPatient, auth.LevelUser}), auth.RolePatient)
	c.FHIRUser, c.Patient = "Patient/"+id, id
	return c
}

// proxy is somebody who acts for a patient, or would like to: the server looks whether the RelatedPerson does.
func (w *World) proxy(r *rand.Rand, related *fhir.Node) Caller {
	_, id, _ := strings.Cut(related.Get("patient").GetText("reference"), "Patient/")
	c := w.patient(r, id)
	c.Name, c.FHIRUser, c.Represents = "relative", keyOf(related), id
	return c
}

// links are those of somebody who stands for several patients: a Patient, perhaps, and some RelatedPersons, in any order.
func (w *World) links(r *rand.Rand) (list []string) {
	if own := w.of(r, "Patient"); own != nil && r.IntN(2) == 0 {
		list = append(list, keyOf(own))
	}
	for range 2 + r.IntN(2) {
		if related := keyOf(w.of(r, "RelatedPerson")); !slices.Contains(list, related) {
			list = append(list, related)
		}
	}
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// parent is somebody who reaches the records of several patients at once, or would like to: the server looks whether the
// RelatedPersons act for them.
func (w *World) parent(r *rand.Rand, links []string) Caller {
	c := w.person(r, "parent", auth.LevelUser, auth.RolePatient)
	for i, link := range links {
		typ, id, _ := strings.Cut(link, "/")
		if i := slices.IndexFunc(w.byType[typ], func(n *fhir.Node) bool { return typ == "RelatedPerson" && n.ID() == id }); i >= 0 {
			_, id, _ = strings.Cut(w.byType[typ][i].Get("patient").GetText("reference"), "Patient/")
		}
		switch {
		case i > 0:
			c.Others = append(c.Others, auth.Record{Link: link, Patient: id})
		case typ == "RelatedPerson":
			c.FHIRUser, c.Represents = link, id
		default:
			c.FHIRUser = link
		}
	}
	return c
}

// account is a caller with the roles of a user.
func (w *World) account(r *rand.Rand, a Account) (Caller, bool) {
	var roles []auth.Role
	for _, role := range a.Roles {
		roles = append(roles, auth.Role(role))
	}
	if len(roles) == 0 {
		return Caller{}, false
	}
	if len(a.FHIRUser) > 1 && slices.Equal(roles, []auth.Role{auth.RolePatient}) && r.IntN(2) == 0 && w.knows(a.FHIRUser) {
		return w.parent(r, a.FHIRUser), true
	}
	for _, link := range a.FHIRUser {
		typ, id, _ := strings.Cut(link, "/")
		if typ != "RelatedPerson" || !slices.Contains(roles, auth.RolePatient) || r.IntN(len(a.FHIRUser)) > 0 {
			continue
		}
		for _, related := range w.byType[typ] {
			if related.ID() == id {
				return w.proxy(r, related), true
			}
		}
	}
	c := w.person(r, "user", auth.LevelUser, roles...)
	if len(a.FHIRUser) > 0 {
		c.FHIRUser = a.FHIRUser[0]
	}
	if id, is := strings.CutPrefix(c.FHIRUser, "Patient/"); is && r.IntN(2) == 0 {
		c.Patient, c.Scopes = id, w.scopes(r, auth.LevelPatient)
	}
	return c, true
}

// knows says whether the RelatedPersons among links are in the sample: whom they act for is known of these alone.
func (w *World) knows(links []string) bool {
	return !slices.ContainsFunc(links, func(link string) bool {
		typ, id, _ := strings.Cut(link, "/")
		return typ == "RelatedPerson" && !slices.ContainsFunc(w.byType[typ], func(n *fhir.Node) bool { return n.ID() == id })
	})
}

// person is somebody with roles, who is linked to nobody yet.
func (w *World) person(r *rand.Rand, name string, level auth.Level, roles ...auth.Role) Caller {
	c := Caller{Name: name}
	c.User, c.Client, c.Roles, c.Scopes = "verify-access", "verify-access", roles, w.scopes(r, level)
	c.Purpose = pick(r, []string{"", "", "TREAT", "HRESCH"})
	return c
}

// standsFor says whether a resource is who the caller is, or a patient whose record the caller opens in that patient's name.
func (c *Caller) standsFor(key string) bool {
	return key == c.FHIRUser || key == "Patient/"+c.Patient || c.Represents != "" && key == "Patient/"+c.Represents ||
		slices.ContainsFunc(c.Others, func(r auth.Record) bool { return key == r.Link || key == "Patient/"+r.Patient })
}

// record is the id of a patient in whose name the caller writes, "" for none.
func (c *Caller) record() string {
	if c.Patient != "" {
		return c.Patient
	}
	return strings.TrimPrefix(c.Own(), "Patient/")
}

// String is the caller as a person reads it: who it stands for, by id, and by which scopes.
func (c Caller) String() string {
	text := c.Name
	for _, part := range []string{c.FHIRUser, c.Purpose} {
		if part != "" {
			text += " " + part
		}
	}
	for _, record := range c.Others {
		text += " and " + record.Link
	}
	if c.Patient != "" && c.FHIRUser != "Patient/"+c.Patient {
		text += " with Patient/" + c.Patient
	}
	return fmt.Sprintf("%s %v by %q", text, c.Roles, c.Scopes.String())
}

// scopes are scopes of a level, always for reading and searching alike: visible by search is visible by read.
func (w *World) scopes(r *rand.Rand, level auth.Level) auth.Scopes {
	var words []string
	switch r.IntN(5) {
	case 0, 1:
		words = []string{string(level) + "/*." + pick(r, []string{"rs", "read", "cruds", "*"})}
	case 2:
		for range 3 + r.IntN(5) {
			words = append(words, string(level)+"/"+pick(r, w.types)+".rs")
		}
	default:
		for range 2 + r.IntN(4) {
			words = append(words, w.granular(r, level))
		}
		words = append(words, string(level)+"/Patient.rs")
	}
	slices.Sort(words)
	if words = slices.Compact(words); level != auth.LevelSystem { // who signs in, beside all that or alone
		switch r.IntN(6) {
		case 0, 1:
			words = append(words, "openid", "fhirUser")
		case 2:
			words = []string{"openid", "fhirUser"}
		}
	}
	list, _ := auth.ParseScopes(strings.Join(words, " "))
	return list
}

// granular is a scope with a condition that some resource of the sample meets.
func (w *World) granular(r *rand.Rand, level auth.Level) string {
	n := w.one(r)
	typ := n.ResourceType()
	plain := string(level) + "/" + typ + ".rs"
	for range 20 {
		p := w.condition(r, n)
		def := w.registry.SearchParameter(typ, p.Name)
		if def == nil || def.Type != search.Token && def.Type != search.Reference || p.Name == "_id" {
			continue
		}
		text := plain + "?" + p.Name + "=" + p.Value
		if s, err := auth.ParseScope(text); err == nil && s.Level != auth.LevelNone && s.Check(w.registry) == nil {
			return text
		}
	}
	return plain
}
