package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"sallyport/cmd/sallyport/client"
	"sallyport/control/exchange"
)

// grammar is the command line: global flags and a noun a field.
type grammar struct {
	Server    given    `group:"Global flags:" placeholder:"URL" help:"The control plane, https:// or on this machine http:// (default: $$SALLYPORT_SERVER, the server of 'login', http://127.0.0.1:8200)."`
	TokenFile given    `group:"Global flags:" placeholder:"FILE" help:"File with the API token, - for standard input (default: $$SALLYPORT_TOKEN, the token of 'login')."`
	CAFile    given    `group:"Global flags:" name:"ca-file" placeholder:"FILE" help:"PEM certificates to trust for the control plane's TLS, beside the system's (default: those of 'login')."`
	Team      given    `group:"Global flags:" placeholder:"TEAM" help:"The team to work in (default: $$SALLYPORT_TEAM, the team of 'login', default)."`
	Output    string   `group:"Global flags:" short:"o" enum:"table,json" default:"table" help:"How to print: table or json."`
	Help      helpFlag `group:"Global flags:" short:"h" help:"Say how a command is used."`

	Login  loginCmd  `cmd:"" group:"To begin:" help:"Keep a server and token for the commands to come."`
	Status statusCmd `cmd:"" group:"To begin:" help:"Ask the control plane who it is and who you are."`
	Run    runCmd    `cmd:"" group:"To begin:" help:"Run a command in a sealed sandbox of an agent."`

	Vault      vaultCmd      `cmd:"" group:"Secrets, and who may use them:" help:"Vaults, which hold a team's credentials."`
	Credential credentialCmd `cmd:"" group:"Secrets, and who may use them:" help:"Credentials: one service's secret, where it may go, how it is injected."`
	Service    serviceCmd    `cmd:"" group:"Secrets, and who may use them:" help:"Services whose hosts and inject rules are known."`
	Source     sourceCmd     `cmd:"" group:"Secrets, and who may use them:" help:"Stores outside that credentials may have their secrets in."`
	Agent      agentCmd      `cmd:"" group:"Secrets, and who may use them:" help:"Agents, the vaults pinned to them, and what else they may reach."`
	Sandbox    sandboxCmd    `cmd:"" group:"Secrets, and who may use them:" help:"Sandboxes: running instances of agents."`

	Explain  explainCmd  `cmd:"" group:"What happens, and what would:" help:"Say what would be injected into a request of an agent, by which rule, or why not."`
	Approval approvalCmd `cmd:"" group:"What happens, and what would:" help:"Requests that wait until a person decides."`
	Audit    auditCmd    `cmd:"" group:"What happens, and what would:" help:"What was done, by whom, with which credential."`

	Teams   teamCmd    `cmd:"" group:"Teams, and who may administer them:" name:"team" help:"Teams, which own everything else."`
	Quota   quotaCmd   `cmd:"" group:"Teams, and who may administer them:" help:"How much a team may have."`
	Token   tokenCmd   `cmd:"" group:"Teams, and who may administer them:" help:"API tokens of people and machines."`
	Session sessionCmd `cmd:"" group:"Teams, and who may administer them:" help:"Logins of people."`

	Key keyCmd `cmd:"" group:"The control plane:" help:"The keys that everything at rest is sealed with."`
	CA  caCmd  `cmd:"" group:"The control plane:" name:"ca" help:"The control plane's own certificate authority."`

	Completion completionCmd `cmd:"" group:"This program:" help:"Print what has your shell complete commands."`
	Logout     logoutCmd     `cmd:"" group:"This program:" help:"Forget the server and token of 'login'."`
	Version    versionCmd    `cmd:"" group:"This program:" help:"Print this program's version."`
}

// given is a text that may be left out, and not be empty: that would be a variable that
// was not set, and another server or team than was meant.
type given string

// UnmarshalText implements encoding.TextUnmarshaler.
func (g *given) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return errors.New("is given, and empty: leave it out, or say which")
	}
	*g = given(text)
	return nil
}

// cli is what a verb works with.
type cli struct {
	getenv         func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
	flags          *grammar
	model          *kong.Application
	session        bool            // the token is that of a person's login
	warned         bool            // that it ends
	interrupted    <-chan struct{} // closed when the user wants the program to end
}

// exitStatus ends the program with a status of its own and no message.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

const (
	statusFailure = 1
	statusUsage   = 2
)

// run is the whole program; it gives the status to exit with.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	var flags grammar
	c := &cli{getenv: getenv, stdin: stdin, stdout: stdout, stderr: stderr, flags: &flags, interrupted: ctx.Done()}
	parser, err := kong.New(&flags,
		kong.Name("sallyport"),
		kong.Description("Agents use secrets that nobody in their loop can see. 'sallyport COMMAND --help' says more of each command."),
		kong.Writers(stdout, stderr),
		kong.NoDefaultHelp(),
		variables(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, WrapUpperBound: 100}),
		kong.Help(printHelp),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(c),
	)
	if err != nil {
		return c.fail(fmt.Errorf("read the command line's grammar: %w", err))
	}
	c.model = parser.Model
	if len(args) > 0 && args[0] == completing {
		if err := complete(parser.Model, args[1:], stdout); err != nil {
			return statusFailure
		}
		return 0
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	switch {
	case errors.Is(err, errHelp):
		return 0
	case err != nil:
		return c.fail(parseError(err, args))
	}
	if err := parsed.Run(); err != nil {
		return c.fail(err)
	}
	return 0
}

// helpFlag prints help instead of running anything.
type helpFlag bool

var errHelp = errors.New("help was printed")

// BeforeReset runs before the other flags are judged, so that help is given for
// an unfinished command too.
func (helpFlag) BeforeReset(parsed *kong.Context) error {
	if err := parsed.PrintUsage(false); err != nil {
		return err
	}
	return errHelp
}

// printHelp lists nouns and no verbs where nobody has named a noun: all at once are
// more than a screen.
func printHelp(options kong.HelpOptions, parsed *kong.Context) error {
	options.NoExpandSubcommands = parsed.Selected() == nil
	for node := parsed.Selected(); node != nil; node = node.Parent {
		node.Group = nil // the groups are of nouns
	}
	return kong.DefaultHelpPrinter(options, parsed)
}

// IgnoreDefault tells kong that the flag has no default to apply.
func (helpFlag) IgnoreDefault() {}

// connect makes the client that the flags, environment and login ask for.
func (c *cli) connect() (*client.Client, error) {
	s, err := c.settings()
	if err != nil {
		return nil, err
	}
	return c.dial(s)
}

// connectTeam also gives the team to work in.
func (c *cli) connectTeam() (*client.Client, string, error) {
	s, err := c.settings()
	if err != nil {
		return nil, "", err
	}
	api, err := c.dial(s)
	return api, s.Team, err
}

// warnOfExpiry says once when the token ends. A login is a matter of hours, and its
// end no news.
func (c *cli) warnOfExpiry(at time.Time) {
	if left := time.Until(at); !c.warned && !c.session {
		c.warned = true
		c.warn("the API token ends in %s, at %s: sallyport token rotate gives it a new value", left.Round(time.Minute), stamp(at))
	}
}

func (c *cli) dial(s settings) (*client.Client, error) {
	if len(s.Token) == 0 {
		return nil, withHint(fmt.Errorf("no API token for %s", s.Server),
			"sallyport login --token-file FILE, or set SALLYPORT_TOKEN; the first token is in the file admin-token of the control plane's data directory")
	}
	c.session = isSession(string(s.Token))
	return client.New(client.Config{Server: s.Server, Token: s.Token, CA: []byte(s.CA), UserAgent: "sallyport/" + version(), Expires: c.warnOfExpiry})
}

// variables are what the grammar's tags name as ${…}.
func variables() kong.Vars { return kong.Vars{"kinds": strings.Join(exchange.Kinds(), ",")} }
