package resources

import (
	"encoding/base64"
	"net/url"
	"strings"

	"kiln/fhir"
)

// parseEntry reads a Bundle.entry as the request that it stands for, and its fullUrl. Expressions of its errors begin
// at the entry.
//
// Errors: Invalid, NotSupported, NotFound (unknown types).
func (s *Service) parseEntry(n *fhir.Node) (r Request, fullURL string, err error) {
	request := n.Get("request")
	if n.Kind != fhir.Object || request == nil || request.Kind != fhir.Object {
		return r, "", fhir.NewError(fhir.Invalid, fhir.CodeRequired, "Each entry needs a request with method and url").At("request")
	}
	if full := n.Get("fullUrl"); full != nil && full.Kind != fhir.String {
		return r, "", fhir.NewError(fhir.Invalid, fhir.CodeStructure, "fullUrl must be a string").At("fullUrl")
	}
	method, target := request.GetText("method"), request.Get("url")
	if target == nil || target.Kind != fhir.String {
		return r, "", fhir.NewError(fhir.Invalid, fhir.CodeRequired, "The request of an entry needs a url").At("request.url")
	}
	if r, err = s.parseTarget(method, target.Text); err != nil {
		return r, "", err
	}
	if err := entryConditions(&r, request); err != nil {
		return r, "", err
	}
	body := n.Get("resource")
	switch r.Interaction {
	case Operate:
		r.Body = body
	case Create, Update:
		if r.Body = body; body == nil {
			return r, "", fhir.NewError(fhir.Invalid, fhir.CodeRequired, method+" needs a resource in the entry").At("resource")
		}
	case Patch:
		err = patchBody(&r, body)
	}
	return r, n.GetText("fullUrl"), err
}

// entryConditions reads what are headers of a request on its own.
func entryConditions(r *Request, request *fhir.Node) (err error) {
	if r.IfMatch, err = entryTag(request, "ifMatch"); err != nil {
		return err
	}
	if r.IfNoneMatch, err = entryTag(request, "ifNoneMatch"); err != nil {
		return err
	}
	if since := request.Get("ifModifiedSince"); since != nil {
		d, ok := fhir.ParseDateTime(since.Text, nil)
		if !ok || since.Kind != fhir.String {
			return fhir.NewError(fhir.Invalid, fhir.CodeValue, "ifModifiedSince must be an instant").At("request.ifModifiedSince")
		}
		r.IfModifiedSince = d.Time
	}
	if exist := request.Get("ifNoneExist"); exist != nil && r.Interaction == Create {
		r.IfNoneExist = TrimCriteria(r.Type, exist.Text)
		if exist.Kind != fhir.String || r.IfNoneExist == "" {
			return fhir.NewError(fhir.Invalid, fhir.CodeValue,
				"ifNoneExist must hold search criteria, such as identifier=system|value").At("request.ifNoneExist")
		}
	}
	return nil
}

// entryTag reads a version such as W/"3"; 3 alone is taken too.
func entryTag(request *fhir.Node, name string) (string, error) {
	n := request.Get(name)
	if n == nil {
		return "", nil
	}
	tag := strings.TrimPrefix(strings.TrimSpace(n.Text), "W/")
	if len(tag) > 2 && tag[0] == '"' && tag[len(tag)-1] == '"' {
		tag = tag[1 : len(tag)-1]
	}
	if n.Kind != fhir.String || tag != "*" && !fhir.ValidID(tag) {
		return "", fhir.NewError(fhir.Invalid, fhir.CodeValue, name+` must be one version, such as W/"3", or *`).
			At("request." + name)
	}
	return tag, nil
}

// patchBody reads the patch of an entry: a Parameters is FHIRPath Patch, a Binary holds JSON Patch.
func patchBody(r *Request, body *fhir.Node) error {
	switch body.GetText("resourceType") {
	case "Parameters":
		r.Body = body
		return nil
	case "Binary":
		kind, _, _ := strings.Cut(body.GetText("contentType"), ";")
		if strings.TrimSpace(kind) != "application/json-patch+json" {
			return fhir.NewError(fhir.Invalid, fhir.CodeValue,
				"The Binary of a PATCH entry must have the contentType application/json-patch+json").At("resource.contentType")
		}
		data, err := base64.StdEncoding.DecodeString(body.GetText("data"))
		if err != nil || len(data) == 0 {
			return fhir.NewError(fhir.Invalid, fhir.CodeValue, "The Binary of a PATCH entry must hold a patch in base64").
				At("resource.data")
		}
		r.JSONPatch = data
		return nil
	}
	return fhir.NewError(fhir.Invalid, fhir.CodeRequired,
		"PATCH needs a Parameters (FHIRPath Patch) or a Binary (JSON Patch) in the entry").At("resource")
}

// parseTarget reads method and url of an entry.
func (s *Service) parseTarget(method, target string) (r Request, err error) {
	fail := func(kind fhir.Kind, code, text string) (Request, error) {
		return r, fhir.NewError(kind, code, text).At("request.url")
	}
	path, base := target, s.options.Base
	if rest, below := strings.CutPrefix(path, base); below && base != "" && (rest == "" || strings.IndexByte("/?", rest[0]) >= 0) {
		path = rest
	} else if strings.Contains(path, "://") && !strings.Contains(strings.SplitN(path, "://", 2)[0], "?") {
		return fail(fhir.Invalid, fhir.CodeValue, "The url "+quote(target)+" is not one of this server, which is "+base)
	}
	path, query, _ := strings.Cut(strings.TrimPrefix(path, "/"), "?")
	r.Query = query
	var parts []string
	if path != "" {
		parts = strings.Split(path, "/")
	}
	for i, part := range parts {
		if parts[i], err = url.PathUnescape(part); err != nil {
			return fail(fhir.Invalid, fhir.CodeValue, "The url "+quote(target)+" has a percent sign that is no escape")
		}
	}
	if n := len(parts); n > 0 && strings.HasPrefix(parts[n-1], "$") {
		return s.parseOperation(r, method, parts)
	}
	switch method {
	case "GET", "HEAD":
		r.Interaction, err = s.parseRead(&r, parts)
	case "POST", "PUT", "PATCH", "DELETE":
		r.Interaction, err = s.parseWrite(&r, method, parts)
	case "":
		return r, fhir.NewError(fhir.Invalid, fhir.CodeRequired, "The request of an entry needs a method").At("request.method")
	default:
		return r, fhir.NewError(fhir.Invalid, fhir.CodeValue,
			quote(method)+" is not one of GET, HEAD, POST, PUT, PATCH and DELETE").At("request.method")
	}
	if err == nil && r.Interaction == "" {
		err = fhir.NewError(fhir.NotSupported, fhir.CodeNotSupported, method+" of "+quote(target)+" is not offered in a Bundle")
	}
	if e, ok := err.(*fhir.Error); ok {
		err = e.At("request.url")
	}
	return r, err
}

// parseOperation reads the call of an operation. FHIR R4 http.html#transaction: an entry may be one.
func (s *Service) parseOperation(r Request, method string, parts []string) (Request, error) {
	n := len(parts)
	r.Interaction, r.Operation, r.Safe = Operate, parts[n-1][1:], method != "POST"
	var err error
	switch n {
	case 1:
	case 2:
		err = s.entryType(&r, parts[0])
	case 3:
		err = s.entryInstance(&r, parts[:2])
	default:
		err = fhir.NewError(fhir.NotFound, fhir.CodeNotSupported, "There is no operation at this url")
	}
	if err == nil {
		switch o := s.Operation(r.Operation, r.Type, r.ID); {
		case o == nil:
			err = s.noOperation(&r)
		case o.ID == graphqlID:
			err = fhir.NewError(fhir.NotSupported, fhir.CodeNotSupported, "$graphql answers with no resource, and so in no Bundle; call it by itself")
		case method == "POST", (method == "GET" || method == "HEAD") && o.ByGet():
		default:
			err = fhir.NewError(fhir.MethodNotAllowed, fhir.CodeNotSupported, "$"+r.Operation+" is called by POST")
		}
	}
	if e, ok := err.(*fhir.Error); ok {
		err = e.At("request.url")
	}
	return r, err
}

func (s *Service) parseWrite(r *Request, method string, parts []string) (Interaction, error) {
	do := map[string]Interaction{"POST": Create, "PUT": Update, "PATCH": Patch, "DELETE": Delete}[method]
	switch len(parts) {
	case 0:
		return "", fhir.NewError(fhir.NotSupported, fhir.CodeNotSupported,
			"An entry needs a type in its url; a batch or transaction cannot stand inside another")
	case 1:
		if err := s.entryType(r, parts[0]); err != nil {
			return "", err
		}
		switch {
		case method == "POST" && r.Query != "":
			return "", fhir.NewError(fhir.Invalid, fhir.CodeInvalid,
				"A create takes no parameters in its url; put criteria into request.ifNoneExist")
		case method != "POST" && r.Query == "":
			return "", fhir.NewError(fhir.Invalid, fhir.CodeRequired, method+" needs an id in its url, or search criteria")
		}
		return do, nil
	case 2:
		if method == "POST" {
			return "", nil
		}
		return do, s.entryInstance(r, parts)
	}
	return "", nil
}

func (s *Service) parseRead(r *Request, parts []string) (Interaction, error) {
	switch len(parts) {
	case 0:
		return SearchSystem, nil
	case 1:
		if parts[0] == "_history" {
			return HistorySystem, nil
		}
		if parts[0] == "metadata" {
			return "", nil
		}
		return SearchType, s.entryType(r, parts[0])
	case 2:
		if parts[1] == "_history" {
			return HistoryType, s.entryType(r, parts[0])
		}
		return Read, s.entryInstance(r, parts)
	case 3:
		if err := s.entryInstance(r, parts); err != nil {
			return "", err
		}
		if parts[2] == "_history" {
			return HistoryInstance, nil
		}
		r.Compartment, r.CompartmentID, r.Type, r.ID = r.Type, r.ID, "", ""
		if parts[2] == "*" {
			return SearchSystem, nil
		}
		return SearchType, s.entryType(r, parts[2])
	case 4:
		if parts[2] != "_history" {
			return "", nil
		}
		r.Version = parts[3]
		return VRead, s.entryInstance(r, parts)
	}
	return "", nil
}

func (s *Service) entryType(r *Request, name string) error {
	if !s.isType(name) {
		return s.unknownType(name)
	}
	r.Type = name
	return nil
}

func (s *Service) entryInstance(r *Request, parts []string) error {
	if err := s.entryType(r, parts[0]); err != nil {
		return err
	}
	if r.ID = parts[1]; !fhir.ValidID(r.ID) {
		return fhir.NewError(fhir.Invalid, fhir.CodeValue, quote(r.ID)+
			" cannot be the id of a resource: 1 to 64 letters, digits, '-' and '.' are allowed").Coded("bad-id")
	}
	return nil
}
