-- Sessions that were begun with an API token are listed and ended like those of people.

-- +goose Up
alter table token_sessions add id uuid not null unique default gen_random_uuid();
