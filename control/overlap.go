package control

import "time"

// Overlap is the version of a credential before the current one, where that stays good
// for a while: a request that a service answers 401 to is sent once more with it.
type Overlap struct {
	Version int64     `json:"version"`
	Until   time.Time `json:"until"`
}

// Retired is the version whose overlap was ended.
type Retired struct {
	Version int64 `json:"version"`
}

// MaxOverlap bounds how long a version stays good beside the next.
const MaxOverlap = 24 * time.Hour

// Has reports whether a version is c's current one or overlaps with that.
func (c Credential) Has(version int64) bool {
	return version == c.Version || c.Overlap != nil && version == c.Overlap.Version
}
