package storage

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
)

// earthRadius is the mean radius in metres that distances are computed with: a sphere, at most 0.5 % off WGS84.
const earthRadius = 6_371_008.8

// position is a place in degrees.
type position struct{ latitude, longitude float64 }

// positionOf gives where a Location is; nil where it does not say, or says something impossible.
func positionOf(n *fhir.Node) *position {
	p := n.Get("position")
	if n.ResourceType() != "Location" || p == nil {
		return nil
	}
	degrees := func(name string, bound float64) (float64, bool) {
		v := p.Get(name)
		if v == nil || v.Kind != fhir.Number {
			return 0, false
		}
		f, err := strconv.ParseFloat(v.Text, 64)
		return f, err == nil && math.Abs(f) <= bound
	}
	latitude, ok := degrees("latitude", 90)
	longitude, ok2 := degrees("longitude", 180)
	if !ok || !ok2 {
		return nil
	}
	return &position{latitude, longitude}
}

// specialShape are the parameters without an expression that have a value: what :missing asks of them.
func (ix *Indexer) specialShape(plan *typePlan, row *indexRow) (shape []int32) {
	for _, p := range plan.params {
		if p.def.Code == "_text" && strings.Contains(row.words, "A") || p.def.Code == "_content" && row.words != "" ||
			p.def.Code == "near" && row.position != nil {
			shape = append(shape, int32(p.def.Key))
		}
	}
	return shape
}

// near answers Location?near: a box of degrees finds the candidates, the great-circle distance decides.
func (c *compiler) near(m *search.Match, x string) (string, error) {
	any, err := disjunction(m.Values, func(v search.Value) (string, error) {
		if len(v.Parts) != 3 {
			return "", notOffered(m)
		}
		latitude, _ := v.Parts[0].Number.Rat().Float64()
		longitude, _ := v.Parts[1].Number.Rat().Float64()
		distance, _ := v.Parts[2].Number.Rat().Float64()
		return c.within(latitude, longitude, distance), nil
	})
	return fmt.Sprintf("%s.rk IN (SELECT s.rk FROM %s s WHERE %s)", x, c.table("search_position", x), any), err
}

func (c *compiler) within(latitude, longitude, distance float64) string {
	number := func(f float64) string { return c.arg(f, "double precision") }
	const slack = 1e-6 // degrees: rounding must not lose a place on the edge of the box
	angle := distance / earthRadius
	degrees := angle*180/math.Pi + slack
	low, high := latitude-degrees, latitude+degrees
	box := fmt.Sprintf("s.latitude BETWEEN %s AND %s", number(low), number(high))
	if low > -90 && high < 90 && angle < math.Pi/2 { // no pole within: longitudes are bounded too
		width := math.Asin(min(1, math.Sin(angle)/math.Cos(latitude*math.Pi/180)))*180/math.Pi + slack
		west, east := longitude-width, longitude+width
		span := fmt.Sprintf("s.longitude BETWEEN %s AND %s", number(west), number(east))
		switch { // across the antimeridian
		case west < -180:
			span = fmt.Sprintf("(%s OR s.longitude >= %s)", span, number(west+360))
		case east > 180:
			span = fmt.Sprintf("(%s OR s.longitude <= %s)", span, number(east-360))
		}
		box += " AND " + span
	}
	return fmt.Sprintf("(%s AND %s <= %s)", box, c.angle(latitude, longitude), number(angle))
}

// angle is the angle in radians between a position s and a place: the haversine formula, exact for small distances. Differences of no
// more than a thousandth of a millimetre are none: PostgreSQL refuses to square what is so small that nothing is left of it.
func (c *compiler) angle(latitude, longitude float64) string {
	lat, lon := c.arg(latitude, "double precision"), c.arg(longitude, "double precision")
	half := func(column, at string) string {
		return fmt.Sprintf("power(CASE WHEN abs(%[1]s - %[2]s) < 1e-12 THEN 0 ELSE sind((%[1]s - %[2]s) / 2) END, 2)", column, at)
	}
	return fmt.Sprintf("2 * asin(least(1, sqrt(%s + cosd(%s) * cosd(s.latitude) * %s)))", half("s.latitude", lat), lat, half("s.longitude", lon))
}

// nearest is the angle between x and the nearest of some places; NULL where x has no position.
func (c *compiler) nearest(from []search.Value, x string) string {
	var angles []string
	for _, v := range from {
		latitude, _ := v.Parts[0].Number.Rat().Float64()
		longitude, _ := v.Parts[1].Number.Rat().Float64()
		angles = append(angles, c.angle(latitude, longitude))
	}
	return fmt.Sprintf("(SELECT least(%s) FROM %s s WHERE s.rk = %s.rk)", strings.Join(angles, ", "), c.table("search_position", x), x)
}
