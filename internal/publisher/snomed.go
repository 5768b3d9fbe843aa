package publisher

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"kiln/storage/terminology"
)

// Files of the snapshot of a release in RF2 (SNOMED CT Release File Specification, sections 4.2 and 5.2).
var (
	snomedConcepts      = regexp.MustCompile(`(^|/)x?sct2_Concept_Snapshot_[^/]*\.txt$`)
	snomedDescriptions  = regexp.MustCompile(`(^|/)x?sct2_(Description|TextDefinition)_Snapshot[^/]*\.txt$`)
	snomedRelationships = regexp.MustCompile(`(^|/)x?sct2_Relationship_Snapshot_[^/]*\.txt$`)
	snomedLanguages     = regexp.MustCompile(`(^|/)x?der2_cRefset_Language(Refset)?Snapshot[^/]*\.txt$`)
	snomedSimple        = regexp.MustCompile(`(^|/)x?der2_Refset_Simple(Refset)?Snapshot[^/]*\.txt$`)
	snomedName          = regexp.MustCompile(`_Snapshot_([A-Za-z0-9-]+)_(\d{8})\.txt$`)
)

// Concepts of SNOMED CT that RF2 itself uses.
const (
	sctIsA            = "116680003"
	sctFSN            = "900000000000003001"
	sctSynonym        = "900000000000013009"
	sctTextDefinition = "900000000000550004"
	sctPreferred      = "900000000000548007"
	sctDefined        = "900000000000073002"
	sctStated         = "900000000000010007"
	sctCore           = "900000000000207008"
)

// snomedRow are the columns that every RF2 file has.
var snomedRow = []string{"id", "effectiveTime", "active", "moduleId"}

// openSNOMED reads an RF2 snapshot: concepts, descriptions, is-a and attribute relationships, language reference sets,
// which say what the preferred names are, and simple reference sets.
func openSNOMED(f *files) (*reader, error) {
	concepts, relationships := f.find(snomedConcepts), f.find(snomedRelationships)
	if len(concepts) == 0 || len(relationships) == 0 {
		return nil, errors.New("the files need sct2_Concept_Snapshot_….txt and sct2_Relationship_Snapshot_….txt, from the folder Snapshot/Terminology of a release")
	}
	s := &snomed{concepts: concepts, descriptions: f.find(snomedDescriptions), relationships: relationships,
		languages: f.find(snomedLanguages), simple: f.find(snomedSimple)}
	r := &reader{id: "snomed", url: terminology.SNOMED, name: "SNOMED_CT", title: "SNOMED CT (all versions)",
		copyright: "SNOMED CT is a registered trademark of SNOMED International, who licenses its use",
		properties: []property{{"inactive", "boolean"}, {"sufficientlyDefined", "boolean"}, {"moduleId", "code"}, {"effectiveTime", "string"},
			{terminology.MemberOf, "code"}}}
	if m := snomedName.FindStringSubmatch(concepts[0].name); m != nil && m[1] == "INT" {
		r.version = terminology.SNOMED + "/" + sctCore + "/version/" + m[2]
	}
	for _, list := range [][]file{s.concepts, s.descriptions, s.relationships, s.languages, s.simple} {
		r.inputs = append(r.inputs, list...)
	}
	r.each = func(ctx context.Context, do func(*terminology.Concept) error) error {
		if err := s.read(ctx); err != nil {
			return err
		}
		return s.each(do)
	}
	return r, nil
}

// snomed holds what stands in other files than the concept. Identifiers are numbers, names lie one after the other:
// the International Edition takes about 300 MB.
type snomed struct {
	concepts, descriptions, relationships, languages, simple []file

	ready     bool
	known     map[int64]bool
	preferred map[int64]bool // descriptions that a language reference set prefers
	names     map[int64]int32
	nameList  []snomedText
	arena     []byte
	links     map[int64]int32
	linkList  []snomedLink
}

type snomedText struct {
	next      int32 // of the same concept, 0 for none
	from, to  int32
	kind      byte // F(SN), S(ynonym), D(efinition)
	preferred bool
	language  [2]byte
}

// snomedLink is a relationship or a membership.
type snomedLink struct {
	next   int32
	typ    int64 // 0: member of target
	target int64
}

func sctid(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%q is no SNOMED CT identifier", s)
	}
	return n, nil
}

func ids(list ...string) (n [3]int64, err error) {
	for i, s := range list {
		if n[i], err = sctid(s); err != nil {
			return n, err
		}
	}
	return n, nil
}

// maxArena bounds the names: their places are 32-bit numbers.
const maxArena = 1<<31 - 1<<20

func (s *snomed) read(ctx context.Context) error {
	if s.ready {
		return nil
	}
	s.known, s.preferred, s.names, s.links = map[int64]bool{}, map[int64]bool{}, map[int64]int32{}, map[int64]int32{}
	s.nameList, s.linkList = make([]snomedText, 1), make([]snomedLink, 1)
	steps := []struct {
		list []file
		need []string
		do   func(*row) error
	}{
		{s.languages, []string{"referencedComponentId", "acceptabilityId"}, func(r *row) error {
			if r.get("acceptabilityId") != sctPreferred {
				return nil
			}
			id, err := sctid(r.get("referencedComponentId"))
			s.preferred[id] = true
			return err
		}},
		{s.descriptions, []string{"conceptId", "languageCode", "typeId", "term"}, s.description},
		{s.relationships, []string{"sourceId", "destinationId", "typeId", "characteristicTypeId"}, func(r *row) error {
			if r.get("characteristicTypeId") == sctStated {
				return nil
			}
			n, err := ids(r.get("sourceId"), r.get("typeId"), r.get("destinationId"))
			if err == nil {
				s.link(n[0], n[1], n[2])
			}
			return err
		}},
		{s.simple, []string{"refsetId", "referencedComponentId"}, func(r *row) error {
			n, err := ids(r.get("referencedComponentId"), r.get("refsetId"))
			if err == nil {
				s.link(n[0], 0, n[1])
			}
			return err
		}},
	}
	for _, step := range steps {
		for _, f := range step.list {
			err := f.tsv(append(step.need, snomedRow...), func(r *row) error {
				if r.get("active") != "1" {
					return nil
				}
				return step.do(r)
			})
			if err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	s.ready, s.preferred = true, nil
	return nil
}

func (s *snomed) link(source, typ, target int64) {
	s.linkList = append(s.linkList, snomedLink{s.links[source], typ, target})
	s.links[source] = int32(len(s.linkList) - 1)
}

func (s *snomed) description(r *row) error {
	n, err := ids(r.get("id"), r.get("conceptId"))
	if err != nil {
		return err
	}
	t := snomedText{next: s.names[n[1]], from: int32(len(s.arena)), preferred: s.preferred[n[0]]}
	switch r.get("typeId") {
	case sctFSN:
		t.kind = 'F'
	case sctSynonym:
		t.kind = 'S'
	case sctTextDefinition:
		t.kind = 'D'
	default:
		return nil
	}
	copy(t.language[:], r.get("languageCode"))
	if s.arena = append(s.arena, r.get("term")...); len(s.arena) > maxArena {
		return errors.New("the names are more than 2 GB")
	}
	t.to = int32(len(s.arena))
	s.nameList = append(s.nameList, t)
	s.names[n[1]] = int32(len(s.nameList) - 1)
	return nil
}

func (s *snomed) each(do func(*terminology.Concept) error) error {
	for _, f := range s.concepts {
		err := f.tsv(append([]string{"definitionStatusId"}, snomedRow...), func(r *row) error {
			id, err := sctid(r.get("id"))
			if err != nil {
				return err
			}
			c := terminology.Concept{Code: r.get("id"), Inactive: r.get("active") != "1"}
			c.Properties = append(c.Properties, boolean("inactive", c.Inactive), boolean("sufficientlyDefined", r.get("definitionStatusId") == sctDefined),
				code("moduleId", r.get("moduleId")), text("effectiveTime", r.get("effectiveTime")))
			s.name(&c, s.names[id])
			for i := s.links[id]; i != 0; i = s.linkList[i].next {
				l := s.linkList[i]
				target := strconv.FormatInt(l.target, 10)
				switch {
				case l.typ == 0:
					c.Properties = append(c.Properties, code(terminology.MemberOf, target))
				case strconv.FormatInt(l.typ, 10) == sctIsA:
					c.Parents = append(c.Parents, target)
				default:
					c.Properties = append(c.Properties, code(strconv.FormatInt(l.typ, 10), target))
				}
			}
			return do(&c)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// name gives a concept its names: the display is the preferred synonym, English before others.
func (s *snomed) name(c *terminology.Concept, first int32) {
	rank := -1
	for i := first; i != 0; i = s.nameList[i].next {
		t := s.nameList[i]
		term, language := string(s.arena[t.from:t.to]), string(t.language[:])
		if t.kind == 'D' {
			c.Definition = term
			continue
		}
		use := sctSynonym
		if t.kind == 'F' {
			use = sctFSN
		}
		c.Designations = append(c.Designations, terminology.Designation{Language: language, Use: snomedUse(use), Value: term})
		points := 0
		if t.kind == 'S' {
			points += 4
		}
		if t.preferred {
			points += 2
		}
		if language == "en" {
			points++
		}
		if points > rank {
			rank, c.Display = points, term
		}
	}
}
