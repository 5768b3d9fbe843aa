package server

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"kiln/fhir"
	"kiln/fhir/xml"
	"kiln/resources"
	"kiln/storage"
)

// respond writes what an interaction gave.
func (x *exchange) respond(req *resources.Request, resp *resources.Response) error {
	if resp == nil {
		resp = &resources.Response{}
	}
	if !resp.Expires.IsZero() {
		x.header["Expires"] = []string{httpDate(resp.Expires)}
	}
	if resp.Bundle != nil {
		return x.writeBundle(resp.Bundle)
	}
	if resp.Resource != nil {
		status := http.StatusOK
		if resp.Accepted {
			status = http.StatusAccepted
		}
		return x.writeNode(status, resp.Resource)
	}
	v := resp.Version
	if v != nil {
		x.versionHeaders(v)
	}
	switch req.Interaction {
	case resources.Read, resources.VRead:
		switch {
		case resp.NotModified:
			x.writeEmpty(http.StatusNotModified)
			return nil
		case v == nil:
			return fhir.NewError(fhir.NotFound, fhir.CodeNotFound, req.Type+"/"+req.ID+" is not known")
		case v.Deleted:
			return fhir.NewError(fhir.Gone, fhir.CodeDeleted, req.Type+"/"+req.ID+" has been deleted")
		}
		if v.Type == binaryType {
			return x.respondBinary(v.Content)
		}
		return x.writeResource(http.StatusOK, v.Content)
	case resources.Operate:
		if v != nil {
			if resp.Created { // Composition/$document with persist
				x.header["Location"] = []string{x.s.base + "/" + v.Type + "/" + v.ID + "/_history/" + strconv.Itoa(v.Number)}
			}
			return x.writeResource(http.StatusOK, v.Content)
		}
		return x.writeIssues(http.StatusOK, resp.Issues)
	case resources.Delete:
		if x.prefer.content == returnOutcome || len(resp.Issues) > 0 && x.prefer.content != returnMinimal {
			return x.writeIssues(http.StatusOK, deletionIssues(resp))
		}
		x.writeEmpty(http.StatusNoContent)
		return nil
	default:
		return x.respondWritten(resp)
	}
}

// respondWritten answers a create, update or patch. By default the resource goes back, since the server may have
// changed it; Prefer has the last word (FHIR R4 http.html#ops).
func (x *exchange) respondWritten(resp *resources.Response) error {
	v, status := resp.Version, http.StatusOK
	if resp.Created {
		status = http.StatusCreated
	}
	if v != nil {
		at := x.s.base + "/" + v.Type + "/" + v.ID + "/_history/" + strconv.Itoa(v.Number)
		if resp.Created {
			x.header["Location"] = []string{at}
		} else {
			x.header["Content-Location"] = []string{at}
		}
	}
	switch {
	case x.prefer.content == returnOutcome:
		return x.writeIssues(status, resp.Issues)
	case x.prefer.content == returnMinimal || v == nil:
		x.writeEmpty(status)
		return nil
	}
	return x.writeResource(status, v.Content)
}

// deletionIssues says how many resources went, then what else there is to say.
func deletionIssues(resp *resources.Response) []fhir.Issue {
	text := "Nothing was there to delete"
	switch {
	case resp.Deleted == 1:
		text = "1 resource was deleted"
	case resp.Deleted > 1:
		text = strconv.Itoa(resp.Deleted) + " resources were deleted"
	}
	return append([]fhir.Issue{{
		Severity: fhir.SeverityInformation, Code: fhir.CodeInformational, Text: text,
	}}, resp.Issues...)
}

// versionHeaders sets ETag and Last-Modified.
func (x *exchange) versionHeaders(v *storage.Version) {
	if v.Number > 0 {
		x.header["Etag"] = []string{etag(v.Number)}
	}
	if !v.LastUpdated.IsZero() {
		x.header["Last-Modified"] = []string{httpDate(v.LastUpdated)}
	}
}

func etag(version int) string {
	var buf [24]byte
	b := strconv.AppendInt(append(buf[:0], `W/"`...), int64(version), 10)
	return string(append(b, '"'))
}

// writeResource writes a resource that is JSON already. Only XML, or a person's wish for indented text, makes it be
// parsed.
func (x *exchange) writeResource(status int, content []byte) error {
	if x.pretty || x.format.xml {
		n, err := fhir.ParseJSON(content)
		if err != nil {
			return err
		}
		return x.writeNode(status, n)
	}
	return x.writeBody(status, x.format.contentType, content)
}

func (x *exchange) writeNode(status int, n *fhir.Node) error {
	buf := getBuffer()
	defer putBuffer(buf)
	if x.format.xml {
		encode := xml.Encode
		if x.pretty {
			encode = xml.EncodeIndented
		}
		doc, err := encode(buf.AvailableBuffer(), n, x.s.schema)
		switch {
		case err == nil:
			buf.Write(doc)
			return x.writeBody(status, x.format.contentType, buf.Bytes())
		case status < 300 && (x.r.Method == http.MethodGet || x.r.Method == http.MethodHead):
			return asNotAcceptable(err)
		}
		// What is done is done, and a fault must be told: JSON says it too (RFC 9110 section 15.5.7).
		x.format = jsonFormat
	}
	if x.pretty {
		buf.Write(n.AppendIndented(buf.AvailableBuffer()))
	} else {
		buf.Write(n.AppendJSON(buf.AvailableBuffer()))
	}
	return x.writeBody(status, x.format.contentType, buf.Bytes())
}

// asNotAcceptable tells why a resource has no XML form: one stored under lenient validation may not.
func asNotAcceptable(err error) error {
	var e *fhir.Error
	if !errors.As(err, &e) || e.Kind != fhir.Invalid {
		return err
	}
	issues := slices.Clone(e.Issues)
	for i := range issues {
		issues[i].Text += "; ask for application/fhir+json"
	}
	return (&fhir.Error{Kind: fhir.NotAcceptable, Issues: issues}).Because(err)
}

func (x *exchange) writeIssues(status int, issues []fhir.Issue) error {
	outcome := fhir.OperationOutcome(issues...)
	return x.writeNode(status, &outcome)
}

func (x *exchange) writePlain(status int, text string) {
	_ = x.writeBody(status, plainText, []byte(text)) // the probe has hung up; nobody is left to tell
}

// caching is what caches may do with the answer: nothing, unless it is for everybody.
func (x *exchange) caching() []string {
	if x.cache != nil {
		return x.cache
	}
	return noStore
}

// writeEmpty writes an answer that has no body.
func (x *exchange) writeEmpty(status int) {
	x.header["Cache-Control"] = x.caching()
	x.answering(0)
	if status != http.StatusNoContent && status != http.StatusNotModified {
		x.header["Content-Length"] = zeroLength
	}
	x.WriteHeader(status)
}

var (
	plainText  = []string{"text/plain; charset=utf-8"}
	noStore    = []string{"no-store"} // patient data stays out of the caches of shared machines
	varyBoth   = []string{"Accept, Accept-Encoding"}
	zeroLength = []string{"0"}
	gzipCoding = []string{"gzip"}
	packers    = sync.Pool{New: func() any { w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed); return w }}
)

// writeBody writes a whole answer: the only place where a body leaves the server, the exposition of metrics apart.
// Errors mean that the client is gone.
func (x *exchange) writeBody(status int, contentType []string, body []byte) error {
	h := x.header
	h["Content-Type"] = contentType
	h["Cache-Control"] = x.caching()
	h["Vary"] = varyBoth
	x.answering(len(body))
	if limit := x.s.limits.GzipMinBytes; limit >= 0 && len(body) >= limit && acceptsGzip(x.r.Header["Accept-Encoding"]) {
		h["Content-Encoding"] = gzipCoding
		x.WriteHeader(status)
		if x.r.Method == http.MethodHead {
			return nil
		}
		return x.pack(body)
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.WriteHeader(status)
	if x.r.Method == http.MethodHead {
		return nil
	}
	_, err := x.Write(body)
	return err
}

func (x *exchange) pack(body []byte) error {
	packer := packers.Get().(*gzip.Writer)
	defer packers.Put(packer)
	packer.Reset(x)
	if _, err := io.Copy(packer, bytes.NewReader(body)); err != nil {
		return err
	}
	return packer.Close()
}

// acceptsGzip says whether the client names gzip (or *) with a quality above zero.
func acceptsGzip(headers []string) bool {
	if len(headers) == 1 && headers[0] == "gzip" {
		return true
	}
	named, any := -1.0, -1.0
	for _, header := range headers {
		for len(header) > 0 {
			var item string
			item, header = cutUnquoted(header, ',')
			coding, params := cutUnquoted(item, ';')
			switch coding = strings.TrimSpace(coding); {
			case strings.EqualFold(coding, "gzip"):
				named = rangeParameters(params).q
			case coding == "*":
				any = rangeParameters(params).q
			}
		}
	}
	if named >= 0 {
		return named > 0
	}
	return any > 0
}
