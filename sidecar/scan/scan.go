// Package scan finds placeholders on their way out of the sandbox.
package scan

import (
	"io"

	"sallyport/control/api"
)

// StrayError reports a placeholder found where nothing replaces it.
type StrayError struct {
	Placeholder string
}

func (e *StrayError) Error() string { return "stray placeholder " + e.Placeholder }

// Scanner looks for placeholders. It may be used by several goroutines at once.
type Scanner struct{}

// New makes a Scanner for the placeholders given.
func New(placeholders []string) *Scanner { return &Scanner{} }

// String reports the first placeholder in s, if there is one.
func (s *Scanner) String(text string) (placeholder string, found bool) { return "", false }

// Mask replaces each placeholder in text by asterisks and says how many there were.
func (s *Scanner) Mask(text string) (string, int) { return text, 0 }

// Reader handles the placeholders in what is read from r as stray says.
func (s *Scanner) Reader(r io.ReadCloser, stray api.Stray) io.ReadCloser { return r }
