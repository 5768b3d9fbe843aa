package resources

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"

	"kiln/fhir"
)

// Bounds on one patch. They are published in docs/limits.md.
const (
	// MaxPatchOperations is how many operations a patch may have.
	MaxPatchOperations = 1000
	// MaxPatchCopied is how many bytes all copy operations together may add to the resource; it stops a patch that
	// copies a resource into itself until nothing else fits into memory.
	MaxPatchCopied = 4 << 20
)

// patchLimits are those bounds, or smaller ones in a test.
type patchLimits struct {
	operations int
	copied     int64
}

// ApplyJSONPatch returns what patch, a JSON Patch (RFC 6902), makes of n. All operations succeed or none: n stays as it
// is. Numbers keep their digits; two numbers count as equal in a test only when their digits are.
//
// Errors: Invalid for what is no JSON Patch, Unprocessable for one that does not fit the resource, a failed test among
// them, TooLarge beyond limits. Each names the operation: "[2]".
func ApplyJSONPatch(n *fhir.Node, patch []byte) (*fhir.Node, error) {
	return applyJSONPatch(n, patch, patchLimits{operations: MaxPatchOperations, copied: MaxPatchCopied})
}

func applyJSONPatch(n *fhir.Node, patch []byte, limits patchLimits) (*fhir.Node, error) {
	operations, err := fhir.ParseJSON(patch)
	if err != nil {
		return nil, err
	}
	if operations.Kind != fhir.Array {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeStructure, "A JSON Patch is an array of operations (RFC 6902), and the body is of JSON type "+
			operations.Kind.String()).Coded("patch-invalid")
	}
	if len(operations.Kids) > limits.operations {
		return nil, fhir.NewError(fhir.TooLarge, fhir.CodeTooLong, fmt.Sprintf("The patch has %d operations, and %d are allowed",
			len(operations.Kids), limits.operations)).Coded("patch-too-large")
	}
	for i := range operations.Kids {
		if why := badOperation(&operations.Kids[i]); why != "" {
			return nil, fhir.NewError(fhir.Invalid, fhir.CodeInvalid, fmt.Sprintf("Operation %d of the patch: %s", i, why)).
				At(fmt.Sprintf("[%d]", i)).Coded("patch-invalid")
		}
	}
	list, err := jsonpatch.DecodePatch(operations.JSON())
	if err != nil {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeInvalid, "The body is no JSON Patch (RFC 6902)").Because(err).Coded("patch-invalid")
	}
	options := jsonpatch.NewApplyOptions()
	options.SupportNegativeIndices = false
	options.EscapeHTML = false
	options.AccumulatedCopySizeLimit = limits.copied
	before := n.JSON()
	after, err := list.ApplyWithOptions(before, options)
	if err != nil {
		// The library does not say which operation failed. The patches up to it work, and those beyond do not.
		failed := sort.Search(len(list), func(i int) bool {
			_, err := list[:i+1].ApplyWithOptions(before, options)
			return err != nil
		})
		failed = min(failed, len(list)-1)
		_, err = list[:failed+1].ApplyWithOptions(before, options)
		return nil, operationError(&operations.Kids[failed], failed, err, limits)
	}
	patched, err := fhir.ParseJSON(after)
	if err != nil {
		return nil, fhir.NewError(fhir.Unprocessable, fhir.CodeStructure, "The patch makes something that cannot be stored: "+err.Error()).
			Because(err).Coded("patch-failed")
	}
	if err := checkPatched(n, patched); err != nil {
		return nil, err
	}
	return patched, nil
}

// badOperation says what is wrong with the form of an operation (RFC 6902 section 4), or "".
func badOperation(op *fhir.Node) string {
	if op.Kind != fhir.Object {
		return "it must be an object"
	}
	kind := op.GetText("op")
	switch kind {
	case "add", "replace", "test":
		if op.Get("value") == nil {
			return fmt.Sprintf("%q needs a value", kind)
		}
	case "move", "copy":
		if why := badPointer(op, "from"); why != "" {
			return why
		}
		if from, path := op.GetText("from"), op.GetText("path"); kind == "move" && strings.HasPrefix(path, from+"/") {
			return "nothing can be moved into itself"
		}
	case "remove":
	default:
		return `"op" must be add, remove, replace, move, copy or test`
	}
	if op.GetText("path") == "" && op.Get("path") != nil && kind != "test" {
		return "it concerns the whole resource; replace that with an update (PUT)"
	}
	return badPointer(op, "path")
}

func badPointer(op *fhir.Node, name string) string {
	pointer := op.Get(name)
	if pointer == nil || pointer.Kind != fhir.String {
		return fmt.Sprintf("it needs %q, a JSON Pointer such as /name/0/family", name)
	}
	text := pointer.Text
	if text != "" && text[0] != '/' {
		return fmt.Sprintf("%q must be a JSON Pointer, which begins with a slash, such as /name/0/family", name)
	}
	for i := 0; i < len(text); i++ {
		if text[i] == '~' && (i+1 == len(text) || text[i+1] != '0' && text[i+1] != '1') {
			return fmt.Sprintf("%q has a ~ that is neither ~0 nor ~1 (RFC 6901)", name)
		}
	}
	return ""
}

func operationError(op *fhir.Node, index int, err error, limits patchLimits) error {
	what := fmt.Sprintf("Operation %d of the patch (%s %s) ", index, op.GetText("op"), shorten(op.GetText("path")))
	at := fmt.Sprintf("[%d]", index)
	var copied *jsonpatch.AccumulatedCopySizeError
	switch {
	case errors.As(err, &copied):
		return fhir.NewError(fhir.TooLarge, fhir.CodeTooLong, fmt.Sprintf("%sadds more than the %d bytes that copying may add", what, limits.copied)).
			At(at).Because(err).Coded("patch-too-large")
	case errors.Is(err, jsonpatch.ErrTestFailed):
		return fhir.NewError(fhir.Unprocessable, fhir.CodeProcessing, what+"failed: the resource has another value there").
			At(at).Because(err).Coded("patch-test-failed")
	case errors.Is(err, jsonpatch.ErrInvalidIndex):
		return fhir.NewError(fhir.Unprocessable, fhir.CodeProcessing, what+"names a list item that does not exist").
			At(at).Because(err).Coded("patch-failed")
	}
	return fhir.NewError(fhir.Unprocessable, fhir.CodeProcessing, what+"names an element that the resource does not have").
		At(at).Because(err).Coded("patch-failed")
}

// checkPatched makes sure that a patch left the identity of the resource alone.
func checkPatched(before, after *fhir.Node) error {
	for _, name := range []string{"resourceType", "id"} {
		was, is := before.Get(name), after.Get(name)
		if was == nil && is == nil || was != nil && is != nil && was.Equal(is) {
			continue
		}
		return fhir.NewError(fhir.Unprocessable, fhir.CodeBusinessRule, "A patch may not change "+name).
			At(before.ResourceType() + "." + name).Coded("patch-identity")
	}
	return nil
}

// shorten cuts a piece of the client's input to what a message can hold.
func shorten(s string) string {
	if len(s) > 100 {
		return strings.ToValidUTF8(s[:100], "") + "…"
	}
	return s
}
