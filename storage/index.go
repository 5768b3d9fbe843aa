package storage

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/path"
	"kiln/fhir/search"
	"kiln/storage/fold"
)

// Indexer turns a resource into the rows that searches read. It is immutable; a new set of search parameters makes a
// new Indexer.
type Indexer struct {
	hash     Hasher
	registry *conformance.Registry
	// base is the FHIR base URL: absolute references below it are references to our own resources.
	base string
	zone *time.Location
	// official are the definitions without those of clients; nil where there are none of clients. Rows that it makes
	// are of this generation. building are the keys of the parameters that older rows lack.
	official   *conformance.Registry
	generation int32
	building   map[uint32]bool
	// complete says that no row is from before a version that puts more into the index: see search_parameter_set.incomplete.
	complete bool
	// worded says that tokens have the terms of all words: see words.go.
	worded bool
	// rules say what belonging looks at; nil for none.
	rules *accessRules
	types sync.Map // resource type → *typePlan, compiled when first needed
}

// NewIndexer makes an Indexer for a set of definitions.
func NewIndexer(hash Hasher, registry *conformance.Registry, base string, zone *time.Location) *Indexer {
	return &Indexer{hash: hash, registry: registry, base: strings.TrimSuffix(base, "/"), zone: zone, generation: 1}
}

// typePlan is what to extract from one resource type.
type typePlan struct {
	number int16
	params []*paramPlan
}

type paramPlan struct {
	def  *conformance.SearchParameter
	expr *path.Expression // nil for what has no expression (_text, near)
	// begins are the elements of which expr needs one at least.
	begins nameSet
	salt   int64
	// codes is the value set of a code element: it names the system that the code itself leaves out.
	codes *conformance.CodeSet
	// rare sends hashes to refs: values that hardly ever repeat would ruin the statistics of tokens.
	rare bool
	// sortsOnly are the types that a reference must name to be sorted by; nil for any. sortListed says that
	// search_sort_text has its texts (see listsSortTexts), identifies that search_identifier has them, with their resources.
	sortsOnly              []string
	sortListed, identifies bool
	// mainDate and patient mark the parameters that have a column of their own in search_index, mainCode the one with the
	// table search_code.
	mainDate, patient, mainCode bool
	// mainValue marks the parameter whose values stand beside the codes there.
	mainValue bool
	// listSalt is that of the parameter by whose references search_code lists the resources, and of which this one asks for a
	// part; zero: by none. lists marks that parameter itself.
	listSalt int64
	lists    bool
	// canonical says that it looks at canonical URLs, in elements whose names begin so, each behind a quotation mark; nil: not known.
	canonical   bool
	canonicalIn [][]byte
	// member puts what it leads to into compartments, worker the practitioners; links are looked at by rules.
	member, worker, links bool
	components            []componentPlan
	// custom marks the definition of a client: where it cannot be evaluated, the resource has no value for it. The
	// mistakes of one client keep no other from writing.
	custom bool
}

// componentPlan is one component of a composite parameter.
type componentPlan struct {
	expr  *path.Expression
	param *conformance.SearchParameter
	key   uint32
	codes *conformance.CodeSet // as those of a paramPlan
}

// indexRow is all that search_index and its side tables hold of one resource.
type indexRow struct {
	typ               int16
	patient           *int64
	dateLow, dateHigh time.Time // zero: the resource has no main date
	tokens, refs      []int64
	codes             []int64
	value             *float64 // of search_code
	listed            []int64  // references in search_code
	state             *string  // of search_code: see stateOf
	shape             []int32
	shapeMarker       int64
	stringParams      []int32
	stringValues      []string
	dates             []dateEntry
	numbers           []numberEntry
	composites        []compositeEntry
	displays          []displayEntry
	marks             []labelEntry // see meta_label.go
	sorts             []sortEntry  // none of contained resources
	identifiers       []sortEntry  // nor these
	quantities        []quantity
	words             string // a tsvector

	// Whose it is: see membership.go. inherit are the resources whose compartments and labels it shares; where it is named, it
	// names the patients itself and shares the labels alone.
	compartments, practitioners, inherit []int64
	named                                bool
	// lent are those of labels that are of the resources whose compartments it shares.
	lent   int32
	labels int32
	// strangers are patients whom the writer has to see: see Tx.SeesWhose.
	strangers []int64
	schedules []int64 // the Schedule of a Slot
	// withheld is until when a label keeps the resource from its patient; zero for none.
	withheld time.Time
	links    []link
	// frame is for local references; contained are the resources inside.
	frame      *frame
	contained  []containedRow
	treatments []treatmentEntry
	acting     []actingEntry
	consents   []consentEntry
	proxy      *proxyEntry
	position   *position
}

type dateEntry struct {
	param     int32
	low, high time.Time
}

type numberEntry struct {
	param     int32
	low, high string // decimal literals, or "-Infinity" and "Infinity"
	units     []int64
	canonical *canonicalQuantity
}

// quantity is a number that was read for one parameter: others look at the same element.
type quantity struct {
	value *fhir.Node
	entry numberEntry
	ok    bool
}

type compositeEntry struct {
	param   int32
	tokens  []int64
	value   *string
	date    *dateEntry
	numbers []numberEntry // at most two
}

// Open ends of a period. timestamp turns the outer two into PostgreSQL's infinities; a period without start begins just
// after -infinity, which stands for no date at all, so that it sorts before what has none.
var (
	beginningOfTime = time.Date(-4712, 1, 1, 0, 0, 0, 0, time.UTC)
	openStart       = time.Date(-4711, 1, 1, 0, 0, 0, 0, time.UTC)
	endOfTime       = time.Date(294275, 1, 1, 0, 0, 0, 0, time.UTC)
)

func (ix *Indexer) plan(typ string) (*typePlan, error) {
	if p, ok := ix.types.Load(typ); ok {
		return p.(*typePlan), nil
	}
	plan := &typePlan{number: ix.registry.TypeNumber(typ)}
	official := ix.registry
	if ix.official != nil {
		official = ix.official
	}
	mainDate := mainDateOf(official, typ)
	members, workers := ix.membership(typ), ix.registry.Compartment("Practitioner").Params(typ)
	for _, def := range ix.registry.SearchParameters(typ) {
		p := &paramPlan{def: def, salt: ix.hash.Salt(def.Key), mainDate: def.Code == mainDate && mainDate != ""}
		p.custom = official.SearchParameter(typ, def.Code) == nil
		if p.canonical = def.Type == search.Reference && canonicalParam(ix.registry.Schema(), def); p.canonical {
			p.canonicalIn = canonicalElements(ix.registry.Schema(), def)
		}
		p.rare, p.sortsOnly, p.sortListed = rareTerms(ix.registry.Schema(), def), sortsOnly(def), listsSortTexts(ix.registry, def)
		p.identifies = p.sortListed && areIdentifiers(ix.registry.Schema(), def)
		p.sortListed = p.sortListed && !p.identifies
		p.codes = implicitCodes(ix.registry, def)
		p.mainCode = !p.custom && isMainCode(ix.registry.Schema(), def)
		p.mainValue = !p.custom && def.Code == "value-quantity"
		if by := listing(official, def, mainDate); by != nil && !p.custom {
			p.listSalt, p.lists = ix.hash.Salt(by.Key), by.Key == def.Key
		}
		p.patient = !p.custom && isPatientColumn(ix.registry.Schema(), def)
		p.member = !p.custom && slices.Contains(members, def.Code)
		p.worker = !p.custom && slices.Contains(workers, def.Code)
		p.links = !p.custom && ix.linksOf(typ, def.Code)
		if def.Expression != "" {
			expr, err := path.Compile(def.Expression, ix.registry.Schema())
			if err != nil {
				return nil, err
			}
			p.expr, p.begins = expr, beginsWith(expr)
		}
		for i, c := range def.Components {
			expr, err := path.Compile(c.Expression, ix.registry.Schema())
			if err != nil {
				return nil, err
			}
			p.components = append(p.components, componentPlan{expr, c.Param, componentKey(def.Key, i), implicitCodes(ix.registry, c.Param)})
		}
		plan.params = append(plan.params, p)
	}
	p, _ := ix.types.LoadOrStore(typ, plan)
	return p.(*typePlan), nil
}

// wording says whether the words of a resource are found by _text and _content. Those of the server's own AuditEvents are
// not: words would find nothing there that parameters do not, and cost more than all else of it.
type wording bool

const (
	worded   wording = true
	wordless wording = false
)

// row extracts everything searchable from a resource whose id is already in place.
func (ix *Indexer) row(n *fhir.Node) (*indexRow, error) { return ix.rowOf(n, worded) }

func (ix *Indexer) rowOf(n *fhir.Node, words wording) (*indexRow, error) {
	rk := ix.hash.Resource(n.ResourceType(), n.ID())
	root, f := path.Root(n, ix.registry.Schema()), ix.frameOf(n, rk)
	row, err := ix.extract(n, rk, root, f, words)
	if err != nil {
		return nil, err
	}
	ix.ownCanonicals(row, n)
	ix.belonging(row, n, rk)
	row.metaLabels(n)
	if f.local != nil {
		if row.contained, err = ix.contained(n, root, f); err != nil {
			return nil, err
		}
	}
	return ix.finish(row), nil
}

// extract evaluates the parameters of a resource, which may lie inside that of root.
func (ix *Indexer) extract(n *fhir.Node, rk int64, root path.Element, f *frame, words wording) (*indexRow, error) {
	typ := n.ResourceType()
	plan, err := ix.plan(typ)
	if err != nil {
		return nil, err
	}
	self := root
	if rk != f.rk {
		self = path.Root(n, ix.registry.Schema())
	}
	env := &path.Env{Resource: self, Root: root}
	row := &indexRow{typ: plan.number, frame: f, shape: []int32{}, tokens: make([]int64, 0, 24), refs: make([]int64, 0, 16)}
	if typ == "Patient" {
		row.patient = &rk
	}
	var values []path.Element
	present := membersOf(n)
	for _, p := range plan.params {
		if p.expr == nil || p.begins&present == 0 || skipInIndex(p.def.Code) {
			continue
		}
		tuples, has, sorted := len(row.composites), false, false
		if values, err = p.expr.Append(values[:0], env, self); err != nil && p.custom {
			continue
		}
		if err != nil {
			return nil, err
		}
		for i := range values {
			if p.def.Type == search.Composite {
				err = ix.composite(row, p, env, values[i])
			} else {
				ix.value(row, p, values[i])
				has = has || values[i].IsSystem() || values[i].Value != nil
				switch {
				case rk != f.rk:
				case p.sortListed:
					sorted = ix.sorted(row, p, values[i]) || sorted
				case p.identifies:
					row.identified(p, values[i])
				}
			}
			if err != nil {
				return nil, err
			}
		}
		// An element that no search can find, such as a reference to a contained resource, is not missing.
		if has || len(row.composites) > tuples {
			row.shape = append(row.shape, int32(p.def.Key))
			if rk == f.rk && p.sortListed && !sorted {
				row.tokens = append(row.tokens, ix.sortTerm(p, ""))
			}
		}
	}
	row.quantities = nil // they were for here
	if len(row.listed) > 0 {
		row.state = stateOf(n)
	}
	for _, p := range plan.params {
		if p.mainValue {
			row.value = row.mainValue(int32(p.def.Key))
		}
	}
	if row.position = positionOf(n); words == worded {
		row.words, row.tokens = ix.textVector(n, row.tokens)
	}
	row.shape = append(row.shape, ix.specialShape(plan, row)...)
	return row, nil
}

// nameSet is a set of element names by their first two letters, which those of value and valueQuantity share: a name that is not
// in it is none of them. So most parameters of a type are known to have no value without being looked for.
type nameSet uint64

func (s nameSet) with(name string) nameSet {
	if len(name) > 0 && name[0] == '_' {
		name = name[1:]
	}
	if len(name) < 2 {
		return ^nameSet(0)
	}
	return s | 1<<((uint(name[0])*7+uint(name[1]))%64)
}

// beginsWith are the elements of which an expression needs one at least; all, where that cannot be told.
func beginsWith(expr *path.Expression) (set nameSet) {
	names, ok := expr.Begins()
	if !ok {
		return ^nameSet(0)
	}
	for _, name := range names {
		set = set.with(name)
	}
	return set
}

// membersOf are the elements that a resource has.
func membersOf(n *fhir.Node) (set nameSet) {
	for i := range n.Kids {
		set = set.with(n.Kids[i].Name)
	}
	return set
}

// finish puts the hashes of a row in order.
func (ix *Indexer) finish(row *indexRow) *indexRow {
	slices.Sort(row.shape)
	row.shapeMarker = ix.hash.shape(row.typ, row.shape)
	row.tokens = unique(append(row.tokens, row.shapeMarker))
	row.refs = unique(row.refs)
	row.codes, row.listed = unique(row.codes), unique(row.listed)
	return row
}

// isResource says whether name is a concrete resource type.
func (ix *Indexer) isResource(name string) bool {
	t := ix.registry.Schema().Type(name)
	return t != nil && t.Kind == fhir.Resource && !t.Abstract
}

// saltTo is what the keys of a type of targets are salted with where they are asked for.
func (p *paramPlan) saltTo(target string) int64 {
	if p.listSalt != 0 && isFrequentTarget(target) {
		return p.listSalt
	}
	return p.salt
}

// param returns the plan of one parameter, or nil.
func (ix *Indexer) param(typ, code string) (*paramPlan, error) {
	plan, err := ix.plan(typ)
	if err != nil {
		return nil, err
	}
	for _, p := range plan.params {
		if p.def.Code == code {
			return p, nil
		}
	}
	return nil, nil
}

// skipInIndex names the parameters that search_index answers from columns of its own.
func skipInIndex(code string) bool { return code == "_id" || code == "_lastUpdated" }

func unique[T cmp.Ordered](list []T) []T {
	slices.Sort(list)
	return slices.Compact(list)
}

// shape is the marker of a set of parameters that have a value.
func (h Hasher) shape(typ int16, params []int32) int64 {
	b := make([]byte, 0, 8+4*len(params))
	b = append(b, termShape, byte(typ), byte(typ>>8))
	for _, p := range params {
		b = append(b, byte(p), byte(p>>8), byte(p>>16), byte(p>>24))
	}
	return h.sum(b)
}

// MaxStringIndexed is how many characters at the beginning of a string take part in prefix and substring searches.
const MaxStringIndexed = 500

// foldIndexed folds a string and cuts it to MaxStringIndexed characters.
func foldIndexed(s string) string { return fold.Cut(fold.String(s), MaxStringIndexed) }
