package conformance

import (
	"kiln/fhir"
)

// OfferedSystem is a code system on offer in one version.
type OfferedSystem struct {
	URL, Version string
	// Default marks the version that counts where none is named.
	Default bool
	// Hierarchical says that its codes subsume each other.
	Hierarchical bool
}

// TerminologyCapabilities builds what GET /metadata?mode=terminology answers with: o says what it says for the
// CapabilityStatement; systems are in the order of their URLs. Spec: FHIR R4 terminologycapabilities.html.
func (r *Registry) TerminologyCapabilities(o CapabilityOptions, systems []OfferedSystem) (fhir.Node, error) {
	expand, err := r.Operation("ValueSet-expand")
	if err != nil {
		return fhir.Node{}, err
	}
	var parameters []fhir.Node
	for _, p := range expand.In {
		parameters = append(parameters, fhir.Obj(fhir.Str(p.Name).As("name")))
	}
	var list []fhir.Node
	for i := 0; i < len(systems); {
		url, hierarchical := systems[i].URL, false
		var versions []fhir.Node
		for ; i < len(systems) && systems[i].URL == url; i++ {
			hierarchical = hierarchical || systems[i].Hierarchical
			if v := systems[i].Version; v != "" {
				versions = append(versions, fhir.Obj(fhir.Str(v).As("code"), fhir.Boolean(systems[i].Default).As("isDefault")))
			}
		}
		n := fhir.Obj(fhir.Str(url).As("uri"))
		if len(versions) > 0 {
			n.Set("version", fhir.Arr(versions...))
		}
		n.Set("subsumption", fhir.Boolean(hierarchical))
		list = append(list, n)
	}
	n := fhir.Obj(
		fhir.Str("TerminologyCapabilities").As("resourceType"),
		fhir.Str("kiln-terminology").As("id"),
		fhir.Str(o.Base+"/TerminologyCapabilities/kiln-terminology").As("url"),
		fhir.Str(o.Version).As("version"),
		fhir.Str("KilnTerminology").As("name"),
		fhir.Str("Terminology of the Kiln FHIR R4 server").As("title"),
		fhir.Str("active").As("status"),
		fhir.Str(fhir.FormatInstant(o.Date)).As("date"),
		fhir.Str("The code systems of FHIR R4 and those loaded from their publishers. CodeSystem resources that clients store count too, and are not listed here.").As("description"),
		fhir.Str("instance").As("kind"),
		fhir.Obj(fhir.Str("Kiln").As("name"), fhir.Str(o.Version).As("version")).As("software"),
		fhir.Obj(fhir.Str("Kiln FHIR R4 server").As("description"), fhir.Str(o.Base).As("url")).As("implementation"),
	)
	if len(list) > 0 {
		n.Set("codeSystem", fhir.Arr(list...))
	}
	n.Set("expansion", fhir.Obj(
		fhir.Boolean(true).As("hierarchical"), fhir.Boolean(true).As("paging"), fhir.Boolean(true).As("incomplete"),
		fhir.Arr(parameters...).As("parameter"),
		fhir.Str("Every word of the filter begins a word of the code, the display or a designation, or the filter begins the code. Case and accents do not count. Codes whose display begins with the filter come first.").As("textFilter"),
	))
	n.Set("codeSearch", fhir.Str("all"))
	n.Set("validateCode", fhir.Obj(fhir.Boolean(true).As("translations")))
	n.Set("translation", fhir.Obj(fhir.Boolean(false).As("needsMap")))
	return n, nil
}
