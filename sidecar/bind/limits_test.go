package bind

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/control/api"
)

// limited is a binding of api.test with limits.
func limited(l *api.Limits) *api.Binding {
	b := binding("a", false, "api.test")
	b.Limits = l
	return b
}

// useOf asks for a use of the binding that serves api.test.
func useOf(t *testing.T, l *api.Limits, method, path string) error {
	t.Helper()
	b := limited(l)
	permitted, err := table(t, []*api.Binding{b}).Permit(Request{"api.test", 443, true, method, path})
	if err != nil {
		t.Fatal(err)
	}
	use, err := permitted.Use(b, time.Now())
	if err == nil && use.Binding() != b {
		t.Error("it is a use of another binding")
	}
	return err
}

func TestLimits(t *testing.T) {
	hour := time.Now().Add(time.Hour)
	for _, tt := range []struct {
		limits       *api.Limits
		method, path string
		want         error
	}{
		{nil, "DELETE", "/a//..;/%2e%2e", nil},
		{&api.Limits{Methods: []string{"GET", "POST"}}, "POST", "/x//y", nil},
		{&api.Limits{Methods: []string{"GET"}}, "DELETE", "/", ErrMethod},
		{&api.Limits{Methods: []string{"GET"}}, "HEAD", "/", ErrMethod},
		{&api.Limits{Methods: []string{"GET"}}, "get", "/", ErrMethod},
		{&api.Limits{Paths: []string{"/v1/charges", "/v2"}}, "GET", "/v1/charges", nil},
		{&api.Limits{Paths: []string{"/v1/charges", "/v2"}}, "GET", "/v2/x/y/", nil},
		{&api.Limits{Paths: []string{"/v1/charges"}}, "GET", "/v1/chargesback", ErrOffPath},
		{&api.Limits{Paths: []string{"/v1/charges"}}, "GET", "/V1/charges", ErrOffPath},
		{&api.Limits{Paths: []string{"/v1/charges"}}, "GET", "/v1", ErrOffPath},
		{&api.Limits{Paths: []string{"/v1"}}, "GET", "*", ErrPath},
		{&api.Limits{Expires: timestamppb.New(hour)}, "GET", "/", nil},
		{&api.Limits{Expires: timestamppb.New(hour.Add(-2 * time.Hour))}, "GET", "/", ErrExpired},
		{&api.Limits{Expires: timestamppb.New(hour.Add(-2 * time.Hour)), Methods: []string{"GET"}}, "PUT", "/", ErrExpired},
	} {
		if err := useOf(t, tt.limits, tt.method, tt.path); !errors.Is(err, tt.want) {
			t.Errorf("%s %s with %v: %v, want %v", tt.method, tt.path, tt.limits, err, tt.want)
		}
	}
}

// No server takes a path that gets through for one outside of the limits.
func TestCrookedPathsAreNotWithinLimits(t *testing.T) {
	for _, path := range crooked {
		for _, path := range []string{path, "/v1" + path, "/v1/.." + path, "/v1/x" + path} {
			if !strings.HasPrefix(path, "/") || useOf(t, &api.Limits{Paths: []string{"/v1"}}, "GET", path) != nil {
				continue
			}
			for _, read := range read(path) {
				if first, _, _ := strings.Cut(strings.TrimPrefix(read, "/"), "/"); first != "v1" {
					t.Errorf("%q is within /v1 and can be read as %q", path, read)
				}
			}
		}
	}
}

// A use is of the binding that serves the request, and of no other.
func TestUseOfAnother(t *testing.T) {
	a, b := limited(nil), binding("b", false, "other.test")
	captured := binding("c", false, "api.test")
	captured.Captured, captured.Limits = true, &api.Limits{Methods: []string{"GET"}}
	tab := table(t, []*api.Binding{a, b, captured})
	permitted, err := tab.Permit(Request{"api.test", 443, true, "POST", "/"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := permitted.Use(b, time.Now()); err == nil {
		t.Error("a use of another host's binding")
	}
	if _, err := permitted.Use(limited(nil), time.Now()); err == nil {
		t.Error("a use of a binding that is not in the table")
	}
	if _, err := permitted.Use(captured, time.Now()); !errors.Is(err, ErrMethod) {
		t.Errorf("a captured credential past its limits: %v", err)
	}
	if _, err := (Permitted{}).Use(a, time.Now()); err == nil {
		t.Error("a use of what nobody permitted")
	}
	if (Use{}).Is(Request{}) {
		t.Error("no use is one of some request")
	}
}

// Limits that this sidecar can't keep make the set unusable.
func TestUnknownLimits(t *testing.T) {
	for name, l := range map[string]*api.Limits{
		"an approval of tomorrow": {Approval: 9, ApprovalTimeout: durationpb.New(time.Minute)},
		"no timeout":              {Approval: api.Approval_APPROVAL_EACH},
		"a method in small":       {Methods: []string{"get"}},
		"a crooked path":          {Paths: []string{"/a/../b"}},
		"too many":                {Paths: make([]string, 100)},
	} {
		if _, err := New([]*api.Binding{limited(l)}, nil, nil); err == nil {
			t.Errorf("%s: the set is used", name)
		}
	}
}

func TestNextExpiry(t *testing.T) {
	now := time.Now()
	tab := table(t, []*api.Binding{limited(&api.Limits{Expires: timestamppb.New(now.Add(-time.Hour))})})
	if next := tab.NextExpiry(now); !next.IsZero() {
		t.Errorf("the next is %v", next)
	}
	late, soon := binding("l", false, "l.test"), binding("s", false, "s.test")
	late.Limits, soon.Limits = &api.Limits{Expires: timestamppb.New(now.Add(2 * time.Hour))}, &api.Limits{Expires: timestamppb.New(now.Add(time.Hour))}
	if next := table(t, []*api.Binding{late, soon}).NextExpiry(now); !next.Equal(now.Add(time.Hour)) {
		t.Errorf("the next is %v", next)
	}
}
