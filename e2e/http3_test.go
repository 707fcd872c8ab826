package e2e_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sallyport/e2e"
)

const (
	http3Host = "www.sallyport.test"
	http3Key  = "http3-key-0123456789abcdef"
)

// http3Origin is an upstream in three versions of HTTP. It names the third in every
// answer, and says which one it was asked in and how long that took the browser.
func http3Origin(t *testing.T, w *e2e.World) (tcp, udp string) {
	t.Helper()
	page := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Alt-Svc", `h3=":443"; ma=86400`)
		rw.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(rw, `<link rel=icon href=data:,><p>asked in %s, key %t</p><p id=took></p><script>
			took.textContent = "took " + Math.round(performance.getEntriesByType("navigation")[0].responseStart) + " ms"</script>`,
			r.Proto, r.Header.Get("Authorization") == "Bearer "+http3Key)
	})
	server := w.OriginServer(http3Host, page, "h2", "http/1.1")
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	third := &http3.Server{Handler: page, TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: server.TLS.Certificates})}
	served := make(chan error, 1)
	go func() { served <- third.Serve(packets) }()
	t.Cleanup(func() {
		third.Close()
		packets.Close()
		<-served
	})
	return server.Listener.Addr().String(), packets.LocalAddr().String()
}

// TestHTTP3: clients that try HTTP/3 fall back at once, and of those that wait to be
// told of it none is. The upstream has it, as is seen from outside.
func TestHTTP3(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	tcp, udp := http3Origin(t, w)
	w.Pinned("agent", http3Key, "--host", http3Host, "--inject", "bearer")
	askOverQUIC(t, w, udp)

	t.Run("not advertised", func(t *testing.T) {
		for _, version := range []string{"--http1.1", "--http2"} {
			out := w.In(t).Run("agent", "curl", "-sSi", version, "https://"+http3Host+"/")
			if !strings.Contains(out, "key true") || strings.Contains(strings.ToLower(out), "alt-svc") {
				t.Errorf("curl %s printed\n%s", version, out)
			}
		}
	})
	t.Run("not in DNS", func(t *testing.T) {
		for _, kind := range []string{"HTTPS", "SVCB"} {
			out := w.In(t).Run("agent", "dig", "-t", kind, http3Host)
			if !strings.Contains(out, "status: NOERROR") || !strings.Contains(out, "ANSWER: 0") {
				t.Errorf("dig -t %s printed\n%s", kind, out)
			}
		}
	})
	t.Run("quic-go", func(t *testing.T) {
		out := w.In(t).Run("agent", w.Client("h3client"), "https://"+http3Host+"/")
		var refused, answered int
		if _, err := fmt.Sscanf(regexp.MustCompile(`(?s)quic\t(\d+)\t.*\ntcp\t(\d+)\tHTTP/2.0\n`).ReplaceAllString(out, "$1 $2"), "%d %d", &refused, &answered); err != nil {
			t.Fatalf("the client printed %q, want a refusal and then an answer", out)
		}
		// Its own timeout would be 5 seconds.
		if refused > 250 {
			t.Errorf("the client waited %d ms before it fell back", refused)
		}
		t.Logf("refused after %d ms, answered in %d ms", refused, answered)
	})
	t.Run("chromium", func(t *testing.T) { chromiumFallsBack(t, w.In(t), tcp) })
}

// askOverQUIC shows that what the sandbox is kept from is there.
func askOverQUIC(t *testing.T, w *e2e.World, udp string) {
	t.Helper()
	ca, err := os.ReadFile(w.UpstreamCA())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	transport := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: http3Host}}
	defer transport.Close()
	request, err := http.NewRequest(http.MethodGet, "https://"+udp+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatalf("the upstream has no HTTP/3: %v", err)
	}
	response.Body.Close()
}

// chromiumFallsBack lets a browser learn outside, where it sees the upstream itself,
// that the host has HTTP/3. With that profile it comes into a sandbox.
func chromiumFallsBack(t *testing.T, w *e2e.World, tcp string) {
	const browser = "chromium --headless --no-sandbox --disable-gpu --dump-dom --log-net-log=$HOME/net.json "
	profile := w.Client("profile")
	learnt := w.Outside(w.Dir, "sh", "-c", "mkdir -p $HOME/.pki/nssdb && certutil -d sql:$HOME/.pki/nssdb -N --empty-password && "+
		"certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n upstream -i "+w.UpstreamCA()+" && "+
		browser+"--user-data-dir="+profile+" --host-resolver-rules='MAP "+http3Host+":443 "+tcp+"' https://"+http3Host+"/ && "+
		"chmod -R a+rX "+profile+" && cat '"+profile+"/Default/Network Persistent State'")
	if !strings.Contains(learnt, "asked in HTTP/2.0, key false") || !strings.Contains(learnt, `"advertised_alpns":["h3"]`) {
		t.Fatalf("the browser has not learnt of HTTP/3:\n%s", learnt)
	}
	// The page, its time in milliseconds, and whether it was tried by QUIC in vain.
	load := func(flags string) (page string, took int, tried bool) {
		r := w.TryRun("agent", "sh", "-c", "export HOME=/tmp/home && mkdir $HOME && cp -r "+profile+" $HOME/profile && "+
			browser+"--user-data-dir=$HOME/profile "+flags+" https://"+http3Host+"/; grep -c '\"quic_error\":27\\b' $HOME/net.json") // QUIC_PACKET_WRITE_ERROR
		if m := regexp.MustCompile(`took (\d+) ms`).FindStringSubmatch(r.Stdout); m != nil {
			took, _ = strconv.Atoi(m[1])
		}
		return r.Stdout + r.Stderr, took, !strings.HasSuffix(r.Stdout, "\n0\n")
	}
	without, usual, tried := load("--disable-quic")
	if !strings.Contains(without, "asked in HTTP/2.0, key true") || tried {
		t.Fatalf("without QUIC the page was\n%s", without)
	}
	with, took, tried := load("--enable-quic")
	for n := 1; !tried && n < 5; n++ { // a request may be quicker than the profile is read
		with, took, tried = load("--enable-quic")
	}
	if !strings.Contains(with, "asked in HTTP/2.0, key true") || !tried {
		t.Fatalf("with QUIC (tried: %t) the page was\n%s\nwith the profile of\n%s", tried, with, learnt)
	}
	t.Logf("the page took %d ms, and %d ms without QUIC", took, usual)
	if took > usual+500 {
		t.Errorf("the browser waited before it fell back: %d ms, and %d ms without QUIC", took, usual)
	}
	start := time.Now()
	forced, _, tried := load("--enable-quic --origin-to-force-quic-on=" + http3Host + ":443") // which forbids any other way
	if !strings.Contains(forced, "net::ERR_QUIC_") || !tried {
		t.Errorf("with nothing but QUIC (tried: %t) the page was\n%s", tried, forced)
	}
	t.Logf("a browser that may use nothing but QUIC ended after %v", time.Since(start))
}

// TestAltSvcFrame: an alternative is not told of in a frame of HTTP/2 either (RFC 7838 section 4).
func TestAltSvcFrame(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	address := altSvcOrigin(t, w)
	w.CLI("agent", "create", "agent")
	if out := w.Outside(w.Dir, "nghttp", "-v", "--no-verify-peer", "https://"+address+"/"); !strings.Contains(out, "recv ALTSVC frame") {
		t.Fatalf("the upstream sends no such frame:\n%s", out)
	}
	out := w.Run("agent", "nghttp", "-v", "https://"+http3Host+"/")
	if !strings.Contains(out, ":status: 200") || strings.Contains(out, "ALTSVC") {
		t.Errorf("nghttp printed\n%s", out)
	}
}

// altSvcOrigin is an upstream that answers in HTTP/2 by hand, with a frame before
// each answer that names HTTP/3.
func altSvcOrigin(t *testing.T, w *e2e.World) (address string) {
	t.Helper()
	certificate, err := tls.LoadX509KeyPair(w.Certificate(http3Host))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		listener.Close()
		<-done
	})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			answerWithAltSvc(conn)
			conn.Close()
		}
	}()
	w.Origin(http3Host, false, listener.Addr().String())
	return listener.Addr().String()
}

// answerWithAltSvc serves one connection until its client leaves.
func answerWithAltSvc(conn net.Conn) {
	const altSvc = http2.FrameType(0xa)
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := conn.Read(preface); err != nil {
		return
	}
	framer := http2.NewFramer(conn, conn)
	_ = framer.WriteSettings()
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = framer.WriteSettingsAck()
			}
		case *http2.HeadersFrame:
			const value = `h3=":443"`
			_ = framer.WriteRawFrame(altSvc, 0, 0, append([]byte{0, byte(len("https://" + http3Host))}, "https://"+http3Host+value...))
			_ = framer.WriteRawFrame(altSvc, 0, frame.StreamID, append([]byte{0, 0}, value...))
			var head bytes.Buffer
			_ = hpack.NewEncoder(&head).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
			_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: frame.StreamID, BlockFragment: head.Bytes(), EndStream: true, EndHeaders: true})
		}
	}
}
