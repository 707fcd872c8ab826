-- API tokens: when one was last used, and the value before its rotation, which is
-- good for a while yet.

-- +goose Up
alter table tokens
    add last_used_at   timestamptz,
    add rotated_at     timestamptz,
    add previous_hash  digest unique,
    add previous_until timestamptz,
    add check ((previous_hash is null) = (previous_until is null));
drop policy presented on tokens;
create policy presented on tokens for select
    using (hash = sallyport_token() or previous_hash = sallyport_token() and previous_until > now());

-- What was done with an idempotency key. A row is for whoever presents the token
-- that it was done with. The answer is sealed under the token, of which there is
-- only a hash here; null: it is not there yet, or was lost.
create table idempotency_keys (
    token_hash digest not null,
    key        digest not null,
    request    digest not null, -- keyed by the token too
    answer     bytea,
    created_at timestamptz not null default now(),
    primary key (token_hash, key)
);
create index on idempotency_keys (created_at);
alter table idempotency_keys enable row level security, force row level security;
create policy presented on idempotency_keys using (token_hash = sallyport_token());
-- Anybody may throw away what nobody may use any more.
create policy expired on idempotency_keys for select using (created_at < now() - interval '24 hours');
create policy forgotten on idempotency_keys for delete using (created_at < now() - interval '24 hours');
grant select, insert, update, delete on idempotency_keys to sallyport_app;

-- Logins of people. They are the installation's, since a person may be of several teams.
create table sessions (
    id           uuid primary key,
    hash         digest not null unique,
    issuer       text not null,
    subject      text not null,
    email        text not null,
    grants       jsonb not null check (jsonb_typeof(grants) = 'array'), -- control.Grant
    idle         interval not null, -- how long it lasts without being used
    created_at   timestamptz not null default now(),
    last_used_at timestamptz not null default now(),
    expires_at   timestamptz not null
);
create index on sessions (issuer, subject);
alter table sessions enable row level security, force row level security;
create policy installation on sessions using (sallyport_team() = '00000000-0000-0000-0000-000000000000');
grant select, insert, update, delete on sessions to sallyport_app;

-- How much a team may have; null: as much as usual.
create table quotas (
    team_id     uuid primary key references teams,
    vaults      bigint check (vaults >= 0),
    credentials bigint check (credentials >= 0),
    agents      bigint check (agents >= 0),
    sandboxes   bigint check (sandboxes >= 0),
    tokens      bigint check (tokens >= 0)
);
alter table quotas enable row level security, force row level security;
create policy team on quotas using (team_id = sallyport_team());
grant select, insert, update, delete on quotas to sallyport_app;
