package forward

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestAnswers: an answer is success only where it is one of OTLP; a pause that is asked for is kept, within
// reason; what a receiver says is cut.
func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		status            int
		media, retry, say string
		taken             bool
		pause             time.Duration
		hint              string
	}{
		"nothing to say":       {status: 200, taken: true},
		"no content":           {status: 204, taken: true},
		"accepted, JSON":       {status: 202, media: "application/json", say: `{"other":1}`, taken: true},
		"rejected, JSON":       {status: 200, media: "application/json", say: `{"partialSuccess":{"rejectedLogRecords":"1"}}`, hint: "1 events were rejected"},
		"another page":         {status: 200, media: "text/html", say: "<html>welcome</html>", hint: "not OTLP"},
		"busy":                 {status: 429, retry: "7", pause: 7 * time.Second},
		"away, by date":        {status: 503, retry: time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), pause: mostAsked},
		"for years":            {status: 503, retry: "99999999", pause: mostAsked},
		"a pause that is none": {status: 503, retry: "-1"},
		"no credential":        {status: 401, hint: "headers=FILE"},
		"elsewhere":            {status: 308, hint: "redirects are not followed"},
		"long":                 {status: 400, media: "application/x-protobuf", say: "\x12\x80\x80\x02" + strings.Repeat("\x1b", 32<<10), hint: `says "\x1b`},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Content-Type"] = []string{c.media}
				if c.retry != "" {
					w.Header().Set("Retry-After", c.retry)
				}
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.say)
			}))
			defer server.Close()
			receiver := newOTLP(must(ParseTarget("otlp+"+server.URL))(t), Sender{"h", "v"})
			defer receiver.Close()
			err := receiver.Send(t.Context(), []Event{{Team: "billing"}})
			if (err == nil) != c.taken || asked(err) != c.pause {
				t.Fatalf("%v, after %s", err, asked(err))
			}
			if err != nil && (!strings.Contains(err.Error(), c.hint) || len(err.Error()) > 4*maxSaid+512) {
				t.Errorf("it says %v", err)
			}
			var unwanted *refused
			if errors.As(err, &unwanted) != (c.status == 400) {
				t.Errorf("%T", err)
			}
		})
	}
}
