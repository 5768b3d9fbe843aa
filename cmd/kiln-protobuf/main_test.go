package main

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	rpb "github.com/google/fhir/go/proto/google/fhir/proto/r4/core/resources/bundle_and_contained_resource_go_proto"
	"google.golang.org/protobuf/encoding/protodelim"
)

func TestConvert(t *testing.T) {
	t.Parallel()
	in := strings.Join([]string{
		`{"resourceType":"Patient","id":"a","active":true,"name":[{"family":"Okafor"}],"birthDate":"1984-07"}`,
		``,
		`{"resourceType":"Observation","id":"b","status":"final","code":{"text":"x"},"valueQuantity":{"value":1.50}}`,
		`{"resourceType":"Patient","id":"secret","active":"secret"}`,
		`{"resourceType":"Patient","id":"secret","id":"secret"}`,
		`{"resourceType":"Nothing","id":"secret"}`,
		strings.Repeat(`{"resourceType":"Patient","contact":[`, 500),
	}, "\n")
	var out, log bytes.Buffer
	c, err := convert(strings.NewReader(in), &out, &log)
	if err != nil || c != (counts{written: 2, failed: 4}) {
		t.Fatalf("%v %+v: %s", err, c, log.String())
	}
	if strings.Contains(log.String(), "secret") {
		t.Errorf("the log repeats a value: %s", log.String())
	}
	r := bufio.NewReader(&out)
	var one, two rpb.ContainedResource
	if err := protodelim.UnmarshalFrom(r, &one); err != nil {
		t.Fatal(err)
	}
	if err := protodelim.UnmarshalFrom(r, &two); err != nil {
		t.Fatal(err)
	}
	if p := one.GetPatient(); p.GetName()[0].GetFamily().GetValue() != "Okafor" || p.GetBirthDate().GetPrecision().String() != "MONTH" {
		t.Errorf("%v", p)
	}
	if v := two.GetObservation().GetValue().GetQuantity().GetValue().GetValue(); v != "1.50" {
		t.Errorf("the value is %q", v)
	}
}
