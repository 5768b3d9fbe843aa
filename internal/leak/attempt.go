package leak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources"
)

// attempt is a write that touches something that its caller cannot read, and the same write of what does not exist.
type attempt struct {
	kind           string
	ask, other     Ask
	hidden, absent string // what each of them touches: Type/id
	// refused says that nothing may come of it.
	refused bool
	// visible says that all that it names the caller may read: then it may be done, and there is no other to compare with.
	visible bool
}

// never is the id that nothing has.
const never = "no-such-resource-anywhere"

// writer is the session of a caller who writes.
type writer struct {
	*session
	r *rand.Rand
	// types are those of the sample that the caller may write at all, by what it may do.
	types map[resources.Interaction][]string
	// strangers are patients whom the caller cannot read.
	strangers []*fhir.Node
	// calls are the operations that it may run at all.
	calls []call
}

// writes tries what a caller must not write; nil where all is refused as it has to be.
func (v *session) writes(ctx context.Context, o Options, r *rand.Rand) (*Finding, error) {
	who := v.who
	// A scope that lets read lets write here: what is looked for is what scopes alone do not keep away.
	text := strings.NewReplacer(".rs", ".cruds", ".read", ".*").Replace(who.Scopes.String())
	who.Scopes, _ = auth.ParseScopes(text)
	w := &writer{session: &session{service: o.Rehearsal, world: v.world, who: who, report: v.report, proof: o.Proof, proven: o.Proof != nil && r.IntN(4) > 0, reads: map[string]bool{}}, r: r}
	if err := w.probe(ctx); err != nil {
		return nil, err
	}
	if err := w.meet(ctx); err != nil {
		return nil, err
	}
	if err := w.may(ctx); err != nil {
		return nil, err
	}
	kinds := []func(context.Context) (*attempt, error){w.changed, w.placed, w.changed, w.bundled, w.placed, w.linked, w.changed, w.repeated}
	r.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	n := (o.Requests + 3) / 4
	strangers := n + len(w.strangers)
	for i := range strangers + n/2 { // each kind in its turn, then each stranger: nothing is left out by chance; and then operations
		var a *attempt
		var err error
		switch {
		case i < n:
			a, err = kinds[i%len(kinds)](ctx)
		case i < strangers:
			a, err = w.made(ctx, w.strangers[i-n], "create in a record", true)
		default:
			a, err = w.operated(ctx, i-strangers)
		}
		if err != nil {
			return nil, err
		}
		if a == nil {
			continue
		}
		v.report.Tried[a.kind]++
		if found, err := w.found(ctx, a); found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}

// found is try, made sure of.
func (w *writer) found(ctx context.Context, a *attempt) (*Finding, error) {
	problem := ""
	for range 3 { // others may write at the same time
		var err error
		if problem, err = w.try(ctx, a); err != nil {
			return nil, fmt.Errorf("%s: %w", a.ask, err)
		}
		if problem == "" {
			return nil, nil
		}
		if clear(w.reads); a.visible {
			continue
		}
		if readable, err := w.readable(ctx, a.hidden); err != nil || readable {
			return nil, err
		}
	}
	return &Finding{w.who.String(), a.kind + ": " + a.ask.String() + w.how(), problem}, nil
}

// probe finds out which types the caller may write: without a body the request fails, but later.
func (w *writer) probe(ctx context.Context) error {
	w.types = map[resources.Interaction][]string{}
	for _, i := range []resources.Interaction{resources.Create, resources.Update, resources.Delete} {
		for _, typ := range w.world.types {
			a := Ask{Request: resources.Request{Interaction: i, Type: typ}}
			if i != resources.Create {
				a.ID = never
			}
			_, err := w.as(ctx, w.who, a)
			switch kind := fhir.KindOf(err); {
			case err != nil && (kind == fhir.Internal || kind == fhir.Transient):
				return err
			case err == nil || kind != fhir.Forbidden:
				w.types[i] = append(w.types[i], typ)
			}
		}
	}
	return nil
}

// try makes both requests of an attempt, and says what is wrong with the answers.
func (w *writer) try(ctx context.Context, a *attempt) (string, error) {
	resp, err := w.asks(ctx, a.ask)
	if kind := fhir.KindOf(err); err != nil && kind == fhir.Internal {
		return "", err
	}
	if problem, err := w.tells(ctx, a, resp, err); problem != "" || err != nil || a.visible {
		return problem, err
	}
	if a.refused {
		if came(resp, err) {
			return "it is done, and " + a.hidden + " is nothing that this caller can read", nil
		}
		w.report.Refused++
	}
	other, otherErr := w.asks(ctx, a.other)
	if kind := fhir.KindOf(otherErr); otherErr != nil && kind == fhir.Internal {
		return "", otherErr
	}
	x, y := outcome(resp, err, a.hidden), outcome(other, otherErr, a.absent)
	if x != y {
		return "the answer is another one for " + a.hidden + ", which a read does not show, than for what does not exist", nil
	}
	return "", nil
}

// came says whether something came of a write.
func came(resp *resources.Response, err error) bool {
	if err != nil || resp == nil {
		return false
	}
	if resp.Version != nil || resp.Created || resp.Deleted > 0 || resp.Resource != nil {
		return true
	}
	return resp.Bundle != nil && slices.ContainsFunc(resp.Bundle.Entries, func(e resources.Entry) bool { return e.Version != nil || came(e.Response, e.Err) })
}

// made7 are ids of the form that the server makes.
var made7 = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)

// sent are the criteria of the request, and the beginnings of other texts of it, that a message repeats.
var sent = regexp.MustCompile(`criteria \\"[^"\\]*\\"|\\"[^"\\]*…\\"`)

// outcome is what an answer to a write tells, but for the content, which is what was sent, and what is new each time.
func outcome(resp *resources.Response, err error, about string) string {
	var b strings.Builder
	if err != nil {
		fmt.Fprintf(&b, "refused: %s\n", describe(err))
	}
	told(&b, resp)
	_, id, _ := strings.Cut(about, "/")
	text := strings.NewReplacer(about, "…", "_id="+id, "_id=…", `\"`+id+`\"`, "…").Replace(b.String())
	return sent.ReplaceAllString(made7.ReplaceAllString(text, "new"), "…") // after that: about may be of the server's making too
}

func told(b *strings.Builder, resp *resources.Response) {
	if resp == nil {
		return
	}
	fmt.Fprintf(b, "created %t unchanged %t deleted %d\n", resp.Created, resp.Unchanged, resp.Deleted)
	issues(b, resp.Issues)
	if resp.Version != nil {
		fmt.Fprintf(b, "version %d\n", resp.Version.Number)
	}
	if resp.Bundle == nil {
		return
	}
	for _, e := range resp.Bundle.Entries {
		fmt.Fprintf(b, "entry %s\n", e.Interaction)
		if e.Err != nil {
			fmt.Fprintf(b, "refused: %s\n", describe(e.Err))
		}
		told(b, e.Response)
	}
}
