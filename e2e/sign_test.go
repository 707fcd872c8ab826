package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/e2e"
)

const (
	storageHost   = "storage.sallyport.test"
	storageKeyID  = "AKIASTORAGE000000000"
	storageSecret = "storage-secret-0123456789abcdef01234567"
	dummyAWS      = "export AWS_ACCESS_KEY_ID=AKIADUMMY00000000000 AWS_SECRET_ACCESS_KEY=dummy AWS_EC2_METADATA_DISABLED=true AWS_REGION=eu-west-1\n" +
		"s3() { /usr/bin/aws --endpoint-url https://" + storageHost + " \"$@\"; }\n"
)

// startStorage starts an S3 server, which checks signatures, and pins a credential
// for it to an agent.
func startStorage(t *testing.T, w *e2e.World) {
	t.Helper()
	certificate, key := w.Certificate(storageHost)
	data, meta := filepath.Join(w.Dir, "storage"), filepath.Join(w.Dir, "meta")
	for _, dir := range []string{data, meta} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	port := w.FreePort()
	w.StartTool("versitygw", port, "--port", fmt.Sprintf("127.0.0.1:%d", port), "--access", storageKeyID, "--secret", storageSecret,
		"--region", "eu-west-1", "--cert", certificate, "--key", key, "--keep-alive", "posix", "--sidecar", meta, data)
	w.OriginAt(storageHost, 443, fmt.Sprintf("127.0.0.1:%d", port))
	w.Pinned("storage", storageSecret, "--host", storageHost, "--auth", "sigv4",
		"--setting", "access_key_id="+storageKeyID, "--setting", "region=eu-west-1", "--setting", "service=s3")
	w.CLI("agent", "create", "other")
}

// TestSigV4: the AWS CLI with a dummy key stores and fetches objects in a server
// that checks signatures; so does what sends a body in signed chunks.
func TestSigV4(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	startStorage(t, w)
	made := w.TryRun("storage", "sh", "-c", dummyAWS+"s3 s3 mb s3://bucket")
	if made.Status != 0 {
		t.Fatalf("make a bucket: %s%s", made.Stdout, made.Stderr)
	}
	const url = "https://" + storageHost + "/bucket/"
	const chunked = `
import http.client, ssl, sys
def chunk(data): return b"%x;chunk-signature=%s\r\n" % (len(data), b"0" * 64) + data
body = chunk(b"a" * 65536) + b"\r\n" + chunk(b"b" * 1000) + b"\r\n" + chunk(b"")
kind, checksum = sys.argv[1], sys.argv[2]
headers = {"X-Amz-Content-Sha256": kind, "X-Amz-Decoded-Content-Length": "66536"}
if checksum:
    headers["X-Amz-Trailer"] = "x-amz-checksum-crc32"
    body += ("x-amz-checksum-crc32:%s\r\nx-amz-trailer-signature:%s\r\n" % (checksum, "0" * 64)).encode()
body += b"\r\n"
c = http.client.HTTPSConnection("` + storageHost + `")
c.request("PUT", "/bucket/chunked", body, headers)
r = c.getresponse()
print(r.status, r.read().decode())
c.request("GET", "/bucket/chunked")
r = c.getresponse()
text = r.read()
print(r.status, text == b"a" * 65536 + b"b" * 1000, text[:200] if r.status != 200 else "")
`
	python := "cat >/tmp/chunked.py <<'END'" + chunked + "END\n"
	for _, tt := range []struct{ name, script, want string }{
		{"an object", "echo carried >/tmp/f && s3 s3 cp --quiet /tmp/f 's3://bucket/a b/key%20with+ü(1).txt' && s3 s3 cp 's3://bucket/a b/key%20with+ü(1).txt' - && s3 s3 ls 's3://bucket/a b/' | wc -l", "carried\n1\n"},
		{"in parts", "head -c 20000000 /dev/urandom >/tmp/f && s3 s3 cp --quiet /tmp/f s3://bucket/big && s3 s3 cp --quiet s3://bucket/big /tmp/g && cmp /tmp/f /tmp/g && echo same", "same\n"},
		{"a presigned URL", "echo signed | s3 s3 cp - s3://bucket/p && curl -sS \"$(s3 s3 presign s3://bucket/p)\" && curl -sS --http1.1 \"$(s3 s3 presign s3://bucket/p)\"", "signed\nsigned\n"},
		{"unsigned", "echo curl >/tmp/f && curl -sS -T /tmp/f " + url + "c && curl -sS " + url + "c", "curl\n"},
		{"signed chunks", python + "/usr/bin/python3 /tmp/chunked.py STREAMING-AWS4-HMAC-SHA256-PAYLOAD ''", "200 \n200 True \n"},
		{"signed chunks and trailer", python + "/usr/bin/python3 /tmp/chunked.py STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER $(/usr/bin/python3 -c 'import zlib,base64;print(base64.b64encode(zlib.crc32(b\"a\"*65536+b\"b\"*1000).to_bytes(4,\"big\")).decode())')", "200 \n200 True \n"},
		{"another body than was hashed", "hash=$(printf other | sha256sum | cut -d' ' -f1); for v in --http1.1 --http2; do curl -sS $v -o /tmp/o -w '%{http_code} ' -H \"x-amz-content-sha256: $hash\" -d body -X PUT " + url + "swapped; grep -o payload_mismatch /tmp/o; curl -sS -o /dev/null -w '%{http_code}\\n' " + url + "swapped; done", "400 payload_mismatch\n404\n400 payload_mismatch\n404\n"},
		{"the body that was hashed", "hash=$(printf body | sha256sum | cut -d' ' -f1); for v in --http1.1 --http2; do curl -sS $v -H \"x-amz-content-sha256: $hash\" -d body -X PUT " + url + "hashed && curl -sS " + url + "hashed; done", "bodybody"},
		{"a client's own scope", "curl -sS -o /dev/null -w '%{http_code}\\n' -H 'X-Amz-Security-Token: mine' -H 'X-Amz-Date: 20200101T000000Z' -H 'Authorization: AWS4-HMAC-SHA256 Credential=A/20200101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=00' " + url + "hashed", "200\n"},
		{"no chunks", "head -c 9000000 /dev/zero >/tmp/f; curl -sS -o /tmp/o -w '%{http_code} ' -H 'x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD' -T /tmp/f " + url + "long; grep -o malformed_chunks /tmp/o", "400 malformed_chunks\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := w.In(t).TryRun("storage", "sh", "-c", dummyAWS+tt.script)
			if r.Status != 0 || r.Stdout != tt.want {
				t.Errorf("exit status %d, want %q printed:\n%s%s", r.Status, tt.want, r.Stdout, r.Stderr)
			}
			noSecret(t, r, storageSecret)
		})
	}
	if r := w.TryRun("other", "sh", "-c", dummyAWS+"s3 s3 ls s3://bucket 2>&1"); r.Status == 0 {
		t.Errorf("an agent without the credential lists the bucket:\n%s", r.Stdout)
	}
}

// TestSignatureIsNotSeen: what an upstream echoes of the signature is masked, whole
// and in parts.
func TestSignatureIsNotSeen(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	const host, session = "echo.sallyport.test", "FwoGZXIvYXdzEBYaDsessiontoken0123456789"
	w.OriginServer(host, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		text := fmt.Sprintf("%s %s %s\n", r.Header.Get("Authorization"), r.Header.Get("X-Amz-Security-Token"), r.Header.Get("X-Amz-Date"))
		rw.Header().Set("X-Echo", r.Header.Get("Authorization"))
		var from int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
			rw.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(text)-1, len(text)))
			rw.WriteHeader(http.StatusPartialContent)
		}
		_, _ = io.WriteString(rw, text[from:])
	}), "h2", "http/1.1")
	secret := `{"Version": 1, "AccessKeyId": "ASIAECHO", "SecretAccessKey": "` + storageSecret + `", "SessionToken": "` + session + `"}`
	w.Pinned("echo", secret, "--host", host, "--auth", "sigv4", "--setting", "region=eu-west-1", "--setting", "service=execute-api")
	for _, version := range []string{"--http1.1", "--http2"} {
		r := w.TryRun("echo", "sh", "-c", "curl -sS "+version+" -i https://"+host+"/; curl -sS "+version+" -H 'Range: bytes=1-' https://"+host+"/")
		if r.Status != 0 || strings.Count(r.Stdout, "Credential=ASIAECHO/") != 3 || strings.Count(r.Stdout, "Signature="+strings.Repeat("*", 64)) != 3 ||
			strings.Count(r.Stdout, strings.Repeat("*", len(session))+" 20") != 2 {
			t.Errorf("%s: %s%s", version, r.Stdout, r.Stderr)
		}
		noSecret(t, r, storageSecret)
		noSecret(t, r, session)
	}
}

// TestHMAC: a service that checks its signatures takes what a sandbox sends.
func TestHMAC(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	const host, key = "hooks.sallyport.test", "whsec-0123456789abcdef0123456789abcdef"
	w.OriginServer(host, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		stamp, signature, _ := strings.Cut(r.Header.Get("Stripe-Signature"), ",v1=")
		mac := hmac.New(sha256.New, []byte(key))
		fmt.Fprintf(mac, "%s.%s", strings.TrimPrefix(stamp, "t="), body)
		if values := r.Header.Values("Stripe-Signature"); len(values) != 1 || signature != hex.EncodeToString(mac.Sum(nil)) {
			rw.WriteHeader(http.StatusForbidden)
		}
		fmt.Fprintf(rw, "%d bytes %s", len(body), key)
	}), "h2", "http/1.1")
	w.Pinned("hooks", key, "--host", host, "--auth", "hmac", "--setting", "algorithm=sha256", "--setting", "string_to_sign={{timestamp}}.{{body}}",
		"--inject", "header:Stripe-Signature: t={{timestamp}},v1={{signature:hex}}")
	for _, version := range []string{"--http1.1", "--http2"} {
		for size, script := range map[int]string{
			5:         "printf hello | curl -sS %s -f -H 'Stripe-Signature: t=1,v1=mine' --data-binary @- https://" + host + "/hook",
			3_000_000: "head -c 3000000 /dev/zero | curl -sS %s -f -H 'Transfer-Encoding: chunked' --data-binary @- https://" + host + "/hook",
			0:         "curl -sS %s -f https://" + host + "/hook",
		} {
			r := w.TryRun("hooks", "sh", "-c", fmt.Sprintf(script, version))
			if want := fmt.Sprintf("%d bytes %s", size, strings.Repeat("*", len(key))); r.Status != 0 || r.Stdout != want {
				t.Errorf("%s: exit status %d, want %q printed:\n%s%s", version, r.Status, want, r.Stdout, r.Stderr)
			}
			noSecret(t, r, key)
		}
		r := w.TryRun("hooks", "sh", "-c", "head -c 9000000 /dev/zero | curl -sS "+version+" --data-binary @- https://"+host+"/hook")
		if !strings.Contains(r.Stdout, "body_too_long_to_sign") {
			t.Errorf("%s: a long body: %s%s", version, r.Stdout, r.Stderr)
		}
	}
}

// clientPair gives a certificate that signs itself, and its key.
func clientPair(t *testing.T, name string) string {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(48 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// TestClientCertificate: nginx lets in only who shows a certificate of its authority:
// the sandbox with the credential, not the one without.
func TestClientCertificate(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	const host, elsewhere = "mtls.sallyport.test", "mtls2.sallyport.test"
	one, two := clientPair(t, "client-one"), clientPair(t, "client-two")
	trusted := filepath.Join(w.Dir, "clients.pem")
	if err := os.WriteFile(trusted, []byte(one+two), 0o600); err != nil {
		t.Fatal(err)
	}
	port := w.FreePort()
	servers := ""
	for _, name := range []string{host, elsewhere} {
		certificate, key := w.Certificate(name)
		servers += fmt.Sprintf(`
	server {
		server_name %s;
		listen 127.0.0.1:%d ssl http2;
		ssl_certificate %s; ssl_certificate_key %s;
		ssl_client_certificate %s; ssl_verify_client on;
		location / { default_type text/plain; return 200 "$ssl_client_verify $ssl_client_s_dn\n"; }
	}`, name, port, certificate, key, trusted)
	}
	conf := filepath.Join(w.Dir, "mtls.conf")
	text := fmt.Sprintf(`
daemon off;
pid %[1]s/mtls.pid;
error_log %[1]s/mtls.log;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/mtls.body; proxy_temp_path %[1]s/mtls.proxy; fastcgi_temp_path %[1]s/mtls.fastcgi;
	uwsgi_temp_path %[1]s/mtls.uwsgi; scgi_temp_path %[1]s/mtls.scgi;
	%[2]s
}
`, w.Dir, servers)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.StartOutside("/usr/sbin/nginx", "-e", "stderr", "-c", conf)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	w.Eventually("nginx listens", func() bool {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	w.OriginAt(host, 443, address)
	w.OriginAt(elsewhere, 443, address)
	w.Pinned("client", one, "--host", host, "--auth", "client_cert")
	w.CLI("agent", "create", "other")
	agent := w.Start("client", "bash", "-c", `while read -r line; do eval "$line" 2>&1 | tr '\n' ' '; echo; done`)
	for _, version := range []string{"--http1.1", "--http2"} {
		if got := agent.Ask("curl -sS " + version + " https://" + host + "/"); !strings.HasPrefix(got, "SUCCESS ") || !strings.Contains(got, "client-one") {
			t.Errorf("%s: %s", version, got)
		}
		if got := agent.Ask("curl -sS " + version + " https://" + elsewhere + "/"); strings.Contains(got, "SUCCESS") {
			t.Errorf("%s: another host was shown the certificate: %s", version, got)
		}
	}
	if r := w.TryRun("other", "curl", "-sS", "https://"+host+"/"); strings.Contains(r.Stdout, "SUCCESS") || !strings.Contains(r.Stdout, "No required SSL certificate") {
		t.Errorf("an agent without the credential: %s%s", r.Stdout, r.Stderr)
	}
	w.CLIReading(two, "credential", "rotate", "--vault", "client", "client", "--secret-file", "-", "--wait")
	for _, version := range []string{"--http1.1", "--http2"} {
		if got := agent.Ask("curl -sS " + version + " https://" + host + "/"); !strings.Contains(got, "client-two") {
			t.Errorf("%s: after the rotation: %s", version, got)
		}
	}
}
