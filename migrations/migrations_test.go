package migrations_test

import (
	"sync"
	"testing"

	"kiln/internal/kilntest"
	"kiln/migrations"
)

func TestUp_down_up(t *testing.T) {
	t.Parallel()
	url := kilntest.EmptyDB(t)
	for range 2 {
		applied, err := migrations.Up(t.Context(), url)
		if err != nil || len(applied) == 0 {
			t.Fatalf("Up: %v, %v", applied, err)
		}
		if again, err := migrations.Up(t.Context(), url); err != nil || len(again) != 0 {
			t.Fatalf("second Up: %v, %v", again, err)
		}
		if err := migrations.DownTo(t.Context(), url, 0); err != nil {
			t.Fatal(err)
		}
	}
	all, err := migrations.Status(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if !m.Applied.IsZero() {
			t.Errorf("%s is still applied", m.Name)
		}
	}
}

func TestUp_by_several_at_once(t *testing.T) {
	t.Parallel()
	url := kilntest.EmptyDB(t)
	names, _, err := migrations.Files()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for range 4 {
		wg.Go(func() {
			applied, err := migrations.Up(t.Context(), url)
			if err != nil {
				t.Errorf("Up: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			total += len(applied)
		})
	}
	wg.Wait()
	if total != len(names) {
		t.Errorf("%d migrations were applied, want %d", total, len(names))
	}
}
