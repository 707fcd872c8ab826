package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/crypto/cryptobyte"

	"sallyport/control/api"
)

const (
	stateVersion = 2
	maxState     = 64 << 10 // bytes

	redacted = "[redacted]"
)

// State is a marshalled Identity. It holds private keys and shows itself as
// [redacted] wherever it is printed.
type State []byte

func (s State) String() string               { return redacted }
func (s State) GoString() string             { return redacted }
func (s State) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (s State) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Format keeps every verb of fmt from reaching the bytes.
func (s State) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// Wipe overwrites the state.
func (s State) Wipe() { clear(s) }

// Marshal gives all that a restarted worker needs to go on as this sandbox.
// The caller wipes it.
func (i *Identity) Marshal() (State, error) {
	key, err := i.key.Bytes()
	if err != nil {
		return nil, fmt.Errorf("marshal the identity: %w", err)
	}
	defer clear(key)
	seal, err := i.seal.Bytes()
	if err != nil {
		return nil, fmt.Errorf("marshal the identity: %w", err)
	}
	defer clear(seal)
	certificate := i.certificate.Load().message()

	// A fixed buffer: one that grows would leave copies of the keys behind.
	buffer := make([]byte, 0, maxState)
	b := cryptobyte.NewFixedBuilder(buffer)
	b.AddUint8(stateVersion)
	for _, field := range [][]byte{key, seal, i.csr, []byte(i.team), []byte(i.agent), []byte(i.sandbox)} {
		addBytes(b, field)
	}
	b.AddUint64(i.worker)
	b.AddUint64(certificate.Generation)
	for _, list := range [][][]byte{certificate.Chain, certificate.Roots} {
		b.AddUint8(uint8(len(list)))
		for _, der := range list {
			addBytes(b, der)
		}
	}
	state, err := b.Bytes()
	if err != nil {
		clear(buffer[:cap(buffer)])
		return nil, fmt.Errorf("marshal the identity: %w", err)
	}
	return state, nil
}

func addBytes(b *cryptobyte.Builder, field []byte) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(field) })
}

// Restore makes the Identity of the next worker from what Marshal gave, and wipes
// that. It has to be marshalled again before it calls the control plane, or the
// worker after it would count the same.
func Restore(controlURL string, state []byte) (*Identity, error) {
	defer clear(state)
	i, c, err := parseState(state)
	if err != nil {
		return nil, fmt.Errorf("restore the identity: %w", err)
	}
	certificate, err := newCertificate(c, i.key, i.sandbox)
	if err != nil {
		return nil, fmt.Errorf("restore the identity: %w", err)
	}
	i.certificate.Store(certificate)
	i.unconfirmed = certificate.generation > 1 // the worker before may have died too soon
	return i, i.connect(controlURL)
}

func parseState(state []byte) (*Identity, *api.Certificate, error) {
	malformed := errors.New("the saved state is malformed")
	s := cryptobyte.String(state)
	var version uint8
	if !s.ReadUint8(&version) || version != stateVersion {
		return nil, nil, malformed
	}
	var key, seal, csr, team, agent, sandbox []byte
	for _, field := range []*[]byte{&key, &seal, &csr, &team, &agent, &sandbox} {
		if !readBytes(&s, field) {
			return nil, nil, malformed
		}
	}
	c := &api.Certificate{}
	var worker uint64
	if !s.ReadUint64(&worker) || !s.ReadUint64(&c.Generation) || !readList(&s, &c.Chain) || !readList(&s, &c.Roots) || !s.Empty() {
		return nil, nil, malformed
	}
	i := &Identity{team: string(team), agent: string(agent), sandbox: string(sandbox), worker: worker + 1}
	if len(csr) > 0 {
		i.csr = bytes.Clone(csr)
	}
	var err error
	if i.key, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), key); err != nil {
		return nil, nil, malformed
	}
	if i.seal, err = api.ParseSealKey(bytes.Clone(seal)); err != nil {
		return nil, nil, malformed
	}
	return i, c, nil
}

func readBytes(s *cryptobyte.String, field *[]byte) bool {
	return s.ReadUint16LengthPrefixed((*cryptobyte.String)(field))
}

func readList(s *cryptobyte.String, list *[][]byte) bool {
	var n uint8
	if !s.ReadUint8(&n) {
		return false
	}
	for range n {
		var der []byte
		if !readBytes(s, &der) {
			return false
		}
		*list = append(*list, bytes.Clone(der))
	}
	return true
}
