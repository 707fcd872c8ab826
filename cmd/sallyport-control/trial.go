package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"sallyport/control"
	"sallyport/control/admin"
	"sallyport/control/agentapi"
	"sallyport/control/api"
	"sallyport/control/exchange"
	"sallyport/control/store"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/inject"
)

// tester tries credentials by the rules and limits that a sidecar goes by, and by
// connections as exchanges have them. Each trial has a connection of its own, so that
// it shows what a new one would.
func tester(sidecars *agentapi.Server, reach exchange.Reach) admin.Tester {
	return func(ctx context.Context, bound store.Bound, at control.Target, begin func() error) (control.Trial, error) {
		trial := control.Trial{Version: bound.Credential.Version, Method: at.Method, Host: at.Host, Port: at.Port, Path: at.Path}
		rules, err := usable(sidecars, bound.Credential, at)
		if err != nil {
			return trial, err
		}
		material, _, err := sidecars.Material(ctx, bound)
		if control.CodeOf(err) == control.CodeExchange {
			trial.Outcome, trial.Reason = control.OutcomeNoMaterial, err.Error()
			return trial, nil
		}
		if err != nil {
			return trial, err
		}
		defer material.Wipe()
		r, err := request(ctx, at, rules, material)
		if err != nil {
			return trial, err
		}
		pair, err := certificate(rules, material)
		if err != nil {
			return trial, err
		}
		var shown atomic.Bool
		own := reach
		if pair != nil {
			own.Certificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				shown.Store(true)
				return pair, nil
			}
		}
		client := exchange.NewClient(own)
		defer client.CloseIdleConnections()
		if err := begin(); err != nil {
			return trial, err
		}
		start := time.Now()
		response, err := client.Do(r)
		trial.Milliseconds = time.Since(start).Milliseconds()
		if err != nil {
			trial.Outcome, trial.Reason = unanswered(at, err, shown.Load())
			return trial, nil
		}
		response.Body.Close() // nobody reads it
		trial.Status = response.StatusCode
		trial.Outcome, trial.Reason = outcome(at, response.StatusCode)
		return trial, nil
	}
}

// usable gives the rules of a credential that may be used for a request.
func usable(sidecars *agentapi.Server, c control.Credential, at control.Target) ([]*api.Rule, error) {
	told := sidecars.Served(control.Policy{}, []control.Credential{c})
	table, err := bind.New(told.GetBindings(), nil, nil)
	if err != nil {
		return nil, err
	}
	if e := decide(table, at); e.Decision != "inject" {
		return nil, control.Errorf(control.CodeInvalid, "the credential %s/%s is not used for %s %s: %s", c.Vault, c.Name, at.Method, at.Path, e.Reason)
	}
	return told.GetBindings()[0].GetInject(), nil
}

// request is one with the credential, as a sidecar would send it.
func request(ctx context.Context, at control.Target, rules []*api.Rule, m api.Material) (*http.Request, error) {
	host := at.Host
	if at.Port != api.DefaultPort {
		host = net.JoinHostPort(host, strconv.Itoa(int(at.Port)))
	}
	plain, err := url.PathUnescape(at.Path)
	if err != nil {
		return nil, control.Errorf(control.CodeInvalid, "the path: %v", err)
	}
	r, err := http.NewRequestWithContext(ctx, at.Method, "https://"+host, nil)
	if err != nil {
		return nil, control.Errorf(control.CodeInvalid, "there is no such request")
	}
	r.URL.Path, r.URL.RawPath = plain, at.Path
	r.Header.Set("User-Agent", "sallyport-control") // some services answer no request without one
	r.Header.Set("Accept", "*/*")
	if !inject.Signs(rules) {
		return r, unfit(inject.Apply(r, rules, m))
	}
	signing, err := inject.NewSigning(rules, m)
	if err != nil {
		return nil, unfit(err)
	}
	defer signing.Wipe()
	signer := signing.Begin(r, inject.NewBudget(0))
	defer signer.Release()
	if err := inject.Apply(r, rules, m); err != nil {
		return nil, unfit(err)
	}
	_, err = signer.Sign(r, time.Now())
	return r, unfit(err)
}

// unfit is the error of what can't be put into a request. It quotes no material.
func unfit(err error) error {
	var unsigned *inject.SignError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unsigned):
		return control.Errorf(control.CodeInvalid, "the request can't be signed: %s", unsigned.Message)
	case errors.Is(err, inject.ErrMaterial):
		return control.Errorf(control.CodeInvalid, "%v", inject.ErrMaterial)
	}
	return control.Errorf(control.CodeInvalid, "%v", err)
}

// certificate is the one that a rule has shown, nil if none does.
func certificate(rules []*api.Rule, m api.Material) (*tls.Certificate, error) {
	for _, rule := range rules {
		if rule.GetClientCertificate() == nil {
			continue
		}
		pair, err := tls.X509KeyPair(m.Token, m.Token)
		if err != nil {
			return nil, control.Errorf(control.CodeInvalid, "the client certificate and its key can't be read")
		}
		return &pair, nil
	}
	return nil, nil
}

// unanswered is the outcome of a request without an answer; shown is whether the
// server has seen a client certificate, after its own was verified. In TLS 1.3 it may
// refuse that when the request is on its way, and just close the connection.
func unanswered(at control.Target, err error, shown bool) (control.Outcome, string) {
	var network net.Error
	switch {
	case shown && !(errors.As(err, &network) && network.Timeout()):
		return control.OutcomeRefused, at.Host + " ended the connection when it was shown the client certificate: most likely it does not take that"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return control.OutcomeUnreachable, at.Host + " closed the connection without an answer"
	}
	return control.OutcomeUnreachable, at.Host + " " + exchange.Reason(err)
}

// outcome is what a status says of the credential.
func outcome(at control.Target, status int) (control.Outcome, string) {
	says := fmt.Sprintf("%s answered %d", at.Host, status)
	switch {
	case status/100 == 2:
		return control.OutcomeAccepted, says + "; if that path answers so to everybody, this says nothing of the credential"
	case status == http.StatusUnauthorized, status == http.StatusProxyAuthRequired:
		return control.OutcomeRefused, says + ": the service refused the credential"
	case status == http.StatusForbidden:
		return control.OutcomeRefused, says + ": the service refused it: the credential is not good, or not for that path"
	case status/100 == 3:
		return control.OutcomeRedirected, says + ", a redirect, which is not followed with a credential: try another path"
	case status == http.StatusTooManyRequests:
		return control.OutcomeUnclear, says + ": the service wants fewer requests, and says nothing of the credential"
	case status/100 == 5:
		return control.OutcomeUnclear, says + ": the service is in trouble, and says nothing of the credential"
	}
	return control.OutcomeUnclear, says + ", which says nothing of the credential: try another path"
}
