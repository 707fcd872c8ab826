-- Which kinds there are, and what settings each takes, is control/exchange's to say.

-- +goose Up
alter table credentials
    drop constraint credentials_auth_check,
    add constraint credentials_auth_check check (auth ~ '^[a-z0-9_]{1,32}$'),
    add settings jsonb not null default '{}' check (jsonb_typeof(settings) = 'object');
