package storage

import (
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
	part      string // the id of a contained resource that the version stands for
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

func methodOf(letter string) string {
	switch letter {
	case "U":
		return MethodUpdate
	case "P":
		return MethodPatch
	case "D":
		return MethodDelete
	case "O":
		return MethodOfficial
	}
	return MethodCreate
}

// scanVersion reads type, id, version, last_updated, method, content, literal, compartments, after the
// columns in before.
func scanVersion(rows pgx.Rows, before ...any) (*Version, error) {
	v := &Version{}
	var method string
	var literal *string
	err := rows.Scan(append(before, &v.Type, &v.ID, &v.Number, &v.LastUpdated, &method, &v.Content, &literal, &v.Compartments)...)
	if err != nil {
		return nil, err
	}
	v.Method, v.Deleted = methodOf(method), v.Content == nil
	if literal != nil {
		v.Content = []byte(*literal)
	}
	return v, nil
}
