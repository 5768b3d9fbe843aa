package publisher

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strings"

	"kiln/storage/terminology"
)

// Files of ICD-10-CM, as CMS and NCHS publish them each year.
var (
	icdOrder   = regexp.MustCompile(`(?i)(^|/)icd10cm[_-]order[_-](\d{4})\.txt$`)
	icdTabular = regexp.MustCompile(`(?i)(^|/)icd10cm[_-]tabular[_-](\d{4})\.xml$`)
)

// openICD10CM reads the order file, which has every code; the tabular list, when it is there, adds chapters and blocks.
// The tabular list alone lacks the codes with a seventh character, so the order file must be there.
func openICD10CM(f *files) (*reader, error) {
	order, tabular := f.find(icdOrder), f.find(icdTabular)
	if len(order) == 0 && len(tabular) == 0 {
		return nil, errors.New("the files need icd10cm_order_YYYY.txt, or icd10cm_tabular_YYYY.xml")
	}
	if len(order) > 1 || len(tabular) > 1 {
		return nil, errors.New("the files are of more than one release")
	}
	r := &reader{id: "icd10cm", url: terminology.ICD10CM, name: "ICD10CM", title: "International Classification of Diseases, Tenth Revision, Clinical Modification",
		copyright: "ICD-10 is copyrighted by the World Health Organization; ICD-10-CM is maintained by the U.S. NCHS", properties: []property{{"billable", "boolean"}}}
	for _, list := range []struct {
		found []file
		re    *regexp.Regexp
	}{{order, icdOrder}, {tabular, icdTabular}} {
		if len(list.found) > 0 {
			r.version = list.re.FindStringSubmatch(list.found[0].name)[2]
		}
	}
	r.inputs = append(order, tabular...)
	r.each = func(_ context.Context, do func(*terminology.Concept) error) error {
		i := &icd{above: map[string]string{}, known: map[string]bool{}}
		for _, f := range tabular {
			if err := i.tabular(f, len(order) == 0, do); err != nil {
				return err
			}
		}
		for _, f := range order {
			if err := i.order(f, do); err != nil {
				return err
			}
		}
		return nil
	}
	return r, nil
}

type icd struct {
	above map[string]string // the block of a category, from the tabular list
	known map[string]bool   // codes so far, without dots
}

// dotted writes a code as FHIR does: A001 is A00.1.
func dotted(code string) string {
	if len(code) > 3 {
		return code[:3] + "." + code[3:]
	}
	return code
}

// order reads the order file: columns 1–5 the number, 7–13 the code, 15 whether it can be billed, 17–76 the short and
// 78 on the long description. A code is below the longest code that it begins with.
func (i *icd) order(f file, do func(*terminology.Concept) error) error {
	return f.lines(func(_ int, line string) error {
		if strings.TrimSpace(line) == "" {
			return nil
		}
		if len(line) < 17 {
			return errors.New("it is too short for the order file")
		}
		plain, flag := strings.TrimSpace(line[6:14]), line[14]
		if plain == "" || flag != '0' && flag != '1' {
			return errors.New("it is no line of the order file")
		}
		short, long := strings.TrimSpace(line[16:min(77, len(line))]), ""
		if len(line) > 77 {
			long = strings.TrimSpace(line[77:])
		}
		c := terminology.Concept{Code: dotted(plain), Display: long, Properties: []terminology.Property{boolean("billable", flag == '1')}}
		if c.Display == "" {
			c.Display = short
		} else if short != c.Display && short != "" {
			c.Designations = append(c.Designations, terminology.Designation{Value: short})
		}
		for n := len(plain) - 1; n >= 3; n-- {
			if i.known[plain[:n]] {
				c.Parents = []string{dotted(plain[:n])}
				break
			}
		}
		if c.Parents == nil && i.above[plain] != "" {
			c.Parents = []string{i.above[plain]}
		}
		i.known[strings.Clone(plain)] = true
		return do(&c)
	})
}

// tabularNode is a chapter, section or diagnosis that is being read.
type tabularNode struct {
	kind, code, name string
	parent           string
	given            bool
}

// tabular reads chapters and sections, with all also the diagnoses.
func (i *icd) tabular(f file, all bool, do func(*terminology.Concept) error) error {
	return f.read(func(r io.Reader) error {
		d := xml.NewDecoder(r)
		d.Entity = map[string]string{}
		var stack []*tabularNode
		text, depth := "", 0
		give := func(n *tabularNode) error {
			if n.given || n.code == "" {
				return nil
			}
			n.given = true
			plain := strings.ReplaceAll(n.code, ".", "")
			if n.kind == "diag" {
				i.above[plain] = n.parent
				if !all {
					return nil
				}
			}
			c := terminology.Concept{Code: n.code, Display: n.name, Abstract: n.kind != "diag"}
			if n.parent != "" {
				c.Parents = []string{n.parent}
			}
			if c.Abstract {
				c.Properties = append(c.Properties, boolean("notSelectable", true))
			}
			return do(&c)
		}
		for {
			token, err := d.Token()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			switch t := token.(type) {
			case xml.StartElement:
				if depth++; depth > 100 {
					return errors.New("its elements are nested too deep")
				}
				text = ""
				switch t.Name.Local {
				case "chapter", "section", "diag":
					n := &tabularNode{kind: t.Name.Local}
					if len(stack) > 0 {
						parent := stack[len(stack)-1]
						if err := give(parent); err != nil {
							return err
						}
						n.parent = parent.code
					}
					if n.kind == "section" {
						for _, a := range t.Attr {
							if a.Name.Local == "id" {
								n.code = a.Value
							}
						}
					}
					stack = append(stack, n)
				}
			case xml.CharData:
				if text += string(t); len(text) > maxLine {
					return errors.New("it has a text that is too long")
				}
			case xml.EndElement:
				depth--
				if len(stack) == 0 {
					continue
				}
				top := stack[len(stack)-1]
				switch t.Name.Local {
				case "name":
					if top.code == "" {
						if top.code = strings.TrimSpace(text); top.kind == "chapter" {
							top.code = "chapter-" + top.code
						}
					}
				case "desc":
					if top.name == "" {
						top.name = strings.TrimSpace(text)
					}
				case "chapter", "section", "diag":
					if err := give(top); err != nil {
						return err
					}
					stack = stack[:len(stack)-1]
				}
				text = ""
			}
		}
	})
}
