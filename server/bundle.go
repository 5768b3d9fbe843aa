package server

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"kiln/fhir"
	"kiln/resources"
	"kiln/storage"
)

// writeBundle writes a Bundle as 200.
func (x *exchange) writeBundle(b *resources.Bundle) error {
	buf := getBuffer()
	defer putBuffer(buf)
	// A rough size saves the copies of growing; the bytes between the resources are some 300 an entry.
	size := 512
	for i := range b.Entries {
		size += 320
		if v := b.Entries[i].Version; v != nil {
			size += len(v.Content)
		}
	}
	buf.Grow(size)
	buf.Write(x.appendBundle(buf.AvailableBuffer(), b))
	return x.writeResource(http.StatusOK, buf.Bytes())
}

// appendBundle splices a Bundle around the stored bytes of its resources. Spec: FHIR R4 bundle.html; which element an
// entry has depends on the Bundle's type (bdl-2, bdl-3, bdl-4).
func (x *exchange) appendBundle(dst []byte, b *resources.Bundle) []byte {
	now := x.s.now()
	dst = append(dst, `{"resourceType":"Bundle","id":`...)
	dst = appendString(dst, x.s.newID())
	dst = append(dst, `,"meta":{"lastUpdated":`...)
	dst = appendInstant(dst, now)
	if label, ok := confidentiality(b); ok {
		dst = append(dst, `,"security":[`...)
		dst = append(label.AppendJSON(dst), ']')
	}
	dst = append(dst, `},"type":`...)
	dst = appendString(dst, b.Type)
	dst = append(dst, `,"timestamp":`...)
	dst = appendInstant(dst, now)
	if b.Total != nil {
		dst = append(dst, `,"total":`...)
		dst = strconv.AppendInt(dst, *b.Total, 10)
	}
	for i, link := range b.Links {
		dst = appendSeparator(dst, i, `,"link":[`)
		dst = append(dst, `{"relation":`...)
		dst = appendString(dst, link.Relation)
		dst = append(dst, `,"url":`...)
		dst = appendString(dst, x.absolute(link.URL))
		dst = append(dst, '}')
	}
	if len(b.Links) > 0 {
		dst = append(dst, ']')
	}
	count := 0
	for i := range b.Entries {
		dst = appendSeparator(dst, count, `,"entry":[`)
		dst = x.appendEntry(dst, b.Type, &b.Entries[i])
		count++
	}
	if len(b.Issues) > 0 {
		outcome := fhir.OperationOutcome(b.Issues...)
		dst = appendSeparator(dst, count, `,"entry":[`)
		dst = x.appendOutcomeURL(append(dst, '{'))
		dst = append(dst, `,"resource":`...)
		dst = outcome.AppendJSON(dst)
		switch b.Type {
		case "searchset":
			dst = append(dst, `,"search":{"mode":"outcome"}}`...)
		default:
			dst = append(dst, '}')
		}
		count++
	}
	if count > 0 {
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// confidentiality is the label of a Bundle: the highest of what it holds.
func confidentiality(b *resources.Bundle) (fhir.Node, bool) {
	var c fhir.Confidentiality
	of := func(v *storage.Version) {
		if v != nil && !v.Deleted {
			c.OfJSON(v.Content)
		}
	}
	for i := range b.Entries {
		e := &b.Entries[i]
		of(e.Version)
		if resp := e.Response; resp != nil {
			of(resp.Version)
			if resp.Resource != nil {
				c.Of(resp.Resource)
			}
			if resp.Bundle != nil {
				for j := range resp.Bundle.Entries {
					of(resp.Bundle.Entries[j].Version)
				}
			}
		}
	}
	return c.Label()
}

// appendSeparator begins a list before its first item, and goes on with it before the others. An empty list never
// begins: FHIR JSON has no empty arrays.
func appendSeparator(dst []byte, i int, begin string) []byte {
	if i == 0 {
		return append(dst, begin...)
	}
	return append(dst, ',')
}

func (x *exchange) appendEntry(dst []byte, bundleType string, e *resources.Entry) []byte {
	switch bundleType {
	case "history":
		return x.appendHistoryEntry(dst, e.Version)
	case "batch-response", "transaction-response":
		return x.appendResponseEntry(dst, e)
	}
	dst = append(dst, '{')
	if e.Version != nil {
		if e.Mode == "outcome" {
			dst = x.appendOutcomeURL(dst)
		} else {
			dst = x.appendFullURL(dst, e.Version)
		}
		dst = append(dst, ',')
		dst = append(append(dst, `"resource":`...), e.Version.Content...)
		dst = append(dst, ',')
	}
	mode := e.Mode
	if mode == "" {
		mode = "match"
	}
	dst = append(dst, `"search":{`...)
	if e.Grade != "" {
		dst = append(dst, `"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/match-grade","valueCode":`...)
		dst = append(appendString(dst, e.Grade), `}],`...)
	}
	dst = append(dst, `"mode":`...)
	dst = appendString(dst, mode)
	if e.Score > 0 {
		dst = append(dst, `,"score":`...)
		dst = strconv.AppendFloat(dst, min(e.Score, 1), 'f', -1, 64)
	}
	return append(dst, "}}"...)
}

// appendOutcomeURL gives an OperationOutcome that is nowhere but in its Bundle a fullUrl: outside of batches and transactions
// every entry has one (FHIR R4 bundle.html#bundle-unique; HAPI FHIR's validator insists).
func (x *exchange) appendOutcomeURL(dst []byte) []byte {
	return append(append(append(dst, `"fullUrl":"urn:uuid:`...), x.s.newID()...), '"')
}

func (x *exchange) appendFullURL(dst []byte, v *storage.Version) []byte {
	dst = append(dst, `"fullUrl":"`...)
	dst = append(dst, x.s.base...) // type and id need no escapes, and the base is ours
	dst = append(dst, '/')
	if v.Container != "" { // FHIR R4 search.html#contained
		dst = append(append(append(dst, v.Container...), '#'), v.ID...)
		return append(dst, '"')
	}
	dst = append(dst, v.Type...)
	dst = append(dst, '/')
	dst = append(dst, v.ID...)
	return append(dst, '"')
}

// appendHistoryEntry tells how a version came about, and its content unless it was a delete.
func (x *exchange) appendHistoryEntry(dst []byte, v *storage.Version) []byte {
	if v == nil {
		return append(dst, "{}"...)
	}
	dst = x.appendFullURL(append(dst, '{'), v)
	if !v.Deleted {
		dst = append(append(dst, `,"resource":`...), v.Content...)
	}
	method, target, status := http.MethodPut, v.Type+"/"+v.ID, http.StatusOK
	switch v.Method {
	case storage.MethodDelete:
		method, status = http.MethodDelete, http.StatusNoContent
	case storage.MethodCreate:
		method, target, status = http.MethodPost, v.Type, http.StatusCreated
	case storage.MethodPatch:
		method = http.MethodPatch
	}
	if v.Number == 1 {
		status = http.StatusCreated
	}
	dst = append(dst, `,"request":{"method":`...)
	dst = appendString(dst, method)
	dst = append(dst, `,"url":`...)
	dst = appendString(dst, target)
	dst = append(dst, `},"response":{"status":`...)
	dst = appendString(dst, statusLine(status))
	dst = appendVersionMembers(dst, v)
	return append(dst, "}}"...)
}

// appendVersionMembers gives a version's etag and lastModified as members of Bundle.entry.response.
func appendVersionMembers(dst []byte, v *storage.Version) []byte {
	if v.Number > 0 {
		dst = append(dst, `,"etag":`...)
		dst = appendString(dst, etag(v.Number))
	}
	if !v.LastUpdated.IsZero() {
		dst = append(dst, `,"lastModified":`...)
		dst = appendInstant(dst, v.LastUpdated)
	}
	return dst
}

// appendResponseEntry tells what an entry of a batch or transaction got: what the same interaction would have got as a
// request of its own (FHIR R4 http.html#transaction-response).
func (x *exchange) appendResponseEntry(dst []byte, e *resources.Entry) []byte {
	resp := e.Response
	if e.Err != nil {
		verdict := x.judge(e.Err)
		dst = append(dst, `{"response":{"status":`...)
		dst = appendString(dst, statusLine(verdict.status))
		dst = append(dst, `,"outcome":`...)
		outcome := fhir.OperationOutcome(verdict.issues...)
		dst = outcome.AppendJSON(dst)
		return append(dst, "}}"...)
	}
	if resp == nil {
		resp = &resources.Response{Version: e.Version}
	}
	v := resp.Version
	status, located, shown := http.StatusOK, false, false
	switch e.Interaction {
	case resources.Read, resources.VRead:
		if shown = true; resp.NotModified {
			status, shown = http.StatusNotModified, false
		}
	case resources.Operate:
		if shown = true; resp.Accepted {
			status = http.StatusAccepted
		}
	case resources.Delete:
		status = http.StatusNoContent
	case resources.Create, resources.Update, resources.Patch:
		located = v != nil
		shown = x.prefer.content == returnRepresentation
		if resp.Created {
			status = http.StatusCreated
		}
	}
	issues := resp.Issues
	if x.prefer.content == returnOutcome && e.Interaction == resources.Delete {
		issues = deletionIssues(resp)
	}
	dst = append(dst, '{')
	if v != nil && e.Interaction != resources.Delete {
		dst = append(x.appendFullURL(dst, v), ',')
	}
	switch {
	case resp.Bundle != nil:
		dst = append(x.appendBundle(append(dst, `"resource":`...), resp.Bundle), ',')
	case resp.Resource != nil:
		dst = append(resp.Resource.AppendJSON(append(dst, `"resource":`...)), ',')
	case shown && v != nil && !v.Deleted:
		dst = append(append(append(dst, `"resource":`...), v.Content...), ',')
	}
	dst = append(dst, `"response":{"status":`...)
	dst = appendString(dst, statusLine(status))
	if v != nil {
		if located {
			dst = append(dst, `,"location":`...)
			dst = appendString(dst, v.Type+"/"+v.ID+"/_history/"+strconv.Itoa(v.Number))
		}
		dst = appendVersionMembers(dst, v)
	}
	if len(issues) > 0 || x.prefer.content == returnOutcome && resp.Bundle == nil && !shown {
		outcome := fhir.OperationOutcome(issues...)
		dst = outcome.AppendJSON(append(dst, `,"outcome":`...))
	}
	return append(dst, "}}"...)
}

// absolute makes a URL below the FHIR base whole.
func (x *exchange) absolute(url string) string {
	switch {
	case strings.HasPrefix(url, "http://"), strings.HasPrefix(url, "https://"):
		return url
	case url == "":
		return x.s.base
	case url[0] == '?':
		return x.s.base + url
	}
	return x.s.base + "/" + strings.TrimPrefix(url, "/")
}

func appendInstant(dst []byte, t time.Time) []byte {
	dst = append(dst, '"')
	dst = t.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	return append(dst, '"')
}

func appendString(dst []byte, s string) []byte {
	n := fhir.Str(s)
	return n.AppendJSON(dst)
}
