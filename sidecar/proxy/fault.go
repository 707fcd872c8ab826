package proxy

import (
	"fmt"
	"runtime"
	"strings"
)

// fault logs what a request met, given what recover gave. A panic's text could
// quote what was sent, and the arguments of a usual trace are memory: only its type
// and the way to it are told.
func (s *Server) fault(p any) {
	s.config.Log.Error("a request met a fault of ours", "fault", fmt.Sprintf("%T", p), "stack", callers())
}

// callers names the functions on the stack, from the one that panicked on.
func callers() string {
	var counters [32]uintptr
	frames := runtime.CallersFrames(counters[:runtime.Callers(4, counters[:])])
	var b strings.Builder
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		fmt.Fprintf(&b, "%s:%d\n", frame.Function, frame.Line)
	}
	return b.String()
}
