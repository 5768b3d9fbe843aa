package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

func pick[T any](random *rand.Rand, list []T) T { return list[random.IntN(len(list))] }

// has checks that an answer holds a text.
func has(text string) func([]byte) error {
	want := []byte(text)
	return func(body []byte) error {
		if !bytes.Contains(body, want) {
			return fmt.Errorf("no %q in the answer: %.300s", text, body)
		}
		return nil
	}
}

func get(path string, check func([]byte) error) request {
	return request{method: http.MethodGet, path: path, status: http.StatusOK, check: check}
}

// writes are the scenarios that read and change single resources.
func (s *sample) writes() []scenario {
	id := func(random *rand.Rand) string { return pick(random, s.observations).id }
	with := func(id, marker string) []byte {
		prefix := `{`
		if id != "" {
			prefix = `{"id":"` + id + `",`
		}
		return append([]byte(prefix+`"language":"`+marker+`",`), s.template[1:]...)
	}
	return []scenario{
		{name: "read", kiln: func(random *rand.Rand) request {
			id := id(random)
			return get("/fhir/Observation/"+id, has(id))
		}, ceiling: func(random *rand.Rand) request {
			id := id(random)
			return get("/read?id="+id, has(id))
		}},
		{name: "create", writes: true, kiln: func(*rand.Rand) request {
			return request{method: "POST", path: "/fhir/Observation", body: with("", "en"), status: http.StatusCreated, check: has(`"versionId":"1"`)}
		}, ceiling: func(*rand.Rand) request {
			return request{method: "POST", path: "/create?n=1", body: s.template, status: http.StatusCreated, check: has("made 1")}
		}},
		{name: "update", writes: true, kiln: func(random *rand.Rand) request {
			id, marker := id(random), fmt.Sprintf("x-%08x", random.Uint32())
			return request{method: "PUT", path: "/fhir/Observation/" + id, body: with(id, marker), status: http.StatusOK, check: has(marker)}
		}, ceiling: func(random *rand.Rand) request {
			return request{method: "PUT", path: "/update?id=" + id(random), body: s.template, status: http.StatusOK, check: has("updated")}
		}},
		s.transaction(50), s.transaction(300),
	}
}

func (s *sample) transaction(n int) scenario {
	var body bytes.Buffer
	body.WriteString(`{"resourceType":"Bundle","type":"transaction","entry":[`)
	for i := range n {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `{"resource":%s,"request":{"method":"POST","url":"Observation"}}`, s.template)
	}
	body.WriteString("]}")
	return scenario{name: fmt.Sprintf("transaction of %d", n), writes: true, kiln: func(*rand.Rand) request {
		return request{method: "POST", path: "/fhir", body: body.Bytes(), status: http.StatusOK, check: func(answer []byte) error {
			if got := bytes.Count(answer, []byte(`"201`)); got != n {
				return fmt.Errorf("%d entries were created, not %d", got, n)
			}
			return nil
		}}
	}, ceiling: func(*rand.Rand) request {
		return request{method: "POST", path: fmt.Sprint("/create?n=", n), body: body.Bytes(), status: http.StatusCreated, check: has(fmt.Sprint("made ", n))}
	}}
}

// searchset is what is checked of the answer of a search.
type searchset struct {
	ResourceType, Type string
	Total              *int
	Entry              []struct {
		Resource struct {
			ResourceType, ID, Gender, BirthDate, EffectiveDateTime string
			Subject                                                struct{ Reference string }
			Code                                                   struct{ Coding []struct{ Code string } }
			Name                                                   []struct{ Family string }
			ValueQuantity                                          struct{ Value float64 }
		}
		Search struct{ Mode string }
	}
}

// found checks a searchset: at least least matches, and each as match says.
func found(least int, match func(*searchset, int) bool) func([]byte) error {
	return func(body []byte) error {
		var set searchset
		if err := json.Unmarshal(body, &set); err != nil {
			return err
		}
		if set.ResourceType != "Bundle" || set.Type != "searchset" {
			return fmt.Errorf("no searchset: %.200s", body)
		}
		n := 0
		for i := range set.Entry {
			if set.Entry[i].Search.Mode != "match" {
				continue
			}
			if n++; match != nil && !match(&set, i) {
				return fmt.Errorf("entry %d does not match: %+v", i, set.Entry[i].Resource)
			}
		}
		if n < least {
			return fmt.Errorf("%d matches, fewer than %d", n, least)
		}
		return nil
	}
}

// searches are the shapes of searches. Each asks for something that is there.
func (s *sample) searches() []scenario {
	q := url.QueryEscape
	search := func(name string, make func(*rand.Rand) (path string, check func([]byte) error)) scenario {
		return scenario{name: name, kiln: func(random *rand.Rand) request {
			path, check := make(random)
			return get("/fhir/"+path, check)
		}}
	}
	ofOne := func(name, query string, match func(observation, *searchset, int) bool) scenario {
		return search(name, func(random *rand.Rand) (string, func([]byte) error) {
			o := pick(random, s.observations)
			path := strings.NewReplacer("PATIENT", "Patient/"+o.patient, "CODE", q(o.system+"|"+o.code), "CATEGORY", o.category,
				"VALUE", o.value, "DATE", o.date[:10], "MONTH", o.date[:7]).Replace(query)
			return path, found(1, func(set *searchset, i int) bool { return match == nil || match(o, set, i) })
		})
	}
	ofPatient := func(o observation, set *searchset, i int) bool {
		return set.Entry[i].Resource.Subject.Reference == "Patient/"+o.patient
	}
	ofCode := func(o observation, set *searchset, i int) bool {
		for _, c := range set.Entry[i].Resource.Code.Coding {
			if c.Code == o.code {
				return true
			}
		}
		return false
	}
	byPatient := func(name, query string, match func(patient, *searchset, int) bool) scenario {
		return search(name, func(random *rand.Rand) (string, func([]byte) error) {
			p := pick(random, s.patients)
			path := strings.NewReplacer("PREFIX", q(p.family[:min(4, len(p.family))]), "PART", q(p.family[1:min(6, len(p.family))]), "FAMILY", q(p.family),
				"IDENTIFIER", q(p.system+"|"+p.identifier), "GENDER", p.gender, "BIRTH", p.birth, "YEAR", p.birth[:4]).Replace(query)
			return path, found(1, func(set *searchset, i int) bool { return match == nil || match(p, set, i) })
		})
	}
	list := []scenario{
		ofOne("patient + code, by date", "Observation?patient=PATIENT&code=CODE&_sort=-date", func(o observation, set *searchset, i int) bool {
			sorted := i == 0 || set.Entry[i-1].Resource.EffectiveDateTime[:7] >= set.Entry[i].Resource.EffectiveDateTime[:7]
			return ofPatient(o, set, i) && ofCode(o, set, i) && sorted
		}),
		ofOne("patient + category", "Observation?patient=PATIENT&category=CATEGORY", ofPatient),
		ofOne("code + value-quantity", "Observation?code=CODE&value-quantity=geVALUE", func(o observation, set *searchset, i int) bool {
			return ofCode(o, set, i)
		}),
		ofOne("code, date range", "Observation?code=CODE&date=geMONTH&date=leMONTH", ofCode),
		ofOne("date range", "Observation?date=MONTH", func(o observation, set *searchset, i int) bool {
			return set.Entry[i].Resource.EffectiveDateTime[:4] >= o.date[:4]
		}),
		byPatient("name prefix", "Patient?name=PREFIX", nil),
		byPatient("name contains", "Patient?family:contains=PART", nil),
		byPatient("identifier", "Patient?identifier=IDENTIFIER", func(p patient, set *searchset, i int) bool { return set.Entry[i].Resource.ID == p.id }),
		byPatient("birthdate + gender, by name", "Patient?birthdate=geYEAR&gender=GENDER&_sort=family", func(p patient, set *searchset, i int) bool {
			r := &set.Entry[i].Resource
			return r.Gender == p.gender && r.BirthDate >= p.birth[:4]
		}),
		byPatient("chain", "Observation?subject:Patient.identifier=IDENTIFIER", func(p patient, set *searchset, i int) bool {
			return set.Entry[i].Resource.Subject.Reference == "Patient/"+p.id
		}),
		ofOne("_has", "Patient?_has:Observation:patient:code=CODE&_count=20", nil),
		ofOne("_include", "Observation?patient=PATIENT&code=CODE&_include=Observation:subject", ofPatient),
		byPatient("_revinclude", "Patient?identifier=IDENTIFIER&_revinclude=Condition:patient", nil),
		search("_lastUpdated", func(*rand.Rand) (string, func([]byte) error) {
			return "Observation?_lastUpdated=ge2020-01-01&_sort=-_lastUpdated", found(1, nil)
		}),
		ofOne("accurate total", "Observation?code=CODE&_total=accurate&_count=1", ofCode),
	}
	list[0].ceiling = func(random *rand.Rand) request {
		o := pick(random, s.observations)
		return get("/search?patient="+o.patient+"&system="+q(o.system)+"&code="+o.code, has(o.patient))
	}
	list[7].ceiling = func(random *rand.Rand) request {
		p := pick(random, s.patients)
		return get("/identifier?system="+q(p.system)+"&value="+q(p.identifier), has(p.id))
	}
	return slices.Clip(list)
}
