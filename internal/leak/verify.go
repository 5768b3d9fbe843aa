package leak

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources"
	"kiln/storage"
)

// Options say how much Verify tries.
type Options struct {
	Seed uint64
	// Callers is how many callers ask, Requests how many requests each makes. Where the context has an end, each has its share of the time.
	Callers, Requests int
	Accounts          []Account
	// Rehearsal is a service on a store that rolls back whatever is written (storage.Options.Rehearse); nil: no writes are
	// tried. Of each caller they are a quarter as many as Requests, and half as many operations more.
	Rehearsal *resources.Service
	// Proof is that of an access token that holds, anew for each request: most requests ask with it, as those of clients do, and so are answered by
	// the statements that look at no views where they can be. nil: none does. What a caller may see, reads without one say.
	Proof func() *storage.Proof
	// Open has a practitioner, by id, see at once what there is of the patients in treatment, where that is to be (storage.Store.OpenTreated), and says of how
	// many. Before the first read of a patient none of the caller's is answered so. nil: it is left to the reads.
	Open func(ctx context.Context, p *storage.Proof, practitioner string) (int, error)
}

// Report is what was tried and found.
type Report struct {
	Callers map[string]int // by what they are
	Asked   map[string]int // by interaction or operation
	Tried   map[string]int // writes, by what they try
	// Shown are the entries of answers that were checked, Hidden the resources that a caller could not read and whose absence
	// was compared with that of one that is missing. Skipped are answers too long to compare in full. Refused are the writes
	// that had to be refused, and were.
	Shown, Hidden, Skipped, Refused int
	// Proven are the requests that asked with a token.
	Proven int
	// Opened are the patients whose records were opened to practitioners beforehand.
	Opened   int
	Findings []Finding
}

// Finding is one answer that told more, or less, than reads do. It holds ids and no other data of patients.
type Finding struct{ Caller, Ask, Problem string }

// Verify asks for callers of all kinds, and compares each answer with what the same caller can read one by one.
func Verify(ctx context.Context, s *resources.Service, w *World, o Options) (*Report, error) {
	report := &Report{Callers: map[string]int{}, Asked: map[string]int{}, Tried: map[string]int{}}
	r := rand.New(rand.NewPCG(o.Seed, 0))
	if len(w.types) == 0 {
		return report, nil
	}
	callers := w.Callers(r, o.Accounts, o.Callers)
	for caller, who := range callers {
		if ctx.Err() != nil {
			break
		}
		report.Callers[who.Name]++
		v := &session{service: s, world: w, who: who, report: report, proof: o.Proof, reads: map[string]bool{}}
		if typ, id := who.Self(); typ == "Practitioner" && o.Open != nil && o.Proof != nil {
			n, err := o.Open(ctx, o.Proof(), id)
			if err != nil && ctx.Err() == nil {
				return report, err
			}
			report.Opened += n
		}
		parts := []func(context.Context, Options, *rand.Rand) (*Finding, error){v.requests}
		if o.Rehearsal != nil {
			parts = append(parts, v.writes)
		}
		turn, end := share(ctx, len(callers)-caller)
		for i, part := range parts {
			within, done := share(turn, len(parts)-i)
			found, err := part(within, o, rand.New(rand.NewPCG(o.Seed, uint64(2*caller+i)+1)))
			over := within.Err() != nil
			if done(); err != nil && !over {
				end()
				return report, err
			}
			if found != nil {
				report.Findings = append(report.Findings, *found)
			}
		}
		if end(); len(report.Findings) >= maxFindings {
			break
		}
	}
	return report, nil
}

// share is for one of n who are still to come: a part of the time that is left.
func share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	deadline, bounded := ctx.Deadline()
	if !bounded {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(n))
}

// requests makes the requests that read, until one tells what it must not: the next are most often the same.
func (v *session) requests(ctx context.Context, o Options, r *rand.Rand) (*Finding, error) {
	for i := range o.Requests {
		if ctx.Err() != nil {
			return nil, nil
		}
		ask := v.world.Read(r)
		if like, ok := v.world.like(r, v.who); ok && i < likeSelf {
			ask = like
		}
		v.report.Asked[ask.kind()]++
		if v.proven = r.IntN(4) > 0 && o.Proof != nil; v.proven {
			v.report.Proven++
		}
		problem, err := v.settled(ctx, ask)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", ask, err)
		case problem == "":
			continue
		}
		ask = Shrink(ask, func(a Ask) bool { p, err := v.settled(ctx, a); return err == nil && p != "" })
		if again, err := v.settled(ctx, ask); err == nil && again == "" {
			continue // the data has changed meanwhile
		} else if err == nil {
			problem = again
		}
		return &Finding{v.who.String(), ask.String() + v.how(), problem}, nil
	}
	return nil, nil
}

const maxFindings = 20

// likeSelf is how many requests of a caller whom a scope opens its own resource alone are reads of others of that type: among all others they
// would be too few to tell.
const likeSelf = 3

// like reads a resource of the type of who asks, where the scope fhirUser opens that.
func (w *World) like(r *rand.Rand, who Caller) (Ask, bool) {
	typ, _ := who.Self()
	n := w.of(r, typ)
	if n == nil || !who.ReadsSelf() {
		return Ask{}, false
	}
	return Ask{Request: resources.Request{Interaction: resources.Read, Type: typ, ID: n.ID()}}, true
}

func (a Ask) kind() string {
	if a.Interaction == resources.Operate {
		return "$" + a.Operation
	}
	if a.Compartment != "" {
		return "compartment"
	}
	return string(a.Interaction)
}

// session is one caller who asks.
type session struct {
	service *resources.Service
	world   *World
	who     Caller
	report  *Report
	reads   map[string]bool
	// proof is Options.Proof, proven whether the caller asks with one.
	proof  func() *storage.Proof
	proven bool
}

// how says how the caller asks.
func (v *session) how() string {
	if v.proven {
		return " with a token"
	}
	return ""
}

// settled is check, made sure of: where others write at the same time, what was seen a moment ago may be gone.
func (v *session) settled(ctx context.Context, a Ask) (problem string, err error) {
	for range 3 {
		if problem, err = v.check(ctx, a); problem == "" || err != nil {
			return problem, err
		}
		clear(v.reads)
	}
	return problem, nil
}

// as is the answer to anybody, without a token: the rule's.
func (v *session) as(ctx context.Context, who Caller, a Ask) (*resources.Response, error) {
	a.Principal = who.Principal
	return v.service.Do(ctx, a.request())
}

// asks is the answer to the caller, asked as clients do where it is proven.
func (v *session) asks(ctx context.Context, a Ask) (*resources.Response, error) {
	if v.proven {
		ctx = storage.WithProof(ctx, v.proof())
	}
	return v.as(ctx, v.who, a)
}

// check says what is wrong with the answer to a; "" for nothing. An error is one of the server.
func (v *session) check(ctx context.Context, a Ask) (string, error) {
	resp, err := v.asks(ctx, a)
	switch fhir.KindOf(err) {
	case fhir.Internal, fhir.Transient, fhir.Unauthenticated: // the last says that the token does not hold any more
		if err != nil {
			return "", err
		}
	}
	if a.Interaction == resources.Read {
		readable, readErr := v.readable(ctx, a.Type+"/"+a.ID)
		if shown := err == nil || fhir.KindOf(err) == fhir.Gone; readErr != nil || shown != readable {
			return fmt.Sprintf("a read%s shows %s/%s: %t, and the rule: %t", v.how(), a.Type, a.ID, shown, readable), readErr
		}
	}
	if a.ID != "" {
		if problem, err := v.missing(ctx, a, Answer(resp, err)); problem != "" || err != nil {
			return problem, err
		}
	}
	if err != nil {
		return "", nil
	}
	if problem, err := v.shown(ctx, resp); problem != "" || err != nil {
		return problem, err
	}
	switch {
	case a.Interaction == resources.SearchType || a.Interaction == resources.SearchSystem:
		return v.search(ctx, a)
	case strings.HasPrefix(string(a.Interaction), "history"), a.Interaction == resources.Operate && a.Operation == "everything" && a.ID != "" && a.Type != "Group":
		return v.listed(ctx, a)
	}
	return "", nil
}

// shown says what an answer shows that a read refuses.
func (v *session) shown(ctx context.Context, resp *resources.Response) (string, error) {
	if resp == nil {
		return "", nil
	}
	if resp.Version != nil {
		if problem, err := v.mayRead(ctx, versionKeyOf(resp)); problem != "" || err != nil {
			return problem, err
		}
	}
	if resp.Bundle == nil {
		return "", nil
	}
	for _, e := range resp.Bundle.Entries {
		if e.Version != nil {
			v.report.Shown++
			key := e.Version.Type + "/" + e.Version.ID
			if resp.Bundle.Type == "history" {
				key += fmt.Sprintf("/_history/%d", e.Version.Number)
			}
			if problem, err := v.mayRead(ctx, key); problem != "" || err != nil {
				return problem, err
			}
		}
		if problem, err := v.shown(ctx, e.Response); problem != "" || err != nil {
			return problem, err
		}
	}
	return "", nil
}

func versionKeyOf(resp *resources.Response) string {
	return fmt.Sprintf("%s/%s/_history/%d", resp.Version.Type, resp.Version.ID, resp.Version.Number)
}

func (v *session) mayRead(ctx context.Context, key string) (string, error) {
	switch readable, err := v.readable(ctx, key); {
	case err != nil:
		return "", err
	case !readable:
		return "it shows " + key + ", which a read refuses", nil
	}
	if resource, _, _ := strings.Cut(key, "/_history/"); !v.who.opens(resource) {
		return "it shows " + key + ", and so does a read, which no scope of the caller is about", nil
	}
	return "", nil
}

// readable says whether a plain read shows a resource, Type/id, or a version of one.
func (v *session) readable(ctx context.Context, key string) (bool, error) {
	return v.readableBy(ctx, v.who, key)
}

// findable says whether searches and histories of more than one resource may show what readable is about: what the scope fhirUser opens is for
// reads alone.
func (v *session) findable(ctx context.Context, key string) (bool, error) {
	who := v.who
	if resource, _, _ := strings.Cut(key, "/_history/"); resource == who.FHIRUser {
		who.Scopes = slices.DeleteFunc(slices.Clone(who.Scopes), func(s auth.Scope) bool { return s.Text == "fhirUser" })
	}
	return v.readableBy(ctx, who, key)
}

// readableBy is readable for the caller with some of the scopes.
func (v *session) readableBy(ctx context.Context, who Caller, key string) (bool, error) {
	known := fmt.Sprint(len(who.Scopes), " ", key)
	if is, ok := v.reads[known]; ok {
		return is, nil
	}
	parts := strings.Split(key, "/")
	a := Ask{Request: resources.Request{Interaction: resources.Read, Type: parts[0], ID: parts[1]}}
	if len(parts) == 4 {
		a.Interaction, a.Version = resources.VRead, parts[3]
	}
	_, err := v.as(ctx, who, a)
	switch kind := fhir.KindOf(err); {
	case err == nil || kind == fhir.Gone:
		v.reads[known] = true
	case kind == fhir.NotFound || kind == fhir.Forbidden || kind == fhir.Unauthenticated:
		v.reads[known] = false
	default:
		return false, err
	}
	return v.reads[known], nil
}

// missing compares the answer about a resource that the caller cannot read with that about one that does not exist.
func (v *session) missing(ctx context.Context, a Ask, answer string) (string, error) {
	key := a.Type + "/" + a.ID
	if readable, err := v.readable(ctx, key); err != nil || readable {
		return "", err
	}
	if public, err := v.public(ctx, a); err != nil || public {
		return "", err
	}
	v.report.Hidden++
	other := a
	other.ID = never
	resp, err := v.asks(ctx, other)
	if strings.ReplaceAll(answer, key, "…") != strings.ReplaceAll(Answer(resp, err), other.Type+"/"+other.ID, "…") {
		return "the answer is another one for " + key + ", which a read does not show, than for what does not exist", nil
	}
	return "", nil
}

// public says whether an operation asks about the codes of a definition that the server has built in: what those say is no
// secret of whoever may read their type, though granular scopes leave out the resource.
func (v *session) public(ctx context.Context, a Ask) (bool, error) {
	if a.Interaction != resources.Operate || a.Type != "ValueSet" && a.Type != "CodeSystem" && a.Type != "ConceptMap" {
		return false, nil
	}
	read := Ask{Request: resources.Request{Interaction: resources.Read, Type: a.Type, ID: a.ID}}
	if _, err := v.as(ctx, v.who, read); err != nil && fhir.KindOf(err) == fhir.Forbidden {
		return false, nil
	}
	resp, err := v.as(ctx, Caller{Principal: operator}, read)
	switch fhir.KindOf(err) {
	case fhir.NotFound, fhir.Gone:
		if err != nil {
			return false, nil
		}
	}
	return err == nil && resp.Version.Method == storage.MethodOfficial, err
}

// Summary is what was tried, in lines.
func (r *Report) Summary() []string {
	count := func(m map[string]int, what string) string {
		var parts []string
		n := 0
		for _, name := range slices.Sorted(maps.Keys(m)) {
			n += m[name]
			parts = append(parts, fmt.Sprintf("%d %s", m[name], name))
		}
		return fmt.Sprintf("%d %s: %s", n, what, strings.Join(parts, ", "))
	}
	lines := []string{count(r.Callers, "callers"), count(r.Asked, "requests"),
		fmt.Sprintf("%d of them with a token, as clients ask, the others without", r.Proven),
		fmt.Sprintf("%d records were opened to practitioners beforehand, as their reads do", r.Opened),
		fmt.Sprintf("%d resources and versions in answers were read one by one", r.Shown),
		fmt.Sprintf("%d times a resource that the caller cannot read was compared with one that does not exist", r.Hidden),
		fmt.Sprintf("%d answers were too long to be compared whole; what they show was read", r.Skipped)}
	if len(r.Tried) == 0 {
		return append(lines, "no writes were tried")
	}
	return append(lines, count(r.Tried, "writes were tried on what a caller cannot read, and on what does not exist, and rolled back"),
		fmt.Sprintf("%d of them had to be refused, and were", r.Refused))
}
