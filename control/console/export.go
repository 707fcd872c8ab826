package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"sallyport/control"
)

const (
	// maxForm bounds what the page posts for an export, in bytes.
	maxForm = 8 << 10
	// partTimeout is how long a browser may take for a part of an export, a thousand
	// events at most.
	partTimeout = 2 * time.Minute
	// mostTries bounds how often one part is asked for when the API wants less haste.
	mostTries = 20
)

// export answers a form of the page with a team's audit events as a download, a line of
// JSON each. The browser writes it to a file as it comes, which no script could have it do
// without holding all of it. The form carries the page's half of the session, which no
// address must have.
func (c *Console) export(w http.ResponseWriter, r *http.Request) {
	switch {
	case !fromHere(r):
		refuse(w, http.StatusForbidden, control.CodeForbidden, notFromHere)
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", "POST")
		refuse(w, http.StatusMethodNotAllowed, control.CodeInvalid, "this path has only POST")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		refuse(w, http.StatusBadRequest, control.CodeInvalid, "the form can't be read")
		return
	}
	r.Header.Set(header, r.PostForm.Get("key"))
	if valueOf(r) == "" {
		refuse(w, http.StatusUnauthorized, control.CodeUnauthorized, "sign in first")
		return
	}
	team, now := r.PostForm.Get("team"), time.Now().UTC()
	if err := control.CheckName("team", team); err != nil {
		refuse(w, http.StatusUnprocessableEntity, control.CodeInvalid, err.Error())
		return
	}
	asked := url.Values{"until": {now.Format(time.RFC3339Nano)}, "after": {"0"}} // or it would never end
	for _, name := range []string{"since", "until", "agent", "host", "decision"} {
		if value := r.PostForm.Get(name); value != "" {
			asked.Set(name, value)
		}
	}
	begun := false
	for {
		part, answer, err := c.part(r, team, asked)
		switch {
		case err == nil && begun:
		case err == nil:
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="sallyport-audit-%s-%s.jsonl"`, team, now.Format("20060102T150405Z")))
		case begun: // a file that ends early must not look whole
			panic(http.ErrAbortHandler)
		case answer != nil:
			answer.copyTo(w)
			return
		default:
			return // whoever asked is gone
		}
		if err := send(w, part.Items); err != nil || len(part.Items) == 0 {
			return
		}
		asked.Set("after", strconv.FormatInt(part.Next, 10))
	}
}

// eventsPart is what one call of the API gives of an export.
type eventsPart struct {
	Items []json.RawMessage
	Next  int64
}

// part asks the API, with the session of r, which may have ended since the part before.
func (c *Console) part(r *http.Request, team string, asked url.Values) (part eventsPart, answer *recorder, err error) {
	for range mostTries {
		inner := within(r, http.MethodGet, "/v1/teams/"+team+"/audit/follow")
		inner.URL.RawQuery = asked.Encode()
		inner.RequestURI = inner.URL.RequestURI()
		inner.Body, inner.ContentLength = http.NoBody, 0
		inner.Header.Del("Content-Type")
		if value := valueOf(r); value != "" {
			inner.Header.Set("Authorization", "Bearer "+value)
		}
		answer = c.ask(inner)
		if answer.status != http.StatusTooManyRequests {
			break
		}
		if err := pause(r.Context(), answer.header.Get("Retry-After")); err != nil {
			return part, nil, err
		}
	}
	if answer.status != http.StatusOK {
		return part, answer, errors.New("the API refuses")
	}
	if err := json.Unmarshal(answer.body.Bytes(), &part); err != nil {
		return part, answer, fmt.Errorf("read events: %w", err)
	}
	return part, nil, nil
}

// pause waits as long as the API wants, in whole seconds.
func pause(ctx context.Context, retryAfter string) error {
	seconds, err := strconv.Atoi(retryAfter)
	if err != nil || seconds < 1 {
		seconds = 1
	}
	timer := time.NewTimer(time.Duration(min(seconds, 60)) * time.Second)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// send writes a part's lines, in the time that one may take.
func send(w http.ResponseWriter, items []json.RawMessage) error {
	out := http.NewResponseController(w)
	if err := out.SetWriteDeadline(time.Now().Add(partTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	for _, item := range items {
		if _, err := w.Write(append(item, '\n')); err != nil {
			return err
		}
	}
	return out.Flush()
}
