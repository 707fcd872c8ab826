-- What every event pays for: a foreign key is a query a row, and an index on
-- hashes a page at random. The head is locked, so there is one, before its
-- team's events are added; two events with one hash break the chain.

-- +goose Up
alter table audit_events
    drop constraint audit_events_team_id_fkey,
    drop constraint audit_events_team_id_hash_key;
