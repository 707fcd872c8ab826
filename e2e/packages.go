package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
)

// The hosts of private package indexes. Each has one package, PackageName.
const (
	PyPIHost = "pypi.sallyport.test" // PEP 503, which demands PackageUser and PackageKey
	NPMHost  = "npm.sallyport.test"  // demands PackageKey as a bearer token
	APTHost  = "apt.sallyport.test"  // a flat repository, which demands PackageUser and PackageKey
)

// What the package indexes have, and want of a client.
const (
	PackageName = "sallyport-demo"
	PackageUser = "reader"
	PackageKey  = "package-key-0123456789abcdef"
)

var packagesConf = template.Must(template.New("packages").Parse(`
daemon off;
master_process off;
pid {{.Dir}}/nginx.pid;
error_log {{.Dir}}/nginx.error.log;
events {}
http {
	access_log off;
	client_body_temp_path {{.Dir}}/body;
	proxy_temp_path {{.Dir}}/proxy;
	fastcgi_temp_path {{.Dir}}/fastcgi;
	uwsgi_temp_path {{.Dir}}/uwsgi;
	scgi_temp_path {{.Dir}}/scgi;
	default_type application/octet-stream;
	types { text/html html; }
	{{range .Sites}}
	server {
		server_name {{.Host}};
		listen 127.0.0.1:{{$.Port}} ssl http2;
		ssl_certificate {{.Certificate}};
		ssl_certificate_key {{.Key}};
		root {{$.Dir}}/{{.Root}};
		{{if .Bearer}}
		if ($http_authorization != "Bearer {{.Bearer}}") { return 401; }
		{{else}}
		auth_basic "packages";
		auth_basic_user_file {{$.Dir}}/users;
		{{end}}
	}
	{{end}}
}
`))

// StartPackages serves the package indexes, made by the tools that make them
// elsewhere: pip, npm and apt-ftparchive.
func (w *World) StartPackages() {
	w.t.Helper()
	dir := filepath.Join(w.Dir, "packages")
	for _, root := range []string{"pypi/simple/" + PackageName, "npm/-", "apt", "src"} {
		w.must(os.MkdirAll(filepath.Join(dir, root), 0o755))
	}
	w.must(os.WriteFile(filepath.Join(dir, "users"), []byte(PackageUser+":{PLAIN}"+PackageKey+"\n"), 0o600))
	w.makeWheel(filepath.Join(dir, "pypi/simple", PackageName))
	w.makeTarball(filepath.Join(dir, "npm"))
	w.makeDeb(filepath.Join(dir, "apt"))

	type site struct{ Host, Root, Bearer, Certificate, Key string }
	sites := []site{{Host: PyPIHost, Root: "pypi"}, {Host: NPMHost, Root: "npm", Bearer: PackageKey}, {Host: APTHost, Root: "apt"}}
	port := w.FreePort()
	for i := range sites {
		sites[i].Certificate, sites[i].Key = w.Certificate(sites[i].Host)
		w.Origin(sites[i].Host, false, fmt.Sprintf("127.0.0.1:%d", port))
	}
	conf, err := os.Create(filepath.Join(dir, "nginx.conf"))
	w.must(err)
	w.must(packagesConf.Execute(conf, map[string]any{"Dir": dir, "Port": port, "Sites": sites}))
	w.must(conf.Close())
	w.startListening("packages", port, "/usr/sbin/nginx", "-p", dir, "-e", "stderr", "-c", conf.Name())
}

// makeWheel builds a wheel and the page of PEP 503 that links to it.
func (w *World) makeWheel(dir string) {
	w.t.Helper()
	source := w.source("wheel", map[string]string{
		"setup.py":          fmt.Sprintf("from setuptools import setup\nsetup(name=%q, version='1.0', py_modules=['sallyport_demo'])\n", PackageName),
		"sallyport_demo.py": "print('imported the wheel')\n",
	})
	w.Outside(source, "/usr/bin/python3", "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-index", "--no-deps", "--wheel-dir", dir, source)
	wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	w.must(err)
	name := filepath.Base(wheels[0])
	w.must(os.WriteFile(filepath.Join(dir, "index.html"), fmt.Appendf(nil, `<!DOCTYPE html><a href="%s">%[1]s</a>`, name), 0o600))
}

// makeTarball packs a package, and writes what a registry answers about it.
func (w *World) makeTarball(dir string) {
	w.t.Helper()
	manifest := map[string]any{"name": PackageName, "version": "1.0.0", "main": "index.js"}
	text, err := json.Marshal(manifest)
	w.must(err)
	source := w.source("tarball", map[string]string{"package.json": string(text), "index.js": "console.log('required the package')\n"})
	var packed []struct {
		Filename, Integrity, Shasum string
	}
	w.must(json.Unmarshal([]byte(w.Outside(source, "npm", "pack", "--json", "--pack-destination", filepath.Join(dir, "-"))), &packed))
	manifest["dist"] = map[string]string{
		"tarball": "https://" + NPMHost + "/-/" + packed[0].Filename, "integrity": packed[0].Integrity, "shasum": packed[0].Shasum,
	}
	about, err := json.Marshal(map[string]any{
		"name": PackageName, "dist-tags": map[string]string{"latest": "1.0.0"}, "versions": map[string]any{"1.0.0": manifest},
	})
	w.must(err)
	w.must(os.WriteFile(filepath.Join(dir, PackageName), about, 0o600))
}

// makeDeb builds a package and the files of a flat repository around it.
func (w *World) makeDeb(dir string) {
	w.t.Helper()
	source := w.source("deb", map[string]string{"DEBIAN/control": "Package: " + PackageName +
		"\nVersion: 1.0\nArchitecture: all\nMaintainer: e2e <e2e@example.test>\nDescription: a package of the end-to-end tests\n"})
	w.Outside(dir, "dpkg-deb", "--root-owner-group", "--build", source, dir)
	for _, file := range []struct{ name, command string }{{"Packages", "packages"}, {"Release", "release"}} {
		w.must(os.WriteFile(filepath.Join(dir, file.name), []byte(w.Outside(dir, "apt-ftparchive", file.command, ".")), 0o600))
	}
}

// source writes the files of a package's source and gives its directory.
func (w *World) source(name string, files map[string]string) string {
	w.t.Helper()
	dir := filepath.Join(w.Dir, "packages/src", name)
	for name, text := range files {
		path := filepath.Join(dir, name)
		w.must(os.MkdirAll(filepath.Dir(path), 0o755))
		w.must(os.WriteFile(path, []byte(text), 0o644))
	}
	return dir
}

// Outside runs a command of this machine, outside any sandbox, and gives what it prints.
func (w *World) Outside(dir string, command ...string) string {
	w.t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	var stderr strings.Builder
	cmd.Dir, cmd.Env, cmd.Stderr = dir, w.environ(), &stderr
	output, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("%s: %v\n%s%s", cmd, err, output, &stderr)
	}
	return string(output)
}
