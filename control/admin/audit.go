package admin

import (
	"context"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/control"
	"sallyport/control/store"
)

func (s *Server) auditRoutes(api huma.API) {
	route(s, api, huma.Operation{
		OperationID: "list-events", Method: http.MethodGet, Path: "/v1/teams/{team}/audit",
		Summary: "The team's audit events, newest first",
	}, func(ctx context.Context, in *teamPage) (*answer[list[control.Event]], error) {
		return items(s.Store.Events(ctx, teamOf(ctx).ID, in.page()))
	})
	route(s, api, huma.Operation{
		OperationID: "follow-events", Method: http.MethodGet, Path: "/v1/teams/{team}/audit/follow",
		Summary: "The team's audit events, oldest first, and where to go on from; waits for the next ones",
	}, s.followEvents)
	route(s, api, huma.Operation{
		OperationID: "verify-events", Method: http.MethodGet, Path: "/v1/teams/{team}/audit/verify",
		Summary: "Whether the chain of audit events is as it was written, a part at a time",
	}, s.verifyEvents)
}

// act is the event of what the caller does to detail. The store records it with
// what is done, or does neither.
func act(ctx context.Context, kind, detail string) control.Event {
	r := recordOf(ctx)
	return control.Event{Kind: kind, Actor: r.caller.actor, RequestID: r.id, Detail: detail}
}

// followPause is how often a call that waits looks for events that it was not told of.
const followPause = 2 * time.Second

type followQuery struct {
	TeamPath
	After    int64     `query:"after" minimum:"-1" doc:"The next of the answer before; 0 for the first event that is kept, -1 for those to come"`
	Since    time.Time `query:"since" doc:"Recorded then or later"`
	Until    time.Time `query:"until" doc:"Recorded before"`
	Agent    string    `query:"agent" maxLength:"63"`
	Host     string    `query:"host" maxLength:"260"`
	Decision string    `query:"decision" maxLength:"32"`
	Limit    int       `query:"limit" minimum:"1" maximum:"1000" default:"1000"`
	Wait     int       `query:"wait" minimum:"0" maximum:"30" doc:"Seconds to wait for an event when there is none"`
}

// chainedEvent is an event with its hash, which is over all of it and the one before.
type chainedEvent struct {
	store.ChainedEvent
	Hash string `json:"hash"`
}

type followed struct {
	Items []chainedEvent `json:"items"`
	Next  int64          `json:"next" doc:"What to ask for after; no event will be recorded before it"`
}

func (s *Server) followEvents(ctx context.Context, in *followQuery) (*answer[followed], error) {
	filter := store.EventFilter{
		After: in.After, Since: in.Since, Until: in.Until, Agent: in.Agent, Host: in.Host, Decision: in.Decision, Limit: in.Limit,
	}
	if in.Wait > 0 {
		leave, err := s.enterFollowers(ctx)
		if err != nil {
			return nil, err
		}
		defer leave()
	}
	deadline := time.Now().Add(time.Duration(in.Wait) * time.Second)
	recorded := s.Store.Await(teamOf(ctx).ID) // from before the first look, so that none falls between
	defer recorded.Close()
	for {
		events, next, err := s.Store.Follow(ctx, teamOf(ctx).ID, filter)
		if err != nil || len(events) > 0 || !time.Now().Before(deadline) {
			said := followed{Items: []chainedEvent{}, Next: next}
			for _, e := range events {
				said.Items = append(said.Items, chainedEvent{e, hex.EncodeToString(e.Hash)})
			}
			return one(said, err)
		}
		filter.After = next
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-recorded.C:
		case <-time.After(min(followPause, time.Until(deadline))):
		}
	}
}

// enterFollowers lets a call in that waits for events, until leave.
func (s *Server) enterFollowers(ctx context.Context) (leave func(), err error) {
	c := recordOf(ctx).caller
	end, ok := s.following.enter(c.id + " " + c.team.ID)
	if !ok {
		return nil, crowded("%d calls of %s wait for events of the team %s already, as many as may: share what one of them gets", followersOfOne, c.who, c.team.Name)
	}
	endOfTeam, ok := s.followed.enter(c.team.ID)
	if !ok {
		end()
		return nil, crowded("%d calls wait for events of the team %s already, as many as may: ask without waiting", followersOfTeam, c.team.Name)
	}
	return func() { endOfTeam(); end() }, nil
}

type verifyQuery struct {
	TeamPath
	After string `query:"after" maxLength:"90" doc:"The head of the part before; none for the first event that is kept"`
	Head  string `query:"head" maxLength:"64" doc:"The hash of a head that you kept, in hexadecimal"`
}

func (s *Server) verifyEvents(ctx context.Context, in *verifyQuery) (*answer[store.Verification], error) {
	var kept []byte
	if in.Head != "" {
		var err error
		if kept, err = hex.DecodeString(in.Head); err != nil || len(kept) != 32 {
			return nil, control.Errorf(control.CodeInvalid, "head is a hash of 64 hexadecimal digits")
		}
	}
	return one(s.Store.Verify(ctx, teamOf(ctx).ID, in.After, kept))
}
