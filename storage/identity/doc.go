// Package identity keeps who may sign in (Account), which apps there are (Client), and what was granted to them (Grant,
// Token). It knows SQL and no protocol: package auth/oauth decides, this package remembers.
//
// Every secret that a caller presents later (a token, a code, a cookie, a launch value) is known here by its SHA-256
// alone. Those secrets are random and long, so a plain hash is enough; passwords are the one thing that needs more, and
// arrive here as argon2id already.
package identity
