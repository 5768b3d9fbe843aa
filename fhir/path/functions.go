package path

// function is one function of the language. eval finds its input at stack[mark:] and leaves its result there.
type function struct {
	min, max int
	typed    bool // the argument is a type
	eval     func(c *ctx, x *call, mark int) error
}

// call is the call of a function on input, or on $this where input is nil. Arguments are evaluated by the function:
// per item for criteria and projections, with the surrounding $this for all others.
type call struct {
	input      node
	fn         *function
	name       string
	args       []node
	spec       *typeSpec
	pattern    *pattern // of a literal regular expression
	descending []bool   // sort: which keys go down
}

func (x *call) eval(c *ctx) error {
	if err := c.step(1); err != nil {
		return err
	}
	mark := len(c.stack)
	if x.input == nil {
		if c.frame.has {
			c.push(c.frame.this)
		}
	} else if err := x.input.eval(c); err != nil {
		return err
	}
	return x.fn.eval(c, x, mark)
}

// functions is the table of all functions by name.
var functions = map[string]*function{
	// Existence
	"empty":      {0, 0, false, fnEmpty},
	"exists":     {0, 1, false, fnExists},
	"all":        {1, 1, false, fnAll},
	"allTrue":    {0, 0, false, quantifier(yes, true)},
	"anyTrue":    {0, 0, false, quantifier(yes, false)},
	"allFalse":   {0, 0, false, quantifier(no, true)},
	"anyFalse":   {0, 0, false, quantifier(no, false)},
	"subsetOf":   {1, 1, false, fnSubsetOf},
	"supersetOf": {1, 1, false, fnSupersetOf},
	"count":      {0, 0, false, fnCount},
	"distinct":   {0, 0, false, func(c *ctx, _ *call, mark int) error { return c.distinct(mark) }},
	"isDistinct": {0, 0, false, fnIsDistinct},
	"not":        {0, 0, false, fnNot},
	// Filtering and projection
	"where":       {1, 1, false, fnWhere},
	"select":      {1, 1, false, fnSelect},
	"repeat":      {1, 1, false, fnRepeat},
	"ofType":      {1, 1, true, func(c *ctx, x *call, mark int) error { return c.ofType(x.spec, mark) }},
	"as":          {1, 1, true, func(c *ctx, x *call, mark int) error { return c.as(x.spec, mark) }},
	"is":          {1, 1, true, func(c *ctx, x *call, mark int) error { return c.is(x.spec, mark) }},
	"aggregate":   {1, 2, false, fnAggregate},
	"iif":         {2, 3, false, fnIif},
	"sort":        {0, 10, false, fnSort},
	"trace":       {1, 2, false, fnTrace},
	"children":    {0, 0, false, fnChildren},
	"descendants": {0, 0, false, fnDescendants},
	// Subsetting and combining
	"single":    {0, 0, false, fnSingle},
	"first":     {0, 0, false, fnFirst},
	"last":      {0, 0, false, fnLast},
	"tail":      {0, 0, false, fnTail},
	"skip":      {1, 1, false, fnSkip},
	"take":      {1, 1, false, fnTake},
	"intersect": {1, 1, false, fnIntersect},
	"exclude":   {1, 1, false, fnExclude},
	"union":     {1, 1, false, fnUnion},
	"combine":   {1, 1, false, fnCombine},
	// Conversion
	"toBoolean": converter(toBoolean), "convertsToBoolean": tester(toBoolean),
	"toInteger": converter(toInteger), "convertsToInteger": tester(toInteger),
	"toDecimal": converter(toDecimal), "convertsToDecimal": tester(toDecimal),
	"toString": converter(toText), "convertsToString": tester(toText),
	"toDate": converter(toDate), "convertsToDate": tester(toDate),
	"toDateTime": converter(toDateTime), "convertsToDateTime": tester(toDateTime),
	"toTime": converter(toTime), "convertsToTime": tester(toTime),
	"toQuantity": {0, 1, false, fnToQuantity}, "convertsToQuantity": {0, 1, false, fnConvertsToQuantity},
	"type": {0, 0, false, fnType},
	// Text
	"indexOf":        {1, 1, false, fnIndexOf},
	"lastIndexOf":    {1, 1, false, fnLastIndexOf},
	"substring":      {1, 2, false, fnSubstring},
	"startsWith":     {1, 1, false, fnStartsWith},
	"endsWith":       {1, 1, false, fnEndsWith},
	"contains":       {1, 1, false, fnContains},
	"upper":          {0, 0, false, fnUpper},
	"lower":          {0, 0, false, fnLower},
	"replace":        {2, 2, false, fnReplace},
	"matches":        {1, 1, false, fnMatches},
	"matchesFull":    {1, 1, false, fnMatches},
	"replaceMatches": {2, 2, false, fnReplaceMatches},
	"length":         {0, 0, false, fnLength},
	"toChars":        {0, 0, false, fnToChars},
	"trim":           {0, 0, false, fnTrim},
	"split":          {1, 1, false, fnSplit},
	"join":           {0, 1, false, fnJoin},
	"encode":         {1, 1, false, fnEncode},
	"decode":         {1, 1, false, fnDecode},
	"escape":         {1, 1, false, fnEscape},
	"unescape":       {1, 1, false, fnUnescape},
	// Math
	"abs":          {0, 0, false, fnAbs},
	"ceiling":      {0, 0, false, fnWhole},
	"floor":        {0, 0, false, fnWhole},
	"truncate":     {0, 0, false, fnWhole},
	"round":        {0, 1, false, fnRound},
	"exp":          {0, 0, false, fnExp},
	"ln":           {0, 0, false, fnLn},
	"log":          {1, 1, false, fnLog},
	"power":        {1, 1, false, fnPower},
	"sqrt":         {0, 0, false, fnSqrt},
	"lowBoundary":  {0, 1, false, fnBoundary},
	"highBoundary": {0, 1, false, fnBoundary},
	"precision":    {0, 0, false, fnPrecision},
	"comparable":   {1, 1, false, fnComparable},
	// Date and time
	"now":       {0, 0, false, fnNow},
	"today":     {0, 0, false, fnToday},
	"timeOfDay": {0, 0, false, fnTimeOfDay},
	// FHIR
	"extension":  {1, 1, false, fnExtension},
	"hasValue":   {0, 0, false, fnHasValue},
	"getValue":   {0, 0, false, fnGetValue},
	"resolve":    {0, 0, false, fnResolve},
	"memberOf":   {1, 1, false, fnMemberOf},
	"conformsTo": {1, 1, false, fnConformsTo},
	"htmlChecks": {0, 0, false, fnHTMLChecks},
}

// argument evaluates an argument that must be one item or nothing, with the surrounding $this, and leaves the stack as
// it was.
func (c *ctx) argument(n node) (e Element, ok bool, err error) {
	mark := len(c.stack)
	if err := n.eval(c); err != nil {
		return e, false, err
	}
	items := c.stack[mark:]
	c.stack = c.stack[:mark]
	switch len(items) {
	case 0:
		return e, false, nil
	case 1:
		return items[0], true, nil
	}
	return e, false, failf("an argument must be one item, not %d", len(items))
}

func (c *ctx) textArg(n node) (string, bool, error) {
	e, ok, err := c.argument(n)
	if !ok || err != nil {
		return "", false, err
	}
	s, ok := e.str()
	if !ok {
		return "", false, failf("an argument must be a text, not a %s", e.TypeName())
	}
	return s, true, nil
}

func (c *ctx) integerArg(n node) (int64, bool, error) {
	e, ok, err := c.argument(n)
	if !ok || err != nil {
		return 0, false, err
	}
	v, ok := e.value()
	if !ok || v.Kind != Integer {
		return 0, false, failf("an argument must be an Integer, not a %s", e.TypeName())
	}
	return v.Int, true, nil
}

// one returns the input of a function that works on a single item; ok is false where there is none.
func (c *ctx) one(x *call, mark int) (e Element, ok bool, err error) {
	switch len(c.stack) - mark {
	case 0:
		return e, false, nil
	case 1:
		return c.stack[mark], true, nil
	}
	return e, false, failf("%s() works on one item, not %d", x.name, len(c.stack)-mark)
}

// oneText returns the input of a function that works on a text.
func (c *ctx) oneText(x *call, mark int) (string, bool, error) {
	e, ok, err := c.one(x, mark)
	if !ok || err != nil {
		return "", false, err
	}
	s, ok := e.str()
	if !ok {
		if e.isPrimitive() && e.Value == nil && e.sys == nil {
			return "", false, nil
		}
		return "", false, failf("%s() works on a text, not on a %s", x.name, e.TypeName())
	}
	return s, true, nil
}
