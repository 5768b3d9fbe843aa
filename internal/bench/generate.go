package bench

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"kiln/fhir"
	"kiln/internal/load"
	"kiln/storage"
)

// source is a set of resources that refer to each other, of which the generator makes variations.
type source struct{ resources []*fhir.Node }

// sources reads the patient bundles of a Synthea folder; without one the demo data are the only source.
func sources(dir string) ([]source, error) {
	paths, _ := filepath.Glob(filepath.Join(dir, "v2.7", "*.json.gz"))
	var list []source
	for _, path := range paths {
		if strings.HasPrefix(filepath.Base(path), "0-") {
			continue
		}
		s, err := readBundle(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, s)
	}
	if len(list) > 0 {
		return list, nil
	}
	nodes, err := load.DemoData(time.Now())
	return []source{{nodes}}, err
}

func readBundle(path string) (s source, err error) {
	in, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer in.Close()
	unzip, err := gzip.NewReader(in)
	if err != nil {
		return s, err
	}
	data, err := io.ReadAll(unzip)
	if err != nil {
		return s, err
	}
	bundle, err := fhir.ParseJSON(data)
	if err != nil {
		return s, err
	}
	for entry := range bundle.Get("entry").Items() {
		if resource := entry.Get("resource"); resource != nil {
			s.resources = append(s.resources, resource)
		}
	}
	return s, nil
}

// generate stores n resources: variations of the sources, in new ids, names, dates and values. It tells progress.
func generate(ctx context.Context, store *storage.Store, list []source, n int, progress io.Writer) error {
	began, made := time.Now(), 0
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	var batch []*fhir.Node
	flush := func() {
		nodes := batch
		batch = nil
		group.Go(func() error {
			prepared := make([]*storage.Prepared, len(nodes))
			for i, node := range nodes {
				var err error
				if prepared[i], err = store.Prepare(node); err != nil {
					return err
				}
			}
			return store.Copy(ctx, prepared)
		})
	}
	told := time.Now()
	for variant := 1; made < n && ctx.Err() == nil; variant++ {
		s := list[variant%len(list)]
		random := rand.New(rand.NewPCG(1, uint64(variant)))
		vary := newVariation(s, variant, random)
		for _, resource := range s.resources {
			if made == n {
				break
			}
			batch = append(batch, vary.of(resource))
			made++
			if len(batch) == 2000 {
				flush()
			}
		}
		if time.Since(told) > 10*time.Second {
			told = time.Now()
			fmt.Fprintf(progress, "generated %d of %d, %.0f/s\n", made, n, float64(made)/time.Since(began).Seconds())
		}
	}
	if len(batch) > 0 {
		flush()
	}
	if err := group.Wait(); err != nil {
		return err
	}
	fmt.Fprintf(progress, "generated %d resources in %.1f s\n", made, time.Since(began).Seconds())
	return nil
}

// variation makes resources of one source into those of another patient.
type variation struct {
	suffix string
	days   int
	random *rand.Rand
	ids    map[string]string // old reference → new one
}

func newVariation(s source, variant int, random *rand.Rand) *variation {
	v := &variation{suffix: "-" + strconv.Itoa(variant), days: random.IntN(3650) - 1825, random: random, ids: map[string]string{}}
	for _, r := range s.resources {
		to := r.ResourceType() + "/" + r.ID() + v.suffix
		v.ids["urn:uuid:"+r.ID()], v.ids[r.ResourceType()+"/"+r.ID()] = to, to
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
		n.Text += strconv.Itoa(v.random.IntN(100_000))
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

func random(seed int) *rand.Rand { return rand.New(rand.NewPCG(2, uint64(seed))) }
