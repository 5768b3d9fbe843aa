package conformance

import (
	"regexp"
	"strings"
)

// IsMediaType says whether a code has the form of a media type, registered or not (BCP 13; RFC 6838 section 4.2). What stands
// behind a semicolon is not looked at: R4's own examples have parameters there that no RFC would take.
func IsMediaType(code string) bool {
	name, _, _ := strings.Cut(code, ";")
	return mediaType.MatchString(strings.TrimRight(name, " "))
}

var mediaType = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,126}/[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,126}$`)
