-- What deletes a vault's credentials, or an agent's sandboxes, looks for the rows of each.
-- Where Postgres has no statistics yet, any index that begins with one of the columns of
-- a foreign key looks as good to it as the right one, and one that begins with the vault
-- or the team reads all of the vault's or the team's each time. An index of all of the
-- columns is better in any case.

-- +goose Up
create index credential_versions_credential on credential_versions (vault_id, credential_id);
create index credential_hosts_credential on credential_hosts (vault_id, credential_id);
create index credentials_sandbox on credentials (sandbox_id, team_id) where sandbox_id is not null;
create index credentials_origin on credentials (origin_id, vault_id) where origin_id is not null;
drop index credentials_sandbox_id_idx, credentials_origin_id_idx;
create index approvals_credential on approvals (credential_id, team_id);
create index approvals_sandbox on approvals (sandbox_id, team_id);
drop index approvals_credential_id_idx;
