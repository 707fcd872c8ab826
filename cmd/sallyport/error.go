package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"sallyport/cmd/sallyport/client"
	"sallyport/control"
)

// usageError is a command line that can't be meant.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// hinted is an error with what to do about it.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

func withHint(err error, hint string) error { return &hinted{err, hint} }

// fail prints err, as "error:" and "hint:" lines, and gives the exit status.
func (c *cli) fail(err error) int {
	var status exitStatus
	if errors.As(err, &status) {
		return int(status)
	}
	message := err.Error()
	if errors.Is(err, context.Canceled) {
		message = "interrupted"
	}
	fmt.Fprintf(c.stderr, "error: %s\n", visible(message))
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(c.stderr, "hint: %s\n", hint)
	}
	var usage *usageError
	if errors.As(err, &usage) {
		return statusUsage
	}
	return statusFailure
}

// warn says something that is wrong but stops nothing.
func (c *cli) warn(format string, args ...any) {
	fmt.Fprintf(c.stderr, "warning: %s\n", visible(fmt.Sprintf(format, args...)))
}

// notAdmin is the hint where something else answers.
const notAdmin = "is this the admin API? It is at http://127.0.0.1:8200 unless it was told otherwise; 8201 is for sidecars, 9200 for metrics"

func hintOf(err error) string {
	var (
		own     *hinted
		plain   *client.PlainHTTPError
		unknown x509.UnknownAuthorityError
		record  tls.RecordHeaderError
		answer  *client.Error
	)
	switch {
	case errors.As(err, &own):
		return own.hint
	case errors.As(err, &plain):
		return "use https://, or a tunnel: ssh -L 8200:127.0.0.1:8200 HOST and --server http://127.0.0.1:8200"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "start it with: sallyport-control serve; or name another with --server"
	case errors.As(err, &unknown):
		return "trust its CA with --ca-file FILE (login keeps it); the control plane writes it as ca.pem in its data directory"
	case errors.As(err, &record), strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return "the server does not speak TLS; an http:// address is accepted for this machine alone"
	case strings.Contains(err.Error(), "tls: certificate required"):
		return notAdmin
	case errors.As(err, &answer):
		return answerHint(answer)
	}
	return ""
}

func answerHint(e *client.Error) string {
	switch {
	case e.Code == control.CodeUnauthorized || e.Status == http.StatusUnauthorized:
		return "the token is wrong, expired or of another server: sallyport login --token-file FILE"
	case e.Code == control.CodeForbidden || e.Status == http.StatusForbidden:
		return "sallyport status shows your token's role and team"
	case e.Code == control.CodeNotFound:
		return "look it up: sallyport team list, vault list, agent list, …; --team says in which team, sallyport status of which your token is"
	case e.Code == "":
		return notAdmin
	case e.Code == control.CodeUnavailable:
		return "try again in a moment"
	}
	return ""
}

// checkName is control.CheckName without the name in its error.
func checkName(what, name string) error {
	if err := control.CheckName(what, name); err != nil {
		return usagef("%s", strings.Replace(err.Error(), " "+strconv.Quote(name), "", 1))
	}
	return nil
}

var flagName = regexp.MustCompile(`^--?[a-z][a-z-]{0,30}$`)

// parseError makes what kong found fit to print: somebody may have pasted a
// secret where a flag, a name or a file belongs, and errors end up in logs. So
// no argument is repeated but what is spelt like a flag or a known command.
func parseError(err error, args []string) error {
	message, _, _ := strings.Cut(err.Error(), " but got ")
	switch {
	case strings.Contains(message, "did you mean"):
	case strings.HasPrefix(message, "unexpected argument"):
		message = "unexpected argument (not shown, it could be a secret)"
	case strings.HasPrefix(message, "unexpected flag argument"):
		message = "a flag that takes no value was given one"
	case strings.HasPrefix(message, "unknown flag"):
		if !flagName.MatchString(strings.TrimPrefix(message, "unknown flag ")) {
			message = "unknown flag (not shown, it could be a secret)"
		}
	default:
		message = hideValues(message, args)
	}
	hint := "sallyport --help"
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil && parse.Context.Selected() != nil {
		hint = parse.Context.Selected().FullPath() + " --help"
	}
	return withHint(&usageError{message}, hint)
}

// hideValues cuts the values of args out of a message.
func hideValues(message string, args []string) string {
	for _, arg := range args {
		value := arg
		if name, rest, found := strings.Cut(arg, "="); found && flagName.MatchString(name) {
			value = rest
		} else if flagName.MatchString(arg) {
			continue
		}
		if len(value) >= 4 && strings.Contains(message, value) {
			message = strings.ReplaceAll(message, value, "…")
		}
	}
	return message
}
