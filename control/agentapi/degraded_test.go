package agentapi_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	"sallyport/control/api"
)

// TestAuditDegraded: while the log takes no events nothing is leased nor acknowledged,
// and readiness and metrics say so.
func TestAuditDegraded(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_canary_1")
	s := team.Join(t)
	conn, err := pgx.Connect(t.Context(), plane.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	execute := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
	fetch := func() error {
		_, err := s.Client.Fetch(t.Context(), connect.NewRequest(&api.FetchRequest{CredentialId: c.ID, Version: 1, Host: "api.stripe.com"}))
		return err
	}
	report := func() error {
		_, err := s.Client.Report(t.Context(), connect.NewRequest(&api.ReportRequest{Events: []*api.Event{{Sequence: uint64(time.Now().UnixNano()), RequestId: "r"}}}))
		return err
	}
	execute(fmt.Sprintf(`
		create function full_disk() returns trigger language plpgsql as $$ begin raise disk_full using message = 'no space left'; end $$;
		create trigger full_disk before insert on audit_events for each row when (new.team_id = '%s') execute function full_disk()`, team.ID))
	drop := func() {
		execute(`drop trigger if exists full_disk on audit_events; drop function if exists full_disk()`)
	}
	defer drop()
	code(t, fetch(), connect.CodeUnavailable)
	code(t, report(), connect.CodeUnavailable)
	if n := plane.Metric(t, "sallyport_control_audit_degraded"); n != 1 {
		t.Errorf("the metric is %v", n)
	}
	if r := plane.Do(t, "", "GET", "/readyz", nil); r.Status != 200 || strings.TrimSpace(r.Body) != `{"ready":true,"blockers":[],"degraded":["audit"]}` {
		t.Errorf("readyz: %d %s", r.Status, r.Body)
	}
	drop()
	if err := fetch(); err != nil {
		t.Error(err)
	}
	if err := report(); err != nil {
		t.Error(err)
	}
	if n := plane.Metric(t, "sallyport_control_audit_degraded"); n != 0 {
		t.Errorf("with events again the metric is %v", n)
	}
}
