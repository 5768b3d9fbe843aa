package bench

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
)

func pick[T any](random *rand.Rand, list []T) T { return list[random.IntN(len(list))] }

// has checks that an answer holds a text.
func has(text string) func([]byte) error {
	want := []byte(text)
	return func(body []byte) error {
		if !bytes.Contains(body, want) {
			return fmt.Errorf("no %q in the answer: %.300s", text, body)
		}
		return nil
	}
}

func get(path string, check func([]byte) error) request {
	return request{method: http.MethodGet, path: path, status: http.StatusOK, check: check}
}

// writes are the scenarios that read and change single resources and bundles. The ceiling stores rows like those that
// Kiln made for the same Observation.
func (s *sample) writes() []scenario {
	id := func(random *rand.Rand) string { return pick(random, s.observations).id }
	with := func(id, marker string) []byte {
		prefix := `{`
		if id != "" {
			prefix = `{"id":"` + id + `",`
		}
		return append([]byte(prefix+`"language":"`+marker+`",`), s.template[1:]...)
	}
	// What is final is signed and does not change; so what is updated is preliminary.
	open := func(i int, marker string) []byte {
		return bytes.Replace(with(fmt.Sprint(openPrefix, i), marker), []byte(`"final"`), []byte(`"preliminary"`), 1)
	}
	create := func(rows string) func(*rand.Rand) request {
		return func(*rand.Rand) request {
			return request{method: "POST", path: "/create?n=1" + s.like() + rows, body: with("", "en"), status: http.StatusCreated, check: has("made 1")}
		}
	}
	update := func(rows string) func(*rand.Rand) request {
		return func(random *rand.Rand) request {
			i, marker := random.IntN(openResources), fmt.Sprintf("x-%08x", random.Uint32())
			return request{method: "PUT", path: fmt.Sprint("/update?id=", openPrefix, i, s.like(), rows), body: open(i, marker), status: http.StatusOK, check: has(marker)}
		}
	}
	return []scenario{
		{name: "read", group: "read", ratio: 0.75, kiln: func(random *rand.Rand) request {
			id := id(random)
			return get("/fhir/Observation/"+id, has(id))
		}, ceiling: func(random *rand.Rand) request {
			id := id(random)
			return get("/read?id="+id, has(id))
		}},
		{name: "create", group: "write", ratio: 0.45, kiln: func(*rand.Rand) request {
			return request{method: "POST", path: "/fhir/Observation", body: with("", "en"), status: http.StatusCreated, check: has(`"versionId":"1"`)}
		}, ceiling: create(""), bare: create(bareRowsOnly)},
		{name: "update", group: "write", ratio: 0.45, kiln: func(random *rand.Rand) request {
			i, marker := random.IntN(openResources), fmt.Sprintf("x-%08x", random.Uint32())
			return request{method: "PUT", path: fmt.Sprint("/fhir/Observation/", openPrefix, i), body: open(i, marker), status: http.StatusOK, check: has(marker)}
		}, ceiling: update(""), bare: update(bareRowsOnly), setup: func(ctx context.Context, base string) error { return putAll(ctx, base, open) }},
		s.transaction(50), s.transaction(300),
	}
}

const bareRowsOnly = "&rows=bare"

// openResources are the Observations that are updated, by ids that begin with openPrefix.
const (
	openResources = 2000
	openPrefix    = "bench-"
)

// putAll makes them.
func putAll(ctx context.Context, base string, body func(i int, marker string) []byte) error {
	const batch = 500
	for from := 0; from < openResources; from += batch {
		var bundle bytes.Buffer
		bundle.WriteString(`{"resourceType":"Bundle","type":"transaction","entry":[`)
		for i := from; i < from+batch; i++ {
			if i > from {
				bundle.WriteByte(',')
			}
			fmt.Fprintf(&bundle, `{"resource":%s,"request":{"method":"PUT","url":"Observation/%s%d"}}`, body(i, "en"), openPrefix, i)
		}
		bundle.WriteString("]}")
		if _, err := send(ctx, base, request{method: "POST", path: "/fhir", body: bundle.Bytes(), status: http.StatusOK}); err != nil {
			return err
		}
	}
	return nil
}

func (s *sample) like() string { return "&like=" + s.observations[0].id }

func (s *sample) transaction(n int) scenario {
	var body bytes.Buffer
	body.WriteString(`{"resourceType":"Bundle","type":"transaction","entry":[`)
	for i := range n {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `{"resource":%s,"request":{"method":"POST","url":"Observation"}}`, s.template)
	}
	body.WriteString("]}")
	ceiling := func(rows string) func(*rand.Rand) request {
		return func(*rand.Rand) request {
			return request{method: "POST", path: fmt.Sprint("/create?n=", n) + s.like() + rows, body: body.Bytes(), status: http.StatusCreated, check: has(fmt.Sprint("made ", n))}
		}
	}
	return scenario{name: fmt.Sprintf("transaction of %d", n), group: "transaction", ratio: 0.25, kiln: func(*rand.Rand) request {
		return request{method: "POST", path: "/fhir", body: body.Bytes(), status: http.StatusOK, check: func(answer []byte) error {
			if got := bytes.Count(answer, []byte(`"status":"201`)); got != n {
				return fmt.Errorf("%d entries were created, not %d", got, n)
			}
			return nil
		}}
	}, ceiling: ceiling(""), bare: ceiling(bareRowsOnly)}
}
