package inject

import (
	"net/http"
	"net/url"
	slashed "path"
	"slices"
	"strings"
)

// canonicalRequest is the text whose hash is signed, and the list of its headers.
func canonicalRequest(r *http.Request, payload string, bare bool) (text, signed string, err error) {
	target, err := canonicalPath(r.URL.EscapedPath(), bare)
	if err != nil {
		return "", "", err
	}
	query, err := canonicalQuery(r.URL.RawQuery)
	if err != nil {
		return "", "", err
	}
	headers, signed := canonicalHeaders(r)
	return r.Method + "\n" + target + "\n" + query + "\n" + headers + "\n" + signed + "\n" + payload, signed, nil
}

// canonicalPath is a path as the service spells what was sent. S3 takes every path
// as an object's name: encoded once, nothing cleaned. Others clean it, and encode
// what was encoded already.
func canonicalPath(sent string, bare bool) (string, error) {
	if sent == "" {
		return "/", nil
	}
	if !bare {
		clean := slashed.Clean(sent)
		if clean != "/" && strings.HasSuffix(sent, "/") || strings.HasSuffix(sent, "/.") && clean != "/" || strings.HasSuffix(sent, "/..") && clean != "/" {
			clean += "/"
		}
		return escape([]byte(clean), "/"), nil
	}
	segments := strings.Split(sent, "/")
	for i, segment := range segments {
		plain, err := url.PathUnescape(segment)
		if err != nil {
			return "", unsigned(http.StatusBadRequest, "bad_target", "the path is not percent-encoded as it should be")
		}
		segments[i] = escape([]byte(plain), "")
	}
	return strings.Join(segments, "/"), nil
}

// plainQuery spells a space in the one way that every reader takes for it, so that
// what is signed is what is read.
func plainQuery(r *http.Request) error {
	r.URL.RawQuery = strings.ReplaceAll(r.URL.RawQuery, "+", "%20")
	_, err := canonicalQuery(r.URL.RawQuery)
	return err
}

// canonicalQuery is the parameters, encoded anew and sorted.
func canonicalQuery(raw string) (string, error) {
	if raw == "" {
		return "", nil
	}
	type parameter struct{ name, value string }
	var all []parameter
	for piece := range strings.SplitSeq(raw, "&") {
		if piece == "" {
			continue
		}
		name, value, _ := strings.Cut(piece, "=")
		plainName, err := url.PathUnescape(name)
		if err == nil {
			value, err = url.PathUnescape(value)
		}
		if err != nil {
			return "", unsigned(http.StatusBadRequest, "bad_target", "the query is not percent-encoded as it should be")
		}
		all = append(all, parameter{escape([]byte(plainName), ""), escape([]byte(value), "")})
	}
	slices.SortFunc(all, func(a, b parameter) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return strings.Compare(a.value, b.value)
	})
	var b strings.Builder
	for i, p := range all {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p.name + "=" + p.value)
	}
	return b.String(), nil
}

// canonicalHeaders are the fields that are signed: the host, what kind of body it is,
// all that AWS gives a meaning, and which part is asked for: so no two parts of one
// answer can hold parts of one signature.
func canonicalHeaders(r *http.Request) (text, signed string) {
	fields := map[string][]string{"host": {r.Host}}
	for name, values := range r.Header {
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "x-amz-") || lower == "content-type" || lower == "content-md5" || lower == "range" {
			fields[lower] = append(fields[lower], values...)
		}
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		b.WriteString(name + ":")
		for i, value := range fields[name] {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(oneSpace(value))
		}
		b.WriteByte('\n')
	}
	return b.String(), strings.Join(names, ";")
}

// oneSpace trims a value and makes one space of several.
func oneSpace(value string) string {
	value = strings.Trim(value, " \t")
	for strings.Contains(value, "  ") {
		value = strings.ReplaceAll(value, "  ", " ")
	}
	return value
}
