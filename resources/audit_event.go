package resources

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"kiln/fhir"
	"kiln/storage"
)

const auditEventType = "AuditEvent"

// ReadOnlyTypes are the types that clients can only read, one by one or by search.
func ReadOnlyTypes() []string { return []string{auditEventType} }

// auditEventsAreOurs refuses to let anybody write an AuditEvent; of those of others, import may bring new ones.
//
// Errors: MethodNotAllowed.
func (s *Service) auditEventsAreOurs(r *Request) error {
	if r.Type != auditEventType || s.options.ForeignAudit || !r.Interaction.writes() && r.Interaction != HistoryType {
		return nil
	}
	if r.Interaction == HistoryType { // it would change with each look at it
		e := fhir.NewError(fhir.MethodNotAllowed, fhir.CodeNotSupported, "AuditEvents have no versions but the first, and no history of all of them; search AuditEvent with _sort=-date")
		e.Allow = []string{"OPTIONS"}
		return e
	}
	return ours("GET", "HEAD", "OPTIONS")
}

func ours(allow ...string) *fhir.Error {
	e := fhir.NewError(fhir.MethodNotAllowed, fhir.CodeNotSupported, "AuditEvents are written by the server alone, and never changed or deleted")
	e.Allow = allow
	return e
}

// allowAuditEvent is the rule of the type: whatever way a write takes, it ends here.
func (s *Service) allowAuditEvent(_ context.Context, c *change) error {
	if s.options.ForeignAudit && c.old == nil {
		return nil
	}
	return ours("GET", "HEAD", "OPTIONS")
}

// Code systems of AuditEvents.
const (
	systemDCM         = "http://dicom.nema.org/resources/ontology/DCM"
	systemRest        = "http://hl7.org/fhir/restful-interaction"
	systemIHE         = "urn:ihe:event-type-code"
	systemEventType   = "http://terminology.hl7.org/CodeSystem/audit-event-type"
	systemEntityType  = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
	systemObjectRole  = "http://terminology.hl7.org/CodeSystem/object-role"
	systemPart        = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
	systemReason      = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
	systemSource      = "http://terminology.hl7.org/CodeSystem/security-source-type"
	systemCustodian   = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
	systemBALP        = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"
	profileBALP       = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
	systemOperation   = fhir.CanonicalBase + "CodeSystem/operation"
	systemAct         = fhir.CanonicalBase + "CodeSystem/audit-act"
	tokenPrefix       = "urn:ietf:params:oauth:jti:"
	roleDomain        = "4"
	roleQuery         = "24"
	networkIP         = "2"
	networkURI        = "5"
	sourceApplication = "4"
)

// restKind is how BALP tells one kind of interaction: the action, who of client and server is the source, what the user
// is to the data, and the profile.
type restKind struct {
	action         string
	client, server fhir.Node
	user, profile  string
}

// What every AuditEvent says in the same words. Nodes are shared and never changed.
var (
	dicomSource      = codeable(coding(systemDCM, "110153", "Source Role ID"))
	dicomDestination = codeable(coding(systemDCM, "110152", "Destination Role ID"))
	dicomApplication = codeable(coding(systemDCM, "110150", "Application"))
	custodian        = codeable(coding(systemCustodian, "custodian", "Custodian"))

	restType          = coding(systemEventType, "rest", "RESTful Operation")
	personType        = coding(systemEntityType, "1", "Person").As("type")
	patientRole       = coding(systemObjectRole, "1", "Patient").As("role")
	objectType        = coding(systemEntityType, "2", "System Object").As("type")
	domainRole        = coding(systemObjectRole, roleDomain, "Domain Resource").As("role")
	queryRole         = coding(systemObjectRole, roleQuery, "Query").As("role")
	requestIDType     = coding(systemBALP, "XrequestId", "").As("type")
	applicationServer = fhir.Arr(coding(systemSource, sourceApplication, "Application Server")).As("type")
)

// restKinds follows the profiles of IHE Basic Audit Log Patterns. Data flows from the server to the client where it is
// read, and the query from the client to the server where it is searched.
var restKinds = map[Interaction]restKind{
	Read:            {"R", dicomDestination, dicomSource, "IRCP", "Read"},
	VRead:           {"R", dicomDestination, dicomSource, "IRCP", "Read"},
	HistoryInstance: {"R", dicomDestination, dicomSource, "IRCP", ""},
	HistoryType:     {"E", dicomSource, dicomDestination, "IRCP", ""},
	HistorySystem:   {"E", dicomSource, dicomDestination, "IRCP", ""},
	SearchType:      {"E", dicomSource, dicomDestination, "IRCP", "Query"},
	SearchSystem:    {"E", dicomSource, dicomDestination, "IRCP", "Query"},
	Create:          {"C", dicomSource, dicomDestination, "AUT", "Create"},
	Update:          {"U", dicomSource, dicomDestination, "AUT", "Update"},
	Patch:           {"U", dicomSource, dicomDestination, "AUT", "Update"},
	Delete:          {"D", dicomApplication, custodian, "AUT", "Delete"},
	Batch:           {"E", dicomSource, dicomDestination, "AUT", ""},
	Transaction:     {"E", dicomSource, dicomDestination, "AUT", ""},
	Operate:         {"E", dicomSource, dicomDestination, "IRCP", ""},
}

// bookings are the operations that are transactions of IHE Scheduling, with what they do to the Appointment; "" for none.
var bookings = map[string]struct {
	transaction, display string
	does                 Interaction
}{
	"find":       {"ITI-115", "Find Potential Appointments", Operate},
	"hold":       {"ITI-116", "Hold Appointment", Create},
	"book":       {"ITI-117", "Book Appointment", Create},
	"reschedule": {"ITI-117", "Book Appointment", Update},
	"cancel":     {"ITI-117", "Book Appointment", Update},
}

// auditEvents makes the AuditEvents of an entry: one for each patient whose record was touched, or one where it was
// nobody's. Where the query says more than one patient may read, it stands whole in an event of its own that belongs to
// no patient.
func (s *Service) auditEvents(e *storage.AuditEntry) []*fhir.Node {
	if e.Act == ActWritten {
		return nil
	}
	if len(e.Patients) == 0 {
		return []*fhir.Node{s.auditEvent(e, "", e.Query)}
	}
	slices.Sort(e.Patients)
	var list []*fhir.Node
	hidden := false
	for _, patient := range e.Patients {
		shown := s.queryFor(e, patient)
		hidden = hidden || shown != e.Query
		list = append(list, s.auditEvent(e, patient, shown))
	}
	if hidden {
		list = append(list, s.auditEvent(e, "", e.Query))
	}
	return list
}

// auditEvent makes one AuditEvent. Spec: FHIR R4 auditevent.html; IHE ITI BALP.
func (s *Service) auditEvent(e *storage.AuditEntry, patient, query string) *fhir.Node {
	kind, rest := restKinds[Interaction(e.Act)]
	typ, subtypes := restType, []fhir.Node(nil)
	switch booking, is := bookings[e.Operation]; {
	case rest && is && isAppointment(e):
		kind = restKinds[booking.does]
		kind.profile = ""
		subtypes = append(subtypes, coding(systemRest, string(booking.does), ""), coding(systemIHE, booking.transaction, booking.display))
		if booking.does != Operate {
			subtypes = append(subtypes, coding(systemOperation, e.Operation, "$"+e.Operation))
		}
	case rest:
		subtypes = append(subtypes, coding(systemRest, e.Act, ""))
		if e.Operation != "" {
			subtypes = append(subtypes, coding(systemOperation, e.Operation, "$"+e.Operation))
		}
		if e.Act == string(SearchType) && isAppointment(e) {
			subtypes = append(subtypes, coding(systemIHE, "ITI-118", "Find Existing Appointments"))
		}
	default:
		typ, subtypes = actCodes(e.Act)
		kind = restKind{action: "E", client: dicomSource, server: dicomDestination, user: "IRCP"}
	}
	if e.Within != "" && kind.profile != "Delete" { // BALP has one subtype for a delete
		subtypes = append(subtypes, coding(systemRest, e.Within, ""))
	}
	n := fhir.Obj(make([]fhir.Node, 0, 14)...)
	n.Set("resourceType", fhir.Str(auditEventType))
	n.Set("id", fhir.Str(s.options.NewID()))
	if kind.profile != "" && e.Outcome == "" {
		profile := kind.profile
		if patient != "" {
			profile = "Patient" + profile
		}
		n.Set("meta", fhir.Obj(fhir.Arr(fhir.Str(profileBALP+profile)).As("profile")))
	}
	n.Set("type", typ)
	n.Set("subtype", fhir.Arr(subtypes...))
	n.Set("action", fhir.Str(kind.action))
	n.Set("recorded", fhir.Str(fhir.FormatInstant(e.Recorded)))
	outcome := e.Outcome
	if outcome == "" {
		outcome = "0"
	}
	n.Set("outcome", fhir.Str(outcome))
	if e.Detail != "" {
		n.Set("outcomeDesc", fhir.Str(e.Detail))
	}
	if e.Reason != "" {
		n.Set("purposeOfEvent", fhir.Arr(fhir.Obj(fhir.Arr(coding(systemReason, e.Purpose, "")).As("coding"), fhir.Str(e.Reason).As("text"))))
	}
	n.Set("agent", fhir.Arr(s.agents(e, &kind)...))
	n.Set("source", fhir.Obj(s.observer.As("observer"), applicationServer))
	if entities := entitiesOf(e, patient, query); len(entities) > 0 {
		n.Set("entity", fhir.Arr(entities...))
	}
	return &n
}

func isAppointment(e *storage.AuditEntry) bool {
	return e.Type == "Appointment" || strings.HasPrefix(e.Target, "Appointment/")
}

// agents are the client, the server and, where there is one, the user.
func (s *Service) agents(e *storage.AuditEntry, kind *restKind) []fhir.Node {
	signedIn := e.User != "" || e.FHIRUser != ""
	who := fhir.Obj()
	if e.Client != "" {
		who.Set("identifier", fhir.Obj(fhir.Str(e.Client).As("value")))
	}
	switch {
	case e.Name != "" && !signedIn:
		who.Set("display", fhir.Str(e.Name))
	case e.Client == "":
		who.Set("display", fhir.Str("no application"))
	}
	client := fhir.Obj(make([]fhir.Node, 0, 5)...)
	client.Kids = append(client.Kids, kind.client.As("type"), who.As("who"), fhir.Boolean(!signedIn).As("requestor"))
	if e.Address != "" {
		client.Set("network", network(e.Address, networkIP))
	}
	if !signedIn {
		addToken(&client, e)
	}
	server := fhir.Obj(kind.server.As("type"), s.observer.As("who"), fhir.Boolean(false).As("requestor"), s.place)
	list := []fhir.Node{client, server}
	if signedIn {
		list = append(list, userAgent(e, kind.user))
	}
	return list
}

func userAgent(e *storage.AuditEntry, part string) fhir.Node {
	n := fhir.Obj(codeable(coding(systemPart, part, "")).As("type"))
	var roles []fhir.Node
	for _, role := range e.Roles {
		roles = append(roles, fhir.Obj(fhir.Str(role).As("text")))
	}
	if len(roles) > 0 {
		n.Set("role", fhir.Arr(roles...))
	}
	who := fhir.Obj()
	if e.FHIRUser != "" {
		who.Set("reference", fhir.Str(e.FHIRUser))
	}
	if e.User != "" {
		who.Set("identifier", fhir.Obj(fhir.Str(e.User).As("value")))
	}
	if e.Name != "" {
		who.Set("display", fhir.Str(e.Name))
		n.Set("name", fhir.Str(e.Name))
	}
	n.Set("who", who)
	n.Set("requestor", fhir.Boolean(true))
	addToken(&n, e)
	if e.Purpose != "" {
		n.Set("purposeOfUse", fhir.Arr(codeable(coding(systemReason, e.Purpose, ""))))
	}
	return n
}

// addToken names the access token by its id.
func addToken(agent *fhir.Node, e *storage.AuditEntry) {
	if e.Token != "" {
		agent.Set("policy", fhir.Arr(fhir.Str(tokenPrefix+e.Token)))
	}
}

func network(address, kind string) fhir.Node {
	return fhir.Obj(fhir.Str(address).As("address"), fhir.Str(kind).As("type")).As("network")
}

func entitiesOf(e *storage.AuditEntry, patient, query string) []fhir.Node {
	list := make([]fhir.Node, 0, 4)
	if patient != "" {
		list = append(list, fhir.Obj(fhir.Obj(fhir.Str("Patient/"+patient).As("reference")).As("what"), personType, patientRole))
	}
	if e.Target != "" {
		target := e.Target
		if e.Version > 0 {
			target += "/_history/" + strconv.Itoa(e.Version)
		}
		list = append(list, fhir.Obj(fhir.Obj(fhir.Str(target).As("reference")).As("what"), objectType, domainRole))
	}
	if query != "" {
		list = append(list, fhir.Obj(objectType, queryRole, fhir.Str(base64.StdEncoding.EncodeToString([]byte(query))).As("query")))
	}
	if e.Request != "" {
		list = append(list, fhir.Obj(fhir.Obj(fhir.Obj(fhir.Str(e.Request).As("value")).As("identifier")).As("what"), requestIDType))
	}
	return list
}

func coding(system, code, display string) fhir.Node {
	n := fhir.Obj(fhir.Str(system).As("system"), fhir.Str(code).As("code"))
	if display != "" {
		n.Set("display", fhir.Str(display))
	}
	return n
}

func codeable(c fhir.Node) fhir.Node { return fhir.Obj(fhir.Arr(c).As("coding")) }
