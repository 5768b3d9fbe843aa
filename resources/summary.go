package resources

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/records"
	"kiln/storage"
)

const (
	ipsBase        = "http://hl7.org/fhir/uv/ips/StructureDefinition/"
	ipsBundle      = ipsBase + "Bundle-uv-ips"
	ipsComposition = ipsBase + "Composition-uv-ips"
	// maxSection is how many records of a type one section lists; docs/limits.md publishes it.
	maxSection = 200
)

// summary answers Patient/$summary: an International Patient Summary, made of what the caller may see at this moment.
// Nothing is stored. Spec: IPS 1.1 and 2.0, http://hl7.org/fhir/uv/ips/OperationDefinition/summary.
//
// Errors: NotFound, Gone; Invalid; NotSupported for other profiles and for graphs; Forbidden for who may not search.
func (s *Service) summary(ctx context.Context, c *call) (*Response, error) {
	if a := c.first("graph"); a != nil {
		return nil, fhir.NewError(fhir.NotSupported, fhir.CodeNotSupported, "Summaries by a GraphDefinition are not offered").At(a.at)
	}
	if a := c.first("profile"); a != nil && a.value.Text != ipsBundle {
		return nil, fhir.NewError(fhir.NotSupported, fhir.CodeNotSupported, "This server makes summaries by "+ipsBundle+" alone").At(a.at)
	}
	ctx = s.store.WithinTime(ctx)
	id, err := s.summarized(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := permitted(ctx, auth.Search, ""); err != nil {
		return nil, err
	}
	read, err := s.Do(ctx, Request{Interaction: Read, Type: "Patient", ID: id, Principal: c.Principal})
	if err != nil {
		return nil, err
	}
	d := &summaryDocument{Service: s, principal: c.Principal, patient: "Patient/" + read.Version.ID, held: map[string]bool{}}
	if d.subject, err = fhir.ParseJSON(read.Version.Content); err != nil {
		return nil, unreadable(err)
	}
	bundle, err := d.assemble(acting(ctx, auth.Search))
	if err != nil {
		return nil, err
	}
	return &Response{Resource: bundle}, nil
}

// summarized is whose summary is wanted: that of the path, or the one Patient with the identifier.
func (s *Service) summarized(ctx context.Context, c *call) (string, error) {
	a := c.first("identifier")
	switch {
	case c.ID != "" && a != nil:
		return "", fhir.NewError(fhir.Invalid, fhir.CodeInvalid, "The path names the Patient; the argument identifier cannot").At(a.at)
	case c.ID != "":
		return c.ID, nil
	case a == nil:
		return "", fhir.NewError(fhir.Invalid, fhir.CodeRequired, "Say whose summary: Patient/[id]/$summary, or the argument identifier")
	}
	resp, err := s.Do(ctx, Request{Interaction: SearchType, Type: "Patient", Principal: c.Principal,
		Query: "_count=2&identifier=" + url.QueryEscape(strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(a.value.Text))})
	if err != nil {
		return "", err
	}
	if n := len(resp.Bundle.Entries); n != 1 {
		text := "No Patient has this identifier"
		if n > 1 {
			text = "Several Patients have this identifier"
		}
		return "", fhir.NewError(fhir.NotFound, fhir.CodeNotFound, text).At(a.at)
	}
	return resp.Bundle.Entries[0].Version.ID, nil
}

// summaryDocument is a summary in the making.
type summaryDocument struct {
	*Service
	principal auth.Principal
	patient   string // "Patient/id"
	subject   *fhir.Node
	// entries are those after the Composition; held are the names of the resources in them.
	entries  []fhir.Node
	held     map[string]bool
	sections []fhir.Node
	highest  fhir.Confidentiality // of what it holds
}

func (d *summaryDocument) assemble(ctx context.Context) (*fhir.Node, error) {
	d.highest = fhir.AtLeast("N")
	id, composition, author := d.options.NewID(), d.options.NewID(), d.options.NewID()
	now := fhir.FormatInstant(d.now())
	d.add(d.url(d.patient), demographics(d.subject))
	d.entries = append(d.entries, entryWith("urn:uuid:"+author, fhir.Obj(fhir.Str("Device").As("resourceType"), fhir.Str(author).As("id"),
		fhir.Arr(fhir.Obj(fhir.Str("Kiln").As("name"), fhir.Str("model-name").As("type"))).As("deviceName"))))
	for _, section := range summarySections() {
		if err := d.section(ctx, section); err != nil {
			return nil, err
		}
	}
	head := fhir.Obj(
		fhir.Str("Composition").As("resourceType"), fhir.Str(composition).As("id"),
		fhir.Obj(fhir.Arr(fhir.Str(ipsComposition)).As("profile")).As("meta"),
		narrative(paragraph(labelOfPerson(d.subject), "International Patient Summary of ", ", made on "+now)).As("text"),
		fhir.Str("final").As("status"),
		coded(loinc, "60591-5", "Patient summary Document").As("type"),
		reference(d.url(d.patient)).As("subject"),
		fhir.Str(now).As("date"),
		fhir.Arr(reference("urn:uuid:"+author)).As("author"),
		fhir.Str("International Patient Summary").As("title"),
		fhir.Str(d.highest.Code()).As("confidentiality"),
		fhir.Arr(fhir.Obj(fhir.Arr(coded("http://terminology.hl7.org/CodeSystem/v3-ActClass", "PCPR", "")).As("code"),
			fhir.Obj(fhir.Str(now).As("end")).As("period"))).As("event"),
		fhir.Arr(d.sections...).As("section"))
	meta := fhir.Obj(fhir.Str(now).As("lastUpdated"), fhir.Arr(fhir.Str(ipsBundle)).As("profile"))
	if label, ok := d.highest.Label(); ok {
		meta.Set("security", fhir.Arr(label))
	}
	bundle := fhir.Obj(
		fhir.Str("Bundle").As("resourceType"), fhir.Str(id).As("id"),
		meta.As("meta"),
		fhir.Obj(fhir.Str(uriIdentifiers).As("system"), fhir.Str("urn:uuid:"+id).As("value")).As("identifier"),
		fhir.Str("document").As("type"), fhir.Str(now).As("timestamp"),
		fhir.Arr(append([]fhir.Node{entryWith("urn:uuid:"+composition, head)}, d.entries...)...).As("entry"))
	return &bundle, nil
}

// url is the fullUrl of a stored resource. What the server makes for the document has no URL that a reference could be relative to
// (FHIR R4 bundle.html#references), so it refers to others by this.
func (d *summaryDocument) url(name string) string { return d.options.Base + "/" + name }

// demographics is a Patient as IPS wants it: with a name and a birth date, or a word that they are not known.
func demographics(n *fhir.Node) *fhir.Node {
	if n.Get("name") != nil && (n.Get("birthDate") != nil || n.Get("_birthDate") != nil) {
		return n
	}
	own := n.Clone()
	unknown := fhir.Obj(fhir.Arr(fhir.Obj(fhir.Str(fhir.DataAbsentReason).As("url"), fhir.Str("unknown").As("valueCode"))).As("extension"))
	if own.Get("name") == nil {
		own.Set("name", fhir.Arr(fhir.Obj(unknown.As("_text"))))
	}
	if own.Get("birthDate") == nil && own.Get("_birthDate") == nil {
		own.Set("_birthDate", unknown)
	}
	return &own
}

func entryWith(fullURL string, n fhir.Node) fhir.Node {
	return fhir.Obj(fhir.Str(fullURL).As("fullUrl"), n.As("resource"))
}

// add puts a resource into the document, once.
func (d *summaryDocument) add(fullURL string, n *fhir.Node) {
	if d.held[fullURL] {
		return
	}
	d.held[fullURL] = true
	d.highest.Of(n)
	d.entries = append(d.entries, entryWith(fullURL, *n))
}

// section adds a section with what is found for it. A section that IPS requires says where nothing is known.
func (d *summaryDocument) section(ctx context.Context, x summarySection) error {
	var list []*fhir.Node
	more := false
	for _, q := range x.queries {
		found, cut, err := d.find(ctx, q)
		if err != nil {
			return err
		}
		for _, n := range found {
			if !slices.ContainsFunc(list, func(o *fhir.Node) bool { return o.ResourceType() == n.ResourceType() && o.ID() == n.ID() }) {
				list = append(list, n)
			}
		}
		more = more || cut
	}
	if x.latest {
		list = latestOfEach(list)
	}
	if len(list) == 0 && x.absent == nil {
		return nil
	}
	n := fhir.Obj(fhir.Str(x.title).As("title"), coded(loinc, x.code, x.display).As("code"))
	var refs []fhir.Node
	if len(list) == 0 {
		id := d.options.NewID()
		absent := x.absent(id, d.url(d.patient))
		d.entries = append(d.entries, entryWith("urn:uuid:"+id, absent))
		refs = append(refs, reference("urn:uuid:"+id))
		n.Set("text", narrative(paragraph(x.nothing, "", "")))
	} else {
		for _, record := range list {
			name := record.ResourceType() + "/" + record.ID()
			d.add(d.url(name), record)
			refs = append(refs, reference(d.url(name)))
		}
		n.Set("text", narrative(table(list, more)))
	}
	n.Set("entry", fhir.Arr(refs...))
	d.sections = append(d.sections, n)
	return nil
}

// summaryBeside are the types of what records refer to and cannot be understood without.
var summaryBeside = []string{"Medication", "Device", "Practitioner", "PractitionerRole", "Organization", "Observation"}

// find searches as the caller; what the caller may not search for is not there. more says that there are others.
func (d *summaryDocument) find(ctx context.Context, q summaryQuery) (list []*fhir.Node, more bool, err error) {
	if permitted(ctx, auth.Search, q.typ) != nil {
		return nil, false, nil
	}
	query, err := d.parseSearch(ctx, Request{Interaction: SearchType, Type: q.typ, Query: "patient=" + d.patient + "&" + q.where, Principal: d.principal})
	if err != nil {
		return nil, false, err
	}
	page, err := d.store.Search(ctx, nil, query, maxSection, nil)
	if err != nil {
		return nil, false, err
	}
	var matches []*storage.Version
	for _, v := range page.Matches {
		n, err := fhir.ParseJSON(v.Content)
		if err != nil {
			return nil, false, unreadable(err)
		}
		if q.keep == nil || q.keep(n) {
			list, matches = append(list, n), append(matches, v)
		}
	}
	beside, _, err := d.store.Referred(ctx, nil, matches, nil, d.limits.MaxIncluded)
	if err != nil {
		return nil, false, err
	}
	if beside, _, err = d.store.Narrowed(ctx, beside); err != nil {
		return nil, false, err
	}
	return list, !page.Complete, d.addBeside(ctx, beside)
}

func (d *summaryDocument) addBeside(ctx context.Context, beside []*storage.Version) error {
	for _, v := range beside {
		if !slices.Contains(summaryBeside, v.Type) || permitted(ctx, auth.Search, v.Type) != nil {
			continue
		}
		n, err := fhir.ParseJSON(v.Content)
		if err != nil {
			return unreadable(err)
		}
		if life := d.lives[v.Type]; life != nil && life.State(n) == records.EnteredInError {
			continue
		}
		d.add(d.url(v.Type+"/"+v.ID), n)
	}
	return nil
}

// latestOfEach keeps the newest of the records with the same code, of a list with the newest first.
func latestOfEach(list []*fhir.Node) (kept []*fhir.Node) {
	seen := map[string]bool{}
	for _, n := range list {
		name := labelOf(n.Get("code"))
		if !seen[name] {
			seen[name] = true
			kept = append(kept, n)
		}
	}
	return kept
}
