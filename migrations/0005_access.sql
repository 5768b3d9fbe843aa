-- Who may see what. docs/access.md tells the rule, docs/adr/0010 why it is made of views and a role.
-- +goose Up

-- What decides over each version: kept beside it, so that an old version is judged by what it said itself.
-- compartments: rows keys of the patients in whose compartment it is; where a type that belongs to patients has none, of the
-- practitioners. NULL: not found out yet ($reindex does); then nobody but operators and administrators sees it.
-- labels: one bit for each security label that restricts (security_label.bit).
ALTER TABLE search_index ADD compartments bigint[], ADD labels integer NOT NULL DEFAULT 0;
ALTER TABLE resource ADD type_number smallint, ADD compartments bigint[], ADD labels integer NOT NULL DEFAULT 0;
ALTER TABLE resource_history ADD type_number smallint, ADD compartments bigint[], ADD labels integer NOT NULL DEFAULT 0;
ALTER TABLE resource_change ADD compartments bigint[], ADD labels integer NOT NULL DEFAULT 0;
ALTER TABLE resource_history DISABLE TRIGGER resource_history_append_only;
UPDATE resource r SET type_number = c.type FROM resource_change c WHERE c.rk = r.rk;
UPDATE resource_history h SET type_number = c.type FROM resource_change c WHERE c.rk = h.rk;
ALTER TABLE resource_history ENABLE TRIGGER resource_history_append_only;
ALTER TABLE resource ALTER type_number SET NOT NULL;
ALTER TABLE resource_history ALTER type_number SET NOT NULL;
DROP INDEX search_index_hashes;
CREATE INDEX search_index_hashes ON search_index USING gin (tokens, refs, compartments) WITH (fastupdate = on, gin_pending_list_limit = 256);

-- Which roles may do what. Change the rows, and all servers follow within seconds. types holds names of resource types,
-- or '*' (all), '@patient' (those that belong to patients) or '@shared' (those that belong to nobody).
CREATE TABLE role_policy (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  role text NOT NULL CHECK (role IN ('patient', 'practitioner', 'admin', 'system')),
  types text[] NOT NULL,
  actions text NOT NULL CHECK (actions ~ '^c?r?u?d?s?$' AND actions <> ''),
  -- own: of the patient who asks; treated: of patients in treatment; self: that names the caller; shared: of nobody; any.
  reach text NOT NULL CHECK (reach IN ('own', 'treated', 'self', 'shared', 'any')),
  note text NOT NULL DEFAULT '');

-- Labels in meta.security that restrict who sees a resource, and which roles are cleared for them.
CREATE TABLE security_label (
  bit smallint PRIMARY KEY CHECK (bit BETWEEN 0 AND 30),
  system text NOT NULL,
  code text NOT NULL,
  cleared text[] NOT NULL DEFAULT '{}', -- roles
  UNIQUE (system, code));

-- What makes a practitioner one who treats a patient. Other times take effect at once, other paths after a $reindex.
CREATE TABLE relationship (
  kind smallint PRIMARY KEY CHECK (kind > 0),
  type text NOT NULL,                   -- of the resource that says so
  actor text NOT NULL,                  -- its reference parameter that leads to the practitioner, role or organization
  patient text NOT NULL,                -- and the one to the patient; '_id': the resource is the patient
  statuses text[],                      -- only with one of these statuses; NULL: any, or none
  before interval, after interval,      -- how long around the resource's period; NULL: always
  confirmed boolean NOT NULL DEFAULT false, -- counts only once somebody else than the practitioner has written it
  enabled boolean NOT NULL DEFAULT true,
  note text NOT NULL DEFAULT '');

-- One row for each patient that a resource puts into somebody's care, written with the resource.
CREATE TABLE treatment (
  source bigint NOT NULL,               -- row key of the resource; 0: break-glass
  kind smallint NOT NULL,               -- relationship.kind; 0: break-glass
  actor bigint NOT NULL,
  patient bigint NOT NULL,
  since timestamptz NOT NULL, until timestamptz NOT NULL, -- the period of the resource
  low timestamptz NOT NULL, high timestamptz NOT NULL,    -- and with before and after
  confirmed boolean NOT NULL DEFAULT true);
CREATE INDEX treatment_actor ON treatment (actor, patient, high);
CREATE INDEX treatment_source ON treatment (source);

-- In which other names a practitioner takes part: PractitionerRoles, and their organizations.
CREATE TABLE acting (
  source bigint NOT NULL,
  practitioner bigint NOT NULL,
  also bigint NOT NULL,
  low timestamptz NOT NULL, high timestamptz NOT NULL);
CREATE INDEX acting_practitioner ON acting (practitioner);
CREATE INDEX acting_source ON acting (source);

-- +goose StatementBegin
CREATE FUNCTION relationship_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE treatment SET low = CASE WHEN NEW.enabled THEN coalesce(since - NEW.before, '-infinity') ELSE 'infinity' END,
    high = CASE WHEN NEW.enabled THEN coalesce(until + NEW.after, 'infinity') ELSE '-infinity' END
  WHERE kind = NEW.kind;
  UPDATE access_state SET changed = changed + 1;
  RETURN NULL;
END $$;
CREATE FUNCTION treatment_bounds() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE r relationship;
BEGIN
  IF NEW.kind > 0 THEN
    SELECT * INTO r FROM relationship WHERE kind = NEW.kind;
    NEW.low := CASE WHEN r.enabled THEN coalesce(NEW.since - r.before, '-infinity') ELSE 'infinity' END;
    NEW.high := CASE WHEN r.enabled THEN coalesce(NEW.until + r.after, 'infinity') ELSE '-infinity' END;
  END IF;
  RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER relationship_changed AFTER UPDATE ON relationship FOR EACH ROW EXECUTE FUNCTION relationship_changed();
CREATE TRIGGER treatment_bounds BEFORE INSERT ON treatment FOR EACH ROW EXECUTE FUNCTION treatment_bounds();

-- The provisions of active Consents for patient privacy, written with the resource. Of those that apply the most
-- specific decides, and between equals the one that denies.
CREATE TABLE consent_rule (
  source bigint NOT NULL,
  patient bigint NOT NULL,
  deny boolean NOT NULL,
  specificity smallint NOT NULL,
  low timestamptz NOT NULL, high timestamptz NOT NULL,
  actors bigint[],                      -- NULL in these four: any
  types smallint[],
  labels integer,
  purposes text[]);
CREATE INDEX consent_rule_patient ON consent_rule (patient);
CREATE INDEX consent_rule_source ON consent_rule (source);

-- Claims of clinicians that a patient's life depends on access. The access itself is a row of treatment.
CREATE TABLE break_glass (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  caller text NOT NULL,
  practitioner text NOT NULL,           -- Practitioner/id
  patient text NOT NULL,                -- Patient/id
  purpose text NOT NULL CHECK (purpose IN ('BTG', 'ETREAT')),
  reason text NOT NULL CHECK (length(reason) BETWEEN 5 AND 2000),
  created timestamptz NOT NULL DEFAULT now(),
  expires timestamptz NOT NULL,
  reviewed timestamptz, reviewer text, verdict text);
CREATE INDEX break_glass_open ON break_glass (id) WHERE reviewed IS NULL;

-- One row: goes up when role_policy, security_label or relationship change, so that servers read them anew.
-- consent_default is what holds for a patient without a Consent.
CREATE TABLE access_state (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  changed bigint NOT NULL DEFAULT 1,
  consent_default text NOT NULL DEFAULT 'permit' CHECK (consent_default IN ('permit', 'deny')));
INSERT INTO access_state DEFAULT VALUES;
-- +goose StatementBegin
CREATE FUNCTION access_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE access_state SET changed = changed + 1;
  RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER role_policy_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON role_policy FOR EACH STATEMENT EXECUTE FUNCTION access_changed();
CREATE TRIGGER security_label_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON security_label FOR EACH STATEMENT EXECUTE FUNCTION access_changed();

INSERT INTO relationship (kind, type, actor, patient, statuses, before, after, confirmed, enabled, note) VALUES
  (1, 'Appointment', 'actor', 'patient', '{booked,arrived,checked-in,fulfilled}', '30 days', '90 days', true, true, 'takes part in a visit that the patient or the practice made or accepted'),
  (2, 'Encounter', 'participant', 'patient', '{planned,arrived,triaged,in-progress,onleave,finished}', NULL, NULL, false, true, 'takes part in an encounter'),
  (3, 'Patient', 'general-practitioner', '_id', NULL, NULL, NULL, false, true, 'is the general practitioner'),
  (4, 'CareTeam', 'participant', 'patient', '{proposed,active,suspended}', NULL, NULL, false, true, 'is in the care team'),
  (5, 'Encounter', 'service-provider', 'patient', '{planned,arrived,triaged,in-progress,onleave,finished}', NULL, NULL, false, false, 'works for the organization of an encounter'),
  (6, 'Patient', 'organization', '_id', NULL, NULL, NULL, false, false, 'works for the organization that keeps the record');

INSERT INTO security_label (bit, system, code, cleared) VALUES
  (0, 'http://terminology.hl7.org/CodeSystem/v3-Confidentiality', 'R', '{practitioner,system}'),
  (1, 'http://terminology.hl7.org/CodeSystem/v3-Confidentiality', 'V', '{system}'),
  (2, 'http://terminology.hl7.org/CodeSystem/v3-ActCode', 'PSY', '{system}'),
  (3, 'http://terminology.hl7.org/CodeSystem/v3-ActCode', 'ETH', '{system}'),
  (4, 'http://terminology.hl7.org/CodeSystem/v3-ActCode', 'HIV', '{system}'),
  (5, 'http://terminology.hl7.org/CodeSystem/v3-ActCode', 'SEX', '{system}'),
  (6, 'http://terminology.hl7.org/CodeSystem/v3-ActCode', 'SDV', '{system}'),
  (7, 'http://terminology.hl7.org/CodeSystem/v3-ActCode', 'SUD', '{system}');

INSERT INTO role_policy (role, types, actions, reach, note) VALUES
  ('patient', '{@patient}', 'rs', 'own', 'the own record'),
  ('patient', '{@shared}', 'rs', 'shared', 'who treats where, and what things mean'),
  ('patient', '{Patient}', 'u', 'own', ''),
  ('patient', '{Appointment,Coverage,CoverageEligibilityRequest}', 'cu', 'own', ''),
  ('patient', '{AppointmentResponse,QuestionnaireResponse,Observation,AllergyIntolerance,Communication}', 'c', 'own', 'reported by the patient'),
  ('practitioner', '{@shared}', 'rs', 'shared', ''),
  ('practitioner', '{@patient}', 'rs', 'treated', 'records of patients in treatment'),
  ('practitioner', '{Patient}', 'u', 'treated', ''),
  ('practitioner', '{Appointment,AppointmentResponse,Encounter,Condition,Procedure,Observation,DiagnosticReport,MedicationRequest,ServiceRequest,CarePlan,DocumentReference,AllergyIntolerance,Immunization,FamilyMemberHistory,DetectedIssue,CareTeam,Goal,MedicationStatement,QuestionnaireResponse,Communication,Provenance,Task,ClinicalImpression,Specimen,List,Composition}', 'cu', 'treated', ''),
  ('practitioner', '{Schedule}', 'cu', 'self', 'the own calendar'),
  ('admin', '{*}', 'rs', 'any', ''),
  ('admin', '{Patient,Practitioner,PractitionerRole,Organization,OrganizationAffiliation,Location,HealthcareService,Endpoint,Schedule,Slot,Appointment,AppointmentResponse,Coverage,CoverageEligibilityRequest,InsurancePlan,RelatedPerson,Person,Account,Consent,CareTeam,Task,Device,Group,Provenance,Communication,Questionnaire,ValueSet,CodeSystem,ConceptMap,StructureDefinition,SearchParameter,NamingSystem,PlanDefinition,ActivityDefinition,Subscription,Medication,Substance}', 'cud', 'any', 'administrative types'),
  ('system', '{*}', 'cruds', 'any', 'backend services: what their scopes say');

-- The way of the server to all this. kiln_access may read the views below, and nothing else. A server reads for its
-- callers in that role, having said in settings of the transaction (kiln.*) who asks; without settings the views are
-- empty. Roles belong to the whole cluster, so it may be there already; where we may not make it, whoever may does:
-- CREATE ROLE kiln_access NOLOGIN; GRANT kiln_access TO <the user of KILN_DATABASE_URL>.
-- +goose StatementBegin
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'kiln_access') THEN
    BEGIN
      CREATE ROLE kiln_access NOLOGIN;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
  END IF;
  IF NOT pg_has_role(current_user, 'kiln_access', 'MEMBER') THEN
    EXECUTE format('GRANT kiln_access TO %I', current_user);
  END IF;
END $$;
-- +goose StatementEnd

CREATE SCHEMA visible;
GRANT USAGE ON SCHEMA visible TO kiln_access;

-- In whose name the caller takes part: as itself, in its roles, and for their organizations. Worked out once a statement.
CREATE FUNCTION visible.actors() RETURNS text LANGUAGE sql IMMUTABLE AS $f$
SELECT $r$ARRAY(SELECT unnest(nullif(current_setting('kiln.actors', true), '')::bigint[])
  UNION ALL SELECT a.also FROM public.acting a WHERE a.practitioner = ANY(nullif(current_setting('kiln.actors', true), '')::bigint[])
    AND a.low <= now() AND a.high > now())$r$
$f$;

-- What is asked seldom, and so is kept out of the rule, which every statement has to set up.
-- The most specific provision that applies to a resource; none: what holds without a Consent.
-- +goose StatementBegin
CREATE FUNCTION visible.consented(t smallint, compartments bigint[], labels integer) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = public AS $f$
DECLARE
  mode text := current_setting('kiln.consent', true);
  purpose text := current_setting('kiln.purpose', true);
  who bigint[];
BEGIN
  IF mode = 'off' THEN RETURN true; END IF;
  who := ARRAY(SELECT unnest(nullif(current_setting('kiln.actors', true), '')::bigint[])
    UNION ALL SELECT a.also FROM acting a WHERE a.practitioner = ANY(nullif(current_setting('kiln.actors', true), '')::bigint[])
      AND a.low <= now() AND a.high > now());
  RETURN compartments IS NOT NULL AND NOT EXISTS (
    SELECT FROM unnest(compartments) AS p(rk) WHERE coalesce((
      SELECT c.deny FROM consent_rule c WHERE c.patient = p.rk AND c.low <= now() AND c.high > now()
        AND (c.actors IS NULL OR c.actors && who) AND (c.types IS NULL OR t = ANY(c.types))
        AND (c.labels IS NULL OR c.labels & consented.labels <> 0) AND (c.purposes IS NULL OR purpose = ANY(c.purposes))
      ORDER BY c.specificity DESC, c.deny DESC LIMIT 1), mode IS DISTINCT FROM 'permit'));
END $f$;

-- Whether the caller treats one of these patients; whether one of them has a Consent.
CREATE FUNCTION visible.treats(compartments bigint[]) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $f$
DECLARE
  self bigint[] := nullif(current_setting('kiln.actors', true), '')::bigint[];
BEGIN
  IF self IS NULL THEN RETURN false; END IF;
  RETURN EXISTS (SELECT FROM treatment k WHERE k.actor = ANY(self) AND k.patient = ANY(compartments) AND k.confirmed AND k.low <= now() AND k.high > now())
    OR EXISTS (SELECT FROM acting a JOIN treatment k ON k.actor = a.also WHERE a.practitioner = ANY(self) AND a.low <= now() AND a.high > now()
      AND k.patient = ANY(compartments) AND k.confirmed AND k.low <= now() AND k.high > now());
END $f$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION visible.has_consents(compartments bigint[]) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $f$
BEGIN
  RETURN EXISTS (SELECT FROM consent_rule c WHERE c.patient = ANY(compartments));
END $f$;
-- +goose StatementEnd
-- +goose StatementBegin

-- Whether the caller broke the glass for one of these patients.
CREATE FUNCTION visible.broken(compartments bigint[]) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $f$
  SELECT EXISTS (SELECT FROM treatment k WHERE k.actor = ANY(nullif(current_setting('kiln.actors', true), '')::bigint[])
    AND k.patient = ANY(compartments) AND k.kind = 0 AND k.low <= now() AND k.high > now())
$f$;

-- Whether a resource, as it is now, has one of the terms that granular scopes ask for.
CREATE FUNCTION visible.narrowed(rk bigint) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $f$
  SELECT EXISTS (SELECT FROM search_index i WHERE i.rk = narrowed.rk
    AND (i.tokens && nullif(current_setting('kiln.terms', true), '')::bigint[] OR i.refs && nullif(current_setting('kiln.terms', true), '')::bigint[]))
$f$;
-- +goose StatementEnd

-- The rule, written once. {x} is the row, {t} its type's number. The settings kiln.plain, kiln.care and kiln.narrow have a
-- letter for each type, at the place of its number: plain a(ny), s(hared), o(wn) or p (shared or own); care t(reated) or
-- c (treated, and in context); narrow n. CASE around it all keeps the planner from guessing that nearly nothing passes,
-- and so from sorting everything instead of reading an index in its order.
-- +goose StatementBegin
CREATE FUNCTION visible.rule(x text, t text, treated text, patients text, consents text) RETURNS text LANGUAGE sql IMMUTABLE AS $f$
SELECT replace(replace(replace(replace(replace($r$CASE WHEN (
  CASE substr(current_setting('kiln.plain', true), {t}, 1)
    WHEN 'a' THEN true
    WHEN 's' THEN {x}.compartments = '{}'
    WHEN 'o' THEN {x}.compartments && {patients}
    WHEN 'p' THEN {x}.compartments = '{}' OR {x}.compartments && {patients}
    ELSE false END
  OR CASE substr(current_setting('kiln.care', true), {t}, 1)
    WHEN 't' THEN true
    WHEN 'c' THEN {x}.compartments && {patients}
    ELSE false END
  AND ({treated} OR {x}.compartments && nullif(current_setting('kiln.self', true), '')::bigint[]))
  AND ({x}.compartments && nullif(current_setting('kiln.record', true), '')::bigint[]
    OR ({x}.labels = 0 OR {x}.labels & ~nullif(current_setting('kiln.clearance', true), '')::integer = 0)
      AND CASE current_setting('kiln.consent', true)
        WHEN 'off' THEN true
        WHEN 'permit' THEN {x}.compartments = '{}' OR {x}.compartments IS NOT NULL AND NOT {consents} OR visible.consented({t}, {x}.compartments, {x}.labels)
        ELSE visible.consented({t}, {x}.compartments, {x}.labels) END
    OR visible.broken({x}.compartments))
  AND (substr(current_setting('kiln.narrow', true), {t}, 1) IS DISTINCT FROM 'n' OR visible.narrowed({x}.rk))
THEN true ELSE false END$r$,
  '{treated}', treated), '{patients}', patients), '{consents}', consents), '{x}', x), '{t}', t)
$f$;

DO $$
DECLARE
  name text;
  -- Looked up within the statement, where it goes through many rows; by functions, where it goes through few and
  -- setting up the statement would take longer than all else.
  many text[] := ARRAY['EXISTS (SELECT FROM public.treatment k WHERE k.actor = ANY(' || visible.actors() || ') AND k.patient = ANY({x}.compartments)
      AND k.confirmed AND k.low <= now() AND k.high > now())',
    '(SELECT nullif(current_setting(''kiln.patients'', true), '''')::bigint[])',
    'EXISTS (SELECT FROM public.consent_rule c WHERE c.patient = ANY({x}.compartments))'];
  few text[] := ARRAY['visible.treats({x}.compartments)', 'nullif(current_setting(''kiln.patients'', true), '''')::bigint[]', 'visible.has_consents({x}.compartments)'];
BEGIN
  EXECUTE 'CREATE VIEW visible.search_index AS SELECT x.* FROM public.search_index x WHERE ' || visible.rule('x', 'x.type', many[1], many[2], many[3]);
  EXECUTE 'CREATE VIEW visible.resource AS SELECT x.* FROM public.resource x WHERE ' || visible.rule('x', 'x.type_number', few[1], few[2], few[3]);
  -- An old version is visible to whom the version itself and the resource as it is now are.
  EXECUTE 'CREATE VIEW visible.resource_history AS SELECT x.* FROM public.resource_history x WHERE ' || visible.rule('x', 'x.type_number', few[1], few[2], few[3])
    || ' AND EXISTS (SELECT FROM visible.resource r WHERE r.rk = x.rk)';
  EXECUTE 'CREATE VIEW visible.resource_change AS SELECT x.* FROM public.resource_change x WHERE ' || visible.rule('x', 'x.type', many[1], many[2], many[3])
    || ' AND EXISTS (SELECT FROM visible.resource r WHERE r.rk = x.rk)';
  -- The tables of values name no resource but by its key, which leads on through search_index alone. They open as a whole
  -- once somebody is asking.
  FOREACH name IN ARRAY '{search_string,search_date,search_number,search_composite,search_text,search_position,search_display,search_shape}'::text[] LOOP
    EXECUTE format('CREATE VIEW visible.%1$I AS SELECT x.* FROM public.%1$I x WHERE (SELECT nullif(current_setting(''kiln.caller'', true), '''')) IS NOT NULL', name);
  END LOOP;
END $$;
-- +goose StatementEnd

-- The patients that the caller treats now.
-- +goose StatementBegin
DO $$
BEGIN
  EXECUTE 'CREATE VIEW visible.treated AS SELECT k.patient FROM public.treatment k WHERE k.actor = ANY(' || visible.actors()
    || ') AND k.confirmed AND k.low <= now() AND k.high > now()';
END $$;
-- +goose StatementEnd

GRANT SELECT ON ALL TABLES IN SCHEMA visible TO kiln_access;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA visible FROM PUBLIC;
GRANT EXECUTE ON FUNCTION visible.consented(smallint, bigint[], integer), visible.broken(bigint[]), visible.narrowed(bigint),
  visible.treats(bigint[]), visible.has_consents(bigint[]) TO kiln_access;

-- +goose Down
DROP SCHEMA visible CASCADE;
DROP TABLE treatment, acting, relationship, consent_rule, break_glass, security_label, role_policy, access_state;
DROP FUNCTION relationship_changed(), treatment_bounds(), access_changed();
DROP INDEX search_index_hashes;
ALTER TABLE search_index DROP compartments, DROP labels;
ALTER TABLE resource DROP type_number, DROP compartments, DROP labels;
ALTER TABLE resource_history DROP type_number, DROP compartments, DROP labels;
ALTER TABLE resource_change DROP compartments, DROP labels;
CREATE INDEX search_index_hashes ON search_index USING gin (tokens, refs) WITH (fastupdate = on, gin_pending_list_limit = 256);
