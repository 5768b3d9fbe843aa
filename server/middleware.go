package server

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"kiln/auth"
	"kiln/storage"
)

// exchange is one request and its answer on their way through the server. It is the http.ResponseWriter that the
// router and the actions see, so whatever writes is counted.
type exchange struct {
	s      *server
	w      http.ResponseWriter
	r      *http.Request
	header http.Header // of the answer
	route  *route
	// typ and logical are the placeholders of a path that was found without the table of routes.
	typ, logical string
	// id is X-Request-Id: the client's, when it is fit to be logged, or ours.
	id    string
	start time.Time
	// status is what was answered; zero until then.
	status  int
	written int64
	// turn says that the request holds a place in server.bundles.
	turn bool
	// noted says that the audit log tells of the request, or that the service sees to it.
	noted bool
	// owed says that the body has not been read to its end.
	owed bool

	// cache is what caches may do with the answer; nil for nothing.
	cache []string

	// principal is who asks; nobody on public routes.
	principal auth.Principal
	// token is what a request shows; proof, where the holder is known already, is still to be given by the first read.
	token string
	proof *storage.Proof

	// What the client asked for, set by negotiate.
	format format
	// formatWanted says that _format chose it.
	formatWanted bool
	pretty       bool
	prefer       prefer
	// query is the raw query without what only concerns the form of the answer.
	query string
}

func (x *exchange) Header() http.Header         { return x.header }
func (x *exchange) Unwrap() http.ResponseWriter { return x.w }

func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && status >= 200 {
		x.status = status
	}
	x.w.WriteHeader(status)
}

func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	n, err := x.w.Write(p)
	x.written += int64(n)
	return n, err
}

// statusClientGone is what logs and metrics say, by nginx's habit, when the client left before its answer was ready.
const statusClientGone = 499

// around is all middleware in one place: the request id, CORS, timing, panics, metrics and the access log.
func (s *server) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{
			s: s, w: w, r: r, header: w.Header(), route: unmatched, id: requestID(r.Header), start: time.Now(),
			format: jsonFormat,
		}
		defer x.finish()
		s.metrics.inFlight.Inc()
		x.header["X-Request-Id"] = []string{x.id}
		x.header["X-Content-Type-Options"] = nosniff
		if s.secure {
			x.header["Strict-Transport-Security"] = onlyTLS
		}
		if s.proxies != nil {
			s.fromClient(r)
		}
		x.limitWriting(s.limits.BundleTimeout)
		if x.owed = r.ContentLength != 0; x.owed {
			x.limitReading(time.Now().Add(s.limits.BodyGrace)) // whoever reads the body moves it along
		}
		if s.crossOrigin(r.URL.Path) && x.cors() {
			return
		}
		if x.direct() {
			x.serve()
			return
		}
		next.ServeHTTP(x, r)
	})
}

var (
	nosniff = []string{"nosniff"}
	// onlyTLS has browsers use TLS alone for a year. It says nothing of other hosts of the domain, which are not ours.
	onlyTLS = []string{"max-age=31536000"}
)

// finish runs when the request is over, however it ended.
func (x *exchange) finish() {
	fault := recover()
	if fault != nil && fault != http.ErrAbortHandler {
		fault = x.panicked(fault)
	}
	if x.turn {
		<-x.s.bundles
	}
	if x.status == http.StatusServiceUnavailable && x.r.Context().Err() != nil {
		x.status = statusClientGone // nobody reads the answer, and it was no fault of ours
	}
	x.s.metrics.inFlight.Dec()
	x.s.metrics.observe(x)
	x.log()
	if fault != nil {
		panic(http.ErrAbortHandler)
	}
}

// panicked logs a panic and answers 500. Where the answer has begun already it returns the fault instead, and the
// connection is cut so that nobody takes half an answer for a whole one.
func (x *exchange) panicked(fault any) any {
	id := newErrorID()
	text := fmt.Sprint(fault)
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	x.s.log.LogAttrs(context.Background(), slog.LevelError, "panic",
		slog.String("error_id", id), slog.String("request_id", x.id), slog.String("route", x.route.pattern),
		slog.String("panic", text), slog.String("stack", string(debug.Stack())))
	if x.status != 0 {
		return fault
	}
	x.writeOutcome(internalVerdict(id))
	return nil
}

// log writes the access line. It holds no path, no query and no body: those carry patient data.
func (x *exchange) log() {
	level := slog.LevelInfo
	if x.route.probe {
		level = slog.LevelDebug
	}
	ctx := context.Background()
	if !x.s.log.Enabled(ctx, level) {
		return
	}
	x.s.log.LogAttrs(ctx, level, "request",
		slog.String("request_id", x.id),
		slog.String("method", methodLabel(x.r.Method)),
		slog.String("route", x.route.pattern),
		slog.Int("status", x.status),
		slog.Int64("bytes", x.written),
		slog.Duration("duration", time.Since(x.start)))
}

// requestID takes over the client's X-Request-Id when it is short and plain enough for a log, and makes one otherwise.
func requestID(h http.Header) string {
	if ids := h["X-Request-Id"]; len(ids) > 0 && plainToken(ids[0], 128) {
		return ids[0]
	}
	return randomID()
}

// plainToken says whether s is 1 to limit letters, digits and -._:+=/ — nothing that could break a log or a header.
func plainToken(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._:+=/", c) >= 0) {
			return false
		}
	}
	return true
}

// randomID makes 16 hexadecimal digits; they name a request or an error, and guard nothing.
func randomID() string {
	var buf [16]byte
	b := strconv.AppendUint(buf[:0], rand.Uint64()|1<<63, 16)
	return string(b)
}

func newErrorID() string { return "e" + randomID()[:11] }

// cors lets scripts of any origin use the API. It allows no credentials: access is by token, never by cookie. It says
// whether the request was a preflight, which is answered here.
func (x *exchange) cors() bool {
	if len(x.r.Header["Origin"]) == 0 {
		return false
	}
	x.header["Access-Control-Allow-Origin"] = corsOrigin
	x.header["Access-Control-Expose-Headers"] = corsExposed
	if x.r.Method != http.MethodOptions || len(x.r.Header["Access-Control-Request-Method"]) == 0 {
		return false
	}
	x.route = preflight
	x.header["Access-Control-Allow-Methods"] = corsMethods
	x.header["Access-Control-Allow-Headers"] = corsHeaders
	x.header["Access-Control-Max-Age"] = corsAge
	x.writeEmpty(http.StatusNoContent)
	return true
}

var (
	preflight   = &route{pattern: "preflight", probe: true}
	corsOrigin  = []string{"*"}
	corsExposed = []string{"ETag, Location, Content-Location, Last-Modified, X-Request-Id, X-Break-Glass-Expires, X-Security-Context, Retry-After, Allow, Accept-Patch"}
	corsMethods = []string{"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}
	corsHeaders = []string{"Accept, Authorization, Content-Type, Content-Encoding, If-Match, If-None-Match, " +
		"If-Modified-Since, If-None-Exist, Prefer, Idempotency-Key, X-Request-Id, X-Break-Glass, X-Provenance, X-Security-Context, Cache-Control"}
	corsAge = []string{"3600"}
)

// limitReading gives the client until a moment to send what it has to send; zero for as long as it likes.
func (x *exchange) limitReading(until time.Time) {
	// A connection without deadlines, as in a test, has nobody slow behind it.
	_ = http.NewResponseController(x.w).SetReadDeadline(until)
}

// answering prepares the connection for an answer of a size. When the body has not come, as where the path was reason
// enough to refuse it, net/http waits for some of it first, so that the connection can go on being used. A moment must
// do for that.
func (x *exchange) answering(size int) {
	if x.owed {
		x.limitReading(time.Now().Add(min(time.Second, x.s.limits.BodyGrace/2)))
	}
	x.limitWriting(time.Duration(int64(size)/x.s.limits.MinRate) * time.Second)
}

// limitWriting gives the client until limit from now to take the answer. It is renewed once the answer's size is known.
func (x *exchange) limitWriting(limit time.Duration) {
	// A writer without deadlines, as in a test, is no harm: the error is no more than that.
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(limit + x.s.limits.BodyGrace))
}
