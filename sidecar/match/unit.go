package match

import "slices"

// Unit is one step of a pattern: a small automaton of the spellings of which any
// one matches. It may hold loops, for what a spelling may repeat.
type Unit struct {
	edges  [][]edge // by node
	long   int      // bytes of the longest spelling that is in use
	breaks bool     // lines may be broken before it
}

// The nodes of a unit that is known from outside. No edge leaves the exit.
const entry, exit = 0, 1

func newUnit(long int) *Unit { return &Unit{edges: make([][]edge, 2, 32), long: long} }

func (u *Unit) node() uint32 {
	u.edges = append(u.edges, nil)
	return uint32(len(u.edges) - 1)
}

func (u *Unit) edge(from uint32, c byte, to uint32) {
	if e := (edge{c, to}); !slices.Contains(u.edges[from], e) {
		u.edges[from] = append(u.edges[from], e)
	}
}

// step gives the node that follows on c, within the unit, made if there is none.
func (u *Unit) step(from uint32, c byte, to ...uint32) uint32 {
	for _, e := range u.edges[from] {
		if e.c == c && e.to != from && !slices.Contains(to, e.to) {
			return e.to
		}
	}
	next := u.node()
	u.edge(from, c, next)
	return next
}

// path adds s as a way between two nodes, which shares its beginning with others.
func (u *Unit) path(from uint32, s string, to uint32) {
	last := len(s) - 1
	for i := range last {
		from = u.step(from, s[i], entry, exit, to)
	}
	u.edge(from, s[last], to)
}

// hex adds hexadecimal digits, in either case each.
func (u *Unit) hex(from uint32, digits string, to uint32) {
	for i := range len(digits) {
		lower, upper := digits[i], digits[i]
		if lower >= 'a' {
			upper -= 'a' - 'A'
		}
		next := to
		if i < len(digits)-1 {
			next = u.step(from, lower, entry, exit, to)
		}
		u.edge(from, lower, next)
		u.edge(from, upper, next)
		from = next
	}
}
