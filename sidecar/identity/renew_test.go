package identity

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"sallyport/control/api"
)

func TestRenewedCertificateIsUsed(t *testing.T) {
	f, url := newFakeControl(t)
	i := enrolled(t, f, url)
	i.Client().Report(t.Context(), connect.NewRequest(&api.ReportRequest{}))
	first := i.certificate.Load()
	if err := i.renewOnce(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	i.Client().Report(t.Context(), connect.NewRequest(&api.ReportRequest{}))
	second := i.certificate.Load()
	if got := f.clients[len(f.clients)-1]; second.leaf.Equal(first.leaf) || !got.Equal(second.leaf) {
		t.Error("a call after the renewal shows the old certificate")
	}
	if second.generation != 2 || f.renewed[0].Generation != 1 {
		t.Errorf("generation %d was renewed to %d", f.renewed[0].Generation, second.generation)
	}
}

func TestRenewalKeepsWhatItCantCheck(t *testing.T) {
	f, url := newFakeControl(t)
	i := enrolled(t, f, url)
	if err := i.request(kept); err != nil {
		t.Fatal(err)
	}
	good, request := i.certificate.Load(), i.csr
	other := must(newIdentity())
	stranger := newAuthority(t)
	for name, c := range map[string]*api.Certificate{
		"nothing":            nil,
		"the generation had": f.certificate(i.csr, 1, time.Hour),
		"another key":        f.certificate(other.csr, 2, time.Hour),
		"another sandbox": {
			Chain: [][]byte{f.ca.issue(i.key.Public(), "spiffe://sallyport/team/t1/sandbox/s2", time.Hour)}, Roots: [][]byte{f.ca.cert.Raw}, Generation: 2},
		"roots that don't vouch for it": {
			Chain: f.certificate(i.csr, 2, time.Hour).Chain, Roots: [][]byte{stranger.cert.Raw}, Generation: 2},
		"an expired one": f.certificate(i.csr, 2, -time.Second),
	} {
		i.client = renewFunc(func() (*api.Certificate, error) { return c, nil })
		if err := i.renewOnce(t.Context(), kept); err == nil {
			t.Errorf("%s is taken for a renewed certificate", name)
		}
		if i.certificate.Load() != good || !bytes.Equal(i.csr, request) {
			t.Fatalf("%s replaced the good certificate or its request", name)
		}
	}
}

// kept stores nothing, without fail.
func kept() error { return nil }

// renewFunc is a control plane that only renews.
type renewFunc func() (*api.Certificate, error)

func (f renewFunc) Renew(_ context.Context, r *connect.Request[api.RenewRequest]) (*connect.Response[api.RenewResponse], error) {
	if len(r.Msg.Csr) == 0 {
		return connect.NewResponse(&api.RenewResponse{}), nil
	}
	c, err := f()
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&api.RenewResponse{Certificate: c}), nil
}
func (renewFunc) Enroll(context.Context, *connect.Request[api.EnrollRequest]) (*connect.Response[api.EnrollResponse], error) {
	panic("not called")
}
func (renewFunc) Watch(context.Context) *connect.BidiStreamForClient[api.WatchRequest, api.WatchResponse] {
	panic("not called")
}
func (renewFunc) Fetch(context.Context, *connect.Request[api.FetchRequest]) (*connect.Response[api.FetchResponse], error) {
	panic("not called")
}
func (renewFunc) Allot(context.Context, *connect.Request[api.AllotRequest]) (*connect.Response[api.AllotResponse], error) {
	panic("not called")
}
func (renewFunc) Approve(context.Context, *connect.Request[api.ApproveRequest]) (*connect.Response[api.ApproveResponse], error) {
	panic("not called")
}
func (renewFunc) Capture(context.Context, *connect.Request[api.CaptureRequest]) (*connect.Response[api.CaptureResponse], error) {
	panic("not called")
}
func (renewFunc) Report(context.Context, *connect.Request[api.ReportRequest]) (*connect.Response[api.ReportResponse], error) {
	panic("not called")
}

// offline is an identity of the bubble's time whose renewals renew answers.
func offline(t *testing.T, renew func(i *Identity, f *fakeControl) (*api.Certificate, error)) *Identity {
	t.Helper()
	f := &fakeControl{ca: newAuthority(t)}
	i := must(newIdentity())
	i.sandbox, i.Log = "s1", slog.New(slog.NewTextHandler(io.Discard, nil))
	i.certificate.Store(must(newCertificate(f.certificate(i.csr, 1, time.Hour), i.key, i.sandbox)))
	if err := i.connect("https://127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	i.client = renewFunc(func() (*api.Certificate, error) { return renew(i, f) })
	return i
}

func TestRunRenewsFromAThirdOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		i := offline(t, func(i *Identity, f *fakeControl) (*api.Certificate, error) {
			return f.certificate(i.csr, i.certificate.Load().generation+1, time.Hour), nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		var renewals int
		last := uint64(1)
		err := i.Run(ctx, func() error {
			generation := i.certificate.Load().generation
			if generation == last { // before a renewal
				return nil
			}
			last = generation
			if age := time.Since(start); age < 15*time.Minute || age > 25*time.Minute {
				t.Errorf("an hour's certificate was renewed after %v", age)
			}
			start = time.Now()
			if renewals++; renewals == 20 {
				cancel()
			}
			return nil
		})
		if err != nil || renewals != 20 || i.certificate.Load().generation != 21 {
			t.Errorf("%d renewals, generation %d, %v", renewals, i.certificate.Load().generation, err)
		}
	})
}

// A clock that is far ahead of the control plane's makes every certificate look old. It
// is not renewed without end for that.
func TestRunRenewsAtEase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		renewals, start := 0, time.Now()
		i := offline(t, func(i *Identity, f *fakeControl) (*api.Certificate, error) {
			if renewals++; renewals == 100 {
				cancel()
			}
			f.ca.behind = 40 * time.Minute
			return f.certificate(i.csr, i.certificate.Load().generation+1, time.Hour), nil
		})
		if err := i.Run(ctx, kept); err != nil || renewals != 100 {
			t.Errorf("%d renewals, %v", renewals, err)
		}
		if took := time.Since(start); took < 99*time.Minute {
			t.Errorf("a hundred renewals in %v", took)
		}
	})
}

// confirming is a renewFunc that loses some of what it is told has arrived.
type confirming struct {
	renewFunc
	lost      int
	confirmed map[uint64]int // answers, by generation
}

func (c *confirming) Renew(ctx context.Context, r *connect.Request[api.RenewRequest]) (*connect.Response[api.RenewResponse], error) {
	if len(r.Msg.Csr) > 0 {
		return c.renewFunc.Renew(ctx, r)
	}
	if c.lost > 0 {
		c.lost--
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("away"))
	}
	c.confirmed[r.Msg.Generation]++
	return connect.NewResponse(&api.RenewResponse{}), nil
}

// What the control plane was not told, that a renewal has arrived, it is told again: by
// this worker, and by the next where this one died too soon.
func TestLostConfirmationIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := offline(t, func(i *Identity, f *fakeControl) (*api.Certificate, error) {
			return f.certificate(i.csr, i.certificate.Load().generation+1, time.Hour), nil
		})
		c := &confirming{renewFunc: i.client.(renewFunc), lost: 5, confirmed: make(map[uint64]int)}
		i.client = c
		run := func(d time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			if err := i.Run(ctx, kept); err != nil {
				t.Error(err)
			}
		}
		run(35 * time.Minute) // one renewal
		if c.confirmed[2] != 1 || len(c.confirmed) != 1 || c.lost != 0 {
			t.Errorf("confirmed %v, %d left to lose", c.confirmed, c.lost)
		}
		var err error
		if i, err = Restore("https://127.0.0.1:1", must(i.Marshal())); err != nil {
			t.Fatal(err)
		}
		i.Log, i.client = slog.New(slog.NewTextHandler(io.Discard, nil)), c
		run(time.Minute)
		if c.confirmed[2] != 2 || len(c.confirmed) != 1 {
			t.Errorf("after a restart: confirmed %v", c.confirmed)
		}
	})
}

func TestRunSurvivesAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, attempts := time.Now(), 0
		i := offline(t, func(i *Identity, f *fakeControl) (*api.Certificate, error) {
			attempts++
			if time.Since(start) < 23*time.Hour {
				return nil, connect.NewError(connect.CodeUnavailable, errors.New("away"))
			}
			return f.certificate(i.csr, 2, time.Hour), nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		if err := i.Run(ctx, func() error {
			if i.certificate.Load().generation == 2 {
				cancel()
			}
			return nil
		}); err != nil || i.certificate.Load().generation != 2 {
			t.Errorf("after an outage of 23 h: generation %d, %v", i.certificate.Load().generation, err)
		}
		if attempts < 23*60/2 || attempts > 23*3600 {
			t.Errorf("%d attempts in 23 h", attempts)
		}
	})
}

func TestRunEnds(t *testing.T) {
	for name, c := range map[string]struct {
		code connect.Code
		want error
	}{
		"revoked": {connect.CodePermissionDenied, ErrRevoked},
		"deleted": {connect.CodeNotFound, ErrRevoked},
		"away":    {connect.CodeUnavailable, ErrExpired},
		"unknown": {connect.CodeUnauthenticated, ErrExpired},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := offline(t, func(*Identity, *fakeControl) (*api.Certificate, error) {
					return nil, connect.NewError(c.code, errors.New(name))
				})
				err := i.Run(t.Context(), kept)
				if !errors.Is(err, c.want) {
					t.Errorf("error %v, want %v", err, c.want)
				}
			})
		})
	}
}

// A control plane whose machine vanished sends no FIN: only pings tell.
func TestSilentControlPlaneIsNoticed(t *testing.T) {
	t.Parallel()
	f, url := newFakeControl(t)
	mute := newMutingProxy(t, url[len("https://"):])
	i := enrolled(t, f, "https://"+mute.Addr().String())
	stream := i.Client().Watch(t.Context())
	if err := stream.Send(&api.WatchRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Receive(); err != nil {
		t.Fatal(err)
	}
	close(mute.muted)
	if _, err := stream.Receive(); err == nil {
		t.Error("a message from a dead control plane")
	}
	stream.CloseRequest()
	stream.CloseResponse()
}

// mutingProxy forwards until muted; then bytes vanish and connections stay.
type mutingProxy struct {
	net.Listener
	muted chan struct{}
}

func newMutingProxy(t *testing.T, to string) *mutingProxy {
	t.Helper()
	p := &mutingProxy{listen(t), make(chan struct{})}
	done := make(chan struct{})
	t.Cleanup(func() { p.Close(); <-done })
	go func() {
		defer close(done)
		for {
			down, err := p.Accept()
			if err != nil {
				return
			}
			up := must(net.Dial("tcp", to))
			t.Cleanup(func() { down.Close(); up.Close() })
			go p.copy(up, down)
			go p.copy(down, up)
		}
	}()
	return p
}

func (p *mutingProxy) copy(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		select {
		case <-p.muted:
		default:
			to.Write(buffer[:n])
		}
	}
}
