package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"kiln/internal/config"
	"kiln/server"
)

type serveCmd struct {
	config.Config `embed:""`
	Seed          bool `name:"seed" help:"Load the demo data first, unless the database has them."`
}

// Run serves until ctx ends, then lets the requests in flight finish and stops what it started.
func (c *serveCmd) Run(ctx context.Context, stdout io.Writer) error {
	began := time.Now()
	log := c.Logger()
	defer suitCollector(serving)()
	// First of all the address: when another server has it, nothing else needs to be started.
	listener, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return fmt.Errorf("KILN_ADDR: %w", err)
	}
	defer listener.Close()
	c.BaseURL = c.Origin(listener.Addr())

	database, err := openMigrated(ctx, c.Database, false, log)
	if err != nil {
		return err
	}
	defer database.close(log)

	if c.Seed {
		if err := c.seed(ctx, database.url); err != nil {
			return err
		}
	}
	if err := c.demo(ctx, database.url, log); err != nil {
		return err
	}
	handler, closeHandler, err := buildHandler(ctx, c.Config, database.url, log)
	if err != nil {
		return err
	}
	defer closeHandler()

	srv := server.Listener(handler, log)
	srv.ReadHeaderTimeout = c.ReadHeaderTimeout
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(server.Refusing(listener)) }()
	fmt.Fprintf(stdout, "Kiln %s serves FHIR R4 at %s%s (ready in %.2f s)\n",
		versionText(), c.BaseURL, server.FHIRPath, time.Since(began).Seconds())
	if !atHome(c.HTTP) && !strings.HasPrefix(c.BaseURL, "https://") {
		log.Warn("passwords, tokens and records cross the network readable by others: put a proxy with TLS in front, and its address into KILN_BASE_URL (docs/settings.md)", "base_url", c.BaseURL)
	}
	if c.Auth == "off" && !atHome(c.HTTP) {
		log.Warn("nobody is asked who they are: whoever reaches the server by this address, through a proxy, may read and change every record", "auth", c.Auth, "base_url", c.BaseURL)
	}
	if c.Seed && c.Auth == "smart" && atHome(c.HTTP) {
		fmt.Fprintf(stdout, "Sign in at %s/swagger/ or %s/auth/ as demo-patient, demo-doctor or demo-admin; their password is %s\n", c.BaseURL, c.BaseURL, demoPassword)
	}

	kept, cancel := context.WithCancel(ctx)
	defer cancel()
	lost := make(chan error, 1)
	go func() { lost <- database.keep(kept, log) }()
	select {
	case err = <-lost: // nil when ctx is over
	case err = <-failed:
		cancel()
		err = errors.Join(err, <-lost)
	}
	return errors.Join(err, drain(srv, c.ShutdownTimeout, log))
}

// drain stops accepting connections and waits until every request has its answer, up to limit; what is still going on
// then is cut.
func drain(srv *http.Server, limit time.Duration, log *slog.Logger) error {
	log.Info("stopping: finishing the requests in flight")
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		srv.Close()
		return fmt.Errorf("requests were still in flight after %v and were cut: %w", limit, err)
	}
	return nil
}
