-- +goose Up
alter table credentials
    add limits  jsonb not null default '{}', -- control.Limits but for expires_at
    add ends_at timestamptz;                 -- its expires_at; expires_at itself is of captured ones, which go then

-- What was allotted of a credential's limits, control.Usage.
create table credential_usage (
    credential_id uuid primary key,
    team_id       uuid not null,
    began_at      timestamptz not null,
    spent         bigint not null default 0 check (spent >= 0),
    rate          bigint not null default 0, -- that tokens are of
    tokens        double precision not null default 0 check (tokens >= 0),
    filled_at     timestamptz not null,
    foreign key (team_id, credential_id) references credentials (team_id, id) on delete cascade
);

-- Requests that wait for a person, or waited. Nothing of one changes but its state.
create table approvals (
    id            uuid primary key,
    team_id       uuid not null,
    credential_id uuid not null,
    version       bigint not null,
    sandbox_id    uuid not null,
    request       text not null check (length(request) <= 64), -- the sidecar's name for it
    scope         text not null check (scope in ('first', 'each')),
    host          text not null,
    port          integer not null,
    method        text not null,
    path          text not null,
    state         text not null default 'pending' check (state in ('pending', 'approved', 'denied', 'withdrawn')),
    created_at    timestamptz not null default now(),
    expires_at    timestamptz not null, -- the decision, or without one the waiting for it
    decided_at    timestamptz,
    decided_by    text not null default '',
    unique (sandbox_id, request),
    foreign key (team_id, credential_id) references credentials (team_id, id) on delete cascade,
    foreign key (team_id, sandbox_id) references sandboxes (team_id, id) on delete cascade
);
create index on approvals (team_id, created_at);
create index on approvals (credential_id);

alter table credential_usage enable row level security, force row level security;
create policy team on credential_usage using (team_id = sallyport_team());
grant select, insert, update, delete on credential_usage to sallyport_app;
alter table approvals enable row level security, force row level security;
create policy team on approvals using (team_id = sallyport_team());
grant select, insert, update, delete on approvals to sallyport_app;
