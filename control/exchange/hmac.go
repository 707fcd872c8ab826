package exchange

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"sallyport/control"
	"sallyport/control/api"
)

// Settings of hmac that sidecars are told.
const (
	HMACAlgorithm    = "algorithm"
	HMACStringToSign = "string_to_sign"
	HMACTimestamp    = "timestamp"

	hmacEncoding = "key_encoding"
)

// hmacKey is a key that signs requests (RFC 2104). Nothing shorter-lived can be made
// of it, so it is the material itself.
func hmacKey() Kind {
	return Kind{
		Settings: []Setting{
			{Name: HMACAlgorithm, Required: true, Check: checkAlgorithm},
			{Name: HMACStringToSign, Required: true, Check: checkStringToSign},
			{Name: HMACTimestamp, Check: oneOf("unix", "unix_ms", "rfc3339", "http")},
			{Name: hmacEncoding, Check: oneOf("text", "hex", "base64")},
		},
		Check: noWebSocket,
		CheckSecret: func(c control.Credential, secret control.Secret) error {
			key, err := decodeKey(c, secret)
			defer clear(key)
			if err == nil && len(key) < control.SentSecret {
				err = control.Errorf(control.CodeInvalid, "the key is shorter than %d bytes", control.SentSecret)
			}
			return err
		},
		Exchange: func(_ context.Context, _ *http.Client, c control.Credential, secret control.Secret) (Minted, error) {
			key, err := decodeKey(c, secret)
			return Minted{Material: api.Material{Token: key}}, err
		},
	}
}

// decodeKey is the key that a secret spells.
func decodeKey(c control.Credential, secret control.Secret) ([]byte, error) {
	var (
		key = make([]byte, len(secret))
		n   int
		err error
	)
	switch c.Settings[hmacEncoding] {
	case "hex":
		n, err = hex.Decode(key, secret)
	case "base64":
		n, err = base64.StdEncoding.Decode(key, secret)
	default:
		n = copy(key, secret)
	}
	if err != nil {
		clear(key)
		return nil, control.Errorf(control.CodeInvalid, "the key is not in %s, as the setting %s says", c.Settings[hmacEncoding], hmacEncoding)
	}
	return bytes.Clone(key[:n]), nil
}

func checkAlgorithm(name string) error {
	if name == "sha1" || name == "md5" {
		return errors.New("it is broken as a hash; no new scheme should have it, and this one does not")
	}
	return oneOf("sha256", "sha384", "sha512")(name)
}

var (
	slot       = regexp.MustCompile(`\{\{([^{}]*)\}\}`)
	slotHeader = regexp.MustCompile("^header:[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
	signable   = []string{"method", "path", "query", "host", "timestamp", "nonce", "body", "body_sha256"}
)

func checkStringToSign(template string) error {
	for _, found := range slot.FindAllStringSubmatch(template, -1) {
		if name := found[1]; !slices.Contains(signable, name) && !slotHeader.MatchString(name) {
			return errors.New("{{" + name + "}} is none of {{" + strings.Join(signable, "}}, {{") + "}}, {{header:NAME}}")
		}
	}
	if rest := slot.ReplaceAllString(template, ""); strings.Contains(rest, "{{") || strings.Contains(rest, "}}") {
		return errors.New("a slot is not closed, or was not opened")
	}
	return nil
}

// noWebSocket refuses what signs each request for connections that carry none.
func noWebSocket(c control.Credential) error {
	if c.AllowWebsocket {
		return control.Errorf(control.CodeInvalid, "auth %s signs requests; a WebSocket can't be opened with it", c.Auth)
	}
	return nil
}
