package admin

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"sallyport/control/store"
)

// requestTimeout bounds a request, the longest wait for a rotation included.
const requestTimeout = maxWait + 30*time.Second

// requestRecord is what is known of one request, filled as it travels.
type requestRecord struct {
	id      string
	request *http.Request
	status  int
	caller  caller
	writer  *statusWriter
}

type recordKey struct{}

// recordOf gives the record that every request has.
func recordOf(ctx context.Context) *requestRecord {
	return ctx.Value(recordKey{}).(*requestRecord)
}

// record is around everything: it names the request, logs and counts it, and
// turns a panic into an answer.
func (s *Server) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &requestRecord{id: store.NewID()}
		ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), recordKey{}, rec), requestTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		rec.request = r
		h := w.Header()
		h.Set("X-Request-Id", rec.id)
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		writer := &statusWriter{ResponseWriter: w, record: rec}
		rec.writer = writer
		defer func() {
			if p := recover(); p != nil {
				s.Log.Error("request panicked", "request_id", rec.id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				if rec.status == 0 {
					writeProblem(writer, newProblem(http.StatusInternalServerError, codeInternal, "internal error; the log of the control plane has it as request %s", rec.id))
				}
			}
			s.Metrics.requested(r.Pattern, rec.status, time.Since(start))
			s.Log.Debug("request", "request_id", rec.id, "route", r.Pattern, "status", rec.status, "caller", rec.caller.actor, "duration", time.Since(start))
		}()
		next.ServeHTTP(writer, r)
	})
}

// statusWriter notes the status.
type statusWriter struct {
	http.ResponseWriter
	record *requestRecord
	held   *bytes.Buffer // what is written while the answer is held back
}

// hold holds the answer back, until held is nil again.
func (w *statusWriter) hold() *bytes.Buffer {
	w.held = new(bytes.Buffer)
	return w.held
}

// abandon forgets an answer that is still held back.
func (w *statusWriter) abandon() {
	if w.held != nil {
		clear(w.held.Bytes())
		w.held, w.record.status = nil, 0
	}
}

func (w *statusWriter) WriteHeader(status int) {
	if w.record.status == 0 {
		w.record.status = status
	}
	if w.held != nil {
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.record.status == 0 {
		w.record.status = http.StatusOK
	}
	if w.held != nil {
		return w.held.Write(b)
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
