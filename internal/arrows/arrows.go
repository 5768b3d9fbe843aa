// Package arrows keeps the packages in order: its test fails when one imports what it must not. The table below and the
// one in README.md change together.
package arrows

// module is the prefix of our own packages.
const module = "kiln/"

// rule says what the packages at and below a path may import, beside the standard library and each other.
type rule struct {
	path    string
	ours    []string // packages of Kiln, with what is below them
	outside []string // modules of others; nil for any but SQL
	sql     bool     // may talk to a database: drivers, database/sql, goose
	http    bool     // may know HTTP
}

// rules are the arrows: fhir <- conformance <- {storage, auth} <- resources <- server <- cmd. The longest path that
// fits a package decides. auth stands beside storage and below resources because what a caller may see must become
// part of the SQL.
var rules = []rule{
	{path: "fhir", outside: []string{"github.com/go-json-experiment/json/jsontext"}},
	{path: "conformance", ours: []string{"fhir"}, outside: []string{"github.com/klauspost/compress"}},
	{path: "migrations", ours: []string{}, sql: true},
	{path: "storage", ours: []string{"fhir", "conformance", "migrations"}, sql: true},
	{path: "auth", ours: []string{"fhir", "conformance"}},
	{path: "auth/oauth", ours: []string{"fhir", "conformance", "auth", "storage"}, http: true},
	{path: "resources", ours: []string{"fhir", "conformance", "migrations", "storage", "auth"}},
	// Of storage the server uses the type Version, which resources.Response carries; it has no store.
	{path: "server", ours: []string{"fhir", "conformance", "storage", "auth", "resources"}, http: true},
	{path: "cmd", ours: []string{"fhir", "conformance", "migrations", "storage", "auth", "resources", "server", "internal"}, sql: true, http: true},
	{path: "internal", ours: []string{"fhir", "conformance", "migrations", "storage", "auth", "resources", "server"}, sql: true, http: true},
}

// sqlPackages are what talks to a database.
var sqlPackages = []string{"database/sql", "github.com/jackc/pgx", "github.com/lib/pq", "github.com/pressly/goose"}

// httpPackages are what knows HTTP.
var httpPackages = []string{"net/http", "github.com/gorilla/mux"}
