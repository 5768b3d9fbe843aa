package validate

import (
	"strings"
	"unicode/utf8"

	"kiln/fhir"
)

// primitive is which format a primitive value has.
type primitive uint8

const (
	notPrimitive primitive = iota
	primitiveBoolean
	primitiveInteger
	primitivePositiveInt
	primitiveUnsignedInt
	primitiveDecimal
	primitiveString // all below are JSON strings
	primitiveMarkdown
	primitiveCode
	primitiveID
	primitiveElementID
	primitiveOID
	primitiveUUID
	primitiveURI
	primitiveFullURL // bundle() checks more
	primitiveCanonical
	primitiveBase64
	primitiveInstant
	primitiveDate
	primitiveDateTime
	primitiveTime
	primitiveXHTML
)

var primitives = map[string]primitive{
	"boolean": primitiveBoolean, "integer": primitiveInteger, "positiveInt": primitivePositiveInt,
	"unsignedInt": primitiveUnsignedInt, "decimal": primitiveDecimal, "string": primitiveString,
	"markdown": primitiveMarkdown, "code": primitiveCode, "id": primitiveID, "oid": primitiveOID, "uuid": primitiveUUID,
	"uri": primitiveURI, "url": primitiveURI, "canonical": primitiveCanonical, "base64Binary": primitiveBase64,
	"instant": primitiveInstant, "date": primitiveDate, "dateTime": primitiveDateTime, "time": primitiveTime,
	"xhtml": primitiveXHTML,
}

// MaxStringLength is how many characters a string or markdown may have (FHIR R4 datatypes.html#string).
const MaxStringLength = 1 << 20

// primitiveValue checks a primitive and says whether it is right.
func (r *run) primitiveValue(n *fhir.Node, x *prop) bool {
	want := fhir.String
	switch {
	case x.primitive == primitiveBoolean:
		want = fhir.Bool
	case x.primitive < primitiveString:
		want = fhir.Number
	}
	if n.Kind != want {
		r.fail(fhir.CodeStructure, "json-type", "%s must be a JSON %s (%s), not %s", x.json, want, x.typ.Name, article(n.Kind))
		return false
	}
	if want == fhir.String && !r.characters(n.Text, x) {
		return false
	}
	if x.primitive == primitiveXHTML {
		return r.narrative(n.Text)
	}
	if why := wrong(x.primitive, n.Text); why != "" {
		name := x.typ.Name
		if x.primitive == primitiveID {
			name = "id" // see primitiveOf
		}
		r.fail(fhir.CodeValue, "format-"+name, "%s does not fit the type %s: it must be %s", quote(n.Text), name, why)
		return false
	}
	switch x.primitive {
	case primitiveCanonical:
		r.canonical(n.Text, x)
	case primitiveURI:
		if n.Text[0] == '#' {
			r.frame.fragment(n.Text[1:]) // dom-3 counts it as a use
		}
	}
	return true
}

// wrong says what a value that has its right JSON type should be, or "" when it is right.
func wrong(p primitive, s string) string {
	switch p {
	case primitiveInteger:
		if _, ok := integer(s); !ok {
			return "a whole number from -2147483648 to 2147483647"
		}
	case primitivePositiveInt:
		if i, ok := integer(s); !ok || i < 1 {
			return "a whole number from 1 to 2147483647"
		}
	case primitiveUnsignedInt:
		if i, ok := integer(s); !ok || i < 0 {
			return "a whole number from 0 to 2147483647"
		}
	case primitiveCode:
		if !isCode(s) {
			return "without white space at the ends and with single spaces inside"
		}
	case primitiveID:
		if !fhir.ValidID(s) {
			return "1 to 64 of A-Z a-z 0-9 - ."
		}
	case primitiveElementID:
		if hasSpace(s) {
			return "without white space"
		}
	case primitiveOID:
		if !isOID(s) {
			return "urn:oid: and numbers with dots, such as urn:oid:1.2.3"
		}
	case primitiveUUID:
		if !isUUID(s) || strings.ToLower(s) != s {
			return "urn:uuid: and a UUID in lower case"
		}
	case primitiveFullURL:
		if hasSpace(s) {
			return "without white space"
		}
	case primitiveURI, primitiveCanonical:
		if hasSpace(s) {
			return "without white space"
		}
		return wrongURN(s)
	case primitiveBase64:
		if _, ok := base64Length(s); !ok {
			return "base64 with its padding"
		}
	default:
		return wrongTime(p, s)
	}
	return ""
}

func wrongTime(p primitive, s string) string {
	switch p {
	case primitiveDate:
		if d, ok := fhir.ParseDateTime(s, nil); !ok || d.Precision > fhir.PrecisionDay {
			return "YYYY, YYYY-MM or YYYY-MM-DD and a day of the calendar"
		}
	case primitiveDateTime:
		d, ok := fhir.ParseDateTime(s, nil)
		switch {
		case !ok || d.Precision == fhir.PrecisionMinute:
			return "YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss+zz:zz and a day of the calendar"
		case d.Precision > fhir.PrecisionDay && !d.Zoned:
			return "with a time zone (Z or +zz:zz), because it has a time"
		}
	case primitiveInstant:
		if d, ok := fhir.ParseDateTime(s, nil); !ok || d.Precision < fhir.PrecisionSecond || !d.Zoned {
			return "YYYY-MM-DDThh:mm:ss.sss+zz:zz, to the second at least and with a time zone"
		}
	case primitiveTime:
		if !isTime(s) {
			return "hh:mm:ss without a time zone"
		}
	}
	return ""
}

// characters checks what holds for every string: it says something, within the bounds, in characters that XML can
// carry too (FHIR R4 datatypes.html#string).
func (r *run) characters(s string, x *prop) bool {
	blank := true
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c > ' ' && c != 0xEF:
			blank = false
		case c == 0xEF:
			blank = false
			if strings.HasPrefix(s[i:], "\uFFFE") || strings.HasPrefix(s[i:], "\uFFFF") {
				r.fail(fhir.CodeValue, "control-character", "%s holds the character U+%04X, which XML cannot carry",
					x.json, 0xFFFE+int(s[i+2]-0xBE))
				return false
			}
		case c < ' ' && c != '\t' && c != '\n' && c != '\r':
			r.fail(fhir.CodeValue, "control-character", "%s holds the control character U+%04X", x.json, c)
			return false
		}
	}
	switch {
	case s == "":
		r.fail(fhir.CodeValue, "empty-string", "A string must not be empty: leave %s out", x.json)
	case blank || s[0] >= utf8.RuneSelf && strings.TrimSpace(s) == "":
		r.fail(fhir.CodeValue, "blank-string", "A string must hold more than white space: leave %s out", x.json)
	case len(s) > MaxStringLength && (x.primitive == primitiveString || x.primitive == primitiveMarkdown) &&
		utf8.RuneCountInString(s) > MaxStringLength:
		r.fail(fhir.CodeTooLong, "string-length", "%s has more than %d characters", x.json, MaxStringLength)
	default:
		return true
	}
	return false
}
