package main

import (
	"embed"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"The shell: bash, zsh or fish."`
}

//go:embed completion
var completions embed.FS

// Run prints what has the shell complete commands. It asks this program, by completing,
// so it need not be made anew for another version.
func (cmd *completionCmd) Run(c *cli) error {
	script, err := completions.ReadFile("completion/" + cmd.Shell)
	if err != nil {
		return fmt.Errorf("read the completion: %w", err)
	}
	if _, err := c.stdout.Write(script); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// completing is what those scripts call the program with, before the words of the
// command line up to the cursor. It is no command: nobody types it.
const completing = "__complete"

// complete prints what the last of words can become, a line each: the word, a tab, and
// what it means. Nothing means that a file may be meant, or something nobody knows here.
// It asks no server, and repeats nothing that was typed.
func complete(app *kong.Application, words []string, to io.Writer) error {
	if len(words) == 0 {
		return nil
	}
	begun := words[len(words)-1]
	node, waiting, files := walk(app.Node, words[:len(words)-1])
	if name, value, found := strings.Cut(begun, "="); found && strings.HasPrefix(name, "--") {
		waiting, begun = flagOf(node, name), value
	}
	var out strings.Builder
	say := func(word, meaning string) {
		if word != "" && strings.HasPrefix(word, begun) {
			first, _, _ := strings.Cut(meaning, "\n")
			fmt.Fprintf(&out, "%s\t%s\n", word, first)
		}
	}
	switch {
	case files:
	case waiting != nil:
		for _, value := range waiting.EnumSlice() {
			say(value, "")
		}
	case strings.HasPrefix(begun, "-"):
		for _, level := range node.AllFlags(true) {
			for _, flag := range level {
				say("--"+flag.Name, flag.Help)
			}
		}
	default:
		for _, child := range node.Children {
			say(child.Name, child.Help)
		}
		for _, argument := range node.Positional {
			for _, value := range argument.EnumSlice() {
				say(value, "")
			}
		}
	}
	_, err := io.WriteString(to, out.String())
	return err
}

// walk gives the command that words lead to and the flag that waits for its value, if
// one does; files says that the words are those of another program by now.
func walk(node *kong.Node, words []string) (at *kong.Node, waiting *kong.Flag, files bool) {
	for _, word := range words {
		switch {
		case waiting != nil:
			waiting = nil
		case word == "--":
			return node, nil, true
		case strings.HasPrefix(word, "-"):
			if flag := flagOf(node, word); flag != nil && !flag.IsBool() && !strings.Contains(word, "=") {
				waiting = flag
			}
		default:
			i := slices.IndexFunc(node.Children, func(child *kong.Node) bool { return child.Name == word })
			if i >= 0 {
				node = node.Children[i]
			}
		}
	}
	return node, waiting, false
}

// flagOf finds a flag of a command by its name or letter.
func flagOf(node *kong.Node, word string) *kong.Flag {
	word, _, _ = strings.Cut(word, "=")
	for _, level := range node.AllFlags(true) {
		for _, flag := range level {
			if word == "--"+flag.Name || flag.Short != 0 && word == "-"+string(flag.Short) {
				return flag
			}
		}
	}
	return nil
}
