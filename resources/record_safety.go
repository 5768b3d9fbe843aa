package resources

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/records"
	"kiln/storage"
)

// maxCompared is how many allergies, and how many prescriptions, a new prescription is compared with.
const maxCompared = 500

// safety is the look at a prescription that becomes active: does the patient have an allergy to it, or take it already?
// It sees what the caller sees, and says what it could not see or compare. It knows nothing of interactions and doses.
type safety struct {
	*Service
	*record
	medicine *medicine
	kinship  *kindred
	findings []safetyFinding
	// unchecked are sentences about what was not looked at.
	unchecked []string
	compared  map[string]int // by type
}

// safetyFinding is one thing that speaks against a prescription.
type safetyFinding struct {
	// code is of the ActCode for detected issues, detail ours.
	code, detail, severity string
	text                   string
	// with is the record that it is about.
	with *fhir.Node
}

// checkSafety refuses a prescription against which something speaks, unless it says why it goes on: then what was found
// becomes DetectedIssues that it refers to, with the reason as their mitigation.
func (s *Service) checkSafety(ctx context.Context, r *record) error {
	if brings(&r.request.Principal) && r.from == records.None || !orders(r.after) {
		return nil // made elsewhere; or nothing that anybody is to take
	}
	k := &safety{Service: s, record: r, compared: map[string]int{}}
	var err error
	if k.kinship, err = s.kindred(ctx, r.tx); err != nil {
		return err
	}
	if k.medicine, err = s.medicineOf(ctx, r.tx, r.after); err != nil {
		return err
	}
	if k.medicine == nil {
		k.unchecked = append(k.unchecked, "which medicine it is could not be read, so nothing was compared")
	} else if err := k.compare(ctx); err != nil {
		return err
	}
	r.issues = append(r.issues, k.summary())
	if len(k.findings) == 0 {
		return nil
	}
	reason := extensionText(r.after, fhir.OverrideReasonExtension)
	if reason == "" || r.before != nil && reason == extensionText(r.before, fhir.OverrideReasonExtension) {
		return k.refusal()
	}
	return k.keep(reason)
}

// orders says whether a MedicationRequest is to be carried out: not a plan, and not an order not to.
func orders(n *fhir.Node) bool {
	never := n.Get("doNotPerform")
	return !slices.Contains([]string{"proposal", "plan", "option"}, n.GetText("intent")) && (never == nil || never.Text != "true")
}

func (k *safety) compare(ctx context.Context) error {
	allergies, err := k.others(ctx, "AllergyIntolerance", "verification-status:not=entered-in-error&verification-status:not=refuted&clinical-status:not=inactive&clinical-status:not=resolved")
	if err != nil {
		return err
	}
	for _, n := range allergies {
		how, err := k.allergic(ctx, n)
		if err != nil {
			return err
		}
		if how != "" {
			severity := "high"
			if n.GetText("criticality") == "low" {
				severity = "moderate"
			}
			k.findings = append(k.findings, safetyFinding{"ALGY", "allergy-match", severity,
				fmt.Sprintf("The patient has an allergy or intolerance to %s (%s)", quote(labelOf(n.Get("code"))), how), n})
		}
	}
	prescriptions, err := k.others(ctx, "MedicationRequest", "status=active")
	if err != nil {
		return err
	}
	for _, n := range prescriptions {
		if n.ID() == k.key.ID || !orders(n) {
			continue
		}
		other, err := k.medicineOf(ctx, k.tx, n)
		if err != nil {
			return err
		}
		if other == nil {
			continue
		}
		how, err := k.kinship.same(ctx, k.medicine, other)
		if err != nil {
			return err
		}
		if how != "" {
			k.findings = append(k.findings, safetyFinding{"DUPTHPY", "duplicate-therapy", "moderate",
				fmt.Sprintf("The patient has an active prescription for %s (%s)", quote(other.name()), how), n})
		}
	}
	return nil
}

// others are the patient's records of a type, as the caller sees them.
func (k *safety) others(ctx context.Context, typ, where string) (list []*fhir.Node, err error) {
	patient := k.local(k.after.Get("subject"))
	if patient == "" {
		k.unchecked = append(k.unchecked, "whose prescription it is is not known here")
		return nil, nil
	}
	if permitted(ctx, auth.Search, typ) != nil {
		k.unchecked = append(k.unchecked, "the token does not let you search for "+typ+", so nothing was compared with it")
		return nil, nil
	}
	resp, err := k.searchIn(acting(ctx, auth.Search), k.tx, Request{Interaction: SearchType, Type: typ, Principal: k.request.Principal,
		Query: fmt.Sprintf("patient=%s&%s&_sort=-_lastUpdated&_count=%d", patient, where, maxCompared)})
	if err != nil {
		return nil, err
	}
	for _, e := range resp.Bundle.Entries {
		if e.Version == nil || e.Mode != "match" {
			continue
		}
		n, err := fhir.ParseJSON(e.Version.Content)
		if err != nil {
			return nil, unreadable(err)
		}
		list = append(list, n)
	}
	if k.compared[typ] = len(list); len(list) == maxCompared {
		k.unchecked = append(k.unchecked, fmt.Sprintf("there are more than %d of the type %s; the newest were compared", maxCompared, typ))
	}
	return list, nil
}

// allergic says how an allergy concerns the medicine, or "".
func (k *safety) allergic(ctx context.Context, n *fhir.Node) (string, error) {
	to := newMedicine(n.Get("code"))
	for substance := range references(n, []string{"reaction", "substance"}) {
		to.add(substance)
	}
	return k.kinship.covers(ctx, to, k.medicine)
}

// summary tells what the check was, so that nobody takes it for more.
func (k *safety) summary() fhir.Issue {
	text := fmt.Sprintf("Compared with %d allergies and %d active prescriptions that you can see, by code and by name. Interactions of different medicines, doses and cross-sensitivity are not checked",
		k.compared["AllergyIntolerance"], k.compared["MedicationRequest"])
	severity := fhir.SeverityInformation
	if list := append(k.unchecked, k.kinship.unchecked()...); len(list) > 0 {
		text, severity = text+"; "+strings.Join(list, "; "), fhir.SeverityWarning
	}
	return fhir.Issue{Severity: severity, Code: fhir.CodeInformational, Detail: "safety-checked", Text: text, Expression: []string{"MedicationRequest"}}
}

func (k *safety) refusal() error {
	e := &fhir.Error{Kind: fhir.BusinessRule}
	for _, f := range k.findings {
		e.Issues = append(e.Issues, fhir.Issue{Severity: fhir.SeverityError, Code: fhir.CodeBusinessRule, Detail: f.detail,
			Text:       f.text + ". To go on, say why in the extension " + fhir.OverrideReasonExtension,
			Expression: []string{"MedicationRequest.medication"}})
	}
	return e
}

// keep writes what was found, and why it goes on, as DetectedIssues.
func (k *safety) keep(reason string) error {
	version := 1
	if k.old != nil {
		version = k.old.Number + 1
	}
	now := fhir.Str(fhir.FormatInstant(k.now()))
	// The names are the same when the transaction is tried again, and those of an earlier try are not kept.
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", k.key.ID, version))
	prefix := "issue-" + hex.EncodeToString(sum[:12]) + "-"
	refs := fhir.Arr()
	for ref := range k.after.Get("detectedIssue").Items() {
		if !strings.HasPrefix(ref.GetText("reference"), "DetectedIssue/"+prefix) {
			refs.Kids = append(refs.Kids, ref.Clone())
		}
	}
	for i, f := range k.findings {
		id := prefix + strconv.Itoa(i+1)
		n := fhir.Obj(fhir.Str("DetectedIssue").As("resourceType"), fhir.Str(id).As("id"))
		if labels := f.with.At("meta").Get("security"); labels != nil { // it says what the other record says
			n.Set("meta", fhir.Obj(labels.Clone().As("security")))
		}
		mitigation := fhir.Obj(fhir.Obj(fhir.Str(reason).As("text")).As("action"), now.As("date"))
		n.Set("status", fhir.Str("final"))
		n.Set("code", coded(fhir.ActCodeSystem, f.code, ""))
		n.Set("severity", fhir.Str(f.severity))
		n.Set("patient", k.after.Get("subject").Clone())
		n.Set("identifiedDateTime", now)
		if typeOf(k.request.Principal.FHIRUser) == "Practitioner" {
			n.Set("author", reference(k.request.Principal.FHIRUser))
			mitigation.Set("author", reference(k.request.Principal.FHIRUser))
		}
		n.Set("implicated", fhir.Arr(reference(k.key.Type+"/"+k.key.ID), reference(f.with.ResourceType()+"/"+f.with.ID())))
		n.Set("detail", fhir.Str(f.text))
		n.Set("mitigation", fhir.Arr(mitigation))
		p, err := k.store.Prepare(&n)
		if err != nil {
			return err
		}
		k.tx.Insert(p, storage.MethodCreate)
		refs.Kids = append(refs.Kids, reference("DetectedIssue/"+id))
		k.issues = append(k.issues, fhir.Issue{Severity: fhir.SeverityWarning, Code: fhir.CodeBusinessRule, Detail: f.detail,
			Text: f.text + "; kept as DetectedIssue/" + id + " with your reason", Expression: []string{"MedicationRequest.medication"}})
	}
	k.after.Set("detectedIssue", refs)
	k.changed = true
	return nil
}
