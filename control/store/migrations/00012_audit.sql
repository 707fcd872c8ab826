-- Where the intent to use a credential must be before bytes leave: control.AuditMode.

-- +goose Up
alter table teams add audit text not null default 'best_effort' check (audit in ('best_effort', 'durable', 'strict'));

-- Events are kept by months, so that old ones can go as a whole. No row is moved: the
-- table there was becomes the part of all until the end of this month; its rows are
-- read once. Indexes are
-- each part's own, since one over all would have the time in it: positions are unique
-- by the chain. The first keeps the names that a release before this looks for.
alter table audit_events rename to audit_events_first;
alter index audit_events_pkey rename to audit_events_first_pkey;
drop trigger append_only on audit_events_first;
drop trigger of_the_team on audit_events_first;
create table audit_events (like audit_events_first including constraints) partition by range (created_at);
create trigger append_only before update or delete or truncate on audit_events
    for each statement execute function audit_is_append_only();
create trigger of_the_team after insert on audit_events
    for each row when (new.team_id is distinct from sallyport_team()) execute function audit_is_of_the_team();
-- +goose StatementBegin
do $$
declare
    ends timestamptz := (date_trunc('month', now() at time zone 'UTC') + interval '1 month') at time zone 'UTC';
begin
    execute format('alter table audit_events attach partition audit_events_first for values from (minvalue) to (%L)', ends);
end
$$;
-- +goose StatementEnd
create trigger append_only before update or delete or truncate on audit_events_first
    for each statement execute function audit_is_append_only();

-- audit_month makes the part of a month unless it is there, as the tables' owner.
-- +goose StatementBegin
create function audit_month(at timestamptz) returns void language plpgsql as $$
declare
    begins timestamp := date_trunc('month', at at time zone 'UTC');
    part text := 'audit_events_' || to_char(begins, 'YYYY_MM');
begin
    if to_regclass(part) is not null or exists (
        select from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'audit_events'::regclass and c.relname = 'audit_events_first'
        and substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''(.*)''\)')::timestamptz > begins at time zone 'UTC') then
        return;
    end if;
    execute format('create table %I partition of audit_events for values from (%L) to (%L)', part,
        begins at time zone 'UTC', (begins + interval '1 month') at time zone 'UTC');
    execute format('alter table %I add primary key (team_id, position)', part);
    execute format('create unique index %I on %I (sandbox, sequence) where sequence > 0', part || '_sequence', part);
    execute format('create trigger append_only before update or delete or truncate on %I
        for each statement execute function audit_is_append_only()', part);
end
$$;
-- +goose StatementEnd
revoke execute on function audit_month from public;
select audit_month(now() + n * interval '1 month') from generate_series(1, 3) n;

grant insert on audit_events to sallyport_app;
revoke all on audit_events_first from sallyport_app;
create or replace view audit_log with (security_barrier) as
    select * from audit_events where team_id = sallyport_team();

-- Where a team's chain begins once older events are gone. An event of the chain says
-- the same, so that nobody can make one later.
create table audit_checkpoints (
    team_id    uuid not null,
    position   bigint not null check (position > 0),
    hash       digest not null,
    created_at timestamptz not null default now(),
    primary key (team_id, position)
);
alter table audit_checkpoints enable row level security, force row level security;
create policy team on audit_checkpoints using (team_id = sallyport_team());
grant select on audit_checkpoints to sallyport_app;
create trigger append_only before update or delete or truncate on audit_checkpoints
    for each statement execute function audit_is_append_only();
