package search

// Reach is how far a rule goes. The zero value goes nowhere.
type Reach uint8

// The reaches.
const (
	ReachNone    Reach = iota
	ReachOwn           // what lies in the compartment of Restriction.Record
	ReachTreated       // what lies in the compartment of a patient whom Restriction.Self treats
	ReachSelf          // what names Restriction.Self as its actor
	ReachShared        // what lies in nobody's compartment
	ReachAny           // everything
	ReachUser          // Restriction.User
)

// Rule lets through the resources of some types.
type Rule struct {
	Types []string
	Reach Reach
	// Context narrows the rule to the compartment of Restriction.Context.
	Context bool
	// Where narrows it to what meets all of these: matches of token, reference and uri parameters without a modifier, each
	// of a type in Types.
	Where []*Match
}

// Restriction is what a caller may see or do: what any of the rules lets through, and neither labels nor consents keep
// back. The zero value is nothing.
type Restriction struct {
	Rules []Rule
	// Caller names who it is for.
	Caller string
	// Record is the id of the patient who asks: neither labels nor consents keep back the own record. "" for none.
	Record string
	// Proxy is the RelatedPerson, such as "RelatedPerson/1", through whom that patient asks: it counts only while that one acts
	// for the patient. "" where the patient asks in person.
	Proxy string
	// Others are further records of the same caller, where there is no Context.
	Others []Record
	// Context is the id of the patient that the application was launched for.
	Context string
	// Self is the reference of the practitioner who asks, such as "Practitioner/1".
	Self string
	// User is the reference of the resource that stands for the caller, such as "Practitioner/1" or "Patient/1", for ReachUser.
	User string
	// Roles decide which labels the caller is cleared for.
	Roles []string
	// Consent says that consents bind the caller. Purpose is why the caller asks.
	Consent bool
	Purpose string
}

// Record is a patient (id) who asks, through the RelatedPerson Proxy or, where that is "", in person.
type Record struct{ Patient, Proxy string }

// HasRecord says whether the caller asks as a patient at all.
func (r *Restriction) HasRecord() bool { return r.Record != "" || len(r.Others) > 0 }
