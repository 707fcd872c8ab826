package forward

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/leodido/go-syslog/v4/rfc5424"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"sallyport/control"
	testcluster "sallyport/control/controltest/cluster"
	"sallyport/control/embedded"
	"sallyport/control/store"
)

// patience bounds a wait for something that must happen.
const patience = 30 * time.Second

var cluster *embedded.Cluster

func TestMain(m *testing.M) {
	testcluster.Main(m, &cluster, func() error {
		http.DefaultClient.CloseIdleConnections()
		return goleak.Find()
	})
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not: %s", what)
		}
	}
}

// plane is a database with a team whose events are forwarded.
type plane struct {
	*store.Store
	url   string
	team  control.Team
	count int // of the team's events
}

var databases atomic.Int64

func newPlane(t *testing.T) *plane {
	t.Helper()
	conn := must(pgx.Connect(t.Context(), cluster.URL()))(t)
	defer conn.Close(context.Background())
	name := fmt.Sprintf("test%d", databases.Add(1))
	must(conn.Exec(t.Context(), "create database "+name))(t)
	p := &plane{url: strings.Replace(cluster.URL(), "/postgres?", "/"+name+"?", 1)}
	p.Store = p.open(t)
	p.team = must(p.CreateTeam(t.Context(), "billing", control.Event{Kind: "team.create", Actor: "test"}))(t)
	p.count = 1 // its making
	return p
}

func (p *plane) open(t *testing.T) *store.Store {
	t.Helper()
	s := must(store.Open(t.Context(), p.url, slog.New(slog.DiscardHandler)))(t)
	t.Cleanup(s.Close)
	ctx, cancel := context.WithCancel(context.Background())
	var listening sync.WaitGroup
	listening.Go(func() { s.Listen(ctx, func(string, string) {}, func(string) {}) })
	t.Cleanup(func() { cancel(); listening.Wait() })
	return s
}

// record records n events like e.
func (p *plane) record(t *testing.T, n int, e control.Event) {
	t.Helper()
	for range n {
		p.count++
		must(p.CreateAgent(t.Context(), p.team.ID, fmt.Sprintf("a%d", p.count), e))(t)
	}
}

// forward runs a forwarder until stop or the test's end.
func (p *plane) forward(t *testing.T, s *store.Store, targets ...string) (metric func(name string) float64, stop func()) {
	t.Helper()
	registry := prometheus.NewRegistry()
	f := &Forwarder{Store: s, Sender: Sender{"replica.test", "v1"}, Metrics: NewMetrics(registry), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, text := range targets {
		f.Targets = append(f.Targets, must(ParseTarget(text))(t))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return func(name string) (sum float64) {
		for _, family := range must(registry.Gather())(t) {
			if family.GetName() == "sallyport_control_audit_"+name {
				for _, m := range family.GetMetric() {
					sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
		return sum
	}, stop
}

// received is what a line of JSON says.
type received struct {
	Team, Host, Path, Kind, Detail string
	ID                             int64
}

// rsyslog is a real receiver, which writes each message as it came to a file.
type rsyslog struct {
	dir, address string
	secure       bool
	cmd          *exec.Cmd
}

func newRsyslog(t *testing.T, secure bool) *rsyslog {
	t.Helper()
	listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	listener.Close()
	r := &rsyslog{dir: t.TempDir(), address: listener.Addr().String(), secure: secure}
	_, port, _ := net.SplitHostPort(r.address)
	tls := ""
	if secure {
		certificates(t, r.dir)
		tls = fmt.Sprintf(`global(defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="%[1]s/ca.pem" defaultNetstreamDriverCertFile="%[1]s/cert.pem" defaultNetstreamDriverKeyFile="%[1]s/key.pem")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")`, r.dir)
	} else {
		tls = `module(load="imtcp")`
	}
	config := fmt.Sprintf(`global(workDirectory="%s")
%s
input(type="imtcp" address="127.0.0.1" port="%s")
template(name="raw" type="string" string="%%rawmsg%%\n")
action(type="omfile" file="%s/log" template="raw")
`, r.dir, tls, port, r.dir)
	if err := os.WriteFile(filepath.Join(r.dir, "rsyslog.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.kill)
	return r
}

func (r *rsyslog) start(t *testing.T) {
	t.Helper()
	output := must(os.OpenFile(filepath.Join(r.dir, "stderr"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600))(t)
	defer output.Close()
	r.cmd = exec.Command("rsyslogd", "-n", "-f", filepath.Join(r.dir, "rsyslog.conf"), "-i", filepath.Join(r.dir, "pid"))
	r.cmd.Stdout, r.cmd.Stderr = output, output
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "rsyslog listens", func() bool {
		conn, err := net.Dial("tcp", r.address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

func (r *rsyslog) kill() {
	if r.cmd != nil {
		r.cmd.Process.Kill()
		r.cmd.Wait()
		r.cmd = nil
	}
}

// target is where events are sent to reach it.
func (r *rsyslog) target() string {
	if r.secure {
		return fmt.Sprintf("syslog+tls://%s?ca=%[2]s/ca.pem&cert=%[2]s/cert.pem&key=%[2]s/key.pem", r.address, r.dir)
	}
	return "syslog+tcp://" + r.address
}

// messages are those that came, by team and position; each is one that was sent.
func (r *rsyslog) messages(t *testing.T) map[string]received {
	t.Helper()
	all := make(map[string]received)
	text, err := os.ReadFile(filepath.Join(r.dir, "log"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for _, line := range lines[:len(lines)-1] { // the last is perhaps being written
		if !strings.HasPrefix(line, "<") || strings.Contains(line, " rsyslogd") { // its own
			continue
		}
		parsed, err := rfc5424.NewParser().Parse([]byte(line))
		if err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		m := parsed.(*rfc5424.SyslogMessage)
		var got received
		if err := json.Unmarshal([]byte(*m.Message), &got); err != nil || *m.Appname != "sallyport" || *m.Hostname != "replica.test" || *m.MsgID != got.Kind || *m.Facility != facility {
			t.Fatalf("%v in %s", err, line)
		}
		all[fmt.Sprintf("%s/%d", got.Team, got.ID)] = got
	}
	return all
}

// hostile are texts that would be records, frames or fields of their own.
var hostile = []string{
	"/a\n<110>1 2026-01-01T00:00:00Z evil sallyport - alert - {\"kind\":\"forged\"}",
	"/a\r\n42 <110>1 - evil sallyport - - - forged",
	`/a"] [forged@1 x="y"] "}` + "\n{\"kind\":\"forged\"}",
	"/a\x00\x1b[2J\x7f\u0085\u009b\u2028\u2029\u202e\U0001f600\ufeff",
	strings.Repeat(`\"`, 4000) + "<110>1 - evil sallyport - - - forged",
	strings.Repeat("\u0085", 3000) + "\n<110>1 - evil sallyport - - - forged",
}

// TestSyslog forwards to rsyslog by TCP and TLS. It is killed in the midst of it, and has
// every event in the end; no event makes two.
func TestSyslog(t *testing.T) {
	t.Parallel()
	for name, secure := range map[string]bool{"tcp": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, r := newPlane(t), newRsyslog(t, secure)
			r.start(t)
			p.record(t, 100, control.Event{Kind: "before", Actor: "token:x"})
			metric, _ := p.forward(t, p.Store, r.target())
			eventually(t, "what was before it arrives", func() bool { return len(r.messages(t)) >= 101 })
			for _, text := range hostile {
				p.record(t, 1, control.Event{Kind: "hostile", Actor: "token:x", Host: text, Path: text, Detail: text})
			}
			p.record(t, 50, control.Event{Kind: "live", Actor: "token:x"})
			r.kill()
			p.record(t, 50, control.Event{Kind: "away", Actor: "token:x"})
			eventually(t, "it is behind", func() bool {
				return metric("forward_lag_events") >= 50 && metric("forward_lag_seconds") > 0 && metric("forward_errors_total") > 0
			})
			r.start(t)
			all := func() bool {
				got := r.messages(t)
				for id := 1; id <= p.count; id++ {
					if _, found := got[fmt.Sprintf("billing/%d", id)]; !found {
						return false
					}
				}
				return true
			}
			eventually(t, "every event arrives", all)
			eventually(t, "it is not behind", func() bool { return metric("forward_lag_events") == 0 && metric("forward_lag_seconds") == 0 })
			got := r.messages(t)
			for i, text := range hostile {
				e := got[fmt.Sprintf("billing/%d", 102+i)]
				if whole := strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "\uFFFD"), ""); e.Kind != "hostile" || !strings.HasPrefix(whole, e.Path[:min(len(e.Path), 64)]) || len(e.Path) < 4 {
					t.Errorf("of %.60q there is %+v", text, e)
				}
			}
			delete(got, "/1") // the installation has one
			if len(got) != p.count {
				t.Errorf("of %d events it has %d", p.count, len(got))
			}
		})
	}
}

// TestOneAtATime has two replicas forward to one receiver, by one connection; when the
// one that does ends, the other goes on.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	p, r := newPlane(t), newRsyslog(t, false)
	r.start(t)
	firstMetric, stop := p.forward(t, p.Store, r.target())
	eventually(t, "the first forwards", func() bool { return firstMetric("forwarded_total") > 0 })
	metric, _ := p.forward(t, p.open(t), r.target())
	p.record(t, 20, control.Event{Kind: "first", Actor: "token:x"})
	eventually(t, "they arrive", func() bool { return len(r.messages(t)) >= p.count })
	if n := metric("forwarded_total"); n != 0 {
		t.Errorf("meanwhile the other has forwarded %v", n)
	}
	stop()
	p.record(t, 20, control.Event{Kind: "second", Actor: "token:x"})
	eventually(t, "the second goes on", func() bool { return metric("forwarded_total") >= 20 && len(r.messages(t)) >= p.count })
}

// TestWrongCertificate: to a server of another name, or one of another CA, nothing is sent.
func TestWrongCertificate(t *testing.T) {
	t.Parallel()
	p, r := newPlane(t), newRsyslog(t, true)
	r.start(t)
	other := t.TempDir()
	certificates(t, other)
	metric, _ := p.forward(t, p.Store,
		"syslog+tls://"+strings.Replace(r.address, "127.0.0.1", "localhost", 1)+"?ca="+r.dir+"/ca.pem",
		"syslog+tls://"+r.address+"?name=other&ca="+other+"/ca.pem")
	eventually(t, "both fail", func() bool { return metric("forward_errors_total") >= 4 })
	if n := metric("forwarded_total"); n != 0 || len(r.messages(t)) != 0 {
		t.Errorf("%v were forwarded", n)
	}
}

// certificates makes a CA and a certificate of 127.0.0.1 in dir.
func certificates(t *testing.T, dir string) {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	root := must(x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key))(t)
	leafKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der := must(x509.CreateCertificate(rand.Reader, leaf, ca, leafKey.Public(), key))(t)
	for name, block := range map[string]*pem.Block{
		"ca.pem":   {Type: "CERTIFICATE", Bytes: root},
		"cert.pem": {Type: "CERTIFICATE", Bytes: der},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(leafKey))(t)},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
