package e2e

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-oauth2/oauth2/v4/errors"
	"github.com/go-oauth2/oauth2/v4/manage"
	"github.com/go-oauth2/oauth2/v4/models"
	"github.com/go-oauth2/oauth2/v4/server"
	"github.com/go-oauth2/oauth2/v4/store"

	"github.com/go-oauth2/oauth2/v4"
)

const (
	// TokensHost is where a Tokens is.
	TokensHost = "tokens.example.test"
	// TokensClient is whom it knows.
	TokensClient = "billing-agent"
)

// Tokens is a service that hands out secrets: an OAuth 2.0 server by go-oauth2, an
// API that makes keys, and a login that sets a cookie.
type Tokens struct {
	secret string
	oauth  *server.Server

	mu       sync.Mutex
	made     []string // secrets handed out
	requests []string // METHOD PATH of those that arrived
}

// NewTokens makes a service whose client has a secret.
func NewTokens(t testing.TB, secret string) *Tokens {
	t.Helper()
	clients := store.NewClientStore()
	if err := clients.Set(TokensClient, &models.Client{ID: TokensClient, Secret: secret}); err != nil {
		t.Fatal(err)
	}
	manager := manage.NewDefaultManager()
	manager.MustTokenStorage(store.NewMemoryTokenStore())
	manager.MapClientStorage(clients)
	s := &Tokens{secret: secret, oauth: server.NewDefaultServer(manager)}
	s.oauth.SetAllowedGrantType(oauth2.ClientCredentials, oauth2.AuthorizationCode, oauth2.Refreshing)
	s.oauth.Config.ForcePKCE = true
	manager.SetValidateURIHandler(onLoopback)
	s.oauth.SetUserAuthorizationHandler(func(http.ResponseWriter, *http.Request) (string, error) { return "bob", nil })
	s.oauth.SetInternalErrorHandler(func(err error) *errors.Response {
		t.Errorf("the OAuth server: %v", err)
		return nil
	})
	s.oauth.SetExtensionFieldsHandler(func(token oauth2.TokenInfo) map[string]any {
		s.keep(token.GetAccess())
		if refresh := token.GetRefresh(); refresh != "" {
			s.keep(refresh)
		}
		return nil
	})
	return s
}

// onLoopback lets codes go to any port of the client's machine (RFC 8252 section 7.3).
func onLoopback(_, redirect string) error {
	if !strings.HasPrefix(redirect, "http://127.0.0.1:") {
		return errors.ErrInvalidRedirectURI
	}
	return nil
}

// Made gives the secrets handed out so far.
func (s *Tokens) Made() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.made)
}

// Arrived says how many requests with that text in their METHOD PATH arrived.
func (s *Tokens) Arrived(part string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if strings.Contains(r, part) {
			n++
		}
	}
	return n
}

func (s *Tokens) keep(secret string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made = append(s.made, secret)
	return secret
}

func (s *Tokens) newKey() string {
	return s.keep(fmt.Sprintf("key_%016d_%s", time.Now().UnixNano(), "live"))
}

func (s *Tokens) known(secret string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.made, secret)
}

// ServeHTTP answers one request. Whatever a path below /keys/ says, a key is made.
func (s *Tokens) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.RequestURI)
	s.mu.Unlock()
	id, secret, _ := r.BasicAuth()
	owner := id == TokensClient && secret == s.secret
	switch form, keys := strings.CutPrefix(r.URL.Path, "/keys/"); {
	case r.URL.Path == "/oauth/token":
		if err := s.oauth.HandleTokenRequest(rw, r); err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
		}
	case r.URL.Path == "/oauth/authorize":
		if err := s.oauth.HandleAuthorizeRequest(rw, r); err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
		}
	case r.URL.Path == "/me":
		token, err := s.oauth.ValidationBearerToken(r)
		if err != nil {
			answer(rw, http.StatusUnauthorized, map[string]any{"error": "invalid_token"})
			return
		}
		answer(rw, http.StatusOK, map[string]any{"client": token.GetClientID(), "echo": r.Header.Get("Authorization")})
	case r.URL.Path == "/keyed":
		answer(rw, status(s.known(r.Header.Get("X-Api-Key"))), map[string]any{"echo": r.Header.Get("X-Api-Key")})
	case r.URL.Path == "/home":
		cookie, err := r.Cookie("session")
		answer(rw, status(err == nil && s.known(cookie.Value)), map[string]any{"cookies": r.Header.Get("Cookie")})
	case !owner:
		answer(rw, http.StatusUnauthorized, map[string]any{"error": "who are you?"})
	case r.URL.Path == "/login":
		http.SetCookie(rw, &http.Cookie{Name: "session", Value: s.newKey(), Path: "/", Secure: true, HttpOnly: true})
		http.SetCookie(rw, &http.Cookie{Name: "theme", Value: "dark"})
		rw.Header().Set("Location", "/home")
		rw.WriteHeader(http.StatusSeeOther)
	case keys:
		s.serveKey(rw, form)
	default:
		answer(rw, http.StatusNotFound, map[string]any{"error": "no such thing"})
	}
}

func status(ok bool) int {
	if ok {
		return http.StatusOK
	}
	return http.StatusUnauthorized
}

// serveKey makes a key and says it in one of several forms.
func (s *Tokens) serveKey(rw http.ResponseWriter, form string) {
	key := s.newKey()
	body, err := json.Marshal(map[string]any{"id": "k1", "key": key, "hint": "use " + key + " in X-Api-Key", "scopes": []string{"read"}})
	if err != nil {
		panic(err)
	}
	h := rw.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Request-Key", key)
	switch form {
	case "gzip":
		h.Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(rw)
		z.Write(body)
		z.Close()
	case "chunked":
		for piece := range slices.Chunk(body, 7) {
			rw.Write(piece)
			http.NewResponseController(rw).Flush()
		}
	case "huge":
		io.WriteString(rw, `{"padding":"`+strings.Repeat("x", 2<<20)+`","key":"`+key+`"}`)
	case "elsewhere":
		io.WriteString(rw, `{"data":{"key":"`+key+`"}}`)
	case "twice":
		io.WriteString(rw, `{"key":"decoy-decoy-decoy","key":"`+key+`"}`)
	case "text":
		h.Set("Content-Type", "text/plain")
		io.WriteString(rw, "key="+key)
	case "hints":
		h.Set("Link", "<https://"+TokensHost+"/"+key+">; rel=preload")
		rw.WriteHeader(http.StatusEarlyHints)
		rw.Write(body)
	default:
		rw.Write(body)
	}
}
