-- Which kinds there are, and what settings each takes, is control/exchange's to say.

-- +goose Up
alter table credentials
    drop constraint credentials_auth_check,
    add constraint credentials_auth_check check (auth ~ '^[a-z0-9_]{1,32}$'),
    add settings jsonb not null default '{}' check (jsonb_typeof(settings) = 'object');

-- What was minted last of a secret that can be used once, for all replicas.
alter table credential_versions
    add minted_salt       bytea check (octet_length(minted_salt) = 32),
    add minted_commitment bytea check (octet_length(minted_commitment) = 32),
    add minted            bytea,
    add minted_expires_at timestamptz,
    add check (num_nonnulls(minted_salt, minted_commitment, minted, minted_expires_at) in (0, 4));
