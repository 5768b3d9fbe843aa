package validate

import (
	"strconv"
	"strings"

	"kiln/fhir"
)

// integer reads a whole number of 32 bits from a JSON literal. FHIR allows neither a fraction nor an exponent.
func integer(s string) (int64, bool) {
	i, err := strconv.ParseInt(s, 10, 32)
	return i, err == nil && s != "-0"
}

// isSpace says what \s in the regular expressions of XML Schema means.
func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func hasSpace(s string) bool {
	for i := range len(s) {
		if isSpace(s[i]) {
			return true
		}
	}
	return false
}

// isCode follows the regular expression of code: [^\s]+(\s[^\s]+)*. As in XML Schema, \s is the white space of ASCII:
// codes with a no-break space are in use.
func isCode(s string) bool {
	space := true // as if one stood before the first character
	for i := range len(s) {
		now := isSpace(s[i])
		if now && space {
			return false
		}
		space = now
	}
	return !space
}

// isTime follows the regular expression of time: hh:mm:ss with any number of fractional digits.
func isTime(s string) bool {
	d, ok := fhir.ParseDateTime("2000-01-01T"+s, nil)
	return ok && d.Precision >= fhir.PrecisionSecond && !d.Zoned
}

// isOID follows the regular expression of oid: urn:oid:[0-2](\.(0|[1-9][0-9]*))+.
func isOID(s string) bool {
	s, ok := strings.CutPrefix(s, "urn:oid:")
	if !ok || len(s) < 3 || s[0] < '0' || s[0] > '2' || s[1] != '.' {
		return false
	}
	for part := range strings.SplitSeq(s[2:], ".") {
		if part == "" || part[0] == '0' && len(part) > 1 || strings.Trim(part, "0123456789") != "" {
			return false
		}
	}
	return true
}

// isUUID accepts upper case as well: the regular expression of uuid does not, but URIs compare UUIDs without case.
func isUUID(s string) bool {
	s, ok := strings.CutPrefix(s, "urn:uuid:")
	if !ok || len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i] | 0x20; i {
		case 8, 13, 18, 23:
			if s[i] != '-' {
				return false
			}
		default:
			if !(s[i] >= '0' && s[i] <= '9' || c >= 'a' && c <= 'f') {
				return false
			}
		}
	}
	return true
}

// wrongURN says what a urn:uuid: or urn:oid: should be, or "".
func wrongURN(s string) string {
	switch {
	case !strings.HasPrefix(s, "urn:"):
	case strings.HasPrefix(s, "urn:uuid:") && !isUUID(s):
		return "a whole UUID behind urn:uuid:"
	case strings.HasPrefix(s, "urn:oid:") && !isOID(s):
		return "an OID behind urn:oid:, such as urn:oid:1.2.3"
	}
	return ""
}

// hasScheme says whether a URI is absolute.
func hasScheme(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		switch {
		case c >= 'a' && c <= 'z':
		case i > 0 && (s[i] >= '0' && s[i] <= '9' || s[i] == '+' || s[i] == '-' || s[i] == '.'):
		default:
			return i > 0 && s[i] == ':' && i+1 < len(s)
		}
	}
	return false
}

// base64Length counts the bytes that base64 text stands for; white space may stand anywhere (FHIR R4 allows it).
func base64Length(s string) (int, bool) {
	digits, pads := 0, 0
	for i := range len(s) {
		c := s[i]
		switch {
		case isSpace(c):
		case c == '=':
			pads++
		case pads == 0 && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '/'):
			digits++
		default:
			return 0, false
		}
	}
	if pads > 2 || (digits+pads)%4 != 0 || pads > 0 && digits == 0 {
		return 0, false
	}
	return digits * 3 / 4, true
}
