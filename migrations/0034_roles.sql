-- Practitioners keep the Slots of their own calendar, and patients ask whether they are
-- covered: the question does not change afterwards.
-- +goose Up
INSERT INTO role_policy (role, types, actions, reach, note) VALUES
  ('practitioner', '{Slot}', 'cu', 'self', 'the Slots of the own calendar'),
  ('patient', '{CoverageEligibilityRequest}', 'c', 'own', '');
UPDATE role_policy SET types = array_remove(types, 'CoverageEligibilityRequest') WHERE role = 'patient' AND actions = 'cu' AND reach = 'own';

-- +goose Down
UPDATE role_policy SET types = array_append(types, 'CoverageEligibilityRequest') WHERE role = 'patient' AND actions = 'cu' AND reach = 'own';
DELETE FROM role_policy WHERE role = 'practitioner' AND types = '{Slot}' OR role = 'patient' AND types = '{CoverageEligibilityRequest}';
