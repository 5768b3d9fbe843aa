package publisher

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"kiln/storage/terminology"
)

// each calls do for every concept.
type each func(ctx context.Context, do func(*terminology.Concept) error) error

func (e each) Each(ctx context.Context, do func(*terminology.Concept) error) error { return e(ctx, do) }

var (
	loincTable     = regexp.MustCompile(`(?i)(^|/)Loinc\.csv$`)
	loincHierarchy = regexp.MustCompile(`(?i)(^|/)(ComponentHierarchyBySystem|MultiAxialHierarchy)\.csv$`)
	loincAnswers   = regexp.MustCompile(`(?i)(^|/)AnswerList\.csv$`)
	loincLinks     = regexp.MustCompile(`(?i)(^|/)LoincAnswerListLink\.csv$`)
	loincParts     = regexp.MustCompile(`(?i)(^|/)Part\.csv$`)
	loincVersion   = regexp.MustCompile(`(?i)Loinc_?(\d+\.\d+)`)
)

// loincProperties are the columns of Loinc.csv that become properties, under their own names, which are those that
// value sets filter by (FHIR R4 loinc.html#props).
var loincProperties = []string{"STATUS", "COMPONENT", "PROPERTY", "TIME_ASPCT", "SYSTEM", "SCALE_TYP", "METHOD_TYP", "CLASS", "CLASSTYPE",
	"ORDER_OBS", "CONSUMER_NAME"}

// openLOINC reads the complete download of LOINC: Loinc.csv, and where they are there, the component hierarchy, the
// parts and the answer lists.
func openLOINC(f *files) (*reader, error) {
	table := f.find(loincTable)
	if len(table) != 1 {
		return nil, errors.New("the files need one Loinc.csv, from the folder LoincTable of the download")
	}
	first := func(re *regexp.Regexp) []file { return f.find(re)[:min(1, len(f.find(re)))] }
	hierarchy, answers, links, parts := first(loincHierarchy), first(loincAnswers), first(loincLinks), first(loincParts)
	r := &reader{id: "loinc", url: terminology.LOINC, name: "LOINC", title: "Logical Observation Identifiers, Names and Codes (LOINC)",
		copyright: "LOINC is a registered trademark of Regenstrief Institute, Inc.; see https://loinc.org/license"}
	for _, p := range loincProperties {
		r.properties = append(r.properties, property{p, "string"})
	}
	r.properties = append(r.properties, property{"LIST", "code"}, property{"answer-list", "code"})
	if m := loincVersion.FindStringSubmatch(table[0].name); m != nil {
		r.version = m[1]
	}
	for _, list := range [][]file{table, hierarchy, answers, links, parts} {
		r.inputs = append(r.inputs, list...)
	}
	l := &loinc{table: table[0]}
	r.each = func(ctx context.Context, do func(*terminology.Concept) error) error {
		if err := l.read(hierarchy, links); err != nil {
			return err
		}
		return l.each(ctx, answers, parts, do)
	}
	return r, nil
}

type loinc struct {
	table   file
	parents map[string][]string
	names   map[string]string   // of parts in the hierarchy
	order   []string            // of those
	lists   map[string][]string // answer lists of a term
}

// read reads what stands in other files than the concept.
func (l *loinc) read(hierarchy, links []file) error {
	if l.parents != nil {
		return nil
	}
	l.parents, l.names, l.lists = map[string][]string{}, map[string]string{}, map[string][]string{}
	for _, f := range hierarchy {
		err := f.csv([]string{"IMMEDIATE_PARENT", "CODE", "CODE_TEXT"}, func(r *row) error {
			child, parent := strings.Clone(r.get("CODE")), strings.Clone(r.get("IMMEDIATE_PARENT"))
			if strings.HasPrefix(child, "LP") && l.names[child] == "" {
				l.names[child] = strings.Clone(r.get("CODE_TEXT"))
				l.order = append(l.order, child)
			}
			if parent != "" {
				l.parents[child] = append(l.parents[child], parent)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, f := range links {
		err := f.csv([]string{"LoincNumber", "AnswerListId"}, func(r *row) error {
			term := strings.Clone(r.get("LoincNumber"))
			l.lists[term] = append(l.lists[term], strings.Clone(r.get("AnswerListId")))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *loinc) each(ctx context.Context, answers, parts []file, do func(*terminology.Concept) error) error {
	seen := map[string]bool{}
	for _, f := range parts {
		err := f.csv([]string{"PartNumber", "PartName"}, func(r *row) error {
			c := terminology.Concept{Code: r.get("PartNumber"), Display: r.get("PartDisplayName"), Parents: l.parents[r.get("PartNumber")],
				Inactive: r.get("Status") == "DEPRECATED"}
			if c.Display == "" {
				c.Display = r.get("PartName")
			}
			if t := r.get("PartTypeName"); t != "" {
				c.Properties = append(c.Properties, text("PartTypeName", t))
			}
			seen[strings.Clone(c.Code)] = true
			return do(&c)
		})
		if err != nil {
			return err
		}
	}
	for _, part := range l.order {
		if !seen[part] {
			if err := do(&terminology.Concept{Code: part, Display: l.names[part], Parents: l.parents[part]}); err != nil {
				return err
			}
		}
	}
	err := l.table.csv([]string{"LOINC_NUM", "COMPONENT", "STATUS", "LONG_COMMON_NAME"}, func(r *row) error {
		c := terminology.Concept{Code: r.get("LOINC_NUM"), Display: r.get("LONG_COMMON_NAME"), Definition: r.get("DefinitionDescription"),
			Inactive: r.get("STATUS") == "DEPRECATED"}
		if c.Display == "" {
			c.Display = r.get("COMPONENT")
		}
		c.Parents = l.parents[c.Code]
		for _, name := range loincProperties {
			if v := r.get(name); v != "" {
				c.Properties = append(c.Properties, text(name, v))
			}
		}
		for _, list := range l.lists[c.Code] {
			c.Properties = append(c.Properties, code("answer-list", list))
		}
		for _, name := range []string{"SHORTNAME", "CONSUMER_NAME", "DisplayName"} {
			if v := r.get(name); v != "" && v != c.Display {
				c.Designations = append(c.Designations, terminology.Designation{Value: v})
			}
		}
		return do(&c)
	})
	if err != nil {
		return err
	}
	return loincAnswerLists(answers, do)
}

// loincAnswerLists gives the answer lists, and the answers with the lists that they are in.
func loincAnswerLists(answers []file, do func(*terminology.Concept) error) error {
	type answer struct {
		display string
		lists   []string
	}
	byCode := map[string]*answer{}
	var order, lists []string
	names := map[string]string{}
	for _, f := range answers {
		err := f.csv([]string{"AnswerListId", "AnswerListName", "AnswerStringId", "DisplayText"}, func(r *row) error {
			list, id := strings.Clone(r.get("AnswerListId")), strings.Clone(r.get("AnswerStringId"))
			if _, ok := names[list]; !ok && list != "" {
				names[list] = strings.Clone(r.get("AnswerListName"))
				lists = append(lists, list)
			}
			if id == "" {
				return nil // a list that is defined elsewhere
			}
			if byCode[id] == nil {
				byCode[id] = &answer{display: strings.Clone(r.get("DisplayText"))}
				order = append(order, id)
			}
			byCode[id].lists = append(byCode[id].lists, list)
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, list := range lists {
		if err := do(&terminology.Concept{Code: list, Display: names[list]}); err != nil {
			return err
		}
	}
	for _, id := range order {
		c := terminology.Concept{Code: id, Display: byCode[id].display}
		for _, list := range byCode[id].lists {
			c.Properties = append(c.Properties, code("LIST", list))
		}
		if err := do(&c); err != nil {
			return err
		}
	}
	return nil
}
