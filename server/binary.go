package server

import (
	"encoding/base64"
	"mime"
	"net/http"
	"strings"

	"kiln/fhir"
)

// A Binary travels as what it holds, a PDF as a PDF, or as the resource around it. Spec: FHIR R4 binary.html#rest.

const binaryType = "Binary"

// octets is the media type of what has none that can be read (RFC 2046 section 4.5.1).
const octets = "application/octet-stream"

// noWhitespace takes out whitespace, which may stand within base64 in FHIR (datatypes.html#base64Binary).
var noWhitespace = strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "")

// strictlyFHIR says whether a media type is one of FHIR's own. Only these ask for the resource around a file: application/json
// and application/xml are what files are of.
func strictlyFHIR(mediaType string) bool {
	return strings.EqualFold(mediaType, "application/fhir+json") || strings.EqualFold(mediaType, "application/fhir+xml")
}

// ofBinary says whether the request reads one Binary, whose media type decides what the client may accept.
func (x *exchange) ofBinary() bool {
	return (x.r.Method == http.MethodGet || x.r.Method == http.MethodHead) && (x.route == x.s.instance || x.route == x.s.version) &&
		x.segment("type") == binaryType
}

// respondBinary answers the read of a Binary: with what it holds, unless the client asks for the resource by _format, by
// parameters that only a resource has, or by Accept.
//
// Errors: NotAcceptable where Accept takes neither.
func (x *exchange) respondBinary(content []byte) error {
	accept := x.r.Header["Accept"]
	if x.formatWanted || x.query != "" {
		return x.writeResource(http.StatusOK, content)
	}
	n, err := fhir.ParseJSON(content)
	if err != nil {
		return err
	}
	held := n.GetText("contentType")
	mediaType, _, err := mime.ParseMediaType(held)
	if err != nil {
		held, mediaType = octets, octets
	}
	asResource, asHeld := 0.0, acceptQuality(accept, mediaType)
	if len(accept) == 0 {
		asHeld = 1
	}
	for _, f := range formats {
		if strictlyFHIR(f.mediaType) {
			asResource = max(asResource, exactQuality(accept, f.mediaType))
		}
	}
	if asHeld == 0 || asResource >= asHeld {
		if _, ok := negotiateAccept(accept); !ok {
			return fhir.NewError(fhir.NotAcceptable, fhir.CodeNotSupported,
				"This Binary comes as "+quoteInput(mediaType)+", application/fhir+json or application/fhir+xml; what you accept is not offered")
		}
		return x.writeNode(http.StatusOK, n)
	}
	data, err := base64.StdEncoding.DecodeString(noWhitespace.Replace(n.GetText("data")))
	if err != nil { // stored under lenient validation
		return fhir.NewError(fhir.NotAcceptable, fhir.CodeNotSupported, "The data of this Binary are not base64; ask for application/fhir+json").Because(err)
	}
	if owner := n.Get("securityContext").GetText("reference"); owner != "" {
		x.header["X-Security-Context"] = []string{owner}
	}
	x.header["Content-Security-Policy"] = inertContent
	return x.writeBody(http.StatusOK, []string{held}, data)
}

// inertContent keeps what others have stored from running scripts with the rights of this origin, whose pages people sign in on.
var inertContent = []string{"sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"}

// acceptQuality is how much Accept wants a media type: the range that names it most closely decides.
func acceptQuality(headers []string, mediaType string) float64 {
	quality, closeness := 0.0, int8(0)
	eachRange(headers, func(mediaRange string, p acceptParams) {
		if c := rangeCloseness(mediaRange, mediaType); c > closeness {
			closeness, quality = c, p.q
		}
	})
	return quality
}

// exactQuality is how much Accept wants a media type that it names, without wildcards.
func exactQuality(headers []string, mediaType string) float64 {
	quality := 0.0
	eachRange(headers, func(mediaRange string, p acceptParams) {
		if p.ok && strings.EqualFold(mediaRange, mediaType) {
			quality = p.q
		}
	})
	return quality
}

// readBinary reads the body of a create or update of a Binary: the resource itself, or whatever else it is, which becomes
// one of the media type that Content-Type says, for the resource that X-Security-Context names. id is the update's.
//
// Errors: UnsupportedMedia without a Content-Type; those of readBody; Invalid for FHIR that cannot be read.
func (x *exchange) readBinary(id string) (*fhir.Node, error) {
	header := x.r.Header.Get("Content-Type")
	mediaType, _, err := mime.ParseMediaType(header)
	if err != nil {
		_, why := parseContentType(header)
		return nil, fhir.NewError(fhir.UnsupportedMedia, fhir.CodeNotSupported,
			why+"; send a Binary as application/fhir+json or application/fhir+xml, or its content under the media type that it has")
	}
	buf := getBuffer()
	defer putBuffer(buf)
	if err := x.readBody(buf, x.s.limits.MaxBodyBytes); err != nil {
		return nil, err
	}
	if _, known := formatOf(mediaType); known && !strings.EqualFold(mediaType, "text/html") {
		if _, why := parseContentType(header); why != "" && strictlyFHIR(mediaType) {
			return nil, fhir.NewError(fhir.UnsupportedMedia, fhir.CodeNotSupported, why)
		}
		n, err := x.parseBody(buf)
		switch {
		case err == nil && n.ResourceType() == binaryType:
			return n, nil
		case err != nil && strictlyFHIR(mediaType):
			return nil, err
		}
	}
	n := fhir.Obj(fhir.Str(binaryType).As("resourceType"))
	if id != "" {
		n.Set("id", fhir.Str(id))
	}
	n.Set("contentType", fhir.Str(header))
	if owner := x.r.Header.Get("X-Security-Context"); owner != "" {
		n.Set("securityContext", fhir.Obj(fhir.Str(owner).As("reference")))
	}
	if data := buf.Bytes(); len(data) > 0 {
		n.Set("data", fhir.Str(base64.StdEncoding.EncodeToString(data)))
	}
	return &n, nil
}
