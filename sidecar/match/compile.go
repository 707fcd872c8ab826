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
	inner  bool   // within a spelling
	also   uint32 // entered together with this one; 0: none
}

type compiler struct {
	nodes []node
	set   *Set
	alone []uint32          // by node: the state that is this node alone; 0: none yet
	many  map[string]uint32 // by key of several nodes
	queue [][]uint32        // by state: its nodes
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
	c.set.plan()
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
		for _, s := range u {
			c.spell(at, s, to)
		}
		at = to
	}
	c.nodes[at].hit = int32(p.ID)
	if p.Word {
		c.nodes[at].word, c.nodes[at].also = true, boundary
	}
	return start
}

// addBoundary makes the nodes that tell whether a name goes on, shared by all words.
func (c *compiler) addBoundary() uint32 {
	const punctuation = "._-"
	first, second, other := c.node(), c.node(), c.node()
	c.nodes[other].cancel = true
	spellAll := func(from uint32, chars string, to uint32) {
		for i := range len(chars) {
			for _, s := range spellByte(chars[i]) {
				c.spell(from, s, to)
			}
		}
	}
	spellAll(first, alphanumeric, other)
	spellAll(first, punctuation, second)
	spellAll(second, alphanumeric+punctuation, other)
	return first
}

// spell adds a spelling of the unit between two nodes.
func (c *compiler) spell(from uint32, s string, to uint32) {
	for i := range len(s) - 1 {
		from = c.inner(from, s[i])
	}
	last := edge{s[len(s)-1], to}
	if !slices.Contains(c.nodes[from].edges, last) {
		c.nodes[from].edges = append(c.nodes[from].edges, last)
	}
}

func (c *compiler) inner(from uint32, b byte) uint32 {
	for _, e := range c.nodes[from].edges {
		if e.c == b && c.nodes[e.to].inner {
			return e.to
		}
	}
	to := c.node()
	c.nodes[to].inner = true
	c.nodes[from].edges = append(c.nodes[from].edges, edge{b, to})
	return to
}

// state gives the state that stands for several nodes, which it sorts.
func (c *compiler) state(nodes []uint32) uint32 {
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	if len(nodes) == 1 {
		if s := c.alone[nodes[0]]; s != 0 {
			return s
		}
		c.alone[nodes[0]] = uint32(len(c.queue))
	} else {
		key := make([]byte, 0, 4*len(nodes))
		for _, n := range nodes {
			key = binary.LittleEndian.AppendUint32(key, n)
		}
		if s, ok := c.many[string(key)]; ok {
			return s
		}
		c.many[string(key)] = uint32(len(c.queue))
	}
	s := state{hit: none}
	for _, n := range nodes {
		if c.nodes[n].hit != none && s.hit == none {
			s.hit, s.word = c.nodes[n].hit, c.nodes[n].word
		}
		s.cancel = s.cancel || c.nodes[n].cancel
	}
	c.queue = append(c.queue, nodes)
	c.set.states = append(c.set.states, s)
	return uint32(len(c.queue) - 1)
}

// expand adds the edges of a state.
func (c *compiler) expand(from uint32) {
	var all []edge
	for _, n := range c.queue[from] {
		for _, e := range c.nodes[n].edges {
			all = append(all, e)
			if also := c.nodes[e.to].also; also != 0 {
				all = append(all, edge{e.c, also})
			}
		}
	}
	slices.SortFunc(all, func(a, b edge) int { return int(a.c) - int(b.c) })
	first := len(c.set.edges)
	for len(all) > 0 {
		var to []uint32
		b := all[0].c
		for len(all) > 0 && all[0].c == b {
			to, all = append(to, all[0].to), all[1:]
		}
		c.set.edges = append(c.set.edges, edge{b, c.state(to)})
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
	// The states that can be reached in depth bytes; seen says at which depth last.
	level, seen := []uint32{0}, make([]int, len(s.states))
	for depth := range s.window - 1 {
		leap := uint8(s.window - 2 - depth)
		var next []uint32
		for _, from := range level {
			for _, a := range s.out(from) {
				if seen[a.to] == depth+1 {
					continue
				}
				seen[a.to] = depth + 1
				next = append(next, a.to)
			}
			s.limit(from, leap)
		}
		level = next
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
