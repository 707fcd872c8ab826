package supervise

import (
	"strings"
	"testing"
)

// What only root of the image may read is not copied to where the agent reads it: behind
// the name of a bundle, or among a browser's policies. What is no file holds up nobody.
func TestTrustTellsNothingOfRoots(t *testing.T) {
	const made = `mount -t tmpfs none /etc/ssl && mount -t tmpfs none /usr/lib/ssl && mount -t tmpfs none /etc/opt && mount -t tmpfs none /mnt &&
		mkdir /etc/ssl/certs && (umask 077 && echo secret-of-root >/mnt/secret) && ln -s /mnt/secret /etc/ssl/certs/ca-certificates.crt && mkfifo /etc/ssl/cert.pem &&
		mkdir -p -m 0755 /etc/opt/chrome/policies/managed && cp -p /mnt/secret /etc/opt/chrome/policies/managed/token && mkdir -m 0700 /etc/opt/chrome/private &&
		echo secret-of-root >/etc/opt/chrome/private/readable && chmod 0755 /etc/ssl /etc/opt && exec "$@"`
	out := mustRun(t, sh("cat /run/sallyport/ca-bundle.pem; grep -r . /etc/opt /run/sallyport/browser-* 2>/dev/null; true"), wrapped("unshare", "--mount", "sh", "-c", made, "sh"))
	if strings.Contains(out, "secret-of-root") {
		t.Errorf("the agent saw a file of root's:\n%s", out)
	}
	if !strings.Contains(out, "BEGIN CERTIFICATE") || !strings.Contains(out, "CACertificates") {
		t.Errorf("the sandbox's own is missing:\n%s", out)
	}
}
