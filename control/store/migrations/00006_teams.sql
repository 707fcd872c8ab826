-- Row-level security: what runs as sallyport_app sees the rows of one team, that
-- of the setting sallyport.team, which holds for one transaction; without it,
-- none. The nil id is the installation: its own tokens and events, its values, and
-- the names of all teams. The setting sallyport.token, the hex SHA-256 of a token that
-- somebody presented, shows that token's row alone.
--
-- The tables' owner, if it is no superuser, is held to the same. So a later
-- migration that reads or changes rows has to say so first, in its transaction:
-- alter table … no force row level security.

-- +goose Up
-- +goose StatementBegin
do $$
begin
    if not exists (select from pg_roles where rolname = 'sallyport_app') then
        begin
            create role sallyport_app nologin;
        exception
            when duplicate_object or unique_violation then null; -- by another installation of this cluster, just now
        end;
    end if;
    if not pg_has_role('sallyport_app', 'member') then
        execute format('grant sallyport_app to %I', current_user);
    end if;
    execute format('grant usage on schema %I to sallyport_app', current_schema());
exception
    when insufficient_privilege then
        raise insufficient_privilege using message = format(
            'the user %s may not make the role that the control plane works as; run as a superuser: create role sallyport_app nologin; grant sallyport_app to %I',
            current_user, current_user);
end
$$;
-- +goose StatementEnd

create function sallyport_team() returns uuid language sql stable parallel safe as
    $$ select nullif(current_setting('sallyport.team', true), '')::uuid $$;
create function sallyport_token() returns bytea language sql stable parallel safe as
    $$ select decode(nullif(current_setting('sallyport.token', true), ''), 'hex') $$;

-- Every table of a team's rows says whose they are.
alter table credential_versions add team_id uuid;
update credential_versions x set team_id = c.team_id from credentials c where c.id = x.credential_id;
alter table credential_versions alter team_id set not null,
    add foreign key (team_id, vault_id) references vaults (team_id, id) on delete cascade;
alter table credential_hosts add team_id uuid;
update credential_hosts h set team_id = c.team_id from credentials c where c.id = h.credential_id;
alter table credential_hosts alter team_id set not null,
    add foreign key (team_id, vault_id) references vaults (team_id, id) on delete cascade;
alter table join_tokens add team_id uuid;
update join_tokens j set team_id = s.team_id from sandboxes s where s.id = j.sandbox_id;
alter table join_tokens alter team_id set not null,
    add foreign key (team_id, sandbox_id) references sandboxes (team_id, id) on delete cascade,
    drop constraint join_tokens_sandbox_id_fkey;

-- +goose StatementBegin
do $$
declare
    t text;
begin
    foreach t in array array[
        'vaults', 'vault_keys', 'credentials', 'credential_versions', 'credential_hosts',
        'agents', 'pins', 'sandboxes', 'join_tokens', 'leases'
    ] loop
        execute format('alter table %I enable row level security, force row level security', t);
        execute format('create policy team on %I using (team_id = sallyport_team())', t);
        execute format('grant select, insert, update, delete on %I to sallyport_app', t);
    end loop;
end
$$;
-- +goose StatementEnd

alter table teams enable row level security, force row level security;
create policy team on teams using (id = sallyport_team());
create policy directory on teams for select using (sallyport_team() = '00000000-0000-0000-0000-000000000000');
grant select, insert, update on teams to sallyport_app;

alter table tokens enable row level security, force row level security;
create policy team on tokens using (coalesce(team_id, '00000000-0000-0000-0000-000000000000') = sallyport_team());
create policy presented on tokens for select using (hash = sallyport_token());
grant select, insert, update, delete on tokens to sallyport_app;

create policy presented on join_tokens for select using (hash = sallyport_token());

alter table meta enable row level security, force row level security;
create policy installation on meta using (sallyport_team() = '00000000-0000-0000-0000-000000000000');
grant select, insert on meta to sallyport_app;

alter table audit_heads enable row level security, force row level security;
create policy team on audit_heads using (team_id = sallyport_team());
grant select, insert, update on audit_heads to sallyport_app;

-- Postgres takes no COPY where there is row-level security, and COPY is what
-- events are cheap by. So sallyport_app may only add to this table, which a trigger
-- keeps to its team, and reads a view.
grant insert on audit_events to sallyport_app;
-- +goose StatementBegin
create function audit_is_of_the_team() returns trigger language plpgsql as $$
begin
    raise insufficient_privilege using message = 'an event of another team';
end
$$;
-- +goose StatementEnd
create trigger of_the_team after insert on audit_events
    for each row when (new.team_id is distinct from sallyport_team()) execute function audit_is_of_the_team();
create view audit_log with (security_barrier) as
    select * from audit_events where team_id = sallyport_team();
grant select on audit_log to sallyport_app;
