package forward

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/leodido/go-syslog/v4/rfc5424"

	"sallyport/control"
	"sallyport/control/store"
)

func TestParseTarget(t *testing.T) {
	dir := t.TempDir()
	certificates(t, dir)
	headers := filepath.Join(dir, "headers")
	if err := os.WriteFile(headers, []byte("Authorization: Bearer canary\nbroken canary\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(dir, "good")
	if err := os.WriteFile(good, []byte("Authorization: Bearer canary\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for text, name := range map[string]string{
		"syslog+tls://siem.test?ca=" + dir + "/ca.pem":     "syslog+tls://siem.test:6514",
		"syslog+tcp://[::1]:514?team=a&team=b":             "syslog+tcp://[::1]:514",
		"otlp+https://otel.test:4318?headers=" + good:      "otlp+https://otel.test:4318/v1/logs",
		"otlp+http://otel.test/in?name=siem":               "siem",
		"otlp+http://127.0.0.1:4318?headers=" + good:       "otlp+http://127.0.0.1:4318/v1/logs",
		"otlp+http://otel.test:4318?headers=" + good:       "",
		"otlp+https://otel.test:4318?headers=" + headers:   "",
		"otlp+https://user:canary@otel.test:4318":          "",
		"otlp+https://otel.test:4318?token=canary":         "",
		"syslog+tcp://siem.test?ca=" + dir + "/ca.pem":     "",
		"syslog+tls://siem.test?cert=" + dir + "/cert.pem": "",
		"syslog+tls://siem.test?ca=" + dir + "/key.pem":    "",
		"syslog+tls://siem.test?ca=/nowhere":               "",
		"syslog+tls://siem.test/path":                      "",
		"syslog+tls://":                                    "",
		"syslog+udp://siem.test":                           "",
		"https://siem.test":                                "",
		"syslog+tcp://siem.test?name=":                     "",
		"syslog+tcp://siem.test?name=a&name=b":             "",
		"siem.test:514":                                    "",
	} {
		got, err := ParseTarget(text)
		if (err != nil) != (name == "") || err == nil && got.Name != name {
			t.Errorf("%s is %q, %v", text, got.Name, err)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error tells a secret: %v", text, err)
		}
	}
}

// FuzzSyslogMessage: whatever an event holds, it is one message that says so.
func FuzzSyslogMessage(f *testing.F) {
	for _, text := range hostile {
		f.Add(text, text, text)
	}
	f.Add("host", "/path", "request")
	s := &syslog{from: Sender{"replica.test", "v1"}}
	f.Fuzz(func(t *testing.T, host, path, detail string) {
		e := Event{Team: "billing", ChainedEvent: store.ChainedEvent{Event: control.Event{ID: 7, Kind: "request", Host: host, Path: path, Detail: detail}}}
		message, err := s.message(e)
		if err != nil {
			t.Fatal(err)
		}
		if len(message) > maxMessage || strings.ContainsFunc(message, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("the message is %q", message)
		}
		parsed, err := rfc5424.NewParser().Parse([]byte(message))
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Team, Host string
			ID         int64
			Truncated  bool
		}
		if err := json.Unmarshal([]byte(*parsed.(*rfc5424.SyslogMessage).Message), &got); err != nil || got.ID != 7 || got.Team != "billing" {
			t.Fatalf("%+v, %v", got, err)
		}
		if want := strings.ToValidUTF8(host, "\uFFFD"); !got.Truncated && len(want) == len(host) && got.Host != want {
			t.Fatalf("the host %q became %q", host, got.Host)
		}
	})
}
