package resolve

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/control/api/reach"
)

func TestParseConnectTo(t *testing.T) {
	for text, want := range map[string]redirect{
		"api.stripe.com:443:127.0.0.1:12111":  {"api.stripe.com", 443, "127.0.0.1", 12111},
		"API.Stripe.com.:443:LocalHost:12111": {"api.stripe.com", 443, "localhost", 12111},
		"::127.0.0.1:8443":                    {"", 0, "127.0.0.1", 8443},
		"api.test:::8443":                     {"api.test", 0, "", 8443},
		"api.test::other.test:":               {"api.test", 0, "other.test", 0},
		":::":                                 {},
		"[2606:2800::1]:443:[::1]:8443":       {"2606:2800::1", 443, "::1", 8443},
		"api.test:443:[0:0:0:0::1]:8443":      {"api.test", 443, "::1", 8443},
		"api.test:443:[::ffff:127.0.0.1]:1":   {"api.test", 443, "127.0.0.1", 1},
		"1.1.1.1:443:other.test:443":          {"1.1.1.1", 443, "other.test", 443},
	} {
		got, err := parseConnectTo(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for text, hint := range map[string]string{
		"":                              "want HOST1:PORT1:HOST2:PORT2",
		"api.test":                      "want HOST1:PORT1:HOST2:PORT2",
		"api.test:443:other.test":       "want HOST1:PORT1:HOST2:PORT2",
		"api.test:443:other.test:1:2":   "want HOST1:PORT1:HOST2:PORT2",
		"api.test:443:::1:8443":         "brackets",
		"api.test:443:[::1:8443":        "HOST2: [ is not an IPv6 address",
		"api.test:443:[::1]x:8443":      "HOST2",
		"api.test:443:[127.0.0.1]:8443": "not an IPv6 address in brackets",
		"api.test:443:[fe80::1%lo]:1":   "not an IPv6 address in brackets",
		"api.test:https:other.test:443": "PORT1: the port must be a number",
		"api.test:443:other.test:0":     "PORT2: the port must be a number",
		"api.test:443:other.test:65536": "PORT2: the port must be a number",
		"api.test:+443:other.test:443":  "PORT1: the port must be a number",
		"*.test:443:other.test:443":     "HOST1",
		"api.test:443:127.1:443":        "HOST2",
		"api.test:443:a_b.test:443":     "HOST2",
		"https://api.test:443:a:1":      "PORT1: the port must be a number",
	} {
		_, err := New(Config{ConnectTo: []string{text}})
		if err == nil || !strings.Contains(err.Error(), hint) || !strings.Contains(err.Error(), fmt.Sprintf("%q", text)) {
			t.Errorf("%q: error %v, want one that speaks of %q", text, err, hint)
		}
	}
}

func TestConnectTo(t *testing.T) {
	four, _ := accepting(t, "127.0.0.1:0")
	six, _ := accepting(t, "[::1]:0")
	public, _ := accepting(t, "93.184.0.4:0")
	u := newUpstream(t, `
		private.test. A 127.0.0.1
		public.test. A 93.184.0.4
		metadata.test. A 169.254.169.254
		nat64.test. AAAA 64:ff9b::a9fe:a9fe
		zero.test. A 0.0.0.0
	`)
	r := newResolver(t, u, "127.0.0.1 file.test\n",
		fmt.Sprintf("literal.test:443:127.0.0.1:%d", four),
		fmt.Sprintf("literal.test:443:[::1]:%d", six), // the first one wins
		fmt.Sprintf("six.test::[::1]:%d", six),
		fmt.Sprintf("name.test:443:private.test:%d", four),
		fmt.Sprintf("file.example.test:443:file.test:%d", four),
		fmt.Sprintf("local.test:443:localhost:%d", four),
		"metadata.example.test:443:metadata.test:80",
		"nat64.example.test:443:nat64.test:80",
		"zero.example.test:443:zero.test:80",
		fmt.Sprintf("public.test:443::%d", public),
		fmt.Sprintf("private.test:443::%d", four),
		fmt.Sprintf("1.1.1.1:443:127.0.0.1:%d", four),
		fmt.Sprintf(":4433:127.0.0.1:%d", four),
	)
	for _, c := range []struct {
		host string
		port uint16
		want string
		err  error
	}{
		{"literal.test", 443, fmt.Sprintf("127.0.0.1:%d", four), nil},
		{"LITERAL.test.", 443, fmt.Sprintf("127.0.0.1:%d", four), nil},
		{"literal.test", 444, "", ErrNoSuchHost},
		{"six.test", 443, fmt.Sprintf("[::1]:%d", six), nil},
		{"six.test", 80, fmt.Sprintf("[::1]:%d", six), nil},
		{"name.test", 443, fmt.Sprintf("127.0.0.1:%d", four), nil},
		{"file.example.test", 443, fmt.Sprintf("127.0.0.1:%d", four), nil},
		{"local.test", 443, fmt.Sprintf("127.0.0.1:%d", four), nil},
		{"1.1.1.1", 443, fmt.Sprintf("127.0.0.1:%d", four), nil},
		{"anything.test", 4433, fmt.Sprintf("127.0.0.1:%d", four), nil},
		{"public.test", 443, fmt.Sprintf("93.184.0.4:%d", public), nil},
		// A port alone makes no private address allowed, and only an address
		// written down makes the metadata service so.
		{"private.test", 443, "", reach.ErrForbidden},
		{"private.test", four, "", reach.ErrForbidden},
		{"metadata.example.test", 443, "", reach.ErrForbidden},
		{"nat64.example.test", 443, "", reach.ErrForbidden},
		{"zero.example.test", 443, "", reach.ErrForbidden},
	} {
		got, err := dialled(t.Context(), r, c.host, c.port)
		if !errors.Is(err, c.err) || c.err == nil && got.String() != c.want {
			t.Errorf("%s:%d: dialled %v, %v; want %s, %v", c.host, c.port, got, err, c.want, c.err)
		}
	}
	literal := newResolver(t, u, "", "x.test:443:169.254.169.254:80").target("x.test", 443)
	if err := literal.permit(netip.MustParseAddr(literal.host)); err != nil {
		t.Errorf("a metadata address that the operator wrote down: %v", err)
	}
}

func TestNewReadsTheMachinesFiles(t *testing.T) {
	r, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if want := netip.MustParseAddrPort("127.0.0.1:53"); len(r.servers) != 1 || r.servers[0] != want {
		t.Errorf("servers %v, want %v", r.servers, want)
	}
	if _, err := New(Config{ResolvConf: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("no resolv.conf is no error")
	}
}
