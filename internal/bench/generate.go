package bench

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"kiln/fhir"
	"kiln/storage"
)

// Of n resources a tenth are patients of whom nothing is known but who they are, and a tenth appointments, which Synthea
// does not make. The rest are records in new ids, names, dates and values.
const (
	clinicalPerPatient     = 8
	clinicalPerAppointment = 8
	// appointmentsPerPractitioner is how many appointments a practitioner has, however large the database.
	appointmentsPerPractitioner = 500
	copyBatch                   = 2000
)

// generate stores n resources. It tells progress.
func generate(ctx context.Context, store *storage.Store, p *population, n int, progress io.Writer) error {
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	flush := func(nodes []*fhir.Node) {
		group.Go(func() error {
			prepared := make([]*storage.Prepared, len(nodes))
			for i, node := range nodes {
				var err error
				if prepared[i], err = store.Prepare(node); err != nil {
					return err
				}
			}
			return store.Copy(ctx, prepared)
		})
	}
	var batch []*fhir.Node
	told := time.Now()
	p.each(n, func(made int, node *fhir.Node) bool {
		if batch = append(batch, node); len(batch) == copyBatch {
			flush(batch)
			batch = nil
		}
		if time.Since(told) > 10*time.Second {
			told = time.Now()
			fmt.Fprintf(progress, "generated %d of %d, %.0f/s\n", made, n, float64(made)/time.Since(began).Seconds())
		}
		return ctx.Err() == nil
	})
	if len(batch) > 0 {
		flush(batch)
	}
	if err := group.Wait(); err != nil {
		return err
	}
	fmt.Fprintf(progress, "generated %d resources in %.1f s\n", n, time.Since(began).Seconds())
	return nil
}

// each makes n resources, always the same ones, until visit says no.
func (p *population) each(n int, visit func(made int, node *fhir.Node) bool) {
	made := 0
	give := func(node *fhir.Node) bool {
		made++
		return visit(made, node) && made < n
	}
	practitioners := p.practitioners[:min(len(p.practitioners), max(n/10/appointmentsPerPractitioner, 1))]
	for number := 1; ; number++ {
		random := rand.New(rand.NewPCG(1, uint64(number)))
		r := p.records[number%len(p.records)]
		v := p.variation(r, number, random)
		var doctors []string // two at most: or what a page of a record refers to would grow with the database
		for range min(len(practitioners), 2) {
			doctors = append(doctors, pick(random, practitioners))
		}
		for i, resource := range r.resources {
			if !give(v.of(resource)) {
				return
			}
			if i%clinicalPerPatient == 0 && v.patient != nil && !give(v.further(i)) {
				return
			}
			if i%clinicalPerAppointment == 1 && v.patient != nil && len(doctors) > 0 && !give(v.appointment(i, pick(random, doctors))) {
				return
			}
		}
		if number == 1 {
			for _, resource := range p.shared {
				node := resource.Clone()
				if !give(&node) {
					return
				}
			}
		}
	}
}

// further makes a patient without a record.
func (v *variation) further(i int) *fhir.Node {
	suffix := "-" + strconv.Itoa(i) + v.suffix
	other := &variation{population: v.population, suffix: suffix, days: v.random.IntN(36500) - 18250, random: v.random}
	return other.of(v.patient)
}

var appointmentStatus = [...]string{"booked", "booked", "booked", "fulfilled", "cancelled", "noshow"}

// appointment makes an appointment of the record's patient with a practitioner: a quarter of an hour within two years.
func (v *variation) appointment(i int, practitioner string) *fhir.Node {
	start := time.Date(2025, 1, 1, 8, 0, 0, 0, time.UTC).AddDate(0, 0, v.random.IntN(730)).Add(time.Duration(v.random.IntN(36)) * 15 * time.Minute)
	participant := func(reference string) fhir.Node {
		return fhir.Obj(fhir.Obj(fhir.Str(reference).As("reference")).As("actor"), fhir.Str("accepted").As("status"))
	}
	node := fhir.Obj(
		fhir.Str("Appointment").As("resourceType"),
		fhir.Str("a"+strconv.Itoa(i)+v.suffix).As("id"),
		fhir.Str(pick(v.random, appointmentStatus[:])).As("status"),
		fhir.Str("Follow-up").As("description"),
		fhir.Str(start.Format(time.RFC3339)).As("start"),
		fhir.Str(start.Add(15*time.Minute).Format(time.RFC3339)).As("end"),
		fhir.Arr(participant("Patient/"+v.patient.ID()+v.suffix), participant("Practitioner/"+practitioner)).As("participant"),
	)
	return &node
}

func random(seed int) *rand.Rand { return rand.New(rand.NewPCG(2, uint64(seed))) }
