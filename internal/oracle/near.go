package oracle

import (
	"math"
	"math/big"

	"kiln/fhir"
	"kiln/fhir/path"
	"kiln/fhir/search"
)

// radius is the mean radius of the earth in metres. Choice: it is a sphere.
const radius = 6_371_008.8

// point is a place on the unit sphere.
type point [3]float64

func pointAt(latitude, longitude float64) point {
	lat, lon := latitude*math.Pi/180, longitude*math.Pi/180
	return point{math.Cos(lat) * math.Cos(lon), math.Cos(lat) * math.Sin(lon), math.Sin(lat)}
}

// asked is the place that a value of near names, and how far from it, in metres.
func asked(v search.Value) (at point, distance float64) {
	f := func(i int) float64 { f, _ := v.Parts[i].Number.Rat().Float64(); return f }
	return pointAt(f(0), f(1)), f(2)
}

// distance is how far two places are from one another in metres, along the surface.
func (p point) distance(q point) float64 {
	square := 0.0
	for i := range p {
		square += (p[i] - q[i]) * (p[i] - q[i])
	}
	return 2 * math.Asin(min(1, math.Sqrt(square)/2)) * radius
}

// place is where a position is (location.html#Location.position). Choice: without one of both degrees, or beyond what there is, nowhere.
func place(position *fhir.Node) (point, bool) {
	var degrees [2]float64
	for i, name := range []string{"latitude", "longitude"} {
		v := position.Get(name)
		if v == nil || v.Kind != fhir.Number {
			return point{}, false
		}
		d, ok := fhir.ParseDecimal(v.Text)
		if !ok {
			return point{}, false
		}
		if degrees[i], _ = d.Rat().Float64(); math.Abs(degrees[i]) > [2]float64{90, 180}[i] {
			return point{}, false
		}
	}
	return pointAt(degrees[0], degrees[1]), true
}

// near says whether a position is as near as a search asks for (location.html#search).
func near(v path.Element, value search.Value) bool {
	here, ok := place(v.Value)
	at, most := asked(value)
	return ok && here.distance(at) <= most
}

// away is the distance of a position from the nearest of some places, in millimetres.
func away(v path.Element, from []search.Value) (list []*key) {
	here, ok := place(v.Value)
	if !ok {
		return nil
	}
	for _, one := range from {
		at, _ := asked(one)
		millimetres := new(big.Rat).SetFloat64(math.Round(here.distance(at) * 1000))
		if k := (&key{number: millimetres}); len(list) == 0 || k.compare(list[0]) < 0 {
			list = []*key{k}
		}
	}
	return list
}
