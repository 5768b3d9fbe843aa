package storage_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"kiln/internal/kilntest"
	"kiln/storage"
)

// TestSearch_first_page_of_texts: a resource stands where its first text does, and once, whatever the page takes for granted.
func TestSearch_first_page_of_texts(t *testing.T) {
	t.Parallel()
	s := open(t)
	patient := func(id, names string) {
		put(t, s, `{"resourceType":"Patient","id":"`+id+`","gender":"male","birthDate":"1980-01-01","name":[`+names+`]}`)
	}
	patient("twice", `{"family":"Abel"},{"family":"Abraham"}`)
	patient("same", `{"family":"Abbot"},{"family":"ABBOT"}`)
	patient("later", `{"family":"Abt"},{"family":"Zorn"}`)
	patient("last", `{"family":"Abzug"},{"family":"Aaron"}`)
	for _, c := range []struct {
		query string
		size  int
		want  string
	}{
		{"family=ab", 100, "same twice later last"},
		{"family=ab", 3, "same twice later"},
		{"family=ab", 2, "same twice"},
		{"family=abbot", 100, "same"},
		{"family:contains=ab", 3, "same twice later"},
		{"gender=male&_sort=family", 3, "last same twice"},
		{"gender=male&_sort=-family", 3, "later last twice"},
		{"birthdate=1980&gender=male&_sort=family", 3, "last same twice"},
	} {
		if got := firstOf(t, s, "Patient", c.query, c.size); got != c.want {
			t.Errorf("%s, %d: got %q, want %q", c.query, c.size, got, c.want)
		}
	}
}

// firstOf is the first page of a search: its ids, in its order.
func firstOf(t *testing.T, s *storage.Store, typ, query string, size int) string {
	t.Helper()
	q, err := parseQuery(s, typ, query)
	if err != nil {
		t.Fatal(err)
	}
	page, err := s.Search(context.Background(), nil, q, size, nil)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, v := range page.Matches {
		list = append(list, v.ID)
	}
	if more := page.Next != nil; more == page.Complete {
		t.Errorf("%s?%s: complete %t, with a next page %t", typ, query, page.Complete, more)
	}
	return strings.Join(list, " ")
}

// TestSearch_status_beside_a_reference: what the index tells of a status decides nothing by itself.
func TestSearch_status_beside_a_reference(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	s := openOn(t, url)
	for _, a := range [][3]string{{"a", "booked", "02"}, {"b", "cancelled", "03"}, {"c", "booked", "01"}} {
		put(t, s, `{"resourceType":"Appointment","id":"`+a[0]+`","status":"`+a[1]+`","start":"2024-05-`+a[2]+`T10:00:00Z","end":"2024-05-`+a[2]+`T10:30:00Z",
"participant":[{"actor":{"reference":"Practitioner/d"},"status":"accepted"}]}`)
	}
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	change := func(sql string, want int64) {
		t.Helper()
		if done, err := conn.Exec(context.Background(), sql); err != nil || done.RowsAffected() != want {
			t.Fatalf("%s: %d rows, %v", sql, done.RowsAffected(), err)
		}
	}
	for _, step := range []struct {
		sql, want string
		rows      int64
	}{
		{"UPDATE search_code SET state = state WHERE state = 'booked'", "a c", 2},
		{"UPDATE search_code SET state = NULL WHERE state = 'booked'", "a c", 2}, // written before the column was there
		{"UPDATE search_code SET state = 'booked'", "a c", 3},
		{"UPDATE search_code SET state = 'cancelled'", "", 3}, // it is asked first
	} {
		change(step.sql, step.rows)
		for _, query := range []string{"practitioner=d&date=2024-05&status=booked", "practitioner=d&date=2024-05&status=http://hl7.org/fhir/appointmentstatus|booked"} {
			if got := firstOf(t, s, "Appointment", query, 10); got != step.want {
				t.Errorf("%s: %s gives %q, want %q", step.sql, query, got, step.want)
			}
		}
	}
}
