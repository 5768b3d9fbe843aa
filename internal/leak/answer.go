package leak

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"kiln/fhir"
	"kiln/resources"
	"kiln/storage"
)

// fresh is what differs from one asking to the next: what paging links carry, and names that the server makes up.
var fresh = regexp.MustCompile(`_cursor=[\w-]*|urn:uuid:[0-9a-f-]*`)

// Answer is everything that an answer tells, as one text.
func Answer(resp *resources.Response, err error) string {
	var b strings.Builder
	if err != nil {
		fmt.Fprintf(&b, "refused: %s\n", describe(err))
	}
	if resp != nil {
		write(&b, resp)
	}
	return fresh.ReplaceAllString(b.String(), "…")
}

func write(b *strings.Builder, resp *resources.Response) {
	fmt.Fprintf(b, "created %t unchanged %t not-modified %t deleted %d accepted %t expires %v\n", resp.Created, resp.Unchanged, resp.NotModified, resp.Deleted, resp.Accepted, resp.Expires)
	issues(b, resp.Issues)
	version(b, resp.Version)
	if resp.Resource != nil {
		fmt.Fprintf(b, "%s\n", resp.Resource.JSON())
	}
	if bundle := resp.Bundle; bundle != nil {
		fmt.Fprintf(b, "%s", bundle.Type)
		if bundle.Total != nil {
			fmt.Fprintf(b, " total %d", *bundle.Total)
		}
		b.WriteByte('\n')
		for _, l := range bundle.Links {
			fmt.Fprintf(b, "link %s %s\n", l.Relation, l.URL)
		}
		issues(b, bundle.Issues)
		for _, e := range bundle.Entries {
			fmt.Fprintf(b, "entry %s %g %s ", e.Mode, e.Score, e.Interaction)
			version(b, e.Version)
			if e.Err != nil {
				fmt.Fprintf(b, "refused: %s\n", describe(e.Err))
			}
			if e.Response != nil {
				write(b, e.Response)
			}
		}
	}
}

func version(b *strings.Builder, v *storage.Version) {
	if v != nil {
		fmt.Fprintf(b, "%s/%s/%d %s %t %s %s\n", v.Type, v.ID, v.Number, fhir.FormatInstant(v.LastUpdated), v.Deleted, v.Method, v.Content)
	}
}

func issues(b *strings.Builder, list []fhir.Issue) {
	for _, i := range list {
		fmt.Fprintf(b, "issue %s %s %s %v %q", i.Severity, i.Code, i.Detail, i.Expression, i.Text)
		for _, a := range i.Alternatives {
			fmt.Fprintf(b, " alternative %s", a.JSON())
		}
		b.WriteByte('\n')
	}
}

// describe is what an error tells its caller.
func describe(err error) string {
	var e *fhir.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "kind %d\n", e.Kind)
	issues(&b, e.Issues)
	return b.String()
}

// nextPage is the query of the next page; "" where there is none.
func nextPage(resp *resources.Response) string {
	if resp == nil || resp.Bundle == nil {
		return ""
	}
	for _, l := range resp.Bundle.Links {
		if l.Relation == "next" {
			_, query, _ := strings.Cut(l.URL, "?")
			return query
		}
	}
	return ""
}
