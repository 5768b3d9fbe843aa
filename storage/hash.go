package storage

import (
	"encoding/binary"

	"github.com/dchest/siphash"
)

// Hasher makes the 64-bit keys that the search index is built of. They are SipHash-2-4 under a secret of the
// database, so nobody can prepare values that collide.
type Hasher struct{ k0, k1 uint64 }

func newHasher(key []byte) Hasher {
	return Hasher{binary.LittleEndian.Uint64(key), binary.LittleEndian.Uint64(key[8:])}
}

// Resource is the row key (rk) of Type/id.
func (h Hasher) Resource(typ, id string) int64 {
	var buf [128]byte
	b := append(buf[:0], typ...)
	b = append(b, '/')
	return h.sum(append(b, id...))
}

// What a hashed term says about a value. The letters are stored through the hashes: do not renumber.
const (
	termCode       = 'c' // a code, whatever its system
	termSystemCode = 's' // system|code
	termNoSystem   = 'n' // a code without a system
	termSystem     = 'y' // anything in a system
	termExact      = 'x' // a string to the letter
	termURI        = 'u' // a uri or canonical to the letter
	termVersion    = 'v' // Type/id/_history/n
	termIdentifier = 'i' // Reference.identifier; combined with the token forms through its own parameter key
	termOfType     = 't' // type system|type code|value of an Identifier
	termShape      = 'm' // a search_shape
	termMember     = 'p' // membership in a compartment
	termDisplay    = 'd' // a search_display
	termCanonical  = 'k' // a canonical URL, with or without its version
	termSortText   = 'o' // a search_sort_text that no other term tells of
	termNarrated   = 'a' // a word of the narrative, with the number of the type instead of a parameter
	termWord       = 'w' // a word of another text of a resource
)

// Term hashes one term of a parameter.
func (h Hasher) Term(param uint32, form byte, a, b string) int64 {
	var buf [256]byte
	t := binary.LittleEndian.AppendUint32(buf[:0], param)
	t = append(t, form)
	t = binary.LittleEndian.AppendUint32(t, uint32(len(a)))
	t = append(t, a...)
	return h.sum(append(t, b...))
}

// Salt sets the references of one parameter apart: the term of a reference is the target's row key XOR Salt, so SQL
// can go from a target to its referrers and back without a table in between.
func (h Hasher) Salt(param uint32) int64 {
	var buf [8]byte
	return h.sum(append(binary.LittleEndian.AppendUint32(buf[:0], param), "salt"...))
}

func (h Hasher) sum(b []byte) int64 { return int64(siphash.Hash(h.k0, h.k1, b)) }
