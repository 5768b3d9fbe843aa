package conformance

import (
	"slices"
	"strings"
	"time"

	"kiln/fhir"
	"kiln/fhir/search"
)

// CapabilityOptions are what a CapabilityStatement says beyond the definitions. Whoever offers a thing fills them in,
// so that nothing is declared that is not there.
type CapabilityOptions struct {
	// Base is the FHIR base URL, Version the software's version, Date when this statement came to hold.
	Base, Version string
	Date          time.Time
	// Formats and PatchFormats are media types.
	Formats, PatchFormats []string
	// TypeInteractions are offered for every resource type, SystemInteractions for the whole server.
	TypeInteractions, SystemInteractions []string
	// ReadOnly are types that clients can only read, one by one or by search.
	ReadOnly []string
	// Operations are those on offer.
	Operations []*Operation
	// MultipleDelete says that a conditional delete may remove several resources.
	MultipleDelete bool
	// Offered says whether a search parameter works; nil for all.
	Offered func(*SearchParameter) bool
	// Documentation is what there is to say of a search parameter, "" for nothing; nil says nothing of any.
	Documentation func(*SearchParameter) string
	// Topics are the canonical URLs of what Subscriptions can name.
	Topics []string
	// Profiles are the canonical URLs of the profiles that resources can be checked by, by type.
	Profiles map[string][]string
	// Security, if not nil, is rest.security.
	Security *fhir.Node
}

// topicExtension is how a server says which topics it knows. Spec: Subscriptions R5 Backport 1.1.
const topicExtension = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/capabilitystatement-subscriptiontopic-canonical"

// CapabilityStatement builds the statement that GET /metadata answers with.
func (r *Registry) CapabilityStatement(o CapabilityOptions) fhir.Node {
	if o.Offered == nil {
		o.Offered = func(*SearchParameter) bool { return true }
	}
	rest := fhir.Obj(fhir.Str("server").As("mode"))
	if o.Security != nil {
		rest.Set("security", *o.Security)
	}
	referrers := r.referrers(o.Offered)
	var list []fhir.Node
	for _, typ := range r.schema.Resources {
		list = append(list, r.capabilityOf(typ, referrers[typ], o))
	}
	rest.Set("resource", fhir.Arr(list...))
	rest.Set("interaction", codes(o.SystemInteractions))
	if system := operationsOf(o.Operations, func(op *Operation) bool { return op.System }); system != nil {
		rest.Set("operation", fhir.Arr(system...))
	}
	rest.Set("searchParam", r.commonParams(o))
	var compartments []fhir.Node
	for _, name := range r.Compartments() {
		compartments = append(compartments, fhir.Str("http://hl7.org/fhir/CompartmentDefinition/"+lowerFirst(name)))
	}
	rest.Set("compartment", fhir.Arr(compartments...))
	return fhir.Obj(
		fhir.Str("CapabilityStatement").As("resourceType"),
		fhir.Str("kiln").As("id"),
		fhir.Str(o.Base+"/metadata").As("url"),
		fhir.Str(o.Version).As("version"),
		fhir.Str("Kiln").As("name"),
		fhir.Str("Kiln FHIR R4 server").As("title"),
		fhir.Str("active").As("status"),
		fhir.Str(fhir.FormatInstant(o.Date)).As("date"),
		fhir.Str("instance").As("kind"),
		fhir.Obj(fhir.Str("Kiln").As("name"), fhir.Str(o.Version).As("version")).As("software"),
		fhir.Obj(fhir.Str("Kiln FHIR R4 server").As("description"), fhir.Str(o.Base).As("url")).As("implementation"),
		fhir.Str(FHIRVersion).As("fhirVersion"),
		stringList(o.Formats).As("format"),
		stringList(o.PatchFormats).As("patchFormat"),
		fhir.Arr(rest).As("rest"),
	)
}

func (r *Registry) capabilityOf(typ string, referrers []string, o CapabilityOptions) fhir.Node {
	readOnly := slices.Contains(o.ReadOnly, typ)
	interactions, conditionalDelete := o.TypeInteractions, "single"
	switch {
	case readOnly:
		interactions, conditionalDelete = slices.DeleteFunc(slices.Clone(interactions), func(code string) bool { return !slices.Contains(readInteractions, code) }), "not-supported"
	case o.MultipleDelete:
		conditionalDelete = "multiple"
	}
	n := fhir.Obj(
		fhir.Str(typ).As("type"),
		fhir.Str("http://hl7.org/fhir/StructureDefinition/"+typ).As("profile"),
	)
	if typ == "Subscription" && len(o.Topics) > 0 {
		topics := make([]fhir.Node, len(o.Topics))
		for i, url := range o.Topics {
			topics[i] = fhir.Obj(fhir.Str(topicExtension).As("url"), fhir.Str(url).As("valueCanonical"))
		}
		n.SetFirst("extension", fhir.Arr(topics...))
	}
	if profiles := o.Profiles[typ]; len(profiles) > 0 {
		n.Set("supportedProfile", stringList(profiles))
	}
	n.Kids = append(n.Kids,
		codes(interactions).As("interaction"),
		fhir.Str("versioned").As("versioning"),
		fhir.Boolean(true).As("readHistory"),
		fhir.Boolean(!readOnly).As("updateCreate"),
		fhir.Boolean(!readOnly).As("conditionalCreate"),
		fhir.Str("full-support").As("conditionalRead"),
		fhir.Boolean(!readOnly).As("conditionalUpdate"),
	)
	n.Set("conditionalDelete", fhir.Str(conditionalDelete))
	n.Set("referencePolicy", stringList([]string{"literal", "logical"}))
	var includes []string
	for _, p := range r.SearchParameters(typ) {
		if p.Type == search.Reference && o.Offered(p) {
			includes = append(includes, typ+":"+p.Code)
		}
	}
	if len(includes) > 0 {
		n.Set("searchInclude", stringList(append([]string{"*"}, includes...)))
	}
	if len(referrers) > 0 {
		n.Set("searchRevInclude", stringList(referrers))
	}
	n.Set("searchParam", r.searchParams(typ, o))
	if own := operationsOf(o.Operations, func(op *Operation) bool {
		return (op.Type || op.Instance) && op.On(typ) && !(readOnly && op.AffectsState)
	}); own != nil {
		n.Set("operation", fhir.Arr(own...))
	}
	return n
}

// readInteractions are those of types in CapabilityOptions.ReadOnly.
var readInteractions = []string{"read", "vread", "history-instance", "search-type"}

func operationsOf(all []*Operation, offered func(*Operation) bool) []fhir.Node {
	var list []fhir.Node
	for _, op := range all {
		if offered(op) {
			list = append(list, fhir.Obj(fhir.Str(op.Code).As("name"), fhir.Str(op.URL).As("definition")))
		}
	}
	return list
}

func (r *Registry) searchParams(typ string, o CapabilityOptions) fhir.Node {
	var list []fhir.Node
	for _, p := range r.SearchParameters(typ) {
		if !o.Offered(p) {
			continue
		}
		n := fhir.Obj(fhir.Str(p.Code).As("name"))
		if p.URL != "" {
			n.Set("definition", fhir.Str(p.URL))
		}
		n.Set("type", fhir.Str(string(p.Type)))
		if o.Documentation != nil {
			if text := o.Documentation(p); text != "" {
				n.Set("documentation", fhir.Str(text))
			}
		}
		list = append(list, n)
	}
	return fhir.Arr(list...)
}

// commonParams are the parameters that searches of every type take: those of all resources, and those with a grammar of their own.
func (r *Registry) commonParams(o CapabilityOptions) fhir.Node {
	list := r.searchParams("Resource", o)
	for _, c := range search.Commons() {
		list.Kids = append(list.Kids, fhir.Obj(fhir.Str(c.Name).As("name"), fhir.Str(string(c.Kind)).As("type"), fhir.Str(c.Meaning).As("documentation")))
	}
	slices.SortStableFunc(list.Kids, func(a, b fhir.Node) int { return strings.Compare(a.GetText("name"), b.GetText("name")) })
	return list
}

// referrers lists for every type the parameters that name it as a target: what _revinclude takes.
func (r *Registry) referrers(offered func(*SearchParameter) bool) map[string][]string {
	list := map[string][]string{}
	for _, typ := range r.schema.Resources {
		for _, p := range r.SearchParameters(typ) {
			if p.Type == search.Reference && offered(p) {
				for _, target := range p.Targets {
					list[target] = append(list[target], typ+":"+p.Code)
				}
			}
		}
	}
	for _, l := range list {
		slices.Sort(l)
	}
	return list
}

func codes(list []string) fhir.Node {
	items := make([]fhir.Node, len(list))
	for i, c := range list {
		items[i] = fhir.Obj(fhir.Str(c).As("code"))
	}
	return fhir.Arr(items...)
}

func stringList(list []string) fhir.Node {
	items := make([]fhir.Node, len(list))
	for i, s := range list {
		items[i] = fhir.Str(s)
	}
	return fhir.Arr(items...)
}

func lowerFirst(s string) string { return string(s[0]|0x20) + s[1:] }
