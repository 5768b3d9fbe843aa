package resources

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"kiln/fhir"
	"kiln/storage/terminology"
)

// validateInSet is ValueSet/$validate-code. Spec: FHIR R4 valueset-operation-validate-code.html.
//
// Errors: NotFound for a value set that is not here, and for a code system that is not here where the answer depends on it.
func (s *Service) validateInSet(ctx context.Context, c *call) (*Response, error) {
	codings, err := c.codings("system", "systemVersion")
	if err != nil {
		return nil, err
	}
	if codings[0].System == "" && c.first("code") != nil && c.first("context") == nil {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeRequired, "$validate-code needs the system of the code").At("Parameters")
	}
	r, err := s.resolver(ctx, c)
	if err != nil {
		return nil, err
	}
	set, err := s.valueSet(ctx, c, r)
	if err != nil {
		return nil, err
	}
	name := set.URL
	if name == "" {
		name = "given"
	}
	return judge(c, codings, func(q terminology.Coding) (*terminology.Finding, string, error) {
		f, err := r.Validate(ctx, set, q, c.text("displayLanguage"))
		switch {
		case err != nil:
			return nil, "", err
		case f.Member:
			return f, "", nil
		case f.Found:
			return f, fmt.Sprintf("The code %s is not in the value set %s", shownCode(q), quote(name)), nil
		}
		return f, fmt.Sprintf("The code %s is not in the value set %s, and nothing here knows it", shownCode(q), quote(name)), nil
	})
}

// validateInSystem is CodeSystem/$validate-code. Spec: FHIR R4 codesystem-operation-validate-code.html.
//
// Errors: NotFound for a code system that is not here.
func (s *Service) validateInSystem(ctx context.Context, c *call) (*Response, error) {
	codings, err := c.codings("url", "version")
	if err != nil {
		return nil, err
	}
	r, err := s.resolver(ctx, c)
	if err != nil {
		return nil, err
	}
	var system *terminology.System
	if n := c.resource("codeSystem"); n != nil {
		if c.ID != "" || c.first("url") != nil {
			return nil, fhir.NewError(fhir.Invalid, fhir.CodeInvalid, "$validate-code takes one code system: codeSystem, url or an instance").At(c.first("codeSystem").at)
		}
		if system, err = terminology.SystemOf(n); err != nil {
			return nil, err
		}
	} else {
		url := c.text("url")
		if url == "" && c.ID == "" {
			url = codings[0].System
		}
		if url == "" && c.ID == "" {
			return nil, fhir.NewError(fhir.Invalid, fhir.CodeRequired, "$validate-code needs one of url, codeSystem, or a coding with a system").At("Parameters")
		}
		if system, err = s.codeSystem(ctx, c, r, url, c.text("version")); err != nil {
			return nil, err
		}
	}
	return judge(c, codings, func(q terminology.Coding) (*terminology.Finding, string, error) {
		if q.System != "" && q.System != system.URL {
			return &terminology.Finding{}, fmt.Sprintf("The code %s is of another code system than %s", shownCode(q), quote(system.URL)), nil
		}
		if q.Version != "" && q.Version != system.Version {
			return &terminology.Finding{}, fmt.Sprintf("The code %s is of the version %s of its code system, not %s", shownCode(q), quote(q.Version), quote(system.Version)), nil
		}
		f, err := r.Find(ctx, system, q.Code, c.text("displayLanguage"))
		if err != nil {
			return nil, "", err
		}
		if f == nil && !system.Complete() {
			return nil, "", terminology.Incomplete(system)
		}
		if f == nil {
			return &terminology.Finding{}, fmt.Sprintf("The code %s is not in the code system %s", quote(q.Code), quote(system.URL)), nil
		}
		f.Member = true
		return f, "", nil
	})
}

func shownCode(q terminology.Coding) string {
	if q.System == "" {
		return quote(q.Code)
	}
	return quote(q.System + "|" + q.Code)
}

// judge asks about each coding. The result is true when one of them passes, and false when all were looked at and none
// does; where none passes and one could not be looked at, nobody knows.
func judge(c *call, codings []terminology.Coding, ask func(terminology.Coding) (*terminology.Finding, string, error)) (*Response, error) {
	var passed *terminology.Finding
	var messages []string
	var display string
	var unknown error
	for _, q := range codings {
		f, message, err := ask(q)
		var told *fhir.Error
		if err != nil {
			if !errors.As(err, &told) || told.Kind == fhir.Internal || told.Kind == fhir.Transient {
				return nil, err
			}
			unknown = err
			messages = append(messages, told.Error())
			continue
		}
		fine := message == ""
		switch {
		case !fine:
		case f.Abstract && !c.is("abstract"):
			fine, message = false, fmt.Sprintf("The code %s groups others and is not for use itself; abstract=true allows it", shownCode(q))
		case q.Display != "" && f.Display != "" && !f.Calls(q.Display):
			fine, message = false, fmt.Sprintf("%s is not a display of the code %s; it is %s", quote(q.Display), shownCode(q), quote(f.Display))
		case f.Unchecked:
			message = fmt.Sprintf("The value set lists the code %s; this server does not have the code system %s to check it with", shownCode(q), quote(f.System))
		case f.Inactive:
			message = fmt.Sprintf("The code %s is inactive", shownCode(q))
		}
		if message != "" {
			messages = append(messages, message)
		}
		if f.Display != "" && (display == "" || fine && passed == nil) {
			display = f.Display
		}
		if fine && passed == nil {
			passed = f
		}
	}
	if passed == nil && unknown != nil {
		return nil, unknown
	}
	list := []fhir.Node{named("result", "valueBoolean", fhir.Boolean(passed != nil))}
	if len(messages) > 0 {
		list = append(list, named("message", "valueString", fhir.Str(strings.Join(messages, ". "))))
	}
	if display != "" {
		list = append(list, named("display", "valueString", fhir.Str(display)))
	}
	return &Response{Resource: parameters(list...)}, nil
}
