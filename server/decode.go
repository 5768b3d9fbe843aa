package server

import (
	"bytes"
	"strings"

	"kiln/fhir"
	"kiln/fhir/xml"
	"kiln/resources"
)

// patchTypes is what Accept-Patch says.
const patchTypes = "application/json-patch+json, application/fhir+json, application/fhir+xml"

// contentType checks what the body says it is; FHIR in XML counts as bodyFHIR. Errors: UnsupportedMedia.
func (x *exchange) contentType(allowed ...bodyType) (bodyType, error) {
	got, why := parseContentType(x.r.Header.Get("Content-Type"))
	if got == bodyXML {
		got = bodyFHIR
	}
	for _, t := range allowed {
		if got == t && got != bodyUnknown {
			return got, nil
		}
	}
	takes := "application/fhir+json or application/fhir+xml in UTF-8"
	switch {
	case allowed[0] == bodyForm:
		takes = "application/x-www-form-urlencoded"
	case len(allowed) > 1:
		takes = "application/json-patch+json (RFC 6902) or a Parameters resource (FHIRPath Patch) as application/fhir+json or application/fhir+xml"
		x.header.Set("Accept-Patch", patchTypes)
	}
	if why == "" {
		why = "A body of this Content-Type does not fit here"
	}
	return bodyUnknown, fhir.NewError(fhir.UnsupportedMedia, fhir.CodeNotSupported, why+"; send "+takes)
}

// readNode reads the body as one JSON object, or as one resource in XML when its Content-Type says so.
func (x *exchange) readNode(limit int64) (*fhir.Node, error) {
	buf := getBuffer()
	defer putBuffer(buf)
	if err := x.readBody(buf, limit); err != nil {
		return nil, err
	}
	return x.parseBody(buf)
}

func (x *exchange) parseBody(buf *bytes.Buffer) (*fhir.Node, error) {
	if t, _ := parseContentType(x.r.Header.Get("Content-Type")); t == bodyXML {
		return xml.Decode(buf.Bytes(), x.s.schema)
	}
	n, err := fhir.ParseJSON(bytes.TrimPrefix(buf.Bytes(), utf8Mark)) // ParseJSON keeps nothing of the buffer
	if err != nil {
		return nil, err
	}
	if n.Kind != fhir.Object {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeStructure,
			"A resource is a JSON object, and the body is "+article(n.Kind.String()))
	}
	return n, nil
}

// utf8Mark is the byte order mark that some Windows tools put before UTF-8; RFC 8259 lets readers ignore it.
var utf8Mark = []byte("\xef\xbb\xbf")

func article(noun string) string {
	if noun != "" && strings.ContainsRune("aeio", rune(noun[0])) {
		return "an " + noun
	}
	return "a " + noun
}

// readResource reads a body that must be a resource of the given type. id is that of the URL; "" where it has none.
func (x *exchange) readResource(typ, id string) (*fhir.Node, error) {
	if typ == binaryType {
		return x.readBinary(id)
	}
	if _, err := x.contentType(bodyFHIR); err != nil {
		return nil, err
	}
	limit := x.s.limits.MaxBodyBytes
	if typ == "Bundle" {
		limit = x.s.limits.MaxBundleBytes // a Bundle to be stored holds as much as one to be processed
	}
	n, err := x.readNode(limit)
	if err != nil {
		return nil, err
	}
	return n, x.checkType(n, typ)
}

func (x *exchange) checkType(n *fhir.Node, typ string) error {
	member := n.Get("resourceType")
	switch {
	case member == nil:
		return fhir.NewError(fhir.Invalid, fhir.CodeRequired, `The body has no "resourceType"; it must be `+
			quoteInput(typ)+" here").At("resourceType").Coded("resource-type")
	case member.Kind != fhir.String:
		return fhir.NewError(fhir.Invalid, fhir.CodeStructure, `"resourceType" must be a string, and it is `+
			article(member.Kind.String())).At("resourceType").Coded("resource-type")
	case member.Text != typ:
		text := "The body is of type " + quoteInput(member.Text) + ", and this address takes " + quoteInput(typ)
		if !x.s.types[member.Text] {
			text = quoteInput(member.Text) + " is not a resource type of FHIR R4; this address takes " + quoteInput(typ)
		}
		return fhir.NewError(fhir.Invalid, fhir.CodeInvalid, text).At("resourceType").Coded("resource-type")
	}
	return nil
}

// checkBodyID makes sure that an update's body names the id of its URL (FHIR R4 http.html#update).
func checkBodyID(n *fhir.Node, id string) error {
	at := n.ResourceType() + ".id"
	member := n.Get("id")
	switch {
	case member == nil:
		return fhir.NewError(fhir.Invalid, fhir.CodeRequired, `The body has no "id"; an update needs the id of the URL in it, `+
			quoteInput(id)).At(at).Coded("id-mismatch")
	case member.Kind != fhir.String:
		return fhir.NewError(fhir.Invalid, fhir.CodeStructure, `"id" must be a string, and it is `+
			article(member.Kind.String())).At(at).Coded("id-mismatch")
	case member.Text != id:
		return fhir.NewError(fhir.Invalid, fhir.CodeInvalid, "The id in the body, "+quoteInput(member.Text)+
			", is not the id of the URL, "+quoteInput(id)).At(at).Coded("id-mismatch")
	}
	return nil
}

// readBundle reads a batch or transaction, and takes a turn for it before it becomes larger in memory.
func (x *exchange) readBundle() (*fhir.Node, resources.Interaction, error) {
	if _, err := x.contentType(bodyFHIR); err != nil {
		return nil, "", err
	}
	buf := getBuffer()
	defer putBuffer(buf)
	err := x.readBody(buf, x.s.limits.MaxBundleBytes)
	if err == nil {
		err = x.takeTurn()
	}
	if err != nil {
		return nil, "", err
	}
	n, err := x.parseBody(buf)
	if err != nil {
		return nil, "", err
	}
	if typ := n.ResourceType(); typ != "Bundle" && x.s.types[typ] {
		return nil, "", fhir.NewError(fhir.Invalid, fhir.CodeInvalid, "The base address takes a Bundle; send this "+typ+
			" to "+x.s.base+"/"+typ).At("resourceType").Coded("resource-type")
	}
	if err := x.checkType(n, "Bundle"); err != nil {
		return nil, "", err
	}
	switch kind := n.GetText("type"); kind {
	case "batch":
		return n, resources.Batch, nil
	case "transaction":
		return n, resources.Transaction, nil
	case "":
		return nil, "", fhir.NewError(fhir.Invalid, fhir.CodeRequired,
			`A Bundle sent to the base address needs a type: "batch" or "transaction"`).At("Bundle.type").Coded("bundle-type")
	default:
		return nil, "", fhir.NewError(fhir.Invalid, fhir.CodeValue, "A Bundle of type "+quoteInput(kind)+
			` cannot be processed, only "batch" or "transaction"; to store it, send it to `+x.s.base+"/Bundle").
			At("Bundle.type").Coded("bundle-type")
	}
}

// readPatch reads a JSON Patch, left to the service to decode, or a FHIRPath Patch.
func (x *exchange) readPatch(req *resources.Request) error {
	kind, err := x.contentType(bodyJSONPatch, bodyFHIR)
	if err != nil {
		return err
	}
	if kind == bodyFHIR {
		if req.Body, err = x.readNode(x.s.limits.MaxBodyBytes); err != nil {
			return err
		}
		return x.checkType(req.Body, "Parameters")
	}
	buf := getBuffer()
	defer putBuffer(buf)
	if err := x.readBody(buf, x.s.limits.MaxBodyBytes); err != nil {
		return err
	}
	req.JSONPatch = bytes.Clone(buf.Bytes())
	return nil
}

// readForm gives the search parameters of a POST _search: those of the URL, then those of the body
// (FHIR R4 http.html#search).
func (x *exchange) readForm() (string, error) {
	form := ""
	if x.r.ContentLength != 0 {
		if _, err := x.contentType(bodyForm); err != nil {
			return "", err
		}
		buf := getBuffer()
		defer putBuffer(buf)
		if err := x.readBody(buf, x.s.limits.MaxBodyBytes); err != nil {
			return "", err
		}
		form = buf.String()
	}
	form, wanted, pretty := splitQuery(strings.Trim(form, "\r\n"))
	if wanted != "" {
		f, ok := formatParameter(wanted)
		if !ok {
			return "", errNotAcceptable()
		}
		x.format, pretty = f, pretty || f.people
	}
	x.pretty = x.pretty || pretty
	if x.query == "" || form == "" {
		return x.query + form, nil
	}
	return x.query + "&" + form, nil
}
