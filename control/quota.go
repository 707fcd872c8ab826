package control

// Amounts are how many things of each kind a team has, or may have.
type Amounts struct {
	Vaults      int64 `json:"vaults"`
	Credentials int64 `json:"credentials"` // captured ones are not counted
	Agents      int64 `json:"agents"`
	Sandboxes   int64 `json:"sandboxes"` // that are in use, or can still be
	Tokens      int64 `json:"tokens"`
	Events      int64 `json:"events"`  // a day of UTC; what people do counts, and is never refused
	Fetches     int64 `json:"fetches"` // of secrets by sandboxes, a minute
}

// UsualQuota is that of a team that was given none: far more than people keep by hand.
var UsualQuota = Amounts{Vaults: 1_000, Credentials: 10_000, Agents: 1_000, Sandboxes: 20_000, Tokens: 1_000, Events: 1_000_000_000, Fetches: 1_000_000}

// Quota is what a team may have, and has.
type Quota struct {
	Limits Amounts `json:"limits"`
	Used   Amounts `json:"used"`
}

// QuotaChange is what a quota is changed to; nil leaves a kind as it is, and below 0
// is as much as usual.
type QuotaChange struct {
	Vaults      *int64 `json:"vaults,omitempty"`
	Credentials *int64 `json:"credentials,omitempty"`
	Agents      *int64 `json:"agents,omitempty"`
	Sandboxes   *int64 `json:"sandboxes,omitempty"`
	Tokens      *int64 `json:"tokens,omitempty"`
	Events      *int64 `json:"events,omitempty"`
	Fetches     *int64 `json:"fetches,omitempty"`
}
