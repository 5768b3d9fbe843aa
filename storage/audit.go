package storage

import (
	"context"
	"sync"
	"time"

	"kiln/fhir"
)

// AuditEntry is what the log keeps of one thing that somebody did or was refused: who, what, when and how it ended. It
// holds references and the query, and no other data of patients. The server makes AuditEvents of it later.
type AuditEntry struct {
	// ID is the number of the row that it stands in, Recorded its time; neither is in the JSON.
	ID       int64     `json:"-"`
	Recorded time.Time `json:"-"`
	// Act is a code of http://hl7.org/fhir/restful-interaction, or one of the Act constants of resources.
	Act string `json:"a"`
	// Operation is the name of an operation, without the dollar sign.
	Operation string `json:"o,omitempty"`
	// Within is batch or transaction for an entry of one.
	Within string `json:"w,omitempty"`
	// Outcome is a code of http://terminology.hl7.org/CodeSystem/audit-event-outcome: 0, 4 or 8. "" is 0.
	Outcome string `json:"x,omitempty"`
	// Detail says why it was refused, in codes, or what an act was about.
	Detail string `json:"d,omitempty"`

	// User is the id of the account, Name what people call the user or client, FHIRUser the resource that stands for it.
	User     string   `json:"u,omitempty"`
	Name     string   `json:"n,omitempty"`
	FHIRUser string   `json:"f,omitempty"`
	Roles    []string `json:"r,omitempty"`
	// Client is the id of the application, Token that of the access token (never the token), Address where the request
	// came from.
	Client  string `json:"c,omitempty"`
	Token   string `json:"t,omitempty"`
	Address string `json:"i,omitempty"`
	// Purpose is why, as a code of v3-ActReason; Reason is what somebody gave as the reason of an emergency.
	Purpose string `json:"p,omitempty"`
	Reason  string `json:"y,omitempty"`
	Request string `json:"q,omitempty"`

	// Type is the resource type that was asked for where there is no Target.
	Type string `json:"e,omitempty"`
	// Target is the resource, such as Observation/1, Version which of its versions.
	Target  string `json:"g,omitempty"`
	Version int    `json:"v,omitempty"`
	// Query is a search as it came: GET [base]/Observation?code=x.
	Query string `json:"s,omitempty"`
	// Compartments are the row keys of the patients whose records it touched, Patients their ids where they are known.
	Compartments []int64  `json:"k,omitempty"`
	Patients     []string `json:"m,omitempty"`
	// Written are the changes that a Provenance is made of.
	Written []Written `json:"z,omitempty"`
}

const sqlAudit = `INSERT INTO public.audit_entry (recorded, entry, lines)
SELECT t, e, nullif(n, 1) FROM unnest($1::timestamptz[], $2::text[], $3::integer[]) AS u(t, e, n)`

// Audit queues entries, to be there exactly when the transaction is.
func (tx *Tx) Audit(list ...AuditEntry) {
	if len(list) > 0 {
		var l auditLines
		l.add(list)
		tx.exec(sqlAudit, l.columns()...)
	}
}

// auditor writes the entries of what changes nothing, where no journal keeps them: those of all requests that wait at the
// same moment, together. A request has its answer only once they are there.
type auditor struct {
	mu      sync.Mutex
	waiting []*auditGroup
	running bool
}

type auditGroup struct {
	lines auditLines
	done  chan error
}

// Audit writes entries and returns once they are there: in the journal, where there is one, else in the database.
//
// Errors: Transient where they cannot be written; then what they tell of must not be answered.
func (s *Store) Audit(ctx context.Context, list ...AuditEntry) error {
	if len(list) == 0 {
		return nil
	}
	if s.journal != nil && s.journal.keep(list) {
		return nil
	}
	g := &auditGroup{done: make(chan error, 1)}
	g.lines.add(list)
	a := &s.auditor
	a.mu.Lock()
	a.waiting = append(a.waiting, g)
	if !a.running {
		a.running = true
		go s.writeAudit()
	}
	a.mu.Unlock()
	var err error
	select {
	case err = <-g.done:
	case <-ctx.Done(): // it is written nevertheless
		return translate(ctx.Err())
	}
	if err != nil {
		return fhir.NewError(fhir.Transient, fhir.CodeTransient, "The audit log cannot be written, and nothing is answered without it; try again").Because(err)
	}
	return nil
}

// maxAuditGroup is how many entries go out in one statement.
const maxAuditGroup = 5000

// writeAudit writes what waits until nothing does.
func (s *Store) writeAudit() {
	a := &s.auditor
	for {
		a.mu.Lock()
		n, size := 0, 0
		for n < len(a.waiting) && (n == 0 || size+a.waiting[n].lines.entries <= maxAuditGroup) {
			size += a.waiting[n].lines.entries
			n++
		}
		groups := a.waiting[:n:n]
		if a.waiting = a.waiting[n:]; n == 0 {
			a.waiting, a.running = nil, false
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		var l auditLines
		for _, g := range groups {
			l.append(&g.lines)
		}
		ctx, cancel := context.WithTimeout(context.Background(), s.options.StatementTimeout)
		_, err := s.log.Exec(ctx, sqlAudit, l.columns()...)
		cancel()
		for _, g := range groups {
			g.done <- err
		}
	}
}
