package message

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"text/template"
	"time"
)

//go:embed texts/*.txt
var texts embed.FS

// Languages are those that there are words for, the default first.
func Languages() []string { return []string{"en", "de", "es", "fr"} }

// Language is the first of the preferred languages (BCP 47) that there are words for, else the default.
func Language(preferred ...string) string {
	for _, p := range preferred {
		primary, _, _ := strings.Cut(strings.ToLower(strings.ReplaceAll(p, "_", "-")), "-")
		if slices.Contains(Languages(), primary) {
			return primary
		}
	}
	return Languages()[0]
}

// Facts are what a text says beside its words. It is all that leaves the server by e-mail, so there is nothing here that
// tells of health: not the practitioner, whose specialty would, and not the service.
type Facts struct {
	// Start is the time of the visit, Other the time asked for or proposed beside it, Until when an offer ends; zero for none.
	Start, Other, Until time.Time
	// Zone is that of the visit's place, Home that of the recipient; nil where it is not known.
	Zone, Home *time.Location
	// Portal is the page to go to; "" for none.
	Portal string
}

// Text is a message in words.
type Text struct{ Subject, Body string }

// Texts holds the words of all languages.
type Texts struct{ byLanguage map[string]*template.Template }

// Load reads the words. It fails where a language lacks some.
func Load() (*Texts, error) {
	t := &Texts{byLanguage: map[string]*template.Template{}}
	for _, language := range Languages() {
		parsed, err := template.New(language).Option("missingkey=error").ParseFS(texts, "texts/"+language+".txt")
		if err != nil {
			return nil, fmt.Errorf("message: %w", err)
		}
		for _, e := range Events() {
			if parsed.Lookup(string(e)+" subject") == nil || parsed.Lookup(string(e)) == nil {
				return nil, fmt.Errorf("message: %s has no words for %s", language, e)
			}
		}
		t.byLanguage[language] = parsed
	}
	return t, nil
}

// Write puts an event into words.
func (t *Texts) Write(e Event, language string, f Facts) (Text, error) {
	words := t.byLanguage[Language(language)]
	date := func(at time.Time) string { return date(Language(language), at, f.Zone, f.Home) }
	data := struct{ When, Other, Until, Portal string }{date(f.Start), date(f.Other), date(f.Until), f.Portal}
	run := func(name string) (string, error) {
		var b strings.Builder
		err := words.ExecuteTemplate(&b, name, data)
		return strings.TrimSpace(b.String()), err
	}
	subject, err := run(string(e) + " subject")
	if err != nil {
		return Text{}, fmt.Errorf("message: %w", err)
	}
	body, err := run(string(e))
	if err != nil {
		return Text{}, fmt.Errorf("message: %w", err)
	}
	end, err := run("end")
	if err != nil {
		return Text{}, fmt.Errorf("message: %w", err)
	}
	return Text{Subject: subject, Body: body + "\n\n" + end + "\n"}, nil
}
