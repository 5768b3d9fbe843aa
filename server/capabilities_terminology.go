package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"time"

	"kiln/conformance"
)

// OfferedSystems lists the code systems on offer. state changes when the list does.
type OfferedSystems interface {
	OfferedState(context.Context) (string, error)
	Offered(context.Context) ([]conformance.OfferedSystem, error)
}

// TerminologyCapabilities makes the function behind GET /metadata?mode=terminology. What it makes is kept until the
// code systems are others. The tag changes when anything but the date does.
func TerminologyCapabilities(registry *conformance.Registry, systems func(context.Context) (OfferedSystems, error), baseURL, version string,
	now func() time.Time) func(context.Context) ([]byte, string, error) {
	o := conformance.CapabilityOptions{Base: baseURL + FHIRPath, Version: version}
	var mu sync.Mutex
	var of, tag string
	var content []byte
	return func(ctx context.Context) ([]byte, string, error) {
		source, err := systems(ctx)
		if err != nil {
			return nil, "", err
		}
		state, err := source.OfferedState(ctx)
		if err != nil {
			return nil, "", err
		}
		mu.Lock()
		defer mu.Unlock()
		if state == of && content != nil {
			return content, tag, nil
		}
		list, err := source.Offered(ctx)
		if err != nil {
			return nil, "", err
		}
		o.Date = time.Time{}
		undated, err := registry.TerminologyCapabilities(o, list)
		if err != nil {
			return nil, "", err
		}
		sum := sha256.Sum256(undated.JSON())
		o.Date = now()
		dated, err := registry.TerminologyCapabilities(o, list)
		if err != nil {
			return nil, "", err
		}
		of, content, tag = state, dated.JSON(), hex.EncodeToString(sum[:8])
		return content, tag, nil
	}
}
