package storage_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A period that is long and one that is short, before, at and after what is asked for: the bounds that spare a scan
// must not hide any.
func TestSearch_date_bounds_hide_no_period(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i, period := range []string{
		`"start":"2020-01-01T00:00:00Z","end":"2020-01-01T01:00:00Z"`, `"start":"2019-01-01","end":"2020-06-30"`, `"start":"2020-05-01"`,
		`"end":"2020-03-01"`, `"start":"2019-12-01","end":"2020-01-01"`, `"start":"2019-12-02","end":"2020-01-02"`, `"start":"1990","end":"2050"`, `"start":"2020"`,
	} {
		put(t, s, fmt.Sprintf(`{"resourceType":"Encounter","id":"e%d","status":"finished","class":{"code":"AMB"},"period":{%s}}`, i, period))
	}
	for query, want := range map[string]string{
		"date=gt2020-01-01": "e1 e2 e3 e5 e6 e7", "date=ge2020-01-01": "e0 e1 e2 e3 e5 e6 e7", "date=2020": "e0",
		"date=ge2020-05-01&date=le2020-06-30": "e1 e2 e6 e7", "date=lt2020": "e1 e3 e4 e5 e6",
		"date=sa2020-02": "e2", "date=eb2020-03": "e0 e4 e5",
	} {
		ids := find(t, s, "Encounter", query)
		slices.Sort(ids)
		if found := strings.Join(ids, " "); found != want {
			t.Errorf("%s: %s, not %s", query, found, want)
		}
	}
}
