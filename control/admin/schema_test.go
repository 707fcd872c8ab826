package admin_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/oapi-codegen/runtime" // what a generated client imports
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"sallyport/control/controltest"
)

// undocumented is what an answer has that the OpenAPI document does not say.
var undocumented func(r *http.Request, answer *http.Response, body []byte) []string

// TestValidationCanFail: answers that are not as they should be are found.
func TestValidationCanFail(t *testing.T) {
	r := httptest.NewRequest("GET", "/v1/teams", nil)
	for body, want := range map[string]bool{
		`{"items":[]}`: true, `{"items":[{"id":"x","name":"n","created_at":"2026-01-01T00:00:00Z","audit":"strict"}]}`: true,
		`{}`: false, `{"items":[{"name":1}]}`: false, `{"items":[],"extra":1}`: false, `[]`: false,
	} {
		answer := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}}
		if wrong := undocumented(r, answer, []byte(body)); (len(wrong) == 0) != want {
			t.Errorf("%s: %q", body, wrong)
		}
	}
	for mediaType, want := range map[string]bool{"application/problem+json": true, "text/html": false} {
		answer := &http.Response{StatusCode: 404, Header: http.Header{"Content-Type": {mediaType}}}
		if wrong := undocumented(r, answer, []byte(`{"type":"about:blank","title":"x","status":404,"detail":"x","code":"not_found"}`)); (len(wrong) == 0) != want {
			t.Errorf("%s: %q", mediaType, wrong)
		}
	}
}

// validateAnswers has every answer that a test of this package gets held against the
// OpenAPI document, by a validator that others made.
func validateAnswers(p *controltest.Plane) error {
	r, err := http.Get(p.AdminURL + "/openapi.json")
	if err != nil {
		return err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	doc, err := libopenapi.NewDocument(text)
	if err != nil {
		return err
	}
	v, errs := validator.NewValidator(doc)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if ok, wrong := v.ValidateDocument(); !ok {
		for _, w := range wrong {
			err = errors.Join(err, w, errors.New(w.Reason))
		}
		return err
	}
	undocumented = func(r *http.Request, answer *http.Response, body []byte) (all []string) {
		copied := *answer
		copied.Body = io.NopCloser(bytes.NewReader(body))
		_, wrong := v.ValidateHttpResponse(r, &copied)
		for _, w := range wrong {
			if w.ValidationType != "path" { // no operation's
				all = append(all, fmt.Sprint(w.Message, ": ", w.Reason, " ", w.SchemaValidationErrors))
			}
		}
		return all
	}
	p.Check = func(t *testing.T, r *http.Request, answer *http.Response, body []byte) {
		for _, wrong := range undocumented(r, answer, body) {
			t.Errorf("%s %s answers with %d what the OpenAPI document does not say: %s\n%s", r.Method, r.URL.Path, answer.StatusCode, wrong, body)
		}
	}
	return nil
}

// TestGeneratedClientCompiles has a generator that others made write a client by the
// document, and Go compile it.
func TestGeneratedClientCompiles(t *testing.T) {
	generator, err := filepath.Abs("../../.cache/bin/oapi-codegen")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	spec, out := filepath.Join(dir, "openapi.json"), filepath.Join(dir, "client.go")
	if err := os.WriteFile(spec, []byte(plane.Do(t, "", "GET", "/openapi.json", nil).Body), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
	}
	run(generator, "-generate", "types,client", "-package", "client", "-o", out, spec)
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"CreateSandbox", "RotateCredential", "IdempotencyKey", "IfMatch"} {
		if !strings.Contains(string(text), name) {
			t.Errorf("the client knows nothing of %s", name)
		}
	}
	run("go", "vet", out)
}
