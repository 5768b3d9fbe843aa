package terminology

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"

	"kiln/fhir"
)

// Where a definition comes from, as the tables keep it.
const (
	SourceOfficial = "O"
	SourceResource = "R"
	SourceLoaded   = "L"
)

// What CodeSystem.content says about how much of a code system is there.
const (
	ContentComplete   = "complete"
	ContentFragment   = "fragment"
	ContentExample    = "example"
	ContentNotPresent = "not-present"
	ContentSupplement = "supplement"
)

// conceptProperties begins the URIs of the properties that FHIR itself defines (codesystem-concept-properties.html).
const conceptProperties = "http://hl7.org/fhir/concept-properties#"

// codeSystem is a CodeSystem resource, read.
type codeSystem struct {
	key        int64
	source, id string
	n          *fhir.Node
	hash       []byte
	hierarchy  *hierarchy
	concepts   []Concept // one for each code, in the order of the definition
}

// keyOf makes the key of a definition that is no resource.
func keyOf(parts ...string) int64 {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// readCodeSystem reads the concepts of a CodeSystem. Where a code comes twice, the first counts.
//
// Errors: as hierarchy.close.
func readCodeSystem(n *fhir.Node, source string, key int64) (*codeSystem, error) {
	s := &codeSystem{key: key, source: source, id: n.ID(), n: n, hierarchy: newHierarchy(key)}
	r := conceptReader{s: s, means: map[string]string{}}
	for p := range n.Get("property").Items() {
		if name, ok := strings.CutPrefix(p.GetText("uri"), conceptProperties); ok {
			r.means[p.GetText("code")] = name
		}
	}
	r.walk(n.Get("concept"), "")
	if err := s.hierarchy.close(MaxAncestors); err != nil {
		return nil, err
	}
	s.hash = []byte{}
	return s, nil
}

type conceptReader struct {
	s     *codeSystem
	means map[string]string // the code of a property of this system to that which FHIR defines
}

func (r *conceptReader) walk(list *fhir.Node, parent string) {
	h := r.s.hierarchy
	for n := range list.Items() {
		code := n.GetText("code")
		if code == "" {
			continue
		}
		fresh := h.define(code)
		if parent != "" {
			h.link(code, parent)
		}
		c := Concept{Code: code, Display: n.GetText("display"), Definition: n.GetText("definition")}
		for p := range n.Get("property").Items() {
			if property, ok := readProperty(p); ok {
				c.add(property, r.means)
			}
		}
		for _, p := range c.Properties {
			switch name := r.meaning(p.Code); {
			case name == "child":
				h.link(p.Value, code)
			case name == "parent" || name == "subsumedBy":
				h.link(code, p.Value)
			}
		}
		for d := range n.Get("designation").Items() {
			if v := d.GetText("value"); v != "" {
				c.Designations = append(c.Designations, Designation{Language: d.GetText("language"), Use: d.Get("use"), Value: v})
			}
		}
		if fresh {
			r.s.concepts = append(r.s.concepts, c)
		}
		r.walk(n.Get("concept"), code)
	}
}

func (r *conceptReader) meaning(code string) string {
	if name := r.means[code]; name != "" {
		return name
	}
	return code
}

// add adds a property and learns from it whether the concept is inactive or abstract.
func (c *Concept) add(p Property, means map[string]string) {
	c.Properties = append(c.Properties, p)
	name := p.Code
	if means[name] != "" {
		name = means[name]
	}
	switch name {
	case "inactive":
		c.Inactive = c.Inactive || p.Value == "true"
	case "status":
		c.Inactive = c.Inactive || p.Value == "retired" || p.Value == "inactive"
	case "notSelectable", "abstract":
		c.Abstract = c.Abstract || p.Value == "true"
	}
}

func readProperty(n *fhir.Node) (p Property, ok bool) {
	p.Code = n.GetText("code")
	for i := range n.Kids {
		name, isValue := strings.CutPrefix(n.Kids[i].Name, "value")
		if !isValue || name == "" {
			continue
		}
		v := &n.Kids[i]
		p.Type = name
		if name == "Coding" {
			p.Value, p.Coding = v.GetText("code"), v
		} else {
			p.Type, p.Value = strings.ToLower(name[:1])+name[1:], v.Text
		}
		return p, p.Code != ""
	}
	return p, false
}

// definition is the CodeSystem without what the other tables hold, and without narrative.
func (s *codeSystem) definition() []byte {
	n := fhir.Node{Kind: fhir.Object}
	for _, m := range s.n.Kids {
		if m.Name != "concept" && m.Name != "text" && m.Name != "contained" {
			n.Kids = append(n.Kids, m)
		}
	}
	return n.JSON()
}

// caseSensitive: where a code system does not say, its codes compare exactly, so that nothing is taken for a code that
// is none.
func (s *codeSystem) caseSensitive() bool {
	c := s.n.Get("caseSensitive")
	return c == nil || c.Text != "false"
}
