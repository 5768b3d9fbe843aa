package validate

import "context"

// Terminology answers whether codes are in value sets that the embedded tables do not hold: those of profiles and of
// clients. It is asked about all codes of a resource at once.
type Terminology interface {
	// ValidateCodes answers each question, in their order. What nobody here can know, because a value set or code system
	// is missing, is the answer CodeUnknown; an error means that nothing could be asked.
	ValidateCodes(ctx context.Context, questions []CodeQuestion) ([]CodeAnswer, error)
}

// CodeQuestion asks whether a code is in a value set.
type CodeQuestion struct {
	// ValueSet is the canonical URL, perhaps with |version.
	ValueSet string
	// System is "" for an element of type code: then any system of the value set will do. Version may be "".
	System, Version, Code string
}

// CodeVerdict is what there is to say of a code. The zero value is that nobody knows.
type CodeVerdict uint8

// The verdicts.
const (
	CodeUnknown CodeVerdict = iota
	CodeMember
	CodeNotMember
)

// CodeAnswer answers a CodeQuestion.
type CodeAnswer struct {
	Verdict CodeVerdict
	// Text says why a verdict is CodeUnknown, naming what is missing; or warns of a member, as of an inactive one.
	Text string
	// Display is what the code system calls the code, where it is known.
	Display string
}
