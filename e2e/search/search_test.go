package main

import (
	"bytes"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// TestFindsWhatIsThere puts secrets in every place and form, and some nowhere.
func TestFindsWhatIsThere(t *testing.T) {
	stamp := filepath.Join(t.TempDir(), "stamp")
	if err := os.WriteFile(stamp, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Whole seconds would hide a file written at once; the clock of files is finer.
	script := `echo "$DISK" >` + filepath.Join(filepath.Dir(stamp), "file") + `; unset DISK; echo ready; read -r memory; echo stored; read -r end`
	sandbox := exec.Command("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "bash", "-c", script, "bash", "argument-5e1f77")
	sandbox.Env = []string{"PATH=" + os.Getenv("PATH"), "SECRET=environment-90ab12", "DISK=disk-00fa5512"}
	stdin, err := sandbox.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := sandbox.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sandbox.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		_ = sandbox.Wait() // its status is that of a read at the end of input
	}()
	answer := make([]byte, 6)
	if _, err := stdout.Read(answer); err != nil {
		t.Fatal(err)
	}
	encoded := base64.StdEncoding.EncodeToString([]byte("x" + "memory-41c8d3e2" + "yz"))
	if _, err := stdin.Write([]byte(encoded + "\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(answer); err != nil {
		t.Fatal(err)
	}

	secrets := strings.NewReader("env environment-90ab12\narg argument-5e1f77\nmem memory-41c8d3e2\ndisk disk-00fa5512\nnowhere nowhere-7730aa\n")
	var report bytes.Buffer
	if err := run([]string{"--below", strconv.Itoa(sandbox.Process.Pid), "--since", stamp}, secrets, &report); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"environment", "arguments", "memory", "disk"} {
		name := map[string]string{"environment": "env", "arguments": "arg", "memory": "mem", "disk": "disk"}[want]
		line := lineOf(report.String(), name)
		if line == "" || strings.Contains(line, want+" 0") {
			t.Errorf("the secret in the %s was not found: %s", want, line)
		}
	}
	if line := lineOf(report.String(), "nowhere"); line != "nowhere: environment 0, arguments 0, memory 0, disk 0" {
		t.Errorf("found what is not there: %s", line)
	}
	if t.Failed() {
		t.Log(report.String())
	}
}

func lineOf(report, name string) string {
	for line := range strings.Lines(report) {
		if strings.HasPrefix(line, name+":") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

func TestForms(t *testing.T) {
	const secret = "sk_test_51Hx?>~"
	for before := range 5 {
		around := strings.Repeat("a", before) + secret + "tail"
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding} {
			text := []byte(encoding.EncodeToString([]byte(around)))
			found := false
			for _, form := range formsOf(secret) {
				found = found || bytes.Contains(text, form)
			}
			if !found {
				t.Errorf("not found in %s, %d bytes in", text, before)
			}
		}
		text := hpack.AppendHuffmanString(nil, around)
		if !slices.ContainsFunc(formsOf(secret), func(form []byte) bool { return bytes.Contains(text, form) }) {
			t.Errorf("not found in Huffman code, %d bytes in", before)
		}
	}
}
