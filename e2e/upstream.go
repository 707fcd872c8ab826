package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

// The hosts that there are upstreams for.
const (
	StripeHost = "api.stripe.com"        // stripe-mock, which demands a key of its shape: see StartStripe
	EchoHost   = "echo.example.test"     // answers with the headers it got
	OtherHost  = "other.example.test"    // the same, and one label below example.test too
	ModelHost  = "api.anthropic.com"     // the same; a model provider of the registry
	GitHost    = "git.sallyport.test"    // git http-backend, which demands GitUser and GitPassword
	PublicHost = "public.sallyport.test" // the same as EchoHost; nobody has a credential for it
)

// What git.sallyport.test wants of a client.
const (
	GitUser     = "x-access-token"
	GitPassword = "ghp_e2e0000000000000000000000000000000"
)

// Nginx is the server that all upstream hosts share.
type Nginx struct {
	TLS, Plain int // ports on loopback

	w      *World
	log    string
	stripe int // port of stripe-mock
}

// Seen is one request as it arrived upstream, credential and all.
type Seen struct {
	Host          string `json:"host"`
	Method        string `json:"method"`
	URI           string `json:"uri"`
	Protocol      string `json:"protocol"`
	TLS           string `json:"tls"`
	Authorization string `json:"authorization"`
	APIKey        string `json:"api_key"`
	Version       string `json:"version"`
	Body          string `json:"body"`
	Status        int    `json:"status,string"`
}

var nginxConf = template.Must(template.New("nginx").Parse(`
daemon off;
master_process off;
pid {{.Dir}}/nginx.pid;
error_log {{.Dir}}/nginx.error.log;
events {}
http {
	log_format seen escape=json '{"host":"$host","method":"$request_method","uri":"$request_uri","protocol":"$server_protocol",'
		'"tls":"$ssl_protocol","authorization":"$http_authorization","api_key":"$http_x_api_key","version":"$http_anthropic_version",'
		'"body":"$request_body","status":"$status"}';
	access_log {{.Dir}}/seen.log seen;
	client_body_temp_path {{.Dir}}/body;
	proxy_temp_path {{.Dir}}/proxy;
	fastcgi_temp_path {{.Dir}}/fastcgi;
	uwsgi_temp_path {{.Dir}}/uwsgi;
	scgi_temp_path {{.Dir}}/scgi;
	client_max_body_size 64m;
	ssl_protocols TLSv1.2 TLSv1.3;
	ssl_certificate {{.Dir}}/upstream.pem;
	ssl_certificate_key {{.Dir}}/upstream.key;
	underscores_in_headers on;

	server {
		listen 127.0.0.1:{{.TLS}} ssl http2 default_server;
		listen 127.0.0.1:{{.Plain}} default_server;
		location / {
			default_type text/plain;
			return 200 "host: $host\nuri: $request_uri\nauthorization: $http_authorization\nx-api-key: $http_x_api_key\n";
		}
		# A proxied location reads the request's body, which a return does not.
		location /body {
			proxy_pass http://127.0.0.1:{{.Plain}}/swallow;
		}
		location /swallow {
			access_log off;
			return 200 "swallowed\n";
		}
	}
	server {
		server_name {{.StripeHost}};
		listen 127.0.0.1:{{.TLS}} ssl http2;
		location / {
			proxy_pass http://127.0.0.1:{{.Stripe}};
			proxy_set_header Authorization $http_authorization;
		}
	}
	server {
		server_name {{.GitHost}};
		listen 127.0.0.1:{{.TLS}} ssl http2;
		location / {
			proxy_pass http://{{.Git}};
			proxy_request_buffering off;
		}
	}
}
`))

// startNginx starts all upstreams.
func (w *World) startNginx() *Nginx {
	w.t.Helper()
	dir := filepath.Join(w.Dir, "nginx")
	w.must(os.Mkdir(dir, 0o700))
	ports := freePorts(w.t, 3)
	n := &Nginx{TLS: ports[0], Plain: ports[1], stripe: ports[2], w: w, log: filepath.Join(dir, "seen.log")}
	certificate, key := w.authority.issue(StripeHost, EchoHost, "*.example.test", ModelHost, GitHost, PublicHost)
	w.must(os.WriteFile(filepath.Join(dir, "upstream.pem"), certificate, 0o600))
	w.must(os.WriteFile(filepath.Join(dir, "upstream.key"), key, 0o600))

	conf, err := os.Create(filepath.Join(dir, "nginx.conf"))
	w.must(err)
	w.must(nginxConf.Execute(conf, map[string]any{
		"Dir": dir, "TLS": n.TLS, "Plain": n.Plain, "Stripe": n.stripe, "Git": w.startGit(),
		"StripeHost": StripeHost, "GitHost": GitHost,
	}))
	w.must(conf.Close())
	w.startListening("nginx", n.TLS, "/usr/sbin/nginx", "-p", dir, "-e", "stderr", "-c", conf.Name())
	return n
}

// StartStripe starts what answers for StripeHost; to read Stripe's API takes it a second.
func (w *World) StartStripe() {
	w.t.Helper()
	w.StartTool("stripe-mock", w.Nginx.stripe,
		"-http-addr", fmt.Sprintf("127.0.0.1:%d", w.Nginx.stripe), "-https-addr", fmt.Sprintf("127.0.0.1:%d", w.FreePort()))
}

// startGit serves one repository by git's own CGI program and gives its address.
func (w *World) startGit() string {
	w.t.Helper()
	projects := filepath.Join(w.Dir, "git")
	repository := filepath.Join(projects, "demo.git")
	for _, args := range [][]string{
		{"init", "-q", "--bare", "-b", "main", repository},
		{"-C", repository, "-c", "user.name=e2e", "-c", "user.email=e2e@example.test", "commit-tree", "-m", "First",
			"4b825dc642cb6eb9a060e54bf8d69288fbee4904"}, // the empty tree
	} {
		output, err := exec.Command("git", args...).CombinedOutput()
		if err != nil {
			w.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, output)
		}
		if commit := strings.TrimSpace(string(output)); commit != "" {
			w.must(os.WriteFile(filepath.Join(repository, "refs/heads/main"), []byte(commit+"\n"), 0o600))
		}
	}
	program, err := exec.LookPath("git")
	w.must(err)
	backend := &cgi.Handler{Path: program, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + projects, "GIT_HTTP_EXPORT_ALL=1"}}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != GitUser || password != GitPassword {
			rw.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(rw, "who are you?", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(rw, r)
	}))
	w.t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// ConnectTo are the --connect-to values that lead to the upstreams, those that
// the test plays itself first: the first that matches counts.
func (w *World) ConnectTo() []string {
	to := slices.Clone(w.origins)
	for _, host := range []string{StripeHost, EchoHost, OtherHost, ModelHost, GitHost, PublicHost} {
		to = append(to, fmt.Sprintf("%s:443:127.0.0.1:%d", host, w.Nginx.TLS), fmt.Sprintf("%s:80:127.0.0.1:%d", host, w.Nginx.Plain))
	}
	return to
}

// Seen gives the requests that arrived upstream and have part in their URI, once
// there is at least one.
func (n *Nginx) Seen(part string) []Seen {
	n.w.t.Helper()
	var seen []Seen
	n.w.Eventually("a request with "+part+" has arrived upstream", func() bool {
		seen = n.seen(part)
		return len(seen) > 0
	})
	return seen
}

// SeenSoFar gives the requests that have arrived upstream with part in their
// URI, perhaps none. It asks nginx something first: what came before is in the log then.
func (n *Nginx) SeenSoFar(part string) []Seen {
	n.w.t.Helper()
	marker := fmt.Sprintf("/marker-%d", len(n.seen("/")))
	response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", n.Plain, marker))
	n.w.must(err)
	response.Body.Close()
	n.Seen(marker)
	return n.seen(part)
}

// SeenNone fails the test when a request with part in its URI has arrived upstream.
func (n *Nginx) SeenNone(part string) {
	n.w.t.Helper()
	for _, s := range n.SeenSoFar(part) {
		n.w.t.Errorf("arrived upstream: %s https://%s%s", s.Method, s.Host, s.URI)
	}
}

func (n *Nginx) seen(part string) []Seen {
	n.w.t.Helper()
	text, err := os.ReadFile(n.log)
	n.w.must(err)
	var all []Seen
	for line := range strings.Lines(string(text)) {
		var s Seen
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			n.w.t.Fatalf("nginx's log: %v: %s", err, line)
		}
		if strings.Contains(s.URI, part) {
			all = append(all, s)
		}
	}
	return all
}
