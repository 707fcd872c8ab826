package control

import (
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
)

// MintAction is what becomes of the new secrets that a service hands out.
type MintAction string

const (
	MintAllow   MintAction = "allow"   // the agent may see them
	MintRefuse  MintAction = "refuse"  // the request is not sent
	MintStrip   MintAction = "strip"   // they are taken out of the answer
	MintCapture MintAction = "capture" // they are stored, and the agent gets their placeholders
)

// Mint is a rule about the requests that make a service hand out new secrets:
// OAuth token endpoints, create-key calls, logins. The first that fits decides.
// Its text form, in JSON and on the command line, is
//
//	ACTION [METHOD,…] /PATH [PLACE…] [name=SUFFIX] [hosts=HOST,…] [ttl=TTL] [inject=RULE]
//
// In PATH, * is any run of characters within a segment, and ** at the end any
// number of segments. A PLACE is json:/POINTER (RFC 6901), cookie:NAME (of
// Set-Cookie) or header:NAME; with ? at its end an answer of success may lack it,
// with strip: before it a rule that captures takes it out. The rest is for
// capture: what the new credentials' names end in, where they may be sent (else
// where their origin may), for how long (a pointer to seconds in the answer, or a
// duration), and how, which goes on to the end of the text.
type Mint struct {
	Action  MintAction
	Methods []string // empty: any
	Path    string
	Places  []MintPlace
	Name    string        // empty: as the place is called
	Hosts   []string      // empty: those of the credential
	TTL     time.Duration // 0: as TTLAt says, or DefaultMintTTL
	TTLAt   string        // JSON pointer; empty: none
	Inject  *Rule         // nil: as Mint.Rule says
}

// MintPlaceKind is the kind of a MintPlace.
type MintPlaceKind string

const (
	MintJSON   MintPlaceKind = "json"
	MintCookie MintPlaceKind = "cookie"
	MintHeader MintPlaceKind = "header"
)

// MintPlace is where in an answer a new secret stands.
type MintPlace struct {
	Kind     MintPlaceKind
	Name     string // JSON pointer, or name of the cookie or header
	Optional bool   // an answer of success without it is one too
	Strip    bool   // it is taken out, though the rule captures
}

const (
	// DefaultMintTTL is how long a captured secret serves of which nobody says it.
	DefaultMintTTL = 24 * time.Hour
	// MaxMintTTL bounds what anybody says.
	MaxMintTTL = 30 * 24 * time.Hour
	// MaxMints bounds the rules of a credential, MaxMintPlaces the places of a rule.
	MaxMints      = 64
	MaxMintPlaces = 8
)

var (
	methodName  = regexp.MustCompile(`^[A-Z]+$`)
	mintSuffix  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?$`)
	jsonPointer = regexp.MustCompile(`^(/([^~/]|~[01])*)+$`) // RFC 6901 section 3; the whole document is no secret
	mintOptions = []string{"name=", "hosts=", "ttl=", "inject="}
)

// ParseMint reads a rule's text form. What its path may be is api.ParseMintPath's
// to say, of hosts api.ParseHostPattern's.
func ParseMint(text string) (Mint, error) {
	m := Mint{}
	rest := strings.TrimSpace(text)
	if strings.ContainsFunc(rest, func(r rune) bool { return r != ' ' && (unicode.IsSpace(r) || unicode.IsControl(r)) }) {
		return m, mintErrorf(text, "its fields are parted by spaces alone, and it has no control character")
	}
	next := func() (field string) {
		field, rest, _ = strings.Cut(rest, " ")
		rest = strings.TrimSpace(rest)
		return field
	}
	m.Action = MintAction(next())
	switch m.Action {
	case MintAllow, MintRefuse, MintStrip, MintCapture:
	default:
		return m, mintErrorf(text, "it begins with allow, refuse, strip or capture")
	}
	field := next()
	if !strings.HasPrefix(field, "/") && field != "" {
		m.Methods = strings.Split(field, ",")
		for _, method := range m.Methods {
			if !methodName.MatchString(method) {
				return m, mintErrorf(text, "%q is no method in capitals", method)
			}
		}
		field = next()
	}
	if !strings.HasPrefix(field, "/") {
		return m, mintErrorf(text, "want ACTION [METHOD,…] /PATH, as in 'capture POST /oauth/token json:/access_token ttl=/expires_in'")
	}
	m.Path = field
	for rest != "" {
		if rule, found := strings.CutPrefix(rest, "inject="); found {
			parsed, err := ParseRule(rule)
			if err != nil {
				return m, mintErrorf(text, "%v", err)
			}
			m.Inject, rest = &parsed, ""
			break
		}
		field := next()
		if err := m.option(field); err != nil {
			return m, mintErrorf(text, "%v", err)
		}
	}
	return m, m.check(text)
}

// option reads one of the fields after the path.
func (m *Mint) option(field string) error {
	for _, name := range mintOptions {
		value, found := strings.CutPrefix(field, name)
		switch {
		case !found:
			continue
		case name == "name=" && !mintSuffix.MatchString(value):
			return Errorf(CodeInvalid, "the name %q is made of at most 16 small letters, digits and hyphens", value)
		case name == "name=":
			m.Name = value
		case name == "hosts=":
			m.Hosts = strings.Split(value, ",")
		case strings.HasPrefix(value, "/"):
			if !jsonPointer.MatchString(value) {
				return Errorf(CodeInvalid, "%q is no JSON pointer (RFC 6901)", value)
			}
			m.TTLAt = value
		default:
			var err error
			if m.TTL, err = time.ParseDuration(value); err != nil || m.TTL < time.Second || m.TTL > MaxMintTTL {
				return Errorf(CodeInvalid, "ttl=%s: want a JSON pointer as in ttl=/expires_in, or a duration from 1s to %s", value, MaxMintTTL)
			}
		}
		return nil
	}
	place, err := parseMintPlace(field)
	m.Places = append(m.Places, place)
	return err
}

func parseMintPlace(text string) (MintPlace, error) {
	p := MintPlace{}
	rest, strip := strings.CutPrefix(text, "strip:")
	rest, optional := strings.CutSuffix(rest, "?")
	kind, name, _ := strings.Cut(rest, ":")
	p = MintPlace{Kind: MintPlaceKind(kind), Name: name, Optional: optional, Strip: strip}
	switch {
	case p.Kind == MintJSON && jsonPointer.MatchString(name),
		p.Kind == MintCookie && fieldName.MatchString(name),
		p.Kind == MintHeader && fieldName.MatchString(name) && !unruly[strings.ToLower(name)] && !strings.EqualFold(name, "Set-Cookie"):
		return p, nil
	}
	return p, Errorf(CodeInvalid, "%q is none of json:/POINTER, cookie:NAME, header:NAME, name=, hosts=, ttl=, inject=", text)
}

// check refuses rules that would do nothing of what they say.
func (m *Mint) check(text string) error {
	stripped := func(p MintPlace) bool { return p.Strip }
	for i, p := range m.Places {
		if slices.ContainsFunc(m.Places[:i], func(q MintPlace) bool { return q.Kind == p.Kind && q.Name == p.Name }) {
			return mintErrorf(text, "%s is there twice", p)
		}
	}
	switch {
	case len(m.Places) > MaxMintPlaces:
		return mintErrorf(text, "it has more than %d places", MaxMintPlaces)
	case m.Action == MintAllow && len(m.Places) > 0:
		return mintErrorf(text, "what is allowed has no place")
	case (m.Action == MintStrip || m.Action == MintCapture) && len(m.Places) == 0:
		return mintErrorf(text, "say where the secret stands in the answer, as in json:/access_token")
	case m.Action != MintCapture && slices.ContainsFunc(m.Places, stripped):
		return mintErrorf(text, "strip: is for places of a rule that captures")
	case m.Action == MintCapture && !slices.ContainsFunc(m.Places, func(p MintPlace) bool { return !p.Strip }):
		return mintErrorf(text, "it captures nothing; let it begin with strip")
	case m.Action != MintCapture && (m.Name != "" || len(m.Hosts) > 0 || m.TTL != 0 || m.TTLAt != "" || m.Inject != nil):
		return mintErrorf(text, "name=, hosts=, ttl= and inject= are for capture")
	case m.TTL != 0 && m.TTLAt != "":
		return mintErrorf(text, "it has two ttl=")
	case m.Inject != nil && (!m.Inject.Holds() || m.Inject.Signs() || m.Inject.Kind == RuleBasic || m.Inject.Kind == RulePath):
		return mintErrorf(text, "what is captured is injected by bearer, header:NAME: TEMPLATE with {{token}}, query:NAME or cookie:NAME")
	}
	return nil
}

func mintErrorf(text, format string, args ...any) error {
	return Errorf(CodeInvalid, "the mint rule %q: "+format, append([]any{text}, args...)...)
}

// Rule says how a secret captured at p is injected.
func (m Mint) Rule(p MintPlace) Rule {
	switch {
	case m.Inject != nil:
		return *m.Inject
	case p.Kind == MintCookie:
		return Rule{Kind: RuleCookie, Name: p.Name}
	case p.Kind == MintHeader:
		return Rule{Kind: RuleHeader, Name: p.Name, Template: tokenSlot}
	}
	return Rule{Kind: RuleHeader, Name: "Authorization", Template: "Bearer " + tokenSlot}
}

// Suffix is what the name of a credential captured at p ends in, but for what
// makes it unique.
func (m Mint) Suffix(p MintPlace) string {
	if m.Name != "" {
		return m.Name
	}
	last := strings.ToLower(p.Name[strings.LastIndexByte(p.Name, '/')+1:])
	suffix := strings.Trim(notInSuffix.ReplaceAllString(last, "-"), "-")
	if suffix = strings.TrimRight(suffix[:min(len(suffix), 16)], "-"); suffix == "" {
		return "token"
	}
	return suffix
}

var notInSuffix = regexp.MustCompile(`[^a-z0-9]+`)

// String is the place's text form.
func (p MintPlace) String() string {
	text := string(p.Kind) + ":" + p.Name
	if p.Strip {
		text = "strip:" + text
	}
	if p.Optional {
		text += "?"
	}
	return text
}

// String is the rule's text form.
func (m Mint) String() string {
	fields := []string{string(m.Action)}
	if len(m.Methods) > 0 {
		fields = append(fields, strings.Join(m.Methods, ","))
	}
	fields = append(fields, m.Path)
	for _, p := range m.Places {
		fields = append(fields, p.String())
	}
	if m.Name != "" {
		fields = append(fields, "name="+m.Name)
	}
	if len(m.Hosts) > 0 {
		fields = append(fields, "hosts="+strings.Join(m.Hosts, ","))
	}
	if m.TTLAt != "" {
		fields = append(fields, "ttl="+m.TTLAt)
	}
	if m.TTL != 0 {
		fields = append(fields, "ttl="+m.TTL.String())
	}
	if m.Inject != nil {
		fields = append(fields, "inject="+m.Inject.String())
	}
	return strings.Join(fields, " ")
}

func (m Mint) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

func (m *Mint) UnmarshalText(text []byte) (err error) {
	*m, err = ParseMint(string(text))
	return err
}
