package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"

	"kiln/storage/fold"
)

// searchset is what is checked of the answer of a search.
type searchset struct {
	ResourceType, Type string
	Total              *int
	Link               []struct{ Relation, URL string }
	Entry              []struct {
		Resource struct {
			ResourceType, ID, Gender, BirthDate, EffectiveDateTime, Status, Start string
			Subject                                                               struct{ Reference string }
			Code                                                                  struct{ Coding []struct{ Code string } }
			Name                                                                  []struct{ Family string }
		}
		Search struct{ Mode string }
	}
}

func readSearchset(body []byte) (*searchset, error) {
	set := &searchset{}
	if err := json.Unmarshal(body, set); err != nil {
		return nil, err
	}
	if set.ResourceType != "Bundle" || set.Type != "searchset" {
		return nil, fmt.Errorf("no searchset: %.200s", body)
	}
	return set, nil
}

// found checks a searchset: at least least matches, and each as match says.
func found(least int, match func(*searchset, int) bool) func([]byte) error {
	return func(body []byte) error {
		set, err := readSearchset(body)
		if err != nil {
			return err
		}
		n := 0
		for i := range set.Entry {
			if set.Entry[i].Search.Mode != "match" {
				continue
			}
			if n++; match != nil && !match(set, i) {
				return fmt.Errorf("entry %d does not match: %+v", i, set.Entry[i].Resource)
			}
		}
		if n < least {
			return fmt.Errorf("%d matches, fewer than %d", n, least)
		}
		return nil
	}
}

const (
	selectiveGrowth   = 1.15
	unselectiveGrowth = 1.3
	ceilingOfSearch   = 0.60
)

// shapes makes the scenarios of searches from queries with words in capitals, for which something that is there is put.
type shapes struct {
	sample *sample
	list   []scenario
}

func (s *shapes) add(sc scenario, ask func(*rand.Rand) (path string, check func([]byte) error)) *scenario {
	sc.group, sc.growth = "search", unselectiveGrowth
	if sc.selective {
		sc.growth = selectiveGrowth
	}
	sc.kiln = func(random *rand.Rand) request {
		path, check := ask(random)
		return get("/fhir/"+path, check)
	}
	s.list = append(s.list, sc)
	return &s.list[len(s.list)-1]
}

func (s *shapes) observations(name string, selective bool, query string, match func(observation, *searchset, int) bool) *scenario {
	return s.add(scenario{name: name, selective: selective}, func(random *rand.Rand) (string, func([]byte) error) {
		o := pick(random, s.sample.observations)
		return o.fill(query), found(1, func(set *searchset, i int) bool { return match == nil || match(o, set, i) })
	})
}

func (o observation) fill(query string) string {
	return strings.NewReplacer("PATIENT", "Patient/"+o.patient, "CODE", url.QueryEscape(o.system+"|"+o.code), "CATEGORY", o.category,
		"VALUE", o.value, "DATE", o.date[:10], "MONTH", o.date[:7]).Replace(query)
}

func (s *shapes) patients(name string, selective bool, query string, match func(patient, *searchset, int) bool) *scenario {
	q := url.QueryEscape
	return s.add(scenario{name: name, selective: selective}, func(random *rand.Rand) (string, func([]byte) error) {
		p := pick(random, s.sample.patients)
		path := strings.NewReplacer("PREFIX", q(p.family[:min(4, len(p.family))]), "PART", q(p.family[1:min(6, len(p.family))]), "FAMILY", q(p.family),
			"IDENTIFIER", q(p.system+"|"+p.identifier), "GENDER", p.gender, "BIRTH", p.birth, "YEAR", p.birth[:4]).Replace(query)
		return path, found(1, func(set *searchset, i int) bool { return match == nil || match(p, set, i) })
	})
}

// searches are the shapes of searches: those whose answer does not grow with the data are selective. Pages of five are those
// of which 10,000 resources seldom fill one of twenty.
func (s *sample) searches() []scenario {
	q := url.QueryEscape
	const selective, unselective = true, false
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
	named := func(part func(string) string) func(patient, *searchset, int) bool {
		return func(p patient, set *searchset, i int) bool {
			for _, n := range set.Entry[i].Resource.Name {
				if strings.Contains(fold.String(n.Family), fold.String(part(p.family))) { // accents do not count
					return true
				}
			}
			return false
		}
	}
	list := &shapes{sample: s}

	byPatient := list.observations("patient + code, by date", selective, "Observation?patient=PATIENT&code=CODE&_sort=-date", func(o observation, set *searchset, i int) bool {
		sorted := i == 0 || set.Entry[i-1].Resource.EffectiveDateTime[:7] >= set.Entry[i].Resource.EffectiveDateTime[:7]
		return ofPatient(o, set, i) && ofCode(o, set, i) && sorted
	})
	byPatient.ratio, byPatient.ceiling = ceilingOfSearch, func(random *rand.Rand) request {
		o := pick(random, s.observations)
		return get("/search?patient="+o.patient+"&system="+q(o.system)+"&code="+o.code, found(1, func(set *searchset, i int) bool { return ofPatient(o, set, i) }))
	}
	list.observations("patient + category", selective, "Observation?patient=PATIENT&category=CATEGORY", ofPatient)
	byIdentifier := list.patients("identifier", selective, "Patient?identifier=IDENTIFIER", func(p patient, set *searchset, i int) bool { return set.Entry[i].Resource.ID == p.id })
	byIdentifier.ratio, byIdentifier.ceiling = ceilingOfSearch, func(random *rand.Rand) request {
		p := pick(random, s.patients)
		return get("/identifier?system="+q(p.system)+"&value="+q(p.identifier), found(1, func(set *searchset, i int) bool { return set.Entry[i].Resource.ID == p.id }))
	}
	list.patients("family name, whole", selective, "Patient?family=FAMILY", named(func(f string) string { return f }))
	if len(s.appointments) > 0 {
		list.add(scenario{name: "practitioner + month + status", selective: true}, func(random *rand.Rand) (string, func([]byte) error) {
			a := pick(random, s.appointments)
			return "Appointment?practitioner=" + a.practitioner + "&date=" + a.start[:7] + "&status=" + a.status, found(1, func(set *searchset, i int) bool {
				r := &set.Entry[i].Resource
				return r.Status == a.status && r.Start[:7] == a.start[:7]
			})
		})
	}
	list.observations("chain by identifier", selective, "Observation?subject:Patient.identifier=IDENTIFIER&_count=20", nil).kiln = func(random *rand.Rand) request {
		p := pick(random, s.known)
		return get("/fhir/Observation?subject:Patient.identifier="+q(p.system+"|"+p.identifier), found(1, func(set *searchset, i int) bool {
			return set.Entry[i].Resource.Subject.Reference == "Patient/"+p.id
		}))
	}
	list.observations("_include", selective, "Observation?patient=PATIENT&code=CODE&_include=Observation:subject", ofPatient)
	list.patients("_revinclude", selective, "Patient?identifier=IDENTIFIER&_revinclude=Condition:patient", nil).kiln = func(random *rand.Rand) request {
		p := pick(random, s.known)
		return get("/fhir/Patient?identifier="+q(p.system+"|"+p.identifier)+"&_revinclude=Condition:patient", found(1, func(set *searchset, i int) bool {
			return set.Entry[i].Resource.ID == p.id
		}))
	}

	list.add(scenario{name: "$everything", selective: true}, func(random *rand.Rand) (string, func([]byte) error) {
		p := pick(random, s.known)
		return "Patient/" + p.id + "/$everything", has(`"Patient/` + p.id + `"`) // the records refer to it
	})
	list.add(scenario{name: "$everything, a page of 20", selective: true}, func(random *rand.Rand) (string, func([]byte) error) {
		p := pick(random, s.known)
		return "Patient/" + p.id + "/$everything?_count=20", has(`"Patient/` + p.id + `"`)
	})

	list.observations("code + value-quantity", unselective, "Observation?code=CODE&value-quantity=geVALUE", ofCode)
	list.deep("code + value-quantity, page 100", "Observation?code="+q(s.common.system+"|"+s.common.code)+"&value-quantity=gt0&_count=5", s.common, ofCode)
	list.observations("code, date range", unselective, "Observation?code=CODE&date=geMONTH&date=leMONTH&_count=5", ofCode)
	list.observations("date range", unselective, "Observation?date=MONTH", nil)
	list.patients("name prefix", unselective, "Patient?family=PREFIX", named(func(f string) string { return f[:min(4, len(f))] }))
	list.patients("name contains", unselective, "Patient?family:contains=PART", named(func(f string) string { return f[1:min(6, len(f))] }))
	list.patients("birthdate + gender, by name", unselective, "Patient?birthdate=geYEAR&gender=GENDER&_sort=family", func(p patient, set *searchset, i int) bool {
		r := &set.Entry[i].Resource
		return r.Gender == p.gender && r.BirthDate[:4] >= p.birth[:4]
	})
	list.patients("chain by name prefix", unselective, "Condition?subject:Patient.family=PREFIX", nil).kiln = func(random *rand.Rand) request {
		p := pick(random, s.known)
		return get("/fhir/Observation?subject:Patient.family="+q(p.family[:min(4, len(p.family))]), found(1, nil))
	}
	list.observations("_has", unselective, "Patient?_has:Observation:patient:code=CODE&_count=5", nil)
	list.add(scenario{name: "_lastUpdated"}, func(*rand.Rand) (string, func([]byte) error) {
		return "Observation?_lastUpdated=ge2020-01-01&_sort=-_lastUpdated", found(1, nil)
	})
	// A count cannot but grow with what it counts.
	list.observations("accurate total", unselective, "Observation?code=CODE&_total=accurate&_count=1", ofCode).growth = 0
	return list.list
}

// deep asks for the hundredth page of a search, or the last of fewer.
func (s *shapes) deep(name, path string, o observation, match func(observation, *searchset, int) bool) {
	link := ""
	s.add(scenario{name: name, setup: func(ctx context.Context, base string) error {
		link = base + "/fhir/" + path
		for range 99 {
			body, err := send(ctx, "", request{method: http.MethodGet, path: link, status: http.StatusOK})
			if err != nil {
				return err
			}
			set, err := readSearchset(body)
			if err != nil {
				return err
			}
			next := ""
			for _, l := range set.Link {
				if l.Relation == "next" {
					next = l.URL
				}
			}
			if next == "" {
				break
			}
			link = next
		}
		u, err := url.Parse(link)
		if err != nil {
			return err
		}
		link = strings.TrimPrefix(u.RequestURI(), "/fhir/")
		return nil
	}}, func(*rand.Rand) (string, func([]byte) error) {
		return link, found(1, func(set *searchset, i int) bool { return match(o, set, i) })
	})
}
