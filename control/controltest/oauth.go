package controltest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-oauth2/oauth2/v4"
	"github.com/go-oauth2/oauth2/v4/manage"
	"github.com/go-oauth2/oauth2/v4/models"
	"github.com/go-oauth2/oauth2/v4/server"
	"github.com/go-oauth2/oauth2/v4/store"
)

const (
	// ClientID and ClientSecret are the client that an OAuth knows.
	ClientID     = "billing"
	ClientSecret = "canary-client-s3cret"
	redirectURI  = "http://127.0.0.1"
)

// OAuth is an authorization server by go-oauth2, with TLS. It rotates refresh tokens.
type OAuth struct {
	TokenURL string
	manager  *manage.Manager

	mu      sync.Mutex
	answer  http.HandlerFunc // in the place of the server's; nil: none
	held    func()           // called before the server's own answer goes out; nil: nothing is
	tokens  []string         // access tokens that it gave
	refresh []string
	asked   int
}

// NewOAuth starts one whose access tokens live that long.
func NewOAuth(t *testing.T, life time.Duration) *OAuth {
	t.Helper()
	clients := store.NewClientStore()
	if err := clients.Set(ClientID, &models.Client{ID: ClientID, Secret: ClientSecret, Domain: redirectURI}); err != nil {
		t.Fatal(err)
	}
	manager := manage.NewDefaultManager()
	manager.MustTokenStorage(store.NewMemoryTokenStore())
	manager.MapClientStorage(clients)
	manager.SetClientTokenCfg(&manage.Config{AccessTokenExp: life})
	manager.SetAuthorizeCodeTokenCfg(&manage.Config{AccessTokenExp: life, RefreshTokenExp: time.Hour, IsGenerateRefresh: true})
	manager.SetRefreshTokenCfg(&manage.RefreshingConfig{AccessTokenExp: life, RefreshTokenExp: time.Hour, IsGenerateRefresh: true, IsRemoveAccess: true, IsRemoveRefreshing: true})
	real := server.NewDefaultServer(manager)
	real.SetAllowedGrantType(oauth2.ClientCredentials, oauth2.Refreshing, oauth2.AuthorizationCode)
	o := &OAuth{manager: manager}
	real.SetExtensionFieldsHandler(func(token oauth2.TokenInfo) map[string]any {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.tokens, o.refresh = append(o.tokens, token.GetAccess()), append(o.refresh, token.GetRefresh())
		return nil
	})
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.asked++
		answer, held := o.answer, o.held
		o.mu.Unlock()
		if answer != nil {
			answer(w, r)
			return
		}
		if err := real.HandleTokenRequest(w, r); err != nil {
			t.Errorf("the OAuth server: %v", err)
		}
		if held != nil {
			held()
		}
	}))
	t.Cleanup(web.Close)
	o.TokenURL = web.URL + "/token"
	return o
}

// Answer answers all requests from now on, until it is nil.
func (o *OAuth) Answer(answer http.HandlerFunc) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answer = answer
}

// Hold calls f before each answer goes out, until it is nil.
func (o *OAuth) Hold(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = f
}

// Given is the access and refresh tokens that it gave, and how often it was asked.
func (o *OAuth) Given() (access, refresh []string, asked int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.tokens...), append([]string(nil), o.refresh...), o.asked
}

// Allow gives a refresh token, as if a person had allowed the client something.
func (o *OAuth) Allow(t *testing.T) (refresh string) {
	t.Helper()
	request := &oauth2.TokenGenerateRequest{ClientID: ClientID, ClientSecret: ClientSecret, RedirectURI: redirectURI, UserID: "bob"}
	code, err := o.manager.GenerateAuthToken(context.Background(), oauth2.Code, request)
	if err != nil {
		t.Fatal(err)
	}
	request.Code = code.GetCode()
	token, err := o.manager.GenerateAccessToken(context.Background(), oauth2.AuthorizationCode, request)
	if err != nil {
		t.Fatal(err)
	}
	return token.GetRefresh()
}

// Withdraw makes a refresh token void.
func (o *OAuth) Withdraw(t *testing.T, refresh string) {
	t.Helper()
	if err := o.manager.RemoveRefreshToken(context.Background(), refresh); err != nil {
		t.Fatal(err)
	}
}
