package storage_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"kiln/storage"
)

// TestSearch_of_several_types_among_the_newest follows searches of several types page by page, where small pages are found among the newest rows and one large page
// is collected. The newest visits match nothing, and there are more of them than are looked at first.
func TestSearch_of_several_types_among_the_newest(t *testing.T) {
	t.Parallel()
	s := openFilled(t, 3000)
	s.SortBounds(10, 5000, 100_000) // more is not little
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 12 { // what is of a type that has little of it
		put(t, s, fmt.Sprintf(`{"resourceType":"Encounter","id":"e%d","meta":{"tag":[{"code":"seen"}]},"status":"%s","class":{"code":"AMB"},"period":{"start":"20%02d-05-05"}}`,
			i, []string{"finished", "planned"}[i%2], 5+r.IntN(25)))
	}
	for _, query := range []string{
		"status=final", "status=final,finished", "status=booked,finished", "status=finished", "_tag=seen", "_tag=zzz", "gender=male", "status=final&_tag=seen", "status=final&status=final",
		"code=8302-2", "code=8302-2&date=ge2015", "status=final&subject:missing=true", "_type=Observation,Encounter&status=final,finished", "_type=Observation,Appointment&status=booked",
		"_type=Patient,Observation&_lastUpdated=gt2000-01-01", "status=final&_sort=-_lastUpdated", "_type=Appointment,Observation,Location&_sort=_lastUpdated", "_type=Appointment,Observation&status:not=final",
		"_content=8302", "_content=place", "_type=Observation,Appointment,Location&_content=8302,place", "status=final&_content=8302", "_content=code&_sort=-_lastUpdated",
		"identifier=M100", "identifier=http://mrn|M110,http://mrn|M120", "_id=p10,o17,e3", "_type=Patient,Encounter&_id=p10,e3,e4", "_type=Observation,RiskAssessment&subject=Patient/p10", "name:contains=mith1&gender=male",
	} {
		q, err := parseQuery(s, "", query)
		if err != nil {
			t.Fatal(err)
		}
		want := all(t, s, q, 5000)
		if size := 2 + r.IntN(20); len(want) < 300 || testing.Short() {
			if got := all(t, s, q, size); !slices.Equal(got, want) {
				t.Errorf("%s by %d: %d, in one page %d\n%v\n%v", query, size, len(got), len(want), got, want)
			}
		} else if got := all(t, s, q, 100*size); !slices.Equal(got, want) {
			t.Errorf("%s by %d: %d, in one page %d", query, 100*size, len(got), len(want))
		}
		if n, err := s.Count(context.Background(), nil, q, 0); err != nil || n != int64(len(want)) {
			t.Errorf("%s: %v counts %d of %d", query, err, n, len(want))
		}
		for _, size := range []int{1, 7, 20} { // from some places on
			page, err := s.Search(context.Background(), nil, q, size, nil)
			var got []string
			for n := 0; err == nil && n < 3; n++ {
				for _, v := range page.Matches {
					got = append(got, v.ID)
				}
				if page.Next == nil {
					break
				}
				page, err = s.Search(context.Background(), nil, q, size, page.Next)
			}
			if err != nil || !slices.Equal(got, want[:min(len(got), len(want))]) || len(got) < min(size, len(want)) {
				t.Errorf("%s by %d: %v\n%v\n%v", query, size, err, got, want[:min(len(got), len(want))])
			}
		}
	}
	t.Run("changed_meanwhile", func(t *testing.T) { changedAmongTheNewest(t, s) })
}

// changedAmongTheNewest reads later pages after what stands there has changed: they show what the first page saw.
func changedAmongTheNewest(t *testing.T, s *storage.Store) {
	for _, query := range []string{"status=final", "_tag=seen", "_content=8302", "_type=Observation,Appointment&status=final&_sort=-_lastUpdated"} {
		q, err := parseQuery(s, "", query)
		if err != nil {
			t.Fatal(err)
		}
		want := all(t, s, q, 5000)
		page, err := s.Search(context.Background(), nil, q, 4, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := idsOf(page)
		moved, err := s.Search(context.Background(), nil, q, 8, page.Next)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range moved.Matches {
			if i%3 == 0 {
				put(t, s, fmt.Sprintf(`{"resourceType":%q,"id":%q,"status":"unknown"}`, v.Type, v.ID))
			}
		}
		for range 4 {
			if page.Next == nil {
				break
			}
			if page, err = s.Search(context.Background(), nil, q, 4, page.Next); err != nil {
				t.Fatal(err)
			}
			got = append(got, idsOf(page)...)
		}
		if !slices.Equal(got, want[:min(len(got), len(want))]) || len(got) < min(len(want), 20) {
			t.Errorf("%s\n%v\n%v", query, got, want[:min(len(want), 24)])
		}
	}
}

func idsOf(page *storage.SearchPage) (ids []string) {
	for _, v := range page.Matches {
		ids = append(ids, v.ID)
	}
	return ids
}
