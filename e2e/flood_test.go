package e2e_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"sallyport/e2e"
)

// -flood=N makes the floods of TestFloods larger: about N connections each.
var floodSize = flag.Int("flood", 100, "how many connections a flood opens")

// mostMemory is what a worker may have resident in any flood, large ones too: twice the
// heap from which it cuts off what stalls.
const mostMemory = 512 << 20

// elsewhere is what e2e/outside/loader says, in another sandbox.
type elsewhere struct {
	OK, Longest int
	Failed      map[string]int
}

// flooded is what e2e/clients/flood says.
type flooded struct {
	Opened, Refused, Asked, Failed int
	Errors                         []string
	Idle, Flooded, Worst           float64
}

// TestFloods has an agent exhaust its sidecar in every way that is known. The
// worker goes on, with bounded memory, and serves another client of the sandbox all
// the while, as its own serves another sandbox; afterwards nothing is left of the flood.
func TestFloods(t *testing.T) {
	w := e2e.NewWorld(t, e2e.Shipped)
	w.Pinned("agent", token, "--host", "flood.test", "--inject", "bearer")
	w.OriginServer("flood.test", floodOrigin(t), "h2", "http/1.1")
	p := w.StartWithMetrics("agent", w.Client("flood"), "flood.test", strconv.Itoa(*floodSize))
	other := w.StartSidecar("agent", []string{"init"}, w.Client("loader"), "-pause", "10ms", "https://flood.test")
	other.Line()
	ask := func(t *testing.T, name string) (f flooded, beside elsewhere, peak, held int) {
		t.Helper()
		other.Ask("report") // so that the next is about the flood
		said := make(chan string, 1)
		p.Say(name)
		go func() {
			line, _ := p.NextLine() // however long a large flood takes
			said <- line
		}()
		for {
			select {
			case line := <-said:
				if err := json.Unmarshal([]byte(line), &f); err != nil {
					t.Fatalf("%v in %s", err, line)
				}
				if line := other.Ask("report"); json.Unmarshal([]byte(line), &beside) != nil {
					t.Fatalf("the other sandbox says %q", line)
				}
				return f, beside, peak, held
			case <-time.After(20 * time.Millisecond):
				peak, held = max(peak, p.WorkerMemory()), max(held, p.WorkerFiles())
			}
		}
	}
	p.Line()
	ask(t, "kept") // what is made once is there then
	worker := p.Worker()
	for _, name := range []string{
		"connections", "slow hello", "slow head", "slow body", "long heads", "kept", "heads too long", "chunks", "streams", "HPACK bomb", "CONTINUATION", "rapid reset",
		"SETTINGS", "PING", "PRIORITY", "WINDOW_UPDATE", "empty DATA", "shut window", "uploads", "names", "bombs", "DNS",
	} {
		t.Run(name, func(t *testing.T) {
			before := p.WorkerMemory()
			f, beside, peak, held := ask(t, name)
			t.Logf("%d connections, %d refused; memory %d MiB, then %d at most, %d descriptors; another client: %d of %d requests failed, %.1f ms without and %.1f with the flood, %.1f at worst %v; another sandbox: %d requests, %d ms at worst",
				f.Opened, f.Refused, before>>20, peak>>20, held, f.Failed, f.Asked, f.Idle, f.Flooded, f.Worst, f.Errors, beside.OK, beside.Longest)
			if f.Failed > 0 || f.Asked == 0 {
				t.Errorf("of %d requests beside the flood %d failed: %q", f.Asked, f.Failed, f.Errors)
			}
			if len(beside.Failed) > 0 || beside.OK == 0 {
				t.Errorf("of the other sandbox %d requests were answered, and failed %v", beside.OK, beside.Failed)
			}
			if peak > mostMemory {
				t.Errorf("the worker had %d MiB, at most %d are allowed", peak>>20, mostMemory>>20)
			}
			w.In(t).Eventually("nothing is left of the flood", func() bool {
				return metric(t, p, "sallyport_sidecar_open_connections") == 0 && metric(t, p, "go_goroutines") < 60
			})
		})
	}
	if p.Worker() != worker {
		t.Error("the worker died and was started again")
	}
}

// metric gives a gauge of the program's.
func metric(t *testing.T, p *e2e.Program, name string) float64 {
	t.Helper()
	response, err := http.Get(p.Metrics)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n"+name+" ")
	line, _, _ := strings.Cut(rest, "\n")
	value, err := strconv.ParseFloat(line, 64)
	if !found || err != nil {
		t.Fatalf("no %s in the metrics: %v", name, err)
	}
	return value
}

// floodOrigin is an upstream that is as hostile as it can be, where it is asked to.
func floodOrigin(t *testing.T) http.Handler {
	bombs := make(map[string][]byte)
	for coding, pack := range map[string]func(io.Writer) (io.WriteCloser, error){
		"gzip":    func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		"deflate": func(w io.Writer) (io.WriteCloser, error) { return zlib.NewWriter(w), nil },
		"br":      func(w io.Writer) (io.WriteCloser, error) { return brotli.NewWriter(w), nil },
		"zstd":    func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
	} {
		var packed bytes.Buffer
		out, err := pack(&packed)
		if err != nil {
			t.Fatal(err)
		}
		zeros := make([]byte, 1<<20)
		for range 64 {
			if _, err := out.Write(zeros); err != nil {
				t.Fatal(err)
			}
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
		bombs[coding] = packed.Bytes()
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/never":
			<-r.Context().Done()
		case "/swallow":
			_, _ = io.Copy(io.Discard, r.Body)
		case "/long":
			piece := make([]byte, 64<<10)
			for err := error(nil); err == nil; {
				_, err = rw.Write(piece)
			}
		case "/bomb":
			rw.Header().Set("Content-Encoding", r.URL.RawQuery)
			_, _ = rw.Write(bombs[r.URL.RawQuery])
		default:
			fmt.Fprintln(rw, "ok")
		}
	})
}
