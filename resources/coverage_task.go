package resources

import (
	"context"
	"strings"

	"kiln/fhir"
	"kiln/resources/coverage"
	"kiln/storage"
)

// taskSystem is the code system of what staff are asked to do.
const taskSystem = fhir.CanonicalBase + "CodeSystem/task"

// taskCode is the code of a Task about the coverage of a visit.
const taskCode = "settle-coverage"

// openTask asks staff to settle the coverage of a visit: who completes the Task says that it is settled. It gives the Task's
// reference.
func (s *Service) openTask(_ context.Context, m *move, k *covering) (string, error) {
	text := make([]string, len(k.found))
	reasons := fhir.Arr()
	for i, f := range k.found {
		text[i] = f.Text
		reasons.Kids = append(reasons.Kids, fhir.Obj(fhir.Str(fhir.IssueCodeSystem).As("system"), fhir.Str(string(f.Code)).As("code")))
	}
	now := fhir.Str(fhir.FormatInstant(s.now()))
	n := fhir.Obj(fhir.Str("Task").As("resourceType"), fhir.Str(s.options.NewID()).As("id"), fhir.Str("requested").As("status"),
		fhir.Str("order").As("intent"), taskConcept().As("code"), fhir.Str(strings.Join(text, "; ")).As("description"),
		reference(m.reference).As("focus"), reference(m.visit.patient).As("for"), now.As("authoredOn"), now.As("lastModified"))
	if len(reasons.Kids) > 0 {
		n.Set("reasonCode", fhir.Obj(reasons.As("coding")))
	}
	if k.response != "" {
		n.Set("reasonReference", reference(k.response))
	}
	n.Set("restriction", fhir.Obj(fhir.Obj(fhir.Str(fhir.FormatInstant(m.visit.start)).As("end")).As("period")))
	p, err := s.store.Prepare(&n)
	if err != nil {
		return "", err
	}
	m.tx.Insert(p, storage.MethodCreate)
	return "Task/" + n.ID(), nil
}

func taskConcept() fhir.Node {
	return fhir.Obj(fhir.Arr(fhir.Obj(fhir.Str(taskSystem).As("system"), fhir.Str(taskCode).As("code"))).As("coding"))
}

// closeTask completes the Task about a visit whose coverage is in order, unless somebody has.
func (s *Service) closeTask(ctx context.Context, m *move) error {
	if m.check == nil || m.check.Task == "" {
		return nil
	}
	key := keyOf(m.check.Task)
	locked, err := m.tx.Lock(everything(ctx), key)
	if err != nil {
		return err
	}
	v := locked[key]
	if v == nil || v.Deleted {
		return nil
	}
	n, err := fhir.ParseJSON(v.Content)
	if err != nil {
		return fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
	}
	if isOver(n) {
		return nil
	}
	n.Set("status", fhir.Str("completed"))
	n.Set("lastModified", fhir.Str(fhir.FormatInstant(s.now())))
	p, err := s.store.Prepare(n)
	if err != nil {
		return err
	}
	m.tx.Replace(p, v, storage.MethodUpdate)
	return nil
}

func isOver(task *fhir.Node) bool {
	switch task.GetText("status") {
	case "completed", "cancelled", "rejected", "failed", "entered-in-error":
		return true
	}
	return false
}

// followTask takes it that the coverage of a visit is settled when staff complete the Task that asks them to.
func (s *Service) followTask(_ context.Context, c *change) error {
	before, err := c.current()
	if err != nil || before == nil || c.after == nil || isOver(before) || c.after.GetText("status") != "completed" {
		return err
	}
	concept := taskConcept()
	if visit := s.local(before.Get("focus")); typeOf(visit) == "Appointment" && coverage.Shares(before.Get("code"), &concept) {
		c.tx.ClearCoverage(c.key.Type + "/" + c.key.ID)
		c.tx.Note(settled(visit))
	}
	return nil
}
