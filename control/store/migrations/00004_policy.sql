-- +goose Up
alter table agents add policy jsonb not null default '{"default": "inspect", "rules": []}'
    check (jsonb_typeof(policy) = 'object'); -- control.Policy
alter table credentials add allow_websocket boolean not null default false;
