-- Every row of a team carries its team_id, and foreign keys carry it along, so
-- that nothing can refer to another team's rows.

-- +goose Up
create domain label as text
    check (value ~ '^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$' and length(value) <= 63);
create domain digest as bytea check (octet_length(value) = 32);

create table meta (
    key   text primary key,
    value bytea not null
);

create table teams (
    id         uuid primary key,
    name       label not null unique,
    revision   bigint not null default 1 check (revision > 0), -- of what its sidecars may do
    created_at timestamptz not null default now()
);

create table vaults (
    id         uuid primary key,
    team_id    uuid not null references teams,
    name       label not null,
    created_at timestamptz not null default now(),
    unique (team_id, id),
    unique (team_id, name)
);

-- The only copy of what opens a vault's secrets: deleting it destroys them.
create table vault_keys (
    team_id    uuid not null,
    vault_id   uuid not null,
    version    bigint not null check (version > 0),
    kek        text not null check (kek <> ''),
    blob       bytea not null,
    created_at timestamptz not null default now(),
    primary key (vault_id, version),
    foreign key (team_id, vault_id) references vaults (team_id, id) on delete cascade
);

create table credentials (
    id           uuid primary key,
    team_id      uuid not null,
    vault_id     uuid not null,
    name         label not null,
    service      text not null,
    allow_http   boolean not null,
    auth         text not null check (auth in ('token', 'basic')),
    username     text not null,
    inject       text[] not null,
    stray        text not null check (stray in ('block', 'literal', 'redact')),
    placeholders text[] not null,
    version      bigint not null check (version > 0),
    created_at   timestamptz not null default now(),
    rotated_at   timestamptz not null default now(),
    unique (team_id, id),
    unique (vault_id, id),
    unique (vault_id, name),
    foreign key (team_id, vault_id) references vaults (team_id, id) on delete cascade
);

create table credential_versions (
    vault_id      uuid not null,
    credential_id uuid not null,
    version       bigint not null check (version > 0),
    key_version   bigint not null,
    salt          bytea not null unique check (octet_length(salt) = 32),
    commitment    bytea not null check (octet_length(commitment) = 32),
    ciphertext    bytea not null,
    created_at    timestamptz not null default now(),
    primary key (credential_id, version),
    foreign key (vault_id, credential_id) references credentials (vault_id, id) on delete cascade,
    foreign key (vault_id, key_version) references vault_keys (vault_id, version) on delete cascade
);

alter table credentials add foreign key (id, version)
    references credential_versions (credential_id, version) deferrable initially deferred;

create table credential_hosts (
    vault_id      uuid not null,
    credential_id uuid not null,
    position      integer not null,
    pattern       text not null check (pattern = lower(pattern) and pattern <> ''),
    primary key (credential_id, position),
    unique (vault_id, pattern) deferrable initially deferred, -- refuse_tie speaks first, and names both
    foreign key (vault_id, credential_id) references credentials (vault_id, id) on delete cascade
);

create table agents (
    id         uuid primary key,
    team_id    uuid not null references teams,
    name       label not null,
    created_at timestamptz not null default now(),
    unique (team_id, id),
    unique (team_id, name)
);

create table pins (
    team_id    uuid not null,
    agent_id   uuid not null,
    vault_id   uuid not null,
    created_at timestamptz not null default now(),
    primary key (agent_id, vault_id),
    foreign key (team_id, agent_id) references agents (team_id, id) on delete cascade,
    foreign key (team_id, vault_id) references vaults (team_id, id) on delete cascade
);
create index on pins (vault_id);

create table sandboxes (
    id               uuid primary key,
    team_id          uuid not null,
    agent_id         uuid not null,
    state            text not null default 'pending' check (state in ('pending', 'enrolled', 'revoked', 'locked')),
    public_key_hash  digest,
    seal_key         bytea,
    version          text not null default '',
    generation       bigint not null default 0,
    renewal_request  digest, -- the one that led to this generation
    applied_revision bigint not null default 0,
    replica          text,   -- that holds its stream
    created_at       timestamptz not null default now(),
    enrolled_at      timestamptz,
    last_seen_at     timestamptz,
    unique (team_id, id),
    foreign key (team_id, agent_id) references agents (team_id, id) on delete cascade,
    check (num_nonnulls(public_key_hash, seal_key, enrolled_at) in (0, 3)),
    check ((generation > 0) = (enrolled_at is not null)),
    check (state <> 'enrolled' or enrolled_at is not null),
    check (state <> 'pending' or enrolled_at is null)
);
create index on sandboxes (agent_id);

create table join_tokens (
    hash       digest primary key,
    sandbox_id uuid not null unique references sandboxes on delete cascade,
    expires_at timestamptz not null,
    used_at    timestamptz
);

create table leases (
    id            uuid primary key,
    team_id       uuid not null,
    sandbox_id    uuid not null,
    credential_id uuid not null,
    version       bigint not null,
    host          text not null,
    created_at    timestamptz not null default now(),
    fresh_until   timestamptz not null,
    hard_expiry   timestamptz not null check (hard_expiry >= fresh_until),
    foreign key (team_id, sandbox_id) references sandboxes (team_id, id) on delete cascade,
    foreign key (team_id, credential_id) references credentials (team_id, id) on delete cascade,
    foreign key (credential_id, version) references credential_versions on delete cascade
);
create index on leases (sandbox_id, hard_expiry);
create index on leases (credential_id, version);

create table tokens (
    id         uuid primary key,
    team_id    uuid references teams, -- null: every team
    name       label not null,
    role       text not null check (role in ('owner', 'admin', 'member', 'viewer')),
    hash       digest not null unique,
    created_at timestamptz not null default now(),
    expires_at timestamptz
);
create unique index tokens_name on tokens (coalesce(team_id, '00000000-0000-0000-0000-000000000000'), name);

-- The end of each team's chain of events. The nil id is the installation's own.
create table audit_heads (
    team_id  uuid primary key,
    position bigint not null default 0,
    hash     digest not null default decode(repeat('00', 32), 'hex')
);
insert into audit_heads (team_id) values ('00000000-0000-0000-0000-000000000000');

-- Events outlive what they tell of, so they hold names and refer to no other table.
create table audit_events (
    team_id     uuid not null references audit_heads,
    position    bigint not null check (position > 0),
    created_at  timestamptz not null,
    time        timestamptz not null, -- of the request, by the sidecar's clock
    kind        text not null,
    actor       text not null,
    agent       text not null,
    sandbox     text not null,
    sequence    bigint not null check (sequence >= 0), -- 0: not a sidecar's
    request_id  text not null,
    host        text not null,
    port        bigint not null,
    method      text not null,
    path        text not null,
    protocol    text not null,
    decision    text not null,
    reason      text not null,
    status      bigint not null,
    credential  text not null,
    version     bigint not null,
    lease       text not null,
    bytes_out   bigint not null,
    bytes_in    bigint not null,
    duration_us bigint not null,
    upstream_us bigint not null,
    redactions  bigint not null,
    detail      text not null,
    prev_hash   digest not null,
    hash        digest not null,
    primary key (team_id, position),
    unique (team_id, hash)
);
create unique index audit_events_sequence on audit_events (sandbox, sequence) where sequence > 0;

-- +goose StatementBegin
create function audit_is_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'audit events are never changed or deleted';
end
$$;
-- +goose StatementEnd
create trigger append_only before update or delete or truncate on audit_events
    for each statement execute function audit_is_append_only();
create trigger append_only before delete or truncate on audit_heads
    for each statement execute function audit_is_append_only();
