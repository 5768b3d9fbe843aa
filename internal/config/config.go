// Package config is every setting of Kiln, in one struct.
//
// A setting comes from its flag, else from its environment variable, else from a file, else it has its default. The
// struct tags are the source of the flags, of kiln --help and, checked by a test, of docs/settings.md. A command takes
// the sections it needs.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones on machines that have none, such as a container with nothing but kiln

	"github.com/alecthomas/kong"
)

// Config is all settings.
type Config struct {
	Common   `embed:""`
	Database `embed:"" group:"Database"`
	HTTP     `embed:"" group:"HTTP"`
	SignIn   `embed:"" group:"Sign-in"`
	Content  `embed:"" group:"Content"`
	Messages `embed:"" group:"Messages"`
	Payers   `embed:"" group:"Payers"`
	Keep     `embed:"" group:"Retention"`
	Limits   `embed:"" group:"Limits"`
}

// Common are the settings that every command has.
type Common struct {
	File      kong.ConfigFlag `name:"config" placeholder:"FILE" help:"Settings file (JSON), read on top of kiln.json in the working folder."`
	LogLevel  slog.Level      `name:"log-level" env:"KILN_LOG_LEVEL" default:"info" placeholder:"LEVEL" help:"Least level that is logged: debug, info, warn or error."`
	LogFormat string          `name:"log-format" env:"KILN_LOG_FORMAT" default:"text" enum:"text,json" help:"Log lines as text or json."`
}

// Database says which database to use, and how.
type Database struct {
	DatabaseURL      DatabaseURL   `name:"database-url" env:"KILN_DATABASE_URL" placeholder:"URL" help:"PostgreSQL 14 or newer to use, as a postgres:// URL. Empty: Kiln runs a PostgreSQL of its own in the data folder."`
	DataDir          string        `name:"data-dir" env:"KILN_DATA_DIR" default:"./data" placeholder:"DIR" help:"Folder of Kiln's own PostgreSQL, of its secret key and of the journal of the audit log. One Kiln at a time may have its own PostgreSQL there."`
	PostgresDir      string        `name:"postgres-dir" env:"KILN_POSTGRES_DIR" placeholder:"DIR" help:"Folder with the programs postgres and initdb. Empty: the newest found on the machine."`
	PostgresFetch    bool          `name:"postgres-fetch" env:"KILN_POSTGRES_FETCH" default:"true" negatable:"" help:"Download PostgreSQL when it is not found on the machine."`
	PostgresUser     string        `name:"postgres-user" env:"KILN_POSTGRES_USER" placeholder:"NAME" help:"Account that runs PostgreSQL when Kiln is started by root. Empty: postgres, else nobody."`
	PoolSize         int           `name:"pool-size" env:"KILN_POOL_SIZE" default:"10" placeholder:"N" help:"Most database connections."`
	StatementTimeout time.Duration `name:"statement-timeout" env:"KILN_STATEMENT_TIMEOUT" default:"25s" placeholder:"TIME" help:"Longest one SQL statement may take, and all those of one search together. A search that takes longer is refused as too costly, which needs less than request-timeout."`
	TimeZone         string        `name:"time-zone" env:"KILN_TIME_ZONE" default:"UTC" placeholder:"ZONE" help:"Zone in which dates without an offset are searched, such as Europe/Oslo. Changing it does not change what is indexed already."`
}

// HTTP says where and how Kiln serves.
type HTTP struct {
	Addr            string        `name:"addr" env:"KILN_ADDR" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Address to listen on."`
	BaseURL         string        `name:"base-url" env:"KILN_BASE_URL" placeholder:"URL" help:"Public origin, such as https://ehr.example.org, without /fhir. Every link in every answer begins with it. Empty: made from the address."`
	Auth            string        `name:"auth" env:"KILN_AUTH" default:"smart" placeholder:"MODE" help:"smart: requests need an access token (docs/auth.md). off, for a trial: everybody who reaches the address may do everything; refused unless that is a loopback address."`
	Audit           string        `name:"audit" env:"KILN_AUDIT" default:"all" enum:"all,database,off" help:"all: every request is noted in the audit log before it is answered (docs/audit.md); what changes nothing in a file of KILN_DATA_DIR, and in the database a moment later. database: all in the database at once, which makes reads slower. off: none is; refused unless the address is a loopback address."`
	Proxies         []string      `name:"proxies" env:"KILN_PROXIES" placeholder:"NETWORK" help:"Addresses and networks of the proxies in front of Kiln, with a comma in between, such as 10.0.3.0/24: who sends a request through them is the last address in X-Forwarded-For that is not theirs. Empty: that header counts for nothing."`
	ShutdownTimeout time.Duration `name:"shutdown-timeout" env:"KILN_SHUTDOWN_TIMEOUT" default:"6m" placeholder:"TIME" help:"Longest wait for requests in flight when Kiln is told to stop; what is left then is cut. The default is longer than bundle-timeout."`
}

// Content says which resources are taken.
type Content struct {
	Validation string `name:"validation" env:"KILN_VALIDATION" default:"strict" enum:"strict,lenient" help:"strict: a resource that is not valid, by FHIR or by a profile that it claims, is refused. lenient: it is stored, and the answer tells the faults as warnings; active content in a narrative is refused nevertheless."`
}

// Payers says which payers are asked over the network, and how.
type Payers struct {
	PayerHosts   []string      `name:"payer-hosts" env:"KILN_PAYER_HOSTS" placeholder:"HOST[:PORT]" help:"Hosts of the FHIR servers and CDS services that payers may be asked at (payer-adapter fhir), with a comma in between. Empty: none."`
	PayerPrivate bool          `name:"payer-private" env:"KILN_PAYER_PRIVATE" help:"Let those be in the own network, and be asked without TLS."`
	PayerTurns   int           `name:"payer-turns" env:"KILN_PAYER_TURNS" default:"4" placeholder:"N" help:"Most questions that one payer is asked at a time; two of them about one patient. A payer that leaves four in a row unanswered is asked once in 30 s until it answers."`
	PayerTimeout time.Duration `name:"payer-timeout" env:"KILN_PAYER_TIMEOUT" default:"5s" placeholder:"TIME" help:"How long a payer has to answer before the visit waits for it."`
}

// Validate checks the list of hosts. kong calls it.
func (p *Payers) Validate() error {
	for _, host := range p.PayerHosts {
		if u, err := url.Parse("https://" + host); err != nil || u.Host != host || u.Hostname() == "" || strings.ContainsAny(host, "*@ ") {
			return fmt.Errorf("KILN_PAYER_HOSTS: %q is not a host, or host:port", host)
		}
	}
	if p.PayerTimeout <= 0 || p.PayerTimeout > 20*time.Second {
		return errors.New("KILN_PAYER_TIMEOUT: want a time of 20 seconds at most: whoever books waits for it")
	}
	return positive("KILN_PAYER_TURNS", p.PayerTurns)
}

// Limits bound what clients may ask for.
type Limits struct {
	MaxResourceBytes  Bytes         `name:"max-resource-bytes" env:"KILN_MAX_RESOURCE_BYTES" default:"16MiB" placeholder:"SIZE" help:"Largest single resource or patch, compressed or not."`
	MaxBodyBytes      Bytes         `name:"max-body-bytes" env:"KILN_MAX_BODY_BYTES" default:"64MiB" placeholder:"SIZE" help:"Largest request body, a batch or transaction, compressed or not."`
	MaxBundleEntries  int           `name:"max-bundle-entries" env:"KILN_MAX_BUNDLE_ENTRIES" default:"30000" placeholder:"N" help:"Most entries of a batch or transaction."`
	BundlesAtOnce     int           `name:"bundles-at-once" env:"KILN_BUNDLES_AT_ONCE" default:"0" placeholder:"N" help:"Most batches and transactions worked on at a time; others wait for their turn. 0: two for each processor, eight at most."`
	RequestsPerMinute int           `name:"requests-per-minute" env:"KILN_REQUESTS_PER_MINUTE" default:"0" placeholder:"N" help:"Most requests a minute of one caller (app and user of the token, else address) to this process, a quarter of them at once; what is beyond is answered 429. 0: no bound."`
	DefaultPageSize   int           `name:"default-page-size" env:"KILN_DEFAULT_PAGE_SIZE" default:"20" placeholder:"N" help:"Entries of a page when a search or history does not say _count."`
	MaxPageSize       int           `name:"max-page-size" env:"KILN_MAX_PAGE_SIZE" default:"1000" placeholder:"N" help:"Most entries of a page; a larger _count is taken as this."`
	EverythingSize    int           `name:"everything-page-size" env:"KILN_EVERYTHING_PAGE_SIZE" default:"200" placeholder:"N" help:"Entries of a page of $everything that does not say _count; what they refer to comes beside them."`
	MultipleDelete    bool          `name:"multiple-delete" env:"KILN_MULTIPLE_DELETE" help:"Let a conditional delete remove several resources."`
	PublishSlots      bool          `name:"publish-slots" env:"KILN_PUBLISH_SLOTS" help:"Show everybody, without a token, when and where there is free time: /fhir/$bulk-publish (SMART Scheduling Links)."`
	MaxMatches        int           `name:"max-conditional-matches" env:"KILN_MAX_CONDITIONAL_MATCHES" default:"1000" placeholder:"N" help:"Most resources that one conditional delete removes."`
	RequestTimeout    time.Duration `name:"request-timeout" env:"KILN_REQUEST_TIMEOUT" default:"30s" placeholder:"TIME" help:"Longest work on one request, once its body is here."`
	BundleTimeout     time.Duration `name:"bundle-timeout" env:"KILN_BUNDLE_TIMEOUT" default:"5m" placeholder:"TIME" help:"The same for a batch or transaction."`
	ReadHeaderTimeout time.Duration `name:"read-header-timeout" env:"KILN_READ_HEADER_TIMEOUT" default:"10s" placeholder:"TIME" help:"Longest a client may take to send the head of a request."`
	BodyGrace         time.Duration `name:"body-grace" env:"KILN_BODY_GRACE" default:"20s" placeholder:"TIME" help:"How long a client may take to send a body or take an answer, on top of what min-rate allows."`
	MinRate           Bytes         `name:"min-rate" env:"KILN_MIN_RATE" default:"16KiB" placeholder:"SIZE" help:"Slowest client that is waited for, a second."`
}

// Validate checks the address, the public origin and who may reach the server. kong calls it.
func (h *HTTP) Validate() error {
	host, _, err := net.SplitHostPort(h.Addr)
	if err != nil {
		return fmt.Errorf("KILN_ADDR: %q is not HOST:PORT", h.Addr)
	}
	if h.BaseURL != "" {
		u, err := url.Parse(h.BaseURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
			strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return errors.New("KILN_BASE_URL: want an origin such as https://ehr.example.org, without a path")
		}
	}
	if _, err := h.ProxyNetworks(); err != nil {
		return err
	}
	if h.Audit == "off" && !IsLoopback(host) {
		return fmt.Errorf("KILN_AUDIT=off is refused on %s: nobody could tell who saw or changed a record", h.Addr)
	}
	switch h.Auth {
	case "off":
		if !IsLoopback(host) {
			return fmt.Errorf("KILN_AUTH=off is refused on %s: everybody on the network could read and change every record. Listen on 127.0.0.1", h.Addr)
		}
	case "smart":
	default:
		return fmt.Errorf("KILN_AUTH: %q is not a mode; the modes are smart and off", h.Auth)
	}
	return nil
}

// IsLoopback says whether a host is this machine and nobody else reaches it.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// ProxyNetworks are Proxies, read.
func (h *HTTP) ProxyNetworks() (list []netip.Prefix, err error) {
	for _, text := range h.Proxies {
		network, err := netip.ParsePrefix(text)
		if one, isOne := netip.ParseAddr(text); isOne == nil {
			network, err = netip.PrefixFrom(one, one.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("KILN_PROXIES: %q is neither an address nor a network such as 10.0.3.0/24", text)
		}
		list = append(list, network.Masked())
	}
	return list, nil
}

// Origin is the public origin without a trailing slash: BaseURL or, when that is empty, what reaches addr from this
// machine.
func (h *HTTP) Origin(addr net.Addr) string {
	if h.BaseURL != "" {
		return strings.TrimRight(h.BaseURL, "/")
	}
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return "http://" + addr.String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() || ip.Equal(net.IPv4(127, 0, 0, 1)) {
		host = "localhost"
	}
	if port == "80" {
		return "http://" + host
	}
	return "http://" + net.JoinHostPort(host, port)
}

// Validate checks the numbers and the zone. kong calls it.
func (d *Database) Validate() error {
	if d.DatabaseURL != "" {
		if u, err := url.Parse(string(d.DatabaseURL)); err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
			return errors.New("KILN_DATABASE_URL: want a URL such as postgres://user:password@host:5432/kiln")
		}
	}
	if _, err := time.LoadLocation(d.TimeZone); err != nil {
		return fmt.Errorf("KILN_TIME_ZONE: %q is not a time zone", d.TimeZone)
	}
	return errors.Join(positive("KILN_POOL_SIZE", d.PoolSize), positive("KILN_STATEMENT_TIMEOUT", d.StatementTimeout))
}

// Zone is the location of TimeZone.
func (d *Database) Zone() *time.Location {
	zone, err := time.LoadLocation(d.TimeZone)
	if err != nil {
		return time.UTC
	}
	return zone
}

// Validate checks that every limit is above zero and that they fit each other. kong calls it.
func (l *Limits) Validate() error {
	if l.DefaultPageSize > l.MaxPageSize {
		return errors.New("KILN_DEFAULT_PAGE_SIZE is larger than KILN_MAX_PAGE_SIZE")
	}
	if l.RequestsPerMinute < 0 {
		return errors.New("KILN_REQUESTS_PER_MINUTE must not be below zero")
	}
	if l.BundlesAtOnce < 0 {
		return errors.New("KILN_BUNDLES_AT_ONCE must not be below zero")
	}
	return errors.Join(
		positive("KILN_MAX_RESOURCE_BYTES", l.MaxResourceBytes), positive("KILN_MAX_BODY_BYTES", l.MaxBodyBytes),
		positive("KILN_MAX_BUNDLE_ENTRIES", l.MaxBundleEntries), positive("KILN_DEFAULT_PAGE_SIZE", l.DefaultPageSize),
		positive("KILN_EVERYTHING_PAGE_SIZE", l.EverythingSize),
		positive("KILN_MAX_CONDITIONAL_MATCHES", l.MaxMatches),
		positive("KILN_REQUEST_TIMEOUT", l.RequestTimeout), positive("KILN_BUNDLE_TIMEOUT", l.BundleTimeout),
		positive("KILN_READ_HEADER_TIMEOUT", l.ReadHeaderTimeout), positive("KILN_BODY_GRACE", l.BodyGrace),
		positive("KILN_MIN_RATE", l.MinRate))
}

func positive[T int | Bytes | time.Duration](name string, value T) error {
	if value <= 0 {
		return fmt.Errorf("%s must be above zero", name)
	}
	return nil
}

// Logger makes the logger that the settings ask for. It writes to standard error.
func (c *Common) Logger() *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}

// DatabaseURL is a connection string. It may hold a password, so every way of printing it leaves that out; convert it
// to string where it is used.
type DatabaseURL string

// String is the URL without its password.
func (u DatabaseURL) String() string {
	if u == "" {
		return ""
	}
	parsed, err := url.Parse(string(u))
	if err != nil {
		return "(hidden)"
	}
	q := parsed.Query()
	for name := range q { // libpq also takes password=, sslpassword=, passfile= there
		if strings.Contains(name, "pass") {
			q.Set(name, "xxxxx")
			parsed.RawQuery = q.Encode()
		}
	}
	return parsed.Redacted()
}

// GoString is the same for %#v, LogValue for slog, MarshalText for JSON.
func (u DatabaseURL) GoString() string             { return strconv.Quote(u.String()) }
func (u DatabaseURL) LogValue() slog.Value         { return slog.StringValue(u.String()) }
func (u DatabaseURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Bytes is a size: a number of bytes, or one with a unit such as 64MiB, 16KiB or 60MB.
type Bytes int64

var byteUnits = []struct {
	name string
	size int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1}}

// UnmarshalText reads a size.
func (b *Bytes) UnmarshalText(text []byte) error {
	s, size := strings.TrimSpace(string(text)), int64(1)
	for _, unit := range byteUnits {
		if rest, ok := strings.CutSuffix(strings.ToUpper(s), strings.ToUpper(unit.name)); ok {
			s, size = strings.TrimSpace(rest), unit.size
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/size {
		return fmt.Errorf("%q is not a size such as 64MiB", text)
	}
	*b = Bytes(n * size)
	return nil
}
