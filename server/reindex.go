package server

import "net/http"

// startReindex begins a reindex: POST [base]/$reindex, with a Parameters resource or with no body at all. The answer is
// 202 and a Parameters resource with the job; how it goes on is at GET [base]/$reindex.
func (x *exchange) startReindex() error {
	ctx, cancel := x.context(x.s.limits.RequestTimeout)
	defer cancel()
	if x.r.ContentLength == 0 {
		job, err := x.s.reindexer.StartReindex(ctx, x.principal, nil)
		if err != nil {
			return err
		}
		return x.writeNode(http.StatusAccepted, job)
	}
	body, err := x.readResource("Parameters")
	if err != nil {
		return err
	}
	job, err := x.s.reindexer.StartReindex(ctx, x.principal, body)
	if err != nil {
		return err
	}
	return x.writeNode(http.StatusAccepted, job)
}

// reindexes tells of the jobs and of the search parameters of clients: GET [base]/$reindex.
func (x *exchange) reindexes() error {
	ctx, cancel := x.context(x.s.limits.RequestTimeout)
	defer cancel()
	list, err := x.s.reindexer.Reindexes(ctx, x.principal)
	if err != nil {
		return err
	}
	return x.writeNode(http.StatusOK, list)
}
