package ucum_test

import (
	"fmt"

	"kiln/fhir/ucum"
)

func ExampleCanonical() {
	fmt.Println(ucum.Canonical("g", "5.4"))
	fmt.Println(ucum.Canonical("mg", "5400"))
	fmt.Println(ucum.Canonical("mmol/L", "6.3"))
	fmt.Println(ucum.Canonical("Cel", "37"))
	fmt.Println(ucum.Canonical("furlong", "1"))
	// Output:
	// g 5.4 true
	// g 5.4 true
	// m-3.mol 6.3 true
	// K 310.15 true
	//  0 false
}

func ExampleConvert() {
	fmt.Println(ucum.Convert("98.6", "[degF]", "Cel"))
	fmt.Println(ucum.Convert("180", "[lb_av]", "kg"))
	fmt.Println(ucum.Convert("1", "kg", "m"))
	// Output:
	// 37 true
	// 81.6466266 true
	// 0 false
}
