package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/term"

	"sallyport/cmd/sallyport/client"
	"sallyport/control"
)

// browserPatience is how long a login in a browser may take.
const browserPatience = 10 * time.Minute

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
	pause := time.NewTicker(time.Duration(max(device.Interval, 1)) * time.Second)
	defer pause.Stop()
	for time.Now().Before(device.ExpiresAt) {
		select {
		case <-ctx.Done():
			return client.NewSession{}, ctx.Err()
		case <-pause.C:
		}
		made, err := api.CreateSession(ctx, client.Proof{DeviceCode: device.Code})
		var answer *client.Error
		if !errors.As(err, &answer) || answer.Code != "pending" && answer.Status != http.StatusTooManyRequests {
			return made, err
		}
	}
	return client.NewSession{}, errors.New("the login took too long: begin again")
}

// logInHere has the issuer send a code back to a port of this machine (RFC 8252), which
// is good only with the verifier that stays here (RFC 7636).
func (c *cli) logInHere(ctx context.Context, api *client.Client, method client.Login) (client.NewSession, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return client.NewSession{}, fmt.Errorf("wait for the browser: %w", err)
	}
	proof := client.Proof{CodeVerifier: oauth2.GenerateVerifier(), RedirectURI: "http://" + listener.Addr().String() + "/callback"}
	back := &callback{state: rand.Text(), issuer: method.Issuer, codes: make(chan string, 1), errs: make(chan error, 1)}
	server := &http.Server{Handler: back, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		// What is on its way to the browser gets there.
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(drain) != nil {
			server.Close()
		}
		<-served
	}()
	config := oauth2.Config{ClientID: method.ClientID, RedirectURL: proof.RedirectURI, Scopes: method.Scopes, Endpoint: oauth2.Endpoint{AuthURL: method.Authorization}}
	fmt.Fprintf(c.stderr, "Open this address in a browser on this machine:\n%s\n", visible(config.AuthCodeURL(back.state,
		oauth2.S256ChallengeOption(proof.CodeVerifier), oauth2.SetAuthURLParam("nonce", control.LoginNonce(proof.CodeVerifier)))))
	select {
	case proof.Code = <-back.codes:
		return api.CreateSession(ctx, proof)
	case err := <-back.errs:
		return client.NewSession{}, err
	case <-ctx.Done():
		return client.NewSession{}, ctx.Err()
	case <-time.After(browserPatience):
		return client.NewSession{}, errors.New("no browser came back with a login: begin again")
	}
}

// callback takes the one answer of the issuer that has the state of this login. To all
// else it says the same, and goes on waiting: any page in the browser can send it something.
type callback struct {
	state, issuer string
	codes         chan string
	errs          chan error
}

func (b *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	q := r.URL.Query()
	iss, named := q["iss"] // RFC 9207
	if r.Method != http.MethodGet || r.URL.Path != "/callback" || !strings.HasPrefix(r.Host, "127.0.0.1:") ||
		subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(b.state)) != 1 || named && (len(iss) != 1 || iss[0] != b.issuer) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintln(w, "This is no answer to a login that was begun here.")
		return
	}
	if code := q.Get("code"); code != "" {
		select {
		case b.codes <- code:
		default: // there was one
		}
		fmt.Fprintln(w, "You can close this page; sallyport goes on in the terminal.")
		return
	}
	select {
	case b.errs <- fmt.Errorf("the issuer did not log you in: %s", first(q.Get("error_description"), q.Get("error"), "it does not say why")):
	default:
	}
	fmt.Fprintln(w, "You were not logged in; the terminal says why.")
}

// atTerminal reports whether somebody can be asked.
func (c *cli) atTerminal() bool {
	f, ok := c.stdin.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
