package resources

import (
	"fmt"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// The leaks that users of other servers report: lessons.md A.1, by number. 13 (iss and aud) is in auth/oauth/leak_test.go.
func TestLeaks(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	anna, ben := patientApp("anna", "patient/*.rs"), patientApp("ben", "patient/*.rs")
	treats := doctor("treats", "user/*.rs")

	t.Run("01_criteria_reveal_nothing", func(t *testing.T) {
		w := &ward{w.Service, t}
		// The same questions with a true and with a false answer about ben give the same.
		for _, q := range []string{
			"Observation?patient.name=%s", "Observation?subject:Patient.name=%s", "Observation?patient.identifier=urn:x|%s",
			"Patient?_has:Observation:patient:code=code-%s", "Patient?link:Patient.name=%s", "Patient?_filter=link.name eq %s",
			"Organization?_has:Patient:organization:name=%s", "Practitioner?_has:Patient:general-practitioner:_has:Observation:patient:code=code-%s",
		} {
			var answers []string
			for _, value := range []string{"berry", "ben", "b1", "nothing"} {
				typ, query, _ := strings.Cut(fmt.Sprintf(q, value), "?")
				for _, who := range []auth.Principal{anna, treats} {
					answers = append(answers, w.found(who, typ, strings.ReplaceAll(query, " ", "%20")))
				}
			}
			for _, a := range answers {
				if a != "" {
					t.Errorf("%s: %q", q, answers)
					break
				}
			}
		}
	})
	t.Run("02_includes_and_links", func(t *testing.T) {
		w := &ward{w.Service, t}
		for _, q := range []string{"Practitioner?_revinclude=Patient:general-practitioner", "Provenance?_include=*", "Provenance?_include:iterate=*&_include=Provenance:target",
			"Device?_include=Device:patient", "Patient?_revinclude=*", "Patient?_include=Patient:link&_revinclude:iterate=Patient:link", "Organization?_revinclude=Patient:organization&_revinclude:iterate=Observation:patient"} {
			typ, query, _ := strings.Cut(q, "?")
			for _, who := range []auth.Principal{anna, treats} {
				for _, id := range strings.Fields(w.found(who, typ, query)) {
					switch id {
					case "ben", "b1", "b2", "implant", "pb":
						t.Errorf("%s shows %s", q, id)
					}
				}
			}
		}
	})
	t.Run("03_granular_scopes_on_every_path", func(t *testing.T) {
		w := &ward{w.Service, t}
		p := patientApp("anna", "patient/Observation.rs?category=laboratory patient/Patient.rs patient/Provenance.rs")
		w.reads(p, ok, "Observation/a1")
		w.reads(p, fhir.NotFound, "Observation/a2", "Observation/b1")
		for q, want := range map[string]string{
			"Observation": "a1", "Observation?category=vital-signs": "", "Patient?_revinclude=Observation:patient": "anna a1",
			"Patient?_has:Observation:patient:code=code-a2": "", "Observation?_id=a2": "", "Provenance?_include=Provenance:target": "pa a1",
			"Provenance?target:Observation.code=code-a2": "",
		} {
			typ, query, _ := strings.Cut(q, "?")
			if got := w.found(p, typ, query); got != want {
				t.Errorf("%s: %q, want %q", q, got, want)
			}
		}
		for _, r := range []Request{{Interaction: HistoryType, Type: "Observation"}, {Interaction: HistorySystem}, {Interaction: SearchSystem, Query: "_type=Observation,Patient"},
			{Interaction: SearchSystem, Compartment: "Patient", CompartmentID: "anna"}} {
			r.Principal = p
			for _, e := range do(t, w.Service, r).Bundle.Entries {
				if e.Version.ID == "a2" || strings.HasPrefix(e.Version.ID, "b") {
					t.Errorf("%s shows %s", r.Interaction, e.Version.ID)
				}
			}
		}
	})
	t.Run("04_refused_before_it_is_looked_up", func(t *testing.T) {
		w := &ward{w.Service, t}
		p := patientApp("anna", "patient/Patient.rs")
		for _, id := range []string{"a1", "b1", "nothing"} {
			w.reads(p, fhir.Forbidden, "Observation/"+id)
		}
		var texts []string
		for _, id := range []string{"b1", "nothing"} {
			e := refused(t, w.Service, fhir.NotFound, Request{Principal: anna, Interaction: Read, Type: "Observation", ID: id})
			texts = append(texts, strings.ReplaceAll(describe(e), id, "ID"))
		}
		if texts[0] != texts[1] {
			t.Errorf("what is hidden and what is missing: %q", texts)
		}
	})
	t.Run("05_types_outside_of_compartments", func(t *testing.T) {
		w := &ward{w.Service, t}
		w.reads(anna, ok, "Practitioner/treats", "Organization/clinic", "Device/scanner")
		w.reads(anna, fhir.NotFound, "Device/implant")
		for _, typ := range []string{"Bundle", "MessageHeader", "Subscription", "Linkage", "Group"} { // in neither list
			if got := w.status(anna, Request{Interaction: SearchType, Type: typ}); got != fhir.Forbidden {
				t.Errorf("%s: kind %d", typ, got)
			}
		}
	})
	// That somebody is in a group, of who has a disease, say, neither what is written about the group tells, nor a file of it.
	t.Run("05_groups_lend_nobody", func(t *testing.T) {
		w := &ward{w.Service, t}
		w.put(`{"resourceType":"Group","id":"cohort","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/anna"}}]}`)
		w.put(`{"resourceType":"Provenance","id":"of-cohort","recorded":"2024-01-01T00:00:00Z","target":[{"reference":"Group/cohort"}],"agent":[{"who":{"display":"x"}}]}`)
		w.put(`{"resourceType":"Provenance","id":"of-both","recorded":"2024-01-01T00:00:00Z","target":[{"reference":"Group/cohort"},{"reference":"Observation/b1"}],"agent":[{"who":{"display":"x"}}]}`)
		w.put(`{"resourceType":"Binary","id":"of-cohort","contentType":"text/plain","data":"eA==","securityContext":{"reference":"Group/cohort"}}`)
		do(t, w.Service, Request{Principal: auth.Operator("test"), Interaction: Transaction, Body: parse(t, `{"resourceType":"Bundle","type":"transaction","entry":[
			{"fullUrl":"urn:uuid:7a5e2a5e-3b0c-4b61-9d43-0a6d3d1f3c11","resource":{"resourceType":"Group","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/anna"}}]},"request":{"method":"POST","url":"Group"}},
			{"resource":{"resourceType":"Provenance","id":"at-once","recorded":"2024-01-01T00:00:00Z","target":[{"reference":"urn:uuid:7a5e2a5e-3b0c-4b61-9d43-0a6d3d1f3c11"}],"agent":[{"who":{"display":"x"}}]},"request":{"method":"PUT","url":"Provenance/at-once"}}]}`)})
		for _, who := range []auth.Principal{anna, doctor("treats", "user/*.cruds")} {
			w.reads(who, fhir.NotFound, "Provenance/of-cohort", "Provenance/of-both", "Provenance/at-once", "Binary/of-cohort")
			if got := w.found(who, "Provenance", "target=Group/cohort"); got != "" {
				t.Errorf("%s finds %s", who.User, got)
			}
		}
		w.reads(admin("user/*.cruds"), ok, "Provenance/of-cohort", "Provenance/at-once")
	})
	t.Run("06_jobs_of_others", func(t *testing.T) {
		w := &ward{w.Service, t}
		for _, p := range []auth.Principal{anna, treats, backend("system/*.cruds")} {
			if got := w.status(p, Request{Interaction: Operate, Operation: "reindex"}); got != fhir.Forbidden {
				t.Errorf("$reindex: kind %d", got)
			}
		}
		for _, p := range []auth.Principal{anna, treats, admin("user/*.rs")} {
			if got := w.status(p, Request{Interaction: SearchType, Type: "Patient", Query: "_explain=true"}); got != fhir.Forbidden {
				t.Errorf("_explain: kind %d", got)
			}
		}
	})
	t.Run("07_scopes_take_plain_conditions_alone", func(t *testing.T) {
		w := &ward{w.Service, t}
		for _, query := range []string{"category:not=laboratory", "category:missing=true", "subject.name=Berry", "_has:Provenance:target:agent=x", "code:text=x", "category:in=http://x", "category=%61"} {
			list, faults := auth.ParseScopes("patient/Patient.rs patient/Observation.rs?" + query)
			if len(faults) != 1 {
				t.Errorf("%s: %v", query, faults)
			}
			p := patientApp("anna", "openid")
			p.Scopes = list
			w.reads(p, fhir.Forbidden, "Observation/a1", "Observation/a2")
		}
	})
	t.Run("08_missing_claims_fail_closed", func(t *testing.T) {
		w := &ward{w.Service, t}
		for name, p := range map[string]auth.Principal{
			"no_fhirUser":       {User: "u", Client: "a", Roles: []auth.Role{auth.RolePatient}, Patient: "anna", Scopes: scopes("patient/*.rs")},
			"no_patient":        {User: "u", Client: "a", Roles: []auth.Role{auth.RolePatient}, FHIRUser: "Patient/anna", Scopes: scopes("patient/*.rs")},
			"wrong_fhirUser":    {User: "u", Client: "a", Roles: []auth.Role{auth.RolePatient}, FHIRUser: "Practitioner/treats", Patient: "anna", Scopes: scopes("patient/*.rs")},
			"doctor_as_patient": {User: "u", Client: "a", Roles: []auth.Role{auth.RolePractitioner}, FHIRUser: "Patient/anna", Patient: "anna", Scopes: scopes("patient/*.rs user/*.rs")},
			"no_role":           {User: "u", Client: "a", FHIRUser: "Practitioner/treats", Scopes: scopes("user/*.rs")},
			"no_scope":          {User: "u", Client: "a", Roles: []auth.Role{auth.RoleAdmin}},
		} {
			if got := w.status(p, Request{Interaction: Read, Type: "Observation", ID: "a1"}); got == ok {
				t.Errorf("%s: read", name)
			}
		}
		closed, err := New(Options{Store: w.store, Registry: w.registry})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := closed.Do(t.Context(), Request{Interaction: Read, Type: "Organization", ID: "clinic"}); fhir.KindOf(err) != fhir.Unauthenticated {
			t.Errorf("nobody: %v", err)
		}
	})
	t.Run("09_links_belong_to_their_caller", func(t *testing.T) {
		w := &ward{w.Service, t}
		// A link is of use to nobody else.
		first := do(t, w.Service, Request{Principal: anna, Interaction: SearchType, Type: "Observation", Query: "_count=1"})
		next := ""
		for _, l := range first.Bundle.Links {
			if l.Relation == "next" {
				_, next, _ = strings.Cut(l.URL, "?")
			}
		}
		if next == "" {
			t.Fatal("no second page")
		}
		do(t, w.Service, Request{Principal: anna, Interaction: SearchType, Type: "Observation", Query: next})
		narrower := patientApp("anna", "patient/Observation.rs")
		for _, other := range []auth.Principal{ben, treats, narrower, auth.Operator("other")} {
			if got := w.status(other, Request{Interaction: SearchType, Type: "Observation", Query: next}); got != fhir.Invalid {
				t.Errorf("another caller's link: kind %d", got)
			}
		}
	})
	t.Run("10_no_parameter_passes_the_filter_by", func(t *testing.T) {
		w := &ward{w.Service, t}
		for _, q := range []string{"_id=b1", "_lastUpdated=gt2000", "_source:missing=true", "_tag:missing=true", "status=preliminary", "status:not=final", "date=2024-01-01", "date=ge2020",
			"code:missing=false", "_sort=_lastUpdated", "_sort=-date", "_sort=date", "_sort=code", "_sort=_id", "_total=accurate", "_text=x", "_filter=not%20(status%20eq%20final)", "patient=ben",
			"subject=Patient/ben,Patient/anna", "subject:identifier=urn:x|ben", "code:text=x", "_summary=count", "combo-code=code-b1",
			"code=http://loinc.org|code-b1", "code=http://loinc.org|code-b1&_summary=count", "code=http://loinc.org|code-b1&_sort=-date"} {
			r := do(t, w.Service, Request{Principal: anna, Interaction: SearchType, Type: "Observation", Query: q})
			for _, e := range r.Bundle.Entries {
				if !strings.HasPrefix(e.Version.ID, "a") {
					t.Errorf("%s shows %s", q, e.Version.ID)
				}
			}
			if r.Bundle.Total != nil && *r.Bundle.Total > 2 || r.Bundle.Total != nil && strings.Contains(q, "b1") && *r.Bundle.Total != 0 {
				t.Errorf("%s: total %d", q, *r.Bundle.Total)
			}
		}
	})
	t.Run("11_conditional_creates_do_not_collide", func(t *testing.T) {
		w := &ward{w.Service, t}
		make := func(p auth.Principal, patient string) string {
			body := parse(t, `{"resourceType":"Observation","status":"final","identifier":[{"system":"urn:m","value":"1"}],"code":{"text":"x"},"subject":{"reference":"Patient/`+patient+`"}}`)
			return do(t, w.Service, Request{Principal: p, Interaction: Create, Type: "Observation", Body: body, IfNoneExist: "identifier=urn:m|1"}).Version.ID
		}
		writes := "patient/*.cruds"
		bens, annas := make(patientApp("ben", writes), "ben"), make(patientApp("anna", writes), "anna")
		if bens == annas || make(patientApp("anna", writes), "anna") != annas {
			t.Errorf("the same criteria of two patients come to %s and %s", bens, annas)
		}
	})
	t.Run("12_relationships_judge_every_path", func(t *testing.T) {
		w := &ward{w.Service, t}
		later := &ward{newService(t, func(_ *Options, so *storage.Options) { so.Unrestricted = false }), t}
		later.put(`{"resourceType":"Patient","id":"cara"}`)
		later.put(observation("c1", "cara", "laboratory", "final"))
		who := doctor("d", "user/*.rs")
		later.reads(who, fhir.NotFound, "Patient/cara", "Observation/c1")
		later.put(`{"resourceType":"CareTeam","id":"t","status":"active","subject":{"reference":"Patient/cara"},"participant":[{"member":{"reference":"Practitioner/d"}}]}`)
		later.reads(who, ok, "Patient/cara", "Observation/c1")
		later.put(`{"resourceType":"CareTeam","id":"t","status":"inactive","subject":{"reference":"Patient/cara"},"participant":[{"member":{"reference":"Practitioner/d"}}]}`)
		later.reads(who, fhir.NotFound, "Patient/cara", "Observation/c1")
		later.put(`{"resourceType":"PractitionerRole","id":"r","practitioner":{"reference":"Practitioner/d"}}`)
		later.put(`{"resourceType":"Encounter","id":"e","status":"in-progress","class":{"code":"AMB"},"subject":{"reference":"Patient/cara"},"participant":[{"individual":{"reference":"PractitionerRole/r"}}]}`)
		later.reads(who, ok, "Observation/c1")
		do(t, later.Service, Request{Interaction: Delete, Type: "Encounter", ID: "e"})
		later.reads(who, fhir.NotFound, "Observation/c1")
		_ = w
	})
	t.Run("14_narratives_run_nothing", func(t *testing.T) {
		s := newService(t, checked(t))
		for _, div := range []string{"<script>x</script>", `<p onclick=\"x\">a</p>`, `<a href=\"javascript:x\">a</a>`, `<img src=\"x\" onerror=\"x\"/>`, "<iframe></iframe>", `<p style=\"background:url(javascript:x)\">a</p>`} {
			body := `{"resourceType":"Patient","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">` + div + `</div>"}}`
			refused(t, s, fhir.Unprocessable, Request{Interaction: Create, Type: "Patient", Body: parse(t, body)})
		}
	})
}

// What writes may not do, and what they may not tell.
func TestAccess_writing(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	anna := patientApp("anna", "patient/*.cruds")
	treats := doctor("treats", "user/*.cruds")
	write := func(p auth.Principal, do Interaction, id, body string) Request {
		n := parse(t, body)
		r := Request{Principal: p, Interaction: do, Type: n.ResourceType(), ID: id, Body: n}
		if id != "" {
			n.Set("id", fhir.Str(id))
		}
		return r
	}
	bare := func(patient, more string) string {
		return `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/` + patient + `"}` + more + `}`
	}
	for name, c := range map[string]struct {
		r    Request
		want fhir.Kind
	}{
		"patient_creates_own":             {write(anna, Create, "", bare("anna", "")), ok},
		"patient_creates_for_another":     {write(anna, Create, "", bare("ben", "")), fhir.Forbidden},
		"patient_creates_for_the_missing": {write(anna, Create, "", bare("nobody", "")), fhir.Forbidden},
		"patient_as_performer_only":       {write(anna, Create, "", bare("ben", `,"performer":[{"reference":"Patient/anna"}]`)), fhir.Forbidden},
		"patient_makes_patients":          {write(anna, Create, "", `{"resourceType":"Patient"}`), fhir.Forbidden},
		"patient_updates_own":             {write(anna, Update, "anna", `{"resourceType":"Patient","name":[{"family":"Apple"}],"gender":"female","generalPractitioner":[{"reference":"Practitioner/treats"}]}`), ok},
		"patient_updates_another":         {write(anna, Update, "ben", `{"resourceType":"Patient"}`), fhir.NotFound},
		"patient_updates_the_missing":     {write(anna, Update, "nobody", `{"resourceType":"Patient"}`), fhir.NotFound},
		"patient_deletes":                 {Request{Principal: anna, Interaction: Delete, Type: "Observation", ID: "a1"}, fhir.Forbidden},
		"patient_visit_with_another":      {write(anna, Create, "", `{"resourceType":"Appointment","status":"proposed","participant":[{"actor":{"reference":"Patient/anna"},"status":"accepted"},{"actor":{"reference":"Patient/ben"},"status":"accepted"}]}`), fhir.Forbidden},
		"patient_if_none_exist_sees_own": {func() Request {
			r := write(anna, Create, "", bare("anna", ""))
			r.IfNoneExist = "code=code-b1"
			return r
		}(), ok},
		"doctor_creates_for_treated":       {write(treats, Create, "", bare("anna", "")), ok},
		"doctor_creates_for_others":        {write(treats, Create, "", bare("ben", "")), fhir.Forbidden},
		"doctor_moves_out":                 {write(treats, Update, "a1", bare("ben", "")), fhir.Forbidden},
		"doctor_takes_over":                {write(treats, Update, "b1", bare("anna", "")), fhir.NotFound},
		"doctor_makes_a_missing_one":       {write(treats, Update, "fresh", bare("anna", "")), fhir.NotFound},
		"doctor_deletes":                   {Request{Principal: treats, Interaction: Delete, Type: "Observation", ID: "a1"}, fhir.Forbidden},
		"doctor_patches_others":            {Request{Principal: treats, Interaction: Patch, Type: "Observation", ID: "b1", JSONPatch: []byte(`[{"op":"test","path":"/status","value":"final"}]`)}, fhir.NotFound},
		"doctor_patches_out":               {Request{Principal: treats, Interaction: Patch, Type: "Observation", ID: "a2", JSONPatch: []byte(`[{"op":"replace","path":"/subject/reference","value":"Patient/ben"}]`)}, fhir.Forbidden},
		"doctor_by_criteria_of_others":     {Request{Principal: treats, Interaction: Patch, Type: "Observation", Query: "code=code-b1", JSONPatch: []byte(`[]`)}, fhir.NotFound},
		"doctor_with_a_stale_version":      {func() Request { r := write(treats, Update, "b1", bare("ben", "")); r.IfMatch = "7"; return r }(), fhir.Precondition},
		"doctor_with_a_version_of_nothing": {func() Request { r := write(treats, Update, "no", bare("ben", "")); r.IfMatch = "7"; return r }(), fhir.Precondition},
		"scope_rs_cannot_write":            {write(patientApp("anna", "patient/*.rs"), Create, "", bare("anna", "")), fhir.Forbidden},
		"granular_scope_binds_writes":      {write(patientApp("anna", "patient/Observation.c?category=laboratory"), Create, "", bare("anna", "")), fhir.Forbidden},
		"granular_scope_lets_write": {write(patientApp("anna", "patient/Observation.c?category=laboratory"), Create, "",
			bare("anna", `,"category":[{"coding":[{"code":"laboratory"}]}]`)), ok},
		"own_calendar":       {write(treats, Create, "", `{"resourceType":"Schedule","actor":[{"reference":"Practitioner/treats"}]}`), ok},
		"another's_calendar": {write(treats, Create, "", `{"resourceType":"Schedule","actor":[{"reference":"Practitioner/stranger"}]}`), fhir.Forbidden},
		"admin_clinical":     {write(admin("user/*.cruds"), Create, "", bare("anna", "")), fhir.Forbidden},
		"backend_upsert":     {write(backend("system/*.cruds"), Update, "bx", bare("ben", "")), ok},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := w.Do(t.Context(), c.r); err == nil && c.want != ok || err != nil && fhir.KindOf(err) != c.want {
				t.Errorf("%s, want kind %d", describe(err), c.want)
			}
		})
	}
	t.Run("transactions_entry_by_entry", func(t *testing.T) {
		for body, want := range map[string]fhir.Kind{
			transactionOf(entryOf("", "POST", "Observation", bare("anna", ""))):                                                                     ok,
			transactionOf(entryOf("", "POST", "Observation", bare("anna", "")), entryOf("", "POST", "Observation", bare("ben", ""))):                fhir.Forbidden,
			transactionOf(entryOf("", "POST", "Observation", bare("anna", "")), entryOf("", "GET", "Observation/b1", "")):                           fhir.NotFound,
			transactionOf(entryOf("", "PUT", "Observation/b1", strings.Replace(bare("anna", ""), "{", `{"id":"b1",`, 1))):                           fhir.NotFound,
			transactionOf(entryOf("", "DELETE", "Observation/a1", "")):                                                                              fhir.Forbidden,
			transactionOf(entryOf("", "POST", "Observation", strings.Replace(bare("anna", ""), "Patient/anna", "Patient?identifier=urn:x|ben", 1))): fhir.Precondition,
			transactionOf(entryOf("", "GET", "Patient/ben/Observation", ""), entryOf("", "GET", "Bundle", "")):                                      fhir.Forbidden,
		} {
			_, err := w.Do(t.Context(), Request{Principal: treats, Interaction: Transaction, Body: parse(t, body)})
			if err == nil && want != ok || err != nil && fhir.KindOf(err) != want {
				t.Errorf("%s\n%s, want kind %d", body, describe(err), want)
			}
		}
		batch := strings.Replace(transactionOf(entryOf("", "GET", "Observation/a1", ""), entryOf("", "GET", "Observation/b1", ""), entryOf("", "GET", "Bundle", ""),
			entryOf("", "GET", "Observation?_sort=_id", "")), "transaction", "batch", 1)
		list := do(t, w.Service, Request{Principal: patientApp("anna", "patient/*.rs"), Interaction: Batch, Body: parse(t, batch)}).Bundle.Entries
		if list[0].Err != nil || fhir.KindOf(list[1].Err) != fhir.NotFound || fhir.KindOf(list[2].Err) != fhir.Forbidden || list[3].Err != nil {
			t.Errorf("batch: %v, %v, %v, %v", list[0].Err, list[1].Err, list[2].Err, list[3].Err)
		}
	})
	t.Run("a_moved_record_takes_its_past_along", func(t *testing.T) {
		w := &ward{w.Service, t}
		moved := func(patient string) string {
			return `{"resourceType":"Flag","id":"m1","status":"active","code":{"text":"falls"},"subject":{"reference":"Patient/` + patient + `"}}`
		}
		w.put(moved("anna"))
		w.put(moved("ben")) // an operator corrects the patient
		for _, r := range []Request{{Interaction: Read}, {Interaction: VRead, Version: "1"}, {Interaction: HistoryInstance}} {
			r.Type, r.ID = "Flag", "m1"
			if got := w.status(anna, r); got != fhir.NotFound {
				t.Errorf("before the move: %s kind %d", r.Interaction, got)
			}
		}
		ben := patientApp("ben", "patient/*.rs")
		if w.status(ben, Request{Interaction: VRead, Type: "Flag", ID: "m1", Version: "1"}) != fhir.NotFound {
			t.Error("the version that was anna's shows")
		}
		r := do(t, w.Service, Request{Principal: ben, Interaction: HistoryInstance, Type: "Flag", ID: "m1"})
		if len(r.Bundle.Entries) != 1 || *r.Bundle.Total != 1 || r.Bundle.Entries[0].Version.Number != 2 {
			t.Errorf("history: %d of %d", len(r.Bundle.Entries), *r.Bundle.Total)
		}
	})
	t.Run("a_deleted_record_is_gone_for_those_who_knew_it", func(t *testing.T) {
		w := &ward{w.Service, t}
		w.put(observation("d1", "ben", "laboratory", "cancelled"))
		do(t, w.Service, Request{Interaction: Delete, Type: "Observation", ID: "d1"})
		if got := w.status(anna, Request{Interaction: Read, Type: "Observation", ID: "d1"}); got != fhir.NotFound {
			t.Errorf("another's: kind %d", got)
		}
		if got := w.status(patientApp("ben", "patient/*.rs"), Request{Interaction: Read, Type: "Observation", ID: "d1"}); got != fhir.Gone {
			t.Errorf("the own: kind %d", got)
		}
	})
	t.Run("replays_show_what_the_caller_may_see_now", func(t *testing.T) {
		w := &ward{w.Service, t}
		answers := func(patient, _ string) string {
			return `{"resourceType":"QuestionnaireResponse","status":"completed","subject":{"reference":"Patient/` + patient + `"}}`
		}
		r := write(anna, Create, "", answers("anna", ""))
		r.IdempotencyKey = "k"
		first := do(t, w.Service, r)
		again := write(anna, Create, "", answers("anna", ""))
		again.IdempotencyKey = "k"
		if second := do(t, w.Service, again); second.Version.ID != first.Version.ID {
			t.Errorf("made %s again", second.Version.ID)
		}
		other := write(patientApp("ben", "patient/*.cruds"), Create, "", answers("ben", ""))
		other.IdempotencyKey = "k"
		if third := do(t, w.Service, other); third.Version.ID == first.Version.ID {
			t.Error("another caller got the answer")
		}
		do(t, w.Service, Request{Interaction: Update, Type: "QuestionnaireResponse", ID: first.Version.ID, Body: parse(t, strings.Replace(answers("ben", ""), "{", `{"id":"`+first.Version.ID+`",`, 1))})
		late := write(anna, Create, "", answers("anna", ""))
		late.IdempotencyKey = "k"
		refused(t, w.Service, fhir.NotFound, late)
	})
}

// Consents and labels.
func TestAccess_consent_and_labels(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	treats, boss := doctor("treats", "user/*.rs"), admin("user/*.rs")
	anna := patientApp("anna", "patient/*.rs")
	consent := func(provision string) string {
		return `{"resourceType":"Consent","id":"c","status":"active","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],
"patient":{"reference":"Patient/anna"},"policyRule":{"text":"x"},"provision":` + provision + `}`
	}
	w.reads(treats, ok, "Observation/a1")
	w.put(consent(`{"type":"deny"}`))
	w.reads(treats, fhir.NotFound, "Observation/a1", "Patient/anna")
	w.reads(boss, fhir.NotFound, "Observation/a1")
	w.reads(boss, ok, "Observation/b1")
	w.reads(anna, ok, "Observation/a1", "Consent/c")
	if got := w.found(treats, "Observation", "_total=accurate"); got != "" {
		t.Errorf("search: %s", got)
	}
	w.put(consent(`{"type":"deny","provision":[{"type":"permit","actor":[{"role":{"text":"x"},"reference":{"reference":"Practitioner/treats"}}]}]}`))
	w.reads(treats, ok, "Observation/a1")
	w.reads(boss, fhir.NotFound, "Observation/a1")
	w.put(consent(`{"type":"permit","provision":[{"type":"deny","class":[{"system":"http://hl7.org/fhir/resource-types","code":"Observation"}]}]}`))
	w.reads(treats, fhir.NotFound, "Observation/a1")
	w.reads(treats, ok, "Patient/anna", "Encounter/ea")
	w.put(consent(`{"type":"deny","period":{"end":"2020-01-01"}}`))
	w.reads(treats, ok, "Observation/a1")
	w.put(consent(`{"type":"permit","provision":[{"type":"deny","code":[{"text":"something clinical"}]}]}`))
	w.reads(treats, fhir.NotFound, "Observation/a1") // what cannot be judged denies all
	w.put(consent(`{"type":"deny","provision":[{"type":"permit","code":[{"text":"something clinical"}]}]}`))
	w.reads(treats, fhir.NotFound, "Observation/a1")
	do(t, w.Service, Request{Interaction: Delete, Type: "Consent", ID: "c"})
	w.reads(treats, ok, "Observation/a1")

	labelled := func(code string) string {
		return strings.Replace(observation("a1", "anna", "laboratory", "final"), "{", `{"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-`+code+`"}]},`, 1)
	}
	w.put(strings.Replace(labelled(`Confidentiality","code":"R`), `""`, `"`, 1))
	w.reads2(treats, ok, "Observation/a1")
	w.reads2(boss, fhir.NotFound, "Observation/a1")
	w.put(labelled(`ActCode","code":"HIV`))
	w.reads2(treats, fhir.NotFound, "Observation/a1")
	w.reads2(anna, ok, "Observation/a1")
	w.reads2(backend("system/*.rs"), ok, "Observation/a1")
	w.put(labelled(`Confidentiality","code":"N`))
	w.reads2(boss, ok, "Observation/a1")
}

// reads2 is reads of the current version alone: earlier ones carry other labels.
func (w *ward) reads2(p auth.Principal, want fhir.Kind, key string) {
	w.t.Helper()
	typ, id, _ := strings.Cut(key, "/")
	if got := w.status(p, Request{Interaction: Read, Type: typ, ID: id}); got != want {
		w.t.Errorf("read %s: kind %d, want %d", key, got, want)
	}
}
