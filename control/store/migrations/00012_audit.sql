-- Where the intent to use a credential must be before bytes leave: control.AuditMode.

-- +goose Up
alter table teams add audit text not null default 'best_effort' check (audit in ('best_effort', 'durable', 'strict'));
