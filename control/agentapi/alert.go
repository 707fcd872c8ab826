package agentapi

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"sallyport/control"
)

// suspicion is what a sandbox's owner should hear of.
type suspicion string

const (
	tooOften suspicion = "asks for material more often than any use needs: its calls are refused for a while"
	stranger suspicion = "asked for material without holding its stream: its identity may have been copied"
	forged   suspicion = "somebody shows a certificate for it by another key than it enrolled with: the control CA's key is in wrong hands, replace it"
)

// alertPace bounds the events of one suspicion, and alertTimeout the wait for one.
var alertPace = pace{rate.Every(time.Minute), 1}

const alertTimeout = 5 * time.Second

// alert records a suspicion about a sandbox, at most once a minute.
func (s *Server) alert(ctx context.Context, p peer, about suspicion) {
	if !s.limits.of(p.ID).alerts[about].Allow() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), alertTimeout)
	defer cancel()
	err := s.Store.Alert(ctx, p.Team, p.ID, string(about))
	if err != nil && control.CodeOf(err) != control.CodeNotFound {
		s.Log.Error("alert not recorded", "sandbox", p.ID, "alert", string(about), "error", err)
	}
}
