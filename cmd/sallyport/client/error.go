package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"sallyport/control"
)

// Error is the control plane's answer that it did not do what was asked
// (RFC 9457 problem details).
type Error struct {
	Status int // HTTP
	Code   control.Code
	Detail string
}

func (e *Error) Error() string { return e.Detail }

// UnreachableError is a control plane that could not be asked.
type UnreachableError struct {
	Server string
	Err    error
	Sent   bool // what was asked may have been done
}

func (e *UnreachableError) Error() string {
	if e.Sent {
		return fmt.Sprintf("the control plane at %s did not answer, and may have done what was asked: %v", e.Server, e.Err)
	}
	return fmt.Sprintf("can't reach the control plane at %s: %v", e.Server, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// PlainHTTPError is a token kept from crossing a network readable.
type PlainHTTPError struct{ Host string }

func (e *PlainHTTPError) Error() string {
	return fmt.Sprintf("refusing to send the token to %s over plain HTTP, where anybody on the way could read it", e.Host)
}

// problem reads an answer other than success.
func problem(resp *http.Response, body []byte) error {
	e := &Error{Status: resp.StatusCode}
	var p struct {
		Title  string       `json:"title"`
		Detail string       `json:"detail"`
		Code   control.Code `json:"code"`
		Errors []struct {
			Message  string `json:"message"`
			Location string `json:"location"`
		} `json:"errors"`
	}
	if strings.Contains(resp.Header.Get("Content-Type"), "json") && json.Unmarshal(body, &p) == nil {
		e.Code, e.Detail = p.Code, p.Detail
		if e.Detail == "" {
			e.Detail = p.Title
		}
		for _, field := range p.Errors {
			e.Detail += "; " + strings.TrimSpace(field.Location+" "+field.Message)
		}
	}
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode <= 399:
		e.Detail = fmt.Sprintf("the server redirects to %q; a token is never sent along a redirect", resp.Header.Get("Location"))
	case e.Detail == "":
		e.Detail = fmt.Sprintf("the server answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return e
}
