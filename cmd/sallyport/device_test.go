package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
	"golang.org/x/text/language"

	"sallyport/cmd/sallyport/client"
)

// devices is the store of zitadel/oidc's example, with what a test has become of the
// codes that people are shown.
type devices struct {
	*storage.Storage
	mu    sync.Mutex
	shown map[string]string // user code by device code
	asked map[string]int    // by user code
	fate  map[string]string // by user code: confirmed, denied, expired or slow, at the next question
}

func (d *devices) StoreDeviceAuthorization(ctx context.Context, clientID, device, user string, expires time.Time, scopes []string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shown[device] = user
	return d.Storage.StoreDeviceAuthorization(ctx, clientID, device, user, expires, scopes)
}

func (d *devices) GetDeviceAuthorizatonState(ctx context.Context, clientID, device string) (*op.DeviceAuthorizationState, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	user := d.shown[device]
	d.asked[user]++
	state, err := d.Storage.GetDeviceAuthorizatonState(ctx, clientID, device)
	if err != nil {
		return nil, err
	}
	found := *state
	switch d.fate[user] {
	case "confirmed":
		found.Done, found.Subject = true, "alice"
	case "denied":
		found.Denied = true
	case "expired":
		found.Expires = time.Now().Add(-time.Second)
	case "slow": // the library says slow_down then
		d.fate[user] = "confirmed"
		return nil, context.DeadlineExceeded
	}
	return &found, nil
}

func (d *devices) questions(user string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[user]
}

func (d *devices) decide(user, fate string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fate[user] = fate
}

// alice is the one user.
type alice struct{}

func (alice) ExampleClientID() string                       { return storage.ServiceUserID }
func (a alice) GetUserByUsername(name string) *storage.User { return a.GetUserByID(name) }
func (alice) GetUserByID(id string) *storage.User {
	if id != "alice" {
		return nil
	}
	return &storage.User{ID: id, Username: id, Email: "alice@example.com", EmailVerified: true, PreferredLanguage: language.English}
}

// startDeviceIssuer starts a certified OpenID provider, that of zitadel/oidc, which wants
// to be asked each second.
func startDeviceIssuer(t *testing.T) (issuer string, d *devices) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	issuer = "http://" + server.Listener.Addr().String()
	d = &devices{
		Storage: storage.NewStorageWithClients(alice{}, map[string]*storage.Client{"device": storage.DeviceClient("device", "device-s3cret")}),
		shown:   map[string]string{}, asked: map[string]int{}, fate: map[string]string{},
	}
	provider, err := op.NewProvider(&op.Config{
		CodeMethodS256: true, AuthMethodPost: true, SupportedUILocales: []language.Tag{language.English},
		DeviceAuthorization: op.DeviceAuthorizationConfig{Lifetime: time.Minute, PollInterval: time.Second, UserFormPath: "/device", UserCode: op.UserCodeBase20},
	}, d, op.StaticIssuer(issuer), op.WithAllowInsecure())
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = provider
	server.Start()
	t.Cleanup(server.Close)
	return issuer, d
}

// TestDeviceLogin: a code is entered elsewhere, with a real issuer, control plane and
// database, and every way that it can end.
func TestDeviceLogin(t *testing.T) {
	issuer, devices := startDeviceIssuer(t)
	secret := write(t, filepath.Join(t.TempDir(), "secret"), "device-s3cret")
	server, _ := startControl(t, "--oidc-issuer", issuer, "--oidc-client-id", "device", "--oidc-client-secret-file", secret,
		"--oidc-groups-claim", "preferred_username", "--oidc-role", "alice=default:admin")
	t.Run("ends", func(t *testing.T) {
		for _, tc := range []struct{ fate, want string }{
			{"confirmed", "as alice@example.com (admin:default)"},
			{"slow", "as alice@example.com (admin:default)"},
			{"denied", "the login was refused where it was to be confirmed"},
			{"expired", "the login took too long: begin again"},
		} {
			t.Run(tc.fate, func(t *testing.T) {
				t.Parallel()
				env := map[string]string{"HOME": t.TempDir(), "SALLYPORT_SERVER": server}
				said, stderr := io.Pipe()
				var stdout, all strings.Builder
				status := make(chan int, 1)
				go func() {
					status <- run(t.Context(), []string{"login", "--oidc"}, func(name string) string { return env[name] }, strings.NewReader(""), &stdout, stderr)
					stderr.Close()
				}()
				var deciding sync.WaitGroup
				for lines := bufio.NewScanner(said); lines.Scan(); {
					all.WriteString(lines.Text() + "\n")
					shown := regexp.MustCompile(`^Open ` + issuer + `/device and enter ([A-Z-]+)$`).FindStringSubmatch(lines.Text())
					if shown == nil {
						continue
					}
					deciding.Go(func() {
						for devices.questions(shown[1]) == 0 && t.Context().Err() == nil { // pending at first
							time.Sleep(10 * time.Millisecond)
						}
						devices.decide(shown[1], tc.fate)
					})
				}
				deciding.Wait()
				o := outcome{<-status, stdout.String(), all.String()}
				well := tc.fate == "confirmed" || tc.fate == "slow"
				if (o.status == 0) != well || !strings.Contains(o.stdout+o.stderr, tc.want) || strings.Contains(o.stdout+o.stderr, "sp_session_") {
					t.Errorf("%+v, want %q", o, tc.want)
				}
				if kept := call(t, env, "", "vault", "list"); (kept.status == 0) != well {
					t.Errorf("afterwards: %+v", kept)
				}
			})
		}
	})
}

// TestDevicePauses: each try comes as late as the issuer wants, later once it says so or
// nobody answers, and none when it has ended.
func TestDevicePauses(t *testing.T) {
	pending := &client.Error{Status: http.StatusServiceUnavailable, Code: "pending"}
	slowDown := &client.Error{Status: http.StatusTooManyRequests}
	away := &client.UnreachableError{Err: io.ErrUnexpectedEOF}
	for name, tc := range map[string]struct {
		answers []error // then nil
		want    []int   // seconds after the beginning
	}{
		"at once":         {nil, []int{2}},
		"pending":         {[]error{pending, pending}, []int{2, 4, 6}},
		"slow down":       {[]error{pending, slowDown, pending, slowDown}, []int{2, 4, 11, 18, 30}},
		"nobody answers":  {[]error{away, pending}, []int{2, 9, 16}},
		"refused":         {[]error{pending, &client.Error{Status: http.StatusUnauthorized}, pending}, []int{2, 4}},
		"out of order":    {[]error{&client.Error{Status: http.StatusServiceUnavailable, Code: "unavailable"}}, []int{2}},
		"nobody confirms": {slices.Repeat([]error{pending}, 10_000), nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun, left := time.Now(), tc.answers
				var tries []int
				_, err := awaitConfirmation(t.Context(), 2*time.Second, func() (client.NewSession, error) {
					tries = append(tries, int(time.Since(begun).Seconds()))
					if len(left) == 0 {
						return client.NewSession{}, nil
					}
					next := left[0]
					left = left[1:]
					return client.NewSession{}, next
				})
				if tc.want != nil && !slices.Equal(tries, tc.want) {
					t.Errorf("it was tried after %d seconds, want %d", tries, tc.want)
				}
				if over := err != nil && strings.Contains(err.Error(), "took too long"); over != (tc.want == nil) || over && time.Since(begun) != devicePatience {
					t.Errorf("after %s: %v", time.Since(begun), err)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := awaitConfirmation(ctx, 2*time.Second, func() (client.NewSession, error) {
			cancel()
			return client.NewSession{}, pending
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted: %v", err)
		}
	})
}
