package openapi

import (
	"slices"

	"kiln/fhir"
)

// use notes that something refers to a type, and gives the reference.
func (d *document) use(typ string) fhir.Node {
	if _, known := d.schemas[typ]; !known {
		d.schemas[typ] = false
	}
	return ref(typ)
}

// allSchemas writes the schemas of all types that something refers to, and of those that they refer to.
func (d *document) allSchemas() fhir.Node {
	all := fhir.Obj()
	for _, always := range []string{"OperationOutcome", "Bundle", "Parameters"} {
		d.use(always)
	}
	for {
		var next []string
		for name, written := range d.schemas {
			if !written {
				next = append(next, name)
			}
		}
		if len(next) == 0 {
			slices.SortFunc(all.Kids, func(a, b fhir.Node) int {
				if a.Name < b.Name {
					return -1
				}
				return 1
			})
			return all
		}
		slices.Sort(next)
		for _, name := range next {
			d.schemas[name] = true
			all.Kids = append(all.Kids, d.schemaOf(name).As(name))
		}
	}
}

// schemaOf writes the schema of one type. Elements whose types could be any, such as those of extensions and contained
// resources, stay open: the validator is what decides, and its answer says where.
func (d *document) schemaOf(name string) fhir.Node {
	t := d.registry.Schema().Type(name)
	switch {
	case t == nil || name == "Resource" || name == "Element":
		return obj(text("type", "object"))
	case t.Kind == fhir.Primitive:
		return primitive(t)
	}
	properties := fhir.Obj()
	var required []string
	if t.Kind == fhir.Resource {
		properties.Set("resourceType", obj(fhir.Str(t.Name).As("const")))
		required = append(required, "resourceType")
	}
	wide := name == "Extension" || name == "Parameters.parameter" || name == "ElementDefinition"
	for _, e := range t.Elements {
		if wide && e.Choice {
			continue
		}
		if e.Min > 0 && !e.Choice {
			required = append(required, e.Name)
		}
		for _, ref := range e.Types {
			property := e.Name
			if e.Choice {
				property += string(ref.Code[0]&^0x20) + ref.Code[1:]
			}
			if properties.Get(property) != nil {
				continue
			}
			value := d.valueOf(ref)
			if e.Max != 1 {
				value = obj(text("type", "array"), value.As("items"))
			}
			properties.Set(property, value)
		}
		if len(e.Types) == 0 {
			properties.Set(e.Name, obj())
		}
	}
	schema := obj(text("type", "object"), properties.As("properties"))
	if t.Kind == fhir.Resource {
		schema.Set("description", fhir.Str("https://hl7.org/fhir/StructureDefinition/"+name))
	}
	if len(required) > 0 {
		schema.Set("required", strs(required...))
	}
	return schema
}

func (d *document) valueOf(ref *fhir.TypeRef) fhir.Node {
	switch {
	case ref.Code == "Resource" || ref.Type == nil:
		return obj(text("type", "object"), text("description", "Any resource"))
	case ref.Type.Kind == fhir.Primitive:
		return primitive(ref.Type)
	}
	return d.use(ref.Type.Name)
}

// primitive is how JSON writes a primitive type.
func primitive(t *fhir.Type) fhir.Node {
	switch t.Name {
	case "boolean":
		return obj(text("type", "boolean"))
	case "integer", "unsignedInt", "positiveInt":
		n := obj(text("type", "integer"))
		switch t.Name {
		case "unsignedInt":
			n.Set("minimum", fhir.Num("0"))
		case "positiveInt":
			n.Set("minimum", fhir.Num("1"))
		}
		return n
	case "decimal":
		return obj(text("type", "number"))
	case "date":
		return obj(text("type", "string"), text("description", "YYYY, YYYY-MM or YYYY-MM-DD"))
	case "dateTime":
		return obj(text("type", "string"), text("description", "A date, or YYYY-MM-DDThh:mm:ss+zz:zz"))
	case "instant":
		return obj(text("type", "string"), text("format", "date-time"))
	case "base64Binary":
		return obj(text("type", "string"), text("contentEncoding", "base64"))
	}
	return obj(text("type", "string"))
}
