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
	absolute := strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
	rest, last := cutLast(s)
	if before, mark := cutLast(rest); mark == "_history" && ValidID(last) {
		rest, ref.Version = before, last
		rest, last = cutLast(rest)
	}
	ref.Base, ref.Type = cutLast(rest)
	ref.ID = last
	switch {
	case (!isType(ref.Type) || !ValidID(ref.ID)) && (absolute || strings.Contains(s, ":")):
		return Reference{Other: s}, true
	case !isType(ref.Type) || !ValidID(ref.ID):
		return Reference{}, false
	case ref.Base != "" && !absolute || ref.Base == "" && strings.HasPrefix(s, "/"):
		return Reference{}, false
	}
	return ref, true
}

// cutLast splits a path before its last step. It looks at no more than that, however long the path is.
func cutLast(path string) (before, last string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// ValidID says whether s is a logical id: 1 to 64 of A-Z a-z 0-9 - . (FHIR R4 datatypes.html#id). Of these, "." and
// ".." are no ids here: as steps of a path they lead elsewhere (RFC 3986 section 5.2.4), so nobody could address them.
func ValidID(s string) bool {
	if len(s) == 0 || len(s) > 64 || s == "." || s == ".." {
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
