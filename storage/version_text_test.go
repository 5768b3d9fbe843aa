package storage_test

import (
	"reflect"
	"strings"
	"testing"

	"kiln/internal/kilntest"
)

// TestVersion_by_the_simple_protocol reads over a URL like those for connection poolers, whose answers are texts.
func TestVersion_by_the_simple_protocol(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	plain := openOn(t, url)
	want := put(t, plain, `{"resourceType":"Observation","id":"o","status":"final","code":{"text":"c"},"subject":{"reference":"Patient/p"},"valueQuantity":{"value":1.10}}`)
	mark := "?"
	if strings.Contains(url, "?") {
		mark = "&"
	}
	for _, mode := range []string{"simple_protocol", "exec"} {
		got, err := openOn(t, url+mark+"default_query_exec_mode="+mode).Read(t.Context(), want.Type, want.ID)
		if err != nil {
			t.Errorf("%s: %v", mode, err)
			continue
		}
		again, err := plain.Read(t.Context(), want.Type, want.ID)
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Errorf("%s: %+v, want %+v, %v", mode, got, again, err)
		}
	}
}
