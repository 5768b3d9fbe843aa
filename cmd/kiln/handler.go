package main

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kiln/auth"
	"kiln/conformance"
	"kiln/conformance/validate"
	"kiln/internal/config"
	"kiln/internal/payer"
	"kiln/resources"
	"kiln/resources/coverage"
	"kiln/server"
	"kiln/storage"
	"kiln/storage/terminology"
)

// buildHandler puts the layers together: settings and a migrated database in, everything that is served out. close
// gives the database connections back; call it when no request is in flight any more.
func buildHandler(ctx context.Context, c config.Config, databaseURL string, log *slog.Logger) (handler http.Handler, close func(), err error) {
	registry, err := conformance.R4()
	if err != nil {
		return nil, nil, err
	}
	store, err := storage.Open(ctx, storage.Options{
		URL:              databaseURL,
		Base:             c.BaseURL + server.FHIRPath,
		Zone:             c.Zone(),
		PoolSize:         c.PoolSize,
		StatementTimeout: c.StatementTimeout,
		Registry:         registry,
		AuditJournal:     journalFolder(c),
	})
	if err != nil {
		return nil, nil, err
	}
	store.StartTerminology(ctx, func(loaded bool, err error) {
		switch {
		case err != nil:
			log.Error("the code systems of FHIR R4 cannot be loaded; this will be tried again", "error", err)
		case loaded:
			log.Info("loaded the code systems, value sets and concept maps of FHIR R4")
		}
	})
	store.StartDefinitions(ctx, func(loaded bool, err error) {
		switch {
		case err != nil:
			log.Error("the definitions of FHIR R4 cannot be loaded; this will be tried again", "error", err)
		case loaded:
			log.Info("loaded the definitions of FHIR R4")
		}
	})
	validator, err := validate.New(registry, validate.Options{Invariants: true})
	if err != nil {
		return nil, nil, err
	}
	messages, err := openMessages(c, log)
	if err != nil {
		return nil, nil, err
	}
	adviser, err := validate.New(registry, validate.Options{Invariants: true, BestPractice: true})
	if err != nil {
		return nil, nil, err
	}
	service, err := resources.New(resources.Options{
		Messages:       messages,
		Anonymous:      anonymous(c.HTTP),
		Audit:          c.Audit != "off",
		Validate:       validator.Resource,
		Advise:         adviser.Resource,
		Lenient:        c.Validation == "lenient",
		Store:          store,
		Registry:       registry,
		Base:           c.BaseURL + server.FHIRPath,
		MultipleDelete: c.MultipleDelete,
		PayerTimeout:   c.PayerTimeout,
		PayerTurns:     c.PayerTurns,
		Keep:           storage.Retention{CoverageAnswers: c.KeepCoverageAnswers, Messages: c.KeepMessages},
		Payers: map[string]coverage.Payer{
			coverage.AdapterFHIR: payer.New(payer.Options{Hosts: c.PayerHosts, Private: c.PayerPrivate, Timeout: c.PayerTimeout}),
		},
		Limits: resources.Limits{
			MaxBundleEntries:      c.MaxBundleEntries,
			MaxResourceBytes:      int(c.MaxResourceBytes),
			DefaultPageSize:       c.DefaultPageSize,
			MaxPageSize:           c.MaxPageSize,
			EverythingPageSize:    c.EverythingSize,
			MaxConditionalMatches: c.MaxMatches,
		},
	})
	if err != nil {
		return nil, nil, err
	}
	authorization, err := openOAuth(ctx, c, store, service, log)
	if err != nil {
		return nil, nil, err
	}
	var endpoints map[string]string
	if authorization != nil {
		endpoints = authorization.Endpoints()
	}
	var published func(context.Context) (*resources.Publication, error)
	if c.PublishSlots {
		published = resources.NewPublisher(service).Current
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(newAuditMetrics(store))
	proxies, err := c.ProxyNetworks()
	if err != nil {
		return nil, nil, err
	}
	handler = server.New(server.Options{
		Metrics:       metrics,
		Published:     published,
		OAuth:         authorization,
		Service:       service,
		Outbox:        service,
		Advise:        service.AdviseBooking,
		ResourceTypes: registry.Schema().Resources,
		BaseURL:       c.BaseURL,
		Proxies:       proxies,
		Logger:        log,
		Ready:         store.Ping,
		Terminology: server.TerminologyCapabilities(registry, func(ctx context.Context) (server.OfferedSystems, error) {
			return store.Terminology(storage.WithAccess(ctx, storage.Everything()), nil, terminology.Options{})
		}, c.BaseURL, versionText(), time.Now),
		Capabilities: server.Capabilities(store.Registry, store.SupportedProfiles, store.Building, c.BaseURL, versionText(), service.Operations(), c.MultipleDelete, endpoints, time.Now),
		Operations:   service.Operation,
		Descriptions: server.Descriptions(store.Registry, c.BaseURL, versionText(), service.Operations(), endpoints),
		Limits: server.Limits{
			MaxBodyBytes:      int64(c.MaxResourceBytes),
			MaxBundleBytes:    int64(c.MaxBodyBytes),
			RequestTimeout:    c.RequestTimeout,
			BundlesAtOnce:     c.BundlesAtOnce,
			RequestsPerMinute: c.RequestsPerMinute,
			BundleTimeout:     c.BundleTimeout,
			BodyGrace:         c.BodyGrace,
			MinRate:           int64(c.MinRate),
		},
	})
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() {
		store.Work(working, func(err error) { log.Error("reindex: a batch failed and will be tried again", "error", err) })
	})
	work.Go(func() {
		service.TidyBookings(working, func(err error) {
			log.Error("end holds and offer free time: failed and will be tried again", "error", err)
		})
	})
	work.Go(func() {
		service.TidyCoverage(working, func(err error) {
			log.Error("ask payers and look at coverages again: failed and will be tried again", "error", err)
		})
	})
	work.Go(func() {
		service.KeepAudit(working, func(err error) {
			log.Error("the audit log: making AuditEvents failed and will be tried again", "error", err)
		})
	})
	work.Go(func() { service.WorkMessages(working) })
	if authorization != nil {
		work.Go(func() { authorization.Sweep(working) })
	}
	return handler, func() { stop(); work.Wait(); store.Close() }, nil
}

// journalFolder is where the audit log is kept on its way to the database; "" where it goes there directly.
func journalFolder(c config.Config) string {
	if c.Audit != "all" {
		return ""
	}
	return filepath.Join(c.DataDir, "audit-journal")
}

// anonymous is whoever shows no token: with KILN_AUTH=off, which is for a trial on a loopback address, an operator.
func anonymous(c config.HTTP) auth.Principal {
	if c.Auth == "off" {
		return auth.Operator("trial")
	}
	return auth.Principal{}
}
