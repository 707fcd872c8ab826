package agentapi_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/controltest"
	"sallyport/control/store"
)

// teams are one that attacks, with an enrolled sandbox, and one whose things it names.
type teams struct {
	mine, theirs *controltest.Team
	c            control.Credential // theirs
	thief, prey  *controltest.Sidecar
	id, token    string // of a sandbox of theirs that has not enrolled
}

// meetings calls each procedure of the sidecar API with the identity of one team's
// sandbox and what belongs to another team. It gives the answers, which must
// tell nothing.
var meetings = map[string]func(*testing.T, teams) []proto.Message{
	"Enroll": func(t *testing.T, m teams) []proto.Message {
		_, err := m.thief.Client.Enroll(t.Context(), connect.NewRequest(&api.EnrollRequest{
			JoinToken: m.token, Csr: m.thief.CSR, SealKey: m.thief.SealKey.PublicKey().Bytes(),
		}))
		code(t, err, connect.CodeUnauthenticated)
		if err := plane.NewSidecar(t).Enroll(t, m.token); err != nil {
			t.Errorf("the other team's join token is used up: %v", err)
		}
		return nil
	},
	"Renew": func(t *testing.T, m teams) []proto.Message {
		_, err := m.thief.Renew(t.Context(), m.prey.CSR, m.prey.Generation)
		code(t, err, connect.CodeInvalidArgument)
		c, err := m.thief.Renew(t.Context(), controltest.CSR(t, m.thief.Key), m.thief.Generation)
		if err != nil {
			t.Fatal(err)
		}
		m.thief.Use(t, c)
		return []proto.Message{c}
	},
	"Watch": func(t *testing.T, m teams) []proto.Message {
		_, first := watch(t, m.thief)
		return []proto.Message{first}
	},
	"Fetch": func(t *testing.T, m teams) []proto.Message {
		var answers []string
		for _, id := range []string{m.c.ID, store.NewID()} {
			_, err := m.thief.Client.Fetch(t.Context(), connect.NewRequest(&api.FetchRequest{CredentialId: id, Version: 1, Host: "canary-host.example.com"}))
			code(t, err, connect.CodeNotFound)
			answers = append(answers, err.Error())
		}
		if answers[0] != answers[1] {
			t.Errorf("the answers differ: %q", answers)
		}
		return nil
	},
	"Allot": func(t *testing.T, m teams) []proto.Message {
		m.theirs.Must(t, "PATCH", "vaults/v/credentials/canary-credential", map[string]any{"limits": map[string]any{"budget": "5"}}, nil)
		for _, id := range []string{m.c.ID, store.NewID()} {
			_, err := m.thief.Client.Allot(t.Context(), connect.NewRequest(&api.AllotRequest{CredentialId: id, Version: 1, Budget: 5}))
			code(t, err, connect.CodeNotFound)
		}
		var c control.Credential
		if m.theirs.Must(t, "GET", "vaults/v/credentials/canary-credential", nil, &c); c.Spent != 0 {
			t.Errorf("%d of their budget are spent", c.Spent)
		}
		return nil
	},
	"Approve": func(t *testing.T, m teams) []proto.Message {
		m.theirs.Must(t, "PATCH", "vaults/v/credentials/canary-credential", map[string]any{"limits": map[string]any{"approve": "each"}}, nil)
		for _, id := range []string{m.c.ID, store.NewID()} {
			_, err := m.thief.Client.Approve(t.Context(), connect.NewRequest(&api.ApproveRequest{
				CredentialId: id, Version: 1, Host: "canary-host.example.com", Port: 443, Method: "GET", Path: "/", Request: "r",
			}))
			code(t, err, connect.CodeNotFound)
		}
		pending(t, m.theirs, 0)
		pending(t, m.mine, 0)
		return nil
	},
	"Capture": func(t *testing.T, m teams) []proto.Message {
		const rule = "capture POST /keys json:/key"
		m.theirs.Must(t, "PATCH", "vaults/v/credentials/canary-credential", map[string]any{"mints": []string{rule}}, nil)
		var answers []string
		for _, id := range []string{m.c.ID, store.NewID()} {
			_, err := m.thief.Client.Capture(t.Context(), connect.NewRequest(&api.CaptureRequest{
				CredentialId: id, Version: 1, Host: "canary-host.example.com", Rule: rule, Secrets: []*api.NewSecret{{Value: []byte("forged-secret")}},
			}))
			code(t, err, connect.CodeNotFound)
			answers = append(answers, err.Error())
		}
		if answers[0] != answers[1] {
			t.Errorf("the answers differ: %q", answers)
		}
		return nil
	},
	"Report": func(t *testing.T, m teams) []proto.Message {
		response, err := m.thief.Client.Report(t.Context(), connect.NewRequest(&api.ReportRequest{Events: []*api.Event{
			{Sequence: 1, CredentialId: m.c.ID, Version: 1, Host: "forged.example.com"},
		}}))
		if err != nil {
			t.Fatal(err)
		}
		told := func(e control.Event) bool { return e.Host == "forged.example.com" }
		if slices.ContainsFunc(m.theirs.Events(t), told) {
			t.Error("an event of one team is in the other's audit")
		}
		i := slices.IndexFunc(m.mine.Events(t), told)
		if i < 0 || m.mine.Events(t)[i].Credential != "" {
			t.Errorf("the event names the other team's credential: %+v", m.mine.Events(t))
		}
		return []proto.Message{response.Msg}
	},
}

func TestTeamsNeverMeet(t *testing.T) {
	methods := api.File_sidecar_proto.Services().ByName("SidecarService").Methods()
	for i := range methods.Len() {
		name := string(methods.Get(i).Name())
		t.Run(name, func(t *testing.T) {
			meet := meetings[name]
			if meet == nil {
				t.Fatal("there is no meeting for this procedure: say what it must answer to another team's sandbox")
			}
			m := teams{mine: plane.NewTeam(t), theirs: plane.NewTeam(t)}
			m.mine.Setup(t, "sk_live_mine")
			m.theirs.Setup(t, "sk_live_1")
			m.theirs.Must(t, "POST", "vaults/v/credentials", map[string]any{
				"name": "canary-credential", "hosts": []string{"canary-host.example.com"}, "username": "canary-user", "secret": "canary-secret",
			}, &m.c)
			m.thief, m.prey = m.mine.Join(t), m.theirs.Join(t)
			m.id, m.token = m.theirs.NewSandbox(t)
			for _, answer := range meet(t, m) {
				for _, secret := range []string{"canary-", m.theirs.Name, m.theirs.ID, m.c.ID, m.id, m.prey.ID} {
					if strings.Contains(fmt.Sprint(answer), secret) {
						t.Errorf("%s tells %q: %v", name, secret, answer)
					}
				}
			}
			state(t, m.theirs, m.prey, control.SandboxEnrolled)
			if n := events(t, m.theirs, "grant", m.prey.ID) + events(t, m.theirs, "sandbox.alert", m.prey.ID); n != 0 {
				t.Errorf("the other team has %d events of it", n)
			}
		})
	}
}

// TestSessionsAreOfOneSandbox: another sandbox's session is none, of one's own agent too.
func TestSessionsAreOfOneSandbox(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	thief, prey := team.Join(t), team.Join(t)
	w := prey.Client.Watch(context.WithoutCancel(t.Context()))
	defer w.CloseRequest()
	_ = w.Send(&api.WatchRequest{})
	if _, err := w.Receive(); err != nil {
		t.Fatal(err)
	}
	session := w.ResponseHeader().Get(api.HeaderSession)
	for _, who := range []*controltest.Sidecar{prey, thief} {
		_, err := plane.WithSession(t, who, session).Fetch(t.Context(), connect.NewRequest(&api.FetchRequest{CredentialId: c.ID, Version: 1, Host: "api.stripe.com"}))
		if ok := err == nil; ok != (who == prey) {
			t.Errorf("fetched %v: %v", ok, err)
		}
	}
}
