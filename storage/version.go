package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Version is one version of a resource as stored.
type Version struct {
	Type, ID string
	// Number is the version id: 1, 2, 3…
	Number      int
	LastUpdated time.Time
	// Deleted marks the version that a delete made; it has no content.
	Deleted bool
	// Method is how the version came about: one of the Method constants.
	Method string
	// Content is the resource as JSON, with id, meta.versionId and meta.lastUpdated in place.
	Content []byte
	// Compartments are the row keys of those in whose compartments it lies, for the audit log.
	Compartments []int64
	// Container is Type/id of the resource that this one is inside of; "" for a resource of its own, as nearly all are. The
	// rest is the container's, but for Type, ID and Content.
	Container string
	// labels are those that restrict it; nil where they were not asked for.
	labels  *int32
	part    string // the id of a contained resource that the version stands for
	cleared *cleared
	beyond  bool // it came when there was no room for its content any more: see room
}

// cleared are patients of whom it was found out, with a version and for one caller, that the rule asks no more of them: see visible.clear.
type cleared struct {
	of       *Access
	patients []int64
}

// room is how many bytes of content the answer to one request may still take. The first version always has room.
type room struct{ max, taken int }

// room is that of a new page.
func (s *Store) room() room {
	if s.options.MaxPageBytes > 0 {
		return room{max: s.options.MaxPageBytes}
	}
	return room{max: maxPageBytes}
}

// maxPageBytes is Options.MaxPageBytes where it is not given.
const maxPageBytes = 64 << 20

// take keeps the content of a version where there is room for it, and else says that it lies beyond, as all do that follow.
func (r *room) take(v *Version) {
	size := len(v.Content)
	if r.taken > 0 && r.taken+size > r.max {
		r.taken, v.beyond, v.Content = r.max+1, true, nil // so that a deletion, which takes nothing, does not stand behind the gap
		return
	}
	r.taken += max(size, 1)
}

// How a version came about. The first letter is what the database keeps.
const (
	MethodCreate = "CREATE"
	MethodUpdate = "UPDATE"
	MethodPatch  = "PATCH"
	MethodDelete = "DELETE"
	// MethodOfficial is that of a definition which the server has built in: see definitions.go.
	MethodOfficial = "OFFICIAL"
)

func methodOf(letter byte) string {
	switch letter {
	case 'U':
		return MethodUpdate
	case 'P':
		return MethodPatch
	case 'D':
		return MethodDelete
	case 'O':
		return MethodOfficial
	}
	return MethodCreate
}

// versionWidth is how many columns a version has: type, id, version, last_updated, method, content, literal, compartments.
const versionWidth = 8

// scanVersion reads versionWidth columns, after the columns in before. It takes them from PostgreSQL's own form: to have pgx find out for
// each value of each row how to put it where it goes takes longer than most of what else a read does here.
func scanVersion(rows pgx.Rows, before ...any) (*Version, error) {
	if n := len(before); n > 0 {
		if err := rows.Scan(append(before, make([]any, len(rows.RawValues())-n)...)...); err != nil {
			return nil, err
		}
	}
	return versionBehind(rows, len(before))
}

// versionBehind reads the version behind n columns.
func versionBehind(rows pgx.Rows, n int) (*Version, error) {
	fields, raw := rows.FieldDescriptions(), rows.RawValues()
	if len(fields) != n+versionWidth {
		return nil, fmt.Errorf("storage: %d columns, which are no version", len(fields))
	}
	if fields[n+2].Format != pgx.BinaryFormatCode { // a URL may ask for a protocol whose answers are texts
		return scanTexts(rows, n)
	}
	fields, raw = fields[n:], raw[n:]
	content := raw[5]
	if fields[5].Format == pgx.BinaryFormatCode && content != nil {
		content = content[1:] // behind the version of the form
	}
	return versionOf(raw, content)
}

// scanTexts is versionBehind for answers of any form.
func scanTexts(rows pgx.Rows, n int) (*Version, error) {
	v := &Version{}
	var method string
	var literal *string
	if err := rows.Scan(append(make([]any, n), &v.Type, &v.ID, &v.Number, &v.LastUpdated, &method, &v.Content, &literal, &v.Compartments)...); err != nil {
		return nil, err
	}
	v.LastUpdated = v.LastUpdated.UTC()
	v.Method, v.Deleted = methodOf(method[0]), v.Content == nil
	if literal != nil {
		v.Content = []byte(*literal)
	}
	return v, nil
}

// y2kMicro is when PostgreSQL begins to count time, in microseconds since 1970.
const y2kMicro = 946_684_800_000_000

// versionOf makes a version of these columns in PostgreSQL's binary form, which it copies.
func versionOf(raw [][]byte, content []byte) (*Version, error) {
	if len(raw[2]) != 4 || len(raw[3]) != 8 || len(raw[4]) != 1 {
		return nil, errors.New("storage: a row is no version")
	}
	v := &Version{Type: string(raw[0]), ID: string(raw[1]), Number: int(int32(binary.BigEndian.Uint32(raw[2]))),
		LastUpdated: time.UnixMicro(int64(binary.BigEndian.Uint64(raw[3])) + y2kMicro).UTC(), Method: methodOf(raw[4][0]), Deleted: content == nil}
	if raw[6] != nil {
		content = raw[6]
	}
	v.Content = bytes.Clone(content)
	if raw[7] != nil {
		v.Compartments = appendKeys(make([]int64, 0, max(0, len(raw[7])-keysHead)/keyWidth), raw[7])
	}
	return v, nil
}

// What an array of row keys has in PostgreSQL's binary form before the first: dimensions, NULLs, type, size and first place; and for each:
// its size and value.
const keysHead, keyWidth = 20, 12

// appendKeys reads such an array.
func appendKeys(list []int64, b []byte) []int64 {
	for b = b[min(keysHead, len(b)):]; len(b) >= keyWidth; b = b[keyWidth:] {
		list = append(list, int64(binary.BigEndian.Uint64(b[4:])))
	}
	return list
}
