package proxy

import "errors"

// mayChange reports whether a request that failed is to be decided anew: what it was
// decided by was changed, and nothing of it has gone out or was taken from its client.
func (t *travel) mayChange(err error) bool {
	return errors.Is(err, ErrChanged) && !t.last && t.before == nil && t.upload == nil && t.release == nil &&
		(t.body == nil || t.body.n.Load() == 0 && !t.body.closed.Load())
}

// giveUp lets go of a plan that was not carried out. The next may be the last.
func (t *travel) giveUp(last bool) {
	t.letGo()
	t.plan, t.last = nil, last
}
