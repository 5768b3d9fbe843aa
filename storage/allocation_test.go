package storage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"kiln/conformance"
	"kiln/internal/kilntest"
	"kiln/storage"
)

var errTaken = errors.New("taken")

// take takes the claims in a transaction of its own.
func take(s *storage.Store, owner string, expires time.Time, claims ...storage.Claim) (lost []string, err error) {
	ctx := context.Background()
	err = s.Write(ctx, func(tx *storage.Tx) error {
		var err error
		if lost, _, err = tx.Take(ctx, owner, expires, claims...); err == nil && len(lost) > 0 {
			err = errTaken
		}
		return err
	})
	if errors.Is(err, errTaken) {
		err = nil
	}
	return lost, err
}

func TestTake(t *testing.T) {
	t.Parallel()
	s := open(t)
	nine := time.Date(2027, 3, 1, 9, 0, 0, 0, time.UTC)
	claim := func(actor string, from, to int) storage.Claim {
		return storage.Claim{Actor: actor, Start: nine.Add(time.Duration(from) * time.Minute), End: nine.Add(time.Duration(to) * time.Minute), Kind: storage.AllocationBusy}
	}
	with := func(c storage.Claim, change func(*storage.Claim)) storage.Claim { change(&c); return c }
	three := func(c *storage.Claim) { c.Capacity = 3 }
	for _, c := range []struct {
		rule   string
		owner  string
		claims []storage.Claim
		lost   []string
	}{
		{"free", "Appointment/1", []storage.Claim{claim("Practitioner/1", 0, 30), claim("Location/1", 0, 30), claim("Patient/1", 0, 30)}, nil},
		{"same_doctor", "Appointment/2", []storage.Claim{claim("Practitioner/1", 15, 45), claim("Patient/2", 15, 45)}, []string{"Practitioner/1"}},
		{"what_lost_kept_nothing", "Appointment/3", []storage.Claim{claim("Patient/2", 15, 45)}, nil},
		{"touching_is_not_overlapping", "Appointment/4", []storage.Claim{claim("Practitioner/1", 30, 60)}, nil},
		{"same_room_and_patient", "Appointment/5", []storage.Claim{claim("Location/1", 10, 20), claim("Patient/1", 29, 31), claim("Practitioner/9", 0, 30)}, []string{"Location/1", "Patient/1"}},
		{"first_lane", "Appointment/6", []storage.Claim{with(claim("HealthcareService/1", 0, 30), three)}, nil},
		{"second_lane", "Appointment/7", []storage.Claim{with(claim("HealthcareService/1", 10, 40), three)}, nil},
		{"third_lane", "Appointment/8", []storage.Claim{with(claim("HealthcareService/1", 20, 25), three)}, nil},
		{"no_fourth_lane", "Appointment/9", []storage.Claim{with(claim("HealthcareService/1", 0, 60), three)}, []string{"HealthcareService/1"}},
		{"override_goes_beyond", "Appointment/10", []storage.Claim{with(claim("HealthcareService/1", 0, 30), func(c *storage.Claim) { c.Over = true })}, nil},
		{"block_takes_every_lane", "Slot/1", []storage.Claim{with(claim("HealthcareService/1", 60, 90), func(c *storage.Claim) { c.Capacity, c.Whole, c.Kind = 3, true, storage.AllocationBlock })}, nil},
		{"nothing_beside_a_block", "Appointment/11", []storage.Claim{with(claim("HealthcareService/1", 80, 100), three)}, []string{"HealthcareService/1"}},
		{"no_block_over_a_visit", "Slot/2", []storage.Claim{with(claim("Practitioner/1", 0, 600), func(c *storage.Claim) { c.Whole, c.Kind = true, storage.AllocationBlock })}, []string{"Practitioner/1"}},
		{"twice_the_same_actor_in_one", "Appointment/12", []storage.Claim{claim("Practitioner/5", 0, 30), claim("Practitioner/5", 20, 40)}, []string{"Practitioner/5"}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			lost, err := take(s, c.owner, time.Time{}, c.claims...)
			if err != nil || !slices.Equal(lost, c.lost) {
				t.Fatalf("lost %v, %v; want %v", lost, err, c.lost)
			}
		})
	}
}

func TestTake_hold_that_has_ended_is_free(t *testing.T) {
	t.Parallel()
	clock := kilntest.NewClock()
	s := openAt(t, clock.Now)
	ctx := context.Background()
	day := clock.Now().Add(24 * time.Hour).Truncate(time.Hour)
	hold := storage.Claim{Actor: "Practitioner/1", Start: day, End: day.Add(time.Hour), Kind: storage.AllocationHold}
	room := hold
	room.Actor = "Location/1"
	if lost, err := take(s, "Appointment/held", clock.Now().Add(10*time.Minute), hold, room); err != nil || lost != nil {
		t.Fatal(lost, err)
	}
	if lost, err := take(s, "Appointment/other", time.Time{}, storage.Claim{Actor: "Practitioner/1", Start: day, End: day.Add(time.Minute), Kind: storage.AllocationBusy}); err != nil || len(lost) != 1 {
		t.Fatalf("a live hold does not protect: %v, %v", lost, err)
	}
	clock.Advance(11 * time.Minute)
	if busy, err := s.Busy(ctx, []string{"Practitioner/1", "Location/1"}, day, day.Add(time.Hour)); err != nil || len(busy) != 0 {
		t.Fatalf("a hold that has ended still shows: %v, %v", busy, err)
	}
	if owners, err := s.ExpiredOwners(ctx, 10); err != nil || !slices.Equal(owners, []string{"Appointment/held"}) {
		t.Fatal(owners, err)
	}
	err := s.Write(ctx, func(tx *storage.Tx) error {
		lost, expired, err := tx.Take(ctx, "Appointment/new", time.Time{}, storage.Claim{Actor: "Practitioner/1", Start: day, End: day.Add(time.Minute), Kind: storage.AllocationBusy})
		if err != nil || lost != nil || !slices.Equal(expired, []string{"Appointment/held"}) {
			t.Errorf("lost %v, expired %v, %v", lost, expired, err)
		}
		held, err := tx.Taken(ctx, "Appointment/held")
		if len(held) != 0 {
			t.Errorf("the ended hold keeps its room: %v", held)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTake_race lets 64 clients want the time of three actors at once, again and again. Exactly one gets each time.
func TestTake_race(t *testing.T) {
	t.Parallel()
	for _, capacity := range []int{1, 3} {
		t.Run(fmt.Sprintf("capacity_%d", capacity), func(t *testing.T) {
			t.Parallel()
			s, url := openURL(t)
			nine := time.Date(2027, 3, 1, 9, 0, 0, 0, time.UTC)
			const rounds, clients = 20, 64
			var winners, losers atomic.Int64
			for round := range rounds {
				start := nine.Add(time.Duration(round) * time.Hour)
				var wg sync.WaitGroup
				for c := range clients {
					wg.Go(func() {
						var claims []storage.Claim
						for _, actor := range []string{"Practitioner/1", "Location/1", fmt.Sprintf("Patient/%d", c)} {
							// Every client wants a different piece of the hour; all pieces overlap.
							claims = append(claims, storage.Claim{
								Actor: actor, Start: start.Add(time.Duration(c%7) * time.Minute), End: start.Add(30 * time.Minute),
								Kind: storage.AllocationBusy, Capacity: capacity,
							})
						}
						slices.Reverse(claims)
						lost, err := take(s, fmt.Sprintf("Appointment/%d-%d", round, c), time.Time{}, claims...)
						switch {
						case err != nil:
							t.Error(err)
						case lost != nil:
							losers.Add(1)
						default:
							winners.Add(1)
						}
					})
				}
				wg.Wait()
			}
			if want := int64(rounds * capacity); winners.Load() != want || losers.Load() != rounds*clients-want {
				t.Fatalf("%d winners and %d losers of %d tries", winners.Load(), losers.Load(), rounds*clients)
			}
			conn, err := pgx.Connect(context.Background(), url)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			var halves, overlaps int
			if err := conn.QueryRow(context.Background(), `
SELECT (SELECT count(*) FROM (SELECT FROM allocation GROUP BY owner HAVING count(*) <> 3) AS h),
  (SELECT count(*) FROM allocation a JOIN allocation b ON a.id < b.id AND a.actor = b.actor AND a.lane = b.lane AND a.during && b.during)`).
				Scan(&halves, &overlaps); err != nil || halves != 0 || overlaps != 0 {
				t.Fatalf("%d half taken, %d overlaps, %v", halves, overlaps, err)
			}
		})
	}
}

// TestTake_agrees_with_a_list compares with the obvious: a list of what is taken, searched from its beginning.
func TestTake_agrees_with_a_list(t *testing.T) {
	t.Parallel()
	s := open(t)
	base := time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC)
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		type piece struct {
			actor, owner string
			lane         int
			from, to     int
			capacity     int
		}
		var list []piece
		for i := range rapid.IntRange(1, 12).Draw(t, "steps") {
			owner := fmt.Sprintf("Appointment/%d-%d", run, i)
			if len(list) > 0 && rapid.IntRange(0, 4).Draw(t, "release") == 0 {
				gone := rapid.SampledFrom(list).Draw(t, "which").owner
				if err := s.Write(context.Background(), func(tx *storage.Tx) error { tx.Release(gone); return nil }); err != nil {
					t.Fatal(err)
				}
				list = slices.DeleteFunc(list, func(p piece) bool { return p.owner == gone })
				continue
			}
			var claims []storage.Claim
			var want []piece
			possible := true
			for _, a := range rapid.SliceOfNDistinct(rapid.IntRange(0, 3), 1, 3, rapid.ID[int]).Draw(t, "actors") {
				actor := fmt.Sprintf("Practitioner/%d-%d", run, a)
				from := rapid.IntRange(0, 20).Draw(t, "from")
				to := from + rapid.IntRange(1, 10).Draw(t, "long")
				capacity := rapid.IntRange(1, 2).Draw(t, "capacity")
				claims = append(claims, storage.Claim{Actor: actor, Start: base.Add(time.Duration(from) * time.Minute),
					End: base.Add(time.Duration(to) * time.Minute), Kind: storage.AllocationBusy, Capacity: capacity})
				used, most := map[int]bool{}, capacity // of several capacities the least counts
				for _, p := range list {
					if p.actor == actor && p.from < to && from < p.to {
						used[p.lane], most = true, min(most, p.capacity)
					}
				}
				lane := 0
				for used[lane] {
					lane++
				}
				possible = possible && len(used) < most
				want = append(want, piece{actor, owner, lane, from, to, capacity})
			}
			lost, err := take(s, owner, time.Time{}, claims...)
			if err != nil || (lost == nil) != possible {
				t.Fatalf("lost %v, %v; possible %t", lost, err, possible)
			}
			if possible {
				list = append(list, want...)
			}
		}
	})
}

func openAt(t testing.TB, now func() time.Time) *storage.Store {
	t.Helper()
	return openWith(t, storage.Options{URL: kilntest.DB(t), Now: now, PoolSize: 4})
}

func openURL(t testing.TB) (*storage.Store, string) {
	t.Helper()
	url := kilntest.DB(t)
	return openWith(t, storage.Options{URL: url, PoolSize: 16}), url
}

func openWith(t testing.TB, o storage.Options) *storage.Store {
	t.Helper()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	o.Base, o.Registry = "http://localhost/fhir", registry
	o.Unrestricted = true
	s, err := storage.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
