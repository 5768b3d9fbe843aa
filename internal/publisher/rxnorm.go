package publisher

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"kiln/fhir"
	"kiln/storage/terminology"
)

// snomedUse is a use of designations, as a Coding.
func snomedUse(code string) *fhir.Node {
	display := "Synonym"
	if code == sctFSN {
		display = "Fully specified name"
	}
	n := fhir.Obj(fhir.Str(terminology.SNOMED).As("system"), fhir.Str(code).As("code"), fhir.Str(display).As("display"))
	return &n
}

// Files of RxNorm in the Rich Release Format (RxNorm Technical Documentation, section 12).
var (
	rxnormConcepts      = regexp.MustCompile(`(^|/)RXNCONSO\.RRF$`)
	rxnormRelationships = regexp.MustCompile(`(^|/)RXNREL\.RRF$`)
	rxnormTypes         = regexp.MustCompile(`(^|/)RXNSTY\.RRF$`)
	rxnormVersion       = regexp.MustCompile(`(?i)RxNorm_(?:full|weekly)(?:_prescribe)?_(\d{8})`)
)

// Fields of the tables, from 0.
const (
	consoRXCUI, consoLAT, consoSAB, consoTTY, consoSTR, consoSuppress, consoFields = 0, 1, 11, 12, 14, 16, 18
	relRXCUI1, relSTYPE1, relREL, relRXCUI2, relSTYPE2, relRELA, relSAB, relFields = 0, 2, 3, 4, 6, 7, 10, 16
	styRXCUI, styTUI, styFields                                                    = 0, 1, 6
)

// openRxNorm reads the concepts that RxNorm itself names (SAB=RXNORM), their relationships and semantic types.
func openRxNorm(f *files) (*reader, error) {
	concepts := f.find(rxnormConcepts)
	if len(concepts) != 1 {
		return nil, errors.New("the files need one RXNCONSO.RRF, from the folder rrf of a release")
	}
	x := &rxnorm{concepts: concepts[0], relationships: f.find(rxnormRelationships), types: f.find(rxnormTypes)}
	r := &reader{id: "rxnorm", url: terminology.RxNorm, name: "RxNorm", title: "RxNorm", copyright: "RxNorm is provided by the U.S. National Library of Medicine",
		properties: []property{{"TTY", "code"}, {"SUPPRESS", "code"}, {"STY", "code"}}}
	if m := rxnormVersion.FindStringSubmatch(concepts[0].name); m != nil {
		r.version = m[1]
	}
	r.inputs = append(append(append(r.inputs, concepts...), x.relationships...), x.types...)
	r.each = func(_ context.Context, do func(*terminology.Concept) error) error {
		if err := x.read(); err != nil {
			return err
		}
		return x.each(do)
	}
	return r, nil
}

type rxnorm struct {
	concepts             file
	relationships, types []file
	ready                bool
	order                []string
	atoms                map[string][]atom
	properties           map[string][]terminology.Property
}

// atom is one name of a concept.
type atom struct{ name, language, tty, suppress string }

// rrf calls do with the fields of every line.
func (f file) rrf(fields int, do func([]string) error) error {
	return f.lines(func(_ int, line string) error {
		if line == "" {
			return nil
		}
		list := strings.Split(line, "|")
		if len(list) < fields {
			return fmt.Errorf("it has %d fields, not %d", len(list), fields)
		}
		return do(list)
	})
}

func (x *rxnorm) read() error {
	if x.ready {
		return nil
	}
	x.atoms, x.properties = map[string][]atom{}, map[string][]terminology.Property{}
	err := x.concepts.rrf(consoFields, func(r []string) error {
		if r[consoSAB] != "RXNORM" {
			return nil
		}
		id := strings.Clone(r[consoRXCUI])
		if x.atoms[id] == nil {
			x.order = append(x.order, id)
		}
		x.atoms[id] = append(x.atoms[id], atom{strings.Clone(r[consoSTR]), strings.Clone(r[consoLAT]), strings.Clone(r[consoTTY]), strings.Clone(r[consoSuppress])})
		return nil
	})
	if err != nil {
		return err
	}
	add := func(id string, p terminology.Property) {
		if x.atoms[id] != nil {
			x.properties[strings.Clone(id)] = append(x.properties[id], p)
		}
	}
	for _, f := range x.relationships {
		err := f.rrf(relFields, func(r []string) error {
			if r[relSAB] != "RXNORM" || r[relSTYPE1] != "CUI" || r[relSTYPE2] != "CUI" || r[relRXCUI1] == "" {
				return nil
			}
			name := r[relRELA] // what the second concept is to the first
			if name == "" {
				name = r[relREL]
			}
			add(r[relRXCUI2], text(strings.Clone(name), "CUI:"+r[relRXCUI1]))
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, f := range x.types {
		err := f.rrf(styFields, func(r []string) error {
			add(r[styRXCUI], code("STY", strings.Clone(r[styTUI])))
			return nil
		})
		if err != nil {
			return err
		}
	}
	x.ready = true
	return nil
}

// rxnormOther are the kinds of names that are not the concept's own.
var rxnormOther = map[string]bool{"SY": true, "TMSY": true, "ET": true, "PSN": true}

func (x *rxnorm) each(do func(*terminology.Concept) error) error {
	for _, id := range x.order {
		c := terminology.Concept{Code: id, Inactive: true}
		var own *atom
		list := x.atoms[id]
		for i := range list {
			if a := &list[i]; own == nil || rxnormOther[own.tty] && !rxnormOther[a.tty] {
				own = a
			}
			c.Inactive = c.Inactive && list[i].suppress == "O"
		}
		c.Display = own.name
		c.Properties = append(c.Properties, code("TTY", own.tty), code("SUPPRESS", own.suppress))
		for i := range list {
			if a := &list[i]; a != own {
				c.Designations = append(c.Designations, terminology.Designation{Value: a.name})
				if !rxnormOther[a.tty] && a.tty != own.tty {
					c.Properties = append(c.Properties, code("TTY", a.tty))
				}
			}
		}
		c.Properties = append(c.Properties, x.properties[id]...)
		if err := do(&c); err != nil {
			return err
		}
	}
	return nil
}
