package inject

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sallyport/control/api"
)

func header(name, template string) *api.Rule {
	return &api.Rule{Place: &api.Rule_Header_{Header: &api.Rule_Header{Name: name, Template: template}}}
}

func query(name string) *api.Rule {
	return &api.Rule{Place: &api.Rule_Query_{Query: &api.Rule_Query{Name: name}}}
}

func path(template string) *api.Rule {
	return &api.Rule{Place: &api.Rule_Path_{Path: &api.Rule_Path{Template: template}}}
}

func basic() *api.Rule { return &api.Rule{Place: &api.Rule_Basic_{Basic: &api.Rule_Basic{}}} }

// parse reads a request as net/http's server does and makes it an outgoing one.
func parse(t testing.TB, target string, fields ...string) *http.Request {
	t.Helper()
	text := "GET " + target + " HTTP/1.1\r\nHost: api.test\r\nUser-Agent: t\r\n" + strings.Join(append(fields, "\r\n"), "\r\n")
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	r.URL.Scheme, r.URL.Host, r.RequestURI = "https", "api.test", ""
	return r
}

// wire is the request line and the fields, sorted as net/http writes them.
func wire(t testing.TB, r *http.Request) (target string, fields []string) {
	t.Helper()
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(b.String(), "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	parts := strings.Split(lines[0], " ")
	if len(parts) != 3 {
		t.Fatalf("request line %q", lines[0])
	}
	return parts[1], lines[3:] // after Host and User-Agent
}

func TestRulesOnTheWire(t *testing.T) {
	m := api.Material{Username: "u", Token: []byte("t/o:k&n")}
	tests := []struct {
		name   string
		rules  []*api.Rule
		target string
		client []string
		want   string
		fields string
	}{
		{"bearer", []*api.Rule{header("Authorization", "Bearer {{token}}")}, "/v1", []string{"Authorization: Bearer vault:x", "authorization: other"},
			"/v1", "Authorization: Bearer t/o:k&n"},
		{"several headers", []*api.Rule{header("X-Key", "{{token}}"), header("Version", "2022-06-28")}, "/", []string{"version: 1", "X_KEY: mine", "Accept: */*"},
			"/", "Accept: */*|Version: 2022-06-28|X-Key: t/o:k&n"},
		{"basic", []*api.Rule{basic()}, "/", []string{"Authorization: Basic eDp5"},
			"/", "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("u:t/o:k&n"))},
		{"query", []*api.Rule{query("key")}, "/p?a=1;b=2&%zz&&c=%2F&key=mine&c=3", nil,
			"/p?a=1;b=2&%zz&&c=%2F&c=3&key=t%2Fo%3Ak%26n", ""},
		{"two parameters", []*api.Rule{query("key"), query("k2")}, "/p?k2=x&a", nil, "/p?a&key=t%2Fo%3Ak%26n&k2=t%2Fo%3Ak%26n", ""},
		{"path", []*api.Rule{path("/bot{{token}}/{{path}}")}, "/getMe?x=1", nil, "/bott%2Fo:k%26n/getMe?x=1", ""},
		{"path keeps encoding", []*api.Rule{path("/bot{{token}}/{{path}}")}, "/a%2Fb//c;d%20e/%E2%82%AC", nil, "/bott%2Fo:k%26n/a%2Fb//c;d%20e/%E2%82%AC", ""},
		{"path of the root", []*api.Rule{path("/{{token}}/{{path}}")}, "/", nil, "/t%2Fo:k%26n/", ""},
		{"path that begins twice", []*api.Rule{path("/{{token}}/{{path}}")}, "//evil.test/x", nil, "/t%2Fo:k%26n//evil.test/x", ""},
		{"path before its token", []*api.Rule{path("/x/{{path}}/{{token}}")}, "/a", nil, "/x/a/t%2Fo:k%26n", ""},
		{"slots in what the client sends", []*api.Rule{path("/{{token}}/{{path}}")}, "/{{token}}", nil, "/t%2Fo:k%26n/%7B%7Btoken%7D%7D", ""},
	}
	for _, tt := range tests {
		r := parse(t, tt.target, tt.client...)
		Clear(r, tt.rules)
		if err := Apply(r, tt.rules, m); err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		target, fields := wire(t, r)
		if target != tt.want || strings.Join(fields, "|") != tt.fields {
			t.Errorf("%s:\ngot  %s %q\nwant %s %q", tt.name, target, fields, tt.want, tt.fields)
		}
	}
}

func TestClearTakesEveryKey(t *testing.T) {
	fields := []string{
		"Authorization: x", "AUTHORIZATION: y", "Proxy-Authorization: x", "X-Api-Key: x", "x_api_key: x", "X.Api.Key: x",
		"api-key: x", "ApiKey: x", "X-Auth-Token: x", "X_Auth-Token: x", "Private-Token: x", "X-Goog-Api-Key: x", "Own_Field: x", "OWN-field: x",
	}
	r := parse(t, "/", append(fields, "Cookie: a=b", "Accept: */*", "X-Request-Id: 1")...)
	r.Trailer = http.Header{"Authorization": {"x"}, "Checksum": {"1"}}
	r.URL.User = url.UserPassword("mine", "mine")
	Clear(r, []*api.Rule{header("Own-Field", "{{token}}")})
	_, got := wire(t, r)
	if fmt.Sprint(got) != "[Accept: */* Cookie: a=b X-Request-Id: 1]" {
		t.Errorf("left %q", got)
	}
	if len(r.Trailer) != 1 {
		t.Errorf("left trailers %v", r.Trailer)
	}
	Clear(r, []*api.Rule{header("Cookie", "session={{token}}")})
	if r.Header.Get("Cookie") != "" {
		t.Error("left the cookie that a rule sets")
	}
}

func TestQueryVariantsAreDropped(t *testing.T) {
	tests := []struct{ query, want string }{
		{"api_key=1", ""},
		{"a&api_key=1", "a"},
		{"api_key=1&a", "a"},
		{"a&api_key&b", "a&b"},
		{"a;api_key=1;b", "a;b"},
		{"a&b;api_key=1", "a&b"},
		{"API_KEY=1&Api_Key=2&a", "a"},
		{"api%5fkey=1&%61pi_key=1&api%5Fkey&a", "a"},
		{"api%255fkey=1&a", "a"},
		{"api.key=1&api-key=2&api+key=3&+api_key=4&%20api_key=5&a", "a"},
		{"api_key[]=1&api_key%5B0%5D=2&api_key%00x=3&a", "a"},
		{"xapi_key=1&api_keys=2&q=api_key", "xapi_key=1&api_keys=2&q=api_key"},
		{"&&a=1;b=2&%zz&a=3&=x&=", "&&a=1;b=2&%zz&a=3&=x&="},
		{"", ""},
	}
	for _, tt := range tests {
		if got := dropParameter(tt.query, "api_key"); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.query, got, tt.want)
		}
	}
}

// What is not the parameter stays, byte for byte and in its order.
func TestQueryKeepsTheRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOf(rapid.StringMatching(`[ab=%25_+.]{0,6}|key=[^&;]?|KEY|k%65y=1`)).Draw(t, "pieces")
		var kept []string
		for _, p := range pieces {
			if !isParameter(p, "key") {
				kept = append(kept, p)
			}
		}
		got := dropParameter(strings.Join(pieces, "&"), "key")
		if got != strings.Join(kept, "&") {
			t.Fatalf("%q: %q, want %q", pieces, got, kept)
		}
	})
}

func TestPathCannotLeaveItsTemplate(t *testing.T) {
	rules := []*api.Rule{path("/bot{{token}}/{{path}}")}
	m := api.Material{Token: []byte("123:abc")}
	for _, target := range []string{
		"/../other", "/..", "/.", "/a/../../other", "/a/./b", "/%2e%2e/other", "/%2E./other", "/.%2e/other", "/..%2fother", "/a%2f..%2fb",
		"/%252e%252e/other", "/%25252e%25252e/", "/..;/other", "/..;a=b/other", "/.;/x", "/%2e%2e;/x", "/..%5cother", "/a%5c..%5cb", "/..%20/x", "/..%00/x",
		"/%2e%2e%2f", "/%25%32%65%25%32%65/x", "/%2525252525252e",
		"/..%0a/x", "/..%0d/x", "/..%0b", "/%0a../x", "/.%09./x", "/a/..%0d%0a/x", "/%c0%ae%c0%ae/x", "/.%e0%80%ae/x", "/..%c0%afx", "/%25c0%25ae./x", "/..%c1%9cx",
	} {
		r := parse(t, target)
		before := *r.URL
		if err := Apply(r, rules, m); !errors.Is(err, ErrPath) {
			t.Errorf("%s: %v", target, err)
		}
		if *r.URL != before {
			t.Errorf("%s: changed to %s", target, r.URL)
		}
	}
	for _, target := range []string{"/...", "/a.b/..c", "/.well-known/x", "/a..b/", "/%2E%2Ewell", "/100%25"} {
		r := parse(t, target)
		if err := Apply(r, rules, m); err != nil {
			t.Errorf("%s: %v", target, err)
		} else if got, _ := wire(t, r); got != "/bot123:abc"+target {
			t.Errorf("%s: sent %s", target, got)
		}
	}
	r := parse(t, "/x")
	r.URL.Path, r.URL.RawPath = "*", ""
	if err := Apply(r, rules, m); !errors.Is(err, ErrPath) {
		t.Errorf("*: %v", err)
	}
}

func TestMaterialThatDoesNotFitChangesNothing(t *testing.T) {
	tests := []struct {
		rules []*api.Rule
		m     api.Material
		want  error
	}{
		{[]*api.Rule{header("A", "{{token}}")}, api.Material{Token: []byte("a\r\nB: c")}, ErrMaterial},
		{[]*api.Rule{header("A", "{{token}}")}, api.Material{Token: []byte("a\x00")}, ErrMaterial},
		{[]*api.Rule{header("A", "{{token}}")}, api.Material{}, ErrMaterial},
		{[]*api.Rule{basic()}, api.Material{Username: "a:b", Token: []byte("t")}, ErrMaterial},
		{[]*api.Rule{absent("B", "x{{token}}")}, api.Material{Token: []byte("t")}, ErrRule},
		{[]*api.Rule{header("A b", "{{token}}")}, api.Material{Token: []byte("t")}, ErrRule},
		{[]*api.Rule{query("")}, api.Material{Token: []byte("t")}, ErrRule},
		{[]*api.Rule{path("/{{token}}")}, api.Material{Token: []byte("t")}, ErrRule},
		{[]*api.Rule{path("/%zz{{token}}/{{path}}")}, api.Material{Token: []byte("t")}, ErrRule},
		{[]*api.Rule{path("/<{{token}}/{{path}}")}, api.Material{Token: []byte("t")}, ErrRule},
		{[]*api.Rule{{}}, api.Material{Token: []byte("t")}, ErrRule},
	}
	for _, tt := range tests {
		r := parse(t, "/p?q=1", "A: client")
		err := Apply(r, append([]*api.Rule{header("First", "x")}, tt.rules...), tt.m)
		if !errors.Is(err, tt.want) {
			t.Errorf("%v: %v", tt.rules, err)
			continue
		}
		if len(tt.m.Token) > 1 && strings.Contains(err.Error(), string(tt.m.Token)) {
			t.Errorf("the error shows the token: %v", err)
		}
		if target, fields := wire(t, r); target != "/p?q=1" || fmt.Sprint(fields) != "[A: client]" {
			t.Errorf("%v: changed to %s %q", tt.rules, target, fields)
		}
	}
}

func TestRendered(t *testing.T) {
	m := api.Material{Username: "u", Token: []byte("a/b:c")}
	rules := []*api.Rule{header("Authorization", "Bearer {{token}}"), header("Version", "1"), basic(), query("k"), path("/bot{{token}}/{{path}}")}
	want := []string{"Bearer a/b:c", "Basic dTphL2I6Yw==", "a%2Fb%3Ac", "a%2Fb:c"}
	var got []string
	for _, text := range Rendered(rules, m) {
		got = append(got, string(text))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q", got)
	}
}

func TestOverHTTP2(t *testing.T) {
	seen := make(chan string, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- fmt.Sprintf("%s %s %v %v", r.Proto, r.RequestURI, r.Header["Authorization"], r.Header["X-Api-Key"])
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	r := parse(t, "/a%2Fb?x=1;y=%zz", "X-Api-Key: mine", "Authorization: mine")
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	r.URL.Host = target.Host
	rules := []*api.Rule{header("Authorization", "Bearer {{token}}"), path("/bot{{token}}/{{path}}"), query("key")}
	Clear(r, rules)
	if err := Apply(r, rules, api.Material{Token: []byte("t:1")}); err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Transport.RoundTrip(r.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := <-seen; got != "HTTP/2.0 /bott:1/a%2Fb?x=1;y=%zz&key=t%3A1 [Bearer t:1] []" {
		t.Errorf("the upstream saw %s", got)
	}
}

// Whatever path a client sends, what is written begins as the template does
// and a server that cleans paths, however often, ends up below it.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"/getMe", "/../x", "/%2e%2e/x", "/a%2f..%2fb", "/..;/x", "/%252e%252e/x", "//x", "/a?b=c", "/%c3%a9", "/a|b", "/[x]"} {
		f.Add(s)
	}
	rules := []*api.Rule{path("/bot{{token}}/{{path}}")}
	f.Fuzz(func(t *testing.T, target string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: api.test\r\n\r\n")))
		if err != nil || r.Host != "api.test" || strings.ContainsAny(target, "\r\n") {
			return
		}
		r.URL.Scheme, r.URL.Host, r.RequestURI = "https", "api.test", ""
		if err := Apply(r, rules, api.Material{Token: []byte("1:a")}); err != nil {
			return
		}
		sent, _ := wire(t, r)
		const fence = "/bot1:a/"
		if !strings.HasPrefix(sent, fence) {
			t.Fatalf("%q was sent as %q", target, sent)
		}
		for s, _, _ := strings.Cut(sent, "?"); ; {
			clean, err := url.JoinPath("https://api.test", s)
			if err != nil {
				return
			}
			if !strings.HasPrefix(clean+"/", "https://api.test"+fence) {
				t.Fatalf("%q was sent as %q, which may be read as %q", target, sent, clean)
			}
			decoded, err := url.PathUnescape(s)
			if err != nil || decoded == s {
				return
			}
			s = decoded
		}
	})
}

func BenchmarkInject(b *testing.B) {
	rules := []*api.Rule{header("Authorization", "Bearer {{token}}")}
	m := api.Material{Token: []byte("sk_live_4eC39HqLyjWDarjtT1zdp7dc")}
	r := parse(b, "/v1/charges?limit=3", "Accept: */*", "Accept-Encoding: gzip", "Authorization: Bearer vault:stripe", "Content-Type: application/json")
	for b.Loop() {
		Clear(r, rules)
		if err := Apply(r, rules, m); err != nil {
			b.Fatal(err)
		}
	}
}
