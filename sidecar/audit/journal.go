package audit

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"sallyport/control/api"
)

// A journal is memory that outlives the worker: one slot for each place of the
// queue. A slot holds what is known of a request before it goes out, and after it
// what came of it; each has its length and checksum before it, which are written
// last. So a worker may be killed anywhere: what it had written whole is there for
// the next, which reads it with as little trust as anything else.
//
//	0     magic, slots that were ever used
//	4096  slot 0: [length, CRC-32C][facts][length, CRC-32C][outcome]
//	6144  slot 1: …
type journal struct {
	mem  []byte
	free []uint32 // slots, the one to use next at the end
	used uint32   // slots below it were used once, and may hold something
}

const (
	journalMagic  = 0x5350_4155_4449_5431 // "SPAUDIT1"
	journalHeader = 4096
	slotSize      = 2048
	frame         = 8 // length and checksum
	outcomeRoom   = outcomeSize + 2*maxField
)

// JournalSize is the bytes of memory that a Queue of capacity events needs. Untouched
// pages of it cost nothing.
func JournalSize(capacity int) int { return journalHeader + capacity*slotSize }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openJournal takes over what is in mem: all zero, or what a worker before left.
func openJournal(mem []byte, capacity int) (*journal, []entry) {
	j := &journal{mem: mem, free: make([]uint32, 0, capacity)}
	var found []entry
	taken := make(map[uint32]bool)
	if binary.LittleEndian.Uint64(mem) == journalMagic {
		j.used = uint32(min(binary.LittleEndian.Uint64(mem[8:]), uint64(capacity)))
	}
	for n := range j.used {
		if e := j.read(n); e != nil {
			found = append(found, entry{event: e, slot: n})
			taken[n] = true
		} else {
			j.clear(n)
		}
	}
	for n := uint32(capacity); n > 0; n-- {
		if !taken[n-1] {
			j.free = append(j.free, n-1)
		}
	}
	binary.LittleEndian.PutUint64(mem[8:], uint64(j.used))
	binary.LittleEndian.PutUint64(mem, journalMagic)
	slices.SortStableFunc(found, func(a, b entry) int {
		switch x, y := a.event.GetSequence(), b.event.GetSequence(); {
		case x == y:
			return 0
		case x != 0 && (x < y || y == 0): // those without an outcome have no number yet
			return -1
		}
		return 1
	})
	return j, found
}

// take gives a free slot; there is one for each place.
func (j *journal) take() uint32 {
	n := j.free[len(j.free)-1]
	j.free = j.free[:len(j.free)-1]
	if n >= j.used {
		j.used = n + 1
		binary.LittleEndian.PutUint64(j.mem[8:], uint64(j.used))
	}
	return n
}

// give takes a slot back, empty.
func (j *journal) give(n uint32) {
	j.clear(n)
	j.free = append(j.free, n)
}

func (j *journal) clear(n uint32) { clear(j.slot(n)[:frame]) }

func (j *journal) slot(n uint32) []byte {
	start := journalHeader + int(n)*slotSize
	return j.mem[start : start+slotSize : start+slotSize]
}

// begin writes what is known before a request goes out into an empty slot. What
// doesn't fit loses the end of its path.
func (j *journal) begin(n uint32, e *api.Event) {
	if over := bound(e) - (slotSize - 2*frame - outcomeRoom); over > 0 {
		e = proto.Clone(e).(*api.Event)
		e.Method = cleanText(e.Method, 32) // longer than any that is registered
		e.Path = cleanText(e.Path, max(len("…"), len(e.Path)-over))
	}
	slot := j.slot(n)
	put(slot, appendFacts(slot[frame:frame], e))
}

// bound is the length of an event's facts.
func bound(e *api.Event) int {
	return factsSize + len(e.RequestId) + len(e.Host) + len(e.Method) + len(e.Path) + len(e.Decision) +
		len(e.CredentialId) + len(e.LeaseId) + len(e.Protocol)
}

// complete writes what came of what a slot has the facts of.
func (j *journal) complete(n uint32, e *api.Event) {
	slot := j.slot(n)[j.afterFacts(n):]
	put(slot, appendOutcome(slot[frame:frame], e))
}

// afterFacts is where a slot's outcome begins.
func (j *journal) afterFacts(n uint32) int {
	return (frame + int(binary.LittleEndian.Uint32(j.slot(n))) + 7) &^ 7
}

// length is how much of a slot is in use, at least the frame.
func (j *journal) length(n uint32) int {
	slot := j.slot(n)
	if binary.LittleEndian.Uint32(slot) == 0 {
		return frame
	}
	end := j.afterFacts(n)
	return end + frame + int(binary.LittleEndian.Uint32(slot[end:])) // what this worker wrote
}

// read gives what a slot holds, nil for nothing. An intent alone has no sequence number.
func (j *journal) read(n uint32) *api.Event { return readSlot(j.slot(n)) }

// put makes b valid, which was written behind slot's frame. What stands behind it
// belongs to something older.
func put(slot, b []byte) {
	if frame+len(b) > len(slot) {
		return // it was written elsewhere; begin has seen to it that this does not happen
	}
	if next := after(b); next+frame <= len(slot) {
		clear(slot[next : next+frame])
	}
	binary.LittleEndian.PutUint64(slot, uint64(crc32.Checksum(b, castagnoli))<<32|uint64(len(b)))
}

// after is where what follows b begins in a slot.
func after(b []byte) int { return (frame + len(b) + 7) &^ 7 }

// get gives what is behind slot's frame, nil if it is not as it was written.
func get(slot []byte) []byte {
	if len(slot) < frame {
		return nil
	}
	head := binary.LittleEndian.Uint64(slot)
	length := int(uint32(head))
	if length == 0 || length > len(slot)-frame {
		return nil
	}
	b := slot[frame : frame+length]
	if crc32.Checksum(b, castagnoli) != uint32(head>>32) {
		return nil
	}
	return b
}

func readSlot(slot []byte) *api.Event {
	facts := get(slot)
	if facts == nil {
		return nil
	}
	e := readFacts(facts)
	if e == nil {
		return nil
	}
	if outcome := get(slot[min(after(facts), len(slot)):]); outcome != nil {
		readOutcome(outcome, e)
	}
	clean(e)
	if e.Sequence > uint64(time.Now().Add(24*time.Hour).UnixNano()) {
		e.Sequence = 0 // nobody counted that far
	}
	return e
}
