package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/term"

	"sallyport/cmd/sallyport/client"
	"sallyport/control"
)

// logInAsPerson logs a person in by the control plane's OIDC issuer and gives the
// session's value: by device code where the issuer has that, else with a browser on
// this machine.
func (c *cli) logInAsPerson(ctx context.Context, api *client.Client, browser bool) (control.Secret, error) {
	method, err := api.Login(ctx)
	if err != nil {
		return nil, err
	}
	var made client.NewSession
	if method.Device && !browser {
		made, err = c.logInElsewhere(ctx, api)
	} else {
		made, err = c.logInHere(ctx, api, method)
	}
	return control.Secret(made.Value), err
}

// logInElsewhere has the person confirm a code on any device (RFC 8628).
func (c *cli) logInElsewhere(ctx context.Context, api *client.Client) (client.NewSession, error) {
	device, err := api.StartDevice(ctx)
	if err != nil {
		return client.NewSession{}, err
	}
	fmt.Fprintf(c.stderr, "Open %s and enter %s\n", visible(device.URI), visible(device.UserCode))
	if device.Complete != "" {
		fmt.Fprintf(c.stderr, "or open %s and compare the code\n", visible(device.Complete))
	}
	return awaitConfirmation(ctx, time.Duration(max(device.Interval, 1))*time.Second, func() (client.NewSession, error) {
		return api.CreateSession(ctx, client.Proof{DeviceCode: device.Code})
	})
}

const (
	// devicePatience is longer than device codes are good for: that one has expired is
	// for the issuer to say, whose clock may be another.
	devicePatience = time.Hour
	// slower is how much longer each pause is after "slow down", and when nobody answers
	// (RFC 8628 section 3.5).
	slower = 5 * time.Second
)

// awaitConfirmation tries to end a login by device code until that is confirmed or comes
// to nothing, pausing before each try.
func awaitConfirmation(ctx context.Context, pause time.Duration, try func() (client.NewSession, error)) (client.NewSession, error) {
	ctx, cancel := context.WithTimeout(ctx, devicePatience)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return client.NewSession{}, errors.New("the login took too long: begin again")
			}
			return client.NewSession{}, ctx.Err()
		case <-time.After(pause):
		}
		made, err := try()
		var answer *client.Error
		var away *client.UnreachableError
		switch {
		case errors.As(err, &away), errors.As(err, &answer) && answer.Status == http.StatusTooManyRequests:
			pause += slower
		case errors.As(err, &answer) && answer.Code == "pending":
		default:
			return made, err
		}
	}
}

// logInHere has the issuer send a code back to a port of this machine (RFC 8252), which
// is good only with the verifier that stays here (RFC 7636).
func (c *cli) logInHere(ctx context.Context, api *client.Client, method client.Login) (client.NewSession, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return client.NewSession{}, fmt.Errorf("wait for the browser: %w", err)
	}
	defer listener.Close()
	proof := client.Proof{CodeVerifier: oauth2.GenerateVerifier(), RedirectURI: "http://" + listener.Addr().String() + "/callback"}
	back, err := newCallback(proof.RedirectURI, method.Issuer, func(q url.Values) error {
		return fmt.Errorf("the issuer did not log you in: %s", first(q.Get("error_description"), q.Get("error"), "it does not say why"))
	})
	if err != nil {
		return client.NewSession{}, err
	}
	config := oauth2.Config{ClientID: method.ClientID, RedirectURL: proof.RedirectURI, Scopes: method.Scopes, Endpoint: oauth2.Endpoint{AuthURL: method.Authorization}}
	fmt.Fprintf(c.stderr, "Open this address in a browser on this machine:\n%s\n", visible(config.AuthCodeURL(back.state,
		oauth2.S256ChallengeOption(proof.CodeVerifier), oauth2.SetAuthURLParam("nonce", control.LoginNonce(proof.CodeVerifier)))))
	if proof.Code, err = back.await(ctx, listener); err != nil {
		return client.NewSession{}, err
	}
	return api.CreateSession(ctx, proof)
}

// atTerminal reports whether somebody can be asked.
func (c *cli) atTerminal() bool {
	f, ok := c.stdin.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
