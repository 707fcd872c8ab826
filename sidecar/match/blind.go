package match

import (
	"math/bits"
	"slices"
)

// blind decides what of a stream is held back without a look at how far a
// pattern matches. Whoever can place text in a stream and see where its reads
// end would learn from that, guess by guess, how a secret goes on. So held back
// is whatever any secret could be a part of: the run of bytes at the end without
// space and control characters. Only which of those a secret holds itself, its
// length rounded up to a power of two, and whether it spells words, make a difference.
type blind struct {
	runs  [256]bool
	limit int // bytes of the longest run; a power of two
	// words says that no lineOf characters in a row of what may be broken into lines are
	// such as isWords is for. With next to no secret they are.
	words bool
}

// minLimit is the limit for all secrets that are not very long.
const minLimit = 4 << 10

func newBlind(patterns []Pattern) blind {
	var b blind
	for c := range b.runs {
		b.runs[c] = c > ' ' && c != 0x7f || c == 0 // NUL: in UTF-16
	}
	longest := minLimit
	b.words = true
	for _, p := range patterns {
		b.words = b.words && !spellsWords(p)
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
	for i > stop {
		if b.runs[buf[i-1]] {
			i--
			continue
		}
		start := b.gap(buf, i)
		if start == i {
			break
		}
		i = start
	}
	return len(buf) - max(i, stop)
}

// lineOf is how much base64 or hexadecimal at the end of a line makes the break after it
// one that may stand within it, where the line begins with something else: a word of a
// text is shorter, mostly, and a stream of lines is not to wait. Who writes a secret in
// shorter lines shows no more than this of it: the lines that follow have nothing else.
const lineOf = 16

// gap gives where the spaces and line breaks begin that end at i, if they may stand
// within base64 or hexadecimal by what precedes them, and otherwise i. What was masked
// counts as either, and what is no longer in buf as the break before a line.
func (b *blind) gap(buf []byte, i int) int {
	if afterHex(buf, i-1) {
		return i - 1
	}
	start, breaks := i, 0
	for start > 0 {
		switch c := buf[start-1]; {
		case c == ' ' || c == '\t':
			start--
		case c == '\n' || c == '\r':
			if c == '\n' || start == len(buf) || buf[start] != '\n' {
				breaks++
			}
			start--
		case start > 1 && isEscapedBreak(buf[start-2:start]):
			if c == 'n' {
				breaks++
			}
			start -= 2
		default:
			return b.within(buf, i, start, breaks)
		}
	}
	return i
}

// within gives start, where the line before it is of base64 or hexadecimal, or ends with
// enough of it and one break follows; otherwise i. Words are neither.
func (b *blind) within(buf []byte, i, start, breaks int) int {
	k := start
	for k > 0 && (isBase64(buf[k-1]) || afterHex(buf, k-1)) {
		k--
		if start-k < lineOf {
			continue
		}
		if start-k == lineOf && b.words && isWords(buf[k:start]) {
			return i
		}
		if breaks == 1 {
			return start
		}
	}
	if breaks == 0 || k == start {
		return i
	}
	if k > 0 && isEscapedBreak(buf[k-1:k+1]) {
		return start
	}
	for k > 0 && (buf[k-1] == ' ' || buf[k-1] == '\t') {
		k--
	}
	if k == 0 || buf[k-1] == '\n' || buf[k-1] == '\r' || k > 1 && isEscapedBreak(buf[k-2:k]) {
		return start
	}
	return i
}

// isWords reports whether text is of small letters, and of what stands between words in
// names and paths, as the end of a line of text often is, and base64 never.
func isWords(text []byte) bool {
	for _, c := range text {
		if !isWordly(c) {
			return false
		}
	}
	return true
}

func isWordly(c byte) bool { return c >= 'a' && c <= 'z' || c == '/' || c == '-' || c == '_' }

// spellsWords reports whether what isWords is for may be of the secret alone.
func spellsWords(p Pattern) bool {
	if !slices.ContainsFunc(p.Units, func(u *Unit) bool { return u.breaks }) {
		return false
	}
	row := 0
	for _, u := range p.Units {
		row++
		if !slices.ContainsFunc(u.edges[entry], func(e edge) bool { return e.to == exit && isWordly(e.c) }) {
			row = 0
		}
		if row == lineOf {
			return true
		}
	}
	return false
}

// isEscapedBreak reports whether two bytes are a line break as JSON writes it.
func isEscapedBreak(b []byte) bool { return b[0] == '\\' && (b[1] == 'n' || b[1] == 'r') }

// afterHex reports whether the byte at i separates bytes in hexadecimal.
func afterHex(buf []byte, i int) bool {
	return i >= 2 && (buf[i] == ' ' || buf[i] == ':') && isHex(buf[i-1]) && isHex(buf[i-2])
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
