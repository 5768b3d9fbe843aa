package profile

import (
	"slices"

	"kiln/conformance/validate"
	"kiln/fhir"
)

// bindable are the types that a binding can be about (FHIR R4 terminologies.html#4.1); US Core 3.1.1 also puts one on an
// extension, whose own definition has it in the right place.
var bindable = []string{"code", "Coding", "CodeableConcept", "Quantity", "string", "uri"}

// codes checks a coded value by a required binding.
func (r *run) codes(v *fhir.Node, t *fhir.Type, valueSet string) {
	if t != nil && !slices.ContainsFunc(bindable, t.Is) {
		return
	}
	coded, member, unknown := r.member(v, valueSet)
	if member {
		return
	}
	excused := v.Get("extension") != nil || v.Get("value") != nil
	switch {
	case unknown != "":
		r.doubt = true
		r.once("binding "+valueSet, fhir.SeverityWarning, fhir.CodeNotFound, "binding-unchecked",
			"The code was not checked, though %s requires one of %s: %s", r.by(), quote(valueSet), unknown)
	case coded:
		r.fail(fhir.CodeCodeInvalid, "binding", "The code is not in the value set %s, which %s requires", valueSet, r.by())
	case v.Get("text") == nil && !excused:
		r.fail(fhir.CodeCodeInvalid, "binding", "A code of the value set %s is required by %s", valueSet, r.by())
	case v.Get("coding") == nil && !excused:
		r.fail(fhir.CodeCodeInvalid, "binding", "A text does not do here: a code of the value set %s is required by %s", valueSet, r.by())
	}
}

// member says whether a coded value has a code, whether one of them is in a value set, and why that cannot be told of one.
func (r *run) member(v *fhir.Node, valueSet string) (coded, member bool, unknown string) {
	try := func(system, version, code string) bool {
		coded = true
		a := r.ask(validate.CodeQuestion{ValueSet: valueSet, System: system, Version: version, Code: code})
		if a.Verdict == validate.CodeUnknown {
			unknown = a.Text
			if unknown == "" {
				unknown = "the codes of the value set " + quote(valueSet) + " cannot be told here"
			}
		}
		return a.Verdict == validate.CodeMember
	}
	if v.Kind == fhir.String {
		member = try("", "", v.Text)
		return true, member, unknown
	}
	list := v
	if c := v.Get("coding"); c != nil {
		list = c
	}
	for c := range list.Items() {
		if code := c.GetText("code"); code != "" && try(c.GetText("system"), c.GetText("version"), code) {
			return true, true, ""
		}
	}
	return coded, false, unknown
}

// advise warns of a coded value with codes that an extensible binding does not have.
func (r *run) advise(v *fhir.Node, t *fhir.Type, valueSet string) {
	if r.silent > 0 || t != nil && !slices.ContainsFunc(bindable, t.Is) {
		return
	}
	if coded, member, unknown := r.member(v, valueSet); coded && !member && unknown == "" {
		r.tell(fhir.SeverityWarning, fhir.CodeCodeInvalid, "binding-extensible",
			"No code is in the value set %s: %s asks for one of its codes where one fits", valueSet, r.by())
	}
}

// ask answers from the embedded value sets, from what the terminology has answered, or notes the question.
func (r *run) ask(q validate.CodeQuestion) validate.CodeAnswer {
	if set := r.set.registry.BindingCodes(q.ValueSet); set != nil {
		if q.System == "" && set.HasCode(q.Code) || q.System != "" && set.Has(q.System, q.Code) {
			return validate.CodeAnswer{Verdict: validate.CodeMember}
		}
		return validate.CodeAnswer{Verdict: validate.CodeNotMember}
	}
	a, answered := r.answers[q]
	if !answered && len(r.questions) < maxQuestions && !slices.Contains(r.questions, q) {
		r.questions = append(r.questions, q)
	}
	return a
}

// maxQuestions bounds how many different codes of one resource are asked about; those beyond stay unchecked.
const maxQuestions = 2000
