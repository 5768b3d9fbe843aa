package leak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/resources"
	"kiln/storage"
)

// What a read shows without the rule (storage/surely.go) the rule shows too: in a database whose rule shows nothing at all, each caller reads
// no more than in one where it is whole. And most of what a caller sees is read so, where no Consents are to be weighed.
func TestSurely_shows_no_more_than_the_rule(t *testing.T) {
	t.Parallel()
	now := clock(time.Now().UTC().Truncate(time.Second))
	whole := kilntest.DB(t)
	s, store := open(t, whole, now.read, true, "")
	(&story{t: t, s: s, r: rand.New(rand.NewPCG(*seed, 0)), now: now.read()}).write()
	prove(t, store)
	store.Close()
	for name, prepare := range map[string]string{"as_it_is": "", "without_Consents": "DELETE FROM consent_rule"} {
		t.Run(name, func(t *testing.T) {
			seen := kilntest.Copy(t, whole)
			execute(t, seen, prepare)
			blind := kilntest.Copy(t, seen)
			execute(t, blind, `CREATE OR REPLACE VIEW visible.resource AS SELECT x.* FROM public.resource x WHERE false`)
			a, storeA := open(t, seen, now.read, false, "")
			defer storeA.Close()
			b, storeB := open(t, blind, now.read, false, "")
			defer storeB.Close()
			world := sample(t, a, storeA)
			for _, who := range callers() {
				shown, atOnce, hidden := 0, 0, 0
				// One token stands for all of them, one after the other.
				typ, id := who.Self()
				execute(t, blind, fmt.Sprintf("DELETE FROM opened; SELECT treatment_opens('\\x%x', actor, patient) FROM (SELECT DISTINCT actor, patient FROM treatment WHERE actor = %d) k",
					proofHash, storeB.Hasher().Resource(typ, id)))
				for _, v := range world.versions {
					if !v.current {
						continue
					}
					sees := func(s *resources.Service, ctx context.Context) bool {
						_, err := s.Do(ctx, resources.Request{Principal: who.Principal, Interaction: resources.Read, Type: v.typ, ID: v.id})
						return err == nil || fhir.KindOf(err) == fhir.Gone
					}
					byRule := sees(a, t.Context())
					surely := sees(b, storage.WithProof(t.Context(), storage.NewProof(proofHash, time.Now())))
					switch {
					case surely && !byRule:
						t.Errorf("%s reads %s/%s, which the rule hides", who.name, v.typ, v.id)
					case surely:
						atOnce++
					}
					if byRule {
						shown++
					} else {
						hidden++
					}
				}
				t.Logf("%s sees %d, %d of them at once; %d are hidden", who.name, shown, atOnce, hidden)
				switch who.name {
				case "patient", "patient by user scope", "doctor", "doctor in context", "admin", "backend":
					if prepare != "" && (atOnce <= shown/2 || hidden == 0) {
						t.Errorf("%s reads %d of %d at once, and %d are hidden", who.name, atOnce, shown, hidden)
					}
				}
			}
		})
	}
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}
