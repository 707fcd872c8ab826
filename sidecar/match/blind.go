package match

import "math/bits"

// blind decides what of a stream is held back without a look at how far a
// pattern matches. Whoever can place text in a stream and see where its reads
// end would learn from that, guess by guess, how a secret goes on. So held back
// is whatever any secret could be a part of: the run of bytes at the end without
// space and control characters. Only which of those a secret holds itself, and
// its length rounded up to a power of two, make a difference.
type blind struct {
	runs  [256]bool
	limit int // bytes of the longest run; a power of two
}

// minLimit is the limit for all secrets that are not very long.
const minLimit = 4 << 10

func newBlind(patterns []Pattern) blind {
	var b blind
	for c := range b.runs {
		b.runs[c] = c > ' ' && c != 0x7f || c == 0 // NUL: in UTF-16
	}
	longest := minLimit
	for _, p := range patterns {
		long := 0
		for _, u := range p.Units {
			long += u.long
			for _, e := range u.edges[entry] {
				if e.to == exit {
					b.runs[e.c] = true
				}
			}
		}
		longest = max(longest, long)
	}
	b.limit = 1 << bits.Len(uint(longest-1))
	return b
}

// hold gives the number of bytes at the end of buf that any secret could be a
// part of.
func (b *blind) hold(buf []byte) int {
	stop := max(0, len(buf)-b.limit)
	i := len(buf)
	for i > stop && (b.runs[buf[i-1]] || within(buf, i-1)) {
		i--
	}
	return len(buf) - i
}

// lineOf is how much base64 makes a line break one that may stand within it.
const lineOf = 32

// within reports whether the byte at i is a space between two bytes in
// hexadecimal or a line break in base64, by what precedes it. What was masked
// counts as either.
func within(buf []byte, i int) bool {
	switch buf[i] {
	case ' ':
		return i >= 2 && isHex(buf[i-1]) && isHex(buf[i-2])
	case '\r', '\n':
		if i > 0 && buf[i] == '\n' && buf[i-1] == '\r' {
			i--
		}
		if i < lineOf {
			return false
		}
		for _, c := range buf[i-lineOf : i] {
			if !isBase64(c) {
				return false
			}
		}
		return true
	}
	return false
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c == '*'
}

func isBase64(c byte) bool {
	switch c {
	case '+', '/', '-', '_', '=', '*':
		return true
	}
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
