package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"kiln/conformance"
	"kiln/internal/config"
	"kiln/storage"
)

type auditCmd struct {
	Verify auditVerifyCmd `cmd:"" help:"Compute the chain of the audit log anew, and say where it is broken."`
}

type auditVerifyCmd struct {
	config.Common   `embed:""`
	config.Database `embed:"" group:"Database"`
	Head            string `name:"head" placeholder:"POSITION:HASH" help:"What an earlier run has printed as head: the chain must still go through it."`
}

// Run prints what it has found, and fails where the log is not as it was written.
func (c *auditVerifyCmd) Run(ctx context.Context, stdout io.Writer) error {
	var position int64
	number, hash, _ := strings.Cut(c.Head, ":")
	if c.Head != "" {
		var err error
		if position, err = strconv.ParseInt(number, 10, 64); err != nil || position < 1 || len(hash) != 64 {
			return errors.New("--head: want what kiln audit verify has printed, POSITION:HASH")
		}
	}
	log := c.Logger()
	database, err := openMigrated(ctx, c.Database, true, log)
	if err != nil {
		return err
	}
	defer database.close(log)
	registry, err := conformance.R4()
	if err != nil {
		return err
	}
	store, err := storage.Open(ctx, storage.Options{URL: database.url, PoolSize: 2, StatementTimeout: c.StatementTimeout, Registry: registry})
	if err != nil {
		return err
	}
	defer store.Close()
	r, err := store.VerifyAudit(ctx, position, hash)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%d entries and %d AuditEvents are as they were written; %d entries wait for their AuditEvents\n", r.Entries, r.Events, r.Waiting)
	if r.Foreign != 0 && r.Break == "" {
		fmt.Fprintf(stdout, "%d AuditEvents are not of this log: import has brought them, or somebody has slipped them in\n", r.Foreign)
	}
	if r.Break != "" {
		return errors.New("the audit log is broken: " + r.Break)
	}
	fmt.Fprintf(stdout, "head %d:%s\n", r.Position, r.Head)
	return nil
}
