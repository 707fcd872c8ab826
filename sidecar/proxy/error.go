package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Error is an answer the proxy makes itself, in place of the upstream's. Its
// message is meant for the agent and never holds material.
type Error struct {
	Status     int
	Code       string // header Sallyport-Error
	Message    string
	RetryAfter time.Duration // 0 for none
	Cause      error         // for the log only
}

func (e *Error) Error() string {
	if e.Cause != nil && !strings.HasSuffix(e.Message, e.Cause.Error()) {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.Cause)
	}
	return e.Code + ": " + e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// Errorf makes an Error.
func Errorf(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// response is the error as an answer in JSON.
func (e *Error) response(requestID string) *http.Response {
	text, err := json.Marshal(map[string]any{"error": map[string]string{"code": e.Code, "message": e.Message, "request_id": requestID}})
	if err != nil {
		panic(fmt.Sprintf("encode a map of strings: %v", err))
	}
	text = append(text, '\n')
	header := http.Header{
		"Content-Type":    {"application/json"},
		"Content-Length":  {strconv.Itoa(len(text))},
		"Cache-Control":   {"no-store"},
		"Sallyport-Error": {e.Code},
	}
	if e.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	return &http.Response{
		StatusCode: e.Status, Header: header, ContentLength: int64(len(text)), Body: io.NopCloser(bytes.NewReader(text)),
	}
}

// explain gives the answer for an error of the upstream's side.
func (s *Server) explain(x *Exchange, err error) *Error {
	var ours *Error
	if errors.As(err, &ours) {
		return ours
	}
	if known := s.config.Explain(x, err); known != nil {
		known.Cause = err
		return known
	}
	// What net/http says of a broken answer quotes it, credential and all.
	cause := fmt.Errorf("%T", err)
	answer := Errorf(http.StatusBadGateway, "upstream_failed", "%s did not answer as an HTTP server should", x.Host)
	var (
		certificate *tls.CertificateVerificationError
		timeout     net.Error
		operation   *net.OpError
	)
	switch {
	case errors.Is(err, errClientCertificate):
		answer = Errorf(http.StatusBadGateway, "client_certificate", "%s lets in only who shows a TLS client certificate, and there is none for it; nothing was sent", x.Host)
	case errors.Is(err, errCertificateRefused):
		answer = Errorf(http.StatusBadGateway, "client_certificate", "%s does not accept the client certificate of the credential for it, or it hung up for another reason when it had seen that", x.Host)
	case errors.Is(err, ErrChanged), errors.Is(err, errClosedPool):
		answer = Errorf(http.StatusServiceUnavailable, "credential_changing", "the credential for %s was changed meanwhile; try again", x.Host)
		answer.RetryAfter = time.Second
	case errors.Is(err, context.Canceled):
		answer = Errorf(statusClientClosed, "client_gone", "the client closed the request")
	case errors.As(err, &certificate):
		cause = err // nothing had been sent that could be quoted
		answer = Errorf(http.StatusBadGateway, "upstream_certificate", "the certificate of %s is not to be trusted (%s); nothing was sent", x.Host, certificateFault(certificate.Err))
	case errors.As(err, &timeout) && timeout.Timeout():
		answer = Errorf(http.StatusGatewayTimeout, "upstream_timeout", "%s did not answer in time", x.Host)
	case errors.As(err, &operation) && operation.Op == "dial":
		cause = err
		answer = Errorf(http.StatusBadGateway, "upstream_unreachable", "no connection to %s port %d could be made", x.Host, x.Port)
	}
	answer.Cause = cause
	return answer
}

// statusClientClosed is nginx's status for a client that left; nobody reads it
// but the audit log.
const statusClientClosed = 499

func certificateFault(err error) string {
	var (
		invalid  x509.CertificateInvalidError
		hostname x509.HostnameError
		unknown  x509.UnknownAuthorityError
	)
	switch {
	case errors.As(err, &hostname):
		return "it is for another name"
	case errors.As(err, &unknown):
		return "it is signed by an authority nobody here knows; for a private one start the sidecar with --upstream-ca"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "it has expired or is not valid yet"
	}
	return "it does not verify"
}
