package terminology

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
)

// Reader is what questions run on: a pool, or the connection of a transaction, which sees what that has written.
type Reader interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	// Send runs statements that are queued with what reads their rows.
	Send(ctx context.Context, b *pgx.Batch) error
}

// Direct is the Reader of a connection or a pool as it is.
type Direct struct {
	Connection interface {
		Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
		SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	}
}

func (d Direct) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return d.Connection.Query(ctx, sql, args...)
}

func (d Direct) Send(ctx context.Context, b *pgx.Batch) error {
	return d.Connection.SendBatch(ctx, b).Close()
}

// Resolver finds definitions and answers questions about them. It is for one request, and not safe for concurrent use.
type Resolver struct {
	db Reader
	o  Options
	// found remembers what this request has looked up.
	systems map[string]*System
	sets    map[string]*Set
}

// Options are what a Resolver can be told.
type Options struct {
	// Visible says which of these resources the caller may read; others do not exist for him. nil: all.
	Visible func(ctx context.Context, db Reader, keys []int64) (map[int64]bool, error)
	// Fail turns an error of the database into one for callers. nil: as it is.
	Fail func(error) error
	// Versions chooses versions of code systems by their URLs.
	Versions Versions
	// Contained are value sets that parts may name by "#id".
	Contained *fhir.Node
}

// Versions are the parameters system-version (where the value set says nothing), check-system-version (an error where
// it says something else) and force-system-version (whatever it says) of $expand.
type Versions struct{ Default, Check, Force map[string]string }

// NewResolver makes a Resolver.
func NewResolver(db Reader, o Options) *Resolver {
	if o.Fail == nil {
		o.Fail = func(err error) error { return err }
	}
	return &Resolver{db: db, o: o, systems: map[string]*System{}, sets: map[string]*Set{}}
}

// System is a code system that is here, perhaps not in full.
type System struct {
	Key           int64
	Source, ID    string
	URL, Version  string
	Content       string
	CaseSensitive bool
	Concepts      int
	stored        time.Time
	definition    []byte
	grammar       grammar
	parsed        *fhir.Node
	inline        *codeSystem // of a resource that is at hand
}

// Definition is the CodeSystem without its concepts.
func (s *System) Definition() *fhir.Node {
	if s.parsed == nil {
		s.parsed = &fhir.Node{Kind: fhir.Object}
		if s.definition != nil {
			if n, err := fhir.ParseJSON(s.definition); err == nil {
				s.parsed = n
			}
		}
	}
	return s.parsed
}

// Name is what people call the code system.
func (s *System) Name() string {
	for _, name := range []string{"title", "name", "url"} {
		if text := s.Definition().GetText(name); text != "" {
			return text
		}
	}
	return s.URL
}

// Complete says whether a code that is not here is none.
func (s *System) Complete() bool { return s.Content == ContentComplete }

func canonical(url, version string) string {
	if version == "" {
		return url
	}
	return url + "|" + version
}

const systemColumns = `key, source, id, url, version, content, case_sensitive, concepts, stored, definition`

const (
	sqlSystem      = `SELECT ` + systemColumns + ` FROM code_system WHERE url = $1 AND ($2 = '' OR version = $2) AND content <> 'supplement'`
	sqlSystemByKey = `SELECT ` + systemColumns + ` FROM code_system WHERE key = $1`
	sqlSystemByID  = `SELECT ` + systemColumns + ` FROM code_system WHERE id = $1 AND source <> 'R'`
	sqlSystems     = `SELECT ` + systemColumns + ` FROM code_system WHERE content <> 'supplement' ORDER BY url, version, key`
	sqlSystemOfSet = `SELECT ` + systemColumns + ` FROM code_system WHERE value_set = $1`
)

// System finds a code system by URL, with or without a version. It is nil where there is none.
//
// Of several the complete one counts, then the one that a client wrote before one that was loaded and that before the
// official one, then the latest version.
func (r *Resolver) System(ctx context.Context, url, version string) (*System, error) {
	name := canonical(url, version)
	if s, ok := r.systems[name]; ok {
		return s, nil
	}
	list, err := r.readSystems(ctx, sqlSystem, url, version)
	if err != nil {
		return nil, err
	}
	s := best(list)
	if g := grammarOf(url); g != nil && version == "" && (s == nil || !s.Complete()) {
		s = &System{URL: url, Content: ContentComplete, CaseSensitive: g.caseSensitive(), grammar: g, Source: SourceOfficial}
	}
	r.systems[name] = s
	return s, nil
}

// SystemByID finds the code system of a resource, by its key, or else one of FHIR's own by its id.
func (r *Resolver) SystemByID(ctx context.Context, key int64, id string) (*System, error) {
	list, err := r.readSystems(ctx, sqlSystemByKey, key)
	if err == nil && len(list) == 0 {
		list, err = r.readSystems(ctx, sqlSystemByID, id)
	}
	return best(list), err
}

// Systems lists all code systems, supplements apart.
func (r *Resolver) Systems(ctx context.Context) ([]*System, error) {
	return r.readSystems(ctx, sqlSystems)
}

func best(list []*System) *System {
	if len(list) == 0 {
		return nil
	}
	return slices.MaxFunc(list, func(a, b *System) int {
		if a.Complete() != b.Complete() {
			return order(b.Complete(), a.Complete())
		}
		if (a.Concepts > 0) != (b.Concepts > 0) {
			return order(b.Concepts > 0, a.Concepts > 0)
		}
		if c := strings.Index("OLR", a.Source) - strings.Index("OLR", b.Source); c != 0 {
			return c
		}
		if c := CompareVersions(a.Version, b.Version); c != 0 {
			return c
		}
		return a.stored.Compare(b.stored)
	})
}

// order is negative when a holds alone.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// CompareVersions compares business versions piece by piece, numbers as numbers: 2.9 is before 2.10.
func CompareVersions(a, b string) int {
	for a != "" && b != "" {
		x, y := piece(&a), piece(&b)
		if isDigit(x[0]) && isDigit(y[0]) {
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if len(x) != len(y) {
				return len(x) - len(y)
			}
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
	}
	return len(a) - len(b)
}

// piece cuts a run of digits, or of anything else, from the beginning.
func piece(s *string) string {
	i := 1
	for i < len(*s) && isDigit((*s)[i]) == isDigit((*s)[0]) {
		i++
	}
	p := (*s)[:i]
	*s = (*s)[i:]
	return p
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (r *Resolver) readSystems(ctx context.Context, sql string, args ...any) ([]*System, error) {
	var list []*System
	err := r.query(ctx, sql, args, func(rows pgx.Rows) error {
		s := &System{}
		list = append(list, s)
		return rows.Scan(&s.Key, &s.Source, &s.ID, &s.URL, &s.Version, &s.Content, &s.CaseSensitive, &s.Concepts, &s.stored, &s.definition)
	})
	if err != nil {
		return nil, err
	}
	return visible(ctx, r, list, func(s *System) (int64, string) { return s.Key, s.Source })
}

// visible leaves out the resources that the caller may not read.
func visible[T any](ctx context.Context, r *Resolver, list []T, key func(T) (int64, string)) ([]T, error) {
	var keys []int64
	for _, one := range list {
		if k, source := key(one); source == SourceResource {
			keys = append(keys, k)
		}
	}
	if r.o.Visible == nil || len(keys) == 0 {
		return list, nil
	}
	may, err := r.o.Visible(ctx, r.db, keys)
	if err != nil {
		return nil, r.o.Fail(err)
	}
	return slices.DeleteFunc(list, func(one T) bool {
		k, source := key(one)
		return source == SourceResource && !may[k]
	}), nil
}

// query runs a statement and hands over its rows.
func (r *Resolver) query(ctx context.Context, sql string, args []any, each func(pgx.Rows) error) error {
	rows, err := r.db.Query(ctx, sql, args...)
	if err != nil {
		return r.o.Fail(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return r.o.Fail(err)
		}
	}
	return r.o.Fail(rows.Err())
}

// Connections keep plans that do not depend on values. What walks large tables is planned with its values instead.
const (
	sqlPlanAnew = `SELECT set_config('plan_cache_mode', 'force_custom_plan', true)`
	sqlPlanOnce = `SELECT set_config('plan_cache_mode', 'force_generic_plan', true)`
)

// queryAnew is query for statements whose best plan depends on their values.
func (r *Resolver) queryAnew(ctx context.Context, sql string, args []any, each func(pgx.Rows) error) error {
	batch := &pgx.Batch{}
	batch.Queue(sqlPlanAnew)
	batch.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := each(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	batch.Queue(sqlPlanOnce)
	return r.o.Fail(r.db.Send(ctx, batch))
}

// Names of what fails, in Issue.Detail.
const (
	DetailNoSystem = "code-system-missing"
	DetailNoSet    = "value-set-missing"
	DetailNotFull  = "code-system-incomplete"
)

func noSystem(url, version string) *fhir.Error {
	text := fmt.Sprintf("This server does not have the code system %q", url)
	if version != "" {
		text += fmt.Sprintf(" in the version %q", version)
	}
	if how := loadHint(url); how != "" {
		text += "; " + how
	}
	return fhir.NewError(fhir.NotFound, fhir.CodeNotFound, text+".").Coded(DetailNoSystem)
}

func notFull(s *System) *fhir.Error {
	text := fmt.Sprintf("This server has no concepts of the code system %q", s.URL)
	if s.Content != ContentNotPresent {
		text = fmt.Sprintf("This server has only a part of the code system %q (content: %s)", s.URL, s.Content)
	}
	if how := loadHint(s.URL); how != "" {
		text += "; " + how
	}
	return fhir.NewError(fhir.NotFound, fhir.CodeNotFound, text+".").Coded(DetailNotFull)
}

func noSet(url string) *fhir.Error {
	return fhir.NewError(fhir.NotFound, fhir.CodeNotFound, fmt.Sprintf("This server does not have the value set %q.", url)).Coded(DetailNoSet)
}

// loadHint says how a code system that is not HL7's gets in.
func loadHint(url string) string {
	for name, system := range Publishers {
		if system == url {
			return "an administrator can load it: kiln terminology load --system " + name + " FILE"
		}
	}
	return ""
}

// Publishers are the code systems that kiln terminology load reads from their publishers' files, by the names that the
// command knows them under.
var Publishers = map[string]string{
	"loinc":   LOINC,
	"snomed":  SNOMED,
	"rxnorm":  RxNorm,
	"icd10cm": ICD10CM,
}

// URLs of code systems (FHIR R4 terminologies-systems.html).
const (
	LOINC   = "http://loinc.org"
	SNOMED  = "http://snomed.info/sct"
	RxNorm  = "http://www.nlm.nih.gov/research/umls/rxnorm"
	ICD10CM = "http://hl7.org/fhir/sid/icd-10-cm"
	UCUM    = "http://unitsofmeasure.org"
)

// NeedSystem is System, and a code system that is not here, or not in full, is an error.
//
// Errors: NotFound, naming it.
func (r *Resolver) NeedSystem(ctx context.Context, url, version string) (*System, error) {
	s, err := r.System(ctx, url, version)
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return nil, noSystem(url, version)
	case !s.Complete():
		return nil, notFull(s)
	}
	return s, nil
}

// May says whether the caller may read a resource of the tables.
func (r *Resolver) May(ctx context.Context, key int64) (bool, error) {
	list, err := visible(ctx, r, []int64{key}, func(k int64) (int64, string) { return k, SourceResource })
	return len(list) > 0, err
}
