package coverage

import (
	"fmt"
	"math/big"
	"regexp"
	"strings"

	"kiln/fhir"
)

// JudgeCoverage takes steps 1 to 3, which need no payer: what a Coverage itself says, for a patient (a relative reference)
// and the date of a visit. payor is its Organization, nil where it is only named.
func JudgeCoverage(coverage, payor *fhir.Node, beneficiary, patient, date string) (found []Finding) {
	if status := coverage.GetText("status"); status != "active" {
		found = append(found, Finding{Inactive, "The coverage is " + strings.ReplaceAll(status, "-", " ") + ": choose another one, or pay for the visit yourself"})
	}
	if beneficiary != patient {
		return append(found, Finding{Mismatch, "This coverage is not the patient's: choose one whose beneficiary the patient is"})
	}
	if from, to := periodOf(coverage.Get("period")); !holds(from, to, date) {
		text := "The coverage does not hold on " + date
		switch {
		case to != "" && to < date:
			text += ": it ends on " + to
		case from > date:
			text += ": it begins on " + from
		}
		found = append(found, Finding{Period, text + ". Choose another coverage, or another day"})
	}
	if text := judgeMember(coverage, payor); text != "" {
		found = append(found, Finding{Identifier, text})
	}
	return found
}

// maxPattern bounds the extension member-id-pattern.
const maxPattern = 200

// MemberPattern is the form of the member ids of a payor; nil for any. Its expressions take linear time.
//
// Errors: for one that cannot be read.
func MemberPattern(payor *fhir.Node) (*regexp.Regexp, error) {
	pattern := extension(payor, ExtensionMemberID).GetText("valueString")
	if pattern == "" {
		return nil, nil
	}
	if len(pattern) > maxPattern {
		return nil, fmt.Errorf("it is longer than %d characters", maxPattern)
	}
	return regexp.Compile(`^(?:` + pattern + `)$`)
}

func judgeMember(coverage, payor *fhir.Node) string {
	id := MemberID(coverage)
	pattern, err := MemberPattern(payor)
	switch {
	case id == "" && (pattern != nil || AdapterOf(payor) != AdapterLocal):
		return "The coverage has no member id, and the payer knows nobody without: copy it from the insurance card"
	case err == nil && pattern != nil && !pattern.MatchString(id):
		return "The member id of the coverage does not have the form that this payer gives out: compare it with the insurance card"
	}
	return ""
}

// Visit is what an answer is judged for.
type Visit struct {
	// Coverage is a relative reference, Date the date of the visit.
	Coverage, Date string
	// Booked is how many visits more, or fewer, count for the same benefit than the answer knows of.
	Booked int
	// Cleared says that staff have settled what was open, or that there is an authorization.
	Cleared bool
}

// Judge takes steps 4 to 7: what a payer's answer says of a visit.
func (a *Answer) Judge(v Visit) (found []Finding) {
	switch a.Outcome {
	case Queued:
		return []Finding{{Pending, "The payer has not answered yet. It is asked again, and you are told what it says"}}
	case Failed:
		return []Finding{{NotInForce, "The payer cannot answer for this coverage" + because(a.why()) + ". Check the member id, or choose another coverage"}}
	}
	i := a.of(v.Coverage)
	if a.Outcome == Partial && i != nil && i.InForce == nil {
		if v.Cleared {
			return nil
		}
		return []Finding{{Unverified, "Nobody has confirmed yet that this insurance is in force. The practice looks at it"}}
	}
	if i == nil || i.InForce == nil || !*i.InForce {
		return []Finding{{NotInForce, "The payer says that this insurance is not in force" + because(a.Disposition) + ". Choose another coverage, or pay for the visit yourself"}}
	}
	if !holds(i.From, i.To, v.Date) {
		found = append(found, Finding{NotInForce, "The benefits of this insurance do not reach to " + v.Date + " (" + span(i.From, i.To) + "). Choose another day or another coverage"})
	}
	for _, x := range i.Items {
		found = append(found, x.judge(v, a.PreAuthRef)...)
	}
	return found
}

func (a *Answer) of(coverage string) *Insurance {
	for i := range a.Insurance {
		if a.Insurance[i].Coverage == coverage {
			return &a.Insurance[i]
		}
	}
	return nil
}

func (a *Answer) why() string {
	for i := range a.Errors {
		if text := a.Errors[i].GetText("text"); text != "" {
			return text
		}
	}
	return a.Disposition
}

func (x *ItemAnswer) judge(v Visit, preAuthRef string) (found []Finding) {
	name := x.Name
	if name == "" {
		name = "this service"
	}
	if x.Excluded {
		return []Finding{{Excluded, "The insurance does not pay for " + name + because(x.Description) + ". Choose another coverage, or pay for the visit yourself"}}
	}
	if x.Network == "out" {
		found = append(found, Finding{OutOfNetwork, "The practitioner is not in the network of this insurance; a part of the costs may be the patient's" + because(x.Description)})
	}
	if text := x.conditions(); text != "" {
		found = append(found, Finding{Conditional, "The insurance pays for " + name + " on conditions: " + text})
	}
	for _, b := range x.Benefits {
		if b.Allowed.Value == nil || b.Used.Value == nil || b.Allowed.Currency != b.Used.Currency {
			continue
		}
		used := new(big.Rat).Set(b.Used.Value)
		if b.Allowed.Currency == "" {
			used.Add(used, big.NewRat(int64(v.Booked), 1))
		}
		if used.Cmp(b.Allowed.Value) >= 0 {
			what := b.Allowed.String()
			if b.Allowed.Currency == "" {
				what += " visits"
			}
			text := "The benefit for " + name + " is used up: " + what + " are allowed, and " + Amount{Value: used, Currency: b.Used.Currency}.String() + " are used"
			if b.Allowed.Currency == "" {
				text += ", those that are booked included"
			}
			found = append(found, Finding{Exhausted, text + ". Choose another coverage, or pay for the visit yourself"})
		}
	}
	if x.Authorization && preAuthRef == "" && !v.Cleared {
		found = append(found, Finding{Authorization, "The insurance wants to authorize " + name + " first. The practice asks for it; the visit is kept until then"})
	}
	return found
}

func because(text string) string {
	text = strings.TrimRight(strings.TrimSpace(text), ".")
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

func span(from, to string) string {
	switch {
	case from == "":
		return "until " + to
	case to == "":
		return "from " + from
	}
	return from + " to " + to
}
