package agentapi_test

import (
	"context"
	"log/slog"
	"net"
	"testing"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	"sallyport/control"
	"sallyport/control/agentapi"
	"sallyport/control/api"
	"sallyport/control/controltest"
	"sallyport/control/exchange"
	"sallyport/control/external"
)

// replica serves the sidecar API a second time on the same database. stop ends
// it and gives what Serve returned. connections, if given, is how many it takes.
func replica(t *testing.T, connections ...int) (url string, stop func() error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client, quiet := exchange.NewClient(controltest.Loopback()), slog.New(slog.DiscardHandler)
	exchanger := exchange.New(client, quiet) // its own: replicas share the database only
	secrets := external.New(plane.Store, plane.Sealer, exchanger, client, quiet)
	t.Cleanup(exchanger.Close)
	t.Cleanup(secrets.Close)
	server := agentapi.New(agentapi.Config{
		Store: plane.Store, Sealer: plane.Sealer, Authority: plane.Authority, Services: plane.Services, Exchange: exchanger, Secrets: secrets,
		Metrics: agentapi.NewMetrics(prometheus.NewRegistry()), Log: quiet, Names: []string{"127.0.0.1"}, Connections: append(connections, 0)[0],
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, listener) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() { stop() })
	return "https://" + listener.Addr().String(), stop
}

// What an admin changes at one replica reaches the sidecars of all.
func TestReplicasAreOne(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	url, _ := replica(t)
	s := team.Join(t)
	s.Move(t, url)
	w, snapshot := watch(t, s)
	w.acknowledge(snapshot.GetRevision())
	go func() {
		for {
			m, err := w.Receive()
			if err != nil || w.Send(&api.WatchRequest{AppliedRevision: m.GetRevision()}) != nil {
				return
			}
		}
	}()
	var r control.Rotation
	team.Must(t, "POST", "vaults/v/credentials/stripe/rotate?wait=10s", map[string]any{"secret": "sk_live_2"}, &r)
	if r.Connected != 1 || r.Acknowledged != 1 {
		t.Errorf("the rotation says %+v", r)
	}
}

// A replica that goes down sends its sidecars away, and they are not cut off.
func TestDrain(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	url, stop := replica(t)
	s := team.Join(t)
	s.Move(t, url)
	w, _ := watch(t, s)
	if err := stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	code(t, w.ends(), connect.CodeUnavailable)
	s.Move(t, plane.SidecarURL)
	watch(t, s)
	if _, err := s.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); err != nil {
		t.Error(err)
	}
}
