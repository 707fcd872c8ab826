package capture_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/control/api"
	"sallyport/sidecar/capture"
)

// rule has places that read json:/P, cookie:N or header:N, with ? for one that may
// be missing and strip: before one that is taken out.
func rule(action api.MintAction, places ...string) *api.Mint {
	m := &api.Mint{Action: action, Path: "/", TtlPointer: "/expires_in"}
	for _, text := range places {
		p := &api.MintPlace{}
		text, p.Strip = strings.CutPrefix(text, "strip:")
		text, p.Optional = strings.CutSuffix(text, "?")
		switch kind, name, _ := strings.Cut(text, ":"); kind {
		case "json":
			p.Place = &api.MintPlace_Pointer{Pointer: name}
		case "cookie":
			p.Place = &api.MintPlace_Cookie{Cookie: name}
		case "header":
			p.Place = &api.MintPlace_Header{Header: name}
		}
		m.Places = append(m.Places, p)
	}
	return m
}

const (
	strip = api.MintAction_MINT_ACTION_STRIP
	keep  = api.MintAction_MINT_ACTION_CAPTURE
)

func response(status int, body string, fields ...string) *http.Response {
	r := &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1}
	for _, field := range fields {
		name, value, _ := strings.Cut(field, ": ")
		if name == "Content-Type" {
			r.Header.Del(name)
		}
		r.Header.Add(name, value)
	}
	return r
}

// written is what is left of an answer whose captured secrets are called NAME0, NAME1 and so on.
func written(t *testing.T, r *http.Response, rule *api.Mint) (body string, secrets []string, ttl time.Duration) {
	t.Helper()
	a, err := capture.Read(r, rule)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range a.Secrets {
		secrets = append(secrets, string(s.Value))
		if !s.Strip {
			s.With = "NAME" + string(rune('0'+i))
		}
	}
	a.Write()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if r.ContentLength >= 0 && r.ContentLength != int64(len(text)) {
		t.Errorf("it has %d bytes and says %d", len(text), r.ContentLength)
	}
	return string(text), secrets, a.TTL
}

func TestJSON(t *testing.T) {
	for _, tt := range []struct {
		name    string
		rule    *api.Mint
		body    string
		want    string
		secrets string
		ttl     time.Duration
	}{
		{"a token", rule(keep, "json:/access_token"), ` {"access_token" : "secret-1234" , "expires_in":3600}` + "\n", ` {"access_token" : "NAME0" , "expires_in":3600}` + "\n", "secret-1234", time.Hour},
		{"stripped", rule(strip, "json:/access_token"), `{"access_token":"secret-1234","expires_in":"60"}`, `{"access_token":"[stripped]","expires_in":"60"}`, "secret-1234", time.Minute},
		{"one of each", rule(keep, "json:/a", "strip:json:/b"), `{"b":"secret-b-","a":"secret-a-"}`, `{"b":"[stripped]","a":"NAME1"}`, "secret-b-|secret-a-", 0},
		{"escapes", rule(keep, "json:/a~1b"), `{"a\/b":"sec\u0072et-\"12"}`, `{"a\/b":"NAME0"}`, `secret-"12`, 0},
		{"within", rule(keep, "json:/data/1/key"), `{"data":[{"key":"not this"},{"key":"secret-1234"}]}`, `{"data":[{"key":"not this"},{"key":"NAME0"}]}`, "secret-1234", 0},
		{"no text, stripped", rule(strip, "json:/key"), `{"key":{"pem":"x","n":[1,2]},"z":1}`, `{"key":"[stripped]","z":1}`, "", 0},
		{"the rest as it was", rule(strip, "json:/k"), `{"n":1e400,"u":"\ud83d\ude00é","k":"s","d":null}`, `{"n":1e400,"u":"\ud83d\ude00é","k":"[stripped]","d":null}`, "s", 0},
		{"optional", rule(keep, "json:/a", "strip:json:/b?"), `{"a":"secret-a-"}`, `{"a":"NAME0"}`, "secret-a-", 0},
		{"null is none", rule(keep, "json:/a", "json:/b?"), `{"a":"secret-a-","b":null}`, `{"a":"NAME0","b":null}`, "secret-a-", 0},
		{"a string alone", rule(keep, "json:/result"), `{"result":"secret-1234","expires_in":-1}`, `{"result":"NAME0","expires_in":-1}`, "secret-1234", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body, secrets, ttl := written(t, response(200, tt.body), tt.rule)
			if body != tt.want || strings.Join(secrets, "|") != tt.secrets || ttl != tt.ttl {
				t.Errorf("%s, %q, %s", body, secrets, ttl)
			}
			if !json.Valid([]byte(body)) {
				t.Error("what is left is no JSON")
			}
		})
	}
}

func TestHead(t *testing.T) {
	r := response(303, "<html>", "Content-Type: text/html",
		"Set-Cookie: session=secret-1234; Path=/; HttpOnly", "Set-Cookie: theme=dark", "Set-Cookie:  session = \"secret-5678\" ; Secure", "X-Token: secret-9012")
	body, secrets, _ := written(t, r, rule(keep, "cookie:session", "strip:header:X-Token"))
	if strings.Join(secrets, "|") != `secret-1234|"secret-5678"|secret-9012` || body != "<html>" {
		t.Errorf("%q, %s", secrets, body)
	}
	got := strings.Join(append(r.Header["Set-Cookie"], r.Header["X-Token"]...), "|")
	if got != "session=NAME0; Path=/; HttpOnly|theme=dark| session = NAME1 ; Secure|[stripped]" {
		t.Errorf("the head has %s", got)
	}
	// One that ends a session has none.
	for _, cookie := range []string{"session=; Max-Age=0", "session=deleted; Expires=Thu, 01 Jan 1970 00:00:00 GMT"} {
		r := response(200, "", "Set-Cookie: "+cookie)
		if _, secrets, _ := written(t, r, rule(keep, "cookie:session")); len(secrets) != 0 || r.Header.Get("Set-Cookie") != cookie {
			t.Errorf("%q: %q, %v", cookie, secrets, r.Header)
		}
	}
}

// What could hold a secret that is not found is not passed on.
func TestUnreadable(t *testing.T) {
	const secret = "secret-1234"
	deep := strings.Repeat(`{"a":`, 100) + `"` + secret + `"` + strings.Repeat("}", 100)
	for name, tt := range map[string]struct {
		rule     *api.Mint
		response *http.Response
	}{
		"elsewhere":                 {rule(keep, "json:/key"), response(200, `{"data":{"key":"`+secret+`"}}`)},
		"another case":              {rule(keep, "json:/key"), response(200, `{"Key":"`+secret+`"}`)},
		"twice":                     {rule(keep, "json:/key"), response(200, `{"key":"decoy-decoy","key":"`+secret+`"}`)},
		"twice, escaped":            {rule(keep, "json:/key"), response(200, `{"key":"decoy-decoy","k\u0065y":"`+secret+`"}`)},
		"twice, in other case":      {rule(keep, "json:/key"), response(200, `{"key":"decoy-decoy","KEY":"`+secret+`"}`)},
		"two documents":             {rule(keep, "json:/key"), response(200, `{"key":"decoy-decoy"}{"key":"`+secret+`"}`)},
		"broken":                    {rule(keep, "json:/key"), response(200, `{"key":"`+secret+`"`)},
		"a comment":                 {rule(keep, "json:/key"), response(200, `{/*"key":"decoy"*/"key":"`+secret+`"}`)},
		"a guard before it":         {rule(keep, "json:/key"), response(200, ")]}'\n"+`{"key":"`+secret+`"}`)},
		"no JSON":                   {rule(keep, "json:/key"), response(200, "key="+secret, "Content-Type: application/x-www-form-urlencoded")},
		"said to be no JSON":        {rule(keep, "json:/key"), response(200, `{"key":"`+secret+`"}`, "Content-Type: text/html")},
		"two types":                 {rule(keep, "json:/key"), response(200, `{"key":"`+secret+`"}`, "Content-Type: application/json", "content-type: text/html")},
		"no type":                   {rule(keep, "json:/key"), response(200, `{"key":"`+secret+`"}`, "Content-Type: ")},
		"a refusal that is no JSON": {rule(keep, "json:/key"), response(500, secret, "Content-Type: text/plain")},
		"UTF-16":                    {rule(keep, "json:/key"), response(200, "\xff\xfe{\x00", "Content-Type: application/json; charset=utf-16")},
		"no UTF-8":                  {rule(keep, "json:/key"), response(200, "{\"key\":\"secret-\xff123\"}")},
		"half a pair":               {rule(keep, "json:/key"), response(200, `{"key":"secret-\ud83d-1"}`)},
		"a line break":              {rule(keep, "json:/key"), response(200, `{"key":"secret-\n-1"}`)},
		"too short to mask":         {rule(keep, "json:/key"), response(200, `{"key":"short"}`)},
		"no text":                   {rule(keep, "json:/key"), response(200, `{"key":{"pem":"`+secret+`"}}`)},
		"one within another":        {rule(strip, "json:/a", "json:/a/b"), response(200, `{"a":{"b":"`+secret+`"}}`)},
		"huge":                      {rule(keep, "json:/key"), response(200, `{"key":"`+secret+`","x":"`+strings.Repeat("x", capture.MaxBody)+`"}`)},
		"too long to search for":    {rule(strip, "json:/key"), response(200, `{"key":"`+strings.Repeat("x", 16<<10+1)+`"}`)},
		"too many to search for":    {rule(strip, "cookie:session"), response(200, "", slices.Repeat([]string{"Set-Cookie: session=" + secret}, 17)...)},
		"deep":                      {rule(keep, "json:/key"), response(200, deep)},
		"broken off":                {rule(keep, "json:/key"), &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(io.MultiReader(strings.NewReader(`{"key":"`+secret+`"}`), broken{}))}},
		"another cookie":            {rule(keep, "cookie:session"), response(302, "", "Set-Cookie: session2="+secret)},
		"no header":                 {rule(strip, "header:X-Token"), response(200, "")},
		"another protocol":          {rule(strip, "json:/key?"), response(101, "")},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := capture.Read(tt.response, tt.rule)
			var unreadable *capture.UnreadableError
			if !errors.As(err, &unreadable) {
				t.Fatalf("%v, want an UnreadableError", err)
			}
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "decoy") {
				t.Errorf("the error quotes the answer: %v", err)
			}
		})
	}
}

// Names can be long and have many values below them: what is put together for each
// would be the square of the answer.
func TestLongNamesAreNotPutTogether(t *testing.T) {
	values := strings.Repeat(`"x",`, 20_000) + `"x"`
	read := func(name string) uint64 {
		r := response(200, `{"`+name+`":[`+values+`],"key":"secret-1234"}`)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		a, err := capture.Read(r, rule(strip, "json:/key"))
		runtime.ReadMemStats(&after)
		if err != nil || len(a.Secrets) != 1 {
			t.Fatalf("%v, %v", a, err)
		}
		return after.TotalAlloc - before.TotalAlloc
	}
	const long = 100 << 10
	if short, much := read("n"), read(strings.Repeat("n", long)); much > short+100*long {
		t.Errorf("it takes %d bytes, and %d with a long name", short, much)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("reset") }

// An answer without a secret is passed on as it is.
func TestRefusalsPass(t *testing.T) {
	head := response(200, "")
	head.Request = &http.Request{Method: http.MethodHead}
	for name, r := range map[string]*http.Response{
		"a refusal": response(401, `{"error":"invalid_client"}`), "nothing": response(204, ""), "an empty body": response(200, ""), "a head": head,
	} {
		want := map[string]string{"a refusal": `{"error":"invalid_client"}`}[name]
		if body, secrets, _ := written(t, r, rule(keep, "json:/access_token")); body != want || len(secrets) != 0 {
			t.Errorf("%s: %q, %q", name, body, secrets)
		}
	}
}

// Whatever the document, either it is refused or the secret is gone and all else
// is as it was, for every reader of JSON.
func FuzzStrip(f *testing.F) {
	f.Add(`{"a":{"k":"x"},"k":"secret"}`)
	f.Add(`[{"k":1},"k"]`)
	f.Add(`{"k" : [ "secret" , {} ] }`)
	f.Fuzz(func(t *testing.T, document string) {
		r := response(200, document)
		a, err := capture.Read(r, rule(strip, "json:/k"))
		if err != nil {
			return
		}
		a.Write()
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		var before, after map[string]any
		if document == "" {
			return
		}
		if err := json.Unmarshal([]byte(document), &before); err != nil {
			t.Fatalf("%q was taken: %v", document, err)
		}
		if err := json.Unmarshal(text, &after); err != nil {
			t.Fatalf("%q became %q: %v", document, text, err)
		}
		if after["k"] != capture.Stripped {
			t.Fatalf("%q became %q", document, text)
		}
		delete(before, "k")
		delete(after, "k")
		x, _ := json.Marshal(before)
		y, _ := json.Marshal(after)
		if string(x) != string(y) {
			t.Fatalf("%q became %q", document, text)
		}
	})
}
