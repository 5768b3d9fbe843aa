package resources

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"kiln/fhir"
	"kiln/resources/message"
	"kiln/resources/scheduling"
)

// person is how somebody wants to be told.
type person struct {
	// address is an e-mail address, "" for none.
	address   string
	languages []string
	zone      *time.Location // nil: not known
	// optOut are the kinds of messages that the person does not want.
	optOut []string
	gone   bool // has died, or is kept no longer
}

// optOutExtension says on a Patient, RelatedPerson or Practitioner which messages it does not want.
const optOutExtension = fhir.CanonicalBase + "StructureDefinition/message-opt-out"

// The kinds of messages, as message-opt-out and Communication.category name them.
const (
	kindNotification = "notification"
	kindReminder     = "reminder"
)

func kindOf(e message.Event) string {
	if e == message.Reminder {
		return kindReminder
	}
	return kindNotification
}

func readPerson(n *fhir.Node, now time.Time) person {
	p := person{address: emailOf(n, now)}
	if zone, ok := scheduling.ZoneOf(n); ok {
		p.zone = zone
	}
	p.gone = literal(n.Get("active")) == "false" || literal(n.Get("deceasedBoolean")) == "true" || n.Get("deceasedDateTime") != nil
	for e := range n.Get("extension").Items() {
		if e.GetText("url") == optOutExtension {
			p.optOut = append(p.optOut, e.GetText("valueCode"))
		}
	}
	p.languages = languagesOf(n)
	return p
}

// languagesOf are the languages of a person, those first that it prefers. A Patient's have a language and a preference, a
// Practitioner's are the language.
func languagesOf(n *fhir.Node) (list []string) {
	for c := range n.Get("communication").Items() {
		concept := c
		if c.Get("language") != nil {
			concept = c.Get("language")
		}
		code := ""
		for coding := range concept.Get("coding").Items() {
			code = cmp.Or(code, coding.GetText("code"))
		}
		switch {
		case code == "":
		case literal(c.Get("preferred")) == "true":
			list = slices.Insert(list, 0, code)
		default:
			list = append(list, code)
		}
	}
	return list
}

// emailOf is the e-mail address to use: the one with the best rank that is in use now; temporary ones and those of work
// after those of home.
func emailOf(n *fhir.Node, now time.Time) (address string) {
	best := 1 << 30
	for t := range n.Get("telecom").Items() {
		value, use := t.GetText("value"), t.GetText("use")
		if t.GetText("system") != "email" || value == "" || use == "old" || !during(t.Get("period"), now) {
			continue
		}
		rank, err := strconv.Atoi(literal(t.Get("rank")))
		if err != nil || rank < 1 {
			rank = 1 << 20
			if use != "home" && use != "" {
				rank++
			}
		}
		if rank < best {
			best, address = rank, value
		}
	}
	return address
}

// during says whether a Period holds a moment.
func during(period *fhir.Node, now time.Time) bool {
	if start, ok := fhir.ParseDateTime(period.GetText("start"), time.UTC); ok && now.Before(start.Time) {
		return false
	}
	end, ok := fhir.ParseDateTime(period.GetText("end"), time.UTC)
	return !ok || now.Before(end.End())
}
