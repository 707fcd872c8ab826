package store

import (
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/control"
)

func report(sequence uint64, request string) Report {
	return Report{Sequence: sequence, Event: control.Event{RequestID: request, Host: "api.stripe.com", Port: 443, Method: "GET", Path: "/v1", Decision: "inject", Status: 200}}
}

func TestReportsAreStoredOnce(t *testing.T) {
	f := newFixture(t)
	c := f.credential(f.vault("prod"), "stripe", "api.stripe.com")
	f.agent("billing", "prod")
	b := f.sandbox("billing")
	at := time.Now().UTC()
	full := Report{1, c.ID, control.Event{
		Time: at, Kind: "forged", Actor: "token:forged", Agent: "forged", Sandbox: "forged", RequestID: "r1", Host: "api.stripe.com", Port: 443,
		Method: "POST", Path: "/v1/charges", Protocol: "HTTP/2.0", Decision: "inject", Reason: "why", Status: 201, Credential: "forged", Version: 1,
		Lease: "lease", BytesOut: 1, BytesIn: 2, DurationUS: 3, UpstreamUS: 4, Redactions: 5, Detail: "detail",
	}}
	for _, batch := range [][]Report{
		{full, report(2, "r2")},
		{full, report(2, "r2"), report(3, "r3"), report(3, "r3")}, // sent again, and grown
		{report(7, "r7")},                                         // four were lost with a sidecar
	} {
		acknowledged := got(f.AppendEvents(t.Context(), f.Team.ID, b.ID, batch))(t)
		if want := batch[len(batch)-1].Sequence; acknowledged != want {
			t.Errorf("acknowledged %d, want %d", acknowledged, want)
		}
	}
	if highest := got(f.AppendEvents(t.Context(), f.Team.ID, b.ID, nil))(t); highest != 7 {
		t.Errorf("the highest number is %d", highest)
	}
	events, _, err := f.Events(t.Context(), f.Team.ID, Page{})
	if err != nil || len(events) != 4 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	want := full.Event
	want.ID, want.Time = events[3].ID, at.Truncate(time.Microsecond)
	want.Kind, want.Actor, want.Agent, want.Sandbox, want.Credential = "request", "sandbox:"+b.ID, "billing", b.ID, "prod/stripe"
	if events[3] != want {
		t.Errorf("stored %+v\nwant   %+v", events[3], want)
	}

	_, err = f.AppendEvents(t.Context(), f.Team.ID, b.ID, []Report{report(8, "r8"), report(2, "another")})
	wantCode(t, err, control.CodeConflict, "event 2")
	_, err = f.AppendEvents(t.Context(), f.Team.ID, b.ID, []Report{report(0, "none")})
	wantCode(t, err, control.CodeInvalid)
	if err := f.VerifyChain(t.Context(), f.Team.ID); err != nil {
		t.Error(err)
	}
}

// TestHostileTexts are of the kind that would make a batch fail for ever.
func TestHostileTexts(t *testing.T) {
	f := newFixture(t)
	f.agent("billing")
	b := f.sandbox("billing")
	for i, text := range []string{"a\x00b", "\xff\xfe", strings.Repeat("x", maxText+1), strings.Repeat("é", maxText), "'; drop table teams; --", "\u202e"} {
		r := report(uint64(i+1), text)
		r.Event.Path, r.CredentialID = text, text
		got(f.AppendEvents(t.Context(), f.Team.ID, b.ID, []Report{r}))(t)
		got(f.AppendEvents(t.Context(), f.Team.ID, b.ID, []Report{r}))(t) // the same, so no conflict
	}
	events, _, err := f.Events(t.Context(), f.Team.ID, Page{})
	if err != nil || len(events) != 6 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	for _, e := range events {
		if len(e.Path) > maxText+len("…") {
			t.Errorf("a path of %d bytes is kept", len(e.Path))
		}
	}
	if err := f.VerifyChain(t.Context(), f.Team.ID); err != nil {
		t.Error(err)
	}
}

func TestEventsAtOnceMakeOneChain(t *testing.T) {
	f := newFixture(t)
	f.agent("billing")
	b := f.sandbox("billing")
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 8 {
				sequence := uint64(i/2*8 + j + 1) // each by two
				if _, err := f.AppendEvents(t.Context(), f.Team.ID, b.ID, []Report{report(sequence, fmt.Sprint(sequence))}); err != nil {
					t.Error(err)
				}
				if err := f.AppendAct(t.Context(), f.Team.ID, control.Event{Kind: "act", Actor: "token:x"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	events, _, err := f.Events(t.Context(), f.Team.ID, Page{})
	if err != nil || len(events) != 32+64 {
		t.Errorf("%d events, %v; want 96", len(events), err)
	}
	if err := f.VerifyChain(t.Context(), f.Team.ID); err != nil {
		t.Error(err)
	}
}

func TestEventsArePaged(t *testing.T) {
	f := newFixture(t)
	for i := range 5 {
		if err := f.AppendAct(t.Context(), f.Team.ID, control.Event{Kind: fmt.Sprintf("act%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.AppendAct(t.Context(), "", control.Event{Kind: "installation"}); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for page := (Page{Limit: 2}); ; {
		events, next, err := f.Events(t.Context(), f.Team.ID, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			kinds = append(kinds, e.Kind)
		}
		if page.After = next; next == "" {
			break
		}
	}
	if got := strings.Join(kinds, " "); got != "act4 act3 act2 act1 act0" {
		t.Errorf("listed %s", got)
	}
	_, _, err := f.Events(t.Context(), f.Team.ID, Page{After: "x"})
	wantCode(t, err, control.CodeInvalid, "cursor")
	if events, _, err := f.Events(t.Context(), "", Page{}); err != nil || len(events) != 1 || events[0].Kind != "installation" {
		t.Errorf("the installation's events: %+v, %v", events, err)
	}
}

func TestAuditIsAppendOnly(t *testing.T) {
	f := newFixture(t)
	if err := f.AppendAct(t.Context(), f.Team.ID, control.Event{Kind: "act"}); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`update audit_events set kind = 'x'`, `delete from audit_events`, `truncate audit_events`,
		`delete from audit_heads`, `truncate audit_heads cascade`, `delete from audit_events where false`,
	} {
		if _, err := f.pool.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "never changed") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// TestTamperingBreaksTheChain is by one who owns the database, and so can switch the triggers off.
func TestTamperingBreaksTheChain(t *testing.T) {
	for name, sql := range map[string]string{
		"a field":              `update audit_events set host = 'x' where position = 2`,
		"moved between fields": `update audit_events set kind = 'actb', actor = '' where position = 2`,
		"its time":             `update audit_events set created_at = created_at + interval '1 microsecond' where position = 2`,
		"its own hash too":     `update audit_events set host = 'x', hash = sha256('x') where position = 2`,
		"one removed":          `delete from audit_events where position = 2`,
		"the first removed":    `delete from audit_events where position = 1`,
		"the last removed":     `delete from audit_events where position = 3`,
		"all removed":          `delete from audit_events`,
		"the head put back":    `update audit_heads h set position = 2, hash = e.hash from audit_events e where e.team_id = h.team_id and e.position = 2`,
		"a link":               `update audit_events set prev_hash = sha256('x') where position = 3`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			for range 3 {
				if err := f.AppendAct(t.Context(), f.Team.ID, control.Event{Kind: "act", Actor: "b"}); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.VerifyChain(t.Context(), f.Team.ID); err != nil {
				t.Fatal(err)
			}
			for _, s := range []string{`alter table audit_events disable trigger all`, sql} {
				if _, err := f.pool.Exec(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.VerifyChain(t.Context(), f.Team.ID); err == nil || !strings.Contains(err.Error(), "the audit chain is broken") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestDigest holds the form of what is hashed, so that old chains stay verifiable.
func TestDigest(t *testing.T) {
	r := record{
		Event: control.Event{
			ID: 1, Time: time.UnixMicro(2).UTC(), Kind: "k", Actor: "a", Agent: "g", Sandbox: "s", RequestID: "r", Host: "h", Port: 3, Method: "m", Path: "p",
			Protocol: "o", Decision: "d", Reason: "e", Status: 4, Credential: "c", Version: 5, Lease: "l", BytesOut: 6, BytesIn: 7, DurationUS: 8, UpstreamUS: 9, Redactions: 10, Detail: "t",
		},
		TeamID: installation, CreatedAt: time.UnixMicro(11).UTC(), Sequence: 12, Previous: make([]byte, 32),
	}
	const want = "a978526bae47489bdb2f9733b2fbca2e48d57d0fc0bf3b78d070f1651ace5ad6"
	var digest digester
	if got := hex.EncodeToString(digest.of(&r)); got != want {
		t.Errorf("the digest is %s, want %s", got, want)
	}
}
