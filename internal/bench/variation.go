package bench

import (
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"time"

	"kiln/fhir"
)

// variation makes resources of one record into those of another patient.
type variation struct {
	population *population
	suffix     string
	days       int
	random     *rand.Rand
	ids        map[string]string // old reference → new one
	patient    *fhir.Node        // of the record; nil where it has none
}

func (p *population) variation(r record, number int, random *rand.Rand) *variation {
	v := &variation{population: p, suffix: "-" + strconv.Itoa(number), days: random.IntN(3650) - 1825, random: random, ids: map[string]string{}}
	for _, node := range r.resources {
		to := node.ResourceType() + "/" + node.ID() + v.suffix
		v.ids["urn:uuid:"+node.ID()], v.ids[node.ResourceType()+"/"+node.ID()] = to, to
		if v.patient == nil && node.ResourceType() == "Patient" {
			v.patient = node
		}
	}
	return v
}

func (v *variation) of(resource *fhir.Node) *fhir.Node {
	node := resource.Clone()
	v.walk(&node, "")
	node.Set("id", fhir.Str(resource.ID()+v.suffix))
	return &node
}

var (
	dateStart   = regexp.MustCompile(`^\d{4}-\d\d-\d\d`)
	conditional = regexp.MustCompile(`^(\w+)\?identifier=.*\|([A-Za-z0-9-]+)$`)
)

func (v *variation) walk(n *fhir.Node, parent string) {
	for i := range n.Kids {
		kid := &n.Kids[i]
		if kid.Name == "" {
			kid.Name = n.Name
			v.leaf(kid, parent)
			kid.Name = ""
		} else {
			v.leaf(kid, n.Name)
		}
	}
}

func (v *variation) leaf(n *fhir.Node, parent string) {
	switch {
	case n.Kind == fhir.Object || n.Kind == fhir.Array:
		v.walk(n, parent)
	case n.Kind == fhir.Number && n.Name == "value":
		n.Text = v.jitter(n.Text)
	case n.Kind != fhir.String:
	case n.Name == "reference":
		if to, ok := v.ids[n.Text]; ok {
			n.Text = to
		} else if m := conditional.FindStringSubmatch(n.Text); m != nil {
			n.Text = m[1] + "/" + m[2]
		}
	case n.Name == "family":
		n.Text = pick(v.random, v.population.families) + strconv.Itoa(v.random.IntN(1000))
	case n.Name == "given" && len(v.population.givens) > 0:
		n.Text = pick(v.random, v.population.givens) + strconv.Itoa(v.random.IntN(1000))
	case parent == "identifier" && n.Name == "value":
		n.Text += v.suffix
	case n.Name != "system" && n.Name != "url" && dateStart.MatchString(n.Text):
		if day, err := time.Parse(time.DateOnly, n.Text[:10]); err == nil {
			n.Text = day.AddDate(0, 0, v.days).Format(time.DateOnly) + n.Text[10:]
		}
	}
}

// jitter changes a number by up to a tenth and keeps its decimal places.
func (v *variation) jitter(text string) string {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return text
	}
	_, decimals, _ := strings.Cut(text, ".")
	return strconv.FormatFloat(f*(0.9+0.2*v.random.Float64()), 'f', len(decimals), 64)
}
