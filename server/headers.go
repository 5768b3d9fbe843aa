package server

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"kiln/fhir"
	"kiln/resources"
)

// prefer is what the Prefer header asks for. Preferences that are not known are ignored (RFC 7240 section 2).
type prefer struct {
	// content is minimal, representation, OperationOutcome, or "" for our default.
	content string
	lenient bool
	// zone is where dates of a search are read; "" for the server's.
	zone string
}

// The values of Prefer: return (FHIR R4 http.html#ops).
const (
	returnMinimal        = "minimal"
	returnRepresentation = "representation"
	returnOutcome        = "OperationOutcome"
)

func parsePrefer(headers []string) (p prefer) {
	for _, header := range headers {
		for len(header) > 0 {
			var item string
			item, header = cutUnquoted(header, ',')
			item, _ = cutUnquoted(item, ';')
			name, value, _ := strings.Cut(item, "=")
			value = strings.Trim(strings.TrimSpace(value), `"`)
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "return":
				for _, known := range []string{returnMinimal, returnRepresentation, returnOutcome} {
					if p.content == "" && strings.EqualFold(value, known) {
						p.content = known
					}
				}
			case "handling":
				p.lenient = strings.EqualFold(value, "lenient")
			case "timezone":
				p.zone = value
			}
		}
	}
	return p
}

// readConditions reads the headers of a conditional read. A list of versions cannot be asked of the service; as the
// whole answer is always right, the list is then ignored.
func (x *exchange) readConditions(req *resources.Request) error {
	if h := x.r.Header["If-None-Match"]; len(h) > 0 {
		tags, err := parseTags("If-None-Match", h)
		if err != nil {
			return err
		}
		if len(tags) == 1 {
			req.IfNoneMatch = tags[0]
		}
		return nil // RFC 9110 section 13.1.3: If-Modified-Since does not count beside it
	}
	if h := x.r.Header["If-Modified-Since"]; len(h) == 1 {
		if t, err := http.ParseTime(h[0]); err == nil { // a date that is none is ignored, by the same section
			req.IfModifiedSince = t
		}
	}
	return nil
}

// writeConditions reads If-Match and If-None-Match of an update, patch or delete.
func (x *exchange) writeConditions(req *resources.Request) (err error) {
	if req.IfMatch, err = x.oneTag("If-Match"); err != nil {
		return err
	}
	req.IfNoneMatch, err = x.oneTag("If-None-Match")
	return err
}

func (x *exchange) oneTag(header string) (string, error) {
	h := x.r.Header[header]
	if len(h) == 0 {
		return "", nil
	}
	tags, err := parseTags(header, h)
	if err != nil {
		return "", err
	}
	if len(tags) > 1 {
		return "", badTag(header)
	}
	return tags[0], nil
}

func badTag(header string) *fhir.Error {
	return fhir.NewError(fhir.Invalid, fhir.CodeValue, header+` must be one version, such as W/"3", or *`).Coded("bad-header")
}

// parseTags reads version ids from a header such as W/"3". Clients also write "3" and plain 3, which FHIR servers have
// always taken.
func parseTags(header string, values []string) ([]string, error) {
	var tags []string
	for _, value := range values {
		for rest := value; ; {
			var item string
			item, rest = cutUnquoted(rest, ',')
			tag := strings.TrimSpace(item)
			weak := strings.HasPrefix(tag, "W/")
			tag = strings.TrimPrefix(tag, "W/")
			quoted := len(tag) >= 2 && tag[0] == '"' && tag[len(tag)-1] == '"'
			if quoted {
				tag = tag[1 : len(tag)-1]
			}
			if weak && !quoted || tag == "*" && quoted || tag != "*" && !fhir.ValidID(tag) {
				return nil, badTag(header)
			}
			if len(tags) == 50 {
				return nil, badTag(header)
			}
			tags = append(tags, tag)
			if rest == "" {
				break
			}
		}
	}
	return tags, nil
}

// tagListHas says whether an If-None-Match header names the tag. Unlike parseTags it takes any tag and never fails.
func tagListHas(header, tag string) bool {
	for len(header) > 0 {
		var item string
		item, header = cutUnquoted(header, ',')
		item = strings.TrimSpace(item)
		if item == "*" || strings.Trim(strings.TrimPrefix(item, "W/"), `"`) == tag {
			return true
		}
	}
	return false
}

// createConditions reads If-None-Exist and Idempotency-Key of a create.
func (x *exchange) createConditions(req *resources.Request) (err error) {
	if req.Query != "" {
		// FHIR gives a create no parameters. Criteria here are a mistake that would otherwise make duplicates.
		return fhir.NewError(fhir.Invalid, fhir.CodeInvalid, "A create takes no parameters in the URL; "+
			"put the criteria of a conditional create into the If-None-Exist header, or search with POST "+req.Type+"/_search").
			Coded("unexpected-query")
	}
	if h := x.r.Header["If-None-Exist"]; len(h) > 0 {
		criteria, _, _ := splitQuery(resources.TrimCriteria(req.Type, h[0]))
		if _, err := url.ParseQuery(criteria); err != nil || criteria == "" || len(h) > 1 {
			return fhir.NewError(fhir.Invalid, fhir.CodeValue,
				"If-None-Exist must hold search criteria, such as identifier=system|value").Coded("bad-header")
		}
		req.IfNoneExist = criteria
	}
	req.IdempotencyKey, err = x.idempotencyKey()
	return err
}

// maxIdempotencyKey is how many characters an Idempotency-Key may have.
const maxIdempotencyKey = 128

// idempotencyKey reads Idempotency-Key; the quotes of draft-ietf-httpapi-idempotency-key-header may be left out.
func (x *exchange) idempotencyKey() (string, error) {
	h := x.r.Header["Idempotency-Key"]
	if len(h) == 0 {
		return "", nil
	}
	key := h[0]
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key = key[1 : len(key)-1]
	}
	if len(h) > 1 || !plainToken(key, maxIdempotencyKey) {
		return "", fhir.NewError(fhir.Invalid, fhir.CodeValue,
			"Idempotency-Key must be 1 to 128 letters, digits or -._:+=/ characters, such as a UUID").Coded("bad-header")
	}
	return key, nil
}

// httpDate is t in the form of Last-Modified.
func httpDate(t time.Time) string { return t.UTC().Format(http.TimeFormat) }
