package external

import (
	"sync"
	"time"

	"sallyport/control"
)

// longestLogin is how long a token of a login is used at most.
const longestLogin = time.Hour

// logins are the tokens that sources gave for a login, in memory alone.
type logins struct {
	mu       sync.Mutex
	bySource map[string]login // by its id
}

type login struct {
	version int64 // of what opens the source
	token   string
	until   time.Time
}

func newLogins() *logins { return &logins{bySource: map[string]login{}} }

func (l *logins) token(s control.Source) (token string, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	had, found := l.bySource[s.ID]
	if !found || had.version != s.Version || !time.Now().Before(had.until) {
		return "", false
	}
	return had.token, true
}

// keep remembers a token for two thirds of its life, which is in seconds; 0 is without end.
func (l *logins) keep(s control.Source, token string, life int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for id, had := range l.bySource {
		if !now.Before(had.until) {
			delete(l.bySource, id)
		}
	}
	lasts := time.Duration(life) * time.Second * 2 / 3
	if life <= 0 || lasts > longestLogin {
		lasts = longestLogin
	}
	l.bySource[s.ID] = login{s.Version, token, now.Add(lasts)}
}
