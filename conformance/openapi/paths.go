package openapi

import (
	"slices"
	"strings"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/search"
)

const fhirJSON = "application/fhir+json"

// typePaths are the paths of a resource type.
func (d *document) typePaths() fhir.Node {
	t := d.typ
	id := pathParameter("id", "The logical id")
	body := d.body(t, d.example(t), "The resource")
	if t == "Binary" {
		body.Get("content").Set("*/*", anyContent())
	}
	patch := obj(fhir.Boolean(true).As("required"), obj(
		obj(obj(text("type", "array"), obj(text("type", "object")).As("items")).As("schema"),
			fhir.Arr(obj(text("op", "add"), text("path", "/language"), text("value", "en"))).As("example")).As("application/json-patch+json"),
		obj(d.use("Parameters").As("schema")).As(fhirJSON),
	).As("content"))
	ifMatch := header("If-Match", `Only if this is still the version: W/"3"`)
	ifNoneExist := header("If-None-Exist", "Create only where these criteria match nothing: identifier=system|value")
	paths := fhir.Obj()
	params, criteria := d.searchParameters(t), d.conditions(t)
	paths.Set("/"+t, obj(
		d.call("search"+t, "Search", "Finds resources. The answer is a page; its links lead on.", params, nil, d.answer("Bundle", "A page of matches"), "400", "401", "403").As("get"),
		d.call("create"+t, "Create", "Makes a resource under an id of the server's.", []fhir.Node{ifNoneExist, prefer()}, &body, d.created(t), "400", "401", "403", "412", "422").As("post"),
		d.call("conditionalUpdate"+t, "Update by criteria", "Updates the one resource that the criteria match, or makes it.", append([]fhir.Node{ifMatch, prefer()}, criteria...), &body, d.created(t), "400", "401", "403", "409", "412", "422").As("put"),
		d.call("conditionalPatch"+t, "Patch by criteria", "Patches the one resource that the criteria match.", append([]fhir.Node{ifMatch, prefer()}, criteria...), &patch, d.answer(t, "The new version"), "400", "401", "403", "404", "412", "422").As("patch"),
		d.call("conditionalDelete"+t, "Delete by criteria", "Deletes what the criteria match.", criteria, nil, gone(), "400", "401", "403", "412").As("delete"),
	))
	form := obj(obj(obj(obj(text("type", "object"), obj(text("type", "string")).As("additionalProperties")).As("schema")).As("application/x-www-form-urlencoded")).As("content"))
	paths.Set("/"+t+"/_search", obj(d.call("searchForm"+t, "Search by form", "Like Search, with the parameters in the body: they stay out of logs.", nil, &form, d.answer("Bundle", "A page of matches"), "400", "401", "403").As("post")))
	paths.Set("/"+t+"/{id}", obj(
		fhir.Arr(id).As("parameters"),
		d.call("read"+t, "Read", "The current version.", []fhir.Node{header("If-None-Match", `304 if this is still the version: W/"3"`), summary(), elements()}, nil, d.represented(t, "The resource"), "304", "401", "403", "404", "410").As("get"),
		d.call("update"+t, "Update", "Makes the next version, or the resource itself under this id.", []fhir.Node{ifMatch, prefer()}, &body, d.created(t), "400", "401", "403", "409", "412", "422").As("put"),
		d.call("patch"+t, "Patch", "JSON Patch (RFC 6902) or FHIRPath Patch.", []fhir.Node{ifMatch, prefer()}, &patch, d.answer(t, "The new version"), "400", "401", "403", "404", "409", "412", "422").As("patch"),
		d.call("delete"+t, "Delete", "Deletes the resource; its history stays.", []fhir.Node{ifMatch}, nil, gone(), "401", "403", "409", "412").As("delete"),
	))
	paths.Set("/"+t+"/{id}/_history", obj(fhir.Arr(id).As("parameters"),
		d.call("history"+t, "History", "The versions, newest first.", historyParameters(), nil, d.answer("Bundle", "A page of versions"), "400", "401", "403", "404").As("get")))
	paths.Set("/"+t+"/{id}/_history/{vid}", obj(fhir.Arr(id, pathParameter("vid", "The version id")).As("parameters"),
		d.call("vread"+t, "Read a version", "One version as it was.", nil, nil, d.represented(t, "The version"), "401", "403", "404", "410").As("get")))
	paths.Set("/"+t+"/_history", obj(
		d.call("typeHistory"+t, "History of the type", "The versions of all resources of the type, newest first.", historyParameters(), nil, d.answer("Bundle", "A page of versions"), "400", "401", "403").As("get")))
	if slices.Contains(d.ReadOnly, t) {
		paths.Remove("/" + t + "/_history")
		for i := range paths.Kids {
			for _, method := range []string{"post", "put", "patch", "delete"} {
				if !strings.HasSuffix(paths.Kids[i].Name, "/_search") {
					paths.Kids[i].Remove(method)
				}
			}
		}
	}
	for _, o := range d.Operations {
		if !o.On(t) {
			continue
		}
		if o.Type {
			d.operation(&paths, o, "/"+t+"/$"+o.Code, "type", nil)
		}
		if o.Instance {
			d.operation(&paths, o, "/"+t+"/{id}/$"+o.Code, "instance", []fhir.Node{id})
		}
	}
	return paths
}

// systemPaths are the paths that concern the whole server.
func (d *document) systemPaths() fhir.Node {
	bundle := d.body("Bundle", transactionExample(), "A batch or a transaction")
	paths := fhir.Obj()
	paths.Set("/metadata", obj(d.call("capabilities", "Capabilities", "What this server can do.", []fhir.Node{query("mode", "full or terminology")}, nil, d.answer("CapabilityStatement", "The CapabilityStatement"), "304").As("get")))
	paths.Set("/", obj(
		d.call("searchSystem", "Search all types", "Finds resources of the types in _type.", d.searchParameters("Resource"), nil, d.answer("Bundle", "A page of matches"), "400", "401", "403").As("get"),
		d.call("bundle", "Batch or transaction", "A transaction does all of its entries or none; the entries of a batch are independent.", []fhir.Node{header("Idempotency-Key", "Makes it safe to send the same again"), prefer()}, &bundle, d.answer("Bundle", "The answers of the entries"), "400", "401", "403", "409", "412", "413", "422").As("post"),
	))
	paths.Set("/_history", obj(d.call("historySystem", "History of everything", "All versions, newest first.", historyParameters(), nil, d.answer("Bundle", "A page of versions"), "400", "401", "403").As("get")))
	for _, o := range d.Operations {
		if o.System {
			d.operation(&paths, o, "/$"+o.Code, "system", nil)
		}
	}
	return paths
}

// operation describes a FHIR operation at one level: POST, and GET where it changes nothing and its parameters fit
// into a URL.
func (d *document) operation(paths *fhir.Node, o *conformance.Operation, path, level string, fixed []fhir.Node) {
	out := "Parameters"
	for _, p := range o.Out {
		if p.Name == "return" && len(o.Out) == 1 {
			if out = p.Type; out == "" {
				out = "Resource"
			}
		}
	}
	example := fhir.Obj(text("resourceType", "Parameters"))
	var list, inURL []fhir.Node
	for _, p := range o.In {
		t := d.registry.Schema().Type(p.Type)
		simple := t != nil && t.Kind == fhir.Primitive
		if simple || p.Type == "Reference" || p.Type == "Coding" {
			q := query(p.Name, p.Documentation)
			if p.Min > 0 {
				q.Set("required", fhir.Boolean(true))
			}
			inURL = append(inURL, q)
		}
		if p.Min > 0 && simple {
			list = append(list, obj(text("name", p.Name), sampleOf(p.Type).As("value"+strings.ToUpper(p.Type[:1])+p.Type[1:])))
		}
	}
	if o.Searches {
		inURL = append(inURL, d.searchParameters(d.typ)...)
	}
	if len(list) > 0 {
		example.Set("parameter", fhir.Arr(list...))
	}
	body := d.body("Parameters", example, "The arguments")
	body.Remove("required")
	answer := func() fhir.Node { return d.answer(out, "The answer") }
	if o.Code == "graphql" { // what it takes and gives is no FHIR
		inURL = append(inURL, query("variables", "An object of JSON"), query("operationName", "Which of several operations of the query"))
		body, answer = graphqlBody(), graphqlAnswer
	}
	item := fhir.Obj()
	if fixed != nil {
		item.Set("parameters", fhir.Arr(fixed...))
	}
	name := strings.NewReplacer("-", "_").Replace(o.Code) + "_" + level + "_" + d.typ
	failures := []string{"400", "401", "403", "404", "409", "422"}
	if o.Code == "graphql" {
		failures = []string{"401"} // which comes before anything is known of the query
	}
	if o.ByGet() {
		item.Set("get", d.call(name+"_get", "$"+o.Code, o.Description, inURL, nil, answer(), failures...))
	}
	answers := answer()
	if o.AffectsState {
		answers.Set("202", obj(text("description", "It was begun, and goes on after this answer.")))
	}
	item.Set("post", d.call(name, "$"+o.Code, o.Description, nil, &body, answers, failures...))
	paths.Set(path, item)
}

// graphqlBody is a query as GraphQL sends it (FHIR R4 graphql.html).
func graphqlBody() fhir.Node {
	const sample = "{ __typename }"
	member := func(name, typ string) fhir.Node { return obj(text("type", typ)).As(name) }
	object := obj(text("type", "object"), obj(member("query", "string"), member("variables", "object"), member("operationName", "string")).As("properties"))
	return obj(text("description", "The query"), obj(
		obj(object.As("schema"), obj(text("query", sample)).As("example")).As("application/json"),
		obj(obj(text("type", "string")).As("schema"), text("example", sample)).As("application/graphql"),
	).As("content"))
}

// graphqlAnswer has data, or errors with an OperationOutcome each.
func graphqlAnswer() fhir.Node {
	answers := obj()
	for _, a := range [][2]string{{"200", "What the query selects"}, {"400", "No query, or one that cannot be answered"}, {"403", "It asks for what the caller may not do"},
		{"404", "The resource that it is about is not there"}, {"422", "It takes more than the server does for one query"}} {
		object := obj(text("type", "object"), obj(obj(text("type", "object")).As("data"), obj(text("type", "array"), obj(text("type", "object")).As("items")).As("errors")).As("properties"))
		answers.Set(a[0], obj(text("description", a[1]), obj(obj(object.As("schema")).As("application/json")).As("content")))
	}
	return answers
}

// call is one method of one path; id names it for generated clients.
func (d *document) call(id, title, description string, parameters []fhir.Node, body *fhir.Node, answers fhir.Node, failures ...string) fhir.Node {
	tag := d.typ
	if tag == "" {
		tag = System
	}
	n := obj(strs(tag).As("tags"), text("operationId", id), text("summary", title), text("description", description))
	if len(parameters) > 0 {
		n.Set("parameters", fhir.Arr(parameters...))
	}
	if body != nil {
		n.Set("requestBody", *body)
	}
	names := map[string]string{"400": "BadRequest", "401": "Unauthorized", "403": "Forbidden", "404": "NotFound", "409": "Conflict", "410": "Gone", "412": "Precondition", "422": "Unprocessable"}
	for _, status := range failures {
		if status == "304" {
			answers.Set(status, obj(text("description", "What the caller has is current.")))
			continue
		}
		name := names[status]
		if name == "" {
			name = "Default"
		}
		answers.Set(status, obj(text("$ref", "#/components/responses/"+name)))
	}
	answers.Set("default", obj(text("$ref", "#/components/responses/Default")))
	n.Set("responses", answers)
	return n
}

func (d *document) body(typ string, example fhir.Node, description string) fhir.Node {
	return obj(text("description", description), fhir.Boolean(true).As("required"), obj(
		obj(d.use(typ).As("schema"), example.As("example")).As(fhirJSON)).As("content"))
}

// represented is the answer of a read. A Binary also comes as what it holds (FHIR R4 binary.html#rest).
func (d *document) represented(typ, description string) fhir.Node {
	n := d.answer(typ, description)
	if typ == "Binary" {
		n.Get("200").Get("content").Set("*/*", anyContent())
	}
	return n
}

func anyContent() fhir.Node {
	return obj(obj(text("type", "string"), text("format", "binary")).As("schema"))
}

func (d *document) answer(typ, description string) fhir.Node {
	return obj(obj(text("description", description), obj(obj(d.use(typ).As("schema")).As(fhirJSON)).As("content")).As("200"))
}

// created is the answers of what may make a resource.
func (d *document) created(typ string) fhir.Node {
	n := d.answer(typ, "The version that there is now")
	n.Set("201", obj(text("description", "It was made; Location says where."), obj(obj(d.use(typ).As("schema")).As(fhirJSON)).As("content")))
	return n
}

func gone() fhir.Node {
	n := obj(obj(text("description", "What was deleted, where Prefer asks for an outcome")).As("200"))
	n.Set("204", obj(text("description", "It is not there, or not any more.")))
	return n
}

// searchParameters are those of a type, with their meanings, and those that shape the answer.
func (d *document) searchParameters(typ string) []fhir.Node {
	return append(d.conditions(typ), d.commons(typ, true)...)
}

// conditions are the parameters that criteria may have.
func (d *document) conditions(typ string) []fhir.Node {
	var list []fhir.Node
	for _, p := range d.registry.SearchParameters(typ) {
		if !d.Offered(p) {
			continue
		}
		meaning := string(p.Type) + ": " + p.Description
		if len(p.Targets) > 0 {
			meaning += " (" + strings.Join(p.Targets, ", ") + ")"
		}
		list = append(list, query(p.Code, meaning))
	}
	return append(list, d.commons(typ, false)...)
}

func (d *document) commons(typ string, shaping bool) (list []fhir.Node) {
	for _, c := range search.Commons() {
		if c.Shapes == shaping && (!c.System || typ == "Resource") {
			list = append(list, query(c.Name, c.Meaning))
		}
	}
	return list
}

func historyParameters() []fhir.Node {
	return []fhir.Node{query("_since", "Only versions from this instant on"), query("_at", "What was current at this time"), query("_count", "How many versions a page has")}
}

func summary() fhir.Node { return query("_summary", "true, text, data or false") }

func elements() fhir.Node { return query("_elements", "Only these elements: name,birthDate") }

func prefer() fhir.Node {
	return header("Prefer", "return=minimal, return=representation or return=OperationOutcome")
}

func query(name, description string) fhir.Node {
	return parameter(name, "query", description)
}

func header(name, description string) fhir.Node { return parameter(name, "header", description) }

func pathParameter(name, description string) fhir.Node {
	n := parameter(name, "path", description)
	n.Set("required", fhir.Boolean(true))
	return n
}

func parameter(name, in, description string) fhir.Node {
	return obj(text("name", name), text("in", in), text("description", description), obj(text("type", "string")).As("schema"))
}
