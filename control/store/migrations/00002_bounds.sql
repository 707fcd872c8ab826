-- +goose Up
alter table sandboxes
    add ended_at    timestamptz,                -- when it was revoked or locked
    add late_events bigint not null default 0,  -- reported since then
    add renewed_at  timestamptz;
update sandboxes set ended_at = now() where state in ('revoked', 'locked');
