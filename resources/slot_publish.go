package resources

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"kiln/fhir"
)

// Bounds of what is published; docs/limits.md publishes them.
const (
	publishedDays  = 30
	maxPublished   = 50_000 // resources of a type
	publicationAge = time.Minute
)

// Publication is what everybody may know of free time, as NDJSON: SMART Scheduling Links ($bulk-publish).
type Publication struct {
	// Made is when it was put together, Changed when the newest of its resources changed.
	Made, Changed time.Time
	// Tag changes when the content does.
	Tag   string
	Files []PublishedFile
}

// PublishedFile holds the resources of one type, one a line.
type PublishedFile struct {
	Type    string
	Content []byte
	Count   int
}

// Publisher puts publications together: one a minute at most, however many ask. It is safe for concurrent use.
type Publisher struct {
	service *Service
	mu      sync.Mutex
	last    *Publication
}

// NewPublisher makes a Publisher of what a service has.
func NewPublisher(s *Service) *Publisher { return &Publisher{service: s} }

// Current is the publication of this minute.
func (p *Publisher) Current(ctx context.Context) (*Publication, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.service.now(); p.last == nil || now.Sub(p.last.Made) >= publicationAge {
		made, err := p.service.publication(ctx, now)
		if err != nil {
			return nil, err
		}
		p.last = made
	}
	return p.last, nil
}

// published are the types of a publication, how they are found, and the elements that leave the server: what tells
// where and when somebody can be seen. Comments and extensions stay.
var published = []struct {
	typ, query string
	elements   []string
}{
	{"Location", "status=active", []string{"status", "name", "telecom", "address", "position", "managingOrganization", "partOf"}},
	{"HealthcareService", "active=true", []string{"active", "name", "category", "type", "specialty", "location", "telecom", "appointmentRequired"}},
	{"PractitionerRole", "active=true", []string{"active", "practitioner", "organization", "code", "specialty", "location", "healthcareService", "telecom"}},
	{"Schedule", "active=true", []string{"active", "serviceCategory", "serviceType", "specialty", "actor", "planningHorizon"}},
	{"Slot", "status=free&start=ge%s&start=lt%s", []string{"serviceCategory", "serviceType", "specialty", "appointmentType", "schedule", "status", "start", "end"}},
}

func (s *Service) publication(ctx context.Context, now time.Time) (*Publication, error) {
	p := &Publication{Made: now}
	sum := sha256.New()
	for _, kind := range published {
		query := kind.query
		if kind.typ == "Slot" {
			query = fmt.Sprintf(query, escape(now.UTC().Format(time.RFC3339)), escape(now.UTC().AddDate(0, 0, publishedDays).Format(time.RFC3339)))
		}
		file := PublishedFile{Type: kind.typ}
		var content bytes.Buffer
		for page := query + "&_sort=_id&_count=1000"; page != "" && file.Count < maxPublished; {
			resp, err := s.search(everything(ctx), Request{Interaction: SearchType, Type: kind.typ, Query: page})
			if err != nil {
				return nil, err
			}
			page = ""
			for _, link := range resp.Bundle.Links {
				if link.Relation == "next" {
					_, page, _ = strings.Cut(link.URL, "?")
				}
			}
			for _, e := range resp.Bundle.Entries {
				if e.Mode != "match" || file.Count >= maxPublished {
					continue
				}
				n, err := fhir.ParseJSON(e.Version.Content)
				if err != nil {
					return nil, err
				}
				if n.Get("meta").Get("security") != nil {
					continue // labelled: not for everybody
				}
				if e.Version.LastUpdated.After(p.Changed) {
					p.Changed = e.Version.LastUpdated
				}
				shown := fhir.Obj(fhir.Str(kind.typ).As("resourceType"), fhir.Str(e.Version.ID).As("id"))
				for i := range n.Kids {
					if slices.Contains(kind.elements, n.Kids[i].Name) {
						shown.Kids = append(shown.Kids, n.Kids[i])
					}
				}
				content.Write(append(shown.JSON(), '\n'))
				file.Count++
			}
		}
		file.Content = content.Bytes()
		sum.Write(file.Content)
		p.Files = append(p.Files, file)
	}
	p.Tag = hex.EncodeToString(sum.Sum(nil)[:8])
	return p, nil
}
