// Package embedpg runs a PostgreSQL server of Kiln's own, for an installation that was given no database URL.
//
// It finds PostgreSQL's binaries (or fetches them), makes the cluster in the data folder once, starts the server
// process, says where its Unix socket is, and stops it. No TCP port is opened. The server never runs as root: a Kiln
// that is root hands the cluster to an unprivileged account. It ends with Kiln, also when Kiln is killed, and the next
// start finds its way over whatever is left.
//
// The package knows nothing about what is in the database: no schema, no migrations, no pools.
//
// What it keeps in the data folder:
//
//	kiln.lock      held while a Kiln runs on this folder; its content is the process id
//	postgres/      the cluster; postgres/kiln.conf is rewritten whenever the machine or the binaries change
//	postgres.log   what the server says; the one before it is postgres.log.1
//	run/           the socket, unless its path would be too long
//
// Read first: Start and Options, then server.go.
package embedpg
