package terminology_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"kiln/fhir"
	"kiln/storage/terminology"
)

// large is a made-up code system: a tree of n codes, ten below each.
type large struct{ n int }

func (l large) Hash() []byte { return []byte{1} }

func (l large) About() *fhir.Node {
	n := fhir.Obj(str("resourceType", "CodeSystem"), str("url", "http://large"), str("valueSet", "http://large/all"), str("content", "complete"))
	return &n
}

var words = []string{"acute", "chronic", "severe", "mild", "left", "right", "upper", "lower", "fracture", "pain", "infection", "asthma", "burn"}

func (l large) Each(_ context.Context, do func(*terminology.Concept) error) error {
	for i := range l.n {
		c := terminology.Concept{Code: fmt.Sprintf("L%06d", i), Display: fmt.Sprintf("%s %s of %s %d", words[i%13], words[i/13%13], words[i/169%13], i)}
		if i > 0 {
			c.Parents = []string{fmt.Sprintf("L%06d", (i-1)/10)}
		}
		if err := do(&c); err != nil {
			return err
		}
	}
	return nil
}

func benchmark(b *testing.B, db *pgxpool.Pool, ask func(ctx context.Context, r *terminology.Resolver) error) {
	ctx := context.Background()
	for b.Loop() {
		if err := ask(ctx, terminology.NewResolver(terminology.Direct{Connection: db}, terminology.Options{})); err != nil {
			b.Fatal(err)
		}
	}
}

func benchDB(b *testing.B) *pgxpool.Pool {
	db := official(b)
	if _, _, err := terminology.Load(context.Background(), db, large{100_000}, func(int) {}); err != nil {
		b.Fatal(err)
	}
	return db
}

func BenchmarkTerminology(b *testing.B) {
	db := benchDB(b)
	set := func(n string) *fhir.Node { s, _ := fhir.ParseJSON([]byte(n)); return s }
	subtree := set(`{"resourceType":"ValueSet","compose":{"include":[{"system":"http://large","filter":[{"property":"concept","op":"is-a","value":"L000012"}]}]}}`)
	expand := func(n *fhir.Node, url string, o terminology.ExpandOptions, want int64) func(context.Context, *terminology.Resolver) error {
		return func(ctx context.Context, r *terminology.Resolver) (err error) {
			var s *terminology.Set
			if n != nil {
				s, err = r.SetOf(ctx, n)
			} else {
				s, err = r.Set(ctx, url)
			}
			if err != nil {
				return err
			}
			x, err := r.Expand(ctx, s, o)
			if err == nil && x.Total < want {
				err = fmt.Errorf("total %d", x.Total)
			}
			return err
		}
	}
	for _, c := range []struct {
		name string
		ask  func(context.Context, *terminology.Resolver) error
	}{
		{"validate_in_official_set", func(ctx context.Context, r *terminology.Resolver) error {
			s, err := r.Set(ctx, "http://hl7.org/fhir/ValueSet/administrative-gender")
			if err != nil {
				return err
			}
			_, err = r.Validate(ctx, s, terminology.Coding{System: "http://hl7.org/fhir/administrative-gender", Code: "male"}, "")
			return err
		}},
		{"validate_in_subtree_of_100000", func(ctx context.Context, r *terminology.Resolver) error {
			s, err := r.SetOf(ctx, subtree)
			if err != nil {
				return err
			}
			f, err := r.Validate(ctx, s, terminology.Coding{System: "http://large", Code: "L012345"}, "")
			if err == nil && !f.Member {
				err = fmt.Errorf("no member")
			}
			return err
		}},
		{"lookup", func(ctx context.Context, r *terminology.Resolver) error {
			s, err := r.NeedSystem(ctx, "http://large", "")
			if err == nil {
				_, err = r.Lookup(ctx, s, "L012345", "")
			}
			return err
		}},
		{"subsumes", func(ctx context.Context, r *terminology.Resolver) error {
			s, err := r.NeedSystem(ctx, "http://large", "")
			if err == nil {
				_, _, err = r.Subsumption(ctx, s, "L000012", "L012345")
			}
			return err
		}},
		{"expand_official_set", expand(nil, "http://hl7.org/fhir/ValueSet/administrative-gender", terminology.ExpandOptions{Count: -1}, 4)},
		{"expand_subtree_of_100000_page", expand(subtree, "", terminology.ExpandOptions{Count: 20}, 100)},
		{"expand_subtree_with_filter", expand(subtree, "", terminology.ExpandOptions{Count: 20, Filter: "asth"}, 10)},
		{"expand_all_with_filter", expand(nil, "http://large/all", terminology.ExpandOptions{Count: 20, Filter: "chr asth 12"}, 10)},
		{"expand_all_page", expand(nil, "http://large/all", terminology.ExpandOptions{Count: 20}, 100_000)},
	} {
		b.Run(c.name, func(b *testing.B) { benchmark(b, db, c.ask) })
	}
}
