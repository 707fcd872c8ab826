package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// answer is what an origin answers.
type answer struct {
	status  int
	interim http.Header // of a 103 before it; nil for none
	header  http.Header
	parts   []string // of the body, each flushed
	trailer http.Header
	codings []string // of the body, in the order that they were applied
	ranges  bool     // a part of the body is given to who asks for one
}

func (a answer) body() string { return strings.Join(a.parts, "") }

func (a answer) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	if a.interim != nil {
		copyFields(header, a.interim)
		w.WriteHeader(http.StatusEarlyHints)
		clear(header)
	}
	copyFields(header, a.header)
	if a.ranges {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader([]byte(a.body())))
		return
	}
	if len(a.codings) > 0 {
		header.Set("Content-Encoding", strings.ReplaceAll(strings.Join(a.codings, ", "), "raw-", ""))
	}
	for name := range a.trailer {
		header.Add("Trailer", name)
	}
	w.WriteHeader(a.status)
	flush := http.NewResponseController(w).Flush
	for _, part := range compress(a.parts, a.codings) {
		io.WriteString(w, part) // a client that is gone needs no answer
		flush()
	}
	copyFields(header, a.trailer)
}

func copyFields(to, from http.Header) {
	for name, values := range from {
		to[name] = slices.Clone(values)
	}
}

// differs says how what a client received is not the answer; "" if it is. A body may
// have been decompressed.
func (a answer) differs(status int, interim []http.Header, header http.Header, body []byte, trailer http.Header) string {
	if status != a.status {
		return fmt.Sprintf("the status is %d, not %d", status, a.status)
	}
	if a.interim != nil && len(interim) != 1 {
		return fmt.Sprintf("there were %d interim answers", len(interim))
	}
	if a.interim != nil {
		if difference := fieldsDiffer(a.interim, interim[0]); difference != "" {
			return "of the interim answer " + difference
		}
	}
	if difference := fieldsDiffer(a.header, header); difference != "" {
		return difference
	}
	if string(body) != a.body() {
		return fmt.Sprintf("the body is %.300q, not %.300q", body, a.body())
	}
	if difference := fieldsDiffer(a.trailer, trailer); difference != "" {
		return "of the trailers " + difference
	}
	return ""
}

func fieldsDiffer(want, got http.Header) string {
	for name, values := range want {
		if other := got[http.CanonicalHeaderKey(name)]; !slices.Equal(values, other) {
			return fmt.Sprintf("field %s is %q, not %q", name, other, values)
		}
	}
	return ""
}

// place is where in an answer an encoded credential is.
type place struct {
	name string
	body bool // it is in the body, so that it may be cut, compressed, and any bytes
	make func(parts []string) answer
}

func places() []place {
	field := func(name string, status int, format string) place {
		return place{strings.ToLower(name), false, func(parts []string) answer {
			value := strings.Replace(format, "*", strings.Join(parts, ""), 1)
			return answer{status: status, header: http.Header{name: {value}}, parts: []string{"see the head\n"}}
		}}
	}
	body := func(name string, status int, kind, before, after string) place {
		return place{name, true, func(parts []string) answer {
			return answer{status: status, header: http.Header{"Content-Type": {kind}}, parts: around(before, parts, after)}
		}}
	}
	list := []place{
		field("X-Echo", 200, "*"),
		field("Link", 200, "<https://a.test/?key=*>; rel=next"),
		field("Refresh", 200, "5; url=https://a.test/?key=*"),
		field("Set-Cookie", 200, "session=*; Path=/; HttpOnly"),
		field("Content-Disposition", 200, `attachment; filename="*"`),
		field("Www-Authenticate", 401, `Bearer error="invalid_token", error_description="*"`),
		field("Location", 302, "https://a.test/callback?key=*"),
		{"several-fields", false, func(parts []string) answer {
			text := strings.Join(parts, "")
			return answer{status: 200, header: http.Header{"X-One": {text, "two", "<" + text + ">"}, "X-Two": {"a=" + text + ";"}}}
		}},
		{"early-hints", false, func(parts []string) answer {
			return answer{status: 200, interim: http.Header{"Link": {"</" + strings.Join(parts, "") + ">; rel=preload"}}, parts: []string{"ok\n"}}
		}},
		{"trailer", false, func(parts []string) answer {
			return answer{status: 200, parts: []string{"see the end\n"}, trailer: http.Header{"X-Checked": {"for " + strings.Join(parts, "")}}}
		}},
		{"grpc-status", false, func(parts []string) answer {
			return answer{
				status: 200, header: http.Header{"Content-Type": {"application/grpc"}}, parts: []string{"\x00\x00\x00\x00\x02ok"},
				trailer: http.Header{"Grpc-Status": {"16"}, "Grpc-Message": {"bad key: " + strings.Join(parts, "")}},
			}
		}},
		body("text", 200, "text/plain", "your key is ", "\n"),
		body("bare", 200, "application/octet-stream", "", ""),
		body("json", 200, "application/json", `{"headers":{"authorization":"`, `"},"url":"/"}`+"\n"),
		body("html", 200, "text/html", "<p>You sent <code>", "</code></p>\n"),
		body("form", 200, "application/x-www-form-urlencoded", "a=b&key=", "&c=d"),
		body("events", 200, "text/event-stream", "event: message\ndata: ", "\n\ndata: next\n\n"),
		body("in-the-middle", 200, "text/plain", strings.Repeat("nothing to see here. ", 2000), strings.Repeat(" nor here.", 4000)),
		body("multipart", 206, "multipart/byteranges; boundary=b", "--b\r\nContent-Range: bytes 0-99/500\r\n\r\n", "\r\n--b--\r\n"),
		{"grpc", true, func(parts []string) answer {
			size := len(strings.Join(parts, ""))
			head := string([]byte{0, 0, 0, byte(size >> 8), byte(size)})
			return answer{
				status: 200, header: http.Header{"Content-Type": {"application/grpc+proto"}}, parts: around(head, parts, "\x00\x00\x00\x00\x02ok"),
				trailer: http.Header{"Grpc-Status": {"0"}},
			}
		}},
	}
	for _, status := range []int{201, 403, 500} {
		list = append(list, body(fmt.Sprint("status-", status), status, "application/json", `{"error":"`, `"}`))
	}
	for _, status := range []int{301, 308} {
		list = append(list, place{fmt.Sprint("redirect-", status), true, func(parts []string) answer {
			return answer{status: status, header: http.Header{"Location": {"https://a.test/next"}}, parts: around("moved: ", parts, "\n")}
		}})
	}
	return list
}

// around puts text before the first part and after the last.
func around(before string, parts []string, after string) []string {
	all := slices.Clone(parts)
	all[0] = before + all[0]
	all[len(all)-1] += after
	return all
}
