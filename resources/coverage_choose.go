package resources

import (
	"cmp"
	"context"
	"slices"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/coverage"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// coverages are those that may pay for a visit, the first to be tried first: those that a new booking names, or else all of
// the patient, by Coverage.order: who may read Coverages, of those that a read shows. One that pays itself has to be named.
func (s *Service) coverages(ctx context.Context, m *move) ([]string, error) {
	named, err := s.namedCoverages(ctx, m)
	if err != nil {
		return nil, err
	}
	if m.fresh() && len(named) > 0 {
		return named[:min(len(named), maxCoverages)], nil
	}
	keys, err := s.match(unattended(ctx), m.tx, "Coverage", "beneficiary="+m.visit.patient, 50)
	if err != nil || len(keys) == 0 {
		return named, err
	}
	if !m.request.Principal.IsOperator() && permitted(ctx, auth.Read, "Coverage") == nil {
		seen, err := m.tx.Read(acting(ctx, auth.Read), keys...)
		if err != nil {
			return nil, err
		}
		keys = slices.DeleteFunc(keys, func(k storage.Key) bool { return seen[k] == nil })
	}
	refs := make([]string, len(keys))
	for i, k := range keys {
		refs[i] = k.Type + "/" + k.ID
	}
	found, err := s.readAll(ctx, m.tx, refs...)
	if err != nil {
		return nil, err
	}
	refs = slices.DeleteFunc(refs, func(name string) bool {
		n := found[name]
		return n == nil || coverage.IsSelfPay(n) || n.GetText("status") == "entered-in-error" || slices.Contains(named, name)
	})
	rank := func(name string) (int, int) {
		active, order := 1, 1<<30
		if found[name].GetText("status") == "active" {
			active = 0
		}
		if n := numberOf(found[name].Get("order")); n > 0 {
			order = n
		}
		return active, order
	}
	slices.SortFunc(refs, func(a, b string) int {
		activeA, orderA := rank(a)
		activeB, orderB := rank(b)
		return cmp.Or(activeA-activeB, orderA-orderB, cmp.Compare(a, b))
	})
	refs = append(named, refs...)
	return refs[:min(len(refs), maxCoverages)], nil
}

// namedCoverages are those that an appointment refers to. One that the caller brings in, and may not see, is as one that is
// not there.
func (s *Service) namedCoverages(ctx context.Context, m *move) (named []string, err error) {
	had := s.supports(m.before, "Coverage")
	var brought []storage.Key
	for _, name := range s.supports(m.after, "Coverage") {
		if named = append(named, name); !slices.Contains(had, name) {
			brought = append(brought, keyOf(name))
		}
	}
	if len(brought) == 0 {
		return named, nil
	}
	seen, err := m.tx.Read(acting(ctx, auth.Read), brought...)
	if err != nil {
		return nil, err
	}
	for _, k := range brought {
		if v := seen[k]; v == nil || v.Deleted {
			return nil, unknownCoverage(k.Type + "/" + k.ID)
		}
	}
	return named, nil
}

// fresh says whether a visit is only now going to be booked.
func (m *move) fresh() bool {
	return m.from == scheduling.None || m.from == scheduling.Hold || m.from == scheduling.Proposed
}

func unknownCoverage(name string) error {
	return fhir.NewError(fhir.BusinessRule, fhir.CodeNotFound, name+" is not known here").Coded("unknown-coverage").At("Appointment.supportingInformation")
}

// unseenCoverage is a coverage that a visit has, and keeps, and that the caller is not shown, who may read Coverages: one by a
// Consent or a label, say. What it pays must not be told, nor that it is there any more. "" for none.
func (s *Service) unseenCoverage(ctx context.Context, m *move) (string, error) {
	had := s.supports(m.before, "Coverage")
	var kept []storage.Key
	for _, name := range s.supports(m.after, "Coverage") {
		if slices.Contains(had, name) {
			kept = append(kept, keyOf(name))
		}
	}
	if len(kept) == 0 || m.request.Principal.IsOperator() || permitted(ctx, auth.Read, "Coverage") != nil {
		return "", nil
	}
	seen, err := m.tx.Read(acting(ctx, auth.Read), kept...)
	for _, k := range kept {
		if err == nil && seen[k] == nil {
			return k.Type + "/" + k.ID, nil
		}
	}
	return "", err
}

// supports are the resources of a type that an appointment names in supportingInformation.
func (s *Service) supports(appointment *fhir.Node, typ string) (list []string) {
	for ref := range appointment.Get("supportingInformation").Items() {
		if name := s.local(ref); typeOf(name) == typ && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}
