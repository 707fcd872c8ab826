package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// upgrade passes on what follows a 101, both ways, until either side ends.
func (s *Server) upgrade(t *travel, out *http.Request, response *http.Response) error {
	back, ok := response.Body.(io.ReadWriteCloser)
	asked, given := upgradeType(out.Header), upgradeType(response.Header)
	if !ok || asked == "" || !strings.EqualFold(asked, given) {
		return s.fail(t, errors.New("the upstream changed to a protocol that was not asked for"))
	}
	front, err := t.client.upgrade(response)
	if err != nil {
		t.Reason, t.err = "broken_off", fmt.Errorf("%w: %w", errBroken, err)
		return errBroken
	}
	defer front.Close()
	var sent, received atomic.Int64
	var both sync.WaitGroup
	both.Go(func() { pass(back, front, &sent) })
	both.Go(func() { pass(front, back, &received) })
	both.Wait()
	t.RequestBytes, t.ResponseBytes = uint64(sent.Load()), uint64(received.Load())
	return nil
}

// pass copies until either side ends, and then ends both.
func pass(to io.WriteCloser, from io.ReadCloser, count *atomic.Int64) {
	defer to.Close()
	defer from.Close()
	n, _ := io.Copy(to, from) // an error of either side is its end
	count.Store(n)
}
