// Package kilntest is what tests share: a migrated database for each test, a clock that stands still, and the way to
// ../shared/data.
//
// The databases are made in a PostgreSQL cluster that all test binaries of a run use together. The first one starts it,
// with embedpg, in memory where there is room, in a process of its own (supervisor.go), which stops it and ends when no test binary has used it for a
// minute. KILN_TEST_DATABASE_URL names another server to use instead: a URL of a role that may create databases.
//
// Read first: DB.
package kilntest
