package auth

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

// Role is what a user is to the organisation that runs the server. A user may have several.
type Role string

// The roles.
const (
	RolePatient      Role = "patient"
	RolePractitioner Role = "practitioner"
	RoleAdmin        Role = "admin"
)

// Roles are all roles.
func Roles() []Role { return []Role{RolePatient, RolePractitioner, RoleAdmin} }

// Principal is who sends a request, with everything that decides what the request may see and change. The zero value
// is nobody, who has no rights.
type Principal struct {
	// User is the id of the user who is signed in; "" where a client acts for itself.
	User string
	// Name is what people call the user or client, for the audit log; may be empty.
	Name string
	// Client is the id of the application; "" for the pages of the server itself.
	Client string
	Roles  []Role
	// FHIRUser is the resource that stands for the user, such as "Practitioner/123"; "" for none.
	FHIRUser string
	// Represents is the id of the patient whom FHIRUser, a RelatedPerson, acts for: in the role of a patient, for as long as
	// the RelatedPerson says so. "" for none.
	Represents string
	// Others are the records that the user may open in the role of a patient beside that of FHIRUser, where none was chosen. The
	// service takes out those that a RelatedPerson no longer opens.
	Others []Record
	// Patient and Encounter are the ids of the context that the application was launched in; "" for none.
	Patient, Encounter string
	// Scopes are what was granted. A principal without scopes has no rights, whatever the roles are.
	Scopes Scopes
	// Session and Token are the ids, never the secrets, of the session and of the access token; for the audit log.
	Session, Token string
	// Expires is when the token ends. Whoever makes a Principal checks it; zero where there is no end.
	Expires time.Time
	// Purpose is why the caller asks: a code of http://terminology.hl7.org/CodeSystem/v3-ActReason such as TREAT; "" where
	// it was not said.
	Purpose string
	// BreakGlass asks for access in an emergency; nil for none.
	BreakGlass *BreakGlass

	// operator names whoever may do everything; only Operator sets it.
	operator string
	// kept is the fingerprint of a principal that is kept; nil for another.
	kept *keptFingerprint
}

// keptFingerprint is the fingerprint of a principal as it was when it was worked out.
type keptFingerprint struct {
	of   Principal
	text string
}

// Record is a record that a user may open in the role of a patient: the own, or that of somebody whom the user acts for.
type Record struct {
	// Link is what of the user opens it, such as "Patient/1" or "RelatedPerson/2"; Patient the id of the patient whose it is.
	Link    string `json:"link"`
	Patient string `json:"patient"`
}

// BreakGlass is a clinician's claim that a patient's life or health depends on access that the rules do not give.
type BreakGlass struct {
	// Purpose is BTG or ETREAT.
	Purpose string
	// Reason is what the clinician gives as the reason, for the review.
	Reason string
	// Expires is until when the record stays open; the service sets it once it is.
	Expires time.Time
}

// Operator is the principal of whoever has the database anyway: KILN_AUTH=off, and commands such as import and seed. It
// may do everything. name says which of those it is, for the audit log.
func Operator(name string) Principal {
	if name == "" {
		name = "operator"
	}
	return Principal{operator: name, Name: name}
}

// System is the principal of the server itself, for what it does unasked.
func System() Principal { return Operator("system") }

// IsOperator says whether the principal may do everything.
func (p *Principal) IsOperator() bool { return p.operator != "" }

// Known says whether the principal is anybody at all.
func (p *Principal) Known() bool { return p.operator != "" || p.User != "" || p.Client != "" }

// Has says whether the principal has a role.
func (p *Principal) Has(r Role) bool { return slices.Contains(p.Roles, r) }

// Self returns the type and id of FHIRUser, or "" twice.
func (p *Principal) Self() (typ, id string) {
	typ, id, found := strings.Cut(p.FHIRUser, "/")
	if !found || typ == "" || id == "" {
		return "", ""
	}
	return typ, id
}

// ReadsSelf says whether the scope fhirUser opens FHIRUser, whatever the other scopes are: that resource and no other. A RelatedPerson who
// signed in to act for a patient has it only while it does.
// Spec: SMART App Launch 2.2, scopes-and-launch-context.html#scopes-for-requesting-identity-data.
func (p *Principal) ReadsSelf() bool {
	if p.User == "" || !p.Scopes.Has("fhirUser") {
		return false
	}
	switch typ, _ := p.Self(); typ {
	case "Patient", "Practitioner", "Person":
		return true
	case "RelatedPerson":
		return !p.Has(RolePatient) || p.Represents != ""
	}
	return false
}

// Own is the Patient in whose name the principal acts in the role of a patient: itself, or the one whom it represents; of
// several the first. "" for none.
func (p *Principal) Own() string {
	typ, id := p.Self()
	switch {
	case !p.Has(RolePatient):
		return ""
	case typ == "Patient" && id != "":
		return p.FHIRUser
	case typ == "RelatedPerson" && p.Represents != "":
		return "Patient/" + p.Represents
	case len(p.Others) > 0:
		return "Patient/" + p.Others[0].Patient
	}
	return ""
}

// ActsFor says whether a reference is to a Patient in whose name the principal may act in the role of a patient.
func (p *Principal) ActsFor(reference string) bool {
	if reference == "" || !p.Has(RolePatient) {
		return false
	}
	return reference == p.Own() || slices.ContainsFunc(p.Others, func(r Record) bool { return reference == "Patient/"+r.Patient })
}

// Caller names who sends the request apart from the rights: the same user with the same client, whatever the token. One
// caller's Idempotency-Keys are no other's.
func (p *Principal) Caller() string {
	var b []byte
	for _, text := range []string{p.operator, p.User, p.Client} {
		b = appendText(b, text)
	}
	return digest(b)
}

// Fingerprint is the same for two principals exactly when they have the same rights: what paging links are bound to.
// Session, token and expiry are no part of it, so that links survive a refresh.
func (p *Principal) Fingerprint() string {
	if p.kept != nil && p.kept.of.sameRights(p) {
		return p.kept.text
	}
	return p.fingerprint()
}

// Keep returns the principal with its fingerprint worked out, for one that many requests come with. One that is changed has its own again.
func (p Principal) Keep() Principal {
	of := p
	of.Roles, of.Scopes, of.Others, of.kept = slices.Clone(p.Roles), slices.Clone(p.Scopes), slices.Clone(p.Others), nil
	p.kept = &keptFingerprint{of, p.fingerprint()}
	return p
}

// sameRights says whether two principals are the same in all that fingerprint is made of.
func (p *Principal) sameRights(q *Principal) bool {
	return p.operator == q.operator && p.User == q.User && p.Client == q.Client && p.FHIRUser == q.FHIRUser && p.Represents == q.Represents &&
		p.Patient == q.Patient && p.Encounter == q.Encounter && p.Purpose == q.Purpose && slices.Equal(p.Others, q.Others) && slices.Equal(p.Roles, q.Roles) &&
		slices.EqualFunc(p.Scopes, q.Scopes, func(a, b Scope) bool { return a.Text == b.Text })
}

func (p *Principal) fingerprint() string {
	b := make([]byte, 0, 512)
	for _, text := range []string{p.operator, p.User, p.Client, p.FHIRUser, p.Represents, p.Patient, p.Encounter, p.Purpose} {
		b = appendText(b, text)
	}
	for _, r := range p.Others {
		b = appendText(b, "record ", r.Link, " ", r.Patient)
	}
	roles := slices.Clone(p.Roles)
	slices.Sort(roles)
	for _, r := range slices.Compact(roles) {
		b = appendText(b, string(r))
	}
	scopes := make([]string, 0, len(p.Scopes))
	for _, s := range p.Scopes {
		scopes = append(scopes, s.Text)
	}
	slices.Sort(scopes)
	for _, s := range slices.Compact(scopes) {
		b = appendText(b, "scope ", s)
	}
	return digest(b)
}

// appendText adds a text, given in parts, so that no other texts make the same bytes.
func appendText(b []byte, parts ...string) []byte {
	size := 0
	for _, s := range parts {
		size += len(s)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	for _, s := range parts {
		b = append(b, s...)
	}
	return b
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Equal says whether two principals have the same rights.
func (p Principal) Equal(q Principal) bool { return p.Fingerprint() == q.Fingerprint() }
