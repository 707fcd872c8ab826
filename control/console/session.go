package console

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sallyport/control"
)

const (
	// cookieName begins so that no other host and no plain connection can set it (RFC
	// 6265bis section 4.1.3.2).
	cookieName = "__Host-sallyport"
	// header has the page's half. Only scripts of this very origin can send it.
	header = "Sallyport-Session"
	// pageHalf is how many characters of a session's value are the page's: 126 bits, and
	// 132 are left for the cookie.
	pageHalf = 21
)

// A session's value is in two halves. The cookie, which no script can read, is sent by
// the browser to every port of this host, and could be set by each. The page's half is
// kept by this origin alone. Neither is worth anything without the other, so a cookie
// that is stolen, planted or sent along with somebody else's request opens nothing.

// valueOf puts the session's value together, "" if a half is missing.
func valueOf(r *http.Request) string {
	cookies, page := r.CookiesNamed(cookieName), r.Header.Get(header)
	if len(cookies) != 1 || len(page) != pageHalf {
		return ""
	}
	return cookies[0].Value + page
}

// fromHere reports whether a page of this very origin asks. Another port or name below
// the same domain is not it.
func fromHere(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	if site != "" && site != "same-origin" {
		return false
	}
	// A form of a page that tells nobody where it is (Referrer-Policy) has the origin null,
	// as has one in a sandboxed frame, which is of another site.
	if origin := r.Header.Get("Origin"); origin != "" && !(origin == "null" && site == "same-origin") {
		u, err := url.Parse(origin)
		if err != nil || !strings.EqualFold(u.Host, r.Host) {
			return false
		}
	}
	return new(http.CrossOriginProtection).Check(r) == nil
}

const notFromHere = "this is for the console's own pages: a page of another origin asks"

// call is one of the API, made by the console's pages.
func (c *Console) call(w http.ResponseWriter, r *http.Request) {
	if !fromHere(r) {
		refuse(w, http.StatusForbidden, control.CodeForbidden, notFromHere)
		return
	}
	inner := within(r, r.Method, strings.TrimPrefix(r.URL.Path, strings.TrimSuffix(base, "/")))
	inner.URL.RawPath = strings.TrimPrefix(r.URL.RawPath, strings.TrimSuffix(base, "/"))
	inner.URL.RawQuery = r.URL.RawQuery
	inner.RequestURI = inner.URL.RequestURI()
	inner.Body, inner.ContentLength = r.Body, r.ContentLength
	if value := valueOf(r); value != "" {
		inner.Header.Set("Authorization", "Bearer "+value)
	}
	c.api.ServeHTTP(w, inner)
}

// within is a request to the API as part of r: what says who asks is not taken over.
func within(r *http.Request, method, path string) *http.Request {
	inner := r.Clone(r.Context())
	inner.Method, inner.URL = method, &url.URL{Path: path}
	inner.RequestURI = inner.URL.RequestURI()
	for _, name := range []string{"Authorization", "Cookie", header} {
		inner.Header.Del(name)
	}
	return inner
}

// session begins one or ends it.
func (c *Console) session(w http.ResponseWriter, r *http.Request) {
	switch {
	case !fromHere(r):
		refuse(w, http.StatusForbidden, control.CodeForbidden, notFromHere)
	case r.Method == http.MethodPost:
		c.begin(w, r)
	case r.Method == http.MethodDelete:
		c.end(w, r)
	default:
		w.Header().Set("Allow", "POST, DELETE")
		refuse(w, http.StatusMethodNotAllowed, control.CodeInvalid, "this path has only POST, DELETE")
	}
}

// begun is what the page is told of its session.
type begun struct {
	Key       string    `json:"key"` // the page's half
	ExpiresAt time.Time `json:"expires_at"`
}

// begin trades an API token, or what a login ends with, for a session. The page keeps
// neither.
func (c *Console) begin(w http.ResponseWriter, r *http.Request) {
	inner := within(r, http.MethodPost, "/v1/sessions")
	if token := r.Header.Get("Authorization"); token != "" {
		inner = within(r, http.MethodPost, "/v1/sessions/token")
		inner.Header.Set("Authorization", token)
		inner.Body, inner.ContentLength = http.NoBody, 0
	}
	answer := c.ask(inner)
	defer clear(answer.body.Bytes())
	var made struct {
		Value     string    `json:"value"`
		ExpiresAt time.Time `json:"expires_at"`
	}
	if answer.status != http.StatusCreated || json.Unmarshal(answer.body.Bytes(), &made) != nil || len(made.Value) <= pageHalf {
		answer.copyTo(w)
		return
	}
	cut := len(made.Value) - pageHalf
	setCookie(w, made.Value[:cut], 0)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(begun{made.Value[cut:], made.ExpiresAt})
}

// end ends the session that the page has, if it has one; the browser forgets it anyway.
func (c *Console) end(w http.ResponseWriter, r *http.Request) {
	setCookie(w, "", -1)
	value := valueOf(r)
	if value == "" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	inner := within(r, http.MethodDelete, "/v1/sessions/current")
	inner.Header.Set("Authorization", "Bearer "+value)
	answer := c.ask(inner)
	if answer.status == http.StatusUnauthorized { // it is over already
		answer = &recorder{status: http.StatusNoContent}
	}
	answer.copyTo(w)
}

func setCookie(w http.ResponseWriter, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: maxAge, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

// recorder is an answer of the API that is looked at before it is passed on.
type recorder struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (c *Console) ask(r *http.Request) *recorder {
	answer := &recorder{header: http.Header{}}
	c.api.ServeHTTP(answer, r)
	return answer
}

func (a *recorder) Header() http.Header { return a.header }

func (a *recorder) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *recorder) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

func (a *recorder) copyTo(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	if a.status != http.StatusNoContent {
		w.Write(a.body.Bytes())
	}
}
