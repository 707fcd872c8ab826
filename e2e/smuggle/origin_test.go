package smuggle_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/template"
	"time"
)

// sight is one request as an application behind an origin saw it, whole.
type sight struct {
	Method, Target string
	Exchange, Key  []string
	Length         int64
}

// origin is a real server at work.
type origin struct {
	server
	address string

	mu     sync.Mutex
	sights []sight
	chains []*chain
}

func (o *origin) saw(s sight) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sights = append(o.sights, s)
}

// server is how to start a real one. Those with a configuration forward to a
// recorder; the others record by themselves and say it on standard output.
type server struct {
	name    string
	config  string // of testdata
	command []string
	env     []string
	prepare func(t *testing.T, dir string)
	// own says why the application may see something else than what was sent: a
	// way of this server's that no bytes of ours could change. "" if it may not.
	own func(saw sight, sent written) string
}

const python = "/usr/bin/python3"

func servers() []server {
	return []server{
		{name: "nginx", config: "nginx.conf", command: []string{"/usr/sbin/nginx", "-p", "{{.Dir}}", "-e", "stderr", "-c", "{{.Config}}"}},
		{name: "apache2", config: "apache2.conf", command: []string{"/usr/sbin/apache2", "-DFOREGROUND", "-f", "{{.Config}}"}},
		{name: "haproxy", config: "haproxy.conf", command: []string{"/usr/sbin/haproxy", "-db", "-q", "-f", "{{.Config}}"}},
		{name: "varnish", config: "varnish.vcl", command: []string{
			"/usr/sbin/varnishd", "-F", "-j", "none", "-a", "127.0.0.1:{{.Port}}", "-f", "{{.Config}}", "-n", "{{.Dir}}/varnish", "-s", "malloc,16m", "-p", "http_max_hdr=256", "-p", "http_req_size=131072", "-p", "http_req_hdr_len=120000",
			"-p", "workspace_client=1m", "-p", "workspace_backend=1m", "-p", "timeout_idle=300", "-p", "thread_pools=1", "-p", "thread_pool_min=5",
		}, own: ofVarnish},
		{name: "lighttpd", config: "lighttpd.conf", command: []string{"/usr/sbin/lighttpd", "-D", "-f", "{{.Config}}"}, own: ofLighttpd},
		{name: "squid", config: "squid.conf", command: []string{"/usr/sbin/squid", "-N", "-n", "smuggle{{.Port}}", "-f", "{{.Config}}"}},
		{name: "trafficserver", config: "trafficserver.records", command: []string{"/usr/bin/traffic_server"}, env: []string{"TS_RUNROOT={{.Dir}}"}, prepare: layTrafficServer},
		{name: "h2o", config: "h2o.conf", command: []string{"/usr/bin/h2o", "-m", "worker", "-c", "{{.Config}}"}},
		{name: "tomcat10", command: []string{"java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", jars("tomcat10-*.jar"), testdata("Tomcat.java"), "{{.Port}}", "{{.Dir}}"}},
		{name: "jetty9", command: []string{"java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", jars("jetty9-server.jar", "jetty9-http.jar", "jetty9-io.jar", "jetty9-util.jar", "servlet-api.jar"), testdata("Jetty.java"), "{{.Port}}"}},
		{name: "node", command: []string{"node", testdata("node.cjs"), "{{.Port}}"}},
		{name: "puma", command: []string{"/usr/bin/puma", "-q", "-e", "production", "-t", "2:2", "-b", "tcp://127.0.0.1:{{.Port}}", testdata("puma.ru")}},
		{name: "gunicorn", command: []string{python, testdata("serve.py"), "gunicorn", "{{.Port}}"}},
		{name: "waitress", command: []string{python, testdata("serve.py"), "waitress", "{{.Port}}"}},
		{name: "uvicorn", command: []string{python, testdata("serve.py"), "uvicorn", "{{.Port}}"}},
		{name: "tornado", command: []string{python, testdata("serve.py"), "tornado", "{{.Port}}"}},
		{name: "aiohttp", command: []string{python, testdata("serve.py"), "aiohttp", "{{.Port}}"}},
		{name: "go"},
	}
}

func ofVarnish(saw sight, sent written) string {
	switch {
	case sent.method == "GET" && saw.Length == 0:
		return "it makes a GET without a body of one with a body"
	case !sent.whole && saw.Length <= sent.length:
		return "it takes a connection that ends within a chunked body for the end of the body"
	}
	return ""
}

func ofLighttpd(saw sight, sent written) string {
	if strings.Contains(strings.ReplaceAll(strings.ToLower(sent.target), "%2e", "."), "/..") {
		return "it resolves dot segments"
	}
	return ""
}

func testdata(name string) string {
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		panic(err)
	}
	return path
}

func jars(patterns ...string) string {
	var all []string
	for _, pattern := range patterns {
		found, _ := filepath.Glob(filepath.Join("/usr/share/java", pattern)) // the pattern is good
		all = append(all, found...)
	}
	return strings.Join(all, ":")
}

// layTrafficServer gives it the tree of folders that it wants to itself.
func layTrafficServer(t *testing.T, dir string) {
	layout := fmt.Sprintf("prefix: %s\nexec_prefix: %[1]s\nbindir: /usr/bin\nsbindir: /usr/sbin\nlibdir: /usr/lib/trafficserver\nlibexecdir: /usr/lib/trafficserver/modules\nincludedir: /usr/include\n", dir)
	for _, place := range []string{"sysconfdir", "datadir", "localstatedir", "runtimedir", "logdir", "cachedir"} {
		if err := os.Mkdir(filepath.Join(dir, place), 0o755); err != nil {
			t.Fatal(err)
		}
		layout += fmt.Sprintf("%s: %s\n", place, filepath.Join(dir, place))
	}
	replace(t, filepath.Join(dir, "runroot.yaml"), layout)
	for file, text := range map[string]string{
		"storage.config": "", "plugin.config": "",
		"ip_allow.yaml":  "ip_allow:\n  - apply: in\n    ip_addrs: 0/0\n    action: allow\n    methods: ALL\n",
		"remap.config":   "map / http://127.0.0.1:" + read(t, filepath.Join(dir, "recorder")) + "/\n",
		"records.config": read(t, filepath.Join(dir, "trafficserver.records")),
	} {
		replace(t, filepath.Join(dir, "sysconfdir", file), text)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// replace writes a file anew, where a link may have been.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// start starts s and waits until it serves.
func (s server) start(t *testing.T) *origin {
	o := &origin{server: s}
	if s.command == nil {
		o.address = fmt.Sprintf("127.0.0.1:%d", o.record(t))
		return o
	}
	// t.TempDir is for its owner alone; some servers become another user.
	dir, err := os.MkdirTemp("", "sallyport-smuggle-"+s.name+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	values := map[string]any{"Dir": dir, "Port": freePort(t), "Recorder": 0, "Config": filepath.Join(dir, s.config)}
	if s.config != "" {
		values["Recorder"] = o.record(t)
		replace(t, filepath.Join(dir, s.config), fill(t, read(t, testdata(s.config)), values))
		replace(t, filepath.Join(dir, "recorder"), fmt.Sprint(values["Recorder"]))
	}
	if s.prepare != nil {
		s.prepare(t, dir)
	}
	o.address = fmt.Sprintf("127.0.0.1:%d", values["Port"])
	o.run(t, s, dir, values)
	return o
}

func fill(t *testing.T, text string, values map[string]any) string {
	t.Helper()
	var b strings.Builder
	if err := template.Must(template.New("").Parse(text)).Execute(&b, values); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// run runs the server's process until the test ends, and reads what it says.
func (o *origin) run(t *testing.T, s server, dir string, values map[string]any) {
	var args []string
	for _, arg := range s.command {
		args = append(args, fill(t, arg, values))
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	for _, entry := range s.env {
		cmd.Env = append(cmd.Env, fill(t, entry, values))
	}
	cmd.Env = append(os.Environ(), append(cmd.Env, "PYTHONDONTWRITEBYTECODE=1")...)
	// All that it starts belongs to its group, and none outlives the test.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v; scripts/setup test installs it", s.name, err)
	}
	heard, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		<-heard // Wait closes the pipe
		_ = cmd.Wait()
	}()
	go func() {
		defer close(heard)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var seen sight
			if err := json.Unmarshal(lines.Bytes(), &seen); err == nil {
				o.saw(seen)
			} // else it is a word of the server's own
		}
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // it may have ended by itself
		patience := time.AfterFunc(3*time.Second, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		defer patience.Stop()
		<-ended
		if t.Failed() && said.Len() > 0 {
			t.Logf("%s said:\n%.2000s", s.name, said.String())
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial("tcp", o.address)
		if err == nil {
			c.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s has ended: %v\n%s", s.name, cmd.ProcessState, said.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen after a minute", s.name)
		}
	}
}

// record starts net/http's server as the application behind an origin.
func (o *origin) record(t *testing.T) (port int) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{MaxHeaderBytes: 1 << 20, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return // not whole
		}
		seen := sight{Method: r.Method, Target: r.RequestURI, Exchange: r.Header["X-Exchange"], Length: n}
		for name, values := range r.Header {
			if strings.EqualFold(strings.ReplaceAll(name, "_", "-"), "X-Api-Key") {
				seen.Key = append(seen.Key, values...)
			}
		}
		o.saw(seen)
		w.Header().Set("X-Seen", strings.Join(seen.Exchange, ","))
		_, _ = io.WriteString(w, "seen\n") // whoever asked may be gone
	}), DisableGeneralOptionsHandler: true}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { server.Close(); serving.Wait() })
	return listener.Addr().(*net.TCPAddr).Port
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
