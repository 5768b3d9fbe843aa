package embedpg

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// fetchVersions are the builds that may be fetched, by major version; fetchMajor is the one for a new cluster.
var fetchVersions = map[int]embeddedpostgres.PostgresVersion{
	14: embeddedpostgres.V14,
	15: embeddedpostgres.V15,
	16: embeddedpostgres.V16,
	17: embeddedpostgres.V17,
	18: embeddedpostgres.V18,
}

const fetchMajor = 17

// fetch gets binaries from a Maven repository into the cache, or finds them there. major 0 means any.
func (s *Server) fetch(ctx context.Context, major int) (binaries, error) {
	if major == 0 {
		major = fetchMajor
	}
	version, ok := fetchVersions[major]
	if !ok {
		return binaries{}, fmt.Errorf("there is no build of PostgreSQL %d", major)
	}
	cache := s.opts.CacheDir
	if cache == "" {
		var err error
		if cache, err = defaultCache(s.account); err != nil {
			return binaries{}, err
		}
	}
	cache, err := filepath.Abs(cache)
	if err != nil {
		return binaries{}, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return binaries{}, err
	}
	home := filepath.Join(cache, string(version))
	if b, err := probe(ctx, filepath.Join(home, "bin"), s.account); err == nil {
		return b, nil
	}
	s.log.Info("fetching PostgreSQL", "version", string(version), "into", home)
	// The library has one entrance, Start, which fetches, unpacks, makes a cluster and starts it on a TCP port. Only
	// the first two are wanted, so it is given a data folder that cannot be and stops there: below a file there are no
	// folders. Port 0 passes its look at the port. What counts is whether the programs are there afterwards.
	config := embeddedpostgres.DefaultConfig().Version(version).Port(0).Logger(io.Discard).
		CachePath(cache).BinariesPath(home).RuntimePath(filepath.Join(cache, "run")).
		DataPath(filepath.Join(os.DevNull, "none"))
	if s.opts.FetchURL != "" {
		config = config.BinaryRepositoryURL(s.opts.FetchURL)
	}
	result := make(chan error, 1)
	go func() { result <- embeddedpostgres.NewDatabase(config).Start() }()
	select {
	case err = <-result:
	case <-ctx.Done():
		return binaries{}, ctx.Err()
	}
	b, probeErr := probe(ctx, filepath.Join(home, "bin"), s.account)
	if probeErr == nil {
		return b, nil
	}
	if _, statErr := os.Stat(filepath.Join(home, "bin", "postgres")); statErr == nil {
		err = probeErr // it was fetched and does not work
	}
	return b, err
}
