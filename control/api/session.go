package api

import (
	"errors"
	"strconv"
	"strings"
)

// One worker acts for a sandbox, and it shows so by the stream that it holds: the
// request of Watch says which opening of the stream this is, the response gives a
// session, and every other call but Enroll and Renew carries the newest session.
// Whoever has a copy of the identity has to open a stream of his own to get anything,
// which ends the other one's; and the second who opens it the same time is told.
const (
	HeaderOpening = "Sallyport-Opening" // Opening.String; in the response, the one that overtook it
	HeaderSession = "Sallyport-Session" // opaque
)

// Opening counts a sandbox's streams. Each is later than all before it.
type Opening struct {
	Worker uint64 // from 1, counts the workers that have served the sandbox
	Stream uint64 // from 1, counts what this worker has opened, or tried to
}

func (o Opening) String() string {
	return strconv.FormatUint(o.Worker, 10) + "." + strconv.FormatUint(o.Stream, 10)
}

// ParseOpening reads what String gives.
func ParseOpening(text string) (Opening, error) {
	worker, stream, _ := strings.Cut(text, ".")
	w, err1 := strconv.ParseUint(worker, 10, 63)
	s, err2 := strconv.ParseUint(stream, 10, 63)
	o := Opening{Worker: w, Stream: s}
	if err1 != nil || err2 != nil || w == 0 || s == 0 || o.String() != text {
		return Opening{}, errors.New("the opening of the stream is not WORKER.STREAM, both from 1")
	}
	return o, nil
}
