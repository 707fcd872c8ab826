-- How far each receiver of audit events has got in each team's chain. A receiver is of
-- the operator's, so teams see none of it, and the installation sees where chains end.

-- +goose Up
create table audit_forwards (
    receiver     text not null,
    team_id      uuid not null,
    position     bigint not null check (position >= 0), -- of the last event that it has accepted
    forwarded_at timestamptz not null default now(),
    primary key (receiver, team_id)
);
alter table audit_forwards enable row level security, force row level security;
create policy installation on audit_forwards using (sallyport_team() = '00000000-0000-0000-0000-000000000000');
grant select, insert, update on audit_forwards to sallyport_app;

create policy directory on audit_heads for select using (sallyport_team() = '00000000-0000-0000-0000-000000000000');
