package sidecar

import (
	"fmt"
	"math/rand/v2"
	"time"

	"sallyport/control"
)

// changes are what happens to a team, by name. None of them takes anything away from
// the requests of the lanes.
func (c *changing) changes() map[string]func() {
	t, n := c.t, 0
	count := func() int { n++; return n }
	c.Must(t, "POST", "vaults", map[string]any{"name": "other"}, nil)
	c.Must(t, "POST", "vaults/other/credentials", map[string]any{"name": "o", "hosts": []string{"other.changes.test"}, "secret": token(999)}, nil)
	c.Must(t, "POST", "agents", map[string]any{"name": "b"}, nil)
	budget, strict := 100_000, false
	all := map[string]func(){
		"pin of another vault": func() {
			c.Must(t, "PUT", "agents/a/pins/other", nil, nil)
			time.Sleep(rand.N(100 * time.Millisecond))
			c.Must(t, "DELETE", "agents/a/pins/other", nil, nil)
		},
		"removal of another credential": func() {
			c.Must(t, "POST", "vaults/bearer/credentials", map[string]any{"name": "x", "hosts": []string{"x.changes.test"}, "secret": token(999)}, nil)
			time.Sleep(rand.N(100 * time.Millisecond))
			c.Must(t, "DELETE", "vaults/bearer/credentials/x", nil, nil)
		},
		"policy of other hosts": func() {
			host := fmt.Sprintf("unrelated-%d.test", count())
			c.Must(t, "PUT", "agents/a/policy", map[string]any{"rules": []any{map[string]any{"action": "deny", "hosts": []string{host}}}}, nil)
		},
		"policy of another agent": func() {
			c.Must(t, "PUT", "agents/b/policy", map[string]any{"default": []string{"deny", "inspect"}[count()%2]}, nil)
		},
		"more budget": func() {
			budget += 1000
			c.Must(t, "PATCH", "vaults/counted/credentials/counted", map[string]any{"limits": map[string]any{"budget": fmt.Sprint(budget)}}, nil)
		},
		"other settings": func() {
			c.Must(t, "PATCH", "vaults/hmac/credentials/hmac", map[string]any{"settings": map[string]any{
				"algorithm": "sha256", "string_to_sign": "{{method}}{{path}}", "timestamp": []string{"unix", "unix_ms"}[count()%2],
			}}, nil)
		},
		"quota": func() { c.Must(t, "PATCH", "quota", map[string]any{"agents": 1000 + count()}, nil) },
		"audit": func() {
			strict = !strict
			mode := map[bool]string{true: "strict", false: "best_effort"}[strict]
			c.Do(t, c.Owner, "PATCH", "/v1/teams/"+c.Name, map[string]any{"audit": mode}).Into(t, 200, nil)
		},
		"keys": func() {
			c.Do(t, c.Owner, "POST", "/v1/keys/rotate", map[string]any{"new_data_keys": true}).Into(t, 202, nil)
		},
		"a database that stands still": func() {
			c.line.still.Lock()
			time.Sleep(700 * time.Millisecond)
			c.line.still.Unlock()
		},
		"a slow database": func() {
			c.line.rest.Store(int64(20 * time.Millisecond))
			c.lanes["client.changes.test"].rotate(false, "")
			c.line.rest.Store(0)
		},
		"a slow service": func() {
			l := c.lanes["slow.changes.test"]
			before := l.latest()
			l.take(func(value int) bool { return value <= before })
			now := l.rotate(false, "10m")
			time.Sleep(200 * time.Millisecond)
			c.Must(t, "PUT", "agents/b/policy", map[string]any{"default": []string{"deny", "inspect"}[count()%2]}, nil)
			time.Sleep(200 * time.Millisecond)
			l.take(func(value int) bool { return value == before || value == now })
			time.Sleep(100 * time.Millisecond)
			l.take(nil)
			c.Must(t, "DELETE", l.path()+"/overlap", nil, nil)
		},
	}
	for i, r := range c.replicas {
		all[fmt.Sprintf("the end of replica %d", i)] = func() { r.drain(); r.serve() }
		all[fmt.Sprintf("the death of replica %d", i)] = func() { r.kill(); r.serve() }
		all[fmt.Sprintf("a rotation at the end of replica %d", i)] = func() { c.rotateDuring(r.drain); r.serve() }
		all[fmt.Sprintf("a rotation at the death of replica %d", i)] = func() { c.rotateDuring(r.kill); r.serve() }
	}
	for _, l := range c.lanes {
		all["rotation of "+l.name] = func() { l.rotate(false, "") }
		all["rotations of "+l.name] = func() { l.rotate(false, ""); l.rotate(false, "") }
		all["rotation back of "+l.name] = func() { l.rotate(true, "") }
	}
	return all
}

// rotateDuring rotates a credential again and again until what happens meanwhile has.
func (c *changing) rotateDuring(happens func()) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		time.Sleep(rand.N(50 * time.Millisecond))
		happens()
	}()
	for {
		c.lanes["bearer.changes.test"].rotate(false, "")
		select {
		case <-over:
			return
		default:
		}
	}
}

// takeAway takes every credential away, by one of two ways, and comes back when the
// sandbox has heard of it.
func (c *changing) takeAway() {
	t, unpin := c.t, false
	for _, l := range c.lanes {
		if unpin = !unpin; unpin {
			c.Must(t, "DELETE", "agents/a/pins/"+l.name, nil, nil)
		} else {
			c.Must(t, "DELETE", l.path(), nil, nil)
		}
	}
	var last struct{ Revision int64 }
	c.Must(t, "PUT", "agents/a/policy", map[string]any{}, &last)
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		var sandbox control.Sandbox
		c.Must(t, "GET", "sandboxes/"+c.sandbox, nil, &sandbox)
		if sandbox.AppliedRevision >= last.Revision {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the sandbox is at revision %d, not %d", sandbox.AppliedRevision, last.Revision)
		}
	}
}
