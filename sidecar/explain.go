package sidecar

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"sallyport/control/api/reach"
	"sallyport/sidecar/audit"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/capture"
	"sallyport/sidecar/inject"
	"sallyport/sidecar/match"
	"sallyport/sidecar/material"
	"sallyport/sidecar/proxy"
	"sallyport/sidecar/redact"
	"sallyport/sidecar/resolve"
	"sallyport/sidecar/scan"
	"sallyport/sidecar/socket"
	"sallyport/sidecar/strict"
)

// auditFull refuses what there is no place to record for: so says what does not happen,
// exhausted what the control plane says of it, if it takes no events though it is there.
func auditFull(so string, exhausted error) *proxy.Error {
	if exhausted != nil {
		return unavailable("audit_full", so+": "+exhausted.Error())
	}
	return unavailable("audit_full", "too many events wait for the control plane, so "+so+"; try again when it is back")
}

// later refuses what can't be recorded now as the team's audit wants it.
func later(code string, err error) *proxy.Error {
	var exhausted *audit.ExhaustedError
	if errors.As(err, &exhausted) { // which says what to do
		return unavailable(code, "no credential is used: "+exhausted.Said)
	}
	return unavailable(code, fmt.Sprintf("no credential is used: %v; try again", err))
}

// explain gives the answer for an error of one of the parts.
func explain(x *proxy.Exchange, err error) *proxy.Error {
	for _, part := range []func(*proxy.Exchange, error) *proxy.Error{explainLimit, explainAudit, explainDecision, explainCredential, explainAnswer} {
		if answer := part(x, err); answer != nil {
			return answer
		}
	}
	return nil
}

// explainAudit is of uses that could not be written down.
func explainAudit(_ *proxy.Exchange, err error) *proxy.Error {
	switch {
	case errors.Is(err, audit.ErrNoDisk):
		return proxy.Errorf(http.StatusServiceUnavailable, "audit_log_missing", "no credential is used: %v; an operator gives the sidecar one with --audit-dir", err)
	case errors.Is(err, audit.ErrDisk):
		return later("audit_log_failed", err)
	case errors.Is(err, audit.ErrUnacknowledged):
		return later("audit_unacknowledged", err)
	}
	return nil
}

// explainDecision is of requests that are not sent as they are, and of new secrets that can't be told.
func explainDecision(x *proxy.Exchange, err error) *proxy.Error {
	var (
		stray    *scan.StrayError
		tie      *bind.TieError
		framing  *strict.Error
		denied   *bind.DeniedError
		refused  *bind.RefusedMintError
		unread   *capture.UnreadableError
		unsigned *inject.SignError
	)
	switch {
	case errors.As(err, &unsigned):
		return proxy.Errorf(unsigned.Status, unsigned.Code, "%s", unsigned.Message)
	case errors.As(err, &refused):
		return proxy.Errorf(http.StatusForbidden, "mint_refused",
			"%s %s makes a new secret, which the rule '%s' refuses; an admin can have it captured, so that you get a placeholder for it: sallyport credential set --vault %s %s --mint %s",
			x.Method, x.Host, refused.Rule.GetRule(), refused.Vault, refused.Name, describeRule(refused.Rule))
	case errors.As(err, &unread):
		return proxy.Errorf(http.StatusBadGateway, "mint_unreadable",
			"%s has answered, perhaps with a new secret, and not as the rule for it expects: %s; nothing of the answer is passed on", x.Host, unread.Why)
	case errors.As(err, &denied):
		return proxy.Errorf(http.StatusForbidden, "policy_denied", "%s %s: %v", x.Method, x.Host, denied)
	case errors.Is(err, bind.ErrPath):
		return proxy.Errorf(http.StatusBadRequest, "bad_path",
			"what is decided about %s goes by paths: %v", x.Host, err)
	case errors.As(err, &stray):
		return proxy.Errorf(http.StatusBadRequest, "stray_placeholder",
			"the request to %s holds the placeholder %s where nothing replaces it (rule: block); a placeholder goes where the service reads its key, or store the credential with --stray literal or redact", x.Host, stray.Placeholder)
	case errors.As(err, &framing):
		return proxy.Errorf(framing.Status, framing.Code, "%s", framing.Message)
	case errors.Is(err, inject.ErrPath):
		return proxy.Errorf(http.StatusBadRequest, "bad_path", "the credential for %s goes into the path, which may hold no dot segments, escaped or not", x.Host)
	case errors.Is(err, inject.ErrMaterial), errors.Is(err, inject.ErrRule):
		return proxy.Errorf(http.StatusForbidden, "credential_unfit", "the credential for %s can't be put where its rule says; its secret has bytes that have no place there", x.Host)
	case errors.As(err, &tie):
		return proxy.Errorf(http.StatusConflict, "binding_tie", "%v; unpin one of the vaults", tie)
	}
	return nil
}

// explainCredential is of what could not be reached, or had, to send a request.
func explainCredential(x *proxy.Exchange, err error) *proxy.Error {
	switch {
	case errors.Is(err, reach.ErrForbidden):
		return proxy.Errorf(http.StatusForbidden, "forbidden_address",
			"%s has a private, local or metadata address; an operator allows a private service with --connect-to", x.Host)
	case errors.Is(err, resolve.ErrNoSuchHost):
		return proxy.Errorf(http.StatusBadGateway, "no_such_host", "the name %s does not resolve", x.Host)
	case errors.Is(err, material.ErrSuperseded), errors.Is(err, material.ErrUnbound):
		return unavailable("credential_changing", "the credential for "+x.Host+" is being changed; try again")
	case errors.Is(err, material.ErrRefused):
		return proxy.Errorf(http.StatusForbidden, "credential_refused", "the control plane does not give this sandbox the credential for %s", x.Host)
	case errors.Is(err, material.ErrExchange):
		return proxy.Errorf(http.StatusBadGateway, "exchange_failed",
			"the control plane could not exchange the credential for %s for what is injected: %s; nothing was sent", x.Host, material.Reason(err))
	case errors.Is(err, material.ErrUnavailable):
		return unavailable("credential_unavailable", "the credential for "+x.Host+" can't be had from the control plane"+exhausted(err)+"; nothing was sent")
	case errors.Is(err, material.ErrClosed):
		return unavailable("stopping", "the sidecar is stopping")
	}
	return nil
}

// explainAnswer is of what can't be searched for the credential.
func explainAnswer(x *proxy.Exchange, err error) *proxy.Error {
	switch {
	case errors.Is(err, redact.ErrShortToken):
		return proxy.Errorf(http.StatusForbidden, "short_secret", "%v", redact.ErrShortToken)
	case errors.Is(err, socket.ErrMalformed):
		return proxy.Errorf(http.StatusBadGateway, "malformed_frame", "%s: %v", x.Host, err)
	case errors.Is(err, redact.ErrReflected):
		return proxy.Errorf(http.StatusBadGateway, "reflected", "the answer of %s is kept back: %v; store a longer secret", x.Host, redact.ErrReflected)
	case errors.Is(err, redact.ErrPart):
		return proxy.Errorf(http.StatusBadGateway, "partial_response", "%s answered with a part of what was asked for, which can't be searched for the credential", x.Host)
	case errors.Is(err, match.ErrTangled), errors.Is(err, redact.ErrEncoding):
		return proxy.Errorf(http.StatusBadGateway, "unreadable_response", "%s answered in an encoding that can't be searched for the credential", x.Host)
	}
	return nil
}

// exhausted is what the control plane says of how much may be asked of it, if it does.
func exhausted(err error) string {
	if said := material.Bound(err); said != "" {
		return ": " + said
	}
	return ""
}

func unavailable(code, message string) *proxy.Error {
	return &proxy.Error{Status: http.StatusServiceUnavailable, Code: code, Message: message, RetryAfter: 5 * time.Second}
}

// inClear adds to a stray placeholder's refusal that TLS was missing, where that
// is why nothing replaced it.
func inClear(now *served, x *proxy.Exchange, err error) error {
	if err == nil || x.TLS {
		return err
	}
	if now.table.Bound(x.Host, 443, true) {
		return proxy.Errorf(http.StatusBadRequest, "plain_http", "plain HTTP to %s gets no credential; use https, or store the credential with --allow-http", x.Host)
	}
	return err
}
