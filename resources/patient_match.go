package resources

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/matching"
	"kiln/storage"
)

// Bounds of $match; docs/limits.md publishes them.
const (
	defaultMatches = 10
	maxMatches     = 100
	// maxCandidates is how many Patients one way of looking for candidates gives.
	maxCandidates = 200
)

// matchPatients answers Patient/$match: who of the Patients that the caller may search for is the person described, most
// likely first. Spec: FHIR R4 patient-operation-match.html.
//
// Errors: Forbidden for who may not search for Patients; Invalid where the Patient says nothing to go by.
func (s *Service) matchPatients(ctx context.Context, c *call) (*Response, error) {
	if err := permitted(ctx, auth.Search, "Patient"); err != nil {
		return nil, err
	}
	asked := c.resource("resource")
	if asked.ResourceType() != "Patient" {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeInvalid, "$match takes a Patient").At("Parameters.parameter")
	}
	person := matching.Read(asked)
	ways := waysToFind(person, asked)
	if len(ways) == 0 {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeRequired,
			"To find a person takes an identifier, a telephone number or e-mail address, a birth date with a name, or a family name with a given name").At("Patient")
	}
	type candidate struct {
		version *storage.Version
		score   float64
		grade   matching.Grade
	}
	var found []candidate
	var issues []fhir.Issue
	known := map[string]bool{}
	for _, way := range ways {
		resp, err := s.search(acting(ctx, auth.Search), Request{Interaction: SearchType, Type: "Patient", Principal: c.Principal,
			Query: way + "&_total=none&_count=" + strconv.Itoa(maxCandidates)})
		if err != nil {
			return nil, err
		}
		if len(resp.Bundle.Entries) == maxCandidates && issues == nil {
			issues = append(issues, fhir.Issue{Severity: fhir.SeverityInformation, Code: fhir.CodeTooCostly,
				Text: fmt.Sprintf("More than %d Patients may be meant; say more of the person to have all of them compared", maxCandidates)})
		}
		for _, e := range resp.Bundle.Entries {
			if e.Mode != "match" || known[e.Version.ID] {
				continue
			}
			known[e.Version.ID] = true
			n, err := fhir.ParseJSON(e.Version.Content)
			if err != nil {
				return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
			}
			if score, grade := matching.Score(person, matching.Read(n)); grade != matching.CertainlyNot {
				found = append(found, candidate{e.Version, score, grade})
			}
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(rank(a.grade), rank(b.grade)), cmp.Compare(b.score, a.score), cmp.Compare(a.version.ID, b.version.ID))
	})
	if c.is("onlyCertainMatches") {
		found = slices.DeleteFunc(found, func(x candidate) bool { return x.grade != matching.Certain })
		if len(found) > 1 {
			found = nil
			issues = append(issues, fhir.Issue{Severity: fhir.SeverityWarning, Code: fhir.CodeMultipleMatches,
				Text: "Several Patients match alike, so none is certain; they may be duplicates of each other"})
		}
	}
	most := defaultMatches
	if a := c.first("count"); a != nil {
		most = max(0, min(a.number(), maxMatches))
	}
	found = found[:min(len(found), most)]
	total := int64(len(found))
	answer := &Bundle{Type: "searchset", Total: &total, Issues: issues}
	for _, x := range found {
		answer.Entries = append(answer.Entries, Entry{Version: x.version, Mode: "match", Score: x.score, Grade: string(x.grade)})
	}
	return &Response{Bundle: answer}, nil
}

func rank(g matching.Grade) int {
	return slices.Index([]matching.Grade{matching.Certain, matching.Probable, matching.Possible}, g)
}

// waysToFind are the searches among whose results a person must be who is likely to be found: each is selective by
// itself.
func waysToFind(p matching.Person, asked *fhir.Node) []string {
	var ways []string
	for i := range asked.Get("identifier").Items() {
		if v := i.GetText("value"); v != "" && len(ways) < matching.MaxValues {
			ways = append(ways, "identifier="+searchValue(i.GetText("system"))+"|"+searchValue(v))
			if i.GetText("system") == "" {
				ways[len(ways)-1] = "identifier=" + searchValue(v)
			}
		}
	}
	contacts := 0
	for t := range asked.Get("telecom").Items() {
		if v := t.GetText("value"); v != "" && contacts < matching.MaxValues {
			ways = append(ways, "telecom="+searchValue(v))
			contacts++
		}
	}
	for _, family := range p.Family[:min(len(p.Family), 3)] {
		if p.Birth != "" {
			ways = append(ways, "family="+searchValue(family)+"&birthdate="+searchValue(p.Birth))
		}
		for _, given := range p.Given[:min(len(p.Given), 3)] {
			ways = append(ways, "family="+searchValue(family)+"&given="+searchValue(firstWord(given)))
		}
	}
	if p.Birth != "" {
		for _, given := range p.Given[:min(len(p.Given), 3)] {
			ways = append(ways, "given="+searchValue(firstWord(given))+"&birthdate="+searchValue(p.Birth))
		}
	}
	return ways
}

// searchValue is a value of a search as the query string has it: what is punctuation in a search is escaped.
func searchValue(v string) string {
	return escape(strings.NewReplacer(`\`, `\\`, `,`, `\,`, `|`, `\|`, `$`, `\$`).Replace(v))
}

func firstWord(s string) string {
	s, _, _ = strings.Cut(s, " ")
	return s
}
