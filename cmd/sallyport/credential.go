package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"sallyport/cmd/sallyport/client"
	"sallyport/control"
)

type credentialCmd struct {
	Add     credentialAddCmd     `cmd:"" help:"Store a credential."`
	Set     credentialSetCmd     `cmd:"" help:"Change a credential's limits, its settings, or what becomes of new secrets that its service hands out."`
	Show    credentialShowCmd    `cmd:"" help:"Show a credential with its limits, never its secret."`
	Rotate  credentialRotateCmd  `cmd:"" help:"Store a new version of a credential's secret."`
	Retire  credentialRetireCmd  `cmd:"" help:"End the use of the version before the current one, in running sandboxes too."`
	Test    credentialTestCmd    `cmd:"" help:"Have the control plane send one request with a credential, and say how the service answered."`
	Refresh credentialRefreshCmd `cmd:"" help:"Read a secret anew that lies in a source, and make a version of it."`
	Login   credentialLoginCmd   `cmd:"" help:"Let a person allow in a browser what a credential is for; no token comes to this machine's user."`
	List    credentialListCmd    `cmd:"" help:"List credentials, never their secrets."`
	Rm      credentialRmCmd      `cmd:"" help:"Destroy a credential."`
}

type credentialAddCmd struct {
	Vault          string            `required:"" placeholder:"VAULT" help:"The vault to store it in."`
	Name           string            `required:"" placeholder:"NAME" help:"Its name; the agent's placeholder for it is vault:NAME."`
	Service        string            `placeholder:"SERVICE" help:"A known service, which gives the hosts and inject rules ('sallyport service list')."`
	Host           []string          `sep:"none" placeholder:"HOST" help:"A host it may be sent to: api.example.com, *.example.com (one label) or either with :PORT. May be repeated."`
	Inject         []string          `sep:"none" placeholder:"RULE" help:"How it is put into a request: bearer, basic, 'header:NAME: TEMPLATE' with {{token}}, 'default:NAME: TEXT' where the client sent none, query:NAME, cookie:NAME, or path:TEMPLATE with {{token}} and {{path}}. May be repeated."`
	Auth           string            `enum:"${kinds}," default:"" placeholder:"KIND" help:"What the secret is, as docs/auth.md says: ${kinds}."`
	Setting        map[string]string `mapsep:"none" placeholder:"NAME=VALUE" help:"What the auth kind has to know beside the secret. May be repeated."`
	Username       string            `placeholder:"USER" help:"The user name of basic authentication."`
	Stray          string            `enum:"block,literal,redact," default:"" placeholder:"WHAT" help:"What becomes of a placeholder where nothing is injected: block, literal or redact."`
	AllowHTTP      bool              `name:"allow-http" help:"Inject over plain HTTP too, which anybody on the way can read."`
	AllowWebsocket *bool             `name:"allow-websocket" negatable:"" help:"Open WebSockets with it; for a known service its own default holds."`
	Mint           []string          `sep:"none" placeholder:"RULE" help:"What becomes of new secrets that the service hands out, as in 'credential set'. May be repeated."`
	SecretFile     string            `placeholder:"FILE" help:"File with the secret, - for standard input. One newline at its end is dropped."`
	From           string            `placeholder:"SOURCE:PATH#FIELD" help:"Where the secret lies in a source of the vault, in the place of --secret-file: SOURCE:PATH as a whole, #FIELD one field, #NAME=FIELD,… a JSON object."`
	dueFlag        `embed:""`
	limitFlags     `embed:""`
}

func (cmd *credentialAddCmd) Run(ctx context.Context, c *cli) error {
	credential, err := cmd.credential()
	if err != nil {
		return err
	}
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	if credential.From == nil {
		if credential.Secret, err = c.readSecret(cmd.SecretFile, credential.Auth); err != nil {
			return err
		}
		defer credential.Secret.Wipe()
	}
	stored, err := api.CreateCredential(ctx, team, cmd.Vault, credential)
	if err != nil {
		return err
	}
	c.warnOf(stored.Warning)
	return c.say(stored, "credential %s stored in vault %s for %s; its placeholder is vault:%s",
		stored.Name, stored.Vault, strings.Join(stored.Hosts, ", "), stored.Name)
}

// credential checks what can be checked before a secret is read.
func (cmd *credentialAddCmd) credential() (client.NewCredential, error) {
	none := client.NewCredential{}
	switch {
	case cmd.Service == "" && len(cmd.Host) == 0:
		return none, withHint(usagef("credential add needs --service or --host"), "sallyport service list shows the services that are known")
	case (cmd.SecretFile == "") == (cmd.From == ""):
		return none, usagef("credential add needs --secret-file, or --from for a secret that lies in a source")
	case cmd.Service != "" && (len(cmd.Host) > 0 || len(cmd.Inject) > 0):
		return none, usagef("--service already says the hosts and rules; give --service, or --host with --inject")
	case cmd.Auth == string(control.AuthBasic) && cmd.Username == "":
		return none, usagef("--auth basic needs --username")
	case cmd.Username != "" && cmd.Auth != "" && cmd.Auth != string(control.AuthBasic):
		return none, usagef("--username goes with --auth basic")
	}
	if err := checkName("credential", cmd.Name); err != nil {
		return none, err
	}
	rules, err := parseRules(cmd.Inject)
	if err != nil {
		return none, err
	}
	mints, err := parseMints(cmd.Mint)
	if err != nil {
		return none, err
	}
	limits, err := cmd.changes(time.Now())
	if err != nil {
		return none, err
	}
	every, _, err := cmd.every()
	if err != nil {
		return none, err
	}
	from, err := parseFrom(cmd.From)
	if err != nil {
		return none, err
	}
	auth := control.Auth(cmd.Auth)
	if auth == "" && cmd.Service == "" && cmd.Username != "" {
		auth = control.AuthBasic
	}
	return client.NewCredential{
		Name: cmd.Name, Service: cmd.Service, Hosts: cmd.Host, Inject: rules,
		Auth: auth, Username: cmd.Username, Settings: cmd.Setting, From: from,
		Stray: control.Stray(cmd.Stray), AllowHTTP: cmd.AllowHTTP, AllowWebsocket: cmd.AllowWebsocket, Mints: mints, Limits: limits, RotateEvery: every,
	}, nil
}

// parseRules reads --inject. A rule is not repeated in its error, since it could
// have a secret where {{token}} belongs.
func parseRules(texts []string) ([]control.Rule, error) {
	var rules []control.Rule
	holds := false
	for i, text := range texts {
		rule, err := control.ParseRule(text)
		if err != nil {
			message := err.Error()
			kind, rest, _ := strings.Cut(text, ":")
			_, template, _ := strings.Cut(rest, ":")
			for _, shown := range []string{text, kind + ":" + strings.TrimSpace(template)} {
				message = strings.ReplaceAll(message, strconv.Quote(shown), strconv.Itoa(i+1))
				message = strings.ReplaceAll(message, `"`+shown+`"`, strconv.Itoa(i+1))
			}
			return nil, usagef("--inject: %s", message)
		}
		rules, holds = append(rules, rule), holds || rule.Holds()
	}
	if len(rules) > 0 && !holds {
		return nil, usagef("--inject: no rule has {{token}}, so the secret would go nowhere")
	}
	return rules, nil
}

type credentialSetCmd struct {
	Vault   string            `required:"" placeholder:"VAULT" help:"The credential's vault."`
	Name    string            `arg:"" help:"The credential's name."`
	Mint    []string          `sep:"none" xor:"mint" placeholder:"RULE" help:"'ACTION [METHOD,…] /PATH [PLACE…] [name=SUFFIX] [hosts=HOST,…] [ttl=TTL] [inject=RULE]', ACTION one of allow, refuse, strip, capture; PLACE json:/POINTER, cookie:NAME or header:NAME. May be repeated; the first that fits decides, and the service's own come last."`
	NoMint  bool              `xor:"mint" help:"None but those of the service."`
	Setting map[string]string `mapsep:"none" placeholder:"NAME=VALUE" help:"In the place of all settings that the credential has. Makes a new version. May be repeated."`

	dueFlag    `embed:""`
	limitFlags `embed:""`
}

func (cmd *credentialSetCmd) Run(ctx context.Context, c *cli) error {
	limits, err := cmd.changes(time.Now())
	if err != nil {
		return err
	}
	every, due, err := cmd.every()
	if err != nil {
		return err
	}
	kinds := 0
	for _, given := range []bool{limits != nil, len(cmd.Mint) > 0 || cmd.NoMint, cmd.Setting != nil, due} {
		if given {
			kinds++
		}
	}
	switch {
	case kinds == 0:
		return usagef("credential set needs a limit, --setting, --rotate-every, --mint or --no-mint")
	case kinds > 1:
		return usagef("credential set changes limits, settings, --rotate-every or --mint, not several at once")
	case limits != nil:
		return cmd.limit(ctx, c, limits)
	case due:
		return cmd.setRotateEvery(ctx, c, every)
	case cmd.Setting != nil:
		return cmd.setSettings(ctx, c)
	}
	mints, err := parseMints(cmd.Mint)
	if err != nil {
		return err
	}
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	set, err := api.SetMints(ctx, team, cmd.Vault, cmd.Name, mints)
	if err != nil {
		return err
	}
	return c.say(set, "credential %s has %s of its own for new secrets", set.Name, counted(len(set.Mints), "rule"))
}

func (cmd *credentialSetCmd) limit(ctx context.Context, c *cli, limits *client.LimitChanges) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	set, err := api.SetLimits(ctx, team, cmd.Vault, cmd.Name, limits)
	if err != nil {
		return err
	}
	return c.say(set, "credential %s: %s", set.Name, set.Limits)
}

func (cmd *credentialSetCmd) setSettings(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	set, err := api.SetSettings(ctx, team, cmd.Vault, cmd.Name, cmd.Setting)
	if err != nil {
		return err
	}
	return c.say(set, "credential %s is now version %d, with %s", set.Name, set.Version, counted(len(set.Settings), "setting"))
}

// parseMints reads --mint.
func parseMints(texts []string) ([]control.Mint, error) {
	mints := []control.Mint{}
	for _, text := range texts {
		m, err := control.ParseMint(text)
		if err != nil {
			return nil, withHint(usagef("--mint: %v", err), "as in 'capture POST /oauth/token json:/access_token ttl=/expires_in'")
		}
		mints = append(mints, m)
	}
	return mints, nil
}

type credentialRotateCmd struct {
	Vault      string        `required:"" placeholder:"VAULT" help:"The credential's vault."`
	Name       string        `arg:"" help:"The credential's name."`
	SecretFile string        `required:"" placeholder:"FILE" help:"File with the new secret, - for standard input. One newline at its end is dropped."`
	Overlap    time.Duration `placeholder:"DURATION" help:"How long a request that the service answers 401 to is sent once more with the version before, as in 10m; up to 24h. Without it that is used no more."`
	Wait       waitFlag      `help:"Wait until every connected sandbox uses the new version; --wait alone waits up to 10s, --wait=DURATION as long."`
}

func (cmd *credentialRotateCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	secret, err := c.readSecret(cmd.SecretFile, authOfStored)
	if err != nil {
		return err
	}
	defer secret.Wipe()
	if cmd.Overlap < 0 {
		return usagef("--overlap takes a time above 0, as in --overlap 10m")
	}
	wait := time.Duration(cmd.Wait)
	rotation, err := api.RotateCredential(ctx, team, cmd.Vault, cmd.Name, secret, cmd.Overlap, wait)
	if err != nil {
		return err
	}
	return c.sayRotated(cmd.Name, rotation, wait)
}

// sayRotated tells of a new version, and fails if it was waited for in vain.
func (c *cli) sayRotated(name string, rotation control.Rotation, wait time.Duration) error {
	c.warnOf(rotation.Warning)
	if err := c.say(rotation, "%s", rotated(name, rotation, wait)); err != nil {
		return err
	}
	if missing := rotation.Connected - rotation.Acknowledged; wait > 0 && missing > 0 {
		return withHint(fmt.Errorf("%d of %d connected sandboxes had not confirmed version %d after %s", missing, rotation.Connected, rotation.Version, wait),
			"the new version is stored and is still being sent; don't withdraw the old secret yet")
	}
	return nil
}

func rotated(name string, r control.Rotation, wait time.Duration) string {
	text := fmt.Sprintf("credential %s is now version %d", name, r.Version)
	if r.OverlapUntil != nil {
		text += fmt.Sprintf("; version %d is fallen back to until %s", r.Version-1, stampOf(r.OverlapUntil))
	}
	if wait == 0 {
		return text + fmt.Sprintf("; connected sandboxes that get it: %d", r.Connected)
	}
	return text + fmt.Sprintf("; %d of %d connected sandboxes use it, after %d ms", r.Acknowledged, r.Connected, r.Milliseconds)
}

// defaultWait is --wait without a value.
const defaultWait = 10 * time.Second

// waitFlag is a duration that is optional: --wait or --wait=DURATION.
type waitFlag time.Duration

// IsBool lets kong take the flag without a value.
func (waitFlag) IsBool() bool { return true }

// Decode reads the value, if there is one.
func (w *waitFlag) Decode(parsed *kong.DecodeContext) error {
	if parsed.Scan.Peek().Type != kong.FlagValueToken {
		*w = waitFlag(defaultWait)
		return nil
	}
	d, err := time.ParseDuration(parsed.Scan.Pop().String())
	if err != nil || d <= 0 {
		return usagef("takes a time above 0, as in --wait=10s")
	}
	*w = waitFlag(d)
	return nil
}

var _ kong.BoolMapperValue = (*waitFlag)(nil)

type credentialListCmd struct {
	Vault string `placeholder:"VAULT" help:"Only of this vault."`
	Due   bool   `help:"Only those that are due to be rotated."`
}

func (cmd *credentialListCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	vaults := []control.Vault{{Name: cmd.Vault}}
	if cmd.Vault == "" {
		if vaults, err = api.Vaults(ctx, team); err != nil {
			return err
		}
	}
	all := []control.Credential{}
	for _, vault := range vaults {
		credentials, err := api.Credentials(ctx, team, vault.Name)
		if err != nil {
			return err
		}
		all = append(all, credentials...)
	}
	if now := time.Now(); cmd.Due {
		all = slices.DeleteFunc(all, func(c control.Credential) bool { return !isDue(c, now) })
	}
	return printList(c, all, "VAULT NAME HOSTS AUTH VERSION ROTATED DUE", func(credential control.Credential) []string {
		return []string{
			credential.Vault, credential.Name, strings.Join(credential.Hosts, ","), string(credential.Auth),
			strconv.FormatInt(credential.Version, 10), stamp(credential.RotatedAt), stampOf(credential.RotateDue),
		}
	})
}

type credentialRmCmd struct {
	Vault string `required:"" placeholder:"VAULT" help:"The credential's vault."`
	Name  string `arg:"" help:"The credential's name."`
}

func (cmd *credentialRmCmd) Run(ctx context.Context, c *cli) error {
	api, team, err := c.connectTeam()
	if err != nil {
		return err
	}
	if err := api.DeleteCredential(ctx, team, cmd.Vault, cmd.Name); err != nil {
		return err
	}
	return c.say(removed{cmd.Name}, "credential %s removed", cmd.Name)
}
