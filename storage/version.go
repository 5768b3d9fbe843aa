package storage

import "time"

// Version is one version of a resource as stored.
type Version struct {
	Type, ID string
	// Number is the version id: 1, 2, 3…
	Number      int
	LastUpdated time.Time
	// Deleted marks the version that a delete made; it has no content.
	Deleted bool
	// Method is how the version came about: POST, PUT, PATCH or DELETE.
	Method string
	// Content is the resource as compact JSON, with id, meta.versionId and meta.lastUpdated in place.
	Content []byte
}
