-- Stores outside that credentials may have their secrets in. What opens one is sealed
-- as a secret of its vault.

-- +goose Up
create table sources (
    id          uuid primary key,
    team_id     uuid not null,
    vault_id    uuid not null,
    name        label not null,
    kind        text not null check (kind ~ '^[a-z0-9_]{1,32}$'),
    settings    jsonb not null check (jsonb_typeof(settings) = 'object'),
    version     bigint not null default 1 check (version > 0),
    key_version bigint not null,
    salt        bytea not null unique check (octet_length(salt) = 32),
    commitment  bytea not null check (octet_length(commitment) = 32),
    ciphertext  bytea not null,
    created_at  timestamptz not null default now(),
    rotated_at  timestamptz not null default now(),
    unique (vault_id, id),
    unique (vault_id, name),
    foreign key (team_id, vault_id) references vaults (team_id, id) on delete cascade,
    foreign key (vault_id, key_version) references vault_keys (vault_id, version)
);
create index on sources (vault_id, key_version);
alter table sources enable row level security, force row level security;
create policy team on sources using (team_id = sallyport_team());
grant select, insert, update, delete on sources to sallyport_app;

-- A credential whose secret lies in a source of its vault. A version of it seals what
-- tells that secret from others, and never the secret; source_version is the source's
-- own name for what it had when that version was made.
alter table credentials
    add source_id      uuid,
    add source_place   text check (source_place <> ''), -- control.Place
    add source_version text not null default '',
    add check (num_nonnulls(source_id, source_place) in (0, 2)),
    add foreign key (vault_id, source_id) references sources (vault_id, id);
create index on credentials (source_id) where source_id is not null;
