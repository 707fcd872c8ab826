-- +goose Up
-- Rotations of the key-encryption key; the newest counts. The ids of keys are no secret.
create table key_rotations (
    id            uuid primary key,
    kek           text not null check (kek <> ''), -- that wraps from then on
    new_data_keys boolean not null,
    started_at    timestamptz not null default clock_timestamp(),
    finished_at   timestamptz
);
alter table key_rotations enable row level security, force row level security;
create policy installation on key_rotations using (sallyport_team() = '00000000-0000-0000-0000-000000000000');
grant select, insert, update on key_rotations to sallyport_app;
grant update on meta to sallyport_app;

-- That it is rewritten is told by wrapped_at, though the key's id may stay.
alter table vault_keys add wrapped_at timestamptz not null default now();

-- A replica that was started with the old key can't bring back what a rotation
-- is there to end. The lock lets a rotation begin after those who did not see it.
-- +goose StatementBegin
create function wrapped_by_the_current_key() returns trigger language plpgsql as $$
declare
    team   text := coalesce(current_setting('sallyport.team', true), '');
    wanted text;
begin
    perform pg_advisory_xact_lock_shared(hashtextextended('sallyport key rotation', 0));
    perform set_config('sallyport.team', '00000000-0000-0000-0000-000000000000', true); -- who may see rotations
    select kek into wanted from key_rotations order by started_at desc limit 1;
    perform set_config('sallyport.team', team, true);
    if wanted <> new.kek then
        raise object_not_in_prerequisite_state using message = format('data keys are wrapped by %s now, and this was by %s', wanted, new.kek);
    end if;
    return new;
end
$$;
-- +goose StatementEnd
create trigger wrapped_by_the_current_key before insert or update on vault_keys
    for each row execute function wrapped_by_the_current_key();

-- A data key that secrets need can't be deleted alone, not even by mistake.
alter table credential_versions drop constraint credential_versions_vault_id_key_version_fkey,
    add constraint credential_versions_vault_id_key_version_fkey
    foreign key (vault_id, key_version) references vault_keys (vault_id, version);
