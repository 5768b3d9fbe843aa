package matching

import "math"

// weight is what one outcome of a comparison says, in bits: the logarithm of how often it is seen between two records of
// one person, over how often between records of two people. Frequencies are estimates for a town, not measurements of
// one's own data; they need the right order of magnitude only.
type weight float64

func bits(same, other float64) weight { return weight(math.Log2(same / other)) }

// The outcomes. What one side lacks says nothing.
var weights = struct {
	identifierSame, identifierOther,
	birthSame, birthNear, birthPart, birthOther,
	familySame, familyNear, familyOther,
	givenSame, givenNear, givenOther,
	genderSame, genderOther,
	contactSame, contactOther,
	placeSame, citySame, placeOther weight
}{
	identifierSame: bits(0.95, 0.000001), identifierOther: bits(0.05, 1),
	birthSame: bits(0.93, 0.000034), birthNear: bits(0.05, 0.002), birthPart: bits(0.9, 0.0137), birthOther: bits(0.02, 0.998),
	familySame: bits(0.9, 0.004), familyNear: bits(0.07, 0.005), familyOther: bits(0.03, 0.99),
	givenSame: bits(0.85, 0.006), givenNear: bits(0.1, 0.02), givenOther: bits(0.05, 0.97),
	genderSame: bits(0.98, 0.5), genderOther: bits(0.02, 0.5),
	// Families share telephones and homes.
	contactSame: bits(0.7, 0.0005), contactOther: bits(0.3, 0.9995),
	placeSame: bits(0.7, 0.005), citySame: bits(0.2, 0.05), placeOther: bits(0.1, 0.95),
}

// prior is how unlikely it is that two records taken at random tell of one person.
const prior = -17

// probability turns bits into a number from 0 to 1.
func probability(sum weight) float64 { return 1 / (1 + math.Exp2(-float64(sum))) }
