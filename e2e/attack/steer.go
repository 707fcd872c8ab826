package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// outcome is what is to become of the last message of an attempt.
type outcome int

const (
	refused   outcome = iota // an error, and nothing arrives anywhere
	unbound                  // it arrives without any credential
	delivered                // it arrives at the host with its credential, once
	harmless                 // refused, or arrives where it may
)

// attempt is one case: a connection, and what is said in it.
type attempt struct {
	name string
	want outcome

	door     door   // nil dial: that of a proxy, without CONNECT
	address  string // that the client wants to go to
	sni      string
	plain    bool // no TLS
	http2    bool
	version  uint16 // of TLS at most; 0 for any
	messages []message
	sessions tls.ClientSessionCache
	fault    string  // of the bound host
	follow   string  // instead of messages: a URL whose redirects are followed
	path     string  // that no bound host may be asked for
	audited  audited // what the audit log must have, where a field is not empty

	credential string // that could come; "api" if empty
}

// steer is the corpus of ways to have the credential sent elsewhere.
func steer(ctx context.Context, w *world, o options, report func(result)) error {
	var cases []attempt
	for _, a := range attempts(w.target, w.origins) {
		if o.chosen(a.name) && !(o.http1 && a.http2) {
			cases = append(cases, a)
		}
	}
	if w.target.store != nil && o.sample == 0 {
		w.storing(o, report)
	}
	tried := map[string]attempt{}
	broken := map[string]string{}
	var order []string
	for _, a := range sample(cases, o) {
		if err := ctx.Err(); err != nil {
			return err
		}
		order = append(order, a.name)
		tried[a.name] = a
		if broken[a.name] = w.attempt(ctx, a); broken[a.name] == "" && a.fault != "" {
			broken[a.name] = w.sound(ctx, a)
		}
	}
	late := w.misled(w.take(), "")
	if err := w.checkAudit(tried, broken); err != nil {
		return err
	}
	if w.target.audit != nil {
		order = append(order, everyRefusal)
	}
	for _, name := range order {
		report(result{name, broken[name]})
	}
	if late != "" {
		report(result{"after-all", late})
	}
	return nil
}

// sound shows that an attempt that was broken by the host's fault works without it.
func (w *world) sound(ctx context.Context, a attempt) string {
	a.fault, a.want = "", delivered
	if broken := w.attempt(ctx, a); broken != "" {
		return "without the fault: " + broken
	}
	return ""
}

// attempt carries an attempt out, and says what is wrong with what came of it.
func (w *world) attempt(ctx context.Context, a attempt) string {
	if a.fault != "" {
		w.breakWith(a.fault)
		defer w.breakWith("")
	}
	replies, err := w.speak(ctx, a)
	arrivals := w.take()
	if broken := w.misled(arrivals, a.path); broken != "" {
		return broken
	}
	for _, r := range replies {
		if c, how := w.target.finds(r.text()); how != "" {
			return fmt.Sprintf("the client received the credential %s, %s", c.name, how)
		}
	}
	last, answered := reply{}, false
	if n := max(1, len(a.messages)); len(replies) >= n {
		last, answered = replies[n-1], replies[n-1].status != 0
	}
	if err != nil && isTimeout(err) {
		return fmt.Sprintf("there was neither an answer nor an end: %v", err)
	}
	if answered && last.header.Get("Sallyport-Error") != "" {
		w.refusals++
	}
	fromOrigin := answered && last.header.Get(originHeader) != ""
	if answered && !fromOrigin && last.status < 400 {
		return fmt.Sprintf("the answer is %d, of nobody", last.status)
	}
	if w.target.sallyport && answered && !fromOrigin && last.header.Get("Sallyport-Error") == "" && !builtIn(a, last) {
		return fmt.Sprintf("the answer %d has no Sallyport-Error", last.status)
	}
	said := fmt.Sprintf("the last answer is %d %.200q, %v; arrived: %v", last.status, last.body, err, arrivals)
	switch {
	case a.want == refused && fromOrigin:
		return "it was to be refused, and " + said
	case a.want == unbound && !fromOrigin:
		return "it was to pass without a credential, and " + said
	case a.want == unbound && w.keyed(arrivals, a.before()) != "":
		return "it was to pass without a credential, and has one: " + said
	case a.want == delivered && !fromOrigin:
		return "it was to come to the host with its credential, and " + said
	case a.want == delivered:
		return w.keyedOnce(a, arrivals)
	}
	return ""
}

// builtIn reports whether an answer is one that net/http's own server of HTTP/2 gives
// before anybody else sees the request.
func builtIn(a attempt, r reply) bool { return a.http2 && r.status == http.StatusBadRequest }

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// misled says whether a credential came where it may not, or a request for a path that
// is denied anywhere.
func (w *world) misled(arrivals []*arrival, path string) string {
	for _, a := range arrivals {
		c, how := w.target.finds(a.text())
		switch {
		case how == "":
		case a.place != w.bound || a.port != 443 || !a.tls || !c.serves(a.sni):
			return fmt.Sprintf("the credential %s, %s: %s", c.name, how, a)
		case a.request != nil && plainName(a.request.Host) != a.sni:
			return fmt.Sprintf("the credential %s came with another host's name: %s", c.name, a)
		}
		if path != "" && a.request != nil && leadsTo(a.request.RequestURI, path) {
			return fmt.Sprintf("what was denied arrived: %s", a)
		}
	}
	return ""
}

// before is how many requests come before the one that an attempt is about.
func (a attempt) before() int {
	if a.follow != "" {
		return 1
	}
	return len(a.messages) - 1
}

// plainName is a host without what does not tell it from others.
func plainName(host string) string {
	return strings.TrimSuffix(strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(host, ":443"), ":")), ".")
}

// keyed says which of the requests after some has a credential.
func (w *world) keyed(arrivals []*arrival, before int) string {
	var requests []*arrival
	for _, a := range arrivals {
		if a.request != nil {
			requests = append(requests, a)
		}
	}
	for _, a := range requests[min(len(requests), before):] {
		if _, how := w.target.finds(a.text()); how != "" {
			return a.String()
		}
	}
	return ""
}

// keyedOnce says how the last request is not one with the credential in its one place.
func (w *world) keyedOnce(a attempt, arrivals []*arrival) string {
	name := a.credential
	if name == "" {
		name = "api"
	}
	c, _ := w.target.credential(name)
	for i := len(arrivals) - 1; i >= 0; i-- {
		r := arrivals[i].request
		if r == nil {
			continue
		}
		if c.query != "" {
			if values := r.URL.Query()[c.query]; len(values) != 1 || values[0] != c.secret {
				return fmt.Sprintf("the parameter came %d times: %s", len(values), r.RequestURI)
			}
			return ""
		}
		if values := r.Header["Authorization"]; len(values) != 1 || values[0] != c.rendered() {
			return fmt.Sprintf("the credential is not what came: %q in %s", values, arrivals[i])
		}
		return ""
	}
	return "no request came"
}

// leadsTo reports whether a server might take a request's target for one at a path, in
// any reading.
func leadsTo(target, path string) bool {
	target, _, _ = strings.Cut(target, "?")
	for range 3 {
		target = percents.ReplaceAllStringFunc(target, func(m string) string { return string(unhex([]byte(m[1:]))) })
	}
	var kept []string
	for _, segment := range strings.FieldsFunc(target, func(r rune) bool { return r == '/' || r == '\\' }) {
		segment, _, _ = strings.Cut(segment, ";")
		segment = strings.Trim(segment, " \t\x00")
		switch segment {
		case "", ".":
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept = append(kept, strings.ToLower(segment))
		}
	}
	plain := "/" + strings.Join(kept, "/")
	return plain == path || strings.HasPrefix(plain, path+"/")
}

// speak carries out what an attempt says.
func (w *world) speak(ctx context.Context, a attempt) ([]reply, error) {
	if a.follow != "" {
		return w.followed(ctx, a)
	}
	dial := func() (net.Conn, error) { return a.door.dial(ctx, a.address) }
	if a.door.dial == nil {
		dial = func() (net.Conn, error) { return w.target.proxy(ctx) }
	}
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if !a.plain {
		protocol := "http/1.1"
		if a.http2 {
			protocol = "h2"
		}
		// The name is as the attack has it, so the certificate may be for what it means.
		secure, err := w.target.handshake(conn, &tls.Config{
			ServerName: a.sni, InsecureSkipVerify: true, NextProtos: []string{protocol}, MaxVersion: a.version, ClientSessionCache: a.sessions,
		})
		if err != nil {
			return nil, err
		}
		if a.http2 && secure.ConnectionState().NegotiatedProtocol != "h2" {
			return nil, errors.New("the target speaks no HTTP/2")
		}
		conn = secure
	}
	if a.http2 {
		return speak2(conn, a.messages)
	}
	return speak1(conn, a.messages)
}

// followed asks as a client does that goes where it is sent.
func (w *world) followed(ctx context.Context, a attempt) ([]reply, error) {
	client := w.target.client(a.door, a.http2)
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.follow, strings.NewReader("a=b"))
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return []reply{{status: response.StatusCode, reason: response.Status, header: response.Header}}, nil
}

// everyRefusal is the case that each answer of a refusal has its event.
const everyRefusal = "audit/every-refusal"

// checkAudit adds what the audit log lacks.
func (w *world) checkAudit(tried map[string]attempt, broken map[string]string) error {
	if w.target.audit == nil {
		return nil
	}
	missing := map[string]bool{}
	// Events are reported in batches, and come a little later.
	for end := time.Now().Add(4 * patience); ; time.Sleep(200 * time.Millisecond) {
		events, err := w.target.audit()
		if err != nil {
			return err
		}
		known, refusals := map[audited]bool{}, 0
		for _, e := range events {
			if e.Reason != "" {
				refusals++
			}
			known[audited{Path: e.Path, Decision: e.Decision}] = true
			known[audited{Path: e.Path, Reason: e.Reason}] = true
		}
		clear(missing)
		for name, a := range tried {
			if a.audited.Path != "" && !known[a.audited] {
				missing[name] = true
			}
		}
		if refusals < w.refusals {
			missing[everyRefusal] = true
		}
		if len(missing) == 0 || time.Now().After(end) {
			break
		}
	}
	for name := range missing {
		if broken[name] == "" {
			broken[name] = fmt.Sprintf("the audit log has no such event: %+v", tried[name].audited)
		}
	}
	if missing[everyRefusal] {
		broken[everyRefusal] = fmt.Sprintf("the audit log has fewer than the %d refusals that were answered", w.refusals)
	}
	return nil
}

// marked is a path that no other case has.
func marked(n int) string { return "/case-" + strconv.Itoa(n) }
