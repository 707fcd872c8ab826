package client

import (
	"errors"
	"testing"
)

// "localhost" may be made to resolve to anything; the address is what counts.
func TestPlainHTTPDialsLoopbackAlone(t *testing.T) {
	for address, allowed := range map[string]bool{
		"127.0.0.1:80": true, "127.9.9.9:80": true, "[::1]:80": true, "[::ffff:127.0.0.1]:80": true,
		"192.0.2.1:80": false, "0.0.0.0:80": false, "[::]:80": false, "[2001:db8::1]:80": false, "10.0.0.1:80": false,
	} {
		err := loopbackOnly("tcp", address, nil)
		var plain *PlainHTTPError
		if allowed != (err == nil) || !allowed && !errors.As(err, &plain) {
			t.Errorf("dial %s: %v, want it allowed: %v", address, err, allowed)
		}
	}
}
