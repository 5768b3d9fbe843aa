package scheduling

import (
	"strconv"
	"time"

	"kiln/fhir"
)

// The extensions that carry what R4 has no element for. Each is a StructureDefinition on the server.
const (
	ExtensionBookingPolicy = fhir.CanonicalBase + "StructureDefinition/booking-policy"
	ExtensionAvailability  = fhir.CanonicalBase + "StructureDefinition/availability"
	// ExtensionRequestedTime is the other time that a patient asks for.
	ExtensionRequestedTime = fhir.CanonicalBase + "StructureDefinition/requested-time"
	// ExtensionSlotService is the service that a Slot is for alone.
	ExtensionSlotService = fhir.CanonicalBase + "StructureDefinition/slot-service"
	// ExtensionReplaces is R5's Appointment.replaces, in the form that HL7 gives elements of R5 in R4 (versions.html#extensions).
	ExtensionReplaces = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Appointment.replaces"
	// ExtensionTimezone is HL7's.
	ExtensionTimezone = "http://hl7.org/fhir/StructureDefinition/timezone"
)

// CoverageMode is what a service makes of the answer of the coverage gate.
type CoverageMode string

// The modes.
const (
	CoverageStrict CoverageMode = "strict" // refused without a good answer
	CoveragePend   CoverageMode = "pend"   // awaits one
	CoverageWarn   CoverageMode = "warn"   // booked, with a warning
	CoverageOff    CoverageMode = "off"    // not asked for
)

// Policy is how a service is booked.
type Policy struct {
	// Approval says that the practitioner has to agree to what a patient books.
	Approval bool
	Coverage CoverageMode
	Duration time.Duration
	// BufferBefore and BufferAfter are kept free around each visit, for all actors but the patient.
	BufferBefore, BufferAfter time.Duration
	// Alignment is the grid, counted from local midnight, on which visits begin; zero for any minute.
	Alignment time.Duration
	// MinNotice and MaxHorizon bound how soon and how far ahead patients book.
	MinNotice, MaxHorizon time.Duration
	// Capacity is how many visits each actor but the patient serves at a time.
	Capacity int
}

// DefaultPolicy is that of a service that says nothing.
func DefaultPolicy() Policy {
	return Policy{Coverage: CoverageWarn, Duration: 30 * time.Minute, MaxHorizon: 90 * 24 * time.Hour, Capacity: 1}
}

// Read lays what a HealthcareService or Schedule says over the policy. What cannot be understood is told, not skipped:
// a policy that silently means something else books wrong times. problem is empty where all is well.
func (p Policy) Read(resource *fhir.Node) (_ Policy, problem string) {
	e := extension(resource, ExtensionBookingPolicy)
	for part := range e.Get("extension").Items() {
		name := part.GetText("url")
		var ok bool
		switch name {
		case "approval":
			code := part.GetText("valueCode")
			p.Approval, ok = code == "practitioner", code == "practitioner" || code == "none"
		case "coverage":
			p.Coverage = CoverageMode(part.GetText("valueCode"))
			switch p.Coverage {
			case CoverageStrict, CoveragePend, CoverageWarn, CoverageOff:
				ok = true
			}
		case "duration":
			p.Duration, ok = duration(part)
			ok = ok && p.Duration >= time.Minute && p.Duration <= 24*time.Hour
		case "buffer-before":
			p.BufferBefore, ok = duration(part)
		case "buffer-after":
			p.BufferAfter, ok = duration(part)
		case "alignment":
			p.Alignment, ok = duration(part)
			ok = ok && p.Alignment <= 24*time.Hour
		case "min-notice":
			p.MinNotice, ok = duration(part)
		case "max-horizon":
			p.MaxHorizon, ok = duration(part)
		case "capacity":
			if v := part.Get("valuePositiveInt"); v != nil {
				n, err := strconv.Atoi(v.Text)
				p.Capacity, ok = n, err == nil && n >= 1 && n <= MaxCapacity
			}
		}
		if !ok {
			return p, "The extension booking-policy has a part " + strconv.Quote(name) + " that cannot be used"
		}
	}
	return p, ""
}

// MaxCapacity is how many visits an actor can have at a time, overrides aside.
const MaxCapacity = 500

// duration reads a Duration in minutes, hours or days (UCUM).
func duration(part *fhir.Node) (time.Duration, bool) {
	v := part.Get("valueDuration")
	value := v.Get("value")
	if value == nil {
		return 0, false
	}
	n, err := strconv.ParseFloat(value.Text, 64)
	unit, known := map[string]time.Duration{"s": time.Second, "min": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "wk": 7 * 24 * time.Hour}[v.GetText("code")]
	if err != nil || !known || n < 0 || n > 1e6 {
		return 0, false
	}
	return (time.Duration(n * float64(unit))).Round(time.Second), true
}

// extension is the first extension with a URL, or nil.
func extension(n *fhir.Node, url string) *fhir.Node {
	for e := range n.Get("extension").Items() {
		if e.GetText("url") == url {
			return e
		}
	}
	return nil
}

// StatedDuration is the duration that a HealthcareService or Schedule itself says a visit takes.
func StatedDuration(resource *fhir.Node) (time.Duration, bool) {
	for part := range extension(resource, ExtensionBookingPolicy).Get("extension").Items() {
		if part.GetText("url") == "duration" {
			return duration(part)
		}
	}
	return 0, false
}

// Stricter is the policy that keeps to both of two.
func Stricter(a, b Policy) Policy {
	rank := map[CoverageMode]int{CoverageOff: 0, CoverageWarn: 1, CoveragePend: 2, CoverageStrict: 3}
	if rank[b.Coverage] > rank[a.Coverage] {
		a.Coverage = b.Coverage
	}
	a.Approval = a.Approval || b.Approval
	a.Duration = max(a.Duration, b.Duration)
	a.BufferBefore, a.BufferAfter = max(a.BufferBefore, b.BufferBefore), max(a.BufferAfter, b.BufferAfter)
	a.Alignment = max(a.Alignment, b.Alignment)
	a.MinNotice, a.MaxHorizon = max(a.MinNotice, b.MinNotice), min(a.MaxHorizon, b.MaxHorizon)
	a.Capacity = min(a.Capacity, b.Capacity)
	return a
}
