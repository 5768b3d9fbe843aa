package matching

import (
	"strings"
	"time"
	"unicode"

	"kiln/fhir"
	"kiln/storage/fold"
)

// Person is what is compared of a Patient, folded: no case, no accents. Lists hold each value once at most.
type Person struct {
	// Identifiers are "system|value".
	Identifiers []string
	Family      []string
	// Given are the given names of each HumanName, one string a name.
	Given []string
	// Birth is Patient.birthDate as it stands: YYYY, YYYY-MM or YYYY-MM-DD.
	Birth  string
	Gender string
	// Contacts are telephone numbers, by their digits, and e-mail addresses.
	Contacts []string
	// Postal are postal codes, City cities.
	Postal, City []string
}

// Bounds of what is compared; a Patient with more is compared by the first ones. docs/limits.md publishes them.
const (
	MaxValues = 20
	maxLength = 100
)

// Read takes a Person out of a Patient resource. Old names and addresses count like present ones.
func Read(n *fhir.Node) Person {
	p := Person{}
	if birth := n.GetText("birthDate"); isDate(birth) {
		p.Birth = birth
	}
	if gender := n.GetText("gender"); gender == "male" || gender == "female" || gender == "other" {
		p.Gender = gender
	}
	for i := range n.Get("identifier").Items() {
		if v := i.GetText("value"); v != "" {
			p.Identifiers = add(p.Identifiers, i.GetText("system")+"|"+fold.String(v))
		}
	}
	for name := range n.Get("name").Items() {
		p.Family = add(p.Family, fold.String(name.GetText("family")))
		var given []string
		for g := range name.Get("given").Items() {
			given = append(given, g.Text)
		}
		p.Given = add(p.Given, fold.String(strings.Join(given, " ")))
	}
	for t := range n.Get("telecom").Items() {
		switch v := t.GetText("value"); t.GetText("system") {
		case "email":
			p.Contacts = add(p.Contacts, fold.String(v))
		case "phone", "sms", "fax":
			p.Contacts = add(p.Contacts, digits(v))
		}
	}
	for a := range n.Get("address").Items() {
		p.Postal = add(p.Postal, strings.ReplaceAll(fold.String(a.GetText("postalCode")), " ", ""))
		p.City = add(p.City, fold.String(a.GetText("city")))
	}
	return p
}

// isDate says whether s is YYYY, YYYY-MM or YYYY-MM-DD.
func isDate(s string) bool {
	t, ok := fhir.ParseDateTime(s, time.UTC)
	return ok && len(s) <= len(time.DateOnly) && !t.Time.IsZero()
}

func add(list []string, value string) []string {
	value = fold.Cut(value, maxLength)
	if value == "" || len(list) >= MaxValues {
		return list
	}
	for _, have := range list {
		if have == value {
			return list
		}
	}
	return append(list, value)
}

// digits are the last eight digits of a telephone number: country and trunk prefixes are written or left out.
func digits(s string) string {
	var b []byte
	for _, r := range s {
		if r <= unicode.MaxASCII && unicode.IsDigit(r) {
			b = append(b, byte(r))
		}
	}
	if len(b) < 5 {
		return ""
	}
	return string(b[max(0, len(b)-8):])
}
