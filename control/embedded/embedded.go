package embedded

import "errors"

// ErrNotInstalled is Start's error where the binaries of Postgres are missing.
var ErrNotInstalled = errors.New("PostgreSQL is not installed, which keeps the data when no database is given")
