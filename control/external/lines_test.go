package external

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
)

// Teams whose stores hang, however many sources each has, leave turns to a team whose
// store answers.
func TestFewTeamsTakeNotEveryTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines()
		ctx, end := context.WithCancel(t.Context())
		defer end()
		read := func(team, source string, has chan<- bool) {
			done, err := lines.take(ctx, team, source)
			if err != nil {
				return
			}
			has <- true
			<-ctx.Done()
			done()
		}
		const teams, sources = 8, 2 * ofTeam
		hung := make(chan bool, teams*sources)
		for team := range teams {
			for source := range sources {
				go read(fmt.Sprint(team), fmt.Sprint(team, source), hung)
			}
		}
		synctest.Wait()
		newcomer := make(chan bool, 1)
		go read("newcomer", "its own", newcomer)
		synctest.Wait()
		if len(newcomer) != 1 {
			t.Errorf("%d readings of %d teams leave none of %d to another", len(hung), teams, ofAll)
		}
		end()
		synctest.Wait()
		if len(lines.sources) != 0 {
			t.Errorf("%d sources are remembered", len(lines.sources))
		}
	})
}
