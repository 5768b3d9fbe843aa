-- A practitioner's search of one patient: whether the practitioner treats the patient in the own name, whether there is a Consent, and
-- whether a label hides something of the record are three looks in indexes, within the statement that says who asks. In functions they cost
-- three times as much; those are asked where this is not the answer.
-- +goose Up

-- Whom the practitioner who asks treats in the own name, of those without a Consent.
CREATE VIEW visible.clear_own AS SELECT k.patient FROM public.treatment k
  WHERE k.actor = (nullif(current_setting('kiln.actors', true), '')::bigint[])[1] AND k.confirmed AND k.low <= now() AND k.high > now()
    AND (SELECT true FROM public.consent_rule c WHERE c.patient = k.patient LIMIT 1) IS NULL;
-- In whose records, of those that are known to need nothing more (kiln.clear), a label hides something of a type that the caller sees.
CREATE VIEW visible.clear_hidden AS SELECT i.compartments FROM public.search_index i
  WHERE i.labels <> 0 AND i.compartments && nullif(current_setting('kiln.clear', true), '')::bigint[]
    AND i.labels & ~nullif(current_setting('kiln.clearance', true), '')::integer <> 0 AND get_byte(nullif(current_setting('kiln.ways', true), '')::bytea, i.type) & 64 <> 0;
-- What lies in records, with the rows of the index of what the caller sees: each is looked at once.
CREATE VIEW visible.about_entry AS SELECT x.*, r.type AS type_name, r.id, r.version, r.last_updated AS updated, r.method, r.content, r.literal
  FROM public.search_index x JOIN visible.about_resource r USING (rk);
GRANT SELECT ON visible.clear_own, visible.clear_hidden, visible.about_entry TO kiln_access;

-- +goose Down
DROP VIEW visible.about_entry, visible.clear_own, visible.clear_hidden;
