package sidecar

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"sallyport/sidecar/identity"
	"sallyport/sidecar/mint"
)

// join gives the sandbox's identity and CA: those of the worker before this one,
// so that the agent's trust and the control plane's stay valid, or new ones.
func join(ctx context.Context, config Config) (*identity.Identity, *mint.Authority, error) {
	state, err := config.State.Load()
	if err != nil {
		return nil, nil, fmt.Errorf("read what the worker before left: %w", err)
	}
	if len(state) > 0 {
		defer clear(state)
		id, ca, err := restore(config.Control, state)
		if err != nil {
			return nil, nil, err
		}
		return id, ca, save(config.State, id, ca)
	}
	ca, err := mint.New()
	if err != nil {
		return nil, nil, err
	}
	id, err := identity.Enroll(ctx, config.Control, config.JoinToken, config.Version)
	if err != nil {
		return nil, nil, err
	}
	if err := save(config.State, id, ca); err != nil {
		return nil, nil, err
	}
	return id, ca, nil
}

// The state is the identity's, its length before it, and the authority's.
func save(store StateStore, id *identity.Identity, ca *mint.Authority) error {
	identityState, err := id.Marshal()
	if err != nil {
		return fmt.Errorf("save the identity: %w", err)
	}
	defer identityState.Wipe()
	caState, err := ca.Marshal()
	if err != nil {
		return fmt.Errorf("save the sandbox CA: %w", err)
	}
	defer clear(caState)
	state := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(identityState)+len(caState)), uint32(len(identityState)))
	state = append(append(state, identityState...), caState...)
	defer clear(state)
	if err := store.Save(state); err != nil {
		return fmt.Errorf("save the state for the next worker: %w", err)
	}
	return nil
}

func restore(control string, state []byte) (*identity.Identity, *mint.Authority, error) {
	if len(state) < 4 || uint64(len(state)-4) < uint64(binary.BigEndian.Uint32(state)) {
		return nil, nil, errors.New("what the worker before left is cut short")
	}
	n := 4 + binary.BigEndian.Uint32(state)
	ca, err := mint.Restore(state[n:])
	if err != nil {
		return nil, nil, err
	}
	id, err := identity.Restore(control, state[4:n])
	if err != nil {
		return nil, nil, err
	}
	return id, ca, nil
}
