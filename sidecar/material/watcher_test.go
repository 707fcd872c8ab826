package material

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"sallyport/control/api"
)

// watched is one Watch stream as the fake control plane sees it.
type watched struct {
	acknowledged chan uint64
	send         chan *api.WatchResponse
	end          chan error
}

func (s *watched) say(revision uint64, grace time.Duration) {
	s.send <- &api.WatchResponse{
		Revision: revision, Bindings: []*api.Binding{{CredentialId: "a", Version: revision}},
		OutageGrace: durationpb.New(grace),
	}
}

// fakeWatch hands each Watch stream to the test.
type fakeWatch struct {
	api.UnimplementedSidecarServiceHandler
	streams chan *watched
}

func (f *fakeWatch) Watch(ctx context.Context, stream *connect.BidiStream[api.WatchRequest, api.WatchResponse]) error {
	first, err := stream.Receive()
	if err != nil {
		return err
	}
	s := &watched{make(chan uint64, 10), make(chan *api.WatchResponse), make(chan error)}
	s.acknowledged <- first.AppliedRevision
	go func() { // ends with the stream
		for {
			m, err := stream.Receive()
			if err != nil {
				return
			}
			s.acknowledged <- m.AppliedRevision
		}
	}()
	select {
	case f.streams <- s:
	case <-ctx.Done():
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.end:
			return err
		case m := <-s.send:
			if err := stream.Send(m); err != nil {
				return err
			}
		}
	}
}

func selfSigned() (tls.Certificate, *x509.CertPool) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	pool := x509.NewCertPool()
	pool.AddCert(must(x509.ParseCertificate(der)))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// serve serves handler over mutual TLS until the test ends, and gives a client.
func serve(t *testing.T, handler api.SidecarServiceHandler) api.SidecarServiceClient {
	t.Helper()
	cert, pool := selfSigned()
	mux := http.NewServeMux()
	mux.Handle(api.NewSidecarServiceHandler(handler))
	server := &http.Server{
		Handler:   mux,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	done := make(chan struct{})
	go func() { defer close(done); server.ServeTLS(l, "", "") }()
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}},
		ForceAttemptHTTP2: true,
	}
	t.Cleanup(func() { transport.CloseIdleConnections(); server.Close(); <-done })
	return api.NewSidecarServiceClient(&http.Client{Transport: transport}, "https://"+l.Addr().String())
}

// follower is a Watcher that runs until the test ends, and what it told.
type follower struct {
	applied chan uint64
	revoked chan struct{}
	expired chan struct{}
	done    chan error
	fail    func(revision uint64) error
}

func follow(t *testing.T, client WatchClient, fail func(uint64) error) *follower {
	t.Helper()
	r := &follower{make(chan uint64, 100), make(chan struct{}, 1), make(chan struct{}, 100), make(chan error, 1), fail}
	w := &Watcher{
		Client: client,
		Apply: func(m *api.WatchResponse) error {
			revision, bindings := m.GetRevision(), m.GetBindings()
			if r.fail != nil {
				if err := r.fail(revision); err != nil {
					return err
				}
			}
			if len(bindings) != 1 || bindings[0].Version != revision {
				t.Errorf("revision %d came with bindings %v", revision, bindings)
			}
			r.applied <- revision
			return nil
		},
		Revoked: func() { r.revoked <- struct{}{} },
		Expired: func() { r.expired <- struct{}{} },
		Log:     quiet,
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); r.done <- w.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return r
}

func TestWatcherAppliesAndAcknowledges(t *testing.T) {
	f := &fakeWatch{streams: make(chan *watched)}
	r := follow(t, serve(t, f), nil)
	s := <-f.streams
	for _, revision := range []uint64{0, 5, 6, 9} {
		if revision > 0 {
			s.say(revision, time.Hour)
			if got := <-r.applied; got != revision {
				t.Errorf("applied %d, want %d", got, revision)
			}
		}
		if got := <-s.acknowledged; got != revision {
			t.Errorf("acknowledged %d, want %d", got, revision)
		}
	}
}

func TestWatcherReconnects(t *testing.T) {
	f := &fakeWatch{streams: make(chan *watched)}
	r := follow(t, serve(t, f), nil)
	for revision := range uint64(4) {
		s := <-f.streams
		if got := <-s.acknowledged; got != 0 {
			t.Errorf("a new stream begins with revision %d", got)
		}
		s.say(revision+1, time.Hour)
		if got := <-r.applied; got != revision+1 {
			t.Errorf("applied %d, want %d", got, revision+1)
		}
		s.end <- connect.NewError(connect.CodeUnavailable, errors.New("replica stops"))
	}
	select {
	case <-r.expired:
		t.Error("a short interruption expired the bindings")
	case <-r.revoked:
		t.Error("a short interruption revoked the sandbox")
	default:
	}
}

func TestWatcherKeepsTheLastGood(t *testing.T) {
	f := &fakeWatch{streams: make(chan *watched)}
	r := follow(t, serve(t, f), func(revision uint64) error {
		if revision == 2 {
			return errors.New("malformed bindings")
		}
		return nil
	})
	s := <-f.streams
	<-s.acknowledged
	s.say(1, time.Hour)
	s.say(2, time.Hour)
	s.say(3, time.Hour)
	for _, want := range []uint64{1, 3} {
		if got := <-s.acknowledged; got != want {
			t.Errorf("acknowledged %d, want %d", got, want)
		}
		if got := <-r.applied; got != want {
			t.Errorf("applied %d, want %d", got, want)
		}
	}
}

// A stream must not take bindings back to what they were.
func TestWatcherRefusesToGoBack(t *testing.T) {
	f := &fakeWatch{streams: make(chan *watched)}
	r := follow(t, serve(t, f), nil)
	s := <-f.streams
	s.say(7, time.Hour)
	<-r.applied
	s.say(6, time.Hour)
	s = <-f.streams // it left the stream
	s.say(7, time.Hour)
	if got := <-r.applied; got != 7 {
		t.Errorf("applied %d after 7", got)
	}
}

func TestWatcherRevoked(t *testing.T) {
	f := &fakeWatch{streams: make(chan *watched)}
	r := follow(t, serve(t, f), nil)
	s := <-f.streams
	s.say(1, time.Hour)
	s.end <- connect.NewError(connect.CodePermissionDenied, errors.New("sandbox removed"))
	<-r.revoked
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}

func TestWatcherExpires(t *testing.T) {
	f := &fakeWatch{streams: make(chan *watched)}
	r := follow(t, serve(t, f), nil)
	s := <-f.streams
	s.say(1, time.Millisecond)
	<-r.applied
	s.end <- connect.NewError(connect.CodeUnavailable, errors.New("away"))
	<-r.expired
	s = <-f.streams
	s.say(1, time.Millisecond) // the same revision again ends the outage
	if got := <-r.applied; got != 1 {
		t.Errorf("applied %d after the outage", got)
	}
}

func TestWatcherExpiresOnceAnOutage(t *testing.T) {
	var o outage
	expired := make(chan struct{}, 10)
	for range 3 {
		o.begin(0, func() { expired <- struct{}{} })
	}
	<-expired
	if o.begin(0, func() { t.Error("expired twice") }) {
		t.Error("an outage began in an outage")
	}
	o.end()
	o.begin(time.Hour, func() { t.Error("expired when over") })
	if err := o.over(func() error { return nil }); err != nil {
		t.Error(err)
	}
}

// A machine that was suspended in an outage finds it over: its monotonic clock, which
// timers go by, stood still.
func TestOutageGoesOnInSuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o outage
		expired := false
		o.begin(24*time.Hour, func() { expired = true })
		time.Sleep(3 * longestSleep)
		synctest.Wait()
		if expired {
			t.Fatal("expired at once")
		}
		o.mu.Lock()
		o.until = deadline{time.Now().Round(0)} // as it looks by the wall clock, after a day
		o.mu.Unlock()
		time.Sleep(longestSleep)
		synctest.Wait()
		if !expired {
			t.Error("the bindings go on serving")
		}
		o.end()
	})
}
