-- +goose Up
alter table quotas
    add events  bigint check (events >= 0),  -- a day
    add fetches bigint check (fetches >= 0); -- a minute

-- How much a team has used of those. A release that does not count moves position all the
-- same, so its events are counted, and its fetches are not.
alter table audit_heads
    add day       date,                      -- of UTC, in which the last event was written
    add day_began bigint not null default 0, -- position before that day's first
    add minute    timestamptz,               -- in which the last fetch was
    add fetches   bigint not null default 0; -- in that minute
