package fhir

import "strings"

// Reference is a parsed literal reference (FHIR R4 references.html#literal).
type Reference struct {
	// Base is the server part of an absolute reference, without the trailing slash; "" for a relative one.
	Base string
	// Type and ID are the target of Type/id; Version is what stands after _history/, or "".
	Type, ID, Version string
	// Fragment is the id of a contained resource ("#x"), without the mark; "#" alone, the container, gives Container.
	Fragment  string
	Container bool
	// Query is the search part of a conditional reference (Type?query).
	Query string
	// URN is a urn:uuid: or urn:oid: reference, whole.
	URN string
	// Other is an absolute URL that does not end in Type/id, whole.
	Other string
}

// ParseReference takes a reference apart; isType says whether a name is a resource type. What fits no form gives
// ok = false.
func ParseReference(s string, isType func(string) bool) (ref Reference, ok bool) {
	switch {
	case s == "":
		return ref, false
	case s == "#":
		return Reference{Container: true}, true
	case s[0] == '#':
		return Reference{Fragment: s[1:]}, true
	case strings.HasPrefix(s, "urn:"):
		return Reference{URN: s}, true
	}
	if typ, query, found := strings.Cut(s, "?"); found && isType(typ) {
		return Reference{Type: typ, Query: query}, true
	}
	s, _, _ = strings.Cut(s, "#") // a fragment inside another resource still points at that resource
	parts := strings.Split(s, "/")
	n := len(parts)
	absolute := strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
	if n >= 4 && parts[n-2] == "_history" && isType(parts[n-4]) && ValidID(parts[n-3]) && ValidID(parts[n-1]) {
		ref = Reference{Type: parts[n-4], ID: parts[n-3], Version: parts[n-1]}
		parts = parts[:n-4]
	} else if n >= 2 && isType(parts[n-2]) && ValidID(parts[n-1]) {
		ref = Reference{Type: parts[n-2], ID: parts[n-1]}
		parts = parts[:n-2]
	} else if absolute || strings.Contains(s, ":") {
		return Reference{Other: s}, true
	} else {
		return ref, false
	}
	if len(parts) > 0 {
		if !absolute {
			return Reference{}, false
		}
		ref.Base = strings.Join(parts, "/")
	}
	return ref, true
}

// ValidID says whether s is a logical id: 1 to 64 of A-Z a-z 0-9 - . (FHIR R4 datatypes.html#id).
func ValidID(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.') {
			return false
		}
	}
	return true
}
