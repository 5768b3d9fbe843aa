package auth

import (
	"fmt"
	"slices"
	"strings"

	"kiln/conformance"
	"kiln/fhir/search"
)

// RoleSystem is the role of a client that acts for itself, with scopes of the level system.
const RoleSystem Role = "system"

// PolicyRule lets a role do some actions with resources of some types. The rules are rows of the table role_policy.
type PolicyRule struct {
	Role    Role
	Types   []string // names, or the groups below
	Actions Actions
	Reach   search.Reach
}

// Groups of types in a PolicyRule.
const (
	TypesAll       = "*"
	TypesOfPatient = "@patient" // those that belong to patients
	TypesShared    = "@shared"  // those that belong to nobody
)

// Policy is what roles may do. It is immutable. The zero value lets nobody do anything.
type Policy struct {
	rules    []PolicyRule
	registry *conformance.Registry
}

// ofPatient are types that belong to patients although CompartmentDefinition/patient does not list them.
var ofPatient = []string{"Patient", "Device", "Task", "Binary", "GuidanceResponse", "Contract"}

// shared are the types that belong to nobody: who treats where, and what things mean. A type that is in neither list,
// such as Bundle or MessageHeader, is for those alone who may see everything.
var shared = []string{
	"ActivityDefinition", "CapabilityStatement", "CatalogEntry", "ChargeItemDefinition", "CodeSystem", "CompartmentDefinition", "ConceptMap",
	"Device", "DeviceDefinition", "EffectEvidenceSynthesis", "Endpoint", "EventDefinition", "Evidence", "EvidenceVariable", "ExampleScenario",
	"GraphDefinition", "HealthcareService", "ImplementationGuide", "InsurancePlan", "Library", "Location", "Measure", "Medication",
	"MedicationKnowledge", "MedicinalProduct", "MedicinalProductAuthorization", "MedicinalProductContraindication", "MedicinalProductIndication",
	"MedicinalProductIngredient", "MedicinalProductInteraction", "MedicinalProductManufactured", "MedicinalProductPackaged",
	"MedicinalProductPharmaceutical", "MedicinalProductUndesirableEffect", "MessageDefinition", "NamingSystem", "ObservationDefinition",
	"OperationDefinition", "Organization", "OrganizationAffiliation", "PlanDefinition", "Practitioner", "PractitionerRole", "Questionnaire",
	"ResearchDefinition", "ResearchElementDefinition", "ResearchStudy", "RiskEvidenceSynthesis", "Schedule", "SearchParameter", "Slot",
	"SpecimenDefinition", "StructureDefinition", "StructureMap", "Substance", "SubstanceNucleicAcid", "SubstancePolymer", "SubstanceProtein",
	"SubstanceReferenceInformation", "SubstanceSourceMaterial", "SubstanceSpecification", "TerminologyCapabilities", "TestScript", "ValueSet",
}

// RecordTypes are the types that a patient's record is made of: those of CompartmentDefinition/patient, and those that this
// server counts to it. Group is none of them: one resource names many patients.
func RecordTypes(registry *conformance.Registry) []string {
	compartment := registry.Compartment("Patient")
	var types []string
	for _, t := range registry.Schema().Resources {
		if (len(compartment.Params(t)) > 0 || slices.Contains(ofPatient, t)) && t != "Group" {
			types = append(types, t)
		}
	}
	return types
}

// NewPolicy makes a policy of rules, with the groups of types resolved. Errors: for a type that does not exist.
func NewPolicy(rules []PolicyRule, registry *conformance.Registry) (*Policy, error) {
	p := &Policy{registry: registry}
	for _, r := range rules {
		var types []string
		for _, name := range r.Types {
			switch name {
			case TypesAll:
				types = append(types, registry.Schema().Resources...)
			case TypesOfPatient:
				types = append(types, RecordTypes(registry)...)
			case TypesShared:
				types = append(types, shared...)
			default:
				if !isResource(registry, name) {
					return nil, fmt.Errorf("auth: the policy of the role %s names %q, which is no resource type", r.Role, name)
				}
				types = append(types, name)
			}
		}
		slices.Sort(types)
		r.Types = slices.Compact(types)
		// Practitioners never read the log of who looked at what, and patients only read it.
		if r.Role == RolePractitioner || r.Role == RolePatient && r.Actions&(Create|Update|Delete) != 0 {
			r.Types = slices.DeleteFunc(r.Types, func(t string) bool { return t == "AuditEvent" })
		}
		p.rules = append(p.rules, r)
	}
	return p, nil
}

// ParseReach reads the reach of a row of role_policy. What it does not know goes nowhere.
func ParseReach(s string) search.Reach {
	return map[string]search.Reach{"own": search.ReachOwn, "treated": search.ReachTreated, "self": search.ReachSelf,
		"shared": search.ReachShared, "any": search.ReachAny}[s]
}

// Restriction is what a principal may do of one action: its scopes, within its roles. Labels, consents and relationships
// are for the database to judge; it is told here which of them bind.
//
// Errors: for a scope whose parameters do not exist.
func (p *Policy) Restriction(who *Principal, action Actions, catalog search.Catalog) (*search.Restriction, error) {
	typ, id := who.Self()
	r := &search.Restriction{Caller: who.Caller(), Context: who.Patient, Purpose: who.Purpose}
	roles := who.Roles
	if who.User == "" {
		roles = []Role{RoleSystem}
	}
	// A context that is not a valid id leads nowhere; a role without its resource has no compartment to reach.
	for _, role := range roles {
		r.Roles = append(r.Roles, string(role))
		switch {
		case role == RolePatient && typ == "Patient":
			r.Record = id
		case role == RolePatient && typ == "RelatedPerson" && who.Represents != "":
			r.Record, r.Proxy = who.Represents, who.FHIRUser
		case role == RolePractitioner && typ == "Practitioner":
			r.Self = who.FHIRUser
		}
		if role == RolePatient {
			for _, other := range who.Others {
				record := search.Record{Patient: other.Patient}
				if strings.HasPrefix(other.Link, "RelatedPerson/") {
					record.Proxy = other.Link
				}
				r.Others = append(r.Others, record)
			}
		}
	}
	r.Consent = who.User != ""
	for _, s := range who.Scopes {
		if !s.Actions.Has(action) || (s.Level == LevelSystem) != (who.User == "") {
			continue
		}
		if s.Level == LevelPatient && who.Patient == "" {
			continue
		}
		for _, rule := range p.rules {
			if !slices.Contains(roles, rule.Role) || !rule.Actions.Has(action) {
				continue
			}
			types := rule.Types
			if s.Type != "*" {
				if _, found := slices.BinarySearch(types, s.Type); !found {
					continue
				}
				types = []string{s.Type}
			}
			rules, err := s.rules(types, rule.Reach, catalog)
			if err != nil {
				return nil, err
			}
			r.Rules = append(r.Rules, rules...)
		}
	}
	if action == Read && who.ReadsSelf() {
		if r.User = who.FHIRUser; !opensUser(r) {
			r.Rules = append(r.Rules, search.Rule{Types: []string{typ}, Reach: search.ReachUser})
		}
	}
	return r, nil
}

// opensUser says whether the rules open the resource that stands for the caller anyway, whatever is stored.
func opensUser(r *search.Restriction) bool {
	typ, id, _ := strings.Cut(r.User, "/")
	own := (r.Context == "" || r.Context == r.Record) && (typ == "Patient" && id == r.Record || r.User == r.Proxy)
	return slices.ContainsFunc(r.Rules, func(rule search.Rule) bool {
		return len(rule.Where) == 0 && slices.Contains(rule.Types, typ) &&
			(rule.Reach == search.ReachAny && !rule.Context || rule.Reach == search.ReachShared && typ == "Practitioner" || rule.Reach == search.ReachOwn && own)
	})
}

// rules are a scope as rules for some types.
func (s *Scope) rules(types []string, reach search.Reach, catalog search.Catalog) ([]search.Rule, error) {
	context := s.Level == LevelPatient
	if len(s.Params) == 0 {
		return []search.Rule{{Types: types, Reach: reach, Context: context}}, nil
	}
	list := make([]search.Rule, 0, len(types))
	pairs := make([]search.Pair, len(s.Params))
	for i, p := range s.Params {
		pairs[i] = search.Pair{Name: p.Name, Value: p.Value}
	}
	for _, t := range types {
		q, err := search.Parse(pairs, catalog, search.Options{Types: []string{t}, ConditionsOnly: true})
		if err != nil {
			return nil, fmt.Errorf("the scope %.100q cannot be used: %w", s.Text, err)
		}
		rule := search.Rule{Types: []string{t}, Reach: reach, Context: context}
		for _, e := range q.Where {
			m, ok := e.(*search.Match)
			if !ok || m.Modifier != "" {
				return nil, fmt.Errorf("the scope %.100q cannot be used: it is more than plain conditions", s.Text)
			}
			rule.Where = append(rule.Where, m)
		}
		if len(rule.Where) != len(s.Params) {
			return nil, fmt.Errorf("the scope %.100q cannot be used: not all of its conditions count", s.Text)
		}
		list = append(list, rule)
	}
	return list, nil
}

// Allowed are the types with any resource of which a principal may do an action: what a refusal with 403 goes by. "" is among them where
// there is one.
func Allowed(r *search.Restriction) map[string]bool {
	types := map[string]bool{}
	for _, rule := range r.Rules {
		if rule.Reach == search.ReachNone || rule.Context && r.Context == "" ||
			rule.Reach == search.ReachOwn && !r.HasRecord() || (rule.Reach == search.ReachTreated || rule.Reach == search.ReachSelf) && r.Self == "" {
			continue
		}
		types[""] = true
		for _, typ := range rule.Types {
			types[typ] = true
		}
	}
	return types
}

// ActionsOf reads the actions of a row of role_policy; what cannot be read allows nothing.
func ActionsOf(letters string) Actions {
	a, err := ParseActions(strings.TrimSpace(letters))
	if err != nil {
		return 0
	}
	return a
}
