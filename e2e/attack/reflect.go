package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// reflection is one case: a place in an answer, how the credential is written there,
// and how the answer travels.
type reflection struct {
	credential credential
	encoding   encoding
	place      place
	codings    []string
	cut        func(text string) []string // nil: one part
	cutName    string
	http2      bool   // of the client
	host       string // which tells the protocol upstream
	accept     string // that the client asks for
	width      int    // of the ranges that the client asks for; 0 for none
	refusable  bool   // a refusal to pass it on is as good
}

func (r reflection) name() string {
	parts := []string{r.place.name, r.encoding.name}
	if len(r.codings) > 0 {
		parts = append(parts, strings.Join(r.codings, "+"))
	}
	if r.accept != "" {
		parts = append(parts, "asked-for")
	}
	if r.cutName != "" {
		parts = append(parts, r.cutName)
	}
	if r.width > 0 {
		parts = append(parts, fmt.Sprint("ranges-of-", r.width))
	}
	client := "h1"
	if r.http2 {
		client = "h2"
	}
	return strings.Join(append(parts, client, r.host), "/")
}

// answer is what the origin answers if the credential is c.
func (r reflection) answer(c credential) answer {
	parts := []string{r.encoding.encode(c)}
	if r.cut != nil {
		parts = r.cut(parts[0])
	}
	a := r.place.make(parts)
	a.codings = r.codings
	a.ranges = r.width > 0
	return a
}

// canaryEncodings are cut at every offset.
var canaryEncodings = []string{"raw", "rendered", "base64-std-0", "base64-url-1", "hex-lower", "percent-upper", "json-u-lower", "html-decimal", "mixture"}

// stacks are content codings, one upon another.
var stacks = [][]string{
	{"gzip"}, {"deflate"}, {"raw-deflate"}, {"br"}, {"zstd"},
	{"gzip", "br"}, {"zstd", "gzip"}, {"deflate", "zstd"}, {"br", "br"}, {"gzip", "gzip", "gzip"}, {"br", "gzip", "zstd"},
	{"gzip", "gzip", "gzip", "gzip"},
}

// reflections are all cases of a target.
func reflections(t *target) (list []reflection) {
	all, where := encodings(), places()
	for _, name := range []string{"api", "basic"} {
		c, found := t.credential(name)
		if !found {
			continue
		}
		for _, host := range c.hosts {
			for _, http2 := range []bool{false, true} {
				straight := http2 == strings.HasPrefix(host, "h2") // no translation between the protocols
				if c.user != "" && !straight {
					continue
				}
				base := reflection{credential: c, host: host, http2: http2}
				for _, e := range all {
					if e.name == "pair" && c.user == "" {
						continue
					}
					base.encoding = e
					list = append(list, base.placed(where)...)
					if c.user != "" {
						continue
					}
					list = append(list, base.cutUp(where, c, straight)...)
					if slices.Contains(canaryEncodings, e.name) {
						list = append(list, base.compressed(where)...)
					}
				}
				base.encoding = all[0]
				for _, width := range []int{1, 2, 3, 5, 8, 13, 21, 34} {
					base.place, base.width = placeNamed(where, "text"), width
					list = append(list, base)
				}
			}
		}
	}
	return list
}

func (r reflection) placed(where []place) (list []reflection) {
	for _, p := range where {
		if p.body || !r.encoding.binary {
			r.place, r.refusable = p, p.name == "multipart" // nobody asked for parts
			list = append(list, r)
		}
	}
	return list
}

func (r reflection) compressed(where []place) (list []reflection) {
	for _, stack := range stacks {
		r.place, r.codings, r.refusable = placeNamed(where, "json"), stack, len(stack) > 3
		list = append(list, r)
		if len(stack) == 1 {
			r.accept = "gzip, deflate, br, zstd"
			list = append(list, r)
			r.accept = ""
		}
	}
	return list
}

// cutUp cuts between any two bytes; and, if it is to be at length, at each offset alone.
func (r reflection) cutUp(where []place, c credential, length bool) (list []reflection) {
	for _, p := range []string{"bare", "text", "events", "grpc"} {
		r.place, r.cutName, r.cut = placeNamed(where, p), "byte-by-byte", func(text string) []string { return strings.Split(text, "") }
		list = append(list, r)
	}
	if !length || !slices.Contains(canaryEncodings, r.encoding.name) {
		return list
	}
	for offset := 1; offset < len(r.encoding.encode(c)); offset++ {
		r.place, r.cutName, r.cut = placeNamed(where, "text"), fmt.Sprint("cut-at-", offset), func(text string) []string {
			return []string{text[:offset], text[offset:]}
		}
		list = append(list, r)
		if r.encoding.name != "raw" {
			continue
		}
		for _, name := range []string{"gzip", "br", "zstd"} {
			compressed := r
			compressed.codings = []string{name}
			list = append(list, compressed)
		}
	}
	return list
}

func placeNamed(all []place, name string) place {
	for _, p := range all {
		if p.name == name {
			return p
		}
	}
	panic("no place " + name)
}

// mirror is the origin's side: it answers as the case says that a path names, to who
// comes with the credential.
type mirror struct {
	cases []reflection
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind, number, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/reflect/"), "/")
	n, err := strconv.Atoi(number)
	if err != nil || n >= len(m.cases) {
		http.NotFound(w, r)
		return
	}
	c := m.cases[n].credential
	if r.Header.Get("Authorization") != c.rendered() {
		http.Error(w, "the credential did not come", http.StatusTeapot)
		return
	}
	if kind == "control" {
		c = c.decoy()
	}
	m.cases[n].answer(c).serve(w, r)
}

// reflect is the corpus of answers that hold the credential.
func reflect(ctx context.Context, w *world, o options, report func(result)) error {
	all := reflections(w.target)
	var cases []reflection
	for _, r := range all {
		if o.chosen(r.name()) && !(o.http1 && r.http2) {
			cases = append(cases, r)
		}
	}
	cases = sample(cases, o)
	w.mirror = &mirror{cases}
	clients := map[bool]*http.Client{}
	for _, http2 := range []bool{false, true} {
		clients[http2] = w.target.client(w.target.doors[0], http2)
		clients[http2].CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		defer clients[http2].CloseIdleConnections()
	}
	var group errgroup.Group
	group.SetLimit(4)
	for n, r := range cases {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			report(result{r.name(), r.try(ctx, clients[r.http2], n)})
			return nil
		})
	}
	return errors.Join(group.Wait(), ctx.Err())
}

// try says what is wrong: a credential that came back, or an answer that did not.
func (r reflection) try(ctx context.Context, client *http.Client, n int) string {
	got, broken := r.ask(ctx, client, "control", n, "")
	if broken != nil {
		return fmt.Sprintf("an answer without the credential does not pass: %v", broken)
	}
	refused := got.header.Get(originHeader) == "" && got.status >= 400 && r.refusable
	if difference := r.answer(r.credential.decoy()).differs(got.status, got.interim, got.header, got.body, got.trailer); difference != "" && !refused {
		return "an answer without the credential does not pass: " + difference
	}
	var all, body []byte
	if r.width == 0 {
		got, err := r.ask(ctx, client, "leak", n, "")
		if err != nil && got.status == 0 {
			return "" // nothing came
		}
		all, body = got.text(), got.body
	}
	for from := 0; r.width > 0 && from < len(r.answer(r.credential).body()); from += r.width {
		got, err := r.ask(ctx, client, "leak", n, fmt.Sprintf("bytes=%d-%d", from, from+r.width-1))
		if err != nil {
			return err.Error()
		}
		all = append(all, got.body...)
		if got.status != http.StatusPartialContent {
			break
		}
	}
	for _, text := range [][]byte{all, body} { // what is compressed has to begin where it does
		if _, how := finds(text, r.credential.secret); how != "" {
			return fmt.Sprintf("the client received the credential, %s: %.500q", how, text)
		}
	}
	return ""
}

// reply is what a client received.
type reply struct {
	status  int
	reason  string
	interim []http.Header
	header  http.Header
	body    []byte
	trailer http.Header
}

func (r reply) text() []byte {
	return received(&http.Response{Status: r.reason, Header: r.header, Trailer: r.trailer}, r.interim, r.body)
}

func (r reflection) ask(ctx context.Context, client *http.Client, kind string, n int, span string) (got reply, err error) {
	var mu sync.Mutex
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(_ int, header textproto.MIMEHeader) error {
		mu.Lock()
		defer mu.Unlock()
		got.interim = append(got.interim, http.Header(header).Clone())
		return nil
	}})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://%s/reflect/%s/%d", r.host, kind, n), nil)
	if err != nil {
		return got, err
	}
	if r.accept != "" {
		request.Header.Set("Accept-Encoding", r.accept)
	}
	if span != "" {
		request.Header.Set("Range", span)
	}
	response, err := client.Do(request)
	if err != nil {
		return got, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	mu.Lock()
	defer mu.Unlock()
	got.status, got.reason, got.header, got.body, got.trailer = response.StatusCode, response.Status, response.Header, body, response.Trailer
	if err == nil && kind == "control" {
		got.body, err = r.unpack(response.Header, body)
	}
	return got, err
}

// unpack takes off the codings that a body still has.
func (r reflection) unpack(header http.Header, body []byte) ([]byte, error) {
	if header.Get("Content-Encoding") == "" {
		return body, nil
	}
	for i := len(r.codings) - 1; i >= 0; i-- {
		reader, err := codingNamed(r.codings[i]).open(bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		if body, err = io.ReadAll(reader); err != nil {
			return nil, err
		}
	}
	return body, nil
}
