package inject

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// The example of S3's manual.
func TestChunksPublished(t *testing.T) {
	key := derived("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1", "s3")
	signer := &chunkSigner{key: key, at: "20130524T000000Z", place: "20130524/us-east-1/s3/aws4_request", previous: "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"}
	body := func(signatures ...string) string {
		return "10000;chunk-signature=" + signatures[0] + "\r\n" + strings.Repeat("a", 65536) + "\r\n" +
			"400;chunk-signature=" + signatures[1] + "\r\n" + strings.Repeat("a", 1024) + "\r\n" +
			"0;chunk-signature=" + signatures[2] + "\r\n\r\n"
	}
	dummy := strings.Repeat("0", 64)
	c := newRechunker(io.NopCloser(strings.NewReader(body(dummy, dummy, dummy))), signer, false, &loan{budget: NewBudget(1 << 20)})
	got, err := io.ReadAll(c)
	want := body("ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648", "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9")
	if err != nil || string(got) != want {
		t.Errorf("%v: %q", err, bytes.ReplaceAll(got, []byte("aaaa"), nil))
	}
}

func rechunk(body string, trailer bool, wrap func(io.Reader) io.Reader) (string, error) {
	signer := &chunkSigner{key: []byte("key"), at: "20130524T000000Z", place: "scope", previous: "seed"}
	got, err := io.ReadAll(newRechunker(io.NopCloser(wrap(strings.NewReader(body))), signer, trailer, &loan{budget: NewBudget(4 << 20)}))
	return string(got), err
}

// Nothing that two readers could take for different chunks goes out to its end.
func TestChunksRefused(t *testing.T) {
	const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
	line := func(size string) string { return size + ";chunk-signature=" + zeros + "\r\n" }
	good := line("3") + "abc\r\n" + line("0") + "\r\n"
	trailing := line("3") + "abc\r\n" + line("0") + "x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:" + zeros + "\r\n\r\n"
	for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader} {
		for _, tt := range []struct {
			body    string
			trailer bool
		}{{good, false}, {trailing, true}} {
			got, err := rechunk(tt.body, tt.trailer, wrap)
			if err != nil || len(got) != len(tt.body) || strings.Contains(got, zeros) || strings.Contains(got, ": ") {
				t.Errorf("%q: %v", got, err)
			}
		}
		for name, body := range map[string]string{
			"more after it":            good + "x",
			"another after it":         good + good,
			"cut in a line":            good[:10],
			"cut in a chunk":           good[:len(line("3"))+1],
			"cut before its last":      line("3") + "abc\r\n",
			"cut at its end":           good[:len(good)-1],
			"empty":                    "",
			"no signature":             "3\r\nabc\r\n0\r\n\r\n",
			"a short signature":        "3;chunk-signature=00\r\nabc\r\n" + line("0") + "\r\n",
			"another extension":        "3;a=b;chunk-signature=" + zeros + "\r\nabc\r\n" + line("0") + "\r\n",
			"a longer chunk":           line("3") + "abcd\r\n" + line("0") + "\r\n",
			"a shorter chunk":          line("3") + "ab\r\n" + line("0") + "\r\n",
			"a sign":                   line("+3") + "abc\r\n" + line("0") + "\r\n",
			"0x":                       line("0x3") + "abc\r\n" + line("0") + "\r\n",
			"a space":                  line(" 3") + "abc\r\n" + line("0") + "\r\n",
			"a long number":            line("000000003") + "abc\r\n" + line("0") + "\r\n",
			"bare LF":                  strings.ReplaceAll(good, "\r\n", "\n"),
			"CR in a line":             "3;chunk-signature=" + zeros[1:] + "\r\r\nabc\r\n" + line("0") + "\r\n",
			"a huge chunk":             line("fffffff0") + "abc\r\n",
			"trailers without a place": trailing,
		} {
			got, err := rechunk(body, false, wrap)
			if c := code(err); c != "malformed_chunks" && c != "body_too_long_to_sign" || strings.HasSuffix(got, "\r\n\r\n") {
				t.Errorf("%s: %q: %v", name, got, err)
			}
		}
		for name, body := range map[string]string{
			"no trailers":       good,
			"unsigned trailers": line("0") + "a:b\r\n\r\n",
			"more after them":   trailing + "x",
			"more fields after": line("0") + "x-amz-trailer-signature:" + zeros + "\r\na:b\r\n\r\n",
			"many":              line("0") + strings.Repeat("a:b\r\n", 100) + "x-amz-trailer-signature:" + zeros + "\r\n\r\n",
		} {
			if got, err := rechunk(body, true, wrap); code(err) != "malformed_chunks" || strings.HasSuffix(got, "\r\n\r\n") {
				t.Errorf("%s: %q: %v", name, got, err)
			}
		}
	}
}

// Whatever a client sends in chunks, what goes out to its end is the same chunks, of
// the same length, with signatures of ours.
func FuzzChunks(f *testing.F) {
	const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
	f.Add("3;chunk-signature="+zeros+"\r\nabc\r\n0;chunk-signature="+zeros+"\r\n\r\n", false)
	f.Add("0;chunk-signature="+zeros+"\r\na:b\r\nx-amz-trailer-signature:"+zeros+"\r\n\r\n", true)
	f.Fuzz(func(t *testing.T, body string, trailer bool) {
		got, err := rechunk(body, trailer, func(r io.Reader) io.Reader { return r })
		if err != nil {
			return
		}
		if len(got) != len(body) {
			t.Fatalf("%q became %q", body, got)
		}
		again, err := rechunk(got, trailer, iotest.OneByteReader)
		if err != nil || again != got {
			t.Fatalf("%q is not what is read of it: %q, %v", got, again, err)
		}
	})
}
