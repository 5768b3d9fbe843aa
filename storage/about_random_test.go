package storage_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"kiln/fhir/search"
	"kiln/internal/kilntest"
	"kiln/storage"
	"kiln/storage/identity"
)

// relations are what searches read of the views of about.go, each with the same by the views of the rule.
var relations = [][2]string{
	{"SELECT rk FROM about_index ORDER BY rk", "SELECT rk FROM search_index ORDER BY rk"},
	{"SELECT rk FROM about_resource ORDER BY rk", "SELECT rk FROM resource ORDER BY rk"},
	{"SELECT rk FROM about_entry ORDER BY rk", "SELECT rk FROM search_index JOIN resource USING (rk) ORDER BY rk"},
	{"SELECT rk FROM about_code ORDER BY rk", "SELECT rk FROM search_code JOIN resource USING (rk) ORDER BY rk"},
}

// TestAbout_shows_what_the_rule_shows makes up records, labels, treatments, Consents and callers, and asks the same twice: by the whole rule,
// and in the ways that spare it. It does so a few times, and more often by go test ./storage -run TestAbout_shows -rapid.checks=N.
func TestAbout_shows_what_the_rule_shows(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	// One connection, so that what is said of one caller would be there for the next.
	s := openWith(t, storage.Options{URL: url, PoolSize: 1})
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	patients := []string{"p0", "p1", "p2", "p3"}
	var names, rows []string
	add := func(typ, id, rest string) {
		put(t, s, fmt.Sprintf(`{"resourceType":%q,"id":%q%s}`, typ, id, rest))
		names = append(names, typ+"/"+id)
	}
	for _, id := range patients {
		add("Patient", id, "")
	}
	for i, id := range patients {
		subject := `"subject":{"reference":"Patient/` + id + `"}`
		for j, category := range []string{"vital-signs", "laboratory", "vital-signs"} {
			name := fmt.Sprint("o", i, j)
			rows = append(rows, name)
			add("Observation", name, `,"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"`+category+`"}]}],`+
				`"code":{"coding":[{"system":"x","code":"y"}]},"performer":[{"reference":"Patient/p1"}],"hasMember":[{"reference":"Observation/o00"}],"effectiveDateTime":"2020-01-0`+fmt.Sprint(j+1)+`",`+subject)
		}
		add("Condition", fmt.Sprint("c", i), `,"code":{"coding":[{"system":"x","code":"z"}]},`+subject)
	}
	add("Organization", "clinic", "")
	add("Location", "room", "")
	add("Consent", "deny", `,"status":"active","scope":{},"category":[{}]`)
	if _, err := conn.Exec(t.Context(), "SET session_replication_role = replica"); err != nil {
		t.Fatal(err)
	}
	key := func(name string) int64 {
		typ, id, _ := strings.Cut(name, "/")
		return s.Hasher().Resource(typ, id)
	}
	keysOf := func(ids []string) (list []int64) {
		for _, id := range ids {
			list = append(list, key("Patient/"+id))
		}
		return list
	}
	token := make([]byte, 32)
	if err := s.Identity().EnsureGrant(t.Context(), &identity.Grant{ID: "g", Context: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Identity().AddToken(t.Context(), &identity.Token{Hash: token, Kind: identity.Access, Grant: "g", Expires: time.Now().Add(24 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	var granular []*search.Match
	for _, query := range []string{"category=vital-signs", "code=x|z", "status=final"} {
		q, err := parseQuery(s, "Observation", query)
		if err != nil {
			t.Fatal(err)
		}
		granular = append(granular, q.Where[0].(*search.Match))
	}
	persons := append(keysOf(patients), key("Practitioner/d0"), key("Practitioner/d1"))
	actors := []int64{key("Practitioner/d0"), key("Practitioner/d0"), key("Practitioner/d1"), key("PractitionerRole/r")}
	observation := s.Registry().TypeNumber("Observation")
	// A period that holds, mostly.
	period := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"'-infinity', 'infinity'", "'-infinity', 'infinity'", "'-infinity', 'infinity'", "now() - interval '1 hour', now() + interval '1 hour'",
			"'-infinity', now() - interval '1 hour'", "now() + interval '1 hour', 'infinity'"}).Draw(t, "period")
	})
	// A mask of labels: none, mostly.
	labels := rapid.Custom(func(t *rapid.T) int {
		return rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3, 4, 1 << 8, 1 << 9, 1<<8 | 1, 1<<8 | 1<<9}).Draw(t, "labels")
	})
	arrayOf := func(list []int64) string {
		return "'" + strings.NewReplacer("[", "{", "]", "}", " ", ",").Replace(fmt.Sprint(list)) + "'::bigint[]"
	}
	data := rapid.Custom(func(t *rapid.T) string {
		b := &strings.Builder{}
		b.WriteString("DELETE FROM treatment; DELETE FROM acting; DELETE FROM consent_rule; DELETE FROM withholding; DELETE FROM proxy; DELETE FROM patient_merge;")
		if rapid.IntRange(0, 3).Draw(t, "merged") == 3 {
			b.WriteString("INSERT INTO patient_merge (source, target) VALUES ('p2', 'p0');")
		}
		fmt.Fprintf(b, "UPDATE access_state SET consent_default = '%s', changed = changed + 1;", rapid.SampledFrom([]string{"permit", "permit", "permit", "deny"}).Draw(t, "default"))
		tidy := rapid.Bool().Draw(t, "tidy") // each in the record of its subject alone, and few labels
		for _, name := range names {
			compartments := "NULL"
			_, id, _ := strings.Cut(name, "/")
			of := strings.IndexAny(id, "0123") // the place of the number of its subject
			switch n := rapid.SampledFrom([]int{1, 3, 3, 2, 4, 0, -1}).Draw(t, name); {
			case tidy && of == 1:
				compartments = arrayOf([]int64{key("Patient/p" + id[1:2])})
			case n == 0 || n == 1 && strings.HasPrefix(name, "Organization"):
				compartments = "'{}'"
			case n > 0:
				compartments = arrayOf(rapid.SliceOfNDistinct(rapid.SampledFrom(persons), 1, max(1, n-1), rapid.ID[int64]).Draw(t, "compartments"))
			}
			mask := labels.Draw(t, "labels")
			if tidy && rapid.IntRange(0, 9).Draw(t, "labelled") > 0 {
				mask = 0
			}
			for _, table := range []string{"resource", "search_index"} {
				fmt.Fprintf(b, "UPDATE %s SET compartments = %s, labels = %d WHERE rk = %d;", table, compartments, mask, key(name))
			}
			if mask&(1<<8) != 0 && rapid.Bool().Draw(t, "until") {
				fmt.Fprintf(b, "INSERT INTO withholding VALUES (%d, now() + interval '%d hours');", key(name), rapid.SampledFrom([]int{-1, 1}).Draw(t, "hours"))
			}
		}
		for range rapid.IntRange(2, 8).Draw(t, "treatments") {
			p := period.Draw(t, "period")
			fmt.Fprintf(b, "INSERT INTO treatment VALUES (1, %d, %d, %d, %s, %s, %v);", rapid.SampledFrom([]int{1, 2, 0}).Draw(t, "kind"), rapid.SampledFrom(actors).Draw(t, "actor"),
				rapid.SampledFrom(persons).Draw(t, "patient"), p, p, rapid.SampledFrom([]bool{true, true, true, false}).Draw(t, "confirmed"))
		}
		// Rows become clear before Consents come or after them, and both change whose they are.
		clears := func(when string) {
			if rapid.Bool().Draw(t, when) {
				fmt.Fprintf(b, "SELECT count(treatment_opens('\\x%x', actor, patient)) FROM (SELECT DISTINCT actor, patient FROM treatment WHERE actor <> %d) k;", token, rapid.SampledFrom(actors).Draw(t, "but"))
			}
		}
		moves := func(table string) {
			if rapid.IntRange(0, 3).Draw(t, table+" moves") == 3 {
				fmt.Fprintf(b, "UPDATE %s SET patient = %d WHERE patient = %d;", table, rapid.SampledFrom(persons).Draw(t, "to"), rapid.SampledFrom(persons).Draw(t, "from"))
			}
		}
		clears("clear before")
		for range rapid.IntRange(0, 2).Draw(t, "roles") {
			fmt.Fprintf(b, "INSERT INTO acting VALUES (1, %d, %d, %s);", rapid.SampledFrom(actors[1:3]).Draw(t, "practitioner"), actors[3], period.Draw(t, "period"))
		}
		null := func(name, value string) string {
			if rapid.SampledFrom([]bool{true, true, false}).Draw(t, name) {
				return "NULL"
			}
			return value
		}
		for range rapid.SampledFrom([]int{1, 2, 0, 3}).Draw(t, "consents") {
			fmt.Fprintf(b, "INSERT INTO consent_rule VALUES (1, %d, %v, %d, %s, %s, %s, %s, %s);", rapid.SampledFrom(persons[:4]).Draw(t, "patient"), rapid.SampledFrom([]bool{true, true, false}).Draw(t, "deny"),
				rapid.IntRange(0, 2).Draw(t, "specificity"), period.Draw(t, "period"),
				null("any actor", arrayOf([]int64{rapid.SampledFrom(append(actors, key("RelatedPerson/mum"))).Draw(t, "actor")})), null("any type", fmt.Sprintf("'{%d}'", observation)),
				null("any label", fmt.Sprint(labels.Draw(t, "labels"))), null("any purpose", "'{TREAT}'"))
		}
		moves("consent_rule")
		moves("treatment")
		clears("clear after")
		if rapid.Bool().Draw(t, "proxy") {
			fmt.Fprintf(b, "INSERT INTO proxy VALUES (%d, %d, %s);", key("RelatedPerson/mum"), rapid.SampledFrom(persons[:4]).Draw(t, "patient"), period.Draw(t, "period"))
		}
		return b.String()
	})
	caller := rapid.Custom(func(t *rapid.T) *search.Restriction {
		r := &search.Restriction{Caller: "c", Consent: rapid.SampledFrom([]bool{true, true, true, false}).Draw(t, "consent")}
		patient := rapid.SampledFrom(patients)
		kind := rapid.SampledFrom([]string{"practitioner", "practitioner", "practitioner", "patient", "admin", "proxy", "system", "both"}).Draw(t, "kind")
		if kind == "patient" || kind == "proxy" || kind == "both" {
			r.Record = patient.Draw(t, "record")
			r.Roles = append(r.Roles, "patient")
			if rapid.IntRange(0, 3).Draw(t, "others") == 3 {
				r.Others = []search.Record{{Patient: patient.Draw(t, "other"), Proxy: rapid.SampledFrom([]string{"", "RelatedPerson/mum"}).Draw(t, "by")}}
			}
			r.Consent = kind == "both"
		}
		if kind == "proxy" {
			r.Proxy = "RelatedPerson/mum"
		}
		if kind == "practitioner" || kind == "both" {
			r.Self = rapid.SampledFrom([]string{"Practitioner/d0", "Practitioner/d0", "Practitioner/d1"}).Draw(t, "self")
		}
		if kind != "patient" && kind != "proxy" && kind != "both" {
			r.Roles = append(r.Roles, kind)
		}
		if rapid.IntRange(0, 2).Draw(t, "in context") == 2 {
			r.Context = patient.Draw(t, "context")
		}
		r.Purpose = rapid.SampledFrom([]string{"", "TREAT"}).Draw(t, "purpose")
		reaches := map[string][]search.Reach{"practitioner": {search.ReachTreated, search.ReachTreated, search.ReachShared, search.ReachSelf, search.ReachAny}, "admin": {search.ReachAny, search.ReachShared},
			"system": {search.ReachAny}, "patient": {search.ReachOwn, search.ReachShared}, "proxy": {search.ReachOwn, search.ReachShared},
			"both": {search.ReachOwn, search.ReachTreated, search.ReachShared, search.ReachAny}}[kind]
		types := []string{"Observation", "Condition", "Patient", "Organization", "Location", "Consent"}
		for range rapid.IntRange(1, 4).Draw(t, "rules") {
			rule := search.Rule{Types: rapid.SliceOfNDistinct(rapid.SampledFrom(types), 2, 6, rapid.ID[string]).Draw(t, "types"),
				Reach: rapid.SampledFrom(reaches).Draw(t, "reach"), Context: r.Context != "" && rapid.SampledFrom([]bool{true, true, false}).Draw(t, "by context")}
			if rapid.IntRange(0, 4).Draw(t, "granular") == 4 {
				rule.Types, rule.Where = []string{"Observation"}, []*search.Match{rapid.SampledFrom(granular).Draw(t, "where")}
			}
			r.Rules = append(r.Rules, rule)
		}
		if rapid.IntRange(0, 2).Draw(t, "reads itself") == 2 {
			r.User = rapid.SampledFrom([]string{"Organization/clinic", "Location/room", "Patient/p0", "Patient/p1", "Observation/o00", "Condition/c1"}).Draw(t, "user")
			typ, _, _ := strings.Cut(r.User, "/")
			r.Rules = append(r.Rules, search.Rule{Types: []string{typ}, Reach: search.ReachUser})
		}
		return r
	})
	ctx := t.Context()
	asked, plainly, clearly, shown, surely, referred, weighed, itself := 0, 0, 0, 0, 0, 0, 0, 0
	few := flag.Lookup("rapid.checks").Value.String() == flag.Lookup("rapid.checks").DefValue
	rapid.Check(t, func(t *rapid.T) {
		if few && asked >= 120 {
			return
		}
		if _, err := conn.Exec(ctx, data.Draw(t, "data")); err != nil {
			t.Fatal(err)
		}
		var unfit int
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM treatment k WHERE k.clear AND (NOT k.confirmed OR EXISTS (SELECT FROM consent_rule c WHERE c.patient = k.patient))").Scan(&unfit); err != nil || unfit > 0 {
			t.Fatalf("%d rows of treatment are clear, and their patients have a Consent: %v", unfit, err)
		}
		if err := conn.QueryRow(ctx, unfitOpened).Scan(&unfit); err != nil || unfit > 0 {
			t.Fatalf("%d rows of opened are there wrongly: %v", unfit, err)
		}
		if err := s.RefreshParameters(ctx); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			who := caller.Draw(t, "caller")
			of := rapid.SliceOfNDistinct(rapid.SampledFrom(patients), 1, 2, rapid.ID[string]).Draw(t, "about")
			a, err := s.Access(who)
			if err != nil {
				t.Fatal(err)
			}
			ctx := storage.WithAccess(ctx, a)
			asked++
			if s.Plainly(a, keysOf(of)) {
				plainly++
				for _, both := range relations {
					want, err := s.RuleRows(ctx, both[1])
					if err != nil {
						t.Fatal(err)
					}
					behind, atOnce, clear, err := s.AboutRows(ctx, keysOf(of), both[0])
					if err != nil {
						t.Fatal(err)
					}
					shown += len(want)
					if !slices.Equal(behind, want) || clear && !slices.Equal(atOnce, want) {
						t.Fatalf("%s\nin a batch: %v\nat once:    %v (%v)\nthe rule:   %v", both[0], behind, atOnce, clear, want)
					}
					if clear {
						clearly++
					}
				}
			}
			for _, patient := range patients {
				for _, query := range []string{"code=x|y&_sort=-date", "category=vital-signs", "status=final&code=x|y", ""} {
					weighed += sameByEvidence(t, s, ctx, token, "patient="+patient+"&"+query)
				}
			}
			for _, query := range []string{"code=x|y", "performer=Patient/p1", "_id=" + strings.Join(rows, ",")} { // of the own record, whatever it is
				weighed += sameByEvidence(t, s, ctx, token, query)
			}
			sameSearch(t, s, ctx, token, of, rapid.SampledFrom([]string{"code=x|y&_sort=-date", "category=vital-signs", "_id=" + strings.Join(rows, ","), "status=final&code=x|y", ""}).Draw(t, "query"))
			sameReads(t, s, ctx, token, rapid.SampledFrom(names).Draw(t, "name"))
			surely += sureReads(t, s, ctx, token, names)
			itself += ofUser(t, s, ctx, who)
			referred += sureReferred(t, s, ctx, keysOf(of))
		}
		// And nobody is left with anything of theirs.
		for _, both := range relations {
			for _, sql := range both {
				nobody, err := s.Access(&search.Restriction{})
				if err != nil {
					t.Fatal(err)
				}
				if keys, err := s.RuleRows(storage.WithAccess(ctx, nobody), sql); err != nil || len(keys) > 0 {
					t.Fatalf("nobody sees %v by %s, %v", keys, sql, err)
				}
			}
		}
	})
	if t.Logf("%d callers, %d plainly, %d statements of those who are clear, %d rows; %d sure reads, %d of what pages refer to, %d searches by evidence, %d callers who see no more than themselves beside", asked, plainly, clearly, shown, surely, referred, weighed, itself); itself == 0 || weighed == 0 || clearly == 0 || shown == 0 || surely == 0 || referred == 0 {
		t.Error("nothing was looked at")
	}
}

// sameSearch compares what a search of patients finds, and whether something is withheld, with what it does in a transaction, which reads
// the views of the rule.
func sameSearch(t *rapid.T, s *storage.Store, ctx context.Context, token []byte, of []string, query string) {
	q, err := parseQuery(s, "Observation", "patient="+strings.Join(of, ",")+"&"+query)
	if err != nil {
		t.Fatal(err)
	}
	include := []search.Include{{Source: "Observation", Param: "subject"}, {Source: "Observation", Param: "performer"}, {Source: "Observation", Param: "has-member"}}
	find := func(ctx context.Context, tx *storage.Tx) (found []string, err error) {
		page, err := s.Search(ctx, tx, q, 100, nil)
		if err != nil {
			return nil, err
		}
		for _, v := range page.Matches {
			found = append(found, v.ID)
		}
		added, _, err := s.Include(ctx, tx, page.Matches, include, 100)
		for _, v := range added {
			found = append(found, "+"+v.Type+"/"+v.ID)
		}
		return found, err
	}
	beside, err := s.AskWithheld(ctx, of[0])
	if err != nil {
		t.Fatal(err)
	}
	proves := func(ctx context.Context) context.Context {
		return storage.WithProof(ctx, storage.NewProof(token, time.Now()))
	}
	got, err := find(proves(storage.WithQuestion(ctx, beside)), nil)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	if err := s.Write(ctx, func(tx *storage.Tx) (err error) {
		want, err = find(ctx, tx)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("patient=%s&%s finds %v, by the rule %v", of, query, got, want)
	}
	alone, err := s.AskWithheld(ctx, of[0])
	if err != nil {
		t.Fatal(err)
	}
	var is [2]bool
	for i, w := range []*storage.Withheld{beside, alone} {
		if is[i], err = s.Withholds(ctx, w); err != nil {
			t.Fatal(err)
		}
	}
	if is[0] != is[1] {
		t.Fatalf("of %s something is withheld: asked beside %q %v, by itself %v", of[0], query, is[0], is[1])
	}
}

// sameByEvidence compares what a search finds by evidence of its rows (weighed.go), where that is enough, with what it does in a transaction, and
// counts it. A statement that finds all rows plain shows no more.
func sameByEvidence(t *rapid.T, s *storage.Store, ctx context.Context, token []byte, query string) (n int) {
	q, err := parseQuery(s, "Observation", query)
	if err != nil {
		t.Fatal(err)
	}
	for _, forgetful := range []bool{false, true} {
		keys, ok, err := s.WeighedSearch(storage.WithProof(ctx, storage.NewProof(token, time.Now())), q, forgetful)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			continue
		}
		n++
		var want []int64
		if err := s.Write(ctx, func(tx *storage.Tx) error {
			want = nil
			page, err := s.Search(ctx, tx, q, 100, nil)
			if err != nil {
				return err
			}
			for _, v := range page.Matches {
				want = append(want, s.Hasher().Resource(v.Type, v.ID))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(keys, want) {
			t.Fatalf("%s: evidence (forgotten: %v) shows %v, the rule %v", query, forgetful, keys, want)
		}
	}
	return n
}

// sameReads compares a read with a token with one without.
func sameReads(t *rapid.T, s *storage.Store, ctx context.Context, token []byte, name string) {
	typ, id, _ := strings.Cut(name, "/")
	want, err := s.Read(ctx, typ, id)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Read(storage.WithProof(ctx, storage.NewProof(token, time.Now())), typ, id)
	if err != nil || (got == nil) != (want == nil) {
		t.Fatalf("%s with a token: %v, %v, without: %v", name, got, err, want)
	}
}

// ofUser says whether a caller sees, for ReachUser, the one resource that it does not without; and it never sees another for it.
func ofUser(t *rapid.T, s *storage.Store, ctx context.Context, who *search.Restriction) int {
	if who.User == "" {
		return 0
	}
	typ, id, _ := strings.Cut(who.User, "/")
	without := *who
	without.Rules = slices.DeleteFunc(slices.Clone(who.Rules), func(r search.Rule) bool { return r.Reach == search.ReachUser })
	a, err := s.Access(&without)
	if err != nil {
		t.Fatal(err)
	}
	more := 0
	for _, sql := range []string{"SELECT rk FROM resource", "SELECT rk FROM search_index", "SELECT rk FROM about_resource", "SELECT rk FROM about_index", "SELECT rk FROM resource_change"} {
		seen, err := s.RuleRows(ctx, sql)
		if err != nil {
			t.Fatal(err)
		}
		before, err := s.RuleRows(storage.WithAccess(ctx, a), sql)
		if err != nil {
			t.Fatal(err)
		}
		for _, rk := range before {
			if !slices.Contains(seen, rk) {
				t.Fatalf("%s: %d is hidden from who may read %s", sql, rk, who.User)
			}
		}
		for _, rk := range seen {
			switch {
			case slices.Contains(before, rk):
			case rk != s.Hasher().Resource(typ, id):
				t.Fatalf("%s: %d is shown to who may read %s", sql, rk, who.User)
			default:
				more = 1
			}
		}
	}
	return more
}

// sureReads compares what is read surely (surely.go) with the rule, and counts it. A statement that has forgotten its conditions shows no more.
func sureReads(t *rapid.T, s *storage.Store, ctx context.Context, token []byte, names []string) (n int) {
	for _, name := range names {
		typ, id, _ := strings.Cut(name, "/")
		shown, unconditionally, err := s.ReadSurely(ctx, storage.NewProof(token, time.Now()), typ, id)
		if err != nil {
			t.Fatal(err)
		}
		if !shown && !unconditionally {
			continue
		}
		n++
		if byRule, err := s.RuleRows(ctx, fmt.Sprintf("SELECT rk FROM resource WHERE rk = %d", s.Hasher().Resource(typ, id))); len(byRule) == 0 || err != nil {
			t.Fatalf("%s is shown surely (%v; without conditions %v), and not by the rule, %v", name, shown, unconditionally, err)
		}
	}
	return n
}

// sureReferred compares what is surely read of what pages refer to (surely_referred.go) with the rule, and counts it.
func sureReferred(t *rapid.T, s *storage.Store, ctx context.Context, patients []int64) int {
	shown, unconditionally, err := s.ReferredSurely(ctx, patients)
	if err != nil {
		t.Fatal(err)
	}
	byRule, err := s.RuleRows(ctx, "SELECT rk FROM resource")
	if err != nil {
		t.Fatal(err)
	}
	for _, rk := range append(shown, unconditionally...) {
		if !slices.Contains(byRule, rk) {
			t.Fatalf("%d is shown surely (%v; without conditions %v), and not by the rule, which shows %v", rk, shown, unconditionally, byRule)
		}
	}
	if !slices.Equal(shown, unconditionally) {
		t.Fatalf("the statement finds %v, and what may be shown is %v", shown, unconditionally)
	}
	return len(shown)
}
