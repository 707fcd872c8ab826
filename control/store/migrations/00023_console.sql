-- Sessions of browsers that were begun with an API token. One is good while that value of
-- the token is, so nothing has to end it when the token is rotated or removed.

-- +goose Up
create table token_sessions (
    hash         digest primary key,
    token_hash   digest not null, -- tokens.hash or previous_hash
    idle         interval not null, -- how long it lasts without being used
    created_at   timestamptz not null default now(),
    last_used_at timestamptz not null default now(),
    expires_at   timestamptz not null
);
create index on token_sessions (token_hash);
alter table token_sessions enable row level security, force row level security;
create policy installation on token_sessions using (sallyport_team() = '00000000-0000-0000-0000-000000000000');
grant select, insert, update, delete on token_sessions to sallyport_app;
