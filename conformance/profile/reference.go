package profile

import (
	"slices"
	"strings"

	"kiln/fhir"
)

// target checks that a reference points at a resource of a type that one of the profiles allows. What lies outside of
// the document is told by its type alone.
func (r *run) target(n *fhir.Node, profiles []string) {
	it, ok := r.resolve(n)
	if !ok || it.typ == nil {
		return
	}
	var names []string
	for _, url := range profiles {
		name := r.typeOf(url)
		if name == "" || it.typ.Is(name) {
			return // the type is right, or cannot be told
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	r.fail(fhir.CodeValue, "reference-target", "The reference may be to %s by %s, not to %s", strings.Join(names, " or "), r.by(), it.typ.Name)
}

// resolve finds the target of a reference among the contained resources and the entries of the document; elsewhere, only
// its type.
func (r *run) resolve(n *fhir.Node) (item, bool) {
	text := n.GetText("reference")
	isType := func(name string) bool { t := r.schema.Type(name); return t != nil && t.Kind == fhir.Resource }
	found := func(target *fhir.Node) (item, bool) {
		return item{value: target, typ: r.schema.Type(target.ResourceType()), index: -1}, true
	}
	if id, ok := strings.CutPrefix(text, "#"); ok {
		for _, container := range []*fhir.Node{r.resource, r.document} {
			if container == nil {
				continue
			}
			if id == "" {
				return found(container)
			}
			for c := range container.Get("contained").Items() {
				if c.ID() == id {
					return found(c)
				}
			}
		}
		return item{}, false
	}
	name := n.GetText("type")
	if text != "" {
		ref, ok := fhir.ParseReference(text, isType)
		if !ok {
			return item{}, false
		}
		if r.document.ResourceType() == "Bundle" {
			for e := range r.document.Get("entry").Items() {
				if !r.step() {
					return item{}, false
				}
				target, full := e.Get("resource"), e.GetText("fullUrl")
				if target != nil && (full == text || ref.Type != "" && target.ID() == ref.ID && target.ResourceType() == ref.Type &&
					strings.HasSuffix(full, ref.Type+"/"+ref.ID)) {
					return found(target)
				}
			}
		}
		if ref.Type != "" {
			name = ref.Type
		}
	}
	if !isType(name) {
		return item{}, false
	}
	return item{value: &fhir.Node{Kind: fhir.Object}, typ: r.schema.Type(name), index: -1, unseen: true}, true
}
