package agentapi_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/controltest"
	"sallyport/control/store"
)

const (
	captureRule = "capture POST /v1/keys json:/secret strip:json:/other hosts=api.stripe.com,*.files.example.com ttl=/expires_in"
	captured    = "sk_minted_canary_1"
)

// minting is a team whose credential has rules for new secrets.
func minting(t *testing.T, rules ...string) (*controltest.Team, control.Credential) {
	t.Helper()
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	team.Must(t, "PATCH", "vaults/v/credentials/stripe", map[string]any{"mints": rules}, &c)
	return team, c
}

func capture(c control.Credential) *api.CaptureRequest {
	return &api.CaptureRequest{
		CredentialId: c.ID, Version: 1, Host: "api.stripe.com", Rule: captureRule, RequestId: "r1", Ttl: durationpb.New(time.Minute),
		Secrets: []*api.NewSecret{{Value: []byte(captured)}},
	}
}

func send(t *testing.T, s *controltest.Sidecar, m *api.CaptureRequest) (*api.CaptureResponse, error) {
	t.Helper()
	response, err := s.Client.Capture(t.Context(), connect.NewRequest(m))
	if err != nil {
		return nil, err
	}
	return response.Msg, nil
}

func TestCapture(t *testing.T) {
	team, c := minting(t, captureRule)
	s, sibling := team.Join(t), team.Join(t)
	w, first := watch(t, s)
	mints := first.GetBindings()[0].GetMints()
	if len(mints) < 2 || mints[0].GetRule() != captureRule || mints[0].GetTtlPointer() != "/expires_in" || !mints[0].GetPlaces()[1].GetStrip() {
		t.Fatalf("its rules are %v", mints)
	}
	if last := mints[len(mints)-1]; last.GetAction() != api.MintAction_MINT_ACTION_REFUSE {
		t.Errorf("the service's rules don't come last: %v", last)
	}
	answer, err := send(t, s, capture(c))
	if err != nil {
		t.Fatal(err)
	}
	name := answer.GetNames()[0]
	if !strings.HasPrefix(name, "stripe.secret.") || len(answer.GetNames()) != 1 {
		t.Errorf("it is called %q", name)
	}
	snapshot := w.until(func(m *api.WatchResponse) bool { return m.GetRevision() >= answer.GetRevision() })
	b := snapshot.GetBindings()[1]
	if len(snapshot.GetBindings()) != 2 || !b.GetCaptured() || b.GetName() != name || strings.Join(b.GetHosts(), " ") != "api.stripe.com *.files.example.com" ||
		b.GetPlaceholders()[0] != "vault:"+name || b.GetInject()[0].GetHeader().GetTemplate() != "Bearer {{token}}" || len(b.GetMints()) != len(mints) {
		t.Errorf("it is bound as %v", b)
	}
	m, err := s.Fetch(t.Context(), b.GetCredentialId(), 1, "x.files.example.com")
	if err != nil || string(m.Token) != captured {
		t.Errorf("the material: %v", err)
	}
	if _, err := sibling.Fetch(t.Context(), b.GetCredentialId(), 1, "api.stripe.com"); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("another sandbox of the agent: %v", err)
	}
	// What is made with it is its origin's, too.
	again := capture(c)
	again.CredentialId = b.GetCredentialId()
	answer, err = send(t, s, again)
	if err != nil || !strings.HasPrefix(answer.GetNames()[0], "stripe.secret.") {
		t.Errorf("captured with what was captured: %v, %v", answer, err)
	}
	var made control.Credential
	team.Must(t, "GET", "vaults/v/credentials/"+answer.GetNames()[0], nil, &made)
	if made.Captured == nil || made.Captured.OriginID != c.ID || made.Captured.Sandbox != s.ID || time.Until(made.Captured.ExpiresAt) > time.Minute {
		t.Errorf("it is %+v", made.Captured)
	}
	if strings.Contains(plane.Log.String(), "canary") {
		t.Error("the log holds a captured secret")
	}
	for _, e := range team.Events(t) {
		if e.Kind == "credential.capture" && !strings.Contains(e.Detail, captureRule) {
			t.Errorf("the event is %+v", e)
		}
	}
}

// A sandbox may have captured what a rule of its own credential captures, and
// nothing else.
func TestCaptureRefusals(t *testing.T) {
	team, c := minting(t, captureRule, "strip POST /v1/stripped json:/secret")
	other, foreign := minting(t, captureRule)
	s, stranger := team.Join(t), other.Join(t)
	team.Must(t, "POST", "vaults", map[string]any{"name": "unpinned"}, nil)
	var unpinned control.Credential
	team.Must(t, "POST", "vaults/unpinned/credentials", map[string]any{"name": "x", "hosts": []string{"api.stripe.com"}, "secret": "s", "mints": []string{captureRule}}, &unpinned)
	mine, err := send(t, s, capture(c))
	if err != nil {
		t.Fatal(err)
	}
	var held control.Credential
	team.Must(t, "GET", "vaults/v/credentials/"+mine.GetNames()[0], nil, &held)
	sibling := team.Join(t)

	for name, tt := range map[string]struct {
		sidecar *controltest.Sidecar // nil: a new one, as each may not call often
		edit    func(*api.CaptureRequest)
		code    connect.Code
	}{
		"no such credential":          {nil, func(m *api.CaptureRequest) { m.CredentialId = store.NewID() }, connect.CodeNotFound},
		"no id":                       {nil, func(m *api.CaptureRequest) { m.CredentialId = "'; --" }, connect.CodeNotFound},
		"not pinned":                  {nil, func(m *api.CaptureRequest) { m.CredentialId = unpinned.ID }, connect.CodeNotFound},
		"another team's":              {nil, func(m *api.CaptureRequest) { m.CredentialId = foreign.ID }, connect.CodeNotFound},
		"another team's sandbox":      {stranger, func(*api.CaptureRequest) {}, connect.CodeNotFound},
		"another sandbox's":           {sibling, func(m *api.CaptureRequest) { m.CredentialId = held.ID }, connect.CodeNotFound},
		"another version":             {nil, func(m *api.CaptureRequest) { m.Version = 2 }, connect.CodeNotFound},
		"another host":                {nil, func(m *api.CaptureRequest) { m.Host = "evil.test" }, connect.CodeNotFound},
		"no rule":                     {nil, func(m *api.CaptureRequest) { m.Rule = "" }, connect.CodePermissionDenied},
		"a rule of its own":           {nil, func(m *api.CaptureRequest) { m.Rule = "capture POST /v1/x json:/secret" }, connect.CodePermissionDenied},
		"a wider rule":                {nil, func(m *api.CaptureRequest) { m.Rule += " hosts=evil.test" }, connect.CodePermissionDenied},
		"a rule that strips":          {nil, func(m *api.CaptureRequest) { m.Rule = "strip POST /v1/stripped json:/secret" }, connect.CodePermissionDenied},
		"a rule that refuses":         {nil, func(m *api.CaptureRequest) { m.Rule = "refuse POST /v1/ephemeral_keys json:/secret" }, connect.CodePermissionDenied},
		"a place that is stripped":    {nil, func(m *api.CaptureRequest) { m.Secrets[0].Place = 1 }, connect.CodePermissionDenied},
		"a place that is not there":   {nil, func(m *api.CaptureRequest) { m.Secrets[0].Place = 1 << 31 }, connect.CodePermissionDenied},
		"nothing":                     {nil, func(m *api.CaptureRequest) { m.Secrets = nil }, connect.CodeInvalidArgument},
		"too many":                    {nil, func(m *api.CaptureRequest) { m.Secrets = slices.Repeat(m.Secrets, 9) }, connect.CodeInvalidArgument},
		"a short secret":              {nil, func(m *api.CaptureRequest) { m.Secrets[0].Value = []byte("short") }, connect.CodeInvalidArgument},
		"a secret with a line break":  {nil, func(m *api.CaptureRequest) { m.Secrets[0].Value = []byte("a\r\nX: canary") }, connect.CodeInvalidArgument},
		"a secret longer than stored": {nil, func(m *api.CaptureRequest) { m.Secrets[0].Value = make([]byte, control.MaxSecretLength+1) }, connect.CodeInvalidArgument},
		"a message longer than read":  {nil, func(m *api.CaptureRequest) { m.RequestId = strings.Repeat("x", 1<<18) }, connect.CodeResourceExhausted},
	} {
		m := capture(c)
		tt.edit(m)
		if tt.sidecar == nil {
			tt.sidecar = team.Join(t)
		}
		_, err := send(t, tt.sidecar, m)
		code(t, err, tt.code)
		if t.Failed() {
			t.Fatalf("%s: %v", name, err)
		}
		if strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error quotes the secret: %v", name, err)
		}
	}
	var list struct{ Items []control.Credential }
	team.Must(t, "GET", "vaults/v/credentials", nil, &list)
	if len(list.Items) != 2 {
		t.Errorf("%d credentials, want the one and what was captured", len(list.Items))
	}
	team.Must(t, "DELETE", "sandboxes/"+s.ID, nil, nil)
	_, err = send(t, s, capture(c))
	code(t, err, connect.CodePermissionDenied)
}
