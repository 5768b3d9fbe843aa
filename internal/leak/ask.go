package leak

import (
	"fmt"
	"net/url"
	"strings"

	"kiln/fhir"
	"kiln/resources"
)

// Ask is one request, to be made as often as needed: a Request's body belongs to the service that it is given to.
type Ask struct {
	resources.Request
	// Body is the JSON of the body; "" for none.
	Body string
	// Params are the parameters of a search, which make up Query: what shrinking takes away one by one.
	Params []string
}

// request is the Request with a body of its own.
func (a Ask) request() resources.Request {
	r := a.Request
	if len(a.Params) > 0 {
		r.Query = strings.Join(a.Params, "&")
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

// String is the request as one would send it; of a body only how long it is, since it may hold patient data.
func (a Ask) String() string {
	r := a.request()
	var path []string
	for _, part := range []string{r.Compartment, r.CompartmentID, r.Type, r.ID} {
		if part != "" {
			path = append(path, part)
		}
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
	if r.Query != "" {
		query, err := url.QueryUnescape(r.Query)
		if err != nil {
			query = r.Query
		}
		text += "?" + query
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
		b.Params = append(append([]string{}, a.Params[:i]...), a.Params[i+1:]...)
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
