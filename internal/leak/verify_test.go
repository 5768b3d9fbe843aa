package leak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/conformance"
	"kiln/internal/kilntest"
	"kiln/resources"
	"kiln/storage"
)

// verified fills a database, breaks a rule of it by sql, and looks for leaks as the command does, tries times at most until
// there is one. writes says whether it tries writes too, which takes twice the time, and looks for one of them.
func verified(t *testing.T, sql string, requests, tries int, writes bool) (report *Report) {
	t.Helper()
	now := clock(time.Now().UTC().Truncate(time.Second))
	url := kilntest.DB(t)
	s, store := open(t, url, now.read, true, "")
	(&story{t: t, s: s, r: rand.New(rand.NewPCG(*seed, 1)), now: now.read()}).write()
	prove(t, store)
	store.Close()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	state := func() (text string) { // all versions, and the resources as they are
		t.Helper()
		if err := conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM resource_change) || ' ' || (SELECT md5(string_agg(r::text, '' ORDER BY rk)) FROM resource r) || ' ' ||
(SELECT count(*) FROM search_index) || ' ' || (SELECT count(*) FROM treatment)`).Scan(&text); err != nil {
			t.Fatal(err)
		}
		return text
	}
	before := state()
	defer func() {
		if state() != before {
			t.Error("it left something changed")
		}
	}()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	service := func(o storage.Options) (*resources.Service, *storage.Store) {
		o.URL, o.Base, o.Registry, o.PoolSize = url, base, registry, 2
		store, err := storage.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		s, err := resources.New(resources.Options{Store: store, Registry: registry, Base: base, MultipleDelete: true})
		if err != nil {
			t.Fatal(err)
		}
		return s, store
	}
	reader, readStore := service(storage.Options{ReadOnly: true})
	var rehearsal *resources.Service
	if writes {
		rehearsal, _ = service(storage.Options{Rehearse: true})
	}
	world, err := Sample(t.Context(), reader, registry, base, 40)
	if err != nil {
		t.Fatal(err)
	}
	for i := range tries {
		if report, err = Verify(t.Context(), reader, world, Options{Seed: *seed + uint64(i), Callers: 12, Requests: requests, Rehearsal: rehearsal,
			Proof: func() *storage.Proof { return storage.NewProof(proofHash, time.Now()) },
			Open: func(ctx context.Context, p *storage.Proof, practitioner string) (int, error) {
				n, _ := readStore.OpenTreated(ctx, p, practitioner, 100) // what is planted may keep it from that
				return n, nil
			},
			Accounts: []Account{{[]string{"practitioner", "admin"}, []string{"Practitioner/d0"}}, {[]string{"patient"}, []string{"Patient/p1"}}, {[]string{"patient"}, []string{"Patient/p0", "RelatedPerson/of-p1", "RelatedPerson/k3"}}}}); err != nil {
			t.Fatal(err)
		}
		if writes && wrote(report) || !writes && len(report.Findings) > 0 {
			break
		}
	}
	for _, f := range report.Findings {
		t.Logf("%s\n  %s\n  %s", f.Caller, f.Ask, f.Problem)
		if m := shownAndRefused.FindStringSubmatch(f.Problem); m != nil { // what a search goes by, and what a read goes by
			var rows string
			const sql = `SELECT to_jsonb(r)::text || E'\n' || coalesce(to_jsonb(x)::text, '') FROM resource r LEFT JOIN search_index x USING (rk) WHERE r.type = $1 AND r.id = $2`
			if err := conn.QueryRow(t.Context(), sql, m[1], m[2]).Scan(&rows); err != nil {
				rows = err.Error()
			}
			t.Log(rows)
		}
	}
	t.Log(strings.Join(report.Summary(), "\n"))
	return report
}

var shownAndRefused = regexp.MustCompile(`^it shows (\w+)/([^/,]+).*, which a read refuses$`)

// wrote says whether a finding is of a write.
func wrote(r *Report) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return r.Tried[strings.SplitN(f.Ask, ":", 2)[0]] > 0 })
}

func TestVerify(t *testing.T) {
	t.Parallel()
	// Some patients have no Consent, and only their records are opened.
	r := verified(t, "DELETE FROM consent_rule WHERE patient % 2 = 0", 80, 1, true)
	if len(r.Findings) > 0 {
		t.Error("it found what is not there")
	}
	if r.Shown < 500 || r.Hidden < 10 || len(r.Asked) < 10 || len(r.Callers) < 4 || r.Callers["parent"] == 0 || len(r.Tried) < 10 || r.Refused < 20 || r.Proven < 500 || r.Opened == 0 {
		t.Errorf("it tried too little: %+v", r)
	}
}

// Whatever hole there is in the rule, it is found; and what is told of it is no patient's data.
func TestVerify_finds(t *testing.T) {
	t.Parallel()
	// What the fixed statements read is another one than what the rule reads: of the table of a name there is a false copy, and the rule has the
	// true one, under another name. With a false row in the true one, nobody could tell.
	decoy := func(table, copy string) string {
		return `ALTER TABLE ` + table + ` RENAME TO true_` + table + `;
			DO $$ DECLARE f oid; BEGIN
				FOR f IN SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'visible' AND p.prokind = 'f' LOOP
					EXECUTE regexp_replace(pg_get_functiondef(f), '\m` + table + `\M', 'true_` + table + `', 'g');
				END LOOP;
			END $$;
			CREATE VIEW ` + table + ` AS ` + copy
	}
	// What is clear is opened to the token, for any practitioner who asks with it.
	opens := fmt.Sprintf(`; ALTER TABLE opened RENAME TO true_opened;
		CREATE VIEW opened AS SELECT '\x%x'::bytea AS token, actor, patient, 'infinity'::timestamptz AS expires, high AS until FROM treatment WHERE clear`, proofHash)
	const rule = `INSERT INTO role_policy (role, types, actions, reach) VALUES `
	for name, sql := range map[string]string{
		"writes_without_relationships":          `CREATE OR REPLACE VIEW visible.treated AS SELECT k.patient FROM public.treatment k`,
		"writes_of_any_record_by_practitioners": rule + `('practitioner', '{@patient}', 'u', 'any')`,
		"a_search_index_without_a_rule":         `CREATE OR REPLACE VIEW visible.search_index AS SELECT x.* FROM public.search_index x`,
		"versions_without_a_rule":               `CREATE OR REPLACE VIEW visible.resource_change AS SELECT x.* FROM public.resource_change x`,
		"reads_without_relationships":           `CREATE OR REPLACE FUNCTION visible.treats(compartments bigint[]) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT true'`,
		"the_own_resource_opens_its_type": `DO $$ DECLARE name text; BEGIN
			FOREACH name IN ARRAY '{resource,search_index}'::text[] LOOP
				EXECUTE 'CREATE OR REPLACE VIEW visible.' || name || ' AS ' || regexp_replace(pg_get_viewdef(('visible.' || name)::regclass), 'x\.rk = [^:]*kiln.user[^)]*\), ''''::text\)\)?::bigint', 'true');
			END LOOP;
		END $$`,
		"tokens_of_whom_everybody_treats": decoy("treatment", `SELECT 1::bigint AS source, 1::smallint AS kind, a.actor, p.rk AS patient, '-infinity'::timestamptz AS low, 'infinity'::timestamptz AS high, true AS confirmed, true AS clear
			FROM (SELECT DISTINCT actor FROM true_treatment) a CROSS JOIN (SELECT rk FROM resource WHERE type = 'Patient') p`) + opens,
		"tokens_of_who_is_clear_and_has_consents": `UPDATE treatment k SET clear = true WHERE k.ctid IN
			(SELECT DISTINCT ON (actor, patient) ctid FROM treatment WHERE confirmed AND low <= now() AND high > now() ORDER BY actor, patient)` + opens,
		"tokens_without_consents": decoy("consent_rule", `SELECT * FROM true_consent_rule WHERE false`),
		"reads_without_consents": `DO $$ BEGIN
			EXECUTE 'CREATE OR REPLACE VIEW visible.resource AS ' || replace(pg_get_viewdef('visible.resource'::regclass), 'FROM consent_rule', 'FROM (SELECT * FROM consent_rule WHERE false)');
		END $$`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ofWrites := strings.HasPrefix(name, "writes_")
			r := verified(t, sql, 60, 6, ofWrites)
			if len(r.Findings) == 0 {
				t.Error("it found nothing")
			}
			if strings.HasPrefix(name, "tokens_") && slices.ContainsFunc(r.Findings, func(f Finding) bool { return !strings.HasSuffix(f.Ask, " with a token") }) {
				t.Error("it found it without a token")
			}
			if ofWrites && !wrote(r) {
				t.Error("it found no write")
			}
			for _, f := range r.Findings {
				for _, word := range []string{"Amber", "Birch", "Cedar", "Dahlia", "Elder", "Fern"} {
					if strings.Contains(f.Ask+f.Problem, word) {
						t.Errorf("it tells patient data: %s: %s", f.Ask, f.Problem)
					}
				}
			}
		})
	}
}
