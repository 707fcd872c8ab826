-- Who acts for a sandbox: the worker whose opening of the stream was the last.

-- +goose Up
alter table sandboxes
    add worker           bigint not null default 0,
    add opening          bigint not null default 0, -- of that worker
    add session          digest,                    -- given to it
    add previous_session digest;                    -- that a call under way may still carry
