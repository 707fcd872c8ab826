package control

import "time"

// KeyStatus is which keys everything at rest depends on.
type KeyStatus struct {
	KEK      string       `json:"kek"`       // id of the key-encryption key that this replica wraps under
	DataKeys []KeyUse     `json:"data_keys"` // by the key-encryption key that wraps them
	Rotation *KeyRotation `json:"rotation,omitempty"`
}

// KeyUse is how many vaults' data keys a key-encryption key wraps.
type KeyUse struct {
	KEK   string `json:"kek"`
	Count int64  `json:"count"`
}

// KeyRotation wraps every data key under one key-encryption key, and if it is
// asked to, makes new data keys and seals every secret under them.
type KeyRotation struct {
	ID          string     `json:"id"`
	KEK         string     `json:"kek"`
	NewDataKeys bool       `json:"new_data_keys"`
	StartedAt   time.Time  `json:"started_at"`
	FinishedAt  *time.Time `json:"finished_at,omitempty"`
	Remaining   int64      `json:"remaining"` // data keys and secrets still to do
}

// DataKey is the data key of one vault.
type DataKey struct {
	Vault string // id
	WrappedKey
}
