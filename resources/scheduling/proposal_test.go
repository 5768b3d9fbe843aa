package scheduling_test

import (
	"hash/maphash"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kiln/fhir"
	"kiln/resources/scheduling"
)

func signer() func([]byte) int64 {
	seed := maphash.MakeSeed()
	return func(b []byte) int64 { return int64(maphash.Bytes(seed, b)) }
}

func TestProposal_id_is_an_id_and_leads_back(t *testing.T) {
	sign := signer()
	rapid.Check(t, func(t *rapid.T) {
		p := scheduling.Proposal{
			Start:     time.Unix(rapid.Int64Range(946684800/60, 4102444800/60).Draw(t, "start")*60, 0).UTC(),
			Length:    time.Duration(rapid.IntRange(1, 1440).Draw(t, "length")) * time.Minute,
			Schedules: rapid.SliceOfN(rapid.Int64(), 1, scheduling.MaxProposalSchedules).Draw(t, "schedules"),
			Service:   rapid.Int64().Draw(t, "service"),
		}
		if !p.Fits() {
			t.Fatalf("%+v does not fit", p)
		}
		id := p.ID(sign)
		if !fhir.ValidID(id) {
			t.Fatalf("%q is no id", id)
		}
		if q, ok := scheduling.ParseProposal(id, sign); !ok || !reflect.DeepEqual(p, q) {
			t.Fatalf("%+v came back as %+v", p, q)
		}
		changed := []byte(id)
		i := rapid.IntRange(0, len(changed)-1).Draw(t, "at")
		if changed[i]++; string(changed) != id {
			if q, ok := scheduling.ParseProposal(string(changed), sign); ok {
				t.Fatalf("a changed id is taken: %+v", q)
			}
		}
	})
}

func FuzzParseProposal(f *testing.F) {
	sign := signer()
	f.Add(scheduling.Proposal{Start: time.Unix(1893456000, 0), Length: time.Hour, Schedules: []int64{1}}.ID(sign))
	f.Add("")
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, id string) {
		if p, ok := scheduling.ParseProposal(id, sign); ok && p.ID(sign) != id {
			t.Fatalf("%q reads as %+v, which is written %q", id, p, p.ID(sign))
		}
	})
}
