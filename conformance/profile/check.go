package profile

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/fhir/path"
)

// Options choose how a resource is checked.
type Options struct {
	// Profiles are to be kept to beside those that the resource claims (meta.profile).
	Profiles []string
	// Terminology answers for value sets that are not embedded; nil knows none.
	Terminology validate.Terminology
	// MustSupport tells, as information, which elements of Profiles that must be supported are absent; and it warns of codes that
	// are in none of the value sets with an extensible binding: whether one of theirs would fit is for people to say.
	MustSupport bool
	// MaxIssues bounds the issues; 0 means 100.
	MaxIssues int
}

// Check returns everything that profiles find wrong with a resource whose base definitions find nothing wrong with its
// structure: the profiles that it and the resources in it claim, those of the options, and the definitions of
// extensions. A claimed profile that is not known is a warning, one of the options an error.
//
// Which codes to ask the terminology about shows only on the way, and which slice a value is in may depend on the answer:
// the walk is done, all that it asked is asked at once, and it is done again with the answers, until it asks no more.
//
// Errors: those of the Source and of Terminology.
func (s *Set) Check(ctx context.Context, n *fhir.Node, o Options) ([]fhir.Issue, error) {
	if len(o.Profiles) == 0 && !concerns(n) {
		return nil, nil
	}
	if o.MaxIssues == 0 {
		o.MaxIssues = validate.DefaultMaxIssues
	}
	t := s.registry.Schema().Type(n.ResourceType())
	if t == nil {
		return nil, nil
	}
	answers := map[validate.CodeQuestion]validate.CodeAnswer{}
	for round := 1; ; round++ {
		r := &run{ctx: ctx, set: s, schema: s.registry.Schema(), options: o, root: t.Name, document: n, told: map[string]bool{},
			checked: map[pair]bool{}, answers: answers}
		for _, canonical := range o.Profiles {
			r.conform(n, t, canonical, true)
		}
		r.walk(n, t, &host{})
		if r.err != nil || o.Terminology == nil || len(r.questions) == 0 || round == maxRounds {
			return r.result()
		}
		list, err := o.Terminology.ValidateCodes(ctx, r.questions)
		if err != nil {
			return nil, err
		}
		for i, q := range r.questions {
			answers[q] = list[i]
		}
	}
}

// maxRounds bounds how often a resource is walked. The first asks, the second has the answers; a slice that was told by
// them may bring new questions.
const maxRounds = 4

func (r *run) result() ([]fhir.Issue, error) {
	if r.more > 0 {
		severity := fhir.SeverityWarning
		if r.moreErrors {
			severity = fhir.SeverityError
		}
		r.issues = append(r.issues, fhir.Issue{Severity: severity, Code: fhir.CodeTooLong, Detail: "more-issues",
			Text: fmt.Sprintf("There are %d more issues that are not listed", r.more)})
	}
	return r.issues, r.err
}

// concerns says whether anything in a resource is a matter of profiles. Most resources are told by this alone.
func concerns(n *fhir.Node) bool {
	found := false
	n.Walk(func(k *fhir.Node) bool {
		found = found || k.Name == "extension" || k.Name == "modifierExtension" || k.Name == "profile"
		return !found
	})
	return found
}

// run is the state of one check.
type run struct {
	ctx      context.Context
	set      *Set
	schema   *fhir.Schema
	options  Options
	root     string
	path     []segment
	document *fhir.Node // the outermost resource
	resource *fhir.Node // the one that the walk is in
	issues   []fhir.Issue
	more     int
	// moreErrors says that an error is among them.
	moreErrors bool
	err        error
	told       map[string]bool // what is said once only
	checked    map[pair]bool
	env        *path.Env
	profiles   []*Profile // being checked, the innermost last
	asked      bool       // the profile being checked was asked for by the options
	silent     int        // above zero, faults are only noted in hit, and what cannot be told in doubt
	hit        bool
	doubt      bool
	answers    map[validate.CodeQuestion]validate.CodeAnswer
	// questions are those without an answer so far.
	questions []validate.CodeQuestion
	steps     int
	defined   map[asking][]*element // what follow has found
}

type pair struct {
	value   *fhir.Node
	profile *Profile
}

type segment struct {
	name  string
	index int
}

func (r *run) push(name string) { r.path = append(r.path, segment{name, -1}) }
func (r *run) pop()             { r.path = r.path[:len(r.path)-1] }
func (r *run) at(it *item)      { r.path[len(r.path)-1].index = it.index }

func (r *run) here() string {
	var b strings.Builder
	b.WriteString(r.root)
	for _, s := range r.path {
		b.WriteByte('.')
		b.WriteString(s.name)
		if s.index >= 0 {
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
		}
	}
	return b.String()
}

// step counts the work; false where there is too much of it, or nobody waits any more.
func (r *run) step() bool {
	r.steps++
	switch {
	case r.err != nil || r.steps > MaxSteps+1:
		return false
	case r.steps == MaxSteps+1:
		silent := r.silent
		r.silent = 0
		r.fail(fhir.CodeTooCostly, "profile-too-costly", "The profiles ask for more than %d checks of this resource", MaxSteps)
		r.silent, r.hit = silent, true
		return false
	case r.steps&255 == 0:
		r.err = r.ctx.Err()
	}
	return r.err == nil
}

func (r *run) fail(code, detail, format string, args ...any) {
	r.tell(fhir.SeverityError, code, detail, format, args...)
}

func (r *run) tell(severity, code, detail, format string, args ...any) {
	if r.silent > 0 {
		r.hit = r.hit || severity == fhir.SeverityError
		return
	}
	if len(r.issues) >= r.options.MaxIssues {
		r.more++
		r.moreErrors = r.moreErrors || severity == fhir.SeverityError
		return
	}
	r.issues = append(r.issues, fhir.Issue{Severity: severity, Code: code, Detail: detail,
		Text: fmt.Sprintf(format, args...), Expression: []string{r.here()}})
}

// once tells something that depends on a definition, not on the place, a single time.
func (r *run) once(key, severity, code, detail, format string, args ...any) {
	if r.silent == 0 && !r.told[key] {
		r.told[key] = true
		r.tell(severity, code, detail, format, args...)
	}
}

// verdict is whether a value is what a definition describes.
type verdict uint8

const (
	no    verdict = iota
	maybe         // as far as can be told here
	yes
)

// fits says whether a check finds no error. Nothing is told.
func (r *run) fits(check func()) verdict {
	hit, doubt := r.hit, r.doubt
	r.hit, r.doubt = false, false
	r.silent++
	check()
	r.silent--
	v := yes
	switch {
	case r.hit || r.err != nil:
		v = no
	case r.doubt:
		v = maybe
	}
	r.hit, r.doubt = hit, doubt
	return v
}

// by names the profile being checked.
func (r *run) by() string {
	if len(r.profiles) == 0 {
		return ""
	}
	return r.profiles[len(r.profiles)-1].URL
}

// profile finds a profile; nil where it is not known or cannot be used.
func (r *run) profile(canonical string) *Profile {
	if r.err != nil {
		return nil
	}
	p, err := r.set.Profile(r.ctx, canonical)
	if err != nil {
		r.err = err
	}
	return p
}

// conform checks a resource by a profile that it claims, or that was asked for.
func (r *run) conform(n *fhir.Node, t *fhir.Type, canonical string, asked bool) {
	p := r.profile(canonical)
	if p == nil || p.fault != nil {
		severity := fhir.SeverityWarning
		if asked {
			severity = fhir.SeverityError
		}
		if p == nil {
			r.tell(severity, fhir.CodeNotFound, "profile-unknown", "The profile %s is not known here, so nothing was checked by it", quote(canonical))
		} else {
			r.tell(severity, fhir.CodeNotSupported, "profile-unusable", "The profile %s cannot be used: %s", quote(canonical), p.fault.Error())
		}
		return
	}
	r.inResource(n, func() {
		r.asked = asked
		r.profiled(&item{value: n, typ: t, index: -1}, p)
		r.asked = false
	})
}

// inResource does work within a resource: invariants see it as %resource.
func (r *run) inResource(n *fhir.Node, work func()) {
	resource, env := r.resource, r.env
	r.resource, r.env = n, nil
	work()
	r.resource, r.env = resource, env
}

// profiled checks a value by a profile.
func (r *run) profiled(it *item, p *Profile) {
	if len(r.profiles) >= MaxNesting {
		r.fail(fhir.CodeTooCostly, "profile-too-costly", "Profiles ask for profiles more than %d deep", MaxNesting)
		return
	}
	if base := r.schema.Type(p.typ); it.typ != nil && base != nil && !it.typ.Is(p.typ) {
		r.fail(fhir.CodeStructure, "profile-type", "The profile %s is about %s, not %s", p.URL, p.typ, it.typ.Name)
		return
	}
	if r.silent == 0 && it.value != nil { // an extension is asked for by its slice and by its url
		if r.checked[pair{it.value, p}] {
			return
		}
		r.checked[pair{it.value, p}] = true
	}
	r.profiles = append(r.profiles, p)
	r.value(it, p.root)
	r.profiles = r.profiles[:len(r.profiles)-1]
}

// object checks the members of a value by the children of an element.
func (r *run) object(it *item, e *element) {
	n, t := it.host(), it.typ
	var room [8]item
	for _, c := range e.children {
		list := r.members(it, c.name, room[:0])
		name := c.name
		if t != nil {
			if p, ok := t.Properties[name]; ok {
				name = p.Element.Name
				if p.Element.Choice && p.Element.Name != c.name {
					r.onlyChoice(n, t, e, c, name)
				}
			}
		}
		r.count(c, name, len(list))
		r.push(name)
		for i := range list {
			r.at(&list[i])
			r.value(&list[i], c)
		}
		r.path[len(r.path)-1].index = -1
		if len(c.slices) > 0 {
			r.slices(list, c)
		}
		r.pop()
	}
}

// onlyChoice checks that nothing but the named type of a choice is there, where the definition names one only
// (FHIR R4 elementdefinition.html#path).
func (r *run) onlyChoice(n *fhir.Node, t *fhir.Type, e, c *element, name string) {
	for _, other := range e.children {
		if p, ok := t.Properties[other.name]; other != c && (other.name == name || ok && p.Element.Name == name) {
			return
		}
	}
	for _, it := range r.items(n, t, name, nil) {
		if it.json != c.name {
			r.push(name)
			r.fail(fhir.CodeStructure, "type", "%s must be %s here by %s", it.json, c.name, r.by())
			r.pop()
		}
	}
}

// count checks how many values an element has; the path is that of the object they are in.
func (r *run) count(e *element, name string, n int) {
	switch {
	case n < e.min && n == 0:
		r.fail(fhir.CodeRequired, "required", "%s is required by %s", name, r.by())
	case n < e.min:
		r.fail(fhir.CodeStructure, "too-few", "%s must have at least %d values by %s, not %d", name, e.min, r.by(), n)
	case e.max == 0 && n > 0:
		r.fail(fhir.CodeStructure, "too-many", "%s is not allowed by %s", name, r.by())
	case e.max > 0 && n > e.max:
		r.fail(fhir.CodeStructure, "too-many", "%s may have %d values at most by %s, not %d", name, e.max, r.by(), n)
	}
	if e.mustSupport && n == 0 && e.min == 0 && r.asked && r.options.MustSupport {
		r.tell(fhir.SeverityInformation, fhir.CodeInformational, "must-support", "%s is absent; systems must support it by %s", name, r.by())
	}
}

// value checks one value of an element; the path ends in it.
func (r *run) value(it *item, e *element) {
	if !r.step() || it.unseen {
		return
	}
	if len(e.types) > 0 {
		r.types(it, e)
	}
	if v := it.value; v != nil {
		if e.fixed != nil && !v.Equal(e.fixed) {
			r.fail(fhir.CodeValue, "fixed", "The value must be %s by %s", show(e.fixed), r.by())
		}
		if e.pattern != nil && !r.matches(v, e.pattern) {
			r.fail(fhir.CodeValue, "pattern", "The value must hold %s by %s", show(e.pattern), r.by())
		}
		if e.maxLength > 0 && v.Kind == fhir.String && len(v.Text) > e.maxLength && utf8.RuneCountInString(v.Text) > e.maxLength {
			r.fail(fhir.CodeTooLong, "max-length", "The value may have %d characters at most by %s", e.maxLength, r.by())
		}
		if e.minValue != nil {
			if c, ok := compare(v, e.minValue); ok && c < 0 {
				r.fail(fhir.CodeValue, "min-value", "The value must be %s at least by %s", show(e.minValue), r.by())
			}
		}
		if e.maxValue != nil {
			if c, ok := compare(v, e.maxValue); ok && c > 0 {
				r.fail(fhir.CodeValue, "max-value", "The value must be %s at most by %s", show(e.maxValue), r.by())
			}
		}
		if e.binding != "" {
			r.codes(v, it.typ, e.binding)
		}
		if e.extensible != "" && r.options.MustSupport {
			r.advise(v, it.typ, e.extensible)
		}
	}
	if len(e.invariants) > 0 {
		r.invariants(it, e)
	}
	if len(e.children) > 0 {
		if it.typ != nil && it.typ.Kind == fhir.Resource && it.value != nil && it.value != r.resource {
			r.inResource(it.value, func() { r.object(it, e) })
		} else {
			r.object(it, e)
		}
	}
}

// types checks the type of a value, and the profiles and targets that its type may have.
func (r *run) types(it *item, e *element) {
	if it.typ == nil {
		return
	}
	open := it.typ.Kind == fhir.Resource || it.json != e.name && !strings.HasPrefix(it.json, "_")
	var profiles, targets []string
	matched, free, anywhere := false, false, false
	for i := range e.types {
		t := &e.types[i]
		if open && !t.is(it.typ) {
			continue
		}
		matched = true
		free = free || len(t.profiles) == 0
		anywhere = anywhere || len(t.targets) == 0
		profiles, targets = append(profiles, t.profiles...), append(targets, t.targets...)
	}
	switch {
	case !matched:
		names := make([]string, len(e.types))
		for i := range e.types {
			names[i] = e.types[i].code
		}
		r.fail(fhir.CodeStructure, "type", "The type %s is not allowed here by %s: use %s", it.typ.Name, r.by(), strings.Join(names, " or "))
		return
	case !free:
		r.oneProfile(it, profiles)
	}
	if !anywhere && it.typ.Name == "Reference" && it.value != nil {
		r.target(it.value, targets)
	}
}

// oneProfile checks a value by the only profile that its type may have, or by whichever of several it fits.
func (r *run) oneProfile(it *item, profiles []string) {
	var known []*Profile
	for _, url := range profiles {
		p := r.profile(url)
		if p == nil || p.fault != nil {
			r.once("profile "+url, fhir.SeverityWarning, fhir.CodeNotFound, "profile-unknown",
				"The profile %s, which %s asks for here, is not known or cannot be used, so nothing was checked by it", quote(url), r.by())
			return
		}
		known = append(known, p)
	}
	if len(known) == 1 {
		r.profiled(it, known[0])
		return
	}
	for _, p := range known {
		if v := r.fits(func() { r.profiled(it, p) }); v != no {
			r.doubt = r.doubt || v == maybe
			return
		}
	}
	r.fail(fhir.CodeStructure, "profile", "The value fits none of the profiles that %s allows here: %s", r.by(), strings.Join(profiles, ", "))
}

// invariants asks the constraints of a profile about one value.
func (r *run) invariants(it *item, e *element) {
	if r.env == nil {
		resource := r.resource
		if resource == nil {
			resource = r.document
		}
		r.env = &path.Env{Resource: path.Root(resource, r.schema), Root: path.Root(r.document, r.schema), MaxSteps: MaxInvariantSteps,
			Resolve: func(ref string) *fhir.Node {
				n := fhir.Obj(fhir.Str(ref).As("reference"))
				if target, ok := r.resolve(&n); ok && !target.unseen {
					return target.value
				}
				return nil
			}}
	}
	for _, x := range e.invariants {
		if r.told["dead "+x.Key] || !r.step() {
			continue
		}
		ok, err := x.expr.EvalBool(r.env, r.env.Resource.At(it.value, it.sibling, it.typ))
		switch {
		case err != nil:
			r.once("invariant "+x.Key, fhir.SeverityWarning, fhir.CodeProcessing, "invariant-unchecked",
				"The invariant %s of %s could not be evaluated, so it was not checked: %s", x.Key, r.by(), err.Error())
			if fhir.KindOf(err) == fhir.TooCostly {
				r.told["dead "+x.Key] = true
			}
		case !ok && x.Severity == fhir.SeverityError:
			r.fail(fhir.CodeInvariant, x.Key, "%s (%s of %s)", x.Human, x.Key, r.by())
		case !ok:
			r.tell(fhir.SeverityWarning, fhir.CodeInvariant, x.Key, "%s (%s of %s)", x.Human, x.Key, r.by())
		}
	}
}
