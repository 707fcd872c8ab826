package redact

import (
	"mime"
	"net/http"
	"strings"
)

// foreign reports whether a body says that it is in a character set that spells letters
// otherwise than ASCII and UTF-16 do, so that a secret in it would not be known. What
// chooses one may be a parameter of the query.
func foreign(h http.Header) bool {
	for _, value := range h["Content-Type"] {
		if usual(value) {
			continue
		}
		_, parameters, err := mime.ParseMediaType(value)
		charset := parameters["charset"]
		if err != nil { // which somebody reads all the same
			_, charset, _ = strings.Cut(strings.ToLower(value), "charset=")
		}
		if isForeign(charset) {
			return true
		}
	}
	return false
}

// usual reports whether a Content-Type says no character set, or UTF-8 alone.
func usual(contentType string) bool {
	_, parameters, found := strings.Cut(contentType, ";")
	return !found || strings.Count(parameters, "=") == 1 && len(parameters) > 6 && strings.EqualFold(parameters[len(parameters)-6:], "=utf-8")
}

// foreignNames are how the names of such sets begin in IANA's list of them, without
// punctuation: UTF-7, UTF-32, what compresses Unicode, and EBCDIC by its name.
var foreignNames = []string{"utf7", "unicode11utf7", "csutf7", "csunicode11utf7", "utf32", "csutf32", "ucs4", "iso10646ucs4", "csucs4", "scsu", "csscsu", "bocu", "csbocu", "ebcdic", "csebcdic"}

func isForeign(charset string) bool {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(alphanumeric, r) {
			return r
		}
		return -1
	}, strings.ToLower(charset))
	name = strings.TrimPrefix(name, "x")
	for _, begin := range foreignNames {
		if strings.HasPrefix(name, begin) {
			return true
		}
	}
	for _, maker := range []string{"csibm", "ibm", "ccsid", "cp"} {
		if page, ok := strings.CutPrefix(name, maker); ok {
			return strings.Contains(ebcdicPages, " "+strings.TrimLeft(page, "0")+" ")
		}
	}
	return false
}

const alphanumeric = "abcdefghijklmnopqrstuvwxyz0123456789"

// ebcdicPages are the code pages of IBM's that are EBCDIC.
const ebcdicPages = " 37 38 273 274 275 277 278 280 281 284 285 290 297 420 423 424 500 833 838 870 871 875 880 905 918 924 930 933 935 937 939 " +
	"1025 1026 1047 1097 1112 1122 1123 1130 1132 1137 1140 1141 1142 1143 1144 1145 1146 1147 1148 1149 1153 1154 1155 1156 1157 1158 1160 1164 1364 1371 1388 1390 1399 "
