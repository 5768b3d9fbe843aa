package resources

import (
	"context"
	"time"

	"kiln/resources/coverage"
	"kiln/storage"
)

// readQuestion reads a stored request with what it refers to; nil where it is not to be answered any more. What has waited
// longer than it asks about is given up.
func (s *Service) readQuestion(ctx context.Context, request string) (q *coverage.Question, row *storage.CoverageAnswer, err error) {
	err = s.store.Write(ctx, func(tx *storage.Tx) error {
		q = nil
		if row, err = tx.AnswerTo(ctx, request); err != nil || row == nil {
			return err
		}
		found, err := s.readAll(ctx, tx, request)
		if err != nil {
			return err
		}
		n := found[request]
		if n == nil || n.GetText("status") != "active" {
			tx.DropAnswer(request)
			return nil
		}
		question := &coverage.Question{Request: n, Items: coverage.ItemsOf(n), Asked: s.now()}
		question.From, question.To = coverage.Dates(n)
		if row.Tries >= maxTries || (row.Tries > 0 || row.Response != "") && question.To < s.now().AddDate(0, 0, -1).Format(time.DateOnly) {
			row.Due = time.Time{}
			tx.SaveAnswer(row)
			return nil
		}
		q = question
		return s.readParties(ctx, tx, q)
	})
	return q, row, err
}

// readParties reads the people, coverages and the payor of a question.
func (s *Service) readParties(ctx context.Context, tx *storage.Tx, q *coverage.Question) error {
	patient, insurer, provider := s.local(q.Request.Get("patient")), s.local(q.Request.Get("insurer")), s.local(q.Request.Get("provider"))
	var names []string
	for i := range q.Request.Get("insurance").Items() {
		if name := s.local(i.Get("coverage")); typeOf(name) == "Coverage" {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		keys, err := s.match(ctx, tx, "Coverage", "status=active&beneficiary="+patient, maxCoverages)
		if err != nil {
			return err
		}
		for _, k := range keys {
			names = append(names, k.Type+"/"+k.ID)
		}
	}
	found, err := s.readAll(ctx, tx, append(names, patient, insurer, provider)...)
	if err != nil {
		return err
	}
	q.Patient, q.Payor = found[patient], found[insurer]
	if typeOf(provider) == "Practitioner" {
		q.Provider = found[provider]
	}
	for _, name := range names {
		n := found[name]
		if n == nil || coverage.IsSelfPay(n) || len(q.Coverages) >= maxCoverages || insurer != "" && s.payorOf(n) != "" && s.payorOf(n) != insurer {
			continue
		}
		q.Coverages = append(q.Coverages, n)
	}
	var endpoints []string
	for e := range q.Payor.Get("endpoint").Items() {
		endpoints = append(endpoints, s.local(e))
	}
	more, err := s.readAll(ctx, tx, endpoints...)
	for _, name := range endpoints {
		n := more[name]
		if n == nil || n.GetText("status") != "active" {
			continue
		}
		switch code := n.Get("connectionType").GetText("code"); {
		case code == "hl7-fhir-rest" && q.Endpoint == "":
			q.Endpoint = n.GetText("address")
		case code == "cds-hooks-service" && q.Hooks == "":
			q.Hooks = n.GetText("address")
		}
	}
	return err
}
