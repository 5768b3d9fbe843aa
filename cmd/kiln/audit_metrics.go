package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kiln/storage"
)

// auditMetrics tells how far the AuditEvents are behind what the log has noted.
type auditMetrics struct {
	store           *storage.Store
	entries, behind *prometheus.Desc
}

func newAuditMetrics(store *storage.Store) *auditMetrics {
	return &auditMetrics{store,
		prometheus.NewDesc("kiln_audit_backlog_entries", "Entries of the audit log that are no AuditEvents yet.", nil, nil),
		prometheus.NewDesc("kiln_audit_backlog_seconds", "Age of the oldest of them.", nil, nil)}
}

// Describe is for prometheus.
func (m *auditMetrics) Describe(to chan<- *prometheus.Desc) { to <- m.entries; to <- m.behind }

// Collect asks the database. Where it does not answer, the metrics are absent.
func (m *auditMetrics) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	entries, behind, err := m.store.AuditBacklog(ctx)
	if err != nil {
		return
	}
	to <- prometheus.MustNewConstMetric(m.entries, prometheus.GaugeValue, float64(entries))
	to <- prometheus.MustNewConstMetric(m.behind, prometheus.GaugeValue, behind.Seconds())
}
