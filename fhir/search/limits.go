package search

// Bounds on one search. They are published in docs/limits.md; beyond them the answer is 400 with the limit named.
const (
	MaxQueryLength = 64 << 10 // bytes of the query string
	MaxParameters  = 200      // parameters of one query
	MaxValues      = 1000     // values after commas in one parameter
	MaxChain       = 8        // steps of a chain or nested _has
	MaxSortKeys    = 8
	MaxIncludes    = 30
	// MaxUntypedTargets is how many types a chain without a type may fan out to.
	MaxUntypedTargets = 40
	MaxFilterDepth    = 20
	MaxFilterTests    = 200 // tests of one _filter, after untyped chains are spread over their types
)
