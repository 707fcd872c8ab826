package exchange

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"sallyport/control"
)

// What failed and is not asked for again is forgotten: credentials come and go, and
// whoever stores and deletes them may do so without end.
func TestFailuresAreForgotten(t *testing.T) {
	k := newKept(slog.New(slog.DiscardHandler))
	defer k.close()
	k.failures = time.Millisecond
	for i := range 10 {
		_, _, err := k.material(t.Context(), control.Credential{ID: fmt.Sprint(i)}, func(context.Context, time.Time) (Minted, error) {
			return Minted{}, control.Errorf(control.CodeExchange, "it fails")
		})
		if control.CodeOf(err) != control.CodeExchange {
			t.Fatal(err)
		}
	}
	left := func() int {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.entries)
	}
	for over := time.Now().Add(30 * time.Second); left() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(over) {
			t.Fatalf("%d failures are still remembered", left())
		}
	}
}
