package path

import (
	"fmt"

	"kiln/fhir"
)

// Bounds on one expression and one evaluation. They are published in docs/limits.md.
const (
	// MaxSource is how many bytes an expression may have.
	MaxSource = 64 << 10
	// MaxNesting is how deep an expression's terms may nest.
	MaxNesting = 200
	// DefaultMaxSteps is the bound on an evaluation where Env.MaxSteps is zero. A step is a visited element, an
	// evaluated term or a compared pair.
	DefaultMaxSteps = 2_000_000
	// MaxText is how many bytes a string made by an expression may have.
	MaxText = 1 << 20
	// MaxPattern is how many bytes a regular expression may have.
	MaxPattern = 1000
	// MaxDigits is how many digits a number may have.
	MaxDigits = 1000
)

func errSteps() error {
	return fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly,
		"The FHIRPath expression takes more steps than the server allows")
}

func errText() error {
	return fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly,
		fmt.Sprintf("The FHIRPath expression makes a text of more than %d bytes", MaxText))
}

func errDigits() error {
	return fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly,
		fmt.Sprintf("The FHIRPath expression makes a number of more than %d digits", MaxDigits))
}

// failf is what evaluation fails with when the expression does not fit the data.
func failf(format string, args ...any) error {
	return fhir.NewError(fhir.Invalid, fhir.CodeProcessing, "FHIRPath: "+fmt.Sprintf(format, args...))
}
