-- +goose Up
alter table sandboxes add column confirmed_generation bigint not null default 0; -- the last renewal whose answer is known to have arrived
