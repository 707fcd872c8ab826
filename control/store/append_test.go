package store

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/control"
)

// BenchmarkAppendEvents stores what a busy sandbox reports, and says what an
// event costs this process and Postgres in CPU.
func BenchmarkAppendEvents(b *testing.B) {
	for _, size := range []int{1, 100, 500, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			f := newFixture(b)
			c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
			f.agent("billing", "prod")
			id := f.sandbox("billing").ID
			next := uint64(time.Now().UnixNano())
			batch := func() []Report {
				all := make([]Report, size)
				for i := range all {
					all[i] = busyReport(next, c.ID)
					next++
				}
				return all
			}
			got(f.AppendEvents(b.Context(), f.Team.ID, id, batch()))(b)
			own, postgres := cpu(), cpuOfChildren(b)
			b.ReportAllocs()
			for b.Loop() {
				got(f.AppendEvents(b.Context(), f.Team.ID, id, batch()))(b)
			}
			events := float64(b.N * size)
			b.ReportMetric(float64((cpu()-own).Nanoseconds())/events, "own-ns/event")
			b.ReportMetric(float64((cpuOfChildren(b)-postgres).Nanoseconds())/events, "postgres-ns/event")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/events, "ns/event")
			size := got(one(b.Context(), f.pool, "size", pgx.RowTo[float64],
				`select pg_total_relation_size('audit_events')::float8 / count(*) from audit_events`))(b)
			b.ReportMetric(size, "disk-B/event")
		})
	}
}

func busyReport(sequence uint64, credentialID string) Report {
	return Report{Sequence: sequence, CredentialID: credentialID, Event: control.Event{
		Time: time.Now(), RequestID: fmt.Sprintf("%026x", sequence), Host: "api.stripe.com", Port: 443, Method: "GET", Path: "/v1/charges",
		Protocol: "HTTP/1.1", Decision: "inject", Status: 200, Version: 1, Lease: "0199b3c4-7d5e-7a6b-8c9d-0e1f2a3b4c5d",
		BytesOut: 120, BytesIn: 1024, DurationUS: 180, UpstreamUS: 70,
	}}
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cpuOfChildren is what the processes of the cluster have used: all that descend from this one.
func cpuOfChildren(b *testing.B) time.Duration {
	b.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || runtime.GOOS != "linux" {
		b.Skip("needs /proc")
	}
	parent := make(map[int]int)
	for _, path := range paths {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		_, rest, _ := strings.Cut(string(stat), ") ")
		parent[pid], _ = strconv.Atoi(strings.Fields(rest)[1])
	}
	var sum time.Duration
	for pid := range parent {
		for p := parent[pid]; p > 1; p = parent[p] {
			if p == os.Getpid() {
				text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
				if fields := strings.Fields(string(text)); len(fields) == 3 {
					ns, _ := strconv.ParseInt(fields[0], 10, 64)
					sum += time.Duration(ns)
				}
			}
		}
	}
	return sum
}
