package graphql

import (
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"

	"kiln/fhir"
	"kiln/fhir/path"
	"kiln/fhir/search"
)

// values are those of a field.
func (r *run) values(f *ast.Field, p property, from place, at string) ([]place, error) {
	leaf := func(n fhir.Node) []place { return []place{{node: &n}} }
	text := func(s string) []place {
		if s == "" {
			return nil
		}
		return leaf(fhir.Str(s))
	}
	switch {
	case f.Name == "__typename":
		return text(from.name()), nil
	case p.read:
		return r.readOne(f, p, at)
	case p.search && p.kind == connection:
		return r.connection(f, p, from, at)
	case p.search:
		return r.listed(f, p, from, at)
	case p.resolve:
		return r.resolved(f, from, at)
	}
	switch from.kind {
	case connection:
		return r.ofConnection(f, p, from, leaf, text)
	case edge:
		switch f.Name {
		case "mode":
			return text(from.match.Mode), nil
		case "score":
			if from.match.Score == 0 {
				return nil, nil
			}
			return leaf(fhir.Num(strconv.FormatFloat(from.match.Score, 'f', -1, 64))), nil
		}
		return []place{r.resourcePlace(from.match.Resource)}, nil
	}
	return r.members(f, p, from, at)
}

// ofConnection are the fields of a connection.
func (r *run) ofConnection(f *ast.Field, p property, from place, leaf func(fhir.Node) []place, text func(string) []place) ([]place, error) {
	switch f.Name {
	case "count":
		if from.page.Total == nil {
			return nil, nil
		}
		return leaf(fhir.Num(strconv.FormatInt(*from.page.Total, 10))), nil
	case "offset": // known of the first page alone: later ones begin behind a match
		if !from.first {
			return nil, nil
		}
		return leaf(fhir.Num("0")), nil
	case "pagesize":
		return leaf(fhir.Num(strconv.Itoa(len(from.page.Matches)))), nil
	case "edges":
		var list []place
		for i := range from.page.Matches {
			list = append(list, place{scope: p.scope, match: &from.page.Matches[i]})
		}
		return list, nil
	}
	query := from.page.Links[f.Name]
	if query == "" {
		return nil, nil
	}
	return text(base64.RawURLEncoding.EncodeToString([]byte(query))), nil
}

// members are the values of an element of a resource.
func (r *run) members(f *ast.Field, p property, from place, at string) (list []place, err error) {
	n := from.node.Get(p.member)
	if n == nil {
		return nil, nil
	}
	if p.leaf {
		if !p.list {
			return []place{{node: n}}, nil
		}
		for i := range n.Kids {
			list = append(list, place{node: &n.Kids[i]})
		}
		return list, nil
	}
	for item := range n.Items() {
		if p.kind == unknown { // contained, or an entry of a Bundle
			v := r.resourcePlace(item)
			if v.typ == nil {
				return nil, fault(at, "What is in %s is of a type that FHIR R4 does not have", f.Name)
			}
			if p.member == "contained" {
				v.container = from.container
			}
			list = append(list, v)
			continue
		}
		list = append(list, place{scope: p.scope, node: item, lies: from.lies.At(item, nil, p.typ), container: from.container})
	}
	return r.narrowed(f, list, at)
}

// narrowed are those of a list that the arguments ask for: fhirpath, a member and its value, then _offset and _count.
func (r *run) narrowed(f *ast.Field, list []place, at string) ([]place, error) {
	for _, a := range f.Arguments {
		if a.Name == "_offset" || a.Name == "_count" {
			continue
		}
		wanted, err := r.value(a.Value)
		if err != nil {
			return nil, err
		}
		if wanted == nil {
			continue
		}
		if a.Name == "fhirpath" {
			if list, err = r.where(wanted, list, at); err != nil {
				return nil, err
			}
			continue
		}
		if len(wanted.Kids) > MaxValues {
			return nil, tooMuch("An argument has %d values at most", MaxValues)
		}
		list = slices.DeleteFunc(list, func(v place) bool {
			for has := range v.node.Get(a.Name).Items() {
				for one := range wanted.Items() {
					if has.Text == one.Text && has.Kind != fhir.Null {
						return false
					}
				}
			}
			return true
		})
	}
	offset, count, err := r.stretch(f, at)
	if err != nil {
		return nil, err
	}
	list = list[min(offset, len(list)):]
	if count >= 0 {
		list = list[:min(count, len(list))]
	}
	return list, nil
}

// where keeps what an expression is true of.
func (r *run) where(expression *fhir.Node, list []place, at string) (kept []place, err error) {
	if expression.Kind != fhir.String {
		return nil, fault(at, "The argument fhirpath is a text")
	}
	if strings.Contains(expression.Text, "$index") {
		return nil, unsupported(at, "$index is not offered in the argument fhirpath; _offset and _count choose by place")
	}
	x, err := r.expression(expression.Text, at)
	if err != nil {
		return nil, err
	}
	for _, v := range list {
		if err := r.step(); err != nil {
			return nil, err
		}
		if v.node == nil || v.node.Kind == fhir.Null {
			continue
		}
		is, err := x.EvalCriterion(r.surroundings(v), v.lies)
		if err != nil {
			return nil, err
		}
		if is {
			kept = append(kept, v)
		}
	}
	return kept, nil
}

// stretch reads _offset and _count; -1 is no count. Errors: Invalid.
func (r *run) stretch(f *ast.Field, at string) (offset, count int, err error) {
	number := func(name string, without int) (int, error) {
		n, err := r.argument(f.Arguments, name)
		if n == nil || err != nil {
			return without, err
		}
		i, err := strconv.ParseInt(n.Text, 10, 32)
		if err != nil || i < 0 || n.Kind != fhir.Number {
			return 0, fault(at, "The argument %s is a number, 0 or more", name)
		}
		return int(i), nil
	}
	if offset, err = number("_offset", 0); err == nil {
		count, err = number("_count", -1)
	}
	return offset, count, err
}

// readOne is the resource that an id names.
func (r *run) readOne(f *ast.Field, p property, at string) ([]place, error) {
	id, err := r.argument(f.Arguments, "id")
	if err != nil {
		return nil, err
	}
	if id == nil || id.Kind != fhir.String && id.Kind != fhir.Number {
		return nil, fault(at, "%s needs the argument id; %sList and %sConnection search", f.Name, f.Name, f.Name)
	}
	n, err := r.fetch(p.typ.Name, id.Text, "")
	if err != nil {
		return nil, err
	}
	return []place{r.resourcePlace(n)}, nil
}

// fetch reads a resource once. Errors: those of Source.Read, TooCostly.
func (r *run) fetch(typ, id, version string) (*fhir.Node, error) {
	key := typ + "/" + id + "/" + version
	if known, is := r.fetched[key]; is {
		return known.node, known.err
	}
	if err := r.charge(); err != nil {
		return nil, err
	}
	n, err := r.src.Read(typ, id, version)
	if err == nil {
		err = r.came(1)
	}
	r.fetched[key] = fetched{n, err}
	return n, err
}

func (r *run) charge() error {
	if r.fetches++; r.fetches > MaxFetches {
		return tooMuch("A GraphQL query takes %d reads and searches at most; ask for less at once", MaxFetches)
	}
	return r.ctx.Err()
}

func (r *run) came(n int) error {
	if r.resources += n; r.resources > MaxResources {
		return tooMuch("A GraphQL query looks at %d resources at most; ask for less at once", MaxResources)
	}
	return nil
}

// resolved is what a reference refers to.
func (r *run) resolved(f *ast.Field, from place, at string) ([]place, error) {
	optional, err := r.argument(f.Arguments, "optional")
	if err != nil {
		return nil, err
	}
	wanted, err := r.argument(f.Arguments, "type")
	if err != nil {
		return nil, err
	}
	n, is, err := r.target(from, wanted, at)
	switch {
	case err != nil && optional != nil && optional.Text == "true":
		var e *fhir.Error
		if errors.As(err, &e) && (e.Kind == fhir.NotFound || e.Kind == fhir.Gone || e.Kind == fhir.Forbidden) {
			return nil, nil
		}
		return nil, err
	case err != nil || !is:
		return nil, err
	}
	v := r.resourcePlace(n)
	if from.container != nil && strings.HasPrefix(from.node.GetText("reference"), "#") {
		v.container = from.container
	}
	return []place{v}, nil
}

// target reads what a reference refers to. is is false where that is of another type than wanted.
func (r *run) target(from place, wanted *fhir.Node, at string) (n *fhir.Node, is bool, err error) {
	right := func(typ string) bool { return wanted == nil || typ == "" || wanted.Text == typ }
	none := func(why string) error {
		return fhir.NewError(fhir.NotFound, fhir.CodeNotFound, "The reference "+why+"; with optional: true it is left out").At(at)
	}
	text := from.node.GetText("reference")
	ref, ok := fhir.ParseReference(r.src.Own(text), func(t string) bool { return r.resource(t) != nil })
	switch {
	case !ok:
		return nil, false, none("names no resource")
	case ref.Container:
		n = from.container
	case ref.Fragment != "" && ref.Type == "":
		for c := range from.container.Get("contained").Items() {
			if c.ID() == ref.Fragment {
				n = c
			}
		}
		if n == nil || r.resource(n.ResourceType()) == nil {
			return nil, false, none("names nothing that is contained")
		}
	case ref.Type == "" || ref.Base != "" || ref.ID == "":
		return nil, false, none("does not lead to a resource of this server")
	default:
		if !right(ref.Type) {
			return nil, false, nil
		}
		if n, err = r.fetch(ref.Type, ref.ID, ref.Version); err != nil {
			return nil, false, err
		}
	}
	return n, right(n.ResourceType()), nil
}

// refusedParameters are those of a search that GraphQL has other means for.
var refusedParameters = []string{"_include", "_revinclude", "_contained", "_containedType", "_summary", "_elements", "_explain", "_format", "_pretty"}

// criteria are the search parameters that the arguments of a field are: "-" is written "_", and a list are alternatives.
func (r *run) criteria(f *ast.Field, from place, at string) (pairs []search.Pair, err error) {
	referred := false
	for _, a := range f.Arguments {
		n, err := r.value(a.Value)
		if err != nil {
			return nil, err
		}
		switch {
		case a.Name == "fhirpath" || a.Name == "_offset" || a.Name == "_count" || n == nil:
			continue
		case a.Name == "id" || slices.Contains(refusedParameters, a.Name):
			return nil, unsupported(at, "The argument %s is not offered here", a.Name)
		case a.Name == "cursor" || a.Name == "_cursor":
			return nil, fault(at, "A cursor is for a connection at the beginning of a query, and stands alone")
		}
		var values []string
		for item := range n.Items() {
			if item.Kind != fhir.String && item.Kind != fhir.Number && item.Kind != fhir.Bool || item.Text == "" {
				return nil, fault(at, "The argument %s is a text, a number, true, false, or a list of these", a.Name)
			}
			values = append(values, withoutCommas(item.Text))
		}
		if a.Name == "_reference" {
			if from.kind != element || len(values) != 1 {
				return nil, fault(at, "_reference names the search parameter by which others refer to the resource around it")
			}
			referred = true
			pairs = append(pairs, search.Pair{Name: parameterName(values[0]), Value: from.typ.Name + "/" + from.node.ID()})
			continue
		}
		name := parameterName(a.Name)
		separator := ","
		if a.Name == "_sort" { // its keys are a list, too, and have commas of their own
			values = []string{strings.ReplaceAll(strings.Join(values, ","), `\,`, ",")}
		}
		if len(values) > 0 {
			pairs = append(pairs, search.Pair{Name: name, Value: strings.Join(values, separator)})
		}
	}
	switch {
	case from.kind == element && !referred:
		return nil, fault(at, "%s within a resource needs the argument _reference: the search parameter by which it refers to that resource", f.Name)
	case from.kind == element && (from.node.ID() == "" || from.node != from.container):
		return nil, fault(at, "Nothing refers to a resource that is inside of another")
	}
	return pairs, nil
}

// parameterName is a search parameter as GraphQL has to write it: names have no "-" there.
func parameterName(name string) string {
	return name[:min(1, len(name))] + strings.ReplaceAll(name[min(1, len(name)):], "_", "-")
}

// withoutCommas escapes the commas of a value: alternatives are a list.
func withoutCommas(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			b.WriteByte(s[i])
			i++
		case s[i] == ',':
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func (r *run) search(typ string, pairs []search.Pair) (*Page, error) {
	if err := r.charge(); err != nil {
		return nil, err
	}
	page, err := r.src.Search(typ, pairs)
	if err == nil {
		err = r.came(len(page.Matches))
	}
	return page, err
}

// listed are the matches of a search: all, or the stretch that _offset and _count ask for.
//
// Errors: TooCostly where all are more than MaxList: nothing is left out silently.
func (r *run) listed(f *ast.Field, p property, from place, at string) (list []place, err error) {
	pairs, err := r.criteria(f, from, at)
	if err != nil {
		return nil, err
	}
	offset, count, err := r.stretch(f, at)
	if err != nil {
		return nil, err
	}
	if offset > MaxList || count > MaxList || offset+max(count, 0) > MaxList {
		return nil, tooMuch("%s goes no further than %d resources; %s goes on from page to page", f.Name, MaxList, strings.TrimSuffix(f.Name, listEnding)+connectionEnding)
	}
	wanted := MaxList
	if count >= 0 {
		wanted = offset + count
	}
	if wanted == 0 {
		return nil, nil
	}
	for next := append(pairs, search.Pair{Name: "_count", Value: strconv.Itoa(wanted)}); ; {
		page, err := r.search(p.typ.Name, next)
		if err != nil {
			return nil, err
		}
		for i := range page.Matches {
			list = append(list, r.resourcePlace(page.Matches[i].Resource))
		}
		more := page.Links["next"]
		if len(list) >= wanted && (count >= 0 || more == "") || more == "" {
			break
		}
		if len(list) >= wanted {
			return nil, tooMuch("More than %d resources match; make the criteria more precise, say _count, or ask for %s", MaxList, strings.TrimSuffix(f.Name, listEnding)+connectionEnding)
		}
		if next, err = search.ParsePairs(more); err != nil {
			return nil, err
		}
	}
	list = list[min(offset, len(list)):min(wanted, len(list))]
	return r.filtered(f, list, at)
}

// filtered are those matches of a search that its argument fhirpath is true of.
func (r *run) filtered(f *ast.Field, list []place, at string) ([]place, error) {
	expression, err := r.argument(f.Arguments, "fhirpath")
	if err != nil || expression == nil {
		return list, err
	}
	return r.where(expression, list, at)
}

// connection is one page of a search.
func (r *run) connection(f *ast.Field, p property, from place, at string) ([]place, error) {
	var pairs []search.Pair
	var cursor *fhir.Node
	for _, a := range f.Arguments {
		if a.Name == "cursor" || a.Name == "_cursor" {
			n, err := r.value(a.Value)
			if err != nil {
				return nil, err
			}
			cursor = n
		}
	}
	switch {
	case cursor != nil && (from.kind != system || len(f.Arguments) > 1):
		return nil, fault(at, "A cursor is for a connection at the beginning of a query, and stands alone")
	case cursor != nil:
		query, err := base64.RawURLEncoding.DecodeString(cursor.Text)
		if err == nil {
			pairs, err = search.ParsePairs(string(query))
		}
		refused := func(p search.Pair) bool {
			name, _, _ := strings.Cut(p.Name, ":")
			return slices.Contains(refusedParameters, name)
		}
		if err != nil || slices.ContainsFunc(pairs, refused) || !slices.ContainsFunc(pairs, func(p search.Pair) bool { return p.Name == "_cursor" || p.Name == "_count" }) {
			return nil, fault(at, "The cursor is not one of this server; begin again with the first page")
		}
	default:
		var err error
		if pairs, err = r.criteria(f, from, at); err != nil {
			return nil, err
		}
		offset, count, err := r.stretch(f, at)
		switch {
		case err != nil:
			return nil, err
		case offset > 0:
			return nil, unsupported(at, "A connection goes on by its cursors, and has no _offset")
		case count == 0:
			return nil, fault(at, "_count is 1 at least")
		case count < 0:
			count = DefaultPage
		}
		pairs = append(pairs, search.Pair{Name: "_count", Value: strconv.Itoa(count)})
		if counts(f.SelectionSet) {
			pairs = append(pairs, search.Pair{Name: "_total", Value: "accurate"})
		}
	}
	page, err := r.search(p.typ.Name, pairs)
	if err != nil {
		return nil, err
	}
	if expression, err := r.argument(f.Arguments, "fhirpath"); err != nil {
		return nil, err
	} else if expression != nil {
		kept := page.Matches[:0:0]
		for _, m := range page.Matches {
			is, err := r.where(expression, []place{r.resourcePlace(m.Resource)}, at)
			if err != nil {
				return nil, err
			}
			if len(is) > 0 {
				kept = append(kept, m)
			}
		}
		page.Matches = kept
	}
	return []place{{scope: p.scope, page: page, first: cursor == nil, node: nil, lies: path.Element{}}}, nil
}

// counts says whether a selection of a connection asks for its count; fragments are taken to.
func counts(selection ast.SelectionSet) bool {
	return slices.ContainsFunc(selection, func(one ast.Selection) bool {
		f, is := one.(*ast.Field)
		return !is || f.Name == "count"
	})
}
