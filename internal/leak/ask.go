package leak

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"kiln/fhir"
	"kiln/resources"
)

// Ask is one request, to be made as often as needed: a Request's body belongs to the service that it is given to.
type Ask struct {
	resources.Request
	// Body is the JSON of the body; "" for none.
	Body string
	// Params are the parameters, which make up Query: what shrinking takes away one by one.
	Params []Param
}

// Param is one parameter of a query.
type Param struct {
	Name, Value string
	// Of says where a value comes from that may be patient data, such as "name of Patient/1"; "" for a value that can be
	// told.
	Of string
}

func (p Param) encode() string { return url.QueryEscape(p.Name) + "=" + url.QueryEscape(p.Value) }

// fixed are parameters with values that can be told.
func fixed(list ...string) (params []Param) {
	for _, one := range list {
		name, value, _ := strings.Cut(one, "=")
		params = append(params, Param{Name: name, Value: value})
	}
	return params
}

func encode(list []Param) string {
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = p.encode()
	}
	return strings.Join(texts, "&")
}

// request is the Request with a body of its own.
func (a Ask) request() resources.Request {
	r := a.Request
	if len(a.Params) > 0 {
		r.Query = encode(a.Params)
	}
	if a.Body != "" {
		n, err := fhir.ParseJSON([]byte(a.Body))
		if err != nil {
			panic(fmt.Sprintf("leak: %v in %s", err, a.Body))
		}
		r.Body = n
	}
	return r
}

// String is the request without patient data: values say where they come from, and of a body only the length is told.
func (a Ask) String() string {
	r := a.request()
	var path []string
	for _, part := range []string{r.Compartment, r.CompartmentID, r.Type, r.ID} {
		if part != "" {
			path = append(path, part)
		}
	}
	if r.Compartment != "" && r.Type == "" {
		path = append(path, "*")
	}
	method := "GET"
	switch r.Interaction {
	case resources.VRead:
		path = append(path, "_history", r.Version)
	case resources.HistoryInstance, resources.HistoryType, resources.HistorySystem:
		path = append(path, "_history")
	case resources.Create, resources.Transaction, resources.Batch:
		method = "POST"
	case resources.Update:
		method = "PUT"
	case resources.Patch:
		method = "PATCH"
	case resources.Delete:
		method = "DELETE"
	case resources.Operate:
		path = append(path, "$"+r.Operation)
		if a.Body != "" {
			method = "POST"
		}
	}
	text := method + " " + strings.Join(path, "/")
	var told []string
	for _, p := range a.Params {
		if p.Of != "" {
			p.Value = "{" + p.Of + "}"
		}
		told = append(told, p.Name+"="+p.Value)
	}
	if told != nil {
		text += "?" + strings.Join(told, "&")
	}
	for name, value := range map[string]string{"If-Match": r.IfMatch, "If-None-Match": r.IfNoneMatch, "If-None-Exist": r.IfNoneExist, "Idempotency-Key": r.IdempotencyKey} {
		if value != "" {
			text += " " + name + ": " + value
		}
	}
	if a.Body != "" {
		text += fmt.Sprintf(" (body of %d bytes)", len(a.Body))
	}
	return text
}

// smaller are the asks that are a without one of its parameters.
func (a Ask) smaller() (list []Ask) {
	for i := range a.Params {
		b := a
		b.Params = slices.Delete(slices.Clone(a.Params), i, i+1)
		if b.Query = ""; len(b.Params) == 0 && strings.HasPrefix(string(a.Interaction), "search") && a.Type == "" && a.Compartment == "" {
			continue
		}
		list = append(list, b)
	}
	return list
}

// Shrink takes parameters away as long as what is left still fails.
func Shrink(a Ask, fails func(Ask) bool) Ask {
	for again := true; again; {
		again = false
		for _, b := range a.smaller() {
			if fails(b) {
				a, again = b, true
				break
			}
		}
	}
	return a
}
