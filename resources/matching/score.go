package matching

import (
	"slices"
	"strings"
	"time"
)

// Grade is a code of http://terminology.hl7.org/CodeSystem/match-grade.
type Grade string

// The grades, best first.
const (
	Certain      Grade = "certain"
	Probable     Grade = "probable"
	Possible     Grade = "possible"
	CertainlyNot Grade = "certainly-not"
)

// From which probability on a grade is given.
const (
	certainFrom  = 0.99
	probableFrom = 0.8
	possibleFrom = 0.05
)

// Score says how likely a and b are one person, from 0 to 1, and gives that a grade. It is symmetric.
//
// Certain takes more than a high number: either an identifier that both have, or the family name, a given name and the
// birth date; and nothing of these may differ. Twins share nearly all that is written of them, and families share the rest.
func Score(a, b Person) (float64, Grade) {
	var sum weight = prior
	identifier := compareIdentifiers(a.Identifiers, b.Identifiers)
	birth := compareBirth(a.Birth, b.Birth)
	family := compareNames(a.Family, b.Family, weights.familySame, weights.familyNear, weights.familyOther)
	given := compareNames(a.Given, b.Given, weights.givenSame, weights.givenNear, weights.givenOther)
	sum += identifier + birth + family + given
	switch {
	case a.Gender == "" || b.Gender == "":
	case a.Gender == b.Gender:
		sum += weights.genderSame
	default:
		sum += weights.genderOther
	}
	sum += compareLists(a.Contacts, b.Contacts, weights.contactSame, weights.contactOther)
	sum += comparePlaces(a, b)
	p := probability(sum)
	agrees := identifier == weights.identifierSame ||
		birth == weights.birthSame && family == weights.familySame && given == weights.givenSame
	differs := birth < 0 || family < 0 || given < 0
	switch {
	case p >= certainFrom && agrees && !differs:
		return p, Certain
	case p >= probableFrom && !(birth < 0 && identifier <= 0):
		return p, Probable
	case p >= possibleFrom:
		return p, Possible
	}
	return p, CertainlyNot
}

// compareIdentifiers: what one system calls by one value is one person; two values of one system speak against.
func compareIdentifiers(a, b []string) weight {
	against := false
	for _, x := range a {
		if slices.Contains(b, x) {
			return weights.identifierSame
		}
		system, _, _ := strings.Cut(x, "|")
		against = against || system != "" && slices.ContainsFunc(b, func(y string) bool { return strings.HasPrefix(y, system+"|") })
	}
	if against {
		return weights.identifierOther
	}
	return 0
}

// compareBirth compares as far as both are precise. Near is what a slip of the pen makes: day and month swapped, one
// digit another, or the year before.
func compareBirth(a, b string) weight {
	if a == "" || b == "" {
		return 0
	}
	n := min(len(a), len(b))
	switch {
	case a[:n] == b[:n] && n == len(time.DateOnly):
		return weights.birthSame
	case a[:n] == b[:n]:
		return weights.birthPart
	case len(a) != len(b) || n != len(time.DateOnly):
		return weights.birthOther
	case a[:4] == b[:4] && a[5:7] == b[8:10] && a[8:10] == b[5:7]:
		return weights.birthNear
	}
	other := 0
	for i := range a {
		if a[i] != b[i] {
			other++
		}
	}
	if other == 1 {
		return weights.birthNear
	}
	return weights.birthOther
}

// compareNames takes the best of all pairs.
func compareNames(a, b []string, same, near, other weight) weight {
	if len(a) == 0 || len(b) == 0 {
		return 0
	}
	best := other
	for _, x := range a {
		for _, y := range b {
			switch {
			case x == y || firstWord(x) == firstWord(y) && (firstWord(x) == x || firstWord(y) == y):
				return same
			case isNear(x, y):
				best = near
			}
		}
	}
	return best
}

func firstWord(s string) string {
	s, _, _ = strings.Cut(s, " ")
	return s
}

// isNear says whether two names may be one: one stands within the other (a double name, an initial), or they are
// written alike.
func isNear(a, b string) bool {
	for _, pair := range [2][2]string{{a, b}, {b, a}} {
		for word := range strings.FieldsFuncSeq(pair[0], func(r rune) bool { return r == ' ' || r == '-' }) {
			for other := range strings.FieldsFuncSeq(pair[1], func(r rune) bool { return r == ' ' || r == '-' }) {
				if word == other || len(word) == 1 && strings.HasPrefix(other, word) {
					return true
				}
			}
		}
	}
	return jaroWinkler(a, b) >= 0.92
}

func compareLists(a, b []string, same, other weight) weight {
	if len(a) == 0 || len(b) == 0 {
		return 0
	}
	if slices.ContainsFunc(a, func(x string) bool { return slices.Contains(b, x) }) {
		return same
	}
	return other
}

func comparePlaces(a, b Person) weight {
	postal := compareLists(a.Postal, b.Postal, weights.placeSame, weights.placeOther)
	if postal == weights.placeSame {
		return postal
	}
	if city := compareLists(a.City, b.City, weights.citySame, weights.placeOther); city != 0 {
		return city
	}
	return postal
}

// jaroWinkler is how alike two strings are, from 0 to 1 (Winkler 1990): characters in common near their place, less half
// of those out of order; a common beginning counts more.
func jaroWinkler(s, t string) float64 {
	a, b := []rune(s), []rune(t)
	if len(a) == 0 || len(b) == 0 {
		return 0
	}
	reach := max(max(len(a), len(b))/2-1, 0)
	used := make([]bool, len(b))
	var common []rune
	for i, r := range a {
		for j := max(0, i-reach); j < min(len(b), i+reach+1); j++ {
			if !used[j] && b[j] == r {
				used[j], common = true, append(common, r)
				break
			}
		}
	}
	if len(common) == 0 {
		return 0
	}
	swapped, k := 0, 0
	for j, u := range used {
		if u {
			if b[j] != common[k] {
				swapped++
			}
			k++
		}
	}
	m := float64(len(common))
	jaro := (m/float64(len(a)) + m/float64(len(b)) + (m-float64(swapped)/2)/m) / 3
	prefix := 0
	for prefix < min(4, len(a), len(b)) && a[prefix] == b[prefix] {
		prefix++
	}
	return jaro + float64(prefix)*0.1*(1-jaro)
}
