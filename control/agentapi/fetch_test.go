package agentapi_test

import (
	"crypto/sha256"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/control"
	"sallyport/control/api"
	"sallyport/control/store"
)

func TestFetch(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_canary_1")
	s := team.Join(t)
	response, err := s.Client.Fetch(t.Context(), connect.NewRequest(&api.FetchRequest{CredentialId: c.ID, Version: 1, Host: "API.Stripe.com."}))
	if err != nil {
		t.Fatal(err)
	}
	m, err := api.OpenMaterial(s.SealKey, c.ID, 1, response.Msg.GetSealed())
	if err != nil || string(m.Token) != "sk_live_canary_1" {
		t.Errorf("the material: %v", err)
	}
	if strings.Contains(string(response.Msg.GetSealed()), "canary") {
		t.Error("the material is not sealed")
	}
	fresh, hard := response.Msg.GetFreshUntil().AsTime(), response.Msg.GetHardExpiry().AsTime()
	if hard.Sub(fresh) != 55*time.Minute {
		t.Errorf("fresh until %v, serves until %v", fresh, hard)
	}
	if !slices.ContainsFunc(team.Events(t), func(e control.Event) bool {
		return e.Kind == "grant" && e.Sandbox == s.ID && e.Lease == response.Msg.GetLeaseId() && e.Credential == "v/stripe" && e.Version == 1
	}) {
		t.Errorf("the lease is not in the audit log: %+v", team.Events(t))
	}
}

// Whatever is wrong, the answer is the same: nothing can be learnt by asking.
func TestFetchRefusals(t *testing.T) {
	team, other := plane.NewTeam(t), plane.NewTeam(t)
	c, foreign := team.Setup(t, "sk_live_1"), other.Setup(t, "sk_live_2")
	s := team.Join(t)
	team.Must(t, "POST", "vaults", map[string]any{"name": "unpinned"}, nil)
	var unpinned control.Credential
	team.Must(t, "POST", "vaults/unpinned/credentials", map[string]any{"name": "x", "service": "notion", "secret": "s"}, &unpinned)
	var answers []string
	for name, r := range map[string]*api.FetchRequest{
		"no such credential": {CredentialId: store.NewID(), Version: 1, Host: "api.stripe.com"},
		"not an id":          {CredentialId: "'; drop table", Version: 1, Host: "api.stripe.com"},
		"its id in capitals": {CredentialId: strings.ToUpper(c.ID), Version: 1, Host: "api.stripe.com"},
		"its id in braces":   {CredentialId: "{" + c.ID + "}", Version: 1, Host: "api.stripe.com"},
		"nothing":            {},
		"of another team":    {CredentialId: foreign.ID, Version: 1, Host: "api.stripe.com"},
		"of another vault":   {CredentialId: unpinned.ID, Version: 1, Host: "api.notion.com"},
		"another host":       {CredentialId: c.ID, Version: 1, Host: "evil.test"},
		"a name below it":    {CredentialId: c.ID, Version: 1, Host: "evil.api.stripe.com"},
		"an address":         {CredentialId: c.ID, Version: 1, Host: "127.0.0.1"},
		"no host":            {CredentialId: c.ID, Version: 1},
		"a later version":    {CredentialId: c.ID, Version: 2, Host: "api.stripe.com"},
		"version 0":          {CredentialId: c.ID, Host: "api.stripe.com"},
		"a huge version":     {CredentialId: c.ID, Version: 1 << 63, Host: "api.stripe.com"},
	} {
		_, err := s.Client.Fetch(t.Context(), connect.NewRequest(r))
		if connect.CodeOf(err) != connect.CodeNotFound {
			t.Errorf("%s: %v", name, err)
			continue
		}
		answers = append(answers, err.Error())
	}
	slices.Sort(answers)
	if answers = slices.Compact(answers); len(answers) != 1 {
		t.Errorf("the answers differ: %q", answers)
	}
	team.Must(t, "DELETE", "agents/a/pins/v", nil, nil)
	_, err := s.Client.Fetch(t.Context(), connect.NewRequest(&api.FetchRequest{CredentialId: c.ID, Version: 1, Host: "api.stripe.com"}))
	if err == nil || err.Error() != answers[0] {
		t.Errorf("after the pin was removed: %v", err)
	}
}

func TestFetchBasic(t *testing.T) {
	team := plane.NewTeam(t)
	team.Setup(t, "sk_live_1")
	var c control.Credential
	team.Must(t, "POST", "vaults/v/credentials", map[string]any{"name": "git", "service": "github-git", "secret": "ghp_1"}, &c)
	m, err := team.Join(t).Fetch(t.Context(), c.ID, 1, "github.com")
	if err != nil || m.Username != "x-access-token" || string(m.Token) != "ghp_1" {
		t.Errorf("the material: %v", err)
	}
}

func TestReport(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_1")
	s := team.Join(t)
	event := func(sequence uint64) *api.Event {
		return &api.Event{
			Sequence: sequence, Time: timestamppb.Now(), RequestId: "r", Host: "api.stripe.com", Port: 443, Method: "GET",
			Path: "/v1/charges?secret=query", Decision: "inject", Status: 200, CredentialId: c.ID, Version: 1,
			RequestBytes: 10, ResponseBytes: 1 << 63, Duration: durationpb.New(time.Millisecond), Protocol: "HTTP/2.0",
		}
	}
	send := func(events ...*api.Event) (uint64, error) {
		response, err := s.Client.Report(t.Context(), connect.NewRequest(&api.ReportRequest{Events: events}))
		if err != nil {
			return 0, err
		}
		return response.Msg.GetAcknowledged(), nil
	}
	for _, batch := range [][]*api.Event{{event(1), event(2)}, {event(1), event(2)}, {event(2), event(3)}} {
		if _, err := send(batch...); err != nil {
			t.Fatal(err)
		}
	}
	if acknowledged, err := send(); err != nil || acknowledged != 3 {
		t.Errorf("acknowledged %d, %v", acknowledged, err)
	}
	hostile := event(4)
	hostile.Host, hostile.Method, hostile.Path, hostile.CredentialId = "a\x00b\x1b[2J", "G\nET", "/"+strings.Repeat("é", 5000), "no id"
	hostile.Time, hostile.Status = nil, 4_000_000_000
	if acknowledged, err := send(hostile); err != nil || acknowledged != 4 {
		t.Errorf("a hostile event stops the queue: %d, %v", acknowledged, err)
	}
	_, err := send(event(0))
	code(t, err, connect.CodeInvalidArgument)
	_, err = send(event(6), event(5))
	code(t, err, connect.CodeInvalidArgument)
	_, err = send(slices.Repeat([]*api.Event{event(7)}, 1001)...)
	code(t, err, connect.CodeInvalidArgument)

	var requests []control.Event
	for _, e := range team.Events(t) {
		if e.Kind == "request" {
			requests = append(requests, e)
		}
	}
	if len(requests) != 4 {
		t.Fatalf("%d events were stored, want 4", len(requests))
	}
	e := requests[len(requests)-1]
	if e.Sandbox != s.ID || e.Agent != "a" || e.Credential != "v/stripe" || e.Path != "/v1/charges" || e.DurationUS != 1000 || e.Status != 200 {
		t.Errorf("the event is %+v", e)
	}
	if err := plane.Store.VerifyChain(t.Context(), team.ID); err != nil {
		t.Error(err)
	}
	// What it did before it was cut off can still be told.
	team.Must(t, "DELETE", "sandboxes/"+s.ID, nil, nil)
	if acknowledged, err := send(event(5)); err != nil || acknowledged != 5 {
		t.Errorf("after it was revoked: %d, %v", acknowledged, err)
	}
}

func TestNothingOfASecretIsLogged(t *testing.T) {
	team := plane.NewTeam(t)
	c := team.Setup(t, "sk_live_canary_log")
	s := team.Join(t)
	if _, err := s.Fetch(t.Context(), c.ID, 1, "api.stripe.com"); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(plane.Log.String(), "canary_log") {
		t.Error("the log holds a secret")
	}
	hash := sha256.Sum256([]byte("sk_live_canary_log"))
	if strings.Contains(plane.Log.String(), string(hash[:])) {
		t.Error("the log holds the hash of a secret")
	}
}
