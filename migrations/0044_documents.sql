-- Practitioners keep the files of the documents that they write: a Binary belongs to whom its securityContext belongs.
-- +goose Up
INSERT INTO role_policy (role, types, actions, reach, note) VALUES ('practitioner', '{Binary}', 'cu', 'treated', 'files of documents');

-- +goose Down
DELETE FROM role_policy WHERE role = 'practitioner' AND types = '{Binary}' AND note = 'files of documents';
