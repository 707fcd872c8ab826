package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/term"
)

// emit prints v as JSON, or what table prints, as the user wants.
func (c *cli) emit(v any, table func() error) error {
	if c.flags.Output != "json" {
		return table()
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	if _, err := io.WriteString(c.stdout, visibleJSON(text.String())); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// say prints one thing: v as JSON, or a sentence.
func (c *cli) say(v any, format string, args ...any) error {
	return c.emit(v, func() error {
		_, err := fmt.Fprintln(c.stdout, visible(fmt.Sprintf(format, args...)))
		return err
	})
}

// removed is what a deletion prints as JSON.
type removed struct {
	Removed string `json:"removed"`
}

// printList prints items as a JSON array or as a table of one row each. A terminal gets
// it no wider than it is.
func printList[T any](c *cli, items []T, header string, row func(T) []string) error {
	return c.emit(items, func() error {
		rows := [][]string{strings.Fields(header)}
		for _, item := range items {
			cells := row(item)
			for i, cell := range cells {
				cells[i] = orDash(visible(cell))
			}
			rows = append(rows, cells)
		}
		fit(rows, c.columns())
		w := tabwriter.NewWriter(c.stdout, 0, 0, gap, ' ', 0)
		for _, cells := range rows {
			fmt.Fprintln(w, strings.Join(cells, "\t"))
		}
		return w.Flush()
	})
}

const (
	gap      = 2  // columns between two cells
	narrowed = 20 // columns that a cell is never cut to fewer than
)

// columns is how wide the terminal is that is written to, 0 if it is none.
func (c *cli) columns() int {
	f, ok := c.stdout.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// fit cuts the widest columns until the rows are no wider than width, if that is known.
// The first one is what a row is called, and stays.
func fit(rows [][]string, width int) {
	if width <= 0 {
		return
	}
	widths := make([]int, len(rows[0]))
	total := -gap
	for i := range widths {
		for _, cells := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(cells[i]))
		}
		total += widths[i] + gap
	}
	for ; total > width; total-- {
		widest := 1
		for i := 2; i < len(widths); i++ {
			if widths[i] > widths[widest] {
				widest = i
			}
		}
		if widest >= len(widths) || widths[widest] <= narrowed {
			break
		}
		widths[widest]--
	}
	for _, cells := range rows {
		for i, cell := range cells {
			if runes := []rune(cell); len(runes) > widths[i] {
				cells[i] = string(runes[:widths[i]-1]) + "…"
			}
		}
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// visible escapes whatever a terminal would act on: an agent chooses the paths
// and methods that audit shows.
func visible(s string) string {
	if !strings.ContainsFunc(s, steers) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if steers(r) {
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// visibleJSON does the same to JSON, as JSON escapes: encoding/json leaves all
// control characters beyond ASCII as they are, and those are only ever in strings.
func visibleJSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r < 0x7f || !steers(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// steers reports control characters and the invisible ones that reorder text.
func steers(r rune) bool { return !unicode.IsGraphic(r) || unicode.Is(unicode.Cf, r) }

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func stampOf(t *time.Time) string {
	if t == nil {
		return ""
	}
	return stamp(*t)
}
