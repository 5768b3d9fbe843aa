package search

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"kiln/fhir"
)

// value reads one value; reason says what is wrong with it, "" for nothing.
func (p *parser) value(param Param, modifier, raw string) (v Value, reason string) {
	v.Raw = unescape(raw)
	switch param.Kind {
	case Number:
		return p.number(v, raw)
	case Date:
		return p.date(v, param, raw)
	case Quantity:
		return p.quantity(v, raw)
	case Token:
		return token(v, modifier, raw)
	case Reference:
		return p.reference(v, param, modifier, raw)
	case Composite:
		return p.composite(v, param, raw)
	case Special:
		if param.Code == "near" {
			return near(v, raw)
		}
	case String:
		if isText(param) {
			return text(v)
		}
	}
	return v, ""
}

var prefixes = []string{"eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"}

func cutPrefix(raw string) (prefix, rest string) {
	if len(raw) >= 2 && slices.Contains(prefixes, raw[:2]) {
		return raw[:2], raw[2:]
	}
	return "eq", raw
}

func (p *parser) number(v Value, raw string) (Value, string) {
	var ok bool
	v.Prefix, raw = cutPrefix(raw)
	if v.Number, ok = fhir.ParseDecimal(raw); !ok {
		return v, fmt.Sprintf("%q is no number.", raw)
	}
	return v, ""
}

func (p *parser) date(v Value, param Param, raw string) (Value, string) {
	v.Prefix, raw = cutPrefix(raw)
	if strings.Contains(raw, "T") {
		raw = strings.Replace(raw, " ", "+", 1) // the + of an offset, read as a blank by form decoding
	}
	zone := p.options.Zone
	if p.query.Zone != nil && !(param.Days && !strings.Contains(raw, "T")) {
		zone = p.query.Zone
	}
	d, ok := fhir.ParseDateTime(raw, zone)
	if !ok {
		return v, fmt.Sprintf("%q is no date: it takes YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with an offset, after an optional prefix.", raw)
	}
	v.Low, v.High = d.Time, d.End()
	if v.Prefix == "ap" { // within a tenth of the distance to now (R4 search.html#prefix), and a day at least
		slack := max(p.options.Now.Sub(v.Low).Abs()/10, 24*time.Hour)
		v.Low, v.High = v.Low.Add(-slack), v.High.Add(slack)
	}
	return v, ""
}

func (p *parser) quantity(v Value, raw string) (Value, string) {
	parts := split(raw, '|')
	if len(parts) != 1 && len(parts) != 3 {
		return v, fmt.Sprintf("%q is no quantity: it takes number or number|system|code.", raw)
	}
	v, reason := p.number(v, parts[0])
	if len(parts) == 3 {
		v.System, v.Code = unescape(parts[1]), unescape(parts[2])
	}
	return v, reason
}

func token(v Value, modifier, raw string) (Value, string) {
	if modifier == "text" || modifier == "in" || modifier == "not-in" {
		return v, ""
	}
	parts := split(raw, '|')
	if modifier == "of-type" {
		if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
			return v, fmt.Sprintf("%q must have the form system|code|value.", raw)
		}
		v.System, v.Code, v.OfType = unescape(parts[0]), unescape(parts[1]), unescape(parts[2])
		return v, ""
	}
	if len(parts) > 1 {
		v.HasSystem, v.System = true, unescape(parts[0])
		v.Code = unescape(strings.Join(parts[1:], "|"))
	} else {
		v.Code = unescape(raw)
	}
	if v.System == "" && v.Code == "" {
		return v, "it has neither a system nor a code."
	}
	return v, ""
}

func (p *parser) reference(v Value, param Param, modifier, raw string) (Value, string) {
	if modifier == "identifier" {
		return token(v, "", raw)
	}
	if modifier == "above" || modifier == "below" { // of canonical references too, which need not have the form of others
		if fhir.ValidID(v.Raw) {
			v.Reference.ID = v.Raw
		} else if ref, ok := fhir.ParseReference(v.Raw, p.catalog.IsResource); ok {
			v.Reference = ref
		}
		return v, ""
	}
	if fhir.ValidID(v.Raw) {
		v.Reference.ID = v.Raw
		if p.catalog.IsResource(modifier) {
			v.Reference.Type = modifier
		}
		return v, ""
	}
	ref, ok := fhir.ParseReference(v.Raw, p.catalog.IsResource)
	if !ok || ref.Query != "" || ref.Fragment != "" || ref.Container {
		return v, fmt.Sprintf("%q is no reference: it takes an id, Type/id or a URL.", v.Raw)
	}
	if ref.Type != "" && p.catalog.IsResource(modifier) && ref.Type != modifier {
		return v, fmt.Sprintf("%q does not agree with the modifier :%s.", v.Raw, modifier)
	}
	v.Reference = ref
	return v, ""
}

func (p *parser) composite(v Value, param Param, raw string) (Value, string) {
	parts := split(raw, '$')
	if len(parts) != len(param.Components) {
		return v, fmt.Sprintf("%q must have %d parts with $ between them.", raw, len(param.Components))
	}
	for i, part := range parts {
		c, reason := p.value(param.Components[i], "", part)
		if reason != "" {
			return v, reason
		}
		if part == "" {
			return v, "a part of the composite is empty."
		}
		v.Parts = append(v.Parts, c)
	}
	return v, ""
}
