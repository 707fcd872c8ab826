package client

import (
	"crypto/rand"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

const idempotencyKey = "Idempotency-Key"

// nameOnce gives a request that makes something a name of its own, by which the control
// plane does it once, however often it is sent.
func nameOnce(req *http.Request) {
	if req.Method == http.MethodPost && req.Header.Get("Authorization") != "" {
		req.Header.Set(idempotencyKey, rand.Text())
	}
}

// exchange sends a request and reads the answer to its end, or to more than maxAnswer. If
// the connection breaks once it was sent, one that has a name is sent again: it may have
// been done, and its answer lost.
func (c *Client) exchange(req *http.Request) (*http.Response, []byte, error) {
	var sent atomic.Bool
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }}))
	resp, answer, err := c.attempt(req)
	if err != nil && sent.Load() && req.Header.Get(idempotencyKey) != "" && req.Context().Err() == nil {
		if req.Body, err = req.GetBody(); err == nil {
			resp, answer, err = c.attempt(req)
		}
	}
	if err != nil {
		return nil, nil, c.unreachable(err, sent.Load() && req.Method != http.MethodGet)
	}
	return resp, answer, nil
}

func (c *Client) attempt(req *http.Request) (*http.Response, []byte, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	return resp, answer, err
}
