package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sallyport/e2e"
)

// TestExitStatus: the status of the command is the status of run.
func TestExitStatus(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.CLI("agent", "create", "agent")
	for _, tt := range []struct {
		name    string
		command []string
		status  int
	}{
		{"success", []string{"true"}, 0},
		{"its own", []string{"sh", "-c", "exit 7"}, 7},
		{"killed", []string{"sh", "-c", "kill -KILL $$"}, 128 + int(syscall.SIGKILL)},
		{"terminated", []string{"sh", "-c", "kill -TERM $$"}, 128 + int(syscall.SIGTERM)},
		{"not found", []string{"no-such-command"}, 127},
		{"not executable", []string{"/etc/passwd"}, 126},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if r := w.In(t).TryRun("agent", tt.command...); r.Status != tt.status {
				t.Errorf("exit status %d, want %d\n%s", r.Status, tt.status, r.Stderr)
			}
		})
	}
}

// TestSignals: what run is sent reaches the command, which decides.
func TestSignals(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.CLI("agent", "create", "agent")
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1} {
		t.Run(sig.String(), func(t *testing.T) {
			agent := w.In(t).Start("agent", "bash", "-c",
				fmt.Sprintf("trap 'echo caught; exit 3' %d; echo ready; while true; do read -t 0.1; done", int(sig)))
			if line := agent.Line(); line != "ready" {
				t.Fatalf("the agent said %q", line)
			}
			agent.Signal(sig)
			if line := agent.Line(); line != "caught" {
				t.Errorf("the agent said %q", line)
			}
			if status := agent.Wait(); status != 3 {
				t.Errorf("exit status %d, want 3", status)
			}
		})
	}
	t.Run("untrapped", func(t *testing.T) {
		agent := w.In(t).Start("agent", "bash", "-c", "echo ready; read")
		agent.Line()
		agent.Signal(syscall.SIGTERM)
		if status := agent.Wait(); status != 128+int(syscall.SIGTERM) {
			t.Errorf("exit status %d, want %d", status, 128+int(syscall.SIGTERM))
		}
	})
}

// TestOrphans are reaped: a process that lost its parent does not stay a zombie.
func TestOrphans(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.CLI("agent", "create", "agent")
	// Twenty grandchildren whose parents end at once; wait until none is left.
	out := w.Run("agent", "bash", "-c", `
		pids=$(for i in {1..20}; do (bash -c 'echo $BASHPID; exec sleep 0.2' &); done)
		for pid in $pids; do
			for i in {1..200}; do [[ -e /proc/$pid ]] || break; read -t 0.05 <> <(:); done
			[[ -e /proc/$pid ]] && grep State /proc/$pid/status
		done
		echo "$(wc -w <<<"$pids") done"`)
	if out != "20 done\n" {
		t.Errorf("orphans are still there:\n%s", out)
	}
}

// TestOwnNamespaces compares each namespace of the agent with the machine's.
func TestOwnNamespaces(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.CLI("agent", "create", "agent")
	for _, kind := range []string{"user", "net", "pid", "mnt", "ipc", "uts"} {
		machine, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(w.Run("agent", "readlink", "/proc/self/ns/"+kind)); got == machine || !strings.HasPrefix(got, kind+":") {
			t.Errorf("the agent's %s namespace is %s, the machine's %s", kind, got, machine)
		}
	}
}

// TestNoPowerOutside: the agent may be root in its user namespace, and that is all.
func TestNoPowerOutside(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.CLI("agent", "create", "agent")
	for _, tt := range []struct{ name, command string }{
		{"hostname", "hostname other"},
		{"interface", "ip link add name x0 type dummy"},
		{"address", "ip address add 192.0.2.7/32 dev lo"},
		{"rules", "nft add table inet x"},
		{"mount over the certificates", "mount -t tmpfs none /run/sallyport"},
		{"unmount the certificates", "umount /run/sallyport"},
		{"unmount the resolver", "umount /etc/resolv.conf"},
		{"write the certificates", "echo x >>/run/sallyport/ca-bundle.pem"},
		{"write the resolver", "echo nameserver 192.0.2.1 >/etc/resolv.conf"},
		{"kernel settings", "echo 1 >/proc/sys/net/ipv4/ip_forward"},
		{"trace PID 1", "cat /proc/1/environ"},
		{"memory of PID 1", "head -c1 /proc/1/mem"},
		{"files of PID 1", "ls /proc/1/fd/"},
		{"enter PID 1", "nsenter -t 1 -m true"},
		{"devices", "mknod /tmp/disk-$$ b 254 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := w.In(t).TryRun("agent", "bash", "-c", tt.command)
			switch r.Status {
			case 0:
				t.Errorf("%s worked:\n%s%s", tt.command, r.Stdout, r.Stderr)
			case 126, 127:
				t.Errorf("%s was not tried:\n%s", tt.command, r.Stderr)
			}
		})
	}
	t.Run("sees its own processes only", func(t *testing.T) {
		out := w.In(t).Run("agent", "bash", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'")
		if strings.Contains(out, "postgres") || strings.Contains(out, "sallyport-control") || strings.Contains(out, "nginx") {
			t.Errorf("it sees\n%s", out)
		}
	})
}

// TestJoinTokenIsNowhere looks at the environment and arguments of every process
// of a running sandbox, inside and out.
func TestJoinTokenIsNowhere(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.CLI("agent", "create", "agent")
	agent := w.Start("agent", "bash", "-c", "echo ready; read")
	agent.Line()
	pids := append(e2e.Descendants(agent.PID), agent.PID)
	if len(pids) < 5 { // sallyport run, init, worker, stage, agent
		t.Errorf("only %d processes below sallyport run", len(pids))
	}
	for _, pid := range pids {
		for _, file := range []string{"environ", "cmdline"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "sp_join_") {
				t.Errorf("/proc/%d/%s has a join token", pid, file)
			}
		}
	}
}

// TestTrust: every sandbox has a CA of its own, whose key is nowhere to be found.
func TestTrust(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.CLI("agent", "create", "agent")
	first := w.Run("agent", "bash", "-c", `cat "$NODE_EXTRA_CA_CERTS"`)
	second := w.Run("agent", "bash", "-c", `cat "$NODE_EXTRA_CA_CERTS"`)
	if first == second || !strings.HasPrefix(first, "-----BEGIN CERTIFICATE-----") || strings.Contains(first, "PRIVATE KEY") {
		t.Errorf("the CAs of two sandboxes:\n%s\n%s", first, second)
	}
	variables := w.Run("agent", "env")
	for _, name := range []string{
		"SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "JAVA_TOOL_OPTIONS",
		"DENO_CERT", "CARGO_HTTP_CAINFO", "AWS_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
	} {
		if !strings.Contains(variables, "\n"+name+"=") && !strings.HasPrefix(variables, name+"=") {
			t.Errorf("%s is not set", name)
		}
	}
	// Without any variable too, by the bundle where everybody looks.
	w.Run("agent", "env", "-i", "PATH="+os.Getenv("PATH"), "curl", "-sS", "-o", "/dev/null", "https://"+e2e.PublicHost+"/bundle")
}

// TestKilledWorkerComesBack kills the process that holds the keys and parses the
// bytes. The next request is served, by the same listeners.
func TestKilledWorkerComesBack(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	agent := pinnedEcho(w)
	for range 3 {
		if got := agent.Ask("/before"); got != "200" {
			t.Fatalf("curl got %s", got)
		}
		worker := agent.Worker()
		if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		w.Eventually("the worker is dead", func() bool { return !slices.Contains(e2e.Descendants(agent.PID), worker) })
		// Nobody may be back yet: the connection waits in the listener's queue.
		if got := agent.Ask("/after"); got != "200" {
			t.Fatalf("after the worker was killed curl got %s", got)
		}
		if again := agent.Worker(); again == worker {
			t.Errorf("the worker is still process %d", worker)
		}
	}
	for _, seen := range w.Nginx.Seen("/after") {
		if seen.Authorization != "Bearer "+oldKey {
			t.Errorf("after the worker was killed upstream got %q", seen.Authorization)
		}
	}
}

// TestOrdinaryUser runs the whole way without root.
func TestOrdinaryUser(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race).AsOrdinaryUser()
	w.Pinned("agent", "echo-key-0123456789abcdef", "--host", e2e.EchoHost, "--inject", "bearer")
	out := w.Run("agent", "bash", "-c", "id -u; curl -sS https://"+e2e.EchoHost+"/ordinary")
	if got := w.Nginx.Seen("/ordinary")[0].Authorization; got != "Bearer echo-key-0123456789abcdef" {
		t.Errorf("upstream got %q", got)
	}
	if strings.Contains(out, "echo-key-") {
		t.Errorf("the key came back:\n%s", out)
	}
}

// TestJoinTokenFile starts the sidecar as an image does: by its own command, with
// a token file that it unlinks before the agent is there.
func TestJoinTokenFile(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Race)
	w.CLI("agent", "create", "agent")
	token := w.CLI("sandbox", "create", "--agent", "agent")
	if strings.Count(token, "\n") != 1 || !strings.HasPrefix(token, "sp_join_") {
		t.Errorf("sandbox create printed %d bytes, want the join token alone", len(token))
	}
	file := filepath.Join(w.AgentDir(), "join-token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	init := func() e2e.Result {
		return w.Sidecar("init", "--control", w.SidecarURL, "--join-token-file", file, "--", "sh", "-c", "test ! -e "+file+" && echo gone")
	}
	if r := init(); r.Status != 0 || r.Stdout != "gone\n" {
		t.Errorf("exit status %d:\n%s%s", r.Status, r.Stdout, r.Stderr)
	}
	// A token works once; its second use is refused and shuts the sandbox.
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := init(); r.Status == 0 || strings.Contains(r.Stdout, "gone") {
		t.Errorf("the token worked twice:\n%s%s", r.Stdout, r.Stderr)
	}
	if list := w.CLI("sandbox", "list"); !strings.Contains(list, "locked") {
		t.Errorf("the sandbox was not locked:\n%s", list)
	}
}
