package resources

import (
	"context"
	"slices"
	"sync"

	"kiln/conformance/profile"
	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/storage"
)

const structureDefinitionType = "StructureDefinition"

// findings are everything that the base definitions, by base, and profiles have to say of a resource: those profiles that it
// claims and those of asked. A profile says nothing of a resource that is none by the base definitions.
func (s *Service) findings(ctx context.Context, tx *storage.Tx, body *fhir.Node, base func(*fhir.Node) []fhir.Issue, asked profile.Options) ([]fhir.Issue, error) {
	var issues []fhir.Issue
	if base != nil {
		if issues = base(body); !validate.Valid(issues) && misshapen(issues) {
			return issues, nil
		}
	}
	asked.Terminology = codesIn{s.store, tx}
	if tx != nil {
		ctx = storage.InTx(ctx, tx)
	}
	more, err := s.store.Profiles().Check(ctx, body, asked)
	if err != nil {
		return nil, err
	}
	for _, m := range more {
		// What the base definition has said already is not said twice.
		if !slices.ContainsFunc(issues, func(i fhir.Issue) bool {
			return i.Detail == m.Detail && i.Severity == m.Severity && slices.Equal(i.Expression, m.Expression)
		}) {
			issues = append(issues, m)
		}
	}
	return issues, nil
}

// misshapen says whether a fault is in the form of the resource, which a profile takes for granted.
func misshapen(issues []fhir.Issue) bool {
	return slices.ContainsFunc(issues, func(i fhir.Issue) bool {
		return i.Code == fhir.CodeStructure || i.Code == fhir.CodeInvalid || i.Code == fhir.CodeTooLong
	})
}

// codesIn is validate.Terminology for the caller, within a transaction or without.
type codesIn struct {
	store *storage.Store
	tx    *storage.Tx
}

func (c codesIn) ValidateCodes(ctx context.Context, questions []validate.CodeQuestion) ([]validate.CodeAnswer, error) {
	told, ok := ctx.Value(toldCodesKey{}).(*toldCodes)
	if !ok || c.tx != nil {
		return c.store.ValidateCodesIn(ctx, c.tx, questions)
	}
	answers, unknown := told.of(questions)
	if len(unknown) == 0 {
		return answers, nil
	}
	list, err := c.store.ValidateCodesIn(ctx, nil, unknown)
	if err != nil {
		return nil, err
	}
	told.remember(unknown, list)
	answers, _ = told.of(questions)
	return answers, nil
}

// toldCodes are what the entries of one Bundle have been told about codes, before its transaction: they ask the same.
type toldCodes struct {
	mu    sync.Mutex
	known map[validate.CodeQuestion]validate.CodeAnswer
}

type toldCodesKey struct{}

// sharingCodes is a context in which what one validation is told about codes holds for the others.
func sharingCodes(ctx context.Context) context.Context {
	return context.WithValue(ctx, toldCodesKey{}, &toldCodes{known: map[validate.CodeQuestion]validate.CodeAnswer{}})
}

// of are the answers to questions, zero for those that are unknown.
func (t *toldCodes) of(questions []validate.CodeQuestion) (answers []validate.CodeAnswer, unknown []validate.CodeQuestion) {
	t.mu.Lock()
	defer t.mu.Unlock()
	answers = make([]validate.CodeAnswer, len(questions))
	for i, q := range questions {
		var ok bool
		if answers[i], ok = t.known[q]; !ok {
			unknown = append(unknown, q)
		}
	}
	return answers, unknown
}

func (t *toldCodes) remember(questions []validate.CodeQuestion, answers []validate.CodeAnswer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, q := range questions {
		t.known[q] = answers[i]
	}
}

// defines says whether a StructureDefinition is one that writes are checked by: a profile, or the definition of an
// extension, that holds, and for everybody. FHIR's own are built in.
func (s *Service) defines(n *fhir.Node) bool {
	if n == nil || n.GetText("url") == "" || n.GetText("derivation") != "constraint" || n.At("meta", "security") != nil {
		return false
	}
	status := n.GetText("status")
	return status != "retired" && status != "unknown" && !s.isBuiltIn(n)
}

func (s *Service) isBuiltIn(n *fhir.Node) bool {
	data, ok := s.registry.Definition(structureDefinitionType, n.GetText("url"))
	if !ok {
		return false
	}
	own, err := fhir.ParseJSON(data)
	return err == nil && own.GetText("url") == n.GetText("url")
}

// checkProfile says what keeps a StructureDefinition from being used.
//
// Errors: Unprocessable with all faults found, and where they are.
func (s *Service) checkProfile(ctx context.Context, tx *storage.Tx, n *fhir.Node) ([]fhir.Issue, error) {
	told := func(text string) []fhir.Issue {
		return []fhir.Issue{{Severity: fhir.SeverityInformation, Code: fhir.CodeInformational, Text: text}}
	}
	switch {
	case n.GetText("derivation") != "constraint":
		return nil, nil
	case s.isBuiltIn(n):
		return told("This is one of FHIR's own definitions. The server has it built in; what is changed here changes no check."), nil
	case n.At("meta", "security") != nil:
		return told("Resources are not checked by a definition with security labels: its demands could not be told to everybody who writes."), nil
	case !s.defines(n):
		return nil, nil
	}
	if tx != nil {
		ctx = storage.InTx(ctx, tx)
	}
	p, err := s.store.Profiles().Compile(ctx, n)
	if err != nil {
		return nil, err
	}
	if fault := p.Fault(); fault != nil {
		return nil, fault
	}
	return nil, nil
}

// defineProfile is the rule of StructureDefinitions: what they define holds from their transaction on.
func (s *Service) defineProfile(_ context.Context, c *change) error {
	before, err := c.current()
	switch {
	case err != nil:
		return err
	case s.defines(c.after):
		c.tx.SetProfile(c.key.ID, c.after.GetText("url"), c.after.GetText("version"))
	case s.defines(before):
		c.tx.SetProfile(c.key.ID, "", "")
	}
	return nil
}
