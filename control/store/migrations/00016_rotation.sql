-- +goose Up
-- A release that does not know these leaves them as they are when it rotates, so an
-- overlap counts only for the version just before the current one.
alter table credentials
    add overlap_version bigint,      -- still good beside the current one
    add overlap_until   timestamptz,
    add rotate_every    integer not null default 0 check (rotate_every >= 0), -- days; 0: nobody is reminded
    add due_told        bigint not null default 0;                            -- the version that there was a reminder of
