package match

import (
	"encoding/base64"
	"strings"
	"testing"
)

func TestHoldsWhatAnySecretCouldBePartOf(t *testing.T) {
	line := strings.Repeat("QUJD", 16)
	long := strings.Repeat("x", minLimit)
	words, err := base64.StdEncoding.DecodeString("internationalization")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		secret, text string
		held         int
	}{
		{"s3cr3t-value", "", 0},
		{"s3cr3t-value", "data: hello\n\n", 0},
		{"s3cr3t-value", "data: " + line + "\n\n", 0},
		{"s3cr3t-value", "data: " + line + "\r\n\r\n", 0},
		{"s3cr3t-value", "two words", 5},
		{"s3cr3t-value", "a {\"json\":1}", 10},
		{"s3cr3t-value", "{\"json\":1}\n", 0},
		{"s3cr3t-value", "de ad be ", 9},
		{"s3cr3t-value", "in 20 ", 3},
		{"s3cr3t-value", "it is ", 0},
		{"s3cr3t-value", line + "\r\n" + line[:8], len(line) + 10},
		{"s3cr3t-value", line + "\n", len(line) + 1},
		{"s3cr3t-value", line + "\r", len(line) + 1},
		{"s3cr3t-value", "a short\nAB", 2},
		{"s3cr3t-value", "short\nAB", 8},
		{"s3cr3t-value", "short\n\nAB", 9},
		{"s3cr3t-value", "a word\nQUJD\nQU\r\nJD\n", 12},
		{"s3cr3t-value", "key: |\n  QUJD\n  QUJD\n  ", 14},
		{"s3cr3t-value", "{\"key\":\"QUJDQUJDQUJDQUJD\\n  QUJD\\n  ", 36},
		{"s3cr3t-value", "key: QUJDQUJD\n\n", 0},
		{"s3cr3t-value", "id:QUJ\n", 0},
		{"s3cr3t-value", "in words without punctuation\n", 0},
		{"s3cr3t-value", "a b: 73:6b:5f:6c:69:76\n6c:69 76\n", 27},
		{"s3cr3t-value", "hello World this is\nthe end ", 0},
		{"s3cr3t-value", strings.Repeat(" \n", 5000), 0},
		{"s3cr3t-value", "a\x00b\x00", 4},
		{"s3cr3t-value", " " + long + long, minLimit},
		{"correct horse battery", "a word or two\nand three", 9},
		{"s3cr3t-value", "see /v1/organizations/members\n", 0},
		{"s3cr3t-value", "it calls handle_incoming-requests\n", 0},
		{"s3cr3t-value", "internationalization\n", 0},
		{"s3cr3t-value", "QUJDQUJDQUJDQUJD\ninternationalization\n", 0},
		{"s3cr3t-value", "it calls handleIncomingRequests\n", 23},
		{string(words), "at /v1/internationalization\n", 25},
	}
	for _, tt := range tests {
		b := newBlind([]Pattern{{Units: Text([]byte(tt.secret))}, {Units: Base64([]byte(tt.secret), 0)}, {Units: Hex([]byte(tt.secret))}})
		if held := b.hold([]byte(tt.text)); held != tt.held {
			t.Errorf("%q: holds %d bytes of %q, want %d", tt.secret, held, tt.text, tt.held)
		}
	}
}

// The limit leaves room for every spelling, and tells of the length its order only.
func TestLimitOfWhatIsHeld(t *testing.T) {
	for _, n := range []int{8, 40, 200, 256, 257, 1000, 16 << 10} {
		b := newBlind([]Pattern{{Units: Text([]byte(strings.Repeat("k", n)))}})
		if longest := n * len("&#0000107;"); b.limit < longest || b.limit < minLimit || b.limit&(b.limit-1) != 0 {
			t.Errorf("%d bytes: limit %d", n, b.limit)
		}
	}
}
