package bench

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"kiln/conformance/profile"
	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/storage"
)

// vitalSigns is the profile of R4 whose cost is measured: it slices the categories, binds the units and has invariants.
const vitalSigns = "http://hl7.org/fhir/StructureDefinition/vitalsigns"

// measureValidation compares what it costs to validate a resource with the database write that it guards, over the
// types of the real records: in one process and one connection, in turns.
func (r *report) measureValidation(ctx context.Context, d *database, people *population) error {
	validator, err := validate.New(d.store.Registry(), validate.Options{Invariants: true})
	if err != nil {
		return err
	}
	var list []*fhir.Node
	people.each(min(d.scale, 20_000), func(_ int, node *fhir.Node) bool { list = append(list, node); return true })
	random := rand.New(rand.NewPCG(3, 0))
	var validated, profiled, indexed, written rate
	for i := range 1000 {
		node := pick(random, list).Clone()
		node.Set("id", fhir.Str("v"+strconv.Itoa(i)))
		began := time.Now()
		validator.Resource(&node)
		validated.add(1, time.Since(began))
		if node.ResourceType() == "Observation" {
			began = time.Now()
			if _, err := d.store.Profiles().Check(ctx, &node, profile.Options{Profiles: []string{vitalSigns}}); err != nil {
				return err
			}
			profiled.add(1, time.Since(began))
		}

		began = time.Now()
		p, err := d.store.Prepare(&node)
		if err != nil {
			return err
		}
		indexed.add(1, time.Since(began))

		began = time.Now()
		err = d.store.Write(ctx, func(tx *storage.Tx) error {
			tx.DeclareShapes(p)
			tx.Insert(p, storage.MethodCreate)
			return nil
		})
		if err != nil {
			return err
		}
		written.add(1, time.Since(began))
	}
	if profiled.n == 0 {
		return errors.New("bench: none of 1,000 records is an Observation")
	}
	each := func(t rate) float64 { return t.took.Seconds() * 1000 / float64(t.n) }
	r.note("Validation against the base definitions, of 1,000 resources of the types and sizes of the records: %.3f ms each; of %d Observations also against the profile of vital signs: %.3f ms more; extraction of what searches need: "+
		"%.3f ms; the database write that they guard: %.3f ms (aim: validation costs less than the write; %s).",
		each(validated), profiled.n, each(profiled), each(indexed), each(written), verdict(each(validated)+each(profiled) >= each(written), "validation"))
	return nil
}
