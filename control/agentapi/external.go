package agentapi

import (
	"context"
	"errors"
	"time"

	"sallyport/control"
	"sallyport/control/external"
	"sallyport/control/store"
)

// newsTakes is how long a sidecar may take to hear of a new version by its stream.
const newsTakes = 2 * time.Second

// lookUp reads a secret that lies in a source before anything waits for it in a place
// that all teams share. Of a secret that was changed there the sidecar hears by its
// stream, and breaks this call off to ask for the new version.
func (s *Server) lookUp(ctx context.Context, bound store.Bound) error {
	if bound.Source == nil {
		return nil
	}
	secret, err := s.Secrets.Open(ctx, bound)
	secret.Wipe()
	if !errors.Is(err, external.ErrChanged) {
		return err
	}
	heard := time.NewTimer(newsTakes)
	defer heard.Stop()
	select {
	case <-ctx.Done():
	case <-heard.C:
	}
	return err
}

// lies says where a leased secret lies, if that is not here.
func lies(c control.Credential) string {
	if c.From == nil {
		return ""
	}
	return "from " + external.At(*c.From, c.FromVersion)
}
