package storage

import (
	"fmt"
	"math"
	"strconv"

	"kiln/fhir"
	"kiln/fhir/search"
)

// earthRadius is the mean radius in metres that distances are computed with: a sphere, at most 0.5 % off WGS84.
const earthRadius = 6_371_008.8

// positionOf gives where a Location is.
func positionOf(n *fhir.Node) (latitude, longitude float64, ok bool) {
	position := n.Get("position")
	if n.ResourceType() != "Location" || position == nil {
		return 0, 0, false
	}
	lat, lon := position.Get("latitude"), position.Get("longitude")
	if lat == nil || lon == nil || lat.Kind != fhir.Number || lon.Kind != fhir.Number {
		return 0, 0, false
	}
	latitude, err := strconv.ParseFloat(lat.Text, 64)
	longitude, err2 := strconv.ParseFloat(lon.Text, 64)
	return latitude, longitude, err == nil && err2 == nil && math.Abs(latitude) <= 90 && math.Abs(longitude) <= 180
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
	return fmt.Sprintf("%s.rk IN (SELECT s.rk FROM search_position s WHERE %s)", x, any), err
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
	lat, lon := number(latitude), number(longitude)
	// The haversine formula, exact for small distances.
	return fmt.Sprintf(`(%s AND 2 * asin(least(1, sqrt(power(sind((s.latitude - %s) / 2), 2) + cosd(%s) * cosd(s.latitude) * power(sind((s.longitude - %s) / 2), 2)))) <= %s)`,
		box, lat, lat, lon, number(angle))
}
