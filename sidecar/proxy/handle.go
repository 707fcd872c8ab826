package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// client is the inner door's end of one exchange.
type client interface {
	// interim passes a 1xx on; the last one may come from another goroutine.
	interim(status int, header http.Header)
	// respond passes a final response on, streaming, and counts its body's bytes.
	respond(*http.Response) (int64, error)
	// upgrade passes a 101 on and gives what the connection carries from then on.
	upgrade(*http.Response) (io.ReadWriteCloser, error)
	// stopBody makes reads of the request's body fail.
	stopBody()
	// stalled is since when the client takes nothing of what is written to it, in
	// nanoseconds since the epoch; 0 if it does.
	stalled() int64
	// abort cuts the client off.
	abort()
}

// travel is an exchange on its way.
type travel struct {
	*Exchange
	client  client
	plan    *Plan
	before  *Plan        // the one before, of a request that was sent again
	body    *countedBody // nil for none
	ready   bool         // the body was received already
	socket  bool         // it asked for a WebSocket by a CONNECT of HTTP/2
	upload  chan error   // gives the end of sending the body, where that has a goroutine of its own
	leaving *departures
	// held are to be called when the exchange is over: what lets go of an upstream
	// connection that changed its protocol, of a body that can be sent again.
	held []func()
	err  error
}

// errBroken ends an exchange whose response has begun and can't be completed.
var errBroken = errors.New("the response broke off")

// handle carries out one request. It returns errBroken when the client must see
// that the response is not whole.
func (s *Server) handle(ctx context.Context, c client, r *http.Request, facts Facts, ready bool) (err error) {
	t := &travel{Exchange: newExchange(facts, r), client: c, ready: ready, leaving: &s.departures}
	if r.Body != nil && r.Body != http.NoBody {
		t.body = &countedBody{ReadCloser: r.Body, c: c, expects: r.ProtoMajor == 1 && r.Header.Get("Expect") != ""}
		r.Body = t.body
	}
	defer func() { s.finish(t) }()
	refusal := s.load.enter(c, r)
	defer s.load.leave(c)
	if refusal != nil {
		return s.refuse(t, refusal)
	}
	if err := s.prepare(ctx, r, t); err != nil {
		t.Decision = Refuse
		return s.refuse(t, err)
	}
	return s.forward(ctx, r, t)
}

// finish waits for what the exchange has begun, and records it.
func (s *Server) finish(t *travel) {
	if t.body != nil {
		t.body.settle()
	}
	if t.upload != nil {
		<-t.upload
	}
	t.let()
	if t.body != nil {
		t.RequestBytes = t.body.n.Load()
	}
	t.Duration = time.Since(t.Start)
	t.letGo()
	s.config.Finish(t.Exchange, t.err)
}

// prepare decides about a request without sending anything.
func (s *Server) prepare(ctx context.Context, r *http.Request, t *travel) error {
	t.Host = t.SNI
	if t.Direct {
		takeAbsoluteForm(r)
	}
	if t.HTTP2 {
		if err := t.takeHTTP2(r); err != nil {
			return err
		}
	}
	if err := checkShape(r); err != nil {
		return err
	}
	// What is sent is what is decided about, to the letter.
	keepPath(r.URL, r.RequestURI)
	t.Path = recordedPath(r)
	ignoreH2C(r.Header)
	host, refusal := checkTarget(&t.Facts, r)
	if refusal != nil {
		return refusal
	}
	t.Host = host
	return s.decide(ctx, r, t)
}

// decide has a plan made for a request.
func (s *Server) decide(ctx context.Context, r *http.Request, t *travel) error {
	plan, err := s.config.Plan(ctx, t.Exchange, r)
	if err != nil {
		return err
	}
	t.follow(plan)
	if plan.Credential != "" {
		if err := checkInjected(r, plan.Upgrade); err != nil {
			return err
		}
	}
	return nil
}

// forward sends the request and passes its response on.
func (s *Server) forward(ctx context.Context, r *http.Request, t *travel) error {
	response, err := s.send(ctx, r, t)
	if err == nil && ctx.Err() != nil { // the client left, and the upstream's last words are for nobody
		response.Body.Close()
		err = ctx.Err()
	}
	var recalled *recalledError
	switch {
	case err != nil && (t.Decision == Refuse || errors.As(err, &recalled)):
		return s.refuse(t, err)
	case err != nil:
		return s.fail(t, err)
	}
	// As it is then: what searches a body has a goroutine that ends with it.
	defer func() { response.Body.Close() }()
	upgraded := response.StatusCode == http.StatusSwitchingProtocols
	if !upgraded {
		removeHopByHop(response.Header)
	}
	// HTTP/3, which it would name, has no way out of the sandbox.
	delete(response.Header, "Alt-Svc")
	if f, ok := t.client.(*front); ok {
		f.arrived = arrived(response.Body)
	}
	if t.plan.Response != nil {
		if err := t.plan.Response(response); err != nil {
			return s.fail(t, err)
		}
	}
	t.Status = response.StatusCode
	switch {
	case upgraded:
		return s.upgrade(t, response.Request, response)
	case t.socket && response.StatusCode < 300:
		return s.fail(t, Errorf(http.StatusBadGateway, "upgrade_failed", "%s answered the WebSocket handshake with status %d", t.Host, response.StatusCode))
	}
	n, err := t.client.respond(response)
	t.ResponseBytes = uint64(n)
	if err == nil {
		return nil
	}
	t.Reason, t.err = "broken_off", fmt.Errorf("%w: %T", errBroken, errors.Unwrap(err))
	if known := s.config.Explain(t.Exchange, err); known != nil {
		t.Reason = known.Code
	}
	return errBroken
}

// refuse answers in the upstream's place.
func (s *Server) refuse(t *travel, err error) error {
	answer := s.explain(t.Exchange, err)
	t.err, t.Reason, t.Status = answer, answer.Code, answer.Status
	if _, err := t.client.respond(answer.response(t.ID)); err != nil {
		return errBroken // the client may be gone; then nobody is left to tell
	}
	return nil
}

// fail answers where the request could not be carried out.
func (s *Server) fail(t *travel, err error) error {
	if fault := t.body.fault(); fault != nil {
		err = fault // what was made of it afterwards tells less
		if errors.Is(fault, io.ErrUnexpectedEOF) || errors.Is(fault, syscall.ECONNRESET) {
			err = context.Canceled // by the client, which left
		}
	}
	var ours *Error
	if known := s.config.Explain(t.Exchange, err); errors.As(err, &ours) || known != nil && known.Status < http.StatusInternalServerError {
		t.Decision = Refuse // the request is to blame, not the upstream
	}
	return s.refuse(t, err)
}

// interim passes a 1xx on.
func (t *travel) interim(status int, header http.Header) {
	if status == http.StatusContinue {
		return // told when the body is asked for
	}
	removeHopByHop(header)
	delete(header, "Alt-Svc")
	if t.plan.Interim != nil {
		t.plan.Interim(header)
	}
	t.client.interim(status, header)
}

// hopByHop are the fields of one connection, RFC 9110 section 7.6.1. Trailer is
// written anew where a body has trailers.
var hopByHop = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

func removeHopByHop(h http.Header) {
	for _, value := range h["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}
