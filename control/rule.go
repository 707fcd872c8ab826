package control

import (
	"fmt"
	"regexp"
	"strings"
)

// RuleKind is the place a rule injects into.
type RuleKind string

const (
	RuleHeader  RuleKind = "header"
	RuleDefault RuleKind = "default"
	RuleQuery   RuleKind = "query"
	RulePath    RuleKind = "path"
	RuleBasic   RuleKind = "basic"
	RuleCookie  RuleKind = "cookie"
)

// Rule says where material goes in a request. Its text form, in JSON and on the
// command line, is one of
//
//	bearer                    short for header:Authorization: Bearer {{token}}
//	basic                     RFC 7617 with the credential's username
//	header:NAME: TEMPLATE     TEMPLATE holds {{token}}, or is a fixed text
//	default:NAME: TEXT        a header that is set where the client sent none
//	query:NAME
//	cookie:NAME               one cookie; the client's others are left
//	path:TEMPLATE             TEMPLATE holds {{token}} and {{path}}
//	sigv4, client_cert        of the auth kinds of that name
type Rule struct {
	Kind     RuleKind
	Name     string // of a header, query parameter or cookie
	Template string // of a header or path; the text of a default
}

const (
	tokenSlot = "{{token}}"
	pathSlot  = "{{path}}"
)

var (
	fieldName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$") // RFC 9110 section 5.1
	queryName = regexp.MustCompile(`^[A-Za-z0-9._~-]+$`)            // RFC 3986 unreserved
	pathText  = regexp.MustCompile(`^[A-Za-z0-9._~!$&'()*+,;=:@/%-]*$`)
)

// unruly are the header fields that frame or route a message. Injecting into
// one would break the request or steer it elsewhere.
var unruly = map[string]bool{
	"connection": true, "content-encoding": true, "content-length": true, "expect": true, "host": true, "keep-alive": true,
	"proxy-connection": true, "range": true, "te": true, "trailer": true, "transfer-encoding": true, "upgrade": true,
}

// ParseRule reads a rule's text form.
func ParseRule(s string) (Rule, error) {
	kind, rest, found := strings.Cut(s, ":")
	switch {
	case s == "bearer":
		return Rule{Kind: RuleHeader, Name: "Authorization", Template: "Bearer " + tokenSlot}, nil
	case s == "basic":
		return Rule{Kind: RuleBasic}, nil
	case s == string(RuleSigV4) || s == string(RuleClientCert):
		return Rule{Kind: RuleKind(s)}, nil
	case found && kind == "header":
		return parseHeaderRule(rest)
	case found && kind == "default":
		return parseDefaultRule(rest)
	case found && kind == "query":
		if !queryName.MatchString(rest) {
			return Rule{}, Errorf(CodeInvalid, "inject rule %q: the parameter's name is made of letters, digits, '-', '.', '_' and '~'", s)
		}
		return Rule{Kind: RuleQuery, Name: rest}, nil
	case found && kind == "cookie":
		if !fieldName.MatchString(rest) {
			return Rule{}, Errorf(CodeInvalid, "inject rule %q: that is no name of a cookie (RFC 6265 section 4.1.1)", s)
		}
		return Rule{Kind: RuleCookie, Name: rest}, nil
	case found && kind == "path":
		return parsePathRule(rest)
	}
	return Rule{}, Errorf(CodeInvalid, "inject rule %q is none of: bearer, basic, header:NAME: TEMPLATE, default:NAME: TEXT, query:NAME, cookie:NAME, path:TEMPLATE", s)
}

func parseHeaderRule(s string) (Rule, error) {
	name, template, found := cutField(s)
	if !found {
		return Rule{}, Errorf(CodeInvalid, "inject rule \"header:%s\": want header:NAME: TEMPLATE, as in header:X-Api-Key: {{token}}", s)
	}
	if err := checkField(RuleHeader, s, name, template); err != nil {
		return Rule{}, err
	}
	if err := checkSlots("header", template, append([]string{tokenSlot}, signatureSlots...)...); err != nil {
		return Rule{}, err
	}
	return Rule{Kind: RuleHeader, Name: name, Template: template}, nil
}

func parseDefaultRule(s string) (Rule, error) {
	name, text, found := cutField(s)
	if !found || text == "" {
		return Rule{}, Errorf(CodeInvalid, "inject rule \"default:%s\": want default:NAME: TEXT, as in default:Notion-Version: 2022-06-28", s)
	}
	if err := checkField(RuleDefault, s, name, text); err != nil {
		return Rule{}, err
	}
	if strings.Contains(text, "{{") || strings.Contains(text, "}}") {
		return Rule{}, Errorf(CodeInvalid, "inject rule \"default:%s\": a default holds no {{token}}, since a client could send its own text in the place of the secret; use header:NAME: {{token}}", s)
	}
	return Rule{Kind: RuleDefault, Name: name, Template: text}, nil
}

// cutField reads NAME: TEXT.
func cutField(s string) (name, text string, ok bool) {
	name, text, found := strings.Cut(s, ":")
	return name, strings.TrimSpace(text), found && fieldName.MatchString(name)
}

// checkField refuses what no rule of s may set.
func checkField(kind RuleKind, s, name, text string) error {
	switch {
	case unruly[strings.ToLower(name)]:
		return Errorf(CodeInvalid, "inject rule \"%s:%s\": %s frames or routes the request, so no rule may set it", kind, s, name)
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }):
		return Errorf(CodeInvalid, "inject rule \"%s:%s\": the template has a character outside printable ASCII", kind, s)
	}
	return nil
}

func parsePathRule(template string) (Rule, error) {
	literal := strings.NewReplacer(tokenSlot, "", pathSlot, "").Replace(template)
	switch {
	case !strings.HasPrefix(template, "/"):
		return Rule{}, Errorf(CodeInvalid, "inject rule \"path:%s\": the template begins with /", template)
	case !strings.Contains(template, tokenSlot) || strings.Count(template, pathSlot) != 1:
		return Rule{}, Errorf(CodeInvalid, "inject rule \"path:%s\": the template holds {{token}} and, once, {{path}}, as in /bot{{token}}/{{path}}", template)
	}
	if err := checkSlots("path", template, tokenSlot, pathSlot); err != nil {
		return Rule{}, err
	}
	if !pathText.MatchString(literal) {
		return Rule{}, Errorf(CodeInvalid, "inject rule \"path:%s\": a character that a path can't hold (RFC 3986 section 3.3); percent-encode it", template)
	}
	return Rule{Kind: RulePath, Template: template}, nil
}

// checkSlots refuses {{…}} that nobody would fill, so that a misspelt {{tokn}}
// is not sent as text.
func checkSlots(kind, template string, known ...string) error {
	rest := template
	for _, slot := range known {
		rest = strings.ReplaceAll(rest, slot, "")
	}
	if strings.Contains(rest, "{{") || strings.Contains(rest, "}}") {
		return Errorf(CodeInvalid, "inject rule \"%s:%s\": the slots are %s", kind, template, strings.Join(known, ", "))
	}
	return nil
}

// Holds reports whether the rule puts the token, or what is made of it, anywhere.
func (r Rule) Holds() bool {
	return r.Signs() || r.Kind == RuleQuery || r.Kind == RuleBasic || r.Kind == RuleCookie || strings.Contains(r.Template, tokenSlot)
}

// String is the rule's text form.
func (r Rule) String() string {
	switch r.Kind {
	case RuleHeader:
		if r.Name == "Authorization" && r.Template == "Bearer "+tokenSlot {
			return "bearer"
		}
		return fmt.Sprintf("header:%s: %s", r.Name, r.Template)
	case RuleDefault:
		return fmt.Sprintf("default:%s: %s", r.Name, r.Template)
	case RuleQuery:
		return "query:" + r.Name
	case RuleCookie:
		return "cookie:" + r.Name
	case RulePath:
		return "path:" + r.Template
	}
	return string(r.Kind)
}

func (r Rule) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r *Rule) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRule(string(text))
	return err
}
