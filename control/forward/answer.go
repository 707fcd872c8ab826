package forward

import (
	"crypto/x509"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const (
	maxAnswer    = 64 << 10 // bytes of an answer
	maxSaid      = 512      // bytes of it that are logged
	shortestWord = 8        // bytes, of what may be a secret in a header

	// mostAsked is the longest wait that a receiver may ask for. The database ends the
	// connection that holds its place when nothing is said for longer.
	mostAsked = time.Minute
)

// answer is what a receiver of OTLP answers.
type answer struct {
	*http.Response
	body  []byte
	clean func(string) string // takes out what was sent
}

// rejected says that the receiver took some events and does not want others again.
type rejected struct {
	events int64
	why    string
}

func (r *rejected) Error() string { return fmt.Sprintf("%d events were rejected: %q", r.events, r.why) }

// busy says that a receiver wants nothing for a while.
type busy struct {
	error
	pause time.Duration
}

func (b *busy) Unwrap() error { return b.error }

// asked is how long a receiver wants to be left alone.
func asked(err error) time.Duration {
	var b *busy
	if errors.As(err, &b) {
		return b.pause
	}
	return 0
}

// verdict is what an answer means, as in OTLP 1.x, OTLP/HTTP Response: nil where all was taken, *rejected,
// *refused, *busy, or another error where it is how the receiver or we are set up.
// What OTLP would have dropped for such a mistake waits until somebody has mended it.
func (a *answer) verdict(url string) error {
	failure := func(hint string) error {
		err := fmt.Errorf("%s answers %d %s%s", url, a.StatusCode, http.StatusText(a.StatusCode), hint)
		if said := a.said(); said != "" {
			err = fmt.Errorf("%w; it says %q", err, said)
		}
		return err
	}
	how := fmt.Sprint("answers ", a.StatusCode)
	switch a.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return &refused{error: failure(""), how: how, certain: true}
	case http.StatusInternalServerError: // also a collector's, for what the next behind it refuses
		return &refused{error: failure(""), how: how}
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &busy{failure(""), a.retryAfter()}
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return failure(": give it what it wants in headers=FILE, or by cert=FILE&key=FILE")
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone:
		return failure(": no OTLP logs are taken at this path")
	case http.StatusUnsupportedMediaType:
		return failure(": it has to take protobuf that is compressed with gzip")
	}
	switch a.StatusCode / 100 {
	case 2:
		return a.partial(url)
	case 3:
		return failure(": redirects are not followed, give the URL itself")
	}
	return failure("")
}

// partial reads the answer of a receiver that took at least a part.
func (a *answer) partial(url string) error {
	if len(a.body) == 0 { // it has nothing to say
		return nil
	}
	var said collector.ExportLogsServiceResponse
	var err error
	switch media := a.media(); media {
	case "application/x-protobuf":
		err = proto.Unmarshal(a.body, &said)
	case "application/json":
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(a.body, &said)
	default:
		return fmt.Errorf("%s answers %d with %.64q, which is not OTLP: give the URL where it takes OTLP logs", url, a.StatusCode, media)
	}
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", url, err)
	}
	if n := said.GetPartialSuccess().GetRejectedLogRecords(); n > 0 {
		return &rejected{n, cut(a.clean(said.GetPartialSuccess().GetErrorMessage()))}
	}
	return nil
}

// said is what the receiver says of a failure, a google.rpc.Status.
func (a *answer) said() string {
	var s status.Status
	if a.media() != "application/x-protobuf" || proto.Unmarshal(a.body, &s) != nil {
		return ""
	}
	return cut(a.clean(s.GetMessage()))
}

func (a *answer) media() string {
	media, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return media
}

// cut is a receiver's text of a length that may be logged.
func cut(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxSaid)], "")
}

// retryAfter is the pause that the receiver asks for (RFC 9110 section 10.2.3).
func (a *answer) retryAfter() time.Duration {
	text := a.Header.Get("Retry-After")
	var pause time.Duration
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		pause = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		pause = time.Until(at)
	}
	return max(0, min(pause, mostAsked))
}

// without takes the words of the headers that were sent out of a text: they are secrets,
// which a receiver, or net/http of its answer, may repeat.
func without(headers http.Header) func(string) string {
	return func(text string) string {
		for _, values := range headers {
			for _, word := range strings.Fields(strings.Join(values, " ")) {
				if len(word) >= shortestWord {
					text = strings.ReplaceAll(text, word, "[redacted]")
				}
			}
		}
		return text
	}
}

// distrusted is what to do about a receiver's certificate that is not trusted.
func distrusted(err error) string {
	var authority x509.UnknownAuthorityError
	if errors.As(err, &authority) {
		return ": name the CA that made its certificate with ca=FILE"
	}
	return ""
}
