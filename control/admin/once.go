package admin

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"sallyport/control"
	"sallyport/control/seal"
	"sallyport/control/store"
)

const (
	idempotencyKey = "Idempotency-Key"
	maxKey         = 255
	// patience is how long the same request, sent again, waits for the answer to the first.
	patience     = 10 * time.Second
	patiencePoll = 50 * time.Millisecond
)

// attempt is a request that has an idempotency key.
type attempt struct {
	store.Once
	token control.Secret // that it was sent with: opens its answer
}

// kept is an answer as it is kept.
type kept struct {
	Status int    `json:"status"`
	ETag   string `json:"etag,omitempty"`
	Body   []byte `json:"body"`
}

// once answers a POST that has an Idempotency-Key and was done before as it was
// answered then. The store sees to it that nothing is done twice, in the transaction
// of the act itself; the answer is kept after that, sealed under the caller's token,
// since it may hold a join token or another token.
func (s *Server) once(ctx huma.Context, next func(huma.Context)) {
	key := ctx.Header(idempotencyKey)
	if key == "" || ctx.Operation().Method != http.MethodPost || recordOf(ctx.Context()).caller.hash == nil {
		next(ctx)
		return
	}
	_, w := humago.Unwrap(ctx)
	a, err := newAttempt(ctx, key)
	if err != nil {
		writeProblem(w, s.problem(ctx.Context(), err))
		return
	}
	answered, err := s.answered(ctx.Context(), a)
	switch {
	case err != nil:
		writeProblem(w, s.problem(ctx.Context(), err))
	case answered != nil:
		answered.write(w)
	default:
		s.do(ctx, a, w, next)
	}
}

// do does what was not done yet. Its answer is held back until it is kept.
func (s *Server) do(ctx huma.Context, a *attempt, w http.ResponseWriter, next func(huma.Context)) {
	writer := recordOf(ctx.Context()).writer
	held := writer.hold()
	defer writer.abandon() // after a panic
	next(huma.WithContext(ctx, store.WithOnce(ctx.Context(), a.Once)))
	status := writer.record.status
	writer.held = nil
	defer clear(held.Bytes())
	if status/100 == 2 {
		if err := s.keep(ctx.Context(), a, kept{status, w.Header().Get("ETag"), held.Bytes()}); err != nil {
			s.Log.Error("the answer to an idempotent request was not kept", "request_id", recordOf(ctx.Context()).id, "error", err)
		}
	} else if status == http.StatusConflict {
		// It may be that the same request came between.
		answered, err := s.answered(ctx.Context(), a)
		writer.record.status = 0
		switch {
		case err != nil:
			writeProblem(w, s.problem(ctx.Context(), err))
			return
		case answered != nil:
			answered.write(w)
			return
		}
	}
	w.WriteHeader(status)
	w.Write(held.Bytes())
}

func newAttempt(ctx huma.Context, key string) (*attempt, error) {
	if len(key) > maxKey || bytes.ContainsFunc([]byte(key), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, control.Errorf(control.CodeInvalid, "the %s has 1 to %d visible ASCII characters: a new UUID is one", idempotencyKey, maxKey)
	}
	rec := recordOf(ctx.Context())
	r := rec.request
	body, err := readBody(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = &wipedBody{Reader: bytes.NewReader(body), raw: body}
	token := bearer(ctx)
	named := sha256.Sum256([]byte(key))
	// Keyed, so that whoever reads the database can't try secrets until one fits.
	request := hmac.New(sha256.New, []byte("sallyport idempotent request v1 "+token))
	for _, part := range []string{r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type")} {
		request.Write([]byte(part + "\x00"))
	}
	request.Write(body)
	return &attempt{
		Once:  store.Once{Token: rec.caller.hash, Key: named[:], Request: request.Sum(nil)},
		token: control.Secret(token),
	}, nil
}

// wipedBody is a request's body that is overwritten once it was read.
type wipedBody struct {
	*bytes.Reader
	raw []byte
}

func (b *wipedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		clear(b.raw)
	}
	return n, err
}

func (b *wipedBody) Close() error {
	clear(b.raw)
	return nil
}

// answered gives the answer to what was done with the key, nil if nothing was. While
// that is under way it waits.
func (s *Server) answered(ctx context.Context, a *attempt) (*kept, error) {
	over := time.After(patience)
	for {
		done, err := s.Store.Done(ctx, a.Once)
		switch {
		case control.CodeOf(err) == control.CodeNotFound:
			return nil, nil
		case err != nil:
			return nil, err
		case !hmac.Equal(done.Request, a.Request):
			return nil, control.Errorf(control.CodeInvalid, "this %s was used for another request within a day: a new request needs a new one", idempotencyKey)
		case done.Answer != nil:
			return a.open(done.Answer)
		}
		select {
		case <-over:
			return nil, control.Errorf(control.CodeConflict, "what this %s is of was done, and its answer is not there, or not yet: look at what was made before you send it with a new one", idempotencyKey)
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(patiencePoll):
		}
	}
}

// aad is what an answer belongs to.
func (a *attempt) aad() []byte { return bytes.Join([][]byte{a.Token, a.Key, a.Request}, nil) }

func (a *attempt) open(sealed []byte) (*kept, error) {
	plain, err := seal.OpenUnder(a.token, a.aad(), sealed)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	answer := new(kept)
	return answer, json.Unmarshal(plain, answer)
}

func (s *Server) keep(ctx context.Context, a *attempt, answer kept) error {
	plain, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	defer clear(plain)
	sealed, err := seal.SealUnder(a.token, a.aad(), plain)
	if err != nil {
		return err
	}
	// Whoever asked may have gone; who asks again wants it all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return s.Store.KeepAnswer(ctx, a.Once, sealed)
}

// write says again what was said then.
func (k *kept) write(w http.ResponseWriter) {
	defer clear(k.Body)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Idempotent-Replayed", "true")
	if k.ETag != "" {
		w.Header().Set("ETag", k.ETag)
	}
	w.WriteHeader(k.Status)
	w.Write(k.Body)
}

// documentOnce describes the header of a POST.
func documentOnce(op *huma.Operation) {
	length, least := maxKey, 1
	op.Parameters = append(op.Parameters, &huma.Param{
		Name: idempotencyKey, In: "header", Schema: &huma.Schema{Type: huma.TypeString, MinLength: &least, MaxLength: &length},
		Description: "A name of your own for this request, such as a UUID: sent again within 24 hours it is answered as the first time, and done once",
	})
}
