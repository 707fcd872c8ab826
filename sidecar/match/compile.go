package match

import (
	"encoding/binary"
	"slices"
)

// node is a state of the automaton before it is made deterministic.
type node struct {
	edges  []edge
	hit    int32
	word   bool
	cancel bool
	also   uint32 // entered together with this one; 0: none
}

type compiler struct {
	nodes []node
	arena []edge // of the nodes
	set   *Set
	alone []uint32          // by node: the state that is this node alone; 0: none yet
	many  map[string]uint32 // by key of several nodes
	queue []group           // by state
	all   []edge            // of the state being expanded
}

// group is the nodes that a state stands for: one, or many.
type group struct {
	one  uint32
	many []uint32
}

// Compile makes a Set. Without patterns it finds nothing.
func Compile(patterns []Pattern) *Set {
	c := &compiler{nodes: []node{{hit: none}}, set: &Set{}, many: make(map[string]uint32)}
	var starts []uint32
	boundary := uint32(0)
	for _, p := range patterns {
		if len(p.Units) == 0 {
			continue
		}
		if p.Word && boundary == 0 {
			boundary = c.addBoundary()
		}
		starts = append(starts, c.add(p, boundary))
	}
	c.alone = make([]uint32, len(c.nodes))
	c.set.states = make([]state, 0, len(c.nodes)+len(c.nodes)/4)
	c.queue = make([]group, 0, cap(c.set.states))
	c.set.edges = make([]edge, 0, len(c.arena)+len(c.arena)/4)
	c.state(starts)
	for i := 0; i < len(c.queue); i++ {
		c.expand(uint32(i))
	}
	for i := range c.nodes {
		clear(c.nodes[i].edges)
	}
	first := c.set.states[0]
	for _, e := range c.set.edges[first.edges : first.edges+uint32(first.count)] {
		c.set.root[e.c] = e.to
	}
	c.set.pairs = make([]uint64, 1<<16/64)
	for _, a := range c.set.out(0) {
		for b := range 256 {
			if n := int(a.c)<<8 | b; c.set.states[a.to].hit != none || c.set.next(a.to, byte(b)) != 0 {
				c.set.pairs[n>>6] |= 1 << (n & 63)
			}
		}
	}
	c.set.plan()
	c.set.blind = newBlind(patterns)
	return c.set
}

func (c *compiler) node() uint32 {
	c.nodes = append(c.nodes, node{hit: none})
	return uint32(len(c.nodes) - 1)
}

// add makes the nodes of a pattern and gives the first.
func (c *compiler) add(p Pattern, boundary uint32) uint32 {
	start := c.node()
	at := start
	for _, u := range p.Units {
		to := c.node()
		c.place(u, at, to)
		at = to
	}
	c.nodes[at].hit = int32(p.ID)
	if p.Word {
		c.nodes[at].word, c.nodes[at].also = true, boundary
	}
	return start
}

// place adds a unit between two nodes. It gives the number that is to be added
// to that of the unit's inner nodes.
func (c *compiler) place(u *Unit, from, to uint32) uint32 {
	const inner = exit + 1
	base := uint32(len(c.nodes)) - inner
	for range len(u.edges) - inner {
		c.node()
	}
	number := func(n uint32) uint32 {
		switch n {
		case entry:
			return from
		case exit:
			return to
		}
		return base + n
	}
	for n, edges := range u.edges {
		if n == exit {
			continue
		}
		if cap(c.arena)-len(c.arena) < len(edges) {
			c.arena = make([]edge, 0, max(4096, len(edges)))
		}
		first := len(c.arena)
		for _, e := range edges {
			c.arena = append(c.arena, edge{e.c, number(e.to)})
		}
		c.nodes[number(uint32(n))].edges = c.arena[first:len(c.arena):len(c.arena)]
	}
	return base
}

// addBoundary makes the nodes that tell whether a name goes on, shared by all words.
func (c *compiler) addBoundary() uint32 {
	const punctuation = "._-"
	u := newUnit(longSpelling)
	second := u.node()
	for _, b := range []byte(alphanumeric) {
		u.spell(entry, b, exit)
		u.spell(second, b, exit)
	}
	for _, b := range []byte(punctuation) {
		u.spell(entry, b, second)
		u.spell(second, b, exit)
	}
	first, other := c.node(), c.node()
	c.nodes[other].cancel = true
	c.place(u, first, other)
	return first
}

// single gives the state that stands for one node.
func (c *compiler) single(n uint32) uint32 {
	if s := c.alone[n]; s != 0 {
		return s
	}
	s := c.push(group{one: n}, state{hit: c.nodes[n].hit, word: c.nodes[n].word, cancel: c.nodes[n].cancel})
	c.alone[n] = s
	return s
}

func (c *compiler) push(g group, s state) uint32 {
	c.queue = append(c.queue, g)
	c.set.states = append(c.set.states, s)
	return uint32(len(c.queue) - 1)
}

// state gives the state that stands for several nodes, which it sorts.
func (c *compiler) state(nodes []uint32) uint32 {
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	if len(nodes) == 1 && len(c.queue) > 0 {
		return c.single(nodes[0])
	}
	key := make([]byte, 0, 4*len(nodes))
	for _, n := range nodes {
		key = binary.LittleEndian.AppendUint32(key, n)
	}
	if s, ok := c.many[string(key)]; ok {
		return s
	}
	s := state{hit: none}
	for _, n := range nodes {
		if c.nodes[n].hit != none && s.hit == none {
			s.hit, s.word = c.nodes[n].hit, c.nodes[n].word
		}
		s.cancel = s.cancel || c.nodes[n].cancel
	}
	c.many[string(key)] = uint32(len(c.queue))
	return c.push(group{many: nodes}, s)
}

// expand adds the edges of a state.
func (c *compiler) expand(from uint32) {
	all := c.all[:0]
	add := func(n uint32) {
		for _, e := range c.nodes[n].edges {
			all = append(all, e)
			if also := c.nodes[e.to].also; also != 0 {
				all = append(all, edge{e.c, also})
			}
		}
	}
	if g := c.queue[from]; g.many == nil {
		add(g.one)
	} else {
		for _, n := range g.many {
			add(n)
		}
	}
	c.all = all
	slices.SortFunc(all, func(a, b edge) int { return int(a.c) - int(b.c) })
	first := len(c.set.edges)
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].c == all[0].c {
			n++
		}
		b, to := all[0].c, uint32(0)
		if n == 1 {
			to = c.single(all[0].to)
		} else {
			several := make([]uint32, n)
			for i, e := range all[:n] {
				several[i] = e.to
			}
			to = c.state(several)
		}
		c.set.edges = append(c.set.edges, edge{b, to})
		all = all[n:]
	}
	st := &c.set.states[from]
	st.edges, st.count = uint32(first), uint16(len(c.set.edges)-first)
}

// plan finds the shortest pattern and fills the table that lets a stream leap.
func (s *Set) plan() {
	s.shift = make([]uint8, shiftSize)
	s.short = s.shortest()
	s.window = min(s.short, maxWindow)
	if s.short == noWindow || s.window < 2 {
		s.window = noWindow
		return
	}
	for i := range s.shift {
		s.shift[i] = uint8(s.window - 1)
	}
	// The states that can be reached in depth bytes; last says at which depth last,
	// which is where the least leap is left.
	level, last := []uint32{0}, make([]int, len(s.states))
	for depth := 1; depth < s.window-1; depth++ {
		var next []uint32
		for _, from := range level {
			for _, a := range s.out(from) {
				if last[a.to] < depth {
					last[a.to] = depth
					next = append(next, a.to)
				}
			}
		}
		level = next
	}
	for from, depth := range last {
		if from == 0 || depth > 0 {
			s.limit(uint32(from), uint8(s.window-2-depth))
		}
	}
}

// limit lowers the leap of each pair of bytes that leads on from a state.
func (s *Set) limit(from uint32, leap uint8) {
	for _, a := range s.out(from) {
		for _, b := range s.out(a.to) {
			g := gram(a.c, b.c)
			s.shift[g] = min(s.shift[g], leap)
		}
	}
}

// shortest is the length of the shortest text that ends in a hit, or noWindow.
func (s *Set) shortest() int {
	seen := make([]bool, len(s.states))
	level := []uint32{0}
	for depth := 1; len(level) > 0; depth++ {
		var next []uint32
		for _, from := range level {
			for _, e := range s.out(from) {
				if s.states[e.to].hit != none {
					return depth
				}
				if !seen[e.to] {
					seen[e.to] = true
					next = append(next, e.to)
				}
			}
		}
		level = next
	}
	return noWindow
}

func (s *Set) out(from uint32) []edge {
	st := s.states[from]
	return s.edges[st.edges : st.edges+uint32(st.count)]
}
