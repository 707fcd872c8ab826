package control

import (
	"errors"
	"fmt"
)

// Code is the kind of an Error. Every border (HTTP, Connect, CLI) maps it once.
type Code string

const (
	CodeInvalid      Code = "invalid"         // the input can't be right
	CodeNotFound     Code = "not_found"       // no such thing in this team
	CodeConflict     Code = "conflict"        // it exists already, or contradicts what exists
	CodeUnauthorized Code = "unauthenticated" // no or wrong credentials of the caller
	CodeForbidden    Code = "forbidden"       // the caller may not do this
	CodeUnavailable  Code = "unavailable"     // a dependency is away; try again
	CodeChanged      Code = "changed"         // it is not what the caller last saw
	CodeQuota        Code = "quota_exceeded"  // the team has as many as it may have
	CodeExchange     Code = "exchange_failed" // another server did not give what is injected for a secret
)

// Error is an error whose message is meant for the caller: what was wrong and
// what to do. Any other error is shown as an internal one, without detail.
type Error struct {
	Code    Code
	Message string
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// CodeOf gives the Code in err's chain, or "" if it has none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Behind reports whether something is unavailable for a reason that err holds and its
// caller is not told, so that it belongs into the log.
func Behind(err error) bool {
	var known *Error
	return errors.As(err, &known) && known.Code == CodeUnavailable && err.Error() != known.Message
}
