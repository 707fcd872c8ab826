package sidecar

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport/control/api"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/proxy"
	"sallyport/sidecar/scan"
)

// bound is what serves a credential "shop", a token and a cookie captured with it,
// and one more captured for another host.
func bound(t *testing.T) *served {
	t.Helper()
	binding := func(name, host string, rules ...*api.Rule) *api.Binding {
		return &api.Binding{
			CredentialId: "id-" + name, Vault: "v", Name: name, Version: 1, Hosts: []string{host}, Inject: rules, Captured: name != "shop",
			Mints: []*api.Mint{{
				Action: api.MintAction_MINT_ACTION_CAPTURE, Methods: []string{"POST"}, Path: "/login", Rule: "capture POST /login cookie:session",
				Places: []*api.MintPlace{{Place: &api.MintPlace_Cookie{Cookie: "session"}}},
			}},
		}
	}
	bearer := &api.Rule{Place: &api.Rule_Header_{Header: &api.Rule_Header{Name: "Authorization", Template: "Bearer {{token}}"}}}
	own := &api.Rule{Place: &api.Rule_Header_{Header: &api.Rule_Header{Name: "X-Shop", Template: "{{token}}"}}}
	query := &api.Rule{Place: &api.Rule_Query_{Query: &api.Rule_Query{Name: "t"}}}
	cookie := &api.Rule{Place: &api.Rule_Cookie_{Cookie: &api.Rule_Cookie{Name: "session"}}}
	table, err := bind.New([]*api.Binding{
		binding("shop", "api.shop.test", bearer), binding("shop.token.1", "api.shop.test", bearer, own, query),
		binding("shop.session.2", "api.shop.test", cookie), binding("shop.token.3", "eu.shop.test", bearer),
	}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &served{table: table, scanner: scan.New(table.Placeholders()), captured: scan.New(table.CapturedPlaceholders())}
}

func request(t *testing.T, method, target string, fields ...string) (*proxy.Exchange, *http.Request) {
	t.Helper()
	r, err := http.NewRequest(method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range fields {
		name, value, _ := strings.Cut(field, ": ")
		r.Header.Add(name, value)
	}
	return &proxy.Exchange{Host: r.URL.Host, Facts: proxy.Facts{Port: 443, TLS: true}}, r
}

func permitted(t *testing.T, now *served, x *proxy.Exchange, r *http.Request) bind.Permitted {
	t.Helper()
	p, err := permit(now, x, r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func chosen(t *testing.T, now *served, x *proxy.Exchange, r *http.Request) (*api.Binding, error) {
	t.Helper()
	return choose(now, permitted(t, now, x, r), x, r)
}

// The placeholder in a place for keys says which credential is used. One that
// is not for the host, or not bound, is never taken for its origin's.
func TestPlaceholderDecides(t *testing.T) {
	now := bound(t)
	for _, tt := range []struct {
		name, target, field string
		want                string // a credential, or the code of a refusal
	}{
		{"none", "https://api.shop.test/", "", "shop"},
		{"a key of the client's", "https://api.shop.test/", "Authorization: Bearer sk_own", "shop"},
		{"the origin's", "https://api.shop.test/", "Authorization: Bearer vault:shop", "shop"},
		{"a token", "https://api.shop.test/", "Authorization: Bearer vault:shop.token.1", "shop.token.1"},
		{"in another field for keys", "https://api.shop.test/", "X-Api-Key: vault:shop.token.1", "shop.token.1"},
		{"in its rule's field", "https://api.shop.test/", "x_shop: vault:shop.token.1", "shop.token.1"},
		{"in its rule's query", "https://api.shop.test/?t=vault%3Ashop.token.1", "", "shop.token.1"},
		{"a password of Basic", "https://api.shop.test/", "Authorization: Basic eDp2YXVsdDpzaG9wLnRva2VuLjE=", "shop.token.1"},
		{"a cookie", "https://api.shop.test/", "Cookie: a=b; session=vault:shop.session.2", "shop.session.2"},
		{"two", "https://api.shop.test/", "Cookie: session=vault:shop.session.2; t=vault:shop.token.1", "binding_tie"},
		{"where no key is sent", "https://api.shop.test/", "X-Note: vault:shop.token.1", "shop"}, // and then a stray
		{"another host's", "https://api.shop.test/", "Authorization: Bearer vault:shop.token.3", "stray_placeholder"},
		{"at a host of its own", "https://eu.shop.test/", "Authorization: Bearer vault:shop.token.3", "shop.token.3"},
		{"not named there", "https://eu.shop.test/", "", ""},
		{"at a stranger's host", "https://evil.test/", "Authorization: Bearer vault:shop.token.1", "stray_placeholder"},
		{"one that is gone", "https://api.shop.test/", "Authorization: Bearer vault:shop.token.9", "mint_expired"},
		{"one that is gone, in Basic", "https://api.shop.test/", "Authorization: Basic eDp2YXVsdDpzaG9wLnRva2VuLjk=", "mint_expired"},
		{"one that is gone, in a query", "https://api.shop.test/?t=vault%3Ashop.token.9", "", "mint_expired"},
		{"one that is gone, in a field of its own", "https://api.shop.test/", "X-Shop: vault:shop.token.9", "mint_expired"},
		{"one that is gone, escaped in a cookie", "https://api.shop.test/", "Cookie: session=vault%3Ashop.session.9", "mint_expired"},
		{"another name", "https://api.shop.test/", "Authorization: Bearer vault:shopping", "shop"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var fields []string
			if tt.field != "" {
				fields = []string{tt.field}
			}
			x, r := request(t, "GET", tt.target, fields...)
			binding, err := chosen(t, now, x, r)
			got := binding.GetName()
			var refusal *proxy.Error
			if err != nil && (errors.As(err, &refusal) || errors.As(explain(x, err), &refusal)) {
				got = refusal.Code
			}
			if got != tt.want {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

// A field by which a storage service reads or writes another path than the request's is
// no way around limits.
func TestFieldsThatNameAnotherPath(t *testing.T) {
	bearer := []*api.Rule{{Place: &api.Rule_Header_{Header: &api.Rule_Header{Name: "Authorization", Template: "Bearer {{token}}"}}}}
	table, err := bind.New([]*api.Binding{
		{CredentialId: "id", Vault: "v", Name: "store", Hosts: []string{"store.test"}, Inject: bearer, Limits: &api.Limits{Paths: []string{"/mine"}}},
	}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := &served{table: table, scanner: scan.New(nil), captured: scan.New(nil)}
	for field, refused := range map[string]bool{
		"PUT X-Amz-Copy-Source: /others/secret": true, "PUT X_Amz_Copy_Source: /others/secret": true, "PUT X-Goog-Copy-Source: others/secret": true,
		"PUT X-Ms-Copy-Source: https://store.test/others/secret": true, "PUT X-Ms-Rename-Source: /others/secret": true, "PUT X-Oss-Copy-Source: /others/secret": true,
		"COPY Destination: https://store.test/others/new": true, "MOVE Destination: /others/new": true,
		"PUT Destination: /others/new": false, "PUT X-Amz-Meta-Source: /others/secret": false,
	} {
		method, field, _ := strings.Cut(field, " ")
		x, r := request(t, method, "https://store.test/mine/new", field)
		p := permitted(t, now, x, r)
		binding, err := p.Binding()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := within(p, binding, x, r, time.Now()); (err != nil) != refused {
			t.Errorf("%s with %s: %v", method, field, err)
		}
	}
}

// The rules for new secrets hold for whatever credential a request gets.
func TestMintRulesHoldForCaptured(t *testing.T) {
	now := bound(t)
	for target, want := range map[string]bool{"https://api.shop.test/login": true, "https://api.shop.test/home": false} {
		for _, field := range []string{"Accept: */*", "Authorization: Bearer vault:shop.token.1"} {
			x, r := request(t, "POST", target, field)
			binding, err := chosen(t, now, x, r)
			if err != nil {
				t.Fatal(err)
			}
			if rule, err := mintRule(permitted(t, now, x, r), binding, x, r); err != nil || (rule != nil) != want {
				t.Errorf("%s with %s: %v, %v", target, field, rule, err)
			}
		}
	}
	x, r := request(t, "GET", "https://api.shop.test/home", "X_HTTP_Method_Override: POST")
	binding, err := chosen(t, now, x, r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mintRule(permitted(t, now, x, r), binding, x, r); err == nil {
		t.Error("a method in a field got around the rules")
	}
}

// Where the host's own credential has another rule for the same request, neither is
// a way around the other.
func TestMintRulesOfBothHold(t *testing.T) {
	bearer := []*api.Rule{{Place: &api.Rule_Header_{Header: &api.Rule_Header{Name: "Authorization", Template: "Bearer {{token}}"}}}}
	place := []*api.MintPlace{{Place: &api.MintPlace_Pointer{Pointer: "/key"}}}
	refuse := &api.Mint{Action: api.MintAction_MINT_ACTION_REFUSE, Path: "/keys", Rule: "refuse /keys"}
	strip := &api.Mint{Action: api.MintAction_MINT_ACTION_STRIP, Path: "/keys", Rule: "strip /keys json:/key", Places: place}
	capture := &api.Mint{Action: api.MintAction_MINT_ACTION_CAPTURE, Path: "/keys", Rule: "capture /keys json:/key", Places: place}
	for _, tt := range []struct {
		name        string
		own, origin *api.Mint
		refused     bool
	}{
		{"the origin refuses", strip, refuse, true},
		{"the host's own refuses", refuse, strip, true},
		{"two that differ", strip, capture, true},
		{"the same", strip, strip, false},
		{"the host's own captures, and nothing could be stored for the other", capture, nil, true},
		{"the host's own strips", strip, nil, false},
		{"the other captures", nil, capture, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mints := func(m *api.Mint) []*api.Mint {
				if m == nil {
					return nil
				}
				return []*api.Mint{m}
			}
			table, err := bind.New([]*api.Binding{
				{CredentialId: "id-eu", Vault: "v", Name: "eu", Hosts: []string{"eu.shop.test"}, Inject: bearer, Mints: mints(tt.own)},
				{CredentialId: "id-1", Vault: "v", Name: "shop.token.1", Hosts: []string{"eu.shop.test"}, Inject: bearer, Mints: mints(tt.origin), Captured: true},
			}, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			now := &served{table: table, scanner: scan.New(table.Placeholders()), captured: scan.New(table.CapturedPlaceholders())}
			x, r := request(t, "POST", "https://eu.shop.test/keys", "Authorization: Bearer vault:shop.token.1")
			binding, err := chosen(t, now, x, r)
			if err != nil || binding.GetName() != "shop.token.1" {
				t.Fatalf("%v, %v", binding, err)
			}
			rule, err := mintRule(permitted(t, now, x, r), binding, x, r)
			var refusal *proxy.Error
			refused := err != nil && (errors.As(err, &refusal) || errors.As(explain(x, err), &refusal)) && refusal.Code == "mint_refused"
			if refused != tt.refused || !tt.refused && (rule == nil || err != nil) {
				t.Errorf("%v, %v", rule, err)
			}
		})
	}
}

// A field has more than the secret around it: the echo in the same answer has not.
func TestEchoOfNewSecretIsMasked(t *testing.T) {
	const secret = "s:new-secret/0123456789+abcdef"
	cookie := &api.MintPlace{Place: &api.MintPlace_Cookie{Cookie: "session"}}
	header := &api.MintPlace{Place: &api.MintPlace_Header{Header: "Authorization"}}
	for _, tt := range []struct {
		name, field, value string
		place              *api.MintPlace
	}{
		{"a cookie", "Set-Cookie", "session=" + secret + "; Secure", cookie},
		{"in quotation marks", "Set-Cookie", `session="` + secret + `"; Secure`, cookie},
		{"escaped", "Set-Cookie", "session=" + url.QueryEscape(secret) + "; Secure", cookie},
		{"with a scheme", "Authorization", "Bearer " + secret, header},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &handOut{exchange: &proxy.Exchange{}, rule: &api.Mint{Action: api.MintAction_MINT_ACTION_STRIP, Places: []*api.MintPlace{tt.place}}}
			response := &http.Response{
				StatusCode: 200, ContentLength: -1, Header: http.Header{tt.field: {tt.value}},
				Body: io.NopCloser(strings.NewReader("<p>Your key is " + secret + " .")),
			}
			if err := h.response(t.Context(), response); err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if told := string(text) + response.Header.Get(tt.field); strings.Contains(told, "0123456789") || !strings.Contains(told, "Your key is") {
				t.Errorf("told: %s", told)
			}
		})
	}
}

// A part of an answer can be cut so that no rule finds the secret in it.
func TestPartsOfNewSecretAreRefused(t *testing.T) {
	h := &handOut{exchange: &proxy.Exchange{}, rule: &api.Mint{
		Action: api.MintAction_MINT_ACTION_STRIP, Places: []*api.MintPlace{{Place: &api.MintPlace_Pointer{Pointer: "/key"}, Optional: true}},
	}}
	response := &http.Response{
		StatusCode: 206, ContentLength: -1, Header: http.Header{"Content-Type": {"application/json"}, "Content-Range": {"bytes 8-37/40"}},
		Body: io.NopCloser(strings.NewReader(`"the-new-secret-0123456789"`)),
	}
	if err := h.response(t.Context(), response); err == nil {
		text, _ := io.ReadAll(response.Body)
		t.Errorf("told: %s", text)
	}
}

// lateTrailers are there when the body has ended, as net/http gives them.
type lateTrailers struct {
	io.Reader
	to *http.Response
}

func (l *lateTrailers) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if err == io.EOF {
		l.to.Trailer = http.Header{"Set-Cookie": {"session=another-secret-0123456789"}, "Grpc-Status": {"0"}, "Grpc-Message": {"another-secret-0123456789"}}
	}
	return n, err
}

func (*lateTrailers) Close() error { return nil }

func TestTrailersOfNewSecretAreDropped(t *testing.T) {
	h := &handOut{exchange: &proxy.Exchange{}, rule: &api.Mint{
		Action: api.MintAction_MINT_ACTION_STRIP, Places: []*api.MintPlace{{Place: &api.MintPlace_Cookie{Cookie: "session"}}},
	}}
	response := &http.Response{StatusCode: 200, ContentLength: -1, Header: http.Header{"Set-Cookie": {"session=the-secret-0123456789"}}}
	response.Body = &lateTrailers{strings.NewReader("hello"), response}
	if err := h.response(t.Context(), response); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(response.Body); err != nil || len(response.Trailer) != 1 || response.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("%v, %v", err, response.Trailer)
	}
}

// A client certificate is in no answer, and a rule looks through that all the same.
func TestNewSecretOfAClientCertificate(t *testing.T) {
	const secret = "the-new-secret-0123456789"
	plan := &proxy.Plan{
		Request: func(*http.Request) error { return nil },
		Release: func(*proxy.Exchange) {},
	}
	w := new(worker)
	w.withhold(t.Context(), plan, &handOut{worker: w, exchange: &proxy.Exchange{}, rule: &api.Mint{
		Action: api.MintAction_MINT_ACTION_STRIP, Places: []*api.MintPlace{{Place: &api.MintPlace_Pointer{Pointer: "/key"}}},
	}})
	_, out := request(t, "GET", "https://api.shop.test/keys", "Accept-Encoding: br", "Range: bytes=8-")
	if err := plan.Request(out); err != nil {
		t.Fatal(err)
	}
	if out.Header.Get("Accept-Encoding") != "identity" || out.Header.Get("Range") != "" {
		t.Errorf("asked with %v", out.Header)
	}
	response := &http.Response{
		StatusCode: 200, ContentLength: -1, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(`{"key":"` + secret + `"}`)),
	}
	if err := plan.Response(response); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(response.Body); err != nil || strings.Contains(string(text), secret) {
		t.Errorf("told: %s, %v", text, err)
	}
}
