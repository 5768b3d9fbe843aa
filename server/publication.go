package server

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"kiln/fhir"
	"kiln/resources"
)

var (
	publicMinute      = []string{"public, max-age=60"}
	plainJSON         = []string{"application/json; charset=utf-8"}
	newlineDelimited  = []string{"application/fhir+ndjson; charset=utf-8"}
	publicationPrefix = FHIRPath + "/$bulk-publish"
)

// addPublication serves what everybody may know of free time: the manifest and its files, without a token.
func (s *server) addPublication(add func(string, map[string]action) *route, current func(context.Context) (*resources.Publication, error)) {
	if current == nil {
		return
	}
	with := func(show func(*exchange, *resources.Publication) error) map[string]action {
		return map[string]action{http.MethodGet: func(x *exchange) error {
			ctx, cancel := x.context(s.limits.RequestTimeout)
			defer cancel()
			p, err := current(ctx)
			if err != nil {
				return err
			}
			x.cache = publicMinute
			x.header["Etag"] = []string{`W/"` + p.Tag + `"`}
			if tagListHas(x.r.Header.Get("If-None-Match"), p.Tag) {
				x.writeEmpty(http.StatusNotModified)
				return nil
			}
			if err := show(x, p); err != nil {
				x.cache = nil
				return err
			}
			return nil
		}}
	}
	add(publicationPrefix, with((*exchange).manifest)).page = true
	add(publicationPrefix+"/{file}", with((*exchange).publishedFile)).page = true
}

// manifest lists the files. With _since at or after the newest change there is nothing to fetch.
func (x *exchange) manifest(p *resources.Publication) error {
	var since time.Time
	if text := x.r.URL.Query().Get("_since"); text != "" {
		d, ok := fhir.ParseDateTime(text, time.UTC)
		if !ok {
			return fhir.NewError(fhir.Invalid, fhir.CodeValue, "_since is an instant, such as 2026-11-30T09:00:00Z").At("http._since")
		}
		since = d.Time
	}
	output := fhir.Arr()
	for _, f := range p.Files {
		if f.Count > 0 && (since.IsZero() || p.Changed.After(since)) {
			output.Kids = append(output.Kids, fhir.Obj(fhir.Str(f.Type).As("type"),
				fhir.Str(x.s.base+"/$bulk-publish/"+f.Type+".ndjson").As("url"), fhir.Num(strconv.Itoa(f.Count)).As("count")))
		}
	}
	m := fhir.Obj(fhir.Str(fhir.FormatInstant(p.Made)).As("transactionTime"), fhir.Str(x.s.base+"/$bulk-publish").As("request"),
		output.As("output"), fhir.Arr().As("error"))
	return x.writeBody(http.StatusOK, plainJSON, m.JSON())
}

func (x *exchange) publishedFile(p *resources.Publication) error {
	name, _ := strings.CutSuffix(x.segment("file"), ".ndjson")
	for _, f := range p.Files {
		if f.Type == name {
			return x.writeBody(http.StatusOK, newlineDelimited, f.Content)
		}
	}
	return notFound("There is no such file; the manifest is at " + x.s.base + "/$bulk-publish")
}
