package server

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts requests. Every label has a bounded set of values: route patterns, known methods, status classes.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

func newMetrics(registry *prometheus.Registry) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kiln_http_requests_total", Help: "Requests answered, by route pattern, method and status class.",
		}, []string{"route", "method", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "kiln_http_request_duration_seconds",
			Help:    "Time from the first byte of a request to the last of its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120},
		}, []string{"route", "method"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kiln_http_requests_in_flight", Help: "Requests being worked on now.",
		}),
	}
	registry.MustRegister(m.requests, m.duration, m.inFlight)
	return m
}

func (m *metrics) observe(x *exchange) {
	method := methodLabel(x.r.Method)
	m.requests.WithLabelValues(x.route.pattern, method, statusClass(x.status)).Inc()
	m.duration.WithLabelValues(x.route.pattern, method).Observe(time.Since(x.start).Seconds())
}

func statusClass(status int) string {
	if status < 100 || status > 599 {
		return "none" // the connection was cut before an answer
	}
	return [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}[status/100-1]
}

// methodLabel keeps methods that clients make up out of logs and labels.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodOptions:
		return method
	}
	return "other"
}
