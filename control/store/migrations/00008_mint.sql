-- +goose Up
alter table credentials
    add mints          text[] not null default '{}', -- control.Mint
    -- Of one that a service has handed out:
    add sandbox_id     uuid,   -- that it was handed out to, and serves
    add origin_id      uuid,   -- the credential that the request was sent with
    add captured_hosts text[], -- in the place of credential_hosts: beside them it is no tie
    add expires_at     timestamptz,
    add check (num_nonnulls(sandbox_id, origin_id, captured_hosts, expires_at) in (0, 4)),
    add foreign key (team_id, sandbox_id) references sandboxes (team_id, id) on delete cascade,
    add foreign key (vault_id, origin_id) references credentials (vault_id, id) on delete cascade;
create index on credentials (sandbox_id) where sandbox_id is not null;
create index on credentials (team_id, expires_at) where expires_at is not null;
create index on credentials (origin_id) where origin_id is not null;
