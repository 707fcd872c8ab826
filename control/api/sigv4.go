package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// SigV4 is the material of AWS Signature Version 4: keys that were derived from a
// secret access key, each of which signs for one day, region and service. A
// Material carries it as its token.
type SigV4 struct {
	AccessKeyID  string
	SessionToken []byte // of temporary credentials, else empty
	Scopes       []SigV4Scope
}

// SigV4Scope is where keys sign.
type SigV4Scope struct {
	Hosts   []string // HostPattern; empty: all of the credential's
	Region  string
	Service string
	Days    []SigV4Day
}

// SigV4Day is the key of one day in UTC.
type SigV4Day struct {
	Date string // SigV4Date
	Key  []byte
}

// SigV4Date is the layout of a day in a credential scope.
const SigV4Date = "20060102"

func (SigV4) String() string               { return redacted }
func (SigV4) GoString() string             { return redacted }
func (SigV4) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (SigV4) Format(f fmt.State, _ rune)   { fmt.Fprint(f, redacted) }
func (SigV4) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Format keeps every verb of fmt from reaching the key.
func (SigV4Day) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// Marshal is the material's token.
func (s *SigV4) Marshal() ([]byte, error) {
	type plain SigV4 // which does not redact itself
	text, err := json.Marshal((*plain)(s))
	if err != nil {
		return nil, fmt.Errorf("write signing keys: %w", err)
	}
	return text, nil
}

// ParseSigV4 is the inverse of Marshal.
func ParseSigV4(token []byte) (*SigV4, error) {
	type plain SigV4
	s := new(SigV4)
	if err := json.Unmarshal(token, (*plain)(s)); err != nil {
		return nil, errors.New("read signing keys: malformed") // the cause would quote them
	}
	if s.AccessKeyID == "" || len(s.Scopes) == 0 {
		return nil, errors.New("read signing keys: incomplete")
	}
	return s, nil
}

// Key gives the key of a scope at a time, nil if there is none.
func (s *SigV4Scope) Key(at time.Time) []byte {
	date := at.UTC().Format(SigV4Date)
	for _, d := range s.Days {
		if d.Date == date {
			return d.Key
		}
	}
	return nil
}

// Wipe overwrites the keys and the session token.
func (s *SigV4) Wipe() {
	clear(s.SessionToken)
	for _, scope := range s.Scopes {
		for _, d := range scope.Days {
			clear(d.Key)
		}
	}
}
