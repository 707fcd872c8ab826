package supervise

import (
	"testing"
)

func TestFirst(t *testing.T) {
	st, out, errs := run(t, sh("id; echo $$; ps ax; cat /proc/self/status | grep -E 'Cap|NoNew|Seccomp:'; mount; ls -la /dev /run /run/sallyport; cat /etc/resolv.conf; env; cat /proc/self/uid_map; ls -la / ; pwd; ls -la ~; curl -s http://127.0.0.1:15001/ ; exit 3"))
	t.Log(st, "\n", out, "\n", errs)
}
