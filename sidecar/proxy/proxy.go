// Package proxy forwards the sandbox's HTTP requests: it checks that each is for
// the host its connection was made for, has a plan made for it (which
// credential, if any), carries the plan out and records what happened.
//
//	request ─ check ─ plan ─ inject ─ upstream ─ redact ─ response
//	                    └──── refuse ───────────────────────┘
package proxy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Plan is what is done with one request beyond forwarding it. The zero Plan
// forwards it as it is.
type Plan struct {
	Decision   string
	Credential string // id; with Version it separates upstream connections
	Version    uint64
	Lease      string

	// Request edits the request that goes out, when nothing else will change it.
	Request func(*http.Request) error
	// Response edits the upstream's answer, before any of it reaches the client.
	Response func(*http.Response) error
	// Interim edits the header of a 1xx answer.
	Interim func(http.Header)
	// Release is called when the exchange is over; it fills in what is known then.
	Release func(*Exchange)
}

// Config is what a Server depends on.
type Config struct {
	Facts   func(net.Conn) Facts
	Plan    func(context.Context, *Exchange, *http.Request) (*Plan, error)
	Explain func(*Exchange, error) *Error // answers for the errors of Plan and Dial; nil for those it does not know
	Finish  func(*Exchange, error)        // called once a request, with what ended it early
	Dial    DialFunc
	Roots   *x509.CertPool // authorities of upstream certificates
	Log     *slog.Logger
}

const (
	headTimeout = 30 * time.Second
	idleTimeout = 10 * time.Minute
	// maxHead bounds a request's head; the gate before us holds HTTP/1 to the same.
	maxHead = 64 << 10
	// drainTimeout is how long requests may go on after the end was asked for.
	drainTimeout = 10 * time.Second
)

// Server serves the connections of one sandbox.
type Server struct {
	config    Config
	upstreams *upstreams
	proxy     *httputil.ReverseProxy
	buffers   buffers
}

// New makes a Server.
func New(config Config) *Server {
	s := &Server{config: config, upstreams: newUpstreams(config.Dial, config.Roots)}
	s.proxy = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      roundTripper{s.upstreams},
		ModifyResponse: modifyResponse,
		ErrorHandler:   s.fail,
		BufferPool:     &s.buffers,
		ErrorLog:       log.New(io.Discard, "", 0), // it quotes the upstream; Finish is told enough
	}
	return s
}

// Serve serves the listener's connections until ctx ends, then lets requests
// under way finish for a bounded time.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:                      s,
		ReadHeaderTimeout:            headTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHead,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, factsKey{}, s.config.Facts(c))
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			if released, ok := c.(interface{ Release() }); ok && state == http.StateHijacked {
				released.Release()
			}
		},
	}
	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(drained)
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		if server.Shutdown(bound) != nil {
			server.Close()
		}
	})
	defer s.upstreams.close()
	err := server.Serve(listener)
	if !stop() {
		<-drained
	}
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("serve the sandbox: %w", err)
}

// Keep drops the upstream connections of every credential version that is not
// among the given.
func (s *Server) Keep(versions map[string]uint64) { s.upstreams.keep(versions) }

type (
	factsKey    struct{}
	exchangeKey struct{}
)

// travel is an exchange with its plan, on its way through the ReverseProxy.
type travel struct {
	*Exchange
	plan *Plan
	body *countedBody
	err  error
}

func travelOf(r *http.Request) *travel { return r.Context().Value(exchangeKey{}).(*travel) }

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	facts := r.Context().Value(factsKey{}).(Facts)
	t := &travel{Exchange: newExchange(facts, r), body: &countedBody{ReadCloser: r.Body}}
	rw := &responseWriter{ResponseWriter: w, exchange: t.Exchange}
	defer func() {
		// ReverseProxy ends a response that broke off by this panic.
		broken := recover()
		if broken != nil && t.Reason == "" {
			t.Reason = "broken_off"
		}
		t.RequestBytes, t.Duration = t.body.n.Load(), time.Since(t.Start)
		if t.plan != nil && t.plan.Release != nil {
			t.plan.Release(t.Exchange)
		}
		s.config.Finish(t.Exchange, t.err)
		if broken != nil {
			panic(broken)
		}
	}()
	if r.ProtoMajor == 1 {
		// Else net/http reads the whole request before it lets the answer begin.
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			s.refuse(rw, t, fmt.Errorf("let request and response stream at once: %w", err))
			return
		}
	}
	if err := s.prepare(r, t); err != nil {
		t.Decision = Refuse
		s.refuse(rw, t, err)
		return
	}
	rw.interim = t.plan.Interim
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = t.body
	}
	s.proxy.ServeHTTP(rw, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, t)))
}

// prepare decides about a request without sending anything.
func (s *Server) prepare(r *http.Request, t *travel) error {
	t.Host = t.SNI
	if err := checkShape(r); err != nil {
		return err
	}
	ignoreH2C(r.Header)
	host, refusal := checkTarget(t.Facts, r)
	if refusal != nil {
		return refusal
	}
	t.Host = host
	plan, err := s.config.Plan(r.Context(), t.Exchange, r)
	if err != nil {
		return err
	}
	t.plan = plan
	t.Decision, t.Credential, t.Version, t.Lease = plan.Decision, plan.Credential, plan.Version, plan.Lease
	if plan.Credential != "" {
		if err := checkInjected(r); err != nil {
			return err
		}
	}
	return nil
}

// refuse answers in the upstream's place.
func (s *Server) refuse(w http.ResponseWriter, t *travel, err error) {
	answer := s.explain(t.Exchange, err)
	t.err, t.Reason = answer, answer.Code
	answer.write(w, t.ID)
}

// fail answers where the request could not be carried out.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	t := travelOf(r)
	if fault := t.body.fault(); fault != nil && errors.Is(err, context.Canceled) {
		err = fault // net/http cancels the request for it
	}
	var ours *Error
	if known := s.config.Explain(t.Exchange, err); errors.As(err, &ours) || known != nil && known.Status < http.StatusInternalServerError {
		t.Decision = Refuse // the request is to blame, not the upstream
	}
	s.refuse(w, t, err)
}

// forwardedFields are taken out by ReverseProxy for proxies that are seen. We
// are not, so what the client says passes.
var forwardedFields = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}

func rewrite(pr *httputil.ProxyRequest) {
	t := travelOf(pr.In)
	scheme, authority := "http", t.Host
	if t.TLS {
		scheme = "https"
	}
	if t.TLS && t.Port != 443 || !t.TLS && t.Port != 80 {
		authority = net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
	}
	pr.Out.URL.Scheme, pr.Out.URL.Host, pr.Out.Host = scheme, authority, authority
	// ReverseProxy drops parameters that net/url can't parse.
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery
	keepPath(pr.Out.URL, pr.In.RequestURI)
	for _, name := range forwardedFields {
		if values, found := pr.In.Header[name]; found {
			pr.Out.Header[name] = values
		}
	}
}

// keepPath keeps the spelling of a path that has characters it should have
// escaped. net/url would spell all of it anew, and take %2F for a slash.
func keepPath(u *url.URL, target string) {
	path, _, _ := strings.Cut(target, "?")
	if !strings.ContainsAny(path, unescaped) {
		return
	}
	var b strings.Builder
	for i := range len(path) {
		if strings.IndexByte(unescaped, path[i]) >= 0 {
			fmt.Fprintf(&b, "%%%02X", path[i])
		} else {
			b.WriteByte(path[i])
		}
	}
	if plain, err := url.PathUnescape(b.String()); err == nil {
		u.Path, u.RawPath = plain, b.String()
	}
}

// unescaped are the printable characters that a path may hold only escaped (RFC
// 3986 section 3.3) and that clients send as they are.
const unescaped = "\"<>^`{|}"

// roundTripper carries the plan out at the outer door, after ReverseProxy took
// the hop-by-hop fields away: nothing a client says there can undo an injection.
type roundTripper struct{ upstreams *upstreams }

func (rt roundTripper) RoundTrip(out *http.Request) (*http.Response, error) {
	t := travelOf(out)
	if t.plan.Request != nil {
		if err := t.plan.Request(out); err != nil {
			if out.Body != nil {
				out.Body.Close()
			}
			t.Decision = Refuse
			return nil, err
		}
	}
	sent := time.Now()
	response, err := rt.upstreams.transport(poolKey{t.plan.Credential, t.plan.Version}).RoundTrip(out)
	t.Upstream = time.Since(sent)
	return response, err
}

func modifyResponse(response *http.Response) error {
	// HTTP/3, which it would name, has no way out of the sandbox.
	response.Header.Del("Alt-Svc")
	if plan := travelOf(response.Request).plan; plan.Response != nil {
		return plan.Response(response)
	}
	return nil
}

// buffers are ReverseProxy's, shared by all requests.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
