package control

import "time"

// Source is a store of secrets outside, of one of the kinds of control/external, in
// which credentials of its vault may have theirs. What opens it is sealed like a
// credential's secret.
type Source struct {
	ID        string    `json:"id"`
	Vault     string    `json:"vault"` // name
	Name      string    `json:"name"`
	Kind      string    `json:"kind"`
	Settings  Settings  `json:"settings"`
	Version   int64     `json:"version"` // of the secret that opens it
	CreatedAt time.Time `json:"created_at"`
	RotatedAt time.Time `json:"rotated_at"`
}
