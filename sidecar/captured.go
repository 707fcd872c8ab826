package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"sallyport/control/api"
	"sallyport/sidecar/bind"
	"sallyport/sidecar/capture"
	"sallyport/sidecar/proxy"
	"sallyport/sidecar/redact"
	"sallyport/sidecar/scan"
)

const (
	// captureTimeout bounds the calls that store new secrets.
	captureTimeout = 10 * time.Second
	captureTries   = 4
	capturePause   = 250 * time.Millisecond
)

// choose gives the binding whose credential a request gets: a captured one that it
// names where keys are sent, else the one that serves its destination.
func choose(now *served, permitted bind.Permitted, x *proxy.Exchange, r *http.Request) (*api.Binding, error) {
	named, err := namedCaptured(now, permitted, r)
	if named != nil || err != nil {
		return named, err
	}
	binding, err := permitted.Binding()
	if binding != nil && namesGone(now, binding, r) {
		return nil, gone(x)
	}
	return binding, err
}

// gone refuses a request that names a captured secret which is not there any more.
func gone(x *proxy.Exchange) *proxy.Error {
	answer := proxy.Errorf(http.StatusForbidden, "mint_expired", "the request to %s names a captured secret that has expired or was removed, or is another sandbox's; have a new one made", x.Host)
	answer.Cause = errGone
	return answer
}

var errGone = errors.New("no such captured secret is bound")

// namesGone reports whether a request names what was captured with binding and is
// not, or no longer, bound: its origin must not be used in its stead.
func namesGone(now *served, binding *api.Binding, r *http.Request) bool {
	captures := func(m *api.Mint) bool { return m.GetAction() == api.MintAction_MINT_ACTION_CAPTURE }
	if !slices.ContainsFunc(binding.GetMints(), captures) {
		return false
	}
	texts := keys(r, nil)
	if binding.GetStray() != api.Stray_STRAY_LITERAL { // which place was its own nobody knows any more
		texts = append(texts, r.URL.RawQuery)
		for _, values := range r.Header {
			texts = append(texts, values...)
		}
	}
	return slices.ContainsFunc(texts, func(text string) bool {
		if plain, err := url.QueryUnescape(text); err == nil {
			text = plain
		}
		return strings.Contains(text, "vault:"+binding.GetName()+".") && len(now.scanner.All(text)) == 0
	})
}

// namedCaptured gives the captured credential whose placeholder is in a place for
// keys. One that is not for the request's destination is a stray there: the
// credential that is must not be used in its stead.
func namedCaptured(now *served, permitted bind.Permitted, r *http.Request) (*api.Binding, error) {
	if len(now.table.CapturedPlaceholders()) == 0 {
		return nil, nil
	}
	candidates := permitted.Captured()
	var named *api.Binding
	for _, text := range keys(r, candidates) {
		for _, placeholder := range now.captured.All(text) {
			i := slices.IndexFunc(candidates, func(b *api.Binding) bool { return "vault:"+b.GetName() == placeholder })
			switch {
			case i < 0:
				return nil, &scan.StrayError{Placeholder: placeholder}
			case named != nil && named != candidates[i]:
				return nil, proxy.Errorf(http.StatusConflict, "binding_tie", "the request names two credentials, %s and vault:%s; it gets one", placeholder, named.GetName())
			}
			named = candidates[i]
		}
	}
	return named, nil
}

// keys are the texts of a request where keys are sent: fields for them, cookies,
// and what the candidates' rules name.
func keys(r *http.Request, candidates []*api.Binding) []string {
	var texts []string
	query := false
	own := make(map[string]bool)
	for _, b := range candidates {
		for _, rule := range b.GetInject() {
			own[string(api.FoldField(nil, rule.GetHeader().GetName()))] = true
			query = query || rule.GetQuery() != nil
		}
	}
	for name, values := range r.Header {
		folded := api.FoldField(nil, name)
		if api.CarriesKey(folded) || own[string(folded)] || string(folded) == "cookie" {
			texts = append(texts, values...)
		}
	}
	if user, password, ok := r.BasicAuth(); ok {
		texts = append(texts, user, password)
	}
	if query {
		texts = append(texts, r.URL.RawQuery)
	}
	return texts
}

// mintRule gives the rule for the new secrets that a request with binding makes its
// service hand out, nil for none. Where a captured credential is used in the place
// of another, the rules of both hold: what either refuses is refused, and so is what
// they say different things of, and what would be stored by a rule that is the other's alone.
func mintRule(permitted bind.Permitted, binding *api.Binding, x *proxy.Exchange, r *http.Request) (*api.Mint, error) {
	resident := binding
	if binding.GetCaptured() {
		resident, _ = permitted.Binding() // a tie of others is none of this request's
	}
	rule, err := mintRuleOf(permitted, resident, x, r)
	if err != nil || resident == binding {
		return rule, err
	}
	origins, err := mintRuleOf(permitted, binding, x, r)
	switch {
	case err != nil, rule == nil:
		return origins, err
	case origins != nil && !proto.Equal(rule, origins):
		return nil, &bind.RefusedMintError{Vault: binding.GetVault(), Name: binding.GetName(), Rule: origins}
	case origins == nil && rule.GetAction() == api.MintAction_MINT_ACTION_CAPTURE:
		return nil, proxy.Errorf(http.StatusForbidden, "mint_refused", "%s %s makes a new secret, which the rule '%s' of the credential %s/%s stores; it is stored for requests with that credential, not with the captured one that this request names",
			x.Method, x.Host, rule.GetRule(), resident.GetVault(), resident.GetName())
	}
	return rule, nil
}

func mintRuleOf(permitted bind.Permitted, binding *api.Binding, x *proxy.Exchange, r *http.Request) (*api.Mint, error) {
	if !bind.Mints(binding) {
		return nil, nil
	}
	if name, found := override(r); found {
		return nil, proxy.Errorf(http.StatusBadRequest, "bad_request", "the credential for %s has rules for methods and paths; the field %s, which names others at some servers, is refused", x.Host, name)
	}
	return permitted.Mint(binding)
}

// handOut takes the new secrets out of an answer, and has those that are to be
// captured stored before the client hears of it.
type handOut struct {
	worker    *worker
	binding   *api.Binding
	rule      *api.Mint
	exchange  *proxy.Exchange
	redactors []*redact.Redactor
	taken     int // secrets
}

// withhold adds to a plan that the answer's new secrets don't reach the client.
func (w *worker) withhold(ctx context.Context, plan *proxy.Plan, h *handOut) {
	redacted, release := plan.Response, plan.Release
	plan.Upgrade = false
	if redacted == nil { // the credential is in no answer, so nobody has asked for one that can be searched
		prepared := plan.Request
		plan.Request = func(out *http.Request) error {
			redact.Request(out)
			return prepared(out)
		}
		redacted = func(*http.Response) error { return nil }
	}
	plan.Response = func(response *http.Response) error {
		if err := redacted(response); err != nil {
			return err
		}
		return h.response(ctx, response)
	}
	plan.Interim = func(header http.Header) { clear(header) } // nobody knows yet what to look for
	plan.Release = func(x *proxy.Exchange) {
		release(x)
		x.Redactions += h.release() + h.taken
	}
}

func (h *handOut) response(ctx context.Context, response *http.Response) error {
	if redact.IsPart(response) {
		return redact.ErrPart
	}
	answer, err := capture.Read(response, h.rule)
	if err != nil {
		return err
	}
	defer answer.Wipe()
	if err := h.store(ctx, answer); err != nil {
		return err
	}
	answer.Write()
	response.Trailer = nil // where nobody looks for secrets
	if response.Body != nil && response.Body != http.NoBody {
		response.Body = &withoutTrailers{response.Body, response}
	}
	// The service may say it elsewhere in the same answer, too.
	for _, secret := range answer.Secrets {
		m := api.Material{Token: slices.Clone(secret.Value)}
		if redact.Check(m) != nil {
			continue // too short, or no text at all: it was taken out of its place
		}
		r := redact.New(m, secret.Bare())
		h.redactors = append(h.redactors, r)
		if err := r.Response(response); err != nil {
			return err
		}
	}
	h.taken = len(answer.Secrets)
	return nil
}

// withoutTrailers is a body whose trailers, known when it ends, are dropped, but for
// the number without which a gRPC client takes no answer for one.
type withoutTrailers struct {
	io.ReadCloser
	response *http.Response
}

func (w *withoutTrailers) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err == io.EOF {
		status := w.response.Trailer.Get("Grpc-Status")
		w.response.Trailer = nil
		if number, err := strconv.ParseUint(status, 10, 8); err == nil {
			w.response.Trailer = http.Header{"Grpc-Status": {strconv.FormatUint(number, 10)}}
		}
	}
	return n, err
}

// store has the control plane keep the secrets, and waits until their placeholders work.
func (h *handOut) store(ctx context.Context, answer *capture.Answer) error {
	request := &api.CaptureRequest{
		CredentialId: h.binding.GetCredentialId(), Version: h.binding.GetVersion(),
		Host: h.exchange.Host, Rule: h.rule.GetRule(), RequestId: h.exchange.ID,
	}
	if answer.TTL > 0 {
		request.Ttl = durationpb.New(answer.TTL)
	}
	var kept []*capture.Secret
	for _, secret := range answer.Secrets {
		if !secret.Strip {
			kept = append(kept, secret)
			request.Secrets = append(request.Secrets, &api.NewSecret{Place: secret.Place, Value: secret.Value})
		}
	}
	if len(kept) == 0 {
		return nil
	}
	stored, err := h.send(ctx, request)
	if err == nil && len(stored.Msg.GetNames()) != len(kept) {
		err = errors.New("the control plane stored something else")
	}
	if err != nil {
		return unstored(h.exchange, err)
	}
	for i, secret := range kept {
		secret.With = "vault:" + stored.Msg.GetNames()[i]
	}
	h.worker.awaitCaptured(ctx, stored.Msg.GetRevision())
	return nil
}

// send asks again when the stream of the sandbox was just opened anew, a replica is going
// down, or the credential was rotated since the request went out. At worst a secret is
// stored twice, and nobody has the first one's name.
func (h *handOut) send(ctx context.Context, request *api.CaptureRequest) (stored *connect.Response[api.CaptureResponse], err error) {
	ctx, cancel := context.WithTimeout(ctx, captureTimeout)
	defer cancel()
	for range captureTries {
		stored, err = h.worker.identity.Client().Capture(ctx, connect.NewRequest(request))
		switch connect.CodeOf(err) {
		case connect.CodeUnavailable:
		case connect.CodeNotFound:
			if !h.worker.rotated(ctx, request) {
				return nil, err
			}
			continue
		default:
			return stored, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(capturePause):
		}
	}
	return nil, err
}

// rotated gives a capture the version that its credential has now, which may have to be
// heard of first. It is false if there is no other.
func (w *worker) rotated(ctx context.Context, m *api.CaptureRequest) bool {
	for {
		now := w.served.Load()
		i := slices.IndexFunc(now.bound, func(b *api.Binding) bool { return b.GetCredentialId() == m.GetCredentialId() })
		switch {
		case i < 0:
			return false
		case now.bound[i].GetVersion() != m.GetVersion():
			m.Version = now.bound[i].GetVersion()
			return true
		case !w.await(ctx, func(served *served) bool { return served != now }):
			return false
		}
	}
}

// unstored tells why a new secret was not kept. What the control plane says is
// meant for us, and never quotes a secret.
func unstored(x *proxy.Exchange, err error) error {
	why := "the control plane is away"
	var refusal *connect.Error
	if errors.As(err, &refusal) {
		switch refusal.Code() {
		case connect.CodeFailedPrecondition, connect.CodeResourceExhausted, connect.CodeNotFound, connect.CodePermissionDenied, connect.CodeInvalidArgument:
			why = refusal.Message()
		}
	}
	answer := proxy.Errorf(http.StatusServiceUnavailable, "mint_unstored", "%s has handed out a new secret that could not be stored (%s), so it is lost; end it at the service, if it lasts", x.Host, why)
	answer.Cause = err
	return answer
}

// release wipes what the answer was searched for.
func (h *handOut) release() (count int) {
	for _, r := range h.redactors {
		count += r.Count()
		r.Wipe()
	}
	return count
}

// awaitCaptured waits until the revision that binds what was captured is served, for a
// while. Requests that come for it before that wait too.
func (w *worker) awaitCaptured(ctx context.Context, revision uint64) {
	for last := w.captured.Load(); last < revision && !w.captured.CompareAndSwap(last, revision); {
		last = w.captured.Load()
	}
	if !w.await(ctx, func(now *served) bool { return now.revision >= revision }) {
		w.log.Warn("a captured secret is stored, and not bound yet", "revision", revision)
	}
}

// describeRule is how a rule is to be written so that it captures what it refuses.
func describeRule(rule *api.Mint) string {
	_, rest, _ := strings.Cut(rule.GetRule(), " ")
	if len(rule.GetPlaces()) == 0 {
		rest += " json:/POINTER"
	}
	return fmt.Sprintf("'capture %s'", rest)
}
