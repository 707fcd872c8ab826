package admin

import (
	"context"
	"net/http"
	"sync"
)

const (
	// followersOfOne and followersOfTeam bound the calls that wait for a team's events, of
	// one who calls and of all: each looks again at every event.
	followersOfOne  = 8
	followersOfTeam = 64
	// outwardOfTeam bounds the calls of a team that wait for servers which it chose.
	outwardOfTeam = 4
)

// crowd counts calls that take long, by whom they are of.
type crowd struct {
	most int
	mu   sync.Mutex
	in   map[string]int
}

func newCrowd(most int) *crowd { return &crowd{most: most, in: make(map[string]int)} }

// enter lets one more call of who's in, unless there are as many as there may be. leave
// ends it.
func (c *crowd) enter(who string) (leave func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.in[who] >= c.most {
		return nil, false
	}
	c.in[who]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.in[who]--; c.in[who] == 0 {
			delete(c.in, who)
		}
	}, true
}

// enterOutward lets a call in that waits for a server which the team chose, until leave.
func (s *Server) enterOutward(ctx context.Context) (leave func(), err error) {
	team := teamOf(ctx)
	leave, ok := s.outward.enter(team.ID)
	if !ok {
		return nil, crowded("%d calls of the team %s wait for other servers already, as many as may: try again when they are answered", outwardOfTeam, team.Name)
	}
	return leave, nil
}

// crowded is the refusal of a call that nobody knows a turn for.
func crowded(format string, args ...any) *problem {
	p := newProblem(http.StatusTooManyRequests, codeTooMany, format, args...)
	p.header = http.Header{"Retry-After": {"1"}}
	return p
}
