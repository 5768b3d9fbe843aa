package load

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"kiln/resources"
)

// Result is what became of one file.
type Result struct {
	Path string
	// Before says that the file was imported completely by an earlier import; NotFHIR that it was passed over.
	Before, NotFHIR bool
	// Repeated is how many entries an earlier, interrupted import had done.
	Repeated int
	Types    map[string]Counts
	// Failures are what was refused; Err is why the file could not go on.
	Failures []Failure
	Failed   int // entries refused
	Err      error

	unit string // entry or line
}

// Counts are the resources of one type.
type Counts struct{ Created, Updated, Unchanged, Deleted int }

// Failure is one thing that is wrong with a file.
type Failure struct {
	Place      string // "entry 17", "line 3" or "" for the file
	Expression string // within the entry
	Text       string
}

// maxFailures is how many failures of a file are kept.
const maxFailures = 200

func (r *Result) count(e resources.Entry) {
	if r.Types == nil {
		r.Types = map[string]Counts{}
	}
	resp := e.Response
	if resp == nil || resp.Version == nil {
		return
	}
	c := r.Types[resp.Version.Type]
	switch {
	case e.Interaction == resources.Delete:
		c.Deleted += resp.Deleted
	case resp.Created:
		c.Created++
	case resp.Unchanged || e.Interaction == resources.Create:
		c.Unchanged++
	case e.Interaction == resources.Update || e.Interaction == resources.Patch:
		c.Updated++
	}
	r.Types[resp.Version.Type] = c
}

func (r *Result) fail(places []int, err error) {
	r.Failed += max(1, len(places))
	if room := maxFailures - len(r.Failures); room > 0 {
		found := issuesOf(err, places, r.unit)
		r.Failures = append(r.Failures, found[:min(room, len(found))]...)
	}
}

// OK says that everything in the file is in the database now.
func (r *Result) OK() bool { return r.Err == nil && r.Failed == 0 }

// Summary is what became of all files.
type Summary struct {
	Files []*Result
	Took  time.Duration
	// Unordered is why the texts of the index are not in their order. All files are in nevertheless, and servers put them in order, too.
	Unordered error
}

// Total adds up the files.
func (s *Summary) Total() (types map[string]Counts, all Counts) {
	types = map[string]Counts{}
	for _, f := range s.Files {
		for typ, c := range f.Types {
			t := types[typ]
			t.Created, t.Updated, t.Unchanged, t.Deleted = t.Created+c.Created, t.Updated+c.Updated, t.Unchanged+c.Unchanged, t.Deleted+c.Deleted
			types[typ] = t
			all.Created, all.Updated, all.Unchanged, all.Deleted = all.Created+c.Created, all.Updated+c.Updated, all.Unchanged+c.Unchanged, all.Deleted+c.Deleted
		}
	}
	return types, all
}

// Failed is the number of files with a failure.
func (s *Summary) Failed() (n int) {
	for _, f := range s.Files {
		if !f.OK() {
			n++
		}
	}
	return n
}

// Print writes the counts by type, and for each file what failed.
func (s *Summary) Print(out io.Writer) {
	types, all := s.Total()
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	if len(types) > 0 {
		fmt.Fprintln(table, "type\tcreated\tupdated\tunchanged\t")
		for _, typ := range slices.Sorted(maps.Keys(types)) {
			c := types[typ]
			fmt.Fprintf(table, "%s\t%d\t%d\t%d\t\n", typ, c.Created, c.Updated, c.Unchanged)
		}
		fmt.Fprintf(table, "total\t%d\t%d\t%d\t\n", all.Created, all.Updated, all.Unchanged)
		table.Flush()
	}
	before, passed := 0, 0
	for _, f := range s.Files {
		switch {
		case f.Before:
			before++
		case f.NotFHIR:
			passed++
			fmt.Fprintf(out, "%s: passed over, there is no FHIR resource in it\n", f.Path)
		case !f.OK():
			f.printFailures(out)
		}
	}
	done := len(s.Files) - before - passed - s.Failed()
	fmt.Fprintf(out, "%d files imported, %d imported before, %d failed", done, before, s.Failed())
	if n := all.Created + all.Updated + all.Unchanged; s.Took > 0 && n > 0 {
		fmt.Fprintf(out, "; %d resources in %.1f s, %.0f/s", n, s.Took.Seconds(), float64(n)/s.Took.Seconds())
	}
	fmt.Fprintln(out)
	if s.Unordered != nil {
		fmt.Fprintf(out, "the texts of the index are not in their order yet (%v): a running server puts them in order\n", s.Unordered)
	}
}

func (r *Result) printFailures(out io.Writer) {
	if r.Err != nil {
		fmt.Fprintf(out, "%s: stopped: %v\n", r.Path, r.Err)
	}
	for _, f := range r.Failures {
		place := strings.TrimSpace(f.Place + " " + f.Expression)
		fmt.Fprintf(out, "%s: %s: %s\n", r.Path, cmp.Or(place, "file"), f.Text)
	}
	if len(r.Failures) >= maxFailures {
		fmt.Fprintf(out, "%s: there are more failures; these are the first\n", r.Path)
	}
}
