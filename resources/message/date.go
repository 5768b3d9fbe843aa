package message

import (
	"fmt"
	"strconv"
	"time"
)

// calendar is how a language writes a date. Layout takes the weekday, the day, the month, the year and the time. First is
// the first day of a month, "" where it is a number like the others.
type calendar struct {
	days   [7]string
	months [12]string
	layout string
	first  string
	// zone takes the date and the name of its zone.
	zone string
}

var calendars = map[string]calendar{
	"en": {
		days:   [7]string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"},
		months: [12]string{"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"},
		layout: "%s, %s %s %d, %s", zone: "%s (time in %s)",
	},
	"de": {
		days:   [7]string{"Sonntag", "Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag"},
		months: [12]string{"Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November", "Dezember"},
		layout: "%s, %s. %s %d, %s Uhr", zone: "%s (Zeit in %s)",
	},
	"es": {
		days:   [7]string{"domingo", "lunes", "martes", "miércoles", "jueves", "viernes", "sábado"},
		months: [12]string{"enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre", "diciembre"},
		layout: "%s, %s de %s de %d, %s", zone: "%s (zona horaria: %s)",
	},
	"fr": {
		days:   [7]string{"dimanche", "lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi"},
		months: [12]string{"janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre", "décembre"},
		layout: "%s %s %s %d, %s", first: "1er", zone: "%s (fuseau horaire : %s)",
	},
}

// date writes a time as clocks at the place of the visit show it, and says where that is unless the recipient is known to
// have the same time then.
func date(language string, at time.Time, zone, home *time.Location) string {
	if at.IsZero() {
		return ""
	}
	if zone == nil {
		zone = time.UTC
	}
	c, t := calendars[language], at.In(zone)
	day := strconv.Itoa(t.Day())
	if day == "1" && c.first != "" {
		day = c.first
	}
	text := fmt.Sprintf(c.layout, c.days[t.Weekday()], day, c.months[t.Month()-1], t.Year(), t.Format("15:04"))
	if home != nil {
		_, there := at.In(home).Zone()
		if _, here := t.Zone(); here == there {
			return text
		}
	}
	return fmt.Sprintf(c.zone, text, zone)
}
