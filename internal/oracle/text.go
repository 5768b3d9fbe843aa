package oracle

import (
	"regexp"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"kiln/fhir"
	"kiln/fhir/path"
	"kiln/fhir/search"
)

// texts are the strings that a string parameter looks at: of a HumanName and an Address all elements of type string
// (search.html#string).
func texts(v path.Element) []string {
	parts := map[string][]string{
		"HumanName": {"text", "family", "given", "prefix", "suffix"},
		"Address":   {"text", "line", "city", "district", "state", "postalCode", "country"},
	}[v.TypeName()]
	var list []string
	if parts == nil && v.Value.Kind == fhir.String {
		list = append(list, v.Value.Text)
	}
	for _, part := range parts {
		for s := range v.Value.Get(part).Items() {
			list = append(list, s.Text)
		}
	}
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}

// text is the default match (equal or at the beginning, without regard to case and accents), :contains and :exact.
func text(modifier string, v path.Element, asked string) bool {
	return slices.ContainsFunc(texts(v), func(s string) bool {
		switch modifier {
		case "":
			return strings.HasPrefix(plain(s), plain(asked))
		case "contains":
			return strings.Contains(plain(s), plain(asked))
		case "exact":
			return s == asked
		}
		panic("oracle: no rule for the modifier :" + modifier)
	})
}

// plain is a string without case, accents and white space that means nothing.
func plain(s string) string {
	var b strings.Builder
	for _, r := range norm.NFD.String(s) {
		if !unicode.Is(unicode.Mn, r) {
			b.WriteString(lower(r))
		}
	}
	return norm.NFC.String(strings.Join(strings.Fields(withoutStrokes.Replace(b.String())), " "))
}

// withoutStrokes turns letters that no accent is taken from into those that people type for them (CLDR Latin-ASCII).
var withoutStrokes = strings.NewReplacer("ł", "l", "ø", "o", "đ", "d", "ð", "d", "ħ", "h", "ı", "i", "ŧ", "t", "æ", "ae", "œ", "oe", "þ", "th")

// letters are those of which Unicode's full case folding makes several, as far as tests use them, and the Greek s, which
// has two small forms.
var letters = map[rune]string{'ß': "ss", 'ẞ': "ss", 'ﬁ': "fi", 'ﬂ': "fl", 'Σ': "σ", 'ς': "σ", 'σ': "σ"}

// lower is the form that a letter shares with its other case: the smallest of those that Unicode folds together.
func lower(r rune) string {
	if s, ok := letters[r]; ok {
		return s
	}
	least := unicode.ToLower(r)
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		if unicode.IsLower(f) && (f < least || !unicode.IsLower(least)) {
			least = f
		}
	}
	return string(least)
}

func sameLetters(a, b string) bool {
	fold := func(s string) string {
		var b strings.Builder
		for _, r := range s {
			b.WriteString(lower(r))
		}
		return b.String()
	}
	return fold(a) == fold(b)
}

// uri matches the whole string. Choice: what "left-matches" means for :below and :above is read segment by segment of
// the path, as the examples of search.html#uri show it, so that .../ValueSet/1 is not above .../ValueSet/123.
func uri(modifier string, v path.Element, asked string) bool {
	if v.Value.Kind != fhir.String {
		return false
	}
	has := v.Value.Text
	switch modifier {
	case "":
		return has == asked
	case "below":
		return isBelow(has, asked)
	case "above":
		return isBelow(asked, has)
	}
	panic("oracle: no rule for the modifier :" + modifier)
}

func isBelow(long, short string) bool {
	return long == short || strings.HasPrefix(long, strings.TrimSuffix(short, "/")+"/")
}

// coding is a code as a token parameter sees it.
type coding struct{ system, code string }

// codings are the pairs of search.html#token, "Token search parameters are used for the following data types".
func (o *Oracle) codings(v path.Element) []coding {
	var list []coding
	add := func(system, code string) {
		if system != "" || code != "" {
			list = append(list, coding{system, code})
		}
	}
	n := v.Value
	switch v.TypeName() {
	case "CodeableConcept":
		for c := range n.Get("coding").Items() {
			add(c.GetText("system"), c.GetText("code"))
		}
	case "Coding":
		add(n.GetText("system"), n.GetText("code"))
	case "Identifier":
		add(n.GetText("system"), n.GetText("value"))
	case "ContactPoint":
		add("", n.GetText("value"))
	case "code":
		add(o.implicitSystem(v), n.Text)
	default:
		add("", v.Text())
	}
	return list
}

var index = regexp.MustCompile(`\[\d+\]`)

// implicitSystem is the code system of an element of type code: "the system is defined in the value set".
func (o *Oracle) implicitSystem(v path.Element) string {
	names := strings.Split(index.ReplaceAllString(v.Path(), ""), ".")
	schema := o.registry.Schema()
	t := schema.Type(names[0])
	for i, name := range names[1:] {
		if t == nil {
			return ""
		}
		at := slices.IndexFunc(t.Elements, func(e *fhir.Element) bool { return e.Name == name })
		if at < 0 {
			return ""
		}
		e := t.Elements[at]
		if i == len(names)-2 {
			if e.Binding == nil || e.Binding.Strength != "required" {
				return ""
			}
			if set := o.registry.BindingCodes(e.Binding.ValueSet); set != nil {
				return set.System(v.Value.Text)
			}
			return ""
		}
		t = e.Types[0].Type
	}
	return ""
}

func (o *Oracle) token(param search.Param, modifier string, v path.Element, asked search.Value) bool {
	switch modifier {
	case "", "not": // match turns :not round
		return slices.ContainsFunc(o.codings(v), func(c coding) bool { return o.sameCode(param, c, asked) })
	case "of-type":
		if v.TypeName() != "Identifier" || !sameLetters(v.Value.GetText("value"), asked.OfType) {
			return false
		}
		for c := range v.Value.At("type").Get("coding").Items() {
			if c.GetText("system") == asked.System && c.GetText("code") == asked.Code {
				return true
			}
		}
		return false
	}
	panic("oracle: no rule for the modifier :" + modifier)
}

// sameCode has the four forms code, system|code, |code and system|. Codes compare without regard to case, unless the
// code system says otherwise ("when in doubt"); ids always with it.
func (o *Oracle) sameCode(param search.Param, c coding, asked search.Value) bool {
	if asked.HasSystem && asked.System != c.system {
		return false
	}
	if asked.HasSystem && asked.System != "" && asked.Code == "" {
		return true
	}
	if c.code == "" {
		return false
	}
	sensitive, known := o.registry.CaseSensitive(c.system)
	if known && sensitive || param.Code == "_id" {
		return c.code == asked.Code
	}
	return sameLetters(c.code, asked.Code)
}

// link is a reference to a resource of this server.
type link struct{ typ, id, version string }

func (l link) key() string { return l.typ + "/" + l.id }

var relative = regexp.MustCompile(`^([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/([A-Za-z0-9\-.]{1,64}))?$`)

// local reads a reference that is relative, or absolute below our own base.
func (o *Oracle) local(s string) link {
	if o.Base != "" {
		s = strings.TrimPrefix(s, o.Base+"/")
	}
	if m := relative.FindStringSubmatch(s); m != nil && slices.Contains(o.registry.Schema().Resources, m[1]) {
		return link{m[1], m[2], m[3]}
	}
	return link{}
}

// referenceText is the literal reference of a Reference, or the text of a uri or canonical.
func referenceText(v path.Element) string {
	switch {
	case v.Value == nil:
		return ""
	case v.TypeName() == "Reference":
		return v.Value.GetText("reference")
	case v.Value.Kind == fhir.String:
		return v.Value.Text
	}
	return ""
}

var id = regexp.MustCompile(`^[A-Za-z0-9\-.]{1,64}$`)

// reference has the forms id, Type/id and URL, of which a URL below our base and a relative reference are one. A
// reference to a version is also a reference to the resource; a canonical with a version also one without.
func (o *Oracle) reference(param search.Param, modifier string, v path.Element, asked search.Value) bool {
	switch modifier {
	case "":
	case "identifier":
		c := v.Value.Get("identifier")
		return v.TypeName() == "Reference" && c != nil && o.sameCode(param, coding{c.GetText("system"), c.GetText("value")}, asked)
	default:
		panic("oracle: no rule for the modifier :" + modifier)
	}
	has := referenceText(v)
	if has == "" {
		return false
	}
	to := o.local(has)
	if id.MatchString(asked.Raw) {
		if typ := asked.Reference.Type; typ != "" { // from the modifier :Patient
			return to.typ == typ && to.id == asked.Raw
		}
		return to.id == asked.Raw && (param.Targets == nil || slices.Contains(param.Targets, to.typ))
	}
	if want := o.local(asked.Raw); want != (link{}) {
		return to.key() == want.key() && (want.version == "" || want.version == to.version)
	}
	url, _, _ := strings.Cut(has, "|")
	return has == asked.Raw || v.TypeName() != "Reference" && url == asked.Raw
}
